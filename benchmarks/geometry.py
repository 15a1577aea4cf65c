"""How photos meet the network and come back: ``python benchmarks/geometry.py --data photos.tar``.

Three tables for docs/benchmarks.md: filters that bring ab to full size, ways in which wide and tall
photos are given to the network, and what a larger `size` brings.
"""

from __future__ import annotations

import argparse
from collections import defaultdict
from collections.abc import Callable, Sequence
from typing import Any

import cv2
import numpy as np
import torch

from hscaunet.data.photos import load_photos
from hscaunet.similarity import psnr, ssim
from runtime import Colorizer, Hint, Hints
from runtime.color import L_from_rgb, lab_from_rgb, rgb_from_lab
from runtime.fullsize.picture import Picture
from runtime.fullsize.resample import KERNELS
from runtime.layout import NEUTRAL, pack_input

Figures = dict[str, dict[str, list[tuple[float, float]]]]


def score(ours: np.ndarray, truth: np.ndarray) -> tuple[float, float]:
    """PSNR (dB) and SSIM of two 8-bit RGB pictures."""
    pair = torch.from_numpy(np.stack([ours, truth]).astype(np.float32)).permute(0, 3, 1, 2)
    return float(psnr(pair[:1], pair[1:])), float(ssim(pair[:1], pair[1:], 255.0))


def table(figures: Figures) -> str:
    """Markdown, means over photos."""
    columns = list(next(iter(figures.values())))
    lines = ["| | " + " | ".join(columns) + " |", "|---" * (len(columns) + 1) + "|"]
    for row, cells in figures.items():
        means = [np.mean(cells[c], axis=0) for c in columns]
        lines.append(f"| {row} | " + " | ".join(f"{p:.2f} / {s:.4f}" for p, s in means) + " |")
    return "\n".join(lines)


def draw_hints(rgb: np.ndarray, count: int | None, rng: np.random.Generator) -> Hints:
    """`count` mean colours of 7-pixel squares around the middle, or 0.5 % of the pixels."""
    height, width = rgb.shape[:2]
    if count is None:
        mask = (rng.random((height, width)) < 0.005).astype(np.uint8) * 255
        return Hints.from_image(rgb, mask)
    place = np.clip(rng.normal(0.5, 0.25, (count, 2)), 0, 0.999) * (width, height)
    places = [(int(x), int(y)) for x, y in place]
    return Hints.from_reference(rgb, places, size=7)


def guided(radius: int, epsilon: float) -> Callable[[np.ndarray, np.ndarray], np.ndarray]:
    """Guided upsampling (He and Sun 2015): ab linear in L around each place, at full-size L."""

    def upsample(ab: np.ndarray, L: np.ndarray) -> np.ndarray:
        high, wide = ab.shape[1:]
        small = cv2.resize(L, (wide, high), interpolation=cv2.INTER_AREA) / 100
        box = (2 * radius + 1, 2 * radius + 1)
        mean = cv2.blur(small, box)
        spread = cv2.blur(small * small, box) - mean * mean + epsilon
        full = []
        for plane in ab:
            slope = (cv2.blur(small * plane, box) - mean * cv2.blur(plane, box)) / spread
            base = cv2.blur(plane, box) - slope * mean
            size = (L.shape[1], L.shape[0])
            slope, base = (
                cv2.resize(cv2.blur(p, box), size, interpolation=cv2.INTER_LINEAR)
                for p in (slope, base)
            )
            full.append(slope * (L / 100) + base)
        return np.stack(full, -1)

    return upsample


def upsampling(photos: Sequence[np.ndarray], colorizer: Colorizer) -> Figures:
    """Filters, for the photo's true ab and for what the network gives."""
    edge_aware = {
        f"guided, radius {r}, epsilon {e:g}": guided(r, e) for r in (1, 2, 4) for e in (1e-3, 1e-2)
    }
    figures: Figures = defaultdict(lambda: defaultdict(list))
    for number, rgb in enumerate(photos):
        picture, L = Picture(rgb), L_from_rgb(rgb)
        height, width = rgb.shape[:2]
        true = np.moveaxis(lab_from_rgb(rgb)[..., 1:], -1, 0)
        rng = np.random.default_rng([1, number])
        sources = {
            f"true ab, 1/{f}": np.stack(
                [
                    cv2.resize(p, (width // f, height // f), interpolation=cv2.INTER_AREA)
                    for p in true
                ]
            )
            for f in (2, 4)
        }
        for label, count in (("20 hints", 20), ("0.5 % of the pixels", None)):
            x = colorizer._input(picture, draw_hints(rgb, count, rng), 128)
            sources[f"network at 128, {label}"] = colorizer._ab(x)[0]
        for column, ab in sources.items():
            for kernel in KERNELS:
                figures[kernel][column].append(score(picture.join(ab, upsampling=kernel), rgb))
            for name, upsample in edge_aware.items():
                figures[name][column].append(score(rgb_from_lab(L, upsample(ab, L)), rgb))
    return figures


def shaped(rgb: np.ndarray, ratio: float) -> np.ndarray:
    """The middle of a photo, `ratio` times as wide as high."""
    height, width = rgb.shape[:2]
    high, wide = min(height, int(width / ratio)), min(width, int(height * ratio))
    top, left = (height - high) // 2, (width - wide) // 2
    return rgb[top : top + high, left : left + wide]


def meet(
    colorizer: Colorizer, rgb: np.ndarray, hints: Hints, way: str, target: int = 256
) -> np.ndarray:
    """Colorize by one of three ways to give a photo to the network."""
    picture = Picture(rgb)
    height, width = rgb.shape[:2]
    if way == "aspect kept, multiples of 16":
        return colorizer.colorize(rgb, hints)
    if way == "squashed to a square":
        high = wide = target
    else:
        scale = target / max(height, width)
        high, wide = max(1, round(height * scale)), max(1, round(width * scale))
    x = pack_input(picture.lightness(high, wide), *hints.rasterize((width, height), (wide, high)))
    if way == "padded to a square":
        whole = np.zeros((1, 4, target, target), np.float32)
        whole[0, 0] = np.pad(x[0, 0], ((0, target - high), (0, target - wide)), mode="edge")
        whole[:, 1:3] = NEUTRAL
        whole[:, :, :high, :wide] = x
        x = whole
    return picture.join(np.ascontiguousarray(colorizer._ab(x)[0][:, :high, :wide]))


def aspects(photos: Sequence[np.ndarray], colorizer: Colorizer) -> Figures:
    """Wide and tall photos."""
    figures: Figures = defaultdict(lambda: defaultdict(list))
    for number, rgb in enumerate(photos):
        for shape, ratio in (("2:1", 2.0), ("1:2", 0.5), ("3:1", 3.0)):
            part = shaped(rgb, ratio)
            for label, count in (("10 hints", 10), ("0.5 %", None)):
                hints = draw_hints(part, count, np.random.default_rng([2, number]))
                for way in (
                    "aspect kept, multiples of 16",
                    "squashed to a square",
                    "padded to a square",
                ):
                    made = meet(colorizer, part, hints, way)
                    figures[way][f"{shape}, {label}"].append(score(made, part))
    return figures


def sizes(photos: Sequence[np.ndarray], colorizer: Colorizer) -> Figures:
    """The network at several sizes, for photos doubled so that their full size is above all."""
    figures: Figures = defaultdict(lambda: defaultdict(list))
    for number, rgb in enumerate(photos):
        large = cv2.resize(rgb, None, fx=2, fy=2, interpolation=cv2.INTER_CUBIC)
        for label, count in (("10 hints", 10), ("100 hints", 100), ("0.5 % of the pixels", None)):
            hints = draw_hints(rgb, count, np.random.default_rng([3, number]))
            hints = Hints(
                [Hint(2 * h.x, 2 * h.y, h.color, 2 * h.size) for h in hints],
                image_size=(large.shape[1], large.shape[0]),
            )
            for size in (128, 192, 256, 384, 512):
                made = colorizer.colorize(large, hints, size=size)
                figures[f"size={size}"][label].append(score(made, large))
    return figures


def main() -> None:
    """Run the command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", nargs="+", required=True, metavar="PATH")
    parser.add_argument("--photos", type=int, default=60, metavar="N", help="use the first N")
    parser.add_argument("--model", help="name or file; the bundled one unless given")
    parser.add_argument("--tables", nargs="+", choices=("filters", "aspects", "sizes"),
                        default=["filters", "aspects", "sizes"])  # fmt: skip
    args = parser.parse_args()
    photos = [rgb for _, rgb in load_photos(args.data, short_side=256, limit=args.photos)]
    colorizer = Colorizer(args.model, device="cpu")
    print(f"{len(photos)} photos, {colorizer!r}; PSNR (dB) / SSIM of 8-bit RGB, means")
    made: dict[str, Any] = {"filters": upsampling, "aspects": aspects, "sizes": sizes}
    for name in args.tables:
        print(f"\n{name}\n\n{table(made[name](photos, colorizer))}", flush=True)


if __name__ == "__main__":
    main()
