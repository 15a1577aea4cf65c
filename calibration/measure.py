"""Colour loss of a quantized network: the same photos and hints through it and through fp32."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from hscaunet.data.photos import center_square, load_photos
from hscaunet.evaluation.metrics import color_difference, compare, join, present
from hscaunet.evaluation.protocols import Protocol

if TYPE_CHECKING:
    import onnx
    from torch import Tensor

PROTOCOLS = (
    Protocol("zhang", 0),
    Protocol("zhang", 10),
    Protocol("zhang", 100),
    Protocol("published"),
)

Run = Callable[[NDArray[np.float32]], NDArray[np.float32]]


@dataclass(frozen=True)
class Case:
    """A photo with hints.

    Attributes
    ----------
    protocol : str
    L : Tensor, shape (1, 1, S, S)
    x : Tensor, shape (1, 4, S, S)
        The network's input.
    truth : ndarray, shape (S, S, 3), uint8
    """

    protocol: str
    L: Tensor
    x: Tensor
    truth: NDArray[np.uint8]


def load_squares(data: Sequence[str], photos: int) -> list[NDArray[np.uint8]]:
    """The middle squares of the first `photos` photos."""
    found = load_photos(data, short_side=256, skip_grey=False, limit=photos, progress="Reading")
    return [center_square(rgb, 256) for _, rgb in found]


def _case(protocol: Protocol, rgb: NDArray[np.uint8], photo: int, seed: int) -> Case:
    L, x = present(protocol, rgb, photo, seed)
    return Case(protocol.label, L, x, rgb)


def cases(
    squares: Sequence[NDArray[np.uint8]], seed: int = 0, protocols: Sequence[Protocol] = PROTOCOLS
) -> Iterator[Case]:
    """Every photo under every protocol."""
    for protocol in protocols:
        for i, rgb in enumerate(squares):
            yield _case(protocol, rgb, i, seed)


def some_cases(squares: Sequence[NDArray[np.uint8]], seed: int = 0) -> list[Case]:
    """Every photo once, the protocols in turn: what a search can afford."""
    return [_case(PROTOCOLS[i % len(PROTOCOLS)], rgb, i, seed) for i, rgb in enumerate(squares)]


def onnxruntime_run(proto: onnx.ModelProto) -> Run:
    """A graph in ONNX Runtime on the CPU."""
    import onnxruntime as ort

    options = ort.SessionOptions()
    options.log_severity_level = 3
    session = ort.InferenceSession(
        proto.SerializeToString(), options, providers=["CPUExecutionProvider"]
    )
    name = session.get_inputs()[0].name
    return lambda x: session.run(None, {name: x})[0]


def picture(run: Run, case: Case) -> NDArray[np.uint8]:
    """The 8-bit picture that a network makes of a case."""
    import torch

    return join(case.L, torch.from_numpy(run(np.ascontiguousarray(case.x.numpy()))))


def squared_error(one: NDArray[np.uint8], two: NDArray[np.uint8]) -> float:
    """Mean squared difference of 8-bit values."""
    return float(np.square(one.astype(np.float64) - two).mean())


def quality(made: NDArray[np.uint8], truth: NDArray[np.uint8]) -> dict[str, float]:
    """PSNR (dB) and mean CIEDE2000 of a picture against the truth."""
    return {"psnr": compare(made, truth)["psnr"], "ciede2000": color_difference(made, truth)}


def mean(values: Sequence[float]) -> float:
    """The mean, NaN of nothing."""
    return sum(values) / len(values) if values else math.nan


def changes(entries: Sequence[dict[str, Any]], base: Sequence[dict[str, Any]]) -> dict[str, float]:
    """Mean change of each figure from `base` to `entries`."""
    return {k: mean([e[k] - b[k] for e, b in zip(entries, base, strict=True)]) for k in base[0]}
