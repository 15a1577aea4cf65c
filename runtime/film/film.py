"""`Film`: colorize a film from hints on some of its frames."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..errors import ArgumentError, ImageError
from ..safe_files import check_target
from .clip import Clip, Still
from .container import choose, join
from .encode import Coding, Piece
from .hints import FilmHints
from .parts import Parts
from .work import FilmReport, LostHint, Work

if TYPE_CHECKING:
    from ..colorizer import Colorizer

STEADY = 0.85
"""Share of a frame's colours that comes from the frame before, where motion is sure."""

_PIECE = 120  # frames that are encoded together: no more are done again after a kill


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
        work = Work(self, colorizer, steady)
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
            work = Work(self, colorizer, steady)
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

    def _run(self, clip: Clip, coding: Coding, work: Work, parts: Parts, progress: Any) -> None:
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


__all__ = ["STEADY", "Film", "FilmReport", "LostHint"]
