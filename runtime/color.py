"""sRGB and CIELAB (D65, 2 degrees): the one definition of the project.

The formulas are those of IEC 61966-2-1 (sRGB) and CIE 15 (Lab), with the matrix and white point
that scikit-image uses, so that results agree with ``skimage.color.rgb2lab``. OpenCV's own Lab is
not used: its float version differs by up to 0.5 and its 8-bit version by up to 2.3.

The functions on planes take an array namespace ``xp`` (numpy, or torch for the training code), so
that training and runtime share every constant without the runtime knowing of torch.
"""

from __future__ import annotations

from functools import lru_cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

# Linear sRGB to XYZ, and its inverse (ITU-R BT.709 primaries, D65; as in scikit-image).
XYZ_FROM_RGB = (
    (0.412453, 0.357580, 0.180423),
    (0.212671, 0.715160, 0.072169),
    (0.019334, 0.119193, 0.950227),
)
RGB_FROM_XYZ = tuple(tuple(float(v) for v in row) for row in np.linalg.inv(np.array(XYZ_FROM_RGB)))
WHITE = (0.95047, 1.0, 1.08883)

_TILE_PIXELS = 1 << 18  # rows are worked on in tiles of about this many pixels, to stay in cache


def linear_from_srgb(v: Any, xp: Any = np) -> Any:
    """Undo the sRGB transfer function; `v` is 0..1, any shape."""
    return xp.where(v > 0.04045, ((xp.clip(v, 0.04045, None) + 0.055) / 1.055) ** 2.4, v / 12.92)


def srgb_from_linear(v: Any, xp: Any = np) -> Any:
    """Apply the sRGB transfer function; not clipped, so values outside 0..1 pass through."""
    # The clip keeps the power (and, in torch, its gradient) finite where the linear part is used.
    curve = 1.055 * xp.clip(v, 0.0031308, None) ** (1 / 2.4) - 0.055
    return xp.where(v > 0.0031308, curve, v * 12.92)


def _f(t: Any, xp: Any) -> Any:
    return xp.where(t > 0.008856, xp.clip(t, 0.008856, None) ** (1 / 3), 7.787 * t + 16 / 116)


def _f_inverse(f: Any, xp: Any) -> Any:
    return xp.where(f > 0.2068966, f * f * f, (f - 16 / 116) / 7.787)


def lab_from_linear(r: Any, g: Any, b: Any, xp: Any = np) -> tuple[Any, Any, Any]:
    """Planes of linear RGB (0..1) to planes of L (0..100), a and b (about -128..127)."""
    x, y, z = (
        _f((m[0] * r + m[1] * g + m[2] * b) / w, xp)
        for m, w in zip(XYZ_FROM_RGB, WHITE, strict=True)
    )
    return 116 * y - 16, 500 * (x - y), 200 * (y - z)


def linear_from_lab(L: Any, a: Any, b: Any, xp: Any = np) -> tuple[Any, Any, Any]:
    """Planes of Lab to planes of linear RGB; out-of-gamut colours leave 0..1."""
    fy = (L + 16) / 116
    x, y, z = (
        _f_inverse(f, xp) * w for f, w in zip((fy + a / 500, fy, fy - b / 200), WHITE, strict=True)
    )
    r, g, bl = (m[0] * x + m[1] * y + m[2] * z for m in RGB_FROM_XYZ)
    return r, g, bl


@lru_cache(maxsize=1)
def _linear_of_byte() -> NDArray[np.float32]:
    return linear_from_srgb(np.arange(256) / 255.0).astype(np.float32)


@lru_cache(maxsize=1)
def _L_of_byte() -> NDArray[np.float32]:
    """L of the grey (v, v, v), for v = 0..255."""
    linear = linear_from_srgb(np.arange(256) / 255.0)
    return lab_from_linear(linear, linear, linear)[0].astype(np.float32)


@lru_cache(maxsize=1)
def _byte_of_linear() -> NDArray[np.uint8]:
    """sRGB byte of linear light i / 65535.

    Next to black, where the curve is steepest, one step of the table is 0.05 of a byte: a value
    that came from a byte always finds its way back to it.
    """
    return np.rint(srgb_from_linear(np.arange(65536) / 65535.0) * 255).astype(np.uint8)


def _tiles(shape: tuple[int, ...]) -> list[slice]:
    height, width = shape[:2]
    step = max(1, _TILE_PIXELS // max(1, width))
    return [slice(top, min(top + step, height)) for top in range(0, height, step)]


def lab_from_rgb(rgb: NDArray[np.uint8]) -> NDArray[np.float32]:
    """8-bit sRGB to Lab.

    Parameters
    ----------
    rgb : ndarray, shape (H, W, 3), uint8

    Returns
    -------
    ndarray, shape (H, W, 3), float32
        L in 0..100, a and b in about -128..127.
    """
    out = np.empty(rgb.shape, np.float32)
    table = _linear_of_byte()
    for rows in _tiles(rgb.shape):
        linear = table[rgb[rows]]
        for i, plane in enumerate(lab_from_linear(*np.moveaxis(linear, -1, 0))):
            out[rows, :, i] = plane
    return out


def L_from_rgb(image: NDArray[np.uint8]) -> NDArray[np.float32]:
    """L of CIELAB of a grey (H, W) or colour (H, W, 3) 8-bit sRGB image.

    Returns
    -------
    ndarray, shape (H, W), float32
        0..100.
    """
    if image.ndim == 2:
        return _L_of_byte()[image]
    out = np.empty(image.shape[:2], np.float32)
    table = _linear_of_byte()
    red, green, blue = (table * np.float32(m) for m in XYZ_FROM_RGB[1])
    for rows in _tiles(out.shape):
        tile = image[rows]
        y = red[tile[..., 0]] + green[tile[..., 1]] + blue[tile[..., 2]]
        out[rows] = 116 * _f(y, np) - 16
    return out


def rgb_from_lab(L: NDArray[np.float32], ab: NDArray[np.float32]) -> NDArray[np.uint8]:
    """Join L and ab into 8-bit sRGB; colours outside the sRGB gamut are clipped per channel.

    Parameters
    ----------
    L : ndarray, shape (H, W), float32
        0..100.
    ab : ndarray, shape (H, W, 2), float32

    Returns
    -------
    ndarray, shape (H, W, 3), uint8
    """
    out = np.empty((*L.shape, 3), np.uint8)
    table = _byte_of_linear()
    for rows in _tiles(L.shape):
        planes = linear_from_lab(L[rows], ab[rows, :, 0], ab[rows, :, 1])
        for i, plane in enumerate(planes):
            index = (np.clip(plane, 0, 1) * np.float32(65535) + np.float32(0.5)).astype(np.uint16)
            out[rows, :, i] = table[index]
    return out
