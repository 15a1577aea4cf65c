"""One photo at full size, read in tiles: its lightness for the network, and its join with ab."""

from __future__ import annotations

import threading
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from ..color import Y_of, Y_of_f, bytes_of, f_of_Y, srgb_of_xyz
from ..errors import ImageError
from ..tiles import for_each, row_tiles
from .finish import Finish, own_colors
from .resample import RowResampler, mean_rows, resample_columns, resize_plane, taps

UPSAMPLING = "lanczos3"
"""How ab is brought to full size; docs/benchmarks.md compares."""

DTYPES = (np.uint8, np.uint16, np.float32)
_SLACK = 1e-3  # a float photo may pass 0 and 1 by this much, as resampled ones do; it is clipped


class Picture:
    """A photo whose colour is to be replaced.

    Parameters
    ----------
    image : ndarray, shape (H, W), (H, W, 1), (H, W, 2), (H, W, 3) or (H, W, 4)
        Grey, grey with alpha, RGB, or RGB with alpha; uint8, uint16, or float32 of 0..1. It may be
        memory-mapped or not contiguous; it is read in tiles and never copied as a whole.
    threads : int, optional
        Threads for full-size work; None is one a core.

    Raises
    ------
    ImageError
        If the array is none of these, or a float one holds NaN or values outside 0..1.
    """

    def __init__(self, image: NDArray[Any], threads: int | None = None) -> None:
        if not isinstance(image, np.ndarray):
            raise ImageError(f"The image must be a numpy array, not {type(image).__name__}.")
        if image.dtype not in DTYPES:
            raise ImageError(
                f"The image must be uint8, uint16, or float32 of 0..1, not {image.dtype}; "
                "convert it first."
            )
        channels = image.shape[2] if image.ndim == 3 else 1
        if image.ndim not in (2, 3) or not 1 <= channels <= 4:
            raise ImageError(
                f"The image must be (H, W), or (H, W, C) with 1 to 4 channels, not {image.shape}."
            )
        if min(image.shape[:2]) < 1:
            raise ImageError(f"The image has no pixels: its shape is {image.shape}.")
        self.height, self.width = image.shape[:2]
        self.dtype, self.threads = image.dtype, threads
        self._light = (
            image if image.ndim == 2 else image[..., 0] if channels < 3 else image[..., :3]
        )
        self._alpha = image[..., -1] if channels in (2, 4) else None
        if self.dtype == np.float32:
            self._each(self._check_range)

    def _each(self, work: Any) -> None:
        for_each(work, row_tiles((self.height, self.width)), self.threads)

    def _check_range(self, rows: slice) -> None:
        low, high = float(self._light[rows].min()), float(self._light[rows].max())
        # Written so that NaN fails too.
        if not (low >= -_SLACK and high <= 1 + _SLACK):
            raise ImageError(
                f"A float image must hold values of 0 to 1, but this one has {low:g} to {high:g}; "
                "scale it, and replace NaN."
            )

    def _Y(self, rows: slice) -> NDArray[np.float32]:
        tile = self._light[rows]
        if self.dtype == np.float32:
            tile = np.clip(tile, 0, 1)
        return Y_of(tile)

    def luminance(self) -> NDArray[np.float32]:
        """Y (0..1) at full size, (H, W)."""
        Y = np.empty((self.height, self.width), np.float32)

        def work(rows: slice) -> None:
            Y[rows] = self._Y(rows)

        self._each(work)
        return Y

    def lightness(self, height: int, width: int) -> NDArray[np.float32]:
        """L (0..100) at another size: means where it shrinks, cubic where it grows.

        Returns
        -------
        ndarray, shape (height, width), float32
        """
        high, wide = min(height, self.height), min(width, self.width)
        small = np.empty((high, wide), np.float32)
        edges = np.linspace(0, self.height, high + 1)

        def work(span: slice) -> None:
            borders = edges[span.start : span.stop + 1]
            top, bottom = int(np.floor(borders[0])), int(np.ceil(borders[-1]))
            bottom = min(bottom, self.height)
            rows = f_of_Y(self._Y(slice(top, bottom)))
            if high < self.height:
                rows = mean_rows(rows, top, borders)
            small[span] = resize_plane(rows, len(rows), wide)

        # Tiles of whole rows of the small plane, about as many pixels each as elsewhere.
        tall = self.height / high
        for_each(work, row_tiles((high, max(1, round(tall * self.width)))), self.threads)
        f = resize_plane(small, height, width)
        return f * np.float32(116) - np.float32(16)

    def _own(self, rows: slice) -> NDArray[Any]:
        """Rows as they are, (r, W) or (r, W, 3)."""
        return self._light[rows]

    def join(
        self,
        ab: NDArray[np.float32],
        finish: Finish | None = None,
        *,
        upsampling: str = UPSAMPLING,
    ) -> NDArray[Any]:
        """The photo with its own L and new colours.

        Parameters
        ----------
        ab : ndarray, shape (2, h, w), or (4, h, w) if `finish` has bounded regions; float32
            Lab units, at any size; resized to the photo's.
        finish : Finish, optional
            Where they end and how strong they are, in pixels of this picture.
        upsampling : str
            One of `runtime.fullsize.resample.KERNELS`.

        Returns
        -------
        ndarray, shape (H, W, 3), or (H, W, 4) where the photo has alpha
            Of the photo's dtype. Alpha is the photo's own.
        """
        # Lab needs a / 500 and b / 200: scaled while they are small.
        scale = np.array([500, -200] * (len(ab) // 2), np.float32)
        shares = ab / scale[:, None, None]
        if shares.shape[2] != self.width:
            shares = resample_columns(shares, taps(shares.shape[2], self.width, upsampling))
        by_rows = None
        if shares.shape[1] != self.height:
            by_rows = RowResampler(shares, taps(shares.shape[1], self.height, upsampling))
        channels = 3 if self._alpha is None else 4
        try:
            out = np.empty((self.height, self.width, channels), self.dtype)
        except MemoryError:
            raise ImageError(
                f"The result of {self.width}x{self.height} pixels does not fit the memory; "
                "colorize the photo in parts, or on a larger machine."
            ) from None

        def work(rows: slice) -> None:
            Y = self._Y(rows)
            f = f_of_Y(Y)
            tile = shares[:, rows] if by_rows is None else by_rows.rows(rows)
            if finish is not None:
                tile = finish.shares(tile, f, lambda: own_colors(self._own(rows)), rows)
            srgb_of_xyz(Y_of_f(f + tile[0]), Y, Y_of_f(f + tile[1]), out[rows, :, :3])
            if finish is not None:
                finish.keep(out[rows, :, :3], lambda: self._own(rows), rows)
            if self._alpha is not None:
                out[rows, :, 3] = self._alpha[rows]

        self._each(work)
        return out


def shrunk(picture: Picture, height: int, width: int) -> PlanePicture:
    """A smaller grey picture of the same lightness, for previews.

    At the picture's own size it is the very same: on the way to L and back 2 values in 60,000 came
    out one level off.
    """
    if (height, width) == (picture.height, picture.width):
        return PlanePicture(picture.luminance(), picture)
    f = (picture.lightness(height, width) + np.float32(16)) / np.float32(116)
    Y = np.clip(Y_of_f(f), 0, 1)
    return PlanePicture(Y, picture)


class PlanePicture(Picture):
    """A smaller picture given by its luminance; joins to 8 bits."""

    def __init__(self, Y: NDArray[np.float32], source: Picture) -> None:
        self.height, self.width = Y.shape
        self.dtype, self.threads = np.dtype(np.uint8), source.threads
        self._light, self._alpha = Y, None
        self._source, self._small = source, None
        self._lock = threading.Lock()

    @property
    def nbytes(self) -> int:
        """What it holds."""
        return self._light.nbytes + (0 if self._small is None else self._small.nbytes)

    def _Y(self, rows: slice) -> NDArray[np.float32]:
        return self._light[rows]

    def _own(self, rows: slice) -> NDArray[Any]:
        """Made small when they are first asked for: few previews need the photo's own colours."""
        with self._lock:
            if self._small is None:
                size = self.width, self.height
                own = self._source._light
                if own.dtype == np.float32:
                    own = np.clip(own, 0, 1)
                self._small = bytes_of(cv2.resize(own, size, interpolation=cv2.INTER_AREA))
        return self._small[rows]


def fit_within(height: int, width: int, longest: int) -> tuple[int, int]:
    """The size with the same aspect whose longer side is `longest`; never larger than it was."""
    scale = min(1.0, longest / max(height, width))
    return max(1, round(height * scale)), max(1, round(width * scale))
