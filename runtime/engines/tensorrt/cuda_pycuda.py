"""`runtime.engines.tensorrt.cuda` by PyCUDA.

PyCUDA 2026.1 has no graphs, so each run is put onto the stream call by call.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from functools import lru_cache
from typing import Any

import numpy as np
import pycuda.driver as driver
from numpy.typing import NDArray

from ...errors import BackendError, first_line
from .cuda import Device, OutOfMemory, no_gpu


@contextlib.contextmanager
def _errors() -> Iterator[None]:
    try:
        yield
    except driver.MemoryError as error:
        raise OutOfMemory(
            f"CUDA failed ({first_line(error)}); free GPU memory, or use smaller batches."
        ) from None
    except driver.Error as error:
        raise BackendError(f"CUDA failed ({first_line(error)}).") from None


@lru_cache(maxsize=1)
def open_device() -> PyCuda:
    """The first GPU; see `runtime.engines.tensorrt.cuda.open_cuda`.

    Once in a process: PyCUDA leaves a primary context that it has let go of on the stack of the
    thread, so this one is kept until the process ends, as other frameworks keep it.
    """
    try:
        driver.init()
        return PyCuda(driver.Device(0))
    except driver.Error as error:
        raise no_gpu(first_line(error)) from None


class PyCuda:
    """See `runtime.engines.tensorrt.cuda.Cuda`."""

    name, graphs = "pycuda", False

    def __init__(self, device: Any) -> None:
        self.device = Device(
            device.name(), tuple(device.compute_capability()), device.total_memory()
        )
        self._context = device.retain_primary_context()

    @contextlib.contextmanager
    def current(self) -> Iterator[None]:
        """See `Cuda`."""
        with _errors():
            self._context.push()
        try:
            with _errors():
                yield
        finally:
            driver.Context.pop()

    def open_stream(self) -> Any:
        """See `Cuda`."""
        return driver.Stream(1)  # CU_STREAM_NON_BLOCKING

    def handle(self, stream: Any) -> int:
        """See `Cuda`."""
        return int(stream.handle)

    def synchronize(self, stream: Any) -> None:
        """See `Cuda`."""
        stream.synchronize()

    def close_stream(self, stream: Any) -> None:
        """See `Cuda`."""
        stream.synchronize()  # PyCUDA destroys it with its last reference

    def allocate(self, size: int) -> Any:
        """See `Cuda`."""
        return driver.mem_alloc(size)

    def address(self, memory: Any) -> int:
        """See `Cuda`."""
        return int(memory)

    def free(self, memory: Any) -> None:
        """See `Cuda`."""
        memory.free()

    def pin(self, size: int) -> NDArray[np.uint8]:
        """See `Cuda`."""
        array: NDArray[np.uint8] = driver.pagelocked_empty(size, np.uint8)
        return array

    def unpin(self, array: NDArray[np.uint8]) -> None:
        """See `Cuda`."""
        array.base.free()  # type: ignore[union-attr]

    def to_device(self, memory: Any, array: NDArray[Any], stream: Any) -> None:
        """See `Cuda`."""
        driver.memcpy_htod_async(memory, array, stream)

    def to_host(self, array: NDArray[Any], memory: Any, stream: Any) -> None:
        """See `Cuda`."""
        driver.memcpy_dtoh_async(array, memory, stream)

    def capture(self, stream: Any, work: Callable[[], None]) -> Any:
        """See `Cuda`; never called, as `graphs` is false."""
        raise BackendError("PyCUDA cannot capture CUDA graphs; use cuda-python for them.")

    def launch(self, graph: Any, stream: Any) -> None:
        """See `Cuda`; never called."""

    def drop(self, graph: Any) -> None:
        """See `Cuda`; never called."""

    def close(self) -> None:
        """See `Cuda`; the context is the process's own, see `open_device`."""
