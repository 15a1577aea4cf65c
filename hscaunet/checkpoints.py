"""Checkpoints: training state, released weights, and the authors' published file."""

from __future__ import annotations

import io
import json
import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from runtime.errors import ModelError, first_line
from runtime.models.manifest import MODELS, sha256_of
from runtime.models.onnx_file import read_weights as read_tensors
from runtime.safe_files import write_atomically

from .model import Network, PublishedNet, build_network
from .model.folding import normalize
from .torch_files import read_torch

TRAINING_FORMAT = "hscaunet-training-1"
TRAINING_KEYS = ("config", "recipe", "ema", "seen")
RELEASE_FORMAT = "hscaunet-weights-1"

# What the exporter adds to a weight's name where it is stored as fp16 (`export.graphs`).
_STORED = ".fp16"


@dataclass
class Checkpoint:
    """A network with its weights and what is known of them.

    Attributes
    ----------
    model : HSCAUNet or PublishedNet
        On the CPU, in evaluation mode.
    metadata : dict
        What the file says of itself: name, images seen, recipe.
    """

    model: Network
    metadata: dict[str, Any] = field(default_factory=dict)


def save_training(path: str | os.PathLike[str], state: Mapping[str, Any]) -> None:
    """Write training state; a kill at any moment leaves the older file or the whole new one."""
    buffer = io.BytesIO()
    torch.save({"format": TRAINING_FORMAT, **state}, buffer)
    write_atomically(path, buffer.getvalue())


def load_training(path: str | os.PathLike[str]) -> dict[str, Any]:
    """Read what `save_training` wrote.

    Raises
    ------
    ModelError
        If it is missing, cut short, or not a training checkpoint of this version.
    """
    return _check_training(read_torch(Path(path)), path)


def _check_training(state: Any, path: str | os.PathLike[str]) -> dict[str, Any]:
    if not isinstance(state, dict) or state.get("format") != TRAINING_FORMAT:
        raise ModelError(f"{path} is not a training checkpoint of this release.")
    missing = [key for key in TRAINING_KEYS if key not in state]
    if missing:
        raise ModelError(f"{path} is a training checkpoint without its {missing[0]}.")
    ema = state["ema"]
    if not isinstance(ema, dict) or not all(isinstance(v, Tensor) for v in ema.values()):
        raise ModelError(f"{path} is a training checkpoint without weights in its ema.")
    return state


def read_published(source: str | os.PathLike[str] | Mapping[str, Tensor]) -> PublishedNet:
    """Read the authors' published checkpoint.

    In that file the module named as channel attention is a second 7x7 spatial attention, and each
    is stored twice: as ``ch1`` ... ``ch4`` and as ``up1.ch`` ... ``up4.ch``.

    Parameters
    ----------
    source : path or mapping
        The file, or its state dict. A dict that wraps the state dict and names prefixed with
        ``module.`` (DataParallel) are understood.

    Returns
    -------
    PublishedNet
        In evaluation mode, with ``channel_attention="spatial"``.

    Raises
    ------
    ModelError
        If it is not such a state dict.
    """
    state: Any = read_torch(Path(source)) if isinstance(source, str | os.PathLike) else source
    for key in ("state_dict", "model_state_dict", "model", "net"):
        if isinstance(state, Mapping) and isinstance(state.get(key), Mapping):
            state = state[key]
    if not isinstance(state, Mapping) or not all(
        isinstance(k, str) and isinstance(v, Tensor) for k, v in state.items()
    ):
        raise ModelError("This is not a state dict of HSCAU-Net.")
    state = {k.removeprefix("module."): v for k, v in state.items()}
    first = state.get("inc.double_conv.0.weight")
    if first is None or first.ndim != 4 or first.shape[1] != 4 or not len(first):
        raise ModelError(
            "This is not a state dict of HSCAU-Net: inc.double_conv.0.weight is missing or does "
            "not take 4 channels."
        )
    model = PublishedNet(int(first.shape[0]), "spatial")
    wanted = model.state_dict()
    found: dict[str, Tensor] = {}
    for name, value in state.items():
        alias = name
        if name[:2] == "ch" and name[2:3].isdigit():  # ch1.* is up1.ch.* again
            alias = f"up{name[2]}.ch{name[3:]}"
        # The attention modules hold one convolution each; its name inside them is the authors'
        # own affair, so it is recognised by where it is.
        parts = alias.split(".")
        if len(parts) > 2 and parts[0][:2] == "up" and parts[1] in ("sp", "ch"):
            alias = f"{parts[0]}.{parts[1]}.conv1.weight"
        elif len(parts) >= 2 and parts[0][:2] == "up" and parts[1] == "conv_1by1":
            alias = f"{parts[0]}.conv_1by1.conv.weight"
        if alias not in wanted:
            raise ModelError(f"The state dict holds {name}, which HSCAU-Net does not have.")
        if value.shape != wanted[alias].shape:
            raise ModelError(
                f"{name} has the shape {tuple(value.shape)}, but HSCAU-Net of width {model.width} "
                f"needs {tuple(wanted[alias].shape)}."
            )
        if alias in found and not torch.equal(found[alias], value):
            raise ModelError(f"{name} differs from its second copy; the file is inconsistent.")
        found[alias] = value
    missing = [k for k in wanted if k not in found and not k.endswith("num_batches_tracked")]
    if missing:
        raise ModelError(f"The state dict lacks {missing[0]} and {len(missing) - 1} more.")
    model.load_state_dict(found, strict=False)
    return model.eval()


@dataclass
class Weights:
    """What a file of weights holds, whether a network of this release takes them or not."""

    config: Mapping[str, Any]
    state: Mapping[str, Tensor]
    metadata: dict[str, Any]


def read_weights(path: str | os.PathLike[str]) -> Weights:
    """Read weights of any kind this project knows; see `load_checkpoint`."""
    path = Path(path)
    if path.suffix == ".safetensors":
        return _read_release(path)
    state = read_torch(path)
    if isinstance(state, dict) and state.get("format") == TRAINING_FORMAT:
        _check_training(state, path)
        facts = {"name": path.stem, "images_seen": state["seen"], "recipe": state["recipe"]}
        return Weights(state["config"], state["ema"], facts)
    model = read_published(state)
    facts = {"name": path.stem, "source": "published checkpoint"}
    return Weights(model.config, model.state_dict(), facts)


def load_checkpoint(path: str | os.PathLike[str]) -> Checkpoint:
    """Open weights of any kind this project knows.

    Parameters
    ----------
    path : path
        A training checkpoint (its EMA weights are used), released safetensors, or the authors'
        published file.

    Raises
    ------
    ModelError
        If it is missing, damaged, or none of these.
    """
    found = read_weights(path)
    try:
        model = build_network(found.config)
        # Counters of BatchNorm are not released; nothing reads them.
        counters = {
            k: v for k, v in model.state_dict().items() if k.endswith("num_batches_tracked")
        }
        model.load_state_dict({**counters, **{k: v.float() for k, v in found.state.items()}})
    except (TypeError, ValueError, RuntimeError, AttributeError) as error:
        raise ModelError(
            f"{path} does not hold the weights it claims, or they are of another release: "
            f"{first_line(error)}"
        ) from None
    return Checkpoint(model.eval(), found.metadata)


def _read_release(path: Path) -> Weights:
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(path, "pt") as file:
            metadata = file.metadata() or {}
            state = {key: file.get_tensor(key) for key in file.keys()}  # noqa: SIM118
    except FileNotFoundError:
        raise ModelError(f"There is no checkpoint {path}.") from None
    except (OSError, SafetensorError) as error:
        raise ModelError(f"{path} is no safetensors file, or is cut short: {error}") from None
    if metadata.get("format") != RELEASE_FORMAT:
        raise ModelError(f"{path} holds no weights of this project.")
    try:
        config, rest = json.loads(metadata["config"]), json.loads(metadata["metadata"])
        graph = json.loads(metadata.get("onnx", "null"))
        if not isinstance(config, dict) or not isinstance(rest, dict):
            raise ValueError
    except (KeyError, ValueError):
        raise ModelError(f"{path} does not say which network its weights are for.") from None
    if graph is not None:
        state = {**state, **_weights_in(graph, path)}
    return Weights(config, state, rest)


def _weights_in(graph: Any, path: Path) -> dict[str, Tensor]:
    """The weights that a release shares with its ONNX file, where they are kept."""
    try:
        name, wanted, keys = graph["file"], graph["sha256"], graph["weights"]
        places = [
            p for p in (path.parent / Path(name).name, MODELS / Path(name).name) if p.is_file()
        ]
        data = next((p.read_bytes() for p in places if sha256_of(p) == wanted), None)
    except (KeyError, TypeError, ValueError, OSError) as error:
        raise ModelError(f"{path} is damaged: {first_line(error)}.") from None
    if data is None:
        raise ModelError(
            f"{path} keeps its convolutions in {name}, and that file of this release is neither "
            f"beside it nor in {MODELS}; install both packages of one release, or put it there."
        )
    held = read_tensors(data)
    return {key: torch.from_numpy(held[key + _STORED].copy()) for key in keys}


def share_weights(release: Path, graph: Path) -> bytes:
    """A release without what its ONNX file holds, which then is where that is read from.

    Returns
    -------
    bytes
        For a file in the place of `release`; `load_checkpoint` gives the same network for both.
    """
    from safetensors import safe_open
    from safetensors.torch import save

    held = read_tensors(graph.read_bytes())
    with safe_open(release, "pt") as file:
        header = dict(file.metadata())
        state = {key: file.get_tensor(key) for key in file.keys()}  # noqa: SIM118
    shared = [
        key
        for key, value in state.items()
        if key + _STORED in held and np.array_equal(held[key + _STORED], value.numpy())
    ]
    where = {"file": graph.name, "sha256": sha256_of(graph), "weights": shared}
    rest = {key: value for key, value in state.items() if key not in shared}
    return save(rest, {**header, "onnx": json.dumps(where)})


@torch.no_grad()
def save_release(
    path: str | os.PathLike[str], model: Network, metadata: Mapping[str, Any]
) -> Network:
    """Write weights for others to use: safetensors, convolutions as fp16, the rest as fp32.

    Returns
    -------
    HSCAUNet or PublishedNet
        The network that the file holds, with the rounded weights: what should be measured.
    """
    from safetensors.torch import save

    released = build_network(model.config)
    released.load_state_dict(model.state_dict())
    normalize(released)
    stored = {
        key: (value.half() if value.ndim == 4 else value).contiguous()
        for key, value in released.state_dict().items()
        if not key.endswith("num_batches_tracked")
    }
    if not all(bool(torch.isfinite(v).all()) for v in stored.values()):
        raise ModelError("The weights hold NaN or do not fit fp16; this network is not usable.")
    header = {
        "format": RELEASE_FORMAT,
        "config": json.dumps(released.config),
        "metadata": json.dumps(dict(metadata)),
    }
    write_atomically(path, save(stored, header))
    return load_checkpoint(path).model
