"""Make label maps for training: ``python -m hscaunet.segment --data FOLDER|TAR... --out TAR``."""

from __future__ import annotations

import argparse
import io
import sys
import tarfile
from pathlib import Path

from .commands import run_command


def build_parser() -> argparse.ArgumentParser:
    """The command line."""
    parser = argparse.ArgumentParser(
        prog="python -m hscaunet.segment",
        description="Find the things in photos by their colours, once, for python -m "
        "hscaunet.train --things TAR. A run that was stopped goes on where it was.",
    )
    add = parser.add_argument
    add("--data", nargs="+", required=True, metavar="PATH", help="folders or tar files of photos")
    add("--out", required=True, type=Path, metavar="TAR", help="the label maps, 16-bit PNGs")
    add("--short-side", type=int, default=256, metavar="PX",
        help="larger photos are shrunk to this first (256)")  # fmt: skip
    return parser


def main(argv: list[str] | None = None) -> int:
    """Run the command line; returns the exit status."""
    args = build_parser().parse_args(argv)
    return run_command(lambda: _run(args), "train")


def _run(args: argparse.Namespace) -> None:
    import logging

    from .data.photos import DataError, load_photos
    from .data.things import encode_labels, photo_key, segment

    logging.basicConfig(level=logging.WARNING, format="%(message)s")
    done = _done(args.out)
    seen: set[str] = set()
    count = 0
    with tarfile.open(args.out, "a") as tar:
        for name, rgb in load_photos(args.data, short_side=args.short_side, progress="Photos"):
            key = photo_key(name)
            if key in seen:
                raise DataError(
                    f"There are two photos of the name {key}, and label maps go by it; rename one."
                )
            seen.add(key)
            if key in done:
                continue
            data = encode_labels(segment(rgb))
            entry = tarfile.TarInfo(f"{key}.png")
            entry.size = len(data)
            tar.addfile(entry, io.BytesIO(data))
            done.add(key)
            count += 1
    print(f"{count} label maps added to {args.out}, which holds {len(done)}.")


def _done(path: Path) -> set[str]:
    """Photos whose maps a tar file holds; what a kill left half written is cut off."""
    from .data.photos import DataError
    from .data.things import photo_key

    if not path.exists():
        return set()
    names, end = set(), 0
    try:
        with tarfile.open(path, "r:") as tar:
            for member in tar:
                blocks = -(-member.size // tarfile.BLOCKSIZE)
                last = member.offset_data + blocks * tarfile.BLOCKSIZE
                if last > path.stat().st_size:
                    break
                names.add(photo_key(member.name))
                end = last
    except tarfile.TarError:
        if path.stat().st_size >= tarfile.BLOCKSIZE:  # more than what a kill leaves of the first
            raise DataError(f"{path} is there and is no tar file; name another --out.") from None
    with open(path, "r+b") as file:
        file.truncate(end)
        file.seek(end)
        file.write(bytes(2 * tarfile.BLOCKSIZE))
    return names


if __name__ == "__main__":
    sys.exit(main())
