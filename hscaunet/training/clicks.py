"""Hints as people give them: a few clicks on one or two things, which may get another colour."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from ..data.hints import paint_patches
from ..data.things import MOST as MOST_THINGS
from ..tensors import lab_from_rgb, rgb_from_lab

MOST = 8
"""Largest number of clicks."""

_LEAST_AREA, _MOST_AREA = 0.008, 0.5  # of the crop, for a thing to be clicked
_TWO = 0.25  # share of the crops in which two things are
_MORE = 0.6  # chance of another click
_SIZES = (2, 7)  # a click's side in pixels, from and to
_MARGIN = 2  # pixels from the thing's border, where it is wide enough
_SOFT = 0.6  # standard deviation, in pixels, of a repainted thing's edge


@dataclass
class Clicked:
    """Crops with clicks.

    Attributes
    ----------
    ab : Tensor, shape (N, 2, H, W)
        The truth, things repainted; Lab units.
    hint, mask : Tensor
        See `hscaunet.data.hints.paint_patches`.
    inside : Tensor, shape (N, 1, H, W), float32
        1 on the things that are clicked.
    repainted : Tensor, shape (N,), bool
    """

    ab: Tensor
    hint: Tensor
    mask: Tensor
    inside: Tensor
    repainted: Tensor


def click(lab: Tensor, labels: Tensor, repaint_share: float, chance: torch.Generator) -> Clicked:
    """Choose things, repaint some of them, and click on each.

    Parameters
    ----------
    lab : Tensor, shape (N, 3, H, W)
    labels : Tensor, shape (N, H, W), uint8
    repaint_share : float
        Of the crops, those whose things get another colour.
    chance : torch.Generator
    """
    n, device = len(lab), lab.device

    def uniform(*shape: int) -> Tensor:
        return torch.rand(shape, generator=chance, device=device)

    things = choose_things(labels, chance)  # (N, 2, H, W)
    count = 1 + (uniform(n).clamp_min(1e-9).log() / math.log(_MORE)).long().clamp(max=MOST - 1)
    two = (uniform(n) < _TWO) & things[:, 1].flatten(1).any(1)
    count = torch.where(two, count.clamp_min(2), count)
    x, y = _places(things, two, chance)
    size = (uniform(n, MOST) * (_SIZES[1] + 1 - _SIZES[0])).long() + _SIZES[0]
    shown = torch.stack([things[:, 0], things[:, 1] & two[:, None, None]], 1).to(lab.dtype)
    repainted = uniform(n) < repaint_share
    ab = _repaint(lab, shown * repainted[:, None, None, None], chance)
    hint, mask = paint_patches(ab, x, y, size.clamp(max=_SIZES[1]), count, _SIZES[1])
    return Clicked(ab, hint, mask, shown.amax(1, keepdim=True), repainted)


def choose_things(labels: Tensor, chance: torch.Generator) -> Tensor:
    """Two different things of each crop: (N, 2, H, W), bool; the second may be empty.

    Drawn in proportion to the root of their area, from those of 0.8 to 50 % of the crop; of a
    crop without any, whatever is there.
    """
    flat = labels.flatten(1).long()
    count = torch.zeros((len(flat), MOST_THINGS + 1), device=labels.device)
    count.scatter_add_(1, flat, torch.ones_like(flat, dtype=count.dtype))
    area = count / flat.shape[1]
    fits = (area > _LEAST_AREA) & (area < _MOST_AREA)
    fits[:, 0] = False  # no thing
    weight = area.sqrt() * fits
    weight = torch.where(fits.any(1, keepdim=True), weight, area)
    first = torch.multinomial(weight, 1, generator=chance)
    rest = weight.scatter(1, first, 0.0)
    lonely = rest.sum(1, keepdim=True) <= 0
    rest = torch.where(lonely, torch.ones_like(rest), rest)
    second = torch.multinomial(rest, 1, generator=chance)
    there = [labels == first[:, :, None], (labels == second[:, :, None]) & ~lonely[:, :, None]]
    return torch.stack(there, 1)


def _places(things: Tensor, two: Tensor, chance: torch.Generator) -> tuple[Tensor, Tensor]:
    """Columns and rows of `MOST` clicks, (N, MOST) each; every other one on the second thing."""
    width = things.shape[3]
    side = 2 * _MARGIN + 1
    inner = 1 - F.max_pool2d(1 - things.float(), side, 1, _MARGIN)
    wide = inner.sum((2, 3), keepdim=True) >= side**2
    inner = torch.where(wide, inner, things.float())
    second = torch.where(two[:, None, None], inner[:, 1], inner[:, 0])
    cells = [
        torch.multinomial(one.flatten(1), MOST // 2, replacement=True, generator=chance)
        for one in (inner[:, 0], second)
    ]
    cell = torch.stack(cells, 2).flatten(1)
    return cell % width, cell // width


def _repaint(lab: Tensor, things: Tensor, chance: torch.Generator) -> Tensor:
    """ab in which each thing, (N, 2, H, W) as 0 or 1, has another colour that sRGB can show.

    Its ab plane is turned by any angle, made stronger or weaker, or nearly grey, and half of the
    time shifted by up to 50.
    """
    n, device = len(lab), lab.device
    angle, gain, grey, length, to = torch.rand((5, n, 2, 1, 1), generator=chance, device=device)
    angle, to = 2 * math.pi * angle, 2 * math.pi * to
    gain = torch.where(grey < 0.1, 0.2 * gain, 0.5 + gain)
    length = 100 * (length - 0.5).clamp_min(0)
    edge = _blur(things)
    ab = lab[:, 1:]
    a, b = lab[:, 1:2], lab[:, 2:3]
    turned = torch.stack(
        [
            gain * (angle.cos() * a - angle.sin() * b) + length * to.cos(),
            gain * (angle.sin() * a + angle.cos() * b) + length * to.sin(),
        ],
        1,
    )  # (N, 2 of ab, 2 things, H, W)
    ab = ab + ((turned - ab[:, :, None]) * edge[:, None]).sum(2)
    # L stays the photo's own, as in the runtime; what sRGB cannot show there is clipped.
    return lab_from_rgb(rgb_from_lab(lab[:, :1], ab).clamp(0, 1))[:, 1:]


def _blur(things: Tensor) -> Tensor:
    """Softened by a fraction of a pixel, as edges in photos are."""
    taps = torch.exp(-0.5 * (torch.tensor([-1.0, 0.0, 1.0], device=things.device) / _SOFT) ** 2)
    kernel = torch.outer(taps, taps) / taps.sum() ** 2
    padded = F.pad(things, (1, 1, 1, 1), mode="replicate").flatten(0, 1)[:, None]
    return F.conv2d(padded, kernel[None, None])[:, 0].unflatten(0, things.shape[:2])
