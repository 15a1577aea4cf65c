"""OpenVINO on the CPU; on processors with AMX it computes in bf16, several times faster."""

from __future__ import annotations

import queue
from pathlib import Path
from typing import Any

import numpy as np
import openvino as ov
from numpy.typing import NDArray

from ..errors import BackendError, ModelError, first_line
from ..models.onnx_cut import KEY, cut
from ..models.onnx_file import check_interface, read_model_file
from ..tiles import cores

_NAMES = {"float32": "fp32", "f32": "fp32", "bfloat16": "bf16", "bf16": "bf16", "float16": "fp16",
          "f16": "fp16"}  # fmt: skip

# OpenVINO's Python module makes its tables of dtypes when they are first needed, and two threads
# that need them at once wait for each other for ever (seen with 2026.4.1). So they are made here,
# under the lock that Python holds while it imports.
_first = ov.Tensor(np.zeros(1, np.float32))
_first.get_element_type().to_dtype()
_first.data.copy()
del _first


class Engine:
    """An OpenVINO model compiled for this CPU; see `runtime.engines.Engine`.

    ``run`` may be called from several threads at once: each call borrows a request of its own.
    """

    backend, device = "openvino", "cpu"

    def __init__(
        self, model: Path, *, device: str, threads: int | None, precision: str | None = None
    ) -> None:
        if device == "cuda":
            raise BackendError(
                "The engine openvino runs on the CPU only; use device='cpu' or another engine."
            )
        data, self.metadata = read_model_file(model)
        quantized = self.metadata.get("precision") == "int8"
        if quantized:
            # With Q/DQ nodes in the graph its bf16 spoils what is not quantized (2026.4.1: ab off
            # by up to 23 times its range; docs/deploy.md), which fp32 does not.
            precision = "fp32"
        # One picture as fast as it goes, on all cores; OpenVINO itself picks bf16 where the
        # processor has units for it.
        config: dict[str, Any] = {"PERFORMANCE_HINT": "LATENCY"}
        if threads is not None:
            # `threads` for each call; calls from several threads then run side by side.
            streams = max(1, cores() // threads)
            config["NUM_STREAMS"] = str(streams)
            config["INFERENCE_NUM_THREADS"] = threads * streams
        if precision is not None:
            config["INFERENCE_PRECISION_HINT"] = {"fp32": "f32", "bf16": "bf16"}[precision]
        parts = [data]
        if KEY in self.metadata:
            *parts, self._between = cut(data, self.metadata, str(model))
        try:
            networks = [ov.Core().read_model(part) for part in parts]
            last = networks[-1]
            check_interface(
                str(model), [*map(_sizes, last.inputs[:1])], [*map(_sizes, last.outputs)]
            )
            compiled = [ov.Core().compile_model(one, "CPU", config) for one in networks]
            kind = compiled[-1].get_property("INFERENCE_PRECISION_HINT").to_string()
        except RuntimeError as error:
            raise ModelError(
                f"{model} cannot be opened by OpenVINO: it is damaged, or does not fit this "
                f"machine ({_reason(error)})."
            ) from None
        self.precision = _NAMES.get(kind, kind)
        if quantized:
            self.precision = "int8"  # its convolutions; what is not quantized runs in fp32
        self.reason = "asked for" if device == "cpu" else "OpenVINO runs on the CPU"
        self.splits = len(compiled) == 2
        self._parts: list[_Part] | None = [_Part(one) for one in compiled]

    def run(self, x: NDArray[np.float32]) -> NDArray[np.float32]:
        """See `runtime.engines.Engine`."""
        parts = self._parts  # now: `close` may come between two runs
        photo = self._run(parts, 0, [x]) if self.splits else []
        return self._run(parts, -1, [x, *photo])[0]

    def look(self, x: NDArray[np.float32]) -> list[NDArray[np.float32]]:
        """See `runtime.engines.Engine`."""
        return self._run(self._parts, 0, [x])

    def answer(
        self, x: NDArray[np.float32], photo: list[NDArray[np.float32]]
    ) -> NDArray[np.float32]:
        """See `runtime.engines.Engine`."""
        return self._run(self._parts, -1, [x, *photo])[0]

    @staticmethod
    def _run(
        parts: list[_Part] | None, part: int, inputs: list[NDArray[np.float32]]
    ) -> list[NDArray[np.float32]]:
        if parts is None:
            raise BackendError("This engine has been closed; open another Colorizer.")
        try:
            return parts[part].run(inputs)
        except RuntimeError as error:
            raise BackendError(
                f"OpenVINO failed on an input of {inputs[0].shape}: {_reason(error)}"
            ) from None

    def close(self) -> None:
        """See `runtime.engines.Engine`."""
        self._parts = None


class _Part:
    """A compiled model, and requests for it that no call uses now."""

    def __init__(self, compiled: Any) -> None:
        self._compiled = compiled
        self._outputs = range(len(compiled.outputs))
        self._idle: queue.LifoQueue[Any] = queue.LifoQueue()

    def run(self, inputs: list[NDArray[np.float32]]) -> list[NDArray[np.float32]]:
        """Inputs and outputs in the order of the file's."""
        try:
            request = self._idle.get_nowait()
        except queue.Empty:
            request = self._compiled.create_infer_request()
        try:
            request.infer(inputs, share_inputs=True)
            return [request.get_output_tensor(i).data.copy() for i in self._outputs]
        finally:
            self._idle.put(request)


def _reason(error: BaseException) -> str:
    """The last line of OpenVINO's message; those before it are places in its source."""
    lines = [line for line in str(error).splitlines() if line.strip()]
    return lines[-1].strip() if lines else first_line(error)


def _sizes(value: Any) -> tuple[bool, list[int] | None]:
    """Whether it is float32, and its sizes, -1 where one is free."""
    shape = value.partial_shape
    known = (
        None if shape.rank.is_dynamic else [d.get_length() if d.is_static else -1 for d in shape]
    )
    return value.element_type == ov.Type.f32, known
