"""What the layers of a network or of an engine compute in."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any

from .options import BuildError


@dataclass(frozen=True)
class Layers:
    """What computes in which precision.

    Attributes
    ----------
    convolutions, half, quantized : int
        Convolutions, and how many give half precision, or take 8 bits.
    layers, layers_half : int
        All layers, and how many give half precision.
    """

    convolutions: int
    half: int
    quantized: int
    layers: int
    layers_half: int


def layers_of_network(trt: Any, network: Any) -> Layers:
    """Read a parsed network. As it is strongly typed, the engine keeps these types."""
    convolutional = (trt.LayerType.CONVOLUTION, trt.LayerType.DECONVOLUTION)
    layers = [network.get_layer(i) for i in range(network.num_layers)]
    dequantized = {
        layer.get_output(0).name for layer in layers if layer.type == trt.LayerType.DEQUANTIZE
    }
    found = [layer for layer in layers if layer.type in convolutional]

    def is_half(layer: Any) -> bool:
        return layer.num_outputs > 0 and layer.get_output(0).dtype == trt.DataType.HALF

    def is_quantized_layer(layer: Any) -> bool:
        # Its weights too: what stays in float may share its input with what does not.
        inputs = [layer.get_input(i) for i in range(layer.num_inputs)]
        return len(inputs) > 1 and all(
            tensor.name in dequantized for tensor in inputs[:2] if tensor is not None
        )

    return Layers(
        convolutions=len(found),
        half=sum(map(is_half, found)),
        quantized=sum(map(is_quantized_layer, found)),
        layers=len(layers),
        layers_half=sum(map(is_half, layers)),
    )


def layers_of_engine(information: str) -> Layers:
    """Read what TensorRT's engine inspector says, as JSON, of a built engine.

    Raises
    ------
    ValueError
        If it is no such JSON.
    """
    layers = [x for x in json.loads(information).get("Layers", []) if isinstance(x, dict)]

    def types(layer: dict[str, Any], side: str) -> str:
        return " ".join(str(t.get("Format/Datatype", "")) for t in layer.get(side, [])).lower()

    def is_half(layer: dict[str, Any]) -> bool:
        return any(word in types(layer, "Outputs") for word in ("half", "fp16"))

    found = [x for x in layers if "conv" in str(x.get("LayerType", "")).lower()]
    return Layers(
        convolutions=len(found),
        half=sum(map(is_half, found)),
        quantized=sum("int8" in types(x, "Inputs") for x in found),
        layers=len(layers),
        layers_half=sum(map(is_half, layers)),
    )


def check_layers(layers: Layers, precision: str, where: str) -> None:
    """Raise `BuildError` if an engine would not compute in what it is called."""
    count = {"fp16": layers.half, "int8": layers.quantized}.get(precision, 1)
    if layers.convolutions and not count:
        raise BuildError(
            f"Not one of the {layers.convolutions} convolutions {where} computes in {precision}, "
            f"so the engine would be {precision} in name only; nothing was written. Give the fp32 "
            "ONNX file that python -m export.onnx writes."
        )


def describe(layers: Layers, precision: str) -> str:
    """The shares, in words."""
    text = f"{layers.half} of {layers.convolutions} convolutions"
    text += f" and {layers.layers_half} of {layers.layers} layers in half precision"
    if precision == "int8":
        text = f"{layers.quantized} of {layers.convolutions} convolutions in 8 bits"
    return text
