"""Which places look alike: what a hint says is carried to them, wherever they are."""

from __future__ import annotations

import torch
from torch import Tensor, nn

# Hints are gathered in so many parts each way, whatever the size: comparing every place with them
# then costs in proportion to the area.
_LATTICE = 16
_WHOLE = 32.0  # length of either side, for distances
_EMPTY = 1e-3  # of a count, far below one hint


def _lattice(length: int, like: Tensor) -> tuple[Tensor, Tensor]:
    """Places of lines (length, 1), and which of `_LATTICE` equal parts each lies in, 0 or 1."""
    line = torch.arange(length, device=like.device, dtype=like.dtype)[:, None]
    part = torch.arange(_LATTICE, device=like.device, dtype=like.dtype)
    inside = (((line + 0.5) * (_LATTICE / length)).floor() == part).to(like.dtype)
    return line * (_WHOLE / length), inside


class Affinity(nn.Module):
    """Compare all places of a photo with those where hints lie, by several embeddings.

    Parameters
    ----------
    channels : int
        Of the features that embeddings are made of.
    heads, depth : int
        Embeddings, and dimensions of each.
    """

    def __init__(self, channels: int, heads: int = 4, depth: int = 12) -> None:
        super().__init__()
        self.heads, self.depth = heads, depth
        self.embed = nn.Conv2d(channels, heads * depth, 1)
        self.doubt = nn.Conv2d(channels, heads, 1)
        self.log_reach = nn.Parameter(torch.linspace(-1.0, -3.5, heads))  # 1 / distance
        with torch.no_grad():
            self.doubt.weight.mul_(0.1)
            self.doubt.bias.fill_(-2.0)

    def forward(
        self, embedded: Tensor, doubt: Tensor, count: Tensor, sums: Tensor
    ) -> tuple[Tensor, Tensor]:
        """Carry what hints say to what looks like the places where they lie.

        A mean of what they say, each weighted by ``n exp(-|e_here - e_there|^2 - d^2)`` (n pixels
        of hints lie there, d is the distance), and by `doubt` for nothing at all.

        Parameters
        ----------
        embedded : Tensor, shape (N, heads * depth, h, w)
        doubt : Tensor, shape (N, heads, h, w)
        count : Tensor, shape (N, 1, h, w)
        sums : Tensor, shape (N, 2, h, w)

        Returns
        -------
        carried : Tensor, shape (N, heads * 2, h, w)
        seen : Tensor, shape (N, heads, h, w)
            Weight of all hints against the doubt, 0..1.
        """
        height, width = count.shape[2:]
        (y, rows), (x, columns) = _lattice(height, count), _lattice(width, count)
        planes = torch.cat([count, sums, y * count, x.mT * count, embedded * count], 1)
        gathered = (rows.mT @ planes @ columns).flatten(2)  # (N, planes, parts)
        n, means = gathered[:, :1], gathered[:, 1:] / gathered[:, :1].clamp_min(_EMPTY)
        said, there_y, there_x, there = means.split([2, 1, 1, means.shape[1] - 4], 1)
        # n exp(-|e - e'|^2 - d^2): the embeddings' part as one product.
        q = embedded.flatten(2).unflatten(1, (self.heads, self.depth))
        k = there.unflatten(1, (self.heads, self.depth))
        # The count of an empty part is no matter, but must have a logarithm. (Not by an addition:
        # torch.onnx.export leaves one so small out.)
        log_n = n.clamp_min(1e-12).log()[:, :, None]
        own = log_n - k.square().sum(2, keepdim=True)
        q = torch.cat([2 * q, torch.ones_like(q[:, :, :1]), -q.square().sum(2, keepdim=True)], 2)
        k = torch.cat([k, own, torch.ones_like(own)], 2)
        likeness = (q.mT @ k).unflatten(2, (height, width))  # (N, heads, h, w, parts)
        reach = self.log_reach.exp()[:, None, None]
        down = ((y - there_y)[:, None] * reach).square()
        across = ((x - there_x)[:, None] * reach).square()
        weight = (likeness - down[:, :, :, None] - across[:, :, None]).exp().flatten(2, 3)
        # Nothing is carried from where there is no hint, however small the doubt.
        value = torch.cat([said, (n > 0).to(n.dtype)], 1).mT[:, None]
        found = (weight @ value).mT.unflatten(3, (height, width))
        shares = found / (found[:, :, 2:] + doubt.exp()[:, :, None])
        return shares[:, :, :2].flatten(1, 2), shares[:, :, 2]
