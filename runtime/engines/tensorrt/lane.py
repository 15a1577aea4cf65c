"""One execution context of TensorRT with its own stream, buffers and CUDA graph."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ...errors import BackendError, ModelError
from .buffers import Buffers, Shape
from .cuda import Cuda, OutOfMemory
from .library import Library

log = logging.getLogger(__name__)

_WORKSPACE = " workspace"  # no tensor's name begins with a space

# From the names of TensorRT's data types.
_DTYPES = {
    "FLOAT": np.float32,
    "HALF": np.float16,
    "INT8": np.int8,
    "UINT8": np.uint8,
    "INT32": np.int32,
    "INT64": np.int64,
    "BOOL": np.bool_,
}


def dtype_of(trt: Any, engine: Any, name: str) -> np.dtype[Any]:
    """The dtype of an engine's input or output.

    Raises
    ------
    ModelError
        If numpy has none for it.
    """
    kind = engine.get_tensor_dtype(name)
    for text, dtype in _DTYPES.items():
        if kind == getattr(trt.DataType, text):
            return np.dtype(dtype)
    raise ModelError(
        f"The engine's {name} is of the type {kind}, which numpy does not have; build it from a "
        "file that python -m export.onnx writes."
    )


def within(shape: Shape, low: Shape, high: Shape) -> bool:
    """Whether a shape lies between the smallest and the largest of an optimization profile."""
    return len(shape) == len(low) and all(
        a <= n <= b for a, n, b in zip(low, shape, high, strict=True)
    )


class Lane:
    """Runs an engine for one thread at a time.

    An execution context is not thread-safe, so every thread that runs at the same time needs a
    lane of its own; the engine behind them is shared. In the steady state, when shapes do not
    change, a run allocates nothing and is one launch of a CUDA graph that holds the copies in, the
    network, and the copies out.

    Parameters
    ----------
    library : Library
    engine : ICudaEngine
    cuda : Cuda

    Raises
    ------
    BackendError
        If TensorRT makes no context, which it does when memory is short.
    """

    def __init__(self, library: Library, engine: Any, cuda: Cuda) -> None:
        self._trt, self._engine, self._cuda = library.module, engine, cuda
        self.for_rtx = library.flavor == "rtx"
        names = [engine.get_tensor_name(i) for i in range(engine.num_io_tensors)]
        modes = self._trt.TensorIOMode
        self.inputs = [n for n in names if engine.get_tensor_mode(n) == modes.INPUT]
        self.outputs = [n for n in names if engine.get_tensor_mode(n) == modes.OUTPUT]
        self._dtypes = {name: dtype_of(self._trt, engine, name) for name in names}
        self.shapes: dict[str, Shape] = {}  # of the inputs it is ready for
        self._profile, self._graph, self._warm = 0, None, False
        self._graphs = cuda.graphs
        with cuda.current():
            self._context = self._open_context()
            if self._context is None:
                raise OutOfMemory(
                    "TensorRT made no execution context, most likely for lack of GPU memory; free "
                    "some, or build the engine for smaller batches and sizes."
                )
            self._buffers = Buffers(cuda)
            try:
                self._stream = cuda.open_stream()
            except BaseException:
                self._context = None
                raise

    def _open_context(self) -> Any:
        # Workspace is ours to give: as much as the shapes of now need, not those of the largest
        # profile.
        strategy = self._trt.ExecutionContextAllocationStrategy.USER_MANAGED
        if not self.for_rtx:
            return self._engine.create_execution_context(strategy)
        # Left to itself, TensorRT for RTX runs slow kernels until it has compiled better ones in
        # the background, and a graph that is captured meanwhile keeps the slow ones.
        config = self._engine.create_runtime_config()
        config.set_execution_context_allocation_strategy(strategy)
        config.dynamic_shapes_kernel_specialization_strategy = (
            self._trt.DynamicShapesKernelSpecializationStrategy.EAGER
        )
        return self._engine.create_execution_context(config)

    def run(self, inputs: Mapping[str, NDArray[Any]]) -> dict[str, NDArray[Any]]:
        """Run the engine.

        Parameters
        ----------
        inputs : mapping
            An array for each input, of its dtype.

        Returns
        -------
        dict of str to ndarray
            The outputs, new arrays.

        Raises
        ------
        BackendError
            If a shape lies outside every profile of the engine, or CUDA or TensorRT fails.
        """
        shapes = {name: tuple(inputs[name].shape) for name in self.inputs}
        with self._cuda.current():
            if shapes != self.shapes:
                self._bind(shapes)
            for name in self.inputs:
                np.copyto(self._buffers.host(name), inputs[name], casting="no")
            self._launch()
            return {name: self._buffers.host(name).copy() for name in self.outputs}

    def _bind(self, shapes: dict[str, Shape]) -> None:
        """Make ready for inputs of these shapes."""
        context, stream = self._context, self._stream
        self._forget_graph()
        self.shapes, self._warm = {}, False  # until all of this has worked
        profile = self._profile_for(shapes)
        if profile != self._profile:
            if not context.set_optimization_profile_async(profile, self._cuda.handle(stream)):
                raise BackendError(f"TensorRT refused its own optimization profile {profile}.")
            self._cuda.synchronize(stream)
            self._profile = profile
        for name, shape in shapes.items():
            if not context.set_input_shape(name, shape):
                raise BackendError(f"TensorRT refused the shape {shape} of {name}.")
        size = int(context.update_device_memory_size_for_shapes())
        address = self._buffers.reserve_device(_WORKSPACE, max(1, size))
        context.set_device_memory(address, size)
        for name in (*self.inputs, *self.outputs):
            shape = tuple(context.get_tensor_shape(name))
            address = self._buffers.reserve(name, shape, self._dtypes[name])
            if not context.set_tensor_address(name, address):
                raise BackendError(f"TensorRT refused the address of {name}.")
        self.shapes = shapes

    def _profile_for(self, shapes: dict[str, Shape]) -> int:
        """Number of the first optimization profile that takes these shapes."""
        takes = []
        for profile in range(self._engine.num_optimization_profiles):
            limits = [
                (name, *self._engine.get_tensor_profile_shape(name, profile)) for name in shapes
            ]
            if all(within(shapes[name], low, high) for name, low, _, high in limits):
                return profile
            takes.append(
                ", ".join(f"{n} {tuple(low)} to {tuple(high)}" for n, low, _, high in limits)
            )
        wanted = ", ".join(f"{name} {shape}" for name, shape in shapes.items())
        raise BackendError(
            f"This engine takes {' or '.join(takes)}, not {wanted}; build it with a --batch and "
            "--size that hold this shape (python -m export.trt --help), or use smaller ones."
        )

    def _enqueue(self) -> None:
        """Put the copies in, the network and the copies out onto the stream."""
        for name in self.inputs:
            self._buffers.upload(name, self._stream)
        if not self._context.execute_async_v3(self._cuda.handle(self._stream)):
            raise BackendError("TensorRT failed to run the engine; its own log says why.")
        for name in self.outputs:
            self._buffers.download(name, self._stream)

    def _launch(self) -> None:
        # The first run of a shape is not captured: TensorRT settles what it left open then.
        if self._warm and self._graphs and self._graph is None:
            self._capture()
        if self._graph is not None:
            self._cuda.launch(self._graph, self._stream)
        else:
            self._enqueue()
        self._cuda.synchronize(self._stream)
        self._warm = True

    def _capture(self) -> None:
        try:
            stream = self._cuda.handle(self._stream)
            if self.for_rtx and not self._context.is_stream_capturable(stream):
                raise BackendError("TensorRT for RTX is not ready to be captured.")
            self._graph = self._cuda.capture(self._stream, self._enqueue)
        except BackendError as error:
            # Slower, not wrong.
            log.warning("Going on without CUDA graphs, which this engine does not allow: %s", error)
            self._graphs = False

    def _forget_graph(self) -> None:
        """A graph holds shapes and addresses, so it dies with them."""
        graph, self._graph = self._graph, None
        if graph is not None:
            self._cuda.drop(graph)

    def close(self) -> None:
        """Free all that it holds; what cannot be freed is logged, and the rest freed."""
        if self._context is None:
            return
        try:
            with self._cuda.current():
                self._try(self._cuda.synchronize, self._stream)
                self._try(self._forget_graph)
                # The engine too: it must not outlive the CUDA context by way of this reference.
                self._context = self._engine = None
                self._buffers.close(self._try)
                self._try(self._cuda.close_stream, self._stream)
        except BackendError as error:  # the context itself is gone, and all in it
            log.warning("A lane could not be closed: %s", error)
            self._context = self._engine = None

    @staticmethod
    def _try(work: Callable[..., None], *args: Any) -> None:
        try:
            work(*args)
        except BackendError as error:
            log.warning("While closing: %s", error)
