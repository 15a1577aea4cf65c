"""Build time and size of the bundled network's engines: ``python benchmarks/trt_build.py``."""

from __future__ import annotations

import argparse
import time

from gpu import make_model


def main() -> None:
    """Run the command line."""
    from export.tensorrt.build import build
    from export.tensorrt.options import BuildOptions
    from runtime.engines.tensorrt.library import open_library

    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--flavor", default="rtx", choices=("auto", "rtx", "tensorrt"))
    parser.add_argument("--widths", type=int, nargs="+", default=[0], help="0: the bundled one")
    args = parser.parse_args()
    library = open_library(args.flavor)
    print(f"{library.name} {library.version}\n")
    print("| network | precision | convolutions in half | engine, MiB | of fp32 | build, s |")
    print("| --- | --- | --- | --- | --- | --- |")
    for width in args.widths:
        _, path = make_model(width)
        whole = 0.0
        for precision in ("fp32", "fp16"):
            output = path.with_suffix(f".{precision}.engine")
            began = time.perf_counter()
            made = build(path, output, library, BuildOptions(precision=precision))
            took, size = time.perf_counter() - began, output.stat().st_size / 2**20
            whole = whole or size
            print(
                f"| width {width} | {precision} | {made.half} of {made.convolutions} | "
                f"{size:.1f} | {size / whole:.2f} | {took:.1f} |",
                flush=True,
            )


if __name__ == "__main__":
    main()
