"""Unlearned interpolation of colour hints along space and L: what a grid reaches by itself.

A bilateral pyramid (after Chen, Paris, Durand 2007, "Real-time edge-aware image processing with
the bilateral grid"): hints are splatted into cells of space and bins of L, spread to neighbouring
cells and bins, and filled from coarse to fine.
"""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from hscaunet.tensors import enlarge

# Sums over a cell are in units of its side in pixels, over the whole picture in units of the
# largest side.
_SMALLEST_SIDE, _LARGEST_SIDE = 4, 64


class BareGrid(nn.Module):
    """One unlearned bilateral pyramid over (N, 1, H, W) of L.

    ``estimate = (A + lambda * coarser) / (W + lambda)`` at each level, where W counts
    and A sums the hints of a cell; the coarsest prior is the mean of all hints.
    """

    levels = 5  # cells of 4, 8, 16, 32 and 64 px, below the level of the whole picture
    centers: Tensor
    distance2: Tensor

    def __init__(self, bins: int = 16) -> None:
        super().__init__()
        self.bins = bins
        positions = torch.arange(bins, dtype=torch.float32)
        self.register_buffer("centers", (positions / (bins - 1))[:, None, None], persistent=False)
        self.register_buffer(
            "distance2", (positions[:, None] - positions[None, :]) ** 2, persistent=False
        )
        # From coarse (the whole picture) to fine (cells of 4 px).
        spread = torch.tensor([1.5, 1.2, 1.0, 0.8, 0.6, 0.4]) * (bins / 16)
        self.log_sigma = spread.log()
        self.log_lambda = torch.full((self.levels + 1,), math.log(0.2))
        self.log_side = torch.full((self.levels,), math.log(0.5))

    def weights(self, L: Tensor) -> Tensor:
        """Share of each bin in each pixel: (N, 1, H, W) to (N, K, H, W), summing to 1."""
        return (1 - (L - self.centers).abs() * (self.bins - 1)).clamp_min(0)

    def _bin_kernel(self, level: int) -> Tensor:
        return torch.exp(-0.5 * self.distance2 * torch.exp(-2 * self.log_sigma[level]))

    def _spread(self, cells: Tensor, level: int) -> Tensor:
        """Spread over bins and 3x3 cells, centre weight 1: (N, K, h, w) to the same."""
        side = self.log_side[level - 1].exp()
        row = torch.stack([side, torch.ones_like(side), side])
        kernel = self._bin_kernel(level)[:, :, None, None] * (row[:, None] * row[None, :])
        return F.conv2d(cells, kernel, padding=1)

    def forward(self, L: Tensor, ab: Tensor, mask: Tensor) -> Tensor:
        """Interpolate.

        Parameters
        ----------
        L : Tensor, shape (N, 1, H, W)
            0..1. H and W are multiples of 16.
        ab : Tensor, shape (N, 2, H, W)
            Centred: 0 is colourless. Only its values under `mask` count.
        mask : Tensor, shape (N, 1, H, W)
            1 where there is a hint, else 0.

        Returns
        -------
        Tensor, shape (N, 2, H, W)
        """
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
        for _ in range(self.levels - 1):
            # One more row and column of zeros make the size round up; they add nothing.
            cells = F.avg_pool2d(F.pad(cells, (0, 1, 0, 1)), 2) * 2
            pyramid.append(cells)

        whole = cells.sum((2, 3), keepdim=True)
        count, total = self._split(whole)
        seen, summed = count.sum(2, keepdim=True), total.sum(2, keepdim=True)
        estimate = summed / seen.clamp_min(1 / _LARGEST_SIDE)  # the mean of all hints, or 0
        spread = F.conv2d(whole, self._bin_kernel(0)[:, :, None, None])
        count, total = self._split(spread)
        weight = self.log_lambda[0].exp() / _LARGEST_SIDE
        estimate = (total + weight * estimate) / (count + weight)
        for level, cells in enumerate(reversed(pyramid), start=1):
            count, total = self._split(self._spread(cells, level))
            if level > 1:
                estimate = self._enlarge(estimate, 2)
                estimate = estimate[..., : cells.shape[2], : cells.shape[3]]
            weight = self.log_lambda[level].exp() / (2 * _LARGEST_SIDE >> level)
            estimate = (total + weight * estimate) / (count + weight)
        fine = self._enlarge(estimate, 4)
        return (fine * share[:, None]).sum(2)

    def _split(self, cells: Tensor) -> tuple[Tensor, Tensor]:
        """(3N, K, h, w) to W (N, 1, K, h, w) and A (N, 2, K, h, w)."""
        planes = cells.unflatten(0, (-1, 3))
        return planes[:, :1], planes[:, 1:]

    @staticmethod
    def _enlarge(estimate: Tensor, factor: int) -> Tensor:
        return enlarge(estimate.flatten(0, 1), factor).unflatten(0, (-1, 2))
