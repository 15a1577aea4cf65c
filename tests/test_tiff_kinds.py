"""TIFFs of every kind that programs write, against the picture that they hold."""

import numpy as np
import pytest
import tifffile
from conftest import colorful
from PIL import Image

from runtime import ImageError
from runtime.color import rgb_from_lab
from runtime.images import decode_photo

WIDE, HIGH = 52, 40
RGB8 = colorful(HIGH, WIDE)
RGB16 = RGB8.astype(np.uint16) * 257
GREY16 = RGB16[..., 1]
ALPHA16 = np.linspace(0, 65535, HIGH * WIDE).reshape(HIGH, WIDE).astype(np.uint16)


def written(pixels, **options):
    import io

    file = io.BytesIO()
    tifffile.imwrite(file, np.ascontiguousarray(pixels), **options)
    return file.getvalue()


def lab16(kind):
    """CIELab of 16 bits: L of 0..65535, signed a and b; ICC Lab: 65280, and 32768 as zero."""
    out = np.zeros((HIGH, WIDE, 3), np.uint16)
    L = np.linspace(0, 1, WIDE)[None].repeat(HIGH, 0)
    out[..., 0] = np.rint(L * (65535 if kind == "cielab" else 65280))
    out[..., 1:] = 0 if kind == "cielab" else 32768
    return out, L * 100


def grey_of_L(L):
    Y = np.where(L > 8, ((L + 16) / 116) ** 3, L / 903.3)
    return np.where(Y > 0.0031308, 1.055 * Y ** (1 / 2.4) - 0.055, 12.92 * Y)


PREMULTIPLIED = np.dstack(
    [np.rint(RGB16 * (ALPHA16[..., None] / 65535)).astype(np.uint16), ALPHA16]
)
KINDS = {
    "grey 16": (GREY16, {}, GREY16),
    "big-endian": (RGB16, {"byteorder": ">", "photometric": "rgb"}, RGB16),
    "white is zero": (65535 - GREY16, {"photometric": "miniswhite"}, GREY16),
    "white is zero, 8 bits": (255 - RGB8[..., 1], {"photometric": "miniswhite"}, RGB8[..., 1]),
    "planar": (
        np.moveaxis(RGB16, -1, 0),
        {"photometric": "rgb", "planarconfig": "separate"},
        RGB16,
    ),
    "planar 8 bits": (
        np.moveaxis(RGB8, -1, 0),
        {"photometric": "rgb", "planarconfig": "separate"},
        RGB8,
    ),
    "grey with alpha": (
        np.dstack([GREY16, ALPHA16]),
        {"photometric": "minisblack", "extrasamples": ["unassalpha"], "planarconfig": "contig"},
        np.dstack([GREY16, ALPHA16]),
    ),
    "alpha": (
        np.dstack([RGB16, ALPHA16]),
        {"photometric": "rgb", "extrasamples": ["unassalpha"]},
        np.dstack([RGB16, ALPHA16]),
    ),
    "int16": ((RGB16 >> 1).astype(np.int16), {"photometric": "rgb"}, (RGB16 >> 1) * 2.0),
    "uint32": (RGB16.astype(np.uint32) << 16, {"photometric": "rgb"}, RGB16),
    "float16": ((RGB16 / 65535).astype(np.float16), {"photometric": "rgb"}, RGB16 / 65535),
    "float32": ((RGB16 / 65535).astype(np.float32), {"photometric": "rgb"}, RGB16 / 65535),
    "float64": (RGB16 / 65535, {"photometric": "rgb"}, RGB16 / 65535),
    "BigTIFF": (RGB16, {"photometric": "rgb", "bigtiff": True}, RGB16),
    "BigTIFF, 8 bits": (RGB8, {"photometric": "rgb", "bigtiff": True}, RGB8),
    "tiles": (RGB16, {"photometric": "rgb", "tile": (16, 16)}, RGB16),
    "tiles, Deflate": (
        RGB16,
        {"photometric": "rgb", "tile": (16, 16), "compression": "zlib", "predictor": True},
        RGB16,
    ),
    "LZMA": (RGB16, {"photometric": "rgb", "compression": "lzma"}, RGB16),
    "PackBits": (RGB8, {"photometric": "rgb", "compression": "packbits"}, RGB8),
    "LZW": (RGB16, {"photometric": "rgb", "compression": "lzw", "predictor": True}, RGB16),
    "LZW, 8 bits": (RGB8, {"photometric": "rgb", "compression": "lzw"}, RGB8),
    "Zstandard": (RGB16, {"photometric": "rgb", "compression": "zstd"}, RGB16),
    "Deflate, floats": (
        (RGB16 / 65535).astype(np.float32),
        {"photometric": "rgb", "compression": "zlib", "predictor": True},
        RGB16 / 65535,
    ),
    "12 bits": (
        (RGB16 >> 4),
        {"photometric": "rgb", "bitspersample": 12},
        np.rint((RGB16 >> 4) * (65535 / 4095)),
    ),
}
NEEDS_IMAGECODECS = {"LZW", "LZW, 8 bits", "Zstandard", "12 bits", "PackBits"}


@pytest.mark.parametrize("kind", KINDS)
def test_pixels_are_what_the_file_holds(kind):
    if kind in NEEDS_IMAGECODECS:  # to write them
        pytest.importorskip("imagecodecs")
    stored, options, wanted = KINDS[kind]
    made = decode_photo(written(stored, **options)).pixels
    assert made.shape == wanted.shape
    assert np.abs(made.astype(float) - wanted).max() <= (0 if made.dtype.kind == "u" else 1e-3) + (
        2 if kind == "int16" else 0
    )


def test_premultiplied_alpha_is_divided_out():
    data = written(PREMULTIPLIED, photometric="rgb", extrasamples=["assocalpha"])
    made = decode_photo(data).pixels
    seen = ALPHA16 > 6000
    assert np.abs(made[seen][:, :3].astype(int) - RGB16[seen]).max() < 8
    assert np.array_equal(made[..., 3], ALPHA16)


@pytest.mark.parametrize("kind", ["cielab", "icclab"])
def test_lab_of_16_bits(kind):
    pixels, L = lab16(kind)
    made = decode_photo(written(pixels, photometric=kind)).pixels
    assert made.dtype == np.uint16
    assert np.abs(made - 65535 * grey_of_L(L)[..., None]).max() < 80


def test_labs_white_point_is_the_one_that_the_file_names():
    pixels = np.zeros((8, 8, 3), np.uint8)
    pixels[..., 0] = 128
    pixels[..., 1], pixels[..., 2] = 60, 40
    d65 = (318, 5, 2, (3127, 10000, 3290, 10000), True)
    made = decode_photo(written(pixels, photometric="cielab", extratags=[d65])).pixels[0, 0]
    wanted = rgb_from_lab(np.float32([[128 / 2.55]]), np.float32([[[60, 40]]]))[0, 0]
    assert np.abs(made.astype(int) - wanted.astype(int)).max() <= 1
    other = decode_photo(written(pixels, photometric="cielab")).pixels[0, 0]
    assert not np.array_equal(made, other)


def test_ink_of_16_bits_is_brought_to_light():
    ink = np.dstack([65535 - RGB16, np.zeros((HIGH, WIDE), np.uint16)])
    assert np.array_equal(decode_photo(written(ink, photometric="separated")).pixels, RGB16)


def test_a_numbers_sign_is_said():
    photo = decode_photo(written(GREY16.astype(np.int16) // 2))
    assert any("sign" in note for note in photo.notes)


def test_a_kind_that_is_not_read_is_said_to_be_one():
    with pytest.raises(ImageError, match="of a kind that is not read"):
        decode_photo(written(GREY16, photometric=32803))


def test_what_lacks_a_codec_names_it_and_the_package(monkeypatch):
    """Not damage: another package unpacks it."""
    imagecodecs = pytest.importorskip("imagecodecs")
    data = written(RGB16, photometric="rgb", compression="zstd")
    assert imagecodecs
    monkeypatch.setattr(
        tifffile.TiffPage,
        "asarray",
        lambda self, **_: (_ for _ in ()).throw(
            ValueError("ZSTD requires the 'imagecodecs' package")
        ),
    )
    with pytest.raises(ImageError, match=r"packed with ZSTD.*hscaunet\[tiff\]"):
        decode_photo(data)


def test_a_cut_file_is_said_to_be_cut():
    data = written(RGB16, photometric="rgb")
    with pytest.raises(ImageError, match="cut short"):
        decode_photo(data[: len(data) // 2])


def pages(*sizes, reduced=()):
    import io

    file = io.BytesIO()
    with tifffile.TiffWriter(file) as writer:
        for i, size in enumerate(sizes):
            writer.write(
                np.full(size, 40 * (i + 1), np.uint8),
                subfiletype=1 if i in reduced else 0,
                metadata=None,
            )
    return file.getvalue()


def test_a_thumbnail_before_the_photo_is_not_the_photo():
    photo = decode_photo(pages((10, 15), (40, 60), reduced=(0,)))
    assert photo.pixels.shape == (40, 60)
    assert not photo.notes
    photo = decode_photo(pages((10, 15), (40, 60)))  # not marked, but far smaller
    assert photo.pixels.shape == (40, 60)
    assert "only page 2 was read" in photo.notes[0]


def test_tiles_and_channels_out_of_proportion_are_refused():
    data = written(RGB16, photometric="rgb", tile=(2048, 2048))
    with pytest.raises(ImageError, match="tiles of 2048x2048"):
        decode_photo(data)
    many = written(
        np.zeros((8, 8, 60), np.uint8),
        photometric="minisblack",
        planarconfig="contig",
        extrasamples=["unspecified"] * 59,
    )
    with pytest.raises(ImageError, match="60 channels"):
        decode_photo(many)


def test_of_several_pages_one_is_read_and_the_others_named():
    data = pages((40, 60), (40, 60), (40, 61))
    photo = decode_photo(data)
    assert photo.pixels.max() == 40
    assert "holds 3 pages" in photo.notes[0]
    assert "--page" in photo.notes[0]
    assert decode_photo(data, page=3).pixels.max() == 120
    with pytest.raises(ImageError, match="has 3 pages; there is no page 4"):
        decode_photo(data, page=4)


def test_pages_of_16_bits():
    import io

    file = io.BytesIO()
    tifffile.imwrite(file, np.stack([GREY16, GREY16 // 2]), photometric="minisblack")
    assert np.array_equal(decode_photo(file.getvalue(), page=2).pixels, GREY16 // 2)


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
def test_upright_whoever_decodes(dtype):
    image = RGB8.astype(dtype)
    data = written(image, photometric="rgb", extratags=[(274, 3, 1, 6, True)])
    assert np.array_equal(decode_photo(data).pixels, np.rot90(image, -1))


def test_pillow_is_asked_for_what_it_reads(tmp_path):
    Image.fromarray(RGB8).save(tmp_path / "j.tif", compression="jpeg", quality=95)
    made = decode_photo((tmp_path / "j.tif").read_bytes()).pixels
    assert np.abs(made.astype(int) - RGB8).mean() < 8
