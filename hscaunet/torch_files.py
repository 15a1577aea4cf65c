"""What ``torch.save`` wrote, read so that a foreign file runs no code."""

from __future__ import annotations

import pickle
from pathlib import Path
from typing import Any

import torch

from runtime.errors import ModelError, first_line


def read_torch(path: Path) -> Any:
    """What `torch.save` wrote; a foreign file runs no code."""
    try:
        # weights_only: a foreign pickle must not run code.
        return torch.load(path, map_location="cpu", weights_only=True)
    except FileNotFoundError:
        raise ModelError(f"There is no checkpoint {path}.") from None
    except pickle.UnpicklingError as error:
        raise ModelError(
            f"{path} is no checkpoint, is damaged, or holds more than weights and is not loaded "
            f"because that could run code: {first_line(error)}"
        ) from None
    except Exception as error:  # damaged files fail in many ways, struct.error among them
        raise ModelError(f"{path} is no checkpoint, or is cut short: {first_line(error)}") from None
