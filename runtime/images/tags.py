"""Directories of tags as bytes: what EXIF data and TIFF files are made of (TIFF 6.0, section 2).

Values stay the bytes that they are, so that no text is decoded and no byte order changed.
"""

from __future__ import annotations

import struct
from collections.abc import Iterable
from dataclasses import dataclass

SHORT, LONG, UNDEFINED, IFD = 3, 4, 7, 13
_SIZES = {1: 1, 2: 1, 3: 2, 4: 4, 5: 8, 6: 1, 7: 1, 8: 2, 9: 4, 10: 8, 11: 4, 12: 8, 13: 4,
          16: 8, 17: 8, 18: 8}  # fmt: skip
_MOST_ENTRIES = 4096


@dataclass(frozen=True)
class Entry:
    """One tag.

    Attributes
    ----------
    tag, kind, count : int
        As in the file; `kind` is the type of its values.
    value : bytes
        All of its values, in the byte order of the file.
    at : int
        Where they lie.
    field : int
        Where its own entry lies in the directory.
    """

    tag: int
    kind: int
    count: int
    value: bytes
    at: int = 0
    field: int = 0


@dataclass(frozen=True)
class Layout:
    """Byte order, and whether offsets have 64 bits (BigTIFF)."""

    order: str
    big: bool = False

    def unpack(self, letters: str, data: bytes, at: int) -> tuple[int, ...]:
        """Unpack in this byte order."""
        return struct.unpack_from(self.order + letters, data, at)

    def pack(self, letters: str, *values: int) -> bytes:
        """Pack in this byte order."""
        return struct.pack(self.order + letters, *values)

    def number(self, entry: Entry) -> int | None:
        """A tag's first value, if it is a whole number."""
        letter = {1: "B", 3: "H", 4: "I", 13: "I", 16: "Q", 18: "Q"}.get(entry.kind)
        return self.unpack(letter, entry.value, 0)[0] if letter and entry.count else None


def layout_of(data: bytes) -> tuple[Layout, int]:
    """Layout of a TIFF or of EXIF data, and where its first directory lies; or ValueError."""
    order = {b"II": "<", b"MM": ">"}.get(bytes(data[:2]))
    if order is None or len(data) < 8:
        raise ValueError("it does not begin as TIFF does")
    (magic,) = struct.unpack_from(order + "H", data, 2)
    if magic == 42:
        return Layout(order), struct.unpack_from(order + "I", data, 4)[0]
    if magic == 43 and len(data) >= 16:
        return Layout(order, True), struct.unpack_from(order + "Q", data, 8)[0]
    raise ValueError("it does not begin as TIFF does")


def read_directory(data: bytes, at: int, layout: Layout) -> tuple[list[Entry], int]:
    """Tags of the directory at an offset, and the offset of the next one (0: none).

    Tags whose values do not lie inside `data` are left out.

    Raises
    ------
    ValueError
        If no directory can lie there.
    """
    step, head, inline = (20, 8, 8) if layout.big else (12, 2, 4)
    letters = ("Q", "HHQ", "Q") if layout.big else ("H", "HHI", "I")
    if not 0 < at < len(data):
        raise ValueError("a directory lies outside the data")
    try:
        (count,) = layout.unpack(letters[0], data, at)
        if not 0 < count <= _MOST_ENTRIES:
            raise ValueError("a directory claims no or too many tags")
        entries, left = [], len(data) + 4096  # values may overlap, but not make more than there is
        for i in range(count):
            field = at + head + step * i
            tag, kind, number = layout.unpack(letters[1], data, field)
            length = _SIZES.get(kind, 0) * number
            place = field + step - inline
            if length > inline:
                (place,) = layout.unpack(letters[2], data, place)
            if length and place + length <= len(data) and length <= left:
                left -= length
                value = bytes(data[place : place + length])
                entries.append(Entry(tag, kind, number, value, place, field))
        end = at + head + step * count
        after = layout.unpack(letters[2], data, end)[0] if end + inline <= len(data) else 0
    except struct.error:
        raise ValueError("a directory lies outside the data") from None
    return entries, after


def find(entries: Iterable[Entry], tag: int) -> Entry | None:
    """The tag of that number."""
    return next((entry for entry in entries if entry.tag == tag), None)


def sub_directory(data: bytes, entries: Iterable[Entry], tag: int, layout: Layout) -> list[Entry]:
    """The directory that a tag points to; empty where there is none, or it is damaged."""
    pointer = find(entries, tag)
    at = None if pointer is None else layout.number(pointer)
    if not at:
        return []
    try:
        return read_directory(data, at, layout)[0]
    except ValueError:
        return []


def pack_directory(entries: Iterable[Entry], start: int, layout: Layout, after: int = 0) -> bytes:
    """A directory and its values as they lie from offset `start` on; the inverse of the above.

    An entry whose `at` is not 0 has its value there already, and only points to it.
    """
    chosen = sorted({entry.tag: entry for entry in entries}.values(), key=lambda e: e.tag)
    place = start + 2 + 12 * len(chosen) + 4
    fields, values = [layout.pack("H", len(chosen))], []
    for entry in chosen:
        fields.append(layout.pack("HHI", entry.tag, entry.kind, entry.count))
        if len(entry.value) <= 4:
            fields.append(entry.value.ljust(4, b"\0"))
        elif entry.at:
            fields.append(layout.pack("I", entry.at))
        else:
            fields.append(layout.pack("I", place))
            values.append(entry.value + b"\0" * (len(entry.value) % 2))
            place += len(values[-1])
    return b"".join([*fields, layout.pack("I", after), *values])


def append_directory(block: bytes, entries: Iterable[Entry]) -> bytes:
    """`block` with another first directory; everything else stays at its offset."""
    layout, _ = layout_of(block)
    block += b"\0" * (len(block) % 2)
    directory = pack_directory(entries, len(block), layout)
    return block[:4] + layout.pack("I", len(block)) + block[8:] + directory
