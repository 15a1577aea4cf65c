"""Half precision in an ONNX graph: which nodes, how far their values reach, and the conversion.

TensorRT 11 takes the precision from the graph alone, so what is half here is half there.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from runtime.errors import ModelError, first_line
from runtime.models.onnx_cut import KEY

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    import numpy as np
    import onnx
    from numpy.typing import NDArray

FP16_MAX = 65504.0
"""Largest finite number of half precision (IEEE 754 binary16)."""

HEADROOM = 4.0
"""A node stays in float if its values came within this factor of `FP16_MAX`."""

CONVOLUTIONS = ("Conv", "ConvTranspose")

# Weights by which the networks of this project are known in any export.
_LAST = ("outc.conv.weight", "unet.outc.weight")

# What stands between two convolutions: in half precision where all its values are.
_BETWEEN = {"Add", "Clip", "Concat", "MaxPool", "Mul", "Pad", "ReduceMax", "ReduceMean", "Relu"}
_BETWEEN |= {"Resize", "Sigmoid", "Slice"}

# Of these only the first input holds values; the others are sizes and scales of fixed types.
_ONE_VALUE = {"Resize", "Slice"}


@dataclass(frozen=True)
class HalfReport:
    """What a conversion to half precision did.

    Attributes
    ----------
    convolutions, half : int
        Convolutions in the graph, and how many of them compute in half precision.
    largest : float
        Largest absolute value that a tensor which is half now had, when measured in float.
    at : str
        Name of that tensor.
    kept : tuple of str
        Nodes left in float because their values came too near to `FP16_MAX`.
    """

    convolutions: int
    half: int
    largest: float
    at: str
    kept: tuple[str, ...]


def restore_floats(proto: onnx.ModelProto) -> None:
    """Undo the storage of weights as fp16 in an fp32 graph: float initializers, no Cast behind."""
    import numpy as np
    import onnx
    from onnx import numpy_helper

    stored = {t.name: t for t in proto.graph.initializer if t.data_type == onnx.TensorProto.FLOAT16}
    kept, floats = [], []
    for node in proto.graph.node:
        tensor = stored.get(node.input[0]) if node.op_type == "Cast" else None
        kinds = [a.i for a in node.attribute if a.name == "to"]
        if tensor is None or kinds != [onnx.TensorProto.FLOAT]:
            kept.append(node)
            continue
        value = numpy_helper.to_array(tensor).astype(np.float32)
        floats.append(numpy_helper.from_array(value, node.output[0]))
    del proto.graph.node[:]
    proto.graph.node.extend(kept)
    proto.graph.initializer.extend(floats)
    _drop_unused(proto)


def _drop_unused(proto: onnx.ModelProto) -> None:
    """Remove initializers that no node takes."""
    used = {name for node in proto.graph.node for name in node.input}
    wanted = [t for t in proto.graph.initializer if t.name in used]
    del proto.graph.initializer[:]
    proto.graph.initializer.extend(wanted)


def _settle_nodes(proto: onnx.ModelProto) -> None:
    """Give every node a name of its own, and make constants initializers.

    Raises
    ------
    ModelError
        If the graph has graphs within it, into which a conversion would have to look.
    """
    import onnx

    nodes: list[onnx.NodeProto] = []
    names: set[str] = set()
    for node in proto.graph.node:
        if any(
            a.type in (onnx.AttributeProto.GRAPH, onnx.AttributeProto.GRAPHS)
            for a in node.attribute
        ):
            raise ModelError(
                f"The graph has a {node.op_type} with a graph of its own, which the network of "
                "this project has not; export it with python -m export.onnx."
            )
        values = [a for a in node.attribute if a.name == "value"]
        if node.op_type == "Constant" and values:
            tensor = proto.graph.initializer.add()
            tensor.CopyFrom(values[0].t)
            tensor.name = node.output[0]
            continue
        while not node.name or node.name in names:
            node.name = f"{node.name or node.op_type}.{len(names)}"
        names.add(node.name)
        nodes.append(node)
    del proto.graph.node[:]
    proto.graph.node.extend(nodes)


def half_nodes(proto: onnx.ModelProto) -> set[str]:
    """Names of the nodes that half precision serves: all convolutions, and what joins them.

    The rest stays in float: Lab, counts of hints, quotients, comparisons of places. What stands
    between convolutions is half where all that goes into it is.

    Raises
    ------
    ModelError
        If the graph does not hold the network of this project.
    """
    makers = {name: node for node in proto.graph.node for name in node.output}
    half = {node.name for node in proto.graph.node if node.op_type in CONVOLUTIONS}
    last = [n for n in proto.graph.node if any(i.endswith(_LAST) for i in n.input)]
    if not half or not last:
        raise ModelError(
            f"The graph has no convolution with the weight {' or '.join(_LAST)}; export it with "
            "python -m export.onnx."
        )
    for node in proto.graph.node:  # in the order of the data
        sources = [makers[name] for name in node.input if name in makers]
        if node.op_type in _BETWEEN and sources and all(s.name in half for s in sources):
            half.add(node.name)
    return half


def float_tensors(proto: onnx.ModelProto) -> set[str]:
    """Names of all fp32 tensors of a graph."""
    import onnx

    graph = onnx.shape_inference.infer_shapes(proto, data_prop=True).graph
    values = (*graph.value_info, *graph.input, *graph.output)
    names = {v.name for v in values if v.type.tensor_type.elem_type == onnx.TensorProto.FLOAT}
    return names | {t.name for t in graph.initializer if t.data_type == onnx.TensorProto.FLOAT}


def largest_values(
    proto: onnx.ModelProto,
    names: Iterable[str],
    inputs: Iterable[Mapping[str, NDArray[np.generic]]],
) -> dict[str, float]:
    """Largest absolute value of tensors over some inputs, run in ONNX Runtime.

    Parameters
    ----------
    names : iterable of str
        Tensors, any within the graph.
    inputs : iterable of mapping
        From input name to array.

    Returns
    -------
    dict of str to float
        Infinity where a value is not finite.
    """
    import numpy as np
    import onnx
    import onnxruntime as ort

    watched = onnx.ModelProto()
    watched.CopyFrom(proto)
    made = {name for node in proto.graph.node for name in node.output}
    wanted = sorted(made.intersection(names))
    del watched.graph.output[:]
    watched.graph.output.extend(
        onnx.helper.make_tensor_value_info(name, onnx.TensorProto.FLOAT, None) for name in wanted
    )
    options = ort.SessionOptions()
    options.log_severity_level = 3
    largest = dict.fromkeys(wanted, 0.0)
    try:
        session = ort.InferenceSession(
            watched.SerializeToString(), options, providers=["CPUExecutionProvider"]
        )
        for feed in inputs:
            for name, value in zip(wanted, session.run(wanted, dict(feed)), strict=True):
                top = float(np.abs(value).max(initial=0.0))
                largest[name] = max(largest[name], top if np.isfinite(top) else np.inf)
    except Exception as error:  # ONNX Runtime's exceptions share no base of their own
        raise ModelError(
            f"The graph cannot be run to measure its values ({first_line(error)}); export it "
            "again with python -m export.onnx."
        ) from None
    return largest


def to_half(
    proto: onnx.ModelProto, inputs: Iterable[Mapping[str, NDArray[np.generic]]]
) -> tuple[onnx.ModelProto, HalfReport]:
    """The same graph with `half_nodes` in half precision, its inputs and outputs as they were.

    Parameters
    ----------
    proto : ModelProto
        An fp32 graph of this project; it is left as it is.
    inputs : iterable of mapping
        What to measure the reach of its values on, from input name to array.

    Raises
    ------
    ModelError
        If the graph is not one of this project.
    """
    import onnx

    model = onnx.ModelProto()
    model.CopyFrom(proto)
    _settle_nodes(model)
    restore_floats(model)
    floats = float_tensors(model)
    chosen, kept, reach = _within_reach(model, floats, inputs)
    halves = _Rewriter(model.graph, floats).run(chosen)
    _drop_unused(model)
    facts = {entry.key: entry.value for entry in model.metadata_props}
    facts.pop(KEY, None)  # the tensors between its parts are others now: it comes as one graph
    if "precision" in facts:
        facts["precision"] = "fp16"
    onnx.helper.set_model_props(model, facts)
    onnx.checker.check_model(model, full_check=True)
    inside = {name: value for name, value in reach.items() if name in halves}
    at = max(inside, key=inside.__getitem__, default="")
    convolutions = [n for n in model.graph.node if n.op_type in CONVOLUTIONS]
    return model, HalfReport(
        convolutions=len(convolutions),
        half=sum(n.name in chosen for n in convolutions),
        largest=inside.get(at, 0.0),
        at=at,
        kept=tuple(sorted(kept)),
    )


def _within_reach(
    model: onnx.ModelProto, floats: set[str], inputs: Iterable[Mapping[str, NDArray[np.generic]]]
) -> tuple[set[str], set[str], dict[str, float]]:
    """Nodes to compute in half, those whose values are too large for it, and what was measured."""
    nodes = model.graph.node
    # What says its type itself keeps it.
    typed = {n.name for n in nodes if n.op_type in ("Cast", "Constant", "ConstantOfShape")}
    chosen = half_nodes(model) - typed
    made = {name for n in nodes if n.name in chosen for name in (*n.output, *n.input)}
    reach = largest_values(model, made & floats, inputs)
    kept = set()
    for node in nodes:
        values = [reach[name] for name in (*node.input, *node.output) if name in reach]
        # Written so that infinity counts as too much.
        if node.name in chosen and values and not max(values) * HEADROOM < FP16_MAX:
            kept.add(node.name)
    return chosen - kept, kept, reach


class _Rewriter:
    """Makes some nodes of a graph compute in half, with a Cast wherever the kind changes."""

    def __init__(self, graph: onnx.GraphProto, floats: set[str]) -> None:
        self._graph, self._floats = graph, floats
        self._constants = {t.name: t for t in graph.initializer}
        self._halves: dict[str, str] = {}  # a float tensor's name to that of its half
        self._only_half: set[str] = set()  # made in half; its float is made when somebody asks
        self._nodes: list[onnx.NodeProto] = []
        self._added: list[onnx.TensorProto] = []

    def run(self, chosen: set[str]) -> dict[str, str]:
        """Rewrite the graph; the tensors that have a half, and the name of that."""
        for node in self._graph.node:
            if node.name in chosen:
                self._halve(node)
            else:
                for name in node.input:
                    self._float_of(name)
            self._nodes.append(node)
        for value in self._graph.output:
            self._float_of(value.name)
        del self._graph.node[:], self._graph.value_info[:]
        self._graph.node.extend(self._nodes)
        self._graph.initializer.extend(self._added)
        return self._halves

    def _halve(self, node: onnx.NodeProto) -> None:
        count = 1 if node.op_type in _ONE_VALUE else len(node.input)
        for i, name in enumerate(node.input):
            if name in self._floats:
                node.input[i] = self._half_of(name) if i < count else self._float_of(name)
        for i, name in enumerate(node.output):
            if name in self._floats:
                self._halves[name] = node.output[i] = f"{name}.half"
                self._only_half.add(name)

    def _half_of(self, name: str) -> str:
        if name not in self._halves:
            half = self._halves[name] = f"{name}.half"
            if name in self._constants:
                self._added.append(_half_constant(self._constants[name], half))
            else:
                self._cast(name, half, "FLOAT16")
        return self._halves[name]

    def _float_of(self, name: str) -> str:
        if name in self._only_half:
            self._only_half.remove(name)
            self._cast(self._halves[name], name, "FLOAT")
        return name

    def _cast(self, name: str, to: str, kind: str) -> None:
        from onnx import TensorProto, helper

        self._nodes.append(
            helper.make_node(
                "Cast", [name], [to], f"{to}.cast", to=TensorProto.DataType.Value(kind)
            )
        )


def _half_constant(tensor: onnx.TensorProto, name: str) -> onnx.TensorProto:
    import numpy as np
    from onnx import numpy_helper

    value = numpy_helper.to_array(tensor)
    with np.errstate(over="ignore"):
        half = value.astype(np.float16)
    if not np.isfinite(half).all():
        raise ModelError(
            f"{tensor.name} holds {np.abs(value).max():g}, more than half precision can "
            f"({FP16_MAX:g}); build this model as fp32."
        )
    return numpy_helper.from_array(half, name)
