"""How an engine is built, and what cannot be."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from runtime.engines.tensorrt.cuda import Device
from runtime.engines.tensorrt.library import Library
from runtime.errors import ColorizationError
from runtime.layout import MULTIPLE, PIPELINE, SMALLEST_PHOTO

if TYPE_CHECKING:
    import onnx

PRECISIONS = ("auto", "fp32", "fp16", "int8")

COMPATIBILITY = {"none": "NONE", "same": "SAME_COMPUTE_CAPABILITY", "ampere+": "AMPERE_PLUS"}

LARGEST = 1 << 15
"""Most pictures at once, and most pixels of a side."""

LARGEST_WORKSPACE = 1 << 20

Range = tuple[int, int, int]
Shapes = dict[str, tuple[tuple[int, ...], tuple[int, ...], tuple[int, ...]]]


@dataclass(frozen=True)
class BuildOptions:
    """How an engine is built.

    Attributes
    ----------
    precision : {"auto", "fp32", "fp16", "int8"}
        "auto" is int8 for a graph with Q/DQ nodes, else fp16.
    batch, size, photo : (int, int, int)
        Smallest, best and largest: pictures at once; height and width at which the network sees
        them (multiples of 16); height and width of the photos of a pipeline.
    workspace : int, optional
        MiB that the builder may try layers with; None is the GPU's memory.
    level : int, optional
        0 builds fastest, 5 searches longest; None is TensorRT's own (3).
    timing_cache : Path, optional
        File with what layers took in earlier builds. TensorRT for RTX has none.
    version_compatible : bool
        Run with later versions of the same major number too, a little slower.
    hardware_compatible : {"none", "same", "ampere+"}
    refit : bool
        Let its weights be exchanged later.
    """

    precision: str = "auto"
    batch: Range = (1, 1, 8)
    size: Range = (64, 256, 512)
    photo: Range = (64, 1024, 4096)
    workspace: int | None = None
    level: int | None = None
    timing_cache: Path | None = None
    version_compatible: bool = False
    hardware_compatible: str = "none"
    refit: bool = False


class BuildError(ColorizationError):
    """An engine could not be built; the message says why and what to do."""


def check_options(options: BuildOptions) -> None:
    """Raise `BuildError` for what contradicts itself."""
    smallest = {"batch": 1, "size": MULTIPLE, "photo": SMALLEST_PHOTO}
    for name, least in smallest.items():
        low, best, high = getattr(options, name)
        if not least <= low <= best <= high <= LARGEST:
            raise BuildError(
                f"--{name} must be MIN,OPT,MAX in that order, from {least} to {LARGEST}, not "
                f"{low},{best},{high}."
            )
    if options.workspace is not None and not 1 <= options.workspace <= LARGEST_WORKSPACE:
        raise BuildError(f"--workspace must be 1 to {LARGEST_WORKSPACE} (MiB).")
    if any(side % MULTIPLE for side in options.size):
        raise BuildError(f"--size must be multiples of {MULTIPLE}, not {options.size}.")


def check_flavor(library: Library, options: BuildOptions, gpu: Device | None) -> None:
    """Raise `BuildError` for what TensorRT for RTX cannot do (seen with 1.7)."""
    if library.flavor != "rtx":
        return
    if options.version_compatible:
        raise BuildError(
            "TensorRT for RTX has no version-compatible engines; leave --version-compatible out."
        )
    if options.hardware_compatible != "none":
        raise BuildError(
            "An engine of TensorRT for RTX runs on all GPUs that it supports as it is; leave "
            "--hardware-compatible out."
        )
    if options.refit and gpu is None:
        raise BuildError(
            "TensorRT for RTX builds engines for refitting only where there is a GPU; leave "
            "--refit out, or build on such a machine."
        )


def profile_shapes(proto: onnx.ModelProto, options: BuildOptions) -> Shapes:
    """Smallest, best and largest shape of each input, by the names of its free dimensions."""
    ranges = {"N": options.batch, "H": options.size, "W": options.size,
              "photo_H": options.photo, "photo_W": options.photo}  # fmt: skip
    shapes = {}
    for value in proto.graph.input:
        dims = [
            ranges[d.dim_param] if d.dim_param else (d.dim_value,) * 3
            for d in value.type.tensor_type.shape.dim
        ]
        shapes[value.name] = tuple(tuple(d[i] for d in dims) for i in range(3))
    return shapes  # type: ignore[return-value]


def arguments_of(
    options: BuildOptions, precision: str, metadata: dict[str, str]
) -> tuple[str, ...]:
    """What of the command line decides what the engine is."""

    def text(values: Range) -> str:
        return ",".join(map(str, values))

    words = ["--precision", precision, "--batch", text(options.batch), "--size", text(options.size)]
    if metadata["layout"] == PIPELINE:
        words += ["--photo", text(options.photo)]
    if options.version_compatible:
        words += ["--version-compatible"]
    if options.hardware_compatible != "none":
        words += ["--hardware-compatible", options.hardware_compatible]
    return (*words, "--refit") if options.refit else tuple(words)
