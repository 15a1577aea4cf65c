"""Build a TensorRT engine from an ONNX file, look into it, and write it with its sidecar."""

from __future__ import annotations

import datetime
import hashlib
import time
from collections.abc import Callable
from pathlib import Path

from runtime.engines.tensorrt.cuda import Device, open_cuda
from runtime.engines.tensorrt.library import Library
from runtime.engines.tensorrt.sidecar import RTX_CAPABILITIES, Sidecar, sidecar_path
from runtime.errors import BackendError, ColorizationError
from runtime.models.manifest import MODELS
from runtime.safe_files import write_atomically

from ..reading import load_graph
from .compile import Compiler, tensors_of
from .graph import settle_precision
from .layers import check_layers, describe, layers_of_network
from .options import (
    BuildOptions,
    arguments_of,
    check_flavor,
    check_options,
    profile_shapes,
)


def find_gpu(library: Library) -> Device | None:
    """The GPU that is built for, or None, which only TensorRT for RTX can do without.

    Raises
    ------
    BackendError
        If there is none and the full TensorRT is to build: it crashes where it should raise, so
        it is not touched.
    """
    try:
        cuda = open_cuda()
        cuda.close()
        return cuda.device
    except ColorizationError as error:
        if library.flavor == "rtx":
            return None
        raise BackendError(
            f"TensorRT builds on the GPU that the engine is for, and none can be used: {error} "
            "--flavor rtx builds without a GPU."
        ) from None


def build(
    path: Path,
    output: Path,
    library: Library,
    options: BuildOptions,
    say: Callable[[str, str], None] = lambda topic, text: None,
) -> Sidecar:
    """Build an engine file and its sidecar.

    Parameters
    ----------
    path : Path
        An ONNX file of this project: a network, or a whole pipeline.
    output : Path
        The engine; its sidecar is put beside it. Older files of that name are replaced only when
        the new ones are whole.
    library : Library
    options : BuildOptions
    say : callable
        Called with a topic and a line about it, as they become known.

    Raises
    ------
    ModelError
        If the file is no graph of this project.
    BuildError
        If TensorRT does not take it, or the engine would not compute in that precision.
    BackendError
        If a GPU is needed and there is none.
    """
    check_options(options)
    proto, metadata, onnx_sha256 = load_graph(path)
    gpu = find_gpu(library)
    check_flavor(library, options, gpu)
    where = f"on {gpu.name}" if gpu else "no GPU that can be used here"
    say("library", f"{library.name} {library.version}, {where}")
    proto, precision, remark = settle_precision(proto, metadata, options.precision, path)

    compiler = Compiler(library, options)
    network = compiler.parse(proto, path)
    layers = layers_of_network(library.module, network)
    check_layers(layers, precision, f"of {path}")
    say("precision", f"{precision}: {describe(layers, precision)} ({remark})")
    shapes = profile_shapes(proto, options)
    compiler.configure(shapes)
    for kind, tensor in tensors_of(network):
        span = " to ".join(str(shapes[tensor.name][i]) for i in (0, 2)) if kind == "input" else ""
        say(kind, f"{tensor.name} {str(tensor.dtype).rpartition('.')[2]} {span}".rstrip())

    began = time.monotonic()
    data = compiler.compile(network, path)
    took = time.monotonic() - began
    if gpu and (library.flavor == "tensorrt" or gpu.capability in RTX_CAPABILITIES):
        say("inspected", compiler.inspect(data, precision))
    else:
        say("inspected", "not here, where it does not run; the network is strongly typed, so its "
            "types hold")  # fmt: skip

    place = None if library.flavor == "rtx" else gpu  # an engine for RTX runs on all of them
    sidecar = Sidecar(
        flavor=library.flavor,
        version=library.version,
        precision=precision,
        profiles=(shapes,),
        engine_sha256=hashlib.sha256(data).hexdigest(),
        onnx_sha256=onnx_sha256,
        onnx=path.stem if path.parent == MODELS else path.name,
        arguments=arguments_of(options, precision, metadata),
        gpu=place and place.name,
        compute_capability=place and place.capability,
        version_compatible=options.version_compatible,
        hardware_compatible=options.hardware_compatible,
        refit=options.refit,
        convolutions=layers.convolutions,
        half=layers.half,
        quantized=layers.quantized,
        metadata={**metadata, "precision": precision},
        built=datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
    )
    # The engine first: should the second write fail, the two do not match, and are refused.
    write_atomically(output, data)
    write_atomically(sidecar_path(output), sidecar.to_json())
    if options.timing_cache:
        say("timing cache", compiler.keep_timing_cache())
    say("built", f"in {took:.1f} s, {len(data) / 2**20:.1f} MiB: {output}")
    return sidecar
