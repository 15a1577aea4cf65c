"""The graph that an engine is built from, in the precision wanted."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from ..checks import feeds_of
from ..precision import restore_floats, to_half
from ..reading import is_quantized
from .options import PRECISIONS, BuildError

if TYPE_CHECKING:
    import onnx


def settle_precision(
    proto: onnx.ModelProto, metadata: dict[str, str], precision: str, path: Path
) -> tuple[onnx.ModelProto, str, str]:
    """The graph in the precision asked for, that precision, and a remark for people.

    Raises
    ------
    BuildError
        If the file cannot give that precision.
    """
    has = "int8" if is_quantized(proto) else metadata.get("precision", "fp32")
    if has not in PRECISIONS[1:]:
        raise BuildError(
            f"{path} says that it is of {has!r:.30}, which cannot be built; give fp32."
        )
    if precision == "auto":
        precision = "int8" if has == "int8" else "fp16"
    if has == precision == "fp16":
        return proto, precision, "as the file has it"
    if has == precision:
        plain = type(proto)()
        plain.CopyFrom(proto)
        restore_floats(plain)  # what is stored as fp16: not every parser folds the Cast behind it
        remark = "without TF32" if precision == "fp32" else "as the file has it"
        return plain, precision, remark
    if has != "fp32":
        raise BuildError(
            f"{path} is a graph of {has} and cannot be built as {precision}; give the fp32 file, "
            f"or --precision {has}."
        )
    if precision == "int8":
        raise BuildError(
            f"{path} has no Q/DQ nodes, so it cannot be built as int8 (TensorRT 11 has no "
            "calibration of its own); quantize the ONNX file first."
        )
    half, report = to_half(proto, feeds_of(metadata["layout"]))
    remark = f"largest value {report.largest:.3g} of 65504, at {report.at}"
    if report.kept:
        remark += f"; {len(report.kept)} nodes left in float, whose values come near that"
    return half, precision, remark
