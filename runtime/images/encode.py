"""Writing picture files, with all that goes along, so that a failure leaves what was there."""

from __future__ import annotations

import io
import os
from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
from numpy.typing import NDArray

from ..color import bytes_of
from ..errors import ImageError, first_line, whole_number
from ..safe_files import check_target, write_atomically
from .carry import fit_metadata
from .exif import PREFIX, orientation_of, with_resolution, without_orientation
from .jpeg import extra_segments
from .photo import FORMATS, Metadata, native

_ALPHA = ("PNG", "WEBP", "AVIF", "TIFF")
_DEEP = {"PNG": (np.uint16,), "TIFF": (np.uint16, np.float32)}
_OPTIONS: dict[str, dict[str, Any]] = {
    "JPEG": {"quality": 95, "subsampling": 0},
    "PNG": {"compress_level": 4},
    "WEBP": {"quality": 95, "exact": True},
    "AVIF": {"quality": 90, "subsampling": "4:4:4"},
    "BMP": {},
}


def check_writable(
    path: str | os.PathLike[str],
    *,
    inputs: Iterable[str | os.PathLike[str]] = (),
) -> None:
    """Raise `ImageError` unless `write_image` may write here, before any work is done.

    Parameters
    ----------
    path : path
    inputs : iterable of path
        Files that are read, which must not be written over.
    """
    _format_of(path)
    try:
        check_target(Path(path), ImageError, inputs=inputs)
    except ImageError:
        raise
    except (OSError, ValueError) as error:
        raise ImageError(f"{path!s:.200} cannot be written: {first_line(error)}.") from None


def _format_of(path: str | os.PathLike[str]) -> str:
    try:
        suffix = Path(path).suffix.lower()
    except TypeError:
        raise ImageError(f"{path!r:.60} is not the name of a file to write.") from None
    if suffix not in FORMATS:
        raise ImageError(
            f"{path} has no extension that says how to write it; use one of {', '.join(FORMATS)}."
        )
    return FORMATS[suffix]


def fits_format(kind: str, image: NDArray[Any]) -> str | None:
    """Why a file format (a value of `FORMATS`) cannot hold these pixels, or None."""
    if image.dtype != np.uint8 and image.dtype not in _DEEP.get(kind, ()):
        what = "floats" if image.dtype == np.float32 else "16 bits a channel"
        where = "TIFF" if image.dtype == np.float32 else "PNG or TIFF"
        return f"{kind} cannot hold {what}; write {where}, or convert to 8 bits first."
    if image.ndim == 3 and image.shape[2] in (2, 4) and kind not in _ALPHA:
        return f"{kind} cannot hold alpha; write {', '.join(_ALPHA)}, or drop it first."
    return None


def fit_pixels(pixels: NDArray[Any], kind: str) -> tuple[NDArray[Any], list[str]]:
    """Pixels that a format can hold, and a sentence on what had to be given up for it."""
    lost = []
    if pixels.dtype != np.uint8 and pixels.dtype not in _DEEP.get(kind, ()):
        deep = pixels.dtype == np.float32 and kind in _DEEP
        lost.append("floats" if deep else "more than 8 bits a channel")
        if deep:
            scaled = np.clip(np.nan_to_num(pixels), 0, 1) * np.float32(65535)
            pixels = np.rint(scaled).astype(np.uint16)
        else:
            pixels = bytes_of(np.nan_to_num(pixels))
    if pixels.ndim == 3 and pixels.shape[2] in (2, 4) and kind not in _ALPHA:
        lost.append("alpha")
        pixels = pixels[..., 0] if pixels.shape[2] == 2 else pixels[..., :3]
    return pixels, [f"{kind} cannot hold {' or '.join(lost)}; written without."] if lost else []


def format_named(name: Any) -> str:
    """A value of `FORMATS` by its name or its ending: "JPEG", "jpg", ".jpg"; or `ImageError`."""
    text = str(name).lower().lstrip(".")
    found = FORMATS.get("." + text)
    if found is None:
        kinds = sorted(set(FORMATS.values()))
        raise ImageError(f"There is no format {name!r:.60}; use one of {', '.join(kinds)}.")
    return found


def encode_image(
    image: NDArray[Any],
    kind: str,
    metadata: Metadata | None = None,
    *,
    quality: int | None = None,
    notes: list[str] | None = None,
) -> bytes:
    """Encode a picture.

    Parameters
    ----------
    image : ndarray, shape (H, W), (H, W, 2), (H, W, 3) or (H, W, 4)
        uint8, uint16, bool or floats of 0..1; see `Photo`.
    kind : str
        One of the values of `FORMATS`.
    metadata : Metadata, optional
        What to write along; of what the format cannot hold a note is made.
    quality : int, optional
        1 to 100, for JPEG, WebP and AVIF; 95, 95 and 90 unless given.
    notes : list of str, optional
        Gets a sentence for metadata that the format cannot hold.

    Raises
    ------
    ImageError
        If the array is none of these or the format cannot hold it.
    """
    from .deep_writers import encode_deep

    if isinstance(image, np.ndarray):
        image = native(image)
    if not isinstance(image, np.ndarray) or image.dtype not in (np.uint8, np.uint16, np.float32):
        kind_of = getattr(image, "dtype", type(image).__name__)
        raise ImageError(f"The image must be a uint8, uint16 or float32 array, not {kind_of}.")
    if image.ndim == 3 and image.shape[2] == 1:
        image = image[..., 0]
    if image.ndim not in (2, 3) or (image.ndim == 3 and not 2 <= image.shape[2] <= 4):
        raise ImageError(f"The image must be (H, W) or (H, W, 2 to 4), not {image.shape}.")
    if min(image.shape[:2]) < 1:
        raise ImageError(f"The image has no pixels: its shape is {image.shape}.")
    if kind not in FORMATS.values():
        kinds = ", ".join(sorted(set(FORMATS.values())))
        raise ImageError(f"There is no format {kind!r:.60}; use one of {kinds}.")
    if problem := fits_format(kind, image):
        raise ImageError(problem)
    metadata = Metadata() if metadata is None else metadata
    if not isinstance(metadata, Metadata):
        raise ImageError(f"metadata must be a Metadata, not a {type(metadata).__name__}.")
    if image.ndim == 2 or image.shape[2] == 2:
        metadata = replace(metadata, icc=None)  # a profile of RGB says nothing of grey
    metadata, left = fit_metadata(metadata, kind)
    if notes is not None:
        notes += left
    if quality is not None:
        quality = whole_number(quality, "quality", 1, 100, ImageError)
    try:
        if kind == "TIFF" or image.dtype != np.uint8:
            return encode_deep(image, kind, metadata)
        return _encode_plain(image, kind, metadata, quality)
    except MemoryError:
        raise ImageError("The encoded picture does not fit the memory of this machine.") from None
    except ImageError:
        raise
    except Exception as error:  # OSError, ValueError, struct.error, as each format likes
        high, wide = image.shape[:2]
        raise ImageError(
            f"A picture of {wide}x{high} cannot be written as {kind} ({first_line(error)}); choose "
            "another format."
        ) from None


def _encode_plain(
    image: NDArray[np.uint8], kind: str, metadata: Metadata, quality: int | None
) -> bytes:
    """Encode 8 bits a channel by Pillow."""
    from PIL import Image

    options = dict(_OPTIONS[kind])
    if quality is not None and "quality" in options:
        options["quality"] = quality
    from .deep_writers import png_chunks
    from .png import with_chunks

    exif = metadata.exif
    if kind in ("WEBP", "AVIF"):
        if metadata.dpi:  # which have no other place for it
            exif = PREFIX + with_resolution(exif and exif.removeprefix(PREFIX), metadata.dpi)
        options |= {"xmp": metadata.xmp} if metadata.xmp else {}
        # Pillow makes anew what names an orientation, and has to if there is one to apply.
        if exif and kind == "AVIF" and orientation_of(exif.removeprefix(PREFIX)) == 1:
            exif = PREFIX + without_orientation(exif.removeprefix(PREFIX))
    elif metadata.dpi and kind != "PNG":
        options["dpi"] = metadata.dpi
    if kind == "JPEG":
        options["extra"] = extra_segments(metadata.xmp, metadata.iptc, metadata.comments)
    if kind not in ("BMP", "PNG"):
        options |= {"exif": exif} if exif else {}
        options |= {"icc_profile": metadata.icc} if metadata.icc else {}
    buffer = io.BytesIO()
    Image.fromarray(np.ascontiguousarray(image)).save(buffer, kind, **options)
    data = buffer.getvalue()
    return with_chunks(data, png_chunks(metadata)) if kind == "PNG" else data


def write_image(
    path: str | os.PathLike[str] | BinaryIO,
    image: NDArray[Any],
    metadata: Metadata | None = None,
    *,
    quality: int | None = None,
    notes: list[str] | None = None,
    format: str | None = None,
) -> None:
    """Write a picture to a file whose extension says the format.

    Parameters
    ----------
    path : path or binary file
        An old file of that name survives a failure. What is open already needs `format`.
    image, metadata, quality, notes
        See `encode_image`.
    format : str, optional
        Such as "PNG" or "jpg", in place of what the extension says.

    Raises
    ------
    ImageError
        If the array is no picture, the extension is unknown, its format cannot hold the array, or
        the file cannot be written.
    """
    if not isinstance(path, str | os.PathLike) and hasattr(path, "write"):
        if format is None:
            raise ImageError("A file that is open needs a format, such as format='PNG'.")
        kind = format_named(format)
        data = encode_image(image, kind, metadata, quality=quality, notes=notes)
        try:
            path.write(data)
        except TypeError:
            raise ImageError("The file must be open for bytes (mode 'wb').") from None
        except (OSError, ValueError) as error:
            raise ImageError(f"The picture cannot be written: {first_line(error)}.") from None
        return
    if format is None:
        check_writable(path)
    kind = _format_of(path) if format is None else format_named(format)
    try:
        data = encode_image(image, kind, metadata, quality=quality, notes=notes)
    except ImageError as error:
        raise ImageError(f"{path}: {error}") from None
    try:
        write_atomically(path, data)
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or first_line(error)
        raise ImageError(f"{path!s:.300} cannot be written: {reason}.") from None
