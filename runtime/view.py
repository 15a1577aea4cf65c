"""A photo as the network sees it."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from .fullsize.finish import Finish
from .fullsize.picture import Picture
from .hints import Hints
from .layout import network_size, pack_input


class View:
    """A photo's L at the network's size, and what the network takes of it.

    Parameters
    ----------
    picture : Picture
    size : int
        See `runtime.Colorizer`.

    Attributes
    ----------
    picture : Picture
    L : ndarray, shape (h, w), float32
        0..100.
    """

    def __init__(self, picture: Picture, size: int) -> None:
        self.picture = picture
        self._drawn: tuple[Hints, NDArray[np.int64]] | None = (
            None  # so that an edit draws itself only
        )
        self.L = picture.lightness(*network_size(picture.height, picture.width, size))

    def inputs(self, hints: Hints) -> NDArray[np.float32]:
        """What the network is asked for hints, (1, 4, h, w); (2, 4, h, w) if regions bound their
        colour: without them first, which is what counts outside."""
        every = self.input(hints)
        if not hints.bounded:
            return every
        return np.concatenate([self.input(hints.unbounded()), every])

    def flat(self, ab: NDArray[np.float32], hints: Hints) -> NDArray[np.float32]:
        """The network's answers to `inputs` as one, (2, h, w)."""
        if len(ab) == 2:
            return ab
        known = Hints(image_size=(self.picture.width, self.picture.height)) + hints
        finish = Finish.of(known, self.L.shape[::-1])
        assert finish is not None  # or there were no second pair
        return finish.flat(ab)

    def input(self, hints: Hints) -> NDArray[np.float32]:
        """The photo with hints in its own pixels, (1, 4, h, w), as `runtime.layout` says."""
        size = self.picture.width, self.picture.height
        owner = hints.owners(size, self.L.shape[::-1], drawn=self._drawn)
        self._drawn = hints, owner
        return pack_input(self.L, *hints.paint(owner))
