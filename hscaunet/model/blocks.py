"""Small parts that the rooms of the network share. Channels first: (N, C, H, W)."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ..tensors import enlarge

GAIN = 10.0
"""Centred ab spreads over a few hundredths of the 0..1 scale; times this it is near 1."""

CELL = 4
"""Side in pixels of the cells in which the guided network works."""

_SLOPE = 4.0  # of ab over L, on the same ground


class ConvBlock(nn.Sequential):
    """A 3x3 convolution without bias, BatchNorm and ReLU."""

    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__(
            nn.Conv2d(inputs, outputs, 3, padding=1, bias=False),
            nn.BatchNorm2d(outputs),
            nn.ReLU(inplace=True),
        )


class DoubleConv(nn.Module):
    """Twice a 3x3 convolution without bias, BatchNorm and ReLU; named as in the authors' file."""

    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__()
        self.double_conv = nn.Sequential(*ConvBlock(inputs, outputs), *ConvBlock(outputs, outputs))

    def forward(self, x: Tensor) -> Tensor:
        return self.double_conv(x)


class GlobalAttention(nn.Module):
    """Every place asks every other (a transformer's block, with BatchNorm, which folds).

    Parameters
    ----------
    channels : int
        A multiple of `heads`.
    heads : int
    """

    def __init__(self, channels: int, heads: int = 4) -> None:
        super().__init__()
        self.heads = heads
        self.place = nn.Conv2d(channels, channels, 3, padding=1, groups=channels)
        self.ask = nn.Sequential(nn.BatchNorm2d(channels), nn.Conv2d(channels, 3 * channels, 1))
        self.answer = nn.Conv2d(channels, channels, 1)
        self.think = nn.Sequential(
            nn.BatchNorm2d(channels),
            nn.Conv2d(channels, 2 * channels, 1),
            nn.ReLU(inplace=True),
            nn.Conv2d(2 * channels, channels, 1),
        )

    def forward(self, x: Tensor) -> Tensor:
        x = x + self.place(x)
        heads = self.ask(x).flatten(2).unflatten(1, (3 * self.heads, -1)).mT
        q, k, v = heads.chunk(3, 1)  # (N, heads, H W, channels of a head)
        likeness = (q * q.shape[3] ** -0.5) @ k.mT
        found = likeness.float().softmax(3).to(v.dtype) @ v
        x = x + self.answer(found.mT.flatten(1, 2).unflatten(2, x.shape[2:]))
        return x + self.think(x)


def double(x: Tensor, like: Tensor) -> Tensor:
    """Enlarge by two, cut to the size of `like`: an odd size was rounded up when it was halved."""
    return enlarge(x, 2)[..., : like.shape[2], : like.shape[3]]


def paint(coefficients: Tensor, L: Tensor, mean_L: Tensor, cell: int = CELL) -> Tensor:
    """Colours on a finer grid, each cell's a linear function of L.

    Parameters
    ----------
    coefficients : Tensor, shape (N, 4, H / cell, W / cell)
        ab at a cell's mean L, and how ab changes with L there; both scaled by `GAIN`.
    L : Tensor, shape (N, 1, H, W)
        0..1.
    mean_L : Tensor, shape (N, 1, H / cell, W / cell)
    cell : int
        Side of a cell.

    Returns
    -------
    Tensor, shape (N, 2, H, W)
        On the scale of the coefficients.
    """
    scaled = torch.cat([coefficients[:, :2], _SLOPE * coefficients[:, 2:], mean_L], 1)
    level, slope, mean = enlarge(scaled, cell).split([2, 2, 1], 1)
    return level + slope * (L - mean)


def slope_of(change: Tensor, step: float) -> Tensor:
    """The slope that `paint` wants where ab (scaled) changes so much over so much of L."""
    return change / (step * _SLOPE)


def cell_sums(planes: Tensor, cell: int = CELL) -> Tensor:
    """Sums over each cell: (N, C, H, W) to (N, C, H / cell, W / cell)."""
    return F.avg_pool2d(planes, cell) * cell**2
