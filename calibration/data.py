"""What ranges are measured on: photos with hints as users give them, from none to hundreds."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from hscaunet.data.hints import pack_input
from hscaunet.data.photos import center_square, load_photos
from hscaunet.training.everywhere import HintRecipe
from runtime.color import lab_from_rgb
from runtime.images import read_image

SIZE = 256
"""Side of the squares that ranges are measured on: what the network sees by default."""

MOST_HINTS = 300
BUILT_IN = 12
"""Pictures made of the one photo that comes with the exporter, where no others are given."""

# A third of the photos gets 0.5 to 3 % of its pixels, as the literature does; the rest up to
# `MOST_HINTS` clicks.
_RECIPE = HintRecipe(dense_share=0.3, most=MOST_HINTS)


@dataclass(frozen=True)
class CalibrationSet:
    """Photos and the hints that are drawn on them.

    Attributes
    ----------
    data : tuple of str
        Folders or tar files; none is the built-in set.
    photos : int
        At most so many of them.
    seed : int
        Of the hints.
    """

    data: tuple[str, ...] = ()
    photos: int = 64
    seed: int = 0

    def squares(self, progress: str | None = None) -> Iterator[NDArray[np.uint8]]:
        """The photos' middle squares, (256, 256, 3), one after the other."""
        if self.data:
            found = load_photos(self.data, short_side=SIZE, progress=progress)
            for _, rgb in islice(found, self.photos):
                yield center_square(rgb, SIZE)
            return
        import export

        sample = read_image(Path(export.__file__).with_name("sample.jpg"))
        rng = np.random.default_rng(self.seed)
        for i in range(min(self.photos, BUILT_IN)):
            side = int(rng.integers(SIZE // 2, SIZE + 1))
            top, left = (int(rng.integers(0, n - side + 1)) for n in sample.shape[:2])
            square = center_square(
                np.ascontiguousarray(sample[top : top + side, left : left + side]), SIZE
            )
            yield square[:, ::-1].copy() if i % 2 else square

    def inputs(self, progress: str | None = None) -> Iterator[NDArray[np.float32]]:
        """One input of the network after the other, (1, 4, 256, 256); never more in memory.

        Raises
        ------
        DataError
            If there are no usable photos: none at all, or none with colour.
        """
        for i, rgb in enumerate(self.squares(progress)):
            lab = torch.from_numpy(np.moveaxis(lab_from_rgb(rgb), -1, 0).copy())[None]
            chance = torch.Generator().manual_seed(
                int(np.random.SeedSequence((self.seed, i)).generate_state(1)[0])
            )
            hint, mask = _RECIPE.draw(lab[:, 1:], chance)
            yield pack_input(lab[:, :1], hint, mask).numpy()

    def digest(self) -> str:
        """What two sets share that give the same ranges: every input of the network."""
        total = hashlib.sha256()
        for x in self.inputs("Reading photos"):
            total.update(x.tobytes())
        return total.hexdigest()


def describe(chosen: Sequence[str], count: int) -> str:
    """The set in words, for people."""
    if chosen:
        return f"{count} photos of {', '.join(chosen)}"
    return (
        f"{count} pictures of one sample photo: enough to try, too few to ship; give --data FOLDER "
        "or TAR with a hundred photos of your own"
    )
