"""Measure a model: ``python -m hscaunet.evaluate MODEL --data FOLDER|TAR``."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

from .commands import run_command

if TYPE_CHECKING:
    from .evaluation.method import Method

PICTURES = (".png", ".jpg", ".svg", ".pdf")
FLOORS = ("grey", "levin", "kernel", "grid")
_OBJECTS = "objects"


def build_parser() -> argparse.ArgumentParser:
    """The command line."""
    parser = argparse.ArgumentParser(
        prog="python -m hscaunet.evaluate",
        description="PSNR, SSIM and CIEDE2000 of 8-bit RGB under the published protocols, or what "
        "clicks on things do, beside floors that need no training, on the same photos and hints.",
        formatter_class=argparse.ArgumentDefaultsHelpFormatter,
    )
    add = parser.add_argument
    add("model", nargs="*", metavar="MODEL",
        help="checkpoints (.pt, .safetensors, the authors' .pth), ONNX files or bundled names; "
        "none measures the floors alone")  # fmt: skip
    add("--data", nargs="+", required=True, metavar="PATH", help="folders or tar files of photos; "
        "for objects with their label maps, ID.jpg beside ID.png")  # fmt: skip
    add("--photos", type=int, metavar="N", help="use the first N")
    add("--protocols", nargs="+", choices=("published", "zhang", "icolorit", _OBJECTS),
        default=["published", "zhang", "icolorit"],
        help="how hints are given; objects, 1, 3 and 5 clicks on things, by itself")  # fmt: skip
    add("--points", nargs="+", type=int, default=[0, 1, 10, 100], metavar="N",
        help="numbers of hints for zhang and icolorit")  # fmt: skip
    add("--floors", nargs="*", choices=FLOORS, default=list(FLOORS),
        help="methods without training beside the models; give none to leave them out")  # fmt: skip
    add("--beside", nargs="*", default=[], metavar="REPORT.json",
        help="show the methods of earlier reports on the same photos and seed too")  # fmt: skip
    add("--seed", type=int, default=0, help="of the hints' places")
    add("--device", default="auto", help="cpu, cuda or auto")
    add("--backend", default="auto",
        help="engine that runs ONNX files: auto, onnxruntime, openvino")  # fmt: skip
    add("--hpr", action=argparse.BooleanOptionalAction, default=False,
        help="measure how far the last hint spreads (iColoriT 2023), in a second run")  # fmt: skip
    add("--plot", type=Path, metavar="OUT.png", help="draw PSNR against the number of hints")
    add("--sheet", type=Path, metavar="OUT.jpg",
        help="show photos as grey, hints, output and truth, by the first model")  # fmt: skip
    add("--sheet-photos", type=int, default=8, metavar="N", help="how many, evenly chosen")
    add("--json", type=Path, metavar="OUT", help="write every figure, photo by photo")
    return parser


def main(argv: list[str] | None = None) -> int:
    """Run the command line; returns the exit status."""
    parser = build_parser()
    args = parser.parse_args(argv)
    if problem := _misfit(args):
        parser.error(problem)
    return run_command(lambda: _run(args), "train")


def _misfit(args: argparse.Namespace) -> str | None:
    """What is wrong with the options, if anything: said now, and not after an hour of measuring."""
    if min(args.points) < 0:
        return "--points must not be negative."
    if args.sheet_photos < 1:
        return "--sheet-photos must be at least 1."
    if _OBJECTS in args.protocols and len(args.protocols) > 1:
        return "objects needs photos with label maps: measure it in a command of its own."
    if not args.model and not args.floors:
        return "There is nothing to measure: name a model, or leave --floors out."
    if args.sheet and not args.model:
        return "--sheet shows a model's output: name one."
    if args.plot and not {"zhang", "icolorit"} & set(args.protocols):
        return "--plot shows PSNR by number of hints: measure zhang or icolorit."
    for path in (args.plot, args.sheet, args.json):
        if path and not path.absolute().parent.is_dir():
            return f"The folder {path.parent} does not exist; make it first."
    for path, name in ((args.plot, "--plot"), (args.sheet, "--sheet")):
        if path and path.suffix.lower() not in PICTURES:
            return f"{name} must end in {', '.join(PICTURES)}."
    return None


def _run(args: argparse.Namespace) -> None:
    import logging

    from .evaluation.figures import open_matplotlib

    logging.basicConfig(level=logging.WARNING, format="%(message)s")
    if args.plot or args.sheet:
        open_matplotlib()  # not after an hour of measuring
    models = _open_models(args)
    if args.protocols == [_OBJECTS]:
        _run_objects(args, models)
    else:
        _run_photos(args, models)


def _open_models(args: argparse.Namespace) -> list[Method]:
    """The models of the command line, each under a name of its own."""
    from .evaluation.method import open_model

    models: list[Method] = []
    for path in dict.fromkeys(args.model):
        method, _ = open_model(path, args.device, args.backend)
        while method.name in {other.name for other in models}:
            method.name += "'"
        models.append(method)
    return models


def _floors(args: argparse.Namespace) -> list[Method]:
    from .evaluation.baselines import BASELINES

    return [BASELINES[name]() for name in args.floors]


def _run_objects(args: argparse.Namespace, models: list[Method]) -> None:
    from .evaluation.figures import objects_sheet
    from .evaluation.objects import LABELS, evaluate_objects, load_objects
    from .evaluation.report import digest, read_rows

    photos = load_objects(args.data, args.photos)
    mark = digest((photo.lab.numpy() for photo in photos), args.seed)
    earlier = read_rows(args.beside, mark, LABELS)  # before an hour of measuring
    rows = evaluate_objects([*models, *_floors(args)], photos, seed=args.seed)
    _tell(args, rows, earlier, len(photos), mark)
    if args.sheet:
        objects_sheet(models[0], photos, args.sheet, count=args.sheet_photos, seed=args.seed)


def _run_photos(args: argparse.Namespace, models: list[Method]) -> None:
    from .data.photos import load_photos
    from .evaluation.figures import contact_sheet, plot_points
    from .evaluation.photos import evaluate
    from .evaluation.protocols import parse_protocols
    from .evaluation.report import digest, read_rows

    found = load_photos(
        args.data, short_side=256, skip_grey=False, limit=args.photos, progress="Reading photos"
    )
    photos = [rgb for _, rgb in found]
    mark = digest(photos, args.seed)
    protocols = parse_protocols(args.protocols, args.points)
    earlier = read_rows(args.beside, mark, [p.label for p in protocols])
    methods = [*models, *_floors(args)]
    rows = evaluate(methods, protocols, photos, seed=args.seed, spread=args.hpr)
    rows = _tell(args, rows, earlier, len(photos), mark)
    if args.plot:
        plot_points(rows, args.plot)
    if args.sheet:
        count = min(args.sheet_photos, len(photos))
        chosen = {i: photos[i] for i in (k * len(photos) // count for k in range(count))}
        contact_sheet(models[0], chosen, args.sheet, seed=args.seed)


def _tell(
    args: argparse.Namespace,
    rows: list[dict[str, Any]],
    earlier: list[dict[str, Any]],
    photos: int,
    mark: str,
) -> list[dict[str, Any]]:
    """Print the tables and write the report; returns all rows, those of earlier reports too."""
    from .evaluation.report import tables, write_report

    measured = {(row["method"], row["protocol"]) for row in rows}
    rows = rows + [row for row in earlier if (row["method"], row["protocol"]) not in measured]
    print(f"{photos} photos, seed {args.seed}\n")
    print(tables(rows, args.hpr))
    if args.json:
        write_report(args.json, rows, mark, photos=photos, seed=args.seed)
    return rows


if __name__ == "__main__":
    sys.exit(main())
