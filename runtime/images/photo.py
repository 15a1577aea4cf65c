"""A picture file's pixels and what goes along with them; which formats there are."""

from __future__ import annotations

import os
from dataclasses import dataclass, field
from typing import Any, BinaryIO

import numpy as np
from numpy.typing import NDArray

from ..color import bytes_of
from ..errors import ImageError

MAX_PIXELS = 250_000_000
"""Default limit on a photo's pixels; a larger one is refused from its header alone."""

MAX_FILE_BYTES = 2 << 30
"""Larger files are refused unread."""

FORMATS = {
    ".png": "PNG",
    ".jpg": "JPEG",
    ".jpeg": "JPEG",
    ".jfif": "JPEG",
    ".jpe": "JPEG",
    ".webp": "WEBP",
    ".avif": "AVIF",
    ".tif": "TIFF",
    ".tiff": "TIFF",
    ".bmp": "BMP",
    ".dib": "BMP",
}
"""What can be written, by file name extension."""

READABLE = (*FORMATS, ".gif", ".jp2", ".j2k", ".jpf", ".jpx", ".heic", ".heif", ".hif", ".avifs")
"""What is read, by file name extension; files of other names are known by their first bytes."""


@dataclass(frozen=True)
class Metadata:
    """What a picture file tells beside its pixels.

    Attributes
    ----------
    exif : bytes, optional
        Beginning with ``b"Exif\\0\\0"``, as in the file but for orientation, which reading applies,
        size, and the thumbnail.
    icc : bytes, optional
        ICC profile of the pixels, which is always one of sRGB.
    dpi : (float, float), optional
        Horizontal and vertical resolution in pixels an inch.
    xmp : bytes, optional
        XMP packet.
    iptc : bytes, optional
        IPTC-IIM records.
    comments : tuple of bytes
        Comments of a JPEG or GIF.
    texts : tuple of (bytes, bytes)
        PNG's texts: name of the chunk (tEXt, zTXt, iTXt) and its data.
    """

    exif: bytes | None = None
    icc: bytes | None = None
    dpi: tuple[float, float] | None = None
    xmp: bytes | None = None
    iptc: bytes | None = None
    comments: tuple[bytes, ...] = ()
    texts: tuple[tuple[bytes, bytes], ...] = ()

    def __post_init__(self) -> None:
        for name in ("exif", "icc", "xmp", "iptc"):
            if not isinstance(getattr(self, name), bytes | None):
                raise ImageError(f"A Metadata's {name} must be bytes or None.")
        if self.exif is not None and self.exif[:8] not in (b"Exif\0\0II", b"Exif\0\0MM"):
            raise ImageError(
                "A Metadata's exif must begin with b'Exif\\0\\0' and a byte order, II or MM."
            )
        if not all(isinstance(comment, bytes) for comment in self.comments):
            raise ImageError("A Metadata's comments must be bytes.")
        if self.dpi is not None:
            try:
                across, down = (float(v) for v in self.dpi)
            except (TypeError, ValueError):
                across = down = -1.0
            if not (0 < across < 1e6 and 0 < down < 1e6):
                raise ImageError(
                    f"A Metadata's dpi must be two numbers above 0, not {self.dpi!r:.60}."
                )


@dataclass(frozen=True)
class Photo:
    """A picture file's pixels and what goes along with them.

    Attributes
    ----------
    pixels : ndarray, shape (H, W), (H, W, 2), (H, W, 3) or (H, W, 4)
        Grey, grey with alpha, RGB, or RGB with alpha, upright and in sRGB; uint8, uint16 or
        float32 of 0..1, as the file has it.
    metadata : Metadata
    notes : tuple of str
        What was changed or left out, in sentences.
    """

    pixels: NDArray[Any]
    metadata: Metadata = field(default_factory=Metadata)
    notes: tuple[str, ...] = ()

    def save(
        self,
        path: str | os.PathLike[str] | BinaryIO,
        format: str | None = None,
        *,
        quality: int | None = None,
    ) -> list[str]:
        """Write it to a file with its metadata; see `runtime.images.write_image`.

        Returns
        -------
        list of str
            What the format could not hold, in sentences: depth, alpha, metadata.

        Raises
        ------
        ImageError
            If it cannot be written, or nothing says the format.
        """
        from .encode import fit_pixels, format_named, write_image

        named = isinstance(path, str | os.PathLike)
        if not named and not hasattr(path, "write"):
            raise ImageError(f"A picture is saved to a path or a file, not {path!r:.60}.")
        if not named and format is None:
            raise ImageError("A file that is open needs a format, such as format='PNG'.")
        ending = format if format is not None else os.path.splitext(path)[1]
        pixels, notes = fit_pixels(self.pixels, format_named(ending))
        write_image(path, pixels, self.metadata, quality=quality, notes=notes, format=format)
        return notes

    def to_bytes(self, format: str = "PNG", *, quality: int | None = None) -> bytes:
        """The same as a picture file's bytes."""
        from .encode import encode_image, fit_pixels, format_named

        kind = format_named(format)
        return encode_image(fit_pixels(self.pixels, kind)[0], kind, self.metadata, quality=quality)

    def to_pil(self) -> Any:
        """A Pillow image of 8 bits a channel: L, LA, RGB or RGBA, with profile and resolution."""
        from PIL import Image

        made = Image.fromarray(np.ascontiguousarray(bytes_of(self.pixels)))
        for name, value in (("icc_profile", self.metadata.icc), ("dpi", self.metadata.dpi),
                            ("exif", self.metadata.exif), ("xmp", self.metadata.xmp)):  # fmt: skip
            if value:
                made.info[name] = value
        return made


def native(pixels: NDArray[Any]) -> NDArray[Any]:
    """Pixels of either byte order, of bool and of floats as uint8, uint16 or float32."""
    if not pixels.dtype.isnative:
        pixels = pixels.astype(pixels.dtype.newbyteorder("="))
    if pixels.dtype == np.bool_:
        return pixels.astype(np.uint8) * np.uint8(255)
    if pixels.dtype.kind == "f" and pixels.dtype != np.float32:
        with np.errstate(over="ignore"):
            return pixels.astype(np.float32)
    return pixels


def to_rgb8(pixels: NDArray[Any]) -> NDArray[np.uint8]:
    """Any pixels of a `Photo` as (H, W, 3) uint8 RGB, without alpha."""
    if pixels.dtype == np.float32:
        pixels = np.nan_to_num(pixels)
    pixels = bytes_of(pixels)
    if pixels.ndim == 2:
        pixels = pixels[..., None]
    light = pixels[..., :3] if pixels.shape[2] >= 3 else np.repeat(pixels[..., :1], 3, axis=2)
    return np.ascontiguousarray(light)
