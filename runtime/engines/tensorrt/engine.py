"""Engine files of ``python -m export.trt``, as `runtime.Colorizer` uses them."""

from __future__ import annotations

import logging
import threading
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ...errors import BackendError, ModelError
from ...layout import CONTRACT, INTERFACES
from .. import is_engine
from .cuda import OutOfMemory, open_cuda
from .lane import Lane, dtype_of, within
from .library import open_library
from .sidecar import (
    check_gpu,
    check_layout,
    check_library,
    read_engine,
    rebuild,
)

log = logging.getLogger(__name__)

SHAPES_KEPT = 4
"""With so many idle lanes, each ready for the shape that it ran last, a new shape takes the oldest
of them. There are never more lanes than this, or than ran at the same time."""


class EngineFile:
    """An engine file that is open: what runs it.

    `run` may be called from several threads at once; each call borrows a lane.

    Parameters
    ----------
    path : Path
        An engine with its sidecar beside it.
    cuda : {"auto", "cuda-python", "pycuda"}
        What allocates memory and makes streams.
    layouts : tuple of str
        Names of the layouts that the caller can use.

    Raises
    ------
    ModelError
        If the engine does not belong to its sidecar, this TensorRT, or this GPU, or is of another
        layout.
    BackendError
        If CUDA does not start.
    MissingDependencyError
        If TensorRT or the CUDA package is not installed.
    """

    def __init__(
        self, path: Path, *, cuda: str = "auto", layouts: tuple[str, ...] = (CONTRACT,)
    ) -> None:
        data, self.sidecar = read_engine(path)
        check_layout(self.sidecar, path, layouts)
        self.library = open_library(self.sidecar.flavor)
        check_library(self.sidecar, path, self.library)
        # CUDA first: without a GPU some TensorRT libraries crash the process instead of raising.
        self.cuda = open_cuda(cuda)
        self._closed = False
        self._lock = threading.Lock()
        self._idle: list[Lane] = []  # the one used last at the end
        self._lanes = 0
        self._engine: Any = None
        self._runtime: Any = None
        try:
            device = self.cuda.device
            check_gpu(self.sidecar, path, device.name, device.capability)
            with self.cuda.current():
                self._load(data, path)
        except BaseException:
            self._release()
            raise

    def _load(self, data: bytes, path: Path) -> None:
        trt = self.library.module
        self._logger = trt.Logger(trt.Logger.ERROR)
        self._runtime = trt.Runtime(self._logger)
        if self.sidecar.version_compatible:
            # Such engines carry code that runs on the host; ours have a known sha256.
            self._runtime.engine_host_code_allowed = True
        self._engine = engine = self._runtime.deserialize_cuda_engine(data)
        if engine is None:
            raise ModelError(
                f"{self.library.name} does not open {path} on this GPU; its own message above "
                f"says why; {rebuild(path, self.sidecar, self.library.flavor)}."
            )
        names = [engine.get_tensor_name(i) for i in range(engine.num_io_tensors)]
        wanted = INTERFACES[self.sidecar.metadata["layout"]]
        found = {n: (dtype_of(trt, engine, n), len(engine.get_tensor_shape(n))) for n in names}
        if found != {n: (np.dtype(kind), len(d)) for n, (kind, d) in wanted.items()}:
            raise ModelError(
                f"{path} claims this project's layout but takes and gives {', '.join(names)} of "
                "other kinds; build it from a file that python -m export.onnx writes."
            )

    def takes(self, shapes: dict[str, tuple[int, ...]]) -> bool:
        """Whether the engine was built for inputs of these shapes."""
        return any(
            profile.keys() == shapes.keys()
            and all(within(shapes[name], low, high) for name, (low, _, high) in profile.items())
            for profile in self.sidecar.profiles
        )

    def run(self, inputs: dict[str, NDArray[Any]]) -> dict[str, NDArray[Any]]:
        """See `Lane.run`."""
        try:
            return self._run(inputs)
        except OutOfMemory:
            # What idle lanes hold may be what is lacking.
            with self._lock:
                idle, self._idle = self._idle, []
            if not idle:
                raise
            self._retire(idle)
            return self._run(inputs)

    def _run(self, inputs: dict[str, NDArray[Any]]) -> dict[str, NDArray[Any]]:
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
            return Lane(self.library, self._engine, self.cuda)
        except BaseException:
            self._count_down()
            raise

    def _give_back(self, lane: Lane) -> None:
        with self._lock:
            if not self._closed:
                self._idle.append(lane)
                return
        self._retire([lane])

    def _retire(self, lanes: list[Lane]) -> None:
        for lane in lanes:
            lane.close()
            self._count_down()

    def _count_down(self) -> None:
        with self._lock:
            self._lanes -= 1
            last = self._closed and self._lanes == 0
        if last:
            self._release()

    def _release(self) -> None:
        """Let the engine go, while CUDA's context is still there, and then that."""
        try:
            with self.cuda.current():
                self._engine = self._runtime = None
            self.cuda.close()
        except BackendError as error:  # after a failure of CUDA itself nothing can be done
            log.warning("While closing: %s", error)

    def close(self) -> None:
        """Free what it holds on the GPU; runs under way finish first and free theirs."""
        with self._lock:
            if self._closed:
                return
            self._closed = True
            idle, self._idle = self._idle, []
            none = self._lanes == 0
        self._retire(idle)
        if none:
            self._release()


class Engine:
    """See `runtime.engines.Engine`."""

    backend, device, splits = "tensorrt", "cuda", False

    def __init__(
        self, model: Path, *, device: str, threads: int | None = None, cuda: str = "auto"
    ) -> None:
        if device == "cpu":
            raise BackendError(
                "TensorRT runs on NVIDIA GPUs only; use device='cuda', or an ONNX model."
            )
        if not is_engine(model):
            command = f"python -m export.trt {model} -o {model.with_suffix('.engine')}"
            raise BackendError(
                f"TensorRT runs engine files, not {model.name}; build one and give that: {command}."
            )
        self._file = EngineFile(model, cuda=cuda)
        sidecar = self._file.sidecar
        self.precision, self.metadata = sidecar.precision, dict(sidecar.metadata)
        self.reason = f"{self._file.library.name} {sidecar.version}, {self._file.cuda.name}"

    def takes(self, shape: tuple[int, ...]) -> bool:
        """Whether the engine was built for an input of this shape."""
        return self._file.takes({"input": shape})

    def run(self, x: NDArray[np.float32]) -> NDArray[np.float32]:
        """See `runtime.engines.Engine`."""
        return self._file.run({"input": x})["ab"]

    def close(self) -> None:
        """See `runtime.engines.Engine`."""
        self._file.close()
