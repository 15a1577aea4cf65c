"""The bundled network beside the plain published form: ``python benchmarks/network.py``.

256 x 256, one photo, the same engine, all in turn in one process; medians, and their ratios. The
published form of width 32 has random weights, which takes the same time. Pause everything else.
"""

from __future__ import annotations

import argparse
import json
import os
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np

from hscaunet import PublishedNet
from runtime.engines import open_engine
from runtime.layout import CONTRACT
from runtime.models.manifest import DEFAULT_MODEL, find_model


def published(folder: Path, width: int = 32) -> Path:
    """The published form as an ONNX file."""
    from export.onnx import build_onnx

    metadata = {"layout": CONTRACT, "precision": "fp32", "name": "published"}
    path = folder / "published.onnx"
    path.write_bytes(build_onnx(PublishedNet(width), metadata=metadata).SerializeToString())
    return path


def picture(size: int) -> np.ndarray:
    """A random input with 20 hints of 5 x 5 pixels."""
    rng = np.random.default_rng(0)
    x = rng.random((1, 4, size, size), np.float32)
    x[:, 3] = 0
    for row, column in rng.integers(0, size - 5, (20, 2)):
        x[:, 3, row : row + 5, column : column + 5] = 1
    x[:, 1:3] = np.where(x[:, 3:] > 0, x[:, 1:3], 128 / 255)
    return x


def in_turn(calls: dict[str, Callable[[], Any]], repeats: int) -> dict[str, float]:
    """Medians in milliseconds, each call after the others."""
    times: dict[str, list[float]] = {name: [] for name in calls}
    for _ in range(repeats + 3):
        for name, call in calls.items():
            began = time.perf_counter()
            call()
            times[name].append(1e3 * (time.perf_counter() - began))
    return {name: median(found[3:]) for name, found in times.items()}


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    add = parser.add_argument
    add("--models", nargs="+", default=[DEFAULT_MODEL], help="bundled names or ONNX files")
    add("--size", type=int, default=256)
    add("--repeats", type=int, default=30)
    add("--json", type=Path, help="write the medians")
    args = parser.parse_args()
    x, report = picture(args.size), {}
    with tempfile.TemporaryDirectory() as folder:
        plain = published(Path(folder))
        for backend in ("onnxruntime", "openvino"):
            base = open_engine(plain, backend=backend, device="cpu")
            calls: dict[str, Callable[[], Any]] = {"published 32": lambda b=base: b.run(x)}
            for name in args.models:
                path = Path(name) if Path(name).is_file() else find_model(name)
                engine = open_engine(path, backend=backend, device="cpu")
                calls[name] = lambda e=engine: e.run(x)
                if engine.splits:
                    kept = engine.look(x)
                    calls[f"{name}, edit"] = lambda e=engine, k=kept: e.answer(x, k)
            found = in_turn(calls, args.repeats)
            report[f"{backend} {base.precision}"] = found
            print(f"{backend} {base.precision}, {os.cpu_count()} cores")
            for name, ms in found.items():
                whole = found.get(name.removesuffix(", edit"), ms)
                print(f"  {ms:7.1f} ms  {ms / found['published 32']:.2f} of published"
                      f"  {ms / whole:.2f} of its whole call  {name}")  # fmt: skip
    if args.json:
        args.json.write_text(json.dumps(report, indent=1) + "\n")


if __name__ == "__main__":
    main()
