"""Colour spaces that a file names by numbers: PNG's gAMA, cHRM and cICP, AVIF's nclx."""

from __future__ import annotations

import struct
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from ..color import linear_from_srgb
from ..errors import ImageError
from .curves import Curve, Space

# x and y of white, red, green and blue (ITU-T H.273, table 2), by the code of the primaries.
_D65 = (0.3127, 0.3290)
_PRIMARIES = {
    1: (*_D65, 0.640, 0.330, 0.300, 0.600, 0.150, 0.060),  # BT.709, sRGB
    4: (0.310, 0.316, 0.67, 0.33, 0.21, 0.71, 0.14, 0.08),
    5: (*_D65, 0.64, 0.33, 0.29, 0.60, 0.15, 0.06),
    6: (*_D65, 0.630, 0.340, 0.310, 0.595, 0.155, 0.070),
    7: (*_D65, 0.630, 0.340, 0.310, 0.595, 0.155, 0.070),
    9: (*_D65, 0.708, 0.292, 0.170, 0.797, 0.131, 0.046),  # BT.2020
    11: (0.314, 0.351, 0.680, 0.320, 0.265, 0.690, 0.150, 0.060),
    12: (*_D65, 0.680, 0.320, 0.265, 0.690, 0.150, 0.060),  # Display P3
    22: (*_D65, 0.630, 0.340, 0.295, 0.605, 0.155, 0.077),
}
_NAMES = {9: "BT.2020", 11: "DCI-P3", 12: "Display P3"}
_HIGH = {16: "PQ", 18: "HLG"}
_UNKNOWN = 2
_NEAR = 0.01
"""Numbers this near to those of sRGB are it: files round them."""


def _srgb(v: NDArray[np.float64]) -> NDArray[np.float64]:
    return np.asarray(linear_from_srgb(v))


def space_of_coding(coding: Sequence[int], name: str) -> tuple[Space, str] | None:
    """Space of an ITU-T H.273 code, and its name; None if it is sRGB's, or as good as it.

    Parameters
    ----------
    coding : sequence of int
        Primaries and transfer; what follows is not used.
    name : str
        What to call the file in errors.

    Raises
    ------
    ImageError
        For the transfers of high dynamic range, and for codes that are not known here.
    """
    primaries, transfer = coding[:2]
    if transfer in _HIGH:
        raise ImageError(
            f"{name} is a picture of high dynamic range ({_HIGH[transfer]}), which has no one "
            "counterpart in sRGB; convert it to sRGB with a program whose tone mapping you like."
        )
    # Those of television mean what sRGB means on a screen.
    curves: dict[int, Curve] = {
        **dict.fromkeys((1, _UNKNOWN, 6, 7, 13, 14, 15), _srgb),
        4: lambda v: v**2.2,
        5: lambda v: v**2.8,
        8: lambda v: v,
    }
    if transfer not in curves or (primaries not in _PRIMARIES and primaries != _UNKNOWN):
        raise ImageError(
            f"{name} names a colour space that is not known here (H.273 primaries {primaries}, "
            f"transfer {transfer}); convert it to sRGB."
        )
    if curves[transfer] is _srgb and primaries in (1, _UNKNOWN):
        return None
    matrix = to_srgb_matrix(_PRIMARIES.get(primaries, _PRIMARIES[1]))
    label = _NAMES.get(primaries, f"primaries {primaries}, transfer {transfer}")
    return Space((curves[transfer],) * 3, matrix), label


ADOBE_RGB = (*_D65, 0.64, 0.33, 0.21, 0.71, 0.15, 0.06)


def adobe_rgb() -> tuple[Space, str]:
    """Adobe RGB (1998), and its name."""
    return Space((lambda v: v ** (563 / 256),) * 3, to_srgb_matrix(ADOBE_RGB)), "Adobe RGB"


def space_of_png(
    gamma: float | None, chromaticities: Sequence[float] | None
) -> tuple[Space, str] | None:
    """Space of PNG's gAMA and cHRM, and its name; None if it is sRGB's, or as good as it."""
    same_curve = gamma is None or abs(gamma - 1 / 2.2) < _NEAR
    given = chromaticities or _PRIMARIES[1]
    same_primaries = np.allclose(given, _PRIMARIES[1], atol=_NEAR)
    if same_curve and same_primaries:
        return None
    try:
        matrix = to_srgb_matrix(given)
    except (ValueError, np.linalg.LinAlgError):
        return None
    exponent = 1 / gamma if gamma else 0.0
    curve: Curve = (lambda v: v**exponent) if exponent else _srgb
    named = f"gamma {gamma:.4g}" if gamma and not same_curve else "other primaries"
    return Space((curve,) * 3, matrix), named


def to_srgb_matrix(chromaticities: Sequence[float]) -> NDArray[np.float64]:
    """Linear values over some primaries to linear sRGB; whites adapted by Bradford's method.

    Parameters
    ----------
    chromaticities : sequence of 8 floats
        x and y of white, red, green and blue.

    Returns
    -------
    ndarray, shape (3, 3)

    Raises
    ------
    ValueError, numpy.linalg.LinAlgError
        If they are those of no colour space.
    """
    return np.linalg.inv(_to_xyz(_PRIMARIES[1])) @ _adapted(chromaticities)


_BRADFORD = np.array([[0.8951, 0.2664, -0.1614], [-0.7502, 1.7135, 0.0367],
                      [0.0389, -0.0685, 1.0296]])  # fmt: skip


def _white(x: float, y: float) -> NDArray[np.float64]:
    if y <= 0:
        raise ValueError("a chromaticity without light")
    return np.array([x / y, 1.0, (1 - x - y) / y])


def _to_xyz(numbers: Sequence[float]) -> NDArray[np.float64]:
    """Linear RGB to XYZ (SMPTE RP 177)."""
    columns = np.stack([_white(*numbers[i : i + 2]) for i in (2, 4, 6)], axis=1)
    return columns * np.linalg.solve(columns, _white(*numbers[:2]))


def srgb_of_white(white: tuple[float, float]) -> NDArray[np.float64]:
    """(3, 3): XYZ, each as a share of that of a white point, to linear sRGB."""
    old, new = (_BRADFORD @ _white(*xy) for xy in (white, _D65))
    adapt = np.linalg.inv(_BRADFORD) @ np.diag(new / old) @ _BRADFORD
    return np.linalg.inv(_to_xyz(_PRIMARIES[1])) @ adapt @ np.diag(_white(*white))


def _adapted(numbers: Sequence[float]) -> NDArray[np.float64]:
    old, new = (_BRADFORD @ _white(*white) for white in (numbers[:2], _D65))
    return np.linalg.inv(_BRADFORD) @ np.diag(new / old) @ _BRADFORD @ _to_xyz(numbers)


def coding_of_avif(data: bytes) -> tuple[int, int] | None:
    """Primaries and transfer of an AVIF's or HEIF's first nclx box (ISO/IEC 14496-12), or None."""
    at = data.find(b"colrnclx", 0, 1 << 20)
    if at < 0 or at + 12 > len(data):
        return None
    return struct.unpack_from(">HH", data, at + 8)


def depth_of_avif(data: bytes) -> int:
    """Bits a channel by an AVIF's first av1C box (AV1-ISOBMFF 2.3.3); 8 if it has none."""
    at = data.find(b"av1C", 0, 1 << 20)
    if at < 0 or at + 7 > len(data):
        return 8
    high, twelve = data[at + 6] & 0x40, data[at + 6] & 0x20
    return (12 if twelve else 10) if high else 8
