"""`Colorizer`: a photo and hints in, a colour photo out."""

from __future__ import annotations

import os
import threading
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO, overload
from warnings import warn

import numpy as np
from numpy.typing import NDArray

from .engines import check_threads, engine_of_session, open_engine
from .errors import (
    ArgumentError,
    ArrayError,
    BackendError,
    HintError,
    ImageError,
    ModelError,
    first_line,
    whole_number,
)
from .fullsize.finish import Finish
from .fullsize.keep_hints import keep_hints
from .fullsize.picture import Picture
from .hints import Hints
from .inputs import open_input
from .layout import MULTIPLE, denormalize_ab, network_size, pack_input, unpack_output
from .models.manifest import DEFAULT_MODEL, MODELS, find_model, read_manifest
from .view import View

if TYPE_CHECKING:
    from .engines import Engine
    from .hint_report import HintReport
    from .hints.collection import HintsLike
    from .images import Photo
    from .lightness import Lightness
    from .session import Session

SIZE = 256
"""Side, in pixels, of the square whose area a photo has when the network sees it."""

LARGEST_SIZE = 2048


class Colorizer:
    """Colorize photos from hints.

    Opening a `Colorizer` costs far more than a call: make one, use it for many photos. It may be
    used from several threads at once. Pickled, it carries its arguments, not the open model, and
    opens that again where it arrives (multiprocessing, Ray).

    Parameters
    ----------
    model : str or path, optional
        Name of a bundled model (such as "hscaunet-lite"), path of an ONNX file of this
        project, or path of an engine file (``.engine``, ``.plan``) that ``python -m export.trt``
        built from one; None is the bundled default.
    backend : str
        Engine: "auto" (the fastest that is installed for the device, see
        `runtime.engines.choose`) or its name: "onnxruntime", "openvino", "tensorrt". An engine
        file is run by TensorRT whatever "auto" would take.
    device : {"auto", "cpu", "cuda"}
        "auto" takes CUDA where it works, else the CPU, and says which in the log. A device that
        is asked for by name is used, or `BackendError` is raised.
    threads : int, optional
        CPU threads that one call may use; None is one a core.
    size : int
        The network sees a photo at about ``size`` x ``size`` pixels in its own aspect. More gives
        finer edges of colour and costs time in proportion to the area; the network was trained
        at 256.
    exact_hints : bool
        Give each hint its very colour at the network's size, and what the network lacks of it
        softly to what is alike around (`runtime.fullsize.keep_hints`). Off, hints are kept as well
        as the network does.
    session_options : onnxruntime.SessionOptions, optional
        For ONNX Runtime, in place of those that this class would make.
    session : onnxruntime.InferenceSession, optional
        Use this one, opened by the application from a model of this project, instead of opening
        any; then give neither `model` nor what is about engines.
    cuda : {"auto", "cuda-python", "pycuda"}
        For engine files: the package that allocates GPU memory and makes streams; "auto" takes
        the first of them that is installed.

    Attributes
    ----------
    backend, device, precision : str
        What really runs, such as "onnxruntime", "cpu", "fp32".
    metadata : dict of str to str
        What the model file says of itself.
    size : int
    exact_hints : bool

    Raises
    ------
    ModelError
        If the model is missing, damaged, or not one of this project.
    BackendError
        If the engine or device is not there, or an argument is none of these.
    MissingDependencyError
        If the engine's library is not installed; the message says how to install it.
    """

    def __init__(
        self,
        model: str | os.PathLike[str] | None = None,
        *,
        backend: str = "auto",
        device: str = "auto",
        threads: int | None = None,
        size: int = SIZE,
        exact_hints: bool = False,
        session_options: Any = None,
        session: Any = None,
        cuda: str = "auto",
    ) -> None:
        self.size = _check_size(size)
        self.exact_hints = bool(exact_hints)
        self._threads = threads = check_threads(threads)
        self._portable: dict[str, Any] | None = None
        self._closed = False
        if session is not None:
            given = (model, backend, device, session_options, cuda)
            if given != (None, "auto", "auto", None, "auto"):
                raise BackendError(
                    "A session of your own brings its model and engine; give only threads, size "
                    "and exact_hints beside it."
                )
            self._engine = engine_of_session(session)
            self._name = self._engine.metadata.get("name", "own session")
            return
        path = locate_model(model)
        self._name = path.stem
        self._engine = open_engine(
            path,
            backend=backend,
            device=device,
            threads=threads,
            session_options=session_options,
            cuda=cuda,
        )
        if session_options is None:
            # A bundled model by its name, so that it is found on another machine as well.
            by_name = model is None or not Path(model).is_file()
            self._portable = {
                "model": model if by_name else str(path.absolute()),
                "backend": backend,
                "device": device,
                "threads": threads,
                "size": size,
                "exact_hints": self.exact_hints,
                "cuda": cuda,
            }

    def __reduce__(self) -> tuple[Any, ...]:
        if self._portable is None:
            raise BackendError(
                "A Colorizer with a session or session_options of your own cannot be pickled; "
                "open one in each process."
            )
        return _reopen, (type(self), self._portable)

    @property
    def backend(self) -> str:
        """Engine that really runs."""
        return self._engine.backend

    @property
    def device(self) -> str:
        """Device that it really runs on."""
        return self._engine.device

    @property
    def precision(self) -> str:
        """Arithmetic that really runs: "fp32", "bf16", "fp16", or "int8" for most convolutions."""
        return self._engine.precision

    @property
    def metadata(self) -> dict[str, str]:
        """What the model file says of itself."""
        return dict(self._engine.metadata)

    def close(self) -> None:
        """Free the model and what the engine holds on the GPU; calling it again does nothing.

        Calls under way in other threads finish; later ones raise `BackendError`. Leaving it out
        is fine where the process ends with the Colorizer.
        """
        if not self._closed:
            self._closed = True
            self._engine.close()

    def __enter__(self) -> Colorizer:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def __repr__(self) -> str:
        return f"<Colorizer {self._name} on {self.backend} {self.device} {self.precision}>"

    @overload
    def colorize(
        self,
        image: NDArray[Any],
        hints: HintsLike = None,
        *,
        size: int | None = None,
        order: str = "RGB",
        lightness: Lightness | None = None,
    ) -> NDArray[Any]: ...
    @overload
    def colorize(
        self,
        image: Photo | str | os.PathLike[str] | bytes | BinaryIO,
        hints: HintsLike = None,
        *,
        size: int | None = None,
        order: str = "RGB",
        lightness: Lightness | None = None,
    ) -> Photo: ...
    @overload
    def colorize(
        self,
        image: Any,
        hints: HintsLike = None,
        *,
        size: int | None = None,
        order: str = "RGB",
        lightness: Lightness | None = None,
    ) -> Any: ...
    def colorize(
        self,
        image: Any,
        hints: HintsLike = None,
        *,
        size: int | None = None,
        order: str = "RGB",
        lightness: Lightness | None = None,
    ) -> Any:
        """Colorize one photo; what comes back is of the kind that was given.

        Parameters
        ----------
        image : ndarray, PIL.Image.Image, Photo, path, bytes or binary file
            An array is (H, W), or (H, W, C) with C of 1 to 4: grey, grey with alpha, RGB, or RGB
            with alpha, of any size; uint8, uint16, bool, or floats of 0..1, of either byte order,
            all sRGB. Colour is reduced to its L. Memory-mapped and non-contiguous arrays are read
            in tiles. Bytes are a picture file.
        hints : optional
            `Hints`, or an iterable of Hint, Stroke, Region, (x, y, color) or dict, or one of them
            alone, in pixels of `image`; or the path of a hint file. Where two meet in one cell of
            the network, the later wins.
        size : int, optional
            In place of the Colorizer's own.
        order : {"RGB", "BGR"}
            Of an array's channels, and of the result's.
        lightness : Lightness, optional
            How the photo becomes grey, for scans with stains; the result's L is then that grey's.

        Returns
        -------
        ndarray, PIL.Image.Image or Photo
            For an array (H, W, 3), or (H, W, 4) if `image` has alpha, of its dtype; for a Pillow
            image one of RGB or RGBA; for all else a `Photo` with its metadata. Alpha is its own. L
            is that of `image` at full size (but for colours clipped to sRGB); ab come from the
            network, resampled.

        Raises
        ------
        ImageError
            If `image` has another dtype or shape, or is a file that cannot be read.
        HintError
            If a hint lies outside the image, or is none.
        """
        opened = open_input(image, order, lightness)
        view = self._view(opened.pixels, size)
        hints = self._hints(hints, view)
        ab = _stacked(self._ab(view.inputs(hints)))
        return opened.give_back(view.picture.join(ab, Finish.of(hints)))

    @staticmethod
    def _hints(hints: HintsLike, view: View) -> Hints:
        return Hints.coerce(hints, (view.picture.width, view.picture.height))

    def colorize_with_report(
        self,
        image: Any,
        hints: HintsLike = None,
        *,
        size: int | None = None,
        order: str = "RGB",
        lightness: Lightness | None = None,
    ) -> tuple[Any, HintReport]:
        """As `colorize`, with how well each hint's colour survived."""
        from .hint_report import hint_report

        opened = open_input(image, order, lightness)
        view = self._view(opened.pixels, size)
        hints = self._hints(hints, view)
        picture, ab = view.picture, _stacked(self._ab(view.inputs(hints)))
        report = hint_report(view.L, view.flat(ab, hints), hints, picture.height, picture.width)
        return opened.give_back(picture.join(ab, Finish.of(hints))), report

    def batch(
        self,
        images: Sequence[Any],
        hints: Sequence[HintsLike] | None = None,
        *,
        size: int | None = None,
        at_once: int = 16,
        order: str = "RGB",
        lightness: Lightness | None = None,
    ) -> list[Any]:
        """Colorize several photos with one call of the engine for each shape that the network sees.

        Parameters
        ----------
        images : sequence
            See `colorize`; of any sizes and kinds.
        hints : sequence, optional
            Those of each photo in turn.
        size : int, optional
            In place of the Colorizer's own.
        at_once : int
            More photos of one shape than this are given to the engine in several calls, which
            bounds the memory that it needs.

        Returns
        -------
        list
            In the order of `images`, each of the kind that was given.

        Raises
        ------
        ImageError, HintError
            As `colorize`, before any work is done; the message says which photo.
        """
        at_once = whole_number(at_once, "at_once", 1, 1 << 16, ArgumentError)
        if not isinstance(images, Iterable) or not isinstance(hints, Iterable | None):
            raise ImageError("batch takes a list of images, and a list of the hints of each.")
        images = list(images)
        given = [None] * len(images) if hints is None else list(hints)
        if len(given) != len(images):
            raise HintError(f"There are {len(images)} images but hints for {len(given)}.")
        pictures, inputs, backs, finishes = [], [], [], []
        for i, (image, its) in enumerate(zip(images, given, strict=True)):
            try:
                opened = open_input(image, order, lightness)
                view = self._view(opened.pixels, size)
                its = self._hints(its, view)
                inputs.append(view.inputs(its))
                finishes.append(Finish.of(its))
                pictures.append(view.picture)  # of its L no more is needed
                backs.append(opened.give_back)
            except ValueError as error:
                raise type(error)(f"Image {i} of the batch: {error}") from None
        shapes: dict[tuple[int, ...], list[int]] = {}
        for i, x in enumerate(inputs):
            shapes.setdefault(x.shape, []).append(i)
        results: list[Any] = [None] * len(images)
        for shape, members in shapes.items():
            each = shape[0]  # two where regions bound their colour
            for start in range(0, len(members), max(1, at_once // each)):
                part = members[start : start + max(1, at_once // each)]
                found = self._ab(np.concatenate([inputs[i] for i in part]))
                grouped = found.reshape(len(part), each, *found.shape[1:])
                for i, ab in zip(part, grouped, strict=True):
                    results[i] = backs[i](pictures[i].join(_stacked(ab), finishes[i]))
        return results

    def open(
        self,
        image: Any,
        *,
        size: int | None = None,
        order: str = "RGB",
        lightness: Lightness | None = None,
    ) -> Session:
        """Open a photo, of any kind that `colorize` takes, for editing its hints live; see
        `runtime.session.Session`."""
        from .session import Session

        return Session(self, image, size=size, order=order, lightness=lightness)

    def warm_up(
        self,
        size: tuple[int, int] = (SIZE, SIZE),
        width: int | None = None,
        *,
        height: int | None = None,
    ) -> None:
        """Run the network once, so that the first photo does not wait for what engines do late.

        Parameters
        ----------
        size : (int, int)
            Width and height of the photos to come; the network runs at the size that it would see
            them at.
        width, height : int, optional
            The spelling of before: ``warm_up(height, width)``; it warns.

        Raises
        ------
        BackendError
            If the engine fails, or returns NaN or infinity.
        """
        if height is not None:
            size = height  # type: ignore[assignment]
            width = SIZE if width is None else width
        if width is not None:
            if isinstance(size, tuple):
                size = SIZE  # type: ignore[assignment]
            warn(
                "warm_up(height, width) is warm_up((width, height)) now.",
                DeprecationWarning,
                stacklevel=2,
            )
            size = width, size  # type: ignore[assignment]
        try:
            width, height = size
        except (TypeError, ValueError):
            raise ArgumentError(f"A size is (width, height), not {size!r:.60}.") from None
        height, width = (
            whole_number(v, "The photo's side", 1, 1 << 31, ArgumentError) for v in (height, width)
        )
        high, wide = network_size(height, width, self.size)
        ramp = np.linspace(0, 100, high * wide, dtype=np.float32).reshape(high, wide)
        ab = np.zeros((high, wide, 2), np.float32)
        mask = np.zeros((high, wide), np.bool_)
        # A hint of the strongest colour there is, so that an overflow shows.
        ab[high // 2, wide // 2], mask[high // 2, wide // 2] = (98, 94), True
        self.predict(pack_input(ramp, ab, mask))

    def predict(self, x: NDArray[np.float32]) -> NDArray[np.float32]:
        """Run the network itself.

        Parameters
        ----------
        x : ndarray, shape (N, 4, H, W), float32
            In the layout of `runtime.layout`: L / 100, (a + 128) / 255 and (b + 128) / 255 of the
            hints (128 / 255 where there is none), mask. H and W are multiples of 16.

        Returns
        -------
        ndarray, shape (N, 2, H, W), float32
            (a + 128) / 255 and (b + 128) / 255, not clipped.

        Raises
        ------
        ArrayError
            If `x` has another dtype or shape, or holds NaN or infinity.
        BackendError
            If the engine fails, or returns NaN or infinity.
        """
        if not isinstance(x, np.ndarray):
            raise ArrayError(f"The input must be a numpy array, not a {type(x).__name__}.")
        if x.dtype != np.float32:
            raise ArrayError(f"The input must be float32, not {x.dtype}.")
        if x.ndim != 4 or x.shape[1] != 4 or min(x.shape) < 1:
            raise ArrayError(f"The input must be (N, 4, H, W), not {x.shape}.")
        if x.shape[2] % MULTIPLE or x.shape[3] % MULTIPLE:
            raise ArrayError(
                f"Height and width must be multiples of {MULTIPLE}, not {x.shape[2]}x{x.shape[3]}."
            )
        if not np.isfinite(x).all():
            raise ArrayError("The input holds NaN or infinity.")
        return self._checked(self.raw(np.ascontiguousarray(x)))

    def _checked(self, ab: NDArray[np.float32]) -> NDArray[np.float32]:
        if not np.isfinite(ab).all():
            raise BackendError(
                f"The model returned NaN or infinity ({self!r}); use its fp32 version and report "
                "the photo."
            )
        return ab

    def takes(self, shape: tuple[int, ...]) -> bool:
        """Whether the engine runs on an input of this shape, (N, 4, H, W).

        Engine files are built for a range of batches and sizes; everything else takes any.
        """
        asked = getattr(self._engine, "takes", None)
        return asked is None or bool(asked(shape))

    def raw(self, x: NDArray[np.float32]) -> NDArray[np.float32]:
        """`predict` without its checks: `x` is contiguous and right, the result may hold NaN."""
        return self._shaped(x, self._opened.run(x))

    @property
    def _opened(self) -> Engine:
        if self._closed:
            raise BackendError("This Colorizer has been closed; open another.")
        return self._engine

    def _shaped(self, x: NDArray[np.float32], ab: NDArray[np.float32]) -> NDArray[np.float32]:
        if ab.shape != (x.shape[0], 2, *x.shape[2:]):
            raise BackendError(f"The model returned {ab.shape} for an input of {x.shape}.")
        return ab

    def _view(self, image: NDArray[Any], size: int | None) -> View:
        """A photo as the network sees it; at this Colorizer's own size unless another is given."""
        size = self.size if size is None else _check_size(size)
        return View(Picture(image, self._threads), size)

    def _look(self, x: NDArray[np.float32]) -> list[NDArray[np.float32]] | None:
        """What the engine keeps of a photo (1, 4, h, w) for `_ab`; None if it keeps nothing."""
        return self._opened.look(x) if self._opened.splits else None

    def _ab(
        self, x: NDArray[np.float32], photo: list[NDArray[np.float32]] | None = None
    ) -> NDArray[np.float32]:
        """ab in Lab units, (N, 2, h, w), inside what Lab of sRGB can reach.

        `photo` is what `_look` gave, if all N have the same photo.
        """
        if photo is None:
            found = self.predict(x)
        else:
            photo = [np.repeat(kept, len(x), axis=0) for kept in photo]
            found = self._checked(self._shaped(x, self._opened.answer(x, photo)))
        ab: NDArray[np.float32] = unpack_output(found)
        if self.exact_hints:
            for one, given in zip(ab, x, strict=True):
                keep_hints(given[0], one, denormalize_ab(given[1:3]), given[3] > 0)
            np.clip(ab, -128, 127, out=ab)
        return ab


def _stacked(ab: NDArray[np.float32]) -> NDArray[np.float32]:
    """(n, 2, h, w) of one photo as (2n, h, w), as `Picture.join` takes it."""
    return ab.reshape(-1, *ab.shape[2:])


def _check_size(size: int) -> int:
    return whole_number(size, "size", 32, LARGEST_SIZE, ArgumentError)


_reopened: dict[tuple[Any, ...], Colorizer] = {}
_reopening = threading.Lock()


def _reopen(kind: type[Colorizer], arguments: dict[str, Any]) -> Colorizer:
    """Open a pickled Colorizer; in one process, the same one once.

    A pool pickles what it calls with every task, and opening costs as much as colorizing.
    """
    key = (kind, *arguments.items())
    with _reopening:
        if key not in _reopened or _reopened[key]._closed:
            _reopened[key] = kind(**arguments)
        return _reopened[key]


def locate_model(model: str | os.PathLike[str] | None) -> Path:
    """Path of a model that is given by path, or by the name of a bundled one (None: the default).

    Raises
    ------
    ModelError
        If there is none.
    """
    if model is None:
        return find_model(DEFAULT_MODEL)
    try:
        path = Path(model)
        if path.is_file():
            return path
    except (TypeError, OSError, ValueError) as error:
        raise ModelError(
            f"{model!r:.200} cannot be opened as a model ({first_line(error)}); give the path of a "
            "file or the name of a bundled model."
        ) from None
    # A name without a folder or an ending may be that of a bundled model.
    if str(model) == path.name and not path.suffix:
        return find_model(path.name)
    known = ", ".join(sorted(read_manifest(MODELS)))
    raise ModelError(f"There is no model file {path}; bundled models are {known}.")
