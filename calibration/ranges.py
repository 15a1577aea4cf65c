"""Ranges of a network's values, collected by ONNX Runtime's calibrators and kept in a file."""

from __future__ import annotations

import contextlib
import hashlib
import io
import json
import logging
import math
import tempfile
from collections.abc import Callable, Collection, Iterable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime as ort
from numpy.typing import NDArray
from onnxruntime.quantization import CalibrationMethod, create_calibrator
from onnxruntime.quantization.calibrate import HistogramCollector, entropy
from onnxruntime.quantization.quant_utils import smooth_distribution

from hscaunet.data.photos import DataError
from runtime.errors import ColorizationError, ModelError, first_line
from runtime.safe_files import read_limited, write_atomically

from . import METHODS

log = logging.getLogger(__name__)

_NAMES = dict(zip(METHODS, ("MinMax", "Percentile", "Entropy"), strict=True))

PERCENTILE = 99.99
BINS = {"percentile": 2048, "entropy": 4096}
"""Of a histogram from 0, and from minus to plus the largest value."""

LEVELS = 128  # that entropy's search compares with, as TensorRT's did
FORMAT = "hscaunet-ranges-1"

Ranges = dict[str, tuple[float, float]]


def describe(method: str) -> str:
    """A method with all that its ranges depend on."""
    more = {"percentile": f" {PERCENTILE}", "entropy": f", {LEVELS} levels"}.get(method, "")
    return f"{method}{more}" + (f", {BINS[method]} bins" if method in BINS else "")


def tensors(proto: onnx.ModelProto, nodes: Collection[str]) -> set[str]:
    """Names of what goes into and out of some nodes.

    Raises
    ------
    ValueError
        If a node is not there.
    """
    found = [node for node in proto.graph.node if node.name in nodes]
    if len(found) < len(set(nodes)):
        raise ValueError(f"The graph has not all of the nodes {', '.join(nodes)}.")
    return {tensor for node in found for tensor in (node.input[0], node.output[0])}


def collect(
    proto: onnx.ModelProto,
    inputs: Callable[[], Iterable[NDArray[np.float32]]],
    method: str,
    nodes: Collection[str],
) -> Ranges:
    """Run a network on every input and find the range of what goes into and out of some nodes.

    Parameters
    ----------
    proto : ModelProto
        An fp32 graph.
    inputs : callable
        Gives the inputs one after the other, the same at each call: all methods but max go through
        them twice, first for the largest value, then for a histogram up to it. (ONNX Runtime would
        make its bins of the first photo alone.) Memory does not grow with their number.
    method : str
        One of `calibration.METHODS`.
    nodes : collection of str
        Names of the nodes.

    Returns
    -------
    dict
        From the name of each tensor to its smallest and largest value, or what the method puts in
        their place.

    Raises
    ------
    ModelError
        If the graph cannot be run, or gives NaN or infinity.
    DataError
        If there are no inputs, or other ones the second time.
    """
    wanted = tensors(proto, nodes)
    op_types = sorted({node.op_type for node in proto.graph.node if node.name in nodes})
    with tempfile.TemporaryDirectory() as folder, contextlib.redirect_stdout(io.StringIO()):
        path = Path(folder, "network.onnx")
        onnx.save(proto, path)
        ranges, first = _one_pass(path, inputs(), "max", op_types, wanted, {})
        if method != "max" and any(high > low for low, high in ranges.values()):
            more, second = _one_pass(path, inputs(), method, op_types, wanted, ranges)
            if first != second:
                raise DataError("The photos changed while they were measured; run it again.")
            ranges |= more
    return ranges


def _one_pass(
    path: Path,
    inputs: Iterable[NDArray[np.float32]],
    method: str,
    op_types: list[str],
    wanted: set[str],
    largest: Ranges,
) -> tuple[Ranges, str]:
    """One pass over the inputs: the ranges, and a digest of the inputs."""
    with _named():
        calibrator = create_calibrator(
            path,
            op_types,
            augmented_model_path=str(path.with_name("augmented.onnx")),
            calibrate_method=CalibrationMethod[_NAMES[method]],
            extra_options={"symmetric": True, "percentile": PERCENTILE},
        )
        if not largest:
            session = ort.InferenceSession(path, providers=["CPUExecutionProvider"])
    name = calibrator.infer_session.get_inputs()[0].name
    seen = hashlib.sha256()
    if largest:
        # A tensor that is zero throughout has no histogram, and its range is known.
        calibrator.tensors_to_calibrate = {t for t in wanted if largest[t][1] > 0}
        calibrator.collector = _Histograms(method, largest)
    nothing = True
    # ONNX Runtime keeps every value of all that one call is given: so, one at a time.
    for x in inputs:
        nothing = False
        seen.update(x.tobytes())
        with _named():
            # Its calibrators pass over NaN.
            if not largest and not np.isfinite(session.run(None, {name: x})[0]).all():
                raise ModelError("The network gives NaN or infinity, so it cannot be used.")
            calibrator.collect_data(_One({name: x}))
    if nothing:
        raise DataError("There are no photos to measure ranges on; give others.")
    with _named():
        found = calibrator.compute_data()
    ranges = {}
    for tensor, data in found.items():
        if tensor in wanted:
            low, high = (float(np.asarray(v).item()) for v in data.range_value)
            if method == "percentile":
                # ONNX Runtime gives the lower edge of the bin, which may be 0.
                limits = largest[tensor]
                width = limits[1] / BINS[method]
                low, high = max(low - width, limits[0]), min(high + width, limits[1])
            if not (math.isfinite(low) and math.isfinite(high)):
                raise ModelError(f"{tensor} holds NaN or infinity, so this network cannot be used.")
            ranges[tensor] = (low, high)
    if missing := wanted.difference(largest or ranges):
        raise ModelError(
            f"ONNX Runtime measures no range of {min(missing)}; export the network again with "
            "python -m export.onnx."
        )
    return ranges, seen.hexdigest()


class _Histograms(HistogramCollector):
    """ONNX Runtime's histograms, with bins up to a largest value that is known beforehand."""

    def __init__(self, method: str, largest: Ranges) -> None:
        bins = BINS[method]
        super().__init__(
            method=method,
            symmetric=True,
            num_bins=bins,
            num_quantized_bins=LEVELS,
            percentile=PERCENTILE,
            scenario="same",
        )
        for tensor, (low, high) in largest.items():
            if high > 0:
                limits = np.float32(low), np.float32(high)
                start, more = (0, ()) if method == "percentile" else (-high, (np.float32(high),))
                edges = np.linspace(start, high, bins + 1, dtype=np.float32)
                self.histogram_dict[tensor] = (np.zeros(bins, np.int64), edges, *limits, *more)

    def get_entropy_threshold(
        self, histogram: tuple[Any, ...], num_quantized_bins: int
    ) -> tuple[np.float32, np.float32]:
        """ONNX Runtime's search with arrays in place of loops: the same result, far sooner.

        Of all symmetric thresholds the one at which the histogram, what is beyond added to its
        ends, is nearest (Kullback-Leibler) to itself in `num_quantized_bins` steps.
        """
        counts, edges, low, high = histogram[:4]
        middle, below = counts.size // 2, np.concatenate([[0], np.cumsum(counts)])
        best, threshold = math.inf, (edges[0], edges[-1])
        for half in range(num_quantized_bins // 2, middle + 1):
            start, end = middle - half, min(middle + half + 1, counts.size)
            inside = counts[start:end]
            p = inside.copy()
            p[0] += below[start]
            p[-1] += below[-1] - below[end]
            merged = inside.size // num_quantized_bins
            whole = merged * num_quantized_bins
            steps = inside[:whole].reshape(-1, merged).sum(1)
            steps[-1] += inside[whole:].sum()
            used = (p[:whole] != 0).reshape(-1, merged).sum(1)
            q = np.zeros_like(p)
            q[:whole] = np.repeat(np.where(used > 0, steps / used.clip(1), 0), merged)
            smooth = smooth_distribution(p), smooth_distribution(q)
            distance = math.inf if any(s is None for s in smooth) else float(entropy(*smooth))
            if distance < best:
                best, threshold = distance, (edges[start], edges[end])
        return max(threshold[0], low), min(threshold[1], high)


@contextlib.contextmanager
def _named() -> Iterator[None]:
    """ONNX Runtime's exceptions, which share no base of their own, as a sentence of ours."""
    try:
        yield
    except (ColorizationError, OSError, MemoryError):
        raise
    except Exception as error:
        raise ModelError(
            f"The network cannot be run to measure its ranges ({first_line(error)}); export it "
            "again with python -m export.onnx."
        ) from None


class _One:
    """A calibration data reader of one input."""

    def __init__(self, feed: dict[str, NDArray[np.float32]]) -> None:
        self._left: list[dict[str, NDArray[np.float32]]] = [feed]

    def get_next(self) -> dict[str, NDArray[np.float32]] | None:
        """See ``onnxruntime.quantization.CalibrationDataReader``."""
        return self._left.pop() if self._left else None


def save(path: Path, key: dict[str, Any], ranges: Ranges) -> None:
    """Keep ranges, with what they hold for, as JSON that a person can read."""
    lines = ",\n".join(
        f"  {json.dumps(name)}: [{low:.9g}, {high:.9g}]" for name, (low, high) in ranges.items()
    )
    text = (
        f'{{\n "format": "{FORMAT}",\n "key": {json.dumps(key)},\n "ranges": {{\n{lines}\n }}\n}}\n'
    )
    write_atomically(path, text.encode())


def load(path: Path, key: dict[str, Any], wanted: Collection[str]) -> Ranges | None:
    """Ranges of some tensors, kept for the same model, data and options; None where not all are."""
    if not path.exists():
        return None
    try:
        content = json.loads(read_limited(path, 16 << 20, "file of ranges", ModelError))
        if content["format"] != FORMAT or content["key"] != key:
            return None
        ranges = {str(n): (float(low), float(high)) for n, (low, high) in content["ranges"].items()}
        if ranges.keys() >= set(wanted) and all(
            math.isfinite(low) and math.isfinite(high) and low <= high
            for low, high in ranges.values()
        ):
            return ranges
    except (ValueError, KeyError, TypeError, AttributeError, ModelError):
        pass
    except (RecursionError, OverflowError):  # nested too deeply, or numbers of hundreds of digits
        pass
    log.warning("%s holds no ranges that can be read; they are measured anew.", path)
    return None
