"""The U-Net of HSCAU-Net at a quarter of the size: where do hints change the guess, and to what?"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from .blocks import ConvBlock, GlobalAttention, double
from .gates import ChannelAttention, HintAttention, SpatialAttention
from .photo import Photo

_HINT = 3  # planes of a hint map: whether there is one, and what it says of a and b
_NEAR = 6  # planes at 1/4 beside that: the guess (4), how many pixels, how many around
_UNGATED = 8.0  # three gates of one half, which an untrained sigmoid is, leave a skip as it was


def _mean_around(x: Tensor) -> Tensor:
    """Mean over 17x17 cells, 0 beyond the edge: down and across one after the other."""
    return F.avg_pool2d(F.avg_pool2d(x, (17, 1), 1, (8, 0)), (1, 17), 1, (0, 8))


def _halved_up(x: Tensor) -> Tensor:
    """Halve, rounding sizes up. (OpenVINO refuses to pool a single cell by two.)"""
    return F.max_pool2d(F.pad(x, (0, 1, 0, 1), mode="replicate"), 2)


class Gate(nn.Module):
    """A skip connection times its spatial, channel and hint attention."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.sp = SpatialAttention()
        self.ch = ChannelAttention(channels)
        self.hint = HintAttention(1, _HINT)

    def forward(self, skip: Tensor, hint: Tensor) -> Tensor:
        return skip * (_UNGATED * self.sp(skip) * self.ch(skip) * self.hint(hint))


class Level(nn.Module):
    """Convolve what is known of the hints, add what the photo adds, convolve again."""

    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__()
        self.conv = nn.Conv2d(inputs, outputs, 3, padding=1, bias=False)
        self.norm = nn.BatchNorm2d(outputs)
        self.second = ConvBlock(outputs, outputs)

    def forward(self, x: Tensor, photo: Tensor) -> Tensor:
        return self.second(F.relu(self.norm(self.conv(x) + photo)))


class Up(nn.Module):
    """Enlarge, add the gated skip connection, convolve twice."""

    def __init__(self, inputs: int, skip: int) -> None:
        super().__init__()
        self.gate = Gate(skip)
        self.conv = nn.Sequential(ConvBlock(inputs + skip, skip), ConvBlock(skip, skip))

    def forward(self, below: Tensor, skip: Tensor, hint: Tensor) -> Tensor:
        return self.conv(torch.cat([self.gate(skip, hint), double(below, skip)], 1))


class HintUNet(nn.Module):
    """See the module's text.

    Parameters
    ----------
    widths : sequence of int
        Channels at 1/4, 1/8, 1/16 and 1/32 of the size.
    heads : int
        Of `hscaunet.model.affinity.Affinity`.
    """

    def __init__(self, widths: tuple[int, ...], heads: int) -> None:
        super().__init__()
        w4, w8, w16, w32 = widths
        self.inc = Level(_HINT + _NEAR + 4, w4)
        self.down1 = Level(w4 + 3 * heads + 4, w8)
        self.down2 = Level(w8, w16)
        self.everywhere = nn.Sequential(GlobalAttention(w16), GlobalAttention(w16))
        self.down3 = Level(w16, w32)
        self.up3 = Up(w32, w16)
        self.up2 = Up(w16, w8)
        self.up1 = Up(w8, w4)
        self.outc = nn.Conv2d(w4, 6 + heads, 1)
        with torch.no_grad():  # untrained, it takes what the interpolation says
            self.outc.weight.zero_()
            self.outc.bias.zero_()  # type: ignore[union-attr]
            self.outc.bias[4] = 3.0  # type: ignore[index]

    @property
    def levels(self) -> tuple[Level, ...]:
        """Those that the photo adds to, from fine to coarse."""
        return self.inc, self.down1, self.down2, self.down3

    def forward(
        self,
        photo: Photo,
        count: Tensor,
        said: Tensor,
        spread: Tensor,
        carried: Tensor,
        seen: Tensor,
    ) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """Weigh what the hints say.

        Parameters
        ----------
        photo : Photo
        count, said : Tensor, shape (N, 1 or 2, h, w)
            Pixels of hints in each cell, and the sum of what they say against the guess.
        spread : Tensor, shape (N, 4, h, w)
            That, interpolated: see `hscaunet.model.interpolation.Interpolation`.
        carried, seen : Tensor
            That, carried to what looks alike, at half of this size: see
            `hscaunet.model.affinity.Affinity`.

        Returns
        -------
        change : Tensor, shape (N, 4, h, w)
            Of the guess's coefficients, but for what is interpolated.
        take : Tensor, shape (N, 1, h, w)
            How much of what is interpolated to take, 0..1.
        flow : Tensor, shape (N, 1, h, w)
            How much of what diffusion changes to take, 0..1.
        features : Tensor, shape (N, widths[0], h, w)
            What it knows of the places.
        """
        kind = photo.quarter.dtype
        on = (count > 0).to(count.dtype)
        hint = torch.cat([on, said / count.clamp_min(1)], 1).to(kind)
        around = torch.cat([(count + 1).log(), 30 * _mean_around(on)], 1)
        known = torch.cat([photo.guess, around, spread], 1).to(kind)
        x1 = self.inc(torch.cat([hint, known], 1), photo.quarter)
        mean = torch.cat([count, said], 1).sum((2, 3), keepdim=True)
        number, mean = mean[:, :1], mean[:, 1:] / mean[:, :1].clamp_min(1)
        whole = torch.cat([(number + 1).log() / 8, mean], 1).expand(-1, -1, *seen.shape[2:])
        half = F.max_pool2d(hint.abs(), 2)
        quarter = F.max_pool2d(half, 2)
        known = torch.cat([carried, seen, whole], 1).to(kind)
        x2 = self.down1(torch.cat([F.max_pool2d(x1, 2), known, half[:, :1]], 1), photo.eighth)
        x3 = self.everywhere(self.down2(F.max_pool2d(x2, 2), photo.sixteenth))
        y = self.down3(_halved_up(x3), photo.last)
        y = self.up3(y, x3, quarter)
        y = self.up2(y, x2, half)
        features = self.up1(y, x1, hint)
        given = self.outc(features).float()
        # A mean of the guess, what is interpolated and what is carried; and a correction.
        share = torch.cat([given[:, 4:5], given[:, 6:], torch.zeros_like(given[:, :1])], 1)
        share = share.softmax(1)
        carried = double(carried, given).unflatten(1, (-1, 2))
        level = (carried * share[:, 1:-1, None]).sum(1)
        change = given[:, :4] + torch.cat([level, torch.zeros_like(level)], 1)
        return change, share[:, :1], given[:, 5:6].sigmoid(), features
