"""Unlearned interpolation of colour hints along space and L: what a grid reaches by itself.

A bilateral pyramid (after Chen, Paris, Durand 2007, "Real-time edge-aware image processing with
the bilateral grid"): hints are splatted into cells of space and bins of L, spread to neighbouring
cells and bins, and filled from coarse to fine.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from ..model.interpolation import Interpolation
from ..tensors import enlarge

# Sums over a cell are in units of its side in pixels, over the whole picture in units of the
# largest side.
_SMALLEST_SIDE, _LARGEST_SIDE = 4, 64
_SIGMA = (1.5, 1.2, 1.0, 0.8, 0.6, 0.4)


def _enlarge(estimate: Tensor, factor: int) -> Tensor:
    return enlarge(estimate.flatten(0, 1), factor).unflatten(0, (-1, 2))


class BareGrid(Interpolation):
    """The network's pyramid with plain numbers, over single pixels instead of cells.

    The coarsest prior is the mean of all hints.
    """

    def __init__(self) -> None:
        super().__init__(sigma=_SIGMA, weight=(0.2,) * 6, side=(0.5,) * 5)

    def forward(self, L: Tensor, ab: Tensor, mask: Tensor) -> Tensor:  # type: ignore[override]
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
        share = self._share(L)
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
        count, total = self._split(whole, 3)
        seen, summed = count.sum(2, keepdim=True), total.sum(2, keepdim=True)
        estimate = summed / seen.clamp_min(1 / _LARGEST_SIDE)  # the mean of all hints, or 0
        spread = F.conv2d(whole, self._bin_kernel(0)[:, :, None, None])
        count, total = self._split(spread, 3)
        weight = self.log_lambda[0].exp() / _LARGEST_SIDE
        estimate = (total + weight * estimate) / (count + weight)
        for level, cells in enumerate(reversed(pyramid), start=1):
            count, total = self._split(self._spread(cells, level), 3)
            if level > 1:
                estimate = _enlarge(estimate, 2)
                estimate = estimate[..., : cells.shape[2], : cells.shape[3]]
            weight = self.log_lambda[level].exp() / (2 * _LARGEST_SIDE >> level)
            estimate = (total + weight * estimate) / (count + weight)
        fine = _enlarge(estimate, 4)
        return (fine * share[:, None]).sum(2)
