"""A few figures of the weights that a training run has so far."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from ..model import build_network
from .method import TorchMethod
from .photos import evaluate
from .protocols import Protocol

PROTOCOLS = (Protocol("published"), Protocol("zhang", 10), Protocol("zhang", 0))


def validate(
    config: Mapping[str, Any],
    weights: Mapping[str, Tensor],
    device: torch.device,
    photos: Sequence[NDArray[np.uint8]],
) -> dict[str, float]:
    """Mean PSNR and SSIM of a network on photos of 256 x 256 pixels, by protocol and figure."""
    model = build_network(config)
    model.load_state_dict(weights)
    model.to(device).to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    method = TorchMethod("ema", model.eval())
    return {
        f"{row['protocol']} {key}": round(row[key], 4)
        for row in evaluate([method], PROTOCOLS, photos)
        for key in ("psnr", "ssim")
    }
