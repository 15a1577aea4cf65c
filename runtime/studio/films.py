"""A film as photos: frames of it, spread over its length, each of which may be a key frame."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path

from ..errors import ImageError
from ..progress import Bar

MOST = 48
"""Frames of one film that the page offers at most."""


def key_frames(film: Path, folder: Path, most: int = MOST) -> dict[Path, int]:
    """Write frames of a film into a folder, as PNG, and say which each is.

    About one for each second, no more than `most`, evenly spread; the first is the film's first.

    Raises
    ------
    ImageError
        If the film cannot be read.
    MissingDependencyError
        If PyAV is not installed.
    """
    from ..film.clip import Clip
    from ..images import write_image

    found: dict[Path, int] = {}
    with Clip(film) as clip:
        every = max(1, round(clip.rate), -(-clip.frames // most))
        digits = len(str(max(clip.frames, 1)))
        bar = Bar(max(2, clip.frames), sys.stderr)
        bar.show(film.name)
        for still in clip.read(wanted=_spread(every, most)):
            path = folder / f"{film.stem} frame {still.number:0{digits}d}.png"
            write_image(path, still.pixels)
            found[path] = still.number
            bar.count = still.number
            bar.show(film.name)
        bar.close()
        for note in clip.notes:
            print(f"note: {film}: {note}", file=sys.stderr)
    if not found:
        raise ImageError(f"{film} holds no frame that can be decoded.")
    return found


def _spread(every: int, most: int) -> Callable[[int], bool]:
    return lambda number: number % every == 0 and number // every < most
