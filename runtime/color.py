"""sRGB and CIELAB (D65, 2 degrees): the one definition of the project.

The formulas are those of IEC 61966-2-1 (sRGB) and CIE 15 (Lab), with the matrix and white point
that scikit-image uses, so that results agree with ``skimage.color.rgb2lab``. OpenCV's own Lab is
not used: its float version differs by up to 0.5 and its 8-bit version by up to 2.3.

The functions on planes take an array namespace ``xp`` (numpy, or torch for the training code), so
that training and runtime share every constant without the runtime knowing of torch. Below them are
the same formulas for whole photos: tables and OpenCV's arithmetic (not its colour conversion), of
which a test says how exact they are.
"""

from __future__ import annotations

from functools import lru_cache
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from .tiles import row_tiles

# Linear sRGB to XYZ, and its inverse (ITU-R BT.709 primaries, D65; as in scikit-image).
XYZ_FROM_RGB = (
    (0.412453, 0.357580, 0.180423),
    (0.212671, 0.715160, 0.072169),
    (0.019334, 0.119193, 0.950227),
)
RGB_FROM_XYZ = tuple(tuple(float(v) for v in row) for row in np.linalg.inv(np.array(XYZ_FROM_RGB)))
WHITE = (0.95047, 1.0, 1.08883)

_DELTA = 6 / 29  # where the cube root of Lab gives way to a line


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


@lru_cache(maxsize=2)
def linear_table(levels: int) -> NDArray[np.float32]:
    """Linear light of the sRGB values i / (levels - 1), for 8 bits (256) or 16 (65536)."""
    return linear_from_srgb(np.arange(levels) / (levels - 1)).astype(np.float32)


@lru_cache(maxsize=1)
def _byte_of_linear() -> NDArray[np.uint8]:
    """sRGB byte of linear light i / 65535.

    Next to black, where the curve is steepest, one step of the table is 0.05 of a byte: a value
    that came from a byte always finds its way back to it.
    """
    return np.rint(srgb_from_linear(np.arange(65536) / 65535.0) * 255).astype(np.uint8)


def bytes_of(values: NDArray[Any]) -> NDArray[np.uint8]:
    """sRGB values of any dtype of `linear_of` as 8 bits, rounded and clipped; any shape."""
    if values.dtype == np.uint16:
        return ((values.astype(np.uint32) + 128) // 257).astype(np.uint8)
    if values.dtype == np.float32:
        return np.rint(np.clip(values, 0, 1) * 255).astype(np.uint8)
    return values


def linear_of(pixels: NDArray[Any]) -> NDArray[np.float32]:
    """Linear light (0..1) of sRGB values: uint8, uint16, or float32 of 0..1; any shape."""
    if pixels.dtype == np.float32:
        # The curve continued by a line of the right slope: neither branches nor a second pass.
        curve: Any = cv2.pow((np.maximum(pixels, 0.04045) + np.float32(0.055)) / 1.055, 2.4)
        line = np.minimum(pixels - np.float32(0.04045), 0) / np.float32(12.92)
        return curve.reshape(pixels.shape) + line
    levels = np.iinfo(pixels.dtype).max + 1
    linear: Any = cv2.LUT(pixels, linear_table(levels))
    return linear.reshape(pixels.shape)


def f_of_Y(Y: NDArray[np.float32]) -> NDArray[np.float32]:
    """Lab's f = (L + 16) / 116 of luminance Y (0..1), shape (H, W)."""
    root: Any = cv2.pow(np.maximum(Y, np.float32(0.008856)), 1 / 3)
    root += np.minimum(Y - np.float32(0.008856), 0) * np.float32(7.787)
    return root


def Y_of_f(f: NDArray[np.float32]) -> NDArray[np.float32]:
    """Undo `f_of_Y`; used for X and Z as well.

    Notes
    -----
    Above ``d = 6/29`` this is f ** 3, below it the cube's tangent there. The two differ by exactly
    ``(f - d) ** 2 (f + 2 d)``, so no place needs a choice between them.
    """
    above = np.maximum(f - np.float32(_DELTA), 0)
    above *= above
    above *= f + np.float32(2 * _DELTA)
    above += (f - np.float32(16 / 116)) * np.float32(3 * _DELTA**2)
    return above


@lru_cache(maxsize=4)
def _matrix(scale: float, offset: float) -> NDArray[np.float32]:
    """(X, Y, Z) over the white point to RGB times `scale` plus `offset`, as OpenCV wants it."""
    rows = np.array(RGB_FROM_XYZ) * np.array(WHITE) * scale
    return np.concatenate([rows, np.full((3, 1), offset)], axis=1).astype(np.float32)


def srgb_of_xyz(
    X: NDArray[np.float32], Y: NDArray[np.float32], Z: NDArray[np.float32], out: NDArray[Any]
) -> None:
    """Write sRGB of XYZ over the white point into `out`, clipped channel by channel.

    Parameters
    ----------
    X, Y, Z : ndarray, shape (H, W), float32
    out : ndarray, shape (H, W, 3), uint8, uint16 or float32
        Its dtype says the scale: 0..255, 0..65535 or 0..1.
    """
    xyz: Any = cv2.merge([X, Y, Z])
    if out.dtype == np.uint8:
        # To the nearest entry of a table: + 0.5, then cut off.
        scaled: Any = cv2.transform(xyz, _matrix(65535.0, 0.5))
        np.clip(scaled, 0, 65535, out=scaled)
        out[...] = cv2.LUT(scaled.astype(np.uint16), _byte_of_linear())
        return
    linear: Any = cv2.transform(xyz, _matrix(1.0, 0.0))
    srgb_of_linear(linear, out)


def srgb_of_linear(linear: NDArray[np.float32], out: NDArray[Any]) -> None:
    """Write sRGB of linear light into `out`, clipped.

    Parameters
    ----------
    linear : ndarray, float32
        0..1; it is overwritten.
    out : ndarray of the same shape, uint8, uint16 or float32
        Its dtype says the scale: 0..255, 0..65535 or 0..1.
    """
    np.clip(linear, 0, 1, out=linear)
    curve: Any = cv2.pow(np.maximum(linear, np.float32(0.0031308)), 1 / 2.4)
    curve = curve.reshape(linear.shape)
    curve *= np.float32(1.055)
    curve -= np.float32(0.055)
    curve += np.minimum(linear - np.float32(0.0031308), 0) * np.float32(12.92)
    top = {np.dtype(np.uint8): 255, np.dtype(np.uint16): 65535}.get(out.dtype, 1)
    if top > 1:
        curve *= np.float32(top)
        np.rint(curve, out=curve)
    np.clip(curve, 0, top, out=curve)
    out[...] = curve


def Y_of(pixels: NDArray[Any]) -> NDArray[np.float32]:
    """Luminance (0..1) of grey (H, W) or colour (H, W, 3) sRGB, of a dtype of `linear_of`."""
    linear = linear_of(np.ascontiguousarray(pixels))
    if linear.ndim == 2:
        return linear
    Y: Any = cv2.transform(linear, np.array([XYZ_FROM_RGB[1]], np.float32))
    return Y.reshape(linear.shape[:2])


def lab_from_rgb(rgb: NDArray[Any]) -> NDArray[np.float32]:
    """sRGB to Lab.

    Parameters
    ----------
    rgb : ndarray, shape (H, W, 3), uint8, uint16 or float32
        0..255, 0..65535 or 0..1.

    Returns
    -------
    ndarray, shape (H, W, 3), float32
        L in 0..100, a and b in about -128..127.
    """
    out = np.empty(rgb.shape, np.float32)
    to_xyz = (np.array(XYZ_FROM_RGB) / np.array(WHITE)[:, None]).astype(np.float32)
    for rows in row_tiles(rgb.shape):
        xyz = cv2.transform(linear_of(np.ascontiguousarray(rgb[rows])), to_xyz)
        planes: Any = cv2.split(xyz)
        x, y, z = (f_of_Y(plane) for plane in planes)
        for i, plane in enumerate((116 * y - 16, 500 * (x - y), 200 * (y - z))):
            out[rows, :, i] = plane
    return out


def L_from_rgb(image: NDArray[Any]) -> NDArray[np.float32]:
    """L of CIELAB of a grey (H, W) or colour (H, W, 3) sRGB image.

    Parameters
    ----------
    image : ndarray, uint8, uint16 or float32
        0..255, 0..65535 or 0..1.

    Returns
    -------
    ndarray, shape (H, W), float32
        0..100.
    """
    out = np.empty(image.shape[:2], np.float32)
    for rows in row_tiles(image.shape):
        out[rows] = 116 * f_of_Y(Y_of(image[rows])) - 16
    return out


def rgb_from_lab(
    L: NDArray[np.float32], ab: NDArray[np.float32], dtype: Any = np.uint8
) -> NDArray[Any]:
    """Join L and ab into sRGB; colours outside the sRGB gamut are clipped per channel.

    Parameters
    ----------
    L : ndarray, shape (H, W), float32
        0..100.
    ab : ndarray, shape (H, W, 2), float32
    dtype : {uint8, uint16, float32}

    Returns
    -------
    ndarray, shape (H, W, 3)
        Of `dtype`: 0..255, 0..65535 or 0..1.
    """
    out = np.empty((*L.shape, 3), dtype)
    for rows in row_tiles(L.shape):
        f = (L[rows] + np.float32(16)) / np.float32(116)
        X, Z = f + ab[rows, :, 0] / np.float32(500), f - ab[rows, :, 1] / np.float32(200)
        srgb_of_xyz(Y_of_f(X), Y_of_f(f), Y_of_f(Z), out[rows])
    return out
