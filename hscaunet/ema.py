"""Exponential moving average of a network's weights."""

from __future__ import annotations

import torch
from torch import Tensor, nn


class EMA:
    """Average of the weights over the last ``1 / (1 - decay)`` steps or so.

    Parameters
    ----------
    model : nn.Module
    decay : float
        Rises from 0 to this: ``min(decay, (1 + step) / (10 + step))``.
    """

    def __init__(self, model: nn.Module, decay: float) -> None:
        self.decay = decay
        self.shadow = {k: v.detach().clone() for k, v in model.state_dict().items()}

    @torch.no_grad()
    def update(self, model: nn.Module, step: int) -> None:
        """Move towards the model's weights; buffers such as BatchNorm's statistics included."""
        rate = 1 - min(self.decay, (1 + step) / (10 + step))
        floats: list[Tensor] = []
        targets: list[Tensor] = []
        for key, value in model.state_dict().items():
            if value.is_floating_point():
                floats.append(self.shadow[key])
                targets.append(value.detach())
            else:
                self.shadow[key].copy_(value)
        torch._foreach_lerp_(floats, targets, rate)
