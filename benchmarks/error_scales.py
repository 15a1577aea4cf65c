"""Where the error lies, from coarse to fine: ``python benchmarks/error_scales.py --data PATH``.

The error of ab is split into means of 64, 32, 16, 8, 4 and 2 pixels, enlarged bilinearly, and what
is left. Three rows a protocol: each scale's share of the squared error (its product with the whole
error, for the scales are not quite orthogonal); the PSNR of the picture as it is, and if this scale
and all coarser ones were right; and how much of what is left below 4 pixels would be explained by a
slope of ab over L in each block of 16 pixels, chosen with the truth at hand.
"""

from __future__ import annotations

import argparse
import itertools
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from hscaunet.checkpoints import load_checkpoint
from hscaunet.data.photos import center_square, load_photos
from hscaunet.evaluation.method import TorchMethod
from hscaunet.evaluation.metrics import compare, join, present
from hscaunet.evaluation.protocols import parse_protocols
from hscaunet.weights import bundled_weights
from runtime.color import lab_from_rgb
from runtime.layout import normalize_ab

_SCALES = (64, 32, 16, 8, 4, 2, 1)


def _smooth(x: Tensor, scale: int) -> Tensor:
    if scale == 1:
        return x
    return F.interpolate(F.avg_pool2d(x, scale), scale_factor=scale, mode="bilinear")


def _explained(error: Tensor, L: Tensor, block: int = 16) -> float:
    """Share of the error's fine part that is linear in L's, with a slope a block."""
    fine, light = error - _smooth(error, 4), L - _smooth(L, 4)
    both = F.avg_pool2d(fine * light, block)
    gain = both.square() / F.avg_pool2d(light.square(), block).clamp_min(1e-9)
    return float(gain.mean() / fine.square().mean())


def main() -> None:
    """Run the command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", nargs="+", required=True, metavar="PATH")
    parser.add_argument("--photos", type=int, default=16, metavar="N", help="use the first N")
    parser.add_argument("--checkpoint", type=Path, default=bundled_weights(), metavar="C")
    args = parser.parse_args()
    method = TorchMethod("network", load_checkpoint(args.checkpoint).model.eval())
    photos = load_photos(args.data, short_side=256, skip_grey=False, limit=args.photos)
    squares = [center_square(rgb, 256) for _, rgb in photos]
    print(f"{'protocol':<15}       ", f"{'':>9}", *(f"{s:>6} px" for s in _SCALES))
    for protocol in parse_protocols(["published", "zhang"], [10, 100]):
        shares, right, explained = [], [], []
        for i, rgb in enumerate(squares):
            L, x = present(protocol, rgb, i, 0)
            found = method.predict(x)
            truth = torch.from_numpy(np.moveaxis(lab_from_rgb(rgb)[..., 1:], -1, 0).copy())[None]
            error = normalize_ab(truth) - found
            down_to = [_smooth(error, scale) for scale in _SCALES]
            parts = [down_to[0], *(b - a for a, b in itertools.pairwise(down_to))]
            energy = error.square().mean()
            shares.append([float((part * error).mean() / energy) for part in parts])
            better = (found, *(found + part for part in down_to[:-1]))
            right.append([compare(join(L, ab), rgb)["psnr"] for ab in better])
            explained.append(_explained(error, L))
        print(
            f"{protocol.label:<15} share ",
            f"{'':>9}",
            *(f"{100 * v:>7.1f} %" for v in np.mean(shares, 0)),
        )
        print(f"{'':<15} dB    ", *(f"{v:>9.2f}" for v in np.mean(right, 0)))
        print(f"{'':<15} linear in L below 4 px: {100 * np.mean(explained):.0f} %")


if __name__ == "__main__":
    main()
