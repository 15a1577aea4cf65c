"""Q/DQ nodes around a network's convolutions, by ONNX Runtime's quantizer.

One file for every engine: S8 and symmetric, weights by channel and stored as 8 bits, no quantized
bias (TensorRT refuses it), opset 20. Attention, the convolution that sees the hints, the
interpolation, most of the backbone and the last convolution stay in float.
"""

from __future__ import annotations

import fnmatch
import re
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from export.graphs import store_half
from runtime.errors import ColorizationError, ModelError, first_line
from runtime.models.onnx_cut import KEY

from .ranges import Ranges

if TYPE_CHECKING:
    import onnx

OP_TYPES = ["Conv", "ConvTranspose"]
FLOAT_FIRST = ("inc.double_conv.0.weight", "unet.inc.conv.weight")
"""Weights of convolutions that see the hints themselves: almost all zero, and each one matters."""


_MAY = re.compile(
    r"double_conv|unet\.(down|up)\d\.(conv|second)|unet\.inc\.second|photo\.(join|fine|think\d|adds)"
    r"|photo\.backbone\.blocks\.1[1-5]\.(expand|project)\."
)


class CalibrationError(ColorizationError):
    """A network cannot be quantized; the message says why and what to do."""


def candidates(proto: onnx.ModelProto) -> dict[str, str]:
    """Convolutions that may compute in 8 bits: the name of each node, and of its weight.

    Those of 3x3 in the U-Net but the very first, its transposed ones (published form), those that
    bring the photo's features together, and the dense ones of its backbone from 1/16 to 1/32 of
    the size, which hold two thirds of its numbers.

    Raises
    ------
    CalibrationError
        If the graph is quantized already, or is none of this project's.
    """
    if any(node.op_type in ("QuantizeLinear", "DequantizeLinear") for node in proto.graph.node):
        raise CalibrationError("The model is quantized already; give the fp32 file it was made of.")
    found = {
        node.name: node.input[1]
        for node in proto.graph.node
        if node.op_type in OP_TYPES
        and (_MAY.search(node.input[1]) or node.op_type == "ConvTranspose")
        and not node.input[1].endswith(FLOAT_FIRST)
    }
    if not found:
        raise CalibrationError(
            "The model has none of this network's convolutions; export it with "
            "python -m export.onnx."
        )
    return found


def exclude(nodes: dict[str, str], patterns: Sequence[str]) -> dict[str, str]:
    """Leave out those whose weight's name matches a pattern, such as ``unet.up1.*``.

    Raises
    ------
    CalibrationError
        If a pattern matches nothing, or nothing is left.
    """
    left = dict(nodes)
    for pattern in patterns:
        hit = [node for node, weight in nodes.items() if fnmatch.fnmatchcase(weight, pattern)]
        if not hit:
            raise CalibrationError(
                f"--exclude {pattern} matches none of {', '.join(nodes.values())}."
            )
        for node in hit:
            left.pop(node, None)
    if not left:
        raise CalibrationError("Nothing is left to quantize; exclude less.")
    return left


def quantize(proto: onnx.ModelProto, ranges: Ranges, nodes: Sequence[str]) -> onnx.ModelProto:
    """Put Q/DQ nodes around some convolutions.

    Parameters
    ----------
    proto : ModelProto
        An fp32 graph; it is left as it is.
    ranges : dict
        Of each tensor that goes into or comes out of them.
    nodes : sequence of str
        Names of the convolutions.

    Raises
    ------
    ModelError
        If ONNX Runtime cannot quantize it.
    """
    import onnx

    made = _with_qdq(proto, ranges, nodes)
    # What stays in float, most of it the backbone's, would be two thirds of the file.
    taken = {node.input[1] for node in made.graph.node if node.op_type in OP_TYPES}
    store_half(made, taken, exact=True)
    del made.metadata_props[:]
    for entry in proto.metadata_props:
        if entry.key == KEY:
            continue  # eight bits come as one graph
        value = "int8" if entry.key == "precision" else entry.value
        made.metadata_props.add(key=entry.key, value=value)
    del made.graph.value_info[:]
    onnx.checker.check_model(made, full_check=True)
    return made


def _with_qdq(proto: onnx.ModelProto, ranges: Ranges, nodes: Sequence[str]) -> onnx.ModelProto:
    """What ONNX Runtime's quantizer makes of it."""
    import logging

    import numpy as np
    import onnx
    from onnxruntime.quantization import (
        CalibrationMethod,
        QuantType,
        TensorData,
        TensorsData,
        quantize_static,
        save_tensors_data,
    )

    data = {
        name: TensorData(lowest=np.float32(low), highest=np.float32(high))
        for name, (low, high) in ranges.items()
    }
    root = logging.getLogger()
    level = root.level
    with tempfile.TemporaryDirectory() as folder:
        source, result, kept = (Path(folder, n) for n in ("fp32.onnx", "int8.onnx", "ranges.json"))
        onnx.save(proto, source)
        save_tensors_data(TensorsData(CalibrationMethod.MinMax, data), kept)
        try:
            root.setLevel(logging.ERROR)  # it advises its own preprocessing, which is not needed
            quantize_static(
                source,
                result,
                None,
                calibration_cache_path=kept,
                op_types_to_quantize=OP_TYPES,
                nodes_to_quantize=list(nodes),
                per_channel=True,
                activation_type=QuantType.QInt8,
                weight_type=QuantType.QInt8,
                extra_options={
                    "ActivationSymmetric": True,
                    "WeightSymmetric": True,
                    "QuantizeBias": False,
                },
            )
            return onnx.load(result)
        except (OSError, MemoryError):
            raise
        except Exception as error:  # its exceptions share no base of their own
            raise ModelError(
                f"ONNX Runtime cannot quantize this network ({first_line(error)}); export it again "
                "with python -m export.onnx."
            ) from None
        finally:
            root.setLevel(level)
