import contextlib
import os
import struct

import cv2
import numpy as np
import pytest
from conftest import colorful
from PIL import Image, ImageOps

from runtime import ImageError, Metadata, read_image, read_photo, write_image
from runtime.color import linear_from_srgb, srgb_from_linear
from runtime.images import decode_image, decode_photo, encode_image
from runtime.images.curves import _curve, convert, space_of_icc
from runtime.images.headers import image_size
from runtime.images.profiles import srgb_profile
from runtime.safe_files import write_atomically


@pytest.mark.parametrize("suffix", [".png", ".jpg", ".webp", ".avif", ".tiff", ".bmp"])
def test_pictures_round_trip_and_their_headers_tell_their_size(tmp_path, suffix):
    rgb = colorful(37, 53)
    path = tmp_path / f"p{suffix}"
    write_image(path, rgb)
    assert image_size(path.read_bytes()) == (53, 37)
    again = read_image(path)
    assert again.shape == rgb.shape
    if suffix in (".png", ".tiff", ".bmp"):
        assert np.array_equal(again, rgb)


def test_grey_pictures_are_written_as_they_are_and_others_refused(tmp_path):
    grey = colorful(20, 30)[..., 0]
    write_image(tmp_path / "g.png", grey)
    assert np.array_equal(read_image(tmp_path / "g.png"), grey)
    for wrong in (np.zeros((4, 4, 5), np.uint8), np.zeros((4, 4, 3)), np.zeros((0, 4)), "x"):
        with pytest.raises(ImageError):
            write_image(tmp_path / "w.png", wrong)
    assert not (tmp_path / "w.png").exists()


def test_gif_is_read():
    data = cv2.imencode(".gif", colorful(20, 30))[1].tobytes()
    assert decode_image(data).shape == (20, 30, 3)


def test_an_absurdly_large_file_is_refused_unread(tmp_path):
    path = tmp_path / "huge.png"
    with open(path, "wb") as file:
        file.truncate(50 << 30)  # sparse: it takes no room
    with pytest.raises(ImageError, match="larger than any picture"):
        read_image(path)


def test_files_get_the_mode_that_open_gives_and_keep_their_own(tmp_path):
    (tmp_path / "by_open").write_bytes(b"")
    write_atomically(tmp_path / "by_us", b"x")
    mode = (tmp_path / "by_open").stat().st_mode
    assert (tmp_path / "by_us").stat().st_mode == mode
    (tmp_path / "by_us").chmod(0o640)
    write_atomically(tmp_path / "by_us", b"y")
    assert (tmp_path / "by_us").stat().st_mode & 0o777 == 0o640


def test_webp_and_gif_headers_of_every_kind():
    rgb = colorful(37, 53)
    lossless = cv2.imencode(".webp", rgb, [cv2.IMWRITE_WEBP_QUALITY, 101])[1].tobytes()
    alpha = np.dstack([rgb, rgb[..., 0]])
    extended = cv2.imencode(".webp", alpha, [cv2.IMWRITE_WEBP_QUALITY, 50])[1].tobytes()
    assert image_size(lossless) == image_size(extended) == (53, 37)
    assert image_size(b"GIF89a" + struct.pack("<HH", 53, 37) + b"\0" * 9) == (53, 37)


def test_a_picture_that_claims_too_much_is_refused_from_its_header():
    header = b"\x89PNG\r\n\x1a\n" + struct.pack(">I4sII", 13, b"IHDR", 100_000, 100_000)
    with pytest.raises(ImageError, match="100000x100000"):
        decode_image(header + b"\0" * 100)
    small = cv2.imencode(".png", colorful(20, 20))[1].tobytes()
    with pytest.raises(ImageError, match="limit of 100"):
        decode_image(small, max_pixels=100)


def test_exif_orientation_is_applied(tmp_path):
    rgb = colorful(30, 50)
    jpeg = cv2.imencode(".jpg", rgb[..., ::-1])[1].tobytes()
    exif = b"Exif\0\0MM\0*\0\0\0\x08\0\x01\x01\x12\0\x03\0\0\0\x01\0\x06\0\0\0\0\0\0"
    turned = jpeg[:2] + b"\xff\xe1" + struct.pack(">H", len(exif) + 2) + exif + jpeg[2:]
    assert decode_image(jpeg).shape == (30, 50, 3)
    assert decode_image(turned).shape == (50, 30, 3)


@pytest.mark.parametrize("suffix", [".png", ".jpg", ".webp", ".tiff", ".bmp"])
def test_damaged_pictures_are_errors_of_ours(suffix):
    data = cv2.imencode(suffix, colorful(64, 64))[1].tobytes()
    rng = np.random.default_rng(0)
    for length in (0, 1, 3, 8, 12, 20, 30, 60, len(data) // 2, len(data) * 9 // 10):
        with pytest.raises(ImageError):
            decode_image(data[:length])
    with pytest.raises(ImageError, match="not a picture"):
        decode_image(b"junk" + data)
    for _ in range(30):  # bits flipped: a picture, or an error of ours, but nothing else
        broken = bytearray(data)
        for at in rng.integers(0, min(len(data), 200), 5):
            broken[at] ^= 1 << int(rng.integers(8))
        with contextlib.suppress(ImageError):
            assert decode_image(bytes(broken)).dtype == np.uint8


def test_missing_files_and_wrong_names_say_so(tmp_path):
    with pytest.raises(ImageError, match="cannot be read"):
        read_image(tmp_path / "none.png")
    with pytest.raises(ImageError, match="cannot be read"):
        read_image(tmp_path)
    rgb = colorful(8, 8)
    with pytest.raises(ImageError, match="extension"):
        write_image(tmp_path / "out", rgb)
    with pytest.raises(ImageError, match="does not exist"):
        write_image(tmp_path / "no" / "out.png", rgb)


def test_writing_replaces_a_file_only_when_done(tmp_path, monkeypatch):
    path = tmp_path / "f.bin"
    write_atomically(path, b"old")
    monkeypatch.setattr("os.fsync", lambda _: (_ for _ in ()).throw(OSError(28, "disk full")))
    with pytest.raises(OSError, match="disk full"):
        write_atomically(path, b"new")
    assert path.read_bytes() == b"old"
    assert list(tmp_path.iterdir()) == [path]


def exif_of(orientation=1):
    exif = Image.Exif()
    exif[0x010F], exif[0x8298], exif[_ORIENTATION] = "Maker", "Someone", orientation
    exif.get_ifd(0x8769)[0x9003] = "1936:05:04 03:02:01"
    exif.get_ifd(0x8825)[1] = "N"
    return exif


_ORIENTATION = 0x0112
KINDS = [
    (".png", np.uint8),
    (".png", np.uint16),
    (".tif", np.uint8),
    (".tif", np.uint16),
    (".tif", np.float32),
    (".jpg", np.uint8),
    (".webp", np.uint8),
    (".avif", np.uint8),
]


def in_depth(rgb, dtype):
    return {
        np.uint8: rgb,
        np.uint16: (rgb.astype(np.uint16) * 257) ^ (rgb % 7),
        np.float32: (rgb / 255).astype(np.float32),
    }[dtype]


@pytest.mark.parametrize(("suffix", "dtype"), KINDS)
def test_exif_profile_resolution_and_depth_are_carried_over(tmp_path, suffix, dtype):
    image = in_depth(colorful(37, 53), dtype)
    metadata = Metadata(exif_of().tobytes(), srgb_profile(), (300.0, 150.0))
    write_image(tmp_path / f"a{suffix}", image, metadata)
    first = read_photo(tmp_path / f"a{suffix}")
    write_image(tmp_path / f"b{suffix}", first.pixels, first.metadata)
    photo = read_photo(tmp_path / f"b{suffix}")
    assert photo.notes == ()
    assert photo.pixels.dtype == dtype
    if suffix in (".png", ".tif"):
        assert np.array_equal(photo.pixels, image)
    else:
        assert np.abs(photo.pixels.astype(int) - image).mean() < 4
    assert photo.metadata.icc == srgb_profile()
    assert photo.metadata.dpi == pytest.approx((300, 150), abs=0.02)
    exif = Image.Exif()
    exif.load(photo.metadata.exif)
    assert (exif[0x010F], exif[0x8298]) == ("Maker", "Someone")
    assert exif.get_ifd(0x8769)[0x9003] == "1936:05:04 03:02:01"
    assert exif.get_ifd(0x8825)[1] == "N"
    assert exif.get(_ORIENTATION, 1) == 1
    # Others read it as well: Pillow where it can, OpenCV what is deep.
    data = (tmp_path / f"b{suffix}").read_bytes()
    if dtype == np.uint8:
        assert Image.open(tmp_path / f"b{suffix}").size == (53, 37)
    else:
        theirs = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_UNCHANGED)
        assert np.array_equal(theirs[..., ::-1], image)


@pytest.mark.parametrize(("suffix", "dtype"), KINDS)
@pytest.mark.parametrize("orientation", range(1, 9))
def test_every_orientation_is_applied_once(tmp_path, suffix, dtype, orientation):
    rgb = colorful(36, 52)
    image = in_depth(rgb, dtype)
    metadata = Metadata(exif_of(orientation).tobytes(), None, (300.0, 150.0))
    write_image(tmp_path / f"a{suffix}", image, metadata)
    photo = read_photo(tmp_path / f"a{suffix}")
    tagged = Image.fromarray(rgb)
    tagged.getexif()[_ORIENTATION] = orientation
    upright = in_depth(np.asarray(ImageOps.exif_transpose(tagged)), dtype)
    assert photo.pixels.shape == upright.shape
    assert np.abs(photo.pixels.astype(float) - upright).mean() < (0.01 if "t" in suffix else 4)
    wanted = (150, 300) if orientation >= 5 else (300, 150)
    assert photo.metadata.dpi == pytest.approx(wanted, abs=0.02)
    write_image(tmp_path / f"b{suffix}", photo.pixels, photo.metadata)
    assert read_photo(tmp_path / f"b{suffix}").pixels.shape == upright.shape


def wide_gamut_profile(gamma=2.2):
    """An ICC profile (version 2, matrix and curves) of Adobe RGB's primaries."""

    def s15(value):
        return struct.pack(">i", round(value * 65536))

    def xyz(*values):
        return b"XYZ \0\0\0\0" + b"".join(s15(v) for v in values)

    curve = b"curv\0\0\0\0" + struct.pack(">IH", 1, round(gamma * 256)) + b"\0\0"
    text = b"desc\0\0\0\0" + struct.pack(">I", 5) + b"Wide\0" + b"\0" * 78
    tags = {
        b"desc": text + b"\0" * (-len(text) % 4),
        b"wtpt": xyz(0.9642, 1, 0.8249),
        b"rXYZ": xyz(0.60974, 0.31111, 0.01947),
        b"gXYZ": xyz(0.20528, 0.62567, 0.06087),
        b"bXYZ": xyz(0.14919, 0.06322, 0.74457),
        b"rTRC": curve,
        b"gTRC": curve,
        b"bTRC": curve,
    }
    table, body = b"", b""
    for name, data in tags.items():
        table += name + struct.pack(">II", 132 + 12 * len(tags) + len(body), len(data))
        body += data
    head = struct.pack(">I4sI4s4s4s", 0, b"lcms", 0x02100000, b"mntr", b"RGB ", b"XYZ ")
    head += b"\0" * 12 + b"acsp" + b"\0" * 28 + b"".join(map(s15, (0.9642, 1, 0.8249)))
    head += b"\0" * (128 - len(head))
    whole = head + struct.pack(">I", len(tags)) + table + body
    return struct.pack(">I", len(whole)) + whole[4:]


def test_other_profiles_are_converted_to_srgb_or_refused(tmp_path):
    rgb = np.full((8, 8, 3), (200, 60, 60), np.uint8)
    data = encode_image(rgb, "PNG", Metadata(icc=wide_gamut_profile()))
    photo = decode_photo(data)
    # Adobe RGB (200, 60, 60) lies outside sRGB in red: (237, 57, 57) by the formulas.
    assert np.abs(photo.pixels[0, 0].astype(int) - (234, 57, 58)).max() <= 4
    assert photo.metadata.icc == srgb_profile()
    assert "converted from 'Wide' to sRGB" in photo.notes[0]
    alpha = np.dstack([rgb, np.full((8, 8), 77, np.uint8)])
    photo = decode_photo(encode_image(alpha, "PNG", Metadata(icc=wide_gamut_profile())))
    assert (photo.pixels[..., 3] == 77).all()
    assert photo.pixels[0, 0, 0] > 220
    deep = rgb.astype(np.uint16) * 257
    for kind in ("PNG", "TIFF"):
        kept = decode_photo(encode_image(deep, kind, Metadata(icc=srgb_profile())))
        assert np.array_equal(kept.pixels, deep)
    broken = decode_photo(encode_image(rgb, "PNG", Metadata(icc=b"nonsense" * 40)))
    assert np.array_equal(broken.pixels, rgb)
    assert broken.metadata.icc is None
    assert "damaged" in broken.notes[0]


@pytest.mark.parametrize("kind", ["PNG", "TIFF", "floats"])
def test_deep_pictures_are_converted_at_their_own_depth(kind):
    """As LittleCMS converts 8 bits, but finer."""
    rgb = colorful(64, 80)
    profile = wide_gamut_profile()
    wanted = decode_photo(encode_image(rgb, "PNG", Metadata(icc=profile))).pixels
    deep = np.dstack([rgb, rgb[..., 0]]).astype(np.uint16) * 257
    if kind == "floats":
        deep = (deep / 65535).astype(np.float32)
    data = encode_image(deep, "TIFF" if kind == "floats" else kind, Metadata(icc=profile))
    photo = decode_photo(data)
    assert photo.pixels.dtype == deep.dtype
    scale = 255 if kind == "floats" else 1 / 257
    assert np.abs(photo.pixels[..., :3] * scale - wanted).max() < 1.6
    assert np.array_equal(photo.pixels[..., 3], deep[..., 3])
    assert len(np.unique(photo.pixels[..., 1])) > 256 or kind == "floats"
    assert "converted from 'Wide' to sRGB" in photo.notes[0]
    assert photo.metadata.icc == srgb_profile()


def test_curves_of_every_kind():
    v = np.linspace(0, 1, 1001)

    def fixed(*values):
        return b"".join(struct.pack(">i", round(x * 65536)) for x in values)

    srgb = fixed(2.4, 1 / 1.055, 0.055 / 1.055, 1 / 12.92, 0.04045)
    curves = {
        b"curv\0\0\0\0" + struct.pack(">I", 0): v,
        b"curv\0\0\0\0" + struct.pack(">IH", 1, 512): v**2,
        b"curv\0\0\0\0" + struct.pack(">IHHH", 3, 0, 0, 65535): np.maximum(0, 2 * v - 1),
        b"para\0\0\0\0" + struct.pack(">HH", 0, 0) + fixed(1.5): v**1.5,
        b"para\0\0\0\0" + struct.pack(">HH", 1, 0) + fixed(2, 1.25, -0.25): np.maximum(
            0, 1.25 * v - 0.25
        )
        ** 2,
        b"para\0\0\0\0" + struct.pack(">HH", 3, 0) + srgb: linear_from_srgb(v),
        b"para\0\0\0\0" + struct.pack(">HH", 4, 0) + srgb + fixed(0, 0): linear_from_srgb(v),
    }
    for data, wanted in curves.items():
        assert np.abs(_curve(data)(v) - wanted).max() < 1e-4, data[:12]


def test_deep_pictures_with_profiles_of_tables_are_refused():
    profile = wide_gamut_profile().replace(b"wtpt", b"A2B0")
    assert space_of_icc(profile, grey=False) is None
    assert space_of_icc(b"\0" * 200, grey=False) is None
    assert space_of_icc(profile[:150], grey=False) is None
    assert space_of_icc(wide_gamut_profile(), grey=True) is None  # it has no grey curve
    grey = np.arange(65536, dtype=np.uint16).reshape(256, 256)
    made = convert(grey, space_of_icc(wide_gamut_profile().replace(b"rTRC", b"kTRC"), grey=True))
    wanted = srgb_from_linear((grey / 65535) ** 2.2) * 65535
    assert np.abs(made - np.clip(wanted, 0, 65535)).max() < 12


def test_kinds_of_pixels_that_pillow_knows_are_brought_to_ours(tmp_path):
    rgb = colorful(20, 30)
    image = Image.fromarray(rgb)
    for mode, channels in (("P", 3), ("1", 0), ("L", 0), ("LA", 2), ("RGBA", 4)):
        image.convert(mode).save(tmp_path / "m.png")
        shape = read_image(tmp_path / "m.png").shape
        assert shape == ((20, 30) if not channels else (20, 30, channels)), mode
    see_through = image.convert("P")
    see_through.info["transparency"] = 0
    see_through.save(tmp_path / "m.png", transparency=0)
    assert read_image(tmp_path / "m.png").shape == (20, 30, 4)
    image.convert("CMYK").save(tmp_path / "m.jpg", quality=98)
    assert np.abs(read_image(tmp_path / "m.jpg").astype(int) - rgb).mean() < 6
    Image.fromarray(np.zeros((4, 4), np.int32)).save(tmp_path / "m.tif")
    assert read_image(tmp_path / "m.tif").dtype == np.uint16  # signed, 32 bits


@pytest.mark.parametrize("compression", ["tiff_lzw", "tiff_adobe_deflate", "raw"])
def test_16_bit_tiffs_of_other_programs(tmp_path, compression):
    image = (colorful(40, 50).astype(np.uint16) * 257) ^ 3
    code = {"tiff_lzw": 5, "tiff_adobe_deflate": 8, "raw": 1}[compression]
    cv2.imwrite(str(tmp_path / "t.tif"), image[..., ::-1], [cv2.IMWRITE_TIFF_COMPRESSION, code])
    assert np.array_equal(read_image(tmp_path / "t.tif"), image)
    tifffile = pytest.importorskip("tifffile")
    tifffile.imwrite(tmp_path / "b.tif", image, byteorder=">", photometric="rgb", rowsperstrip=7)
    assert np.array_equal(read_image(tmp_path / "b.tif"), image)
    write_image(tmp_path / "ours.tif", image)
    assert np.array_equal(tifffile.imread(tmp_path / "ours.tif"), image)


@pytest.mark.parametrize(
    ("suffix", "image", "message"),
    [
        (".jpg", np.zeros((4, 4, 4), np.uint8), "cannot hold alpha"),
        (".jpg", np.zeros((4, 4), np.uint16), "16 bits"),
        (".webp", np.zeros((4, 4, 3), np.uint16), "PNG or TIFF"),
        (".png", np.zeros((4, 4), np.float32), "floats"),
        (".jpg", np.zeros((1, 70_000), np.uint8), "cannot be written as JPEG"),
    ],
)
def test_what_a_format_cannot_hold_is_said(tmp_path, suffix, image, message):
    with pytest.raises(ImageError, match=message):
        write_image(tmp_path / f"x{suffix}", image)
    assert list(tmp_path.iterdir()) == []


def test_quality_is_taken_and_checked(tmp_path):
    rgb = colorful(100, 100)
    assert len(encode_image(rgb, "JPEG", quality=30)) < len(encode_image(rgb, "JPEG"))
    for wrong in (0, 101, 50.0, True):
        with pytest.raises(ImageError, match="quality"):
            encode_image(rgb, "JPEG", quality=wrong)


def test_the_largest_photo_is_the_callers_choice(tmp_path):
    write_image(tmp_path / "p.png", colorful(20, 30))
    with pytest.raises(ImageError, match="30x20 pixels, above the limit of 599"):
        read_image(tmp_path / "p.png", max_pixels=599)
    assert read_image(tmp_path / "p.png", max_pixels=600).shape == (20, 30, 3)


@pytest.mark.parametrize("path", [None, 5, "a\0b.png", "x" * 5000 + ".png"])
def test_paths_that_are_none_are_errors_of_ours(path):
    with pytest.raises(ImageError):
        read_image(path)
    with pytest.raises(ImageError):
        write_image(path, np.zeros((4, 4), np.uint8))


def test_a_number_is_not_taken_for_an_open_file(tmp_path):
    (tmp_path / "f").write_bytes(b"x")
    with open(tmp_path / "f", "rb") as file:
        with pytest.raises(ImageError, match="cannot be read"):
            read_image(file.fileno())
        assert file.read() == b"x"  # neither read nor closed


def test_pipes_and_devices_are_not_waited_for(tmp_path):
    if not hasattr(os, "mkfifo"):
        pytest.skip("no pipes with names here")
    os.mkfifo(tmp_path / "p.png")
    with pytest.raises(ImageError, match="no regular file"):
        read_image(tmp_path / "p.png")


@pytest.mark.parametrize(
    "options",
    [{"exif": b"junk"}, {"exif": "x"}, {"icc": 5}, {"dpi": 300}, {"dpi": (0, 1)},
     {"dpi": (float("nan"), 1)}, {"dpi": (1e12, 1)}, {"dpi": ("a", "b")}],
)  # fmt: skip
def test_wrong_metadata_is_said(options):
    with pytest.raises(ImageError, match="Metadata"):
        Metadata(**options)


def test_wrong_calls_of_the_encoder_and_decoder_are_said():
    rgb = colorful(8, 8)
    for call in (
        lambda: encode_image(rgb, "png"),
        lambda: encode_image(rgb, None),
        lambda: encode_image(rgb, "PNG", {"dpi": 3}),
        lambda: encode_image(rgb, "TIFF", Metadata(exif=b"Exif\0\0junk")),
        lambda: decode_photo(None),
        lambda: decode_photo("x"),
        lambda: decode_photo(encode_image(rgb, "PNG"), max_pixels="5"),
    ):
        with pytest.raises(ImageError):
            call()
    data = memoryview(encode_image(rgb, "PNG"))
    assert np.array_equal(decode_photo(data).pixels, rgb)


def test_a_16_bit_png_may_be_followed_by_something():
    deep = colorful(8, 8).astype(np.uint16) * 257
    assert np.array_equal(decode_photo(encode_image(deep, "PNG") + b"\0" * 20).pixels, deep)


def test_names_of_many_bytes_can_be_written(tmp_path):
    write_image(tmp_path / ("写" * 82 + ".png"), colorful(8, 8))
    assert len(list(tmp_path.iterdir())) == 1
