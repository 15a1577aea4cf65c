"""Inference engines behind one small protocol, chosen by name and imported when first used."""

from __future__ import annotations

import logging
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from runtime.errors import BackendError, MissingDependencyError

log = logging.getLogger(__name__)

DEVICES = ("auto", "cpu", "cuda")


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

    Notes
    -----
    `run` may be called from several threads at once.
    """

    backend: str
    device: str
    precision: str
    metadata: dict[str, str]
    reason: str

    def run(self, x: NDArray[np.float32]) -> NDArray[np.float32]:
        """(N, 4, H, W) to (N, 2, H, W) in the layout of `runtime.layout`."""
        ...


# Name of the engine: the module that holds its class `Engine`, the library it needs, and how to
# get that. In the order in which "auto" prefers them.
_ENGINES = {
    "onnxruntime": (
        "runtime.engines.onnxruntime",
        "onnxruntime",
        "pip install 'hscaunet[cpu]' (or 'hscaunet[gpu]' for CUDA)",
    ),
}
BACKENDS = tuple(_ENGINES)


def open_engine(model: Path, *, backend: str, device: str, threads: int | None) -> Engine:
    """Open a model with the engine asked for.

    Parameters
    ----------
    model : Path
        An ONNX file of this project.
    backend : str
        One of `BACKENDS`, or "auto": the first of them that is installed.
    device : {"auto", "cpu", "cuda"}
        "auto" takes CUDA if the engine can open the model there, else the CPU, and logs which.
    threads : int, optional
        CPU threads within one call; None leaves it to the engine (usually one a core).

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
        raise BackendError(f"There is no device {device!r}; choose one of {', '.join(DEVICES)}.")
    if threads is not None and (isinstance(threads, bool) or not isinstance(threads, int)):
        raise BackendError(f"threads must be a whole number or None, not {threads!r}.")
    if threads is not None and threads < 1:
        raise BackendError(f"threads must be at least 1, not {threads}.")
    if backend == "auto":
        installed = [name for name, (_, needs, _) in _ENGINES.items() if find_spec(needs)]
        if not installed:
            ways = "; ".join(f"{n}: {how}" for n, (_, _, how) in _ENGINES.items())
            raise MissingDependencyError(f"No inference engine is installed. Install one: {ways}.")
        chosen = installed[0]
    elif backend in _ENGINES:
        chosen = backend
    else:
        raise BackendError(
            f"There is no engine {backend!r}; choose one of auto, {', '.join(BACKENDS)}."
        )
    home, needs, how = _ENGINES[chosen]
    try:
        opener = import_module(home).Engine
    except ImportError as error:
        raise MissingDependencyError(
            f"The engine {chosen} needs {needs}, which cannot be imported ({error}): {how}."
        ) from None
    engine: Engine = opener(model, device=device, threads=threads)
    if "auto" in (backend, device):
        how = "the first engine installed" if backend == "auto" else "asked for"
        log.info(
            "Chose %s (%s) on %s (%s) for %s.",
            engine.backend,
            how,
            engine.device,
            engine.reason,
            model.name,
        )
    return engine
