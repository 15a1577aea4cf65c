"""Label maps: which pixels of a photo belong to one thing.

A label map is a 16-bit grey PNG of its photo's size and name; pixels of one number are one thing,
0 is none. People draw them (``objects-train.tar``), and `segment` makes them of a photo's colours.
"""

from __future__ import annotations

import os
from collections.abc import Iterable
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from .photos import DataError, iterate_files

MOST = 255
"""Things that are kept of one map, the largest; the rest become 0."""

# Felzenszwalb and Huttenlocher 2004, with L counting less than ab: a shadow on a coat is the coat.
_SCALE, _SIGMA, _L_SHARE, _SMALLEST = 250, 1.2, 0.4, 0.008


def photo_key(name: str) -> str:
    """What a photo and its label map share: the file's name without folder and ending."""
    return Path(name).stem


def segment(rgb: NDArray[np.uint8]) -> NDArray[np.uint16]:
    """Things of a photo as its true colours show them (Felzenszwalb and Huttenlocher 2004).

    Parameters
    ----------
    rgb : ndarray, shape (H, W, 3), uint8

    Returns
    -------
    ndarray, shape (H, W), uint16
        Numbers from 1 on; no thing is smaller than 0.8 % of the photo.
    """
    from skimage.segmentation import felzenszwalb

    from runtime.color import lab_from_rgb

    lab = lab_from_rgb(rgb).astype(np.float64)
    lab[..., 0] *= _L_SHARE
    least = max(1, int(_SMALLEST * lab.shape[0] * lab.shape[1]))
    found = felzenszwalb(lab, scale=_SCALE, sigma=_SIGMA, min_size=least, channel_axis=-1)
    return (found + 1).astype(np.uint16)


def encode_labels(labels: NDArray[np.uint16]) -> bytes:
    """A label map as the bytes of a 16-bit PNG."""
    import cv2

    return bytes(cv2.imencode(".png", labels)[1])


def decode_labels(data: bytes, name: str) -> NDArray[np.uint16]:
    """Read a label map.

    Raises
    ------
    DataError
        If it is no grey PNG of 8 or 16 bits.
    """
    import cv2

    labels = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_UNCHANGED) if data else None
    if labels is None or labels.ndim != 2 or labels.dtype not in (np.uint8, np.uint16):
        raise DataError(f"{name} is no label map: it must be a grey PNG of 8 or 16 bits.")
    return labels.astype(np.uint16)


def read_labels(sources: Iterable[str | os.PathLike[str]]) -> dict[str, NDArray[np.uint16]]:
    """All label maps in folders and tar files, by `photo_key`; of two for one photo the first.

    Raises
    ------
    DataError
        If there are none, or a file is none.
    """
    found: dict[str, NDArray[np.uint16]] = {}
    for name, data in iterate_files(sources):
        if Path(name).suffix.lower() == ".png":
            found.setdefault(photo_key(name), decode_labels(data, name))
    if not found:
        raise DataError("No label maps were found; give folders or tar files of grey PNGs.")
    return found


def fit_labels(labels: NDArray[np.uint16], height: int, width: int) -> NDArray[np.uint8]:
    """A label map at a photo's size, its things numbered from 1 on, the largest first.

    Raises
    ------
    DataError
        If its sides are not in the photo's proportion.
    """
    import cv2

    if abs(labels.shape[0] * width - labels.shape[1] * height) > 2 * max(labels.shape):
        raise DataError(
            f"A label map of {labels.shape[1]}x{labels.shape[0]} pixels does not fit its photo of "
            f"{width}x{height}; make it anew with python -m hscaunet.segment."
        )
    if labels.shape != (height, width):
        labels = np.asarray(
            cv2.resize(labels, (width, height), interpolation=cv2.INTER_NEAREST), np.uint16
        )
    count = np.bincount(labels.ravel())
    count[0] = 0
    order = np.argsort(-count, kind="stable")[:MOST]
    order = order[count[order] > 0]
    number = np.zeros(len(count), np.uint8)
    number[order] = np.arange(1, len(order) + 1)
    fitted: NDArray[np.uint8] = number[labels]
    return fitted
