"""Colorizing a film frame by frame: what goes from one frame to the next."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from ..fullsize.finish import Finish
from ..fullsize.picture import Picture
from ..hints import Hints
from ..layout import network_size
from .clip import Clip, Still
from .motion import Motion
from .travel import Backwards, Scale, Track, advance, near

if TYPE_CHECKING:
    from ..colorizer import Colorizer
    from .film import Film


@dataclass(frozen=True)
class LostHint:
    """A hint that could not be followed further.

    Attributes
    ----------
    frame : int
        The first frame without it.
    key_frame, number : int
        The frame that it was put on, and which one there, from 0.
    cut : bool
        Whether the shot ended there; else it was covered, left the picture, or was not sure.
    """

    frame: int
    key_frame: int
    number: int
    cut: bool

    def __str__(self) -> str:
        why = "the shot ends" if self.cut else "lost"
        return f"frame {self.frame}: hint {self.number} of frame {self.key_frame}: {why}"


@dataclass
class FilmReport:
    """What `Film.colorize` did.

    Attributes
    ----------
    frames : int
        In the film.
    shots : list of int
        First frame of each shot.
    lost : list of LostHint
    notes : list of str
        What is not carried over, a sentence each.
    """

    frames: int = 0
    shots: list[int] = field(default_factory=lambda: [0])
    lost: list[LostHint] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)


class Work:
    """Colorizing frame by frame: what goes from one to the next."""

    def __init__(self, film: Film, colorizer: Colorizer, steady: float) -> None:
        self._film, self._colorizer, self._steady = film, colorizer, steady
        self._view = network_size(film.height, film.width, colorizer.size)
        self._scale = Scale((film.width, film.height), self._view[::-1])
        self._keys = {
            key: [self._scale.start(key, i, hint) for i, hint in enumerate(hints)]
            for key, hints in film.hints.items()
        }
        self.report = FilmReport()
        self._tracks: list[Track] = []
        self._L: NDArray[np.float32] | None = None
        self._ab: NDArray[np.float32] | None = None
        self._ahead: Backwards | None = None

    def frame(self, still: Still) -> Still:
        """The next frame in colour."""
        view = self._colorizer._view(still.pixels, None)
        number = still.number
        motion = None if self._L is None else Motion(self._L, view.L)
        self._travel(number, motion)
        hints = self._hints(number)
        ab = self._answer(view, hints)
        if motion is not None and not motion.cut and self._ab is not None:
            ab = self._steadied(view, ab, motion, number)
        self._L, self._ab = view.L, ab
        self.report.frames = number + 1
        return Still(number, still.pts, view.picture.join(ab, Finish.of(hints)))

    def _travel(self, number: int, motion: Motion | None) -> None:
        """Move all hints to this frame."""
        if motion is None:
            return
        lost = self.report.lost
        self._tracks = advance(
            self._tracks,
            motion,
            lambda track: lost.append(LostHint(number, track.key, track.number, motion.cut)),
        )
        if motion.cut:
            self.report.shots.append(number)

    def _hints(self, number: int) -> Hints:
        """Those of this frame: what has travelled here from either side, and its own on top."""
        before = self._tracks
        new = self._keys.get(number, [])
        # A hint that lies where another has come to takes its place.
        self._tracks = [t for t in before if not any(near(t, one) for one in new)] + new
        back = [
            t for t in self._from_ahead(number) if not any(near(t, one) for one in self._tracks)
        ]
        self._before = self._made(back + before)
        return self._made(back + self._tracks)

    def _made(self, tracks: list[Track]) -> Hints:
        hints = [hint for hint in map(self._scale.hint, tracks) if hint is not None]
        size = self._film.width, self._film.height
        return Hints(hints, image_size=size, look=self._film.hints.look)

    def _from_ahead(self, number: int) -> list[Track]:
        if self._ahead is None:
            later = {key: tracks for key, tracks in self._keys.items() if key > number}
            self._ahead = Backwards(self._greys(number), later, self._keys)
        return self._ahead.at(number)

    def _greys(self, first: int) -> Iterator[tuple[int, NDArray[np.float32]]]:
        """L of the frames from one on, read a second time, ahead of the work."""
        with Clip(self._film.path) as clip:
            for still in clip.read(first):
                picture = Picture(still.pixels, self._colorizer._threads)
                yield still.number, picture.lightness(*self._view)

    def _answer(self, view: Any, hints: Hints) -> NDArray[np.float32]:
        ab: NDArray[np.float32] = self._colorizer._ab(view.inputs(hints))
        return ab.reshape(-1, *ab.shape[2:])

    def _steadied(
        self, view: Any, ab: NDArray[np.float32], motion: Motion, number: int
    ) -> NDArray[np.float32]:
        """The answer, blended with the colours of the frame before where motion is sure."""
        assert self._ab is not None
        if len(ab) != len(self._ab):
            return ab  # bounded areas have come or gone
        news: Any = 0.0
        if number in self._keys:
            # What new hints change is there at once; the rest stays as steady as ever.
            old = self._answer(view, self._before)
            if len(old) != len(ab):
                return ab
            news, ab = ab - old, old
        share = self._steady * motion.holds
        return np.asarray(ab + share * (motion.warp(self._ab) - ab) + news, np.float32)

    # What a piece keeps of it

    def state(self) -> dict[str, Any]:
        """For `restore`."""
        tracks = [(t.key, t.number, t.points.tolist()) for t in self._tracks]
        report = self.report
        lost = [(one.frame, one.key_frame, one.number, one.cut) for one in report.lost]
        text = json.dumps([tracks, report.frames, report.shots, lost])
        return {"ab": self._ab, "L": self._L, "work": np.frombuffer(text.encode(), np.uint8)}

    def restore(self, piece: Any) -> None:
        """Go on after a piece."""
        tracks, frames, shots, lost = json.loads(piece["work"].tobytes())
        self._ab, self._L = piece["ab"], piece["L"]
        self._tracks = [
            Track(key, number, self._film.hints[key][number], np.array(points, np.float64))
            for key, number, points in tracks
        ]
        rows = [LostHint(*row) for row in lost]
        self.report = FilmReport(frames, shots, rows, self.report.notes)
