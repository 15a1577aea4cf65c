"""``python -m runtime FILM -o OUT``: what the command line does with a film."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable
from typing import TYPE_CHECKING

from ..errors import ArgumentError
from ..hints import Hints, parse_hint
from ..look import Look
from ..progress import Bar
from .film import Film
from .hints import FilmHints

if TYPE_CHECKING:
    from ..colorizer import Colorizer

# What is for photos alone: its place among the arguments, and its name.
_OF_PHOTOS = {
    "layer": "--layer",
    "hint_image": "--hint-image",
    "keep": "--keep",
    "keep_grey": "--keep-grey",
    "only_inside": "--only-inside",
    "report": "--report",
    "lightness": "--lightness",
    "levels": "--levels",
    "even_paper": "--even-paper",
    "page": "--page",
    "max_pixels": "--max-pixels",
    "tolerant": "--tolerant",
    "in_place": "--in-place",
    "no_metadata": "--no-metadata",
    "provenance": "--provenance",
}


def run(args: argparse.Namespace, engine: Callable[[], Colorizer]) -> int:
    """Colorize the one film of the arguments; the exit status.

    Raises
    ------
    ColorizationError
        A sentence for the person.
    """
    given = [name for key, name in _OF_PHOTOS.items() if getattr(args, key)]
    if given:
        go = "goes" if len(given) == 1 else "go"
        raise ArgumentError(f"{', '.join(given)} {go} with photos, not with a film.")
    (source,) = args.photos
    if args.output == "-":
        raise ArgumentError("A film cannot be written to standard output; name a file by -o.")
    if args.hints == "-":
        raise ArgumentError("The hints of a film are read from a file; name it by --hints.")
    given_hints = FilmHints.load(args.hints) if args.hints else None
    film = Film(source, given_hints)
    size = film.width, film.height
    if given_hints is not None and given_hints.image_size not in (None, size):
        wide, high = given_hints.image_size
        print(
            f"note: the hints are for {wide}x{high} pixels and are scaled to {size[0]}x{size[1]}.",
            file=sys.stderr,
        )
    film.hints = _hints(args, film)
    colorizer = engine()
    bar = Bar(max(2, film.frames), sys.stderr)

    def progress(done: int, total: int) -> None:
        bar.total = max(2, total)
        bar.count = done
        bar.show(source)

    try:
        report = film.colorize(
            colorizer, args.output, codec=args.codec, quality=args.quality, progress=progress
        )
    except KeyboardInterrupt:
        bar.close()
        print("interrupted; the same command goes on where it was stopped.", file=sys.stderr)
        return 130
    finally:
        bar.close()
    for note in report.notes:
        print(f"note: {source}: {note}", file=sys.stderr)
    for one in report.lost:
        print(f"note: {source}: {one}", file=sys.stderr)
    shots = f"{len(report.shots)} shot{'s' if len(report.shots) > 1 else ''}"
    frames = f"{report.frames} frame{'s' if report.frames > 1 else ''}"
    print(f"{args.output}: {film.width}x{film.height}, {frames}, {shots}, {colorizer!r}")
    return 0


def _hints(args: argparse.Namespace, film: Film) -> FilmHints:
    """Those of the file, those typed on the first frame over them, and the look."""
    size = film.width, film.height
    frames = dict(film.hints)
    typed = Hints([parse_hint(text) for text in args.hint])
    if typed:
        frames[0] = Hints(frames.get(0, ()), image_size=size) + typed
    names = ("saturation", "warmth", "strength")
    given = {n: value for n in names if (value := getattr(args, n)) is not None}
    look = Look(**{**film.hints.look.to_row(), **given})
    return FilmHints.coerce(FilmHints(frames, image_size=size, look=look), size)
