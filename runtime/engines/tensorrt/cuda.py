"""CUDA memory, streams and graphs behind one small interface, with two implementations.

Both use the device's primary context, which other frameworks in the same process share, and make
it current around each piece of work only: ``pycuda.autoinit`` would make a second context and
leave it current in somebody else's thread.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import dataclass
from importlib import import_module
from importlib.util import find_spec
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from ...errors import BackendError, MissingDependencyError


@dataclass(frozen=True)
class Device:
    """A GPU.

    Attributes
    ----------
    name : str
    capability : (int, int)
        Compute capability, such as (9, 0).
    memory : int
        Bytes.
    """

    name: str
    capability: tuple[int, int]
    memory: int


class Cuda(Protocol):
    """The first GPU that CUDA shows (``CUDA_VISIBLE_DEVICES`` chooses).

    Streams, memory and graphs are handed around as whatever the implementation has for them. All
    but `current` and `close` are called inside ``with cuda.current():``, from any thread; one
    stream is used by one thread at a time. Each raises `BackendError` when CUDA does.

    Attributes
    ----------
    name : {"cuda-python", "pycuda"}
    device : Device
    graphs : bool
        Whether graphs can be captured.
    """

    name: str
    device: Device
    graphs: bool

    def current(self) -> AbstractContextManager[None]:
        """The primary context is current inside, and what was before is again after."""

    def open_stream(self) -> Any: ...

    def handle(self, stream: Any) -> int:
        """A stream as TensorRT takes it."""

    def synchronize(self, stream: Any) -> None:
        """Wait until all that was put on the stream is done."""

    def close_stream(self, stream: Any) -> None: ...

    def allocate(self, size: int) -> Any:
        """Device memory of `size` bytes."""

    def address(self, memory: Any) -> int: ...

    def free(self, memory: Any) -> None: ...

    def pin(self, size: int) -> NDArray[np.uint8]:
        """Page-locked host memory of `size` bytes."""

    def unpin(self, array: NDArray[np.uint8]) -> None:
        """Give page-locked memory back; the array must not be used any more."""

    def to_device(self, memory: Any, array: NDArray[Any], stream: Any) -> None:
        """Put a copy from page-locked memory onto the stream."""

    def to_host(self, array: NDArray[Any], memory: Any, stream: Any) -> None:
        """Put a copy to page-locked memory onto the stream."""

    def capture(self, stream: Any, work: Callable[[], None]) -> Any:
        """A graph of what `work` puts onto the stream; nothing of it runs."""

    def launch(self, graph: Any, stream: Any) -> None: ...

    def drop(self, graph: Any) -> None: ...

    def close(self) -> None:
        """Let go of the primary context."""


class OutOfMemory(BackendError):
    """There is too little memory on the GPU, or too little that can be locked on the host."""


_LAYERS = {
    "cuda-python": (".cuda_python", "cuda.bindings", "cuda-bindings"),
    "pycuda": (".cuda_pycuda", "pycuda", "pycuda"),
}
LAYERS = tuple(_LAYERS)


def _is_installed(module: str) -> bool:
    try:
        return find_spec(module) is not None
    except ModuleNotFoundError:  # the package around it is missing
        return False


def open_cuda(name: str = "auto") -> Cuda:
    """Open the first GPU.

    Parameters
    ----------
    name : {"auto", "cuda-python", "pycuda"}
        "auto" takes the first of them that is installed.

    Raises
    ------
    MissingDependencyError
        If the package is not installed.
    BackendError
        If there is no GPU, or no driver that fits.
    """
    if name == "auto":
        found = [layer for layer, (_, module, _) in _LAYERS.items() if _is_installed(module)]
        if not found:
            raise MissingDependencyError(
                "Running on CUDA needs one of two packages: pip install cuda-bindings, or pycuda."
            )
        name = found[0]
    elif name not in _LAYERS:
        raise BackendError(
            f"There is no CUDA package {name!r}; choose one of auto, {', '.join(_LAYERS)}."
        )
    home, module, package = _LAYERS[name]
    if not _is_installed(module):
        raise MissingDependencyError(f"{name} is not installed: pip install {package}.")
    try:
        opened: Cuda = import_module(home, __package__).open_device()
    except (ImportError, OSError) as error:  # OSError: a shared library that does not load
        raise BackendError(
            f"{name} is installed but does not load ({error}); is there an NVIDIA driver?"
        ) from None
    return opened


def no_gpu(reason: str) -> BackendError:
    """The error for a machine without a GPU that CUDA can use."""
    return BackendError(
        f"CUDA does not start ({reason}): there is no NVIDIA GPU, or its driver is missing or too "
        "old; nvidia-smi tells. An ONNX model runs on the CPU."
    )
