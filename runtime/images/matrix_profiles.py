"""ICC profiles of curves and a matrix, applied at full depth (Pillow's LittleCMS has 8 bits only).

ICC.1:2022: these are the RGB working spaces (Adobe RGB, Display P3, ProPhoto, Rec. 2020, those of
most scanners' drivers) and grey with a gamma. Profiles of lookup tables are not read here.
"""

from __future__ import annotations

import struct
from collections.abc import Callable
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from ..color import srgb_of_linear
from ..tiles import row_tiles

# Linear sRGB to XYZ over D50, as in the sRGB profiles that the ICC publishes.
_SRGB_D50 = (
    (0.4360657, 0.3851515, 0.1430784),
    (0.2224932, 0.7168870, 0.0606169),
    (0.0139161, 0.0970764, 0.7140961),
)

Curve = Callable[[NDArray[np.float64]], NDArray[np.float64]]


def _tags(icc: bytes) -> dict[bytes, bytes]:
    (count,) = struct.unpack_from(">I", icc, 128)
    if count > 200:
        raise ValueError("too many tags")
    tags = {}
    for i in range(count):
        name, at, size = struct.unpack_from(">4sII", icc, 132 + 12 * i)
        tags[name] = icc[at : at + size]
    return tags


def _fixed(data: bytes, at: int, count: int) -> list[float]:
    return [v / 65536 for v in struct.unpack_from(f">{count}i", data, at)]


def _curve(data: bytes) -> Curve:
    """The function of a curveType or parametricCurveType tag, 0..1 to linear 0..1."""
    if data[:4] == b"curv":
        (count,) = struct.unpack_from(">I", data, 8)
        if count == 0:
            return lambda v: v
        if count == 1:
            gamma = struct.unpack_from(">H", data, 12)[0] / 256
            return lambda v: v**gamma
        table = np.frombuffer(data, ">u2", count, 12).astype(np.float64) / 65535
        places = np.linspace(0, 1, count)
        return lambda v: np.interp(v, places, table)
    if data[:4] != b"para":
        raise ValueError("no curve")
    (kind,) = struct.unpack_from(">H", data, 8)
    g, a, b, c, d, e, f = (_fixed(data, 12, (1, 3, 4, 5, 7)[kind]) + [0.0] * 7)[:7]
    if kind == 0:
        return lambda v: v**g
    if kind in (1, 2):  # Y = (aX + b)^g + c above -b / a, else c
        return lambda v: np.where(v >= -b / a, np.maximum(a * v + b, 0) ** g + c, c)
    return lambda v: np.where(v >= d, np.maximum(a * v + b, 0) ** g + e, c * v + f)


def convert_deep(pixels: NDArray[Any], icc: bytes) -> NDArray[Any] | None:
    """Bring pixels to sRGB at their own depth.

    Parameters
    ----------
    pixels : ndarray, shape (H, W), (H, W, 3) or (H, W, 4), uint16 or float32 of 0..1
        Grey or RGB; alpha is left as it is.
    icc : bytes
        Profile for that many channels.

    Returns
    -------
    ndarray
        Of the same shape and dtype, or None if the profile is not made of curves and a matrix.
    """
    grey = pixels.ndim == 2
    try:
        tags = _tags(icc)
        if any(name in tags for name in (b"A2B0", b"A2B1", b"D2B0", b"D2B1")):
            return None
        names = (b"kTRC",) if grey else (b"rTRC", b"gTRC", b"bTRC")
        curves = [_curve(tags[name]) for name in names]
        matrix = np.eye(1)
        if not grey:
            if icc[20:24] != b"XYZ ":
                return None
            columns = [_fixed(tags[name], 8, 3) for name in (b"rXYZ", b"gXYZ", b"bXYZ")]
            matrix = np.linalg.inv(np.array(_SRGB_D50)) @ np.array(columns).T
        steps = np.linspace(0, 1, 65536)
        tables = [np.clip(curve(steps), 0, 1).astype(np.float32) for curve in curves]
    except (KeyError, IndexError, ValueError, struct.error, ZeroDivisionError):
        return None
    numbers: list[Any] = [*tables, matrix]
    if not all(np.isfinite(n).all() for n in numbers):
        return None
    out = pixels.copy()
    for rows in row_tiles(pixels.shape):
        tile = np.ascontiguousarray(pixels[rows] if grey else pixels[rows, :, :3])
        planes = [tile] if grey else cv2.split(tile)
        if pixels.dtype == np.uint16:
            linear: list[Any] = [cv2.LUT(p, t) for p, t in zip(planes, tables, strict=True)]
        else:
            linear = [
                np.interp(p, steps, t).astype(np.float32)
                for p, t in zip(planes, tables, strict=True)
            ]
        if grey:
            srgb_of_linear(linear[0], out[rows])
        else:
            mixed: Any = cv2.transform(cv2.merge(linear), matrix.astype(np.float32))
            srgb_of_linear(mixed, out[rows, :, :3])
    return out
