"""Which device PyTorch runs on."""

from __future__ import annotations

import torch

from runtime.errors import BackendError


def pick_device(name: str) -> torch.device:
    """The device of that name; "auto" is CUDA where there is one, else the CPU.

    Raises
    ------
    BackendError
        If there is no such device on this machine.
    """
    if name == "auto":
        name = "cuda" if torch.cuda.is_available() else "cpu"
    try:
        device = torch.device(name)
    except RuntimeError:
        raise BackendError(f"There is no device {name!r}; use cpu, cuda or auto.") from None
    if device.type == "cuda" and (device.index or 0) >= torch.cuda.device_count():
        raise BackendError(f"This PyTorch finds no CUDA device {name!r}; use --device cpu.")
    if device.type not in ("cpu", "cuda"):
        raise BackendError(f"The device {name!r} is not one of cpu, cuda and auto.")
    return device
