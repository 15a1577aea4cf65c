"""`runtime.engines.tensorrt.cuda` by NVIDIA's own bindings of the driver (cuda-python)."""

from __future__ import annotations

import contextlib
import ctypes
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
from cuda.bindings import driver
from numpy.typing import NDArray

from ...errors import BackendError, first_line
from .cuda import Device, OutOfMemory, no_gpu


def _call(function: Any, *args: Any) -> Any:
    """Call the driver; its one result, or None; `BackendError` if it fails."""
    status, *results = function(*args)
    if int(status) != 0:
        _, name = driver.cuGetErrorName(status)
        text = name.decode() if isinstance(name, bytes) else str(status)
        failed = f"CUDA failed in {function.__name__} ({text})"
        if text == "CUDA_ERROR_OUT_OF_MEMORY":
            raise OutOfMemory(f"{failed}; free GPU memory, or use smaller batches.")
        raise BackendError(f"{failed}.")
    return results[0] if results else None


def open_device() -> CudaPython:
    """The first GPU; see `runtime.engines.tensorrt.cuda.open_cuda`."""
    try:
        _call(driver.cuInit, 0)
        device = _call(driver.cuDeviceGet, 0)
    except (BackendError, RuntimeError) as error:  # RuntimeError: no driver library at all
        raise no_gpu(first_line(error)) from None
    return CudaPython(device)


class CudaPython:
    """See `runtime.engines.tensorrt.cuda.Cuda`."""

    name, graphs = "cuda-python", True

    def __init__(self, device: Any) -> None:
        self._device = device
        raw = _call(driver.cuDeviceGetName, 256, device)
        kinds = driver.CUdevice_attribute
        major, minor = (
            int(_call(driver.cuDeviceGetAttribute, kind, device))
            for kind in (
                kinds.CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MAJOR,
                kinds.CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MINOR,
            )
        )
        memory = int(_call(driver.cuDeviceTotalMem, device))
        self.device = Device(raw.split(b"\0")[0].decode(), (major, minor), memory)
        self._context = _call(driver.cuDevicePrimaryCtxRetain, device)

    @contextlib.contextmanager
    def current(self) -> Iterator[None]:
        """See `Cuda`."""
        _call(driver.cuCtxPushCurrent, self._context)
        try:
            yield
        finally:
            _call(driver.cuCtxPopCurrent)

    def open_stream(self) -> Any:
        """See `Cuda`."""
        # Not blocking: it need not wait for what the application does on the legacy stream.
        return _call(driver.cuStreamCreate, int(driver.CUstream_flags.CU_STREAM_NON_BLOCKING))

    def handle(self, stream: Any) -> int:
        """See `Cuda`."""
        return int(stream)

    def synchronize(self, stream: Any) -> None:
        """See `Cuda`."""
        _call(driver.cuStreamSynchronize, stream)

    def close_stream(self, stream: Any) -> None:
        """See `Cuda`."""
        _call(driver.cuStreamDestroy, stream)

    def allocate(self, size: int) -> Any:
        """See `Cuda`."""
        return _call(driver.cuMemAlloc, size)

    def address(self, memory: Any) -> int:
        """See `Cuda`."""
        return int(memory)

    def free(self, memory: Any) -> None:
        """See `Cuda`."""
        _call(driver.cuMemFree, memory)

    def pin(self, size: int) -> NDArray[np.uint8]:
        """See `Cuda`."""
        pointer = int(_call(driver.cuMemHostAlloc, size, 0))
        return np.ctypeslib.as_array((ctypes.c_ubyte * size).from_address(pointer))

    def unpin(self, array: NDArray[np.uint8]) -> None:
        """See `Cuda`."""
        _call(driver.cuMemFreeHost, array.ctypes.data)

    def to_device(self, memory: Any, array: NDArray[Any], stream: Any) -> None:
        """See `Cuda`."""
        _call(driver.cuMemcpyHtoDAsync, memory, array.ctypes.data, array.nbytes, stream)

    def to_host(self, array: NDArray[Any], memory: Any, stream: Any) -> None:
        """See `Cuda`."""
        _call(driver.cuMemcpyDtoHAsync, array.ctypes.data, memory, array.nbytes, stream)

    def capture(self, stream: Any, work: Callable[[], None]) -> Any:
        """See `Cuda`."""
        # Only this thread's calls may disturb it: others allocate meanwhile.
        mode = driver.CUstreamCaptureMode.CU_STREAM_CAPTURE_MODE_THREAD_LOCAL
        _call(driver.cuStreamBeginCapture, stream, mode)
        try:
            work()
        except BaseException:
            _, graph = driver.cuStreamEndCapture(stream)
            if graph is not None and int(graph):
                driver.cuGraphDestroy(graph)
            raise
        graph = _call(driver.cuStreamEndCapture, stream)
        try:
            return _call(driver.cuGraphInstantiate, graph, 0)
        finally:
            _call(driver.cuGraphDestroy, graph)

    def launch(self, graph: Any, stream: Any) -> None:
        """See `Cuda`."""
        _call(driver.cuGraphLaunch, graph, stream)

    def drop(self, graph: Any) -> None:
        """See `Cuda`."""
        _call(driver.cuGraphExecDestroy, graph)

    def close(self) -> None:
        """See `Cuda`."""
        if self._context is not None:
            self._context = None
            _call(driver.cuDevicePrimaryCtxRelease, self._device)
