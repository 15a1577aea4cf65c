"""All training photos as one block of bytes, and batches cut from it on the training device."""

from __future__ import annotations

import dataclasses
import logging
import os
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor

from ..data.photos import DataError, load_photos, source_of
from ..data.things import fit_labels, photo_key, read_labels

log = logging.getLogger(__name__)


@dataclass
class PhotoBlock:
    """All photos as one flat uint8 tensor, and their label maps as another.

    Parameters
    ----------
    data : Tensor, shape (bytes,), uint8
        The photos' RGB pixels, one photo after the other, row by row.
    labels : Tensor, shape (pixels,), uint8
        The label maps of those that have one, likewise; 0 is no thing.
    start, label_start, height, width : Tensor, shape (photos,), int64
    weight, thing_weight : Tensor, shape (photos,), float32
        How often each is drawn, relative to the others: for hints all over, and for hints in
        things (0 without a label map).
    """

    data: Tensor
    labels: Tensor
    start: Tensor
    label_start: Tensor
    height: Tensor
    width: Tensor
    weight: Tensor
    thing_weight: Tensor

    def __len__(self) -> int:
        return len(self.start)

    @property
    def mapped(self) -> int:
        """How many photos have a label map."""
        return int((self.thing_weight > 0).sum())

    @classmethod
    def load(
        cls,
        sources: Iterable[str | os.PathLike[str]],
        *,
        things: Sequence[str | os.PathLike[str]] = (),
        short_side: int = 256,
        balance: float = 0.5,
        weights: Mapping[str, float] | None = None,
        limit: int | None = None,
    ) -> PhotoBlock:
        """Read photos and label maps into memory.

        Parameters
        ----------
        things : sequence of path
            Label maps (see `hscaunet.data.things`). A photo takes the first that there is for it;
            the photos of each of these are drawn equally often in all.
        balance : float
            A source of n photos (see `hscaunet.data.photos.source_of`) is drawn in proportion to
            n ** balance: 1 draws all photos alike, 0 all sources alike.
        weights : mapping, optional
            By how many times more often the photos of a source are drawn.

        Raises
        ------
        DataError
            If nothing can be used, a label map does not fit its photo, or a weight is of no source.
        """
        maps, taken = [read_labels([source]) for source in things], set()
        names: list[str] = []
        shapes: list[tuple[int, int]] = []
        owners: list[int] = []  # which of `things` a photo's map is from
        label_start: list[int] = []
        data, labels = bytearray(), bytearray()
        for name, rgb in load_photos(
            sources, short_side=short_side, limit=limit, progress="Reading photos"
        ):
            owner, fitted = _find_map(maps, name, rgb.shape[:2], taken)
            names.append(source_of(name))
            shapes.append(rgb.shape[:2])
            owners.append(owner)
            label_start.append(len(labels))
            data += rgb.tobytes()
            if fitted is not None:
                labels += fitted.tobytes()
        height, width = torch.tensor(shapes).T
        sizes = height * width * 3
        weight = _balanced(names, balance, weights or {})
        block = cls(
            torch.frombuffer(data, dtype=torch.uint8),
            torch.frombuffer(labels or bytearray(1), dtype=torch.uint8),
            sizes.cumsum(0) - sizes,
            torch.tensor(label_start),
            height,
            width,
            weight,
            _share_out(weight, torch.tensor(owners), len(maps)),
        )
        log.info(
            "%d photos of %d sources, %d with label maps, %.0f MiB",
            len(names),
            len(set(names)),
            block.mapped,
            (len(data) + len(labels)) / 2**20,
        )
        return block

    def to(self, device: torch.device) -> PhotoBlock:
        """The same block on another device."""
        tensors = {f.name: getattr(self, f.name).to(device) for f in dataclasses.fields(self)}
        return PhotoBlock(**tensors)

    def draw(
        self, batch: int, size: int, window: int, chance: torch.Generator, *, things: bool = False
    ) -> tuple[Tensor, Tensor]:
        """Cut random crops, mirrored half of the time.

        Parameters
        ----------
        batch, size : int
        window : int
            Side of what is cut of the photos, resized to `size` x `size`; at least `size`.
        chance : torch.Generator
            On the block's device; the one source of chance.
        things : bool
            Draw from the photos with label maps only, and cut those as well.

        Returns
        -------
        rgb : Tensor, shape (batch, 3, size, size), float32
            sRGB, 0..1. Photos smaller than the crop are continued by reflection.
        labels : Tensor, shape (batch, size, size), uint8
            All 0 unless `things`.
        """
        device = self.data.device
        weight = self.thing_weight if things else self.weight
        chosen = torch.multinomial(weight, batch, replacement=True, generator=chance)
        height, width = self.height[chosen], self.width[chosen]
        draws = torch.rand((3, batch), generator=chance, device=device)
        rows = _lines(height, draws[0], window)
        columns = _lines(width, draws[1], window)
        columns = torch.where(draws[2, :, None] < 0.5, columns, columns.flip(1))
        pixel = rows[:, :, None] * width[:, None, None] + columns[:, None, :]
        index = (self.start[chosen, None, None] + pixel * 3)[:, None]
        channel = torch.arange(3, device=device)[None, :, None, None]
        rgb = self.data[index + channel].float() / 255
        if window != size:
            rgb = F.interpolate(rgb, (size, size), mode="bilinear", antialias=True)
        labels = torch.zeros((batch, size, size), dtype=torch.uint8, device=device)
        if things:
            nearest = ((torch.arange(size, device=device) + 0.5) * window / size).long()
            pixel = pixel[:, nearest][:, :, nearest]
            labels = self.labels[self.label_start[chosen, None, None] + pixel]
        return rgb.clamp(0, 1), labels


def _find_map(
    maps: Sequence[Mapping[str, NDArray[np.uint16]]],
    name: str,
    shape: tuple[int, int],
    taken: set[str],
) -> tuple[int, NDArray[np.uint8] | None]:
    """Which of the sets has a photo's label map, and that at the photo's size; or -1, None."""
    key = photo_key(name)
    for owner, found in enumerate(maps):
        if key in found:
            if key in taken:
                raise DataError(
                    f"Two photos have the name {key}, and label maps go by it; rename one."
                )
            taken.add(key)
            try:
                return owner, fit_labels(found[key], *shape)
            except DataError as error:
                raise DataError(f"{name}: {error}") from None
    return -1, None


def _balanced(names: Sequence[str], balance: float, weights: Mapping[str, float]) -> Tensor:
    """How often each photo is drawn, by its source's name."""
    count = Counter(names)
    if strange := sorted(set(weights) - set(count)):
        raise DataError(
            f"There is no source {strange[0]!r} to weigh; there are {', '.join(sorted(count))}."
        )
    found = torch.tensor([count[n] ** (balance - 1.0) * weights.get(n, 1.0) for n in names])
    if not float(found.sum()) > 0:
        raise DataError("Every source has the weight 0; --weigh at least one more.")
    return found


def _share_out(weight: Tensor, owner: Tensor, sets: int) -> Tensor:
    """The weights of photos with a label map, so that each set of maps has 1 in all."""
    shared = torch.zeros_like(weight)
    for one in range(sets):
        mine = owner == one
        shared[mine] = weight[mine] / weight[mine].sum().clamp_min(1e-12)
    return shared


def _lines(length: Tensor, where: Tensor, window: int) -> Tensor:
    """Rows or columns of windows: (N,) lengths and places (0..1) to (N, window), reflected."""
    room = (length - window).clamp_min(0) + 1
    start = (where * room).long().clamp(max=room - 1)
    at = torch.arange(window, device=length.device) + start[:, None]
    at = at % (2 * length[:, None])
    return torch.minimum(at, 2 * length[:, None] - 1 - at)
