"""Reading picture files: depth, alpha, profile and everything beside the pixels kept.

`containers` takes a file apart, one function a format; here the pixels are brought to sRGB and
upright, and what the change makes untrue is patched.
"""

from __future__ import annotations

import os
from typing import Any, BinaryIO

import numpy as np
from numpy.typing import NDArray

from ..errors import ImageError, first_line, whole_number
from ..safe_files import read_limited
from . import exif as exif_data
from . import xmp as xmp_packet
from .containers import READERS, Found
from .headers import image_size, kind_of, raw_of
from .photo import MAX_FILE_BYTES, MAX_PIXELS, Metadata, Photo, to_rgb8


def decode_photo(
    data: bytes,
    *,
    name: str = "the image",
    max_pixels: int = MAX_PIXELS,
    page: int | None = None,
    tolerant: bool = False,
) -> Photo:
    """Decode a picture file with all that goes along.

    Parameters
    ----------
    data : bytes
        A JPEG, PNG, TIFF, WebP, AVIF, HEIC, JPEG 2000, BMP or GIF file.
    name : str
        What to call it in errors.
    max_pixels : int
        Refuse more pixels than this before decoding any.
    page : int, optional
        Page of a TIFF, from 1; None takes the first that is no smaller version of another. Of
        animations, the first frame is read.
    tolerant : bool
        Take what there is of a JPEG or PNG that is cut short; the rest is grey or black.

    Returns
    -------
    Photo
        Its notes say what was left out: other pages and frames, damaged metadata, ...

    Raises
    ------
    ImageError
        If it is no picture, is damaged or cut short, is too large, or is of a kind or in colours
        that cannot be converted to sRGB; each in a sentence of its own.
    """
    if not isinstance(data, bytes):
        if not isinstance(data, bytearray | memoryview):
            raise ImageError(f"A picture file is bytes, not a {type(data).__name__}.")
        data = bytes(data)
    max_pixels = whole_number(max_pixels, "max_pixels", 1, 1 << 60, ImageError)
    if page is not None:
        page = whole_number(page, "page", 1, 1 << 31, ImageError)
    kind = _kind(data, name)
    size = image_size(data)
    if size is None:
        raise ImageError(f"{name} is a damaged {kind}: its header does not say its size.")
    _check_pixels(size, max_pixels, name)
    notes: list[str] = []
    try:
        found = READERS[kind](data, name, notes, page=page, tolerant=tolerant)
        _check_pixels(found.size, max_pixels, name)
        return _finish(found.load(), found, name, notes)
    except ImageError:
        raise
    except MemoryError:
        raise ImageError(f"{name} does not fit the memory of this machine.") from None
    except Exception as error:  # Pillow's decoders raise whatever a damaged file makes them
        raise ImageError(
            f"{name} is damaged or cut short and cannot be decoded ({first_line(error)})."
        ) from None


def _kind(data: bytes, name: str) -> str:
    kind, raw = kind_of(data), raw_of(data)
    if raw:
        raise ImageError(
            f"{name} is a camera's raw file ({raw}), which is not read; develop it to TIFF or JPEG "
            "first, with darktable or RawTherapee for example."
        )
    if kind is None:
        what = "is empty" if not data else "is not a picture this release reads"
        raise ImageError(
            f"{name} {what} (JPEG, PNG, TIFF, WebP, AVIF, HEIC, JPEG 2000, BMP or GIF)."
        )
    return kind


def _check_pixels(size: tuple[int, int], most: int, name: str) -> None:
    if size[0] * size[1] > most:
        raise ImageError(
            f"{name} claims {size[0]}x{size[1]} pixels, above the limit of {most}; "
            "raise max_pixels if you trust it."
        )


def _finish(pixels: Any, found: Found, name: str, notes: list[str]) -> Photo:
    """Pixels to sRGB and upright; metadata to what is true of them."""
    from .curves import convert
    from .profiles import converted_from, srgb_profile, to_srgb
    from .signals import adobe_rgb

    mode = found.mode or pixels.mode
    made, icc = to_srgb(pixels, mode, found.icc, name, notes)
    named = found.space or (adobe_rgb() if exif_data.is_adobe_rgb(found.exif) else None)
    if named is not None and not found.icc:
        space, what = named
        grey = mode in ("L", "LA")
        changed = convert(made, space.of_grey() if grey else space)
        if changed is not None:
            made, icc = changed, None if grey else srgb_profile()
            notes.append(converted_from(what))
    made = np.ascontiguousarray(_upright(made, found.orientation))
    high, wide = made.shape[:2]
    turned = found.turned or found.orientation >= 5
    metadata = Metadata(
        exif=_settled_exif(found.exif, wide, high, turned, notes),
        icc=icc,
        dpi=found.dpi[::-1] if found.dpi and turned else found.dpi,
        xmp=_settled_xmp(found.xmp, wide, high, notes),
        iptc=found.iptc or None,
        comments=tuple(found.comments),
        texts=tuple(found.texts),
    )
    if found.left_out:
        notes.append(f"Left out: {', '.join(dict.fromkeys(found.left_out))}.")
    return Photo(made, metadata, tuple(notes))


def _settled_exif(
    block: bytes | None, wide: int, high: int, turned: bool, notes: list[str]
) -> bytes | None:
    if not block:
        return None
    try:
        return exif_data.PREFIX + exif_data.settle(block, wide, high, turned)
    except Exception as error:  # damaged data fails in many ways
        notes.append(f"Its EXIF data is damaged and was left out ({first_line(error)}).")
        return None


def _settled_xmp(packet: bytes | None, wide: int, high: int, notes: list[str]) -> bytes | None:
    if not packet:
        return None
    settled = xmp_packet.settle(packet, wide, high)
    if settled is None:
        notes.append(
            "Its XMP describes other pictures in the file, such as a gain map, and was left out."
        )
    return settled


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


def read_photo(
    path: str | os.PathLike[str] | bytes | BinaryIO,
    *,
    max_pixels: int = MAX_PIXELS,
    page: int | None = None,
    tolerant: bool = False,
) -> Photo:
    """Read a picture file with all that goes along; see `decode_photo`.

    Parameters
    ----------
    path : path, bytes or binary file
        Bytes are the file itself.
    max_pixels, page, tolerant
        See `decode_photo`.

    Raises
    ------
    ImageError
        If there is no such file, or as in `decode_photo`.
    """
    name = "the image"
    if isinstance(path, bytes | bytearray | memoryview):
        data = bytes(path)
    elif hasattr(path, "read"):
        data = _read_open(path)
    else:
        data, name = read_limited(path, MAX_FILE_BYTES, "picture", ImageError), str(path)
    return decode_photo(data, name=name, max_pixels=max_pixels, page=page, tolerant=tolerant)


def _read_open(file: Any) -> bytes:
    """What is left of a binary file."""
    try:
        data = file.read(MAX_FILE_BYTES + 1)
        while data and isinstance(data, bytes) and len(data) <= MAX_FILE_BYTES:
            more = file.read(MAX_FILE_BYTES + 1 - len(data))  # one read may give less than there is
            if not more:
                break
            data += more
    except Exception as error:  # of whatever the application's object is
        raise ImageError(f"The image cannot be read: {first_line(error)}.") from None
    if not isinstance(data, bytes):
        raise ImageError("The file of the image must be open for bytes (mode 'rb').")
    if len(data) > MAX_FILE_BYTES:
        raise ImageError(f"The image is larger than any picture ({MAX_FILE_BYTES} bytes).")
    return data


def read_image(
    path: str | os.PathLike[str] | bytes | BinaryIO, *, max_pixels: int = MAX_PIXELS
) -> NDArray[Any]:
    """Read the pixels of a picture file, upright and in sRGB; see `read_photo`.

    Returns
    -------
    ndarray, shape (H, W), (H, W, 2), (H, W, 3) or (H, W, 4)
        uint8, uint16, or float32 of 0..1, as the file has it: what `Colorizer.colorize` takes.
    """
    return read_photo(path, max_pixels=max_pixels).pixels
