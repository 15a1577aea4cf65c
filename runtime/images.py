"""Reading and writing picture files: depth, alpha, EXIF, ICC profile and resolution kept.

Pillow decodes and encodes, through the classes of the formats named here only, so that no file
reaches a decoder that nobody asked for; OpenCV decodes what Pillow would cut to 8 bits.
"""

from __future__ import annotations

import io
import os
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from runtime.color import bytes_of
from runtime.errors import ImageError, first_line, whole_number
from runtime.files import read_limited, write_atomically
from runtime.headers import image_size

MAX_PIXELS = 250_000_000
"""Default limit on a photo's pixels; a larger one is refused from its header alone."""

MAX_FILE_BYTES = 2 << 30
"""Larger files are refused unread."""

FORMATS = {
    ".png": "PNG",
    ".jpg": "JPEG",
    ".jpeg": "JPEG",
    ".webp": "WEBP",
    ".avif": "AVIF",
    ".tif": "TIFF",
    ".tiff": "TIFF",
    ".bmp": "BMP",
}
"""What can be written, by file name extension; GIF can be read as well."""

READABLE = (*FORMATS, ".gif")

_ALPHA = ("PNG", "WEBP", "AVIF", "TIFF")
_DEEP = {"PNG": (np.uint16,), "TIFF": (np.uint16, np.float32)}
_OPTIONS: dict[str, dict[str, Any]] = {
    "JPEG": {"quality": 95, "subsampling": 0},
    "PNG": {"compress_level": 4},
    "WEBP": {"quality": 95, "exact": True},
    "AVIF": {"quality": 90, "subsampling": "4:4:4"},
    "BMP": {},
}

_ORIENTATION, _X_RESOLUTION, _Y_RESOLUTION, _UNIT = 0x0112, 0x011A, 0x011B, 0x0128
# Tags of EXIF's first directory that describe the photo; the others describe the old file.
_KEPT = (
    0x010E,  # ImageDescription
    0x010F,  # Make
    0x0110,  # Model
    0x0131,  # Software
    0x0132,  # DateTime
    0x013B,  # Artist
    0x013C,  # HostComputer
    0x8298,  # Copyright
)
_EXIF_IFD, _GPS_IFD = 0x8769, 0x8825


@dataclass(frozen=True)
class Metadata:
    """What a picture file tells beside its pixels.

    Attributes
    ----------
    exif : bytes, optional
        Beginning with ``b"Exif\\0\\0"``; without orientation, which reading applies, and without
        thumbnail.
    icc : bytes, optional
        ICC profile of the pixels, which is always one of sRGB.
    dpi : (float, float), optional
        Horizontal and vertical resolution in pixels an inch.
    """

    exif: bytes | None = None
    icc: bytes | None = None
    dpi: tuple[float, float] | None = None

    def __post_init__(self) -> None:
        for name in ("exif", "icc"):
            if not isinstance(getattr(self, name), bytes | None):
                raise ImageError(f"A Metadata's {name} must be bytes or None.")
        if self.exif is not None and not self.exif.startswith(b"Exif\0\0"):
            raise ImageError("A Metadata's exif must begin with b'Exif\\0\\0'.")
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


def _opener(data: bytes) -> Any:
    """Pillow's class for what the file begins with."""
    from PIL import (
        AvifImagePlugin,
        BmpImagePlugin,
        GifImagePlugin,
        JpegImagePlugin,
        PngImagePlugin,
        TiffImagePlugin,
        WebPImagePlugin,
    )

    if data[4:12] in (b"ftypavif", b"ftypavis"):
        return AvifImagePlugin.AvifImageFile
    for magic, opener in (
        (b"\x89PNG\r\n\x1a\n", PngImagePlugin.PngImageFile),
        (b"\xff\xd8\xff", JpegImagePlugin.JpegImageFile),
        (b"RIFF", WebPImagePlugin.WebPImageFile),
        (b"II*\0", TiffImagePlugin.TiffImageFile),
        (b"MM\0*", TiffImagePlugin.TiffImageFile),
        (b"GIF8", GifImagePlugin.GifImageFile),
        (b"BM", BmpImagePlugin.BmpImageFile),
    ):
        if data.startswith(magic):
            return opener
    return None


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
    opener = _opener(data)
    size = image_size(data)
    if opener is None or size is None:
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
        return _decode(data, opener, name, max_pixels)
    except ImageError:
        raise
    except MemoryError:
        raise ImageError(f"{name} does not fit the memory of this machine.") from None
    except Exception as error:  # Pillow's decoders raise whatever a damaged file makes them
        raise ImageError(
            f"{name} is damaged or cut short and cannot be decoded ({first_line(error)})."
        ) from None


def _decode(data: bytes, opener: Any, name: str, max_pixels: int) -> Photo:
    from runtime.profiles import to_srgb

    image = _DeepTiff.probe(data, name) or opener(io.BytesIO(data))
    if image.size[0] * image.size[1] > max_pixels:  # should it differ from what the header said
        raise ImageError(f"{name} holds {image.size[0]}x{image.size[1]} pixels; raise max_pixels.")
    notes: list[str] = []
    # Pillow turns a TIFF upright while it decodes, and then forgets that it did.
    asked = _orientation(image) if image.format == "TIFF" else 1
    if isinstance(image, _DeepTiff) or (image.format == "PNG" and data[24] == 16):
        decoded = _decode_deep(data, opener, image, name)
    else:
        image.load()
        decoded = _plain(image, name)
    pixels, icc = to_srgb(decoded, image.info.get("icc_profile"), name, notes)
    exif, orientation = _read_exif(image, notes), _orientation(image)
    if not isinstance(image, _DeepTiff):  # OpenCV has turned those
        pixels = _upright(pixels, orientation)
    pixels = np.ascontiguousarray(pixels)
    dpi = _resolution(image)
    if dpi is not None and max(asked, orientation) >= 5:
        dpi = dpi[::-1]
    return Photo(pixels, Metadata(exif, icc, dpi), tuple(notes))


class _DeepTiff:
    """A TIFF of more than 8 bits a channel, as much of a Pillow image as is used here.

    Pillow reads the tags of any TIFF but opens few of these.
    """

    format = "TIFF"

    def __init__(self, tags: Any) -> None:
        self.tags = tags
        self.size = int(tags[256]), int(tags[257])
        icc = tags.get(34675)
        self.info = {"icc_profile": icc} if isinstance(icc, bytes) else {}

    def getexif(self) -> Any:
        return self.tags

    def values(self, tag: int) -> tuple[Any, ...]:
        value = self.tags.get(tag, ())
        return value if isinstance(value, tuple) else (value,)

    @classmethod
    def probe(cls, data: bytes, name: str) -> _DeepTiff | None:
        """Open `data` if it is such a file."""
        from PIL import Image

        if data[:4] not in (b"II*\0", b"MM\0*"):
            return None
        tags = Image.Exif()
        tags.load_from_fp(io.BytesIO(data))
        self = cls(tags)
        bits, kinds = self.values(258) or (1,), self.values(339) or (1,)
        if max(bits) <= 8:
            return None
        if tags.get(284, 1) == 2 and len(bits) > 1:
            raise ImageError(
                f"{name} is a TIFF of more than 8 bits with its channels in separate planes, which "
                "is not read; save it with its channels interleaved."
            )
        if len(bits) == 2 or 1 in self.values(338):
            raise ImageError(
                f"{name} is a TIFF of more than 8 bits with alpha of a kind that is not read; save "
                "it without, or as RGB with straight alpha."
            )
        known = (set(bits), set(kinds)) in (({16}, {1}), ({32}, {3}))
        if not known or len(bits) > 4 or tags.get(262) not in (1, 2):
            raise ImageError(
                f"{name} is a TIFF of a kind that is not read ({'/'.join(map(str, bits))} bits, "
                f"photometric interpretation {tags.get(262)}); save it as grey or RGB of 8 or 16 "
                "bits, or of 32-bit floats."
            )
        return self


def _decode_deep(data: bytes, opener: Any, image: Any, name: str) -> NDArray[Any]:
    import cv2

    if image.format == "PNG":
        opener(io.BytesIO(data)).verify()  # OpenCV decodes as much as there is of a damaged one
        if b"IEND\xaeB`\x82" not in data:
            raise ImageError(f"{name} is cut short; get the whole file.")
    else:
        for starts, counts in ((273, 279), (324, 325)):
            ends = zip(image.values(starts), image.values(counts), strict=False)
            if any(start + count > len(data) for start, count in ends):
                raise ImageError(f"{name} is cut short; get the whole file.")
    try:
        pixels = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_UNCHANGED)
    except cv2.error as error:
        raise ImageError(f"{name} cannot be decoded: {error.err}.") from None
    if pixels is None or pixels.dtype not in (np.uint16, np.float32):
        raise ImageError(f"{name} is damaged or cut short and cannot be decoded.")
    if sorted(pixels.shape[:2]) != sorted(image.size):
        raise ImageError(f"{name} was decoded to another size than its header claims.")
    if pixels.ndim == 3:
        order = {3: [2, 1, 0], 4: [2, 1, 0, 3]}.get(pixels.shape[2])
        pixels = pixels[..., order] if order else pixels
    return pixels


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


def _orientation(image: Any) -> int:
    """EXIF's orientation, 1 to 8; 1 where there is none, or it is damaged."""
    try:
        orientation = image.getexif().get(_ORIENTATION, 1)
        return int(orientation) if orientation in range(1, 9) else 1
    except Exception:  # as in decode_photo
        return 1


def _read_exif(image: Any, notes: list[str]) -> bytes | None:
    """EXIF worth keeping."""
    from PIL import Image

    try:
        found, kept = image.getexif(), Image.Exif()
        for tag in _KEPT:
            if tag in found:
                kept[tag] = found[tag]
        for tag in (_EXIF_IFD, _GPS_IFD):
            directory = {
                key: value
                for key, value in found.get_ifd(tag).items()
                if key != 0xA005  # the interoperability directory, an offset in the old file
            }
            if directory:
                kept.get_ifd(tag).update(directory)
                kept[tag] = directory
        data = kept.tobytes() if len(kept) else None
        # Read back: what cannot be read again is not worth writing.
        if data is not None:
            again = Image.Exif()
            again.load(data)
            dict(again)
        return data
    except Exception as error:  # as in decode_photo
        notes.append(f"Its EXIF data is damaged and was left out ({first_line(error)}).")
        return None


def decode_image(
    data: bytes, *, name: str = "the image", max_pixels: int = MAX_PIXELS
) -> NDArray[np.uint8]:
    """Decode a picture to 8-bit RGB, whatever it holds; alpha is dropped. See `decode_photo`.

    Returns
    -------
    ndarray, shape (H, W, 3), uint8
    """
    return to_rgb8(decode_photo(data, name=name, max_pixels=max_pixels).pixels)


def to_rgb8(pixels: NDArray[Any]) -> NDArray[np.uint8]:
    """Any pixels of a `Photo` as (H, W, 3) uint8 RGB, without alpha."""
    if pixels.dtype == np.float32:
        pixels = np.nan_to_num(pixels)
    pixels = bytes_of(pixels)
    if pixels.ndim == 2:
        pixels = pixels[..., None]
    light = pixels[..., :3] if pixels.shape[2] >= 3 else np.repeat(pixels[..., :1], 3, axis=2)
    return np.ascontiguousarray(light)


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


def check_writable(path: str | os.PathLike[str]) -> None:
    """Raise `ImageError` unless `write_image` could write here, before any work is done."""
    _format_of(path)
    path = Path(path)
    try:
        if path.is_dir():
            raise ImageError(f"{path} is a folder; name a file to write.")
        if not path.parent.is_dir():
            raise ImageError(f"The folder {path.parent} does not exist; make it first.")
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


def encode_image(
    image: NDArray[Any], kind: str, metadata: Metadata | None = None, *, quality: int | None = None
) -> bytes:
    """Encode a picture.

    Parameters
    ----------
    image : ndarray, shape (H, W), (H, W, 2), (H, W, 3) or (H, W, 4); uint8, uint16 or float32
        See `Photo`.
    kind : str
        One of the values of `FORMATS`.
    metadata : Metadata, optional
        EXIF, ICC profile and resolution to write along.
    quality : int, optional
        1 to 100, for JPEG, WebP and AVIF; 95, 95 and 90 unless given.

    Raises
    ------
    ImageError
        If the array is none of these or the format cannot hold it.
    """
    from runtime.deep import encode_deep

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
    if kind != "BMP":
        exif = metadata.exif
        if metadata.dpi and kind in ("WEBP", "AVIF"):  # which have no other place for it
            exif = _with_resolution(exif, metadata.dpi)
        if exif:
            options["exif"] = exif
        if metadata.icc:
            options["icc_profile"] = metadata.icc
    if metadata.dpi:
        options["dpi"] = metadata.dpi
    buffer = io.BytesIO()
    Image.fromarray(np.ascontiguousarray(image)).save(buffer, kind, **options)
    return buffer.getvalue()


def _with_resolution(exif: bytes | None, dpi: tuple[float, float]) -> bytes:
    from PIL import Image

    tags = Image.Exif()
    if exif:
        tags.load(exif)
    tags[_X_RESOLUTION], tags[_Y_RESOLUTION], tags[_UNIT] = *dpi, 2
    return tags.tobytes()


def _resolution(image: Any) -> tuple[float, float] | None:
    """Pixels an inch, from the file itself or from its EXIF data."""
    try:
        dpi = image.info.get("dpi")
        if dpi is None:
            exif = image.getexif()
            factor = {2: 1.0, 3: 2.54}[exif.get(_UNIT, 0)]
            dpi = exif[_X_RESOLUTION] * factor, exif[_Y_RESOLUTION] * factor
        across, down = float(dpi[0]), float(dpi[1])
        return (across, down) if 0 < across < 1e6 and 0 < down < 1e6 else None
    except Exception:  # none, or damaged: as in decode_photo
        return None


def write_image(
    path: str | os.PathLike[str],
    image: NDArray[Any],
    metadata: Metadata | None = None,
    *,
    quality: int | None = None,
) -> None:
    """Write a picture to a file whose extension says the format.

    Parameters
    ----------
    path : path
        An old file of that name survives a failure.
    image, metadata, quality
        See `encode_image`.

    Raises
    ------
    ImageError
        If the array is no picture, the extension is unknown, its format cannot hold the array, or
        the file cannot be written.
    """
    check_writable(path)
    try:
        data = encode_image(image, _format_of(path), metadata, quality=quality)
    except ImageError as error:
        raise ImageError(f"{path}: {error}") from None
    try:
        write_atomically(path, data)
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or first_line(error)
        raise ImageError(f"{path!s:.300} cannot be written: {reason}.") from None
