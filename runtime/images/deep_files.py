"""TIFF, and PNG of 16 bits a channel: Pillow writes neither 16-bit colour nor EXIF into TIFF."""

from __future__ import annotations

import io
import struct
import zlib
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from ..errors import ImageError

if TYPE_CHECKING:
    from .photo import Metadata

_STRIP_BYTES = 1 << 18
_LARGEST_TIFF = (1 << 32) - (1 << 20)


def encode_deep(image: NDArray[Any], kind: str, metadata: Metadata) -> bytes:
    """Encode uint16 pixels as PNG, or any as TIFF; see `runtime.images.encode_image`."""
    return _png(image, metadata) if kind == "PNG" else _tiff(image, metadata)


def _chunk(name: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))


def _png(image: NDArray[Any], metadata: Metadata) -> bytes:
    """PNG (W3C Recommendation, third edition), 16 bits, each row as a difference."""
    high, wide = image.shape[:2]
    channels = 1 if image.ndim == 2 else image.shape[2]
    color = {1: 0, 2: 4, 3: 2, 4: 6}[channels]
    out = [
        b"\x89PNG\r\n\x1a\n",
        _chunk(b"IHDR", struct.pack(">IIBBBBB", wide, high, 16, color, 0, 0, 0)),
    ]
    if metadata.icc:
        out.append(_chunk(b"iCCP", b"ICC profile\0\0" + zlib.compress(metadata.icc)))
    if metadata.dpi:
        out.append(
            _chunk(b"pHYs", struct.pack(">IIB", *(round(v / 0.0254) for v in metadata.dpi), 1))
        )
    if metadata.exif:
        out.append(_chunk(b"eXIf", metadata.exif.removeprefix(b"Exif\0\0")))
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
            out.append(_chunk(b"IDAT", packed))
    out.append(_chunk(b"IDAT", packer.flush()))
    out.append(_chunk(b"IEND", b""))
    return b"".join(out)


def _tiff(image: NDArray[Any], metadata: Metadata) -> bytes:
    """TIFF 6.0: strips packed by Deflate, integers as differences between neighbours."""
    from PIL import Image
    from PIL.TiffImagePlugin import ImageFileDirectory_v2

    high, wide = image.shape[:2]
    channels = 1 if image.ndim == 2 else image.shape[2]
    if channels == 2 and image.dtype != np.uint8:  # which few programs read, Pillow not either
        image, channels = image[..., [0, 0, 0, 1]], 4
    if image.nbytes > _LARGEST_TIFF:
        raise ImageError("A TIFF holds at most 4 GiB; write PNG instead.")
    whole = image.dtype != np.float32
    step = max(1, _STRIP_BYTES // (image.dtype.itemsize * wide * channels))
    strips = []
    for top in range(0, high, step):
        rows = np.ascontiguousarray(image[top : top + step]).reshape(-1, wide, channels)
        if whole:
            rows = np.diff(rows, axis=1, prepend=np.zeros_like(rows[:, :1]))
        strips.append(zlib.compress(rows.astype(rows.dtype.newbyteorder("<")).tobytes(), 4))

    tags = ImageFileDirectory_v2(prefix=b"II")
    if metadata.exif:
        exif = Image.Exif()
        exif.load(metadata.exif)
        for tag, value in exif.items():
            tags[tag] = value
        for tag in (0x8769, 0x8825):
            if directory := exif.get_ifd(tag):
                tags[tag] = dict(directory)
    tags[256], tags[257] = wide, high
    tags[258] = (8 * image.dtype.itemsize,) * channels
    tags[259] = 8  # Adobe Deflate
    tags[262] = 1 if channels < 3 else 2  # black is zero, RGB
    tags[277], tags[278], tags[284] = channels, step, 1
    tags[317] = 2 if whole else 1
    tags[339] = (1 if whole else 3,) * channels
    if channels in (2, 4):
        tags[338] = 2  # alpha, not multiplied in
    if metadata.icc:
        tags.tagtype[34675] = 7
        tags[34675] = metadata.icc
    if metadata.dpi:
        tags[282], tags[283], tags[296] = *metadata.dpi, 2
    starts = np.cumsum([0, *(len(s) for s in strips[:-1])]).tolist()
    tags[279] = tuple(len(s) for s in strips)
    tags[273] = tuple(starts)  # to which Pillow adds where the directory ends
    tags.tagtype[273] = tags.tagtype[279] = 4
    buffer = io.BytesIO()
    tags.save(buffer)
    for strip in strips:
        buffer.write(strip)
    return buffer.getvalue()


class DeepTiff:
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
    def probe(cls, data: bytes, name: str) -> DeepTiff | None:
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


def decode_deep(data: bytes, opener: Any, image: Any, name: str) -> NDArray[Any]:
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
