"""HSCAU-Net made for clicks: a photo's guess, and a U-Net that says where hints change it.

All but the last step works in cells of 4 pixels. `look` is what depends on the photo alone,
`answer` what depends on the hints; `forward` is one after the other.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from runtime.layout import NEUTRAL

from ..tensors import enlarge
from .affinity import Affinity
from .blocks import CELL, GAIN, cell_sums, paint
from .detail import CELL as FINE
from .detail import Detail
from .diffusion import Diffusion
from .interpolation import Interpolation
from .photo import Photo, PhotoEncoder
from .sizes import check_size
from .unet import HintUNet

WIDTHS = (48, 96, 160, 192)
"""Channels of the lite network's U-Net, at 1/4, 1/8, 1/16 and 1/32 of the size."""

FINER = CELL // FINE
"""How much finer the last step's cells are than the others."""


class HSCAUNet(nn.Module):
    """Hint- and Spatial-Channel-Attention U-Net over a photo's features.

    Parameters
    ----------
    widths : sequence of int
        Channels of the U-Net at 1/4, 1/8, 1/16 and 1/32 of the size.
    heads, depth : int
        See `hscaunet.model.affinity.Affinity`.

    Raises
    ------
    ValueError
        If a width is no whole number of at least 8, or those at 1/16 no multiple of 4.
    """

    form = "guided"

    def __init__(
        self, widths: tuple[int, ...] = WIDTHS, *, heads: int = 4, depth: int = 12
    ) -> None:
        super().__init__()
        widths = tuple(widths)
        if len(widths) != 4 or not all(isinstance(w, int) and w >= 8 for w in widths):
            raise ValueError(f"widths must be four whole numbers of at least 8, not {widths!r}.")
        if widths[2] % 4:
            raise ValueError(f"The third of the widths must be a multiple of 4, not {widths[2]}.")
        self.widths = widths
        self.photo = PhotoEncoder(widths)
        self.affinity = Affinity(self.photo.eighth, heads, depth)
        self.interpolation = Interpolation()
        self.unet = HintUNet(widths, heads)
        self.diffusion = Diffusion(self.photo.quarter)
        self.detail = Detail(widths[0])

    @property
    def config(self) -> dict[str, object]:
        """The arguments of `hscaunet.model.build_network` that make this network again."""
        return {
            "form": self.form,
            "widths": list(self.widths),
            "heads": self.affinity.heads,
            "depth": self.affinity.depth,
        }

    def forward(self, x: Tensor) -> Tensor:
        """Predict ab.

        Parameters
        ----------
        x : Tensor, shape (N, 4, H, W)
            L, ab hints and mask in the layout of `runtime.layout`; H and W multiples of 16.

        Returns
        -------
        Tensor, shape (N, 2, H, W)
            ab as (value + 128) / 255; not clipped.
        """
        return self.both(x)[0]

    def both(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """What `forward` gives, and the same without hints."""
        check_size(x)
        return self.answer(x, self.look(x[:, :1]))

    def in_parts(self, x: Tensor) -> tuple[Tensor, ...]:
        """What `forward` gives, then what is kept of the photo: so that files can be cut there."""
        photo = self.look(x[:, :1])
        return self.answer(x, photo)[0], *photo

    def look(self, L: Tensor) -> Photo:
        """What depends on the photo alone: L, (N, 1, H, W) in 0..1."""
        added, guess, quarter, eighth = self.photo(L)
        embedded, doubt = self.affinity.embed(eighth), self.affinity.doubt(eighth)
        with torch.autocast(L.device.type, enabled=False):
            alike = self.diffusion.weights(L, quarter.float())
        return Photo(*added, guess, embedded.float(), doubt.float(), *alike)

    def answer(self, x: Tensor, photo: Photo) -> tuple[Tensor, Tensor]:
        """See `both`."""
        L, mask = x[:, :1], x[:, 3:4]
        with torch.autocast(x.device.type, enabled=False):  # counts and quotients need fp32
            fine_L = F.avg_pool2d(L, FINE)
            mean_L = F.avg_pool2d(fine_L, FINER)
            hints = torch.cat([mask, L * mask, (x[:, 1:3] - NEUTRAL) * mask], 1)
            count, hint_L, own = cell_sums(hints, FINE).split([1, 1, 2], 1)
            own = GAIN * own
            alone = paint(photo.guess, hint_L / count.clamp_min(1), mean_L, FINER)
            cells = cell_sums(torch.cat([count, hint_L, own - alone * count], 1), FINER)
            many, cell_L, said = cells.split([1, 1, 2], 1)
            spread = self.interpolation(cell_L / many.clamp_min(1), many, said, mean_L)
            carried, seen = self.affinity(
                photo.embedded, photo.doubt, *(4 * F.avg_pool2d(t, 2) for t in (many, said))
            )
        change, take, flow, features = self.unet(photo, many, said, spread, carried, seen)
        with torch.autocast(x.device.type, enabled=False):
            coefficients = photo.guess + change + take * spread
            level = paint(coefficients, fine_L, mean_L, FINER)
            slope = enlarge(coefficients[:, 2:], FINER)
            level = level + enlarge(flow, FINER) * self.diffusion(photo.alike, level, count, own)
        detail = self.detail(features, L, level, count, own - level * count)
        with torch.autocast(x.device.type, enabled=False):
            told = paint((torch.cat([level, slope], 1) + detail) / GAIN, L, fine_L, FINE)
            return told + NEUTRAL, paint(photo.guess / GAIN, L, mean_L) + NEUTRAL
