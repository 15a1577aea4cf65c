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
        state = {k: v.detach() for k, v in model.state_dict().items()}
        self.shadow = {k: v.clone() for k, v in state.items()}
        # Collected once: the names of a thousand tensors take longer than averaging them.
        self._floats = [k for k, v in state.items() if v.is_floating_point()]
        self._others = [k for k in state if k not in set(self._floats)]
        self._state = state  # the model's own tensors, which learn in place

    @torch.no_grad()
    def update(self, step: int) -> None:
        """Move towards the model's weights; buffers such as BatchNorm's statistics included."""
        rate = 1 - min(self.decay, (1 + step) / (10 + step))
        shadows, values = ([d[k] for k in self._floats] for d in (self.shadow, self._state))
        torch._foreach_lerp_(shadows, values, rate)
        for key in self._others:
            self.shadow[key].copy_(self._state[key])
