"""A few steps of diffusion along like L: what an interpolation blurs across an edge is sorted out.

Levin, Lischinski and Weiss 2004 ("Colorization using optimization") make each pixel's colour the
mean of its neighbours', weighted by likeness of L, and solve for it. A few steps towards that
solution, on cells of 8, 4 and then 2 pixels, bring most of it and export to any engine.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ..tensors import enlarge

CELLS = (8, 4, 2)
"""Sides of the cells in pixels, from coarse to fine; the guide is seen on all but the last."""

STEPS = (8, 8, 4)
"""On cells of each of these sizes."""

_NEIGHBOURS = tuple((i, j) for i in range(3) for j in range(3) if (i, j) != (1, 1))
# Differences of L are taken in sixteenths of its range, so that the square of one 8-bit step,
# 4e-3, is far above fp16's smallest numbers.
_GAIN = 16.0
# Where squares are far below this, differences are noise and the weights become equal.
_FLOOR = 3e-4
# So that the likest neighbour's weight, exp(-1 / c) or more, stays a number.
_SMALLEST_SPREAD = 0.02
_GUIDES = 4


def _pad(x: Tensor) -> Tensor:
    return F.pad(x, (1, 1, 1, 1), mode="replicate")


def _squares(x: Tensor) -> Tensor:
    """Squared difference to each neighbour, (N, C, h, w) to (N, C, 8, h, w)."""
    # Not by `pick`: a convolution may be computed in bf16, and L's small steps would be lost.
    flat = x.flatten(0, 1)[:, None]
    padded = _pad(flat)
    rows = padded[:, :, :-2], padded[:, :, 1:-1], padded[:, :, 2:]
    columns = slice(None, -2), slice(1, -1), slice(2, None)
    others = torch.cat([rows[i][..., columns[j]] for i, j in _NEIGHBOURS], 1)
    return (others - flat).square().unflatten(0, (-1, x.shape[1]))


class Diffusion(nn.Module):
    """Steps of diffusion along like L, on cells of 8, 4 and 2 pixels.

    Parameters
    ----------
    known : int
        Channels of the photo's features at 1/4 of the size, of which a guide is made: where it
        differs, colour passes less.
    steps : tuple of int
        On cells of each size, from coarse to fine.

    Notes
    -----
    A neighbour has the weight ``exp(-d / (c mean(d)) - g)`` where d is its squared difference of L,
    the mean over the eight: likeness is relative to what is usual there, as in Levin 2004. g is the
    sum of the guide's squared differences.
    """

    pick: Tensor

    def __init__(self, known: int, steps: tuple[int, ...] = STEPS) -> None:
        super().__init__()
        self.steps = steps
        # A convolution that lays the eight neighbours side by side: one node in an exported graph.
        pick = torch.zeros(len(_NEIGHBOURS), 1, 3, 3)
        for plane, (i, j) in enumerate(_NEIGHBOURS):
            pick[plane, 0, i, j] = 1
        self.register_buffer("pick", pick, persistent=False)
        self.log_spread = nn.Parameter(torch.full((len(CELLS),), math.log(0.2)))
        self.guide = nn.Conv2d(known, _GUIDES, 1)
        with torch.no_grad():
            self.guide.weight.mul_(0.1)

    def weights(self, L: Tensor, features: Tensor) -> list[Tensor]:
        """Weights of each cell's eight neighbours, summing to 1: what the photo alone tells.

        Parameters
        ----------
        L : Tensor, shape (N, 1, H, W)
            0..1.
        features : Tensor, shape (N, known, H / 4, W / 4)

        Returns
        -------
        list of Tensor, shape (N, 8, H / cell, W / cell)
            For each of `CELLS`.
        """
        guide = self.guide(features.float())
        guides = F.avg_pool2d(guide, 2), guide, None
        return [
            self._weigh(F.avg_pool2d(L, cell), log_spread, seen)
            for cell, log_spread, seen in zip(CELLS, self.log_spread, guides, strict=True)
        ]

    @staticmethod
    def _weigh(L: Tensor, log_spread: Tensor, guide: Tensor | None) -> Tensor:
        planes = L * _GAIN
        squares = _squares(planes if guide is None else torch.cat([planes, guide], 1))
        light = squares[:, 0]
        spread = log_spread.exp().clamp_min(_SMALLEST_SPREAD)
        usual = light.mean(1, keepdim=True) * spread + _FLOOR
        # No softmax: over channels it is slow in ONNX Runtime, and no exponent is above 0.
        exponent = light / usual
        if guide is not None:
            exponent = exponent + squares[:, 1:].sum(1)
            # A place unlike all others still takes the likest of them.
            exponent = exponent - exponent.amin(1, keepdim=True)
        weights = torch.exp(-exponent)
        return weights / weights.sum(1, keepdim=True)

    def forward(
        self, weights: Sequence[Tensor], start: Tensor, count: Tensor, sums: Tensor
    ) -> Tensor:
        """What diffusion changes of a starting point.

        Parameters
        ----------
        weights : sequence of Tensor
            See `weights`.
        start : Tensor, shape (N, 2, h, w)
            On the finest cells.
        count, sums : Tensor, shape (N, 1 or 2, h, w)
            Pixels of hints in each of these cells, and the sum of their colours, on the scale of
            `start`. Cells with hints keep their mean at every step.

        Returns
        -------
        Tensor, shape (N, 2, h, w)
        """
        planes = [torch.cat([start, count, sums], 1)]
        for _ in CELLS[1:]:
            planes.append(F.avg_pool2d(planes[-1], 2))
        change = torch.zeros_like(planes[-1][:, :2])
        for level, steps in enumerate(self.steps):
            if level:
                change = enlarge(change, 2)
            seen = planes[-1 - level].split([2, 1, 2], 1)
            change = self._spread(steps, weights[level], change, *seen)
        return change

    def _spread(
        self,
        steps: int,
        alike: Tensor,
        change: Tensor,
        start: Tensor,
        count: Tensor,
        sums: Tensor,
    ) -> Tensor:
        """Steps on cells of one size, from what coarser ones changed."""
        known = (count > 0).to(start.dtype)
        # The two planes of ab one after the other, as pictures of their own: (2N, 1, h, w).
        weight = (alike * (1 - known)).repeat_interleave(2, 0)
        given = (sums / count.clamp_min(1e-3)).flatten(0, 1)[:, None]
        x = (start + change).flatten(0, 1)[:, None]
        for _ in range(steps):
            x = (weight * F.conv2d(_pad(x), self.pick)).sum(1, keepdim=True) + given
        return x[:, 0].unflatten(0, (-1, 2)) - start
