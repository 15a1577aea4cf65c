"""``python -m export.triton [MODEL ...] -o REPOSITORY``: write a model repository."""

from __future__ import annotations

import argparse
import re
import shutil
import sys
import tempfile
from dataclasses import replace
from pathlib import Path

from hscaunet.commands import run_command
from runtime.engines.tensorrt.sidecar import Sidecar
from runtime.errors import ArgumentError, ModelError
from runtime.layout import CONTRACT, INTERFACES, PIPELINE
from runtime.safe_files import write_atomically

from .config import Model, Service, config, to_text
from .measure import batch_times, worth_waiting


def build_parser() -> argparse.ArgumentParser:
    """The command line."""
    parser = argparse.ArgumentParser(
        prog="python -m export.triton",
        description="Write a model repository for NVIDIA Triton Inference Server: the network and "
        "the graph from photo to photo, with dynamic batching, warm-up and versions.",
    )
    add = parser.add_argument
    add("models", nargs="*", metavar="MODEL",
        help="ONNX files or TensorRT engines of this project; default: the bundled network, and "
        "its pipeline from photo to photo")  # fmt: skip
    add("-o", "--output", type=Path, required=True, metavar="REPOSITORY",
        help="folder; a model that is there already gets another version")  # fmt: skip
    add("--name", metavar="NAME", help="of the network; of a pipeline NAME_photo (hscaunet)")
    add("--max-batch", type=int, default=8, metavar="N", help="most photos in one call (8)")
    add("--instances", type=int, default=1, metavar="N", help="copies of each model (1)")
    add("--kind", choices=("auto", "cpu", "gpu"), default="auto", help="where they run")
    add("--delay", type=int, metavar="US",
        help="microseconds to wait for others of the same shape; default: measured here, by "
        "ONNX Runtime; 0 for engines")  # fmt: skip
    add("--keep-versions", type=int, default=1, metavar="N",
        help="how many of the newest versions are served (1)")  # fmt: skip
    return parser


def main(argv: list[str] | None = None) -> int:
    """Run the command line; the exit status."""
    args = build_parser().parse_args(argv)
    try:
        return run_command(lambda: _run(args), "export")
    except KeyboardInterrupt:
        print("interrupted", file=sys.stderr)
        return 130


def _run(args: argparse.Namespace) -> None:
    for name in ("max_batch", "instances", "keep_versions"):
        if not 1 <= getattr(args, name) <= 1024:
            raise ArgumentError(f"--{name.replace('_', '-')} must be 1 to 1024.")
    if args.delay is not None and not 0 <= args.delay <= 10_000_000:
        raise ArgumentError("--delay must be 0 to 10000000 microseconds.")
    base = args.name or "hscaunet"
    if not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,100}", base):
        raise ArgumentError(f"--name is letters, digits, _, . and -, not {base!r:.60}.")
    if args.output.exists() and not args.output.is_dir():
        raise ArgumentError(f"{args.output} is a file; name a folder.")
    with tempfile.TemporaryDirectory() as folder:
        files = [Path(model) for model in args.models] or _bundled(Path(folder))
        found = [_open(path, base, args.max_batch) for path in files]
        names = [model.name for model, _ in found]
        if len(set(names)) < len(names):
            raise ArgumentError(
                "Two of these are models of one kind; write each by a call of its own, with --name."
            )
        for path, (model, data) in zip(files, found, strict=True):
            _write(args, path, model, data)


def _bundled(folder: Path) -> list[Path]:
    """The bundled network, and its pipeline, exported anew."""
    from hscaunet.weights import bundled_weights
    from runtime.colorizer import locate_model

    from ..onnx import export

    pipeline = folder / "pipeline.onnx"
    print("exporting the pipeline from photo to photo ...", flush=True)
    export(bundled_weights(), pipeline, weights="fp16", pipeline=True)
    return [locate_model(None), pipeline]


def _open(path: Path, base: str, max_batch: int) -> tuple[Model, bytes]:
    """What a file is, and its bytes, checked."""
    from runtime.engines import is_engine
    from runtime.engines.tensorrt.sidecar import read_engine

    from ..reading import load_graph

    if is_engine(path):
        data, sidecar = read_engine(path)
        layout = sidecar.metadata.get("layout", CONTRACT)
        model = _engine(path, sidecar, base, layout, max_batch)
    else:
        _, metadata, _ = load_graph(path)
        layout, data = metadata["layout"], path.read_bytes()
        model = Model(base, layout, max_batch=max_batch)
    if layout not in (CONTRACT, PIPELINE):
        raise ModelError(f"{path} is neither a network nor a pipeline of this project.")
    if layout == PIPELINE:
        model = replace(model, name=f"{base}_photo")
    return model, data


def _engine(path: Path, sidecar: Sidecar, base: str, layout: str, max_batch: int) -> Model:
    """What an engine is, by its sidecar."""
    if sidecar.flavor != "tensorrt":
        raise ModelError(
            f"{path} is of TensorRT for RTX, which Triton does not load; build it again with "
            "python -m export.trt --flavor tensorrt."
        )
    wanted = set(list(INTERFACES.get(layout, {}))[:-1])
    if not sidecar.profiles or any(set(profile) != wanted for profile in sidecar.profiles):
        raise ModelError(f"The sidecar of {path} lacks the shapes of its inputs; build it again.")
    first = {name: shapes for name, shapes in sidecar.profiles[0].items() if all(shapes)}
    if set(first) != wanted or any(low[0] > 1 for low, _, _ in first.values()):
        raise ModelError(
            f"{path} takes several photos at least; build it with --batch 1,1,N, for Triton sends "
            "single ones too."
        )
    most = min(high[0] for _, _, high in first.values())
    best = {name: shape for name, (_, shape, _) in first.items()}
    return Model(base, layout, True, len(sidecar.profiles), min(max_batch, most), best)


def _say(count: int, seconds: float) -> None:
    each = 1000 * seconds / count
    print(f"  {count:>3}  {1000 * seconds:8.1f} ms, {each:.1f} each", flush=True)


def _write(args: argparse.Namespace, path: Path, model: Model, data: bytes) -> None:
    service = Service(args.instances, args.kind, args.delay or 0, versions=args.keep_versions)
    if args.delay is None and not model.engine and model.max_batch > 1:
        print(f"{model.name}: photos of 256x256 at once, by ONNX Runtime on this machine")
        times = batch_times(path, model.layout, model.max_batch, _say)
        delay, preferred = worth_waiting(times)
        service = replace(service, delay=delay, preferred=preferred)
    folder = args.output / model.name
    name = "model.plan" if model.engine else "model.onnx"
    older = [f for f in folder.glob("*") if f.name.isascii() and f.name.isdigit()]
    if any(not (f / name).is_file() for f in older):
        raise ArgumentError(
            f"{folder} has versions of another kind (ONNX or engine); choose another --name."
        )
    version = 1 + max((int(f.name) for f in older), default=0)
    (folder / str(version)).mkdir(parents=True)
    try:
        write_atomically(folder / str(version) / name, data)
        head = "# Of python -m export.triton; see docs/servers.md.\n"
        text = head + to_text(config(model, service))
        write_atomically(folder / "config.pbtxt", text.encode())
    except BaseException:
        shutil.rmtree(folder / str(version), ignore_errors=True)
        raise
    print(f"{folder}: version {version}, waits {service.delay} us for others", flush=True)


if __name__ == "__main__":
    sys.exit(main())
