"""The runtime's colour code on torch tensors: (N, C, H, W) on any device, differentiable."""

from __future__ import annotations

import torch
from torch import Tensor

from runtime import color


def lab_from_rgb(rgb: Tensor) -> Tensor:
    """sRGB of 0..1, (N, 3, H, W), to Lab (L 0..100)."""
    r, g, b = color.linear_from_srgb(rgb, torch).unbind(1)
    return torch.stack(color.lab_from_linear(r, g, b, torch), 1)


def rgb_from_lab(L: Tensor, ab: Tensor) -> Tensor:
    """L (N, 1, H, W) and ab (N, 2, H, W) to sRGB; out-of-gamut colours leave 0..1."""
    linear = torch.stack(color.linear_from_lab(L[:, 0], ab[:, 0], ab[:, 1], torch), 1)
    return color.srgb_from_linear(linear, torch)
