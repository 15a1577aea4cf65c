"""SSIM and PSNR as tensor operations, each for training and evaluation."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor


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
