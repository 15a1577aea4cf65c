"""ONNX files of this project, read and checked."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import TYPE_CHECKING

from runtime.errors import ModelError, first_line
from runtime.layout import CONTRACT, PIPELINE, input_dimensions
from runtime.models.onnx_file import read_model_file

if TYPE_CHECKING:
    import onnx


def load_graph(path: Path) -> tuple[onnx.ModelProto, dict[str, str], str]:
    """An ONNX file of this project, its metadata and its sha256.

    Raises
    ------
    ModelError
        If it is none, or is damaged.
    """
    import onnx

    data, metadata = read_model_file(path, (CONTRACT, PIPELINE))
    try:
        proto = onnx.load_model_from_string(data)
        onnx.checker.check_model(proto, full_check=True)
    except Exception as error:  # protobuf's, the checker's and shape inference's share no base
        raise ModelError(
            f"{path} is no valid ONNX model ({first_line(error)}); export it again with "
            "python -m export.onnx."
        ) from None
    # read_model_file looks for them in the bytes; a file may be written so that it does not see.
    if any(onnx.external_data_helper.uses_external_data(t) for t in proto.graph.initializer):
        raise ModelError(f"{path} keeps weights in other files; save it as one file.")
    found = {
        value.name: [d.dim_param or d.dim_value for d in value.type.tensor_type.shape.dim]
        for value in proto.graph.input
    }
    wanted = input_dimensions(metadata["layout"])
    if found != wanted:
        raise ModelError(
            f"{path} takes {found}, not {wanted}; export it again with python -m export.onnx."
        )
    return proto, metadata, hashlib.sha256(data).hexdigest()


def is_quantized(proto: onnx.ModelProto) -> bool:
    """Whether a graph has Q/DQ nodes."""
    return any(node.op_type == "QuantizeLinear" for node in proto.graph.node)
