"""Resampling of planes along rows and columns, so that full size is only ever made in tiles."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

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
    source : int
        Pixels of the source; beyond its ends the last one is repeated.
    first : ndarray, shape (target,), int64
        First source pixel, which may lie before the source.
    weights : ndarray, shape (target, K), float32
        Of that pixel and those after it.
    """

    source: int
    first: NDArray[np.int64]
    weights: NDArray[np.float32]

    def matrix(self, targets: slice) -> tuple[slice, NDArray[np.float32]]:
        """Source pixels that some targets come from, and their weights, (targets, pixels).

        A product with it is several times as fast as sums over the taps.
        """
        first, weights = self.first[targets], self.weights[targets]
        pixels = (first[:, None] + np.arange(weights.shape[1])).clip(0, self.source - 1)
        low, high = int(pixels.min()), int(pixels.max()) + 1
        dense = np.zeros((len(first), high - low), np.float32)
        np.add.at(dense, (np.arange(len(first))[:, None], pixels - low), weights)
        return slice(low, high), dense


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
    return Taps(source, first, weights.astype(np.float32))


# Products are OpenCV's, not numpy's: OpenBLAS would keep threads of its own spinning beside ours,
# which cost more than the product.
_TALL = 64  # rows of a tile from which on a product is faster (128 rows 3.0 to 0.4 ms; 32 not)
_AT_ONCE = 1024  # targets of a product: far ones have few source pixels in common


def resample_columns(planes: NDArray[np.float32], by: Taps) -> NDArray[np.float32]:
    """(..., H, source) to (..., H, target)."""
    out = np.empty((*planes.shape[:-1], len(by.first)), np.float32)
    for start in range(0, len(by.first), _AT_ONCE):
        targets = slice(start, min(start + _AT_ONCE, len(by.first)))
        pixels, weights = by.matrix(targets)
        part: Any = planes[..., pixels].reshape(-1, pixels.stop - pixels.start)
        made: Any = cv2.gemm(part, weights, 1.0, None, 0.0, flags=cv2.GEMM_2_T)
        out[..., targets] = made.reshape(*planes.shape[:-1], -1)
    return out


class RowResampler:
    """Planes of which any rows can be had at another height.

    Parameters
    ----------
    planes : ndarray, shape (C, source, W), float32
    by : Taps
    """

    def __init__(self, planes: NDArray[np.float32], by: Taps) -> None:
        self._planes, self._by = planes, by

    def rows(self, rows: slice) -> NDArray[np.float32]:
        """(C, rows, W), new."""
        if rows.stop - rows.start >= _TALL:
            pixels, dense = self._by.matrix(rows)
            parts: Any = [cv2.gemm(dense, plane[pixels], 1.0, None, 0.0) for plane in self._planes]
            return np.stack(parts)
        first, weights = self._by.first[rows], self._by.weights[rows, :, None]
        planes, last = self._planes, self._by.source - 1
        out = np.empty((planes.shape[0], len(first), planes.shape[2]), np.float32)
        # When it grows, neighbours come from the same source rows and are made together.
        edges = [0, *(np.flatnonzero(np.diff(first)) + 1).tolist(), len(first)]
        for start, stop in pairwise(edges):
            at, group = int(first[start]), weights[start:stop]
            target = out[:, start:stop]
            np.multiply(planes[:, None, min(max(at, 0), last)], group[:, 0], out=target)
            for k in range(1, group.shape[1]):
                target += planes[:, None, min(max(at + k, 0), last)] * group[:, k]
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
