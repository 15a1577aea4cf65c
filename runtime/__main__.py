"""``python -m runtime PHOTO [hints] -o OUT``: colorize a photo from the command line."""

from __future__ import annotations

import argparse
import sys
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from runtime.hints import Hints


def build_parser() -> argparse.ArgumentParser:
    """The command line."""
    from runtime import __version__

    parser = argparse.ArgumentParser(
        prog="python -m runtime",
        description="Colorize a photo from colour hints; the photo's own lightness is kept.",
        epilog="Later hints win over earlier ones: --hint over --hints over --hint-image. "
        "The file format of --hints is described in docs/hints.md.",
    )
    add = parser.add_argument
    add("photo", metavar="PHOTO", help="a grey or colour picture; colour is reduced to its L")
    add("-o", "--output", required=True, metavar="OUT", help="picture to write (.png, .jpg, ...)")
    group = parser.add_argument_group("hints")
    group.add_argument(
        "--hint",
        action="append",
        default=[],
        metavar="X,Y,COLOR[,SIZE]",
        help="colour (#rrggbb) at a pixel of the photo, SIZE pixels wide (default 1); repeatable",
    )
    group.add_argument("--hints", metavar="FILE.json", help="hint file")
    group.add_argument(
        "--hint-image", metavar="I", help="picture whose colours are hints where M is 255"
    )
    group.add_argument("--hint-mask", metavar="M", help="mask for --hint-image, of the same size")
    group = parser.add_argument_group("model")
    group.add_argument(
        "--model", metavar="M", help="ONNX file or name of a bundled model (default: bundled)"
    )
    group.add_argument("--backend", default="auto", help="engine: auto (default) or onnxruntime")
    group.add_argument("--device", default="auto", help="auto (default), cpu or cuda")
    group.add_argument("--threads", type=int, metavar="N", help="CPU threads (default: all cores)")
    add("-v", "--verbose", action="store_true", help="say which engine was chosen and why")
    add("--version", action="version", version=f"hscaunet {__version__}")
    return parser


def main(argv: list[str] | None = None) -> int:
    """Run the command line.

    Returns
    -------
    int
        0, or 1 after an error, which is printed to standard error as one sentence.
    """
    parser = build_parser()
    args = parser.parse_args(argv)
    if (args.hint_image is None) != (args.hint_mask is None):
        parser.error("--hint-image and --hint-mask go together; give both.")

    # Only now: --help and wrong options must answer at once.
    import logging

    from runtime.colorizer import Colorizer
    from runtime.errors import ColorizationError
    from runtime.hints import Hints, parse_hint
    from runtime.images import check_writable, read_image, write_image

    logging.basicConfig(
        level=logging.INFO if args.verbose else logging.WARNING, format="%(message)s"
    )
    try:
        check_writable(args.output)
        typed = Hints([parse_hint(text) for text in args.hint])
        photo = read_image(args.photo)
        height, width = photo.shape[:2]
        hints = Hints(image_size=(width, height))
        if args.hint_image:
            mask = read_image(args.hint_mask)
            hints += _fit(Hints.from_image(read_image(args.hint_image), mask), width, height)
        if args.hints:
            hints += _fit(Hints.load(args.hints), width, height)
        hints += typed
        hints.check(height, width)
        colorizer = Colorizer(
            args.model, backend=args.backend, device=args.device, threads=args.threads
        )
        write_image(args.output, colorizer.colorize(photo, hints))
    except ColorizationError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    plural = "" if len(hints) == 1 else "s"
    print(f"{args.output}: {width}x{height}, {len(hints)} hint{plural}, {colorizer!r}")
    return 0


def _fit(hints: Hints, width: int, height: int) -> Hints:
    """Hints of the same picture at another size, brought to this one; said on standard error."""
    if hints.image_size in (None, (width, height)):
        return hints
    print(
        "note: the hints are for {}x{} pixels and are scaled to {}x{}.".format(
            *hints.image_size, width, height
        ),
        file=sys.stderr,
    )
    return hints.scaled(width, height)


if __name__ == "__main__":
    sys.exit(main())
