"""Mutated files by the hundred thousand: ``python benchmarks/hostile.py --pictures 1000000``.

Each file is made from the seed and its number: a good file of a kind with bits flipped, bytes
replaced, pieces cut, doubled or taken from another. Children read them under a limit of memory and
time; a crash, a hang, an error that is not this project's, too much memory for the pixels that the
limit allows, or a file left behind is told with its number. ``--only KIND:NUMBER`` reads one again.
"""

from __future__ import annotations

import argparse
import contextlib
import hashlib
import io
import json
import os
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))
sys.path.insert(0, str(ROOT / "tests"))

MAX_PIXELS = 1_000_000
MEMORY = 2 << 30  # address space beyond what the libraries took
SECONDS = 20.0
BATCH = 2000


def mutated(data: bytes, other: bytes, rng: np.random.Generator) -> bytes:
    """One of the ways in which a file can be wrong."""
    out = bytearray(data)
    kind = int(rng.integers(6))
    reach = int(rng.choice([64, 512, len(out)]))
    if kind == 0:  # bits
        for at in rng.integers(0, min(reach, len(out)), int(rng.integers(1, 9))):
            out[at] ^= 1 << int(rng.integers(8))
    elif kind == 1:  # bytes that numbers like
        for at in rng.integers(0, min(reach, len(out)), int(rng.integers(1, 5))):
            value = rng.choice([0, 1, 0x7F, 0x80, 0xFF])
            out[at : at + int(rng.integers(1, 5))] = bytes([int(value)]) * 4
    elif kind == 2:  # cut
        del out[int(rng.integers(1, len(out))) :]
    elif kind == 3:  # a piece doubled, or taken out
        at, length = int(rng.integers(len(out))), int(rng.integers(1, 200))
        piece = out[at : at + length]
        out[at : at + length * int(rng.integers(2))] = piece * int(rng.integers(3))
    elif kind == 4:  # another file's end
        out = out[: int(rng.integers(4, len(out)))] + other[int(rng.integers(len(other))) :]
    else:  # noise
        at = int(rng.integers(len(out)))
        out[at : at + 40] = rng.bytes(40)
    return bytes(out)


def pictures() -> tuple[dict[str, bytes], Callable[[bytes, Path], None]]:
    """Good pictures with metadata, and what reads one."""
    import tifffile
    from hostile import whole_files
    from test_metadata import FULL
    from test_tiff_kinds import KINDS, written

    from runtime.hints import Hints
    from runtime.images import decode_photo, encode_image

    files = whole_files()
    rgb = np.arange(24 * 36 * 3, dtype=np.uint8).reshape(24, 36, 3)
    for kind in ("JPEG", "PNG", "TIFF", "WEBP", "AVIF"):
        files[f"full.{kind}"] = encode_image(rgb, kind, FULL)
    for name, (stored, options, _) in KINDS.items():
        files[f"tiff {name}"] = written(stored[:, :16] if stored.ndim > 2 else stored, **options)
    pages = io.BytesIO()
    tifffile.imwrite(pages, np.stack([rgb] * 3), photometric="rgb")
    files["pages.tif"] = pages.getvalue()
    text = (
        '{"format": "hscaunet-hints", "version": 2, "image": {"width": 56, "height": 40}, "hints": '
    )
    files["hints.json"] = (
        text
        + '[{"x": 5, "y": 6, "color": "red"}, {"stroke": [[1, 2], [30, 4]], "color": "#aabbcc"},'
        '{"mask": {"x": 1, "y": 1, "width": 2, "height": 2, "runs": [1, 3]}, "color": [1, 2, 3]}]}'
    ).encode()

    def read(data: bytes, folder: Path) -> None:
        if data[:1] == b"{":
            Hints.from_json(data)
        else:
            photo = decode_photo(data, max_pixels=MAX_PIXELS)
            photo.to_bytes("TIFF" if photo.pixels.dtype != np.uint8 else "JPEG")

    return files, read


def models() -> tuple[dict[str, bytes], Callable[[bytes, Path], None]]:
    """Good small files that are no pictures, and what reads one by its name."""
    import torch
    from onnx import TensorProto, helper
    from safetensors.torch import save
    from test_colour_spaces import PROFILES

    from calibration import ranges
    from hscaunet.checkpoints import load_checkpoint
    from runtime import Metadata
    from runtime.engines.tensorrt.sidecar import FORMAT, Sidecar, parse, read_engine
    from runtime.images import decode_photo, encode_image
    from runtime.models.onnx_file import read_model_file, read_weights

    x = helper.make_tensor_value_info("input", TensorProto.FLOAT, ["N", 4, "H", "W"])
    y = helper.make_tensor_value_info("ab", TensorProto.FLOAT, ["N", 2, "H", "W"])
    weight = helper.make_tensor("w", TensorProto.FLOAT, [2, 4, 1, 1], np.ones(8).tolist())
    graph = helper.make_graph(
        [helper.make_node("Conv", ["input", "w"], ["ab"])], "g", [x], [y], [weight]
    )
    proto = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)])
    helper.set_model_props(proto, {"layout": "hscaunet-layout-1", "name": "tiny"})
    checkpoint = io.BytesIO()
    torch.save({"form": "guided", "model": {"a": torch.zeros(3)}}, checkpoint)
    rgb = np.arange(24 * 36 * 3, dtype=np.uint8).reshape(24, 36, 3)
    engine = b"ftrt" + np.arange(2000, dtype=np.uint16).tobytes()
    beside = Sidecar(
        flavor="rtx", version="1.2.0", precision="fp16", profiles=(), onnx="lite", onnx_sha256="",
        engine_sha256=hashlib.sha256(engine).hexdigest(),
    ).to_json()  # fmt: skip
    files = {
        "m.onnx": proto.SerializeToString(),
        "m.safetensors": save({"a": torch.zeros(3, 3)}, {"form": "guided"}),
        "m.pt": checkpoint.getvalue(),
        "m.ranges.json": json.dumps(
            {"format": ranges.FORMAT, "key": {}, "ranges": {"a": [0.0, 1.0]}}
        ).encode(),
        "m.engine.json": json.dumps(
            {"format": FORMAT, "flavor": "rtx", "version": "1", "profiles": []}
        ).encode(),
        "m.engine": engine,
        **{f"{name}.icc": icc for name, (_, icc) in PROFILES.items()},
    }

    def read(data: bytes, folder: Path) -> None:
        name = read.name  # type: ignore[attr-defined]
        path = folder / name
        path.write_bytes(data)
        try:
            if name.endswith(".onnx"):
                found, _ = read_model_file(path)
                with contextlib.suppress(ValueError, IndexError, KeyError):
                    read_weights(found)
            elif name.endswith((".pt", ".safetensors")):
                load_checkpoint(path)
            elif name.endswith(".ranges.json"):
                ranges.load(path, {}, ["a"])
            elif name.endswith(".engine"):
                (folder / "m.engine.json").write_bytes(beside)
                found, _ = read_engine(path)  # nothing but the very file
                assert found == engine
            elif name.endswith(".engine.json"):
                with contextlib.suppress(ValueError):  # which the engine makes a sentence of
                    parse(data)
            else:
                decode_photo(encode_image(rgb, "PNG", Metadata(icc=data)))
        finally:
            path.unlink()
            (folder / "m.engine.json").unlink(missing_ok=True)

    return files, read


KINDS = {"pictures": pictures, "models": models}


def made(kind: str, number: int, files: dict[str, bytes]) -> tuple[str, bytes]:
    """Name of the good file that the number's is made of, and its bytes."""
    rng = np.random.default_rng([sum(kind.encode()), number])
    names = sorted(files)
    name = names[number % len(names)]
    data = mutated(files[name], files[names[int(rng.integers(len(names)))]], rng)
    return name, mutated(data, files[name], rng) if rng.random() < 0.3 and len(data) > 8 else data


def child(kind: str, first: int, last: int) -> None:
    """Read files; a line for each that is begun, and one for each that is wrong."""
    import warnings

    from runtime import ColorizationError

    warnings.simplefilter("ignore")
    files, read = KINDS[kind]()
    with tempfile.TemporaryDirectory() as folder:
        with contextlib.suppress(Exception):  # only to load the libraries before the limit is set
            read.name = sorted(files)[0]  # type: ignore[attr-defined]
            read(files[sorted(files)[0]], Path(folder))
        used = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
        resource.setrlimit(resource.RLIMIT_AS, (used + MEMORY, used + MEMORY))
        for number in range(first, last):
            name, data = made(kind, number, files)
            read.name = name.replace(" ", "-")  # type: ignore[attr-defined]
            os.pwrite(3, b"%012d" % number, 0)
            began = time.monotonic()
            try:
                read(data, Path(folder))
            except ColorizationError:
                pass
            except BaseException as error:
                print(f"{kind}:{number} {name}: {type(error).__name__}: {error}"[:300], flush=True)
            took = time.monotonic() - began
            if took > SECONDS / 4:
                print(f"{kind}:{number} {name}: {took:.1f} s", flush=True)
            if left := os.listdir(folder):
                print(f"{kind}:{number} {name}: left {left}", flush=True)
                for other in left:
                    os.unlink(os.path.join(folder, other))


def run(kind: str, count: int, seed: int) -> list[str]:
    """Read `count` files of a kind in children; what went wrong."""
    wrong, first = [], seed * 100_000_000
    end = first + count
    began = time.monotonic()
    while first < end:
        last = min(first + BATCH, end)
        with tempfile.TemporaryFile() as at:
            words = [sys.executable, __file__, "--child", kind, str(first), str(last)]
            try:
                done = subprocess.run(
                    words, capture_output=True, text=True, timeout=SECONDS + BATCH * 0.5,
                    preexec_fn=lambda at=at: os.dup2(at.fileno(), 3), pass_fds=(3,),
                )  # fmt: skip
                lines, status = done.stdout.splitlines(), done.returncode
            except subprocess.TimeoutExpired as error:
                lines, status = (error.stdout or b"").decode().splitlines(), "hang"
            number = int(os.pread(at.fileno(), 12, 0) or b"0")
        wrong += lines
        if status:
            said = done.stderr.strip().splitlines()[-1:] if status != "hang" else []
            wrong.append(f"{kind}:{max(number, first)}: the process ended with {status} {said}")
            if number >= first:  # else it did not even begin
                last = number + 1
        first = last
        seconds = time.monotonic() - began
        print(f"\r{kind}: {first - seed * 100_000_000} of {count}, {len(wrong)} wrong, "
              f"{seconds:.0f} s", end="", file=sys.stderr)  # fmt: skip
    print(file=sys.stderr)
    return wrong


def numbers(text: str) -> Iterator[str]:
    """KIND:NUMBER."""
    yield from text.split(":")


def main() -> int:
    """Run the command line."""
    if sys.argv[1:2] == ["--child"]:
        child(sys.argv[2], int(sys.argv[3]), int(sys.argv[4]))
        return 0
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--pictures", type=int, default=20_000, help="pictures and hint files")
    parser.add_argument("--models", type=int, default=2_000, help="models, checkpoints, profiles")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--only", metavar="KIND:NUMBER", help="read one again, here")
    args = parser.parse_args()
    if args.only:
        kind, number = numbers(args.only)
        files, read = KINDS[kind]()
        name, data = made(kind, int(number), files)
        read.name = name.replace(" ", "-")  # type: ignore[attr-defined]
        print(name, len(data))
        read(data, Path(tempfile.mkdtemp()))
        return 0
    wrong = [*run("pictures", args.pictures, args.seed), *run("models", args.models, args.seed)]
    print("\n".join(wrong) or "nothing went wrong")
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
