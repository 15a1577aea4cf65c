"""What exported files are measured on, and what they may differ by."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from runtime.errors import ColorizationError
from runtime.layout import PIPELINE, input_dimensions, network_size, pack_input

if TYPE_CHECKING:
    from runtime.hints import Hints

TOLERANCE = {"fp32": 1e-4, "fp16": 5e-3}
"""Largest absolute difference allowed on ab (0..1 scale) between the file and PyTorch."""


class ExportError(ColorizationError):
    """The exported file is not the network: it differs by more than the tolerance."""


@dataclass(frozen=True)
class Check:
    """Difference between an exported file and the PyTorch network on one input.

    Attributes
    ----------
    name : str
    shape : tuple of int
        Of the input, (N, 4, H, W).
    largest, mean : float
        Absolute difference on ab, 0..1 scale.
    """

    name: str
    shape: tuple[int, ...]
    largest: float
    mean: float


def check_inputs(size: tuple[int, int] = (256, 256)) -> dict[str, NDArray[np.float32]]:
    """Inputs that an exported file is measured on, each (N, 4, H, W)."""
    from runtime.color import lab_from_rgb
    from runtime.images import read_image

    rng = np.random.default_rng(0)
    sample = read_image(Path(__file__).with_name("sample.jpg"))
    lab = lab_from_rgb(sample)
    L, ab = lab[..., 0], lab[..., 1:]
    nothing, everything = np.zeros(L.shape, bool), np.ones(L.shape, bool)
    sparse, one = rng.random(L.shape) < 0.005, np.zeros(L.shape, bool)
    one[100, 100] = True
    corner = pack_input(L[:128, :192], ab[:128, :192], sparse[:128, :192])
    odd = pack_input(L[:144, :80], ab[:144, :80], sparse[:144, :80])
    return {
        "photo, 0.5 % hints": pack_input(L, ab, sparse),
        "photo, no hints": pack_input(L, ab, nothing),
        "photo, one hint": pack_input(L, ab, one),
        "photo, full hints": pack_input(L, ab, everything),
        "black": pack_input(np.zeros_like(L), ab, sparse),
        "white": pack_input(np.full_like(L, 100), ab, sparse),
        "batch of 3, 192x128": np.concatenate([corner, corner[..., ::-1], corner[:, :, ::-1]]),
        "80x144": odd,
    }


def cases() -> dict[str, tuple[NDArray[np.uint8], Hints]]:
    """Photos of several sizes with hints, to measure a pipeline on."""
    import cv2

    from runtime.hints import Hint, Hints
    from runtime.images import read_image

    sample = read_image(Path(__file__).with_name("sample.jpg"))
    colors = ("#c04020", "#3060c0", "#40a040", "#e0c080")

    def case(height: int, width: int, count: int, size: int) -> tuple[NDArray[np.uint8], Hints]:
        photo = np.asarray(
            cv2.resize(sample, (width, height), interpolation=cv2.INTER_AREA), np.uint8
        )
        rng = np.random.default_rng(count)
        hints = [
            Hint(int(rng.integers(width)), int(rng.integers(height)), colors[i % 4], size)
            for i in range(count)
        ]
        return photo, Hints(hints)

    return {
        "as the network's": case(256, 256, 300, 1),
        "larger": case(500, 700, 20, 9),
        "wide": case(300, 900, 5, 31),
        "painted all over": case(256, 256, 60, 101),
        "no hint": case(640, 480, 0, 1),
        "smaller": case(120, 90, 3, 5),
    }


def draw(photo: NDArray[Any], hints: Hints, size: int = 256) -> dict[str, NDArray[np.uint8]]:
    """Inputs of a pipeline for one photo: what an application does before it runs the graph.

    Parameters
    ----------
    photo : ndarray, shape (H, W, 3), uint8
    hints : Hints
    size : int
        See `runtime.Colorizer`.
    """
    height, width = photo.shape[:2]
    high, wide = network_size(height, width, size)
    colors, mask = hints.draw((width, height), (wide, high))
    return {"photo": photo[None], "hint": colors[None], "mask": mask[None].astype(np.uint8)}


def feeds_of(layout: str) -> list[dict[str, NDArray[np.generic]]]:
    """What a network or a pipeline is measured on, as ONNX Runtime takes it.

    Parameters
    ----------
    layout : str
        `runtime.layout.CONTRACT` or `PIPELINE`.
    """
    if layout == PIPELINE:
        return [dict(draw(photo, hints)) for photo, hints in cases().values()]
    (name,) = input_dimensions(layout)
    return [{name: np.ascontiguousarray(x)} for x in check_inputs().values()]
