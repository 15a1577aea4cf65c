"""Which convolutions lose colour in 8 bits: measured one by one, the worst kept in float."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from .measure import Case, mean, onnxruntime_run, picture, quality, squared_error
from .quantize import quantize

if TYPE_CHECKING:
    import onnx

    from .ranges import Ranges

BUDGET = 0.05
"""dB of mean PSNR that quantizing may cost on the photos of the search."""


@dataclass(frozen=True)
class Loss:
    """What quantizing one convolution alone does.

    Attributes
    ----------
    node, weight : str
        Its name in the graph, and that of its weight.
    error : float
        Mean squared difference of the 8-bit pictures from those of fp32.
    psnr : float
        Change of PSNR against the truth in dB.
    """

    node: str
    weight: str
    error: float
    psnr: float


def rank(
    proto: onnx.ModelProto,
    ranges: Ranges,
    nodes: dict[str, str],
    photos: Sequence[Case],
    progress: Callable[[int], None] = lambda done: None,
) -> list[Loss]:
    """Quantize each convolution alone and measure, the one that loses most first.

    Parameters
    ----------
    proto : ModelProto
        The fp32 graph.
    nodes : dict
        Name of each convolution, and of its weight.
    photos : sequence of Case
    progress : callable
        Called with 1 after each.
    """
    plain = onnxruntime_run(proto)
    right = [picture(plain, case) for case in photos]
    base = [quality(p, c.truth)["psnr"] for p, c in zip(right, photos, strict=True)]
    losses = []
    for node, weight in nodes.items():
        run = onnxruntime_run(quantize(proto, ranges, [node]))
        made = [picture(run, case) for case in photos]
        errors = [squared_error(m, r) for m, r in zip(made, right, strict=True)]
        psnr = [quality(m, c.truth)["psnr"] for m, c in zip(made, photos, strict=True)]
        change = mean([p - b for p, b in zip(psnr, base, strict=True)])
        losses.append(Loss(node, weight, mean(errors), change))
        progress(1)
    return sorted(losses, key=lambda loss: loss.error, reverse=True)


def search(
    proto: onnx.ModelProto,
    ranges: Ranges,
    nodes: dict[str, str],
    photos: Sequence[Case],
    *,
    budget: float = BUDGET,
    progress: Callable[[int], None] = lambda done: None,
) -> tuple[dict[str, str], list[Loss], list[tuple[int, float]]]:
    """Leave in float what loses most, until the whole loses no more than the budget.

    Parameters
    ----------
    budget : float
        dB of mean PSNR that quantizing may cost on these photos.

    Returns
    -------
    nodes : dict
        Those to quantize.
    losses : list of Loss
        See `rank`.
    steps : list of (int, float)
        How many stayed in float, and what PSNR changed by, each time that was measured.
    """
    losses = rank(proto, ranges, nodes, photos, progress)
    plain = onnxruntime_run(proto)
    base = [quality(picture(plain, case), case.truth)["psnr"] for case in photos]
    steps: list[tuple[int, float]] = []
    # Twice as many each time: a search by halves would trust that more in float is always better.
    for count in [0, 1, 2, 4, 8, 16, 32, 64]:
        if count >= len(nodes):
            break
        kept = {loss.node for loss in losses[:count]}
        left = {node: weight for node, weight in nodes.items() if node not in kept}
        run = onnxruntime_run(quantize(proto, ranges, list(left)))
        psnr = [quality(picture(run, case), case.truth)["psnr"] for case in photos]
        change = mean([p - b for p, b in zip(psnr, base, strict=True)])
        steps.append((count, change))
        if change >= -budget:
            return left, losses, steps
    best = max(steps, key=lambda step: step[1])
    kept = {loss.node for loss in losses[: best[0]]}
    return {n: w for n, w in nodes.items() if n not in kept}, losses, steps
