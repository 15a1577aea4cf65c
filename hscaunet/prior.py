"""A first guess of the colours from what is in the picture, and which hints concern what.

Three things come out of the features of `hscaunet.backbone`: colours without any hint; colours
carried from each hint to what looks like the place where it lies, wherever that is in the picture;
and how little a hint says about a place, by which its colour fades. `hscaunet.grid` then
interpolates what the hints still lack.
"""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from hscaunet.backbone import CHANNELS, Backbone

FINE = 48
"""Channels at a quarter of the size."""

# Colours spread over a few hundredths of the 0..1 scale; inside they are numbers near 1.
_GAIN = 10.0
# Hints are gathered in so many cells each way, whatever the size: what compares every place with
# every cell would else grow with the square of the area. 16 px at 256x256.
_LATTICE = 16
_WHOLE = 32.0  # length of a side, in the unit of the reach
_NEAR = 5  # cells of 8 pixels
_GUIDES = 4  # planes of the diffusion's guide
_SLOPE = 4.0  # the same for how colours change with L
_LONE = 0.5  # of `Prior.rarity`: with two hints apart it is 1/8


def _enlarge(x: Tensor, like: Tensor) -> Tensor:
    """Bilinear, cut to the size of `like`: an odd size was rounded up when it was halved."""
    x = F.interpolate(x, scale_factor=2.0, mode="bilinear", align_corners=False)
    return x[..., : like.shape[2], : like.shape[3]]


def _lattice(length: int, like: Tensor) -> tuple[Tensor, Tensor]:
    """Places of lines (length, 1), and which of `_LATTICE` equal parts each lies in, 0 or 1.

    The whole length is `_WHOLE`.
    """
    line = torch.arange(length, device=like.device, dtype=like.dtype)[:, None]
    part = torch.arange(_LATTICE, device=like.device, dtype=like.dtype)
    inside = (((line + 0.5) * (_LATTICE / length)).floor() == part).to(like.dtype)
    return line * (_WHOLE / length), inside


class _Conv(nn.Sequential):
    def __init__(self, inputs: int, outputs: int, kernel: int = 3) -> None:
        super().__init__(
            nn.Conv2d(inputs, outputs, kernel, padding=kernel // 2, bias=False),
            nn.BatchNorm2d(outputs),
            nn.ReLU(inplace=True),
        )


class Prior(nn.Module):
    """See the module's text.

    Parameters
    ----------
    width : int
        Channels at 1/8 of the size.
    heads, depth : int
        Of the comparison of places: numbers of embeddings, and of each one's dimensions.
    lone_hint : float
        Share that is kept of what a single hint changes of the guess.
    lone_near : float
        A single hint whose mean colour is nearer than this to the guess there, in ab of Lab, tells
        nothing new of the rest of the picture: see `heard`.
    """

    def __init__(
        self,
        width: int = 96,
        heads: int = 4,
        depth: int = 12,
        lone_hint: float = 1.0,
        lone_near: float = 0.0,
    ) -> None:
        super().__init__()
        self.lone_hint, self.lone_near = lone_hint, lone_near
        self.heads, self.depth = heads, depth
        self.backbone = Backbone()
        quarter, eighth, sixteenth, last = CHANNELS
        self.reduce4 = nn.Conv2d(quarter, 24, 1)
        self.reduce8 = nn.Conv2d(eighth, width, 1)
        self.reduce16 = nn.Conv2d(sixteenth, width, 1)
        self.reduce32 = nn.Conv2d(last, width, 1)
        self.whole = nn.Conv2d(last, width, 1)
        self.join = nn.Sequential(
            nn.BatchNorm2d(width), nn.ReLU(inplace=True), _Conv(width, width), _Conv(width, width)
        )
        self.guess = nn.Conv2d(width, 2, 1)
        self.embed = nn.Conv2d(width, heads * depth, 1)
        self.doubt = nn.Conv2d(width, heads, 1)
        self.log_reach = nn.Parameter(torch.linspace(-1.0, -3.5, heads))  # 1 / distance in cells
        inner = 2 + 3 * heads + 3 + 3
        self.mix = nn.Sequential(_Conv(width + inner, width), _Conv(width, width))
        self.fine = nn.Sequential(_Conv(width + 24 + 2, FINE), _Conv(FINE, FINE))
        self.out = nn.Conv2d(FINE, 5, 1)
        self.guide = nn.Conv2d(FINE, _GUIDES, 1)
        self.log_few = nn.Parameter(torch.tensor(math.log(20.0)))
        with torch.no_grad():  # untrained, it guesses no colour
            self.out.weight.zero_()
            self.out.bias.zero_()
            self.out.bias[4] = -3.0
            self.doubt.weight.mul_(0.1)
            self.doubt.bias.fill_(-2.0)
            self.guess.weight.zero_()
            self.guess.bias.zero_()

    def extra_repr(self) -> str:
        """What the weights do not tell."""
        return f"lone_hint={self.lone_hint}, lone_near={self.lone_near}"

    @property
    def joined(self) -> tuple[nn.Conv2d, ...]:
        """The convolutions whose sum `join`'s first BatchNorm takes; the first one at its size."""
        return self.reduce8, self.reduce16, self.reduce32, self.whole

    def forward(
        self, L: Tensor, ab: Tensor, mask: Tensor
    ) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor | None, Tensor]:
        """Guess.

        Parameters
        ----------
        L, ab, mask : Tensor
            See `hscaunet.grid.HintGrid.steps`.

        Returns
        -------
        alone, guess : Tensor, shape (N, 2, H, W)
            ab, centred: what the picture alone says, and with the hints.
        doubt, guide : Tensor, shape (N, 1 or 4, H / 4, W / 4)
            See `hscaunet.grid.HintGrid.steps`.
        heard : Tensor or None
            See `heard`; None where `lone_near` is 0.
        fine : Tensor, shape (N, 48, H / 4, W / 4)
            What it knows of the places, and of what the hints make of them.
        """
        seen = self._look(L)
        heard = self.heard(self.wide(seen[2].float()), ab, mask) if self.lone_near else None
        alone, told, doubt, guide, fine = self._tell(
            L, ab, mask if heard is None else mask * heard, *seen
        )
        return alone, told, doubt, guide, heard, fine

    def outputs(self, L: Tensor, ab: Tensor, mask: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """The first four that `forward` gives, all hints heard."""
        return self._tell(L, ab, mask, *self._look(L))[:4]

    def _look(self, L: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """What is in the picture, at 1/4 and 1/8 of the size, and the guess without hints."""
        f4, f8, f16, f32 = self.backbone(L)
        x = self.reduce16(f16) + _enlarge(self.reduce32(f32), f16)
        x = self.reduce8(f8) + _enlarge(x, f8)
        x = self.join(x + self.whole(f32.mean((2, 3), keepdim=True)))
        return f4, x, self.guess(x)

    def _tell(
        self, L: Tensor, ab: Tensor, mask: Tensor, f4: Tensor, x: Tensor, guess: Tensor
    ) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor]:
        """What the hints make of it."""
        embedded, doubt = self.embed(x), self.doubt(x)
        with torch.autocast(L.device.type, enabled=False):
            guess = guess.float()
            planes = torch.cat([mask, _GAIN * ab * mask], 1)
            cells = F.avg_pool2d(planes, 8) * 64
            carried, seen = self.carry(embedded.float(), doubt.float(), guess, cells)
            count = cells[:, :1]
            here = cells[:, 1:] / count.clamp_min(1.0)
            whole = cells.sum((2, 3), keepdim=True)
            mean = (whole[:, 1:] / whole[:, :1].clamp_min(1.0)).expand_as(here)
            known = torch.cat(
                [
                    guess,
                    carried,
                    seen,
                    here - guess * (count > 0),
                    (count + 1).log() / 4,
                    mean,
                    ((whole[:, :1] + 1).log() / 8).expand_as(count),
                ],
                1,
            )
        x = self.mix(torch.cat([x, known.to(x.dtype)], 1))
        fine = torch.cat([_enlarge(x, f4), self.reduce4(f4), _enlarge(guess.to(x.dtype), f4)], 1)
        fine = self.fine(fine)
        out, guide = self.out(fine).float(), self.guide(fine).float()
        level = out[:, :2] + _enlarge(guess, f4)
        rarity = self.rarity(cells[:, :1])
        doubt = out[:, 4:].exp() * (1 + self.log_few.exp() * rarity)
        alone, told = self.wide(guess), self.paint(L, torch.cat([level, out[:, 2:4]], 1))
        if self.lone_hint < 1:
            told = told + (1 - self.lone_hint) * rarity * (alone - told)
        return alone, told, doubt, guide, fine

    def heard(self, alone: Tensor, ab: Tensor, mask: Tensor) -> Tensor:
        """Whether the hints tell anything of the picture beyond their own places.

        A single hint that says almost what was guessed does not: spread, it would make the picture
        better or worse by the toss of a coin (docs/training.md).

        Parameters
        ----------
        alone : Tensor, shape (N, 2, H, W)
            The guess without hints, centred ab.
        ab, mask : Tensor
            See `hscaunet.grid.HintGrid.steps`.

        Returns
        -------
        Tensor, shape (N, 1, 1, 1)
            0 or 1.
        """
        share = mask.mean((2, 3), keepdim=True)
        lacks = ((ab - alone) * mask).mean((2, 3), keepdim=True)
        # Both sides times the share, which is 0 where there is no hint: 0 < 0 is not near.
        near = lacks.square().sum(1, keepdim=True) < (share * (self.lone_near / 255)).square()
        lone = self.rarity(F.avg_pool2d(mask, 8) * 64) > _LONE
        return 1 - near.to(mask.dtype) * lone.to(mask.dtype)

    @staticmethod
    def paint(L: Tensor, coefficients: Tensor) -> Tensor:
        """Colours at full size: what a place's mean L has, and how they change with L there."""
        mean = F.avg_pool2d(L, 4)
        wide = F.interpolate(torch.cat([coefficients, mean], 1), scale_factor=4.0, mode="bilinear")
        level, slope, mean = wide.split(2, 1)
        return (level + _SLOPE * slope * (L - mean)) / _GAIN

    @staticmethod
    def wide(alone: Tensor) -> Tensor:
        """The guess without hints, (N, 2, H / 8, W / 8), as centred ab at full size."""
        return F.interpolate(alone, scale_factor=8.0, mode="bilinear") / _GAIN

    def rarity(self, count: Tensor) -> Tensor:
        """How few hints there are, n ** -3, and 0 where there is none: (N, 1, 1, 1).

        Hints are counted, and not their pixels: those that lie within about 20 pixels share one
        count.
        """
        around = F.avg_pool2d(count, _NEAR, 1, _NEAR // 2) * _NEAR**2
        number = (count / around.clamp_min(1e-3)).sum((2, 3), keepdim=True)
        least = number.clamp_min(1)
        return number.clamp_max(1) / (least * least * least)

    def carry(
        self, embedded: Tensor, doubt: Tensor, guess: Tensor, cells: Tensor
    ) -> tuple[Tensor, Tensor]:
        """What the hints say against the guess, carried to each place by likeness.

        A mean of what they say, each weighted by ``n exp(-|e_here - e_there|^2)`` (n pixels of
        hints lie there), and by `doubt` for nothing at all.
        """
        height, width = guess.shape[2:]
        (y, rows), (x, columns) = _lattice(height, guess), _lattice(width, guess)
        count = cells[:, :1]
        lacks = cells[:, 1:] - guess * count
        planes = torch.cat([count, lacks, y * count, x.mT * count, embedded * count], 1)
        gathered = (rows.mT @ planes @ columns).flatten(2)  # (N, planes, cells of the lattice)
        count, means = gathered[:, :1], gathered[:, 1:] / gathered[:, :1].clamp_min(1e-3)
        lacks, there_y, there_x, there = means.split([2, 1, 1, means.shape[1] - 4], 1)
        # n exp(-|e - e'|^2 - d^2): the embeddings' part as one product.
        q = embedded.flatten(2).unflatten(1, (self.heads, self.depth))
        k = there.unflatten(1, (self.heads, self.depth))
        # The count of an empty cell is no matter, but must have a logarithm. (Not by an addition:
        # torch.onnx.export leaves one so small out.)
        log_count = count.clamp_min(1e-12).log()[:, :, None]
        own = log_count - k.square().sum(2, keepdim=True)
        q = torch.cat([2 * q, torch.ones_like(q[:, :, :1]), -q.square().sum(2, keepdim=True)], 2)
        k = torch.cat([k, own, torch.ones_like(own)], 2)
        likeness = (q.mT @ k).unflatten(2, (height, width))  # (N, heads, H, W, cells)
        reach = self.log_reach.exp()[:, None, None]
        down = ((y - there_y)[:, None] * reach).square()
        across = ((x - there_x)[:, None] * reach).square()
        weight = (likeness - down[:, :, :, None] - across[:, :, None]).exp().flatten(2, 3)
        # Nothing is carried from where there is no hint, however small the doubt.
        value = torch.cat([lacks, (count > 0).to(count.dtype)], 1).mT[:, None]
        sums = (weight @ value).mT.unflatten(3, (height, width))
        shares = sums / (sums[:, :, 2:] + doubt.exp()[:, :, None])
        return shares[:, :, :2].flatten(1, 2), shares[:, :, 2]
