"""Colour spaces of curves and a matrix, brought to sRGB at any depth.

As ICC profiles (ICC.1:2022) these are the RGB working spaces (Adobe RGB, Display P3, ProPhoto, Rec.
2020, those of most scanners' drivers) and grey with a curve; Pillow's LittleCMS has 8 bits only.
Profiles of lookup tables are not read here.
"""

from __future__ import annotations

import struct
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from ..color import linear_from_lab, srgb_of_linear
from ..tiles import row_tiles

# Linear sRGB to XYZ over D50, as in the sRGB profiles that the ICC publishes.
SRGB_D50 = (
    (0.4360657, 0.3851515, 0.1430784),
    (0.2224932, 0.7168870, 0.0606169),
    (0.0139161, 0.0970764, 0.7140961),
)

Curve = Callable[[NDArray[np.float64]], NDArray[np.float64]]
"""Encoded 0..1 to linear 0..1."""

_LEVELS = 65536


@dataclass(frozen=True)
class Space:
    """A colour space.

    Attributes
    ----------
    curves : tuple of Curve
        One for grey, else those of red, green and blue.
    matrix : ndarray, shape (3, 3), or None
        Linear values to linear sRGB; None for grey.
    """

    curves: tuple[Curve, ...]
    matrix: NDArray[np.float64] | None

    def of_grey(self) -> Space:
        """The same for one channel."""
        return Space(self.curves[:1], None)


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


def space_of_icc(icc: bytes, grey: bool) -> Space | None:
    """The space of an ICC profile, or None if it is not made of curves and a matrix."""
    try:
        tags = _tags(icc)
        if any(name in tags for name in (b"A2B0", b"A2B1", b"D2B0", b"D2B1")):
            return None
        names = (b"kTRC",) if grey else (b"rTRC", b"gTRC", b"bTRC")
        curves = tuple(_curve(tags[name]) for name in names)
        lab = icc[20:24] == b"Lab "
        if grey:
            # The curve gives Y, or with Lab as connection space L (ICC.1:2022, F.2).
            return Space((_luminance(curves[0]) if lab else curves[0],), None)
        if lab:
            return None
        columns = [_fixed(tags[name], 8, 3) for name in (b"rXYZ", b"gXYZ", b"bXYZ")]
    except (KeyError, IndexError, ValueError, struct.error):
        return None
    return Space(curves, np.linalg.inv(np.array(SRGB_D50)) @ np.array(columns).T)


def _luminance(curve: Curve) -> Curve:
    """Y of a curve that gives L / 100."""
    return lambda v: linear_from_lab(100 * np.asarray(curve(v)), 0.0, 0.0)[1]


def convert(pixels: NDArray[Any], space: Space) -> NDArray[Any] | None:
    """Bring pixels to sRGB at their own depth.

    Parameters
    ----------
    pixels : ndarray, shape (H, W), (H, W, 2), (H, W, 3) or (H, W, 4); uint8, uint16 or float32
        Grey or RGB, each with or without alpha, which is left as it is; floats of 0..1.
    space : Space
        Of that many channels.

    Returns
    -------
    ndarray
        Of the same shape and dtype, or None if the space makes no sense.
    """
    grey = space.matrix is None
    steps = np.linspace(0, 1, 256 if pixels.dtype == np.uint8 else _LEVELS)
    with np.errstate(all="ignore"):
        tables = [np.clip(curve(steps), 0, 1).astype(np.float32) for curve in space.curves]
    numbers: list[Any] = [*tables, np.eye(1) if space.matrix is None else space.matrix]
    if not all(np.isfinite(n).all() for n in numbers):
        return None
    out = pixels.copy()
    light: Any = (..., 0) if grey and pixels.ndim == 3 else (..., slice(3)) if not grey else ...
    for rows in row_tiles(pixels.shape):
        tile = np.ascontiguousarray(pixels[rows][light])
        planes = [tile] if grey else cv2.split(tile)
        linear: list[Any] = [_look_up(p, t, steps) for p, t in zip(planes, tables, strict=True)]
        if grey:
            made = np.empty_like(tile)
            srgb_of_linear(linear[0], made)
        else:
            assert space.matrix is not None
            mixed: Any = cv2.transform(cv2.merge(linear), space.matrix.astype(np.float32))
            made = np.empty_like(tile)
            srgb_of_linear(mixed, made)
        out[rows][light] = made
    return out


def _look_up(plane: Any, table: NDArray[np.float32], steps: NDArray[np.float64]) -> Any:
    if plane.dtype == np.float32:
        return np.interp(plane, steps, table).astype(np.float32)
    return table[plane] if plane.dtype == np.uint8 else cv2.LUT(plane, table)
