"""Reading and writing photos."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from runtime.errors import ImageError
from runtime.files import write_atomically
from runtime.headers import image_size

MAX_PIXELS = 250_000_000
"""Default limit on a photo's pixels; a larger one is refused from its header alone."""

MAX_FILE_BYTES = 2 << 30
"""Larger files are refused unread; OpenCV cannot decode them anyway."""

WRITABLE = (".png", ".jpg", ".jpeg", ".webp", ".tif", ".tiff", ".bmp")


def decode_image(
    data: bytes, *, name: str = "the image", max_pixels: int = MAX_PIXELS
) -> NDArray[np.uint8]:
    """Decode a picture to RGB.

    Parameters
    ----------
    data : bytes
        A JPEG, PNG, TIFF, WebP, BMP or GIF file. EXIF orientation is applied, alpha dropped.
    name : str
        What to call it in errors.
    max_pixels : int
        Refuse more pixels than this before decoding any.

    Returns
    -------
    ndarray, shape (H, W, 3), uint8

    Raises
    ------
    ImageError
        If it is no picture, is damaged, or is too large.
    """
    import cv2

    size = image_size(data)
    if size is None:
        raise ImageError(
            f"{name} is not a picture this release reads (JPEG, PNG, TIFF, WebP, BMP or GIF), "
            "or its header is damaged."
        )
    if size[0] * size[1] > max_pixels:
        raise ImageError(
            f"{name} claims {size[0]}x{size[1]} pixels, above the limit of {max_pixels}; "
            "raise max_pixels if you trust it."
        )
    try:
        bgr = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_COLOR)
    except cv2.error as error:
        raise ImageError(f"{name} cannot be decoded: {error.err}.") from None
    if bgr is None:
        raise ImageError(f"{name} is damaged or cut short and cannot be decoded.")
    return np.ascontiguousarray(bgr[..., ::-1])


def read_image(path: str | os.PathLike[str], *, max_pixels: int = MAX_PIXELS) -> NDArray[np.uint8]:
    """Read a photo file to RGB; see `decode_image`.

    Raises
    ------
    ImageError
        If there is no such file, or as in `decode_image`.
    """
    try:
        if Path(path).stat().st_size > MAX_FILE_BYTES:
            raise ImageError(f"{path} is larger than any picture ({MAX_FILE_BYTES} bytes).")
        data = Path(path).read_bytes()
    except OSError as error:
        raise ImageError(f"{path} cannot be read: {error.strerror}.") from None
    except MemoryError:
        raise ImageError(f"{path} does not fit the memory of this machine.") from None
    return decode_image(data, name=str(path), max_pixels=max_pixels)


def check_writable(path: str | os.PathLike[str]) -> None:
    """Raise `ImageError` unless `write_image` could write here, before any work is done."""
    path = Path(path)
    if path.suffix.lower() not in WRITABLE:
        raise ImageError(
            f"{path} has no extension that says how to write it; use one of {', '.join(WRITABLE)}."
        )
    if path.is_dir():
        raise ImageError(f"{path} is a folder; name a file to write.")
    if not path.parent.is_dir():
        raise ImageError(f"The folder {path.parent} does not exist; make it first.")


def check_array(image: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Return `image`, or raise `ImageError` unless it is (H, W) or (H, W, 3) uint8 with pixels."""
    if not isinstance(image, np.ndarray):
        raise ImageError(f"The image must be a numpy array, not {type(image).__name__}.")
    if image.dtype != np.uint8:
        raise ImageError(f"The image must be uint8, not {image.dtype}; scale it to 0..255 first.")
    if image.ndim != 2 and not (image.ndim == 3 and image.shape[2] == 3):
        raise ImageError(f"The image must be (H, W) or (H, W, 3), not {image.shape}.")
    if min(image.shape[:2]) < 1:
        raise ImageError(f"The image has no pixels: its shape is {image.shape}.")
    return image


def write_image(path: str | os.PathLike[str], image: NDArray[np.uint8]) -> None:
    """Write a picture to a file whose extension says the format.

    Parameters
    ----------
    path : path
        An old file of that name survives a failure.
    image : ndarray, shape (H, W) or (H, W, 3), uint8
        Grey or RGB.

    Raises
    ------
    ImageError
        If the array is none of these, the extension is unknown, or the file cannot be written.
    """
    import cv2

    check_array(image)
    check_writable(path)
    suffix = Path(path).suffix.lower()
    options = [cv2.IMWRITE_JPEG_QUALITY, 95] if suffix in (".jpg", ".jpeg") else []
    bgr = image if image.ndim == 2 else image[..., ::-1]
    try:
        ok, data = cv2.imencode(suffix, np.ascontiguousarray(bgr), options)
    except cv2.error as error:
        raise ImageError(f"{path} cannot be encoded: {error.err}.") from None
    if not ok:
        raise ImageError(f"{path} cannot be encoded as {suffix}; choose another format.")
    try:
        write_atomically(path, data.tobytes())
    except OSError as error:
        raise ImageError(f"{path} cannot be written: {error.strerror}.") from None
