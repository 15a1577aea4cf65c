"""What can be measured: networks in PyTorch, model files through the runtime, baselines."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Protocol

import torch
from torch import Tensor, nn


class Method(Protocol):
    """Something that colorizes: a model or a baseline."""

    name: str

    def predict(self, x: Tensor) -> Tensor:
        """(N, 4, H, W) to (N, 2, H, W) in the layout of `runtime.layout`."""
        ...


class TorchMethod:
    """A PyTorch network on the device that it is on."""

    def __init__(self, name: str, model: nn.Module) -> None:
        self.name, self.model = name, model
        self.device = next(model.parameters()).device

    def predict(self, x: Tensor) -> Tensor:
        """See `Method`."""
        with torch.inference_mode():
            found: Tensor = self.model(x.to(self.device)).float().cpu()
        return found


class RuntimeMethod:
    """A model file run by `runtime.Colorizer`."""

    def __init__(self, path: str, device: str = "auto", backend: str = "auto") -> None:
        from runtime import Colorizer

        self.colorizer = Colorizer(path, device=device, backend=backend)
        self.name = f"{Path(path).stem} ({self.colorizer.backend} {self.colorizer.precision})"

    def predict(self, x: Tensor) -> Tensor:
        """See `Method`."""
        return torch.from_numpy(self.colorizer.predict(x.numpy()))


def open_model(path: str, device: str = "auto", backend: str = "auto") -> tuple[Method, Any]:
    """Open a checkpoint or an ONNX file; also returns the network, if there is one in PyTorch."""
    from ..checkpoints import load_checkpoint
    from ..devices import pick_device

    if Path(path).suffix == ".onnx" or not Path(path).suffix:
        return RuntimeMethod(path, device, backend), None
    place = pick_device(device)
    loaded = load_checkpoint(path)
    # Every run's newest checkpoint is called last.pt: its folder tells them apart.
    name = loaded.metadata.get("name", Path(path).stem)
    if Path(path).suffix != ".safetensors":
        name = "/".join(Path(path).absolute().with_suffix("").parts[-2:])
    return TorchMethod(f"{name} (PyTorch)", loaded.model.to(place)), loaded.model
