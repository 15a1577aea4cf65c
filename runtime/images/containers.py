"""Picture files taken apart, one function a format: pixels to decode and what lies beside them.

Pillow decodes, through the classes of the formats named here only, so that no file reaches a
decoder that nobody asked for; OpenCV decodes PNG of 16 bits, tifffile what Pillow would cut.
"""

from __future__ import annotations

import contextlib
import io
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from importlib import import_module
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..errors import CutShortError, ImageError, MissingDependencyError
from . import exif as exif_data
from . import tags
from .curves import Space
from .jpeg import has_all_scans, read_segments, split_resources, what_follows
from .png import mended, read_chunks
from .signals import coding_of_avif, depth_of_avif, space_of_coding, space_of_png


@dataclass
class Found:
    """A file taken apart; its pixels are not decoded yet.

    Attributes
    ----------
    size : (int, int)
        Width and height before turning.
    load : callable
        Gives a Pillow image of mode L, LA, RGB, RGBA or CMYK, or an array.
    mode : str
        Of the array; empty for a Pillow image, which knows its own.
    icc, exif, xmp, iptc : bytes or None
        EXIF without its prefix.
    space : (Space, str) or None
        What the file names by numbers, if that is not sRGB, and its name.
    orientation : int
        To be applied, 1 to 8.
    turned : bool
        Whether the decoder itself makes columns of rows.
    left_out : list of str
        What is carried nowhere.
    """

    size: tuple[int, int]
    load: Callable[[], Any]
    mode: str = ""
    icc: bytes | None = None
    exif: bytes | None = None
    xmp: bytes | None = None
    iptc: bytes | None = None
    comments: list[bytes] = field(default_factory=list)
    texts: list[tuple[bytes, bytes]] = field(default_factory=list)
    dpi: tuple[float, float] | None = None
    space: tuple[Space, str] | None = None
    orientation: int = 1
    turned: bool = False
    left_out: list[str] = field(default_factory=list)


def _open(kind: str, data: bytes) -> Any:
    """Pillow's class for a format, and no other."""
    name = {"JP2": "Jpeg2K", "AVIF": "Avif", "BMP": "Bmp", "GIF": "Gif", "JPEG": "Jpeg",
            "PNG": "Png", "TIFF": "Tiff", "WEBP": "WebP"}[kind]  # fmt: skip
    opener = getattr(
        import_module(f"PIL.{name}ImagePlugin"),
        {"JP2": "Jpeg2KImageFile"}.get(kind, f"{name}ImageFile"),
    )
    return opener(io.BytesIO(data))


def _one_picture(frames: int, what: str, notes: list[str], page: int | None, name: str) -> None:
    """Say that the others are left out."""
    if page is not None and page != 1:
        raise ImageError(f"{name} has no pages; page {page} is for TIFF. Leave it out.")
    if frames > 1:
        notes.append(f"It holds {frames} {what}; only the first was read.")


def _loaded(image: Any, name: str) -> Any:
    image.load()
    return plain(image, name)


def plain(image: Any, name: str) -> Any:
    """A Pillow image brought to one of L, LA, RGB, RGBA and CMYK, or an array of grey 16 bits."""
    if image.mode in ("L", "LA", "RGB", "RGBA", "CMYK"):
        if image.mode in ("L", "RGB") and "transparency" in image.info:
            return image.convert("LA" if image.mode == "L" else "RGBA")
        return image
    if image.mode == "1":
        return image.convert("L")
    if image.mode in ("P", "PA"):
        see_through = image.mode == "PA" or "transparency" in image.info
        return image.convert("RGBA" if see_through else "RGB")
    if image.mode in ("RGBX", "YCbCr", "HSV"):
        return image.convert("RGB")
    if image.mode in ("RGBa", "La"):
        return image.convert({"RGBa": "RGBA", "La": "LA"}[image.mode])
    if image.mode == "I":  # as which Pillow has given grey of 16 bits
        values = np.asarray(image)
        if values.min() >= 0 and values.max() <= 65535:
            return values.astype(np.uint16)
    raise ImageError(
        f"{name} holds pixels of a kind that is not read ({image.mode}); save it as grey or RGB, "
        "or give an array of numpy."
    )


# JPEG


def read_jpeg(
    data: bytes, name: str, notes: list[str], *, page: int | None, tolerant: bool
) -> Found:
    """See `Found`."""
    beside = read_segments(data)
    _one_picture(beside.pictures, "pictures (such as a gain map)", notes, page, name)
    if beside.pictures == 1 and (behind := what_follows(data)):  # else that is what follows
        beside.unknown.append(behind)
    image = _open("JPEG", data)

    def load() -> Any:
        try:
            return _loaded(image, name)
        except OSError:
            return plain(_mended_jpeg(data, name, notes, tolerant), name)

    return Found(
        image.size,
        load,
        icc=image.info.get("icc_profile"),
        exif=beside.exif,
        xmp=beside.xmp,
        iptc=beside.iptc,
        comments=beside.comments,
        dpi=beside.dpi or exif_data.resolution_of_block(beside.exif),
        orientation=exif_data.orientation_of(beside.exif),
        left_out=beside.unknown,
    )


def _mended_jpeg(data: bytes, name: str, notes: list[str], tolerant: bool) -> Any:
    """A JPEG that lacks its end marker; if it lacks more, only if that is allowed.

    Whether all pixels are there shows by what follows: if two ends that are not alike are put
    behind the data and the pictures differ, the decoder still needed them.
    """
    made = []
    with contextlib.suppress(OSError):
        for filler in (b"\x00", b"\x5a", b"\xa9\x13\x76"):
            image = _open("JPEG", data + 512 * filler + b"\xff\xd9")
            image.load()
            made.append(image)
    if (
        has_all_scans(data)
        and len(made) == 3
        and all(np.array_equal(np.asarray(made[0]), np.asarray(other)) for other in made[1:])
    ):
        notes.append("It lacks its end marker; all pixels are there.")
        return made[0]
    if data[-64:].rstrip(b"\0\r\n").endswith(b"\xff\xd9"):
        raise ImageError(
            f"{name} is damaged, or a JPEG of a kind that is not read (lossless, 12 bits); save it "
            "again."
        )
    if not tolerant:
        raise CutShortError(name)
    # As it is; or without a table or a scan's head (of a progressive one) that is cut itself.
    for end in (len(data), data.rfind(b"\xff\xc4"), data.rfind(b"\xff\xda")):
        with contextlib.suppress(OSError, SyntaxError):
            image = _open("JPEG", data[: max(0, end)] + b"\xff\xd9")
            image.load()
            notes.append("It is cut short; what is missing is grey.")
            return image
    raise ImageError(f"{name} is damaged beyond what --tolerant can mend.")


# PNG


def read_png(
    data: bytes, name: str, notes: list[str], *, page: int | None, tolerant: bool
) -> Found:
    """See `Found`."""
    beside = read_chunks(data)
    _one_picture(beside.frames, "frames", notes, page, name)
    if beside.damaged:
        notes.append(f"Damaged, and left out: {', '.join(beside.damaged)}.")
    picture = beside.picture
    if not beside.whole:
        made = mended(picture, tolerant)
        if made is None:
            raise CutShortError(name)
        picture, missing = made
        what = "what is missing is black" if missing else "all pixels are there"
        notes.append(f"It is cut short; {what}.")
    image = _open("PNG", picture)
    deep = data[24] == 16
    space = None
    if beside.icc is None:
        if beside.coding is not None:
            space = space_of_coding(beside.coding, name)
        elif not beside.srgb:
            space = space_of_png(beside.gamma, beside.chromaticities)

    def load() -> Any:
        if not deep:
            return _loaded(image, name)
        _open("PNG", picture).verify()  # OpenCV does not look at every CRC
        return _png_by_opencv(picture, data[25], name)

    return Found(
        image.size,
        load,
        mode=_png_mode(picture, data[25]) if deep else "",
        icc=beside.icc,
        exif=beside.exif,
        xmp=beside.xmp,
        texts=beside.texts,
        dpi=beside.dpi or exif_data.resolution_of_block(beside.exif),
        space=space,
        orientation=exif_data.orientation_of(beside.exif),
        left_out=beside.unknown,
    )


def _png_mode(picture: bytes, color: int) -> str:
    """Of 16 bits a channel, which palettes never have."""
    mode = "RGB" if color & 2 else "L"
    return mode + "A" if color & 4 or b"tRNS" in picture[:2048] else mode


def _png_by_opencv(picture: bytes, color: int, name: str) -> NDArray[Any]:
    """Channels as `_png_mode` says."""
    import cv2

    with _opencv_silent():
        pixels: Any = cv2.imdecode(np.frombuffer(picture, np.uint8), cv2.IMREAD_UNCHANGED)
    if pixels is None:
        raise ImageError(f"{name} is damaged and cannot be decoded.")
    mode = _png_mode(picture, color)
    if pixels.ndim == 2:
        pixels = pixels[..., None]
    if pixels.shape[2] >= 3:
        order = [2, 1, 0, 3][: pixels.shape[2]]
        pixels = pixels[..., order]
    if mode in ("L", "LA") and pixels.shape[2] >= 3:
        pixels = pixels[..., [0, 3]] if pixels.shape[2] == 4 else pixels[..., :1]
    if mode.endswith("A") and pixels.shape[2] in (1, 3):
        top = np.iinfo(pixels.dtype).max
        alpha = np.full(pixels.shape[:2], top, pixels.dtype)
        if color in (0, 2):
            alpha[(pixels == _transparent(picture, color, pixels.dtype)).all(axis=2)] = 0
        pixels = np.dstack([pixels, alpha])
    return pixels[..., 0] if mode == "L" else np.ascontiguousarray(pixels)


def _transparent(picture: bytes, color: int, dtype: Any) -> NDArray[Any]:
    """The one colour that is transparent (tRNS)."""
    at = picture.index(b"tRNS") + 4
    count = 1 if color == 0 else 3
    values = np.frombuffer(picture[at : at + 2 * count], ">u2")
    return values.astype(dtype)


@contextlib.contextmanager
def _opencv_silent() -> Any:
    """OpenCV writes to standard error what it finds odd; what matters is raised."""
    import cv2

    logging: Any = cv2.utils.logging
    before = logging.getLogLevel()
    logging.setLogLevel(logging.LOG_LEVEL_SILENT)
    try:
        yield
    finally:
        logging.setLogLevel(before)


# TIFF


def read_tiff(
    data: bytes, name: str, notes: list[str], *, page: int | None, tolerant: bool
) -> Found:
    """See `Found`."""
    from .tiff import TiffPages, by_opencv, pillow_reads

    pages = TiffPages(data, name)
    chosen = pages.choose(page, notes)
    layout, _ = tags.layout_of(data)
    entries, _ = tags.read_directory(data, chosen.offset, layout)
    beside = {e.tag: e.value for e in entries}
    orientation = tags.find(entries, exif_data.ORIENTATION)
    asked = layout.number(orientation) if orientation else 1
    asked = asked if asked in range(1, 9) else 1
    photoshop, others = split_resources(beside.get(exif_data.PHOTOSHOP, b""))
    found = Found(
        (chosen.imagewidth, chosen.imagelength),
        lambda: pages.read(chosen, notes, tolerant),
        # Of Lab, whose own profile says nothing of the sRGB that it becomes.
        icc=None if int(chosen.photometric) in (8, 9, 10) else beside.get(exif_data.ICC),
        exif=exif_data.of_tiff(data, chosen.offset, notes),
        xmp=beside.get(exif_data.XMP),
        iptc=beside.get(exif_data.IPTC) or photoshop,
        dpi=exif_data.resolution_of(entries, layout),
        orientation=asked,
        left_out=["Photoshop resources"] * others,
    )
    if pillow_reads(chosen):
        # Pillow turns a TIFF upright while it decodes.
        found.orientation, found.turned = 1, asked >= 5
        found.load = lambda: _tiff_by_pillow(data, pages, chosen, name, notes, tolerant)
    else:
        found.mode = pages.mode(chosen)
        if by_opencv(chosen):
            found.orientation, found.turned = 1, asked >= 5
            found.load = lambda: _tiff_by_opencv(data, name)
    return found


def _tiff_by_pillow(
    data: bytes, pages: Any, chosen: Any, name: str, notes: list[str], tolerant: bool
) -> Any:
    pages.check_whole(chosen, tolerant)
    try:
        image = _open("TIFF", data)
        if chosen.index:
            image.seek(chosen.index)
        return _loaded(image, name)
    except (SyntaxError, OSError, KeyError, ImageError):  # it knows fewer kinds than tifffile
        return pages.as_image(chosen, notes, tolerant)


def _tiff_by_opencv(data: bytes, name: str) -> NDArray[Any]:
    import cv2

    with _opencv_silent():
        pixels: Any = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_UNCHANGED)
    if pixels is None or pixels.dtype not in (np.uint16, np.float32):
        raise ImageError(f"{name} is damaged or cut short and cannot be decoded.")
    if pixels.ndim == 3:
        pixels = pixels[..., [2, 1, 0, 3][: pixels.shape[2]]]
    return pixels


# The others


def _read_by_pillow(
    kind: str, data: bytes, name: str, notes: list[str], *, page: int | None, tolerant: bool
) -> Found:
    """WebP, AVIF, GIF, BMP, JPEG 2000: Pillow gives all that there is."""
    if kind == "AVIF" and data[8:12] not in (b"avif", b"avis", b"mif1", b"msf1"):
        data = data[:8] + b"avif" + data[12:]  # of a brand that Pillow does not know, such as miaf
    image = _open(kind, data)
    return _found_by_pillow(image, kind, data, name, notes, page)


def _found_by_pillow(
    image: Any, kind: str, data: bytes, name: str, notes: list[str], page: int | None
) -> Found:
    _one_picture(getattr(image, "n_frames", 1), "frames", notes, page, name)
    info = image.info
    block = info.get("exif")
    if isinstance(block, bytes):
        block = block.removeprefix(exif_data.PREFIX)
    xmp = info.get("xmp")
    comment = info.get("comment")
    icc = info.get("icc_profile") or None
    coding = coding_of_avif(data) if kind in ("AVIF", "HEIC") and not icc else None
    if kind == "AVIF" and (bits := depth_of_avif(data)) > 8:
        notes.append(f"Its {bits} bits a channel were read as 8.")
    return Found(
        image.size,
        lambda: _loaded(image, name),
        icc=icc,
        exif=block or None,
        xmp=xmp.encode() if isinstance(xmp, str) else xmp or None,
        comments=[comment.encode() if isinstance(comment, str) else comment] if comment else [],
        dpi=_dpi(info) or exif_data.resolution_of_block(block),
        space=None if coding is None else space_of_coding(coding, name),
        orientation=exif_data.orientation_of(block),
    )


def _dpi(info: dict[str, Any]) -> tuple[float, float] | None:
    try:
        across, down = (float(v) for v in info["dpi"])
    except (KeyError, TypeError, ValueError, ZeroDivisionError):
        return None
    return (across, down) if 0 < across < 1e6 and 0 < down < 1e6 else None


def read_heic(
    data: bytes, name: str, notes: list[str], *, page: int | None, tolerant: bool
) -> Found:
    """See `Found`; by pillow-heif, the extra ``heif``."""
    try:
        from pillow_heif import HeifImageFile
    except ImportError:
        raise _Missing(
            f"{name} is HEIC, which needs another package: pip install 'hscaunet[heif]'."
        ) from None
    image = HeifImageFile(io.BytesIO(data))
    if image.info.get("bit_depth", 8) > 8:
        notes.append(f"Its {image.info['bit_depth']} bits a channel were read as 8.")
    return _found_by_pillow(image, "HEIC", data, name, notes, page)


class _Missing(ImageError, MissingDependencyError):
    """A picture that another package could read."""


def read_jp2(
    data: bytes, name: str, notes: list[str], *, page: int | None, tolerant: bool
) -> Found:
    """See `Found`."""
    found = _read_by_pillow("JP2", data, name, notes, page=page, tolerant=tolerant)
    image = _open("JP2", data)
    if image.mode == "I;16":
        found.mode = "L"
        found.load = lambda: _deep_grey(image)
        return found
    at = data.find(b"\xff\x51")
    bits = (data[at + 40] & 0x7F) + 1 if at >= 0 and at + 40 < len(data) else 8
    if bits > 8:
        notes.append(f"Its {bits} bits a channel were read as 8.")
    return found


def _deep_grey(image: Any) -> NDArray[np.uint16]:
    image.load()
    return np.asarray(image).astype(np.uint16)


READERS: dict[str, Callable[..., Found]] = {
    "JPEG": read_jpeg,
    "PNG": read_png,
    "TIFF": read_tiff,
    "HEIC": read_heic,
    "JP2": read_jp2,
    **{kind: partial(_read_by_pillow, kind) for kind in ("WEBP", "AVIF", "GIF", "BMP")},
}
