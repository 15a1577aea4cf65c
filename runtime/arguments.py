"""The options of ``python -m runtime``."""

from __future__ import annotations

import argparse

STANDARD = "-"
"""Standard input or output, as a file's name."""


def build_parser() -> argparse.ArgumentParser:
    """The command line."""
    from . import __version__

    parser = argparse.ArgumentParser(
        prog="python -m runtime",
        description="Colorize photos from colour hints; each photo's own lightness is kept, as "
        "are its depth, alpha, EXIF data and resolution.",
        epilog="Later hints win over earlier ones: --hint over --hints over --layer over "
        "--hint-image. The file format of --hints is described in docs/hints.md.",
    )
    add = parser.add_argument
    add(
        "photos",
        nargs="+",
        metavar="PHOTO",
        help="pictures, folders of them, or a film (.mp4, .mkv, ...); colour is reduced to its L; "
        "- is standard input",
    )
    group = parser.add_argument_group("output (one of the two)")
    group.add_argument(
        "-o",
        "--output",
        metavar="OUT",
        help="file for a single photo (.png, .jpg, .tif, ...); - is standard output",
    )
    group.add_argument("--out-dir", metavar="DIR", help="folder for any number; names are kept")
    group.add_argument(
        "--format",
        metavar="EXT",
        help="png, jpg, tif, webp, avif or bmp, instead of each photo's own (standard output: png)",
    )
    group.add_argument(
        "--quality", type=int, metavar="Q", help="1 to 100, of jpg, webp, avif and films"
    )
    group.add_argument(
        "--codec",
        metavar="C",
        help="of a film: h264 (default), hevc, vp9, av1, ffv1 or prores",
    )
    group.add_argument(
        "--in-place", action="store_true", help="let a result be written over its own photo"
    )
    group.add_argument(
        "--no-metadata", action="store_true", help="write the pixels alone: no EXIF, XMP, ..."
    )
    group.add_argument(
        "--provenance",
        action="store_true",
        help="say in XMP how the colours were made: model, version, sha256 of the hints",
    )
    group.add_argument(
        "--skip-existing",
        action="store_true",
        help="with --out-dir: go on where an earlier run stopped",
    )
    group = parser.add_argument_group("reading")
    group.add_argument("--page", type=int, metavar="N", help="page of a TIFF, from 1")
    group.add_argument(
        "--tolerant",
        action="store_true",
        help="take what there is of a cut JPEG or PNG",
    )
    group.add_argument(
        "--max-pixels", type=int, metavar="N", help="refuse larger photos (default 250000000)"
    )
    group.add_argument(
        "--lightness",
        metavar="CHANNEL",
        help="how a scan becomes grey: luminance (default), red, green, blue, or cleanest, the "
        "one with the least stain",
    )
    group.add_argument(
        "--levels", metavar="BLACK,WHITE", help="0 to 1 each, what becomes black and white; or auto"
    )
    group.add_argument("--even-paper", action="store_true", help="even out the paper's tint")
    group = parser.add_argument_group("hints of a single photo")
    group.add_argument(
        "--hint",
        action="append",
        default=[],
        metavar="X,Y,COLOR[,SIZE]",
        help="colour (#rrggbb) at a pixel of the photo, SIZE pixels wide (default 1); repeatable",
    )
    group.add_argument("--hints", metavar="FILE.json", help="hint file; - is standard input")
    group.add_argument("--layer", metavar="RGBA", help="picture painted on: hints where opaque")
    group.add_argument(
        "--hint-image", metavar="I", help="picture whose colours are hints where M is 255"
    )
    group.add_argument("--hint-mask", metavar="M", help="mask for --hint-image, of the same size")
    for name, what in (("--keep", "as it is"), ("--keep-grey", "grey")):
        group.add_argument(name, metavar="MASK", help=f"leave what is white in this picture {what}")
    group.add_argument(
        "--only-inside",
        action="append",
        default=[],
        metavar="COLOR,MASK",
        help="colour what is white in this picture, and nothing else; repeatable",
    )
    group.add_argument(
        "--report", action="store_true", help="say how well each hint's colour survived (CIEDE2000)"
    )
    group = parser.add_argument_group("hints of many")
    group.add_argument(
        "--hints-dir",
        metavar="DIR",
        help="folder with a NAME.hints.json or NAME.json for each photo that has any, at its place "
        "in the tree or at the top",
    )
    group = parser.add_argument_group("look of the result (docs/api.md)")
    group.add_argument("--saturation", type=float, metavar="S", help="0 to 3 (default 1)")
    group.add_argument("--warmth", type=float, metavar="W", help="-1 to 1 (default 0)")
    group.add_argument("--strength", type=float, metavar="S", help="0 to 1 (default 1)")
    group = parser.add_argument_group("model")
    group.add_argument(
        "--model",
        metavar="M",
        help="ONNX file, TensorRT engine, or name of a bundled model (default: bundled)",
    )
    group.add_argument(
        "--backend",
        default="auto",
        help="auto (default: the fastest installed), onnxruntime, openvino or tensorrt",
    )
    group.add_argument("--device", default="auto", help="auto (default), cpu or cuda")
    group.add_argument("--threads", type=int, metavar="N", help="CPU threads (default: all cores)")
    group.add_argument(
        "--size",
        type=int,
        default=256,
        metavar="N",
        help="the network sees about N x N pixels (default 256)",
    )
    group.add_argument(
        "--exact-hints", action="store_true", help="give each hint its very colour at its place"
    )
    add("-v", "--verbose", action="store_true", help="say which engine was chosen and why")
    add("--version", action="version", version=f"hscaunet {__version__}")
    return parser


def check(parser: argparse.ArgumentParser, args: argparse.Namespace) -> None:
    """Refuse options that do not go together."""
    if (args.output is None) == (args.out_dir is None):
        parser.error("give either -o OUT, for one photo, or --out-dir DIR.")
    if args.output is not None and len(args.photos) > 1:
        parser.error("-o is for one photo; use --out-dir for several.")
    if (args.hint_image is None) != (args.hint_mask is None):
        parser.error("--hint-image and --hint-mask go together; give both.")
    single = {
        "--hint": args.hint,
        "--hints": args.hints,
        "--layer": args.layer,
        "--hint-image": args.hint_image,
        "--keep": args.keep,
        "--keep-grey": args.keep_grey,
        "--only-inside": args.only_inside,
        "--report": args.report,
    }
    if args.out_dir is not None and any(single.values()):
        names = ", ".join(name for name, value in single.items() if value)
        go = "go" if "," in names else "goes"
        parser.error(f"{names} {go} with -o; with --out-dir, use --hints-dir.")
    if args.output is not None and (args.hints_dir or args.skip_existing):
        parser.error("--hints-dir and --skip-existing go with --out-dir.")
    if args.out_dir is not None and STANDARD in args.photos:
        parser.error("standard input goes with -o.")
    if args.hints == STANDARD and STANDARD in args.photos:
        parser.error("only one of photo and --hints can be standard input.")
    for text in args.only_inside:
        color, comma, mask = text.partition(",")
        if not (color and comma and mask):
            parser.error(f"--only-inside is COLOR,MASK, such as red,mask.png, not {text!r:.60}.")
    if args.page is not None and args.page < 1:
        parser.error("--page must be at least 1.")
    if args.format is not None:
        from .images.photo import FORMATS

        args.format = "." + args.format.lower().lstrip(".")
        if args.format not in FORMATS:
            parser.error(
                f"--format must be png, jpg, tif, webp, avif or bmp, not {args.format[1:]}."
            )
        if args.output not in (None, STANDARD):
            parser.error("--format goes with --out-dir or -o -; -o OUT says it by its name.")
    if args.max_pixels is not None and args.max_pixels < 1:
        parser.error("--max-pixels must be at least 1.")
    if args.quality is not None and not 1 <= args.quality <= 100:
        parser.error("--quality must be 1 to 100.")
