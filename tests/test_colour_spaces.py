"""Colour spaces that files name, by profile or by numbers, against LittleCMS."""

import io
import struct
import zlib

import numpy as np
import pytest
from conftest import colorful
from PIL import Image, ImageCms

from runtime import ImageError, Metadata
from runtime.color import srgb_from_linear
from runtime.images import decode_photo, encode_image
from runtime.images.png import chunk, with_chunks
from runtime.images.signals import to_srgb_matrix

RGB8 = colorful(40, 52)
RGB16 = RGB8.astype(np.uint16) * 257
P3 = (0.3127, 0.3290, 0.680, 0.320, 0.265, 0.690, 0.150, 0.060)
SRGB = (0.3127, 0.3290, 0.640, 0.330, 0.300, 0.600, 0.150, 0.060)


def gama(value):
    return chunk(b"gAMA", struct.pack(">I", round(value * 100_000)))


def chrm(numbers):
    return chunk(b"cHRM", struct.pack(">8I", *(round(v * 100_000) for v in numbers)))


def png(image, *chunks):
    return decode_photo(with_chunks(encode_image(image, "PNG"), list(chunks)))


@pytest.mark.parametrize("image", [RGB8, RGB16, RGB8[..., 0], RGB16[..., 0]])
def test_a_gamma_is_undone(image):
    photo = png(image, gama(1.0))
    top = np.iinfo(image.dtype).max
    assert np.abs(photo.pixels - top * srgb_from_linear(image / top)).max() <= 0.51 * (
        1 if top == 255 else 4
    )
    assert any("gamma 1" in note for note in photo.notes)
    assert (photo.metadata.icc is None) == (image.ndim == 2)


def test_what_is_srgb_by_other_names_stays_as_it_is():
    for chunks in (
        [gama(0.45455)],
        [gama(0.45455), chrm(SRGB)],
        [chunk(b"sRGB", b"\0"), gama(1.0)],  # sRGB wins over gAMA
        [chunk(b"cICP", bytes([1, 13, 0, 1]))],
        [chunk(b"cICP", bytes([1, 1, 0, 1]))],  # BT.709
        [chunk(b"cICP", bytes([2, 2, 0, 1]))],
    ):
        photo = png(RGB8, *chunks)
        assert np.array_equal(photo.pixels, RGB8)
        assert not photo.notes


@pytest.mark.parametrize("image", [RGB8, RGB16])
def test_display_p3_by_numbers_is_what_littlecms_makes_of_its_profile(image):
    curve = b"para\0\0\0\0" + struct.pack(">HH", 3, 0)
    curve += fixed(2.4, 1 / 1.055, 0.055 / 1.055, 1 / 12.92, 0.04045)
    icc = matrix_profile(
        curve,
        (0.51512, 0.24120, -0.00105),
        (0.29198, 0.69225, 0.04189),
        (0.15710, 0.06657, 0.78407),
    )
    made = png(image, chunk(b"cICP", bytes([12, 13, 0, 1]))).pixels
    scale = 1 if image.dtype == np.uint8 else 257
    assert np.abs(made / scale - by_littlecms(RGB8, "RGB", icc)).max() <= 1.5


def test_matrices_keep_white_and_invert():
    for numbers in (P3, SRGB, (0.3457, 0.3585, 0.7347, 0.2653, 0.1596, 0.8404, 0.0366, 0.0001)):
        assert np.allclose(to_srgb_matrix(numbers) @ np.ones(3), 1, atol=2e-3)
    assert np.allclose(to_srgb_matrix(SRGB), np.eye(3), atol=1e-6)


@pytest.mark.parametrize("transfer", [16, 18])
def test_high_dynamic_range_is_refused_in_a_sentence(transfer):
    with pytest.raises(ImageError, match="high dynamic range"):
        png(RGB8, chunk(b"cICP", bytes([9, transfer, 0, 1])))


def test_an_avifs_numbers_count():
    data = bytearray(encode_image(RGB8, "AVIF"))
    at = data.index(b"colrnclx") + 8
    plain = decode_photo(bytes(data)).pixels
    data[at : at + 4] = struct.pack(">HH", 12, 13)
    made = decode_photo(bytes(data))
    assert np.abs(made.pixels.astype(int) - plain).mean() > 1
    assert any("Display P3" in note for note in made.notes)
    data[at : at + 4] = struct.pack(">HH", 9, 16)
    with pytest.raises(ImageError, match="PQ"):
        decode_photo(bytes(data))


def test_numbers_that_make_no_space_are_passed_over():
    assert np.array_equal(png(RGB8, chrm([0] * 8)).pixels, RGB8)
    assert np.array_equal(png(RGB8, gama(0)).pixels, RGB8)


# ICC profiles of every kind, of 8 and of more bits alike.


def profile(space, tags, connection):
    """A profile of these tags."""
    body, table, at = b"", b"", 132 + 12 * len(tags)
    for name, value in tags.items():
        value += b"\0" * (-len(value) % 4)
        table += name + struct.pack(">II", at, len(value))
        body += value
        at += len(value)
    head = struct.pack(">I4sI4s4s4s", at, b"lcms", 0x02400000, b"scnr", space, connection)
    head += bytes(12) + b"acsp" + bytes(28) + struct.pack(">iii", 63190, 65536, 54061)
    return head.ljust(128, b"\0") + struct.pack(">I", len(tags)) + table + body


def fixed(*values):
    return b"".join(struct.pack(">i", round(v * 65536)) for v in values)


WHITE = b"XYZ \0\0\0\0" + fixed(0.9642, 1, 0.8249)
NAME = b"desc\0\0\0\0" + struct.pack(">I", 5) + b"test\0" + bytes(78)
GAMMA = b"curv\0\0\0\0" + struct.pack(">IH", 1, round(1.8 * 256))
COMMON = {b"desc": NAME, b"wtpt": WHITE}


def matrix_profile(curve, red, green, blue):
    columns = zip((b"rXYZ", b"gXYZ", b"bXYZ"), (red, green, blue), strict=True)
    tags = {name: b"XYZ \0\0\0\0" + fixed(*value) for name, value in columns}
    curves = dict.fromkeys((b"rTRC", b"gTRC", b"bTRC"), curve)
    return profile(b"RGB ", {**COMMON, **tags, **curves}, b"XYZ ")


def by_littlecms(pixels, mode, icc, exact=False):
    """Left to itself, LittleCMS makes tables of few steps of a profile's, off by up to 16."""
    flags = ImageCms.Flags.BLACKPOINTCOMPENSATION
    made = ImageCms.applyTransform(
        Image.fromarray(np.ascontiguousarray(pixels), mode),
        ImageCms.buildTransform(
            ImageCms.ImageCmsProfile(io.BytesIO(icc)),
            ImageCms.createProfile("sRGB"),
            mode,
            "RGB",
            ImageCms.Intent.RELATIVE_COLORIMETRIC,
            flags | ImageCms.Flags.NOOPTIMIZE if exact else flags,
        ),
    )
    made = np.asarray(made).astype(int)
    return made[..., 1] if mode == "L" else made


def table_profile(space, channels, connection):
    """A lookup table of two steps a channel: to XYZ, or to Lab."""
    corners = np.stack(np.meshgrid(*[[0.0, 1.0]] * channels, indexing="ij"), -1).reshape(
        -1, channels
    )
    light = corners if channels < 4 else (1 - corners[:, :3]) * (1 - corners[:, 3:])
    if connection == b"XYZ ":
        matrix = np.array([[0.44, 0.39, 0.14], [0.22, 0.72, 0.06], [0.01, 0.1, 0.71]])
        values = light @ matrix.T / (1 + 32767 / 32768)
    else:
        L = light.mean(1)
        values = np.stack(
            [L * 65280 / 65535, 0.5 + 0.2 * (light[:, 0] - light[:, 1]), 0.5 + 0 * L], 1
        )
    lut = b"mft2\0\0\0\0" + bytes([channels, 3, 2, 0]) + fixed(1, 0, 0, 0, 1, 0, 0, 0, 1)
    curve = np.rint(65535 * np.linspace(0, 1, 1024) ** 1.8).astype(">u2").tobytes()
    lut += struct.pack(">HH", 1024, 2) + curve * channels
    lut += np.rint(values * 65535).astype(">u2").tobytes() + struct.pack(">HH", 0, 65535) * 3
    return profile(space, {**COMMON, b"A2B0": lut}, connection)


PROFILES = {
    "grey": ("L", profile(b"GRAY", {**COMMON, b"kTRC": GAMMA}, b"XYZ ")),
    "grey over Lab": ("L", profile(b"GRAY", {**COMMON, b"kTRC": GAMMA}, b"Lab ")),
    "matrix": (
        "RGB",
        matrix_profile(
            GAMMA, (0.6097, 0.3111, 0.0195), (0.2053, 0.6257, 0.0609), (0.1492, 0.0632, 0.7446)
        ),
    ),
    "tables over XYZ": ("RGB", table_profile(b"RGB ", 3, b"XYZ ")),
    "tables over Lab": ("RGB", table_profile(b"RGB ", 3, b"Lab ")),
    "ink": ("CMYK", table_profile(b"CMYK", 4, b"Lab ")),
}


def tiff(pixels, mode, icc):
    import tifffile

    file = io.BytesIO()
    kind = {"L": "minisblack", "RGB": "rgb", "CMYK": "separated"}[mode]
    tifffile.imwrite(file, pixels, photometric=kind, iccprofile=icc, metadata=None)
    return file.getvalue()


@pytest.mark.parametrize("kind", PROFILES)
def test_every_kind_of_profile_at_every_depth_is_what_littlecms_makes_of_it(kind):
    mode, icc = PROFILES[kind]
    ink = np.dstack([255 - RGB8, RGB8[..., 0] // 4])
    source = {"L": RGB8[..., 1], "RGB": RGB8, "CMYK": ink}[mode]
    wanted = by_littlecms(source, mode, icc)
    made = decode_photo(tiff(source, mode, icc))
    assert np.abs(made.pixels.astype(int) - wanted).max() <= 1
    assert any("converted from 'test'" in note for note in made.notes)
    if "tables" in kind or kind == "ink":
        pytest.importorskip("imagecodecs")
    wanted = by_littlecms(source, mode, icc, exact=True)
    deep = decode_photo(tiff(source.astype(np.uint16) * 257, mode, icc)).pixels
    assert deep.dtype == np.uint16
    assert np.abs(deep / 257 - wanted).max() <= 2
    floats = decode_photo(tiff((source / 255).astype(np.float32), mode, icc)).pixels
    assert np.abs(floats * 255 - wanted).max() <= 2


def test_a_deep_picture_of_tables_names_the_package_that_reads_it(monkeypatch):
    import sys

    monkeypatch.setitem(sys.modules, "imagecodecs", None)
    _mode, icc = PROFILES["tables over Lab"]
    data = encode_image(RGB16, "PNG", Metadata(icc=icc))
    with pytest.raises(ImageError, match=r"lookup tables.*hscaunet\[tiff\]"):
        decode_photo(data)


def test_grey_with_alpha_of_16_bits_keeps_its_alpha_through_a_profile():
    pixels = np.dstack([RGB16[..., 0], RGB16[..., 1]])
    icc = PROFILES["grey"][1]
    packed = chunk(b"iCCP", b"x\0\0" + zlib.compress(icc))
    made = png(pixels, packed).pixels
    assert made.shape == pixels.shape
    assert np.array_equal(made[..., 1], pixels[..., 1])
    assert np.abs(made[..., 0].astype(int) - pixels[..., 0]).mean() > 500


@pytest.mark.parametrize("color", [0, 2])
def test_one_transparent_colour_of_16_bits_is_alpha(color):
    image = RGB16[..., 0] if color == 0 else RGB16
    key = image[3, 5]
    values = [key] if color == 0 else key
    made = png(image, chunk(b"tRNS", struct.pack(f">{len(values)}H", *values))).pixels
    assert made.shape[2] == (2 if color == 0 else 4)
    assert made[3, 5, -1] == 0
    assert made[..., -1].max() == 65535
    assert np.array_equal(made[..., :-1].squeeze(), image)
