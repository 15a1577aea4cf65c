"""Measure methods on whole photos under the published protocols."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray
from tqdm import tqdm

from ..data.photos import center_square
from .method import Method
from .metrics import (
    color_difference,
    compare,
    hint_difference,
    hint_range,
    join,
    present,
)
from .protocols import Protocol


def measure(
    method: Method,
    protocol: Protocol,
    rgb: NDArray[np.uint8],
    photo: int,
    seed: int = 0,
    *,
    spread: bool = False,
) -> dict[str, float]:
    """Measure one photo; see `present` for the parameters.

    Parameters
    ----------
    spread : bool
        Measure how far the last hint spreads, too: one run more.

    Returns
    -------
    dict
        ``psnr`` (dB), ``ssim``, ``ciede2000``, ``at_hints`` and ``hpr``; see `compare`,
        `color_difference`, `hint_difference` and `hint_range`.
    """
    L, x = present(protocol, rgb, photo, seed)
    ab = method.predict(x)
    picture, reach = join(L, ab), float("nan")
    if spread and protocol.points:
        fewer = replace(protocol, points=protocol.points - 1)
        before = method.predict(present(fewer, rgb, photo, seed)[1])
        place = protocol.places(*rgb.shape[:2], photo, seed)[-1]
        reach = hint_range(ab, before, place.tolist())
    return {
        **compare(picture, rgb),
        "ciede2000": color_difference(picture, rgb),
        "at_hints": hint_difference(picture, L, x),
        "hpr": reach,
    }


def evaluate(
    methods: Sequence[Method],
    protocols: Sequence[Protocol],
    photos: Sequence[NDArray[np.uint8]],
    *,
    seed: int = 0,
    spread: bool = False,
) -> list[dict[str, Any]]:
    """Measure every method under every protocol on the same photos and hints.

    Parameters
    ----------
    seed : int
        Of the hints' places.
    spread : bool
        See `measure`.

    Returns
    -------
    list of dict
        ``method``, ``protocol``, the means over photos of what `measure` gives (``at_hints`` and
        ``hpr`` are None where no photo has one), and ``photos``: ``psnr`` and ``ssim`` photo by
        photo.
    """
    rows = []
    bar = tqdm(
        total=len(methods) * len(protocols) * len(photos),
        unit=" pictures",
        disable=None,
        leave=False,
    )
    with bar:
        for protocol in protocols:
            squares = [center_square(rgb, protocol.size) for rgb in photos]
            for method in methods:
                bar.set_description(f"{method.name}, {protocol.label}")
                figures = []
                for i, rgb in enumerate(squares):
                    figures.append(measure(method, protocol, rgb, i, seed, spread=spread))
                    bar.update()
                rows.append(
                    {
                        "method": method.name,
                        "protocol": protocol.label,
                        **{key: _mean([f[key] for f in figures]) for key in figures[0]},
                        "photos": [{k: round(f[k], 5) for k in ("psnr", "ssim")} for f in figures],
                    }
                )
    return rows


def _mean(values: Sequence[float]) -> float | None:
    """The mean of those that are numbers; None of none."""
    known = [value for value in values if not math.isnan(value)]
    return sum(known) / len(known) if known else None


def made_worse(rows: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    """On how many photos more hints lower the PSNR.

    Returns
    -------
    list of dict
        For each method and each number of hints with the one measured before: ``method``,
        ``protocol``, ``fewer`` (both labels), ``share`` of the photos.
    """
    found = []
    before: dict[tuple[str, str], dict[str, Any]] = {}
    for more in rows:
        name, _, points = more["protocol"].partition("=")
        fewer = before.get((more["method"], name))
        if points:
            before[more["method"], name] = more
        if fewer:
            pairs = zip(more["photos"], fewer["photos"], strict=True)
            worse = [a["psnr"] < b["psnr"] for a, b in pairs]
            labels = {"protocol": more["protocol"], "fewer": fewer["protocol"]}
            found.append({"method": more["method"], **labels, "share": sum(worse) / len(worse)})
    return found
