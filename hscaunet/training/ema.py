"""Exponential moving average of a network's weights."""

from __future__ import annotations

import torch
from torch import nn


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
        state = model.state_dict()
        self.shadow = {k: v.detach().clone() for k, v in state.items()}
        # Collected once: finding a thousand tensors by name takes longer than averaging them. The
        # model's are its own, which learn in place.
        pairs = [(self.shadow[k], v.detach()) for k, v in state.items()]
        self._floats = [pair for pair in pairs if pair[0].is_floating_point()]
        self._others = [pair for pair in pairs if not pair[0].is_floating_point()]

    @torch.no_grad()
    def update(self, step: int) -> None:
        """Move towards the model's weights; buffers such as BatchNorm's statistics included."""
        rate = 1 - min(self.decay, (1 + step) / (10 + step))
        shadows, values = zip(*self._floats, strict=True)
        torch._foreach_lerp_(shadows, values, rate)
        for shadow, value in self._others:
            shadow.copy_(value)
