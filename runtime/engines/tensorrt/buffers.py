"""Device memory and page-locked host memory of one lane, kept as long as they are large enough."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .cuda import Cuda

Shape = tuple[int, ...]


class Buffers:
    """A pair of device and host memory for each tensor.

    All methods are called with CUDA's context current, by one thread at a time.

    Parameters
    ----------
    cuda : Cuda
    """

    def __init__(self, cuda: Cuda) -> None:
        self._cuda = cuda
        self._device: dict[str, tuple[Any, int]] = {}
        self._host: dict[str, NDArray[np.uint8]] = {}
        self._views: dict[str, NDArray[Any]] = {}

    def reserve(self, name: str, shape: Shape, dtype: np.dtype[Any]) -> int:
        """Room for a tensor on both sides; returns its address on the device."""
        size = max(1, math.prod(shape) * dtype.itemsize)
        address = self.reserve_device(name, size)
        if name not in self._host or len(self._host[name]) < size:
            self._views.pop(name, None)
            if name in self._host:
                self._cuda.unpin(self._host.pop(name))
            self._host[name] = self._cuda.pin(size)
        self._views[name] = self._host[name][:size].view(dtype).reshape(shape)
        return address

    def reserve_device(self, name: str, size: int) -> int:
        """Room on the device alone, such as an engine's workspace; returns its address."""
        if name not in self._device or self._device[name][1] < size:
            if name in self._device:
                self._cuda.free(self._device.pop(name)[0])
            self._device[name] = (self._cuda.allocate(size), size)
        return self._cuda.address(self._device[name][0])

    def host(self, name: str) -> NDArray[Any]:
        """The tensor in page-locked memory, in the shape that was reserved last."""
        return self._views[name]

    def upload(self, name: str, stream: Any) -> None:
        """Put a copy of the tensor to the device onto the stream."""
        self._cuda.to_device(self._device[name][0], self._views[name], stream)

    def download(self, name: str, stream: Any) -> None:
        """Put a copy of the tensor from the device onto the stream."""
        self._cuda.to_host(self._views[name], self._device[name][0], stream)

    def close(self, attempt: Callable[..., None]) -> None:
        """Free all of it, each by way of ``attempt(function, argument)``."""
        self._views.clear()
        while self._host:
            attempt(self._cuda.unpin, self._host.popitem()[1])
        while self._device:
            attempt(self._cuda.free, self._device.popitem()[1][0])
