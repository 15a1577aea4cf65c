"""Quantize a network to INT8: ``python -m calibration MODEL.onnx --data PHOTOS -o OUT``."""

from __future__ import annotations

import argparse
import sys
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING

from hscaunet.commands import run_command

from . import DEFAULT, METHODS

if TYPE_CHECKING:
    from collections.abc import Iterator

    import numpy as np
    import onnx
    from numpy.typing import NDArray

    from .data import CalibrationSet
    from .ranges import Ranges

SEARCH_PHOTOS = 8


def build_parser() -> argparse.ArgumentParser:
    """The command line."""
    parser = argparse.ArgumentParser(
        prog="python -m calibration",
        description="Quantize an exported network to INT8 (Q/DQ nodes), for ONNX Runtime, OpenVINO "
        "and TensorRT alike.",
    )
    add = parser.add_argument
    add("model", nargs="?", metavar="MODEL.onnx",
        help="fp32 ONNX file, or name of a bundled model; default: the bundled one")  # fmt: skip
    add(
        "-o",
        "--output",
        type=Path,
        metavar="OUT.onnx",
        help="default: the model's name, .int8.onnx",
    )
    add("--data", nargs="+", default=[], metavar="PATH",
        help="folders or tar files of colour photos; default: a small built-in set")  # fmt: skip
    add("--photos", type=int, default=64, metavar="N", help="use the first N (%(default)s)")
    add("--seed", type=int, default=0, help="of the hints that are drawn on them")
    add("--method", choices=METHODS, default=DEFAULT,
        help="how a range is chosen from the values seen (%(default)s)")  # fmt: skip
    add("--exclude", nargs="+", default=[], metavar="PATTERN",
        help="convolutions to keep in float, by their weight's name: 'unet.up1.*'")  # fmt: skip
    add("--search", action="store_true",
        help="measure what each convolution loses in 8 bits, and keep in float what loses most, "
        "until all of it loses no more than the budget")  # fmt: skip
    add("--budget", type=float, default=0.05, metavar="DB",
        help="PSNR that --search lets quantizing cost (%(default)s dB)")  # fmt: skip
    add("--ranges", type=Path, metavar="FILE",
        help="file that ranges are kept in for the next time; default: beside OUT")  # fmt: skip
    return parser


def main(argv: list[str] | None = None) -> int:
    """Run the command line; returns the exit status."""
    parser = build_parser()
    args = parser.parse_args(argv)
    if args.photos < 1:
        parser.error("--photos must be at least 1.")
    if not args.budget > 0:
        parser.error("--budget must be above 0.")
    if args.seed < 0:
        parser.error("--seed must not be negative.")
    return run_command(lambda: _run(args), "export")


def _run(args: argparse.Namespace) -> None:
    import logging

    from export.precision import restore_floats
    from export.reading import load_graph
    from runtime.colorizer import locate_model
    from runtime.layout import CONTRACT
    from runtime.safe_files import check_folder, write_atomically

    from .data import CalibrationSet
    from .quantize import CalibrationError, candidates, exclude, quantize

    logging.basicConfig(level=logging.WARNING, format="%(message)s")
    path = locate_model(args.model)
    output = args.output or Path(f"{path.name.removesuffix('.onnx')}.int8.onnx")
    check_folder(output, CalibrationError)
    if output.suffix != ".onnx" or output.is_dir() or (output.exists() and output.samefile(path)):
        raise CalibrationError(f"The output must be another file ending in .onnx, not {output}.")
    kept = args.ranges or output.with_name(f"{output.name}.ranges.json")
    if kept.suffix != ".json" or not kept.parent.is_dir() or kept.is_dir():
        raise CalibrationError(f"--ranges must be a file ending in .json in a folder, not {kept}.")
    proto, metadata, sha256 = load_graph(path)
    if metadata["layout"] != CONTRACT:
        raise CalibrationError(f"{path} is a whole pipeline; quantize the network itself.")
    restore_floats(proto)
    every = candidates(proto)
    if metadata.get("precision", "fp32") != "fp32":
        raise CalibrationError(f"{path} is of {metadata['precision']:.30}; give the fp32 file.")
    nodes = exclude(every, args.exclude)
    chosen = CalibrationSet(tuple(args.data), args.photos, args.seed)
    ranges = _ranges(proto, chosen, args.method, every, sha256, kept)
    if args.search:
        nodes = _search(proto, ranges, nodes, chosen, args.budget)
    made = quantize(proto, ranges, list(nodes))
    write_atomically(output, made.SerializeToString())
    print(
        f"{output}: {len(nodes)} of {len(every)} convolutions in 8 bits, "
        f"{output.stat().st_size / 2**20:.1f} MiB"
    )
    print(f"Measure it: python -m export.parity {path} {output} --data PHOTOS")


def _search(
    proto: onnx.ModelProto,
    ranges: Ranges,
    nodes: dict[str, str],
    chosen: CalibrationSet,
    budget: float,
) -> dict[str, str]:
    """Those to quantize, after a search on the first photos of the calibration set."""
    from tqdm import tqdm

    from .measure import some_cases
    from .search import search

    squares = list(islice(chosen.squares(), SEARCH_PHOTOS))
    with tqdm(
        total=len(nodes), desc="Searching", unit=" convolutions", disable=None, leave=False
    ) as bar:
        left, losses, steps = search(
            proto, ranges, nodes, some_cases(squares), budget=budget, progress=bar.update
        )
    print(f"{'alone in 8 bits':<46}{'squared error':>14}{'PSNR, dB':>10}")
    for loss in losses:
        mark = "" if loss.node in left else "  stays in float"
        print(f"{loss.weight:<46}{loss.error:>14.3f}{loss.psnr:>+10.4f}{mark}")
    for count, change in steps:
        print(f"with {count} of them in float: {change:+.4f} dB")
    if steps[-1][1] < -budget:
        print(f"The budget of {budget} dB cannot be kept; the best of these is used.")
    return left


def _ranges(
    proto: onnx.ModelProto,
    chosen: CalibrationSet,
    method: str,
    nodes: dict[str, str],
    sha256: str,
    kept: Path,
) -> Ranges:
    """Ranges from the file that keeps them, or measured now and kept there."""
    import onnxruntime
    from tqdm import tqdm

    from . import data, ranges

    key = {
        "model": sha256,
        "data": chosen.digest(),
        "method": ranges.describe(method),
        "convolutions": list(nodes.values()),
        "onnxruntime": onnxruntime.__version__,
    }
    found = ranges.load(kept, key, ranges.tensors(proto, nodes))
    if found is not None:
        print(f"Ranges of {kept}: nothing has changed since they were measured.")
        return found
    count, passes = 0, iter(("Largest values", "Histograms"))

    def counted() -> Iterator[NDArray[np.float32]]:
        nonlocal count
        count = 0
        bar = tqdm(chosen.inputs(), desc=next(passes), unit=" photos", disable=None, leave=False)
        for x in bar:
            count += 1
            yield x

    found = ranges.collect(proto, counted, method, nodes)
    print(f"Ranges by {method} over {data.describe(chosen.data, count)}.")
    ranges.save(kept, key, found)
    return found


if __name__ == "__main__":
    sys.exit(main())
