"""ONNX Runtime, on the CPU or through its CUDA provider."""

from __future__ import annotations

import logging
from pathlib import Path

import numpy as np
import onnxruntime as ort
from numpy.typing import NDArray

from runtime.errors import BackendError, ModelError, first_line
from runtime.layout import CONTRACT

if not hasattr(ort, "InferenceSession"):
    # What pip leaves behind when one of the two flavours is removed beside the other.
    raise ImportError("onnxruntime is installed but empty; uninstall both flavours, install one")

log = logging.getLogger(__name__)

_CUDA, _CPU = "CUDAExecutionProvider", "CPUExecutionProvider"


class Engine:
    """An ONNX Runtime session; see `runtime.engines.Engine`.

    ``run`` may be called from several threads at once.
    """

    backend = "onnxruntime"

    def __init__(self, model: Path, *, device: str, threads: int | None) -> None:
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
        if device == "cpu":
            self.reason = "asked for"
        elif not cuda:
            self.reason = "this ONNX Runtime has no CUDA provider"
        session = None
        if cuda and device != "cpu":
            session = self._open_cuda(data, model, threads, must=device == "cuda")
        self.device = "cpu" if session is None else "cuda"
        self._session = session or self._open(data, model, [_CPU], threads)
        self.metadata = dict(self._session.get_modelmeta().custom_metadata_map)
        self._check_interface(model)
        self.precision = self.metadata.get("precision", "fp32")
        if self.device == "cpu" and self.precision == "fp16":
            self.precision = "fp32"  # its CPU kernels have no fp16 and compute in fp32

    def _open_cuda(
        self, data: bytes, model: Path, threads: int | None, must: bool
    ) -> ort.InferenceSession | None:
        """A session on CUDA, or None where it does not start and need not."""
        if hasattr(ort, "preload_dlls"):
            ort.preload_dlls()  # CUDA and cuDNN from their wheels, if those are installed
        problem = "its own message above says why"
        try:
            session = self._open(data, model, [_CUDA, _CPU], threads)
            # Where CUDA does not load, ONNX Runtime only warns and takes the CPU.
            if session.get_providers()[0] == _CUDA:
                self.reason = "asked for" if must else "its CUDA provider works"
                return session
        except ModelError as error:  # out of memory, say; a bad model fails on the CPU as well
            problem = str(error)
        if must:
            raise BackendError(
                f"ONNX Runtime could not start its CUDA provider ({problem}); check the driver, "
                "CUDA and cuDNN, or use device='cpu'."
            )
        self.reason = "its CUDA provider did not start"
        return None

    @staticmethod
    def _open(
        data: bytes, model: Path, providers: list[str], threads: int | None
    ) -> ort.InferenceSession:
        try:
            options = ort.SessionOptions()
            if threads is not None:
                options.intra_op_num_threads = threads
            options.log_severity_level = 3  # errors only; what matters is raised
            # A model is one file. Weights that it says lie in other files are looked for in a
            # folder that does not exist, never beside it or in the working directory.
            options.add_session_config_entry(
                "session.model_external_initializers_file_folder_path",
                str(model.parent / ".external-weights-are-refused"),
            )
            return ort.InferenceSession(data, options, providers=providers)
        except Exception as error:  # ONNX Runtime's exceptions share no base of their own
            raise ModelError(
                f"{model} cannot be opened by ONNX Runtime: it is no ONNX model, is damaged, or "
                f"does not fit this machine ({first_line(error)})."
            ) from None

    def _check_interface(self, model: Path) -> None:
        if self.metadata.get("layout") != CONTRACT:
            raise ModelError(
                f"{model} is an ONNX model, but not one of this project (its layout is "
                f"{self.metadata.get('layout')!r}, not {CONTRACT!r}); export it with "
                "python -m export.onnx."
            )
        inputs, outputs = self._session.get_inputs(), self._session.get_outputs()
        for values, channels in ((inputs, 4), (outputs, 2)):
            good = len(values) == 1 and values[0].type == "tensor(float)"
            if not good or len(values[0].shape) != 4 or values[0].shape[1] != channels:
                raise ModelError(
                    f"{model} claims this project's layout but does not take (N, 4, H, W) and "
                    "give (N, 2, H, W) float32; export it again with python -m export.onnx."
                )
        self._input, self._output = inputs[0].name, outputs[0].name

    def run(self, x: NDArray[np.float32]) -> NDArray[np.float32]:
        """See `runtime.engines.Engine`."""
        try:
            return self._session.run([self._output], {self._input: x})[0]
        except Exception as error:
            raise BackendError(
                f"ONNX Runtime failed on an input of {x.shape}: {first_line(error)}"
            ) from None
