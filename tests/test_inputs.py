"""What comes back is of the kind that was given."""

import io

import cv2
import numpy as np
import pytest
from conftest import colorful
from PIL import Image

from runtime import (
    ArgumentError,
    Colorizer,
    Hint,
    Hints,
    ImageError,
    Metadata,
    Photo,
    available_models,
    read_image,
    read_photo,
    write_image,
)

RGB = colorful(48, 60)
GREY = RGB[..., 1]
HINTS = [Hint(10, 10, "#c04030", 5)]


@pytest.fixture(scope="module")
def colorizer(tiny_onnx):
    return Colorizer(tiny_onnx, backend="onnxruntime", size=64)


@pytest.fixture(scope="module")
def wanted(colorizer):
    return colorizer.colorize(GREY, HINTS)


def test_arrays_of_every_kind(colorizer, wanted):
    deep = GREY.astype(np.uint16) * 257
    by_deep = colorizer.colorize(deep, HINTS)
    made = colorizer.colorize(deep.astype(">u2"), HINTS)
    assert np.array_equal(made, by_deep)
    assert made.dtype == np.uint16
    floats = colorizer.colorize((GREY / 255).astype(np.float32), HINTS)
    for dtype in (np.float64, np.float16, np.dtype(">f4")):
        made = colorizer.colorize((GREY / 255).astype(dtype), HINTS)
        assert made.dtype == np.dtype(dtype).newbyteorder("=")
        assert np.abs(made - floats).max() < 2e-3
    black = GREY > 100
    made = colorizer.colorize(black, HINTS)
    assert np.array_equal(made, colorizer.colorize(black * np.uint8(255), HINTS))
    assert np.array_equal(colorizer.colorize(np.asfortranarray(GREY), HINTS), wanted)
    with pytest.raises(ImageError, match="int64"):
        colorizer.colorize(GREY.astype(np.int64))


def test_the_order_of_opencv(colorizer, wanted):
    assert np.array_equal(colorizer.colorize(GREY, HINTS, order="BGR"), wanted[..., ::-1])
    bgra = cv2.cvtColor(RGB, cv2.COLOR_RGB2BGRA)
    bgra[..., 3] = GREY
    rgba = np.dstack([RGB, GREY])
    made = colorizer.colorize(bgra, HINTS, order="BGR")
    assert np.array_equal(made[..., [2, 1, 0, 3]], colorizer.colorize(rgba, HINTS))
    session = colorizer.open(bgra, order="BGR")
    session.set_hints(HINTS)
    assert np.array_equal(session.render(), made)
    with pytest.raises(ArgumentError, match="order"):
        colorizer.colorize(RGB, order="GBR")
    with pytest.raises(ValueError, match="arrays"):
        colorizer.colorize(Photo(RGB), order="BGR")


def test_pillow_images(colorizer, wanted):
    image = Image.fromarray(GREY)
    image.info["dpi"] = (300, 300)
    made = colorizer.colorize(image, HINTS)
    assert isinstance(made, Image.Image)
    assert np.array_equal(np.asarray(made), wanted)
    assert made.info["dpi"] == (300, 300)
    alpha = Image.fromarray(np.dstack([RGB, GREY]))
    assert colorizer.colorize(alpha, HINTS).mode == "RGBA"
    for mode in ("P", "1", "CMYK", "LA"):
        assert colorizer.colorize(Image.fromarray(RGB).convert(mode), HINTS).size == (60, 48)
    deep = Image.fromarray(GREY.astype(np.uint16) * 257)
    assert np.abs(np.asarray(colorizer.colorize(deep, HINTS)).astype(int) - wanted).max() <= 1


def test_paths_bytes_files_and_photos(colorizer, wanted, tmp_path):
    write_image(tmp_path / "p.png", GREY, Metadata(comments=(b"mine",)))
    data = (tmp_path / "p.png").read_bytes()
    photo = read_photo(data)
    for given in (tmp_path / "p.png", str(tmp_path / "p.png"), data, io.BytesIO(data), photo):
        made = colorizer.colorize(given, HINTS)
        assert isinstance(made, Photo)
        assert np.array_equal(made.pixels, wanted)
        assert made.metadata.texts
    with pytest.raises(ImageError, match="cannot be read"):
        colorizer.colorize(tmp_path / "none.png")
    for wrong in (None, 5, object()):
        with pytest.raises(ImageError, match="must be an array"):
            colorizer.colorize(wrong)
    with pytest.raises(ImageError, match="mode 'rb'"):
        colorizer.colorize(io.StringIO("text"))


def test_a_photo_is_saved_in_every_way(tmp_path):
    photo = Photo(RGB, Metadata(dpi=(300.0, 300.0)))
    assert photo.save(tmp_path / "p.png") == []
    again = io.BytesIO()
    photo.save(again, "png")
    assert again.getvalue() == (tmp_path / "p.png").read_bytes() == photo.to_bytes()
    assert np.array_equal(np.asarray(photo.to_pil()), RGB)
    deep = Photo(np.dstack([RGB, GREY]).astype(np.uint16) * 257)
    assert "more than 8 bits a channel or alpha" in deep.save(tmp_path / "p.jpg", quality=90)[0]
    assert deep.to_pil().mode == "RGBA"
    with pytest.raises(ImageError, match="no format"):
        photo.save(tmp_path / "p.xyz")
    with pytest.raises(ImageError, match="needs a format"):
        photo.save(io.BytesIO())


def test_results_of_every_dtype_can_be_written(tmp_path):
    for dtype in (">u2", ">f4", np.float64, np.float16, np.bool_):
        floats = np.dtype(dtype).kind == "f"
        image = (RGB / 255 if floats else RGB.astype(np.uint16) * 257).astype(dtype)
        write_image(tmp_path / "p.tif", image)
        made = read_image(tmp_path / "p.tif")
        assert np.abs(made - image.astype(float) * (255 if dtype == np.bool_ else 1)).max() < 1e-3


def test_pictures_in_memory(tmp_path):
    file = io.BytesIO()
    write_image(file, RGB, format="png")
    assert np.array_equal(read_image(file.getvalue()), RGB)
    file.seek(0)
    assert np.array_equal(read_image(file), RGB)
    write_image(tmp_path / "odd.name", RGB, format="tif")
    assert np.array_equal(read_image(tmp_path / "odd.name"), RGB)


def test_hints_by_path_and_batches_of_all_kinds(colorizer, wanted, tmp_path):
    Hints(HINTS, image_size=(60, 48)).save(tmp_path / "h.json")
    assert np.array_equal(colorizer.colorize(GREY, tmp_path / "h.json"), wanted)
    assert np.array_equal(colorizer.colorize(GREY, (10, 10, "#c04030", 5)), wanted)
    made = colorizer.batch([GREY, Image.fromarray(GREY), Photo(GREY)], [HINTS] * 3)
    assert np.array_equal(made[0], wanted)
    assert np.array_equal(np.asarray(made[1]), wanted)
    assert np.array_equal(made[2].pixels, wanted)
    big = np.repeat(np.repeat(GREY, 2, 0), 2, 1)
    session = colorizer.open(big)
    session.load_hints(tmp_path / "h.json")
    assert session.hints[0].size == 10


def test_the_models_that_come_along():
    assert available_models()[0] == "hscaunet-lite"


def test_errors_of_arguments_are_value_errors(tiny_onnx, colorizer):
    for options in ({"size": 7}, {"threads": 0}, {"device": "tpu"}, {"backend": "none"}):
        with pytest.raises(ValueError, match=r"must be|There is no"):
            Colorizer(tiny_onnx, **options)
    with pytest.raises(ValueError, match="at_once"):
        colorizer.batch([], at_once=0)


def test_the_spelling_of_before_warms_up_and_warns(colorizer):
    colorizer.warm_up((80, 60))
    with pytest.warns(DeprecationWarning, match="warm_up"):
        colorizer.warm_up(60, 80)


def test_pillow_images_of_rare_modes(colorizer, wanted):
    deep = Image.fromarray(GREY.astype(np.int32) * 257)
    assert deep.mode == "I"
    assert np.array_equal(
        np.asarray(colorizer.colorize(deep, HINTS)),
        np.asarray(colorizer.colorize(Image.fromarray(GREY.astype(np.uint16) * 257), HINTS)),
    )
    assert colorizer.colorize(Image.fromarray(RGB).convert("HSV"), HINTS).mode == "RGB"
    with pytest.raises(ImageError, match="array of numpy"):
        colorizer.colorize(Image.fromarray(GREY.astype(np.float32)), HINTS)


def test_files_that_read_piece_by_piece_and_targets_that_are_none():
    class Slow(io.BytesIO):
        def read(self, size=-1):
            return super().read(min(size, 100))

    file = io.BytesIO()
    Photo(RGB).save(file, "PNG")
    assert np.array_equal(read_photo(Slow(file.getvalue())).pixels, RGB)
    for target, format, sentence in (
        (None, "PNG", "to a path or a file"),
        (io.BytesIO(), None, "needs a format"),
        (io.StringIO(), "PNG", "open for bytes"),
    ):
        with pytest.raises(ImageError, match=sentence):
            Photo(RGB).save(target, format)
    with pytest.raises(ImageError, match="needs a format"):
        write_image(io.BytesIO(), RGB)
