"""What quantizing costs and brings: ``python -m calibration.report FP32 OTHER... --data PHOTOS``.

File sizes, PSNR and CIEDE2000 on photos that were not calibrated with, which convolutions lose how
much, and the time of one picture in ONNX Runtime and OpenVINO, where they are installed. TensorRT
engines are timed by ``benchmarks/gpu.sh``.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor
from itertools import product
from multiprocessing import get_context
from pathlib import Path
from statistics import median
from typing import TYPE_CHECKING, Any

from hscaunet.commands import run_command
from hscaunet.tables import markdown

from . import DEFAULT, METHODS

if TYPE_CHECKING:
    import numpy as np
    import onnx
    from numpy.typing import NDArray

    from .data import CalibrationSet

REPORT_FORMAT = "hscaunet-calibration-1"
ENGINES = ("onnxruntime", "openvino")
ROUNDS = 5
LAYER_PHOTOS = 32


def measure_quality(
    paths: Sequence[Path],
    squares: Sequence[NDArray[np.uint8]],
    engine: str = "onnxruntime",
    seed: int = 0,
) -> dict[str, dict[str, dict[str, float]]]:
    """PSNR and CIEDE2000 of every file under every protocol, in one engine.

    Returns
    -------
    dict
        From file name to protocol to ``psnr``, ``ciede2000`` (means), ``psnr_change`` and
        ``ciede2000_change`` from the first file, and ``psnr_change_worst``, that of the photo that
        loses most.
    """
    from tqdm import tqdm

    from runtime import Colorizer

    from .measure import PROTOCOLS, cases, changes, mean, picture, quality

    runs = {p.name: Colorizer(p, backend=engine, device="cpu").raw for p in paths}
    figures: dict[str, dict[str, list[dict[str, float]]]] = {name: {} for name in runs}
    total = len(squares) * len(PROTOCOLS)
    for case in tqdm(cases(squares, seed), total=total, unit=" inputs", disable=None, leave=False):
        for name, run in runs.items():
            entry = quality(picture(run, case), case.truth)
            figures[name].setdefault(case.protocol, []).append(entry)
    base = figures[paths[0].name]
    return {
        name: {
            protocol: {
                **{k: mean([e[k] for e in entries]) for k in entries[0]},
                **{f"{k}_change": v for k, v in changes(entries, base[protocol]).items()},
                "psnr_change_worst": min(
                    e["psnr"] - b["psnr"] for e, b in zip(entries, base[protocol], strict=True)
                ),
            }
            for protocol, entries in found.items()
        }
        for name, found in figures.items()
    }


def measure_speed(paths: Sequence[Path], repeats: int) -> list[dict[str, Any]]:
    """Milliseconds of one 256 x 256 picture in each engine that is there: median and fastest.

    Each is opened in a process of its own, for what another engine leaves behind (waiting threads,
    cores it bound itself to) slows the next; all take turns, round by round.
    """
    rows: list[dict[str, Any]] = []
    times: list[list[float]] = []
    for turn in range(ROUNDS):
        for i, (backend, path) in enumerate(product(ENGINES, paths)):
            if turn == 0:
                rows.append({"file": path.name, "engine": backend, "precision": "", "ms": None,
                             "fastest_ms": None})  # fmt: skip
                times.append([])
            elif not times[i]:
                continue
            # A new pool is a new process.
            with ProcessPoolExecutor(1, get_context("spawn")) as pool:
                work = pool.submit(_timed, path, backend, -(-repeats // ROUNDS))
                rows[i]["precision"], seconds = work.result()
            times[i] += seconds
    for row, seconds in zip(rows, times, strict=True):
        if seconds:
            row["ms"], row["fastest_ms"] = median(seconds) * 1e3, min(seconds) * 1e3
    return rows


def _timed(path: Path, backend: str, runs: int) -> tuple[str, list[float]]:
    """The precision and the seconds of each run; why not, and none, if it cannot be opened."""
    import numpy as np

    from runtime import Colorizer
    from runtime.errors import ColorizationError

    rng = np.random.default_rng(0)
    x = rng.random((1, 4, 256, 256), np.float32)
    x[:, 3] = x[:, 3] < 0.005
    seconds = []
    try:
        with Colorizer(path, backend=backend, device="cpu") as colorizer:
            for run in range(2 + runs):
                began = time.perf_counter()
                colorizer.raw(x)
                if run >= 2:  # the first two settle kernels and memory
                    seconds.append(time.perf_counter() - began)
            return colorizer.precision, seconds
    except ColorizationError as error:
        return str(error), []


def measure_layers(
    proto: onnx.ModelProto,
    squares: Sequence[NDArray[np.uint8]],
    chosen: CalibrationSet,
    method: str,
) -> list[dict[str, Any]]:
    """What each convolution loses when it alone is quantized, most first."""
    from dataclasses import asdict

    from tqdm import tqdm

    from .measure import some_cases
    from .quantize import candidates
    from .ranges import collect
    from .search import rank

    nodes = candidates(proto)
    ranges = collect(proto, chosen.inputs, method, nodes)
    with tqdm(total=len(nodes), unit=" convolutions", disable=None, leave=False) as bar:
        losses = rank(proto, ranges, nodes, some_cases(squares), bar.update)
    return [asdict(loss) for loss in losses]


def table(report: dict[str, Any]) -> str:
    """The report in Markdown."""
    files = report["files"]
    protocols = list(next(iter(report["quality"].values())))
    rows = []
    first = files[0]["bytes"]
    for file in files:
        cells = [
            f"{q['psnr']:.2f} ({q['psnr_change']:+.3f}, {q['psnr_change_worst']:+.2f}) / "
            f"{q['ciede2000']:.2f} ({q['ciede2000_change']:+.3f})"
            for q in report["quality"][file["name"]].values()
        ]
        size = f"{file['bytes'] / 2**20:.1f}", f"{file['bytes'] / first:.0%}"
        rows.append([file["name"], *size, *cells])
    lines = [
        markdown(["file", "MiB", "of the first", *protocols], rows),
        "",
        "PSNR in dB (change, that of the photo that loses most) / CIEDE2000 (change); means.",
        "",
    ]
    if report["speed"]:
        rows = []
        for row in report["speed"]:
            there = row["ms"] is not None
            times = [f"{row['ms']:.1f}", f"{row['fastest_ms']:.1f}"] if there else ["absent", ""]
            rows.append([row["file"], row["engine"], row["precision"], *times])
        lines += [markdown(["file", "engine", "computes in", "median, ms", "fastest"], rows), ""]
    if report["layers"]:
        lines += [
            f"Each convolution alone in 8 bits, ranges by {report['layers_method']} over "
            f"{report['layers_data']}:",
            "",
            markdown(
                ["convolution alone in 8 bits", "squared error", "PSNR change"],
                [[x["weight"], f"{x['error']:.3f}", f"{x['psnr']:+.4f}"] for x in report["layers"]],
            ),
        ]
    return "\n".join(lines)


def plot(report: dict[str, Any], path: Path) -> None:
    """PSNR lost by protocol, and milliseconds by engine."""
    from hscaunet.evaluation.figures import open_matplotlib, write_figure

    plt = open_matplotlib()
    names = [f["name"] for f in report["files"]]
    protocols = list(report["quality"][names[0]])
    figure, (left, right) = plt.subplots(1, 2, figsize=(11, 4), layout="constrained")
    width = 0.8 / max(1, len(names) - 1)
    for i, name in enumerate(names[1:]):
        values = [report["quality"][name][p]["psnr_change"] for p in protocols]
        left.bar([x + i * width for x in range(len(protocols))], values, width, label=name)
    left.axhline(0, color="black", linewidth=0.8)
    left.axhline(-0.1, color="grey", linewidth=0.8, linestyle="--")
    left.set_xticks(
        [x + 0.4 - width / 2 for x in range(len(protocols))],
        [p.replace(" ", "\n", 1) for p in protocols],
    )
    left.set_ylabel(f"PSNR against {names[0]} (dB)")
    left.legend(frameon=False)
    rows = [r for r in report["speed"] if r["ms"] is not None]
    labels = [f"{r['file']}\n{r['engine']} {r['precision']}" for r in rows]
    right.barh(labels, [r["ms"] for r in rows], color="tab:grey")
    right.invert_yaxis()
    right.set_xlabel("ms for one 256 x 256 picture")
    for side in ("top", "right"):
        left.spines[side].set_visible(False)
        right.spines[side].set_visible(False)
    write_figure(figure, path, dpi=110)
    plt.close(figure)


def build_parser() -> argparse.ArgumentParser:
    """The command line."""
    parser = argparse.ArgumentParser(
        prog="python -m calibration.report",
        description="Compare quantized networks with the fp32 one: size, colour, layers, speed.",
    )
    add = parser.add_argument
    add("models", nargs="+", metavar="MODEL.onnx",
        help="the fp32 file or bundled name first, then those to compare with it")  # fmt: skip
    add("--data", nargs="+", required=True, metavar="PATH",
        help="photos that were not calibrated with")  # fmt: skip
    add("--photos", type=int, default=24, metavar="N", help="use the first N (%(default)s)")
    add("--calibration-data", nargs="+", default=[], metavar="PATH",
        help="photos to measure ranges on for the ranking of convolutions; default: the small "
        "built-in set")  # fmt: skip
    add("--method", choices=METHODS, default=DEFAULT, help="of those ranges (%(default)s)")
    add("--engine", choices=ENGINES, default="onnxruntime",
        help="engine that colour is measured in (%(default)s)")  # fmt: skip
    add("--layers", action=argparse.BooleanOptionalAction, default=True,
        help="rank the convolutions by what each loses alone")  # fmt: skip
    add(
        "--repeats",
        type=int,
        default=15,
        metavar="N",
        help="timed runs of each, at least; 0 leaves them out (%(default)s)",
    )
    add("--json", type=Path, metavar="OUT", help="write the report")
    add("--plot", type=Path, metavar="OUT.png", help="draw it")
    return parser


def main(argv: list[str] | None = None) -> int:
    """Run the command line; returns the exit status."""
    parser = build_parser()
    args = parser.parse_args(argv)
    if args.photos < 1 or args.repeats < 0:
        parser.error("--photos must be at least 1, --repeats at least 0.")
    return run_command(lambda: _run(args), "export")


def _run(args: argparse.Namespace) -> None:
    from export.precision import restore_floats
    from export.reading import load_graph
    from runtime.colorizer import locate_model
    from runtime.safe_files import write_atomically

    from .data import CalibrationSet
    from .measure import load_squares
    from .quantize import CalibrationError, candidates

    paths = [locate_model(model) for model in args.models]
    if len({p.name for p in paths}) < len(paths):
        raise CalibrationError("Two of the models have the same file name; copy one to another.")
    first, metadata, _ = load_graph(paths[0])
    restore_floats(first)
    candidates(first)
    if metadata.get("precision", "fp32") != "fp32":
        raise CalibrationError(f"The first model must be the fp32 one, {paths[0]} is not.")
    for output, suffix in ((args.json, ".json"), (args.plot, ".png")):
        if output and (output.suffix != suffix or not output.parent.is_dir() or output.is_dir()):
            raise CalibrationError(
                f"{output} must end in {suffix} and lie in a folder that exists."
            )
    if args.plot:
        from hscaunet.evaluation.figures import open_matplotlib

        open_matplotlib()  # missing, it is said now and not after all the work
    squares = load_squares(args.data, args.photos)
    report: dict[str, Any] = {
        "format": REPORT_FORMAT,
        "photos": len(squares),
        "files": [{"name": p.name, "bytes": p.stat().st_size} for p in paths],
        "engine": args.engine,
        "quality": measure_quality(paths, squares, args.engine),
        "speed": measure_speed(paths, args.repeats) if args.repeats else [],
        "layers": [],
        "layers_method": args.method,
        "layers_data": " ".join(args.calibration_data) or "the built-in set",
    }
    if args.layers:
        chosen = CalibrationSet(tuple(args.calibration_data), LAYER_PHOTOS)
        report["layers"] = measure_layers(first, squares[:8], chosen, args.method)
    print(f"{len(squares)} photos, colour measured in {args.engine}\n")
    print(table(report))
    if args.json:
        write_atomically(args.json, (json.dumps(report, indent=1) + "\n").encode())
    if args.plot:
        plot(report, args.plot)


if __name__ == "__main__":
    sys.exit(main())
