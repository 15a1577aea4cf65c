"""``python -m runtime.cluster INPUT --out OUT``: colorize a folder on all machines of a cluster."""

from __future__ import annotations

import argparse
import contextlib
import csv
import io
import logging
import os
import sys
import time
import warnings
from collections.abc import Iterator
from typing import Any

from ..errors import ArgumentError, ColorizationError, MissingDependencyError
from ..progress import Bar
from .storage import Storage
from .work import Todo, Worker, plan

ERRORS = "errors.csv"
"""Table in the output folder of photos that could not be colorized."""


def build_parser() -> argparse.ArgumentParser:
    """The command line."""
    parser = argparse.ArgumentParser(
        prog="python -m runtime.cluster",
        description="Colorize a folder of any number of photos with Ray, on this machine or on a "
        "cluster. What has been written stays: the same command goes on after any end.",
    )
    add = parser.add_argument
    add("input", metavar="INPUT", help="folder: a path, s3://bucket/folder, gs://...")
    add("--out", required=True, metavar="OUT", help="folder for the results, of the same kinds")
    add("--hints-dir", metavar="DIR", help="folder with NAME.hints.json of photos that have any")
    add("--format", metavar="EXT", help="png, jpg, tif, webp or avif; default: each photo's own")
    add("--quality", type=int, metavar="Q", help="1 to 100, of jpg, webp and avif")
    add("--no-metadata", action="store_true", help="write the pixels alone")
    group = parser.add_argument_group("the cluster")
    group.add_argument("--address", metavar="A", help="of a running cluster, or auto; default: "
                       "one of its own on this machine")  # fmt: skip
    group.add_argument("--actors", type=int, metavar="N", help="default: one for each core or GPU")
    group.add_argument("--threads", type=int, default=1, metavar="N", help="cores an actor (1)")
    group.add_argument("--batch", type=int, default=32, metavar="N", help="photos a task (32)")
    group = parser.add_argument_group("model")
    group.add_argument("--model", metavar="M", help="as for python -m runtime; a path must be "
                       "there on every machine")  # fmt: skip
    group.add_argument("--backend", default="auto")
    group.add_argument("--device", default="auto", help="auto (default), cpu, or cuda: one GPU an "
                       "actor")  # fmt: skip
    group.add_argument("--size", type=int, default=256, metavar="N")
    return parser


def main(argv: list[str] | None = None) -> int:
    """Run the command line.

    Returns
    -------
    int
        0; 1 after an error, or if any photo failed or was left out; 130 if interrupted.
    """
    args = build_parser().parse_args(argv)
    try:
        return _run(args)
    except ColorizationError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("interrupted; the same command goes on where it was stopped.", file=sys.stderr)
        return 130


def _run(args: argparse.Namespace) -> int:
    _check(args)
    photos, out = Storage(args.input), Storage(args.out)
    hints = None if args.hints_dir is None else Storage(args.hints_dir)
    began = time.monotonic()
    todo = plan(photos, out, hints, args.format)
    for note in todo.notes:
        print(f"note: {note}", file=sys.stderr)
    errors = list(todo.refused)
    hinted = done = 0
    bar = Bar(len(todo.rows), sys.stderr)
    try:
        for row in colorize(todo, args) if todo.rows else ():
            if row["error"]:
                errors.append((row["photo"], row["error"]))
                bar.write(f"error: {row['error']}")
            else:
                done, hinted = done + 1, hinted + bool(row["hinted"])
            if row["notes"]:
                bar.write(f"note: {row['photo']}: {row['notes']}")
            bar.name = row["photo"]
            bar.advance()
    finally:
        bar.close()
    _write_errors(out, errors)
    parts = [f"{done} of {len(todo.rows)} colorized, {hinted} with hints"]
    parts += [f"{todo.done} were there already"] * bool(todo.done)
    parts += [f"{len(errors)} failed or left out ({ERRORS})"] * bool(errors)
    parts += [f"{todo.others} other files passed over"] * bool(todo.others)
    print(f"{args.out}: {', '.join(parts)}, {time.monotonic() - began:.1f} s")
    return 1 if errors else 0


def _check(args: argparse.Namespace) -> None:
    from ..images.photo import FORMATS

    if args.format is not None:
        args.format = "." + args.format.lower().lstrip(".")
        if args.format not in FORMATS:
            raise ArgumentError(
                f"--format must be png, jpg, tif, webp, avif or bmp, not {args.format[1:]}."
            )
    if args.quality is not None and not 1 <= args.quality <= 100:
        raise ArgumentError("--quality must be 1 to 100.")
    for name in ("actors", "threads", "batch"):
        value = getattr(args, name)
        if value is not None and not 1 <= value <= 100_000:
            raise ArgumentError(f"--{name} must be 1 to 100000.")
    if args.input.rstrip("/") == args.out.rstrip("/"):
        raise ArgumentError("Results would be written over their photos; name another --out.")


def colorize(todo: Todo, args: argparse.Namespace) -> Iterator[dict[str, Any]]:
    """Do all rows; of each photo what became of it, in any order, once.

    Actors that die are started again, and what they had not finished is done by others; a result
    that they had written is left as it is.
    """
    warnings.filterwarnings("ignore", module="ray")
    ray = _ray()
    mine = not ray.is_initialized()
    if mine:
        logging.getLogger("ray").setLevel(logging.ERROR)
        where = {"address": args.address} if args.address else {"include_dashboard": False}
        with _quiet():
            ray.init(log_to_driver=False, logging_level=logging.ERROR, **where)
    try:
        context = ray.data.DataContext.get_current()
        context.enable_progress_bars = False
        logging.getLogger("ray.data").setLevel(logging.ERROR)
        context.print_on_execution_start = False
        cuda = args.device == "cuda"
        resources = ray.cluster_resources()
        whole = resources.get("GPU", 1) if cuda else resources.get("CPU", 1) // args.threads
        actors = args.actors or max(1, int(whole))
        model = {"model": args.model, "backend": args.backend, "device": args.device,
                 "size": args.size, "threads": args.threads}  # fmt: skip
        blocks = min(len(todo.rows), max(actors, -(-len(todo.rows) // args.batch)))
        rows = ray.data.from_items(todo.rows, override_num_blocks=blocks).map_batches(
            Worker,
            fn_constructor_kwargs={
                "photos": _absolute(args.input), "out": _absolute(args.out),
                "hints": _absolute(args.hints_dir), "model": model,
                "quality": args.quality, "metadata": not args.no_metadata,
            },
            batch_size=args.batch,
            compute=ray.data.ActorPoolStrategy(size=actors),
            num_cpus=args.threads,
            num_gpus=1 if cuda else None,
        )  # fmt: skip
        yield from rows.iter_rows()
    finally:
        if mine:
            ray.shutdown()


def _ray() -> Any:
    # Ray's workers run the interpreter that this one is, with what it has, not one of uv's making.
    os.environ.setdefault("RAY_ENABLE_UV_RUN_RUNTIME_ENV", "0")
    os.environ.setdefault("RAY_BACKEND_LOG_LEVEL", "fatal")  # actors that die are started again
    os.environ.setdefault("RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO", "0")
    try:
        import ray
        import ray.data
    except ImportError:
        raise MissingDependencyError(
            'Folders of millions need Ray; install it: pip install "hscaunet[ray]".'
        ) from None
    return ray


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Without what Ray's own code says to standard error while it starts; faults are raised."""
    kept = os.dup(2)
    try:
        with open(os.devnull, "wb") as nowhere:
            os.dup2(nowhere.fileno(), 2)
            yield
    finally:
        os.dup2(kept, 2)
        os.close(kept)


def _absolute(url: str | None) -> str | None:
    """A path as every process finds it; addresses are as they are."""
    return url if url is None or "://" in url else os.path.abspath(url)


def _write_errors(out: Storage, errors: list[tuple[str, str]]) -> None:
    """The table of photos without a result; none if there are none."""
    if not errors:
        out.remove(ERRORS)
        return
    text = io.StringIO()
    table = csv.writer(text)
    table.writerow(["photo", "error"])
    table.writerows(sorted(errors))
    out.write(ERRORS, text.getvalue().encode())


if __name__ == "__main__":
    sys.exit(main())
