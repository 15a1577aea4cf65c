"""The protocol ``objects``: a few clicks on one thing, the rest of the photo shall stay.

Photos with label maps drawn by people. Measured is how far the thing takes its colour, how much of
it spills over the rest, and whether the rest is made worse; once with the thing's true colour, and
once with that turned in the ab plane, as somebody paints a red car blue.
"""

from __future__ import annotations

import math
import os
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from runtime.color import lab_from_rgb
from runtime.images import decode_image
from runtime.layout import denormalize_ab

from ..data.hints import pack_input, paint_patches
from ..data.photos import DataError, iterate_files
from ..data.things import decode_labels, photo_key
from .method import Method

SIZE = 256
CLICKS = (1, 3, 5)
TASKS = ("true", "turned")

_PATCH = 5  # side of a hint
_MARGIN = 3  # of its patch from the thing's border, where the thing is wide enough
_AREA = (0.015, 0.45)  # of the photo, for a thing
_MISSED = 10.0  # distance of mean ab, thing's truth from the guess, for a thing to be worth a click
_THINGS = 2  # at most, of one photo
_HARM, _HARMLESS = 0.05, 4.0  # growth of the error outside; of an error of at least so many ab^2


@dataclass(frozen=True)
class ObjectPhoto:
    """A photo with its label map, both squashed to 256 x 256.

    Attributes
    ----------
    name : str
    lab : Tensor, shape (1, 3, 256, 256)
    labels : ndarray, shape (256, 256), uint16
    """

    name: str
    lab: Tensor
    labels: NDArray[np.uint16]


@dataclass(frozen=True)
class Case:
    """One thing of one photo with its clicks.

    Attributes
    ----------
    photo, thing : int
        Number of the photo, and of the thing in its label map.
    task : {"true", "turned"}
    truth : Tensor, shape (1, 2, 256, 256)
        ab in Lab units.
    inside : Tensor, shape (256, 256), bool
    inputs : dict of int to Tensor
        The network's input for each number of clicks.
    """

    photo: int
    thing: int
    task: str
    truth: Tensor
    inside: Tensor
    inputs: dict[int, Tensor]


def load_objects(
    sources: Iterable[str | os.PathLike[str]], limit: int | None = None
) -> list[ObjectPhoto]:
    """Photos with label maps, ``ID.jpg`` beside ``ID.png``, ordered by name.

    Raises
    ------
    DataError
        If there is no such pair, or a photo has no label map.
    """
    import cv2

    photos, maps = {}, {}
    for name, data in iterate_files(sources):
        if Path(name).suffix.lower() == ".png":
            maps[photo_key(name)] = decode_labels(data, name)
        else:
            photos[photo_key(name)] = (name, data)
    found = []
    for key in sorted(photos)[:limit]:
        name, data = photos[key]
        if key not in maps:
            raise DataError(f"{name} has no label map {key}.png beside it, which objects needs.")
        rgb = cv2.resize(decode_image(data, name=name), (SIZE, SIZE), interpolation=cv2.INTER_AREA)
        labels = cv2.resize(maps[key], (SIZE, SIZE), interpolation=cv2.INTER_NEAREST)
        lab = np.moveaxis(lab_from_rgb(np.asarray(rgb, np.uint8)), -1, 0).copy()
        found.append(ObjectPhoto(key, torch.from_numpy(lab)[None], np.asarray(labels, np.uint16)))
    if not found:
        raise DataError("There are no photos for objects; give photos with label maps beside them.")
    return found


def cases(photo: ObjectPhoto, number: int, guess: Tensor, seed: int = 0) -> Iterator[Case]:
    """The things of a photo that are worth a click, at most two, under both tasks.

    Parameters
    ----------
    number : int
        Of the photo; with `seed` it fixes things, turns and places.
    guess : Tensor, shape (1, 2, 256, 256)
        What the method makes of the photo without hints; ab in Lab units.
    """
    order = np.random.default_rng([seed, number, 0]).permutation(
        np.unique(photo.labels[photo.labels > 0])
    )
    used = 0
    for thing in map(int, order):
        inside = photo.labels == thing
        if used == _THINGS or not _AREA[0] <= inside.mean() <= _AREA[1]:
            continue
        chance = np.random.default_rng([seed, number, 1, thing])
        angle, places = chance.uniform(0.5, 1.5) * math.pi, _places(inside, chance)
        where = torch.from_numpy(inside)
        missed = (photo.lab[0, 1:] - guess[0])[:, where].mean(1)
        if float(missed.square().sum().sqrt()) < _MISSED:
            continue
        used += 1
        for task in TASKS:
            truth = photo.lab[:, 1:]
            if task == "turned":
                truth = torch.where(where, _turn(truth, angle), truth)
            inputs = {k: _input(photo.lab[:, :1], truth, places[:k]) for k in CLICKS}
            yield Case(number, thing, task, truth, where, inputs)


def _places(inside: NDArray[np.bool_], chance: np.random.Generator) -> NDArray[np.int64]:
    """Rows and columns of the most clicks that there are, (5, 2), different where there is room."""
    import cv2

    reach = _PATCH // 2 + _MARGIN
    side = 2 * reach + 1
    padded = np.pad(inside.astype(np.uint8), reach)
    inner = cv2.erode(padded, np.ones((side, side), np.uint8))[reach:-reach, reach:-reach] > 0
    cells = np.argwhere(inner if inner.any() else inside)
    return cells[chance.choice(len(cells), max(CLICKS), replace=len(cells) < max(CLICKS))]


def _turn(ab: Tensor, angle: float) -> Tensor:
    a, b = ab[:, :1], ab[:, 1:]
    cos, sin = math.cos(angle), math.sin(angle)
    return torch.cat([cos * a - sin * b, sin * a + cos * b], 1)


def _input(L: Tensor, truth: Tensor, places: NDArray[np.int64]) -> Tensor:
    center = torch.from_numpy(places)[None]
    side = torch.full_like(center[..., 0], _PATCH)
    count = torch.tensor([len(places)])
    hint, mask = paint_patches(truth, center[..., 1], center[..., 0], side, count)
    return pack_input(L, hint, mask)


def score(case: Case, guess: Tensor, ab: Tensor) -> dict[str, float]:
    """What clicks did: `took`, `spill` and `harmed` (0 or 1); ab in Lab units, (1, 2, 256, 256)."""
    inside, outside = case.inside, ~case.inside

    def error(one: Tensor, where: Tensor) -> float:
        return float((one - case.truth)[0][:, where].square().mean())

    change = (ab - guess)[0].square().sum(0).sqrt()
    before = error(guess, outside)
    grown = error(ab, outside) - before
    return {
        "took": 1 - error(ab, inside) / error(guess, inside),
        "spill": float(change[outside].mean() / change[inside].mean().clamp_min(1e-6)),
        "harmed": float(grown > _HARM * max(before, _HARMLESS)),
    }


def evaluate_objects(
    methods: Sequence[Method], photos: Sequence[ObjectPhoto], *, seed: int = 0
) -> list[dict[str, Any]]:
    """Measure methods on things and clicks.

    Returns
    -------
    list of dict
        For each method, task and number of clicks: ``method``, ``protocol``, ``cases``, the
        medians of ``took`` and ``spill``, the share that is ``harmed``, and ``things`` case by
        case.
    """
    from tqdm import tqdm

    rows = []
    for method in methods:
        found: dict[tuple[str, int], list[dict[str, Any]]] = {
            (task, k): [] for task in TASKS for k in CLICKS
        }
        bar = tqdm(photos, desc=f"{method.name}, objects", disable=None, leave=False)
        for number, photo in enumerate(bar):
            guess = predict_alone(method, photo)
            for case in cases(photo, number, guess, seed):
                for k, x in case.inputs.items():
                    figures = score(case, guess, _predict(method, x))
                    row = {"photo": photo.name, "thing": case.thing}
                    row |= {key: round(value, 5) for key, value in figures.items()}
                    found[case.task, k].append(row)
        for (task, k), things in found.items():
            rows.append(_summary(method.name, task, k, things))
    return rows


def predict_alone(method: Method, photo: ObjectPhoto) -> Tensor:
    """What a method makes of a photo without hints: ab in Lab units, (1, 2, 256, 256)."""
    nowhere = np.empty((0, 2), np.int64)
    return _predict(method, _input(photo.lab[:, :1], photo.lab[:, 1:], nowhere))


def _predict(method: Method, x: Tensor) -> Tensor:
    ab: Tensor = denormalize_ab(method.predict(x))
    return ab


def label(task: str, k: int) -> str:
    """Such as "objects true k=1"."""
    return f"objects {task} k={k}"


LABELS = [label(task, k) for task in TASKS for k in CLICKS]


def _summary(name: str, task: str, k: int, things: list[dict[str, Any]]) -> dict[str, Any]:
    def middle(key: str) -> float:
        return float(np.median([t[key] for t in things])) if things else math.nan

    return {
        "method": name,
        "protocol": label(task, k),
        "cases": len(things),
        "took": middle("took"),
        "spill": middle("spill"),
        "harmed": float(np.mean([t["harmed"] for t in things])) if things else math.nan,
        "things": things,
    }
