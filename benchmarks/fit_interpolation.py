"""Fit the interpolation's few numbers to hints all over photos: what its defaults were found by.

``python benchmarks/fit_interpolation.py CHECKPOINT --data PHOTOS...`` takes a guided network's
guess as it is, adds what the interpolation alone makes of the hints, and minimizes the mean log
squared error of the picture. Training does not: clicks on things would teach the interpolation to
reach nowhere, which is the U-Net's to decide.
"""

from __future__ import annotations

import argparse

import torch
import torch.nn.functional as F

from hscaunet.checkpoints import load_checkpoint
from hscaunet.model.blocks import CELL, GAIN, cell_sums, paint
from hscaunet.training.batches import Drawer
from hscaunet.training.block import PhotoBlock
from hscaunet.training.losses import picture_losses
from hscaunet.training.options import Options
from runtime.layout import NEUTRAL, normalize_ab


def main() -> None:
    """Fit and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    add = parser.add_argument
    add("checkpoint")
    add("--data", nargs="+", required=True)
    add("--steps", type=int, default=200)
    add("--limit", type=int, default=2000, help="photos to read")
    args = parser.parse_args()
    model = load_checkpoint(args.checkpoint).model
    module = model.interpolation
    numbers = {"log_sigma": module.log_sigma, "log_lambda": module.log_lambda,
               "log_side": module.log_side}  # fmt: skip
    for name, value in numbers.items():
        value = torch.nn.Parameter(value.detach().clone())
        module._buffers.pop(name, None)
        module.register_parameter(name, value)
        numbers[name] = value
    photos = PhotoBlock.load(args.data, limit=args.limit)
    drawer = Drawer(photos, Options(dense_share=0.4, thing_share=0), 8)
    optimizer = torch.optim.Adam(numbers.values(), 0.05)
    for step in range(args.steps):
        for group in optimizer.param_groups:
            group["lr"] = 0.05 * min(1.0, 2 * (1 - step / args.steps))
        batch = drawer.draw(step)
        L, mask = batch.x[:, :1], batch.x[:, 3:]
        own = (batch.x[:, 1:3] - NEUTRAL) * (GAIN * mask)
        with torch.no_grad():
            coefficients = model.look(L).guess
            mean_L = F.avg_pool2d(L, CELL)
            guess = paint(coefficients, L, mean_L)
        count, hint_L, said = cell_sums(torch.cat([mask, L * mask, own - guess * mask], 1)).split(
            [1, 1, 2], 1
        )
        spread = module(hint_L / count.clamp_min(1), count, said, mean_L)
        told = guess + paint(spread, L, mean_L)
        loss = picture_losses(L, told / GAIN + NEUTRAL, normalize_ab(batch.ab), 4.0).mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        if step % 20 == 0 or step == args.steps - 1:
            print(step, round(float(loss.detach()), 4), flush=True)
    for name, value in numbers.items():
        print(name, [round(v, 3) for v in value.detach().exp().tolist()])


if __name__ == "__main__":
    main()
