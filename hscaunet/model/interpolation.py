"""Interpolation of hints along space and L, on cells of 4 pixels.

A bilateral pyramid (after Chen, Paris, Durand 2007, "Real-time edge-aware image processing with
the bilateral grid"): what hints say is sorted into bins of L, spread to neighbouring cells and
bins, and filled from coarse to fine. The result is read at each cell's mean L and a bin above and
below it, so that it is a linear function of L there (`hscaunet.model.blocks.paint`) and nothing has
to be computed at a finer size.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ..tensors import enlarge, learning
from .blocks import slope_of

# Sums over a cell are kept in units of its side, and sums over the whole picture in units of this,
# so that a lone hint and a cell full of them both fit fp16. Powers of two: no bit of fp32 changes.
_LARGEST_SIDE = 64

# From coarse (the whole picture) to fine (cells of 4 px): how far hints spread over bins (standard
# deviations, of 16 bins), what the coarser estimate weighs, and how much of a cell's hints its
# neighbours get.
_SIGMA = (0.895, 0.348, 1.315, 0.98, 0.245, 2.47)
_LAMBDA = (4.348, 2.506, 0.448, 0.189, 0.13, 0.124)
_SIDE = (0.048, 0.074, 0.075, 0.461, 0.113)


class Interpolation(nn.Module):
    """Fill what hints say into all cells.

    ``estimate = (A + lambda * coarser) / (W + lambda)`` at each level, where W counts and A sums
    the hints of a cell; the coarsest, the whole picture, falls back to 0.

    Parameters
    ----------
    bins : int
        Triangular bins over L.
    sigma, weight, side : tuple of float
        From coarse to fine: how far hints spread over bins, what the coarser estimate weighs
        (lambda), and how much of a cell's hints its neighbours get.

    Notes
    -----
    Its numbers are fixed, those of the network fitted by ``benchmarks/fit_interpolation.py``:
    clicks on things would teach it to reach nowhere, which is for the U-Net to decide.
    """

    levels = 5  # cells of 4, 8, 16, 32 and 64 px, below the level of the whole picture
    log_sigma: Tensor
    log_lambda: Tensor
    log_side: Tensor

    centers: Tensor
    distance2: Tensor

    def __init__(
        self,
        bins: int = 16,
        sigma: tuple[float, ...] = _SIGMA,
        weight: tuple[float, ...] = _LAMBDA,
        side: tuple[float, ...] = _SIDE,
    ) -> None:
        super().__init__()
        self.bins = bins
        positions = torch.arange(bins, dtype=torch.float32)
        self.register_buffer("centers", (positions / (bins - 1))[:, None, None], persistent=False)
        self.register_buffer(
            "distance2", (positions[:, None] - positions[None, :]) ** 2, persistent=False
        )
        spread = torch.tensor(sigma) * (bins / 16)
        for name, value in (("sigma", spread), ("lambda", weight), ("side", side)):
            self.register_buffer(f"log_{name}", torch.as_tensor(value).log(), persistent=False)

    def forward(self, hint_L: Tensor, count: Tensor, sums: Tensor, L: Tensor) -> Tensor:
        """Interpolate.

        Parameters
        ----------
        hint_L : Tensor, shape (N, 1, h, w)
            Mean L of the hints' pixels in each cell; 0..1.
        count : Tensor, shape (N, 1, h, w)
            Pixels with a hint in each cell.
        sums : Tensor, shape (N, C, h, w)
            Sums of what they say.
        L : Tensor, shape (N, 1, h, w)
            Mean L of all pixels in each cell.

        Returns
        -------
        Tensor, shape (N, 2 C, h, w)
            What the hints say at this L, and how it changes with L, as
            `hscaunet.model.blocks.paint` wants it.
        """
        return self.read(self.fill(hint_L, count, sums), L)

    def read(self, filled: Tensor, L: Tensor) -> Tensor:
        """Read what `fill` gives at a mean L and a bin above and below it; see `forward`."""
        step = 1 / (self.bins - 1)
        here = (filled * self._share(L)[:, None]).sum(2)
        above, below = (L + step).clamp(0, 1), (L - step).clamp(0, 1)
        change = (filled * (self._share(above) - self._share(below))[:, None]).sum(2)
        return torch.cat([here, slope_of(change, 2 * step)], 1)

    def fill(self, hint_L: Tensor, count: Tensor, sums: Tensor) -> Tensor:
        """What the hints say of each cell for each L: (N, C, bins, h, w)."""
        planes = torch.cat([count, sums], 1) / 4
        share = self._share(hint_L)
        cells = (planes[:, :, None] * share[:, None]).flatten(0, 1)  # (N (1 + C), bins, h, w)
        pyramid = [cells]
        for _ in range(self.levels - 1):
            # One more row and column of zeros make the size round up; they add nothing.
            cells = F.avg_pool2d(F.pad(cells, (0, 1, 0, 1)), 2) * 2
            pyramid.append(cells)
        all_hints = cells.sum((2, 3), keepdim=True)
        spread = F.conv2d(all_hints, self._bin_kernel(0)[:, :, None, None])
        n, total = self._split(spread, planes.shape[1])
        estimate = total / (n + self.log_lambda[0].exp() / _LARGEST_SIDE)
        for level, cells in enumerate(reversed(pyramid), start=1):
            n, total = self._split(self._spread(cells, level), planes.shape[1])
            if level > 1:
                estimate = enlarge(estimate.flatten(0, 1), 2).unflatten(0, (-1, sums.shape[1]))
                estimate = estimate[..., : cells.shape[2], : cells.shape[3]]
            weight = self.log_lambda[level].exp() / (4 << (self.levels - level))
            estimate = (total + weight * estimate) / (n + weight)
        return estimate

    def _share(self, L: Tensor) -> Tensor:
        """Share of each bin: (N, 1, h, w) to (N, bins, h, w), summing to 1."""
        return (1 - (L - self.centers).abs() * (self.bins - 1)).clamp_min(0)

    def _bin_kernel(self, level: int) -> Tensor:
        return torch.exp(-0.5 * self.distance2 * torch.exp(-2 * self.log_sigma[level]))

    def _spread(self, cells: Tensor, level: int) -> Tensor:
        """Spread over bins and 3x3 cells, centre weight 1: (M, bins, h, w) to the same."""
        side, bins = self.log_side[level - 1].exp(), self._bin_kernel(level)
        if not learning():  # as one: a single node in an exported graph
            row = torch.stack([side, torch.ones_like(side), side])
            kernel = bins[:, :, None, None] * (row[:, None] * row[None, :])
            return F.conv2d(cells, kernel, padding=1)
        # One after the other: a sixth of the products, and of what their gradients take.
        x = F.pad((bins @ cells.flatten(2)).unflatten(2, cells.shape[2:]), (1, 1, 1, 1))
        x = x[:, :, 1:-1] + side * (x[:, :, :-2] + x[:, :, 2:])
        return x[..., 1:-1] + side * (x[..., :-2] + x[..., 2:])

    @staticmethod
    def _split(cells: Tensor, planes: int) -> tuple[Tensor, Tensor]:
        """(N planes, bins, h, w) to W (N, 1, bins, h, w) and A (N, planes - 1, bins, h, w)."""
        cells = cells.unflatten(0, (-1, planes))
        return cells[:, :1], cells[:, 1:]
