"""Any photo: kinds of pixels, sizes, and what full-size work costs."""

import tracemalloc

import cv2
import numpy as np
import pytest
from conftest import colorful

from runtime import Colorizer, Hint
from runtime.color import L_from_rgb, lab_from_rgb, rgb_from_lab
from runtime.fullsize.picture import Picture, fit_within, shrunk
from runtime.fullsize.resample import KERNELS, RowResampler, resample_columns, taps
from runtime.layout import network_size

SCALE = {np.uint8: 255, np.uint16: 65535, np.float32: 1}


@pytest.fixture(scope="module")
def tiny(tiny_onnx):
    return Colorizer(tiny_onnx, backend="onnxruntime", size=64)


def kinds(rgb):
    """The same picture as grey, grey with alpha, RGB and RGB with alpha."""
    grey, alpha = rgb[..., 1], 255 - rgb[..., 0]
    return {
        "grey": grey,
        "grey in one channel": grey[..., None],
        "grey with alpha": np.dstack([grey, alpha]),
        "RGB": rgb,
        "RGB with alpha": np.dstack([rgb, alpha]),
    }


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16, np.float32])
@pytest.mark.parametrize("kind", kinds(np.zeros((1, 1, 3), np.uint8)))
def test_every_kind_of_pixels_keeps_its_dtype_alpha_and_L(tiny, dtype, kind):
    image = (kinds(colorful(90, 130))[kind] / 255 * SCALE[dtype]).astype(dtype)
    before = image.copy()
    out = tiny.colorize(image, [Hint(20, 20, "#807060", 30)])
    assert np.array_equal(image, before)
    assert out.dtype == dtype
    assert out.shape == (90, 130, 4 if "alpha" in kind else 3)
    if "alpha" in kind:
        assert np.array_equal(out[..., 3], image[..., -1])
    light = image[..., :3] if "RGB" in kind else image if image.ndim == 2 else image[..., 0]
    L, kept = L_from_rgb(np.ascontiguousarray(light)), L_from_rgb(out[..., :3].copy())
    assert np.median(np.abs(L - kept)) < (0.3 if dtype == np.uint8 else 0.01)


def test_16_bits_stay_16_bits_all_the_way(tiny):
    ramp = np.linspace(0, 65535, 300 * 400).astype(np.uint16).reshape(300, 400)
    out = tiny.colorize(ramp, [Hint(5, 5, "#a08060")])
    assert len(np.unique(out[..., 1])) > 20_000
    # Without colour the way through Lab and back changes next to nothing.
    grey = Picture(ramp).join(np.zeros((2, 16, 16), np.float32))
    assert np.abs(grey.astype(int) - ramp[..., None]).max() <= 2
    floats = (ramp / 65535).astype(np.float32)
    grey = Picture(floats).join(np.zeros((2, 16, 16), np.float32))
    assert np.abs(grey - floats[..., None]).max() < 5e-5


def test_all_depths_of_one_picture_give_one_result(tiny):
    grey = colorful(80, 120)[..., 0]
    hints = [Hint(20, 20, "#c06040", 9)]
    bytes_ = tiny.colorize(grey, hints).astype(float)
    deep = tiny.colorize(grey.astype(np.uint16) * 257, hints) / 257
    floats = tiny.colorize((grey / 255).astype(np.float32), hints) * 255
    assert np.abs(deep - bytes_).max() < 0.6
    assert np.abs(floats - bytes_).max() < 0.6


def test_views_and_memory_mapped_files_are_read_in_place(tiny, tmp_path):
    grey = colorful(90, 130)[..., 0]
    wanted = tiny.colorize(grey, [Hint(3, 3, "#ff0000")])
    (tmp_path / "raw").write_bytes(grey.tobytes())
    mapped = np.memmap(tmp_path / "raw", np.uint8, "r", shape=grey.shape)
    assert np.array_equal(tiny.colorize(mapped, [Hint(3, 3, "#ff0000")]), wanted)
    wide = np.zeros((180, 260), np.uint8)
    wide[::2, ::2] = grey
    assert np.array_equal(tiny.colorize(wide[::2, ::2], [Hint(3, 3, "#ff0000")]), wanted)
    turned = np.asfortranarray(grey)
    assert np.array_equal(tiny.colorize(turned, [Hint(3, 3, "#ff0000")]), wanted)


@pytest.mark.parametrize("shape", [(1, 1), (1, 40_000), (40_000, 1), (3, 5), (15, 17), (64, 64)])
def test_extreme_shapes(tiny, shape):
    rng = np.random.default_rng(0)
    image = rng.integers(0, 256, shape, np.uint8)
    out = tiny.colorize(image, [Hint(shape[1] - 1, shape[0] - 1, "#40c060")])
    assert out.shape == (*shape, 3)


def test_100_megapixels_from_a_memory_mapped_file(tiny, tmp_path):
    path = tmp_path / "raw"
    with open(path, "wb") as file:
        file.truncate(10_000 * 10_000)  # sparse
    mapped = np.memmap(path, np.uint8, "r+", shape=(10_000, 10_000))
    mapped[:5000:50] = 200
    tracemalloc.start()
    out = tiny.colorize(mapped, [Hint(9999, 9999, "#c04030", 500)])
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert out.shape == (10_000, 10_000, 3)
    assert peak - out.nbytes < 150e6  # a float plane of it is 400 MB


def test_no_full_size_float_copy_is_made(tiny):
    grey = np.resize(colorful(200, 300)[..., 0], (2000, 3000))
    tracemalloc.start()
    out = tiny.colorize(grey)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak - out.nbytes < 20e6  # a float plane is 24 MB


def test_threads_change_nothing():
    rgb = np.resize(colorful(300, 400), (900, 1100, 3))
    ab = np.random.default_rng(0).normal(0, 30, (2, 32, 48)).astype(np.float32)
    one, many = Picture(rgb, 1), Picture(rgb, 5)
    assert np.array_equal(one.join(ab), many.join(ab))
    assert np.array_equal(one.lightness(64, 80), many.lightness(64, 80))


@pytest.mark.parametrize("shape", [(300, 500), (37, 500), (500, 40), (20, 30)])
def test_lightness_is_the_mean_of_L(shape):
    image = np.random.default_rng(1).integers(0, 256, (*shape, 3), np.uint8)
    L = L_from_rgb(image)
    small = Picture(image).lightness(64, 96)
    high, wide = min(64, shape[0]), min(96, shape[1])
    wanted = cv2.resize(L, (wide, high), interpolation=cv2.INTER_AREA)
    wanted = cv2.resize(wanted, (96, 64), interpolation=cv2.INTER_CUBIC)
    assert np.abs(small - wanted).max() < 0.02


def test_join_is_L_with_cubic_ab():
    image = colorful(333, 421)
    ab = np.random.default_rng(1).normal(0, 20, (2, 48, 64)).astype(np.float32)
    full = [cv2.resize(plane, (421, 333), interpolation=cv2.INTER_CUBIC) for plane in ab]
    wanted = rgb_from_lab(L_from_rgb(image), np.stack(full, -1))
    assert np.abs(Picture(image).join(ab, upsampling="cubic").astype(int) - wanted).max() <= 1


@pytest.mark.parametrize("kernel", KERNELS)
@pytest.mark.parametrize(("source", "target"), [(16, 100), (100, 16), (7, 7), (1, 9), (9, 1)])
def test_resampling_keeps_what_is_constant(kernel, source, target):
    by = taps(source, target, kernel)
    assert np.allclose(by.weights.sum(1), 1, atol=1e-5)
    planes = np.full((2, source, source), 3, np.float32)
    columns = resample_columns(planes, by)
    assert columns.shape == (2, source, target)
    assert np.allclose(columns, 3, atol=1e-5)
    rows = RowResampler(planes, by).rows(slice(0, target))
    assert np.allclose(rows, 3, atol=1e-5)
    if source == target:
        ramp = np.random.default_rng(0).random((1, source, source), np.float32)
        assert np.allclose(resample_columns(ramp, by), ramp, atol=1e-6)


def test_rows_can_be_had_in_any_pieces():
    planes = np.random.default_rng(0).random((2, 12, 30), np.float32)
    rows = RowResampler(planes, taps(12, 101, "cubic"))
    whole = rows.rows(slice(0, 101))
    pieces = [rows.rows(slice(at, min(at + 7, 101))) for at in range(0, 101, 7)]
    assert np.allclose(np.concatenate(pieces, 1), whole, atol=1e-5)


def test_size_decides_at_how_many_pixels_the_network_runs(tiny, monkeypatch):
    shapes = []
    run = tiny._engine.run
    monkeypatch.setattr(tiny._engine, "run", lambda x: (shapes.append(x.shape), run(x))[1])
    grey = colorful(300, 400)[..., 0]
    tiny.colorize(grey)
    tiny.colorize(grey, size=128)
    assert shapes == [(1, 4, *network_size(300, 400, s)) for s in (64, 128)]
    from runtime import BackendError

    for wrong in (0, 31, 10_000, 64.0, True, "64"):
        with pytest.raises(BackendError, match="size must be"):
            tiny.colorize(grey, size=wrong)


@pytest.mark.parametrize("shape", [(300, 400), (300, 400, 3)])
def test_a_preview_as_large_as_the_photo_is_the_photo(shape):
    rng = np.random.default_rng(0)
    picture = Picture(rng.integers(0, 256, shape, np.uint8))
    ab = rng.normal(0, 30, (2, 48, 64)).astype(np.float32)
    assert np.array_equal(shrunk(picture, 300, 400).join(ab), picture.join(ab))


def test_a_preview_is_the_small_picture():
    picture = Picture(colorful(300, 400)[..., 0])
    assert fit_within(300, 400, 100) == (75, 100)
    assert fit_within(300, 400, 1000) == (300, 400)
    assert fit_within(1, 4000, 100) == (1, 100)
    small = shrunk(picture, 75, 100).join(np.zeros((2, 16, 16), np.float32))
    L = lab_from_rgb(small)[..., 0]
    assert small.shape == (75, 100, 3)
    assert np.abs(L - picture.lightness(75, 100)).max() < 0.5
