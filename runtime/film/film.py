"""`Film`: colorize a film from hints on some of its frames."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from ..errors import ArgumentError, ImageError
from ..fullsize.finish import Finish
from ..fullsize.picture import Picture
from ..hints import Hints
from ..layout import network_size
from ..safe_files import check_target
from .clip import Clip, Still
from .container import choose, join
from .encode import Coding, Piece
from .hints import FilmHints
from .motion import Motion
from .parts import Parts
from .travel import REACH, Backwards, Scale, Track, advance, near

if TYPE_CHECKING:
    from ..colorizer import Colorizer

STEADY = 0.85
"""Share of a frame's colours that comes from the frame before, where motion is sure."""

_PIECE = 120  # frames that are encoded together: no more are done again after a kill


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


class Film:
    """A film to colorize. Needs PyAV (the extra ``film``).

    Parameters
    ----------
    path : path
    hints : FilmHints, mapping, Hints, path, optional
        Of frames by their numbers from 0 (see `FilmHints`); hints alone are of the first frame.
        Each travels with what it lies on, forwards until it is lost or the shot ends, and
        backwards, at most 300 frames, to where another hint lies or the shot begins.

    Attributes
    ----------
    width, height : int
        Of the upright frames, in which hints are placed.
    frames : int
        About as many as there are; 0 if the file does not say.
    hints : FilmHints

    Raises
    ------
    ImageError
        If there is no such film, or it cannot be read.
    HintError
        If a hint lies outside the frame, or the hints are none.

    Notes
    -----
    Memory is bounded by frames, never by the film's length. Colours of a frame are the network's
    answer blended with those of the frame before, moved along the optical flow where its check
    holds, so that they do not flicker.
    """

    def __init__(self, path: str | os.PathLike[str], hints: Any = None) -> None:
        self.path = os.fspath(path)
        with Clip(path) as clip:
            self.width, self.height, self.frames = clip.width, clip.height, clip.frames
            self.rate = clip.rate
        self.hints = FilmHints.coerce(hints, (self.width, self.height))

    def __repr__(self) -> str:
        return f"<Film {self.path} {self.width}x{self.height}, {self.hints!r}>"

    def colorized(
        self, colorizer: Colorizer, *, steady: float = STEADY
    ) -> Iterator[tuple[Still, FilmReport]]:
        """Colorized frames one after the other, without writing a file.

        Parameters
        ----------
        colorizer : Colorizer
        steady : float
            0 to below 1: 0 colours each frame for itself.

        Yields
        ------
        Still, FilmReport
            A frame (RGB, uint8 or uint16), and what was done so far.
        """
        _check_steady(steady)
        work = _Work(self, colorizer, steady)
        with Clip(self.path) as clip:
            for still in clip.read():
                yield work.frame(still), work.report
            work.report.notes = [*clip.notes, *self._unreached(work.report.frames)]

    def colorize(
        self,
        colorizer: Colorizer,
        output: str | os.PathLike[str],
        *,
        codec: str | None = None,
        quality: int | None = None,
        steady: float = STEADY,
        progress: Callable[[int, int], Any] | None = None,
    ) -> FilmReport:
        """Write the film in colour, with its sound, subtitles, chapters and metadata.

        Parameters
        ----------
        colorizer : Colorizer
        output : path
            Its ending says the container. What is done is kept in ``OUTPUT.part`` meanwhile; the
            same call goes on there after an interruption, and gives the same file.
        codec : {"h264", "hevc", "vp9", "av1", "ffv1", "prores"}, optional
            By default H.264, HEVC for films of more than 8 bits, VP9 for WebM.
        quality : int, optional
            1 to 100.
        steady : float
            See `colorized`.
        progress : callable, optional
            Called with the number of frames that are done, and of all, after each.

        Returns
        -------
        FilmReport

        Raises
        ------
        ArgumentError
            If `codec`, `quality`, `steady` or the file's ending is none of these.
        ImageError
            If the film cannot be read to its end, or the output not be written.
        """
        _check_steady(steady)
        if quality is not None and not 1 <= quality <= 100:
            raise ArgumentError(f"quality must be 1 to 100, not {quality!r:.60}.")
        target = Path(output)
        check_target(target, ImageError)
        if target.exists() and os.path.samefile(target, self.path):
            raise ImageError(f"{self.path} would be written over itself; name another file.")
        with Clip(self.path) as clip:
            plan = choose(clip, target, codec, quality)
            parts = Parts(target, self._job(colorizer, plan.coding, steady))
            work = _Work(self, colorizer, steady)
            parts.restore(work)
            work.report.notes = clip.notes
            self._run(clip, plan.coding, work, parts, progress)
            if not work.report.frames:
                raise ImageError(f"{self.path} holds no frame that can be decoded.")
            join(clip, plan, parts.paths, parts.folder, target)
            work.report.notes += [*plan.notes, *self._unreached(work.report.frames)]
        parts.remove()
        return work.report

    def _unreached(self, frames: int) -> list[str]:
        late = ", ".join(str(key) for key in self.hints if key >= frames)
        return [f"It has {frames} frames; hints on frame {late} are past its end."] if late else []

    def _run(self, clip: Clip, coding: Coding, work: _Work, parts: Parts, progress: Any) -> None:
        piece = Piece(clip, coding)
        for still in clip.read(work.report.frames):
            made = work.frame(still)
            piece.add(made.pixels, made.pts)
            if piece.frames == _PIECE:
                parts.add(piece, work)
                piece = Piece(clip, coding)
            if progress is not None:
                progress(work.report.frames, max(self.frames, work.report.frames))
        if piece.frames:
            parts.add(piece, work)

    def _job(self, colorizer: Colorizer, coding: Coding, steady: float) -> str:
        """What makes one piece of work another than the next."""
        from .. import __version__

        size = os.path.getsize(self.path)
        with open(self.path, "rb") as file:
            digest = hashlib.sha256(file.read(1 << 20))
            file.seek(max(0, size - (1 << 20)))
            digest.update(file.read())
        engine = [repr(colorizer), colorizer.size, colorizer.exact_hints, colorizer.metadata]
        job = [__version__, size, digest.hexdigest(), self.hints.to_json(), repr(coding), steady]
        return hashlib.sha256(json.dumps([job, engine], default=str).encode()).hexdigest()


def _check_steady(steady: float) -> None:
    if not isinstance(steady, int | float) or not 0 <= steady < 1:
        raise ArgumentError(f"steady must be 0 to below 1, not {steady!r:.60}.")


class _Work:
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


__all__ = ["REACH", "STEADY", "Film", "FilmReport", "LostHint"]
