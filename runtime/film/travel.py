"""Hints that travel: each follows what it lies on, forwards and backwards, until it is lost."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from ..errors import HintError
from ..hints import Hint, Keep, Stroke
from ..hints.collection import AnyHint
from .motion import Motion

REACH = 300
"""Frames that a hint travels backwards at most: so many small greys are held."""

_SIDE = 5  # places a side by which a point is followed, each a pixel of the network's view
_ENOUGH = 0.5  # share of them that must be sure


@dataclass(frozen=True)
class Track:
    """A hint under way.

    Attributes
    ----------
    key : int
        Frame that a person put it on.
    number : int
        Which one of that frame.
    hint : Hint, Stroke, Region or Keep
        As it was put.
    points : ndarray, shape (n, 2), float64
        Where its points lie now, (x, y) in pixels of the network's view: one of a square, those of
        the line or of the corners.
    """

    key: int
    number: int
    hint: AnyHint
    points: NDArray[np.float64] = field(repr=False)


class Scale:
    """Between pixels of the film and those of the network's view."""

    def __init__(self, size: tuple[int, int], view: tuple[int, int]) -> None:
        self.size = size
        self._by = np.array(view, np.float64) / np.array(size, np.float64)

    def start(self, key: int, number: int, hint: AnyHint) -> Track:
        """A hint where it was put.

        Raises
        ------
        HintError
            If it is of a kind that does not travel.
        """
        points = [(hint.x, hint.y)] if isinstance(hint, Hint) else hint.points
        if points is None:
            raise HintError(
                f"Frame {key}, hint {number}: areas given as masks do not travel through a film; "
                "draw a polygon around it."
            )
        places = (np.array(points, np.float64) + 0.5) * self._by - 0.5
        return Track(key, number, hint, places)

    def hint(self, track: Track) -> AnyHint | None:
        """The hint where it lies now, kept inside the film; None of an area that has shrunk to
        nothing."""
        places = np.rint((track.points + 0.5) / self._by - 0.5).astype(int)
        inside = np.clip(places, 0, np.array(self.size) - 1).tolist()
        hint = track.hint
        if isinstance(hint, Hint):
            return replace(hint, x=inside[0][0], y=inside[0][1])
        points = tuple(map(tuple, inside))
        try:
            if isinstance(hint, Keep):
                return Keep(points, grey=hint.grey)
            return replace(hint, points=points)
        except HintError:
            return None


def follow(track: Track, motion: Motion, *, backwards: bool = False) -> Track | None:
    """The hint one frame further; None if it is lost: covered, out of the frame, or not sure."""
    if isinstance(track.hint, Hint):
        moved = _as_one(track.points[0], motion, backwards)
        return None if moved is None else replace(track, points=moved[None])
    spots = _spots(track)
    moved, sure = motion.follow(spots, backwards=backwards)
    if sure.mean() < _ENOUGH or sure.sum() < 3:
        return None
    # The shape goes as its inside does: borders belong half to what lies behind.
    found, _ = cv2.estimateAffinePartial2D(
        spots[sure].astype(np.float32), moved[sure].astype(np.float32), method=cv2.RANSAC
    )
    if found is None:
        return None
    points = track.points @ found[:, :2].T + found[:, 2]
    return replace(track, points=points)


def _as_one(
    point: NDArray[np.float64], motion: Motion, backwards: bool
) -> NDArray[np.float64] | None:
    """A point by the median of what lies around it."""
    reach = np.arange(_SIDE) - _SIDE // 2
    around = np.stack(np.meshgrid(reach, reach), axis=2).reshape(-1, 2).astype(np.float64)
    size = np.array(motion.back.shape[1::-1])
    around = around[((point + around >= 0) & (point + around <= size - 1)).all(axis=1)]
    if not len(around):
        return None
    moved, sure = motion.follow(point + around, backwards=backwards)
    if sure.mean() < _ENOUGH:
        return None
    by: NDArray[np.float64] = np.median((moved - around)[sure], axis=0)
    return by


def _spots(track: Track) -> NDArray[np.float64]:
    """Places in a shape by which it is followed."""
    points = track.points
    if isinstance(track.hint, Stroke):
        if len(points) > 64:
            points = points[np.linspace(0, len(points) - 1, 64).astype(int)]
        reach = np.array([(dx, dy) for dx in (-1, 0, 1) for dy in (-1, 0, 1)], np.float64)
        return (points[:, None] + reach).reshape(-1, 2)
    low, high = points.min(axis=0), points.max(axis=0)
    across = [np.linspace(a, b, 14)[1:-1] for a, b in zip(low, high, strict=True)]
    grid = np.stack(np.meshgrid(*across), axis=2).reshape(-1, 2)
    outline = points.astype(np.float32)[:, None]
    inside = [cv2.pointPolygonTest(outline, tuple(map(float, p)), False) >= 0 for p in grid]
    found = grid[np.array(inside)]
    return found if len(found) >= 6 else np.concatenate([found, points])


@dataclass
class Backwards:
    """Hints of later key frames on the frames before them.

    Parameters
    ----------
    greys : iterator of (int, ndarray)
        Number and L at the network's size of each frame, from the first one that is colorized on.
    keys : dict
        Key frame to its tracks, of those that may travel backwards.
    others : dict
        Of all key frames: where one lies, nothing goes on backwards.
    """

    greys: Iterator[tuple[int, NDArray[np.float32]]]
    keys: dict[int, list[Track]]
    others: dict[int, list[Track]] = field(default_factory=dict)
    _held: deque[tuple[int, NDArray[np.float32]]] = field(
        default_factory=lambda: deque(maxlen=REACH + 1)
    )
    _found: dict[int, list[Track]] = field(default_factory=dict)
    _seen: int = -1

    def at(self, number: int) -> list[Track]:
        """Tracks on a frame; frames are asked for in their order."""
        while self.keys and self._seen < min(max(self.keys), number + REACH):
            following = next(self.greys, None)
            if following is None:
                self.keys = {}
                break
            self._held.append(following)
            self._seen = following[0]
            if self._seen in self.keys:
                self._go_back(self.keys.pop(self._seen), number)
        return self._found.pop(number, [])

    def _go_back(self, tracks: list[Track], first: int) -> None:
        frames = list(self._held)
        for (number, before), (_, after) in zip(frames[-2::-1], frames[::-1], strict=False):
            if not tracks or number < first:
                return
            motion = Motion(before, after)
            if motion.cut:
                return
            moved = (follow(track, motion, backwards=True) for track in tracks)
            there = self.others.get(number, [])
            tracks = [t for t in moved if t is not None and not any(near(t, o) for o in there)]
            self._found.setdefault(number, []).extend(tracks)


def near(one: Track, other: Track, cells: float = 4.0) -> bool:
    """Whether two hints are of one kind, lie on the same spot, and are of about the same extent."""
    if type(one.hint) is not type(other.hint):
        return False
    mine, its = np.ptp(one.points, axis=0), np.ptp(other.points, axis=0)
    apart = np.linalg.norm(one.points.mean(0) - other.points.mean(0))
    return bool(apart < cells and (np.abs(mine - its) <= cells + 0.5 * np.maximum(mine, its)).all())


Lost = Callable[[Track], Any]


def advance(tracks: list[Track], motion: Motion, lost: Lost) -> list[Track]:
    """All hints one frame further; those that are lost are told."""
    going = []
    for track in tracks:
        moved = None if motion.cut else follow(track, motion)
        if moved is None:
            lost(track)
        else:
            going.append(moved)
    return going
