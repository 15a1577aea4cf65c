"""Writing TIFF, and PNG of 16 bits a channel, which Pillow does not or not with all metadata."""

from __future__ import annotations

import struct
import zlib
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from ..errors import ImageError
from . import exif as exif_data
from . import tags
from .png import SIGNATURE, chunk, comment_chunk, xmp_chunk
from .tags import Entry, Layout

if TYPE_CHECKING:
    from .photo import Metadata

_STRIP_BYTES = 1 << 18
_LARGEST_TIFF = (1 << 32) - (1 << 20)


def encode_deep(image: NDArray[Any], kind: str, metadata: Metadata) -> bytes:
    """Encode uint16 pixels as PNG, or any as TIFF; see `runtime.images.encode_image`."""
    return _png(image, metadata) if kind == "PNG" else _tiff(image, metadata)


def _png(image: NDArray[Any], metadata: Metadata) -> bytes:
    """PNG (W3C Recommendation, third edition), 16 bits, each row as a difference."""
    high, wide = image.shape[:2]
    channels = 1 if image.ndim == 2 else image.shape[2]
    color = {1: 0, 2: 4, 3: 2, 4: 6}[channels]
    out = [
        SIGNATURE,
        chunk(b"IHDR", struct.pack(">IIBBBBB", wide, high, 16, color, 0, 0, 0)),
        *png_chunks(metadata),
    ]
    step = max(1, _STRIP_BYTES // (2 * wide * channels))
    above = np.zeros((1, wide * channels * 2), np.uint8)
    packer = zlib.compressobj(4)
    for top in range(0, high, step):
        rows = (
            np.ascontiguousarray(image[top : top + step]).astype(">u2").reshape(-1, wide * channels)
        )
        rows = rows.view(np.uint8)
        before = np.concatenate([above, rows[:-1]])
        filtered = np.empty((len(rows), rows.shape[1] + 1), np.uint8)
        filtered[:, 0] = 2  # each row as its difference from the one above
        np.subtract(rows, before, out=filtered[:, 1:])
        above = rows[-1:].copy()
        if packed := packer.compress(filtered.tobytes()):
            out.append(chunk(b"IDAT", packed))
    out.append(chunk(b"IDAT", packer.flush()))
    out.append(chunk(b"IEND", b""))
    return b"".join(out)


def png_chunks(metadata: Metadata) -> list[bytes]:
    """Chunks for a PNG's metadata, to stand behind its header."""
    out = []
    if metadata.icc:
        out.append(chunk(b"iCCP", b"ICC profile\0\0" + zlib.compress(metadata.icc)))
    if metadata.dpi:
        across, down = (round(v / 0.0254) for v in metadata.dpi)
        out.append(chunk(b"pHYs", struct.pack(">IIB", across, down, 1)))
    if metadata.exif:
        out.append(chunk(b"eXIf", metadata.exif.removeprefix(exif_data.PREFIX)))
    if metadata.xmp:
        out.append(xmp_chunk(metadata.xmp))
    out += [chunk(name, body) for name, body in metadata.texts]
    out += [comment_chunk(comment) for comment in metadata.comments]
    return out


def _tiff(image: NDArray[Any], metadata: Metadata) -> bytes:
    """TIFF 6.0: strips packed by Deflate, integers as differences between neighbours.

    The file begins with the EXIF data as it is, so that whatever in it points to a place still
    does; the first directory follows it, then the strips. So its byte order is that of the EXIF.
    """
    high, wide = image.shape[:2]
    channels = 1 if image.ndim == 2 else image.shape[2]
    if channels == 2 and image.dtype != np.uint8:  # which few programs read, Pillow not either
        image, channels = image[..., [0, 0, 0, 1]], 4
    if image.nbytes > _LARGEST_TIFF:
        raise ImageError("A TIFF holds at most 4 GiB; write PNG instead.")
    block, layout, kept = _photo_tags(metadata)
    whole = image.dtype != np.float32
    step = max(1, _STRIP_BYTES // (image.dtype.itemsize * wide * channels))
    strips = []
    for top in range(0, high, step):
        rows = np.ascontiguousarray(image[top : top + step]).reshape(-1, wide, channels)
        if whole:
            rows = np.diff(rows, axis=1, prepend=np.zeros_like(rows[:, :1]))
        stored = rows.astype(rows.dtype.newbyteorder(layout.order))  # type: ignore[arg-type]
        strips.append(zlib.compress(stored.tobytes(), 4))

    def numbers(tag: int, letter: str, *values: int) -> Entry:
        kind = {"H": tags.SHORT, "I": tags.LONG}[letter]
        return Entry(tag, kind, len(values), layout.pack(f"{len(values)}{letter}", *values))

    more = [
        numbers(256, "I", wide),
        numbers(257, "I", high),
        numbers(258, "H", *(8 * image.dtype.itemsize,) * channels),
        numbers(259, "H", 8),  # Adobe Deflate
        numbers(262, "H", 1 if channels < 3 else 2),  # black is zero, RGB
        numbers(277, "H", channels),
        numbers(278, "I", step),
        numbers(284, "H", 1),
        numbers(317, "H", 2 if whole else 1),
        numbers(339, "H", *(1 if whole else 3,) * channels),
        numbers(279, "I", *(len(s) for s in strips)),
    ]
    if channels in (2, 4):
        more.append(numbers(338, "H", 2))  # alpha, not multiplied in
    for tag, value in ((exif_data.ICC, metadata.icc), (exif_data.IPTC, metadata.iptc)):
        if value:
            more.append(Entry(tag, tags.UNDEFINED, len(value), value))
    if metadata.xmp:
        more.append(Entry(exif_data.XMP, 1, len(metadata.xmp), metadata.xmp))
    if metadata.dpi:
        ratios = [layout.pack("II", round(v * 1000), 1000) for v in metadata.dpi]
        more += [Entry(282, 5, 1, ratios[0]), Entry(283, 5, 1, ratios[1]), numbers(296, "H", 2)]
    lengths = [len(s) for s in strips]
    # Where the strips begin depends on the directory's length, and that on nothing in them.
    blank = tags.append_directory(block, [*kept, *more, numbers(273, "I", *(0 for _ in strips))])
    starts = np.cumsum([len(blank), *lengths[:-1]]).tolist()
    head = tags.append_directory(block, [*kept, *more, numbers(273, "I", *starts)])
    return b"".join([head, *strips])


def _photo_tags(metadata: Metadata) -> tuple[bytes, Layout, list[Entry]]:
    """EXIF data to begin a TIFF with, and those of its first tags that tell of the photo."""
    empty = b"II*\0" + bytes(4), Layout("<"), list[Entry]()
    if not metadata.exif:
        return empty
    block = metadata.exif.removeprefix(exif_data.PREFIX)
    try:
        layout, at = tags.layout_of(block)
        entries, _ = tags.read_directory(block, at, layout)
    except ValueError:
        return empty
    carried = (exif_data.EXIF_IFD, exif_data.GPS_IFD, exif_data.ORIENTATION)
    resolution = (282, 283, 296) if metadata.dpi else ()
    return (
        block,
        layout,
        [
            e
            for e in entries
            if (e.tag in carried or e.tag not in exif_data.LAYOUT_TAGS) and e.tag not in resolution
        ],
    )
