"""Which sizes a network takes."""

from __future__ import annotations

import torch
from torch import Tensor

from runtime.layout import MULTIPLE


def check_size(x: Tensor) -> None:
    """Raise ValueError unless both sides of (N, C, H, W) are multiples of 16."""
    if not torch.compiler.is_exporting() and (x.shape[2] % MULTIPLE or x.shape[3] % MULTIPLE):
        raise ValueError(
            f"Height and width must be multiples of {MULTIPLE}, not {tuple(x.shape[2:])}."
        )
