"""The last step, in cells of 2 pixels: edges of L sort out what cells of 4 pixels blur."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ..tensors import enlarge
from .blocks import ConvBlock

CELL = 2
"""Side in pixels of the cells."""

_LIFTED = 16


class Detail(nn.Module):
    """Correct a painting where L and the hints show more than it knows.

    Parameters
    ----------
    known : int
        Channels of the features at 1/4 of the size.
    width : int
        Channels of its own.
    """

    def __init__(self, known: int, width: int = 32) -> None:
        super().__init__()
        self.lift = nn.Conv2d(known, _LIFTED, 1)
        self.conv = nn.Sequential(
            ConvBlock(_LIFTED + CELL**2 + 2 + 3, width), ConvBlock(width, width)
        )
        self.out = nn.Conv2d(width, 4, 1)
        with torch.no_grad():  # untrained, it corrects nothing
            self.out.weight.zero_()
            self.out.bias.zero_()  # type: ignore[union-attr]

    def forward(
        self, features: Tensor, L: Tensor, told: Tensor, count: Tensor, lacks: Tensor
    ) -> Tensor:
        """Correct.

        Parameters
        ----------
        features : Tensor, shape (N, known, H / 4, W / 4)
        L : Tensor, shape (N, 1, H, W)
            0..1.
        told : Tensor, shape (N, 2, H / 2, W / 2)
            The colours so far.
        count, lacks : Tensor, shape (N, 1 or 2, H / 2, W / 2)
            Pixels of hints in each cell, and the sum of what they say beyond the colours so far.

        Returns
        -------
        Tensor, shape (N, 4, H / 2, W / 2)
            To be added to the coefficients of `hscaunet.model.blocks.paint`.
        """
        kind = features.dtype
        pixels = F.pixel_unshuffle(2 * L - 1, CELL)
        hint = torch.cat([(count > 0).to(count.dtype), lacks / count.clamp_min(1)], 1)
        known = torch.cat([pixels, told, hint], 1).to(kind)
        x = torch.cat([enlarge(self.lift(features), CELL).to(kind), known], 1)
        found: Tensor = self.out(self.conv(x)).float()
        return found
