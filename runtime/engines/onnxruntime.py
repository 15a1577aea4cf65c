"""ONNX Runtime, on the CPU or through its CUDA provider."""

from __future__ import annotations

import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime as ort
from numpy.typing import NDArray

from ..errors import BackendError, ModelError, first_line
from ..models.onnx_cut import KEY, cut
from ..models.onnx_file import check_interface, check_layout, read_model_file

if not hasattr(ort, "InferenceSession"):
    # What pip leaves behind when one of the two flavours is removed beside the other.
    raise ImportError("onnxruntime is installed but empty; uninstall both flavours, install one")

_CUDA, _CPU = "CUDAExecutionProvider", "CPUExecutionProvider"


class Engine:
    """An ONNX Runtime session; see `runtime.engines.Engine`.

    ``run`` may be called from several threads at once.
    """

    backend = "onnxruntime"
    splits = False

    def __init__(
        self,
        model: Path,
        *,
        device: str,
        threads: int | None,
        session_options: ort.SessionOptions | None = None,
    ) -> None:
        if session_options is not None and not isinstance(session_options, ort.SessionOptions):
            raise BackendError(
                "session_options must be an onnxruntime.SessionOptions, not a "
                f"{type(session_options).__name__}."
            )
        data, self.metadata = read_model_file(model)
        self._look: ort.InferenceSession | None = None
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
        options = session_options or _options(threads)
        session = None
        if cuda and device != "cpu":
            session = self._open_cuda(data, model, options, must=device == "cuda")
        if session is None and KEY in self.metadata:
            photo, rest, self._between = cut(data, self.metadata, str(model))
            self._look = self._open(photo, model, [_CPU], options)
            data, self.splits = rest, True
        self._session: ort.InferenceSession | None = session or self._open(
            data, model, [_CPU], options
        )
        self._settle(str(model))

    @classmethod
    def of_session(cls, session: ort.InferenceSession) -> Engine:
        """An engine that runs a session which the application opened and goes on owning."""
        if not isinstance(session, ort.InferenceSession):
            raise BackendError(
                f"session must be an onnxruntime.InferenceSession, not a {type(session).__name__}."
            )
        self = cls.__new__(cls)
        self._session, self._look = session, None
        self.reason = "the application's own session"
        self.metadata = dict(session.get_modelmeta().custom_metadata_map)
        check_layout(self.metadata, "The session's model")
        self._settle("The session's model")
        return self

    def _settle(self, name: str) -> None:
        """Read from the session what it takes and where it runs."""
        session = self._session
        assert session is not None
        self.device = "cuda" if session.get_providers()[0] == _CUDA else "cpu"
        self.precision = self.metadata.get("precision", "fp32")
        if self.device == "cpu" and self.precision == "fp16":
            self.precision = "fp32"  # its CPU kernels have no fp16 and compute in fp32
        inputs, outputs = session.get_inputs(), session.get_outputs()
        if self.splits:
            inputs = inputs[:1]  # what follows it is `look`'s
        check_interface(
            name,
            *(
                [(v.type == "tensor(float)", v.shape) for v in values]
                for values in (inputs, outputs)
            ),
        )
        self._input, self._output = inputs[0].name, outputs[0].name
        self._on_device = None if self.device == "cpu" else _OnDevice(session, self.device)

    def _open_cuda(
        self, data: bytes, model: Path, options: ort.SessionOptions, must: bool
    ) -> ort.InferenceSession | None:
        """A session on CUDA, or None where it does not start and need not."""
        if hasattr(ort, "preload_dlls"):
            ort.preload_dlls()  # CUDA and cuDNN from their wheels, if those are installed
        problem = "its own message above says why"
        try:
            session = self._open(data, model, [_CUDA, _CPU], options)
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
        data: bytes, model: Path, providers: list[str], options: ort.SessionOptions
    ) -> ort.InferenceSession:
        try:
            return ort.InferenceSession(data, options, providers=providers)
        except Exception as error:  # ONNX Runtime's exceptions share no base of their own
            raise ModelError(
                f"{model} cannot be opened by ONNX Runtime: it is damaged, or does not fit this "
                f"machine ({first_line(error)})."
            ) from None

    def run(self, x: NDArray[np.float32]) -> NDArray[np.float32]:
        """See `runtime.engines.Engine`."""
        if self.splits:
            look, answer = self._look, self._session  # both now: `close` may come between
            photo = self._run(look, {self._input: x})
            return self._answer(answer, x, photo)
        on_device = self._on_device
        if on_device is not None:
            return self._try(on_device.run, x)
        return self._run(self._session, {self._input: x})[0]

    def look(self, x: NDArray[np.float32]) -> list[NDArray[np.float32]]:
        """See `runtime.engines.Engine`."""
        return self._run(self._look, {self._input: x})

    def answer(
        self, x: NDArray[np.float32], photo: list[NDArray[np.float32]]
    ) -> NDArray[np.float32]:
        """See `runtime.engines.Engine`."""
        return self._answer(self._session, x, photo)

    def _answer(
        self,
        session: ort.InferenceSession | None,
        x: NDArray[np.float32],
        photo: list[NDArray[np.float32]],
    ) -> NDArray[np.float32]:
        given = dict(zip(self._between, photo, strict=True))
        return self._run(session, {self._input: x, **given})[0]

    def _run(
        self, session: ort.InferenceSession | None, feed: dict[str, NDArray[np.float32]]
    ) -> list[NDArray[np.float32]]:
        if session is None:
            raise BackendError("This engine has been closed; open another Colorizer.")
        return self._try(lambda _: session.run(None, feed), feed[self._input])

    @staticmethod
    def _try(work: Callable[[NDArray[np.float32]], Any], x: NDArray[np.float32]) -> Any:
        try:
            return work(x)
        except Exception as error:
            raise BackendError(
                f"ONNX Runtime failed on an input of {x.shape}: {first_line(error)}"
            ) from None

    def close(self) -> None:
        """See `runtime.engines.Engine`; a session of the application's own stays open."""
        # In this order: `run` reads them the other way round.
        self._session = self._look = None
        self._on_device = None


class _OnDevice:
    """Runs a session on inputs and outputs that stay where they are on the device.

    Left to itself, ONNX Runtime allocates both anew in every call. Here each shape has its own
    pair, and while one call uses it another call of that shape gets another pair.
    """

    shapes_kept = 4

    def __init__(self, session: ort.InferenceSession, device: str) -> None:
        self._session, self._device = session, device
        options = session.get_provider_options().get(_CUDA, {})
        self._number = int(options.get("device_id", 0))
        self._input, self._output = session.get_inputs()[0].name, session.get_outputs()[0].name
        self._lock = threading.Lock()
        self._idle: list[tuple[ort.OrtValue, ort.OrtValue, Any]] = []  # used last at the end

    def run(self, x: NDArray[np.float32]) -> NDArray[np.float32]:
        """See `runtime.engines.Engine`."""
        pair = self._borrow(x.shape)
        values, result, binding = pair
        values.update_inplace(x)
        self._session.run_with_iobinding(binding)
        binding.synchronize_outputs()
        ab = np.array(result.numpy())
        # After an error it is left to the garbage collector instead: its state is not known.
        with self._lock:
            self._idle.append(pair)
            del self._idle[: -self.shapes_kept]
        return ab

    def _borrow(self, shape: tuple[int, ...]) -> tuple[ort.OrtValue, ort.OrtValue, Any]:
        with self._lock:
            for i in reversed(range(len(self._idle))):
                if tuple(self._idle[i][0].shape()) == shape:
                    return self._idle.pop(i)
        make = ort.OrtValue.ortvalue_from_shape_and_type
        values = make(list(shape), np.float32, self._device, self._number)
        result = make([shape[0], 2, *shape[2:]], np.float32, self._device, self._number)
        binding = self._session.io_binding()
        binding.bind_ortvalue_input(self._input, values)
        binding.bind_ortvalue_output(self._output, result)
        return values, result, binding


def _options(threads: int | None) -> ort.SessionOptions:
    options = ort.SessionOptions()
    if threads is not None:
        options.intra_op_num_threads = threads
    options.log_severity_level = 3  # errors only; what matters is raised
    return options
