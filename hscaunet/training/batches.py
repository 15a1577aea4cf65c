"""Batches: photos with hints all over, and photos with clicks on things."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from ..data.hints import pack_input
from ..tensors import lab_from_rgb
from .augmentation import Augmentation
from .block import PhotoBlock
from .clicks import click
from .everywhere import HintRecipe
from .options import Options, step_seed

_LEAST_HINTS = 10  # of a photo whose hues are turned: fewer cannot tell that all are


class Batch(NamedTuple):
    """One batch; the first photos have hints all over, the rest clicks on things.

    Attributes
    ----------
    x : Tensor, shape (N, 4, H, W)
        The network's input.
    ab : Tensor, shape (N, 2, H, W)
        The truth; Lab units.
    own : Tensor, shape (N, 2, H, W)
        The photos' own ab, which a guess without hints should come to.
    guessable : Tensor, shape (N,), float32
        0 where `own` has its hues turned.
    inside : Tensor, shape (M, 1, H, W)
        Of the last M photos, the things that were clicked: 1 there, else 0.
    repainted : Tensor, shape (M,), float32
        Of those, 1 where the things have another colour than the photo's own.
    """

    x: Tensor
    ab: Tensor
    own: Tensor
    guessable: Tensor
    inside: Tensor
    repainted: Tensor


class Drawer:
    """Draws batches, each from a generator seeded with (seed, step, process).

    Parameters
    ----------
    photos : PhotoBlock
    options : Options
    batch : int
        Photos of this process.
    rank : int
        Number of the process.
    """

    def __init__(self, photos: PhotoBlock, options: Options, batch: int, rank: int = 0) -> None:
        self.photos, self.options, self.rank = photos, options, rank
        self.clicked = round(batch * options.thing_share) if photos.mapped else 0
        self.everywhere = batch - self.clicked
        self.hints = HintRecipe(options.dense_share, options.pixels)
        self.changes = Augmentation(options.hue_share, options.contrast)
        short = torch.minimum(photos.height, photos.width).float()
        self.widest = max(options.size, int(short.median()))

    @torch.no_grad()
    def draw(self, step: int) -> Batch:
        """The batch of a step."""
        device = self.photos.data.device
        chance = torch.Generator(device)
        chance.manual_seed(step_seed(self.options.seed, step, self.rank))
        # How much of the photos is seen is drawn on the host, for it sets the tensors' shapes.
        host = torch.Generator().manual_seed(step_seed(self.options.seed, step))
        room = self.widest - self.options.size
        window = self.options.size + int(torch.rand((), generator=host) * (room + 1))
        parts = []
        if self.everywhere:
            parts.append(self._everywhere(window, chance))
        if self.clicked:
            parts.append(self._clicked(window, chance))
        x, ab, own, guessable, inside, repainted = (torch.cat(p) for p in zip(*parts, strict=True))
        x = x.contiguous(memory_format=torch.channels_last)
        return Batch(x, ab, own, guessable, inside, repainted)

    def _everywhere(self, window: int, chance: torch.Generator) -> Batch:
        rgb, _ = self.photos.draw(self.everywhere, self.options.size, window, chance)
        lab, turned = self.changes.draw(rgb, chance)
        ab = lab[:, 1:]
        hint, mask = self.hints.draw(ab, chance, _LEAST_HINTS * turned.long())
        x = pack_input(lab[:, :1], hint, mask)
        return Batch(x, ab, ab, (~turned).float(), x[:0, :1], x[:0, 0, 0, 0])

    def _clicked(self, window: int, chance: torch.Generator) -> Batch:
        rgb, labels = self.photos.draw(self.clicked, self.options.size, window, chance, things=True)
        lab = lab_from_rgb(rgb)
        clicked = click(lab, labels, self.options.repaint_share, chance)
        x = pack_input(lab[:, :1], clicked.hint, clicked.mask)
        return Batch(
            x,
            clicked.ab,
            lab[:, 1:],
            torch.ones_like(x[:, 0, 0, 0]),
            clicked.inside,
            clicked.repainted.float(),
        )
