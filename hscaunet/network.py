"""HSCAU-Net: a U-Net whose skip connections are gated by hint, spatial and channel attention."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from hscaunet.attention import ChannelAttention, HintAttention, SpatialAttention
from hscaunet.diffusion import STEPS
from hscaunet.grid import HintGrid
from hscaunet.prior import FINE, Prior
from runtime.layout import MULTIPLE, NEUTRAL

Form = Literal["published", "guided"]

# Colours spread over a few hundredths of the 0..1 scale, L over a quarter of it. The guided form
# enlarges what its network sees of colour, and shrinks the correction that it gives, so that its
# weights work with numbers near 1 on both sides.
_SEEN_GAIN = 8.0
_GIVEN_GAIN = 0.1

_SHOWN = 16  # planes of the prior's features

# Of the mean of a mask: less than what one pixel makes of the largest picture.
_ONE_PIXEL = 1e-9


def centred_hints(x: Tensor) -> tuple[Tensor, Tensor]:
    """Hints of an input in the network's layout: ab around 0, 0 without a hint; and the mask."""
    mask = x[:, 3:4]
    return (x[:, 1:3] - NEUTRAL) * mask, mask


def _full_precision(x: Tensor) -> torch.autocast:
    """Leave autocast: counts, variances and quotients do not survive bf16's eight bits."""
    return torch.autocast(x.device.type, enabled=False)


def touch(ab: Tensor, hint: Tensor, mask: Tensor) -> Tensor:
    """What a single hint lacks in ab, in the mean, at its place and 4 pixels around it, fading.

    All are centred, (N, 2 or 1, H, W).
    """
    lacks = ((hint - ab) * mask).mean((2, 3), keepdim=True)
    lacks = lacks / mask.mean((2, 3), keepdim=True).clamp_min(_ONE_PIXEL)
    near = F.max_pool2d(mask, 5, 1, 2)
    return lacks * F.avg_pool2d(near, 5, 1, 2, count_include_pad=False)


class DoubleConv(nn.Module):
    """Twice a 3x3 convolution without bias, BatchNorm and ReLU."""

    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__()
        self.double_conv = nn.Sequential(
            nn.Conv2d(inputs, outputs, 3, padding=1, bias=False),
            nn.BatchNorm2d(outputs),
            nn.ReLU(inplace=True),
            nn.Conv2d(outputs, outputs, 3, padding=1, bias=False),
            nn.BatchNorm2d(outputs),
            nn.ReLU(inplace=True),
        )

    def forward(self, x: Tensor) -> Tensor:
        return self.double_conv(x)


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
    """1x1 convolution to ab, and to what else the form needs; no activation."""

    def __init__(self, inputs: int, outputs: int = 2) -> None:
        super().__init__()
        self.conv = nn.Conv2d(inputs, outputs, 1)

    def forward(self, x: Tensor) -> Tensor:
        return self.conv(x)


class HSCAUNet(nn.Module):
    """Hint- and Spatial-Channel-Attention U-Net (2022).

    Parameters
    ----------
    width : int
        Channels of the first level; 64 is the published network, 32 the lite one.
    form : {"published", "guided"}
        "published" predicts ab from nothing. "guided" corrects an interpolation of the hints that
        is computed in the graph (`hscaunet.grid.HintGrid`); its last convolution starts at zero,
        so an untrained guided network *is* that interpolation.
    channel_attention : {"cbam", "spatial"}
        "cbam" as published; "spatial" for reading the authors' checkpoint, whose module of that
        name is a second 7x7 spatial attention.
    bins : int
        Bins of the guided form's interpolation.
    diffuse : bool
        Whether the guided form's interpolation ends with `hscaunet.diffusion.Diffusion`.
    steps : sequence of int
        See there.
    prior : bool
        Whether the guided form's interpolation starts from `hscaunet.prior.Prior`.
    lone_hint, lone_near : float
        See there; 0 to 1, and at least 0.
    show_prior : bool
        Whether the U-Net sees some planes that are made of the prior's features, too.

    Raises
    ------
    ValueError
        If an argument is none of these.

    Notes
    -----
    State-dict names follow the authors' checkpoint (``inc``, ``down1..4``, ``up1..4``, ``outc``).
    """

    def __init__(
        self,
        width: int = 64,
        form: Form = "published",
        *,
        channel_attention: Literal["cbam", "spatial"] = "cbam",
        bins: int = 16,
        diffuse: bool = True,
        steps: Sequence[int] = STEPS,
        prior: bool = True,
        lone_hint: float = 1.0,
        lone_near: float = 0.0,
        show_prior: bool = False,
    ) -> None:
        super().__init__()
        if form not in ("published", "guided"):
            raise ValueError(f"form must be 'published' or 'guided', not {form!r}.")
        if channel_attention not in ("cbam", "spatial"):
            raise ValueError(
                f"channel_attention must be 'cbam' or 'spatial', not {channel_attention!r}."
            )
        if not isinstance(width, int) or width < 1:
            raise ValueError(f"width must be a whole number of at least 1, not {width!r}.")
        if not isinstance(lone_hint, (int, float)) or not 0 <= lone_hint <= 1:
            raise ValueError(f"lone_hint must be a number from 0 to 1, not {lone_hint!r}.")
        if not isinstance(lone_near, (int, float)) or not 0 <= lone_near < math.inf:
            raise ValueError(f"lone_near must be a number of at least 0, not {lone_near!r}.")
        self.width, self.form, self.channel_attention, self.bins = (
            width,
            form,
            channel_attention,
            bins,
        )
        self.diffuse, self.steps = diffuse and form == "guided", tuple(steps)
        self.inc = DoubleConv(6 if self.diffuse else 4, width)
        self.down1 = Down(width, 2 * width)
        self.down2 = Down(2 * width, 4 * width)
        self.down3 = Down(4 * width, 8 * width)
        self.down4 = Down(8 * width, 16 * width)
        self.up1 = Up(16 * width, 8, channel_attention)
        self.up2 = Up(8 * width, 4, channel_attention)
        self.up3 = Up(4 * width, 2, channel_attention)
        self.up4 = Up(2 * width, 1, channel_attention)
        self.outc = OutConv(width, 3 if self.diffuse else 2)
        if form == "guided":
            self.grid = HintGrid(bins, diffuse=diffuse, steps=steps)
            nn.init.zeros_(self.outc.conv.weight)
            nn.init.zeros_(self.outc.conv.bias)  # type: ignore[arg-type]
        self.prior: Prior | None = None
        if prior and form == "guided":
            self.prior = Prior(lone_hint=lone_hint, lone_near=lone_near)
        self.show = None
        if show_prior and self.prior is not None:
            self.show = nn.Conv2d(FINE, _SHOWN, 1)
            nn.init.normal_(self.show.weight, std=0.3)  # numbers near 1, as the other planes
            first = self.inc.double_conv[0]
            planes = self.inc.double_conv[0] = nn.Conv2d(
                first.in_channels + _SHOWN, width, 3, padding=1, bias=False
            )
            nn.init.zeros_(planes.weight[:, -_SHOWN:])

    @property
    def config(self) -> dict[str, int | float | str | list[int]]:
        """The arguments that make this network again."""
        return {
            "width": self.width,
            "form": self.form,
            "channel_attention": self.channel_attention,
            "bins": self.bins,
            "diffuse": self.diffuse,
            "steps": list(self.steps),
            "prior": self.prior is not None,
            "lone_hint": 1.0 if self.prior is None else self.prior.lone_hint,
            "lone_near": 0.0 if self.prior is None else self.prior.lone_near,
            "show_prior": self.show is not None,
        }

    def diffusing(self, steps: Sequence[int]) -> HSCAUNet:
        """A copy, in evaluation mode, that diffuses in other numbers of steps."""
        copy = HSCAUNet(**{**self.config, "steps": steps})  # type: ignore[arg-type]
        copy.load_state_dict(self.state_dict())
        return copy.eval()

    def adopt(self, other: HSCAUNet) -> None:
        """Take the weights of a network that may lack a prior or the planes that show it.

        The U-Net then begins as if there were no such planes.
        """
        state, key = other.state_dict(), "inc.double_conv.0.weight"
        lacking = self.inc.double_conv[0].in_channels - state[key].shape[1]
        state[key] = F.pad(state[key], (0, 0, 0, 0, 0, lacking))
        whole = other.config == {**self.config, "steps": other.config["steps"]}
        self.load_state_dict(state, strict=whole)

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
        if not torch.compiler.is_exporting() and (x.shape[2] % MULTIPLE or x.shape[3] % MULTIPLE):
            raise ValueError(
                f"Height and width must be multiples of {MULTIPLE}, not {tuple(x.shape[2:])}."
            )
        return self.both(x)[0] + NEUTRAL if self.form == "guided" else self.unet(x, x[:, 1:3])

    def both(self, x: Tensor) -> tuple[Tensor, Tensor | None]:
        """What the guided form predicts, and the prior's guess without hints: centred ab.

        Each (N, 2, H, W); the second is None without a prior.
        """
        L, (own, mask) = x[:, 0:1], centred_hints(x)
        start, change, told, fine, alone = self._start(L, own, mask)
        hint = own if told is mask else own * told
        with _full_precision(x):
            base = self.grid.mix(start, change)
        # At a hint its own colour, so that the network sees what the interpolation lacks there.
        planes = [L, _SEEN_GAIN * (base + (hint - base * told)), told]
        if change is not None:
            planes.append(_SEEN_GAIN * change)
        if self.show is not None:
            planes.append(F.interpolate(self.show(fine), scale_factor=4.0, mode="bilinear"))
        given = self.unet(torch.cat(planes, 1), _SEEN_GAIN * hint)
        with _full_precision(x):
            given = given.to(x.dtype)
            if change is not None:  # how much of it, pixel by pixel
                base = self.grid.mix(start, change, given[:, 2:3])
            ab = base + _GIVEN_GAIN * given[:, :2]
            if told is not mask:
                ab = ab + touch(ab, own, mask - told)
            return ab, alone

    def _start(
        self, L: Tensor, hint: Tensor, mask: Tensor
    ) -> tuple[Tensor, Tensor | None, Tensor, Tensor | None, Tensor | None]:
        """What the interpolation gives before and by diffusion; where hints are heard; features.

        The third is `mask` itself where all hints are heard, else what `Prior.heard` leaves of it;
        the last two are the prior's `fine` and its guess without hints.
        """
        if self.prior is None:
            with _full_precision(L):
                return *self.grid.steps(L, hint, mask), mask, None, None
        alone, *prior, heard, fine = self.prior(L, hint, mask)
        with _full_precision(L):
            told = mask if heard is None else mask * heard
            return *self.grid.steps(L, hint, told, *prior), told, fine, alone

    def guesses(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """What the prior makes of the hints, and without them: centred ab, each (N, 2, H, W)."""
        assert self.prior is not None
        alone, guess, *_ = self.prior.outputs(x[:, 0:1], *centred_hints(x))
        return guess, alone

    def bases(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """As `guesses`, the first of them with the interpolation: what the U-Net corrects."""
        assert self.prior is not None
        L, (hint, mask) = x[:, 0:1], centred_hints(x)
        alone, *prior = self.prior.outputs(L, hint, mask)
        with _full_precision(x):
            return self.grid.mix(*self.grid.steps(L, hint, mask, *prior)), alone

    def interpolate(self, x: Tensor) -> Tensor:
        """What the hints alone say: centred ab, (N, 2, H, W); only 41 numbers are trained."""
        with _full_precision(x):
            return self.grid(x[:, 0:1], *centred_hints(x))

    def unet(self, x: Tensor, hint: Tensor) -> Tensor:
        """The U-Net alone: planes (N, C, H, W) and the (N, 2, H, W) hint map to what it gives."""
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
