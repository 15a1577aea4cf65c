"""HSCAU-Net in PyTorch: network, losses, data, training, evaluation, checkpoints."""

from __future__ import annotations

from typing import Any

__all__ = ["HSCAUNet", "PublishedNet", "build_network", "load_checkpoint", "read_published"]

_HOMES = {
    "HSCAUNet": "hscaunet.model",
    "PublishedNet": "hscaunet.model",
    "build_network": "hscaunet.model",
    "load_checkpoint": "hscaunet.checkpoints",
    "read_published": "hscaunet.checkpoints",
}


def __getattr__(name: str) -> Any:
    # Lazy, so that the command lines answer --help without importing torch.
    if name in _HOMES:
        from importlib import import_module

        return getattr(import_module(_HOMES[name]), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
