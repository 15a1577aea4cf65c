"""Train HSCAU-Net: ``python -m hscaunet.train --data FOLDER|TAR... --out DIR``."""

from __future__ import annotations

import argparse
import json
import logging
import math
import os
import signal
import sys
import time
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import torch

log = logging.getLogger("hscaunet.train")


@dataclass(frozen=True)
class Recipe:
    """What a training run does; all of it is kept in the checkpoint.

    Attributes
    ----------
    name : str
    batch : int
        Photos a step, over all processes.
    lr : float
        Adam's learning rate.
    betas : tuple of float
    loss : {"published", "picture"}
    dense_share : float
        See `hscaunet.sampling.HintRecipe`.
    size : int
        Side of the crops in pixels, a multiple of 16.
    shrink_share : float
        Share of the steps whose crops show twice the side, averaged down.
    grid_images : int
        The guided form learns its interpolation alone on the first so many photos, then the
        network with the interpolation held.
    images : int
        Photos to see in all.
    cooldown : int
        The learning rate falls linearly to 0 over the last so many photos (clicks).
    epochs : tuple of (int, float)
        Instead of a cooldown: (last epoch, learning rate) pairs (published).
    ema : float
        Decay of the averaged weights.
    seed : int
    """

    name: str
    batch: int
    lr: float
    betas: tuple[float, float]
    loss: str
    dense_share: float
    size: int = 256
    shrink_share: float = 0.0
    grid_images: int = 0
    images: int = 0
    cooldown: int = 0
    epochs: tuple[tuple[int, float], ...] = ()
    ema: float = 0.999
    seed: int = 0


RECIPES = {
    # As published: HSCAU-Net 2022, see docs/training.md.
    "published": Recipe(
        "published",
        batch=32,
        lr=5e-4,
        betas=(0.5, 0.999),
        loss="published",
        dense_share=1.0,
        epochs=((186, 5e-4), (286, 5e-5), (324, 5e-6), (338, 5e-8)),
    ),
    "clicks": Recipe(
        "clicks",
        batch=16,
        lr=1e-3,
        betas=(0.9, 0.999),
        loss="picture",
        dense_share=0.3,
        shrink_share=0.5,
        grid_images=4000,
    ),
}
_GRID_LR = 0.02
_WARM_IMAGES = 1000


def learning_rate(recipe: Recipe, seen: int, photos: int) -> float:
    """Learning rate after `seen` images of a set of `photos`."""
    if recipe.epochs:
        epoch = seen / photos
        return next((lr for last, lr in recipe.epochs if epoch < last), recipe.epochs[-1][1])
    if seen < recipe.grid_images:
        left = 1 - seen / recipe.grid_images
        return _GRID_LR * min(1.0, 2 * left)
    warm = min(1.0, (seen - recipe.grid_images + recipe.batch) / _WARM_IMAGES)
    cool = (recipe.images - seen) / recipe.cooldown if recipe.cooldown else 1.0
    return recipe.lr * warm * min(1.0, cool)


class Trainer:
    """One training run, from the photos to its checkpoints.

    Every batch is drawn from a generator seeded with (seed, step, process), so a run that is
    killed and resumed sees the same photos, crops and hints as one that was not.

    Parameters
    ----------
    args : argparse.Namespace
        Of `build_parser`.
    """

    def __init__(self, args: argparse.Namespace) -> None:
        import torch

        from hscaunet.network import HSCAUNet
        from hscaunet.photos import PhotoBlock, center_square, load_photos
        from hscaunet.sampling import HintRecipe

        self.args, self.out = args, Path(args.out)
        self.rank, self.world = int(os.environ.get("RANK", 0)), int(os.environ.get("WORLD_SIZE", 1))
        self.device = self._pick_device()
        if self.world > 1:
            kind = "nccl" if self.device.type == "cuda" else "gloo"
            torch.distributed.init_process_group(kind)
        self.out.mkdir(parents=True, exist_ok=True)
        if args.threads:
            torch.set_num_threads(args.threads)

        state = self._find_state()
        self.recipe = self._settle_recipe(state)
        self.photos = PhotoBlock.load(args.data, balance=args.balance, limit=args.limit).to(
            self.device
        )
        if not self.recipe.images:
            epochs = self.recipe.epochs[-1][0] if self.recipe.epochs else args.epochs
            self.recipe = replace(self.recipe, images=epochs * len(self.photos))
        if not self.recipe.epochs and not self.recipe.cooldown:
            self.recipe = replace(self.recipe, cooldown=max(1, self.recipe.images // 4))
        self.validation = (
            [
                center_square(rgb, 256)
                for _, rgb in load_photos(
                    [args.val], short_side=256, limit=args.val_photos, skip_grey=False
                )
            ]
            if args.val and self.rank == 0
            else []
        )
        self.hints = HintRecipe(self.recipe.dense_share)

        torch.manual_seed(self.recipe.seed)
        config = state["config"] if state else {"width": args.width, "form": args.form}
        self.model = HSCAUNet(**config).to(self.device)
        self.model.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        self.seen, self.step, self.elapsed = 0, 0, 0.0
        self.phase = ""
        self._enter_phase()
        from hscaunet.ema import EMA

        if state:
            self.model.load_state_dict(state["model"])
            self.seen, self.step, self.elapsed = state["seen"], state["step"], state["elapsed"]
            self._enter_phase()
            if state["phase"] == self.phase:  # else it was saved at the last step of its phase
                self.optimizer.load_state_dict(state["optimizer"])
        elif args.init:
            from hscaunet.checkpoints import load_checkpoint

            self.model.load_state_dict(load_checkpoint(args.init).model.state_dict())
        self.ema = EMA(self.model, self.recipe.ema)
        if state:
            for key, value in state["ema"].items():
                self.ema.shadow[key].copy_(value)
        self.stop_signal = 0

    def _pick_device(self) -> torch.device:
        import torch

        from runtime.errors import BackendError

        name = self.args.device
        if name == "auto":
            name = "cuda" if torch.cuda.is_available() else "cpu"
        if name.startswith("cuda"):
            if not torch.cuda.is_available():
                raise BackendError("This PyTorch finds no CUDA device; use --device cpu.")
            device = torch.device("cuda", int(os.environ.get("LOCAL_RANK", 0)))
            torch.cuda.set_device(device)
            torch.backends.cuda.matmul.allow_tf32 = True
            torch.backends.cudnn.allow_tf32 = True
            torch.backends.cudnn.benchmark = True
            return device
        return torch.device(name)

    def _find_state(self) -> dict[str, Any] | None:
        """The newest checkpoint that can be read, if this is to go on from one."""
        from hscaunet.checkpoints import load_training
        from runtime.errors import ModelError

        resume = self.args.resume
        if resume is None:
            if any((self.out / name).exists() for name in ("last.pt", "previous.pt")):
                raise ModelError(
                    f"{self.out} already holds a training run; add --resume to go on with it, or "
                    "name another folder."
                )
            return None
        path = self.out if resume is True else Path(resume)
        choices = [path / "last.pt", path / "previous.pt"] if path.is_dir() else [path]
        if not any(choice.exists() for choice in choices):
            if resume is True:
                log.info("%s holds no checkpoint yet; starting anew.", path)
                return None
            raise ModelError(f"There is no checkpoint {path} to resume from.")
        problems = []
        for choice in choices:
            try:
                state = load_training(choice)
                log.info("Going on from %s, after %d images.", choice, state["seen"])
                return state
            except ModelError as error:
                log.warning("%s", error)
                problems.append(str(error))
        raise ModelError(
            "No checkpoint can be read, so there is nothing to resume: " + " ".join(problems)
        )

    def _settle_recipe(self, state: dict[str, Any] | None) -> Recipe:
        """The recipe of the checkpoint or of the command line, with the options given."""
        args = self.args
        if state:
            saved = dict(state["recipe"])
            saved["betas"] = tuple(saved["betas"])
            saved["epochs"] = tuple(tuple(e) for e in saved["epochs"])
            recipe = Recipe(**saved)
        else:
            recipe = RECIPES[args.recipe]
            if args.form != "guided":
                recipe = replace(recipe, grid_images=0)
        names = ("batch", "lr", "size", "images", "cooldown", "seed", "grid_images", "ema")
        given = {n: getattr(args, n) for n in names if getattr(args, n) is not None}
        return replace(recipe, **given)

    def _enter_phase(self) -> None:
        """Choose what learns: the interpolation alone first, then the network alone."""
        import torch

        guided = self.model.form == "guided"
        phase = "grid" if guided and self.seen < self.recipe.grid_images else "network"
        if phase == self.phase:
            return
        self.phase = phase
        for name, parameter in self.model.named_parameters():
            parameter.requires_grad_(name.startswith("grid.") == (phase == "grid"))
            parameter.grad = None
        self.learning = [p for p in self.model.parameters() if p.requires_grad]
        self.optimizer = torch.optim.Adam(
            self.learning,
            lr=self.recipe.lr,
            betas=self.recipe.betas,
            fused=self.device.type == "cuda",
        )
        forward = self.model.interpolate if phase == "grid" else self.model
        if self.world > 1 and phase == "network":
            forward = torch.nn.parallel.DistributedDataParallel(self.model)
        self.forward = (
            torch.compile(forward) if self.args.compile and phase == "network" else forward
        )

    def _autocast(self) -> Any:
        import torch

        choice = self.args.amp
        if choice == "auto":
            # CPUs without bf16 units emulate it, ten times slower than fp32.
            fast = self.device.type == "cuda" or (
                self.device.type == "cpu" and torch.cpu._is_amx_tile_supported()
            )
            choice = "bf16" if fast else "off"
        return torch.autocast(self.device.type, torch.bfloat16, enabled=choice == "bf16")

    def train_step(self) -> float:
        """One optimizer step; returns the loss."""
        import torch

        from hscaunet.losses import picture_loss, published_loss
        from hscaunet.sampling import pack_input
        from hscaunet.tensors import lab_from_rgb
        from runtime.layout import NEUTRAL, normalize_ab

        recipe = self.recipe
        self._enter_phase()
        self.model.train()
        chance = torch.Generator(self.device)
        chance.manual_seed((recipe.seed << 40) + (self.step << 10) + self.rank)
        host = torch.Generator().manual_seed((recipe.seed << 40) + self.step)
        shrink = 2 if torch.rand((), generator=host) < recipe.shrink_share else 1
        batch = recipe.batch // self.world
        with torch.no_grad():
            lab = lab_from_rgb(self.photos.draw(batch, recipe.size, chance, shrink))
            L, ab = lab[:, :1], lab[:, 1:]
            hint, mask = self.hints.draw(ab, chance)
            x = pack_input(L, hint, mask).contiguous(memory_format=torch.channels_last)
        lr = learning_rate(recipe, self.seen, len(self.photos))
        for group in self.optimizer.param_groups:
            group["lr"] = lr
        if self.phase == "grid":
            predicted = self.forward(x) + NEUTRAL
        else:
            with self._autocast():
                predicted = self.forward(x)
        truth, predicted = normalize_ab(ab), predicted.float()
        if recipe.loss == "published":
            loss = published_loss(L / 100, predicted, truth)
        else:
            loss = picture_loss(L / 100, predicted, truth)
        self.optimizer.zero_grad(set_to_none=True)
        loss.backward()
        if self.phase == "grid" and self.world > 1:
            for p in self.model.grid.parameters():
                torch.distributed.all_reduce(p.grad, torch.distributed.ReduceOp.AVG)
        torch.nn.utils.clip_grad_norm_(self.learning, 10.0)
        self.optimizer.step()
        self.step += 1
        self.seen += batch * self.world
        self.ema.update(self.model, self.step)
        return float(loss.detach())

    def save(self) -> None:
        """Write ``last.pt``, keeping the one before as ``previous.pt``."""
        from hscaunet.checkpoints import save_training

        if self.rank:
            return
        last = self.out / "last.pt"
        if last.exists():
            os.replace(last, self.out / "previous.pt")
        save_training(
            last,
            {
                "config": self.model.config,
                "recipe": asdict(self.recipe),
                "model": self.model.state_dict(),
                "ema": self.ema.shadow,
                "optimizer": self.optimizer.state_dict(),
                "phase": self.phase,
                "seen": self.seen,
                "step": self.step,
                "elapsed": self.elapsed,
            },
        )

    def validate(self) -> dict[str, float]:
        """PSNR and SSIM of the averaged weights on the validation photos."""
        import torch

        from hscaunet.evaluate import TorchMethod, measure
        from hscaunet.network import HSCAUNet
        from hscaunet.protocols import Protocol

        model = HSCAUNet(**self.model.config)  # type: ignore[arg-type]
        model.load_state_dict(self.ema.shadow)
        model.to(self.device).to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        method = TorchMethod("ema", model.eval())
        figures = {}
        for protocol in (Protocol("published"), Protocol("zhang", 10), Protocol("zhang", 0)):
            rows = [measure(method, protocol, rgb, i) for i, rgb in enumerate(self.validation)]
            for key in ("psnr", "ssim"):
                mean = sum(row[key] for row in rows) / len(rows)
                figures[f"{protocol.label} {key}"] = round(mean, 4)
        return figures

    def _log(self, row: dict[str, Any]) -> None:
        if self.rank == 0:
            with open(self.out / "log.jsonl", "a") as file:
                file.write(json.dumps(row) + "\n")

    def run(self) -> None:
        """Train until the images, the time limit or a signal end it; always with a checkpoint."""
        numbers = (signal.SIGINT, signal.SIGTERM)
        before = [
            signal.signal(number, lambda n, _: setattr(self, "stop_signal", n))
            for number in numbers
        ]
        try:
            self._run()
        finally:
            for number, handler in zip(numbers, before, strict=True):
                signal.signal(number, handler)

    def _run(self) -> None:
        import torch
        from tqdm import tqdm

        args, began = self.args, time.monotonic()
        before = self.elapsed
        saved = logged = began
        validated = self.seen
        total, count, mean = self.recipe.images, 0, 0.0
        bar = tqdm(
            total=total,
            initial=self.seen,
            unit=" images",
            disable=None if self.rank == 0 else True,
            smoothing=0.05,
        )
        first = self.seen  # at the last line of the log
        while self.seen < total and not self.stop_signal:
            loss = self.train_step()
            if not math.isfinite(loss):
                raise FloatingPointError(
                    f"The loss is {loss} after {self.seen} images; resume with a smaller --lr."
                )
            count, mean = count + 1, mean + loss
            now = time.monotonic()
            self.elapsed = before + now - began
            bar.update(self.recipe.batch)
            bar.set_postfix(loss=f"{mean / count:.4f}", refresh=False)
            if now - logged > args.log_every:
                row = {
                    "seen": self.seen,
                    "loss": round(mean / count, 5),
                    "lr": learning_rate(self.recipe, self.seen, len(self.photos)),
                    "images_per_s": round((self.seen - first) / (now - logged), 2),
                    "elapsed": round(self.elapsed),
                    "phase": self.phase,
                }
                self._log(row)
                log.info("%s", row)
                count, mean, logged, first = 0, 0.0, now, self.seen
            over = args.time_limit and now - began > args.time_limit * 60
            if self.world > 1:  # every process must leave the loop at the same step
                flag = torch.tensor([float(bool(over) or bool(self.stop_signal))])
                flag = flag.to(self.device)
                torch.distributed.all_reduce(flag)
                over = bool(flag.item())
            if now - saved > args.checkpoint_every * 60:
                self.save()
                saved = time.monotonic()
            if self.validation and self.seen - validated >= args.validate_every:
                self._report()
                validated = self.seen
                logged, first = time.monotonic(), self.seen
            if over:
                break
        bar.close()
        self.save()
        if self.validation:
            self._report()
        if self.rank == 0:
            done = "finished" if self.seen >= total else "stopped; --resume goes on"
            log.info("%d of %d images seen, %s. %s", self.seen, total, done, self.out / "last.pt")
        if self.world > 1:
            # Together: a process that leaves while another still talks to it aborts that one.
            torch.distributed.barrier()
            del self.forward
            torch.distributed.destroy_process_group()

    def _report(self) -> None:
        figures = self.validate()
        self._log({"seen": self.seen, "validation": figures})
        log.info("After %d images: %s", self.seen, figures)


def build_parser() -> argparse.ArgumentParser:
    """The command line."""
    parser = argparse.ArgumentParser(
        prog="python -m hscaunet.train",
        description="Train HSCAU-Net on folders or tar files of photos.",
        formatter_class=argparse.ArgumentDefaultsHelpFormatter,
    )
    add = parser.add_argument
    add("--data", nargs="+", required=True, metavar="PATH", help="folders or tar files of photos")
    add("--out", required=True, metavar="DIR", help="folder for checkpoints and the log")
    add("--val", metavar="PATH", help="folder or tar file of validation photos")
    add("--val-photos", type=int, default=48, metavar="N", help="how many of them to use")
    add("--resume", nargs="?", const=True, metavar="CHECKPOINT",
        help="go on with the run in --out, or from this checkpoint")  # fmt: skip
    add("--init", metavar="CHECKPOINT", help="start from these weights (fine-tuning)")
    add("--recipe", choices=RECIPES, default="clicks", help="hints, loss and schedule")
    add("--width", type=int, default=64, help="64: full network; 32: lite")
    add("--form", choices=("guided", "published"), default="guided", help="form of the network")
    group = parser.add_argument_group("instead of the recipe's values")
    more = group.add_argument
    more("--images", type=int, metavar="N", help="photos to see in all")
    more("--epochs", type=int, default=100, help="the same as passes over the data")
    more("--cooldown", type=int, metavar="N", help="let the learning rate fall over the last N")
    more("--batch", type=int, help="photos a step")
    more("--lr", type=float, help="learning rate")
    more("--size", type=int, help="side of the crops, a multiple of 16")
    more("--grid-images", type=int, metavar="N", help="photos for the interpolation alone")
    more("--ema", type=float, help="decay of the averaged weights")
    more("--seed", type=int, help="of everything random")
    add("--balance", type=float, default=0.5, help="weight of a source of n photos: n ** this")
    add("--limit", type=int, metavar="N", help="read only the first N photos")
    add("--device", default="auto", help="cpu, cuda or auto")
    add("--threads", type=int, metavar="N", help="CPU threads of PyTorch")
    add("--amp", choices=("auto", "bf16", "off"), default="auto", help="bf16 autocast")
    add("--compile", action=argparse.BooleanOptionalAction, default=False, help="torch.compile")
    add("--time-limit", type=float, metavar="MINUTES", help="stop, resumable, after this long")
    add("--checkpoint-every", type=float, default=5, metavar="MINUTES", help="write last.pt")
    add("--validate-every", type=int, default=5000, metavar="N", help="photos between validations")
    add("--log-every", type=float, default=30, metavar="SECONDS", help="lines of log.jsonl")
    return parser


def main(argv: list[str] | None = None) -> int:
    """Run the command line; returns the exit status."""
    parser = build_parser()
    args = parser.parse_args(argv)
    if args.size is not None and (args.size < 32 or args.size % 16):
        parser.error("--size must be a multiple of 16, at least 32.")
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(message)s", datefmt="%H:%M:%S")
    from runtime.errors import ColorizationError

    try:
        Trainer(args).run()
    except (ColorizationError, FloatingPointError, OSError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    except ImportError as error:
        print(f"error: {error.name} is missing; pip install 'hscaunet[train]'.", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
