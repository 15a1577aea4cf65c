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

from ..errors import (
    ArgumentError,
    BackendError,
    ColorizationError,
    MissingDependencyError,
    first_line,
)
from ..progress import Bar
from .storage import Storage
from .work import Todo, Worker, plan

ERRORS = "hscaunet-errors.csv"
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
                       "one of its own on this machine. Other machines need this package and the "
                       "same paths")  # fmt: skip
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
    args.input, args.out = _absolute(args.input), _absolute(args.out)
    args.hints_dir = None if args.hints_dir is None else _absolute(args.hints_dir)
    if args.input == args.out:
        raise ArgumentError("Results would be written over their photos; name another --out.")
    photos, out = Storage(args.input), Storage(args.out)
    hints = None if args.hints_dir is None else Storage(args.hints_dir)
    began = time.monotonic()
    todo = plan(photos, out, hints, args.format)
    for note in todo.notes:
        print(f"note: {note}", file=sys.stderr)
    errors = list(todo.refused)
    if todo.rows and args.device != "cuda":  # the driver may have no GPU
        from ..colorizer import Colorizer

        Colorizer(args.model, backend=args.backend, device="cpu", size=args.size).close()
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


def colorize(todo: Todo, args: argparse.Namespace) -> Iterator[dict[str, Any]]:
    """Do all rows; of each photo what became of it, in any order, once.

    Actors that die are started again, and what they had not finished is done by others; a result
    that they had written is left as it is. What dies again and again is done photo by photo, and
    the photo that kills its actor is named.

    Raises
    ------
    ColorizationError
        If the cluster cannot be reached, or has not what an actor needs.
    """
    warnings.filterwarnings("ignore", module="ray")
    ray = _ray()
    mine = not ray.is_initialized()
    try:
        if mine:
            logging.getLogger("ray").setLevel(logging.ERROR)
            own = args.address is None
            where = {"address": "local", "include_dashboard": False} if own else {
                "address": args.address}  # fmt: skip
            with _quiet():
                ray.init(log_to_driver=False, logging_level=logging.ERROR, **where)
        actors = _actors(ray, args)
        left = {row["photo"]: row for row in todo.rows}
        for batch in (args.batch, 1):
            for result in _pass(ray, list(left.values()), args, actors, batch):
                left.pop(result["photo"], None)
                yield result
            if not left:
                return
        for name in left:
            why = (
                f"{name}: its actor died each time; is the photo too large for the memory, or the "
                "model missing on a machine?"
            )
            yield {"photo": name, "error": why, "notes": "", "hinted": False}
    except (ray.exceptions.RayError, ConnectionError, RuntimeError, ValueError) as error:
        raise BackendError(f"Ray failed: {first_line(error)}.") from None
    finally:
        if mine:
            ray.shutdown()


def _actors(ray: Any, args: argparse.Namespace) -> int:
    """How many actors the cluster has room for, or as many as were asked for."""
    kind, needed = ("GPU", 1) if args.device == "cuda" else ("CPU", args.threads)
    rooms = [int(n["Resources"].get(kind, 0)) // needed for n in ray.nodes() if n["Alive"]]
    cores = max(int(n["Resources"].get("CPU", 0)) for n in ray.nodes() if n["Alive"])
    if sum(rooms) < 1 or cores < args.threads:
        raise BackendError(
            f"No machine of the cluster has what an actor needs: {args.threads} cores"
            f"{' and a GPU' if kind == 'GPU' else ''}; take fewer --threads, or another --device."
        )
    return args.actors or sum(rooms)


def _pass(
    ray: Any, rows: list[dict[str, str]], args: argparse.Namespace, actors: int, batch: int
) -> Iterator[dict[str, Any]]:
    """Rows once over; those of batches whose actors died three times are missing."""
    context = ray.data.DataContext.get_current()
    context.enable_progress_bars = False
    context.print_on_execution_start = False
    context.max_errored_blocks = -1
    logging.getLogger("ray.data").setLevel(logging.CRITICAL)
    cuda = args.device == "cuda"
    model = {"model": args.model, "backend": args.backend, "size": args.size,
             "device": "cuda" if cuda else "cpu", "threads": args.threads}  # fmt: skip
    blocks = min(len(rows), max(actors, -(-len(rows) // batch)))
    found = ray.data.from_items(rows, override_num_blocks=blocks).map_batches(
        Worker,
        fn_constructor_kwargs={
            "photos": args.input, "out": args.out, "hints": args.hints_dir, "model": model,
            "quality": args.quality, "metadata": not args.no_metadata,
        },
        batch_size=batch,
        compute=ray.data.ActorPoolStrategy(size=actors, max_tasks_in_flight_per_actor=2),
        num_cpus=args.threads,
        num_gpus=1 if cuda else None,
        max_restarts=-1,
        max_task_retries=2,
    )  # fmt: skip
    yield from found.iter_rows()


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


def _absolute(url: str) -> str:
    """A path as every process finds it, through all links; addresses are as they are."""
    return url.rstrip("/") if "://" in url else os.path.realpath(os.path.expanduser(url))


def _write_errors(out: Storage, errors: list[tuple[str, str]]) -> None:
    """The table of photos without a result; none if there are none."""
    if not errors:
        out.remove(ERRORS)
        return
    text = io.StringIO()
    table = csv.writer(text)
    table.writerow(["photo", "error"])
    table.writerows(sorted(errors))
    out.write(ERRORS, text.getvalue().encode(errors="backslashreplace"))


if __name__ == "__main__":
    sys.exit(main())
