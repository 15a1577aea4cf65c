"""The three attention maps that gate a skip connection."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn


class SpatialAttention(nn.Module):
    """Where to look: sigmoid of a 7x7 convolution over the channels' mean and maximum (CBAM)."""

    def __init__(self) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(2, 1, 7, padding=3, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        """(N, C, H, W) to (N, 1, H, W), 0..1."""
        pooled = torch.cat([x.mean(1, keepdim=True), x.amax(1, keepdim=True)], 1)
        return torch.sigmoid(self.conv1(pooled))


class ChannelAttention(nn.Module):
    """Which features: shared 1x1 convolutions over the average- and max-pooled features (CBAM)."""

    def __init__(self, channels: int, ratio: int = 16) -> None:
        super().__init__()
        hidden = max(1, channels // ratio)
        self.fc1 = nn.Conv2d(channels, hidden, 1, bias=False)
        self.fc2 = nn.Conv2d(hidden, channels, 1, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        """(N, C, H, W) to (N, C, 1, 1), 0..1."""
        average = self.fc2(F.relu(self.fc1(x.mean((2, 3), keepdim=True))))
        maximum = self.fc2(F.relu(self.fc1(x.amax((2, 3), keepdim=True))))
        return torch.sigmoid(average + maximum)


class HintAttention(nn.Module):
    """Where hints are: sigmoid of a 1x1 convolution (no bias) of the resized ab hint map.

    The map is shrunk by antialiased bilinear interpolation, as the authors did. At a whole factor
    s that is a convolution with a triangle 2s wide at stride s whose weights are renormalised at
    the border, and in that form it exports without the antialias attribute that engines lack.

    Parameters
    ----------
    factor : int
        1, 2, 4 or 8: how much smaller than the picture the skip connection is.
    planes : int
        Of the hint map; 2 (ab) as published.
    """

    triangle: Tensor

    def __init__(self, factor: int, planes: int = 2) -> None:
        super().__init__()
        self.factor = factor
        self.conv = nn.Conv2d(planes, 1, 1, bias=False)
        taps = 1 - (torch.arange(2 * factor) + 0.5 - factor).abs() / factor
        self.register_buffer("triangle", torch.outer(taps, taps)[None, None], persistent=False)

    def forward(self, hint: Tensor) -> Tensor:
        """(N, planes, H, W), any offset, to (N, 1, H / factor, W / factor), 0..1."""
        if self.factor > 1:
            hint = shrink(hint, self.triangle, self.factor)
        return torch.sigmoid(self.conv(hint))


def shrink(x: Tensor, triangle: Tensor, factor: int) -> Tensor:
    """Antialiased bilinear shrinking of (N, 2, H, W) by a whole even factor."""
    kernel = triangle.to(x.dtype)

    def spread(y: Tensor) -> Tensor:
        weight = kernel.expand(y.shape[1], 1, 2 * factor, 2 * factor)
        return F.conv2d(y, weight, stride=factor, padding=factor // 2, groups=y.shape[1])

    return spread(x) / spread(torch.ones_like(x[:1, :1]))
