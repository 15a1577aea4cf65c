"""Formats and sizes of pictures by their headers alone, so that none is decoded that claims too
much."""

from __future__ import annotations

import struct

from .tags import find, layout_of, read_directory

_MAGIC = (
    (b"\x89PNG\r\n\x1a\n", "PNG"),
    (b"\xff\xd8\xff", "JPEG"),
    (b"II*\0", "TIFF"),
    (b"MM\0*", "TIFF"),
    (b"II+\0", "TIFF"),  # BigTIFF
    (b"MM\0+", "TIFF"),
    (b"\0\0\0\x0cjP  \r\n\x87\n", "JP2"),
    (b"\xff\x4f\xff\x51", "JP2"),
    (b"GIF8", "GIF"),
)
_BMP_HEADERS = (12, 40, 52, 56, 64, 108, 124)

_HEIC = (b"heic", b"heix", b"heim", b"heis", b"hevc", b"hevx")

# Camera raw files by their first bytes, and their names.
_RAW = (
    (b"FUJIFILMCCD-RAW", 0, "RAF"),
    (b"IIU\0", 0, "RW2"),
    (b"IIRO", 0, "ORF"),
    (b"IIRS", 0, "ORF"),
    (b"MMOR", 0, "ORF"),
    (b"CR\x02", 8, "CR2"),
    (b"ftypcrx ", 4, "CR3"),
    (b"FOVb", 0, "X3F"),
)


def kind_of(data: bytes) -> str | None:
    """The format that a file begins as, by Pillow's name, or None if it is none of these."""
    if data[4:8] == b"ftyp":
        # The first brand may be a general one (mif1, miaf); the others say what is inside.
        length = min(int.from_bytes(data[:4], "big"), 512)
        brands = {data[8:12], *(data[i : i + 4] for i in range(16, length, 4))}
        if brands & {b"avif", b"avis"}:
            return "AVIF"
        return "HEIC" if brands.intersection(_HEIC) else None
    if data.startswith(b"RIFF"):
        return "WEBP" if data[8:12] == b"WEBP" else None
    if data.startswith(b"BM"):  # which a text may begin with as well
        return "BMP" if int.from_bytes(data[14:18], "little") in _BMP_HEADERS else None
    return next((kind for magic, kind in _MAGIC if data.startswith(magic)), None)


def raw_of(data: bytes) -> str | None:
    """The kind of a camera's raw file, or None if it is none, or not known by its first bytes."""
    for magic, at, name in _RAW:
        if data[at : at + len(magic)] == magic:
            return name
    # DNG, NEF, ARW, PEF, ...: a TIFF whose first directory is a small preview.
    if kind_of(data) == "TIFF":
        try:
            layout, at = layout_of(data)
            entries, _ = read_directory(data, at, layout)
        except (ValueError, struct.error):
            return None
        if find(entries, 50706):
            return "DNG"
        maker, inner, kind = (find(entries, tag) for tag in (271, 330, 254))
        preview = kind is not None and layout.number(kind) == 1
        if maker and inner and preview:
            return maker.value.split(b"\0")[0].decode("latin-1").strip() or "raw"
    return None


def image_size(data: bytes) -> tuple[int, int] | None:
    """(width, height) that a picture file claims, or None.

    EXIF orientation is not applied. Never raises on damaged data.
    """
    kind = kind_of(data)
    if kind is None:
        return None
    try:
        size = _READERS[kind](data)
    except (struct.error, IndexError):
        return None
    return size if size and min(size) > 0 else None


def _png(data: bytes) -> tuple[int, int]:
    return struct.unpack_from(">II", data, 16)


def _gif(data: bytes) -> tuple[int, int]:
    return struct.unpack_from("<HH", data, 6)


def _bmp(data: bytes) -> tuple[int, int]:
    if struct.unpack_from("<I", data, 14)[0] == 12:
        return struct.unpack_from("<HH", data, 18)
    width, height = struct.unpack_from("<ii", data, 18)
    return width, abs(height)


def _webp(data: bytes) -> tuple[int, int] | None:
    kind = data[8:16]
    if kind == b"WEBPVP8X":
        width = int.from_bytes(data[24:27], "little") + 1
        return width, int.from_bytes(data[27:30], "little") + 1
    if kind == b"WEBPVP8 ":
        width, height = struct.unpack_from("<HH", data, 26)
        return width & 0x3FFF, height & 0x3FFF
    if kind == b"WEBPVP8L":
        bits = struct.unpack_from("<I", data, 21)[0]
        return (bits & 0x3FFF) + 1, ((bits >> 14) & 0x3FFF) + 1
    return None


def _jpeg(data: bytes) -> tuple[int, int] | None:
    at = 2
    while True:
        if data[at] != 0xFF:
            return None
        while data[at] == 0xFF:  # fill bytes
            at += 1
        marker = data[at]
        at += 1
        if marker == 0x01 or 0xD0 <= marker <= 0xD8:  # markers without a length
            continue
        if marker in (0xD9, 0xDA):  # end, or scan data before any frame header
            return None
        if 0xC0 <= marker <= 0xCF and marker not in (0xC4, 0xC8, 0xCC):
            height, width = struct.unpack_from(">HH", data, at + 3)
            return width, height
        at += max(2, struct.unpack_from(">H", data, at)[0])


def _tiff(data: bytes) -> tuple[int, int] | None:
    try:
        layout, at = layout_of(data)
        entries, _ = read_directory(data, at, layout)
    except ValueError:
        return None
    found = [find(entries, tag) for tag in (256, 257)]
    width, height = (None if e is None else layout.number(e) for e in found)
    return (width, height) if width and height else None


def _jp2(data: bytes) -> tuple[int, int] | None:
    """From the codestream's SIZ segment (ITU-T T.800, A.5.1)."""
    at = data.find(b"\xff\x4f\xff\x51", 0, 1 << 20)
    if at < 0:
        return None
    right, bottom, left, top = struct.unpack_from(">IIII", data, at + 8)
    return right - left, bottom - top


def _avif(data: bytes) -> tuple[int, int] | None:
    """The largest of the sizes that the file's images and tiles claim (ISO/IEC 23008-12, ispe)."""
    sizes: list[tuple[int, int]] = []
    at = data.find(b"ispe")
    while at >= 0 and len(sizes) < 1000:
        sizes.append(struct.unpack_from(">II", data, at + 8))
        at = data.find(b"ispe", at + 4, 1 << 20)
    return max(sizes, key=lambda s: s[0] * s[1], default=None)


_READERS = {
    "AVIF": _avif,
    "BMP": _bmp,
    "GIF": _gif,
    "HEIC": _avif,
    "JP2": _jp2,
    "JPEG": _jpeg,
    "PNG": _png,
    "TIFF": _tiff,
    "WEBP": _webp,
}
