"""What colorization reaches without any learning: the baselines that a model must beat.

Each takes an input in the network's layout and returns ab in the network's layout, like a model.
"""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from runtime.layout import NEUTRAL

from .grid import BareGrid


class Grey:
    """No colour at all."""

    name = "grey"

    def predict(self, x: Tensor) -> Tensor:
        """(N, 4, H, W) to (N, 2, H, W)."""
        return torch.full_like(x[:, :2], NEUTRAL)


class Grid:
    """Interpolation of the hints along space and L; see `hscaunet.evaluation.grid`."""

    name = "grid"

    def __init__(self) -> None:
        self.grid = BareGrid()

    @torch.inference_mode()
    def predict(self, x: Tensor) -> Tensor:
        """(N, 4, H, W) to (N, 2, H, W)."""
        found: Tensor = self.grid(x[:, :1], (x[:, 1:3] - NEUTRAL) * x[:, 3:4], x[:, 3:4])
        return found + NEUTRAL


class Levin:
    """Optimization of Levin, Lischinski and Weiss 2004 ("Colorization using optimization").

    Each pixel's colour is the mean of its neighbours' in a 3x3 window, weighted by likeness of L:
    ``exp(-(L_r - L_s)^2 / (0.6 var))`` with the bounds of the authors' program. The hints are
    kept exactly. Solved directly.
    """

    name = "Levin 2004"

    def predict(self, x: Tensor) -> Tensor:
        """(N, 4, H, W) to (N, 2, H, W)."""
        return torch.stack([self._one(one.numpy()) for one in x])

    @staticmethod
    def _one(x: NDArray[np.float32]) -> Tensor:
        from scipy.sparse import csc_matrix
        from scipy.sparse.linalg import splu

        L, hint, mask = x[0].astype(np.float64), x[1:3].astype(np.float64), x[3] > 0.5
        if not mask.any():
            return torch.full(hint.shape, NEUTRAL)
        height, width = L.shape
        padded = np.pad(L, 1, constant_values=np.nan)
        numbers = np.pad(np.arange(L.size).reshape(L.shape), 1, constant_values=-1)
        shifts = [(dy, dx) for dy in (0, 1, 2) for dx in (0, 1, 2)]
        window = np.stack([padded[dy : dy + height, dx : dx + width] for dy, dx in shifts])
        columns = np.stack([numbers[dy : dy + height, dx : dx + width] for dy, dx in shifts])
        difference = (window - L) ** 2
        others = [i for i in range(9) if i != 4]
        variance = 0.6 * np.nanvar(window, axis=0)
        nearest = np.nanmin(difference[others], axis=0)
        variance = np.maximum(np.maximum(variance, -nearest / np.log(0.01)), 2e-6)
        weight = np.exp(-difference[others] / variance)
        weight = np.where(np.isnan(weight), 0.0, weight)
        weight /= weight.sum(axis=0)
        free = ~mask
        rows = np.broadcast_to(np.arange(L.size).reshape(L.shape), weight.shape)
        use = (weight > 0) & free
        entries = np.concatenate([np.ones(L.size), -weight[use]])
        places = (
            np.concatenate([np.arange(L.size), rows[use]]),
            np.concatenate([np.arange(L.size), columns[others][use]]),
        )
        matrix = csc_matrix((entries, places), shape=(L.size, L.size))
        # The pattern is nearly symmetric, and this ordering is several times faster for it.
        solver = splu(
            matrix,
            permc_spec="MMD_AT_PLUS_A",
            diag_pivot_thresh=0.001,
            options={"SymmetricMode": True},
        )
        target = np.where(mask, hint, 0.0).reshape(2, -1)
        return torch.from_numpy(solver.solve(target.T).T.reshape(hint.shape)).float()


class Kernel:
    """Mean of the hints, weighted by nearness in place and in L.

    ``w = (exp(-dL^2 / 2 s^2) + floor) / (d^2 + r^2)^(3/2)``: a power of the distance fits any
    density of hints. The constants are the best of four sets tried on 12 training photos, for PSNR
    and SSIM at 0.5 % pixels and at N = 10 and 100 patches.

    Parameters
    ----------
    sigma : float
        s, in units of L / 100.
    radius, floor : float
        r, in pixels; weight of a hint of quite another L.
    """

    name = "kernel"

    def __init__(self, sigma: float = 0.05, radius: float = 2.0, floor: float = 0.02) -> None:
        self.sigma, self.radius, self.floor = sigma, radius, floor

    def predict(self, x: Tensor) -> Tensor:
        """(N, 4, H, W) to (N, 2, H, W)."""
        return torch.stack([self._one(one) for one in x])

    def _one(self, x: Tensor) -> Tensor:
        L, hint, mask = x[0], x[1:3], x[3] > 0.5
        if not bool(mask.any()):
            return torch.full_like(hint, NEUTRAL)
        y, x_ = torch.nonzero(mask, as_tuple=True)
        known = torch.cat([y[None].float(), x_[None].float(), L[None, mask], hint[:, mask]])
        known = self._thin(known)
        height, width = L.shape
        dy2 = (torch.arange(height)[:, None] - known[0]) ** 2
        dx2 = (torch.arange(width)[:, None] - known[1]) ** 2
        out = torch.empty_like(hint)
        for row in range(height):
            distance = dx2 + dy2[row] + self.radius**2
            likeness = torch.exp((L[row][:, None] - known[2]) ** 2 * (-0.5 / self.sigma**2))
            weight = (likeness + self.floor) * torch.rsqrt(distance) ** 3
            out[:, row] = (weight @ known[3:].T / weight.sum(1, keepdim=True)).T
        return out

    @staticmethod
    def _thin(known: Tensor) -> Tensor:
        """Join the hint pixels of each 2x2 block into their mean, where there are very many."""
        if known.shape[1] < 700:
            return known
        block = (known[0] // 2) * 65536 + known[1] // 2
        _, where, count = torch.unique(block, return_inverse=True, return_counts=True)
        sums = torch.zeros((known.shape[0], len(count))).index_add_(1, where, known)
        return sums / count


BASELINES: dict[str, type[Grey | Levin | Kernel | Grid]] = {
    "grey": Grey,
    "levin": Levin,
    "kernel": Kernel,
    "grid": Grid,
}
"""By the names of the command line."""
