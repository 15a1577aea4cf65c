"""How the network's ab become a photo's colours: where they end, and how strong they are."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from ..color import lab_from_rgb
from ..look import PLAIN, Look

if TYPE_CHECKING:
    from ..hints import Hints, Keep, Region

# What full warmth adds to a and b at middle grey: about the way from daylight to lamplight.
_WARM = (4.0, 16.0)


class Area:
    """An area of a picture, drawn once.

    Parameters
    ----------
    shape : Region or Keep
    """

    def __init__(self, shape: Region | Keep) -> None:
        self.x, self.y, self._mask = shape.drawn()
        self.grey = getattr(shape, "grey", False)

    def touches(self, rows: slice) -> bool:
        """Whether some of it lies in these rows."""
        return self.y < rows.stop and rows.start < self.y + len(self._mask)

    def pixels(self, rows: slice, width: int) -> NDArray[np.float32]:
        """How much of each pixel of some rows lies inside, 0..1, (rows, width)."""
        inside = np.zeros((rows.stop - rows.start, width), np.float32)
        first, last = max(rows.start, self.y), min(rows.stop, self.y + len(self._mask))
        if first < last and self.x < width:
            part = self._mask[first - self.y : last - self.y, : width - self.x]
            there = inside[first - rows.start : last - rows.start]
            there[:, self.x : self.x + part.shape[1]] = part * np.float32(1 / 255)
        return inside


@dataclass(frozen=True)
class Finish:
    """What is done to ab on their way into a photo.

    Attributes
    ----------
    bounded : tuple of Area
        Inside these stands the second pair of ab, outside the first.
    kept : tuple of Area
    look : Look
    """

    bounded: tuple[Area, ...] = ()
    kept: tuple[Area, ...] = ()
    look: Look = PLAIN

    @classmethod
    def of(cls, hints: Hints, size: tuple[int, int] | None = None) -> Finish | None:
        """What hints ask for at a size (width, height) of their photo; None if that is nothing."""
        if not (hints.bounded or hints.kept) and hints.look.plain:
            return None
        if size is not None and (hints.bounded or hints.kept):
            hints = hints.scaled(*size)
        return cls(tuple(map(Area, hints.bounded)), tuple(map(Area, hints.kept)), hints.look)

    def inside(self, rows: slice, width: int) -> NDArray[np.float32]:
        """How much of each pixel lies in bounded regions, (rows, width)."""
        share = np.zeros((rows.stop - rows.start, width), np.float32)
        for region in filter(lambda area: area.touches(rows), self.bounded):
            np.maximum(share, region.pixels(rows, width), out=share)
        return share

    def flat(self, ab: NDArray[np.float32]) -> NDArray[np.float32]:
        """ab at the network's size with bounded regions in their places.

        Parameters
        ----------
        ab : ndarray, shape (2, h, w) or (4, h, w), float32

        Returns
        -------
        ndarray, shape (2, h, w), float32
        """
        if len(ab) == 2:
            return ab
        inside = self.inside(slice(0, ab.shape[1]), ab.shape[2])
        return ab[:2] + inside * (ab[2:] - ab[:2])

    def shares(
        self, tile: NDArray[np.float32], f: NDArray[np.float32], own: Any, rows: slice
    ) -> NDArray[np.float32]:
        """Colours of some rows.

        Parameters
        ----------
        tile : ndarray, shape (2, r, W) or (4, r, W), float32
            a / 500 and -b / 200, as `Picture.join` computes with them.
        f : ndarray, shape (r, W), float32
            f(Y) of Lab.
        own : callable
            Gives these rows of the photo, (r, W, 3), or None if it is grey.
        rows : slice

        Returns
        -------
        ndarray, shape (2, r, W), float32
        """
        if len(tile) == 4:
            inside = self.inside(rows, tile.shape[2])
            tile = tile[:2] + inside * (tile[2:] - tile[:2])
        look = self.look
        if look.saturation != 1:
            tile = tile * np.float32(look.saturation)
        if look.warmth:
            L = f * np.float32(116) - np.float32(16)
            bell = np.clip(L * (100 - L) * np.float32(4e-4 * look.warmth), -1, 1)
            tile = tile + np.stack([bell * (_WARM[0] / 500), bell * (-_WARM[1] / 200)])
        if look.strength != 1:
            tile = tile * np.float32(look.strength)
            rgb = own()
            if rgb is not None:
                ab = np.moveaxis(lab_from_rgb(rgb)[..., 1:], -1, 0)
                scale = np.array([1 / 500, -1 / 200], np.float32)[:, None, None]
                tile = tile + ab * scale * np.float32(1 - look.strength)
        for area in self.kept:
            if area.grey and area.touches(rows):
                tile = tile * (1 - area.pixels(rows, tile.shape[2]))
        return np.ascontiguousarray(tile, np.float32)

    def keep(self, out: NDArray[Any], photo: Any, rows: slice) -> None:
        """Put the photo's own pixels where they are to be kept.

        Parameters
        ----------
        out : ndarray, shape (r, W, 3)
            Rows of the result; changed in place.
        photo : callable
            Gives the same rows of the photo, (r, W, 3) or (r, W), of the same dtype.
        rows : slice
        """
        for area in self.kept:
            if area.grey or not area.touches(rows):
                continue
            share = area.pixels(rows, out.shape[1])[..., None]
            if not share.any():
                continue
            own = photo()
            own = own[..., None] if own.ndim == 2 else own
            mixed = out + share * (own.astype(np.float32) - out)
            if out.dtype != np.float32:
                mixed = np.rint(mixed)
            out[...] = np.where(share == 1, own, mixed.astype(out.dtype))


def own_colors(photo: NDArray[Any]) -> NDArray[Any] | None:
    """Rows of a photo if it has colours, else None."""
    return None if photo.ndim == 2 else np.ascontiguousarray(photo)
