"""What Triton is told of a model: `config.pbtxt`."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from runtime.layout import INTERFACES

_TYPES = {np.float32: "TYPE_FP32", np.uint8: "TYPE_UINT8"}
_SIDE, _PHOTO_SIDE = 256, 1024  # of what warm-up runs on


@dataclass(frozen=True)
class Model:
    """One model of a repository.

    Attributes
    ----------
    name : str
        By which clients ask for it.
    layout : str
        Of `runtime.layout`.
    engine : bool
        A TensorRT engine; else an ONNX file.
    profiles : int
        Optimization profiles of an engine.
    max_batch : int
        Most photos in one call.
    shapes : dict of str to tuple, optional
        Of an engine's inputs, those that it is best at; warm-up runs on them.
    """

    name: str
    layout: str
    engine: bool = False
    profiles: int = 1
    max_batch: int = 8
    shapes: dict[str, tuple[int, ...]] | None = None


@dataclass(frozen=True)
class Service:
    """How a model is served.

    Attributes
    ----------
    instances : int
        Copies of it, on each GPU or on the CPU.
    kind : {"auto", "cpu", "gpu"}
        Where; auto: on GPUs where there are any.
    delay : int
        Microseconds that a call waits for others of the same shape.
    preferred : tuple of int
        Batches that are sent off at once.
    versions : int
        How many of the newest versions are served.
    """

    instances: int = 1
    kind: str = "auto"
    delay: int = 0
    preferred: tuple[int, ...] = ()
    versions: int = 1


class Word(str):
    """A name of an enumeration, which stands without quotes."""

    __slots__ = ()


def config(model: Model, service: Service) -> dict[str, Any]:
    """The fields of ModelConfig, nested as it is.

    A dimension of the batch is not among those of an input; free ones are -1.
    """
    *inputs, output = INTERFACES[model.layout].items()
    made: dict[str, Any] = {
        "name": model.name,
        **(
            {"platform": "tensorrt_plan", "default_model_filename": "model.plan"}
            if model.engine
            else {"backend": "onnxruntime", "default_model_filename": "model.onnx"}
        ),
        "max_batch_size": model.max_batch,
        "input": [_tensor(*one) for one in inputs],
        "output": [_tensor(*output)],
        "version_policy": {"latest": {"num_versions": service.versions}},
        "instance_group": [_instances(model, service)],
        "model_warmup": [
            _warm_up(model, count) for count in sorted({1, *service.preferred, model.max_batch})
        ],
    }
    if model.max_batch > 1:
        made["dynamic_batching"] = {
            "preferred_batch_size": list(service.preferred),
            "max_queue_delay_microseconds": service.delay,
        }
    return made


def _tensor(name: str, kind: tuple[type[np.generic], tuple[int | str, ...]]) -> dict[str, Any]:
    dtype, (_, *dimensions) = kind
    dims = [one if isinstance(one, int) else -1 for one in dimensions]
    return {"name": name, "data_type": Word(_TYPES[dtype]), "dims": dims}


def _instances(model: Model, service: Service) -> dict[str, Any]:
    kind = "gpu" if model.engine else service.kind
    group: dict[str, Any] = {"count": service.instances, "kind": Word(f"KIND_{kind.upper()}")}
    if model.engine and model.profiles > 1:
        group["profile"] = [str(number) for number in range(model.profiles)]
    return group


def _warm_up(model: Model, count: int) -> dict[str, Any]:
    """A call of a usual size: the first call of a shape is the slow one."""
    *inputs, _ = INTERFACES[model.layout].items()
    entries = []
    for name, (dtype, (_, *dimensions)) in inputs:
        side = _PHOTO_SIDE if name == "photo" else _SIDE
        dims = [one if isinstance(one, int) else side for one in dimensions]
        if model.shapes is not None:
            dims = list(model.shapes[name][1:])
        data = {"data_type": Word(_TYPES[dtype]), "dims": dims}
        # Noise in a photo; of the network's input too, but a mask of noise is none.
        data["zero_data" if name in ("mask", "hint") else "random_data"] = True
        entries.append({"key": name, "value": data})
    return {"name": f"{count} at once", "batch_size": count, "inputs": entries}


def to_text(fields: dict[str, Any], indent: str = "") -> str:
    """Fields as protobuf's text format writes them."""
    lines = []
    for name, value in fields.items():
        values = value if isinstance(value, list) else [value]
        if values and not isinstance(values[0], dict):
            shown = ", ".join(map(_scalar, values))
            lines.append(f"{indent}{name}: {f'[{shown}]' if isinstance(value, list) else shown}")
            continue
        for one in values:
            lines.append(f"{indent}{name} {{\n{to_text(one, indent + '  ')}{indent}}}")
    return "".join(f"{line}\n" for line in lines)


def _scalar(value: Any) -> str:
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, int | Word):
        return str(value)
    return '"' + str(value).replace("\\", "\\\\").replace('"', '\\"') + '"'
