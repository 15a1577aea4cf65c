"""Photos a second on a Ray cluster of this machine against the folder command.

``python benchmarks/cluster.py``: both colorize the same JPEGs of 256x256, one after the other, in
turns. What a run takes before its first photo (starting Ray, opening the engine) is measured with
few photos and told apart.
"""

from __future__ import annotations

import argparse
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from statistics import median

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

FEW = 16


def photos(folder: Path, count: int, side: int) -> None:
    """So many JPEGs, cut out of the examples."""
    import cv2
    import numpy as np

    from runtime import Metadata, read_image, write_image

    sources = [read_image(path) for path in sorted((ROOT / "examples").glob("*-grey.jpg"))]
    rng = np.random.default_rng(0)
    folder.mkdir()
    for i in range(count):
        source = sources[i % len(sources)]
        high, wide = source.shape[:2]
        part = int(rng.integers(min(high, wide) // 2, min(high, wide)))
        y, x = rng.integers(0, high - part), rng.integers(0, wide - part)
        cut = cv2.resize(source[y : y + part, x : x + part], (side, side))
        write_image(folder / f"{i:05d}.jpg", cut, Metadata())


def seconds(command: list[str], out: Path) -> float:
    """Of one run into an empty folder."""
    shutil.rmtree(out, ignore_errors=True)
    began = time.perf_counter()
    subprocess.run(command, check=True, cwd=ROOT, stdout=subprocess.DEVNULL)
    return time.perf_counter() - began


def main() -> int:
    """Run the command line."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("-n", type=int, default=600, help="photos (600)")
    parser.add_argument("--side", type=int, default=256, help="of the photos (256)")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--backend", default="onnxruntime")
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        photos(folder / "many", args.n, args.side)
        photos(folder / "few", FEW, args.side)
        out = folder / "out"

        def plain(what: str) -> list[str]:
            return [sys.executable, "-m", "runtime", str(folder / what), "--out-dir", str(out),
                    "--backend", args.backend]  # fmt: skip

        def cluster(what: str) -> list[str]:
            return [sys.executable, "-m", "runtime.cluster", str(folder / what), "--out", str(out),
                    "--backend", args.backend]  # fmt: skip

        found: dict[str, list[float]] = {"plain": [], "cluster": []}
        starts: dict[str, list[float]] = {"plain": [], "cluster": []}
        for _ in range(args.rounds):
            for kind, command in (("plain", plain), ("cluster", cluster)):
                whole, few = seconds(command("many"), out), seconds(command("few"), out)
                each = (whole - few) / (args.n - FEW)
                found[kind].append(1 / each)
                starts[kind].append(few - FEW * each)
                print(f"{kind:8} {whole:6.1f} s, {1 / each:5.1f} photos/s", flush=True)
        read = sum(p.stat().st_size for p in (folder / "many").iterdir()) / args.n
        written = sum(p.stat().st_size for p in out.rglob("*.jpg")) / FEW
    for kind, rates in found.items():
        start = median(starts[kind])
        print(f"{kind}: {median(rates):.1f} photos/s, and {start:.1f} s before the first")
    ratios = [a / b for a, b in zip(found["cluster"], found["plain"], strict=True)]
    print(f"cluster to plain: {median(ratios):.2f} (must: 0.9)")
    print(f"a photo: {read / 1000:.1f} kB read, {written / 1000:.1f} kB written")
    return 0


if __name__ == "__main__":
    sys.exit(main())
