"""Engines on one GPU, side by side: ``python benchmarks/gpu.py [--json OUT]``.

Every row takes the network's input as a numpy array in the host's memory and gives its output
there, which is what an application sees; rows take turns, so that whatever else the machine does
hits all alike. *floor* is the network's floating-point operations over the rate of a large half
precision matrix product, measured in the same run; *share* is that floor over the median.

``--device cpu`` rehearses the script where there is no GPU; its figures say nothing.
"""

from __future__ import annotations

import argparse
import gc
import json
import platform
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch

Run = Callable[[np.ndarray], np.ndarray]
TOLERANCE = 5e-3  # of fp16, on ab


def make_model(width: int) -> tuple[Any, Path]:
    """The bundled network (0), or the published form of a width with random weights; its ONNX."""
    from export.onnx import build_onnx
    from hscaunet import PublishedNet, load_checkpoint
    from hscaunet.weights import bundled_weights
    from runtime.layout import CONTRACT
    from runtime.models.manifest import DEFAULT_MODEL, find_model

    path = Path(tempfile.mkdtemp()) / f"width{width}.onnx"
    if not width:
        path.write_bytes(find_model(DEFAULT_MODEL).read_bytes())
        return load_checkpoint(bundled_weights()).model, path
    torch.manual_seed(0)
    model = PublishedNet(width).eval()
    metadata = {"layout": CONTRACT, "precision": "fp32", "name": path.stem}
    path.write_bytes(build_onnx(model, metadata=metadata).SerializeToString())
    return model, path


def torch_row(model: Any, device: str, compiled: bool) -> Run:
    """The network in PyTorch: fp16 autocast, channels_last."""
    net = model.to(device).to(memory_format=torch.channels_last)
    call = torch.compile(net) if compiled else net
    kind = torch.float16 if device == "cuda" else torch.bfloat16

    def run(x: np.ndarray) -> np.ndarray:
        with torch.inference_mode(), torch.autocast(device, kind):
            there = torch.from_numpy(x).to(device).contiguous(memory_format=torch.channels_last)
            return call(there).float().cpu().numpy()

    return run


@contextmanager
def runtime_row(path: Path, **options: Any) -> Iterator[Run]:
    """The runtime's own engine, without the checks of `Colorizer.predict`."""
    from runtime import Colorizer

    with Colorizer(path, **options) as colorizer:
        yield colorizer.raw


def matrix_rate(device: str) -> float:
    """FLOP/s of a large half precision matrix product, the best of several."""
    n = 8192 if device == "cuda" else 512
    kind = torch.float16 if device == "cuda" else torch.float32
    a, b = (torch.randn(n, n, device=device, dtype=kind) for _ in range(2))
    best = 0.0
    for _ in range(10):
        if device == "cuda":
            torch.cuda.synchronize()
        began = time.perf_counter()
        a @ b
        if device == "cuda":
            torch.cuda.synchronize()
        best = max(best, 2 * n**3 / (time.perf_counter() - began))
    return best


def flops(model: Any, size: int) -> int:
    """Floating-point operations for one picture."""
    from torch.utils.flop_counter import FlopCounterMode

    with torch.inference_mode(), FlopCounterMode(display=False) as counter:
        model(torch.zeros(1, 4, size, size, device=next(model.parameters()).device))
    return counter.get_total_flops()


def picture(batch: int, size: int, seed: int = 0) -> np.ndarray:
    """Random inputs of the network's layout: never zeros, which run faster than real data."""
    rng = np.random.default_rng(seed)
    x = rng.random((batch, 4, size, size), np.float32)
    x[:, 3] = x[:, 3] < 0.005
    x[:, 1:3] = np.where(x[:, 3:] > 0, x[:, 1:3], 128 / 255)
    return x


def time_rows(rows: dict[str, Run], x: np.ndarray, repeats: int) -> dict[str, list[float]]:
    """Seconds of each row, in turn."""
    times: dict[str, list[float]] = {name: [] for name in rows}
    for run in rows.values():
        for _ in range(5):  # compilation, kernels, graphs
            run(x)
    for _ in range(repeats):
        for name, run in rows.items():
            began = time.perf_counter()
            run(x)
            times[name].append(time.perf_counter() - began)
    return times


def in_threads(run: Run, x: np.ndarray, threads: int, calls: int) -> float:
    """Pictures a second from several threads at once, each checked against a call alone."""
    alone = run(x)

    def work(_: int) -> bool:
        return all(np.array_equal(run(x), alone) for _ in range(calls))

    with ThreadPoolExecutor(threads) as pool:
        list(pool.map(work, range(threads)))
        began = time.perf_counter()
        if not all(pool.map(work, range(threads))):
            raise SystemExit("Threads do not give what one thread alone gives.")
        return threads * calls * len(x) / (time.perf_counter() - began)


def device_memory() -> int:
    """Bytes in use on the GPU, by everybody."""
    free, total = torch.cuda.mem_get_info()
    return total - free


def cycles(open_row: Callable[[], Any], x: np.ndarray, count: int) -> dict[str, float]:
    """Open, run and close again and again; how much device memory it has grown by."""
    marks = []
    for i in range(count):
        with open_row() as run:
            run(x)
        if i in (count // 10, count - 1):
            gc.collect()
            torch.cuda.synchronize()
            marks.append(device_memory())
    return {"cycles": count, "growth_mib": (marks[-1] - marks[0]) / 2**20}


def engine_of(path: Path, flavor: str, batch: int, size: int) -> Path | str:
    """An fp16 engine for this GPU, or why there is none."""
    from export.tensorrt.build import build
    from export.tensorrt.options import BuildOptions
    from runtime.engines.tensorrt.library import open_library
    from runtime.errors import ColorizationError

    output = path.with_suffix(f".{flavor}.engine")
    options = BuildOptions(batch=(1, min(8, batch), batch), size=(size, size, size))
    try:
        build(path, output, open_library(flavor), options,
              lambda topic, text: print(f"  {topic}: {text}", file=sys.stderr))  # fmt: skip
    except ColorizationError as error:
        return str(error)
    return output


def measure(width: int, args: argparse.Namespace) -> dict[str, Any]:
    """All rows of one network."""
    from contextlib import ExitStack

    from runtime.errors import ColorizationError

    device, cuda = args.device, args.device == "cuda"
    model, path = make_model(width)
    x = picture(max(args.batches), args.size)
    with torch.inference_mode():
        right = model(torch.from_numpy(x[:1])).numpy()  # fp32, on the CPU
    work = flops(model, args.size)
    rate = matrix_rate(device)
    result: dict[str, Any] = {
        "width": width, "gflop": work / 1e9, "matrix_tflops": rate / 1e12, "rows": [], "absent": {},
    }  # fmt: skip
    openers: dict[str, Callable[[], Any]] = {}
    if cuda:
        half = path.with_suffix(".fp16.onnx")
        from export.checks import feeds_of
        from export.precision import to_half
        from export.reading import load_graph
        from runtime.layout import CONTRACT

        proto = load_graph(path)[0]
        half.write_bytes(to_half(proto, feeds_of(CONTRACT))[0].SerializeToString())
        openers["ONNX Runtime CUDA fp16"] = lambda: runtime_row(
            half, backend="onnxruntime", device="cuda"
        )
        for flavor, name in (("tensorrt", "TensorRT fp16"), ("rtx", "TensorRT for RTX fp16")):
            engine = engine_of(path, flavor, max(args.batches), args.size)
            if isinstance(engine, str):
                result["absent"][name] = engine
                continue
            for layer in ("cuda-python", "pycuda"):
                openers[f"{name}, {layer}"] = partial(runtime_row, engine, cuda=layer)
    else:
        openers["ONNX Runtime CPU fp32"] = lambda: runtime_row(
            path, backend="onnxruntime", device="cpu"
        )
    with ExitStack() as stack:
        rows: dict[str, Run] = {
            "PyTorch eager fp16": torch_row(model, device, False),
            "PyTorch compile fp16": torch_row(model, device, True),
        }
        if args.skip_compile:
            del rows["PyTorch compile fp16"]
        for name, opener in list(openers.items()):
            try:
                rows[name] = stack.enter_context(opener())
            except ColorizationError as error:
                result["absent"][name] = str(error)
                del openers[name]
        for name, run in rows.items():
            error = float(np.abs(run(x[:1]) - right).max())
            # PyTorch's rows are there for speed; ours have to be right.
            if name in openers and not error <= TOLERANCE:
                raise SystemExit(f"{name} differs from PyTorch in fp32 by {error:.2e} on ab.")
            result.setdefault("error", {})[name] = error
        for batch in args.batches:
            times = time_rows(rows, x[:batch], args.repeats)
            floor = work * batch / rate
            for name, seconds in times.items():
                p50, p99 = np.percentile(seconds, [50, 99])
                result["rows"].append(
                    {
                        "row": name,
                        "batch": batch,
                        "p50_ms": p50 * 1e3,
                        "p99_ms": p99 * 1e3,
                        "images_per_s": batch / p50,
                        "floor_ms": floor * 1e3,
                        "share": floor / p50,
                    }
                )
        result["threads"] = {
            name: in_threads(rows[name], x[:1], args.threads, args.repeats) for name in openers
        }
        if cuda:
            result["memory_mib"] = device_memory() / 2**20
    if cuda:
        result["open_close"] = {
            name: cycles(opener, x[:1], args.cycles if "Tensor" in name else args.cycles // 10)
            for name, opener in openers.items()
        }
    return result


def table(result: dict[str, Any], name: str) -> str:
    """One network's rows in Markdown."""
    lines = [
        f"Width {result['width']} on {name}: {result['gflop']:.1f} GFLOP a picture, matrix product "
        f"{result['matrix_tflops']:.0f} TFLOP/s.\n",
        "| row | batch | p50 ms | p99 ms | images/s | floor ms | share |",
        "| --- | --- | --- | --- | --- | --- | --- |",
    ]
    lines += [
        f"| {r['row']} | {r['batch']} | {r['p50_ms']:.2f} | {r['p99_ms']:.2f} | "
        f"{r['images_per_s']:.0f} | {r['floor_ms']:.3f} | {r['share']:.1%} |"
        for r in result["rows"]
    ]
    lines += [f"\nAbsent: {row}: {why}" for row, why in result["absent"].items()]
    lines += [
        f"\n{row}, {n:.0f} images/s from several threads" for row, n in result["threads"].items()
    ]
    lines += [
        f"\n{row}: {c['growth_mib']:.1f} MiB of growth in {c['cycles']} open/close cycles"
        for row, c in result.get("open_close", {}).items()
    ]
    return "\n".join(lines)


def main() -> None:
    """Run the command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--device", choices=("cuda", "cpu"), default="cuda")
    parser.add_argument("--widths", type=int, nargs="+", default=[0, 64])
    parser.add_argument("--batches", type=int, nargs="+", default=[1, 8, 32])
    parser.add_argument("--size", type=int, default=256)
    parser.add_argument("--repeats", type=int, default=200)
    parser.add_argument("--threads", type=int, default=8)
    parser.add_argument("--cycles", type=int, default=1000)
    parser.add_argument("--skip-compile", action="store_true", help="leave torch.compile out")
    parser.add_argument("--json", type=Path)
    args = parser.parse_args()
    if args.device == "cuda" and not torch.cuda.is_available():
        raise SystemExit("There is no GPU here; --device cpu rehearses the script.")
    name = torch.cuda.get_device_name() if args.device == "cuda" else platform.processor() or "CPU"
    report: dict[str, Any] = {"device": name, "torch": torch.__version__, "networks": []}
    for width in args.widths:
        report["networks"].append(measure(width, args))
        print(table(report["networks"][-1], name), flush=True)
        if args.json:
            args.json.write_text(json.dumps(report, indent=1) + "\n")


if __name__ == "__main__":
    main()
