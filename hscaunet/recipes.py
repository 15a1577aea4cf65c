"""What a training run does: recipes, schedule and seeds. Imports no torch."""

from __future__ import annotations

import math
from dataclasses import dataclass


@dataclass(frozen=True)
class Recipe:
    """What a training run does; all of it is kept in the checkpoint.

    Attributes
    ----------
    name : str
    form : {"published", "guided"}
        Of the network, unless the command line says otherwise.
    batch : int
        Photos a step, over all processes.
    lr : float
        Adam's learning rate.
    betas : tuple of float
    loss : {"published", "picture"}
    dense_share, pixels : float, tuple of float
        See `hscaunet.sampling.HintRecipe`.
    ssim_weight : float
        See `hscaunet.losses.picture_loss`.
    size : int
        Side of the crops in pixels, a multiple of 16.
    shrink_share : float
        Share of the steps whose crops show twice the side, averaged down. Where most photos are
        smaller than that, no step does.
    grid_images : int
        The guided form learns its interpolation alone on the first so many photos.
    guess_images, prior_images : int
        Then its prior: what that makes of the hints by itself on so many photos, and with the
        interpolation on so many more. On the rest the U-Net learns.
    prior_lr : float
        Adam's learning rate where the prior learns with the interpolation.
    joint : bool
        Whether on the rest prior and interpolation learn on with the U-Net.
    backbone_rate : float
        Of the learning rate, for the prior's backbone, where the prior learns with others; 0
        holds it.
    hold : tuple of str
        Parts of the U-Net, such as "down4", that keep their weights and BatchNorm's statistics.
    images : int
        Photos to see in all.
    cooldown : int, optional
        The learning rate falls linearly to 0 over the last so many photos (clicks); None is a
        quarter of them.
    epochs : tuple of (int, float)
        Instead of a cooldown: (last epoch, learning rate) pairs (published).
    ema : float
        Decay of the averaged weights.
    weight_decay : float
        Of the convolutions' weights, in the manner of AdamW: per step times the learning rate.
    hue_share, contrast : float
        See `hscaunet.augment.Augmentation`; not while the interpolation learns alone.
    seed : int
    """

    name: str
    form: str
    batch: int
    lr: float
    betas: tuple[float, float]
    loss: str
    dense_share: float
    pixels: tuple[float, ...] = (0.03, 0.01, 0.005)
    ssim_weight: float = 4.0
    size: int = 256
    shrink_share: float = 0.0
    grid_images: int = 0
    guess_images: int = 0
    prior_images: int = 0
    prior_lr: float = 1e-3
    joint: bool = False
    backbone_rate: float = 0.0
    hold: tuple[str, ...] = ()
    images: int = 0
    cooldown: int | None = None
    epochs: tuple[tuple[int, float], ...] = ()
    ema: float = 0.999
    weight_decay: float = 0.0
    hue_share: float = 0.0
    contrast: float = 0.0
    seed: int = 0

    @property
    def alone(self) -> dict[str, int]:
        """Phases before the U-Net's, in their order, and on how many photos each learns."""
        return {"grid": self.grid_images, "guess": self.guess_images, "prior": self.prior_images}

    def phase(self, seen: int) -> tuple[str, int]:
        """What learns after `seen` photos ("network" in the end), and since how many."""
        for name, images in self.alone.items():
            if seen < images:
                return name, seen
            seen -= images
        return "network", seen


RECIPES = {
    # As published: HSCAU-Net 2022, see docs/training.md.
    "published": Recipe(
        "published",
        form="published",
        batch=32,
        lr=5e-4,
        betas=(0.5, 0.999),
        loss="published",
        dense_share=1.0,
        epochs=((186, 5e-4), (286, 5e-5), (324, 5e-6), (338, 5e-8)),
    ),
    "clicks": Recipe(
        "clicks",
        form="guided",
        batch=16,
        lr=1e-3,
        betas=(0.9, 0.999),
        loss="picture",
        dense_share=0.3,
        shrink_share=0.5,
        grid_images=4000,
        guess_images=80000,
        prior_images=40000,
    ),
}
_GRID_LR = 0.02
_GUESS_LR = 2e-3
_WARM_IMAGES = 1000


def learning_rate(recipe: Recipe, seen: int, photos: int) -> float:
    """Learning rate after `seen` images of a set of `photos`."""
    if recipe.epochs:
        epoch = seen / photos
        return next((lr for last, lr in recipe.epochs if epoch < last), recipe.epochs[-1][1])
    phase, since = recipe.phase(seen)
    left = 1 - since / recipe.alone.get(phase, math.inf)
    if phase == "grid":
        return _GRID_LR * min(1.0, 2 * left)
    warm = min(1.0, (since + recipe.batch) / _WARM_IMAGES)
    if phase in recipe.alone:
        lr = recipe.prior_lr if phase == "prior" else _GUESS_LR
        return lr * warm * min(1.0, 3 * left)
    cool = (recipe.images - seen) / recipe.cooldown if recipe.cooldown else 1.0
    return recipe.lr * warm * min(1.0, cool)


def step_seed(*numbers: int) -> int:
    """One seed of several numbers, such as (seed, step, process).

    Mixed rather than shifted together: PyTorch's CPU generator looks at the low 32 bits only.
    """
    import numpy as np

    return int(np.random.SeedSequence(numbers).generate_state(1)[0])
