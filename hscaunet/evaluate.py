"""Measure a model: ``python -m hscaunet.evaluate MODEL --data ...`` (in the making)."""

from __future__ import annotations

from typing import Protocol as TypingProtocol

import numpy as np
import torch
from numpy.typing import NDArray

from hscaunet.losses import psnr, ssim
from hscaunet.protocols import Protocol
from hscaunet.sampling import pack_input
from runtime.color import lab_from_rgb, rgb_from_lab
from runtime.layout import denormalize_ab


class Method(TypingProtocol):
    name: str

    def predict(self, x: torch.Tensor) -> torch.Tensor: ...


class TorchMethod:
    def __init__(self, name: str, model: torch.nn.Module) -> None:
        self.name, self.model = name, model
        self.device = next(model.parameters()).device

    @torch.inference_mode()
    def predict(self, x: torch.Tensor) -> torch.Tensor:
        return self.model(x.to(self.device)).float().cpu()


def measure(method: Method, protocol: Protocol, rgb: NDArray[np.uint8], photo: int) -> dict[str, float]:
    lab = torch.from_numpy(np.moveaxis(lab_from_rgb(rgb), -1, 0))[None]
    hint, mask = protocol.reveal(lab[:, 1:], photo)
    ab = denormalize_ab(method.predict(pack_input(lab[:, :1], hint, mask)))
    ours = rgb_from_lab(lab[0, 0].numpy(), np.moveaxis(ab[0].numpy(), 0, -1))
    a = torch.from_numpy(np.moveaxis(ours, -1, 0).astype(np.float32))[None]
    b = torch.from_numpy(np.moveaxis(rgb, -1, 0).astype(np.float32))[None]
    return {"psnr": float(psnr(a, b)), "ssim": float(ssim(a, b, 255.0))}
