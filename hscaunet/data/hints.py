"""Hints painted batch-wise from photos' own colours, for training and evaluation."""

from __future__ import annotations

import torch
from torch import Tensor

from runtime.hints import cell_span
from runtime.layout import NEUTRAL, normalize_ab


def pack_input(L: Tensor, ab: Tensor, mask: Tensor) -> Tensor:
    """Lay out tensors for the network, as `runtime.layout.pack_input` does arrays.

    Parameters
    ----------
    L : Tensor, shape (N, 1, H, W)
        0..100.
    ab : Tensor, shape (N, 2, H, W)
        Lab units.
    mask : Tensor, shape (N, 1, H, W), bool

    Returns
    -------
    Tensor, shape (N, 4, H, W)
    """
    hint = torch.where(mask, normalize_ab(ab), torch.full_like(ab, NEUTRAL))
    return torch.cat([L / 100, hint, mask.to(L.dtype)], 1)


def paint_patches(
    ab: Tensor, x: Tensor, y: Tensor, size: Tensor, count: Tensor, largest: int | None = None
) -> tuple[Tensor, Tensor]:
    """Reveal the mean colour of square patches.

    Parameters
    ----------
    ab : Tensor, shape (N, 2, H, W)
        The photos' colours, any scale.
    x, y, size : Tensor, shape (N, K), int64
        Centres and sides of up to K patches a photo (`runtime.hints.cell_span` says what a patch
        covers).
    count : Tensor, shape (N,), int64
        How many of the K to use. Where patches overlap the later wins.
    largest : int, optional
        No size is above this; found out, for which a GPU must be waited for, unless given.

    Returns
    -------
    hint : Tensor, shape (N, 2, H, W)
        0 outside the patches.
    mask : Tensor, shape (N, 1, H, W), bool
    """
    n, _, height, width = ab.shape
    k = x.shape[1]
    if largest is None:
        largest = int(size.max()) if k else 0
    if k == 0 or largest == 0:
        return torch.zeros_like(ab), torch.zeros_like(ab[:, :1], dtype=torch.bool)
    left, right = cell_span(x, size, 1.0, width)
    top, bottom = cell_span(y, size, 1.0, height)
    step = torch.arange(largest, device=ab.device)
    columns, rows = left.long()[..., None] + step, top.long()[..., None] + step  # (N, K, S)
    used = torch.arange(k, device=ab.device) < count[:, None]
    inside = (
        (columns < right[..., None])[:, :, None, :]
        & (rows < bottom[..., None])[:, :, :, None]
        & used[:, :, None, None]
    ).flatten(2)  # (N, K, S * S)
    columns, rows = columns.clamp(max=width - 1), rows.clamp(max=height - 1)
    cells = (rows[:, :, :, None] * width + columns[:, :, None, :]).flatten(2)
    flat = ab.flatten(2)
    seen = flat.gather(2, cells.flatten(1)[:, None].expand(-1, 2, -1)).unflatten(2, (k, -1))
    seen = (seen * inside[:, None]).sum(3) / inside.sum(2).clamp_min(1)[:, None]  # (N, 2, K)
    # The number of the last patch that covers each cell, counted from 1.
    order = torch.arange(1, k + 1, device=ab.device)[None, :, None] * inside
    winner = torch.zeros((n, height * width), dtype=torch.int64, device=ab.device)
    winner.scatter_reduce_(1, cells.flatten(1), order.flatten(1), "amax")
    mask = winner > 0
    hint = seen.gather(2, (winner - 1).clamp_min(0)[:, None].expand(-1, 2, -1)) * mask[:, None]
    return hint.view_as(ab), mask.view(n, 1, height, width)


def dense_pixels(ab: Tensor, shares: Tensor, generator: torch.Generator) -> tuple[Tensor, Tensor]:
    """Each pixel, with its exact colour, with the probability its photo has in `shares` (N,)."""
    chance = torch.rand(
        (ab.shape[0], 1, *ab.shape[2:]), generator=generator, device=ab.device, dtype=ab.dtype
    )
    mask = chance < shares[:, None, None, None]
    return ab * mask, mask
