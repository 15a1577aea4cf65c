"""PyTorch modules as ONNX graphs that a person can read; their weights stored in half the size."""

from __future__ import annotations

from collections.abc import Collection
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import onnx
    import torch

OPSET = 20  # static quantization in ONNX Runtime wants at most 20

_SMALL_WEIGHT = 256  # weights with fewer values stay fp32 whatever the storage


def to_proto(
    module: torch.nn.Module,
    example: tuple[Any, ...],
    shapes: Any,
    inputs: list[str],
    outputs: list[str],
) -> onnx.ModelProto:
    """Export a module with `OPSET`, as one clean model.

    Parameters
    ----------
    example, shapes
        As ``torch.onnx.export`` takes them.
    inputs, outputs : list of str
        Their names.
    """
    import logging
    import warnings

    import torch

    with warnings.catch_warnings(), torch.inference_mode():
        warnings.simplefilter("ignore")
        logging.getLogger("onnxscript").setLevel(logging.ERROR)
        logging.getLogger("torch.onnx").setLevel(logging.ERROR)
        program = torch.onnx.export(
            module.eval(),
            example,
            dynamo=True,
            opset_version=OPSET,
            input_names=inputs,
            output_names=outputs,
            dynamic_shapes=shapes,
            external_data=False,
            verbose=False,
        )
    assert program is not None
    proto: onnx.ModelProto = program.model_proto
    _strip(proto)
    return proto


def _strip(proto: onnx.ModelProto) -> None:
    """Remove stack traces and source paths, which the exporter writes to every node."""
    for node in proto.graph.node:
        del node.metadata_props[:]
        node.doc_string = ""
    for value in (*proto.graph.value_info, *proto.graph.input, *proto.graph.output):
        del value.metadata_props[:]
    for tensor in proto.graph.initializer:
        del tensor.metadata_props[:]
        tensor.doc_string = ""
    del proto.graph.metadata_props[:]
    del proto.metadata_props[:]
    proto.doc_string = proto.graph.doc_string = ""


def name_dimensions(
    proto: onnx.ModelProto, inputs: list[list[int | str]], output: list[int | str]
) -> None:
    """Check that the free dimensions are free, and give them names that a person understands.

    Parameters
    ----------
    inputs, output : list
        Of each input and of the output, its dimensions: a number, or the name of a free one.
    """
    values = (*proto.graph.input, *proto.graph.output)
    for value, names in zip(values, (*inputs, output), strict=True):
        dims = value.type.tensor_type.shape.dim
        if len(dims) != len(names):
            raise AssertionError(f"{value.name} has an unexpected shape: {dims}")
        for dim, name in zip(dims, names, strict=True):
            if isinstance(name, int):
                if dim.dim_value != name:
                    raise AssertionError(f"{value.name} has an unexpected shape: {dims}")
                continue
            # An exporter that gives up on a free dimension writes a number without a word.
            if not dim.dim_param:
                raise AssertionError(f"{name} of {value.name} came out fixed: {dim}")
            dim.dim_param = name
    del proto.graph.value_info[:]


def store_half(
    proto: onnx.ModelProto, names: Collection[str] | None = None, exact: bool = False
) -> None:
    """Store large fp32 weights as fp16 with a Cast behind each; engines fold it on opening.

    Biases stay as they are: released weights are numbers of fp16, biases are not.

    Parameters
    ----------
    names : collection of str, optional
        Only those of these names.
    exact : bool
        Only those that are numbers of fp16 already, as released weights are.
    """
    import numpy as np
    import onnx
    from onnx import helper, numpy_helper

    casts = []
    for tensor in proto.graph.initializer:
        if tensor.data_type != onnx.TensorProto.FLOAT:
            continue
        value = numpy_helper.to_array(tensor)
        if (
            value.ndim < 2
            or value.size < _SMALL_WEIGHT
            or (names is not None and tensor.name not in names)
        ):
            continue
        with np.errstate(over="ignore"):
            half = value.astype(np.float16)
        if exact and not np.array_equal(half, value):
            continue
        name = tensor.name
        tensor.CopyFrom(numpy_helper.from_array(half, name + ".fp16"))
        casts.append(
            helper.make_node(
                "Cast", [name + ".fp16"], [name], name + ".cast", to=onnx.TensorProto.FLOAT
            )
        )
    nodes = [*casts, *proto.graph.node]
    del proto.graph.node[:]
    proto.graph.node.extend(nodes)
