"""What the photo alone tells: features, a guess of its colours, and what looks alike in it."""

from __future__ import annotations

from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from .backbone import CHANNELS, Backbone
from .blocks import CELL, ConvBlock, double

_THINK = 2  # residual blocks at either size


class Photo(NamedTuple):
    """What is kept of a photo while its hints change.

    Attributes
    ----------
    quarter, eighth, sixteenth, last : Tensor
        What it adds to the U-Net's levels at 1/4, 1/8, 1/16 and 1/32 of the size (rounded up).
    guess : Tensor, shape (N, 4, H / 4, W / 4)
        Colours without any hint, for `hscaunet.model.blocks.paint`.
    embedded, doubt : Tensor
        See `hscaunet.model.affinity.Affinity.forward`; at 1/8 of the size.
    alike8, alike4, alike2 : Tensor
        See `hscaunet.model.diffusion.Diffusion.weights`.
    """

    quarter: Tensor
    eighth: Tensor
    sixteenth: Tensor
    last: Tensor
    guess: Tensor
    embedded: Tensor
    doubt: Tensor
    alike8: Tensor
    alike4: Tensor
    alike2: Tensor

    @property
    def alike(self) -> tuple[Tensor, Tensor, Tensor]:
        """From coarse to fine."""
        return self.alike8, self.alike4, self.alike2


class Residual(nn.Module):
    """Add what two convolutions find; nothing, untrained."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        last = nn.BatchNorm2d(channels)
        nn.init.zeros_(last.weight)
        conv = nn.Conv2d(channels, channels, 3, padding=1, bias=False)
        self.body = nn.Sequential(*ConvBlock(channels, channels), conv, last)

    def forward(self, x: Tensor) -> Tensor:
        return x + self.body(x)


class PhotoEncoder(nn.Module):
    """A classifier's features of L, brought together for the U-Net, and a guess made of them.

    Parameters
    ----------
    widths : sequence of int
        Channels of the U-Net at 1/4, 1/8, 1/16 and 1/32 of the size.
    quarter, eighth, deep : int
        Channels of the features at 1/4, at 1/8, and at 1/16 and 1/32 of the size.
    """

    def __init__(
        self, widths: tuple[int, ...], quarter: int = 48, eighth: int = 96, deep: int = 96
    ) -> None:
        super().__init__()
        self.quarter, self.eighth = quarter, eighth
        self.backbone = Backbone()
        c4, c8, c16, c32 = CHANNELS
        self.reduce8 = nn.Conv2d(c8, eighth, 1)
        self.reduce16 = nn.Conv2d(c16, eighth, 1)
        self.reduce32 = nn.Conv2d(c32, eighth, 1)
        self.whole = nn.Conv2d(c32, eighth, 1)
        self.join = nn.Sequential(
            nn.BatchNorm2d(eighth),
            nn.ReLU(inplace=True),
            ConvBlock(eighth, eighth),
            ConvBlock(eighth, eighth),
        )
        self.think8 = nn.Sequential(*(Residual(eighth) for _ in range(_THINK)))
        self.guess8 = nn.Conv2d(eighth, 2, 1)
        self.lift = nn.Conv2d(eighth, 32, 1)
        self.fine = nn.Sequential(
            ConvBlock(c4 + CELL**2 + 32, quarter), ConvBlock(quarter, quarter)
        )
        self.think4 = nn.Sequential(*(Residual(quarter) for _ in range(_THINK)))
        self.guess4 = nn.Conv2d(quarter, 4, 1)
        self.deep16 = nn.Conv2d(c16, deep, 1)
        self.deep32 = nn.Conv2d(c32, deep, 1)
        self.adds = nn.ModuleList(
            nn.Conv2d(features, width, 3, padding=1, bias=False)
            for features, width in zip((quarter, eighth, deep, deep), widths, strict=True)
        )
        with torch.no_grad():  # untrained, it guesses no colour
            for guess in (self.guess8, self.guess4):
                guess.weight.zero_()
                guess.bias.zero_()  # type: ignore[union-attr]

    @property
    def joined(self) -> tuple[nn.Conv2d, ...]:
        """The convolutions whose sum `join`'s first BatchNorm takes; the first one at its size."""
        return self.reduce8, self.reduce16, self.reduce32, self.whole

    def forward(self, L: Tensor) -> tuple[list[Tensor], Tensor, Tensor, Tensor]:
        """What L, (N, 1, H, W) in 0..1, adds to the U-Net; the guess; features at 1/4, 1/8."""
        f4, f8, f16, f32 = self.backbone(L)
        x = self.reduce16(f16) + double(self.reduce32(f32), f16)
        x = self.reduce8(f8) + double(x, f8)
        x = self.think8(self.join(x + self.whole(f32.mean((2, 3), keepdim=True))))
        pixels = F.pixel_unshuffle(2 * L - 1, CELL)
        known = torch.cat([f4, pixels.to(f4.dtype), double(self.lift(x), f4)], 1)
        quarter = self.think4(self.fine(known))
        guess = self.guess4(quarter)
        guess = torch.cat([guess[:, :2] + double(self.guess8(x), f4), guess[:, 2:]], 1)
        features = quarter, x, self.deep16(f16), self.deep32(f32)
        added = [add(one) for add, one in zip(self.adds, features, strict=True)]
        return added, guess.float(), quarter, x
