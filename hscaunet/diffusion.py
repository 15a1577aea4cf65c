"""Diffusion of colour along like L: what an interpolation blurs across an edge is sorted out.

Levin, Lischinski and Weiss 2004 ("Colorization using optimization") make each pixel's colour the
mean of its neighbours', weighted by likeness of L, and solve for it. A few steps towards that
solution, from coarse to fine and starting at an interpolation that is nearly right, bring most of
it and export to any engine. docs/training.md has what they bring.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from hscaunet.tensors import enlarge, learning

_NEIGHBOURS = tuple((i, j) for i in range(3) for j in range(3) if (i, j) != (1, 1))

# Differences of L are taken in sixteenths of its range, so that the square of one 8-bit step,
# 4e-3, is far above fp16's smallest numbers.
_GAIN = 16.0
# Where squares are far below this, differences are noise and the weights become equal.
_FLOOR = 3e-4
# So that the likest neighbour's weight, exp(-1 / c) or more, stays a number.
_SMALLEST_SPREAD = 0.02
_GUIDED = 4  # the finest scale that a guide is given at

STEPS = (16, 16, 8, 8, 4)
"""Steps on means of 16, 8, 4 and 2 pixels and on the pixels."""


def _pad(x: Tensor) -> Tensor:
    return F.pad(x, (1, 1, 1, 1), mode="replicate")


def _squares(x: Tensor) -> Tensor:
    """Squared difference to each neighbour, (N, C, H, W) to (N, C, 8, H, W)."""
    # Not by `pick`: a convolution may be computed in bf16, and L's small steps would be lost.
    flat = x.flatten(0, 1)[:, None]
    padded = _pad(flat)
    rows = padded[:, :, :-2], padded[:, :, 1:-1], padded[:, :, 2:]
    columns = slice(None, -2), slice(1, -1), slice(2, None)
    others = torch.cat([rows[i][..., columns[j]] for i, j in _NEIGHBOURS], 1)
    return (others - flat).square().unflatten(0, (-1, x.shape[1]))


class Diffusion(nn.Module):
    """Steps of diffusion along like L, on means of 16, 8, 4 and 2 pixels and on the pixels.

    Parameters
    ----------
    steps : sequence of int
        How many on each of `scales`.

    Raises
    ------
    ValueError
        If they are not five whole numbers of at least 0.

    Notes
    -----
    A neighbour has the weight ``exp(-d / (c mean(d)) - g)`` where d is its squared difference of L,
    the mean over the eight: likeness is relative to what is usual there, as in Levin 2004. g is
    the sum of a guide's squared differences, if there is one.
    """

    scales = (16, 8, 4, 2, 1)

    pick: Tensor

    def __init__(self, steps: Sequence[int] = STEPS) -> None:
        super().__init__()
        self.steps = tuple(steps)
        if len(self.steps) != len(self.scales) or not all(
            isinstance(n, int) and n >= 0 for n in self.steps
        ):
            raise ValueError(
                f"steps must be {len(self.scales)} whole numbers of at least 0, not {steps!r}."
            )
        # A convolution that lays the eight neighbours side by side: one node in an exported graph.
        pick = torch.zeros(len(_NEIGHBOURS), 1, 3, 3)
        for plane, (i, j) in enumerate(_NEIGHBOURS):
            pick[plane, 0, i, j] = 1
        self.register_buffer("pick", pick, persistent=False)
        self.log_spread = nn.Parameter(torch.full((len(self.scales),), math.log(0.25)))
        self.share = nn.Parameter(torch.zeros(()))  # of the change that is taken, as a logit

    def weights(self, L: Tensor, level: int, guide: Tensor | None = None) -> Tensor:
        """Weight of each neighbour, (N, 1, H, W) to (N, 8, H, W), summing to 1."""
        planes = L * _GAIN
        squares = _squares(planes if guide is None else torch.cat([planes, guide], 1))
        light = squares[:, 0]
        spread = self.log_spread[level].exp().clamp_min(_SMALLEST_SPREAD)
        usual = light.mean(1, keepdim=True) * spread + _FLOOR
        # No softmax: over channels it is slow in ONNX Runtime, and no exponent is above 0.
        exponent = light / usual
        if guide is not None:
            exponent = exponent + squares[:, 1:].sum(1)
            # A place unlike all others still takes the likest of them.
            exponent = exponent - exponent.amin(1, keepdim=True)
        weights = torch.exp(-exponent)
        return weights / weights.sum(1, keepdim=True)

    def step(self, x: Tensor, weight: Tensor, given: Tensor) -> Tensor:
        """The weighted mean of the neighbours, or what is given."""
        padded = _pad(x)
        if not (learning() and torch.compiler.is_compiling()):
            return (weight * F.conv2d(padded, self.pick)).sum(1, keepdim=True) + given
        # Compiled, this is one loop forwards and one backwards.
        height, width = x.shape[2:]
        for plane, (i, j) in enumerate(_NEIGHBOURS):
            given = (
                given + weight[:, plane : plane + 1] * padded[..., i : i + height, j : j + width]
            )
        return given

    def forward(
        self, L: Tensor, start: Tensor, ab: Tensor, mask: Tensor, guide: Tensor | None = None
    ) -> Tensor:
        """What diffusion changes of a starting point.

        Parameters
        ----------
        L : Tensor, shape (N, 1, H, W)
            0..1. H and W are multiples of 16.
        start, ab : Tensor, shape (N, 2, H, W)
            The interpolation and the hints, centred: 0 is colourless.
        mask : Tensor, shape (N, 1, H, W)
            1 where there is a hint, else 0. Hints keep their colour at every step.
        guide : Tensor, shape (N, G, H / 4, W / 4), optional
            Where it differs, colour passes less, on the means of 16, 8 and 4 pixels.

        Returns
        -------
        Tensor, shape (N, 2, H, W)
        """
        change: Tensor | None = None
        planes = torch.cat([L, start, mask, ab * mask], 1)
        for level, (scale, steps) in enumerate(zip(self.scales, self.steps, strict=True)):
            means = F.avg_pool2d(planes, scale) if scale > 1 else planes
            here, before, share, hint = means.split([1, 2, 1, 2], 1)
            known = (share > 0).to(hint.dtype)
            # The two planes of ab one after the other, as pictures of their own: (2N, 1, H, W).
            there = None
            if guide is not None and scale >= _GUIDED:
                there = F.avg_pool2d(guide, scale // _GUIDED) if scale > _GUIDED else guide
            weight = (self.weights(here, level, there) * (1 - known)).repeat_interleave(2, 0)
            given = (hint / (share + (1 - known))).flatten(0, 1)[:, None]
            x = before
            if change is not None:
                x = x + enlarge(change, 2)
            x = x.flatten(0, 1)[:, None]
            for _ in range(steps):
                x = self.step(x, weight, given)
            x = x[:, 0].unflatten(0, (-1, 2))
            change = x - before
        assert change is not None
        return change
