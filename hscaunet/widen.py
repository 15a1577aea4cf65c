"""A network of twice the width that gives the same, for training to go on from."""

from __future__ import annotations

import torch
from torch import Tensor

from hscaunet.network import HSCAUNet


def widen(model: HSCAUNet, generator: torch.Generator | None = None) -> HSCAUNet:
    """Double the channels of a network's U-Net without changing what it computes.

    Every channel is there twice afterwards, and what reads it takes a random share of one copy and
    the rest of the other, weight by weight (Net2WiderNet: Chen, Goodfellow, Shlens 2016). The
    shares have mean and deviation 1/2, so that squares of weights sum to what they did. Copies
    that are read differently get different gradients and part from each other.

    Parameters
    ----------
    model : HSCAUNet
        Not changed.
    generator : torch.Generator, optional
        For the shares.

    Returns
    -------
    HSCAUNet
        Of twice the width, with the same interpolation and prior.
    """
    wide = HSCAUNet(**{**model.config, "width": 2 * model.width})  # type: ignore[arg-type]
    old = model.state_dict()
    new = {}
    for name, tensor in wide.state_dict().items():
        value = old[name]
        if value.shape != tensor.shape:
            # Of transposed convolutions the first axis is read, of others the second.
            read = 0 if name.endswith("up.weight") else 1
            if value.ndim == 4 and value.shape[read] != tensor.shape[read]:
                # The first convolution after a concatenation reads two pictures side by side.
                parts = 2 if name.startswith("up") and "double_conv.0" in name else 1
                value = _share(value, read, parts, generator)
            written = 1 - read if value.ndim == 4 else 0
            if value.shape[written] != tensor.shape[written]:
                value = torch.cat([value, value], written)
        new[name] = value
    wide.load_state_dict(new)
    return wide.train(model.training)


def _share(weight: Tensor, axis: int, parts: int, generator: torch.Generator | None) -> Tensor:
    """Weights for inputs that are there twice: (a, b) becomes (a, b, a, b) in each part."""
    pieces = []
    for piece in weight.chunk(parts, axis):
        share = 0.5 + 0.5 * torch.randn(piece.shape[:2], generator=generator)[:, :, None, None]
        pieces += [piece * share, piece * (1 - share)]
    return torch.cat(pieces, axis)
