"""What a hint can be: a square around a pixel, a brush stroke, or a region."""

from __future__ import annotations

import operator
import re
from collections.abc import Iterable
from dataclasses import dataclass, replace
from functools import lru_cache
from typing import Any
from warnings import warn

import cv2
import numpy as np
from numpy.typing import NDArray

from ..errors import HintError
from ..tiles import row_tiles

MAX_POINTS = 1 << 16
"""Most points of one stroke or polygon."""

_FAR = 1 << 31  # beyond any image

_HEX = re.compile(r"#?[0-9a-fA-F]{6}")
MAX_MASK_PIXELS = 250_000_000
"""Most pixels of all masks of one photo together."""

MAX_AREAS = 500
"""Most areas that end colour: each is drawn at full size. So are their pixels counted together,
as those of masks are."""

_CACHED = 1 << 20  # pixels of a mask whose cells are remembered; a larger one is not kept alive
MAX_SHAPES = 20_000
"""Most strokes and regions of one photo, so that no file keeps a reader busy for minutes."""

Color = tuple[int, int, int]
Cells = tuple[NDArray[Any], ...]
"""Rows and columns of cells, as `numpy.nonzero` gives them."""


def parse_color(color: Any) -> Color:
    """A colour as people write it to a tuple, or `HintError`.

    "#rrggbb", "rrggbb", "#rgb", "#rrggbbff", a name of CSS, or three whole numbers of 0..255, a
    fourth of which must be 255.
    """
    if isinstance(color, str):
        return _parse_text(color.strip())
    try:
        values = tuple(_as_index(v) for v in color)
    except (TypeError, ValueError):
        values = ()
    if len(values) == 4 and values[3] == 255:
        values = values[:3]
    if max(values, default=0) == 1 and any(isinstance(v, float | np.floating) for v in color):
        raise HintError(
            f"A hint's color has numbers of 0 to 255, but {color!r:.60} looks like one of 0 to 1; "
            "multiply by 255."
        )
    if len(values) != 3 or not all(0 <= v <= 255 for v in values):
        raise HintError(
            f"A hint's color must be '#rrggbb' or three whole numbers of 0 to 255, not "
            f"{color!r:.60}."
        )
    return values


def _parse_text(text: str) -> Color:
    if _HEX.fullmatch(text):
        text = text.removeprefix("#")
        return int(text[:2], 16), int(text[2:4], 16), int(text[4:6], 16)
    from PIL import ImageColor

    try:
        found = ImageColor.getrgb(text) if len(text) <= 60 else ()
    except ValueError:
        found = ()
    if len(found) == 4 and found[3] == 255:
        found = found[:3]
    if not all(0 <= v <= 255 for v in found):
        found = ()
    if len(found) != 3:
        see_through = len(found) == 4
        raise HintError(
            f"A hint's color must be opaque, but {text!r:.60} is not."
            if see_through
            else f"A hint's color must look like '#rrggbb' or be a name such as 'red', not "
            f"{text!r:.60}."
        )
    red, green, blue = found
    return red, green, blue


def _as_index(value: Any) -> int:
    """A whole number of any kind, floats too; or TypeError."""
    if isinstance(value, bool | np.bool_):
        raise TypeError
    if isinstance(value, float | np.floating) and float(value).is_integer():
        return int(value)
    return operator.index(value)


def whole(value: Any, what: str) -> int:
    """`value` as an int if it is a whole number of any kind, or `HintError`."""
    try:
        number = _as_index(value)
    except (TypeError, ValueError):
        raise HintError(f"A hint's {what} must be a whole number, not {value!r:.60}.") from None

    # A number of thousands of digits cannot even be quoted.
    return max(-_FAR, min(number, _FAR))


def _place(x: int, y: int) -> None:
    if x < 0 or y < 0:
        raise HintError(f"A hint's place must not be negative, but is ({x}, {y}).")
    if max(x, y) >= _FAR:
        raise HintError(f"A hint's place ({x}, {y}) is outside any image.")


def _extent(value: int, what: str) -> None:
    if not 1 <= value < _FAR:
        raise HintError(f"A hint's {what} must be at least 1 and below {_FAR}, but is {value}.")


class _Colored:
    """What all kinds share."""

    __slots__ = ()
    color: Any

    @property
    def hex(self) -> str:
        """The colour as "#rrggbb"."""
        return "#{:02x}{:02x}{:02x}".format(*self.color)


@dataclass(frozen=True, slots=True)
class Hint(_Colored):
    """One colour at one place of a photo.

    Parameters
    ----------
    x, y : int
        Pixel of the image the hint is used with, from its top left corner.
    color : str or tuple of int
        "#rrggbb", "#rgb", a name of CSS such as "red", or (r, g, b) of 0..255. Only its a and b of
        Lab count, not its lightness. Kept as a tuple.
    size : int
        Side, in image pixels, of the square that it covers, centred on the pixel.

    Raises
    ------
    HintError
        If a value is none of these.
    """

    x: int
    y: int
    color: Color | str
    size: int = 1

    def __post_init__(self) -> None:
        object.__setattr__(self, "x", whole(self.x, "x"))
        object.__setattr__(self, "y", whole(self.y, "y"))
        object.__setattr__(self, "size", whole(self.size, "size"))
        object.__setattr__(self, "color", parse_color(self.color))
        _place(self.x, self.y)
        _extent(self.size, "size")

    def moved(self, x: int, y: int) -> Hint:
        """The same hint at another pixel."""
        return replace(self, x=x, y=y)


def _points(points: Any, least: int, what: str) -> tuple[tuple[int, int], ...]:
    try:
        pairs = [(x, y) for x, y in points]
    except (TypeError, ValueError):
        raise HintError(f"A {what} is a list of (x, y) pairs, not {points!r:.60}.") from None
    if not least <= len(pairs) <= MAX_POINTS:
        raise HintError(f"A {what} has {least} to {MAX_POINTS} points, not {len(pairs)}.")
    numbers = tuple((whole(x, "x"), whole(y, "y")) for x, y in pairs)
    for x, y in numbers:
        _place(x, y)
    return numbers


class Shape(_Colored):
    """A hint that covers more than a square: a `Stroke` or a `Region`."""

    __slots__ = ()

    @property
    def x(self) -> int:
        """Column of the place that stands for the whole: its first point."""
        return self.anchor[0]

    @property
    def y(self) -> int:
        """Row of the place that stands for the whole."""
        return self.anchor[1]

    @property
    def anchor(self) -> tuple[int, int]:
        """(x, y) of a pixel that it covers."""
        raise NotImplementedError

    @property
    def extent(self) -> tuple[int, int]:
        """Largest x and y that it names."""
        raise NotImplementedError

    def cover(self, height: int, width: int, cells_high: int, cells_wide: int) -> Cells:
        """Rows and columns of the cells that it fills, at least one, when an image of
        ``height`` x ``width`` is drawn at ``cells_high`` x ``cells_wide``."""
        raise NotImplementedError

    def moved(self, x: int, y: int) -> Shape:
        """The same shape with its anchor at another pixel."""
        raise NotImplementedError

    def scaled(self, fx: float, fy: float) -> Shape:
        """The same shape in an image resized by these factors."""
        raise NotImplementedError


def _scale(points: Iterable[tuple[int, int]], fx: float, fy: float) -> tuple[tuple[int, int], ...]:
    return tuple((int((x + 0.5) * fx), int((y + 0.5) * fy)) for x, y in points)


def _shift(points: tuple[tuple[int, int], ...], x: int, y: int) -> tuple[tuple[int, int], ...]:
    dx, dy = x - points[0][0], y - points[0][1]
    return tuple((px + dx, py + dy) for px, py in points)


def _own_cell(
    place: tuple[int, int], height: int, width: int, cells_high: int, cells_wide: int
) -> Cells:
    row = int((place[1] + 0.5) * cells_high / height)
    column = int((place[0] + 0.5) * cells_wide / width)
    return np.array([row]), np.array([column])


@dataclass(frozen=True, slots=True, init=False)
class Stroke(Shape):
    """One colour along a line, as a brush leaves it.

    Parameters
    ----------
    points : iterable of (int, int)
        (x, y) pixels that the stroke runs through; one alone is a dot. Kept as a tuple.
    color : str or tuple of int
        As for `Hint`.
    size : int
        Its width in image pixels. However thin, the cells of the network that it fills hang
        together. (`width`, the spelling of before, warns.)

    Raises
    ------
    HintError
        If a value is none of these.
    """

    points: tuple[tuple[int, int], ...]
    color: Color | str
    size: int

    def __init__(
        self,
        points: Iterable[tuple[int, int]],
        color: Color | str,
        size: int = 1,
        *,
        width: int | None = None,
    ) -> None:
        if width is not None:
            warn("A Stroke's width is called size, as a Hint's.", DeprecationWarning, stacklevel=2)
            if size != 1:
                raise HintError("Give a stroke's size or its width, not both.")
            size = width
        object.__setattr__(self, "points", _points(points, 1, "stroke"))
        object.__setattr__(self, "color", parse_color(color))
        object.__setattr__(self, "size", whole(size, "size"))
        _extent(self.size, "size")

    @property
    def width(self) -> int:
        """Its size, as it was called before."""
        warn("A Stroke's width is called size, as a Hint's.", DeprecationWarning, stacklevel=2)
        return self.size

    @property
    def anchor(self) -> tuple[int, int]:
        """Its first point."""
        return self.points[0]

    @property
    def extent(self) -> tuple[int, int]:
        """Largest x and y of its points."""
        return max(x for x, _ in self.points), max(y for _, y in self.points)

    def moved(self, x: int, y: int) -> Stroke:
        """The same stroke beginning at another pixel."""
        return replace(self, points=_shift(self.points, x, y))

    def scaled(self, fx: float, fy: float) -> Stroke:
        """The same stroke in an image resized by these factors."""
        size = max(1, round(self.size * (fx * fy) ** 0.5))
        return replace(self, points=_scale(self.points, fx, fy), size=size)

    def cover(self, height: int, width: int, cells_high: int, cells_wide: int) -> Cells:
        """See `Shape.cover`: the cells that the line runs through, and those whose centre is at
        most half the width away from the centre of one of them."""
        sx, sy = cells_wide / width, cells_high / height
        # OpenCV's coordinates are those of cell centres, here in 1/256 cells.
        path = (np.array(self.points, np.float64) + 0.5) * (sx, sy) - 0.5
        line = np.zeros((cells_high, cells_wide), np.uint8)
        fixed = np.rint(path * 256).astype(np.int32)[:, None]
        cv2.polylines(line, [fixed], False, 1, 1, cv2.LINE_8, shift=8)
        line[_own_cell(self.anchor, height, width, cells_high, cells_wide)] = 1
        radius = self.size * (sx * sy) ** 0.5 / 2
        if radius < 1:
            return np.nonzero(line)
        # Only the rectangle that the stroke can reach.
        reach = int(np.ceil(radius)) + 1
        low = np.floor(path.min(0)).astype(int).clip(reach) - reach
        high = np.ceil(path.max(0)).astype(int) + reach + 1
        part = line[low[1] : high[1], low[0] : high[0]]
        away = cv2.distanceTransform(1 - part, cv2.DIST_L2, cv2.DIST_MASK_PRECISE)
        rows, columns = np.nonzero(away <= radius)
        return rows + low[1], columns + low[0]


@dataclass(frozen=True, slots=True, eq=False)
class Region(Shape):
    """One colour over an area: a polygon, or any mask.

    Parameters
    ----------
    color : str or tuple of int
        As for `Hint`.
    points : iterable of (int, int), optional
        (x, y) pixels that are the corners of a polygon; where it crosses itself, inside is what
        an odd number of its lines surrounds. Kept as a tuple.
    mask : ndarray, shape (h, w), bool or uint8, optional
        True, or 128 and more, where the colour is. Give this or `points`. It is copied.
    origin : (int, int)
        Pixel (x, y) of the image at which the top left corner of `mask` lies.
    only_inside : bool
        Whether the colour ends at the region's border: outside such regions, all is as it would be
        without them.

    Raises
    ------
    HintError
        If a value is none of these, or nothing is inside.
    """

    color: Color | str
    points: tuple[tuple[int, int], ...] | None = None
    mask: NDArray[np.bool_] | None = None
    origin: tuple[int, int] = (0, 0)
    only_inside: bool = False

    def __post_init__(self) -> None:
        object.__setattr__(self, "color", parse_color(self.color))
        if not isinstance(self.only_inside, bool):
            raise HintError(f"only_inside must be True or False, not {self.only_inside!r:.60}.")
        if (self.points is None) == (self.mask is None):
            raise HintError("A region is given by its points or by a mask; give one of the two.")
        if self.points is not None:
            object.__setattr__(self, "points", _points(self.points, 3, "polygon"))
            return
        mask = np.asarray(self.mask)
        if mask.ndim != 2 or mask.dtype not in (np.bool_, np.uint8):
            raise HintError(
                f"A region's mask must be (h, w) bool or uint8, not {mask.shape} {mask.dtype}."
            )
        mask = mask.copy() if mask.dtype == np.bool_ else mask >= 128
        if not mask.any():
            raise HintError("A region's mask has nothing inside; leave the hint out instead.")
        origin = _points([self.origin], 1, "region's origin")[0]
        # Only the rectangle that holds it is kept: a region of a large photo stays small.
        rows, columns = np.flatnonzero(mask.any(1)), np.flatnonzero(mask.any(0))
        mask = np.ascontiguousarray(mask[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1])
        mask.flags.writeable = False
        object.__setattr__(self, "mask", mask)
        object.__setattr__(self, "origin", (origin[0] + int(columns[0]), origin[1] + int(rows[0])))
        _place(*self.extent)

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Region):
            return NotImplemented
        if self is other:
            return True
        mine, its = ((one.color, one.points, one.origin, one.only_inside) for one in (self, other))
        same = mine == its
        if self.mask is None or other.mask is None:
            return same and self.mask is other.mask
        return same and np.array_equal(self.mask, other.mask)

    def __hash__(self) -> int:
        return hash((self.color, self.points, self.origin))

    @property
    def anchor(self) -> tuple[int, int]:
        """Its first corner, or the first pixel of its mask."""
        if self.points is not None:
            return self.points[0]
        assert self.mask is not None
        return self.origin[0] + int(np.argmax(self.mask[0])), self.origin[1]

    @property
    def extent(self) -> tuple[int, int]:
        """Largest x and y of its corners or its mask."""
        if self.points is not None:
            return max(x for x, _ in self.points), max(y for _, y in self.points)
        assert self.mask is not None
        high, wide = self.mask.shape
        return self.origin[0] + wide - 1, self.origin[1] + high - 1

    def moved(self, x: int, y: int) -> Region:
        """The same region with its anchor at another pixel."""
        if self.points is not None:
            return replace(self, points=_shift(self.points, x, y))
        assert self.mask is not None
        place = self.origin[0] + x - self.anchor[0], self.origin[1] + y - self.anchor[1]
        moved = Region._sharing(self.color, self.mask, place, self.only_inside)
        _place(*moved.origin)
        _place(*moved.extent)
        return moved

    @classmethod
    def _sharing(
        cls,
        color: Color | str,
        mask: NDArray[np.bool_],
        origin: tuple[int, int],
        only_inside: bool,
    ) -> Region:
        """A region of a mask that is trimmed and read-only already: not copied."""
        self = cls.__new__(cls)
        values = {"color": color, "points": None, "mask": mask, "origin": origin}
        for name, value in {**values, "only_inside": only_inside}.items():
            object.__setattr__(self, name, value)
        return self

    def drawn(self) -> tuple[int, int, NDArray[np.uint8]]:
        """Left and top of the rectangle that holds it, and how much of each pixel lies inside."""
        if self.points is None:
            assert self.mask is not None
            return *self.origin, self.mask.astype(np.uint8) * np.uint8(255)
        corners = np.array(self.points, np.int64)
        low = np.maximum(corners.min(0) - 1, 0)  # a soft border around it
        wide, high = (corners.max(0) + 2 - low).tolist()
        inside = np.zeros((high, wide), np.uint8)
        fixed = [(corners - low).astype(np.int32)[:, None]]
        cv2.fillPoly(inside, fixed, 255, cv2.LINE_AA)
        cv2.fillPoly(inside, fixed, 255, cv2.LINE_8)  # its own pixels whole, on every side
        return int(low[0]), int(low[1]), inside

    def scaled(self, fx: float, fy: float) -> Region:
        """The same region in an image resized by these factors."""
        if self.points is not None:
            return replace(self, points=_scale(self.points, fx, fy))
        assert self.mask is not None
        high, wide = self.mask.shape
        x, y = (int(v * f) for v, f in zip(self.origin, (fx, fy), strict=True))
        size = max(1, round(wide * fx)), max(1, round(high * fy))
        share = cv2.resize(self.mask.astype(np.float32), size, interpolation=cv2.INTER_AREA)
        share = share.reshape(size[1], size[0])
        return replace(self, mask=share >= min(0.5, float(share.max())), origin=(x, y))

    def cover(self, height: int, width: int, cells_high: int, cells_wide: int) -> Cells:
        """See `Shape.cover`: cells whose centre lies inside a polygon, or at least half of which
        lies in a mask."""
        sx, sy = cells_wide / width, cells_high / height
        if self.points is not None:
            covered = _inside(np.array(self.points, np.float64), sx, sy, cells_high, cells_wide)
        else:
            covered = self._mask_cells(sx, sy, cells_high, cells_wide)
        if not covered.any():
            return _own_cell(self.anchor, height, width, cells_high, cells_wide)
        return np.nonzero(covered)

    def _mask_cells(self, sx: float, sy: float, cells_high: int, cells_wide: int) -> Any:
        assert self.mask is not None
        high, wide = self.mask.shape
        # The share of each cell that the mask covers: two products, one along each axis.
        y0, rows = _overlaps(self.origin[1], high, sy, cells_high)
        x0, columns = _overlaps(self.origin[0], wide, sx, cells_wide)
        share = np.zeros((len(rows), len(columns)), np.float32)
        for tile in row_tiles((high, wide)):
            share += rows[:, tile] @ (self.mask[tile].astype(np.float32) @ columns.T)
        covered = np.zeros((cells_high, cells_wide), np.bool_)
        part = share >= 0.5 - 1e-6
        # What is thin covers half of no cell: where nothing near is filled, every cell touched is.
        near = cv2.dilate(part.astype(np.uint8), np.ones((3, 3), np.uint8)).astype(np.bool_)
        part |= (share > 1e-6) & ~near
        covered[y0 : y0 + part.shape[0], x0 : x0 + part.shape[1]] = part
        return covered


@dataclass(frozen=True, slots=True, init=False)
class Keep(Shape):
    """An area that is left as it is, or grey, whatever hints lie around it.

    Parameters
    ----------
    points : iterable of (int, int), optional
        Corners of a polygon, as for `Region`.
    mask, origin
        As for `Region`, in place of `points`.
    grey : bool
        Whether it becomes grey; else it keeps the photo's own pixels, which differs where the
        photo has colours.

    Raises
    ------
    HintError
        If a value is none of these, or nothing is inside.
    """

    area: Region
    grey: bool

    def __init__(
        self,
        points: Iterable[tuple[int, int]] | None = None,
        *,
        mask: NDArray[Any] | None = None,
        origin: tuple[int, int] = (0, 0),
        grey: bool = False,
    ) -> None:
        if not isinstance(grey, bool):
            raise HintError(f"A Keep's grey must be True or False, not {grey!r:.60}.")
        self._set(Region((128, 128, 128), points, mask, origin), grey)  # type: ignore[arg-type]

    def _set(self, area: Region, grey: bool) -> None:
        object.__setattr__(self, "area", area)
        object.__setattr__(self, "grey", grey)

    def _with(self, area: Region) -> Keep:
        made = Keep.__new__(Keep)
        made._set(area, self.grey)
        return made

    @property
    def color(self) -> Color:  # type: ignore[override]
        """Grey: it is no hint of a colour."""
        return (128, 128, 128)

    @property
    def points(self) -> tuple[tuple[int, int], ...] | None:
        """Corners of the polygon, or None."""
        return self.area.points

    @property
    def mask(self) -> NDArray[np.bool_] | None:
        """The mask, or None."""
        return self.area.mask

    @property
    def origin(self) -> tuple[int, int]:
        """Where the mask's top left corner lies."""
        return self.area.origin

    @property
    def anchor(self) -> tuple[int, int]:
        """See `Region.anchor`."""
        return self.area.anchor

    @property
    def extent(self) -> tuple[int, int]:
        """See `Region.extent`."""
        return self.area.extent

    def moved(self, x: int, y: int) -> Keep:
        """The same area with its anchor at another pixel."""
        return self._with(self.area.moved(x, y))

    def scaled(self, fx: float, fy: float) -> Keep:
        """The same area in an image resized by these factors."""
        return self._with(self.area.scaled(fx, fy))

    def cover(self, height: int, width: int, cells_high: int, cells_wide: int) -> Cells:
        """None: the network is told nothing of it."""
        return np.empty(0, np.int64), np.empty(0, np.int64)

    def drawn(self) -> tuple[int, int, NDArray[np.uint8]]:
        """See `Region.drawn`."""
        return self.area.drawn()


def cells_of(shape: Shape, height: int, width: int, cells_high: int, cells_wide: int) -> Cells:
    """`Shape.cover`, remembered: in a session most shapes stay while one is edited."""
    mask = getattr(shape, "mask", None)
    if mask is not None and mask.size > _CACHED:
        return shape.cover(height, width, cells_high, cells_wide)
    return _cells_of(shape, height, width, cells_high, cells_wide)


@lru_cache(maxsize=64)
def _cells_of(shape: Shape, height: int, width: int, cells_high: int, cells_wide: int) -> Cells:
    return shape.cover(height, width, cells_high, cells_wide)


def _overlaps(start: int, count: int, scale: float, cells: int) -> tuple[int, NDArray[np.float32]]:
    """First cell, and the share of each cell from it on that pixels start ... make up."""
    first = int(start * scale)
    last = min(cells, int(np.ceil((start + count) * scale)))
    cell = np.arange(first, max(last, first + 1))[:, None]
    pixel = start + np.arange(count)
    low = np.maximum(pixel * scale, cell)
    high = np.minimum((pixel + 1) * scale, cell + 1)
    return first, np.maximum(high - low, 0).astype(np.float32)


def _inside(
    corners: NDArray[np.float64], sx: float, sy: float, cells_high: int, cells_wide: int
) -> NDArray[np.bool_]:
    """Cells whose centre lies inside a polygon, by the even-odd rule."""
    x, y = ((corners + 0.5) * (sx, sy)).T
    x_next, y_next = np.roll(x, -1), np.roll(y, -1)
    covered = np.zeros((cells_high, cells_wide), np.bool_)
    centers = np.arange(cells_wide) + 0.5
    top, bottom = max(0, int(y.min() - 0.5)), min(cells_high, int(np.ceil(y.max() + 0.5)))
    for row in range(top, bottom):
        center = row + 0.5
        crosses = (y <= center) != (y_next <= center)
        if crosses.any():
            t = (center - y[crosses]) / (y_next - y)[crosses]
            at = np.sort(x[crosses] + t * (x_next - x)[crosses])
            covered[row] = np.searchsorted(at, centers, side="right") % 2 == 1
    return covered
