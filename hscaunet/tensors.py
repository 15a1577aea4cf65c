"""The runtime's colour code on torch tensors, and enlarging: (N, C, H, W) on any device."""

from __future__ import annotations

import torch
import torch.nn.functional as F
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


def learning() -> bool:
    """Whether gradients are wanted: then some sums are taken in another order, for their sake."""
    return torch.is_grad_enabled() and not torch.compiler.is_exporting()


def enlarge(x: Tensor, factor: int) -> Tensor:
    """Bilinear by a whole number, as ``F.interpolate``.

    Where gradients are wanted, as two products with a matrix: the gradient of ``F.interpolate`` is
    gathered by atomic additions, which takes half of the interpolation's backward pass on a CPU.
    """
    if not learning():
        return F.interpolate(x, scale_factor=float(factor), mode="bilinear")
    rows, columns = (_enlarging(length, factor, x) for length in x.shape[-2:])
    return rows @ x @ columns.mT


def _enlarging(length: int, factor: int, like: Tensor) -> Tensor:
    """The matrix (factor * length, length) that enlarges a line."""
    line = torch.arange(length, device=like.device, dtype=torch.float32)
    place = torch.arange(factor * length, device=like.device, dtype=torch.float32) + 0.5
    place = (place / factor - 0.5).clamp(0, length - 1)
    return (1 - (place[:, None] - line).abs()).clamp_min(0).to(like.dtype)
