"""``python -m runtime PHOTO... -o OUT | --out-dir DIR``: colorize photos from the command line."""

from __future__ import annotations

import argparse
import contextlib
import io
import os
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING

from .arguments import STANDARD as _STANDARD
from .arguments import build_parser, check

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from .colorizer import Colorizer
    from .hints import AnyHint, Hints
    from .images import Photo
    from .lightness import Lightness
    from .results import Settings


def main(argv: list[str] | None = None) -> int:
    """Run the command line.

    Returns
    -------
    int
        0; 1 after an error, which is printed to standard error as one sentence, or if any photo
        failed; 130 if interrupted.
    """
    for name in ("stdout", "stderr"):  # services and pythonw have none
        if getattr(sys, name) is None:
            setattr(sys, name, _Nowhere())
    parser = build_parser()
    args = parser.parse_args(argv)
    check(parser, args)

    # Only now: --help and wrong options must answer at once.
    import logging
    import warnings

    from .errors import ColorizationError

    logging.basicConfig(
        level=logging.INFO if args.verbose else logging.WARNING, format="%(message)s"
    )
    for stream in (sys.stdout, sys.stderr):
        if hasattr(stream, "reconfigure"):  # a name that the console cannot show must not end it
            stream.reconfigure(errors="backslashreplace")
    warnings.simplefilter("ignore")  # decoders' remarks on damaged tags; what matters is raised
    try:
        status = _one(args) if args.output is not None else _many(args)
        sys.stdout.flush()
        return status
    except ColorizationError as error:
        return _fail(f"error: {error}")
    except KeyboardInterrupt:
        _fail("interrupted; add --skip-existing to go on." if args.out_dir else "interrupted.")
        return 130
    except MemoryError:
        return _fail("error: This photo does not fit the memory of this machine.")
    except BrokenPipeError:  # who read our output has gone
        return _give_up()
    except OSError as error:  # of standard output: files are dealt with where they are written
        _give_up()
        return _fail(f"error: Standard output cannot be written: {error.strerror or error}.")


class _Nowhere(io.TextIOBase):
    """Takes what is printed where there is nobody to read it."""

    def write(self, text: str) -> int:
        return len(text)


def _fail(sentence: str) -> int:
    with contextlib.suppress(OSError):
        print(sentence, file=sys.stderr)
    return 1


def _give_up() -> int:
    """Leave standard output alone: closing it at the end would fail again, with a traceback."""
    with contextlib.suppress(OSError, AttributeError, ValueError):
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    return 1


def _open(args: argparse.Namespace) -> Colorizer:
    from .colorizer import Colorizer

    return Colorizer(
        args.model,
        backend=args.backend,
        device=args.device,
        threads=args.threads,
        size=args.size,
        exact_hints=args.exact_hints,
    )


def _settings(args: argparse.Namespace) -> Settings:
    from .images import MAX_PIXELS
    from .results import Settings

    return Settings(
        max_pixels=args.max_pixels or MAX_PIXELS,
        page=args.page,
        tolerant=args.tolerant,
        quality=args.quality,
        metadata=not args.no_metadata,
        provenance=args.provenance,
        in_place=args.in_place,
        lightness=_lightness(args),
        look={
            name: value
            for name in ("saturation", "warmth", "strength")
            if (value := getattr(args, name)) is not None
        },
    )


def _lightness(args: argparse.Namespace) -> Lightness | None:
    from .lightness import Lightness, parse_levels

    if args.lightness is None and args.levels is None and not args.even_paper:
        return None
    levels = parse_levels(args.levels) if args.levels else (0.0, 1.0)
    return Lightness(args.lightness or "luminance", levels, args.even_paper)


def _standard_input(limit: int) -> bytes:
    from .errors import ImageError

    if sys.stdin is None:
        raise ImageError("Standard input is closed; give the name of a file.")
    try:
        return sys.stdin.buffer.read(limit)
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or error
        raise ImageError(f"Standard input cannot be read: {reason}.") from None


def _one(args: argparse.Namespace) -> int:
    from .errors import ArgumentError, ImageError
    from .film.names import is_film
    from .hints import Hints, parse_hint
    from .results import encoded, finish

    if is_film(args.photos[0]):
        from .film.command import run

        return run(args, lambda: _open(args))
    if args.codec is not None:
        raise ArgumentError("--codec goes with films, not with photos.")
    settings, to_stdout = _settings(args), args.output == _STANDARD
    if to_stdout and isinstance(sys.stdout, _Nowhere):
        raise ImageError("Standard output is closed; give the name of a file by -o.")
    (source,) = args.photos
    if not to_stdout:
        masks = [text.partition(",")[2] for text in args.only_inside]
        files = (args.hints, args.layer, args.hint_image, args.hint_mask, args.keep,
                 args.keep_grey, *masks)  # fmt: skip
        read = [name for name in files if name and name != _STANDARD]
        settings.check(args.output, None if source == _STANDARD else source, read)
    typed = Hints([parse_hint(text) for text in args.hint])
    photo = _read(source, settings)
    height, width = photo.pixels.shape[:2]
    hints = settings.looked(_hints(args, photo) + typed)
    hints.check((width, height))
    colorizer = _open(args)
    report = None
    if args.report:
        colored, report = colorizer.colorize_with_report(
            photo.pixels, hints, lightness=settings.lightness
        )
    else:
        colored = colorizer.colorize(photo.pixels, hints, lightness=settings.lightness)
    notes = [*photo.notes]
    others = (args.hint, args.layer, args.hint_image, args.keep, args.keep_grey, args.only_inside)
    hint_file = None if any(others) or args.hints == _STANDARD else args.hints
    if to_stdout:
        ending = args.format or ".png"
        data = encoded(ending, colored, photo, hints, colorizer, settings, notes, hint_file)
        sys.stdout.buffer.write(data)
        sys.stdout.buffer.flush()
    else:
        target = Path(args.output)
        finish(target, colored, photo, hints, colorizer, settings, notes, hint_file)
    for note in notes:
        print(f"note: {source}: {note}", file=sys.stderr)
    out = sys.stderr if to_stdout else sys.stdout
    plural = "" if len(hints) == 1 else "s"
    print(f"{args.output}: {width}x{height}, {len(hints)} hint{plural}, {colorizer!r}", file=out)
    if report is not None:
        for i, (hint, difference) in enumerate(zip(hints, report.differences, strict=True)):
            print(f"hint {i} at ({hint.x}, {hint.y}) {hint.hex}: {difference:.1f}", file=out)
        print(f"mean CIEDE2000 at the hints: {report.mean:.2f}", file=out)
    return 0


def _read(source: str, settings: Settings) -> Photo:
    from .errors import ImageError
    from .images import MAX_FILE_BYTES, decode_photo
    from .safe_files import read_limited

    if source == _STANDARD:
        data = _standard_input(MAX_FILE_BYTES)
        return decode_photo(data, name="standard input", **settings.reading)
    if Path(source).is_dir():
        raise ImageError(f"{source} is a folder; use --out-dir for its pictures.")
    data = read_limited(source, MAX_FILE_BYTES, "picture", ImageError, pipes=True)
    return decode_photo(data, name=source, **settings.reading)


def _hints(args: argparse.Namespace, photo: Photo) -> Hints:
    """Hints from the files named, for this photo."""
    from .hints import Hints
    from .hints.files import MAX_FILE_BYTES
    from .images import MAX_PIXELS, read_image, to_rgb8

    height, width = photo.pixels.shape[:2]
    most = args.max_pixels or MAX_PIXELS
    hints = Hints(image_size=(width, height))
    found = []
    if args.hint_image:
        image = to_rgb8(read_image(args.hint_image, max_pixels=most))
        found.append(Hints.from_image(image, _mask(args.hint_mask, most)))
    if args.layer:
        found.append(Hints.from_layer(read_image(args.layer, max_pixels=most)))
    if args.hints == _STANDARD:
        found.append(Hints.from_json(_standard_input(MAX_FILE_BYTES)))
    elif args.hints:
        found.append(Hints.load(args.hints))
    for some in found:
        if some.image_size not in (None, (width, height)):
            print(
                "note: the hints are for {}x{} pixels and are scaled to {}x{}.".format(
                    *some.image_size, width, height
                ),
                file=sys.stderr,
            )
        hints += some.fitted(width, height)
    return hints + Hints(_limits(args, (width, height), most))


def _mask(name: str, most: int) -> NDArray[np.uint8]:
    """Where a mask is painted; what it leaves open is said."""
    from .hints.masks import painted
    from .images import read_image

    mask, notes = painted(read_image(name, max_pixels=most))
    for note in notes:
        print(f"note: {name}: {note}", file=sys.stderr)
    return mask


def _limits(args: argparse.Namespace, size: tuple[int, int], most: int) -> list[AnyHint]:
    """Areas that bound colour, as masks say."""
    from .errors import HintError
    from .hints import Keep, Region

    def area(name: str) -> NDArray[np.uint8]:
        mask = _mask(name, most)
        if mask.shape[::-1] != size:
            raise HintError(
                f"{name} is {mask.shape[1]}x{mask.shape[0]}, but the photo is "
                "{}x{}; give a mask of its size.".format(*size)
            )
        return mask

    found: list[AnyHint] = []
    for text in args.only_inside:
        color, _, name = text.partition(",")
        found.append(Region(color, mask=area(name), only_inside=True))
    if args.keep:
        found.append(Keep(mask=area(args.keep)))
    if args.keep_grey:
        found.append(Keep(mask=area(args.keep_grey), grey=True))
    return found


def _many(args: argparse.Namespace) -> int:
    from .errors import ArgumentError, HintError, ImageError
    from .film.names import is_film
    from .folders import plan, run_jobs

    films = [source for source in args.photos if is_film(source) and not Path(source).is_dir()]
    if films:
        raise ArgumentError(f"{films[0]} is a film; colorize it by itself, with -o OUT.")
    hints_dir = None if args.hints_dir is None else Path(args.hints_dir)
    if hints_dir is not None and not hints_dir.is_dir():
        raise HintError(f"There is no folder {hints_dir} of hint files.")
    out_dir = Path(args.out_dir)
    todo = plan(
        args.photos,
        out_dir,
        hints_dir=hints_dir,
        extension=args.format,
        in_place=args.in_place,
    )
    try:
        if todo.jobs:
            out_dir.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise ImageError(f"The folder {out_dir} cannot be made: {error.strerror}.") from None
    for note in todo.notes:
        print(f"note: {note}", file=sys.stderr)
    colorizer = _open(args)
    start = time.monotonic()
    outcome = run_jobs(todo.jobs, colorizer, _settings(args), skip_existing=args.skip_existing)
    count = len(todo.jobs) + len(todo.refused)
    parts = [f"{outcome.done} of {count} colorized, {outcome.hinted} with hints"]
    parts += [f"{outcome.skipped} were there already"] * bool(outcome.skipped)
    parts += [f"{len(outcome.failed)} failed"] * bool(outcome.failed)
    parts += [f"{len(todo.refused)} left out"] * bool(todo.refused)
    parts += [f"{todo.others} other files passed over"] * bool(todo.others)
    print(f"{out_dir}: {', '.join(parts)}, {time.monotonic() - start:.1f} s, {colorizer!r}")
    for path, _ in outcome.failed:
        print(f"failed: {path}", file=sys.stderr)
    for path, why in todo.refused:
        print(f"left out: {path}: {why}", file=sys.stderr)
    return 1 if outcome.failed or todo.refused else 0


if __name__ == "__main__":
    sys.exit(main())
