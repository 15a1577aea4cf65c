"""How a picture is measured against the truth."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from runtime.color import lab_from_rgb, rgb_from_lab
from runtime.hint_report import ciede2000
from runtime.layout import unpack_output

from ..data.hints import pack_input
from ..similarity import psnr, ssim
from .protocols import Protocol

_JUST_NOTICED = 2.3  # distance in Lab that a person just sees, as iColoriT takes it


def present(
    protocol: Protocol, rgb: NDArray[np.uint8], photo: int, seed: int = 0
) -> tuple[Tensor, Tensor]:
    """A photo as a method under test is shown it.

    Parameters
    ----------
    protocol : Protocol
    rgb : ndarray, shape (S, S, 3), uint8
        S is the protocol's size.
    photo, seed : int
        Fix the hints.

    Returns
    -------
    L : Tensor, shape (1, 1, S, S)
        0..100.
    x : Tensor, shape (1, 4, S, S)
        In the layout of `runtime.layout`.
    """
    lab = torch.from_numpy(np.moveaxis(lab_from_rgb(rgb), -1, 0).copy())[None]
    hint, mask = protocol.reveal(lab[:, 1:], photo, seed)
    return lab[:, :1], pack_input(lab[:, :1], hint, mask)


def join(L: Tensor, ab: Tensor) -> NDArray[np.uint8]:
    """The 8-bit RGB picture of L (1, 1, H, W) and a method's ab (1, 2, H, W)."""
    lab_ab = unpack_output(ab)
    picture: NDArray[np.uint8] = rgb_from_lab(
        L[0, 0].numpy(), np.moveaxis(lab_ab[0].numpy(), 0, -1)
    )
    return picture


def compare(ours: NDArray[np.uint8], truth: NDArray[np.uint8]) -> dict[str, float]:
    """PSNR (dB) and SSIM of two 8-bit pictures, (H, W, 3)."""
    pair = torch.from_numpy(np.stack([ours, truth]).astype(np.float32)).permute(0, 3, 1, 2)
    return {
        "psnr": float(psnr(pair[:1], pair[1:])),
        "ssim": float(ssim(pair[:1], pair[1:], 255.0)),
    }


def _mean_ciede2000(ours: NDArray[np.uint8], truth: NDArray[np.uint8]) -> float:

    return float(ciede2000(*(lab_from_rgb(np.ascontiguousarray(p)) for p in (ours, truth))).mean())


def color_difference(ours: NDArray[np.uint8], truth: NDArray[np.uint8]) -> float:
    """Mean CIEDE2000 of two 8-bit pictures, (H, W, 3), over every fourth pixel each way."""
    # The mean of some thousand pixels is as good, and CIEDE2000 is slow.
    return _mean_ciede2000(ours[::4, ::4], truth[::4, ::4])


def hint_difference(picture: NDArray[np.uint8], L: Tensor, x: Tensor) -> float:
    """How well hints are kept: mean CIEDE2000 where they lie, NaN without any.

    Between the picture's colour and the hint's own at the input's L, both as 8-bit sRGB shows them.

    Parameters
    ----------
    picture : ndarray, shape (H, W, 3), uint8
    L, x : Tensor
        See `present`.
    """
    mask = (x[0, 3] > 0).numpy()
    if not mask.any():
        return float("nan")
    return _mean_ciede2000(picture[mask][None], join(L, x[:, 1:3])[mask][None])


def hint_range(ab: Tensor, before: Tensor, place: Sequence[int]) -> float:
    """How far a hint spreads: the HPR of iColoriT (2023) for one hint.

    Mean distance in pixels from its place to what it changes by more than 2.3 units of Lab; NaN
    where it changes nothing.

    Parameters
    ----------
    ab, before : Tensor, shape (1, 2, H, W)
        With the hint and without, in the layout of `runtime.layout`.
    place : (int, int)
        Row and column.
    """

    changed = ((ab - before)[0] * 255).square().sum(0).sqrt() > _JUST_NOTICED
    rows, columns = torch.nonzero(changed, as_tuple=True)
    distance = ((rows - place[0]).double().square() + (columns - place[1]).square()).sqrt()
    return float(distance.mean()) if len(distance) else float("nan")
