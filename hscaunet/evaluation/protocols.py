"""The published ways to give hints in an evaluation, seeded so that figures can be repeated."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from ..data.hints import paint_patches


@dataclass(frozen=True)
class Protocol:
    """How hints are revealed to a method under test.

    Attributes
    ----------
    name : {"published", "zhang", "icolorit"}
        published: each pixel with p = 0.005, exact colour (HSCAU-Net 2022), 256x256.
        zhang: mean colours of 6x6 patches, normally distributed around the middle with a standard
        deviation of a quarter of the side (Zhang et al. 2017), 256x256.
        icolorit: mean colours of 2x2 patches, uniformly distributed (iColoriT 2023), 224x224.
    points : int or None
        Number of patches; None for "published". Fewer points are the first of more, so that the
        effect of one more hint can be seen photo by photo.
    """

    name: str
    points: int | None = None

    @property
    def size(self) -> int:
        """Side of the square photos."""
        return 224 if self.name == "icolorit" else 256

    @property
    def label(self) -> str:
        """Such as "zhang N=10"."""
        return "published 0.5 %" if self.points is None else f"{self.name} N={self.points}"

    def reveal(self, ab: Tensor, photo: int, seed: int = 0) -> tuple[Tensor, Tensor]:
        """Draw the hints of one photo.

        Parameters
        ----------
        ab : Tensor, shape (1, 2, H, W)
            The truth, Lab units.
        photo : int
            Number of the photo; with `seed` it fixes the places.

        Returns
        -------
        hint : Tensor, shape (1, 2, H, W)
        mask : Tensor, shape (1, 1, H, W), bool
        """
        height, width = ab.shape[2:]
        if self.points is None:
            mask = torch.from_numpy(self._chance(photo, seed).random((1, 1, height, width)) < 0.005)
            return ab * mask, mask
        center = torch.from_numpy(self.places(height, width, photo, seed))[None]
        count = torch.tensor([self.points])
        side = torch.full_like(center[..., 0], self.patch)
        return paint_patches(ab, center[..., 1], center[..., 0], side, count)

    @property
    def patch(self) -> int:
        """Side of a patch, in pixels."""
        return {"published": 1, "zhang": 6, "icolorit": 2}[self.name]

    def places(self, height: int, width: int, photo: int, seed: int = 0) -> NDArray[np.int64]:
        """Rows and columns of the patches' middles, shape (points, 2); of fewer the first ones."""
        # One row of chances a point, so that N points are the first N of any larger number.
        rng = self._chance(photo, seed)
        room = np.array([height - self.patch, width - self.patch])
        if self.name == "zhang":
            corner = rng.normal((room + 1) / 2, (room + 1) / 4, (self.points, 2))
        else:
            corner = rng.uniform(0, room + 1, (self.points, 2))
        corner = corner.astype(np.int64).clip(0, room)
        return corner + self.patch // 2  # `cell_span` puts even sizes so

    def _chance(self, photo: int, seed: int) -> np.random.Generator:
        names = ("published", "zhang", "icolorit")
        return np.random.default_rng([seed, photo, names.index(self.name)])


def parse_protocols(names: list[str], points: list[int]) -> list[Protocol]:
    """Every protocol named, at every number of points where it has one."""
    return [
        protocol
        for name in names
        for protocol in (
            [Protocol(name)]
            if name == "published"
            else [Protocol(name, n) for n in sorted(set(points))]
        )
    ]
