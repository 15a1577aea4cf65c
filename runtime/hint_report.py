"""How well each hint's colour survived."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from .color import lab_from_rgb, rgb_from_lab
from .hints import Hints


def ciede2000(one: NDArray[np.floating], other: NDArray[np.floating]) -> NDArray[np.float64]:
    """Colour difference CIEDE2000 of Lab colours, (..., 3) and (..., 3) to (...).

    Sharma, Wu, Dalal 2005, "The CIEDE2000 color-difference formula", with all weights 1. About 1
    is just seen side by side.
    """
    L1, a1, b1 = np.moveaxis(np.asarray(one, np.float64), -1, 0)
    L2, a2, b2 = np.moveaxis(np.asarray(other, np.float64), -1, 0)
    mean7 = ((np.hypot(a1, b1) + np.hypot(a2, b2)) / 2) ** 7
    stretch = 1.5 - 0.5 * np.sqrt(mean7 / (mean7 + 25.0**7))
    a1, a2 = a1 * stretch, a2 * stretch
    C1, C2 = np.hypot(a1, b1), np.hypot(a2, b2)
    h1, h2 = np.arctan2(b1, a1) % (2 * np.pi), np.arctan2(b2, a2) % (2 * np.pi)
    grey = (C1 * C2) == 0
    turn = np.where(grey, 0.0, (h2 - h1 + np.pi) % (2 * np.pi) - np.pi)
    dL, dC, dH = L2 - L1, C2 - C1, 2 * np.sqrt(C1 * C2) * np.sin(turn / 2)
    L, C = (L1 + L2) / 2, (C1 + C2) / 2
    h = np.where(grey, h1 + h2, h1 + turn / 2)
    T = (
        1
        - 0.17 * np.cos(h - np.pi / 6)
        + 0.24 * np.cos(2 * h)
        + 0.32 * np.cos(3 * h + np.pi / 30)
        - 0.20 * np.cos(4 * h - np.deg2rad(63))
    )
    C7 = C**7
    bend = np.deg2rad(60) * np.exp(-(((np.rad2deg(h % (2 * np.pi)) - 275) / 25) ** 2))
    turning = -2 * np.sqrt(C7 / (C7 + 25.0**7)) * np.sin(bend)
    middle = (L - 50) ** 2
    dL = dL / (1 + 0.015 * middle / np.sqrt(20 + middle))
    dC = dC / (1 + 0.045 * C)
    dH = dH / (1 + 0.015 * C * T)
    return np.sqrt(np.maximum(0, dL**2 + dC**2 + dH**2 + turning * dC * dH))


@dataclass(frozen=True)
class HintReport:
    """Hint-consistency of one picture.

    Attributes
    ----------
    differences : tuple of float
        CIEDE2000, for each hint in turn, between its colour at the photo's L and what the result
        has there, mean over its cells of the network. NaN where later hints cover it whole.
    """

    differences: tuple[float, ...]

    @property
    def mean(self) -> float:
        """Mean over the hints; 0 without any."""
        seen = [d for d in self.differences if d == d]
        return sum(seen) / len(seen) if seen else 0.0

    @property
    def worst(self) -> int | None:
        """Number of the hint that survived least, or None."""
        seen = [i for i, d in enumerate(self.differences) if d == d]
        return max(seen, key=self.differences.__getitem__, default=None)


def hint_report(
    L: NDArray[np.float32], ab: NDArray[np.float32], hints: Hints, height: int, width: int
) -> HintReport:
    """Compare the network's result with the hints.

    Parameters
    ----------
    L : ndarray, shape (h, w), float32
        0..100, at the network's size.
    ab : ndarray, shape (2, h, w), float32
        The result, Lab units.
    hints : Hints
    height, width : int
        Size of the image that the hints refer to.
    """
    owner = hints.owners((width, height), L.shape[::-1])
    cells = owner >= 0
    if not len(hints):
        return HintReport(())
    light, number = L[cells][None], owner[cells]
    wanted = lab_from_rgb(hints.colors[None])[0, number, 1:]
    # As pictures show them: clipped to sRGB.
    got, want = (
        lab_from_rgb(rgb_from_lab(light, np.ascontiguousarray(c)[None]))[0]
        for c in (np.moveaxis(ab, 0, -1)[cells], wanted)
    )
    differences = ciede2000(want, got)
    count = np.bincount(number, minlength=len(hints))
    total = np.bincount(number, differences, minlength=len(hints))
    with np.errstate(invalid="ignore"):
        means = total / count
    return HintReport(tuple(means.tolist()))
