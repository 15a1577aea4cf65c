"""Interpolation of colour hints along space and L, as a pyramid that exports to any engine.

A bilateral pyramid (after Chen, Paris, Durand 2007, "Real-time edge-aware image processing with
the bilateral grid"): hints are splatted into cells of space and bins of L, spread to neighbouring
cells and bins, and filled from coarse to fine. What comes out follows every grain of L, so a small
guided filter (He, Sun, Tang 2010) takes the grain away; then the same is done once more with what
the hints still lack. All is pooling, small convolutions and resizing; 41 numbers are learned.
docs/training.md has what each step brings.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from hscaunet.diffusion import STEPS, Diffusion
from hscaunet.tensors import enlarge, learning

# Sums over a cell are kept in units of its side in pixels, and sums over the whole picture in units
# of the largest side, so that a lone hint and a cell full of them both fit fp16. All are powers of
# two: in fp32 not one bit changes.
_SMALLEST_SIDE, _LARGEST_SIDE = 4, 64


def _mean(x: Tensor, radius: int) -> Tensor:
    """Mean over a square of (2 radius + 1) pixels, of those inside the picture."""
    side = 2 * radius + 1  # down and across one after the other: 10 additions in place of 25
    down = F.avg_pool2d(x, (side, 1), 1, (radius, 0), count_include_pad=False)
    return F.avg_pool2d(down, (1, side), 1, (0, radius), count_include_pad=False)


def guided_filter(L: Tensor, x: Tensor, radius: int, epsilon: Tensor) -> Tensor:
    """Smooth `x` where L is smooth: locally x is taken to be linear in L (He, Sun, Tang 2010).

    Parameters
    ----------
    L : Tensor, shape (N, 1, H, W)
        0..1.
    x : Tensor, shape (N, C, H, W)
    radius : int
        In pixels.
    epsilon : Tensor
        Variance of L below which a place counts as smooth.
    """
    mean_L, mean_x = _mean(L, radius), _mean(x, radius)
    variance = _mean(L * L, radius) - mean_L * mean_L
    slope = (_mean(L * x, radius) - mean_L * mean_x) / (variance + epsilon)
    return _mean(slope, radius) * L + _mean(mean_x - slope * mean_L, radius)


class HintGrid(nn.Module):
    """Interpolate sparse ab hints over a picture, guided by L.

    Parameters
    ----------
    bins : int
        Number of triangular bins over L.
    passes : int
        How often what the hints still lack is interpolated and added.
    smooth : bool
        Whether a guided filter follows each pass.
    diffuse : bool
        Whether the result is diffused along like L in the end.
    steps : sequence of int
        See `hscaunet.diffusion.Diffusion`.

    Notes
    -----
    Without a hint the result is exactly 0, or the guess; with one it is that hint's colour
    everywhere, unless it is doubted.
    """

    radius = 2  # of the guided filter, in pixels of the network

    def __init__(
        self,
        bins: int = 16,
        passes: int = 2,
        smooth: bool = True,
        diffuse: bool = True,
        steps: Sequence[int] = STEPS,
    ) -> None:
        super().__init__()
        self.passes = nn.ModuleList(_Pass(bins) for _ in range(passes))
        self.log_epsilon = nn.Parameter(torch.tensor(math.log(0.01))) if smooth else None
        self.diffusion = Diffusion(steps) if diffuse else None

    def forward(self, L: Tensor, ab: Tensor, mask: Tensor) -> Tensor:
        """Interpolate.

        Parameters
        ----------
        L, ab, mask : Tensor
            See `steps`.

        Returns
        -------
        Tensor, shape (N, 2, H, W)
            ab everywhere, on the scale of the input.
        """
        return self.mix(*self.steps(L, ab, mask))

    def mix(self, start: Tensor, change: Tensor | None, logit: Tensor | float = 0.0) -> Tensor:
        """What `steps` gives, together: the learned share of the change, moved by a logit."""
        if self.diffusion is None or change is None:
            return start
        return start + (self.diffusion.share + logit).sigmoid() * change

    def steps(
        self,
        L: Tensor,
        ab: Tensor,
        mask: Tensor,
        guess: Tensor | None = None,
        doubt: Tensor | None = None,
        guide: Tensor | None = None,
    ) -> tuple[Tensor, Tensor | None]:
        """The pyramid's interpolation, and what diffusion would change of it.

        Parameters
        ----------
        L : Tensor, shape (N, 1, H, W)
            0..1. H and W are multiples of 16.
        ab : Tensor, shape (N, 2, H, W)
            Centred: 0 is colourless. Only its values under `mask` count.
        mask : Tensor, shape (N, 1, H, W)
            1 where there is a hint, else 0.
        guess : Tensor, shape (N, 2, H, W), optional
            ab where no hint says otherwise, on the same scale; 0 unless given.
        doubt : Tensor, shape (N, 1, H / 4, W / 4), optional
            By how much a hint's colour fades towards the guess there, from level to level; not at
            all unless given.
        guide : Tensor, optional
            See `hscaunet.diffusion.Diffusion.forward`.

        Returns
        -------
        start : Tensor, shape (N, 2, H, W)
            ab everywhere, on the scale of the input.
        change : Tensor or None
            Of the same shape; None without diffusion.
        """
        result = guess
        for one in self.passes:
            lacking = ab if result is None else ab - result
            found = self.find(one, L, lacking, mask, doubt)
            result = found if result is None else result + found
        assert result is not None
        if self.diffusion is None:
            return result, None
        return result, self.diffusion(L, result, ab, mask, guide)

    def find(
        self, one: nn.Module, L: Tensor, lacking: Tensor, mask: Tensor, doubt: Tensor | None
    ) -> Tensor:
        """What one pass makes of what the hints lack, smoothed: (N, 2, H, W)."""
        found: Tensor = one(L, lacking, mask, doubt)
        if self.log_epsilon is None:
            return found
        return guided_filter(L, found, self.radius, self.log_epsilon.exp())


class _Pass(nn.Module):
    """One bilateral pyramid.

    ``estimate = (A + lambda * coarser) / (W + lambda (1 + doubt))`` at each level, where W counts
    and A sums the hints of a cell; the coarsest prior is the mean of all hints.
    """

    levels = 5  # cells of 4, 8, 16, 32 and 64 px, below the level of the whole picture
    centers: Tensor
    distance2: Tensor

    def __init__(self, bins: int) -> None:
        super().__init__()
        self.bins = bins
        positions = torch.arange(bins, dtype=torch.float32)
        self.register_buffer("centers", (positions / (bins - 1))[:, None, None], persistent=False)
        self.register_buffer(
            "distance2", (positions[:, None] - positions[None, :]) ** 2, persistent=False
        )
        # From coarse (the whole picture) to fine (cells of 4 px).
        spread = torch.tensor([1.5, 1.2, 1.0, 0.8, 0.6, 0.4]) * (bins / 16)
        self.log_sigma = nn.Parameter(spread.log())
        self.log_lambda = nn.Parameter(torch.full((self.levels + 1,), math.log(0.2)))
        self.log_side = nn.Parameter(torch.full((self.levels,), math.log(0.5)))

    def weights(self, L: Tensor) -> Tensor:
        """Share of each bin in each pixel: (N, 1, H, W) to (N, K, H, W), summing to 1."""
        return (1 - (L - self.centers).abs() * (self.bins - 1)).clamp_min(0)

    def _bin_kernel(self, level: int) -> Tensor:
        return torch.exp(-0.5 * self.distance2 * torch.exp(-2 * self.log_sigma[level]))

    def _spread(self, cells: Tensor, level: int) -> Tensor:
        """Spread over bins and 3x3 cells, centre weight 1: (N, K, h, w) to the same."""
        side, bins = self.log_side[level - 1].exp(), self._bin_kernel(level)
        if not learning():  # as one: a single node in an exported graph
            row = torch.stack([side, torch.ones_like(side), side])
            kernel = bins[:, :, None, None] * (row[:, None] * row[None, :])
            return F.conv2d(cells, kernel, padding=1)
        # One after the other: a sixth of the products, and of what their gradients take.
        x = F.pad((bins @ cells.flatten(2)).unflatten(2, cells.shape[2:]), (1, 1, 1, 1))
        x = x[:, :, 1:-1] + side * (x[:, :, :-2] + x[:, :, 2:])
        return x[..., 1:-1] + side * (x[..., :-2] + x[..., 2:])

    def forward(self, L: Tensor, ab: Tensor, mask: Tensor, doubt: Tensor | None = None) -> Tensor:
        """See `HintGrid.steps`."""
        share = self.weights(L)
        # Splat into cells of 4 px, the planes of W, A_a and A_b one after the other, then sum
        # on to cells of 8 ... 64 px. avg_pool2d, unlike a sum, exports as one node.
        planes = torch.cat([mask, ab * mask], 1)
        pooled = [
            F.avg_pool2d(share * planes[:, i : i + 1], _SMALLEST_SIDE) * _SMALLEST_SIDE
            for i in range(planes.shape[1])
        ]
        cells = torch.stack(pooled, 1).flatten(0, 1)  # (3N, K, H / 4, W / 4)
        pyramid = [cells]
        # What a level's own prior weighs: more where a hint says little, and then it is nothing.
        fades: list[Tensor | float] = [1.0 if doubt is None else 1 + doubt[:, :, None]]
        for _ in range(self.levels - 1):
            # One more row and column of zeros make the size round up; they add nothing.
            cells = F.avg_pool2d(F.pad(cells, (0, 1, 0, 1)), 2) * 2
            pyramid.append(cells)
            if doubt is not None:
                doubt = F.avg_pool2d(F.pad(doubt, (0, 1, 0, 1), mode="replicate"), 2)
            fades.append(1.0 if doubt is None else 1 + doubt[:, :, None])

        whole = cells.sum((2, 3), keepdim=True)
        count, total = self._split(whole)
        seen, summed = count.sum(2, keepdim=True), total.sum(2, keepdim=True)
        estimate = summed / seen.clamp_min(1 / _LARGEST_SIDE)  # the mean of all hints, or 0
        spread = F.conv2d(whole, self._bin_kernel(0)[:, :, None, None])
        count, total = self._split(spread)
        weight = self.log_lambda[0].exp() / _LARGEST_SIDE
        estimate = (total + weight * estimate) / (count + weight)
        levels = zip(reversed(pyramid), reversed(fades), strict=True)
        for level, (cells, fade) in enumerate(levels, start=1):
            count, total = self._split(self._spread(cells, level))
            if level > 1:
                estimate = self._enlarge(estimate, 2)
                estimate = estimate[..., : cells.shape[2], : cells.shape[3]]
            weight = self.log_lambda[level].exp() / (2 * _LARGEST_SIDE >> level)
            estimate = (total + weight * estimate) / (count + weight * fade)
        fine = self._enlarge(estimate, 4)
        return (fine * share[:, None]).sum(2)

    def _split(self, cells: Tensor) -> tuple[Tensor, Tensor]:
        """(3N, K, h, w) to W (N, 1, K, h, w) and A (N, 2, K, h, w)."""
        planes = cells.unflatten(0, (-1, 3))
        return planes[:, :1], planes[:, 1:]

    @staticmethod
    def _enlarge(estimate: Tensor, factor: int) -> Tensor:
        return enlarge(estimate.flatten(0, 1), factor).unflatten(0, (-1, 2))
