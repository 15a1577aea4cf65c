"""`Colorizer`: a photo and hints in, a colour photo out."""

from __future__ import annotations

import os
from collections.abc import Iterable
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from runtime.color import L_from_rgb, rgb_from_lab
from runtime.engines import open_engine
from runtime.errors import ArrayError, BackendError, ModelError
from runtime.hints import Hint, Hints
from runtime.images import check_array
from runtime.layout import MULTIPLE, denormalize_ab, network_size, pack_input
from runtime.manifest import DEFAULT_MODEL, MODELS, find_model, read_manifest


class Colorizer:
    """Colorize photos from hints.

    Opening a `Colorizer` costs far more than a call: make one, use it for many photos. It may be
    used from several threads at once.

    Parameters
    ----------
    model : str or path, optional
        Name of a bundled model or path of an ONNX file of this project; None is the bundled
        default.
    backend : str
        Engine: "auto" (the fastest that is installed) or its name, such as "onnxruntime".
    device : {"auto", "cpu", "cuda"}
        "auto" takes CUDA where it works, else the CPU, and says which in the log. A device that
        is asked for by name is used, or `BackendError` is raised.
    threads : int, optional
        CPU threads that one call may use; None leaves it to the engine, usually one a core.

    Attributes
    ----------
    backend, device, precision : str
        What really runs, such as "onnxruntime", "cpu", "fp32".
    metadata : dict of str to str
        What the model file says of itself.

    Raises
    ------
    ModelError
        If the model is missing, damaged, or not one of this project.
    BackendError
        If the engine or device is not there.
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
    ) -> None:
        self._path = _locate(model)
        self._engine = open_engine(self._path, backend=backend, device=device, threads=threads)

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
        """Arithmetic that really runs: "fp32" or "fp16"."""
        return self._engine.precision

    @property
    def metadata(self) -> dict[str, str]:
        """What the model file says of itself."""
        return dict(self._engine.metadata)

    def __repr__(self) -> str:
        return f"<Colorizer {self._path.stem} on {self.backend} {self.device} {self.precision}>"

    def colorize(
        self, image: NDArray[np.uint8], hints: Hints | Iterable[Hint] | None = None
    ) -> NDArray[np.uint8]:
        """Colorize one photo.

        Parameters
        ----------
        image : ndarray, shape (H, W) or (H, W, 3), uint8
            Grey or RGB of any size; colour is reduced to its L.
        hints : Hints or iterable of Hint, optional
            In pixels of `image`; where two meet in one cell of the network, the later wins.

        Returns
        -------
        ndarray, shape (H, W, 3), uint8
            RGB. Its L is that of `image` at full size (but for colours clipped to sRGB); its ab
            come from the network, at about 256 x 256 in the photo's aspect, enlarged bicubically.

        Raises
        ------
        ImageError
            If `image` has another dtype or shape.
        HintError
            If a hint lies outside the image, or is not a `Hint`.
        """
        image = check_array(image)
        hints = Hints.coerce(hints)
        height, width = image.shape[:2]
        cells_high, cells_wide = network_size(height, width)
        ab, mask = hints.rasterize(height, width, cells_high, cells_wide)
        L = L_from_rgb(image)
        x = pack_input(_resize(L, cells_high, cells_wide), ab, mask)
        predicted = denormalize_ab(self.predict(x)[0])
        # Networks can leave Lab; what is left outside sRGB after this is clipped per channel.
        np.clip(predicted, -128, 127, out=predicted)
        full = np.empty((height, width, 2), np.float32)
        for i in range(2):
            full[..., i] = cv2.resize(predicted[i], (width, height), interpolation=cv2.INTER_CUBIC)
        return rgb_from_lab(L, full)

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
        x = np.asarray(x)
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
        ab = self._engine.run(np.ascontiguousarray(x))
        if ab.shape != (x.shape[0], 2, *x.shape[2:]):
            raise BackendError(f"The model returned {ab.shape} for an input of {x.shape}.")
        if not np.isfinite(ab).all():
            raise BackendError(
                f"The model returned NaN or infinity ({self!r}); use its fp32 version and report "
                "the photo."
            )
        return ab


def _locate(model: str | os.PathLike[str] | None) -> Path:
    if model is None:
        return find_model(DEFAULT_MODEL)
    path = Path(model)
    if path.is_file():
        return path
    # A name without a folder or an ending may be that of a bundled model.
    if str(model) == path.name and not path.suffix:
        return find_model(path.name)
    known = ", ".join(sorted(read_manifest(MODELS)))
    raise ModelError(f"There is no model file {path}; bundled models are {known}.")


def _resize(plane: NDArray[np.float32], height: int, width: int) -> NDArray[np.float32]:
    """Resize one plane: averaging when it shrinks, bicubic when it grows."""
    if plane.shape == (height, width):
        return plane
    shrinks = height * width < plane.shape[0] * plane.shape[1]
    method = cv2.INTER_AREA if shrinks else cv2.INTER_CUBIC
    small = cv2.resize(plane, (width, height), interpolation=method)
    return np.asarray(small, np.float32).reshape(height, width)
