"""Model files that come with the project, each with its sha256 in a manifest."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

from ..errors import ModelError

MANIFEST = "manifest.json"
DEFAULT_MODEL = "hscaunet-lite"
MODELS = Path(__file__).parent


def sha256_of(path: Path) -> str:
    """Hex sha256 of a file, read in pieces."""
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def read_manifest(folder: Path) -> dict[str, dict[str, Any]]:
    """Entries of a folder's manifest by model name: ``file``, ``sha256`` and what else it tells.

    Raises
    ------
    ModelError
        If there is none, or it is damaged.
    """
    try:
        entries = json.loads((folder / MANIFEST).read_text("utf-8"))["models"]
        for entry in entries.values():
            if not isinstance(entry["file"], str) or not isinstance(entry["sha256"], str):
                raise ValueError("an entry lacks its file or sha256")
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise ModelError(
            f"The manifest {folder / MANIFEST} is missing or damaged ({error}); "
            "install the package again."
        ) from None
    return entries


def available_models() -> list[str]:
    """Names of the models that come with the project, the default first; see `Colorizer`."""
    return sorted(read_manifest(MODELS), key=lambda name: (name != DEFAULT_MODEL, name))


def find_model(name: str, folder: Path = MODELS) -> Path:
    """Path of a model that comes with the project, after checking its sha256.

    Parameters
    ----------
    name : str
        Such as "hscaunet-lite".
    folder : Path
        Folder with a manifest.

    Raises
    ------
    ModelError
        If there is no model of that name, or its file is missing or differs from the manifest.
    """
    entries = read_manifest(folder)
    if name not in entries:
        raise ModelError(
            f"There is no bundled model {name!r}; give one of {', '.join(sorted(entries))}, "
            "or the path of a model file."
        )
    path = folder / entries[name]["file"]
    if not path.is_file():
        raise ModelError(f"The bundled model {path} is missing; install the package again.")
    if sha256_of(path) != entries[name]["sha256"]:
        raise ModelError(
            f"The bundled model {path} is damaged: its sha256 is not that of the manifest. "
            "Install the package again."
        )
    return path
