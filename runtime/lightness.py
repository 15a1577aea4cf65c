"""`Lightness`: how the lightness of a scan is made, where the usual way would keep its stains."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from .color import bytes_of
from .errors import ArgumentError
from .tiles import for_each, row_tiles

CHANNELS = ("luminance", "red", "green", "blue", "cleanest")
_SMALL = 256  # pixels of the longer side at which a photo is judged


@dataclass(frozen=True)
class Lightness:
    """How a photo becomes grey before it is colorized.

    Parameters
    ----------
    channel : {"luminance", "red", "green", "blue", "cleanest"}
        "luminance" is CIE Y, as without this; with levels or `even`, the luma of ITU-R BT.601.
        Stains of old prints are yellow or brown: they show most in blue and least in red.
        "cleanest" takes the channel whose broad, soft changes are least beside its fine detail.
    levels : (float, float) or "auto"
        What becomes black and white, 0..1 of the encoded values; "auto" takes the values that half
        a percent of the photo are below and above.
    even : bool
        Even out the paper's tint: divide by its brightness around each place.

    Raises
    ------
    ArgumentError
        If a value is none of these.
    """

    channel: str = "luminance"
    levels: tuple[float, float] | str = (0.0, 1.0)
    even: bool = False

    def __post_init__(self) -> None:
        if self.channel not in CHANNELS:
            raise ArgumentError(
                f"channel must be one of {', '.join(CHANNELS)}, not {self.channel!r:.60}."
            )
        if not isinstance(self.even, bool):
            raise ArgumentError(f"even must be True or False, not {self.even!r:.60}.")
        if self.levels == "auto":
            return
        try:
            black, white = (float(v) for v in self.levels)
        except (TypeError, ValueError):
            black, white = 1.0, 0.0
        if not 0 <= black < white <= 1:
            raise ArgumentError(
                "levels must be 'auto' or two numbers of 0 to 1 that rise, not "
                f"{self.levels!r:.60}."
            )
        object.__setattr__(self, "levels", (black, white))

    def apply(self, pixels: NDArray[Any]) -> NDArray[Any]:
        """A photo's pixels made grey.

        Parameters
        ----------
        pixels : ndarray, shape (H, W) or (H, W, C) with C of 1 to 4; uint8, uint16 or float32
            See `runtime.Colorizer.colorize`.

        Returns
        -------
        ndarray, shape (H, W), or (H, W, 2) where there is alpha
            Of the same dtype. The very same array if there is nothing to do.
        """
        if pixels.dtype not in (np.uint8, np.uint16, np.float32) or pixels.ndim not in (2, 3):
            return pixels  # no photo; `Picture` says why
        if 0 in pixels.shape or (pixels.ndim == 3 and pixels.shape[2] > 4):
            return pixels
        colored = pixels.ndim == 3 and pixels.shape[2] >= 3
        plain = Lightness("luminance" if colored else self.channel)  # grey has one channel
        if self == plain:
            return pixels
        small = _shrunk(pixels)
        weights = self._weights(small) if colored else np.ones(1, np.float32)
        grey = np.clip(small @ weights, 0, 1)
        paper = _paper(grey) if self.even else None
        if paper is not None:
            grey = grey / cv2.resize(paper, grey.shape[::-1], interpolation=cv2.INTER_LINEAR)
        levels = np.quantile(grey, (0.005, 0.995)) if self.levels == "auto" else self.levels
        black, white = (float(v) for v in levels)
        return _made(pixels, weights, paper, black, max(white, black + 1e-3))

    def _weights(self, small: NDArray[np.float32]) -> NDArray[np.float32]:
        """Of the channels, whose encoded values are summed."""
        if self.channel == "luminance":
            return np.array([0.299, 0.587, 0.114], np.float32)
        names = ("red", "green", "blue")
        best = int(np.argmin(_stains(small))) if self.channel == "cleanest" else 0
        best = names.index(self.channel) if self.channel in names else best
        return np.eye(3, dtype=np.float32)[best]


def parse_levels(text: str) -> Any:
    """Levels as people write them, "auto" or "0.1,0.9"; `Lightness` checks them."""
    return text if text == "auto" else text.split(",")


def _shrunk(pixels: NDArray[Any]) -> NDArray[np.float32]:
    """The photo's light, small: (h, w, 3) or (h, w, 1) of 0..1."""
    light = pixels[..., None] if pixels.ndim == 2 else pixels
    light = light[..., :3] if light.shape[2] >= 3 else light[..., :1]
    high, wide = light.shape[:2]
    scale = min(1.0, _SMALL / max(high, wide))
    size = max(1, round(wide * scale)), max(1, round(high * scale))
    if light.dtype == np.float32:
        light = np.clip(np.nan_to_num(light), 0, 1)
    small = cv2.resize(np.ascontiguousarray(light), size, interpolation=cv2.INTER_AREA)
    small = small.reshape(size[1], size[0], -1)
    return bytes_of(small).astype(np.float32) / np.float32(255)


def _stains(small: NDArray[np.float32]) -> NDArray[np.float64]:
    """Of each channel, how much changes broadly, beside its fine detail."""
    broad = max(2.0, max(small.shape[:2]) / 20)
    low = cv2.GaussianBlur(small, (0, 0), broad)
    fine = small - cv2.GaussianBlur(small, (0, 0), 1.5)
    return low.std((0, 1)) / (fine.std((0, 1)) + 1e-3)


def _paper(grey: NDArray[np.float32]) -> NDArray[np.float32]:
    """Brightness of the paper around each place, 1 in the middle of what it is."""
    reach = max(3, round(max(grey.shape) / 6)) | 1
    bright = cv2.dilate(grey, np.ones((reach, reach), np.uint8))
    bright = cv2.GaussianBlur(bright, (0, 0), reach / 2)
    return np.clip(bright / max(float(np.median(bright)), 1e-3), 0.25, 4).astype(np.float32)


def _made(
    pixels: NDArray[Any],
    weights: NDArray[np.float32],
    paper: NDArray[np.float32] | None,
    black: float,
    white: float,
) -> NDArray[Any]:
    """The grey photo, in tiles of rows."""
    high, wide = pixels.shape[:2]
    light = pixels[..., None] if pixels.ndim == 2 else pixels
    alpha = light[..., -1] if light.shape[2] in (2, 4) else None
    top = 1.0 if pixels.dtype == np.float32 else float(np.iinfo(pixels.dtype).max)
    out = np.empty((high, wide) if alpha is None else (high, wide, 2), pixels.dtype)
    flat = None
    if paper is not None:
        flat = cv2.resize(paper, (wide, high), interpolation=cv2.INTER_LINEAR)

    def work(rows: slice) -> None:
        grey = light[rows, :, : len(weights)].astype(np.float32) @ (weights / np.float32(top))
        if flat is not None:
            grey = grey / flat[rows]
        grey = np.clip((grey - np.float32(black)) / np.float32(white - black), 0, 1)
        made = grey if pixels.dtype == np.float32 else np.rint(grey * top).astype(pixels.dtype)
        if alpha is None:
            out[rows] = made
        else:
            out[rows, :, 0], out[rows, :, 1] = made, alpha[rows]

    for_each(work, row_tiles((high, wide)), None)
    return out
