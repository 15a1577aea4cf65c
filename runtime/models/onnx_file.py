"""What an ONNX file says of itself, read without any engine; files that reach out are refused."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from ..errors import ModelError
from ..layout import CONTRACT, PIPELINE

Shape = Sequence[object] | None

MAX_BYTES = 2 << 30
"""Protocol buffers end there."""

# Field numbers of ModelProto, GraphProto and TensorProto (onnx.proto), and its kinds of numbers.
_IR_VERSION, _GRAPH, _METADATA = 1, 7, 14
_INITIALIZER = 5
_DIMS, _KIND, _NAME, _RAW = 1, 2, 8, 9
_KINDS = {1: np.float32, 10: np.float16}

# A TensorProto whose values lie in another file has an entry with the key "location"; its value may
# stand before or after.
_EXTERNAL = b"\x0a\x08location"


def read_model_file(
    path: Path, layouts: tuple[str, ...] = (CONTRACT,)
) -> tuple[bytes, dict[str, str]]:
    """Bytes and metadata of a model of this project.

    Parameters
    ----------
    path : Path
    layouts : tuple of str
        Names of the layouts that the caller can use.

    Raises
    ------
    ModelError
        If the file cannot be read, is no ONNX model, keeps its weights in other files, or is not
        a model of this project.
    """
    try:
        if path.stat().st_size > MAX_BYTES:
            raise ModelError(f"{path} is larger than any ONNX model ({MAX_BYTES} bytes).")
        data = path.read_bytes()
    except OSError as error:
        raise ModelError(f"The model {path} cannot be read: {error.strerror}.") from None
    try:
        metadata = _metadata(data)
    except (ValueError, IndexError):
        raise ModelError(
            f"{path} cannot be opened: it is no ONNX model, or is damaged or cut short."
        ) from None
    check_layout(metadata, str(path), layouts)
    if _EXTERNAL in data:
        raise ModelError(
            f"{path} keeps weights in other files, which are never read and so cannot be opened; "
            "save it as one file."
        )
    return data, metadata


def check_layout(
    metadata: dict[str, str], name: str, layouts: tuple[str, ...] = (CONTRACT,)
) -> None:
    """Raise `ModelError` unless a model's metadata says that it takes and gives this layout."""
    layout = metadata.get("layout")
    if layout in layouts:
        return
    if layout == PIPELINE:
        raise ModelError(
            f"{name} is a whole pipeline, for applications without this runtime; give the network "
            "itself, which python -m export.onnx writes without --pipeline."
        )
    raise ModelError(
        f"{name} is an ONNX model, but not one of this project (its layout is {layout!r:.60}, not "
        f"{' or '.join(map(repr, layouts))}); export it with python -m export.onnx."
    )


def check_interface(
    name: str, inputs: Sequence[tuple[bool, Shape]], outputs: Sequence[tuple[bool, Shape]]
) -> None:
    """Raise `ModelError` unless an opened model really takes and gives what its layout says.

    Parameters
    ----------
    name : str
        For the message.
    inputs, outputs : sequence of (bool, sequence or None)
        Of each: whether it is float32, and its sizes; None where even their number is free.
    """
    for values, channels in ((inputs, 4), (outputs, 2)):
        good = len(values) == 1 and values[0][0]
        shape = values[0][1] if good else None
        if shape is None or len(shape) != 4 or shape[1] != channels:
            raise ModelError(
                f"{name} claims this project's layout but does not take (N, 4, H, W) and "
                "give (N, 2, H, W) float32; export it again with python -m export.onnx."
            )


def _varint(data: memoryview, at: int) -> tuple[int, int]:
    value = shift = 0
    while True:
        byte = data[at]
        at += 1
        value |= (byte & 0x7F) << shift
        if byte < 0x80:
            return value, at
        shift += 7
        if shift > 63:
            raise ValueError("no varint")


Field = memoryview | int
"""A value of a protocol-buffer message: bytes, or a number."""


def read_fields(data: memoryview) -> dict[int, list[Field]]:
    """Fields of one protocol-buffer message, not looking into those within."""
    found: dict[int, list[Field]] = {}
    at = 0
    while at < len(data):
        key, at = _varint(data, at)
        kind = key & 7
        value: Field
        if kind == 0:
            value, at = _varint(data, at)
        elif kind == 2:
            length, at = _varint(data, at)
            value, at = data[at : at + length], at + length
        elif kind in (1, 5):
            length = 8 if kind == 1 else 4
            value, at = data[at : at + length], at + length
        else:
            raise ValueError("no such kind of field")
        if at > len(data):
            raise ValueError("cut short")
        found.setdefault(key >> 3, []).append(value)
    return found


def read_weights(data: bytes) -> dict[str, NDArray[np.floating]]:
    """The weights of a model by their names, those of fp32 and fp16; read-only views of `data`.

    Raises
    ------
    ValueError, IndexError, KeyError
        If it is no ONNX model as ``python -m export.onnx`` writes it.
    """
    graph = read_fields(as_message(read_fields(memoryview(data))[_GRAPH][0]))
    found = {}
    for tensor in graph.get(_INITIALIZER, []):
        fields = read_fields(as_message(tensor))
        kind = _KINDS.get(int(fields[_KIND][0]))  # type: ignore[arg-type]
        if kind is not None and _RAW in fields:
            # The sizes come one by one, or packed into one field of varints.
            sizes = [s for value in fields.get(_DIMS, []) for s in _numbers(value)]
            values = np.frombuffer(as_message(fields[_RAW][0]), kind).reshape(sizes)
            found[bytes(as_message(fields[_NAME][0])).decode()] = values
    return found


def as_message(value: Field) -> memoryview:
    """A field that must be a message; ValueError if it is a number."""
    if isinstance(value, int):
        raise ValueError("a number where a message should be")
    return value


def _numbers(value: Field) -> list[int]:
    if isinstance(value, int):
        return [value]
    found, at = [], 0
    while at < len(value):
        number, at = _varint(value, at)
        found.append(number)
    return found


def encode_field(number: int, value: Field) -> bytes:
    """One field of a message as `read_fields` reads it: a number, or bytes with their length."""
    if isinstance(value, int):
        return _encode_varint(number << 3) + _encode_varint(value)
    return _encode_varint(number << 3 | 2) + _encode_varint(len(value)) + value


def _encode_varint(value: int) -> bytes:
    found = bytearray()
    while value > 0x7F:
        found.append(value & 0x7F | 0x80)
        value >>= 7
    found.append(value)
    return bytes(found)


def _metadata(data: bytes) -> dict[str, str]:
    model = read_fields(memoryview(data))
    if _IR_VERSION not in model or not isinstance(model.get(_GRAPH, [0])[0], memoryview):
        raise ValueError("no ONNX model")
    metadata = {}
    for entry in model.get(_METADATA, []):
        if isinstance(entry, int):
            raise ValueError("no metadata")
        pair = read_fields(entry)
        texts = [pair.get(number, [memoryview(b"")])[0] for number in (1, 2)]
        key, value = ("" if isinstance(t, int) else bytes(t).decode() for t in texts)
        metadata[key] = value
    return metadata
