"""Colorize photos from colour hints: the light runtime, without PyTorch.

>>> from runtime import Colorizer, Hint
>>> rgb = Colorizer().colorize(grey, [Hint(120, 80, "#c04030")])  # doctest: +SKIP
"""

from __future__ import annotations

from typing import Any

__version__ = "0.1.0"

_HOMES = {
    "Colorizer": ".colorizer",
    "Session": ".session",
    "Hint": ".hints",
    "Stroke": ".hints",
    "Region": ".hints",
    "Hints": ".hints",
    "Keep": ".hints",
    "Lightness": ".lightness",
    "Look": ".look",
    "HintReport": ".hint_report",
    **dict.fromkeys(("Film", "FilmHints", "FilmReport", "LostHint"), ".film"),
    "Metadata": ".images",
    "Photo": ".images",
    "available_models": ".models.manifest",
    "decode_photo": ".images",
    "encode_image": ".images",
    "read_image": ".images",
    "read_photo": ".images",
    "write_image": ".images",
    **dict.fromkeys(
        (
            "ArgumentError",
            "ArrayError",
            "BackendError",
            "ColorizationError",
            "CutShortError",
            "HintError",
            "ImageError",
            "MissingDependencyError",
            "ModelError",
        ),
        ".errors",
    ),
}

__all__ = [*sorted(_HOMES), "__version__"]


def __getattr__(name: str) -> Any:
    # Lazy, so that `python -m runtime --help` and tools that only read the version load nothing.
    if name in _HOMES:
        from importlib import import_module

        return getattr(import_module(_HOMES[name], __name__), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return __all__
