"""The network's own layout: normalisation, channel order and sizes. The one definition.

A network takes ``(N, 4, H, W)`` float32 with H and W multiples of 16 and gives ``(N, 2, H, W)``:

====== ====================================================================
input  meaning
====== ====================================================================
0      L / 100, 0..1
1, 2   a and b of the hints, (value + 128) / 255; 128 / 255 without a hint
3      mask, 1 where there is a hint, else 0
====== ====================================================================

The output is ab on the same scale, (value + 128) / 255. (Published HSCAU-Net, 2022: 8-bit Lab
divided by 255, of which this is the unrounded form.)
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from numpy.typing import NDArray

CONTRACT = "hscaunet-layout-1"
"""Name of this layout, written into every exported file and asked for by every engine."""

PIPELINE = "hscaunet-pipeline-1"
"""Name of the layout of whole pipelines: RGB photo, RGB hints, mask in, RGB photo out, all uint8.

Such files (``python -m export.onnx --pipeline``) are for applications without this runtime.
"""

_PHOTO: tuple[int | str, ...] = ("N", "photo_H", "photo_W", 3)
INTERFACES: dict[str, dict[str, tuple[type[np.generic], tuple[int | str, ...]]]] = {
    CONTRACT: {"input": (np.float32, ("N", 4, "H", "W")), "ab": (np.float32, ("N", 2, "H", "W"))},
    PIPELINE: {
        "photo": (np.uint8, _PHOTO),
        "hint": (np.uint8, ("N", "H", "W", 3)),
        "mask": (np.uint8, ("N", "H", "W")),
        "colorized": (np.uint8, _PHOTO),
    },
}
"""What files of each layout take and, last, give: dtype and dimensions, free ones by name."""


def input_dimensions(layout: str) -> dict[str, list[int | str]]:
    """Of each input of a layout, its dimensions: numbers, and names of free ones."""
    *inputs, _ = INTERFACES[layout].items()
    return {name: list(dimensions) for name, (_, dimensions) in inputs}


MULTIPLE = 16
"""Height and width of the network's input are multiples of this: four 2x2 poolings."""

SMALLEST_PHOTO = 32
"""Smallest side of a pipeline's photo: its resizing continues a plane by 24 pixels at its edges."""

NEUTRAL = 128 / 255
"""Normalised a and b of a colourless pixel, and of a place without a hint."""


def normalize_ab(ab: Any) -> Any:
    """Lab units to the network's 0..1; any array type."""
    return (ab + 128) / 255


def denormalize_ab(ab: Any) -> Any:
    """The network's 0..1 to Lab units; any array type."""
    return ab * 255 - 128


def unpack_output(found: Any) -> Any:
    """What the network gives as ab in Lab units; numpy or torch.

    Networks can leave Lab: values are clipped to -128 to 127. What is left outside sRGB after this
    is clipped per channel, where RGB is made of it.
    """
    return denormalize_ab(found).clip(-128, 127)


def network_size(height: int, width: int, target: int = 256) -> tuple[int, int]:
    """Size at which a photo meets the network.

    Both sides are multiples of 16. Of the multiples next to a size of ``target`` x ``target``
    pixels in the photo's aspect, those that keep the aspect best. The long side is at most four
    times `target`; beyond that the aspect is squeezed.
    """
    ratio = math.sqrt(height / width)

    def sides(length: float) -> list[int]:
        below = int(length // MULTIPLE) * MULTIPLE
        longest = 4 * target // MULTIPLE * MULTIPLE
        return [min(max(s, MULTIPLE), longest) for s in (below, below + MULTIPLE)]

    choices = [(h, w) for h in sides(target * ratio) for w in sides(target / ratio)]

    def misfit(size: tuple[int, int]) -> tuple[float, float]:
        aspect = abs(math.log(size[0] / size[1] / (height / width)))
        return round(aspect, 9), abs(math.log(size[0] * size[1] / target**2))

    return min(choices, key=misfit)


def pack_input(
    L: NDArray[np.float32], ab: NDArray[np.float32], mask: NDArray[np.bool_]
) -> NDArray[np.float32]:
    """Lay out one picture for the network.

    Parameters
    ----------
    L : ndarray, shape (H, W)
        0..100.
    ab : ndarray, shape (H, W, 2)
        Lab units; what it holds where `mask` is false does not matter.
    mask : ndarray, shape (H, W), bool

    Returns
    -------
    ndarray, shape (1, 4, H, W), float32
    """
    x = np.empty((1, 4, *L.shape), np.float32)
    x[0, 0] = L / 100
    x[0, 1:3] = NEUTRAL
    x[0, 1:3, mask] = normalize_ab(ab[mask])  # mostly a few cells
    x[0, 3] = mask
    return x
