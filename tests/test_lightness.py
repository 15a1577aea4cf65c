"""How scans become grey."""

import cv2
import numpy as np
import pytest
from conftest import colorful

from runtime import ArgumentError, Colorizer, ImageError, Lightness, read_image, write_image
from runtime.__main__ import main


def scan(seed=0, high=120, wide=160):
    """A print of a grey scene with a brown stain, (H, W, 3) uint8, and the scene."""
    scene = colorful(high, wide, seed)[..., 1].astype(np.float32) / 255
    scene = 0.15 + 0.7 * scene
    y, x = np.mgrid[:high, :wide]
    stain = np.exp(-(((x - 110) / 30) ** 2 + ((y - 40) / 25) ** 2)).astype(np.float32)
    tint = 1 - stain[..., None] * np.array([0.05, 0.3, 0.7], np.float32)
    return np.rint(255 * scene[..., None] * tint).astype(np.uint8), scene


@pytest.fixture(scope="module")
def lite():
    return Colorizer(backend="onnxruntime", size=64)


def test_channels():
    rgb = colorful(40, 50)
    for i, name in enumerate(("red", "green", "blue")):
        assert np.array_equal(Lightness(name).apply(rgb), rgb[..., i])
    assert Lightness().apply(rgb) is rgb
    grey = rgb[..., 0]
    assert Lightness("red").apply(grey) is grey


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16, np.float32])
def test_every_dtype_and_alpha(dtype):
    top = 1.0 if dtype == np.float32 else np.iinfo(dtype).max
    rgba = (np.dstack([colorful(300, 500), colorful(300, 500, 1)[..., 0]]) / 255 * top).astype(
        dtype
    )
    made = Lightness("green", (0.2, 0.8)).apply(rgba)
    assert made.dtype == dtype
    assert np.array_equal(made[..., 1], rgba[..., 3])
    wanted = np.clip((rgba[..., 1] / top - 0.2) / 0.6, 0, 1)
    assert np.abs(made[..., 0] / top - wanted).max() < 1 / 200


def test_the_cleanest_channel_is_the_one_without_the_stain():
    for seed in range(4):
        rgb, _ = scan(seed)
        assert np.array_equal(Lightness("cleanest").apply(rgb), rgb[..., 0])
    # Of another hue, another channel.
    assert np.array_equal(Lightness("cleanest").apply(rgb[..., ::-1]), rgb[..., 0])


def test_levels_and_paper():
    rgb, _ = scan()
    auto = Lightness("red", "auto").apply(rgb)
    assert auto.min() == 0
    assert auto.max() == 255
    y = np.linspace(0.5, 1.0, 120, dtype=np.float32)[:, None]
    paper = np.full((120, 160), 0.9, np.float32)
    paper[::8] = 0.2  # writing
    shaded = np.rint(255 * paper * y).astype(np.uint8)
    even = Lightness(even=True).apply(shaded)
    rows = even[4::8].mean(axis=1)
    assert np.ptp(rows) < 0.35 * np.ptp(shaded[4::8].mean(axis=1))


def test_it_reaches_the_result(lite):
    rgb, _ = scan()
    plain = cv2.cvtColor(lite.colorize(rgb), cv2.COLOR_RGB2LAB)[..., 0].astype(int)
    clean = cv2.cvtColor(lite.colorize(rgb, lightness=Lightness("red")), cv2.COLOR_RGB2LAB)
    wanted = cv2.cvtColor(np.dstack([rgb[..., 0]] * 3), cv2.COLOR_RGB2LAB)[..., 0].astype(int)
    assert np.abs(clean[..., 0].astype(int) - wanted).max() <= 3
    assert np.abs(plain - wanted).max() > 20
    session = lite.open(rgb, lightness=Lightness("red"))
    assert np.array_equal(session.render(), lite.colorize(rgb, lightness=Lightness("red")))
    (one,) = lite.batch([rgb], lightness=Lightness("red"))
    assert np.array_equal(one, session.render())


def test_wrong_values(lite):
    for values in (
        {"channel": "cyan"}, {"levels": (0.5, 0.5)}, {"levels": (0, 2)}, {"levels": "best"},
        {"levels": 3}, {"even": 1},
    ):  # fmt: skip
        with pytest.raises(ArgumentError, match="must be"):
            Lightness(**values)
    with pytest.raises(ArgumentError, match="must be a Lightness"):
        lite.colorize(np.zeros((9, 9), np.uint8), lightness="red")
    for wrong in (np.zeros((0, 5), np.uint8), np.zeros((4, 4, 7), np.uint8), np.zeros((3, 3), int)):
        with pytest.raises(ImageError):
            lite.colorize(wrong, lightness=Lightness("red", "auto"))
    flat = np.full((9, 9, 3), 77, np.uint8)  # nothing to stretch
    assert Lightness("cleanest", "auto", True).apply(flat).shape == (9, 9)


def test_on_the_command_line(tmp_path, lite, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    rgb, _ = scan()
    write_image("p.png", rgb)
    words = ["p.png", "-o", "q.png", "--backend", "onnxruntime", "--size", "64"]
    assert main([*words, "--lightness", "cleanest", "--levels", "0.1,0.9", "--even-paper"]) == 0
    wanted = lite.colorize(rgb, lightness=Lightness("cleanest", (0.1, 0.9), True))
    assert np.array_equal(read_image("q.png"), wanted)
    assert main(["p.png", "--out-dir", "o", "--levels", "auto", *words[3:]]) == 0
    assert np.array_equal(
        read_image("o/p.png"), lite.colorize(rgb, lightness=Lightness(levels="auto"))
    )
    for wrong in (["--lightness", "cyan"], ["--levels", "1"], ["--levels", "a,b"]):
        assert main([*words, *wrong]) == 1
        assert "must be" in capsys.readouterr().err
