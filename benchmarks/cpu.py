"""Time and memory on this CPU: ``python benchmarks/cpu.py -o cpu.json --plot cpu.png``.

All rows of one table are measured in one process, one after the other in turn, so that whatever
else the machine does hits all of them alike; read the ratios. Memory and start are measured in
processes of their own. Pause everything else first.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import subprocess
import sys
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np

SIZES = {"256x256": (256, 256), "1 MP": (864, 1152), "12 MP": (3000, 4000)}
MODELS = {"lite": "hscaunet-lite"}


def photo(height: int, width: int) -> np.ndarray:
    """A grey photo-like picture: smooth, with edges and grain."""
    import cv2

    rng = np.random.default_rng(0)
    coarse = rng.integers(0, 256, (12, 16), np.uint8)
    picture = cv2.resize(coarse, (width, height), interpolation=cv2.INTER_CUBIC)
    grain = rng.integers(0, 8, (256, 256), np.uint8)
    tiled = np.tile(grain, (height // 256 + 1, width // 256 + 1))[:height, :width]
    return cv2.add(picture, tiled)


def clicks(height: int, width: int, count: int = 20) -> Any:
    """As many hints as a person gives."""
    from runtime import Hint, Hints

    rng = np.random.default_rng(1)
    return Hints(
        [
            Hint(int(x * width), int(y * height), tuple(c.tolist()), max(1, width // 64))
            for x, y, c in zip(
                rng.random(count), rng.random(count), rng.integers(0, 256, (count, 3)), strict=True
            )
        ]
    )


def by_hand(run: Callable[[np.ndarray], np.ndarray]) -> Callable[[np.ndarray, Any], np.ndarray]:
    """The whole pipeline as one writes it in an afternoon: OpenCV's float Lab at full size."""
    import cv2

    from runtime.layout import network_size

    def colorize(grey: np.ndarray, hints: Any) -> np.ndarray:
        height, width = grey.shape
        high, wide = network_size(height, width)
        lab = cv2.cvtColor(
            cv2.cvtColor(grey, cv2.COLOR_GRAY2RGB).astype(np.float32) / 255, cv2.COLOR_RGB2LAB
        )
        small = cv2.resize(lab[..., 0], (wide, high), interpolation=cv2.INTER_AREA)
        x = np.full((1, 4, high, wide), 128 / 255, np.float32)
        x[0, 0], x[0, 3] = small / 100, 0
        for hint in hints:
            color = np.array([[hint.color]], np.float32) / 255
            row, column = hint.y * high // height, hint.x * wide // width
            x[0, 1:3, row, column] = (cv2.cvtColor(color, cv2.COLOR_RGB2LAB)[0, 0, 1:] + 128) / 255
            x[0, 3, row, column] = 1
        ab = run(x)[0].transpose(1, 2, 0) * 255 - 128
        lab[..., 1:] = cv2.resize(ab, (width, height), interpolation=cv2.INTER_CUBIC)
        rgb = cv2.cvtColor(lab, cv2.COLOR_LAB2RGB)
        return np.rint(rgb * 255).clip(0, 255).astype(np.uint8)

    return colorize


def raw_engines(model: Path, network: Any) -> tuple[dict[str, Any], dict[str, str]]:
    """Engines as one uses them by hand, x to ab; and why one of them is missing."""
    found: dict[str, Any] = {}
    missing: dict[str, str] = {}

    import onnxruntime as ort

    session = ort.InferenceSession(str(model), providers=["CPUExecutionProvider"])
    found["ONNX Runtime fp32"] = lambda x: session.run(None, {"input": x})[0]
    try:
        import openvino as ov

        compiled = ov.Core().compile_model(str(model), "CPU", {"PERFORMANCE_HINT": "LATENCY"})
        kind = compiled.get_property("INFERENCE_PRECISION_HINT").to_string()
        found[f"OpenVINO {kind}"] = lambda x: compiled([x])[0]
    except ImportError as error:
        missing["OpenVINO"] = str(error)
    try:
        import cv2

        net = cv2.dnn.readNetFromONNX(str(model))

        def dnn(x: np.ndarray) -> np.ndarray:
            net.setInput(x)
            return net.forward()

        dnn(np.zeros((1, 4, 64, 64), np.float32))
        found["OpenCV DNN fp32"] = dnn
    except Exception as error:
        missing["OpenCV DNN fp32"] = str(error).strip().splitlines()[0][-150:]
    if network is not None:
        import torch

        network = network.eval().to(memory_format=torch.channels_last)

        def eager(x: np.ndarray, bf16: bool) -> np.ndarray:
            with torch.inference_mode(), torch.autocast("cpu", torch.bfloat16, enabled=bf16):
                return network(torch.from_numpy(x)).float().numpy()

        found["PyTorch eager fp32"] = lambda x: eager(x, False)
        found["PyTorch eager bf16"] = lambda x: eager(x, True)
    return found, missing


def interleaved(
    rows: dict[str, Callable[[], Any]], repeats: int, slow: float = 3.0
) -> dict[str, tuple[float, float]]:
    """Median and 95th percentile in seconds; what takes longer than `slow` is run three times."""
    times: dict[str, list[float]] = {name: [] for name in rows}
    for row in rows.values():
        row()
    for turn in range(repeats):
        for name, row in rows.items():
            if turn >= 3 and median(times[name]) > slow:
                continue
            start = time.perf_counter()
            row()
            times[name].append(time.perf_counter() - start)
    return {n: (median(t), float(np.percentile(t, 95))) for n, t in times.items()}


def speed(model: Path, network: Any, repeats: int) -> dict[str, Any]:
    """Every row for every size of photo."""
    from runtime import Colorizer
    from runtime.layout import network_size

    raw, missing = raw_engines(model, network)
    colorizers = {b: Colorizer(model, backend=b, device="cpu") for b in ("onnxruntime", "openvino")}
    auto = Colorizer(model, device="cpu")
    report: dict[str, Any] = {"missing": missing, "auto": auto.backend, "sizes": {}}
    for name, why in missing.items():
        print(f"  {name} is not measured: {why}")
    for label, (height, width) in SIZES.items():
        high, wide = network_size(height, width)
        rows = _rows(raw, colorizers, photo(height, width), (high, wide))
        report["sizes"][label] = interleaved(rows, repeats)
        print(f"\n{model.stem}, {label} (the network sees {wide}x{high})")
        for name, (middle, top) in report["sizes"][label].items():
            print(f"  {name:48s} {middle * 1e3:9.1f} ms   p95 {top * 1e3:9.1f} ms")
    return report


def _rows(
    raw: dict[str, Any], colorizers: dict[str, Any], grey: np.ndarray, cells: tuple[int, int]
) -> dict[str, Callable[[], Any]]:
    """What is timed for one photo."""
    hints = clicks(*grey.shape)
    x = np.zeros((1, 4, *cells), np.float32)
    x[:, 1:3] = 128 / 255
    rows: dict[str, Callable[[], Any]] = {}
    for name, run in raw.items():
        rows[f"engine: {name}"] = partial(run, x)
    rows["whole, by hand: ONNX Runtime fp32"] = partial(
        by_hand(raw["ONNX Runtime fp32"]), grey, hints
    )
    for name, colorizer in colorizers.items():
        title = f"{name} {colorizer.precision}"
        rows[f"engine call of Colorizer: {title}"] = partial(colorizer._engine.run, x)
        rows[f"Colorizer: {title}"] = partial(colorizer.colorize, grey, hints)
        session = colorizer.open(grey)
        session.set_hints(hints)
        session.preview(1024)
        rows[f"edit and preview(1024): {title}"] = partial(edit, session, hints[0])
    return rows


def edit(session: Any, hint: Any) -> None:
    """What a click costs; the hint is taken away again, which costs nothing."""
    number = session.add(hint)
    session.preview(1024)
    session.remove(number)


_MEMORY = """
import json, os, sys
sys.path.insert(0, {here!r})
from cpu import by_hand, clicks, photo, resident, restart_peak
import numpy as np
kind, model = {kind!r}, {model!r}
grey, hints = photo(3000, 4000), clicks(3000, 4000)
if kind == "by hand":
    import onnxruntime as ort
    session = ort.InferenceSession(model, providers=["CPUExecutionProvider"])
    call = by_hand(lambda x: session.run(None, {{"input": x}})[0])
else:
    from runtime import Colorizer
    call = Colorizer(model, backend=kind, device="cpu").colorize
loaded = resident()
restart_peak()
out = call(grey, hints)
first = resident(peak=True) - loaded
settled = resident()
restart_peak()
out = call(grey, hints)
print(json.dumps({{"first": first, "output": out.nbytes}}))
"""


def resident(peak: bool = False) -> int:
    """Bytes of memory held now, or at most since `restart_peak` (Linux)."""
    key = "VmHWM" if peak else "VmRSS"
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith(key):
            return int(line.split()[1]) * 1024
    raise RuntimeError("no such line in /proc/self/status")


def restart_peak() -> None:
    """Begin to measure the peak anew."""
    Path("/proc/self/clear_refs").write_text("5")


def memory(model: Path) -> dict[str, int]:
    """Peak above the loaded model of one 12-megapixel photo, in bytes."""
    found = {}
    for kind in ("by hand", "onnxruntime", "openvino"):
        code = _MEMORY.format(here=str(Path(__file__).parent), kind=kind, model=str(model))
        result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
        if result.returncode:
            print(f"  memory of {kind}: {result.stderr.strip().splitlines()[-1]}")
            continue
        found[kind] = json.loads(result.stdout)["first"]
        print(f"  peak of a 12 MP photo above the loaded model, {kind}: {found[kind] / 1e6:.0f} MB")
    return found


def start() -> dict[str, float]:
    """Import, and the first picture from the start of a process, medians of five."""
    snippets = {
        "import runtime": "import runtime",
        "import numpy, cv2, onnxruntime": "import numpy, cv2, onnxruntime",
        "first picture, ONNX Runtime": "import numpy as np; from runtime import Colorizer; "
        "Colorizer(backend='onnxruntime').colorize(np.zeros((256, 256), np.uint8))",
        "first picture, OpenVINO": "import numpy as np; from runtime import Colorizer; "
        "Colorizer(backend='openvino').colorize(np.zeros((256, 256), np.uint8))",
        "python": "pass",
    }
    times: dict[str, list[float]] = {name: [] for name in snippets}
    held: dict[str, float] = {}
    tell = "; print([l for l in open('/proc/self/status') if 'VmHWM' in l][0].split()[1])"
    for _ in range(5):
        for name, code in snippets.items():
            began = time.perf_counter()
            out = subprocess.check_output([sys.executable, "-c", code + tell], text=True)
            times[name].append(time.perf_counter() - began)
            held[name] = int(out) * 1024
    result = {name: median(t) for name, t in times.items()}
    for name in snippets:
        print(f"  {name:34s} {result[name]:6.3f} s  {held[name] / 1e6:6.0f} MB")
    return {**result, **{f"{n} (bytes)": b for n, b in held.items()}}


def installed() -> dict[str, int]:
    """Bytes of each package on disk."""
    from importlib.util import find_spec

    sizes = {}
    for name in ("numpy", "cv2", "PIL", "onnxruntime", "openvino", "torch"):
        spec = find_spec(name)
        if spec is None or spec.origin is None:
            continue
        top = Path(spec.origin).parent
        folders = [top, *top.parent.glob(f"{name}*.libs"), *top.parent.glob(f"{name}_*.libs")]
        extra = {"PIL": "pillow.libs", "cv2": "opencv_python_headless.libs"}.get(name, "")
        folders += [top.parent / extra] * bool(extra)
        sizes[name] = sum(
            f.stat().st_size for d in set(folders) for f in d.rglob("*") if f.is_file()
        )
    ours = Path(__file__).parents[1] / "runtime"
    sizes["runtime (with its model)"] = sum(
        f.stat().st_size for f in ours.rglob("*") if f.is_file() and "__pycache__" not in f.parts
    )
    return sizes


def ratios(model: Path, held: dict[str, int], repeats: int) -> dict[str, dict[str, float]]:
    """What the project promises, as ratios; each engine alone, so that none's threads hinder."""
    from runtime import Colorizer
    from runtime.layout import network_size

    found = {}
    for backend in ("onnxruntime", "openvino"):
        colorizer = Colorizer(model, backend=backend, device="cpu")
        rows: dict[str, Callable[[], Any]] = {}
        for label in ("256x256", "12 MP"):
            shape = SIZES[label]
            grey, hints = photo(*shape), clicks(*shape)
            x = np.zeros((1, 4, *network_size(*shape)), np.float32)
            x[:, 1:3] = 128 / 255
            rows[f"engine {label}"] = partial(colorizer._engine.run, x)
            rows[f"colorize {label}"] = partial(colorizer.colorize, grey, hints)
        session = colorizer.open(grey)
        session.set_hints(hints)
        session.preview(1024)
        rows["edit"] = partial(edit, session, hints[0])
        took = {name: middle for name, (middle, _) in interleaved(rows, repeats).items()}
        found[backend] = {
            "colorize at 256x256 / engine call (at most 1.10)": took["colorize 256x256"]
            / took["engine 256x256"],
            "seconds at 12 MP beyond the engine call (at most 0.35)": took["colorize 12 MP"]
            - took["engine 12 MP"],
            "edit and preview(1024) / engine call (at most 1.15)": took["edit"]
            / took["engine 12 MP"],
        }
        if backend in held:
            found[backend]["peak at 12 MP in MB (at most 450)"] = held[backend] / 1e6
        print(f"\n{model.stem}, {backend}")
        for name, value in found[backend].items():
            print(f"  {name:58s} {value:8.3f}")
    return found


def plot(report: dict[str, Any], path: Path) -> None:
    """Bars of the medians, a panel for each model and size."""
    from hscaunet.evaluation.figures import open_matplotlib, write_figure

    plt = open_matplotlib()
    models = list(report["models"])
    figure, axes = plt.subplots(
        len(models), len(SIZES), figsize=(13, 3.6 * len(models)), squeeze=False, sharey="row"
    )
    for line, model in zip(axes, models, strict=True):
        for axis, (label, rows) in zip(line, report["models"][model]["sizes"].items(), strict=True):
            names = [n for n in rows if not n.startswith("engine call")]
            values = [rows[n][0] * 1e3 for n in names]
            colors = [
                "#8a8f98" if n.startswith("engine") else "#c9a26b" if "by hand" in n else "#2f6f8f"
                for n in names
            ]
            axis.barh(names, values, color=colors)
            for i, value in enumerate(values):
                axis.text(value, i, f" {value:.0f}", va="center", fontsize=8)
            axis.set_xscale("log")
            axis.xaxis.set_major_formatter("{x:.0f}")
            axis.xaxis.set_minor_formatter("")
            axis.set_xlim(min(values) * 0.5, max(values) * 2.5)
            axis.invert_yaxis() if axis is line[0] else None
            axis.set_title(f"{model}\nphoto of {label}", fontsize=10)
            axis.set_xlabel("ms, median, logarithmic", fontsize=8)
            axis.tick_params(labelsize=8)
            axis.spines[["top", "right"]].set_visible(False)
    figure.suptitle(report["machine"], fontsize=9)
    figure.tight_layout()
    write_figure(figure, path, dpi=110)


def markdown(report: dict[str, Any]) -> str:
    """The tables of docs/benchmarks.md: median and 95th percentile in ms."""
    parts = []
    for model, found in report["models"].items():
        lines = [f"| {model} | " + " | ".join(SIZES) + " |", "|---" * (len(SIZES) + 1) + "|"]
        for row in found["sizes"]["256x256"]:
            if not row.startswith("engine call"):
                cells = [found["sizes"][size][row] for size in SIZES]
                text = " | ".join(f"{a * 1e3:.0f} ({b * 1e3:.0f})" for a, b in cells)
                lines.append(f"| {row} | {text} |")
        parts.append("\n".join(lines))
    return "\n\n".join(parts)


def machine() -> str:
    """What this was measured on."""
    name = platform.processor() or platform.machine()
    flags = ""
    info = Path("/proc/cpuinfo")
    if info.exists():
        text = info.read_text()
        name = next((x.split(":")[1].strip() for x in text.splitlines() if "model name" in x), name)
        words = set(text.split())
        flags = ", ".join(f for f in ("amx_bf16", "avx512_bf16", "avx512f", "avx2") if f in words)
    return f"{name}, {len(os.sched_getaffinity(0))} cores, {flags}"


def main() -> None:
    """Run the command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--repeats", type=int, default=11)
    parser.add_argument("--models", nargs="+", choices=MODELS, default=list(MODELS))
    parser.add_argument("-o", "--output", type=Path, metavar="JSON")
    parser.add_argument("--plot", type=Path, metavar="PNG")
    parser.add_argument(
        "--show", type=Path, metavar="JSON", help="tables and plot of an earlier run"
    )
    args = parser.parse_args()
    if args.show:
        report: dict[str, Any] = json.loads(args.show.read_text())
        print(markdown(report))
        if args.plot:
            plot(report, args.plot)
        return
    from hscaunet.checkpoints import load_checkpoint
    from hscaunet.weights import bundled_weights
    from runtime.models.manifest import find_model

    report = {"machine": machine(), "models": {}}
    print(report["machine"])
    report["start"] = start()
    report["installed"] = installed()
    for name, size in report["installed"].items():
        print(f"  installed: {name:26s} {size / 1e6:6.0f} MB")
    for which in args.models:
        model = find_model(MODELS[which])
        network = load_checkpoint(bundled_weights(MODELS[which])).model
        found = speed(model, network, args.repeats)
        found["memory"] = memory(model)
        found["ratios"] = ratios(model, found["memory"], 2 * args.repeats)
        rows = found["sizes"]["256x256"]
        hand = rows["engine: ONNX Runtime fp32"][0]
        ours = next(v[0] for n, v in rows.items() if n.startswith(f"Colorizer: {found['auto']}"))
        found["auto against ONNX Runtime by hand"] = hand / ours
        print(f"  auto, {found['auto']}: {hand / ours:.2f}x as fast as ONNX Runtime by hand")
        report["models"][model.stem] = found
    if args.output:
        args.output.write_text(json.dumps(report, indent=1))
    if args.plot:
        plot(report, args.plot)


if __name__ == "__main__":
    main()
