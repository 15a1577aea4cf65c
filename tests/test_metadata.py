"""What lies beside the pixels: kept in every format that can hold it, or named as left out."""

import io
import json
import shutil
import struct
import subprocess

import numpy as np
import pytest
import tifffile
from conftest import colorful
from PIL import Image

from runtime import Metadata
from runtime.images import decode_photo, encode_image
from runtime.images.exif import PREFIX, assemble, settle
from runtime.images.jpeg import extra_segments
from runtime.images.png import chunk, with_chunks
from runtime.images.tags import Entry, Layout, append_directory, find, layout_of, read_directory

RGB = colorful(24, 36)
CAPTION = "Großmutter, Zürich".encode() + b"\0"
COMMENT = b"UNICODE\0" + "Zoë".encode("utf-16-be")
MAKER_NOTE = bytes(range(256))
XMP = (
    b'<x:xmpmeta xmlns:x="adobe:ns:meta/"><rdf:RDF '
    b'xmlns:rdf="http://www.w3.org/1999/02/22-rdf-syntax-ns#"><rdf:Description rdf:about="" '
    b'xmlns:tiff="http://ns.adobe.com/tiff/1.0/" tiff:Orientation="6" '
    b'xmlns:dc="http://purl.org/dc/elements/1.1/" dc:format="x\xc3\xbc"/></rdf:RDF></x:xmpmeta>'
)
IPTC = b"\x1c\x02\x78" + struct.pack(">H", 7) + "Zürich".encode()
KINDS = ("JPEG", "PNG", "TIFF", "WEBP", "AVIF")


def block(order=">", orientation=1, width=36, height=24, color_space=0xFFFF):
    """EXIF data as a camera writes it, its MakerNote at a place that must not change."""
    layout = Layout(order)

    def short(tag, value):
        return Entry(tag, 3, 1, layout.pack("H", value))

    first = [
        Entry(0x010E, 2, len(CAPTION), CAPTION),
        Entry(0x010D, 2, 5, b"Doc1\0"),
        Entry(0x9C9B, 1, 8, "Titl".encode("utf-16-le")),
        short(0x4746, 4),
        short(0x0112, orientation),
        Entry(0x011A, 5, 1, layout.pack("II", 300, 1)),
        Entry(0x011B, 5, 1, layout.pack("II", 150, 1)),
        short(0x0128, 2),
    ]
    inner = [
        Entry(0x9286, 7, len(COMMENT), COMMENT),
        Entry(0x927C, 7, len(MAKER_NOTE), MAKER_NOTE),
        short(0xA001, color_space),
        Entry(0xA002, 4, 1, layout.pack("I", width)),
        Entry(0xA003, 4, 1, layout.pack("I", height)),
    ]
    gps = [Entry(1, 2, 2, b"N\0"), Entry(2, 5, 3, layout.pack("6I", 47, 1, 22, 1, 0, 1))]
    return assemble(layout, first, inner, gps, [Entry(1, 2, 4, b"R03\0")])


FULL = Metadata(
    exif=PREFIX + block(),
    dpi=(300.0, 150.0),
    xmp=XMP,
    iptc=IPTC,
    comments=("Über".encode(),),
    texts=((b"tEXt", b"Author\0Zo\xeb"), (b"iTXt", b"Title\0\0\0de\0\0" + "Zürich".encode())),
)


def tags_of(kind, data):
    """EXIF as Pillow reads it, which is not our reader."""
    image = Image.open(io.BytesIO(data))
    exif = image.getexif()
    found = dict(exif)
    inner, gps = exif.get_ifd(0x8769), exif.get_ifd(0x8825)
    return found, inner, gps


def text(value):
    return value.encode("latin-1") if isinstance(value, str) else bytes(value)


@pytest.mark.parametrize("order", "<>")
@pytest.mark.parametrize("kind", KINDS)
def test_exif_is_the_same_tag_by_tag(kind, order):
    metadata = Metadata(exif=PREFIX + block(order))
    data = encode_image(RGB, kind, metadata)
    first, inner, gps = tags_of(kind, data)
    assert first[0x010D] == "Doc1"
    assert first[0x4746] == 4
    # Pillow decodes UTF-8 as Latin-1; the bytes are the same.
    assert text(first[0x010E]).rstrip(b"\0") == CAPTION.rstrip(b"\0")
    assert text(inner[0x9286]) == COMMENT
    assert inner[0x927C] == MAKER_NOTE
    assert gps[2] == (47, 22, 0)
    # Where the MakerNote lies in the data is where it lay: what it points to is found.
    again = decode_photo(data).metadata.exif if kind != "TIFF" else PREFIX + data
    assert again.index(MAKER_NOTE) == metadata.exif.index(MAKER_NOTE)


HOLDS = {
    "exif": KINDS,
    "xmp": KINDS,
    "iptc": ("JPEG", "TIFF"),
    "comments": ("JPEG",),
    "texts": ("PNG",),
    "dpi": KINDS,
}


@pytest.mark.parametrize("kind", [*KINDS, "BMP"])
def test_everything_is_kept_or_named(kind):
    notes = []
    data = encode_image(RGB, kind, FULL, notes=notes)
    again = decode_photo(data).metadata
    said = " ".join(notes)
    for name, kinds in HOLDS.items():
        if kind in kinds:
            value = getattr(again, name)
            if name == "exif":
                assert value
            elif name == "dpi":
                assert np.allclose(value, FULL.dpi, atol=0.02)
            elif name == "texts":
                assert value[:2] == FULL.texts
            elif name == "xmp":
                assert value == XMP.replace(b'Orientation="6"', b'Orientation="1"')
            else:
                assert value == getattr(FULL, name)
        elif name == "comments" and kind == "PNG":
            assert ("Über".encode()) in again.texts[-1][1]
        elif name != "dpi":
            word = {"exif": "EXIF", "xmp": "XMP", "iptc": "IPTC", "comments": "comments",
                    "texts": "PNG texts (Author, Title)"}[name]  # fmt: skip
            assert word in said, (name, said)


@pytest.mark.parametrize("source", KINDS)
@pytest.mark.parametrize("target", KINDS)
def test_from_any_format_to_any(source, target):
    photo = decode_photo(encode_image(RGB, source, FULL))
    notes = list(photo.notes)
    data = encode_image(photo.pixels, target, photo.metadata, notes=notes)
    first, inner, gps = tags_of(target, data)
    assert text(first[0x010E]).rstrip(b"\0") == CAPTION.rstrip(b"\0")
    assert text(inner[0x9286]) == COMMENT
    assert gps[2] == (47, 22, 0)
    if source == "TIFF":  # whose MakerNote cannot stay where it was
        assert any("MakerNote" in note for note in notes)
    else:
        assert inner[0x927C] == MAKER_NOTE


def test_what_the_change_makes_untrue_is_patched_and_nothing_else():
    before = block(orientation=6, width=36, height=24)
    after = settle(before, 24, 36, turned=True)
    assert len(after) == len(before)
    changed = sum(a != b for a, b in zip(before, after, strict=True))
    layout, at = layout_of(after)
    first, _ = read_directory(after, at, layout)
    inner, _ = read_directory(after, layout.number(find(first, 0x8769)), layout)
    assert layout.number(find(first, 0x0112)) == 1
    assert find(first, 0x011A).value == layout.pack("II", 150, 1)
    assert layout.number(find(inner, 0xA001)) == 1
    assert layout.number(find(inner, 0xA002)) == 24
    assert layout.number(find(inner, 0xA003)) == 36
    assert b"R98\0" in after
    assert changed < 20
    assert settle(before, 36, 24, turned=False) != before  # orientation


def test_a_thumbnail_does_not_survive():
    """It shows the photo as it was."""
    layout = Layout("<")
    plain = block("<")
    thumbnail = b"\xff\xd8" + bytes(range(199, 0, -1)) * 3 + b"\xff\xd9"
    _, at = layout_of(plain)
    second = len(plain) + len(plain) % 2
    data = plain.ljust(second, b"\0")
    entries = [
        Entry(0x0201, 4, 1, layout.pack("I", second + 30)),
        Entry(0x0202, 4, 1, layout.pack("I", len(thumbnail))),
    ]
    directory = layout.pack("H", 2)
    for e in entries:
        directory += layout.pack("HHI", e.tag, e.kind, e.count) + e.value
    directory += layout.pack("I", 0)
    data += directory.ljust(30, b"\0") + thumbnail
    (count,) = layout.unpack("H", data, at)
    link = at + 2 + 12 * count
    data = data[:link] + layout.pack("I", second) + data[link + 4 :]
    after = settle(data, 36, 24, turned=False)
    assert bytes(range(199, 0, -1)) not in after
    assert len(after) < len(data)
    again = Image.Exif()
    again.load(PREFIX + after)
    assert not again.get_ifd(1)


def test_resolution_that_is_not_there_is_not_made():
    for kind in (*KINDS, "BMP"):
        again = decode_photo(encode_image(RGB, kind, Metadata())).metadata
        assert again.dpi is None or kind == "BMP", kind


def test_long_exif_is_written_without_its_largest_value():
    layout = Layout("<")
    first, _ = read_directory(block("<"), layout_of(block("<"))[1], layout)
    long = append_directory(
        block("<"),
        [
            Entry(0x010E, 2, len(CAPTION), CAPTION),
            Entry(0x9C9C, 1, 70_000, b"x" * 70_000),
            find(first, 0x8769),
        ],
    )
    notes = []
    data = encode_image(RGB, "JPEG", Metadata(exif=PREFIX + long), notes=notes)
    first, inner, _ = tags_of("JPEG", data)
    assert text(first[0x010E]).rstrip(b"\0") == CAPTION.rstrip(b"\0")
    assert text(inner[0x9286]) == COMMENT
    assert "XPComment" in notes[0]
    for kind in ("PNG", "TIFF", "WEBP"):
        notes = []
        encode_image(RGB, kind, Metadata(exif=PREFIX + long), notes=notes)
        assert not notes


def test_long_xmp_is_named_and_left_out_of_jpeg():
    notes = []
    metadata = Metadata(xmp=XMP + b" " * 70_000)
    assert decode_photo(encode_image(RGB, "JPEG", metadata, notes=notes)).metadata.xmp is None
    assert "XMP is longer" in notes[0]


@pytest.mark.parametrize(
    "description", [b"ImageJ=1.11a\nimages=3", b'{"shape": [4, 5]}', b"<?xml?><OME/>"]
)
def test_descriptions_of_a_files_layout_are_not_carried(description):
    file = io.BytesIO()
    tifffile.imwrite(file, RGB, photometric="rgb", description=description, metadata=None)
    photo = decode_photo(file.getvalue())
    assert any("layout" in note for note in photo.notes)
    assert description not in encode_image(photo.pixels, "TIFF", photo.metadata)


def test_tags_that_programs_add_to_a_tiff_are_kept():
    file = io.BytesIO()
    place = (12, 12, 3, (0.5, 0.5, 0.0), True)
    extra = [
        (33550, *place[1:]),
        (270, 2, 0, "Zürich".encode(), True),
        (315, 2, 0, b"Zo\xc3\xab", True),
    ]
    tifffile.imwrite(file, RGB, photometric="rgb", extratags=extra, metadata=None)
    photo = decode_photo(file.getvalue())
    page = tifffile.TiffFile(io.BytesIO(encode_image(RGB, "TIFF", photo.metadata))).pages[0]
    assert page.tags[33550].value == (0.5, 0.5, 0.0)
    assert page.tags[315].value in ("Zoë", b"Zo\xc3\xab")


def test_a_gain_maps_description_goes_with_the_gain_map():
    jpeg = encode_image(RGB, "JPEG")
    packet = XMP.replace(b"tiff:Orientation", b"hdrgm:Version")
    photo = decode_photo(jpeg[:2] + extra_segments(packet, None, ()) + jpeg[2:])
    assert photo.metadata.xmp is None
    assert any("gain map" in note for note in photo.notes)


def test_of_two_xmp_packets_the_first_is_carried_and_the_other_named():
    jpeg = encode_image(RGB, "JPEG")
    other = XMP.replace(b"dc:format", b"dc:title")
    both = extra_segments(XMP, None, ()) + extra_segments(other, None, ())
    photo = decode_photo(jpeg[:2] + both + jpeg[2:])
    assert b"dc:format" in photo.metadata.xmp
    assert "Left out: a second XMP packet." in photo.notes


def test_a_camera_that_says_adobe_rgb_without_a_profile_is_believed():
    plain = decode_photo(encode_image(RGB, "PNG", Metadata(exif=PREFIX + block(color_space=1))))
    photo = decode_photo(encode_image(RGB, "PNG", Metadata(exif=PREFIX + block())))
    assert any("Adobe RGB" in note for note in photo.notes)
    assert np.abs(photo.pixels.astype(int) - plain.pixels).mean() > 2


def test_values_that_overlap_do_not_make_more_than_there_is():
    layout = Layout("<")
    count = 2000
    body = bytes(100_000)
    data = b"II*\0" + layout.pack("I", 8 + len(body)) + body + layout.pack("H", count)
    for i in range(count):
        data += layout.pack("HHII", 40_000 + i, 7, len(body), 8)
    entries, _ = read_directory(data + bytes(4), 8 + len(body), layout)
    assert sum(len(e.value) for e in entries) < 3 * len(data)


def test_unknown_segments_and_chunks_are_named():
    jpeg = encode_image(RGB, "JPEG")
    other = b"\xff\xec\x00\x0cDucky\0abcd"
    assert "Left out: APP12 Ducky." in decode_photo(jpeg[:2] + other + jpeg[2:]).notes
    png = with_chunks(encode_image(RGB, "PNG"), [chunk(b"prVt", b"abc")])
    assert "Left out: prVt." in decode_photo(png).notes


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
def test_damaged_and_huge_texts_do_not_cost_the_picture(dtype):
    image = RGB.astype(dtype)
    png = encode_image(image, "PNG")
    broken = bytearray(chunk(b"tEXt", b"Title\0x"))
    broken[-1] ^= 1
    photo = decode_photo(with_chunks(png, [bytes(broken)]))
    assert np.array_equal(photo.pixels, image)
    assert "Damaged, and left out: tEXt." in photo.notes
    import zlib

    huge = chunk(b"zTXt", b"Title\0\0" + zlib.compress(bytes(3 << 20)))
    photo = decode_photo(with_chunks(png, [huge]))
    assert np.array_equal(photo.pixels, image)
    assert photo.metadata.texts[0][0] == b"zTXt"
    bomb = chunk(b"iCCP", b"x\0\0" + zlib.compress(bytes(64 << 20)))
    assert "Damaged, and left out: iCCP." in decode_photo(with_chunks(png, [bomb])).notes


@pytest.mark.skipif(not shutil.which("exiftool"), reason="exiftool is not installed")
@pytest.mark.parametrize("kind", KINDS)
def test_exiftool_finds_all_of_it(kind, tmp_path):
    path = tmp_path / f"p.{kind.lower()}"
    path.write_bytes(encode_image(RGB, kind, FULL))
    run = subprocess.run(
        ["exiftool", "-j", "-G1", "-n", str(path)], capture_output=True, text=True, check=True
    )
    found = json.loads(run.stdout)[0]
    assert found.get("ExifTool:Warning", "[minor]").startswith("[minor]")  # of the MakerNote
    assert found["IFD0:ImageDescription"] == "Großmutter, Zürich"
    assert found["ExifIFD:UserComment"] == "Zoë"
    assert found["GPS:GPSLatitude"] == pytest.approx(47 + 22 / 60)
    assert found["XMP-dc:Format"] == "xü"
    if kind in ("JPEG", "TIFF"):
        assert found["IPTC:Caption-Abstract"] in ("Zürich", "ZÃ¼rich")
