"""Changes of training photos that make it useless to remember what colour things had."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from ..tensors import lab_from_rgb, rgb_from_lab


@dataclass(frozen=True)
class Augmentation:
    """How photos are changed, apart from crops and mirrors.

    Attributes
    ----------
    hue_share : float
        Share of the photos whose ab plane is turned by any angle, half of them mirrored first, and
        scaled by 0.7 to 1.3: their colours follow from hints alone. What sRGB cannot show is
        clipped, which moves L as well.
    contrast : float
        L becomes ``100 (L / 100) ** g`` with log g uniform between -contrast and contrast.
    """

    hue_share: float = 0.0
    contrast: float = 0.0

    def draw(self, rgb: Tensor, generator: torch.Generator) -> tuple[Tensor, Tensor]:
        """Change a batch of photos.

        Parameters
        ----------
        rgb : Tensor, shape (N, 3, H, W)
            sRGB, 0..1.
        generator : torch.Generator
            Asked for nothing where nothing is to be changed.

        Returns
        -------
        lab : Tensor, shape (N, 3, H, W)
            Of colours that sRGB can show.
        turned : Tensor, shape (N,), bool
            Whose hues are not the photo's own.
        """
        lab = lab_from_rgb(rgb)
        n, device = len(rgb), rgb.device
        turned = torch.zeros(n, dtype=torch.bool, device=device)
        if not self.hue_share and not self.contrast:
            return lab, turned
        chance = torch.rand((5, n, 1, 1), generator=generator, device=device)
        L, a, b = lab.unbind(1)
        if self.contrast:
            gamma = torch.exp((2 * chance[0] - 1) * self.contrast)
            L = 100 * (L / 100).clamp(0, 1) ** gamma
        turned = chance[1, :, 0, 0] < self.hue_share
        angle, gain = 2 * math.pi * chance[2], 0.7 + 0.6 * chance[3]
        mirrored = torch.where(chance[4] < 0.5, b, -b)
        turn_a = gain * (angle.cos() * a - angle.sin() * mirrored)
        turn_b = gain * (angle.sin() * a + angle.cos() * mirrored)
        keep = ~turned[:, None, None]
        ab = torch.stack([torch.where(keep, a, turn_a), torch.where(keep, b, turn_b)], 1)
        return lab_from_rgb(rgb_from_lab(L[:, None], ab).clamp(0, 1)), turned
