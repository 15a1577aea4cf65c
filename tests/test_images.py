import contextlib
import struct

import cv2
import numpy as np
import pytest
from conftest import colorful

from runtime import ImageError, read_image, write_image
from runtime.files import write_atomically
from runtime.headers import image_size
from runtime.images import decode_image


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
