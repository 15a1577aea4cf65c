"""Hints kept exactly: what the network's output lacks at them is added there, and fades around."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

# Neighbours whose L differs by so much (of 0..1) hardly share what is added.
_LIKENESS = 0.03
# What pulls it to nothing, as a share of what four like neighbours pull with: in an even place what
# is added halves every 2 to 3 pixels.
_FADE = 0.02
_STEPS = 24
# In Lab units: less is below one level of 8 bits, and leaves the output as it is.
_SEEN = 0.2


def keep_hints(
    L: NDArray[np.float32],
    ab: NDArray[np.float32],
    hint: NDArray[np.float32],
    mask: NDArray[np.bool_],
) -> None:
    """Give a picture's ab the hints' own colours at the hints, without a seam around them.

    The correction solves a screened Poisson equation with the hints as its boundary: elsewhere it
    is the mean of its neighbours', weighted by likeness of L, and fades.

    Parameters
    ----------
    L : ndarray, shape (H, W), float32
        0..1.
    ab : ndarray, shape (2, H, W), float32
        In Lab units; changed in place.
    hint : ndarray, shape (2, H, W), float32
        In Lab units, under the mask.
    mask : ndarray, shape (H, W), bool
    """
    lacking = np.where(mask, hint - ab, np.float32(0))
    if np.abs(lacking).max(initial=0) <= _SEEN:
        return
    down = np.exp(-(((L[1:] - L[:-1]) / _LIKENESS) ** 2))
    right = np.exp(-(((L[:, 1:] - L[:, :-1]) / _LIKENESS) ** 2))
    total = np.full(L.shape, 4 * _FADE, np.float32)
    total[1:] += down
    total[:-1] += down
    total[:, 1:] += right
    total[:, :-1] += right
    free = np.where(mask, np.float32(0), 1 / total)
    added = lacking
    for _ in range(_STEPS):
        summed = np.zeros_like(added)
        summed[:, 1:] += down * added[:, :-1]
        summed[:, :-1] += down * added[:, 1:]
        summed[:, :, 1:] += right * added[:, :, :-1]
        summed[:, :, :-1] += right * added[:, :, 1:]
        added = lacking + summed * free
    ab += added
