"""Build a TensorRT engine: ``python -m export.trt [MODEL.onnx] [-o MODEL.engine]``."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from hscaunet.commands import run_command

from .tensorrt.options import COMPATIBILITY, PRECISIONS, BuildOptions, Range


def _range(text: str) -> Range:
    try:
        numbers = [int(part) for part in text.split(",")]
    except ValueError:
        numbers = []
    if len(numbers) == 1:
        return (numbers[0],) * 3
    if len(numbers) != 3:
        raise argparse.ArgumentTypeError(f"{text!r} is neither N nor MIN,OPT,MAX")
    return numbers[0], numbers[1], numbers[2]


def _size(text: str) -> Range:
    low, best, high = _range(text)
    # One number: photos of every aspect up to 4 to 1 keep it when the network sees this area.
    return (low, best, high) if "," in text else (max(16, best // 4 // 16 * 16), best, 2 * best)


def _positive(text: str) -> int:
    if not text.isdigit() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"{text!r} is no whole number of at least 1")
    return int(text)


def build_parser() -> argparse.ArgumentParser:
    """The command line."""
    parser = argparse.ArgumentParser(
        prog="python -m export.trt",
        description="Build a TensorRT engine from an ONNX file of this project. It is written with "
        "a sidecar (ENGINE.json) without which the runtime does not load it.",
    )
    add = parser.add_argument
    add("model", nargs="?", metavar="MODEL.onnx",
        help="ONNX file, or name of a bundled model; default: the bundled one")  # fmt: skip
    add("-o", "--output", type=Path, metavar="OUT.engine",
        help="default: the model's name and precision")  # fmt: skip
    add("--flavor", choices=("auto", "tensorrt", "rtx"), default="auto",
        help="tensorrt (10.12 and later) builds on a GPU, for that GPU; rtx (TensorRT for RTX) "
        "builds anywhere, for compute capability 8.x and 12.x; default: the first that is "
        "installed")  # fmt: skip
    add("--precision", choices=PRECISIONS, default="auto",
        help="default: int8 for a graph with Q/DQ nodes, else fp16")  # fmt: skip
    more = parser.add_argument_group("shapes, each MIN,OPT,MAX or one number").add_argument
    more("--batch", type=_range, metavar="N", default=(1, 1, 8),
         help="pictures at once (1,1,8)")  # fmt: skip
    more("--size", type=_size, metavar="S", default=(64, 256, 512),
         help="height and width at which the network sees photos; one number stands for a quarter "
         "of it to twice it, which holds aspects up to 4 to 1 (64,256,512)")  # fmt: skip
    more("--photo", type=_range, metavar="S", default=(64, 1024, 4096),
         help="of a pipeline: height and width of the photos (64,1024,4096)")  # fmt: skip
    more = parser.add_argument_group("builder").add_argument
    more("--workspace", type=_positive, metavar="MIB", help="memory to try layers with")
    more("--optimization-level", type=int, choices=range(6), metavar="0..5",
         help="how long to search for the fastest kernels (3)")  # fmt: skip
    more("--timing-cache", type=Path, metavar="FILE",
         help="default: one for this version and GPU in the user's cache folder")  # fmt: skip
    more("--version-compatible", action="store_true",
         help="run with later versions of the same major number too")  # fmt: skip
    more("--hardware-compatible", choices=tuple(COMPATIBILITY), default="none",
         help="run on all GPUs of its compute capability, or on Ampere and all later")  # fmt: skip
    more("--refit", action="store_true", help="let the weights be exchanged later")
    return parser


def main(argv: list[str] | None = None) -> int:
    """Run the command line; returns the exit status."""
    args = build_parser().parse_args(argv)
    try:
        return run_command(lambda: _run(args), "rtx")
    except KeyboardInterrupt:
        print("interrupted", file=sys.stderr)
        return 130


def _run(args: argparse.Namespace) -> None:
    from runtime.colorizer import locate_model
    from runtime.engines import is_engine
    from runtime.engines.tensorrt.library import open_library
    from runtime.safe_files import check_folder

    from .reading import is_quantized, load_graph
    from .tensorrt.build import build, find_gpu
    from .tensorrt.compile import default_timing_cache
    from .tensorrt.options import BuildError, check_options

    path = locate_model(args.model)
    library = open_library(args.flavor)
    gpu = find_gpu(library)
    timing_cache = args.timing_cache
    if timing_cache is None and gpu is not None and library.flavor == "tensorrt":
        timing_cache = default_timing_cache(library, gpu.name)
    options = BuildOptions(
        precision=args.precision,
        batch=args.batch,
        size=args.size,
        photo=args.photo,
        workspace=args.workspace,
        level=args.optimization_level,
        timing_cache=timing_cache,
        version_compatible=args.version_compatible,
        hardware_compatible=args.hardware_compatible,
        refit=args.refit,
    )
    check_options(options)
    output = args.output
    if output is None:
        precision = args.precision
        if precision == "auto":
            precision = "int8" if is_quantized(load_graph(path)[0]) else "fp16"
        name = path.name.removesuffix(".onnx").removesuffix(f".{precision}")
        output = Path(f"{name}.{precision}.engine")
    if not is_engine(output) or output.is_dir():
        raise BuildError(
            f"The output must end in .engine or .plan, by which the runtime knows it, not {output}."
        )
    check_folder(output, BuildError)
    print(f"{path} -> {output}")
    build(
        path,
        output,
        library,
        options,
        lambda topic, text: print(f"  {topic:<13}{text}", flush=True),
    )


if __name__ == "__main__":
    sys.exit(main())
