"""Inference engines behind one small protocol, chosen by name and imported when first used."""

from __future__ import annotations

import logging
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from ..errors import ArgumentError, BackendError, MissingDependencyError, ModelError, whole_number

log = logging.getLogger(__name__)

DEVICES = ("auto", "cpu", "cuda")
MAX_THREADS = 4096


class Engine(Protocol):
    """A model that is open and ready to run.

    Attributes
    ----------
    backend : str
        Name of the engine, such as "onnxruntime".
    device : {"cpu", "cuda"}
        Where it really runs.
    precision : str
        What it really computes in, such as "fp32".
    metadata : dict of str to str
        What the model file says of itself.
    reason : str
        Why it runs on this device, for the log.

    splits : bool
        Whether what depends on the photo alone can be computed once and kept: `look`, `answer`.

    Notes
    -----
    `run`, `look` and `answer` may be called from several threads at once.
    """

    backend: str
    device: str
    precision: str
    metadata: dict[str, str]
    reason: str
    splits: bool

    def run(self, x: NDArray[np.float32]) -> NDArray[np.float32]:
        """(N, 4, H, W) to (N, 2, H, W) in the layout of `runtime.layout`."""
        ...

    def look(self, x: NDArray[np.float32]) -> list[NDArray[np.float32]]:
        """What depends on the photos of `x` alone, for `answer`; only if it `splits`."""
        ...

    def answer(
        self, x: NDArray[np.float32], photo: list[NDArray[np.float32]]
    ) -> NDArray[np.float32]:
        """What `run` gives, with what `look` gave for the same photos; only if it `splits`."""
        ...

    def close(self) -> None:
        """Free what it holds; it must not be used afterwards."""
        ...


# Name of the engine: the module that holds its class `Engine`, the library it needs, and how to
# get that.
_ENGINES = {
    "onnxruntime": (
        ".onnxruntime",
        "onnxruntime",
        "pip install 'hscaunet[cpu]' (or 'hscaunet[gpu]' for CUDA)",
    ),
    "openvino": (".openvino", "openvino", "pip install 'hscaunet[openvino]'"),
    "tensorrt": (
        ".tensorrt.engine",
        "TensorRT",
        "pip install 'hscaunet[trt]', or 'hscaunet[rtx]'",
    ),
}
BACKENDS = tuple(_ENGINES)

ENGINE_SUFFIXES = (".engine", ".plan")
"""Endings by which a file is taken for one that ``python -m export.trt`` built."""


def is_engine(path: Path) -> bool:
    """Whether a file is one of TensorRT's, by its name."""
    return path.suffix.lower() in ENGINE_SUFFIXES


def check_threads(threads: int | None) -> int | None:
    """`threads` if it is None or a number of threads, or `BackendError`."""
    if threads is None:
        return None
    return whole_number(threads, "threads", 1, MAX_THREADS, ArgumentError)


def _has_cuda() -> bool:
    """Whether ONNX Runtime is installed with its CUDA provider."""
    if not find_spec("onnxruntime"):
        return False
    try:
        import onnxruntime
    except (ImportError, OSError):  # OSError: a shared library that does not load
        return False
    return "CUDAExecutionProvider" in getattr(onnxruntime, "get_available_providers", lambda: ())()


def choose(device: str) -> list[tuple[str, str]]:
    """Engines that "auto" tries for a device, fastest first, each with why.

    The rule: CUDA through ONNX Runtime where it is installed for it and a GPU may be used; then
    OpenVINO, which is faster on CPUs (docs/benchmarks.md has the figures), several times so where
    the processor has AMX; then ONNX Runtime.
    """
    choices = []
    openvino, onnxruntime = (find_spec(name) is not None for name in ("openvino", "onnxruntime"))
    if device != "cpu" and _has_cuda():
        choices.append(("onnxruntime", "it has the CUDA provider"))
    if device != "cuda" and openvino:
        choices.append(("openvino", "the fastest engine on CPUs that is installed"))
    if onnxruntime and ("onnxruntime", "it has the CUDA provider") not in choices[-1:]:
        why = "in place of the others" if choices else "OpenVINO, faster on CPUs, is not installed"
        choices.append(("onnxruntime", why))
    return choices


def open_engine(
    model: Path,
    *,
    backend: str = "auto",
    device: str = "auto",
    threads: int | None = None,
    session_options: Any = None,
    cuda: str = "auto",
) -> Engine:
    """Open a model with the engine asked for.

    Parameters
    ----------
    model : Path
        An ONNX file of this project, or an engine file that was built from one.
    backend : str
        One of `BACKENDS`, or "auto": see `choose`. An engine file is run by TensorRT.
    device : {"auto", "cpu", "cuda"}
        "auto" takes CUDA if an engine can open the model there, else the CPU, and logs which.
    threads : int, optional
        CPU threads within one call; None leaves it to the engine (usually one a core).
    session_options : onnxruntime.SessionOptions, optional
        For ONNX Runtime, which "auto" then chooses.
    cuda : {"auto", "cuda-python", "pycuda"}
        For TensorRT: what allocates GPU memory; "auto" takes the first that is installed.

    Raises
    ------
    BackendError
        If there is no such engine or device.
    MissingDependencyError
        If the engine's library is not installed.
    ModelError
        If the file is not a model of this project.
    """
    if device not in DEVICES:
        raise ArgumentError(f"There is no device {device!r}; choose one of {', '.join(DEVICES)}.")
    threads = check_threads(threads)
    backend, more = _settle(model, backend, threads, session_options, cuda)
    choices = choose(device) if backend == "auto" else [(backend, "asked for")]
    if not choices:
        ways = "; ".join(f"{n}: {how}" for n, (_, _, how) in _ENGINES.items())
        raise MissingDependencyError(f"No inference engine is installed. Install one: {ways}.")
    engine, why = _open_first(choices, model, device, threads, more)
    if "auto" in (backend, device):
        log.info(
            "Chose %s (%s) on %s (%s), computing in %s, for %s.",
            engine.backend,
            why,
            engine.device,
            engine.reason,
            engine.precision,
            model.name,
        )
    return engine


def _settle(
    model: Path, backend: str, threads: int | None, session_options: Any, cuda: str
) -> tuple[str, dict[str, Any]]:
    """The engine that the arguments ask for, or "auto", and what only that one takes."""
    if not isinstance(backend, str) or (backend != "auto" and backend not in _ENGINES):
        raise ArgumentError(
            f"There is no engine {backend!r}; choose one of auto, {', '.join(BACKENDS)}."
        )
    if is_engine(model):
        if backend not in ("auto", "tensorrt"):
            raise BackendError(
                f"{model.name} is an engine of TensorRT; {backend} runs ONNX files. Leave backend "
                "out, or give the ONNX file."
            )
        backend = "tensorrt"
    more: dict[str, Any] = {}
    if backend == "tensorrt":
        more["cuda"] = cuda
    elif cuda != "auto":
        raise BackendError("cuda= is for engine files of TensorRT; leave it out.")
    if session_options is not None:
        if backend not in ("auto", "onnxruntime"):
            raise BackendError(f"session_options are for onnxruntime, not for {backend}.")
        if threads is not None:
            raise BackendError(
                "Give threads or session_options, not both; set "
                "session_options.intra_op_num_threads."
            )
        backend, more = "onnxruntime", {"session_options": session_options}
    return backend, more


def _load(name: str) -> Any:
    """The class of an engine, or `MissingDependencyError`."""
    home, needs, how = _ENGINES[name]
    try:
        return import_module(home, __name__).Engine
    except (ImportError, OSError) as error:  # OSError: a shared library that does not load
        raise MissingDependencyError(
            f"The engine {name} needs {needs}, which cannot be imported ({error}): {how}."
        ) from None


def _open_first(
    choices: list[tuple[str, str]],
    model: Path,
    device: str,
    threads: int | None,
    more: dict[str, Any],
) -> tuple[Engine, str]:
    """Open with the first engine that works; with why it was that one."""
    for i, (name, why) in enumerate(choices):
        last = i == len(choices) - 1
        try:
            opener = _load(name)
        except MissingDependencyError as error:
            if last:
                raise
            log.warning("%s is installed but cannot be imported: %s", name, error)
            continue
        try:
            engine: Engine = opener(model, device=device, threads=threads, **more)
        except ModelError as error:
            # It may be the engine, not the model; a bad model fails with the next one as well.
            if last:
                raise
            log.warning("%s does not start and is passed over: %s", name, error)
            continue
        if device == "auto" and engine.device == "cpu" and name != "openvino" and not last:
            # CUDA was hoped for and did not start: another engine may be faster on the CPU.
            continue
        return engine, why
    raise AssertionError("the last choice returns or raises")


def engine_of_session(session: Any) -> Engine:
    """An engine that runs an ``onnxruntime.InferenceSession`` of the application's own.

    Raises
    ------
    BackendError
        If it is no such session.
    ModelError
        If its model is not one of this project.
    MissingDependencyError
        If ONNX Runtime is not installed.
    """
    engine: Engine = _load("onnxruntime").of_session(session)
    return engine
