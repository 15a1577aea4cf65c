"""The training loop: draw, predict, compare, learn; log, validate and save now and then."""

from __future__ import annotations

import contextlib
import json
import logging
import math
import signal
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from tqdm import tqdm

from runtime.layout import denormalize_ab, normalize_ab

from ..model import Network
from .batches import Batch, Drawer
from .block import PhotoBlock
from .losses import picture_losses, published_loss, thing_losses
from .options import Options
from .replay import Replay
from .start import Place, Run, check_same

log = logging.getLogger("hscaunet.train")

# Steps between two looks at the losses: reading one waits for a GPU, which is better kept busy.
_LOSSES = {"cpu": 1, "cuda": 50}


@dataclass(frozen=True)
class Upkeep:
    """What a run does beside learning.

    Attributes
    ----------
    time_limit : float or None
        Stop, resumable, after so many minutes.
    checkpoint_every : float
        Minutes.
    log_every : float
        Seconds.
    validate_every : int
        Photos.
    amp : {"auto", "bf16", "off"}
    compile : bool
    """

    time_limit: float | None = None
    checkpoint_every: float = 5.0
    log_every: float = 30.0
    validate_every: int = 5000
    amp: str = "auto"
    compile: bool = False


def loss_of(predicted: Tensor, guess: Tensor, batch: Batch, o: Options) -> Tensor:
    """The loss of a batch, a mean over photos; see `hscaunet.training.losses`."""
    L, truth = batch.x[:, :1], normalize_ab(batch.ab)
    if o.loss == "published":
        return published_loss(L, predicted, truth)
    many = len(batch.x) - len(batch.inside)
    losses = []
    if many:
        losses.append(picture_losses(L[:many], predicted[:many], truth[:many], o.ssim_weight))
    if many < len(batch.x):
        ab = [denormalize_ab(t[many:]) for t in (predicted, guess, truth)]
        weights = o.outside_weight, o.spill_weight, o.growth_weight
        on_things = thing_losses(*ab, batch.inside, batch.repainted, *weights)
        losses.append(o.thing_weight * on_things)
    alone = picture_losses(L, guess, normalize_ab(batch.own), 0.0)
    alone = (alone * batch.guessable).sum() / batch.guessable.sum().clamp_min(1)
    return torch.cat(losses).mean() + o.guess_weight * alone


class Learner:
    """One step of learning.

    Parameters
    ----------
    run : Run
    upkeep : Upkeep
    """

    def __init__(self, run: Run, upkeep: Upkeep) -> None:
        self.run, self.model = run, run.model
        both = _Both(run.model)
        self.forward: nn.Module = (
            nn.parallel.DistributedDataParallel(both) if run.place.world > 1 else both
        )
        self.bf16 = uses_bf16(upkeep.amp, run.place.device)
        self.loss = loss_of
        if upkeep.compile:  # where most of the small operations are; convolutions gain nothing
            self.loss = torch.compile(loss_of)
            if run.model.form == "guided":
                for part in (run.model.interpolation, run.model.affinity, run.model.diffusion):
                    part.compile()
        self.gradients: Callable[..., Tensor] = self._gradients
        if run.place.device.type == "cuda" and run.place.world == 1:
            self.gradients = Replay(self._gradients, run.model.buffers())

    def step(self, batch: Batch, photos: int) -> Tensor:
        """Learn from a batch; returns the loss, on the device."""
        run = self.run
        self.model.train()
        run.set_rate(run.options.learning_rate(run.seen, photos))
        loss = self.gradients(*batch)
        nn.utils.clip_grad_norm_(run.learning, 10.0)
        run.optimizer.step()
        run.step += 1
        run.seen += len(batch.x) * run.place.world
        run.ema.update(run.step)
        return loss

    def _gradients(self, *tensors: Tensor) -> Tensor:
        """Set the gradients of a batch, and return its loss."""
        batch, options = Batch(*tensors), self.run.options
        with torch.autocast(batch.x.device.type, torch.bfloat16, enabled=self.bf16):
            predicted, guess = self.forward(batch.x)
        loss = self.loss(predicted.float(), guess.float(), batch, options)
        self.run.optimizer.zero_grad(set_to_none=True)
        loss.backward()
        return loss.detach()


class _Both(nn.Module):
    """A network as one that gives its answer and its guess without hints."""

    def __init__(self, model: Network) -> None:
        super().__init__()
        self.model = model

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        if self.model.form == "published":
            answer = self.model(x)
            return answer, answer
        both: tuple[Tensor, Tensor] = self.model.both(x)
        return both


def uses_bf16(amp: str, device: torch.device) -> bool:
    """Whether to compute in bf16: with "auto" wherever it is fast."""
    if amp != "auto" or device.type == "cuda":
        return amp != "off"
    # CPUs without bf16 units emulate it, ten times slower than fp32.
    return torch.cpu._is_amx_tile_supported() or torch.cpu._is_avx512_bf16_supported()


@contextlib.contextmanager
def _caught_signals() -> Iterator[list[int]]:
    """Signals that ask to stop, while they are caught: the first ends the loop after its step."""
    caught: list[int] = []
    numbers = (signal.SIGINT, signal.SIGTERM)
    before = [signal.signal(number, lambda n, _: caught.append(n)) for number in numbers]
    try:
        yield caught
    finally:
        for number, handler in zip(numbers, before, strict=True):
            signal.signal(number, handler)


@dataclass
class _Clock:
    """What has happened since the last line of the log."""

    seen: int
    since: float = field(default_factory=time.monotonic)
    losses: list[Tensor] = field(default_factory=list)
    total: float = 0.0
    count: int = 0

    def read(self, seen: int) -> float:
        """The mean loss; FloatingPointError if one is not finite."""
        if self.losses:
            total = float(torch.stack(self.losses).sum())
            if not math.isfinite(total):
                raise FloatingPointError(
                    f"The loss is {total} after {seen} images; resume with a smaller --lr."
                )
            self.total, self.count = self.total + total, self.count + len(self.losses)
            self.losses.clear()
        return self.total / max(1, self.count)


def train(
    run: Run, photos: PhotoBlock, validation: Sequence[NDArray[np.uint8]], upkeep: Upkeep
) -> None:
    """Learn until the photos, the time limit or a signal end it; always with a checkpoint.

    Raises
    ------
    FloatingPointError
        If the loss is not finite.
    """
    place, options = run.place, run.options
    drawer = Drawer(photos, options, options.batch // place.world, place.rank)
    learner = Learner(run, upkeep)
    began, before, saved, validated = time.monotonic(), run.elapsed, time.monotonic(), run.seen
    clock = _Clock(run.seen)
    bar = tqdm(total=options.images, initial=run.seen, unit=" images", smoothing=0.05,
               disable=True if place.rank else None)  # fmt: skip
    with _caught_signals() as caught, bar:
        while run.seen < options.images:
            clock.losses.append(learner.step(drawer.draw(run.step), len(photos)))
            now = time.monotonic()
            run.elapsed = before + now - began
            bar.update(options.batch)
            if len(clock.losses) < _LOSSES[place.device.type] and run.seen < options.images:
                continue
            mean = clock.read(run.seen)
            bar.set_postfix(loss=f"{mean:.4f}", refresh=False)
            if now - clock.since > upkeep.log_every:
                _log_progress(run, clock, mean, len(photos))
                clock = _Clock(run.seen)
            if now - saved > upkeep.checkpoint_every * 60:
                run.save()
                saved = time.monotonic()
            if validation and run.seen - validated >= upkeep.validate_every:
                report(run, validation)
                validated, clock = run.seen, _Clock(run.seen)
            late = upkeep.time_limit is not None and now - began > upkeep.time_limit * 60
            if _together(late or bool(caught), place):
                break
    _finish(run, validation)


def _log_progress(run: Run, clock: _Clock, mean: float, photos: int) -> None:
    row = {
        "seen": run.seen,
        "loss": round(mean, 5),
        "lr": run.options.learning_rate(run.seen, photos),
        "images_per_s": round((run.seen - clock.seen) / (time.monotonic() - clock.since), 2),
        "elapsed": round(run.elapsed),
    }
    _write_log(run, row)
    log.info("%s", row)


def _write_log(run: Run, row: dict[str, object]) -> None:
    if run.place.rank == 0:
        with open(run.folder / "log.jsonl", "a") as file:
            file.write(json.dumps(row) + "\n")


def _together(over: bool, place: Place) -> bool:
    """Whether any process wants to stop: all leave the loop at the same step."""
    if place.world == 1:
        return over
    flag = torch.tensor([float(over)], device=place.device)
    torch.distributed.all_reduce(flag)
    return bool(flag.item())


def report(run: Run, validation: Sequence[NDArray[np.uint8]]) -> None:
    """Measure the averaged weights on validation photos, and log it."""
    from ..evaluation.validation import validate

    figures = validate(run.model.config, run.ema.shadow, run.place.device, validation)
    _write_log(run, {"seen": run.seen, "validation": figures})
    log.info("After %d images: %s", run.seen, figures)


def _finish(run: Run, validation: Sequence[NDArray[np.uint8]]) -> None:
    if run.saved != run.seen:
        run.save()
    if validation:
        report(run, validation)
    if run.place.rank == 0:
        done = "finished" if run.seen >= run.options.images else "stopped; --resume goes on"
        log.info("%d of %d images seen, %s. %s", run.seen, run.options.images, done,
                 run.folder / "last.pt")  # fmt: skip
    if run.place.world > 1:
        check_same(run.model, run.place.world)
        # Together: a process that leaves while another still talks to it aborts that one.
        torch.distributed.barrier()
        torch.distributed.destroy_process_group()
