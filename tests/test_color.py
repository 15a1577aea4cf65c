import numpy as np
import pytest
import torch

from hscaunet import tensors
from runtime.color import L_from_rgb, lab_from_rgb, rgb_from_lab

skimage_color = pytest.importorskip("skimage.color")


def all_colors(step: int) -> np.ndarray:
    """Every step-th byte of each channel, and all 256 greys; as one picture."""
    values = np.unique(np.r_[np.arange(0, 256, step), 255]).astype(np.uint8)
    cube = np.stack(np.meshgrid(values, values, values, indexing="ij"), -1).reshape(-1, 3)
    grey = np.repeat(np.arange(256, dtype=np.uint8)[:, None], 3, 1)
    dark = np.stack(np.meshgrid(*[np.arange(12, dtype=np.uint8)] * 3, indexing="ij"), -1)
    return np.concatenate([cube, grey, dark.reshape(-1, 3)])[None]


def test_lab_agrees_with_scikit_image():
    rgb = all_colors(3)
    assert np.abs(lab_from_rgb(rgb) - skimage_color.rgb2lab(rgb)).max() < 1e-3


def test_rgb_to_lab_to_rgb_is_exact_for_every_8_bit_colour():
    blue, green = np.meshgrid(np.arange(256, dtype=np.uint8), np.arange(256, dtype=np.uint8))
    for red in range(256):
        rgb = np.stack([np.full_like(blue, red), green, blue], -1)
        lab = lab_from_rgb(rgb)
        assert np.array_equal(rgb_from_lab(lab[..., 0], lab[..., 1:]), rgb), red


def test_L_alone_is_L_of_lab_and_grey_is_a_shortcut():
    rgb = all_colors(17)
    assert np.abs(L_from_rgb(rgb) - lab_from_rgb(rgb)[..., 0]).max() < 1e-4
    grey = np.arange(256, dtype=np.uint8)[None]
    assert np.abs(L_from_rgb(grey) - L_from_rgb(np.repeat(grey[..., None], 3, 2))).max() < 1e-4


def test_colours_outside_srgb_are_clipped_not_wrapped():
    L = np.array([[100.0, 0.0, 50.0, 50.0]], np.float32)
    ab = np.array([[[127, 127], [-128, -128], [127, -128], [-128, 127]]], np.float32)
    rgb = rgb_from_lab(L, ab)
    assert rgb[0, 0].tolist() == [255, skimage_clip(L[0, 0], ab[0, 0])[1], 0]
    for i in range(4):
        assert np.abs(rgb[0, i].astype(int) - skimage_clip(L[0, i], ab[0, i])).max() <= 1


def skimage_clip(L, ab):
    import warnings

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        rgb = skimage_color.lab2rgb(np.array([[[L, *ab]]], np.float64))
    return np.rint(rgb[0, 0] * 255).astype(int)


def test_tensors_use_the_same_formula_and_have_finite_gradients():
    rgb = all_colors(17)
    planes = torch.from_numpy(rgb).permute(0, 2, 1)[..., None].float() / 255
    planes.requires_grad_()
    lab = tensors.lab_from_rgb(planes)
    assert np.abs(lab.detach()[0, :, :, 0].T.numpy() - lab_from_rgb(rgb)[0]).max() < 2e-3
    back = tensors.rgb_from_lab(lab[:, :1], lab[:, 1:] * 1.5)
    back.sum().backward()
    assert torch.isfinite(planes.grad).all()


@pytest.mark.parametrize("shape", [(1, 1), (1, 3000), (3000, 1), (700, 900)])
def test_tiles_cover_every_shape(shape):
    rng = np.random.default_rng(0)
    rgb = rng.integers(0, 256, (*shape, 3), np.uint8)
    lab = lab_from_rgb(rgb)
    assert np.array_equal(rgb_from_lab(lab[..., 0], lab[..., 1:]), rgb)
