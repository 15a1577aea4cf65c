"""The forms in which people write hints and sizes."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any
from warnings import warn

import numpy as np

from ..errors import HintError, whole_number
from .shapes import Hint, Keep, Region, Shape, Stroke

AnyHint = Hint | Stroke | Region | Keep


def parse_hint(text: str) -> Hint:
    """Read "X,Y,COLOR" or "X,Y,COLOR,SIZE", as on the command line.

    Raises
    ------
    HintError
        If it is not that.
    """
    parts = [part.strip() for part in text.split(",")]
    try:
        if len(parts) not in (3, 4):
            raise ValueError
        x, y, size = (_number(t) for t in (*parts[:2], parts[3] if len(parts) == 4 else "1"))
    except (ValueError, OverflowError):
        raise HintError(
            f"A hint must look like X,Y,#rrggbb or X,Y,#rrggbb,SIZE, not {text!r}."
        ) from None
    return Hint(x, y, parts[2], size)


def _number(text: str) -> int:
    """A whole number, perhaps written as a float; or ValueError."""
    value = float(text)
    if not value.is_integer():
        raise ValueError
    return int(value)


def as_list(hints: Any) -> list[Any]:
    """A list of hints, or one hint alone, as a list."""
    if isinstance(hints, (Hint, Shape, dict)):
        return [hints]
    if isinstance(hints, str) or not isinstance(hints, Iterable):
        raise HintError(f"Hints are a list of Hint objects, not a {type(hints).__name__}.")
    items = list(hints)
    # (x, y, color) alone: its first is a number, where that of a list of hints is a hint.
    alone = len(items) in (3, 4) and isinstance(items[0], int | float | np.number)
    return [hints] if alone else items


def as_hint(item: Any) -> AnyHint:
    """A hint of any form; or `HintError`."""
    if isinstance(item, (Hint, Shape)):
        return item  # type: ignore[return-value]
    if isinstance(item, dict):
        from .files import hint_of_row

        return hint_of_row(item)
    if isinstance(item, tuple | list | np.ndarray) and len(item) in (3, 4):
        return Hint(*item)
    raise HintError(
        "Hints are made of Hint, Stroke, Region and Keep objects, of (x, y, color) or of dicts, "
        f"not of {type(item).__name__}."
    )


def pair(size: Any, width: Any, call: str) -> tuple[Any, Any]:
    """(width, height) of either spelling of a size."""
    if width is None:
        return size  # type: ignore[no-any-return]
    warn(f"{call}(height, width) is {call}((width, height)) now.", DeprecationWarning, stacklevel=3)
    return width, size


def two_pairs(
    sizes: tuple[Any, ...], before: dict[str, Any]
) -> tuple[tuple[int, int], tuple[int, int]]:
    """Sizes of an image and of the cells to draw it at, of either spelling."""
    if before:
        try:
            names = ("height", "width", "cells_high", "cells_wide")[len(sizes) :]
            sizes = (*sizes, *(before.pop(name) for name in names))
        except KeyError as error:
            raise HintError(f"{error.args[0]} is missing; give two sizes, two pairs.") from None
        if before:
            raise TypeError(f"There is no argument {next(iter(before))!r}.")
    if len(sizes) == 4:
        warn(
            "Sizes are pairs now: (width, height), (cells_wide, cells_high).",
            DeprecationWarning,
            stacklevel=4,
        )
        height, width, high, wide = sizes
        sizes = (width, height), (wide, high)
    if len(sizes) != 2:
        raise HintError("Give two sizes: (width, height) of the image, and of the cells.")
    return size_of(sizes[0]), size_of(sizes[1])


def size_of(image_size: Any) -> tuple[int, int]:
    """(width, height) as whole numbers; or `HintError`."""
    try:
        width, height = image_size
    except (TypeError, ValueError):
        raise HintError(
            f"An image size is (width, height) in pixels, not {image_size!r:.60}."
        ) from None
    limit = (1 << 31) - 1
    return (
        whole_number(width, "An image's width", 1, limit, HintError),
        whole_number(height, "An image's height", 1, limit, HintError),
    )
