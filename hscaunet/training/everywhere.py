"""Hints all over a photo, as the literature gives them."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from ..data.hints import dense_pixels, paint_patches


@dataclass(frozen=True)
class HintRecipe:
    """How training hints are drawn.

    Attributes
    ----------
    dense_share : float
        Share of photos that get single pixels.
    pixels : tuple of float
        Each pixel is one of them with one of these probabilities; (0.03, 0.01, 0.005) as published.
    geometric_share : float
        Share of the others whose number of hints is geometric with p = 1/8 (Zhang et al. 2017);
        the rest draws it log-uniformly from 1 to `most`.
    most : int
        Largest number of hints; larger draws count as this.
    largest : int
        Patches are 1 to this many pixels wide.
    """

    dense_share: float
    pixels: tuple[float, ...] = (0.03, 0.01, 0.005)
    geometric_share: float = 0.5
    most: int = 128
    largest: int = 9

    def draw(
        self, ab: Tensor, generator: torch.Generator, least: Tensor | None = None
    ) -> tuple[Tensor, Tensor]:
        """Draw hints for a batch; see `paint_patches` for shapes.

        `least`, shape (N,), int64, is the smallest number of patches that each photo may get.
        """
        n, _, height, width = ab.shape
        device = ab.device

        def uniform(*shape: int) -> Tensor:
            return torch.rand(shape, generator=generator, device=device)

        choices = torch.tensor(self.pixels).to(device, non_blocking=True)
        shares = choices[(uniform(n) * len(choices)).long().clamp(max=len(choices) - 1)]
        hint, mask = dense_pixels(ab, shares, generator)
        if self.dense_share >= 1:
            return hint, mask
        # Inverse of the geometric distribution's tail: P(count >= c) = (7/8) ** c.
        geometric = (uniform(n).clamp_min(1e-9).log() / math.log(7 / 8)).long()
        spread = torch.exp(uniform(n) * math.log(self.most + 1)).long()
        count = torch.where(uniform(n) < self.geometric_share, geometric, spread)
        count = count.clamp(max=self.most)
        if least is not None:
            count = count.maximum(least)
        # Half of the photos get hints all over, half around the middle, as people click.
        centred = 0.5 + 0.25 * torch.randn((2, n, self.most), generator=generator, device=device)
        anywhere = uniform(2, n, self.most)
        place = torch.where(uniform(n)[None, :, None] < 0.5, centred, anywhere).clamp(0, 0.999999)
        x, y = (place[0] * width).long(), (place[1] * height).long()
        size = (uniform(n, self.most) * self.largest).long().clamp(max=self.largest - 1) + 1
        patch_hint, patch_mask = paint_patches(ab, x, y, size, count, self.largest)
        dense = (uniform(n) < self.dense_share)[:, None, None, None]
        return torch.where(dense, hint, patch_hint), torch.where(dense, mask, patch_mask)
