"""Which files are films, by their names; needs nothing."""

from __future__ import annotations

import os
from pathlib import Path

ENDINGS = frozenset(
    f".{ending}"
    for ending in (
        "mp4", "m4v", "mov", "mkv", "webm", "avi", "mpg", "mpeg", "ts", "m2ts", "mts", "wmv", "flv",
        "ogv", "mxf", "3gp", "vob",
    )
)  # fmt: skip


def is_film(path: str | os.PathLike[str]) -> bool:
    """Whether a file's name is that of a film."""
    return Path(path).suffix.lower() in ENDINGS
