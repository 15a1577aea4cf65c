"""The weights that come with the project."""

from __future__ import annotations

from pathlib import Path

from runtime.models.manifest import DEFAULT_MODEL, find_model

WEIGHTS = Path(__file__).parent


def bundled_weights(name: str = DEFAULT_MODEL) -> Path:
    """Path of bundled safetensors, after checking their sha256.

    Raises
    ------
    ModelError
        If there are none of that name, or they are damaged.
    """
    return find_model(name, WEIGHTS)
