"""BatchNorm that is folded into the convolutions before it."""

from __future__ import annotations

import copy
from collections.abc import Sequence

import torch
from torch import nn
from torch.nn.utils import fuse_conv_bn_eval

from . import Network

_LEAST = 1e-6  # of a scale that is divided by


def _pairs(
    model: nn.Module, first: type[nn.Module], second: type[nn.Module]
) -> list[tuple[nn.Sequential, int]]:
    """Each module of the one kind that one of the other follows: its sequence and number there."""
    return [
        (module, i)
        for module in model.modules()
        if isinstance(module, nn.Sequential)
        for i in range(len(module) - 1)
        if isinstance(module[i], first) and isinstance(module[i + 1], second)
    ]


def _sums(model: Network) -> list[tuple[Sequence[nn.Conv2d], nn.Module, nn.BatchNorm2d]]:
    """BatchNorms of a sum of convolutions: those, the norm's module, the norm.

    The first convolution is one at the sum's own size. (Enlarging keeps factors as they are.)
    """
    if model.form == "published":
        return []
    photo, levels = model.photo, model.unet.levels
    sums: list[tuple[Sequence[nn.Conv2d], nn.Module, nn.BatchNorm2d]] = [
        (photo.joined, photo.join, photo.join[0])  # type: ignore[list-item]
    ]
    for level, add in zip(levels, photo.adds, strict=True):
        sums.append(((level.conv, add), level, level.norm))  # type: ignore[arg-type]
    return sums


def normalize(model: Network) -> None:
    """Scale convolutions, in place, so that folding a BatchNorm into them multiplies by one.

    Afterwards the weights that are stored and those that an engine runs are the same numbers, so
    rounding them to fp16 rounds both alike.
    """
    for sequence, i in _pairs(model, nn.Conv2d, nn.BatchNorm2d):
        _normalize([sequence[i]], sequence[i + 1])  # type: ignore[list-item,arg-type]
    for sequence, i in _pairs(model, nn.BatchNorm2d, nn.Conv2d):
        _normalize_behind(sequence[i], sequence[i + 1])  # type: ignore[arg-type]
    for convs, _, norm in _sums(model):
        _normalize(convs, norm)


def refresh(model: Network) -> None:
    """Scale convolutions before BatchNorms, in place, to about the size that they begin with.

    The function stays the same. A step of Adam has one size whatever that of the weights: those
    that `normalize` or a long decay made small would be lost in a few steps of training.
    """
    convs = [([s[i]], s[i + 1]) for s, i in _pairs(model, nn.Conv2d, nn.BatchNorm2d)]
    for some, norm in [*convs, *((some, norm) for some, _, norm in _sums(model))]:
        _refresh(some, norm)  # type: ignore[arg-type]


@torch.no_grad()
def _refresh(convs: Sequence[nn.Conv2d], norm: nn.BatchNorm2d) -> None:
    weight = convs[0].weight
    size = weight.square().mean(dim=(1, 2, 3)).sqrt()
    scale = weight[0].numel() ** -0.5 / size
    scale = torch.where(size < 1e-9, torch.ones_like(scale), scale)  # of a channel that is dead
    for conv in convs:
        conv.weight.mul_(scale[:, None, None, None])
        if conv.bias is not None:
            conv.bias.mul_(scale)
    mean, variance = norm.running_mean, norm.running_var
    assert mean is not None
    assert variance is not None
    mean.mul_(scale)
    variance.copy_(((variance + norm.eps) * scale.square() - norm.eps).clamp_min(0))


def fold(model: Network) -> Network:
    """A copy, in evaluation mode, whose BatchNorms are folded into convolutions beside them."""
    model = copy.deepcopy(model).eval()
    for sequence, i in _pairs(model, nn.Conv2d, nn.BatchNorm2d):
        sequence[i] = fuse_conv_bn_eval(sequence[i], sequence[i + 1])
        sequence[i + 1] = nn.Identity()
    for sequence, i in _pairs(model, nn.BatchNorm2d, nn.Conv2d):
        norm, conv = sequence[i], sequence[i + 1]
        _normalize_behind(norm, conv)  # type: ignore[arg-type]
        with torch.no_grad():
            shift = norm.bias - norm.running_mean  # type: ignore[operator]
            conv.bias.add_(conv.weight.flatten(1) @ shift)  # type: ignore[union-attr,operator]
        sequence[i] = nn.Identity()
    for convs, home, norm in _sums(model):
        _normalize(convs, norm)
        with torch.no_grad():  # what is left of it adds, and multiplies by one
            shift = norm.bias - norm.running_mean  # type: ignore[operator]
            bias = convs[0].bias
            convs[0].bias = nn.Parameter(shift if bias is None else bias + shift)
        for name, module in list(home.named_children()):
            if module is norm:
                setattr(home, name, nn.Identity())
    return model


@torch.no_grad()
def _normalize_behind(norm: nn.BatchNorm2d, conv: nn.Conv2d) -> None:
    """Scale the inputs of a 1x1 convolution so that the BatchNorm before it multiplies by one."""
    variance = norm.running_var
    assert variance is not None
    scale = norm.weight / torch.sqrt(variance + norm.eps)
    scale = torch.where(scale.abs() < _LEAST, torch.full_like(scale, _LEAST), scale)
    conv.weight.mul_(scale[:, None, None])
    norm.bias.div_(scale)
    norm.weight.copy_(torch.sqrt(variance + norm.eps))


@torch.no_grad()
def _normalize(convs: Sequence[nn.Conv2d], norm: nn.BatchNorm2d) -> None:
    """Scale convolutions so that the BatchNorm of their sum, folded, multiplies by one.

    The function stays the same in training and in evaluation: what the convolution gains, the
    running variance and gamma gain too. Afterwards the weights that are stored and the weights
    that an engine runs are the same numbers, so rounding them to fp16 rounds both alike.
    """
    mean, variance = norm.running_mean, norm.running_var
    assert mean is not None  # these networks track statistics
    assert variance is not None
    scale = norm.weight / torch.sqrt(variance + norm.eps)
    for conv in convs:
        conv.weight.mul_(scale[:, None, None, None])
        if conv.bias is not None:
            conv.bias.mul_(scale)
    mean.mul_(scale)
    variance.copy_(norm.weight.square())
    norm.weight.copy_(torch.sqrt(variance + norm.eps))
