"""Colour hints: vectors in image pixels, rasterised at the network's size."""

from __future__ import annotations

import os
import weakref
from collections.abc import Iterable, Iterator, Sequence
from typing import Any, Union, overload

import numpy as np
from numpy.typing import NDArray

from ..color import bytes_of, lab_from_rgb
from ..errors import HintError
from ..look import PLAIN, Look
from .forms import AnyHint, as_hint, as_list, pair, size_of, two_pairs
from .masks import painted
from .shapes import MAX_AREAS, MAX_MASK_PIXELS, Hint, Keep, Region, Shape, cells_of

HintsLike = Union["Hints", str, "os.PathLike[str]", Iterable[Any], AnyHint, dict[str, Any], None]
"""What `Hints.coerce` takes."""

MAX_PIXEL_HINTS = 1_000_000
"""Most hints that a picture or layer is made into; see `Hints.from_layer`."""


def cell_span(center: Any, size: Any, scale: Any, cells: Any) -> tuple[Any, Any]:
    """Cells that a hint covers along one axis: the one definition of rasterisation.

    The hint covers ``[center + 1/2 - size/2, center + 1/2 + size/2)`` of the image. A cell belongs
    to it if the cell's centre lies inside; the cell that holds the hint's centre always does.

    Parameters
    ----------
    center, size : array of int
        In image pixels; numpy arrays or torch tensors.
    scale : float
        Cells per image pixel.
    cells : int
        Number of cells along the axis.

    Returns
    -------
    first, last : arrays of the kind given
        The cells are ``first <= cell < last``, within 0..cells.
    """
    start = (center + 0.5 - size / 2) * scale
    stop = (center + 0.5 + size / 2) * scale
    own = ((center + 0.5) * scale) // 1
    first = -((0.5 - start) // 1)  # the ceiling
    last = -((0.5 - stop) // 1)
    empty = last <= first
    first = first + (own - first) * empty
    last = last + (own + 1 - last) * empty
    return first.clip(0, cells), last.clip(0, cells)


class Hints(Sequence[AnyHint]):
    """An ordered set of hints; where two meet in one cell, the later wins.

    Parameters
    ----------
    hints : iterable
        Of Hint, Stroke, Region or Keep; of (x, y, color) or (x, y, color, size); of dicts as in a
        hint file. One of these alone is a list of one.
    image_size : tuple of int, optional
        (width, height) of the image that they belong to, if known. A `Colorizer` refuses hints of
        an image of another size.
    look : Look, optional
        How strong and warm the colours of the result are.

    Notes
    -----
    Held as arrays, so that a hundred thousand single pixels cost little. Not mutable; safe to
    share between threads.
    """

    def __init__(
        self,
        hints: Iterable[AnyHint] = (),
        *,
        image_size: tuple[int, int] | None = None,
        look: Look = PLAIN,
    ) -> None:
        items = [as_hint(item) for item in as_list(hints)]
        # A shape has size 0 in the arrays, which no hint has.
        places = [(h.x, h.y, h.size if isinstance(h, Hint) else 0) for h in items]
        self._set(
            np.array(places, np.int64).reshape(-1, 3),
            np.array([h.color for h in items], np.uint8).reshape(-1, 3),
            {i: h for i, h in enumerate(items) if isinstance(h, Shape)},
            image_size,
        )
        if not isinstance(look, Look):
            raise HintError(f"look must be a Look, not a {type(look).__name__}.")
        self.look = look

    def _set(
        self,
        places: NDArray[np.int64],
        colors: NDArray[np.uint8],
        shapes: dict[int, Shape],
        image_size: tuple[int, int] | None,
        held: int | None = None,
    ) -> None:
        self._places, self._colors, self._shapes = places, colors, shapes
        self._before: weakref.ref[Hints] | None = None  # the first of these: see `owners`
        self.look = PLAIN
        self._shape_bytes = sum(map(_bytes_of_shape, shapes.values())) if held is None else held
        self.image_size = None if image_size is None else size_of(image_size)

    @classmethod
    def _of_arrays(
        cls,
        places: NDArray[np.int64],
        colors: NDArray[np.uint8],
        shapes: dict[int, Shape],
        image_size: tuple[int, int] | None,
        held: int | None = None,
    ) -> Hints:
        self = cls.__new__(cls)
        self._set(places, colors, shapes, image_size, held)
        return self

    @classmethod
    def coerce(cls, hints: HintsLike, size: tuple[int, int] | None = None) -> Hints:
        """`hints` itself if it is a `Hints`, else one made of it; None is no hints.

        The path of a hint file is read, and scaled if it belongs to the image at another size
        than `size`, (width, height).
        """
        if isinstance(hints, str | os.PathLike):
            hints = cls.load(hints)
            hints = hints if size is None else hints.fitted(*size)
        return hints if isinstance(hints, Hints) else cls(() if hints is None else hints)

    @classmethod
    def from_image(cls, image: NDArray[Any], mask: NDArray[Any]) -> Hints:
        """One-pixel hints with the colours of `image` wherever `mask` is at its maximum.

        Parameters
        ----------
        image : ndarray, shape (H, W, 3), uint8, uint16 or float32
            RGB.
        mask : ndarray, shape (H, W), or (H, W, C) with C of 2 to 4; uint8
            Counts where it is 255; a colour mask where all its channels are. With alpha (C of 2 or
            4), what is opaque and white counts, or what is opaque where nothing is white.

        Raises
        ------
        HintError
            If the two differ in size, or one is of another dtype or shape.
        """
        if not isinstance(mask, np.ndarray) or 0 in mask.shape:
            raise HintError("A hint mask must be a (H, W) uint8 array with pixels.")
        if mask.ndim == 3:
            see_through = mask.shape[2] in (2, 4) and mask.dtype == np.uint8
            mask = painted(mask)[0] if see_through else mask.min(axis=2)
        if mask.dtype != np.uint8 or mask.ndim != 2:
            raise HintError(f"A hint mask must be (H, W) uint8, not {mask.shape} {mask.dtype}.")
        return cls._of_pixels(image, mask == 255)

    @classmethod
    def from_layer(cls, layer: NDArray[Any]) -> Hints:
        """One-pixel hints wherever a layer that a person painted on is at least half opaque.

        Parameters
        ----------
        layer : ndarray, shape (H, W, 4), uint8, uint16 or float32
            RGBA, not premultiplied, of the size of the photo.

        Raises
        ------
        HintError
            If it has another dtype or shape.
        """
        if not isinstance(layer, np.ndarray):
            raise HintError(f"A hint layer must be an array, not a {type(layer).__name__}.")
        if layer.ndim != 3 or layer.shape[2] != 4:
            raise HintError(f"A hint layer must be (H, W, 4) RGBA, not {layer.shape}.")
        return cls._of_pixels(layer[..., :3], _bytes_of(layer[..., 3], "layer") >= 128)

    @classmethod
    def from_reference(
        cls,
        reference: NDArray[Any],
        places: Iterable[tuple[int, int]],
        *,
        size: int = 1,
        image_size: tuple[int, int] | None = None,
    ) -> Hints:
        """Hints at given places of the photo, with the colours that a colour picture has there.

        Parameters
        ----------
        reference : ndarray, shape (H, W, 3), uint8, uint16 or float32
            RGB picture of the same scene, such as another frame or a hand-coloured print.
        places : iterable of (int, int)
            (x, y) in pixels of the photo.
        size : int
            Side of the squares whose mean colour is taken, and which the hints cover.
        image_size : tuple of int, optional
            (width, height) of the photo; None if it is that of the reference.

        Raises
        ------
        HintError
            If a place lies outside the photo, or an argument is none of these.
        """
        reference = _rgb_bytes(reference, "reference")
        high, wide = reference.shape[:2]
        width, height = (wide, high) if image_size is None else size_of(image_size)
        try:
            pairs = [(x, y) for x, y in places]
        except (TypeError, ValueError):
            raise HintError(f"Places are a list of (x, y) pairs, not {places!r:.60}.") from None
        hints = [Hint(x, y, (0, 0, 0), size) for x, y in pairs]
        cls(hints, image_size=(width, height)).check((width, height))
        colored = []
        for hint in hints:
            left, right = cell_span(np.array(hint.x), hint.size, wide / width, wide)
            top, bottom = cell_span(np.array(hint.y), hint.size, high / height, high)
            patch = reference[int(top) : int(bottom), int(left) : int(right)]
            mean = np.rint(patch.reshape(-1, 3).mean(0)).astype(int)
            colored.append(Hint(hint.x, hint.y, tuple(mean.tolist()), hint.size))
        return cls(colored, image_size=(width, height))

    @classmethod
    def _of_pixels(cls, image: NDArray[Any], mask: NDArray[np.bool_]) -> Hints:
        if not isinstance(image, np.ndarray):
            raise HintError(f"A hint image must be an array, not a {type(image).__name__}.")
        if mask.shape != image.shape[:2]:
            high, wide = image.shape[:2] if image.ndim >= 2 else (0, 0)
            raise HintError(
                f"The hint image is {wide}x{high} but its mask "
                f"{mask.shape[1]}x{mask.shape[0]}; give two pictures of one size."
            )
        y, x, side = _thinned(mask)
        places = np.stack([x, y, np.full_like(x, side)], axis=1).astype(np.int64)
        colors = _rgb_bytes(image, "hint image", at=(y, x))
        return cls._of_arrays(places, colors, {}, (image.shape[1], image.shape[0]))

    def __getstate__(self) -> dict[str, Any]:
        return {**vars(self), "_before": None}  # which is of this process

    def __len__(self) -> int:
        return len(self._places)

    @overload
    def __getitem__(self, index: int) -> AnyHint: ...
    @overload
    def __getitem__(self, index: slice) -> Hints: ...
    def __getitem__(self, index: int | slice) -> AnyHint | Hints:
        if isinstance(index, slice):
            kept = range(len(self))[index]
            shapes = {i: self._shapes[old] for i, old in enumerate(kept) if old in self._shapes}
            return self._of_arrays(
                self._places[index], self._colors[index], shapes, self.image_size
            ).with_look(self.look)
        index = range(len(self))[index]
        if index in self._shapes:
            return self._shapes[index]  # type: ignore[return-value]
        x, y, size = self._places[index].tolist()
        return Hint(x, y, tuple(self._colors[index].tolist()), size)

    def __iter__(self) -> Iterator[AnyHint]:
        return (self[i] for i in range(len(self)))

    def __eq__(self, other: object) -> bool:
        return (
            isinstance(other, Hints)
            and self.image_size == other.image_size
            and np.array_equal(self._places, other._places)
            and np.array_equal(self._colors, other._colors)
            and self._shapes == other._shapes
            and self.look == other.look
        )

    __hash__ = None  # type: ignore[assignment]

    def __add__(self, later: Hints) -> Hints:
        """These hints, then `later` ones of the same image, whose look counts if it has one."""
        if not isinstance(later, Hints):
            return NotImplemented
        sizes = {self.image_size, later.image_size} - {None}
        if len(sizes) > 1:
            raise HintError("Hints of images of different sizes cannot be joined; scale one first.")
        joined = self._of_arrays(
            np.concatenate([self._places, later._places]),
            np.concatenate([self._colors, later._colors]),
            self._shapes | {len(self) + i: shape for i, shape in later._shapes.items()},
            sizes.pop() if sizes else None,
            self._shape_bytes + later._shape_bytes,
        )
        joined._before = weakref.ref(self)
        joined.look = self.look if later.look.plain else later.look
        return joined

    def with_look(self, look: Look) -> Hints:
        """These hints with another look."""
        if not isinstance(look, Look):
            raise HintError(f"look must be a Look, not a {type(look).__name__}.")
        made = self._of_arrays(
            self._places, self._colors, self._shapes, self.image_size, self._shape_bytes
        )
        made._before, made.look = self._before, look
        return made

    @property
    def bounded(self) -> tuple[Region, ...]:
        """The regions whose colour ends at their border, in their order."""
        return tuple(s for s in self._shapes.values() if isinstance(s, Region) and s.only_inside)

    @property
    def kept(self) -> tuple[Keep, ...]:
        """The areas that are left as they are, or grey, in their order."""
        return tuple(s for s in self._shapes.values() if isinstance(s, Keep))

    def unbounded(self) -> Hints:
        """These hints without the regions whose colour ends at their border."""
        out = {i for i, s in self._shapes.items() if isinstance(s, Region) and s.only_inside}
        left = [i for i in range(len(self)) if i not in out]
        shapes = {new: self._shapes[old] for new, old in enumerate(left) if old in self._shapes}
        return self._of_arrays(self._places[left], self._colors[left], shapes, self.image_size)

    def without(self, index: int) -> Hints:
        """These hints but for one."""
        index = range(len(self))[index]
        return self[:index] + self[index + 1 :]

    def replaced(self, index: int, hint: AnyHint) -> Hints:
        """These hints with another one in the place of one."""
        index = range(len(self))[index]
        return self[:index] + Hints([hint], image_size=self.image_size) + self[index + 1 :]

    def __repr__(self) -> str:
        return f"<Hints: {len(self)} hints, image_size={self.image_size}>"

    @property
    def nbytes(self) -> int:
        """About how much memory they hold; what they share with others counts in each."""
        return self._places.nbytes + self._colors.nbytes + self._shape_bytes

    @property
    def shapes(self) -> int:
        """How many of them are strokes and regions."""
        return len(self._shapes)

    @property
    def places(self) -> NDArray[np.int64]:
        """(n, 2): x and y of each hint, of a stroke or region its anchor."""
        return self._places[:, :2].copy()

    @property
    def colors(self) -> NDArray[np.uint8]:
        """(n, 3): RGB of each hint."""
        return self._colors.copy()

    def check(
        self,
        size: tuple[int, int] | int | None = None,
        width: int | None = None,
        *,
        height: int | None = None,
    ) -> None:
        """Raise `HintError` unless every hint lies inside an image of this size.

        Parameters
        ----------
        size : (int, int)
            Width and height.
        width, height : int, optional
            The spelling of before: ``check(height, width)``; it warns.
        """
        size = height if size is None else size
        width, height = size_of(pair(size, width, "check"))
        if self.image_size not in (None, (width, height)):
            raise HintError(
                "The hints belong to an image of {}x{}, but this one is {}x{}; "
                "scale them first.".format(*self.image_size, width, height)  # type: ignore[misc]
            )
        if self._shapes:
            self._check_areas()
        reach = self._places[:, :2]
        if self._shapes:
            reach = reach.copy()
            for i, shape in self._shapes.items():
                reach[i] = shape.extent
        outside = np.flatnonzero((reach[:, 0] >= width) | (reach[:, 1] >= height))
        if outside.size:
            x, y = reach[outside[0]]
            raise HintError(
                f"Hint {outside[0]} at ({x}, {y}) lies outside the image of {width}x{height}."
            )

    def _check_areas(self) -> None:
        """Areas that end colour are drawn at full size."""
        areas = [*self.bounded, *self.kept]
        pixels = 0
        for area in areas:
            if area.points is not None:
                low, high = np.min(area.points, axis=0), np.max(area.points, axis=0)
                pixels += int(np.prod(high - low + 3))
        if len(areas) > MAX_AREAS or pixels > MAX_MASK_PIXELS:
            raise HintError(
                f"There are more than {MAX_AREAS} areas that end colour, or they have more than "
                f"{MAX_MASK_PIXELS} pixels together; join some."
            )

    def rasterize(
        self, *sizes: Any, **before: int
    ) -> tuple[NDArray[np.float32], NDArray[np.bool_]]:
        """Draw the hints at the network's size: ``rasterize(size, cells)``.

        Parameters
        ----------
        size : (int, int)
            Width and height of the image that the hints refer to.
        cells : (int, int)
            Width and height to draw at. However small, a hint fills at least the cell that it lies
            in. (Four numbers, ``height, width, cells_high, cells_wide``, as before, warn.)

        Returns
        -------
        ab : ndarray, shape (cells_high, cells_wide, 2), float32
            Lab units, 0 where there is no hint.
        mask : ndarray, shape (cells_high, cells_wide), bool

        Raises
        ------
        HintError
            If a hint lies outside the image.
        """
        return self.paint(self.owners(*sizes, **before))

    def paint(self, owner: NDArray[np.int64]) -> tuple[NDArray[np.float32], NDArray[np.bool_]]:
        """ab and mask, as `rasterize` gives them, of what `owners` gave."""
        mask = owner >= 0
        ab = np.zeros((*owner.shape, 2), np.float32)
        if len(self):
            ab[mask] = lab_from_rgb(self._colors[None])[0, owner[mask], 1:]
        return ab, mask

    def draw(self, *sizes: Any, **before: int) -> tuple[NDArray[np.uint8], NDArray[np.bool_]]:
        """Draw the hints as a picture, for whole pipelines (``python -m export.onnx --pipeline``).

        Parameters
        ----------
        size, cells : (int, int)
            See `rasterize`.

        Returns
        -------
        rgb : ndarray, shape (cells_high, cells_wide, 3), uint8
            0 where there is no hint.
        mask : ndarray, shape (cells_high, cells_wide), bool

        Raises
        ------
        HintError
            If a hint lies outside the image.
        """
        owner = self.owners(*sizes, **before)
        mask = owner >= 0
        rgb = np.zeros((*owner.shape, 3), np.uint8)
        rgb[mask] = self._colors[owner[mask]]
        return rgb, mask

    def owners(
        self,
        *sizes: Any,
        drawn: tuple[Hints, NDArray[np.int64]] | None = None,
        **before: int,
    ) -> NDArray[np.int64]:
        """Number of the hint that fills each cell, -1 where there is none; see `rasterize`.

        Parameters
        ----------
        size, cells : (int, int)
            See `rasterize`.
        drawn : (Hints, ndarray), optional
            Hints and what this gave for them at the same sizes. If these are those with others
            added, only the others are drawn.

        Returns
        -------
        ndarray, shape (cells_high, cells_wide), int64
        """
        (width, height), (cells_wide, cells_high) = two_pairs(sizes, before)
        self.check((width, height))
        start, owner = 0, np.full((cells_high, cells_wide), -1, np.int64)
        if drawn is not None and self._before is not None and self._before() is drawn[0]:
            start, owner = len(drawn[0]), drawn[1].copy()
        self._draw_on(owner, start, width, height, cells_wide, cells_high)
        return owner

    def _draw_on(
        self,
        owner: NDArray[np.int64],
        start: int,
        width: int,
        height: int,
        cells_wide: int,
        cells_high: int,
    ) -> None:
        """Draw the hints from number `start` on over what is drawn."""
        x, y, size = self._places[start:].T
        if not len(x):
            return
        left, right = cell_span(x, size, cells_wide / width, cells_wide)
        top, bottom = cell_span(y, size, cells_high / height, cells_high)
        spans = np.stack([left, right, top, bottom], axis=1).astype(np.int64)
        single = (spans[:, 1] - spans[:, 0] == 1) & (spans[:, 3] - spans[:, 2] == 1) & (size > 0)
        # Neighbours in the list that fill one cell each are drawn together; numpy keeps the last
        # of repeated indices, which is the rule.
        edges = np.flatnonzero(np.diff(single)) + 1
        for run in np.split(np.arange(len(x)), edges):
            if single[run[0]]:
                owner[spans[run, 2], spans[run, 0]] = run + start
                continue
            for i in run.tolist():
                shape = self._shapes.get(i + start)
                if isinstance(shape, Keep):  # the network is told nothing of it
                    continue
                if shape is not None:
                    owner[cells_of(shape, height, width, cells_high, cells_wide)] = i + start
                else:
                    x0, x1, y0, y1 = spans[i]
                    owner[y0:y1, x0:x1] = i + start

    def scaled(self, width: int, height: int) -> Hints:
        """The same hints for the same picture at another size.

        Raises
        ------
        HintError
            If `image_size` is not known.
        """
        if self.image_size is None:
            raise HintError("These hints do not know their image's size; set image_size.")
        width, height = size_of((width, height))
        self.check(self.image_size)  # or something far outside would become huge
        fx, fy = width / self.image_size[0], height / self.image_size[1]
        masks = [m for s in self._shapes.values() if (m := getattr(s, "mask", None)) is not None]
        if sum(max(1, m.shape[0] * fy) * max(1, m.shape[1] * fx) for m in masks) > MAX_MASK_PIXELS:
            raise HintError(
                f"At {width}x{height} the masks of these hints have more than {MAX_MASK_PIXELS} "
                "pixels; give fewer, or polygons."
            )
        shapes = {i: shape.scaled(fx, fy) for i, shape in self._shapes.items()}
        places = (self._places[:, :2] + 0.5) * (fx, fy)
        sizes = np.maximum(self._places[:, 2] > 0, np.rint(self._places[:, 2] * (fx * fy) ** 0.5))
        scaled = np.concatenate([np.floor(places), sizes[:, None]], axis=1).astype(np.int64)
        for i, shape in shapes.items():
            scaled[i, :2] = shape.anchor
        return self._of_arrays(scaled, self._colors, shapes, (width, height)).with_look(self.look)

    def fitted(self, width: int, height: int) -> Hints:
        """These, scaled if they belong to the same picture at another size."""
        same = self.image_size in (None, (width, height))
        return self if same else self.scaled(width, height)

    def to_json(self) -> str:
        """Write the hints in the format of `docs/hints.md`."""
        from .files import to_json

        return to_json(self)

    @classmethod
    def from_json(cls, text: str | bytes) -> Hints:
        """Read the format of `docs/hints.md`.

        Raises
        ------
        HintError
            If it is not that format, or of a newer version.
        """
        from .files import from_json

        return from_json(text)

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write a hint file; a failure leaves an older file as it was.

        Raises
        ------
        HintError
            If it cannot be written.
        """
        from .files import save

        save(self, path)

    @classmethod
    def load(cls, path: str | os.PathLike[str]) -> Hints:
        """Read a hint file.

        Raises
        ------
        HintError
            If there is no such file, or it is not of the format of `docs/hints.md`.
        """
        from .files import load

        return load(path)


def _bytes_of_shape(shape: Shape) -> int:
    """About how much memory a stroke or region holds."""
    mask = getattr(shape, "mask", None)
    return 100 * len(getattr(shape, "points", None) or ()) if mask is None else int(mask.size)


def _thinned(mask: NDArray[np.bool_]) -> tuple[NDArray[np.int64], NDArray[np.int64], int]:
    """Rows and columns that are set, and the side of the squares that they stand for.

    Above a million, one pixel stands for a square: the network has far fewer cells, and a photo
    given whole as a layer would need gigabytes.
    """
    count = int(np.count_nonzero(mask))
    side = max(1, int(np.ceil((count / MAX_PIXEL_HINTS) ** 0.5)))
    if side == 1:
        rows, columns = np.nonzero(mask)
        return rows, columns, 1
    half = side // 2
    rows, columns = np.nonzero(mask[half::side, half::side])
    return rows * side + half, columns * side + half, side


def _bytes_of(values: NDArray[Any], what: str) -> NDArray[np.uint8]:
    if values.dtype not in (np.uint8, np.uint16, np.float32):
        raise HintError(f"The {what} must be uint8, uint16 or float32, not {values.dtype}.")
    if values.dtype == np.float32 and not np.isfinite(values).all():
        raise HintError(f"The {what} holds NaN or infinity.")
    return bytes_of(values)


def _rgb_bytes(image: NDArray[Any], what: str, at: Any = ...) -> NDArray[np.uint8]:
    """An RGB picture, or some of its pixels, as bytes."""
    image = np.asarray(image)
    if image.ndim != 3 or image.shape[2] != 3:
        raise HintError(f"A {what} must be (H, W, 3), not {image.shape}.")
    if min(image.shape[:2]) < 1:
        raise HintError(f"The {what} has no pixels.")
    return _bytes_of(image[at], what)
