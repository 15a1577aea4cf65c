"""Colour hints: vectors in image pixels, rasterised at the network's size."""

from __future__ import annotations

import json
import math
import operator
import os
import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, overload

import numpy as np
from numpy.typing import NDArray

from runtime.color import lab_from_rgb
from runtime.errors import HintError
from runtime.files import write_atomically

FILE_FORMAT = "hscaunet-hints"
FILE_VERSION = 1
MAX_FILE_BYTES = 64 << 20
MAX_HINTS = 1 << 24

_HEX = re.compile(r"#[0-9a-fA-F]{6}")


def _parse_color(color: Any) -> tuple[int, int, int]:
    if isinstance(color, str):
        if not _HEX.fullmatch(color):
            raise HintError(f"A hint's color must look like '#rrggbb', not {color!r}.")
        return int(color[1:3], 16), int(color[3:5], 16), int(color[5:7], 16)
    try:
        values = tuple(operator.index(v) for v in color)
    except TypeError:
        values = ()
    if len(values) != 3 or not all(0 <= v <= 255 for v in values):
        raise HintError(
            f"A hint's color must be '#rrggbb' or three whole numbers of 0 to 255, not {color!r}."
        )
    return values


def _whole(value: Any, what: str) -> int:
    try:
        if isinstance(value, bool):
            raise TypeError
        return operator.index(value)
    except TypeError:
        raise HintError(f"A hint's {what} must be a whole number, not {value!r}.") from None


@dataclass(frozen=True, slots=True)
class Hint:
    """One colour at one place of a photo.

    Parameters
    ----------
    x, y : int
        Pixel of the image the hint is used with, from its top left corner.
    color : str or tuple of int
        "#rrggbb", or (r, g, b) of 0..255. Only its a and b of Lab count, not its lightness.
        Kept as a tuple.
    size : int
        Side, in image pixels, of the square that it covers, centred on the pixel.

    Raises
    ------
    HintError
        If a value is none of these.
    """

    x: int
    y: int
    color: tuple[int, int, int] | str
    size: int = 1

    def __post_init__(self) -> None:
        object.__setattr__(self, "x", _whole(self.x, "x"))
        object.__setattr__(self, "y", _whole(self.y, "y"))
        object.__setattr__(self, "size", _whole(self.size, "size"))
        object.__setattr__(self, "color", _parse_color(self.color))
        if self.x < 0 or self.y < 0:
            raise HintError(f"A hint's place must not be negative, but is ({self.x}, {self.y}).")
        if max(self.x, self.y) >= 1 << 31:
            raise HintError(f"A hint's place ({self.x}, {self.y}) is outside any image.")
        if not 1 <= self.size < 1 << 31:
            raise HintError(f"A hint's size must be at least 1, but is {self.size}.")

    @property
    def hex(self) -> str:
        """The colour as "#rrggbb"."""
        return "#{:02x}{:02x}{:02x}".format(*self.color)


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
        x, y, size = int(parts[0]), int(parts[1]), int(parts[3]) if len(parts) == 4 else 1
    except ValueError:
        raise HintError(
            f"A hint must look like X,Y,#rrggbb or X,Y,#rrggbb,SIZE, not {text!r}."
        ) from None
    return Hint(x, y, parts[2], size)


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


class Hints(Sequence[Hint]):
    """An ordered set of hints; where two meet in one cell, the later wins.

    Parameters
    ----------
    hints : iterable of Hint
    image_size : tuple of int, optional
        (width, height) of the image that they belong to, if known. A `Colorizer` refuses hints of
        an image of another size.

    Notes
    -----
    Held as arrays, so that a hundred thousand single pixels cost little. Not mutable; safe to
    share between threads.
    """

    def __init__(
        self, hints: Iterable[Hint] = (), *, image_size: tuple[int, int] | None = None
    ) -> None:
        if isinstance(hints, Hint) or not isinstance(hints, Iterable):
            raise HintError(f"Hints are a list of Hint objects, not a {type(hints).__name__}.")
        items = list(hints)
        for item in items:
            if not isinstance(item, Hint):
                raise HintError(f"Hints are made of Hint objects, not of {type(item).__name__}.")
        places = np.array([(h.x, h.y, h.size) for h in items], np.int64).reshape(-1, 3)
        colors = np.array([h.color for h in items], np.uint8).reshape(-1, 3)
        self._set(places, colors, image_size)

    def _set(
        self,
        places: NDArray[np.int64],
        colors: NDArray[np.uint8],
        image_size: tuple[int, int] | None,
    ) -> None:
        self._places, self._colors = places, colors
        self.image_size = None if image_size is None else (int(image_size[0]), int(image_size[1]))

    @classmethod
    def _of_arrays(
        cls,
        places: NDArray[np.int64],
        colors: NDArray[np.uint8],
        image_size: tuple[int, int] | None,
    ) -> Hints:
        self = cls.__new__(cls)
        self._set(places, colors, image_size)
        return self

    @classmethod
    def coerce(cls, hints: Hints | Iterable[Hint] | None) -> Hints:
        """`hints` itself if it is a `Hints`, else one made of it; None is no hints."""
        return hints if isinstance(hints, Hints) else cls(() if hints is None else hints)

    @classmethod
    def from_image(cls, image: NDArray[np.uint8], mask: NDArray[np.uint8]) -> Hints:
        """One-pixel hints with the colours of `image` wherever `mask` is 255.

        Parameters
        ----------
        image : ndarray, shape (H, W, 3), uint8
            RGB.
        mask : ndarray, shape (H, W) or (H, W, 3), uint8
            A colour mask counts where all its channels are 255.

        Raises
        ------
        HintError
            If the two differ in size, or one is of another dtype or shape.
        """
        image, mask = np.asarray(image), np.asarray(mask)
        if image.dtype != np.uint8 or image.ndim != 3 or image.shape[2] != 3:
            raise HintError(
                f"A hint image must be (H, W, 3) uint8, not {image.shape} {image.dtype}."
            )
        if mask.ndim == 3:
            mask = mask.min(axis=2)
        if mask.dtype != np.uint8 or mask.ndim != 2:
            raise HintError(f"A hint mask must be (H, W) uint8, not {mask.shape} {mask.dtype}.")
        if mask.shape != image.shape[:2]:
            raise HintError(
                f"The hint image is {image.shape[1]}x{image.shape[0]} but its mask "
                f"{mask.shape[1]}x{mask.shape[0]}; give two pictures of one size."
            )
        y, x = np.nonzero(mask == 255)
        places = np.stack([x, y, np.ones_like(x)], axis=1).astype(np.int64)
        return cls._of_arrays(places, image[y, x], (image.shape[1], image.shape[0]))

    def __len__(self) -> int:
        return len(self._places)

    @overload
    def __getitem__(self, index: int) -> Hint: ...
    @overload
    def __getitem__(self, index: slice) -> Hints: ...
    def __getitem__(self, index: int | slice) -> Hint | Hints:
        if isinstance(index, slice):
            return self._of_arrays(self._places[index], self._colors[index], self.image_size)
        x, y, size = self._places[index].tolist()
        return Hint(x, y, tuple(self._colors[index].tolist()), size)

    def __iter__(self) -> Iterator[Hint]:
        return (self[i] for i in range(len(self)))

    def __eq__(self, other: object) -> bool:
        return (
            isinstance(other, Hints)
            and self.image_size == other.image_size
            and np.array_equal(self._places, other._places)
            and np.array_equal(self._colors, other._colors)
        )

    __hash__ = None  # type: ignore[assignment]

    def __add__(self, later: Hints) -> Hints:
        """These hints, then `later` ones of the same image."""
        if not isinstance(later, Hints):
            return NotImplemented
        sizes = {self.image_size, later.image_size} - {None}
        if len(sizes) > 1:
            raise HintError("Hints of images of different sizes cannot be joined; scale one first.")
        return self._of_arrays(
            np.concatenate([self._places, later._places]),
            np.concatenate([self._colors, later._colors]),
            sizes.pop() if sizes else None,
        )

    def __repr__(self) -> str:
        return f"<Hints: {len(self)} hints, image_size={self.image_size}>"

    def check(self, height: int, width: int) -> None:
        """Raise `HintError` unless every hint lies inside an image of this size."""
        if self.image_size not in (None, (width, height)):
            raise HintError(
                "The hints belong to an image of {}x{}, but this one is {}x{}; "
                "scale them first.".format(*self.image_size, width, height)  # type: ignore[misc]
            )
        outside = np.flatnonzero((self._places[:, 0] >= width) | (self._places[:, 1] >= height))
        if outside.size:
            x, y = self._places[outside[0], :2]
            raise HintError(
                f"Hint {outside[0]} at ({x}, {y}) lies outside the image of {width}x{height}."
            )

    def rasterize(
        self, height: int, width: int, cells_high: int, cells_wide: int
    ) -> tuple[NDArray[np.float32], NDArray[np.bool_]]:
        """Draw the hints at the network's size.

        Parameters
        ----------
        height, width : int
            Size of the image that the hints refer to.
        cells_high, cells_wide : int
            Size to draw at. However small, a hint fills at least the cell that it lies in.

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
        self.check(height, width)
        ab = np.zeros((cells_high, cells_wide, 2), np.float32)
        mask = np.zeros((cells_high, cells_wide), np.bool_)
        if not len(self):
            return ab, mask
        colors = lab_from_rgb(self._colors[None])[0, :, 1:]
        x, y, size = self._places.T
        left, right = cell_span(x, size, cells_wide / width, cells_wide)
        top, bottom = cell_span(y, size, cells_high / height, cells_high)
        spans = np.stack([left, right, top, bottom], axis=1).astype(np.int64)
        single = (spans[:, 1] - spans[:, 0] == 1) & (spans[:, 3] - spans[:, 2] == 1)
        # Neighbours in the list that fill one cell each are drawn together; numpy keeps the last
        # of repeated indices, which is the rule.
        edges = np.flatnonzero(np.diff(single)) + 1
        for run in np.split(np.arange(len(self)), edges):
            if single[run[0]]:
                ab[spans[run, 2], spans[run, 0]] = colors[run]
                mask[spans[run, 2], spans[run, 0]] = True
                continue
            for i in run:
                x0, x1, y0, y1 = spans[i]
                ab[y0:y1, x0:x1] = colors[i]
                mask[y0:y1, x0:x1] = True
        return ab, mask

    def scaled(self, width: int, height: int) -> Hints:
        """The same hints for the same picture at another size.

        Raises
        ------
        HintError
            If `image_size` is not known.
        """
        if self.image_size is None:
            raise HintError("These hints do not know their image's size; set image_size.")
        fx, fy = width / self.image_size[0], height / self.image_size[1]
        places = self._places.astype(np.float64)
        scaled = np.stack(
            [
                np.floor((places[:, 0] + 0.5) * fx),
                np.floor((places[:, 1] + 0.5) * fy),
                np.maximum(1, np.rint(places[:, 2] * math.sqrt(fx * fy))),
            ],
            axis=1,
        ).astype(np.int64)
        return self._of_arrays(scaled, self._colors, (width, height))

    def to_json(self) -> str:
        """Write the hints in the format of `docs/hints.md`."""
        document: dict[str, Any] = {"format": FILE_FORMAT, "version": FILE_VERSION}
        if self.image_size is not None:
            document["image"] = {"width": self.image_size[0], "height": self.image_size[1]}
        rows = [{"x": h.x, "y": h.y, "color": h.hex, "size": h.size} for h in self]
        # One hint a line, so that a person can read and edit the file.
        head = json.dumps(document, indent=1)[:-2]
        body = ",\n".join("  " + json.dumps(row) for row in rows)
        return f'{head},\n "hints": [\n{body}\n ]\n}}\n' if rows else f'{head},\n "hints": []\n}}\n'

    @classmethod
    def from_json(cls, text: str | bytes) -> Hints:
        """Read the format of `docs/hints.md`.

        Raises
        ------
        HintError
            If it is not that format, or of a newer version.
        """
        try:
            document = json.loads(text)
        except (ValueError, RecursionError) as error:
            raise HintError(f"The hint file is not JSON: {error}.") from None
        if not isinstance(document, dict) or document.get("format") != FILE_FORMAT:
            raise HintError(f'The hint file lacks "format": "{FILE_FORMAT}".')
        version = document.get("version")
        if version != FILE_VERSION:
            raise HintError(
                f"The hint file is of version {version!r}, but this release reads version "
                f"{FILE_VERSION}; install a newer release."
            )
        rows = document.get("hints")
        if not isinstance(rows, list) or len(rows) > MAX_HINTS:
            raise HintError('The hint file lacks a list of hints under "hints".')
        image_size = None
        if document.get("image") is not None:
            image = document["image"]
            if not isinstance(image, dict):
                raise HintError('"image" in the hint file must hold "width" and "height".')
            image_size = (
                _whole(image.get("width"), "image width"),
                _whole(image.get("height"), "image height"),
            )
            if min(image_size) < 1 or max(image_size) >= 1 << 31:
                raise HintError("The image size in the hint file is not that of an image.")
        hints = []
        for i, row in enumerate(rows):
            if not isinstance(row, dict) or not {"x", "y", "color"} <= row.keys():
                raise HintError(f'Hint {i} of the hint file lacks one of "x", "y", "color".')
            try:
                hints.append(Hint(row["x"], row["y"], row["color"], row.get("size", 1)))
            except HintError as error:
                raise HintError(f"Hint {i} of the hint file: {error}") from None
        return cls(hints, image_size=image_size)

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write a hint file; a failure leaves an older file as it was."""
        write_atomically(path, self.to_json().encode())

    @classmethod
    def load(cls, path: str | os.PathLike[str]) -> Hints:
        """Read a hint file.

        Raises
        ------
        HintError
            If there is no such file, or it is not of the format of `docs/hints.md`.
        """
        try:
            if Path(path).stat().st_size > MAX_FILE_BYTES:
                raise HintError(f"{path} is larger than any hint file ({MAX_FILE_BYTES} bytes).")
            text = Path(path).read_bytes()
        except OSError as error:
            raise HintError(f"The hint file {path} cannot be read: {error.strerror}.") from None
        try:
            return cls.from_json(text)
        except HintError as error:
            raise HintError(f"{path}: {error}") from None
