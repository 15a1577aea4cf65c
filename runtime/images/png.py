"""A PNG's chunks: what lies beside the picture, and how it is written (W3C, third edition)."""

from __future__ import annotations

import struct
import zlib
from collections.abc import Iterator
from dataclasses import dataclass, field

SIGNATURE = b"\x89PNG\r\n\x1a\n"
_PICTURE = (b"IHDR", b"PLTE", b"tRNS", b"IDAT", b"IEND")
_TEXT = (b"tEXt", b"zTXt", b"iTXt")
_XMP = b"XML:com.adobe.xmp\0"
# What describes the old file's pixels or how it was made, and is no loss.
_SILENT = (b"acTL", b"fcTL", b"fdAT", b"sBIT", b"bKGD", b"hIST", b"sPLT", b"mDCV", b"cLLI", b"tIME")
MAX_UNPACKED = 16 << 20
"""Most bytes that a packed profile or text may have."""


@dataclass
class Chunks:
    """What a PNG holds beside its picture.

    Attributes
    ----------
    picture : bytes
        The same PNG with nothing else in it.
    exif, xmp, icc : bytes or None
    texts : list of (bytes, bytes)
        Name and data of each chunk of text, as they are.
    dpi : (float, float) or None
    gamma : float or None
        gAMA: the exponent that encoded it.
    chromaticities : tuple of 8 floats or None
        cHRM: x and y of white, red, green and blue.
    coding : tuple of 4 int or None
        cICP (ITU-T H.273): primaries, transfer, matrix, full range.
    srgb : bool
    frames : int
        Of an animation.
    damaged : list of str
        Names of the chunks that were left out for their CRC or what they hold.
    unknown : list of str
    whole : bool
        Whether it ends as a PNG does.
    """

    picture: bytes = b""
    exif: bytes | None = None
    xmp: bytes | None = None
    icc: bytes | None = None
    texts: list[tuple[bytes, bytes]] = field(default_factory=list)
    dpi: tuple[float, float] | None = None
    gamma: float | None = None
    chromaticities: tuple[float, ...] | None = None
    coding: tuple[int, ...] | None = None
    srgb: bool = False
    frames: int = 1
    damaged: list[str] = field(default_factory=list)
    unknown: list[str] = field(default_factory=list)
    whole: bool = False


def chunk(name: bytes, data: bytes) -> bytes:
    """One chunk."""
    return struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))


def _walk(data: bytes) -> Iterator[tuple[bytes, int, int]]:
    """Name of each chunk, where it begins and where it ends (which may lie beyond the data)."""
    at = len(SIGNATURE)
    while at + 8 <= len(data):
        (length,) = struct.unpack_from(">I", data, at)
        yield bytes(data[at + 4 : at + 8]), at, at + 12 + length
        at += 12 + length


def read_chunks(data: bytes) -> Chunks:
    """Take a PNG apart; what is damaged beside the picture is left out and named."""
    found, parts = Chunks(), [SIGNATURE]
    for name, at, end in _walk(data):
        if name in _PICTURE:
            parts.append(data[at:end])
            if name == b"IEND":
                found.whole = end <= len(data)
                break
            continue
        if name[0] < 97:  # a capital: needed, and known to nobody here; the decoder says so
            parts.append(data[at:end])
            continue
        if end > len(data):
            break
        body = data[at + 8 : end - 4]
        if struct.unpack_from(">I", data, end - 4)[0] != zlib.crc32(data[at + 4 : end - 4]):
            found.damaged.append(name.decode("latin-1"))
            continue
        try:
            _take(found, name, body)
        except (ValueError, IndexError, struct.error, zlib.error):
            found.damaged.append(name.decode("latin-1"))
    found.picture = b"".join(parts)
    return found


def _take(found: Chunks, name: bytes, body: bytes) -> None:
    """Understand one chunk that is sound."""
    if name == b"eXIf":
        found.exif = body.removeprefix(b"Exif\0\0")
    elif name == b"iCCP":
        found.icc = unpack(body[body.index(b"\0") + 2 :])
    elif name == b"pHYs":
        across, down, unit = struct.unpack(">IIB", body)
        if unit == 1 and across and down:
            found.dpi = across * 0.0254, down * 0.0254
    elif name == b"gAMA":
        (number,) = struct.unpack(">I", body)
        found.gamma = number / 100_000 or None
    elif name == b"cHRM":
        found.chromaticities = tuple(v / 100_000 for v in struct.unpack(">8I", body))
    elif name == b"cICP":
        found.coding = struct.unpack(">4B", body)
    elif name == b"sRGB":
        found.srgb = True
    elif name == b"acTL":
        found.frames = max(1, struct.unpack_from(">I", body, 0)[0])
    elif name == b"iTXt" and body.startswith(_XMP):
        found.xmp = _text_of_itxt(body)
    elif name in _TEXT:
        _take_text(found, name, body)
    elif name not in _SILENT:
        found.unknown.append(name.decode("latin-1"))


def _take_text(found: Chunks, name: bytes, body: bytes) -> None:
    """A chunk of text; EXIF, IPTC and XMP packed as ImageMagick does are no captions."""
    keyword = bytes(body[: body.index(b"\0")])
    if keyword.startswith(b"Raw profile type "):
        kind = keyword.removeprefix(b"Raw profile type ").decode("latin-1")
        raw = unpack(body[len(keyword) + 2 :]) if name == b"zTXt" else body[len(keyword) + 1 :]
        value = bytes.fromhex(b"".join(raw.split()[2:]).decode("ascii"))
        if kind in ("exif", "APP1") and value.startswith(b"Exif\0\0"):
            found.exif = found.exif or value[6:]
        elif kind == "xmp":
            found.xmp = found.xmp or value
        else:
            found.unknown.append(f"profile {kind}")
        return
    found.texts.append((name, body))


def _text_of_itxt(body: bytes) -> bytes:
    _, rest = body.split(b"\0", 1)
    packed, rest = rest[0], rest[2:]
    text = rest.split(b"\0", 2)[2]
    return unpack(text) if packed else text


def unpack(data: bytes) -> bytes:
    """Inflate, no more than `MAX_UNPACKED` bytes; or ValueError."""
    machine = zlib.decompressobj()
    out = machine.decompress(data, MAX_UNPACKED)
    if machine.unconsumed_tail or not machine.eof:
        raise ValueError("packed data that is too long or cut short")
    return out


_ADAM7 = ((0, 0, 8, 8), (4, 0, 8, 8), (0, 4, 4, 8), (2, 0, 4, 4), (0, 2, 2, 4), (1, 0, 2, 2),
          (0, 1, 1, 2))  # fmt: skip
"""Of each pass of an interlaced PNG: first column and row, and steps across and down."""


_DEPTHS = {0: (1, 2, 4, 8, 16), 2: (8, 16), 3: (1, 2, 4, 8), 4: (8, 16), 6: (8, 16)}
"""Bits a channel that there are, by the kind of colour."""


def mended(picture: bytes, tolerant: bool) -> tuple[bytes, int] | None:
    """A PNG without its end, with one.

    Parameters
    ----------
    picture : bytes
    tolerant : bool
        Whether pixels may be missing, which are filled by zeros.

    Returns
    -------
    (bytes, int) or None
        The PNG and how many bytes of its pixels were missing.

    Raises
    ------
    ValueError, struct.error
        If it ends before its pixels begin.
    """
    wide, high, bits, color, _, _, interlaced = struct.unpack_from(">IIBBBBB", picture, 16)
    if bits not in _DEPTHS.get(color, ()):
        raise ValueError("a kind of pixels that PNG does not have")
    channels = {0: 1, 2: 3, 3: 1, 4: 2, 6: 4}[color]
    passes = _ADAM7 if interlaced else ((0, 0, 1, 1),)
    size = 0
    for left, top, across, down in passes:
        columns, rows = -(-(wide - left) // across), -(-(high - top) // down)
        if columns > 0 and rows > 0:
            size += rows * (1 + (columns * channels * bits + 7) // 8)
    head, packed = [], []
    for name, at, end in _walk(picture):
        if name == b"IDAT":
            packed.append(picture[at + 8 : min(end - 4, len(picture))])
        elif name != b"IEND" and end <= len(picture) and not packed:
            head.append(picture[at:end])
    if not packed:
        raise ValueError("it ends before its pixels")
    raw, machine = bytearray(), zlib.decompressobj()
    stream = b"".join(packed)
    for at in range(0, len(stream), 4096):  # as far as it can be unpacked
        try:
            raw += machine.decompress(stream[at : at + 4096], size - len(raw) or 1)
        except zlib.error:
            break
    missing = max(0, size - len(raw))
    if missing and not tolerant:
        return None
    rest = zlib.compress(bytes(raw[:size]).ljust(size, b"\0"), 1)
    return b"".join([SIGNATURE, *head, chunk(b"IDAT", rest), chunk(b"IEND", b"")]), missing


def keyword_of(body: bytes) -> str:
    """Name of a text."""
    return bytes(body[:79]).split(b"\0")[0].decode("latin-1")


def comment_chunk(comment: bytes) -> bytes:
    """A comment of another format as text."""
    try:
        text = comment.rstrip(b"\0").decode("utf-8")
    except UnicodeDecodeError:
        text = comment.decode("latin-1")
    return chunk(b"iTXt", b"Comment\0\0\0\0\0" + text.encode("utf-8"))


def xmp_chunk(xmp: bytes) -> bytes:
    """XMP, unpacked, as its specification asks."""
    return chunk(b"iTXt", _XMP + b"\0\0\0\0" + xmp)


def with_chunks(data: bytes, more: list[bytes]) -> bytes:
    """A PNG with chunks put behind its header."""
    end = len(SIGNATURE) + 25
    return data[:end] + b"".join(more) + data[end:]
