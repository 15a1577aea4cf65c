"""Build a TensorRT engine from an ONNX file, look into it, and write it with its sidecar."""

from __future__ import annotations

import contextlib
import datetime
import hashlib
import json
import os
import signal
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from runtime.engines.tensorrt.cuda import Device, open_cuda
from runtime.engines.tensorrt.library import Library
from runtime.engines.tensorrt.sidecar import RTX_CAPABILITIES, Sidecar, sidecar_path
from runtime.errors import BackendError, ColorizationError, ModelError, first_line
from runtime.layout import CONTRACT, MULTIPLE, PIPELINE, input_dimensions
from runtime.models.manifest import MODELS
from runtime.models.onnx_file import read_model_file
from runtime.safe_files import read_limited, write_atomically

if TYPE_CHECKING:
    import onnx

PRECISIONS = ("auto", "fp32", "fp16", "int8")
COMPATIBILITY = {"none": "NONE", "same": "SAME_COMPUTE_CAPABILITY", "ampere+": "AMPERE_PLUS"}

LARGEST = 1 << 15
"""Most pictures at once, and most pixels of a side."""

LARGEST_WORKSPACE = 1 << 20

SMALLEST_PHOTO = 32
"""Smallest side of a pipeline's photo; `export.pipeline` says why."""

Range = tuple[int, int, int]


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


def load_graph(path: Path) -> tuple[onnx.ModelProto, dict[str, str], str]:
    """An ONNX file of this project, its metadata and its sha256.

    Raises
    ------
    ModelError
        If it is none, or is damaged.
    """
    import onnx

    data, metadata = read_model_file(path, (CONTRACT, PIPELINE))
    try:
        proto = onnx.load_model_from_string(data)
        onnx.checker.check_model(proto, full_check=True)
    except Exception as error:  # protobuf's, the checker's and shape inference's share no base
        raise ModelError(
            f"{path} is no valid ONNX model ({first_line(error)}); export it again with "
            "python -m export.onnx."
        ) from None
    # read_model_file looks for them in the bytes; a file may be written so that it does not see.
    if any(onnx.external_data_helper.uses_external_data(t) for t in proto.graph.initializer):
        raise ModelError(f"{path} keeps weights in other files; save it as one file.")
    found = {
        value.name: [d.dim_param or d.dim_value for d in value.type.tensor_type.shape.dim]
        for value in proto.graph.input
    }
    wanted = input_dimensions(metadata["layout"])
    if found != wanted:
        raise ModelError(
            f"{path} takes {found}, not {wanted}; export it again with python -m export.onnx."
        )
    return proto, metadata, hashlib.sha256(data).hexdigest()


def is_quantized(proto: onnx.ModelProto) -> bool:
    """Whether a graph has Q/DQ nodes."""
    return any(node.op_type == "QuantizeLinear" for node in proto.graph.node)


def settle_precision(
    proto: onnx.ModelProto, metadata: dict[str, str], precision: str, path: Path
) -> tuple[onnx.ModelProto, str, str]:
    """The graph in the precision asked for, that precision, and a remark for people.

    Raises
    ------
    BuildError
        If the file cannot give that precision.
    """
    from .precision import restore_floats, to_half

    has = "int8" if is_quantized(proto) else metadata.get("precision", "fp32")
    if has not in PRECISIONS[1:]:
        raise BuildError(
            f"{path} says that it is of {has!r:.30}, which cannot be built; give fp32."
        )
    if precision == "auto":
        precision = "int8" if has == "int8" else "fp16"
    if has == precision == "fp16":
        return proto, precision, "as the file has it"
    if has == precision:
        plain = type(proto)()
        plain.CopyFrom(proto)
        restore_floats(plain)  # what is stored as fp16: not every parser folds the Cast behind it
        remark = "without TF32" if precision == "fp32" else "as the file has it"
        return plain, precision, remark
    if has != "fp32":
        raise BuildError(
            f"{path} is a graph of {has} and cannot be built as {precision}; give the fp32 file, "
            f"or --precision {has}."
        )
    if precision == "int8":
        raise BuildError(
            f"{path} has no Q/DQ nodes, so it cannot be built as int8 (TensorRT 11 has no "
            "calibration of its own); quantize the ONNX file first."
        )
    half, report = to_half(proto, feeds_of(proto, metadata))
    remark = f"largest value {report.largest:.3g} of 65504, at {report.at}"
    if report.kept:
        remark += f"; {len(report.kept)} nodes left in float, whose values come near that"
    return half, precision, remark


def feeds_of(proto: onnx.ModelProto, metadata: dict[str, str]) -> list[dict[str, Any]]:
    """Inputs to measure a graph on."""
    if metadata.get("layout") == PIPELINE:
        from .pipeline import feeds

        return feeds()
    from .onnx import feeds as network_feeds

    return network_feeds(proto)


def profile_shapes(
    proto: onnx.ModelProto, options: BuildOptions
) -> dict[str, tuple[tuple[int, ...], tuple[int, ...], tuple[int, ...]]]:
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


@dataclass(frozen=True)
class Layers:
    """What computes in which precision.

    Attributes
    ----------
    convolutions, half, quantized : int
        Convolutions, and how many give half precision, or take 8 bits.
    layers, layers_half : int
        All layers, and how many give half precision.
    """

    convolutions: int
    half: int
    quantized: int
    layers: int
    layers_half: int


def layers_of_network(trt: Any, network: Any) -> Layers:
    """Read a parsed network. As it is strongly typed, the engine keeps these types."""
    convolutional = (trt.LayerType.CONVOLUTION, trt.LayerType.DECONVOLUTION)
    layers = [network.get_layer(i) for i in range(network.num_layers)]
    dequantized = {
        layer.get_output(0).name for layer in layers if layer.type == trt.LayerType.DEQUANTIZE
    }
    found = [layer for layer in layers if layer.type in convolutional]

    def is_half(layer: Any) -> bool:
        return layer.num_outputs > 0 and layer.get_output(0).dtype == trt.DataType.HALF

    def is_quantized_layer(layer: Any) -> bool:
        # Its weights too: what stays in float may share its input with what does not.
        inputs = [layer.get_input(i) for i in range(layer.num_inputs)]
        return len(inputs) > 1 and all(
            tensor.name in dequantized for tensor in inputs[:2] if tensor is not None
        )

    return Layers(
        convolutions=len(found),
        half=sum(map(is_half, found)),
        quantized=sum(map(is_quantized_layer, found)),
        layers=len(layers),
        layers_half=sum(map(is_half, layers)),
    )


def layers_of_engine(information: str) -> Layers:
    """Read what TensorRT's engine inspector says, as JSON, of a built engine.

    Raises
    ------
    ValueError
        If it is no such JSON.
    """
    layers = [x for x in json.loads(information).get("Layers", []) if isinstance(x, dict)]

    def types(layer: dict[str, Any], side: str) -> str:
        return " ".join(str(t.get("Format/Datatype", "")) for t in layer.get(side, [])).lower()

    def is_half(layer: dict[str, Any]) -> bool:
        return any(word in types(layer, "Outputs") for word in ("half", "fp16"))

    found = [x for x in layers if "conv" in str(x.get("LayerType", "")).lower()]
    return Layers(
        convolutions=len(found),
        half=sum(map(is_half, found)),
        quantized=sum("int8" in types(x, "Inputs") for x in found),
        layers=len(layers),
        layers_half=sum(map(is_half, layers)),
    )


def check_layers(layers: Layers, precision: str, where: str) -> None:
    """Raise `BuildError` if an engine would not compute in what it is called."""
    count = {"fp16": layers.half, "int8": layers.quantized}.get(precision, 1)
    if layers.convolutions and not count:
        raise BuildError(
            f"Not one of the {layers.convolutions} convolutions {where} computes in {precision}, "
            f"so the engine would be {precision} in name only; nothing was written. Give the fp32 "
            "ONNX file that python -m export.onnx writes."
        )


class _Log:
    """What TensorRT says, kept for error messages; warnings go on to Python's log."""

    def __init__(self, trt: Any) -> None:
        self.errors: list[str] = []
        errors, severity = self.errors, trt.ILogger

        class Logger(trt.ILogger):  # type: ignore[misc, name-defined]
            def __init__(self) -> None:
                trt.ILogger.__init__(self)

            def log(self, level: Any, message: str) -> None:
                if level in (severity.ERROR, severity.INTERNAL_ERROR):
                    errors.append(message)

        self.logger = Logger()

    def last(self) -> str:
        """The first thing that went wrong, for the end of a sentence."""
        real = [e for e in self.errors if "cudaError 35" not in e]  # said on every CPU
        return first_line(RuntimeError(real[0])) if real else "it does not say why"


@contextlib.contextmanager
def _progress(trt: Any, config: Any) -> Iterator[None]:
    """Show the builder's own progress, and let Ctrl-C end it."""
    from tqdm import tqdm

    stopped = False
    bars: dict[str, tqdm] = {}

    class Monitor(trt.IProgressMonitor):  # type: ignore[misc, name-defined]
        def __init__(self) -> None:
            trt.IProgressMonitor.__init__(self)

        def phase_start(self, phase: str, parent: str | None, steps: int) -> None:
            bars[phase] = tqdm(
                total=steps, desc=phase, disable=None, leave=False, position=len(bars)
            )

        def step_complete(self, phase: str, step: int) -> bool:
            if phase in bars:
                bars[phase].update()
            return not stopped

        def phase_finish(self, phase: str) -> None:
            if phase in bars:
                bars.pop(phase).close()

    def stop(*_: object) -> None:
        nonlocal stopped
        stopped = True

    config.progress_monitor = Monitor()
    try:
        before = signal.signal(signal.SIGINT, stop)
    except ValueError:  # not the main thread: Ctrl-C is somebody else's
        before = None
    try:
        yield
    finally:
        if before is not None:
            signal.signal(signal.SIGINT, before)
        for bar in bars.values():
            bar.close()
    if stopped:
        raise KeyboardInterrupt


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


def _parse(trt: Any, builder: Any, proto: onnx.ModelProto, path: Path, log: _Log) -> Any:
    typed = 1 << int(trt.NetworkDefinitionCreationFlag.STRONGLY_TYPED)
    network = builder.create_network(typed)
    parser = trt.OnnxParser(network, log.logger)
    if not parser.parse(proto.SerializeToString()):
        problems = []
        for i in range(parser.num_errors):
            error = parser.get_error(i)
            problems.append(f"node {error.node_name()} ({error.node_operator()}): {error.desc()}")
        raise BuildError(
            f"TensorRT cannot read {path}: {'; '.join(problems) or log.last()}. Export it again "
            "with python -m export.onnx; if that file fails too, update TensorRT or report this."
        )
    return network, parser


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
    trt = library.module
    proto, metadata, onnx_sha256 = load_graph(path)
    gpu = find_gpu(library)
    check_flavor(library, options, gpu)
    where = f"on {gpu.name}" if gpu else "no GPU that can be used here"
    say("library", f"{library.name} {library.version}, {where}")
    proto, precision, remark = settle_precision(proto, metadata, options.precision, path)
    log = _Log(trt)
    builder = trt.Builder(log.logger)
    network, _parser = _parse(trt, builder, proto, path, log)
    layers = layers_of_network(trt, network)
    check_layers(layers, precision, f"of {path}")
    say("precision", f"{precision}: {describe(layers, precision)} ({remark})")

    config = builder.create_builder_config()
    config.profiling_verbosity = trt.ProfilingVerbosity.DETAILED  # so that it can be inspected
    config.clear_flag(trt.BuilderFlag.TF32)  # what is float has its reason: no ten-bit mantissas
    if options.workspace is not None:
        config.set_memory_pool_limit(trt.MemoryPoolType.WORKSPACE, options.workspace << 20)
    if options.level is not None:
        config.builder_optimization_level = options.level
    if options.version_compatible:
        config.set_flag(trt.BuilderFlag.VERSION_COMPATIBLE)
    if options.refit:
        config.set_flag(trt.BuilderFlag.REFIT)
    levels = trt.HardwareCompatibilityLevel
    config.hardware_compatibility_level = getattr(
        levels, COMPATIBILITY[options.hardware_compatible]
    )
    shapes = profile_shapes(proto, options)
    profile = builder.create_optimization_profile()
    for name, (low, best, high) in shapes.items():
        profile.set_shape(name, low, best, high)
    if config.add_optimization_profile(profile) < 0:
        raise BuildError(f"TensorRT refused the shapes {shapes}; build with others.")
    for count, get, kind in (
        (network.num_inputs, network.get_input, "input"),
        (network.num_outputs, network.get_output, "output"),
    ):
        for tensor in map(get, range(count)):
            span = (
                " to ".join(str(shapes[tensor.name][i]) for i in (0, 2)) if kind == "input" else ""
            )
            say(kind, f"{tensor.name} {str(tensor.dtype).rpartition('.')[2]} {span}".rstrip())

    cache = _open_timing_cache(library, config, options.timing_cache)
    began = time.monotonic()
    with _progress(trt, config):
        plan = builder.build_serialized_network(network, config)
    took = time.monotonic() - began
    if plan is None:
        raise BuildError(
            f"{library.name} could not build {path}: {log.last()}. If memory is short, a "
            "larger --workspace or a smaller --batch or --size helps."
        )
    data = bytes(plan)
    runs_here = gpu is not None and (
        library.flavor == "tensorrt" or gpu.capability in RTX_CAPABILITIES
    )
    inspected = "not here, where it does not run; the network is strongly typed, so its types hold"
    if runs_here:
        inspected = _look_into(trt, data, log, precision, options)
    say("inspected", inspected)

    everywhere = library.flavor == "rtx"
    sidecar = Sidecar(
        flavor=library.flavor,
        version=library.version,
        precision=precision,
        profiles=(shapes,),
        engine_sha256=hashlib.sha256(data).hexdigest(),
        onnx_sha256=onnx_sha256,
        onnx=path.stem if path.parent == MODELS else path.name,
        arguments=_arguments(options, precision, metadata),
        gpu=None if everywhere or gpu is None else gpu.name,
        compute_capability=None if everywhere or gpu is None else gpu.capability,
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
    if cache is not None:
        say("timing cache", _keep_timing_cache(config, *cache))
    elif options.timing_cache:
        say("timing cache", f"none: {library.name} does not use any")
    say("built", f"in {took:.1f} s, {len(data) / 2**20:.1f} MiB: {output}")
    return sidecar


def describe(layers: Layers, precision: str) -> str:
    """The shares, in words."""
    text = f"{layers.half} of {layers.convolutions} convolutions"
    text += f" and {layers.layers_half} of {layers.layers} layers in half precision"
    if precision == "int8":
        text = f"{layers.quantized} of {layers.convolutions} convolutions in 8 bits"
    return text


def _arguments(options: BuildOptions, precision: str, metadata: dict[str, str]) -> tuple[str, ...]:
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


def _look_into(trt: Any, data: bytes, log: _Log, precision: str, options: BuildOptions) -> str:
    """Open a built engine and ask TensorRT what its layers compute in.

    Raises
    ------
    BuildError
        If it does not open, or is not what it is called.
    """
    cuda = open_cuda()
    try:
        with cuda.current():
            information = _information(trt, data, log, options)
    finally:
        cuda.close()
    if information is None:
        raise BuildError(f"The engine was built but does not open here: {log.last()}.")
    try:
        layers = layers_of_engine(information)
    except ValueError:
        return (
            "TensorRT says nothing of the engine; the network is strongly typed, so its types hold"
        )
    if precision == "fp16":
        check_layers(layers, precision, "of the built engine")
    return describe(layers, precision)


def _information(trt: Any, data: bytes, log: _Log, options: BuildOptions) -> str | None:
    """What the inspector says; all that belongs to the engine is gone when this returns."""
    runtime = trt.Runtime(log.logger)
    if options.version_compatible:
        runtime.engine_host_code_allowed = True
    engine = runtime.deserialize_cuda_engine(data)
    if engine is None:
        return None
    inspector = engine.create_engine_inspector()
    return str(inspector.get_engine_information(trt.LayerInformationFormat.JSON))


def default_timing_cache(library: Library, gpu: str) -> Path | None:
    """Where the timing cache is kept between builds; None where there is no home."""
    try:
        home = Path(os.environ.get("XDG_CACHE_HOME") or "~/.cache").expanduser()
    except RuntimeError:
        return None
    return home / "hscaunet" / f"{'-'.join([library.flavor, library.version, *gpu.split()])}.timing"


def _open_timing_cache(
    library: Library, config: Any, path: Path | None
) -> tuple[Any, Path, int] | None:
    """A timing cache with what earlier builds measured, and how much that is."""
    if path is None or library.flavor == "rtx":
        return None
    known = read_limited(path, 1 << 30, "timing cache", BuildError) if path.exists() else b""
    cache = config.create_timing_cache(known)
    if cache is None or not config.set_timing_cache(cache, False):
        raise BuildError(
            f"{path} is no timing cache of this version and GPU; name another file, or remove it."
        )
    return cache, path, len(cache.queryKeys())


def _keep_timing_cache(config: Any, cache: Any, path: Path, before: int) -> str:
    after = len(cache.queryKeys())
    if after == before:
        return f"hit: all {after} entries were in {path}"
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        write_atomically(path, bytes(config.get_timing_cache().serialize()))
    except OSError as error:  # the engine is there; only the next build takes longer
        return f"{after - before} new entries could not be kept in {path} ({error.strerror})"
    return f"{before} of {after} entries were in {path}, the new ones are kept"
