"""Opening a training run: anew, from other weights, or where it was stopped."""

from __future__ import annotations

import logging
import os
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from runtime.errors import BackendError, ModelError

from ..checkpoints import load_training, read_weights, save_training
from ..devices import pick_device
from ..model import Network, build_network
from ..model.backbone import find_backbone, read_backbone
from ..model.folding import refresh
from .ema import EMA
from .options import Options

log = logging.getLogger("hscaunet.train")

# What a run leaves in its folder, in the order in which to try them; next.pt only between two
# renames of a save.
CHECKPOINTS = ("last.pt", "next.pt", "previous.pt")

# Of the optimizer's groups: what the options say, whatever a checkpoint had.
_ASKED = ("share", "betas", "weight_decay")


@dataclass
class Place:
    """Where a run happens.

    Attributes
    ----------
    device : torch.device
    rank, world : int
        Number of this process, and how many there are (as torchrun sets them).
    """

    device: torch.device
    rank: int = 0
    world: int = 1


@dataclass
class Run:
    """A run's state.

    Attributes
    ----------
    facts : dict
        What the draws depend on beside the options.
    saved : int
        After how many photos the last checkpoint was written, -1 for none.
    """

    folder: Path
    place: Place
    options: Options
    model: Network
    optimizer: torch.optim.Optimizer
    ema: EMA
    seen: int = 0
    step: int = 0
    elapsed: float = 0.0
    facts: dict[str, Any] = field(default_factory=dict)
    last_is_good: bool = False
    saved: int = -1

    @property
    def learning(self) -> list[nn.Parameter]:
        """The parameters that learn."""
        return [p for group in self.optimizer.param_groups for p in group["params"]]

    def set_rate(self, lr: float) -> None:
        """Set the learning rate, each group at its own share of it."""
        for group in self.optimizer.param_groups:
            group["lr"] = lr * group["share"]

    def save(self) -> None:
        """Write ``last.pt``, keeping the one before as ``previous.pt``."""
        if self.place.rank:
            return
        # The new file is whole before an older one moves; a damaged one never becomes previous.pt.
        last, new = self.folder / "last.pt", self.folder / "next.pt"
        state = {
            "config": self.model.config,
            "recipe": {
                k: list(v) if isinstance(v, tuple) else v for k, v in asdict(self.options).items()
            },
            "model": self.model.state_dict(),
            "ema": self.ema.shadow,
            "optimizer": self.optimizer.state_dict(),
            "seen": self.seen,
            "step": self.step,
            "elapsed": self.elapsed,
            "facts": self.facts,
        }
        save_training(new, state)
        if self.last_is_good:
            os.replace(last, self.folder / "previous.pt")
        os.replace(new, last)
        self.last_is_good, self.saved = True, self.seen


def open_place(name: str, threads: int | None = None) -> Place:
    """The device of that name, and the other processes if torchrun started some."""
    rank, world = int(os.environ.get("RANK", 0)), int(os.environ.get("WORLD_SIZE", 1))
    device = pick_device(name)
    if device.type == "cuda":
        own = int(os.environ.get("LOCAL_RANK", 0)) if world > 1 else device.index or 0
        device = torch.device("cuda", own)
        torch.cuda.set_device(device)
        # What is not in bf16 needs all of fp32: places are compared by differences of large
        # numbers.
        torch.backends.cuda.matmul.allow_tf32 = False
        torch.backends.cudnn.allow_tf32 = False
    if world > 1:
        torch.distributed.init_process_group("nccl" if device.type == "cuda" else "gloo")
    if threads:
        torch.set_num_threads(threads)
    return Place(device, rank, world)


def find_state(
    folder: Path, resume: bool | str | None
) -> tuple[dict[str, Any] | None, Path | None]:
    """The newest checkpoint that can be read and its file, if this is to go on from one.

    Parameters
    ----------
    folder : Path
        Of the run.
    resume : bool, str or None
        True for the folder's own, or another checkpoint or folder.

    Raises
    ------
    ModelError
        If there is none, none can be read, or one is there and `resume` was not asked for.
    """
    if resume is None:
        if any((folder / name).exists() for name in CHECKPOINTS):
            raise ModelError(
                f"{folder} already holds a training run; add --resume to go on with it, or name "
                "another folder."
            )
        return None, None
    path = folder if resume is True else Path(str(resume))
    choices = [path / name for name in CHECKPOINTS] if path.is_dir() else [path]
    choices = [choice for choice in choices if choice.exists()]
    if not choices:
        if resume is True:
            log.info("%s holds no checkpoint yet; starting anew.", path)
            return None, None
        raise ModelError(f"There is no checkpoint {path} to resume from.")
    problems = []
    for choice in choices:
        try:
            return load_training(choice), choice
        except ModelError as error:
            log.warning("%s", error)
            problems.append(str(error))
    raise ModelError(
        "No checkpoint can be read, so there is nothing to resume: " + " ".join(problems)
    )


def open_run(
    folder: Path,
    place: Place,
    options: Options,
    *,
    state: Mapping[str, Any] | None = None,
    initial: str | None = None,
    backbone: str | None = None,
) -> Run:
    """Make the network and all that learns it.

    Parameters
    ----------
    state : mapping, optional
        Of the checkpoint to go on from.
    initial : str, optional
        A checkpoint whose weights a new run starts from: what has the same name and shape.
    backbone : str, optional
        The file of the classifier's weights, for a new guided network; by default the package's.

    Raises
    ------
    ModelError, BackendError
        If a file does not fit, or the batch does not divide among the processes.
    """
    if options.batch % place.world:
        raise BackendError(
            f"A batch of {options.batch} does not divide among {place.world} processes; set "
            "--batch to a multiple."
        )
    torch.manual_seed(options.seed)
    model = build_network(options.network)
    if state is None:
        _begin(model, initial, backbone)
    model.to(place.device).to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    optimizer = _make_optimizer(model, options, place.device)
    run = Run(folder, place, options, model, optimizer, EMA(model, options.ema))
    if state is not None:
        _go_on(run, state)
    return run


def _begin(model: Network, initial: str | None, backbone: str | None) -> None:
    """The weights of a new run."""
    if backbone and (model.form == "published" or initial):
        raise ModelError(
            "--backbone is for a guided network that begins anew; leave it out with --init and "
            "with the published form."
        )
    if initial is None:
        if model.form == "guided":
            model.photo.backbone.load_state_dict(read_backbone(backbone or find_backbone()))
        return
    given = read_weights(initial).state
    own = model.state_dict()
    fits = {k: v for k, v in given.items() if k in own and own[k].shape == v.shape}
    if not fits:
        raise ModelError(f"No weight of {initial} fits this network; leave --init out.")
    model.load_state_dict({**own, **fits})
    refresh(model)
    missing = {k for k in own.keys() - fits.keys() if not k.endswith("num_batches_tracked")}
    lacking = sorted({k.rpartition(".")[0] for k in missing})
    if lacking:
        log.warning(
            "%d of %d tensors come from %s; these begin anew: %s.",
            len(fits), len(own), initial, ", ".join(lacking),
        )  # fmt: skip


def _make_optimizer(
    model: Network, options: Options, device: torch.device
) -> torch.optim.Optimizer:
    """AdamW in groups: what decays, what does not, the classifier."""
    groups: dict[tuple[float, bool], list[nn.Parameter]] = {}
    for name, parameter in model.named_parameters():
        share = options.backbone_rate if ".backbone." in name else 1.0
        parameter.requires_grad_(share > 0)
        if share > 0:
            groups.setdefault((share, parameter.ndim == 4), []).append(parameter)
    decay = options.weight_decay
    return torch.optim.AdamW(
        [
            {"params": group, "weight_decay": decay if decays else 0.0, "share": share}
            for (share, decays), group in sorted(groups.items(), key=lambda g: g[0])
        ],
        lr=options.lr,
        betas=(options.betas[0], options.betas[1]),
        fused=device.type == "cuda",
    )


def _go_on(run: Run, state: Mapping[str, Any]) -> None:
    """Put a checkpoint's state into a run."""
    try:
        run.model.load_state_dict(state["model"])
        asked = [{k: g[k] for k in _ASKED} for g in run.optimizer.param_groups]
        run.optimizer.load_state_dict(state["optimizer"])
        for group, values in zip(run.optimizer.param_groups, asked, strict=True):
            group.update(values)  # they may be others than before
        run.seen, run.step, run.elapsed = state["seen"], state["step"], state["elapsed"]
        for key, value in state["ema"].items():
            run.ema.shadow[key].copy_(value)
    except (RuntimeError, ValueError, KeyError) as error:
        raise ModelError(
            "The checkpoint is of another release, of a network of another size, or of a run whose "
            "--backbone-rate was 0 where this is not; start a new run in another folder with "
            "--init CHECKPOINT."
        ) from error


def check_same(model: nn.Module, world: int) -> None:
    """Raise FloatingPointError unless every process has the same weights."""
    total = torch.stack([p.detach().double().abs().sum() for p in model.parameters()])
    sums: Sequence[Tensor] = [torch.empty_like(total) for _ in range(world)]
    torch.distributed.all_gather(sums, total)
    if any(not torch.equal(other, total) for other in sums):
        raise FloatingPointError("The processes have ended with different weights.")
