"""What training minimizes."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from ..similarity import ssim
from ..tensors import rgb_from_lab

# Below this squared error (42 dB) a photo's error is not seen; it keeps the logarithm finite.
_UNSEEN = (2 / 255) ** 2
# The same for squared errors of ab, in Lab units, and for what a thing's colour is changed by.
_SEEN_AB, _SLIGHT = 4.0, 4.0


def published_loss(L: Tensor, predicted: Tensor, truth: Tensor) -> Tensor:
    """0.8 * L1 of ab + 0.2 * (1 - SSIM of Lab), as published.

    Parameters
    ----------
    L : Tensor, shape (N, 1, H, W)
        0..1.
    predicted, truth : Tensor, shape (N, 2, H, W)
        ab on the network's 0..1 scale.
    """
    similarity = ssim(torch.cat([L, predicted], 1), torch.cat([L, truth], 1))
    return 0.8 * F.l1_loss(predicted, truth) + 0.2 * (1 - similarity.mean())


def picture_losses(L: Tensor, predicted: Tensor, truth: Tensor, ssim_weight: float) -> Tensor:
    """What is measured: log squared error and SSIM of the RGB picture, photo by photo: (N,).

    The mean of the logarithms is the mean PSNR but for a factor, so a photo whose colours cannot
    be guessed does not drown one that is nearly right.

    Parameters
    ----------
    L : Tensor, shape (N, 1, H, W)
        0..1.
    predicted, truth : Tensor, shape (N, 2, H, W)
        ab on the network's 0..1 scale.
    ssim_weight : float
        Of 1 - SSIM beside the logarithm of the squared error: with 4, one of 0.01 counts as much
        as 0.17 dB; 0 leaves SSIM out.
    """
    from runtime.layout import denormalize_ab

    ours = rgb_from_lab(L * 100, denormalize_ab(predicted))
    theirs = rgb_from_lab(L * 100, denormalize_ab(truth))
    error = (ours - theirs).square().mean((1, 2, 3))
    loss = (error + _UNSEEN).log()
    if ssim_weight:
        loss = loss + ssim_weight * (1 - ssim(ours, theirs))
    return loss


def thing_losses(
    predicted: Tensor,
    guess: Tensor,
    truth: Tensor,
    inside: Tensor,
    repainted: Tensor,
    outside_weight: float,
    spill_weight: float,
    growth_weight: float,
) -> Tensor:
    """What clicks on things are judged by, photo by photo: (N,).

    The log squared error of ab inside the things and, weighted, outside them; and where things were
    repainted, which tells nothing of the rest, how much the rest was changed, weighted: its mean
    change over the mean change that the things need. Last, weighted, the share by which the error
    outside grew: not its logarithm, which holds nobody back once much has grown.

    Parameters
    ----------
    predicted, guess, truth : Tensor, shape (N, 2, H, W)
        ab in Lab units, with the hints and without, and as it should be.
    inside : Tensor, shape (N, 1, H, W)
        1 on the things, else 0.
    repainted : Tensor, shape (N,)
        1 where they were repainted.
    """
    outside = 1 - inside
    guess = guess.detach()
    error = (predicted - truth).square().mean(1, keepdim=True)
    change = _length(predicted - guess)
    needed = _length(truth - guess)
    spill = _mean_over(change, outside) / (_mean_over(needed, inside) + _SLIGHT)
    before = (guess - truth).square().mean(1, keepdim=True)
    outer, unhinted = (_mean_over(e, outside) + _SEEN_AB for e in (error, before))
    return (
        (_mean_over(error, inside) + _SEEN_AB).log()
        + outside_weight * outer.log()
        + spill_weight * repainted * spill
        + growth_weight * (outer / unhinted - 1).relu()
    )


def _length(ab: Tensor) -> Tensor:
    return (ab.square().sum(1, keepdim=True) + 1e-2).sqrt()


def _mean_over(values: Tensor, where: Tensor) -> Tensor:
    return (values * where).sum((1, 2, 3)) / where.sum((1, 2, 3)).clamp_min(1)
