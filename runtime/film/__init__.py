"""Film: hints on some frames travel to the others, and colours do not flicker. Needs PyAV."""

from typing import Any

_HOMES = {"Film": "film", "FilmHints": "hints", "FilmReport": "work", "LostHint": "work"}

__all__ = ["Film", "FilmHints", "FilmReport", "LostHint"]


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from importlib import import_module

    return getattr(import_module(f".{_HOMES[name]}", __name__), name)
