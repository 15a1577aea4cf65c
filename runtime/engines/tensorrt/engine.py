"""Engine files of ``python -m export.trt``, as `runtime.Colorizer` uses them."""

from __future__ import annotations

import threading
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from runtime.engines import ENGINE_SUFFIXES
from runtime.engines.tensorrt.cuda import open_cuda
from runtime.engines.tensorrt.lane import Lane
from runtime.engines.tensorrt.library import open_library
from runtime.engines.tensorrt.sidecar import (
    check_gpu,
    check_layout,
    check_library,
    read_engine,
    rebuild,
)
from runtime.errors import BackendError, ModelError

SHAPES_KEPT = 4
"""Lanes that are kept for shapes seen before, beyond those at work."""


class EngineFile:
    """An engine file that is open: what runs it, with any inputs and outputs.

    `run` may be called from several threads at once; each call borrows a lane.

    Parameters
    ----------
    path : Path
        An engine with its sidecar beside it.
    cuda : {"auto", "cuda-python", "pycuda"}
        What allocates memory and makes streams.

    Raises
    ------
    ModelError
        If the engine does not belong to its sidecar, this TensorRT, or this GPU.
    BackendError
        If CUDA does not start.
    MissingDependencyError
        If TensorRT or the CUDA package is not installed.
    """

    def __init__(self, path: Path, *, cuda: str = "auto") -> None:
        data, self.sidecar = read_engine(path)
        library = open_library(self.sidecar.flavor)
        check_library(self.sidecar, path, library)
        # CUDA first: without a GPU some TensorRT libraries crash the process instead of raising.
        self.cuda = open_cuda(cuda)
        self._trt = library.module
        self._closed = False
        self._lock = threading.Lock()
        self._idle: list[Lane] = []  # the one used last at the end
        self._lanes = 0
        self._engine = None
        try:
            device = self.cuda.device
            check_gpu(self.sidecar, path, device.name, device.capability)
            with self.cuda.current():
                self._logger = self._trt.Logger(self._trt.Logger.ERROR)
                self._runtime = self._trt.Runtime(self._logger)
                if self.sidecar.version_compatible and library.flavor == "tensorrt":
                    # Such engines carry code that runs on the host; ours have a known sha256.
                    self._runtime.engine_host_code_allowed = True
                self._engine = self._runtime.deserialize_cuda_engine(data)
            if self._engine is None:
                raise ModelError(
                    f"{library.name} does not open {path} on this GPU; its own message above says "
                    f"why; {rebuild(path, self.sidecar.onnx, library.flavor)}."
                )
        except BaseException:
            self._engine = self._runtime = None
            self.cuda.close()
            raise
        self.name = library.name

    def run(self, inputs: dict[str, NDArray[Any]]) -> dict[str, NDArray[Any]]:
        """See `Lane.run`."""
        lane = self._borrow({name: tuple(x.shape) for name, x in inputs.items()})
        try:
            return lane.run(inputs)
        finally:
            self._give_back(lane)

    def _borrow(self, shapes: dict[str, tuple[int, ...]]) -> Lane:
        """A lane that nobody uses: one that is ready for these shapes if there is one."""
        with self._lock:
            if self._closed:
                raise BackendError("This engine has been closed; open another Colorizer.")
            for i in reversed(range(len(self._idle))):
                if self._idle[i].shapes == shapes:
                    return self._idle.pop(i)
            if len(self._idle) >= SHAPES_KEPT:
                return self._idle.pop(0)  # not used for longest; it will be made ready
            self._lanes += 1
        try:
            return Lane(self._trt, self._engine, self.cuda)
        except BaseException:
            self._count_down()
            raise

    def _give_back(self, lane: Lane) -> None:
        with self._lock:
            if not self._closed:
                self._idle.append(lane)
                return
        self._retire(lane)

    def _retire(self, lane: Lane) -> None:
        lane.close()
        self._count_down()

    def _count_down(self) -> None:
        with self._lock:
            self._lanes -= 1
            last = self._closed and self._lanes == 0
        if last:
            self._release()

    def _release(self) -> None:
        with self.cuda.current():
            self._engine = self._runtime = None
        self.cuda.close()

    def close(self) -> None:
        """Free what it holds on the GPU; runs under way finish first and free theirs."""
        with self._lock:
            if self._closed:
                return
            self._closed = True
            idle, self._idle = self._idle, []
            none = self._lanes == 0
        for lane in idle:
            self._retire(lane)
        if none:
            self._release()


class Engine:
    """See `runtime.engines.Engine`."""

    backend, device = "tensorrt", "cuda"

    def __init__(
        self, model: Path, *, device: str, threads: int | None = None, cuda: str = "auto"
    ) -> None:
        if device == "cpu":
            raise BackendError(
                "TensorRT runs on NVIDIA GPUs only; use device='cuda', or an ONNX model."
            )
        if model.suffix not in ENGINE_SUFFIXES:
            raise BackendError(
                f"TensorRT runs engine files, not {model.name}; "
                f"{rebuild(model.with_suffix('.engine'), str(model))} and give that file."
            )
        self._file = EngineFile(model, cuda=cuda)
        sidecar = self._file.sidecar
        try:
            check_layout(sidecar, model)
        except BaseException:
            self._file.close()
            raise
        self.precision, self.metadata = sidecar.precision, dict(sidecar.metadata)
        self.reason = f"{self._file.name} {sidecar.version}, {self._file.cuda.name}"

    def run(self, x: NDArray[np.float32]) -> NDArray[np.float32]:
        """See `runtime.engines.Engine`."""
        return self._file.run({"input": x})["ab"]

    def close(self) -> None:
        """See `runtime.engines.Engine`."""
        self._file.close()
