"""TensorRT's own steps: parse, configure, compile, and open what came out."""

from __future__ import annotations

import contextlib
import os
import signal
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from runtime.engines.tensorrt.cuda import open_cuda
from runtime.engines.tensorrt.library import Library
from runtime.errors import first_line
from runtime.safe_files import read_limited, write_atomically

from .layers import check_layers, describe, layers_of_engine
from .options import COMPATIBILITY, BuildError, BuildOptions, Shapes

if TYPE_CHECKING:
    import onnx


class Log:
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


class Compiler:
    """One builder of TensorRT, from a graph to the bytes of an engine: its methods, in order.

    Parameters
    ----------
    library : Library
    options : BuildOptions
    """

    def __init__(self, library: Library, options: BuildOptions) -> None:
        self.library, self.options = library, options
        self.trt = library.module
        self.log = Log(self.trt)
        self.builder = self.trt.Builder(self.log.logger)
        self.config = self.builder.create_builder_config()
        self._cache: tuple[Any, int] | None = None

    def parse(self, proto: onnx.ModelProto, path: Path) -> Any:
        """The graph as TensorRT's network, strongly typed.

        Raises
        ------
        BuildError
            If TensorRT cannot read it.
        """
        typed = 1 << int(self.trt.NetworkDefinitionCreationFlag.STRONGLY_TYPED)
        network = self.builder.create_network(typed)
        self._parser = parser = self.trt.OnnxParser(network, self.log.logger)  # it owns weights
        if not parser.parse(proto.SerializeToString()):
            errors = [parser.get_error(i) for i in range(parser.num_errors)]
            problems = [f"node {e.node_name()} ({e.node_operator()}): {e.desc()}" for e in errors]
            raise BuildError(
                f"TensorRT cannot read {path}: {'; '.join(problems) or self.log.last()}. Export it "
                "again with python -m export.onnx; if that file fails too, update TensorRT or "
                "report this."
            )
        return network

    def configure(self, shapes: Shapes) -> None:
        """Tell the builder what the options say, and one optimization profile of these shapes."""
        trt, config, options = self.trt, self.config, self.options
        config.profiling_verbosity = trt.ProfilingVerbosity.DETAILED  # so that it can be inspected
        config.clear_flag(trt.BuilderFlag.TF32)  # what is float has its reason
        if options.workspace is not None:
            config.set_memory_pool_limit(trt.MemoryPoolType.WORKSPACE, options.workspace << 20)
        if options.level is not None:
            config.builder_optimization_level = options.level
        if options.version_compatible:
            config.set_flag(trt.BuilderFlag.VERSION_COMPATIBLE)
        if options.refit:
            config.set_flag(trt.BuilderFlag.REFIT)
        levels = trt.HardwareCompatibilityLevel
        level = getattr(levels, COMPATIBILITY[options.hardware_compatible])
        config.hardware_compatibility_level = level
        profile = self.builder.create_optimization_profile()
        for name, (low, best, high) in shapes.items():
            profile.set_shape(name, low, best, high)
        if config.add_optimization_profile(profile) < 0:
            raise BuildError(f"TensorRT refused the shapes {shapes}; build with others.")
        self._open_timing_cache()

    def compile(self, network: Any, path: Path) -> bytes:
        """The engine.

        Raises
        ------
        BuildError
            If TensorRT cannot build it.
        """
        with _progress(self.trt, self.config):
            plan = self.builder.build_serialized_network(network, self.config)
        if plan is None:
            raise BuildError(
                f"{self.library.name} could not build {path}: {self.log.last()}. If memory is "
                "short, a larger --workspace or a smaller --batch or --size helps."
            )
        return bytes(plan)

    def inspect(self, data: bytes, precision: str) -> str:
        """Open an engine and say what TensorRT says that its layers compute in.

        Raises
        ------
        BuildError
            If it does not open, or is not what it is called.
        """
        cuda = open_cuda()
        try:
            with cuda.current():
                information = self._information(data)
        finally:
            cuda.close()
        if information is None:
            raise BuildError(f"The engine was built but does not open here: {self.log.last()}.")
        try:
            layers = layers_of_engine(information)
        except ValueError:
            return "TensorRT says nothing of it; the network is strongly typed, so its types hold"
        if precision == "fp16":
            check_layers(layers, precision, "of the built engine")
        return describe(layers, precision)

    def _information(self, data: bytes) -> str | None:
        """What the inspector says; all that belongs to the engine is gone when this returns."""
        runtime = self.trt.Runtime(self.log.logger)
        if self.options.version_compatible:
            runtime.engine_host_code_allowed = True
        engine = runtime.deserialize_cuda_engine(data)
        if engine is None:
            return None
        inspector = engine.create_engine_inspector()
        return str(inspector.get_engine_information(self.trt.LayerInformationFormat.JSON))

    def _open_timing_cache(self) -> None:
        """Give the builder what earlier builds measured."""
        path = self.options.timing_cache
        if path is None or self.library.flavor == "rtx":
            return
        known = read_limited(path, 1 << 30, "timing cache", BuildError) if path.exists() else b""
        cache = self.config.create_timing_cache(known)
        if cache is None or not self.config.set_timing_cache(cache, False):
            raise BuildError(
                f"{path} is no timing cache of this version and GPU; name another file, or remove "
                "it."
            )
        self._cache = cache, len(cache.queryKeys())

    def keep_timing_cache(self) -> str:
        """Write what this build measured beside what was known; returns a line about it."""
        path = self.options.timing_cache
        if self._cache is None or path is None:
            return f"none: {self.library.name} does not use any"
        cache, before = self._cache
        after = len(cache.queryKeys())
        if after == before:
            return f"hit: all {after} entries were in {path}"
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            write_atomically(path, bytes(self.config.get_timing_cache().serialize()))
        except OSError as error:  # the engine is there; only the next build takes longer
            return f"{after - before} new entries could not be kept in {path} ({error.strerror})"
        return f"{before} of {after} entries were in {path}, the new ones are kept"


def tensors_of(network: Any) -> Iterator[tuple[str, Any]]:
    """Inputs and outputs of a parsed network, each after the word for it."""
    for count, get, kind in (
        (network.num_inputs, network.get_input, "input"),
        (network.num_outputs, network.get_output, "output"),
    ):
        for tensor in map(get, range(count)):
            yield kind, tensor


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


def default_timing_cache(library: Library, gpu: str) -> Path | None:
    """Where the timing cache is kept between builds; None where there is no home."""
    try:
        home = Path(os.environ.get("XDG_CACHE_HOME") or "~/.cache").expanduser()
    except RuntimeError:
        return None
    return home / "hscaunet" / f"{'-'.join([library.flavor, library.version, *gpu.split()])}.timing"
