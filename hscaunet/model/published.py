"""The published HSCAU-Net (2022): a U-Net with hint, spatial and channel attention on its skips.

It predicts ab from nothing. State-dict names follow the authors' checkpoint.
"""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor, nn

from .blocks import DoubleConv
from .gates import ChannelAttention, HintAttention, SpatialAttention
from .sizes import check_size


class Down(nn.Module):
    """2x2 max pooling, then a double convolution."""

    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__()
        self.maxpool_conv = nn.Sequential(nn.MaxPool2d(2), DoubleConv(inputs, outputs))

    def forward(self, x: Tensor) -> Tensor:
        return self.maxpool_conv(x)


class Up(nn.Module):
    """Upsample, gate the skip connection by three attention maps, concatenate, convolve.

    Parameters
    ----------
    inputs : int
        Channels from below; the skip connection has half as many.
    factor : int
        How much smaller than the picture this level is.
    channel_attention : {"cbam", "spatial"}
        "spatial" is what the authors' checkpoint holds under that name.
    """

    def __init__(self, inputs: int, factor: int, channel_attention: str) -> None:
        super().__init__()
        half = inputs // 2
        self.up = nn.ConvTranspose2d(inputs, half, 2, stride=2)
        self.conv = DoubleConv(inputs, half)
        self.sp = SpatialAttention()
        self.ch = SpatialAttention() if channel_attention == "spatial" else ChannelAttention(half)
        self.conv_1by1 = HintAttention(factor)

    def forward(self, below: Tensor, skip: Tensor, hint: Tensor) -> Tensor:
        gated = skip * self.sp(skip) * self.ch(skip) * self.conv_1by1(hint)
        return self.conv(torch.cat([gated, self.up(below)], 1))


class OutConv(nn.Module):
    """1x1 convolution to ab; no activation."""

    def __init__(self, inputs: int) -> None:
        super().__init__()
        self.conv = nn.Conv2d(inputs, 2, 1)

    def forward(self, x: Tensor) -> Tensor:
        return self.conv(x)


class PublishedNet(nn.Module):
    """Hint- and Spatial-Channel-Attention U-Net as published.

    Parameters
    ----------
    width : int
        Channels of the first level; 64 is the published network.
    channel_attention : {"cbam", "spatial"}
        "cbam" as published; "spatial" for reading the authors' checkpoint, whose module of that
        name is a second 7x7 spatial attention.

    Raises
    ------
    ValueError
        If an argument is none of these.
    """

    form = "published"

    def __init__(
        self, width: int = 64, channel_attention: Literal["cbam", "spatial"] = "cbam"
    ) -> None:
        super().__init__()
        if channel_attention not in ("cbam", "spatial"):
            raise ValueError(
                f"channel_attention must be 'cbam' or 'spatial', not {channel_attention!r}."
            )
        if not isinstance(width, int) or width < 1:
            raise ValueError(f"width must be a whole number of at least 1, not {width!r}.")
        self.width, self.channel_attention = width, channel_attention
        self.inc = DoubleConv(4, width)
        self.down1 = Down(width, 2 * width)
        self.down2 = Down(2 * width, 4 * width)
        self.down3 = Down(4 * width, 8 * width)
        self.down4 = Down(8 * width, 16 * width)
        self.up1 = Up(16 * width, 8, channel_attention)
        self.up2 = Up(8 * width, 4, channel_attention)
        self.up3 = Up(4 * width, 2, channel_attention)
        self.up4 = Up(2 * width, 1, channel_attention)
        self.outc = OutConv(width)

    @property
    def config(self) -> dict[str, int | str]:
        """The arguments of `hscaunet.model.build_network` that make this network again."""
        return {
            "form": self.form,
            "width": self.width,
            "channel_attention": self.channel_attention,
        }

    def forward(self, x: Tensor) -> Tensor:
        """Predict ab.

        Parameters
        ----------
        x : Tensor, shape (N, 4, H, W)
            L, ab hints and mask in the layout of `runtime.layout`; H and W multiples of 16.

        Returns
        -------
        Tensor, shape (N, 2, H, W)
            ab as (value + 128) / 255; not clipped.
        """
        check_size(x)
        hint = x[:, 1:3]
        x1 = self.inc(x)
        x2 = self.down1(x1)
        x3 = self.down2(x2)
        x4 = self.down3(x3)
        y = self.down4(x4)
        y = self.up1(y, x4, hint)
        y = self.up2(y, x3, hint)
        y = self.up3(y, x2, hint)
        y = self.up4(y, x1, hint)
        return self.outc(y)
