"""Export to ONNX, and measure the file: ``python -m export.onnx [--checkpoint C] [-o OUT]``."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from hscaunet.commands import run_command
from runtime.layout import CONTRACT, PIPELINE
from runtime.safe_files import check_folder, write_atomically

from .checks import Check, ExportError, feeds_of
from .graphs import store_half
from .precision import to_half

if TYPE_CHECKING:
    import onnx

    from hscaunet.model import Network


def build_onnx(
    model: Network,
    *,
    pipeline: bool = False,
    precision: str = "fp32",
    weights: str = "fp32",
    metadata: dict[str, str],
) -> onnx.ModelProto:
    """Export a network to an ONNX model in memory.

    Parameters
    ----------
    model : HSCAUNet or PublishedNet
    pipeline : bool
        Of a whole pipeline from photo to photo (`export.pipeline`), not of the network alone
        (`export.network`).
    precision : {"fp32", "fp16"}
        What the graph computes in; input and output are fp32 either way.
    weights : {"fp32", "fp16"}
        What large weights are stored as. With fp16 in an fp32 graph they are cast when the file
        is opened: half the size, fp32 arithmetic.
    metadata : dict of str to str
        Written into the file beside what it says of its layout.
    """
    target = _target(pipeline)
    proto = target.build_graph(model)
    if precision == "fp16":
        # Half precision has other tensors: such a file comes as one part.
        del proto.graph.value_info[:]
        del proto.metadata_props[:]
        proto, _ = to_half(proto, feeds_of(PIPELINE if pipeline else CONTRACT))
    elif weights == "fp16":
        store_half(proto)
    for key, value in metadata.items():
        proto.metadata_props.add(key=key, value=value)
    return proto


def _target(pipeline: bool) -> Any:
    """What is exported: a module with `build_graph` and `measure`."""
    from . import network
    from . import pipeline as whole

    return whole if pipeline else network


def export(
    checkpoint: Path,
    output: Path,
    *,
    precision: str = "fp32",
    weights: str = "fp32",
    pipeline: bool = False,
    report: Callable[[Check], None] = lambda check: None,
) -> list[Check]:
    """Export a checkpoint to one ONNX file that is checked before it is written.

    Parameters
    ----------
    checkpoint : Path
        See `hscaunet.checkpoints.load_checkpoint`.
    output : Path
        An older file of that name is replaced only once the new one has passed.
    precision, weights, pipeline
        See `build_onnx`.
    report : callable
        Called with each `Check`: of a network on ab, of a pipeline in 8-bit levels.

    Raises
    ------
    ModelError
        If the checkpoint cannot be used.
    ExportError
        If the file differs from PyTorch, or from `runtime.Colorizer`, by more than its tolerance.
    """
    import json

    import onnx

    from hscaunet.checkpoints import load_checkpoint
    from runtime import __version__
    from runtime.models.manifest import sha256_of

    loaded = load_checkpoint(checkpoint)
    metadata = {
        "network": "HSCAU-Net",
        "name": str(loaded.metadata.get("name", checkpoint.stem)),
        "config": json.dumps(loaded.model.config),
        "layout": PIPELINE if pipeline else CONTRACT,
        "precision": precision,
        "weights_sha256": sha256_of(checkpoint),
        "hscaunet_version": __version__,
    }
    proto = build_onnx(
        loaded.model, pipeline=pipeline, precision=precision, weights=weights, metadata=metadata
    )
    onnx.checker.check_model(proto, full_check=True)
    try:
        rows: list[Check] = _target(pipeline).measure(proto, loaded.model, precision, report)
    except ExportError as error:
        if (weights, precision) != ("fp16", "fp32"):
            raise
        raise ExportError(
            f"{error} If these weights were not released for fp16 storage, use --weights fp32."
        ) from None
    write_atomically(output, proto.SerializeToString())
    return rows


def build_parser() -> argparse.ArgumentParser:
    """The command line."""
    parser = argparse.ArgumentParser(
        prog="python -m export.onnx",
        description="Export HSCAU-Net to one ONNX file and measure it against PyTorch.",
    )
    add = parser.add_argument
    add(
        "--checkpoint",
        type=Path,
        metavar="C",
        help="training checkpoint, safetensors or the authors' file; default: bundled weights",
    )
    add("--precision", choices=("fp32", "fp16"), default="fp32", help="arithmetic of the graph")
    add(
        "--weights",
        choices=("fp32", "fp16"),
        default="fp32",
        help="storage of large weights in an fp32 graph; fp16 halves the file",
    )
    add(
        "--pipeline",
        action="store_true",
        help="write a graph that takes an RGB photo, RGB hints and their mask and gives an RGB "
        "photo, all uint8, for applications without this runtime",
    )
    add("-o", "--output", type=Path, metavar="OUT.onnx", help="default: the checkpoint's name")
    return parser


def main(argv: list[str] | None = None) -> int:
    """Run the command line; returns the exit status."""
    args = build_parser().parse_args(argv)
    return run_command(lambda: _run(args), "export")


def _run(args: argparse.Namespace) -> None:
    checkpoint = args.checkpoint
    if checkpoint is None:
        from hscaunet.weights import bundled_weights

        checkpoint = bundled_weights()
    suffix = ".onnx" if args.precision == "fp32" else ".fp16.onnx"
    if args.pipeline:
        suffix = f".pipeline{suffix}"
    output = args.output or Path(checkpoint.stem + suffix)
    check_folder(output, ExportError)
    what = ("max levels", "mean levels") if args.pipeline else ("max |d ab|", "mean |d ab|")
    print(f"{'input':<22}{'shape':<22}{what[0]:>12}{what[1]:>13}")
    export(
        checkpoint,
        output,
        precision=args.precision,
        weights=args.weights,
        pipeline=args.pipeline,
        report=lambda c: print(
            f"{c.name:<22}{c.shape!s:<22}{c.largest:>12.2e}{c.mean:>13.2e}", flush=True
        ),
    )
    print(f"{output}: {output.stat().st_size / 2**20:.1f} MiB, {args.precision}")


if __name__ == "__main__":
    sys.exit(main())
