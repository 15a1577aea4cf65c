"""OpenVINO on the CPU; on processors with AMX it computes in bf16, several times faster."""

from __future__ import annotations

import queue
from pathlib import Path
from typing import Any

import numpy as np
import openvino as ov
from numpy.typing import NDArray

from runtime.errors import BackendError, ModelError, first_line
from runtime.onnx_file import read_model_file
from runtime.tiles import cores

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
            # by up to 23 times its range; docs/calibration.md), which fp32 does not.
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
        try:
            network = ov.Core().read_model(data)
            _check_interface(network, model)
            self._compiled = ov.Core().compile_model(network, "CPU", config)
            kind = self._compiled.get_property("INFERENCE_PRECISION_HINT").to_string()
        except RuntimeError as error:
            raise ModelError(
                f"{model} cannot be opened by OpenVINO: it is damaged, or does not fit this "
                f"machine ({_reason(error)})."
            ) from None
        self.precision = _NAMES.get(kind, kind)
        if quantized:
            self.precision = "int8"  # its convolutions; what is not quantized runs in fp32
        self.reason = "asked for" if device == "cpu" else "OpenVINO runs on the CPU"
        self._idle: queue.LifoQueue[Any] = queue.LifoQueue()

    def run(self, x: NDArray[np.float32]) -> NDArray[np.float32]:
        """See `runtime.engines.Engine`."""
        compiled, idle = self._compiled, self._idle
        if compiled is None:
            raise BackendError("This engine has been closed; open another Colorizer.")
        try:
            request = idle.get_nowait()
        except queue.Empty:
            request = compiled.create_infer_request()
        try:
            request.infer([x], share_inputs=True)
            return request.get_output_tensor(0).data.copy()
        except RuntimeError as error:
            raise BackendError(
                f"OpenVINO failed on an input of {x.shape}: {_reason(error)}"
            ) from None
        finally:
            idle.put(request)

    def close(self) -> None:
        """See `runtime.engines.Engine`."""
        self._idle = queue.LifoQueue()
        self._compiled = None


def _reason(error: BaseException) -> str:
    """The last line of OpenVINO's message; those before it are places in its source."""
    lines = [line for line in str(error).splitlines() if line.strip()]
    return lines[-1].strip() if lines else first_line(error)


def _check_interface(network: Any, model: Path) -> None:
    for values, channels in ((network.inputs, 4), (network.outputs, 2)):
        good = len(values) == 1 and values[0].element_type == ov.Type.f32
        shape = values[0].partial_shape if good else None
        if shape is None or shape.rank.is_dynamic or len(shape) != 4 or shape[1] != channels:
            raise ModelError(
                f"{model} claims this project's layout but does not take (N, 4, H, W) and "
                "give (N, 2, H, W) float32; export it again with python -m export.onnx."
            )
