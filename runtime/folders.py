"""Many photos one after the other: which files, and what became of each."""

from __future__ import annotations

import shutil
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, TextIO

import numpy as np
from numpy.typing import NDArray

from .errors import ColorizationError, HintError, ImageError
from .hints import Hints
from .images import (
    FORMATS,
    READABLE,
    Photo,
    check_writable,
    fits_format,
    read_photo,
    to_rgb8,
    write_image,
)

if TYPE_CHECKING:
    from .colorizer import Colorizer

HINT_SUFFIXES = (".hints.json", ".json")
"""How a photo's hint file in ``--hints-dir`` is named: these, after the photo's own stem."""


@dataclass(frozen=True)
class Job:
    """One photo to colorize.

    Attributes
    ----------
    source, target : Path
    hints : Path or None
    """

    source: Path
    target: Path
    hints: Path | None = None


@dataclass
class Outcome:
    """What became of the jobs.

    Attributes
    ----------
    done, skipped : int
    hinted : int
        Of those done, how many had hints.
    failed : list of (Path, str)
        Photo and why.
    """

    done: int = 0
    hinted: int = 0
    skipped: int = 0
    failed: list[tuple[Path, str]] = field(default_factory=list)


def plan(
    sources: Sequence[str],
    out_dir: Path,
    *,
    hints_dir: Path | None = None,
    extension: str | None = None,
) -> list[Job]:
    """Jobs for files and for the pictures in folders and the folders below them.

    A folder's pictures keep their places below it in `out_dir`, every picture its name;
    `extension` (".png") replaces its own.

    Raises
    ------
    ImageError
        If a file or folder is not there, holds no picture, or two would be written to one place.
    """
    jobs: list[Job] = []
    for source in map(Path, sources):
        if _is(source.is_dir):
            out_inside = source.resolve() in out_dir.resolve().parents
            found = sorted(
                path
                for path in source.rglob("*")
                if path.suffix.lower() in READABLE
                and path.is_file()
                and not path.name.startswith(".")
                and not (out_inside and out_dir.resolve() in path.resolve().parents)
            )
            if not found:
                raise ImageError(f"The folder {source} holds no picture ({', '.join(READABLE)}).")
            pairs = [(path, path.relative_to(source)) for path in found]
        else:
            # A file that is missing fails alone, when its turn comes.
            pairs = [(source, Path(source.name))]
        for path, place in pairs:
            suffix = extension or path.suffix
            suffix = suffix if suffix.lower() in FORMATS else ".png"  # GIF is only read
            jobs.append(
                Job(path, out_dir / place.with_suffix(suffix), _hint_file(hints_dir, place))
            )
    taken: dict[Path, Path] = {}
    for job in jobs:
        try:
            target = job.target.resolve()
        except (OSError, RuntimeError):  # a loop of links; it fails when its turn comes
            target = job.target.absolute()
        if target in taken:
            raise ImageError(
                f"{taken[target]} and {job.source} would both be written to {job.target}; colorize "
                "them into different folders."
            )
        same = _is(job.target.exists) and _is(lambda j=job: j.target.samefile(j.source))
        if same or target == job.source.resolve():
            raise ImageError(f"{job.source} would be written over itself; name another --out-dir.")
        taken[target] = job.source
    return jobs


def _hint_file(folder: Path | None, place: Path) -> Path | None:
    if folder is None:
        return None
    # At its place in the tree first, then all in one folder.
    for name in (place, Path(place.name)):
        for suffix in HINT_SUFFIXES:
            path = folder / name.with_suffix(suffix)
            if _is(path.is_file):
                return path
    return None


def _is(test: Callable[[], bool]) -> bool:
    """What a path is, False where the system refuses to say."""
    try:
        return test()
    except (OSError, ValueError, RuntimeError):
        return False


def fit_hints(hints: Hints, width: int, height: int) -> Hints:
    """Hints of the same picture at another size, brought to this one."""
    if hints.image_size in (None, (width, height)):
        return hints
    return hints.scaled(width, height)


def fit_target(pixels: NDArray[Any], target: Path) -> tuple[NDArray[Any], list[str]]:
    """Pixels that the target's format can hold, and what had to be given up for it."""
    kind = FORMATS[target.suffix.lower()]
    if fits_format(kind, pixels) is None:
        return pixels, []
    fitting, lost = to_rgb8(pixels), []
    if pixels.dtype != np.uint8:
        lost.append("more than 8 bits a channel")
    if pixels.ndim == 3 and pixels.shape[2] == 4:
        with_alpha = np.dstack([fitting, to_rgb8(pixels[..., 3])[..., 0]])
        if fits_format(kind, with_alpha) is None:
            fitting = with_alpha
        else:
            lost.append("alpha")
    return fitting, [f"{kind} cannot hold {' or '.join(lost)}; written without."]


def run_jobs(
    jobs: Sequence[Job],
    colorizer: Colorizer,
    *,
    max_pixels: int,
    quality: int | None = None,
    skip_existing: bool = False,
    stream: TextIO | None = None,
) -> Outcome:
    """Colorize photo after photo; one that fails is told and left behind.

    The next photo is read while one is worked on. An interrupt leaves no half-written file.

    Parameters
    ----------
    jobs : sequence of Job
    colorizer : Colorizer
    max_pixels : int
        See `runtime.images.read_photo`.
    quality : int, optional
        See `runtime.images.encode_image`.
    skip_existing : bool
        Leave out what an earlier run has written.
    stream : text stream, optional
        For notes, errors and, on a terminal, progress; standard error unless given.
    """
    stream = sys.stderr if stream is None else stream
    outcome = Outcome()
    bar = _Bar(len(jobs), stream)
    waiting = [job for job in jobs if not (skip_existing and job.target.exists())]
    outcome.skipped = len(jobs) - len(waiting)
    bar.advance(outcome.skipped)
    for job, reading in _read_ahead(waiting, max_pixels):
        bar.show(job.source.name)
        try:
            photo, hints = reading.result()
            for note in photo.notes:
                bar.write(f"note: {job.source}: {note}")
            job.target.parent.mkdir(parents=True, exist_ok=True)
            check_writable(job.target)
            colored = colorizer.colorize(photo.pixels, hints)
            pixels, notes = fit_target(colored, job.target)
            for note in notes:
                bar.write(f"note: {job.source}: {note}")
            write_image(job.target, pixels, photo.metadata, quality=quality)
            outcome.done += 1
            outcome.hinted += len(hints) > 0
        except ColorizationError as error:
            outcome.failed.append((job.source, str(error)))
            bar.write(f"error: {error}")
        except Exception as error:  # whatever it is, the photos after it are not to blame
            outcome.failed.append((job.source, str(error)))
            bar.write(f"error: {job.source}: {type(error).__name__}: {error}")
        bar.advance()
    bar.close()
    return outcome


def _read_ahead(
    jobs: Sequence[Job], max_pixels: int
) -> Iterator[tuple[Job, Future[tuple[Photo, Hints]]]]:
    def read(job: Job) -> tuple[Photo, Hints]:
        photo = read_photo(job.source, max_pixels=max_pixels)
        height, width = photo.pixels.shape[:2]
        try:
            hints = Hints() if job.hints is None else Hints.load(job.hints)
            hints = fit_hints(hints, width, height)
            hints.check(height, width)
        except HintError as error:
            name = "" if str(job.hints) in str(error) else f"{job.hints}: "
            raise HintError(f"{name}{error}") from None
        return photo, hints

    with ThreadPoolExecutor(1, "hscaunet-read") as pool:
        ahead = [(job, pool.submit(read, job)) for job in jobs[:1]]
        for following in [*jobs[1:], None]:
            job, reading = ahead.pop()
            reading.exception()  # wait: one photo ahead, not all of them
            if following is not None:
                ahead.append((following, pool.submit(read, following)))
            yield job, reading
            if following is None:
                return


class _Bar:
    """A line of progress on a terminal; nothing elsewhere."""

    def __init__(self, total: int, stream: TextIO) -> None:
        self.total, self.stream, self.count, self.name = total, stream, 0, ""
        self.live = total > 1 and stream.isatty()
        self.started = time.monotonic()

    def show(self, name: str) -> None:
        self.name = name
        if self.live:
            width = shutil.get_terminal_size().columns
            done = 24 * self.count // max(1, self.total)
            seconds = time.monotonic() - self.started
            rate = f"{seconds / self.count:.1f} s each  " if self.count else ""
            line = f"[{'#' * done}{'.' * (24 - done)}] {self.count}/{self.total}  {rate}{name}"
            self.stream.write("\r" + line[: width - 1].ljust(width - 1))
            self.stream.flush()

    def advance(self, count: int = 1) -> None:
        self.count += count
        self.show(self.name)

    def write(self, text: str) -> None:
        self._clear()
        self.stream.write(text + "\n")
        self.show(self.name)

    def close(self) -> None:
        self._clear()
        self.stream.flush()

    def _clear(self) -> None:
        # Blanks, not an escape sequence: Windows consoles print those.
        if self.live:
            self.stream.write("\r" + " " * (shutil.get_terminal_size().columns - 1) + "\r")
