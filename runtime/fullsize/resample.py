"""Resampling of planes along rows and columns, so that full size is only ever made in tiles."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from itertools import pairwise

import cv2
import numpy as np
from numpy.typing import NDArray


def _cubic(a: float) -> Callable[[NDArray[np.float64]], NDArray[np.float64]]:
    """Cubic convolution (Keys 1981) with slope `a` at distance 1."""

    def kernel(x: NDArray[np.float64]) -> NDArray[np.float64]:
        x = np.abs(x)
        near = ((a + 2) * x - (a + 3)) * x * x + 1
        far = a * (((x - 5) * x + 8) * x - 4)
        return np.where(x <= 1, near, np.where(x < 2, far, 0.0))

    return kernel


def _lanczos3(x: NDArray[np.float64]) -> NDArray[np.float64]:
    return np.where(np.abs(x) < 3, np.sinc(x) * np.sinc(x / 3), 0.0)


# Kernel and its radius in pixels of the smaller picture.
KERNELS: dict[str, tuple[Callable[[NDArray[np.float64]], NDArray[np.float64]], int]] = {
    "nearest": (lambda x: ((x > -0.5) & (x <= 0.5)).astype(np.float64), 1),
    "bilinear": (lambda x: np.maximum(0.0, 1 - np.abs(x)), 1),
    "cubic": (_cubic(-0.75), 2),  # OpenCV's INTER_CUBIC
    "catmull-rom": (_cubic(-0.5), 2),
    "lanczos3": (_lanczos3, 3),
}


@dataclass(frozen=True)
class Taps:
    """Where each target pixel of one axis comes from.

    Attributes
    ----------
    pad : int
        Edge pixels to repeat on both sides of the source.
    first : ndarray, shape (target,), int64
        First source pixel, counted in the padded source.
    weights : ndarray, shape (target, K), float32
        Of that pixel and those after it.
    """

    pad: int
    first: NDArray[np.int64]
    weights: NDArray[np.float32]


def taps(source: int, target: int, kernel: str) -> Taps:
    """Taps that bring an axis of `source` pixels to `target` pixels.

    When it shrinks, the kernel is widened as much, so that nothing is skipped.
    """
    shape, radius = KERNELS[kernel]
    stretch = max(1.0, source / target)
    reach = int(np.ceil(radius * stretch))
    center = (np.arange(target) + 0.5) * (source / target) - 0.5
    first = np.floor(center).astype(np.int64) - reach + 1
    weights = shape((first[:, None] + np.arange(2 * reach) - center[:, None]) / stretch)
    weights /= weights.sum(axis=1, keepdims=True)
    return Taps(reach, first + reach, weights.astype(np.float32))


def resample_columns(planes: NDArray[np.float32], by: Taps) -> NDArray[np.float32]:
    """(..., H, source) to (..., H, target)."""
    padded = np.pad(planes, [(0, 0)] * (planes.ndim - 1) + [(by.pad, by.pad)], mode="edge")
    total = np.zeros((*planes.shape[:-1], len(by.first)), np.float32)
    for k in range(by.weights.shape[1]):
        total += padded[..., by.first + k] * by.weights[:, k]
    return total


class RowResampler:
    """Planes of which any rows can be had at another height.

    Parameters
    ----------
    planes : ndarray, shape (C, source, W), float32
    by : Taps
    """

    def __init__(self, planes: NDArray[np.float32], by: Taps) -> None:
        self._planes = np.pad(planes, [(0, 0), (by.pad, by.pad), (0, 0)], mode="edge")
        self._by = by

    def rows(self, rows: slice) -> NDArray[np.float32]:
        """(C, rows, W), new."""
        first, weights = self._by.first[rows], self._by.weights[rows, :, None]
        planes = self._planes
        out = np.empty((planes.shape[0], len(first), planes.shape[2]), np.float32)
        # When it grows, neighbours come from the same source rows and are made together.
        edges = [0, *(np.flatnonzero(np.diff(first)) + 1).tolist(), len(first)]
        for start, stop in pairwise(edges):
            at, group = int(first[start]), weights[start:stop]
            target = out[:, start:stop]
            np.multiply(planes[:, None, at], group[:, 0], out=target)
            for k in range(1, group.shape[1]):
                target += planes[:, None, at + k] * group[:, k]
        return out


def mean_rows(rows: NDArray[np.float32], first: float, edges: NDArray[np.float64]) -> NDArray:
    """Means over spans of rows, with fractions of rows at their ends.

    Parameters
    ----------
    rows : ndarray, shape (H, W), float32
        Rows of the picture from row ``first`` on.
    first : int
    edges : ndarray, shape (n + 1,), float64
        Borders of the n spans in rows of the whole picture, all inside `rows`; every span is at
        least a row high.

    Returns
    -------
    ndarray, shape (n, W), float32
    """
    out = np.empty((len(edges) - 1, rows.shape[1]), np.float32)
    for i in range(len(out)):
        top, bottom = edges[i] - first, edges[i + 1] - first
        start, stop = int(np.floor(top)), min(int(np.ceil(bottom)), len(rows))
        total = np.add.reduce(rows[start:stop], axis=0, out=out[i])
        total -= rows[start] * np.float32(top - start)
        total -= rows[stop - 1] * np.float32(stop - bottom)
        total /= np.float32(bottom - top)
    return out


def resize_plane(plane: NDArray[np.float32], height: int, width: int) -> NDArray[np.float32]:
    """Resize one plane: averaging when it shrinks, cubic when it grows."""
    if plane.shape == (height, width):
        return plane
    shrinks = height * width < plane.shape[0] * plane.shape[1]
    method = cv2.INTER_AREA if shrinks else cv2.INTER_CUBIC
    small = cv2.resize(plane, (width, height), interpolation=method)
    return np.asarray(small, np.float32).reshape(height, width)
