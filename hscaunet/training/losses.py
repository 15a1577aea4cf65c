"""Losses, and SSIM and PSNR as tensor operations for training and evaluation."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from hscaunet.tensors import rgb_from_lab

# Below this squared error (42 dB) a photo's error is not seen; it keeps the logarithm finite.
_UNSEEN = (2 / 255) ** 2
# The same for squared errors of ab, in Lab units, and for what a thing's colour is changed by.
_SEEN_AB, _SLIGHT = 4.0, 4.0


def ssim(a: Tensor, b: Tensor, value_range: float = 1.0, window: int = 11) -> Tensor:
    """Mean structural similarity of each picture (Wang et al. 2004).

    Gaussian window (sigma 1.5), population statistics, windows wholly inside the picture, mean
    over channels: ``skimage.metrics.structural_similarity(gaussian_weights=True,
    use_sample_covariance=False)``.

    Parameters
    ----------
    a, b : Tensor, shape (N, C, H, W)
    value_range : float
        Distance between the largest and the smallest value there can be.

    Returns
    -------
    Tensor, shape (N,)
    """
    channels = a.shape[1]
    taps = torch.arange(window, device=a.device, dtype=a.dtype) - window // 2
    taps = torch.exp(-0.5 * (taps / 1.5) ** 2)
    taps = taps / taps.sum()
    # Both pictures' five local means in one pass.
    maps = torch.cat([a, b, a * a, b * b, a * b], 1)
    row = taps.view(1, 1, 1, -1).expand(5 * channels, 1, 1, window)
    maps = F.conv2d(F.conv2d(maps, row, groups=5 * channels), row.mT, groups=5 * channels)
    mean_a, mean_b, aa, bb, ab = maps.split(channels, 1)
    c1, c2 = (0.01 * value_range) ** 2, (0.03 * value_range) ** 2
    covariance = ab - mean_a * mean_b
    variances = (aa - mean_a**2) + (bb - mean_b**2)
    similarity = ((2 * mean_a * mean_b + c1) * (2 * covariance + c2)) / (
        (mean_a**2 + mean_b**2 + c1) * (variances + c2)
    )
    return similarity.mean((1, 2, 3))


def psnr(a: Tensor, b: Tensor) -> Tensor:
    """Peak signal-to-noise ratio in dB of each picture of 0..255 values, shape (N,).

    At most 80 dB, so that a picture without any error leaves the mean of a set finite.
    """
    error = (a.double() - b.double()).square().mean((1, 2, 3))
    return 10 * torch.log10(255.0**2 / error.clamp_min(255.0**2 * 1e-8))


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
) -> Tensor:
    """What clicks on things are judged by, photo by photo: (N,).

    The log squared error of ab inside the things and, weighted, outside them; and where things were
    repainted, which tells nothing of the rest, how much the rest was changed, weighted: its mean
    change over the mean change that the things need.

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
    error = (predicted - truth).square().mean(1, keepdim=True)
    guess = guess.detach()
    change = _length(predicted - guess)
    needed = _length(truth - guess)
    spill = _mean_over(change, outside) / (_mean_over(needed, inside) + _SLIGHT)
    return (
        (_mean_over(error, inside) + _SEEN_AB).log()
        + outside_weight * (_mean_over(error, outside) + _SEEN_AB).log()
        + spill_weight * repainted * spill
    )


def _length(ab: Tensor) -> Tensor:
    return (ab.square().sum(1, keepdim=True) + 1e-2).sqrt()


def _mean_over(values: Tensor, where: Tensor) -> Tensor:
    return (values * where).sum((1, 2, 3)) / where.sum((1, 2, 3)).clamp_min(1)
