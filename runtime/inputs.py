"""What an application may give as a photo, and the same kind given back."""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from .errors import ArgumentError, ImageError, first_line
from .lightness import Lightness

if TYPE_CHECKING:
    from .images import Photo

ORDERS = ("RGB", "BGR")


@dataclass(frozen=True)
class Opened:
    """A photo's pixels as the runtime computes with them.

    Attributes
    ----------
    pixels : ndarray
        See `runtime.images.Photo`.
    give_back : callable
        Makes of the colour pixels what the caller gave: array, Pillow image or `Photo`.
    """

    pixels: NDArray[Any]
    give_back: Callable[[NDArray[Any]], Any]


def open_input(image: Any, order: str = "RGB", lightness: Lightness | None = None) -> Opened:
    """Open a photo of any kind.

    Parameters
    ----------
    image : ndarray, PIL.Image.Image, Photo, path, bytes or binary file
    order : {"RGB", "BGR"}
        Of an array's channels; the result has them in the same order.
    lightness : Lightness, optional
        How the photo becomes grey.

    Raises
    ------
    ImageError
        If it is none of these, or cannot be read.
    ArgumentError
        If `order` is none of the two.
    """
    if lightness is not None:
        if not isinstance(lightness, Lightness):
            raise ArgumentError(f"lightness must be a Lightness, not {lightness!r:.60}.")
        opened = open_input(image, order)
        return Opened(lightness.apply(opened.pixels), opened.give_back)
    if order not in ORDERS:
        raise ArgumentError(f"order must be one of {', '.join(ORDERS)}, not {order!r:.60}.")
    if isinstance(image, np.ndarray):
        return _open_array(image, order == "BGR")
    if order != "RGB":
        raise ArgumentError("order= is for arrays; pictures and files say their own.")
    if _is_pillow(image):
        return _open_pillow(image)
    return _open_photo(image)


def _open_array(image: NDArray[Any], bgr: bool) -> Opened:
    from .images.photo import native

    dtype = image.dtype
    image = native(image)
    back = dtype if dtype.kind == "f" and dtype.itemsize != 4 else None
    if bgr and image.ndim == 3:
        image = _swapped(image)

    def give_back(colored: NDArray[Any]) -> NDArray[Any]:
        colored = _swapped(colored) if bgr else colored
        return colored if back is None else colored.astype(back.newbyteorder("="))

    return Opened(image, give_back)


def _swapped(pixels: NDArray[Any]) -> NDArray[Any]:
    """BGR to RGB and back, alpha where it was; grey as it is."""
    if pixels.shape[2] < 3:
        return pixels
    return np.ascontiguousarray(pixels[..., [2, 1, 0, 3][: pixels.shape[2]]])


def _is_pillow(image: Any) -> bool:
    """Whether it is a Pillow image, without loading Pillow for what is none."""
    return any(kind.__module__ == "PIL.Image" for kind in type(image).__mro__)


def _open_pillow(image: Any) -> Opened:
    from PIL import Image

    from .images import to_rgb8
    from .images.containers import plain
    from .images.profiles import to_srgb

    name = "the image"
    try:
        image.load()  # which may have been put off
        shown = np.asarray(image) if image.mode.startswith("I;16") else plain(image, name)
    except (OSError, ValueError) as error:
        if isinstance(error, ImageError):
            raise
        raise ImageError(f"The image cannot be read: {first_line(error)}.") from None
    if isinstance(shown, np.ndarray):
        pixels, icc = shown.astype(np.uint16), None
    else:
        pixels, icc = to_srgb(shown, shown.mode, image.info.get("icc_profile"), name, [])

    def give_back(colored: NDArray[Any]) -> Any:
        alpha = colored[..., 3:] if colored.shape[2] == 4 else None
        light = to_rgb8(colored)
        if alpha is not None:
            light = np.dstack([light, alpha if alpha.dtype == np.uint8 else to_rgb8(alpha)[..., 0]])
        made = Image.fromarray(light)
        made.info.update(
            {k: v for k, v in image.info.items() if k in ("dpi", "exif", "xmp", "comment")}
        )
        if icc:
            made.info["icc_profile"] = icc
        return made

    return Opened(np.asarray(pixels), give_back)


def _open_photo(image: Any) -> Opened:
    from .images import Photo, read_photo

    if not isinstance(image, Photo):
        readable = isinstance(image, str | bytes | bytearray | memoryview | os.PathLike)
        if not readable and not hasattr(image, "read"):
            raise ImageError(
                "The image must be an array, a PIL image, a Photo, a path, bytes or a file, not "
                f"{type(image).__name__}."
            )
        image = read_photo(image)
    photo: Photo = image
    return Opened(photo.pixels, lambda colored: replace(photo, pixels=colored))
