"""TIFF: which page is the photo, and pixels of any depth and kind, by tifffile.

tifffile unpacks what Python's own library can (Deflate, LZMA, PackBits); `imagecodecs` (the extra
``tiff``) brings LZW of more than 8 bits in tiles, Zstandard, JPEG 2000 and the rest.
"""

from __future__ import annotations

import contextlib
import io
import logging
import threading
from collections.abc import Iterator
from importlib.util import find_spec
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..color import srgb_of_linear
from ..errors import ImageError, first_line
from ..tiles import row_tiles
from .signals import srgb_of_white

_MOST_PAGES = 1000
"""Further ones can be chosen, but are not looked at for the largest."""

_MOST_CHANNELS = 32
_D50 = (0.34567, 0.35850)
_PREMULTIPLIED, _ALPHA = 1, 2
_WHITE_IS_ZERO, _BLACK_IS_ZERO, _RGB, _PALETTE, _MASK, _CMYK, _YCBCR = range(7)
_CIELAB, _ICCLAB, _ITULAB = 8, 9, 10
_NAMES = {_PALETTE: "palette", _MASK: "mask", _YCBCR: "YCbCr", _ITULAB: "ITU Lab", 32803: "raw",
          34892: "raw", 32844: "LogL", 32845: "LogLuv"}  # fmt: skip
_quiet, _silent = threading.Lock(), 0


@contextlib.contextmanager
def _silence() -> Iterator[None]:
    """tifffile logs what it finds odd; what matters is raised."""
    global _silent
    logger = logging.getLogger("tifffile")
    with _quiet:
        _silent += 1
        logger.disabled = True
    try:
        yield
    finally:
        with _quiet:  # several threads may read at once
            _silent -= 1
            logger.disabled = _silent > 0


class TiffPages:
    """The pages of a TIFF that are open to be read.

    Parameters
    ----------
    data : bytes
        The file.
    name : str
        What to call it in errors.
    """

    def __init__(self, data: bytes, name: str) -> None:
        import tifffile

        self.name, self.data = name, data
        with _silence():
            try:
                self._file = tifffile.TiffFile(io.BytesIO(data))
                self.count = len(self._file.pages)
                self.pages = [self._page(i) for i in range(min(self.count, _MOST_PAGES))]
            except Exception as error:  # whatever a damaged file makes of it
                raise ImageError(
                    f"{name} is damaged: its pages cannot be listed ({first_line(error)})."
                ) from None
        if not self.pages:
            raise ImageError(f"{name} is a TIFF without a page.")

    def _page(self, index: int) -> Any:
        page = self._file.pages[index]
        return page.aspage() if hasattr(page, "aspage") else page

    def choose(self, page: int | None, notes: list[str]) -> Any:
        """The page that is the photo.

        Parameters
        ----------
        page : int or None
            Its number from 1, as a person counts; None takes the largest of those that are not
            marked as a smaller version of another.
        notes : list of str
            Gets a sentence about pages that are left out.
        """
        if page is not None:
            if not 1 <= page <= self.count:
                raise ImageError(f"{self.name} has {self.count} pages; there is no page {page}.")
            with _silence():
                return self._sane(self._page(page - 1))
        whole = [
            p for p in self.pages if not p.subfiletype & 5
        ] or self.pages  # 1: smaller, 4: mask
        largest = max(p.imagewidth * p.imagelength for p in whole)
        chosen = next(p for p in whole if p.imagewidth * p.imagelength * 4 > largest)
        others = len(whole) - 1 + self.count - len(self.pages)
        if others:
            notes.append(
                f"It holds {others + 1} pages; only page {chosen.index + 1} was read. Another is "
                "chosen by --page (page= in Python)."
            )
        inner = [p for p in chosen.pages or () if p.imagewidth * p.imagelength > largest]
        if inner:
            notes.append("A larger picture within it (in a sub-directory) was not read.")
        return self._sane(chosen)

    def _sane(self, page: Any) -> Any:
        """The page, unless its tiles or channels are out of proportion to its pixels."""
        area = max(page.imagewidth * page.imagelength, 1 << 18)
        tile = page.tilewidth * page.tilelength if page.is_tiled else 0
        if tile > 4 * area or page.samplesperpixel > _MOST_CHANNELS:
            raise ImageError(
                f"{self.name} is a TIFF of a kind that is not read: tiles of {page.tilewidth}x"
                f"{page.tilelength} or {page.samplesperpixel} channels for {page.imagewidth}x"
                f"{page.imagelength} pixels."
            )
        return page

    def read(self, page: Any, notes: list[str], tolerant: bool) -> NDArray[Any]:
        """Pixels of a page: (H, W), or (H, W, C) with C of 2 to 4; CMYK is (H, W, 4) as well.

        uint8, uint16 or float32.

        Raises
        ------
        ImageError
            If it is packed in a way, or of a kind, that is not read; or damaged.
        """
        self.check_whole(page, tolerant)
        with _silence():
            try:
                pixels = page.asarray()
            except (ImportError, ValueError, KeyError) as error:
                raise self._unreadable(page, error) from None
            except MemoryError:
                raise
            except Exception as error:  # whatever a damaged file makes of it
                raise ImageError(
                    f"{self.name} is damaged and cannot be decoded ({first_line(error)})."
                ) from None
        pixels = np.asarray(pixels)
        high, wide = page.imagelength, page.imagewidth
        if page.planarconfig == 2 and page.samplesperpixel > 1 and pixels.ndim == 3:
            pixels = np.moveaxis(pixels, 0, -1)
        if pixels.shape[:2] != (high, wide) or pixels.ndim not in (2, 3):
            raise ImageError(
                f"{self.name} is a TIFF of more than two dimensions {pixels.shape}; save its "
                "slices as pages."
            )
        return _settle(pixels, page, self.name, notes)

    def mode(self, page: Any) -> str:
        """What the channels are that `read` gives: L, LA, RGB, RGBA or CMYK."""
        kind = int(page.photometric)
        if kind == _CMYK:
            return "CMYK"
        mode = "RGB"
        if kind in (_WHITE_IS_ZERO, _BLACK_IS_ZERO) or page.samplesperpixel < 3:
            mode = "L"
        light = {"L": 1, "RGB": 3}[mode]
        extra = [int(e) for e in page.extrasamples] if page.samplesperpixel > light else []
        see_through = bool(extra) and extra[0] in (_PREMULTIPLIED, _ALPHA)
        return mode + "A" if see_through else mode

    def as_image(self, page: Any, notes: list[str], tolerant: bool) -> Any:
        """What `read` gives of 8 bits a channel, as a Pillow image that is upright."""
        from PIL import Image, ImageOps

        pixels = self.read(page, notes, tolerant)
        if pixels.dtype != np.uint8:
            raise ImageError(f"{self.name} is damaged and cannot be decoded.")
        image = Image.fromarray(np.ascontiguousarray(pixels), self.mode(page))
        tag = page.tags.get(274)
        image.getexif()[274] = int(tag.value) if tag else 1
        return ImageOps.exif_transpose(image)

    def check_whole(self, page: Any, tolerant: bool) -> None:
        """Raise `ImageError` if its data ends before the page's pixels do."""
        ends = zip(page.dataoffsets, page.databytecounts, strict=False)
        if not tolerant and any(start + count > len(self.data) for start, count in ends):
            raise ImageError(f"{self.name} is cut short; get the whole file.")

    def _unreadable(self, page: Any, error: Exception) -> ImageError:
        packing = getattr(page.compression, "name", str(page.compression))
        if isinstance(error, ImportError) or "imagecodecs" in str(error):
            return ImageError(
                f"{self.name} is packed with {packing}, which needs another package: pip install "
                "'hscaunet[tiff]', or save it with Deflate or without compression."
            )
        if find_spec("imagecodecs") is None and page.compression not in (1, 5, 8, 32946):
            return ImageError(
                f"{self.name} is packed with {packing}, which is not read here; pip install "
                "'hscaunet[tiff]', or save it with Deflate."
            )
        return ImageError(f"{self.name} is damaged and cannot be decoded ({first_line(error)}).")


def _settle(pixels: NDArray[Any], page: Any, name: str, notes: list[str]) -> NDArray[Any]:
    """Pixels as tifffile gives them to uint8, uint16 or float32; black is 0, no odd channels."""
    kind = int(page.photometric)
    channels = {_WHITE_IS_ZERO: 1, _BLACK_IS_ZERO: 1, _RGB: 3, _CMYK: 4, _CIELAB: 3, _ICCLAB: 3}
    if kind not in channels:
        raise ImageError(
            f"{name} is a TIFF of a kind that is not read ({_NAMES.get(kind, kind)}, "
            f"{page.bitspersample} bits); save it as grey or RGB."
        )
    if pixels.ndim == 2:
        pixels = pixels[..., None]
    light = channels[kind]
    if kind in (_CIELAB, _ICCLAB) and pixels.shape[2] == 1:  # L alone
        kind, light = _BLACK_IS_ZERO, 1
        notes.append("It holds L of Lab alone, which was taken for grey.")
    if pixels.shape[2] < light:
        raise ImageError(f"{name} is damaged: it lacks channels ({pixels.shape[2]} of {light}).")
    extra = [int(e) for e in page.extrasamples] if pixels.shape[2] > light else []
    if kind in (_CIELAB, _ICCLAB):
        white = page.tags.get(318)
        color = _from_lab(pixels[..., :3], kind, name, _xy(white.value if white else None))
    else:
        color = _scaled(pixels[..., :light], int(page.bitspersample), name, notes)
        if kind == _WHITE_IS_ZERO:
            top = {np.uint8: 255, np.uint16: 65535}.get(color.dtype.type, 1)
            color = np.asarray(top - color, color.dtype)
    if extra and extra[0] in (_PREMULTIPLIED, _ALPHA) and kind != _CMYK:
        alpha = _scaled(pixels[..., light : light + 1], int(page.bitspersample), name, [])
        if extra[0] == _PREMULTIPLIED:
            color = _straight(color, alpha)
        color = np.concatenate([color, alpha.astype(color.dtype)], axis=2)
        extra = extra[1:]
    if extra:
        notes.append(f"Channels beside colour and alpha were left out ({len(extra)}).")
    return color[..., 0] if color.shape[2] == 1 else color


def _scaled(values: NDArray[Any], bits: int, name: str, notes: list[str]) -> NDArray[Any]:
    """Numbers of any kind as uint8, uint16 or float32."""
    kind = values.dtype.kind
    if kind == "b" or (kind == "u" and bits == 1):
        return np.where(values, np.uint8(255), np.uint8(0))
    if kind == "f":
        if values.dtype.itemsize > 4:
            notes.append("Its 64-bit floats were read as 32-bit ones.")
        with np.errstate(over="ignore"):
            return values.astype(np.float32)
    if kind == "i":
        # As scikit-image's img_as_uint: what is below 0 is black, the largest number white.
        notes.append("Its numbers have a sign; those below 0 were read as black.")
        values, bits = np.maximum(values, 0), bits - 1
        values = values.astype(f"u{values.dtype.itemsize}")
    elif kind != "u":
        raise ImageError(f"{name} holds {values.dtype} pixels, which are not read.")
    if bits == 8:
        return values.astype(np.uint8)
    if bits == 16:
        return values.astype(np.uint16)
    if bits > 16:
        notes.append(f"Its {bits} bits a channel were read as 16.")
        return (values >> (bits - 16)).astype(np.uint16)
    top, dtype = (255, np.uint8) if bits < 8 else (65535, np.uint16)
    table = np.rint(np.arange(1 << bits) * (top / ((1 << bits) - 1))).astype(dtype)
    return table[np.minimum(values, (1 << bits) - 1)]


def _straight(color: NDArray[Any], alpha: NDArray[Any]) -> NDArray[Any]:
    """Undo the multiplication of colour by alpha."""
    top = {np.uint8: 255, np.uint16: 65535}.get(color.dtype.type, 1)
    out = np.empty_like(color)
    for rows in row_tiles(color.shape):
        part = (
            color[rows].astype(np.float32) * top / np.maximum(alpha[rows], 1e-6 if top == 1 else 1)
        )
        out[rows] = np.clip(part if top == 1 else np.rint(part), 0, top)
    return out


def _xy(value: Any) -> tuple[float, float]:
    """Chromaticity of the white point that a file names (two ratios); that of D50 without one."""
    try:
        a, b, c, d = (float(v) for v in value)
        x, y = a / b, c / d
    except (TypeError, ValueError, ZeroDivisionError):
        return _D50
    return (x, y) if 0.1 < x < 0.7 and 0.1 < y < 0.7 else _D50


def _from_lab(
    values: NDArray[Any], kind: int, name: str, white: tuple[float, float]
) -> NDArray[Any]:
    """Lab (TIFF 6.0, section 23; TIFF technical note 4) over a white point to sRGB."""
    bits = values.dtype.itemsize * 8
    if values.dtype.kind not in "ui" or bits not in (8, 16):
        raise ImageError(f"{name} is Lab of {values.dtype}, which is not read; save it as RGB.")
    unsigned = values.view(values.dtype.str.replace("i", "u"))
    out = np.empty(values.shape, np.uint8 if bits == 8 else np.uint16)
    whole = 255.0 if bits == 8 else (65280.0 if kind == _ICCLAB else 65535.0)
    step = 1.0 if bits == 8 else 256.0
    for rows in row_tiles(values.shape):
        part = unsigned[rows]
        L = part[..., 0] * (100 / whole)
        if kind == _ICCLAB:
            a, b = ((part[..., i] - 128.0 * step) / step for i in (1, 2))
        else:
            signed = part.view(part.dtype.str.replace("u", "i"))
            a, b = (signed[..., i] / step for i in (1, 2))
        srgb_of_linear(_linear_of_lab(L, a, b, white), out[rows])
    return out


def _linear_of_lab(L: Any, a: Any, b: Any, white: tuple[float, float]) -> NDArray[np.float32]:
    """Lab over a white point to linear sRGB."""
    fy = (L + 16) / 116
    f = np.stack([fy + a / 500, fy, fy - b / 200], axis=-1)
    relative = np.where(f > 6 / 29, f**3, (f - 16 / 116) / 7.787)
    return (relative @ srgb_of_white(white).T).astype(np.float32)


def pillow_reads(page: Any) -> bool:
    """Whether Pillow is asked for a page: 8 bits and less, packed or coloured in its ways."""
    bits = page.bitspersample
    most = max(bits) if isinstance(bits, tuple) else int(bits)
    plain = int(page.photometric) in (_WHITE_IS_ZERO, _BLACK_IS_ZERO, _RGB, _CMYK)
    if most == 8 and plain and _unpacks(page):
        return False  # tifffile does, without libtiff's remarks on standard error
    return (
        most <= 8
        and int(page.sampleformat) == 1
        and int(page.photometric) not in (_CIELAB, _ICCLAB, _ITULAB)
        and not (int(page.photometric) == _CMYK and page.samplesperpixel > 4)
    )


def _unpacks(page: Any) -> bool:
    """Whether tifffile unpacks a page."""
    packing = int(page.compression)
    return packing in (1, 8, 32946, 32773, 34925) or (
        packing in (5, 50000) and find_spec("imagecodecs") is not None
    )


def by_opencv(page: Any) -> bool:
    """Whether OpenCV has to read a page: deep, packed with LZW, and no imagecodecs."""
    return (
        int(page.compression) == 5
        and find_spec("imagecodecs") is None
        and page.index == 0
        and (int(page.bitspersample), int(page.sampleformat)) in ((16, 1), (32, 3))
        and page.planarconfig == 1
        and int(page.photometric) in (_BLACK_IS_ZERO, _RGB)
        and page.samplesperpixel in (1, 3)
    )
