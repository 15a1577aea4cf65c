"""Plausible colours for a place of a photo."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import numpy as np
from numpy.typing import NDArray

from .color import lab_from_rgb, rgb_from_lab
from .hint_report import ciede2000
from .hints import Hints
from .hints.shapes import Hint
from .layout import pack_input

_APART = 6.0  # CIEDE2000 below which two suggestions would be one to a person choosing
_HUES, _CHROMA = 12, 35.0  # colours tried out: a hue circle, as saturated as things in photos are
_LIKE = 10.0  # L at this distance counts as another material, by a factor of 1 / e ** 0.5
_BIN = 8  # ab units; the palette's histogram

Run = Callable[[NDArray[np.float32]], NDArray[np.float32]]


def suggest_colors(
    run: Run,
    L: NDArray[np.float32],
    ab: NDArray[np.float32],
    hints: Hints,
    place: Hint,
    image_size: tuple[int, int],
    k: int,
) -> list[tuple[int, int, int]]:
    """Up to `k` colours that a place may have, the likeliest first.

    In this order, leaving out what is within 6 CIEDE2000 of one before: what the network gives
    there now; what it gives with none or only half of the hints; the palette of the colorized
    photo among pixels of that lightness; and the colours of a hue circle, tried out there as
    hints, the ones first that the network spreads furthest around.

    Parameters
    ----------
    run : callable
        (N, 4, h, w) in the network's layout to (N, 2, h, w) in Lab units.
    L : ndarray, shape (h, w), float32
    ab : ndarray, shape (2, h, w), float32
        The network's result for `hints`.
    hints : Hints
    place : Hint
        Where; its colour does not matter.
    image_size : (int, int)
        Height and width of the image that hints and place refer to.
    k : int

    Returns
    -------
    list of (int, int, int)
        RGB at the photo's lightness there. Fewer than `k` next to black and white, where no more
        can be told apart.
    """
    rows, columns = np.nonzero(Hints([place]).rasterize(image_size[::-1], L.shape[::-1])[1])
    row, column = int(rows[0]), int(columns[0])
    light = L[row, column]
    chosen: list[NDArray[np.float32]] = []
    colors: list[tuple[int, int, int]] = []

    def offer(candidates: Iterator[NDArray[np.floating]]) -> bool:
        """Take what is new; whether that is enough."""
        for candidate in candidates:
            if len(colors) == k:
                break
            pair = np.asarray(candidate, np.float32)[None, None]
            rgb = rgb_from_lab(np.array([[light]], np.float32), pair)
            lab = lab_from_rgb(rgb)[0, 0]  # as it can be shown
            if all(ciede2000(lab, other) >= _APART for other in chosen):
                chosen.append(lab)
                colors.append(tuple(rgb[0, 0].tolist()))
        return len(colors) == k

    offer(iter([ab[:, row, column]]))
    offer(_varied(run, L, hints, image_size, row, column))
    if not offer(_palette(L, ab, float(light))):
        offer(_tried(run, L, ab, hints, image_size, row, column))
    return colors


def in_pieces(run: Run, inputs: list[NDArray[np.float32]]) -> NDArray[np.float32]:
    """Run several inputs, as many at once as make four of the usual size: what they need is
    memory, in proportion to their area."""
    at_once = max(1, 4 * 256 * 256 // inputs[0][0, 0].size)
    parts = [inputs[i : i + at_once] for i in range(0, len(inputs), at_once)]
    return np.concatenate([run(np.concatenate(part)) for part in parts])


def _varied(
    run: Run,
    L: NDArray[np.float32],
    hints: Hints,
    image_size: tuple[int, int],
    row: int,
    column: int,
) -> Iterator[NDArray[np.float32]]:
    """The place under the odd hints alone, under the even ones, and under none."""
    kept = [hints[::2], hints[1::2]] if len(hints) > 1 else []
    kept += [hints[:0]] if len(hints) else []
    if kept:
        inputs = [pack_input(L, *some.rasterize(image_size[::-1], L.shape[::-1])) for some in kept]
        yield from in_pieces(run, inputs)[:, :, row, column]


def _palette(
    L: NDArray[np.float32], ab: NDArray[np.float32], light: float
) -> Iterator[NDArray[np.float32]]:
    """Common colours of pixels about as light, the commonest first."""
    alike = np.exp(-0.5 * ((L - light) / _LIKE) ** 2).ravel()
    flat = ab.reshape(2, -1)
    a, b = (np.rint(flat / _BIN) + 32).astype(np.int64)
    index = 64 * a + b
    weight = np.bincount(index, alike, minlength=64 * 64)
    for bin_ in np.argsort(-weight, kind="stable")[:32]:
        if weight[bin_] < 0.002 * alike.sum():
            return
        inside = index == bin_
        yield (flat[:, inside] * alike[inside]).sum(1) / weight[bin_]


def _tried(
    run: Run,
    L: NDArray[np.float32],
    ab: NDArray[np.float32],
    hints: Hints,
    image_size: tuple[int, int],
    row: int,
    column: int,
) -> Iterator[NDArray[np.float32]]:
    """A hue circle, in the order in which the network takes the colours up as a hint there."""
    angles = np.arange(_HUES) * (2 * np.pi / _HUES)
    circle = _CHROMA * np.stack([np.cos(angles), np.sin(angles)], 1).astype(np.float32)
    given, mask = hints.rasterize(image_size[::-1], L.shape[::-1])
    mask[row, column] = True
    inputs = []
    for color in circle:
        given[row, column] = color
        inputs.append(pack_input(L, given, mask))
    results = in_pieces(run, inputs)
    # How far towards the colour its surroundings went.
    around = np.s_[max(0, row - 8) : row + 9, max(0, column - 8) : column + 9]
    moved = (results - ab)[:, :, *around].mean((2, 3))
    uptake = (moved * circle).sum(1)
    order = np.argsort(-uptake, kind="stable")
    yield from circle[order]
    # Paler and stronger ones, where more are asked for than the circle has.
    yield from np.concatenate([circle[order] * np.float32(f) for f in (0.5, 1.6)])
