"""EXIF data: carried as the bytes that it is; only what the change makes untrue is patched."""

from __future__ import annotations

import struct
from collections.abc import Sequence

from . import tags
from .tags import IFD, LONG, SHORT, Entry, Layout

PREFIX = b"Exif\0\0"

_WIDTH, _HEIGHT, ORIENTATION = 0x0100, 0x0101, 0x0112
_X_RESOLUTION, _Y_RESOLUTION, _UNIT = 0x011A, 0x011B, 0x0128
EXIF_IFD, GPS_IFD, _INTEROP = 0x8769, 0x8825, 0xA005
_COLOR_SPACE, _PIXELS_WIDE, _PIXELS_HIGH, _MAKER_NOTE = 0xA001, 0xA002, 0xA003, 0x927C
_THUMBNAIL = ((0x0201, 0x0202), (0x0111, 0x0117))  # where it lies and how long it is

DESCRIPTION, XMP, IPTC, PHOTOSHOP, ICC = 270, 700, 33723, 34377, 34675

# Tags that say how a TIFF's pixels are stored, or that are carried in another way.
LAYOUT_TAGS = {
    *range(254, 267), 273, 274, *range(277, 285), *range(288, 294), 296, 297, 301,
    *range(317, 326), 330, *range(332, 348), *range(400, 410), *range(433, 442), *range(512, 533),
    559, XMP, 32997, IPTC, PHOTOSHOP, ICC, 34688, 37724, 50838, 50839, EXIF_IFD, GPS_IFD,
}  # fmt: skip


def is_machine_text(value: bytes) -> bool:
    """Whether a TIFF's description is one that a program wrote of the file's layout.

    ImageJ and OME name pages and axes, tifffile ("shaped") the array's shape: untrue afterwards.
    """
    text = value.lstrip()
    return text.startswith((b"ImageJ=", b'{"shape"', b"{'shape'", b"shape=(")) or b"<OME" in text


def orientation_of(block: bytes | None) -> int:
    """EXIF's orientation, 1 to 8; 1 where there is none, or it is damaged."""
    try:
        layout, at = tags.layout_of(block or b"")
        entry = tags.find(tags.read_directory(block or b"", at, layout)[0], ORIENTATION)
        number = None if entry is None else layout.number(entry)
    except (ValueError, struct.error):
        return 1
    return number if number is not None and 1 <= number <= 8 else 1


def resolution_of(entries: Sequence[Entry], layout: Layout) -> tuple[float, float] | None:
    """Pixels an inch that a directory names, or None."""
    found = [tags.find(entries, tag) for tag in (_X_RESOLUTION, _Y_RESOLUTION)]
    unit = tags.find(entries, _UNIT)
    inches = {2: 1.0, 3: 2.54}.get((layout.number(unit) if unit else None) or 2 * (unit is None))
    if inches is None or any(e is None or e.kind != 5 or len(e.value) < 8 for e in found):
        return None
    values = []
    for entry in found:
        above, below = layout.unpack("II", entry.value, 0)  # type: ignore[union-attr]
        values.append(inches * above / below if below else 0.0)
    across, down = values
    return (across, down) if 0 < across < 1e6 and 0 < down < 1e6 else None


def resolution_of_block(block: bytes | None) -> tuple[float, float] | None:
    """Pixels an inch that EXIF data names, or None."""
    try:
        layout, at = tags.layout_of(block or b"")
        return resolution_of(tags.read_directory(block or b"", at, layout)[0], layout)
    except (ValueError, struct.error):
        return None


def is_adobe_rgb(block: bytes | None) -> bool:
    """Whether it says, as cameras do without a profile, that the picture is Adobe RGB (DCF 2.0)."""
    try:
        layout, at = tags.layout_of(block or b"")
        first, _ = tags.read_directory(block or b"", at, layout)
    except (ValueError, struct.error):
        return False
    inner = tags.sub_directory(block or b"", first, EXIF_IFD, layout)
    space = tags.find(inner, _COLOR_SPACE)
    index = tags.find(tags.sub_directory(block or b"", inner, _INTEROP, layout), 1)
    named = index is not None and index.value.startswith(b"R03")
    return named and (space is None or layout.number(space) == 0xFFFF)


def settle(block: bytes, width: int, height: int, turned: bool) -> bytes:
    """EXIF data of a picture that is upright and sRGB now; every value stays where it was.

    Parameters
    ----------
    block : bytes
        Beginning as TIFF does.
    width, height : int
        Of the picture as it is now.
    turned : bool
        Whether rows became columns.

    Raises
    ------
    ValueError
        If it is damaged.
    """
    layout, at = tags.layout_of(block)
    first, after = tags.read_directory(block, at, layout)
    out = bytearray(block)
    _put(out, layout, tags.find(first, ORIENTATION), 1)
    _put(out, layout, tags.find(first, _WIDTH), width)
    _put(out, layout, tags.find(first, _HEIGHT), height)
    across, down = (tags.find(first, tag) for tag in (_X_RESOLUTION, _Y_RESOLUTION))
    if turned and across and down and across.kind == down.kind == 5:
        out[across.field + 8 : across.field + 12], out[down.field + 8 : down.field + 12] = (
            bytes(out[down.field + 8 : down.field + 12]),
            bytes(out[across.field + 8 : across.field + 12]),
        )
    inner = tags.sub_directory(block, first, EXIF_IFD, layout)
    _put(out, layout, tags.find(inner, _PIXELS_WIDE), width)
    _put(out, layout, tags.find(inner, _PIXELS_HIGH), height)
    _put(out, layout, tags.find(inner, _COLOR_SPACE), 1)
    index = tags.find(tags.sub_directory(block, inner, _INTEROP, layout), 1)
    if index and index.value.startswith(b"R03"):  # Adobe RGB
        out[index.at : index.at + 3] = b"R98"
    if after:
        _drop_thumbnail(out, block, layout, at, after)
    return bytes(out)


def _put(out: bytearray, layout: Layout, entry: Entry | None, value: int) -> None:
    """Write a whole number in the place of a tag's first."""
    letter = {1: "B", SHORT: "H", LONG: "I"}.get(entry.kind) if entry is not None else None
    if entry is not None and letter:
        size = struct.calcsize("=" + letter)
        out[entry.at : entry.at + size] = layout.pack(letter, value & (256**size - 1))


def _drop_thumbnail(out: bytearray, block: bytes, layout: Layout, at: int, after: int) -> None:
    """Take the second directory out of the chain, and the old picture out of the data."""
    (count,) = layout.unpack("H", block, at)
    out[at + 2 + 12 * count : at + 6 + 12 * count] = bytes(4)
    try:
        second, _ = tags.read_directory(block, after, layout)
    except ValueError:
        return
    for where, length in _THUMBNAIL:
        start, size = (tags.find(second, tag) for tag in (where, length))
        begin = layout.number(start) if start and start.count == 1 else None
        span = layout.number(size) if size and size.count == 1 else None
        if not begin or not span or begin + span > len(out):
            continue
        out[begin : begin + span] = bytes(span)
        if begin + span >= len(out) - 1:
            del out[begin:]
    # The directory itself stays as bytes that nothing points to.


def of_tiff(data: bytes, at: int, notes: list[str]) -> bytes | None:
    """EXIF data made of the tags of a TIFF's page that tell of the photo.

    Parameters
    ----------
    data : bytes
        The file.
    at : int
        Where the page's directory lies.
    notes : list of str
        Gets a sentence for what cannot be carried.

    Raises
    ------
    ValueError
        If there is no directory.
    """
    layout, _ = tags.layout_of(data)
    entries, _ = tags.read_directory(data, at, layout)
    kept = [e for e in entries if e.tag not in LAYOUT_TAGS and e.kind not in (IFD, 16, 17, 18)]
    text = tags.find(kept, DESCRIPTION)
    if text and is_machine_text(text.value):
        kept.remove(text)
        notes.append("Its description of the file's layout (ImageJ, OME, shape) was left out.")
    inner = tags.sub_directory(data, entries, EXIF_IFD, layout)
    if tags.find(inner, _MAKER_NOTE):
        inner = [e for e in inner if e.tag != _MAKER_NOTE]
        notes.append("Its MakerNote, which is readable only where it lay, was left out.")
    return assemble(
        Layout(layout.order),
        kept,
        inner,
        tags.sub_directory(data, entries, GPS_IFD, layout),
        tags.sub_directory(data, inner, _INTEROP, layout),
    )


def assemble(
    layout: Layout,
    first: Sequence[Entry],
    inner: Sequence[Entry] = (),
    gps: Sequence[Entry] = (),
    interop: Sequence[Entry] = (),
) -> bytes | None:
    """EXIF data of these tags, or None of none."""
    block = (b"II*\0" if layout.order == "<" else b"MM\0*") + bytes(4)

    def add(entries: Sequence[Entry], tag: int) -> list[Entry]:
        nonlocal block
        if not entries:
            return []
        start = len(block)
        loose = [Entry(e.tag, e.kind, e.count, e.value) for e in entries]
        block += tags.pack_directory(loose, start, layout)
        block += b"\0" * (len(block) % 2)
        return [Entry(tag, LONG, 1, layout.pack("I", start))]

    inner = [e for e in inner if e.tag != _INTEROP]
    inner = [*inner, *add(interop, _INTEROP)]
    loose = [Entry(e.tag, e.kind, e.count, e.value) for e in first]
    loose += [*add(inner, EXIF_IFD), *add(gps, GPS_IFD)]
    return tags.append_directory(block, loose) if loose else None


def with_resolution(block: bytes | None, dpi: tuple[float, float]) -> bytes:
    """EXIF data that names a resolution, for formats that have no other place for it."""
    block = block or b"II*\0" + bytes(4)
    layout, at = tags.layout_of(block)
    entries = tags.read_directory(block, at, layout)[0] if at else []
    if resolution_of(entries, layout):
        return block
    ratios = [layout.pack("II", round(v * 1000), 1000) for v in dpi]
    more = [
        Entry(_X_RESOLUTION, 5, 1, ratios[0]),
        Entry(_Y_RESOLUTION, 5, 1, ratios[1]),
        Entry(_UNIT, SHORT, 1, layout.pack("H", 2)),
    ]
    names = {e.tag for e in more}
    return tags.append_directory(block, [*(e for e in entries if e.tag not in names), *more])


def without_orientation(block: bytes) -> bytes:
    """EXIF data that names no orientation; every value stays where it was."""
    try:
        layout, at = tags.layout_of(block)
        entry = tags.find(tags.read_directory(block, at, layout)[0], ORIENTATION)
    except (ValueError, struct.error):
        return block
    if entry is None:
        return block
    (count,) = layout.unpack("H", block, at)
    end = at + 2 + 12 * count + 4  # with the link to the next directory
    rest = block[entry.field + 12 : end] + bytes(12)
    return (
        block[:at] + layout.pack("H", count - 1) + block[at + 2 : entry.field] + rest + block[end:]
    )


def shortened(block: bytes, limit: int) -> tuple[bytes | None, list[int]]:
    """EXIF data of at most `limit` bytes, without its largest values; and the tags left out."""
    try:
        layout, at = tags.layout_of(block)
        first = tags.read_directory(block, at, layout)[0]
    except (ValueError, struct.error):
        return None, []
    inner = tags.sub_directory(block, first, EXIF_IFD, layout)
    gps = tags.sub_directory(block, first, GPS_IFD, layout)
    interop = tags.sub_directory(block, inner, _INTEROP, layout)
    first = [e for e in first if e.tag not in (EXIF_IFD, GPS_IFD)]
    # Made anew, what is readable only where it lay goes first.
    left = [e.tag for e in inner if e.tag == _MAKER_NOTE]
    inner = [e for e in inner if e.tag != _MAKER_NOTE]
    by_size = sorted((*first, *inner, *gps), key=lambda e: len(e.value))
    size = 64 + sum(len(e.value) + 14 for e in (*by_size, *interop))
    dropped: set[int] = set()
    while by_size and size > limit:
        largest = by_size.pop()
        size -= len(largest.value) + 14
        left.append(largest.tag)
        dropped.add(id(largest))
    first, inner, gps = ([e for e in some if id(e) not in dropped] for some in (first, inner, gps))
    made = assemble(layout, first, inner, gps, interop)
    return (made, left) if made is not None and len(made) <= limit else (None, left)
