"""Many photos one after the other: which files, and what became of each."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path, PurePath
from typing import TYPE_CHECKING, TextIO

from .errors import ColorizationError, HintError, ImageError
from .hints import Hints
from .images import READABLE, Photo, read_photo
from .images.headers import kind_of, raw_of
from .progress import Bar
from .results import Settings, finish, target_name
from .walk import files_below

if TYPE_CHECKING:
    from .colorizer import Colorizer

HINT_SUFFIXES = (".hints.json", ".json")
"""How a photo's hint file in ``--hints-dir`` is named: these, after the photo's name, with or
without its own ending; in any case of letters."""

# Pictures that no decoder here reads, but that a person may expect to be colorized.
_PICTURES = (
    ".jxl", ".psd", ".psb", ".exr", ".hdr", ".tga", ".pcx", ".ppm", ".pgm", ".pnm", ".svg", ".eps",
    ".xcf", ".nef", ".nrw", ".cr2", ".cr3", ".arw", ".srf", ".dng", ".raf", ".orf", ".rw2", ".pef",
    ".srw", ".x3f", ".3fr", ".iiq", ".mos", ".kdc", ".dcr",
)  # fmt: skip


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
class Plan:
    """What is to be done, and what is left out.

    Attributes
    ----------
    jobs : list of Job
    refused : list of (Path, str)
        Photos that cannot be done whatever comes, and why.
    others : int
        Files in the folders that are no pictures.
    notes : list of str
    """

    jobs: list[Job] = field(default_factory=list)
    refused: list[tuple[Path, str]] = field(default_factory=list)
    others: int = 0
    notes: list[str] = field(default_factory=list)

    def cannot_enter(self, error: OSError) -> None:
        """Leave a folder out."""
        self.refused.append((Path(error.filename), f"it cannot be entered: {error.strerror}"))


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
    in_place: bool = False,
) -> Plan:
    """Jobs for files and for the pictures in folders and the folders below them.

    A folder's pictures keep their places below it in `out_dir`, every picture its name;
    `extension` (".png") replaces its own. Linked folders are followed, each once.

    Raises
    ------
    ImageError
        If a folder holds no picture.
    """
    made = Plan()
    hint_files = _HintFiles(hints_dir, made)
    for source in map(Path, sources):
        if _is(source.is_dir):
            pairs = [(p, p.relative_to(source)) for p in _pictures_in(source, out_dir, made)]
            if not pairs and not made.refused and len(sources) == 1:
                raise ImageError(f"The folder {source} holds no picture ({', '.join(READABLE)}).")
        else:
            # A file that is missing fails alone, when its turn comes.
            pairs = [(source, Path(source.name))]
        for path, place in pairs:
            target = out_dir / target_name(path, place, extension)
            made.jobs.append(Job(path, target, hint_files.of(place)))
    _refuse_clashes(made, in_place)
    made.notes += hint_files.notes()
    return made


def _pictures_in(source: Path, out_dir: Path, made: Plan) -> list[Path]:
    """Pictures in a folder and below, in order; what cannot be entered or read is told."""
    out = _real(out_dir)
    out_inside = _real(source) in out.parents
    found: list[Path] = []
    for path in files_below(source, made.cannot_enter, skip=out if out_inside else None):
        if _is(path.is_file):
            _sort_in(path, found, made)
        elif path.suffix.lower() in (*READABLE, *_PICTURES):
            made.refused.append((path, "it is no file, or a link that leads nowhere"))
        else:
            made.others += 1
    return found


def pictures_in(folder: Path) -> tuple[list[Path], list[tuple[Path, str]]]:
    """Pictures in a folder and below, and what is left out of them, with the reason."""
    made = Plan()
    return _pictures_in(folder, folder / ".none", made), made.refused


def _sort_in(path: Path, found: list[Path], made: Plan) -> None:
    suffix = path.suffix.lower()
    if suffix in READABLE:
        found.append(path)
        return
    try:
        with open(path, "rb") as file:
            head = file.read(4096)
    except OSError as error:
        made.refused.append((path, f"it cannot be read: {error.strerror}"))
        return
    if suffix in _PICTURES or raw_of(head):
        made.refused.append((path, "pictures of this kind are not read; convert it first"))
    elif kind_of(head):
        found.append(path)
    else:
        made.others += 1


def _refuse_clashes(made: Plan, in_place: bool) -> None:
    """Take out the photos that would be written over another's result, or over what is read."""
    taken: dict[Path, Path] = {}
    read = {_real(path) for job in made.jobs for path in (job.source, job.hints) if path}
    kept = []
    for job in made.jobs:
        target, source = _real(job.target), _real(job.source)
        same = target == source or (
            _is(job.target.exists) and _is(lambda j=job: j.target.samefile(j.source))
        )
        why = ""
        if target in taken:
            why = f"it would be written to {job.target}, as {taken[target]} is"
        elif same and not in_place:
            why = "it would be written over itself; add --in-place"
        elif not same and target in read:
            why = f"it would be written over {job.target}, which is read"
        if why:
            made.refused.append((job.source, f"{why}; or name another --out-dir"))
            continue
        taken[target] = job.source
        kept.append(job)
    made.jobs = kept


def _real(path: Path) -> Path:
    """Where a path leads; itself if that cannot be said, which shows when its turn comes."""
    try:
        return path.resolve()
    except (OSError, RuntimeError, ValueError):  # a loop of links, a name that no system knows
        return path.absolute()


def hint_names(place: PurePath) -> Iterator[str]:
    """What a photo's hint file may be called, the likeliest first: at its place in the tree, then
    at the top."""
    for stem in (place, PurePath(place.name)):
        for name in (stem.with_suffix(""), stem):
            for suffix in HINT_SUFFIXES:
                yield name.as_posix() + suffix


def unmatched(left: Sequence[str]) -> str:
    """A sentence on hint files that are of no photo."""
    more = f" and {len(left) - 10} more" if len(left) > 10 else ""
    return f"These hint files match no photo: {', '.join(left[:10])}{more}."


class _HintFiles:
    """The hint files of a folder, each used for a photo or named."""

    def __init__(self, folder: Path | None, made: Plan) -> None:
        self._files: dict[str, Path] = {}
        self._any_case: dict[str, Path] = {}
        self._used: dict[Path, int] = {}
        if folder is not None:
            for path in files_below(folder, made.cannot_enter):
                if path.suffix.lower() == ".json" and _is(path.is_file):
                    name = path.relative_to(folder).as_posix()
                    self._files[name] = path
                    self._any_case.setdefault(name.lower(), path)

    def of(self, place: Path) -> Path | None:
        """The file for a photo."""
        for wanted in hint_names(place):
            path = self._files.get(wanted) or self._any_case.get(wanted.lower())
            if path is not None:
                self._used[path] = self._used.get(path, 0) + 1
                return path
        return None

    def notes(self) -> list[str]:
        """What a person should know of how they were used."""
        notes = [
            f"{path} was used for {count} photos of that name."
            for path, count in self._used.items()
            if count > 1
        ]
        left = [str(path) for path in self._files.values() if path not in self._used]
        if left:
            notes.append(unmatched(left))
        return notes


def _is(test: Callable[[], bool]) -> bool:
    """What a path is, False where the system refuses to say."""
    try:
        return test()
    except (OSError, ValueError, RuntimeError):
        return False


def run_jobs(
    jobs: Sequence[Job],
    colorizer: Colorizer,
    settings: Settings,
    *,
    skip_existing: bool = False,
    stream: TextIO | None = None,
) -> Outcome:
    """Colorize photo after photo; one that fails is told and left behind.

    The next photo is read while one is worked on. An interrupt leaves no half-written file.

    Parameters
    ----------
    jobs : sequence of Job
    colorizer : Colorizer
    settings : Settings
    skip_existing : bool
        Leave out what an earlier run has written.
    stream : text stream, optional
        For notes, errors and, on a terminal, progress; standard error unless given.
    """
    stream = sys.stderr if stream is None else stream
    outcome = Outcome()
    bar = Bar(len(jobs), stream)
    waiting = [job for job in jobs if not (skip_existing and job.target.exists())]
    outcome.skipped = len(jobs) - len(waiting)
    bar.advance(outcome.skipped)
    for job, reading in _read_ahead(waiting, settings):
        bar.show(job.source.name)
        try:
            photo, hints = reading.result()
            job.target.parent.mkdir(parents=True, exist_ok=True)
            settings.check(job.target, job.source, [job.hints] if job.hints else [])
            colored = colorizer.colorize(photo.pixels, hints, lightness=settings.lightness)
            notes = [*photo.notes]
            finish(job.target, colored, photo, hints, colorizer, settings, notes, job.hints)
            for note in notes:
                bar.write(f"note: {job.source}: {note}")
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
    jobs: Sequence[Job], settings: Settings
) -> Iterator[tuple[Job, Future[tuple[Photo, Hints]]]]:
    def read(job: Job) -> tuple[Photo, Hints]:
        photo = read_photo(job.source, **settings.reading)
        height, width = photo.pixels.shape[:2]
        try:
            hints = Hints() if job.hints is None else Hints.load(job.hints)
            hints = settings.looked(hints.fitted(width, height))
            hints.check((width, height))
        except HintError as error:
            name = "" if str(job.hints) in str(error) else f"{job.hints}: "
            raise HintError(f"{name}{error}") from None
        return photo, hints

    with ThreadPoolExecutor(1, "hscaunet-read") as pool:
        ahead = [(job, pool.submit(read, job)) for job in jobs[:1]]
        for following in [*jobs[1:], None]:
            if not ahead:
                return
            job, reading = ahead.pop()
            reading.exception()  # wait: one photo ahead, not all of them
            if following is not None:
                ahead.append((following, pool.submit(read, following)))
            yield job, reading
            if following is None:
                return
