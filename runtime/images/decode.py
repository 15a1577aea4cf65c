"""Reading picture files: depth, alpha, EXIF, ICC profile and resolution kept.

Pillow decodes, through the classes of the formats named here only, so that no file reaches a
decoder that nobody asked for; OpenCV decodes what Pillow would cut to 8 bits (`deep_files`).
"""

from __future__ import annotations

import io
import os
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..errors import ImageError, first_line, whole_number
from ..safe_files import read_limited
from .deep_files import DeepTiff, decode_deep
from .exif import orientation_of, read_exif, resolution_of
from .headers import image_size, kind_of
from .photo import MAX_FILE_BYTES, MAX_PIXELS, Metadata, Photo, to_rgb8


def _opener(kind: str) -> Any:
    """Pillow's class for a format, and no other."""
    from importlib import import_module

    from PIL import Image

    name = {"AVIF": "Avif", "BMP": "Bmp", "GIF": "Gif", "JPEG": "Jpeg", "PNG": "Png",
            "TIFF": "Tiff", "WEBP": "WebP"}[kind]  # fmt: skip
    opener: type[Image.Image] = getattr(import_module(f"PIL.{name}ImagePlugin"), f"{name}ImageFile")
    return opener


def decode_photo(data: bytes, *, name: str = "the image", max_pixels: int = MAX_PIXELS) -> Photo:
    """Decode a picture file with all that goes along.

    Parameters
    ----------
    data : bytes
        A JPEG, PNG, TIFF, WebP, AVIF, BMP or GIF file; of several pictures, the first.
    name : str
        What to call it in errors.
    max_pixels : int
        Refuse more pixels than this before decoding any.

    Returns
    -------
    Photo

    Raises
    ------
    ImageError
        If it is no picture, is damaged or cut short, is too large, or is of a kind or in colours
        that cannot be converted to sRGB.
    """
    if not isinstance(data, bytes):
        if not isinstance(data, bytearray | memoryview):
            raise ImageError(f"A picture file is bytes, not a {type(data).__name__}.")
        data = bytes(data)
    max_pixels = whole_number(max_pixels, "max_pixels", 1, 1 << 60, ImageError)
    kind, size = kind_of(data), image_size(data)
    if kind is None or size is None:
        raise ImageError(
            f"{name} is not a picture this release reads (JPEG, PNG, TIFF, WebP, AVIF, BMP or "
            "GIF), or its header is damaged."
        )
    if size[0] * size[1] > max_pixels:
        raise ImageError(
            f"{name} claims {size[0]}x{size[1]} pixels, above the limit of {max_pixels}; "
            "raise max_pixels if you trust it."
        )
    try:
        return _decode(data, _opener(kind), name, max_pixels)
    except ImageError:
        raise
    except MemoryError:
        raise ImageError(f"{name} does not fit the memory of this machine.") from None
    except Exception as error:  # Pillow's decoders raise whatever a damaged file makes them
        raise ImageError(
            f"{name} is damaged or cut short and cannot be decoded ({first_line(error)})."
        ) from None


def _decode(data: bytes, opener: Any, name: str, max_pixels: int) -> Photo:
    from .profiles import to_srgb

    image = DeepTiff.probe(data, name) or opener(io.BytesIO(data))
    if image.size[0] * image.size[1] > max_pixels:  # should it differ from what the header said
        raise ImageError(f"{name} holds {image.size[0]}x{image.size[1]} pixels; raise max_pixels.")
    notes: list[str] = []
    # Pillow turns a TIFF upright while it decodes, and then forgets that it did.
    asked = orientation_of(image) if image.format == "TIFF" else 1
    if isinstance(image, DeepTiff) or (image.format == "PNG" and data[24] == 16):
        decoded = decode_deep(data, opener, image, name)
    else:
        image.load()
        decoded = _plain(image, name)
    pixels, icc = to_srgb(decoded, image.info.get("icc_profile"), name, notes)
    exif, orientation = read_exif(image, notes), orientation_of(image)
    if not isinstance(image, DeepTiff):  # OpenCV has turned those
        pixels = _upright(pixels, orientation)
    pixels = np.ascontiguousarray(pixels)
    dpi = resolution_of(image)
    if dpi is not None and max(asked, orientation) >= 5:
        dpi = dpi[::-1]
    return Photo(pixels, Metadata(exif, icc, dpi), tuple(notes))


def _plain(image: Any, name: str) -> NDArray[np.uint8] | Any:
    """A Pillow image brought to one of L, LA, RGB, RGBA and CMYK."""
    if image.mode in ("L", "LA", "RGB", "RGBA", "CMYK"):
        if image.mode in ("L", "RGB") and "transparency" in image.info:
            return image.convert("LA" if image.mode == "L" else "RGBA")
        return image
    if image.mode == "1":
        return image.convert("L")
    if image.mode in ("P", "PA"):
        see_through = image.mode == "PA" or "transparency" in image.info
        return image.convert("RGBA" if see_through else "RGB")
    if image.mode in ("RGBX", "YCbCr"):
        return image.convert("RGB")
    if image.mode in ("RGBa", "La"):
        return image.convert({"RGBa": "RGBA", "La": "LA"}[image.mode])
    raise ImageError(
        f"{name} holds pixels of a kind that is not read ({image.mode}); save it as grey or RGB."
    )


def _upright(pixels: NDArray[Any], orientation: int) -> NDArray[Any]:
    """Apply EXIF's orientation, 1 to 8."""
    if orientation >= 5:
        pixels = pixels.swapaxes(0, 1)
    if orientation in (2, 3, 6, 7):
        pixels = pixels[:, ::-1]
    if orientation in (3, 4, 7, 8):
        pixels = pixels[::-1]
    return pixels


def decode_image(
    data: bytes, *, name: str = "the image", max_pixels: int = MAX_PIXELS
) -> NDArray[np.uint8]:
    """Decode a picture to 8-bit RGB, whatever it holds; alpha is dropped. See `decode_photo`.

    Returns
    -------
    ndarray, shape (H, W, 3), uint8
    """
    return to_rgb8(decode_photo(data, name=name, max_pixels=max_pixels).pixels)


def read_photo(path: str | os.PathLike[str], *, max_pixels: int = MAX_PIXELS) -> Photo:
    """Read a picture file with all that goes along; see `decode_photo`.

    Raises
    ------
    ImageError
        If there is no such file, or as in `decode_photo`.
    """
    data = read_limited(path, MAX_FILE_BYTES, "picture", ImageError)
    return decode_photo(data, name=str(path), max_pixels=max_pixels)


def read_image(path: str | os.PathLike[str], *, max_pixels: int = MAX_PIXELS) -> NDArray[Any]:
    """Read the pixels of a picture file, upright and in sRGB; see `read_photo`.

    Returns
    -------
    ndarray, shape (H, W), (H, W, 2), (H, W, 3) or (H, W, 4)
        uint8, uint16, or float32 of 0..1, as the file has it: what `Colorizer.colorize` takes.
    """
    return read_photo(path, max_pixels=max_pixels).pixels
