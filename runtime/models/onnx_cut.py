"""Cut an ONNX file in two without any engine: what depends on the photo alone, and the rest.

Files of this project whose metadata has ``photo`` name the tensors between the two. Each weight is
in one of the parts, so that both together hold no more than the file.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from ..errors import ModelError
from .onnx_file import Field, as_message, encode_field, read_fields

KEY = "photo"
"""Of the metadata: names of the tensors in between, with commas."""

# Field numbers of ModelProto, GraphProto, NodeProto, TensorProto and ValueInfoProto (onnx.proto).
_GRAPH = 7
_NODE, _INITIALIZER, _INPUT, _OUTPUT, _VALUE = 1, 5, 11, 12, 13
_NODE_INPUT, _NODE_OUTPUT, _TENSOR_NAME, _VALUE_NAME = 1, 2, 8, 1


def cut(data: bytes, metadata: dict[str, str], name: str) -> tuple[bytes, bytes, list[str]]:
    """Cut a model at the tensors that its metadata names.

    Parameters
    ----------
    data : bytes
        Of the whole file.
    metadata : dict of str to str
        Of the file; it has `KEY`.
    name : str
        Of the file, for the error.

    Returns
    -------
    photo : bytes
        A model that takes the input and gives the tensors in between.
    rest : bytes
        A model that takes the input and those, and gives the output.
    between : list of str

    Raises
    ------
    ModelError
        If the file does not hold these tensors.
    """
    between = metadata[KEY].split(",")
    try:
        model = read_fields(memoryview(data))
        graph = read_fields(as_message(model[_GRAPH][0]))
        values = {_name(v, _VALUE_NAME): v for v in graph.get(_VALUE, [])}
        edges = [values[tensor] for tensor in between]
        inputs, outputs = graph[_INPUT], graph[_OUTPUT]
        photo = _part(graph, between, (), inputs, edges)
        names = [_name(v, _VALUE_NAME) for v in outputs]
        rest = _part(graph, names, between, [*inputs, *edges], outputs)
    except (KeyError, ValueError, IndexError):
        raise ModelError(
            f"{name} does not hold the tensors {metadata[KEY]} that it names; export it again "
            "with python -m export.onnx."
        ) from None
    head = b"".join(
        encode_field(number, value)
        for number, found in model.items()
        if number != _GRAPH
        for value in found
    )
    return head + encode_field(_GRAPH, photo), head + encode_field(_GRAPH, rest), between


def _part(
    graph: dict[int, list[Field]],
    wanted: Iterable[str],
    given: Iterable[str],
    inputs: Sequence[Field],
    outputs: Sequence[Field],
) -> bytes:
    """The nodes that lead from what is given to what is wanted, as a graph of their own."""
    nodes = [(_names(n, _NODE_INPUT), _names(n, _NODE_OUTPUT), n) for n in graph[_NODE]]
    needed, known, kept = set(wanted), set(given), []
    for takes, gives, node in reversed(nodes):  # they stand in the order of the data
        if needed.intersection(gives) - known:
            kept.append(node)
            needed.update(takes)
    weights = {_name(t, _TENSOR_NAME): t for t in graph.get(_INITIALIZER, [])}
    parts = {
        _NODE: kept[::-1],
        2: [memoryview(b"part")],
        _INITIALIZER: [t for tensor, t in weights.items() if tensor in needed],
        _INPUT: list(inputs),
        _OUTPUT: list(outputs),
    }
    return b"".join(encode_field(number, v) for number, found in parts.items() for v in found)


def _names(message: Field, number: int) -> list[str]:
    return [bytes(as_message(v)).decode() for v in read_fields(as_message(message)).get(number, [])]


def _name(message: Field, number: int) -> str:
    return _names(message, number)[0]
