"""ONNX Runtime, on the CPU or through its CUDA provider."""

from __future__ import annotations

import logging
from pathlib import Path

import numpy as np
import onnxruntime as ort
from numpy.typing import NDArray

from runtime.errors import BackendError, ModelError, first_line
from runtime.layout import CONTRACT

log = logging.getLogger(__name__)

_CUDA, _CPU = "CUDAExecutionProvider", "CPUExecutionProvider"


class Engine:
    """An ONNX Runtime session; see `runtime.engines.Engine`.

    ``run`` may be called from several threads at once.
    """

    backend = "onnxruntime"

    def __init__(self, model: Path, *, device: str, threads: int | None) -> None:
        # From bytes, not from the path: a file read so cannot pull in others beside it.
        try:
            data = model.read_bytes()
        except OSError as error:
            raise ModelError(f"The model {model} cannot be read: {error.strerror}.") from None
        cuda = _CUDA in ort.get_available_providers()
        if device == "cuda" and not cuda:
            raise BackendError(
                "The installed ONNX Runtime has no CUDA provider; pip uninstall onnxruntime, then "
                "pip install 'hscaunet[gpu]', or use device='cpu'."
            )
        self.device = "cpu"
        if cuda and device in ("auto", "cuda"):
            if hasattr(ort, "preload_dlls"):
                ort.preload_dlls()  # CUDA and cuDNN from their wheels, if those are installed
            self._session = self._open(data, model, [_CUDA, _CPU], threads)
            # Where CUDA does not load, ONNX Runtime only warns and takes the CPU.
            if self._session.get_providers()[0] == _CUDA:
                self.device = "cuda"
            elif device == "cuda":
                raise BackendError(
                    "ONNX Runtime could not start its CUDA provider (its own message above says "
                    "why); check the driver, CUDA and cuDNN, or use device='cpu'."
                )
            else:
                log.info("ONNX Runtime could not start its CUDA provider; taking the CPU.")
        else:
            self._session = self._open(data, model, [_CPU], threads)
        self.metadata = dict(self._session.get_modelmeta().custom_metadata_map)
        if self.metadata.get("layout") != CONTRACT:
            raise ModelError(
                f"{model} is an ONNX model, but not one of this project (its layout is "
                f"{self.metadata.get('layout')!r}, not {CONTRACT!r}); export it with "
                "python -m export.onnx."
            )
        self.precision = self.metadata.get("precision", "fp32")
        self._input = self._session.get_inputs()[0].name
        self._output = self._session.get_outputs()[0].name

    @staticmethod
    def _open(
        data: bytes, model: Path, providers: list[str], threads: int | None
    ) -> ort.InferenceSession:
        options = ort.SessionOptions()
        if threads is not None:
            options.intra_op_num_threads = threads
        options.log_severity_level = 3  # errors only; what matters is raised
        try:
            return ort.InferenceSession(data, options, providers=providers)
        except Exception as error:  # ONNX Runtime's exceptions share no base of their own
            raise ModelError(
                f"{model} is no ONNX model, or is damaged: {first_line(error)}"
            ) from None

    def run(self, x: NDArray[np.float32]) -> NDArray[np.float32]:
        """See `runtime.engines.Engine`."""
        try:
            return self._session.run([self._output], {self._input: x})[0]
        except Exception as error:
            raise BackendError(
                f"ONNX Runtime failed on an input of {x.shape}: {first_line(error)}"
            ) from None
