"""Five hints at suggested places against five at random ones: ``python benchmarks/places.py TAR``.

Each hint has the photo's own mean colour at its place, 5x5 of 256x256 pixels. Suggested places are
all taken at once, or one after the other, each once the colours before it are known.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

import numpy as np

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

SIDE = 256


def main() -> int:
    """Run the command line."""
    from tqdm import tqdm

    from hscaunet.data.photos import center_square, iterate_files
    from runtime import Colorizer, Hints
    from runtime.images import decode_image

    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("photos", help="a folder or tar of photos")
    parser.add_argument("-n", type=int, default=48, help="how many of them (48)")
    parser.add_argument("-k", type=int, default=5, help="hints (5)")
    parser.add_argument("--model")
    args = parser.parse_args()
    colorizer = Colorizer(args.model, backend="onnxruntime", size=SIDE)
    found: dict[str, list[float]] = {"none": [], "random": [], "at once": [], "in turn": []}
    files = zip(range(args.n), iterate_files([args.photos]), strict=False)
    for number, (_, data) in tqdm(files, total=args.n, disable=not sys.stderr.isatty()):
        truth = center_square(decode_image(data), SIDE)

        def psnr(places, truth=truth):
            hints = Hints.from_reference(truth, places, size=5) if len(places) else Hints()
            error = colorizer.colorize(truth, hints).astype(float) - truth
            return 10 * np.log10(255**2 / max((error**2).mean(), 1e-6))

        rng = np.random.default_rng(number)
        session = colorizer.open(truth)
        turns: list[tuple[int, int]] = []
        for _ in range(args.k):
            turns += session.next_places(1)
            session.set_hints(Hints.from_reference(truth, turns, size=5))
        found["none"].append(psnr([]))
        draws = [psnr(rng.integers(2, SIDE - 2, (args.k, 2)).tolist()) for _ in range(4)]
        found["random"].append(float(np.mean(draws)))
        found["at once"].append(psnr(colorizer.open(truth).next_places(args.k)))
        found["in turn"].append(psnr(turns))
    for name, values in found.items():
        print(f"{name:8} {np.mean(values):.2f} dB")
    gain = np.array(found["in turn"]) - np.array(found["random"])
    print(
        f"in turn beats random (mean of 4 draws) on {(gain > 0).mean():.0%} of {len(gain)} photos"
    )
    return 0


if __name__ == "__main__":
    sys.exit(main())
