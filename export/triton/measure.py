"""How long a model takes for several photos at once, and what waiting for others is worth."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path
from statistics import median

import numpy as np

from runtime.layout import INTERFACES

_ROUNDS = 5


def batch_times(
    path: Path, layout: str, largest: int, report: Callable[[int, float], None]
) -> dict[int, float]:
    """Seconds of a call with 1, 2, 4 ... photos of 256x256, medians, by ONNX Runtime here.

    Parameters
    ----------
    path : Path
        An ONNX file.
    layout : str
    largest : int
        Most photos.
    report : callable
        Called with a number of photos and their seconds.
    """
    import onnxruntime as ort

    session = ort.InferenceSession(str(path), providers=ort.get_available_providers())
    *inputs, _ = INTERFACES[layout].items()
    counts = [1 << power for power in range(largest.bit_length()) if 1 << power <= largest]
    found: dict[int, float] = {}
    rng = np.random.default_rng(0)
    for count in counts:
        feeds = {}
        for name, (dtype, (_, *dimensions)) in inputs:
            shape = [count, *(one if isinstance(one, int) else 256 for one in dimensions)]
            noise = rng.random(shape, np.float32)
            feeds[name] = noise if dtype is np.float32 else (noise * 255).astype(np.uint8)
        session.run(None, feeds)
        times = []
        for _ in range(_ROUNDS):
            began = time.perf_counter()
            session.run(None, feeds)
            times.append(time.perf_counter() - began)
        found[count] = median(times)
        report(count, found[count])
    return found


def worth_waiting(times: dict[int, float]) -> tuple[int, tuple[int, ...]]:
    """Microseconds to wait for others, and the batch that is sent off at once.

    The best batch is the smallest whose time a photo is within 5 % of the least. Waiting as long as
    a photo saves in it costs nobody more than batching gives; where it saves nothing, none waits.
    """
    each = {count: seconds / count for count, seconds in times.items()}
    best = min(count for count, one in each.items() if one <= 1.05 * min(each.values()))
    saved = times[1] - each[best] if best > 1 else 0.0
    return int(1e6 * max(0.0, saved)), (best,) if best > 1 else ()
