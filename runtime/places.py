"""Where another hint would tell the network most."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from .fullsize.finish import Area
from .hints import Hints
from .layout import pack_input
from .suggest import Run, in_pieces

_ROWS = 7  # candidates lie on a grid of about so many rows and columns
_PROBE = 30.0  # ab units by which a probe differs from what is there
_SIDE = 3  # cells of a probe, at half the size that a click in training has 5 at
_ASKED = 16  # of the hints that are there, the last so many are asked how far they reach
_LEAST = 0.02  # share of the photo that a place must still gain for


def next_places(
    run: Run,
    L: NDArray[np.float32],
    ab: NDArray[np.float32],
    hints: Hints,
    image_size: tuple[int, int],
    k: int,
) -> list[tuple[int, int]]:
    """Up to `k` places, the one that tells most first.

    A probe of another colour is put at each place of a grid, and what the network makes of it
    shows how far a hint there reaches. Places are then taken one after the other, each for what it
    reaches that those before it do not: the greedy way to cover a photo, which is never worse than
    63 % of the best (Nemhauser, Wolsey, Fisher 1978). What a probe in the place of a hint reaches
    is covered from the beginning.

    Parameters
    ----------
    run : callable
        (N, 4, h, w) in the network's layout to (N, 2, h, w) in Lab units.
    L : ndarray, shape (h, w), float32
    ab : ndarray, shape (2, h, w), float32
        The network's result for `hints`.
    hints : Hints
    image_size : (int, int)
        Height and width of the image that the hints refer to.
    k : int

    Returns
    -------
    list of (int, int)
        (x, y) in pixels of the image. Fewer than `k` where nothing more is to be gained.
    """
    high, wide = L.shape
    given, mask = hints.rasterize(image_size[::-1], (wide, high))
    owner = hints.owners(image_size[::-1], (wide, high))
    rows, columns = _grid(L, mask)
    if not len(rows):
        return []
    cells = [_square(row, column, mask) for row, column in zip(rows, columns, strict=True)]
    there = [owner == i for i in np.unique(owner[mask])[-_ASKED:]]
    inputs = []
    for probed in [*cells, *there]:
        colors = given.copy()
        colors[probed] = _probe(ab[:, probed].mean(axis=1))
        inputs.append(pack_input(L, colors, mask | probed))
    moved = np.linalg.norm(in_pieces(run, inputs) - ab, axis=1)
    reach = np.clip(moved / _PROBE, 0, 1)
    free = _free(hints, image_size, L.shape)
    reach, covered = reach[: len(cells)], reach[len(cells) :].max(axis=0, initial=0)
    chosen: list[tuple[int, int]] = []
    while len(chosen) < k:
        gain = (np.maximum(reach - covered, 0) * free).mean(axis=(1, 2))
        best = int(gain.argmax())
        if gain[best] <= (_LEAST if chosen else 0):
            break
        covered = np.maximum(covered, reach[best])
        x = int((columns[best] + 0.5) * image_size[1] / wide)
        y = int((rows[best] + 0.5) * image_size[0] / high)
        chosen.append((x, y))
        reach[best] = 0
    return chosen


def _square(row: int, column: int, mask: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """Cells of a probe."""
    cells = np.zeros_like(mask)
    half = _SIDE // 2
    cells[max(0, row - half) : row + half + 1, max(0, column - half) : column + half + 1] = True
    return cells


def _free(hints: Hints, image_size: tuple[int, int], shape: tuple[int, ...]) -> Any:
    """1 where a hint may change something, 0 in areas that are kept."""
    if not hints.kept:
        return np.float32(1)
    known = Hints(image_size=image_size[::-1]) + hints
    kept = [Area(keep) for keep in known.scaled(shape[1], shape[0]).kept]
    return 1 - np.max([area.pixels(slice(0, shape[0]), shape[1]) for area in kept], axis=0)


def _probe(ab: NDArray[np.float32]) -> NDArray[np.float32]:
    """A colour `_PROBE` away: across grey from what is there, or warm if that is grey."""
    strength = float(np.hypot(*ab))
    away = -ab / strength if strength > 4 else np.array([0.6, 0.8], np.float32)
    return ab + np.float32(_PROBE) * away


def _grid(
    L: NDArray[np.float32], mask: NDArray[np.bool_]
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Candidates: in each cell of a grid the evenest place that no hint covers."""
    import cv2

    high, wide = L.shape
    step = max(8, round((high * wide) ** 0.5 / _ROWS))
    smooth = cv2.GaussianBlur(L, (0, 0), 2)
    uneven = cv2.GaussianBlur(np.abs(L - smooth), (0, 0), 3) + mask * np.float32(1e3)
    found = []
    for top in range(0, high, step):
        for left in range(0, wide, step):
            part = uneven[top : top + step, left : left + step]
            row, column = np.unravel_index(part.argmin(), part.shape)
            if part[row, column] < 1e3:
                found.append((top + row, left + column))
    rows, columns = np.array(found, np.int64).reshape(-1, 2).T
    return rows, columns
