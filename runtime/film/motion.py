"""How things move from one frame to the next: dense optical flow that is checked both ways."""

from __future__ import annotations

import cv2
import numpy as np
from numpy.typing import NDArray

# Two ways that end further apart than so many pixels of the network's view disagree.
_AGREES = 1.0
# L that differs by more along a motion is not of the same thing; 0..100.
_SAME_L = 10.0
# Of two frames of one shot at least so much moves as the flow says.
_ONE_SHOT = 0.35


class Motion:
    """Motion between two frames.

    Parameters
    ----------
    before, after : ndarray, shape (h, w), float32
        L of the two frames at the network's size, 0..100.

    Attributes
    ----------
    back : ndarray, shape (h, w, 2), float32
        (dx, dy) from each pixel of `after` to where it was in `before`.
    holds : ndarray, shape (h, w), bool
        Where the flows of both ways agree and L is the same at both ends.
    cut : bool
        Whether the two are of different shots: the flow fails almost everywhere.

    Notes
    -----
    The flow is DIS (Kroeger et al., Fast Optical Flow using Dense Inverse Search, ECCV 2016) as
    OpenCV has it. One frame to the next moves by little, so the check may be strict.
    """

    def __init__(self, before: NDArray[np.float32], after: NDArray[np.float32]) -> None:
        self._grid = _grid(*after.shape)
        one, other = _bytes(before), _bytes(after)
        flow = cv2.DISOpticalFlow.create(cv2.DISOPTICAL_FLOW_PRESET_MEDIUM)
        self.ahead: NDArray[np.float32] = flow.calc(one, other, None)
        self.back: NDArray[np.float32] = flow.calc(other, one, None)
        there = self._grid + self.back
        again = cv2.remap(
            self.ahead, there, None, cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE
        )
        apart = np.linalg.norm(self.back + again, axis=2)
        size = np.array(after.shape[::-1], np.float32) - 1
        inside = ((there >= 0) & (there <= size)).all(axis=2)
        like = np.abs(self.warp(before[None])[0] - after) < _SAME_L
        self.holds: NDArray[np.bool_] = inside & like & (apart < _AGREES)
        self.cut = bool(self.holds.mean() < _ONE_SHOT)

    def warp(self, planes: NDArray[np.float32]) -> NDArray[np.float32]:
        """Planes (n, h, w) of the frame before, as they lie in the frame after."""
        there = self._grid + self.back
        moved = [
            # Cubic: what is warped in every frame would soon be soft by a linear one.
            cv2.remap(plane, there, None, cv2.INTER_CUBIC, borderMode=cv2.BORDER_REPLICATE)
            for plane in planes
        ]
        return np.stack(moved)

    def follow(
        self, points: NDArray[np.float64], *, backwards: bool = False
    ) -> tuple[NDArray[np.float64], NDArray[np.bool_]]:
        """Where points of one frame lie in the other.

        Parameters
        ----------
        points : ndarray, shape (n, 2), float64
            (x, y) in pixels of the network's view.
        backwards : bool
            From `after` to `before`.

        Returns
        -------
        moved : ndarray, shape (n, 2)
        sure : ndarray, shape (n,), bool
            Where the way back ends at its beginning, and inside the frame.
        """
        way, other = (self.back, self.ahead) if backwards else (self.ahead, self.back)
        moved = points + _at(way, points)
        apart = np.linalg.norm(moved + _at(other, moved) - points, axis=1)
        high, wide = way.shape[:2]
        inside = ((moved >= -0.5) & (moved <= (wide - 0.5, high - 0.5))).all(axis=1)
        return moved, inside & (apart < _AGREES)


def _grid(high: int, wide: int) -> NDArray[np.float32]:
    return np.stack(np.meshgrid(np.arange(wide), np.arange(high)), axis=2).astype(np.float32)


def _bytes(L: NDArray[np.float32]) -> NDArray[np.uint8]:
    """L as the flow takes it; with its contrast stretched, for old films have little."""
    low, high = np.percentile(L, (0.5, 99.5))
    span = max(20.0, float(high - low))  # a frame that is all one grey stays so
    return np.clip((L - low) * (255 / span), 0, 255).astype(np.uint8)


def _at(flow: NDArray[np.float32], points: NDArray[np.float64]) -> NDArray[np.float64]:
    """The flow at points between pixels."""
    places = points.astype(np.float32)[:, None]
    found = cv2.remap(flow, places, None, cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)
    return found[:, 0].astype(np.float64)
