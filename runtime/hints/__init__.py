"""Hints: points, strokes and regions (`shapes`), many (`collection`), as files (`files`)."""

from .collection import MAX_PIXEL_HINTS, Hints, cell_span
from .forms import AnyHint, parse_hint
from .shapes import Hint, Keep, Region, Shape, Stroke

__all__ = [
    "MAX_PIXEL_HINTS",
    "AnyHint",
    "Hint",
    "Hints",
    "Keep",
    "Region",
    "Shape",
    "Stroke",
    "cell_span",
    "parse_hint",
]
