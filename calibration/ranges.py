"""Ranges of a network's values, collected by ONNX Runtime's calibrators and kept in a file."""

from __future__ import annotations

import contextlib
import io
import json
import logging
import math
import tempfile
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from runtime.errors import ColorizationError, ModelError, first_line
from runtime.files import read_limited, write_atomically

if TYPE_CHECKING:
    import onnx

log = logging.getLogger(__name__)

METHODS = {"max": "MinMax", "percentile": "Percentile", "entropy": "Entropy"}
"""Ways to choose a range, and ONNX Runtime's names for them."""

PERCENTILE = 99.999
FORMAT = "hscaunet-ranges-1"

Ranges = dict[str, tuple[float, float]]


def collect(
    proto: onnx.ModelProto, inputs: Iterable[NDArray[np.float32]], method: str, op_types: list[str]
) -> Ranges:
    """Run a network on every input and find the range of what goes into and out of some nodes.

    Parameters
    ----------
    proto : ModelProto
        An fp32 graph.
    inputs : iterable of ndarray
        They are taken one after the other: memory does not grow with their number.
    method : str
        One of `METHODS`.
    op_types : list of str
        Types of the nodes.

    Raises
    ------
    ModelError
        If the graph cannot be run.
    """
    import onnx
    import onnxruntime as ort
    from onnxruntime.quantization import CalibrationMethod, create_calibrator

    name = proto.graph.input[0].name
    options: dict[str, Any] = {"symmetric": True}
    if method == "percentile":
        options["percentile"] = PERCENTILE
    with tempfile.TemporaryDirectory() as folder, contextlib.redirect_stdout(io.StringIO()):
        path = Path(folder, "network.onnx")
        onnx.save(proto, path)
        with _named():
            calibrator = create_calibrator(
                path,
                op_types,
                augmented_model_path=str(Path(folder, "augmented.onnx")),
                calibrate_method=CalibrationMethod[METHODS[method]],
                extra_options=options,
            )
            session = ort.InferenceSession(path, providers=["CPUExecutionProvider"])
        # ONNX Runtime keeps every value of all that one call is given: so, one at a time.
        for x in inputs:
            with _named():
                # Its calibrators pass over NaN.
                if not np.isfinite(session.run(None, {name: x})[0]).all():
                    raise ModelError("The network gives NaN or infinity, so it cannot be used.")
                calibrator.collect_data(_One({name: x}))
        with _named():
            found = calibrator.compute_data()
    ranges = {}
    for tensor, data in found.items():
        low, high = (float(np.asarray(v).item()) for v in data.range_value)
        if not (math.isfinite(low) and math.isfinite(high)):
            raise ModelError(f"{tensor} holds NaN or infinity, so this network cannot be used.")
        ranges[tensor] = (low, high)
    return ranges


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


def load(path: Path, key: dict[str, Any]) -> Ranges | None:
    """Ranges that were kept for the same model, data and options; None where there are none."""
    if not path.exists():
        return None
    try:
        content = json.loads(read_limited(path, 16 << 20, "file of ranges", ModelError))
        if content["format"] != FORMAT or content["key"] != key:
            return None
        ranges = {str(n): (float(low), float(high)) for n, (low, high) in content["ranges"].items()}
        if ranges and all(
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
