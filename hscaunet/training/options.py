"""What a training run does: one validated record, kept in its checkpoints. Imports no torch."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from runtime.errors import ColorizationError


class OptionError(ColorizationError, ValueError):
    """An option of a training run is out of its range or does not fit the others."""


def option(default: Any, text: str, low: float | None = None, high: float | None = None) -> Any:
    """A field of `Options`: its default, a line for ``--help``, and its range."""
    return field(default=default, metadata={"help": text, "low": low, "high": high})


@dataclass(frozen=True)
class Options:
    """What a training run does.

    Each field's ``metadata["help"]`` says what it is; the command line is made of them.

    Raises
    ------
    OptionError
        If a value is out of its range, or does not fit the others.
    """

    form: str = option("guided", "network: guided, or published (HSCAU-Net 2022)")
    width: int = option(64, "published form: channels of the first level; 32 is half", 1)
    widths: tuple[int, ...] = option(
        (48, 96, 160, 192), "guided form: channels at 1/4, 1/8, 1/16 and 1/32 of the size", 8
    )
    images: int = option(200_000, "photos to see in all", 1)
    batch: int = option(16, "photos a step, over all processes", 1)
    size: int = option(192, "side of the crops in pixels, a multiple of 16", 32, 1024)
    lr: float = option(1.5e-3, "Adam's learning rate", 0, 1)
    betas: tuple[float, ...] = option((0.9, 0.999), "Adam's two", 0, 1)
    warm: int = option(1000, "photos over which the learning rate rises", 1)
    cooldown: int = option(50_000, "photos at the end over which it falls linearly to 0", 0)
    schedule: tuple[float, ...] = option(
        (), "instead of a cooldown: epoch, learning rate, epoch, learning rate ...", 0
    )
    weight_decay: float = option(0.02, "of the convolutions, as in AdamW", 0, 10)
    ema: float = option(0.998, "decay of the averaged weights", 0, 1)
    backbone_rate: float = option(
        0.0, "of the learning rate, for the classifier's features; 0 holds them", 0, 1
    )
    loss: str = option("picture", "picture, or published")
    ssim_weight: float = option(6.0, "of 1 - SSIM beside the log squared error", 0, 100)
    guess_weight: float = option(1.0, "of the loss of the guess without hints", 0, 100)
    thing_weight: float = option(
        0.4, "of the loss of photos with hints in things, beside those with hints all over", 0, 100
    )
    outside_weight: float = option(3.0, "of the error outside the things with hints", 0, 100)
    spill_weight: float = option(2.0, "of what repainted things change outside them", 0, 100)
    growth_weight: float = option(
        3.0, "of the share by which the error outside grows over that of the guess", 0, 100
    )
    dense_share: float = option(0.35, "of the photos with hints all over: single pixels", 0, 1)
    pixels: tuple[float, ...] = option(
        (0.008, 0.005, 0.003), "of those, each pixel is one with one of these probabilities", 0, 1
    )
    thing_share: float = option(
        0.5, "of the photos, those with hints in one or two things only; needs --things", 0, 1
    )
    repaint_share: float = option(0.6, "of those, the things that get another colour", 0, 1)
    hue_share: float = option(
        0.1, "of the photos with hints all over, those whose hues are turned", 0, 1
    )
    contrast: float = option(0.1, "L to a random power, exp(-C) to exp(C)", 0, 2)
    seed: int = option(0, "of everything random", 0)

    def __post_init__(self) -> None:
        for one in dataclasses.fields(self):
            _check_range(one, getattr(self, one.name))
        if self.form not in ("guided", "published"):
            raise OptionError(f"--form must be guided or published, not {self.form}.")
        if self.loss not in ("picture", "published"):
            raise OptionError(f"--loss must be picture or published, not {self.loss}.")
        if self.size % 16:
            raise OptionError(f"--size must be a multiple of 16, not {self.size}.")
        if len(self.widths) != 4 or self.widths[2] % 4:
            raise OptionError("--widths are four whole numbers, the third a multiple of 4.")
        if len(self.betas) != 2:
            raise OptionError("--betas are two numbers.")
        if len(self.schedule) % 2:
            raise OptionError("--schedule is pairs of an epoch and a learning rate.")
        if not self.pixels or min(self.pixels) == 0:
            raise OptionError("--pixels must be probabilities above 0.")

    @property
    def network(self) -> dict[str, Any]:
        """The config of `hscaunet.model.build_network`."""
        if self.form == "published":
            return {"form": "published", "width": self.width}
        return {"form": "guided", "widths": list(self.widths)}

    def learning_rate(self, seen: int, photos: int) -> float:
        """Learning rate after `seen` images of a set of `photos`."""
        if self.schedule:
            pairs = list(zip(self.schedule[::2], self.schedule[1::2], strict=True))
            epoch = seen / photos
            return next((lr for last, lr in pairs if epoch < last), pairs[-1][1])
        rise = min(1.0, (seen + self.batch) / self.warm)
        fall = min(1.0, (self.images - seen) / self.cooldown) if self.cooldown else 1.0
        return self.lr * rise * fall


def _check_range(one: dataclasses.Field[Any], value: Any) -> None:
    low, high = one.metadata["low"], one.metadata["high"]
    name = f"--{one.name.replace('_', '-')}"
    for number in value if isinstance(value, tuple) else (value,):
        if isinstance(number, str):
            continue
        if low is not None and not number >= low:
            raise OptionError(f"{name} must be at least {low:g}, not {number:g}.")
        if high is not None and not number <= high:
            raise OptionError(f"{name} must be at most {high:g}, not {number:g}.")


RECIPES: dict[str, Options] = {
    # As published: HSCAU-Net 2022, see docs/training.md.
    "published": Options(
        form="published",
        batch=32,
        size=256,
        betas=(0.5, 0.999),
        schedule=(186, 5e-4, 286, 5e-5, 324, 5e-6, 338, 5e-8),
        weight_decay=0.0,
        ema=0.999,
        loss="published",
        dense_share=1.0,
        pixels=(0.03, 0.01, 0.005),
        thing_share=0.0,
        hue_share=0.0,
        contrast=0.0,
    ),
    "clicks": Options(),
}


def parse_options(saved: Mapping[str, Any]) -> Options:
    """Options as a checkpoint holds them.

    Raises
    ------
    OptionError
        If they are of another release, or out of their ranges.
    """
    try:
        values = {k: tuple(v) if isinstance(v, list) else v for k, v in saved.items()}
        return Options(**values)
    except (TypeError, AttributeError):
        raise OptionError(
            "The checkpoint is of another release; start a new run in another folder with "
            "--init CHECKPOINT."
        ) from None


def step_seed(*numbers: int) -> int:
    """One seed of several numbers, such as (seed, step, process).

    Mixed rather than shifted together: PyTorch's CPU generator looks at the low 32 bits only.
    """
    import numpy as np

    return int(np.random.SeedSequence(numbers).generate_state(1)[0])
