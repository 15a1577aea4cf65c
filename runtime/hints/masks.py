"""Masks as people paint them: what is meant by white, by black and by see-through."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..color import bytes_of


def painted(pixels: NDArray[Any]) -> tuple[NDArray[np.uint8], list[str]]:
    """Where a mask is painted.

    White counts. In a picture that is see-through in places, what is opaque and white counts, or
    what is opaque at all where nothing opaque is white.

    Parameters
    ----------
    pixels : ndarray, shape (H, W), or (H, W, C) with C of 2 to 4; uint8, uint16 or float32
        Two and four channels: the last is alpha.

    Returns
    -------
    mask : ndarray, shape (H, W), uint8
        255 where it is painted, else 0.
    notes : list of str
        A sentence if it has greys, which were cut at half.
    """
    if pixels.dtype == np.float32:
        pixels = np.nan_to_num(pixels)
    pixels = bytes_of(pixels)
    pixels = pixels[..., None] if pixels.ndim == 2 else pixels
    light = pixels[..., : 1 if pixels.shape[2] < 3 else 3].min(axis=2)
    white = light >= 128
    notes = []
    if pixels.shape[2] in (2, 4) and (pixels[..., -1] < 128).any():
        opaque = pixels[..., -1] >= 128
        white = opaque & white if (opaque & white).any() else opaque
    elif ((light > 0) & (light < 255)).any():
        notes.append("It is not of black and white alone; 128 and more was taken for white.")
    return np.where(white, np.uint8(255), np.uint8(0)), notes
