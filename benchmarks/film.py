"""Flicker and faithfulness of films: ``python benchmarks/film.py``.

A film with known motion and colours is made of photos of scikit-image: two things cut out of two
of them move over a third, which is panned. Hints lie on its first frame only. Compared are the
film as it is colorized, the same without blending (``steady=0``), and each frame for itself with
the hints left where they were.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
import time
from pathlib import Path

import cv2
import numpy as np

ROOT = Path(__file__).resolve().parents[1]
sys.path[:0] = [str(ROOT), str(ROOT / "tests")]

HIGH, WIDE = 256, 384


class Scene:
    """Frames in colour, and where each layer lies in them."""

    def __init__(self):
        from skimage import data

        self.ground = cv2.resize(data.coffee(), (640, 427), interpolation=cv2.INTER_AREA)
        cat = cv2.resize(data.chelsea(), (180, 120), interpolation=cv2.INTER_AREA)
        woman = cv2.resize(data.astronaut(), (150, 150), interpolation=cv2.INTER_AREA)
        self.things = cat, woman[5:105, 30:130]

    def places(self, t):
        """(x, y) of the ground's view, and top left corners of the two things."""
        pan = 0.4 * t
        one = 30 + 60 * np.sin(t / 40) + 30, 30 + 25 * np.sin(t / 23)
        other = 240 - 0.2 * t, 130 + 20 * np.cos(t / 31)
        return (pan, 60 + 15 * np.sin(t / 50)), one, other

    def frame(self, t):
        """RGB (h, w, 3) uint8, and the number of the layer that each pixel shows."""
        view, *corners = self.places(t)
        made = _shifted(self.ground, -view[0], -view[1])
        layer = np.zeros((HIGH, WIDE), int)
        for number, (thing, corner) in enumerate(zip(self.things, corners, strict=True), 1):
            high, wide = thing.shape[:2]
            ellipse = np.zeros((high, wide), np.uint8)
            middle = (wide // 2, high // 2)
            cv2.ellipse(ellipse, middle, (wide // 2 - 3, high // 2 - 3), 0, 0, 360, 255, -1)
            inside = _shifted(ellipse, *corner) > 127
            made[inside] = _shifted(thing, *corner)[inside]
            layer[inside] = number
        return made, layer


def _shifted(image, x, y):
    matrix = np.float32([[1, 0, x], [0, 1, y]])
    return cv2.warpAffine(image, matrix, (WIDE, HIGH), flags=cv2.INTER_LINEAR)


def moved(planes, scene, before, after, layers):
    """Planes of a frame as they lie in a later one, and where that is known."""
    out, known = np.zeros_like(planes), np.zeros(layers[after].shape, bool)
    for number, (old, new) in enumerate(
        zip(scene.places(before), scene.places(after), strict=True)
    ):
        sign = -1 if number == 0 else 1
        dx, dy = sign * (new[0] - old[0]), sign * (new[1] - old[1])
        there = _shifted((layers[before] == number).astype(np.uint8) * 255, dx, dy) > 250
        inside = (
            cv2.erode((there & (layers[after] == number)).astype(np.uint8), np.ones((5, 5))) > 0
        )
        out[inside] = _shifted(planes, dx, dy)[inside]
        known |= inside
    return out, known


def main() -> int:
    """Run the command line."""
    import films

    from runtime import Colorizer, Film, Hints
    from runtime.color import lab_from_rgb

    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("-n", type=int, default=300, help="frames (300)")
    parser.add_argument("--hints", type=int, default=12, help="on the first frame (12)")
    parser.add_argument("--backend", default="auto")
    parser.add_argument("--sheet", help="write a picture of frames to this file")
    args = parser.parse_args()
    scene, colorizer = Scene(), Colorizer(backend=args.backend)
    truth, layers = zip(*(scene.frame(t) for t in range(args.n)), strict=True)
    rng, places = np.random.default_rng(5), []
    for number in range(3):
        ys, xs = np.nonzero(cv2.erode((layers[0] == number).astype(np.uint8), np.ones((13, 13))))
        some = rng.choice(len(ys), args.hints // 3, replace=False)
        places += [(int(xs[i]), int(ys[i])) for i in some]
    hints = Hints.from_reference(truth[0], places, size=5)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "scene.mkv"
        grey = [cv2.cvtColor(frame, cv2.COLOR_RGB2GRAY) for frame in truth]
        films.write(path, grey, codec="ffv1", pixel_format="yuv444p", sound=False)
        film = Film(path, hints)
        began = time.perf_counter()
        results = {"film": _all(film, colorizer)}
        seconds = time.perf_counter() - began
        results["film, steady=0"] = _all(film, colorizer, steady=0.0)
        results["each for itself"] = [colorizer.colorize(frame, hints) for frame in grey]
        results["without hints"] = [colorizer.colorize(frame) for frame in grey]
    print(f"{colorizer!r}, {WIDE}x{HIGH}, {args.n} frames, {len(hints)} hints on the first")
    print(
        f"{1000 * seconds / args.n:.0f} ms a frame, reading and colorizing; lost: {film_lost(film)}"
    )
    late = [t for t in (60, args.n - 1) if t < args.n]
    for name, frames in results.items():
        ab = [lab_from_rgb(frame)[..., 1:] for frame in frames]
        flicker = []
        for t in range(1, args.n):
            old, known = moved(ab[t - 1], scene, t - 1, t, layers)
            flicker.append(np.abs(ab[t] - old)[known].mean())
        line = [f"flicker {np.mean(flicker):.3f}"]
        for t in late:
            old, known = moved(ab[0], scene, 0, t, layers)
            error = ((ab[t] - old)[known] ** 2).mean()
            line.append(f"key frame's ab after {t}: {10 * np.log10(255**2 / error):.2f} dB")
        for t in (0, *late):
            error = ((frames[t].astype(float) - truth[t]) ** 2).mean()
            line.append(f"truth at {t}: {10 * np.log10(255**2 / error):.2f} dB")
        print(f"{name:16} {', '.join(line)}")
    if args.sheet:
        rows = [truth, results["film"], results["each for itself"]]
        steps = np.linspace(0, args.n - 1, 5).astype(int)
        sheet = np.vstack([np.hstack([frames[t] for t in steps]) for frames in rows])
        cv2.imwrite(args.sheet, sheet[..., ::-1])
    return 0


_LOST = {}


def _all(film, colorizer, **options):
    frames = []
    for still, report in film.colorized(colorizer, **options):
        frames.append(still.pixels)
        _LOST[id(film)] = report.lost
    return frames


def film_lost(film):
    """Hints that the last run lost."""
    return "; ".join(map(str, _LOST[id(film)])) or "none"


if __name__ == "__main__":
    sys.exit(main())
