"""Export to ONNX, and measure the file: ``python -m export.onnx [--checkpoint C] [-o OUT]``."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Collection
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from hscaunet.commands import run_command
from runtime.errors import ColorizationError
from runtime.layout import CONTRACT, input_dimensions
from runtime.models.onnx_cut import KEY

if TYPE_CHECKING:
    import numpy as np
    import onnx
    import torch
    from numpy.typing import NDArray

    from hscaunet.model import Network

OPSET = 20  # static quantization in ONNX Runtime wants at most 20
TOLERANCE = {"fp32": 1e-4, "fp16": 5e-3}
"""Largest absolute difference allowed on ab (0..1 scale) between the file and PyTorch."""

_SMALL_WEIGHT = 256  # weights with fewer values stay fp32 whatever the storage


@dataclass(frozen=True)
class Check:
    """Difference between an exported file and the PyTorch network on one input.

    Attributes
    ----------
    name : str
    shape : tuple of int
        Of the input, (N, 4, H, W).
    largest, mean : float
        Absolute difference on ab, 0..1 scale.
    """

    name: str
    shape: tuple[int, ...]
    largest: float
    mean: float


def build_onnx(
    model: Network, *, precision: str = "fp32", weights: str = "fp32", metadata: dict[str, str]
) -> onnx.ModelProto:
    """Export a network to an ONNX model in memory.

    Parameters
    ----------
    model : HSCAUNet or PublishedNet
    precision : {"fp32", "fp16"}
        What the graph computes in; input and output are fp32 either way.
    weights : {"fp32", "fp16"}
        What large weights are stored as. With fp16 in an fp32 graph they are cast when the file
        is opened: half the size, fp32 arithmetic.
    metadata : dict of str to str
        Written into the file beside what it says of its layout.

    Returns
    -------
    onnx.ModelProto
        Input "input" (N, 4, H, W), output "ab" (N, 2, H, W); N free, H and W multiples of 16.
    """
    import torch
    from torch.export import Dim

    from hscaunet.model.folding import fold

    example = (torch.zeros(2, 4, 64, 96),)
    shapes = ({0: Dim("N"), 2: 16 * Dim("H16"), 3: 16 * Dim("W16")},)
    model = fold(model)
    between = []
    if model.form == "guided":
        from hscaunet.model.photo import Photo

        between = [f"photo.{name}" for name in Photo._fields]
        model.forward = model.in_parts  # type: ignore[method-assign]
    proto = to_proto(model, example, shapes, ["input"], ["ab", *between])
    edges = list(proto.graph.output)[1:]
    del proto.graph.output[1:]
    name_dimensions(proto, list(input_dimensions(CONTRACT).values()), ["N", 2, "H", "W"])
    if precision == "fp16":
        from .precision import to_half

        proto, _ = to_half(proto, feeds(proto))
    else:
        if weights == "fp16":
            store_half(proto)
        if between:  # so that the runtime can cut it there; half precision has other tensors
            proto.graph.value_info.extend(edges)
            proto.metadata_props.add(key=KEY, value=",".join(between))
    for key, value in metadata.items():
        proto.metadata_props.add(key=key, value=value)
    return proto


def to_proto(
    module: torch.nn.Module,
    example: tuple[Any, ...],
    shapes: Any,
    inputs: list[str],
    outputs: list[str],
) -> onnx.ModelProto:
    """Export a module with `OPSET`, as one clean model.

    Parameters
    ----------
    example, shapes
        As ``torch.onnx.export`` takes them.
    inputs, outputs : list of str
        Their names.
    """
    import logging
    import warnings

    import torch

    with warnings.catch_warnings(), torch.inference_mode():
        warnings.simplefilter("ignore")
        logging.getLogger("onnxscript").setLevel(logging.ERROR)
        logging.getLogger("torch.onnx").setLevel(logging.ERROR)
        program = torch.onnx.export(
            module.eval(),
            example,
            dynamo=True,
            opset_version=OPSET,
            input_names=inputs,
            output_names=outputs,
            dynamic_shapes=shapes,
            external_data=False,
            verbose=False,
        )
    assert program is not None
    proto: onnx.ModelProto = program.model_proto
    _strip(proto)
    return proto


def _strip(proto: onnx.ModelProto) -> None:
    """Remove stack traces and source paths, which the exporter writes to every node."""
    for node in proto.graph.node:
        del node.metadata_props[:]
        node.doc_string = ""
    for value in (*proto.graph.value_info, *proto.graph.input, *proto.graph.output):
        del value.metadata_props[:]
    for tensor in proto.graph.initializer:
        del tensor.metadata_props[:]
        tensor.doc_string = ""
    del proto.graph.metadata_props[:]
    del proto.metadata_props[:]
    proto.doc_string = proto.graph.doc_string = ""


def name_dimensions(
    proto: onnx.ModelProto, inputs: list[list[int | str]], output: list[int | str]
) -> None:
    """Check that the free dimensions are free, and give them names that a person understands.

    Parameters
    ----------
    inputs, output : list
        Of each input and of the output, its dimensions: a number, or the name of a free one.
    """
    values = (*proto.graph.input, *proto.graph.output)
    for value, names in zip(values, (*inputs, output), strict=True):
        dims = value.type.tensor_type.shape.dim
        if len(dims) != len(names):
            raise AssertionError(f"{value.name} has an unexpected shape: {dims}")
        for dim, name in zip(dims, names, strict=True):
            if isinstance(name, int):
                if dim.dim_value != name:
                    raise AssertionError(f"{value.name} has an unexpected shape: {dims}")
                continue
            # An exporter that gives up on a free dimension writes a number without a word.
            if not dim.dim_param:
                raise AssertionError(f"{name} of {value.name} came out fixed: {dim}")
            dim.dim_param = name
    del proto.graph.value_info[:]


def store_half(
    proto: onnx.ModelProto, names: Collection[str] | None = None, exact: bool = False
) -> None:
    """Store large fp32 weights as fp16 with a Cast behind each; engines fold it on opening.

    Biases stay as they are: released weights are numbers of fp16, biases are not.

    Parameters
    ----------
    names : collection of str, optional
        Only those of these names.
    exact : bool
        Only those that are numbers of fp16 already, as released weights are.
    """
    import numpy as np
    import onnx
    from onnx import helper, numpy_helper

    casts = []
    for tensor in proto.graph.initializer:
        if tensor.data_type != onnx.TensorProto.FLOAT:
            continue
        value = numpy_helper.to_array(tensor)
        if (
            value.ndim < 2
            or value.size < _SMALL_WEIGHT
            or (names is not None and tensor.name not in names)
        ):
            continue
        with np.errstate(over="ignore"):
            half = value.astype(np.float16)
        if exact and not np.array_equal(half, value):
            continue
        name = tensor.name
        tensor.CopyFrom(numpy_helper.from_array(half, name + ".fp16"))
        casts.append(
            helper.make_node(
                "Cast", [name + ".fp16"], [name], name + ".cast", to=onnx.TensorProto.FLOAT
            )
        )
    nodes = [*casts, *proto.graph.node]
    del proto.graph.node[:]
    proto.graph.node.extend(nodes)


def check_inputs(size: tuple[int, int] = (256, 256)) -> dict[str, NDArray[np.float32]]:
    """Inputs that an exported file is measured on, each (N, 4, H, W)."""
    import numpy as np

    from runtime.color import lab_from_rgb
    from runtime.images import read_image
    from runtime.layout import pack_input

    rng = np.random.default_rng(0)
    sample = read_image(Path(__file__).with_name("sample.jpg"))
    lab = lab_from_rgb(sample)
    L, ab = lab[..., 0], lab[..., 1:]
    nothing, everything = np.zeros(L.shape, bool), np.ones(L.shape, bool)
    sparse, one = rng.random(L.shape) < 0.005, np.zeros(L.shape, bool)
    one[100, 100] = True
    corner = pack_input(L[:128, :192], ab[:128, :192], sparse[:128, :192])
    odd = pack_input(L[:144, :80], ab[:144, :80], sparse[:144, :80])
    return {
        "photo, 0.5 % hints": pack_input(L, ab, sparse),
        "photo, no hints": pack_input(L, ab, nothing),
        "photo, one hint": pack_input(L, ab, one),
        "photo, full hints": pack_input(L, ab, everything),
        "black": pack_input(np.zeros_like(L), ab, sparse),
        "white": pack_input(np.full_like(L, 100), ab, sparse),
        "batch of 3, 192x128": np.concatenate([corner, corner[..., ::-1], corner[:, :, ::-1]]),
        "80x144": odd,
    }


def feeds(proto: onnx.ModelProto) -> list[dict[str, NDArray[np.generic]]]:
    """The `check_inputs` as ONNX Runtime takes them, from input name to array."""
    import numpy as np

    name = proto.graph.input[0].name
    return [{name: np.ascontiguousarray(x)} for x in check_inputs().values()]


def measure(proto: onnx.ModelProto, model: Network) -> list[Check]:
    """Run an exported model in ONNX Runtime beside the PyTorch network.

    Returns
    -------
    list of Check
        Largest and mean absolute difference for each of `check_inputs`.
    """
    import numpy as np
    import onnxruntime as ort
    import torch

    session = ort.InferenceSession(proto.SerializeToString(), providers=["CPUExecutionProvider"])
    rows = []
    for name, x in check_inputs().items():
        ours = session.run(None, {"input": x})[0]
        with torch.inference_mode():
            theirs = model(torch.from_numpy(np.ascontiguousarray(x))).numpy()
        difference = np.abs(ours - theirs)
        # NaN compares false to everything; make it fail every tolerance.
        largest = float(difference.max()) if np.isfinite(difference).all() else float("inf")
        rows.append(Check(name, x.shape, largest, float(difference.mean())))
    return rows


class ExportError(ColorizationError):
    """The exported file is not the network: it differs by more than the tolerance."""


def export(
    checkpoint: Path,
    output: Path,
    *,
    precision: str = "fp32",
    weights: str = "fp32",
    pipeline: bool = False,
    report: Any = None,
) -> list[Check]:
    """Export a checkpoint to one ONNX file that is checked before it is written.

    Parameters
    ----------
    checkpoint : Path
        See `hscaunet.checkpoints.load_checkpoint`.
    output : Path
        An older file of that name is replaced only once the new one has passed.
    precision, weights : {"fp32", "fp16"}
        See `build_onnx`.
    pipeline : bool
        Write a whole pipeline (`export.pipeline`), measured against `runtime.Colorizer` in 8-bit
        levels.
    report : callable, optional
        Called with each `Check`.

    Raises
    ------
    ModelError
        If the checkpoint cannot be used.
    ExportError
        If the file differs from PyTorch by more than `TOLERANCE`.
    """
    import json

    import onnx

    from hscaunet.checkpoints import load_checkpoint
    from runtime import __version__
    from runtime.layout import PIPELINE
    from runtime.models.manifest import sha256_of
    from runtime.safe_files import write_atomically

    loaded = load_checkpoint(checkpoint)
    model = loaded.model
    metadata = {
        "network": "HSCAU-Net",
        "name": str(loaded.metadata.get("name", checkpoint.stem)),
        "config": json.dumps(model.config),
        "layout": PIPELINE if pipeline else CONTRACT,
        "precision": precision,
        "weights_sha256": sha256_of(checkpoint),
        "hscaunet_version": __version__,
    }
    if pipeline:
        from .pipeline import build_pipeline, measure_pipeline

        proto = build_pipeline(model, precision=precision, weights=weights, metadata=metadata)
        onnx.checker.check_model(proto, full_check=True)
        rows = measure_pipeline(proto, model, TOLERANCE[precision], report)
        write_atomically(output, proto.SerializeToString())
        return rows
    proto = build_onnx(model, precision=precision, weights=weights, metadata=metadata)
    onnx.checker.check_model(proto, full_check=True)
    rows = measure(proto, model)
    for row in rows:
        if report:
            report(row)
    worst = max(rows, key=lambda row: row.largest)
    if not worst.largest <= TOLERANCE[precision]:
        raise ExportError(
            f"The exported network differs from PyTorch by {worst.largest:.2e} on "
            f"{worst.name!r}, more than the {TOLERANCE[precision]:.0e} allowed for {precision}; "
            "nothing was written."
            + (
                " These weights were not released for fp16 storage; use --weights fp32."
                if weights == "fp16" and precision == "fp32"
                else ""
            )
        )
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
    if not output.parent.is_dir():
        raise ExportError(f"The folder {output.parent} does not exist; make it first.")
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
