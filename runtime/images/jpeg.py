"""A JPEG's segments: what lies beside the picture, and how it is written (ITU-T T.81, annex B)."""

from __future__ import annotations

import re
import struct
from collections.abc import Iterator
from dataclasses import dataclass, field

from .exif import PREFIX

_XMP = b"http://ns.adobe.com/xap/1.0/\0"
_MORE_XMP = b"http://ns.adobe.com/xmp/extension/\0"
_PHOTOSHOP = b"Photoshop 3.0\0"
_SILENT = (b"JFIF", b"JFXX", b"ICC_PROFILE", b"Adobe\0", b"MPF\0")
_MOST = 65533
"""Bytes that one segment holds."""

MAX_EXIF = _MOST - len(PREFIX)

_MARKER = re.compile(rb"\xff[^\x00\xff\xd0-\xd8]")
"""Of a segment: not a byte of the picture, a fill byte, or a marker without a length."""


@dataclass
class Segments:
    """What a JPEG holds beside its picture.

    Attributes
    ----------
    exif, xmp, iptc : bytes or None
        Without what names them; `iptc` is the IIM records alone.
    comments : list of bytes
    dpi : (float, float) or None
        From the JFIF segment, if that names a unit.
    pictures : int
        How many the file says that it holds (MPF), such as a gain map or a second view.
    unknown : list of str
        Segments that are none of these.
    """

    exif: bytes | None = None
    xmp: bytes | None = None
    iptc: bytes | None = None
    comments: list[bytes] = field(default_factory=list)
    dpi: tuple[float, float] | None = None
    pictures: int = 1
    unknown: list[str] = field(default_factory=list)


def _segments(data: bytes) -> Iterator[tuple[int, bytes]]:
    """Marker and payload of each segment before the picture's own data."""
    at = 2
    while at + 4 <= len(data) and data[at] == 0xFF:
        while at < len(data) and data[at] == 0xFF:  # fill bytes
            at += 1
        marker = data[at] if at < len(data) else 0xD9
        at += 1
        if marker == 0x01 or 0xD0 <= marker <= 0xD8:
            continue
        if marker in (0xD9, 0xDA) or at + 2 > len(data):
            return
        (length,) = struct.unpack_from(">H", data, at)
        if length < 2:
            return
        yield marker, data[at + 2 : at + length]
        at += length


def read_segments(data: bytes) -> Segments:
    """Read what lies beside a JPEG's picture; damaged segments are left out."""
    found = Segments()
    exif: list[bytes] = []
    photoshop: list[bytes] = []
    more: dict[int, bytes] = {}
    for marker, body in _segments(data):
        if marker == 0xFE:
            found.comments.append(body)
        elif marker == 0xE0 and body.startswith(b"JFIF\0") and len(body) >= 12:
            unit, across, down = struct.unpack_from(">BHH", body, 7)
            inches = {1: 1.0, 2: 2.54}.get(unit)
            if inches and across and down:
                found.dpi = across * inches, down * inches
        elif marker == 0xE1 and body.startswith(PREFIX[:4]):
            exif.append(body[6:])
        elif marker == 0xE1 and body.startswith(_XMP):
            if found.xmp is not None:
                found.unknown.append("a second XMP packet")
            found.xmp = found.xmp or body[len(_XMP) :]
        elif marker == 0xE1 and body.startswith(_MORE_XMP):
            more[len(more)] = body
        elif marker == 0xED and body.startswith(_PHOTOSHOP):
            photoshop.append(body[len(_PHOTOSHOP) :])
        elif marker == 0xE2 and body.startswith(b"MPF\0"):
            found.pictures = max(1, _count_pictures(body[4:]))
        elif 0xE0 <= marker <= 0xEF and not body.startswith(_SILENT):
            name = bytes(body[:16]).split(b"\0")[0].decode("ascii", "replace").strip()
            found.unknown.append(f"APP{marker - 0xE0} {name}".strip())
    if exif:
        found.exif = b"".join(exif)
    if more:
        found.unknown.append("extended XMP")
    if photoshop:
        found.iptc, others = split_resources(b"".join(photoshop))
        if others:
            found.unknown.append("Photoshop resources")
    return found


def has_all_scans(data: bytes) -> bool:
    """Whether a JPEG's scans reach its last bit of every coefficient; true of baseline ones.

    A progressive JPEG that ends between two scans looks whole to a decoder, but is blurred.
    """
    components: list[int] = []
    missing: dict[tuple[int, int], int] = {}
    for marker, body in _frames(data):
        if marker == 0xC2 and len(body) >= 6:
            components = list(body[6::3][: body[5]])
            missing = {(c, k): 99 for c in components for k in range(64)}
        elif marker == 0xDA and components and body:
            count = body[0]
            ids, (first, last, bits) = body[1 : 1 + 2 * count : 2], body[1 + 2 * count :][:3]
            for component in ids:
                for k in range(first, min(last, 63) + 1):
                    missing[component, k] = bits & 15
    return not any(missing.values())


def _frames(data: bytes) -> Iterator[tuple[int, bytes]]:
    """Marker and payload of each segment, all through the file; of the end, what lies behind."""
    at = 2
    while (found := _MARKER.search(data, at)) and (at := found.start()) + 2 <= len(data):
        marker = data[at + 1]
        if marker == 0xD9:
            yield marker, data[at + 2 :]
            return
        if at + 4 > len(data):
            return
        (length,) = struct.unpack_from(">H", data, at + 2)
        body = data[at + 4 : at + 2 + length]
        if len(body) == length - 2:
            yield marker, body
        at += 2 + length


def what_follows(data: bytes) -> str:
    """What lies behind a JPEG's end, for a sentence; empty if that is nothing."""
    rest = next((body for marker, body in _frames(data) if marker == 0xD9), b"")
    if not rest.strip(b"\0\r\n\xff"):
        return ""
    if b"ftyp" in rest[:4096]:
        return f"a video behind the picture ({len(rest)} bytes)"
    return f"{len(rest)} bytes behind the picture"


def _count_pictures(index: bytes) -> int:
    """Number of pictures of an MP index (CIPA DC-007)."""
    from . import tags

    try:
        layout, at = tags.layout_of(index)
        entry = tags.find(tags.read_directory(index, at, layout)[0], 0xB001)
        return 1 if entry is None else layout.number(entry) or 1
    except (ValueError, struct.error):
        return 1


def split_resources(data: bytes) -> tuple[bytes | None, bool]:
    """IPTC records of Photoshop's image resources, and whether there are others."""
    iptc, others, at = None, False, 0
    while data[at : at + 4] == b"8BIM" and at + 12 <= len(data):
        (number,) = struct.unpack_from(">H", data, at + 4)
        name = 1 + data[at + 6]
        at += 6 + name + name % 2
        if at + 4 > len(data):
            break
        (length,) = struct.unpack_from(">I", data, at)
        if number == 0x0404:
            iptc = data[at + 4 : at + 4 + length]
        elif number not in (0x03ED, 0x0425, 0x040C):  # resolution, digest of IPTC, thumbnail
            others = True
        at += 4 + length + length % 2
    return iptc, others


def extra_segments(xmp: bytes | None, iptc: bytes | None, comments: tuple[bytes, ...]) -> bytes:
    """Segments to put into a JPEG; each must fit one (`fits_segment`)."""
    out = []
    if xmp is not None:
        out.append(_segment(0xE1, _XMP + xmp))
    if iptc is not None:
        resource = b"8BIM" + struct.pack(">HHI", 0x0404, 0, len(iptc)) + iptc
        out.append(_segment(0xED, _PHOTOSHOP + resource + b"\0" * (len(iptc) % 2)))
    out += [_segment(0xFE, comment) for comment in comments]
    return b"".join(out)


def fits_segment(value: bytes) -> bool:
    """Whether XMP, IPTC or a comment is short enough for a JPEG."""
    return len(value) <= _MOST - 64


def _segment(marker: int, body: bytes) -> bytes:
    return struct.pack(">BBH", 0xFF, marker, len(body) + 2) + body
