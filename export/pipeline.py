"""A whole pipeline as one graph: RGB photo, RGB hints and mask in, RGB photo out, all uint8.

For applications in other languages, which then need no colour code: Lab both ways, both resizes
and the network are in the graph, and an engine with a GPU does all of it there. It does what
`runtime.Colorizer` does, with the hints already drawn at the network's size.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor, nn

from runtime.color import (
    RGB_FROM_XYZ,
    WHITE,
    XYZ_FROM_RGB,
    lab_from_linear,
    linear_from_srgb,
    srgb_from_linear,
)
from runtime.layout import (
    INTERFACES,
    PIPELINE,
    SMALLEST_PHOTO,
    input_dimensions,
    unpack_output,
)

from .checks import TOLERANCE, Check, ExportError, cases, draw
from .graphs import name_dimensions, to_proto
from .network import build_graph as build_network

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from hscaunet.model import Network
    from runtime.hints import Hints

*INPUTS, OUTPUT = INTERFACES[PIPELINE]

_DELTA = 6 / 29

# Pixels that a plane is continued by at its edges. Lanczos reaches 3 pixels when it enlarges, and
# when it shrinks 3 times as many as it shrinks by: this is enough for a photo whose side is an
# eighth of the network's.
_EDGE = 24


def _f(t: Tensor) -> Tensor:
    """Lab's f, as `runtime.color.f_of_Y`."""
    return t.clamp_min(0.008856) ** (1 / 3) + (t - 0.008856).clamp_max(0) * 7.787


def _f_inverse(f: Tensor) -> Tensor:
    """Undo `_f`, as `runtime.color.Y_of_f`."""
    above = (f - _DELTA).clamp_min(0)
    return above * above * (f + 2 * _DELTA) + (f - 16 / 116) * (3 * _DELTA**2)


def _counter(axis: Tensor) -> tuple[Tensor, Tensor]:
    """0, 1, 2 ... along an axis, and how many, as numbers that engines compute with.

    Sizes are shapes to an engine, which it only does whole-number arithmetic on.
    """
    ones = torch.ones_like(axis)
    return torch.cumsum(ones, 0) - 1, ones.sum()


def _cubic(x: Tensor) -> Tensor:
    """Cubic convolution (Keys 1981) of slope -0.75, as OpenCV's and the runtime's."""
    x, a = x.abs(), -0.75
    near = ((a + 2) * x - (a + 3)) * x * x + 1
    far = a * (((x - 5) * x + 8) * x - 4)
    return torch.where(x <= 1, near, torch.where(x < 2, far, torch.zeros_like(x)))


def _lanczos3(x: Tensor) -> Tensor:
    angle = np.pi * x
    safe = torch.where(x.abs() < 1e-4, torch.ones_like(x), angle)
    value = 3 * torch.sin(safe) * torch.sin(safe / 3) / (safe * safe)
    value = torch.where(x.abs() < 1e-4, torch.ones_like(x), value)
    return torch.where(x.abs() < 3, value, torch.zeros_like(x))


def _places(source: Tensor, target: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Distances (target, source + 2 * _EDGE) in source pixels; target numbers; their ratio."""
    columns, many = _counter(torch.cat([source[:1]] * _EDGE + [source] + [source[:1]] * _EDGE))
    rows, few = _counter(target)
    ratio = (many - 2 * _EDGE) / few
    center = (rows + 0.5) * ratio - 0.5
    return (columns - _EDGE)[None, :] - center[:, None], rows, ratio


def _continued(plane: Tensor, axis: int) -> Tensor:
    """A plane continued at both ends of an axis by its edge."""
    ends = [torch.ops.aten.slice(plane, axis, *ends) for ends in ((0, 1), (-1, 2**62))]
    return torch.cat([ends[0]] * _EDGE + [plane] + [ends[1]] * _EDGE, axis)


def _enlarging(source: Tensor, target: Tensor) -> Tensor:
    """Matrix of Lanczos with 3 lobes, as `runtime.fullsize.resample.taps`."""
    distance, _, ratio = _places(source, target)
    weights = _lanczos3(distance / ratio.clamp_min(1))
    return weights / weights.sum(1, keepdim=True)


def _shrinking(source: Tensor, target: Tensor) -> Tensor:
    """Matrix of means over spans where it shrinks, cubic where it grows, as
    `runtime.fullsize.picture.Picture.lightness`."""
    distance, rows, ratio = _places(source, target)
    columns = distance[:1] + ratio * 0.5 - 0.5  # numbers of the source pixels, from -_EDGE on
    start = rows[:, None] * ratio
    overlap = torch.minimum(start + ratio, columns + 1) - torch.maximum(start, columns)
    # What lies outside the picture by a rounding is nobody's.
    means = overlap.clamp_min(0) / ratio
    weights = torch.where(ratio >= 1, means, _cubic(distance))
    return weights / weights.sum(1, keepdim=True)


def _resize(planes: Tensor, rows: Tensor, columns: Tensor) -> Tensor:
    """(..., H, W) by the matrices of its rows and its columns."""
    planes = torch.matmul(rows, _continued(planes, planes.ndim - 2))
    return torch.matmul(_continued(planes, planes.ndim - 1), columns.transpose(0, 1))


class Before(nn.Module):
    """What comes before the network."""

    def forward(self, photo: Tensor, hint: Tensor, mask: Tensor) -> tuple[Tensor, Tensor]:
        """Make the network's input.

        Parameters
        ----------
        photo : Tensor, shape (N, H, W, 3), uint8
            sRGB; only its lightness counts. Each side at least `runtime.layout.SMALLEST_PHOTO`, and
            at least an eighth of that of the hints.
        hint : Tensor, shape (N, h, w, 3), uint8
            Colours of the hints where there are any; h and w are multiples of 16 and set the size
            at which the network sees the photo.
        mask : Tensor, shape (N, h, w), uint8
            Not 0 where there is a hint.

        Returns
        -------
        x : Tensor, shape (N, 4, h, w)
            See `runtime.layout`.
        f : Tensor, shape (N, H, W)
            Lab's f of the photo's Y.
        """
        # Cast before anything else, and back last: TensorRT has uint8 at its borders only.
        linear = linear_from_srgb(photo.float() / 255, torch)
        Y = sum(linear[..., i] * XYZ_FROM_RGB[1][i] for i in range(3))
        assert isinstance(Y, Tensor)
        f = _f(Y)
        colors = linear_from_srgb(hint.float() / 255, torch)
        red, green, blue = colors.unbind(-1)
        _, a, b = lab_from_linear(red, green, blue, torch)
        given = (mask.float() > 0.5).float()
        tall, wide = f[0, :, 0], f[0, 0, :]
        high, broad = given[0, :, 0], given[0, 0, :]
        small = _resize(f, _shrinking(tall, high), _shrinking(wide, broad))
        L = 116 * small - 16
        neutral = (1 - given) * (128 / 255)
        x = torch.stack(
            [L / 100, *((v + 128) / 255 * given + neutral for v in (a, b)), given], dim=1
        )
        return x, f


class After(nn.Module):
    """What comes after the network."""

    def forward(self, f: Tensor, ab: Tensor) -> Tensor:
        """Make the photo of its lightness and the network's output.

        Parameters
        ----------
        f : Tensor, shape (N, H, W)
            Of `Before`.
        ab : Tensor, shape (N, 2, h, w)
            The network's output.

        Returns
        -------
        Tensor, shape (N, H, W, 3), uint8
        """
        tall, wide, high, broad = f[0, :, 0], f[0, 0, :], ab[0, 0, :, 0], ab[0, 0, 0, :]
        ab = _resize(unpack_output(ab), _enlarging(high, tall), _enlarging(broad, wide))
        Y = _f_inverse(f)
        X, Z = _f_inverse(f + ab[:, 0] / 500), _f_inverse(f - ab[:, 1] / 200)
        planes = []
        for row in RGB_FROM_XYZ:
            value = sum(v * (m * w) for v, m, w in zip((X, Y, Z), row, WHITE, strict=True))
            assert isinstance(value, Tensor)
            planes.append(srgb_from_linear(value.clamp(0, 1), torch))
        return torch.stack(planes, dim=-1).mul(255).round().clamp(0, 255).to(torch.uint8)


def build_graph(model: Network) -> Any:
    """The fp32 graph of a pipeline.

    Returns
    -------
    onnx.ModelProto
        Inputs `INPUTS`, output `OUTPUT`; see `Before.forward` and `After.forward`. All sizes are
        free.
    """
    from torch.export import Dim

    batch, tall, wide = (
        Dim("N"),
        Dim("photo_H", min=SMALLEST_PHOTO),
        Dim("photo_W", min=SMALLEST_PHOTO),
    )
    high, broad = 16 * Dim("H16"), 16 * Dim("W16")
    example = (
        torch.zeros(2, 200, 300, 3, dtype=torch.uint8),
        torch.zeros(2, 64, 96, 3, dtype=torch.uint8),
        torch.zeros(2, 64, 96, dtype=torch.uint8),
    )
    shapes: Any = {
        "photo": {0: batch, 1: tall, 2: wide},
        "hint": {0: batch, 1: high, 2: broad},
        "mask": {0: batch, 1: high, 2: broad},
    }
    # Part by part, for the exporter's time grows with what it must know of sizes at each node.
    before = to_proto(Before(), example, shapes, list(INPUTS), ["input", "f"])
    network = build_network(model)
    example = (torch.zeros(2, 200, 300), torch.zeros(2, 2, 64, 96))
    shapes = {"f": shapes["photo"], "ab": {0: batch, 2: high, 3: broad}}
    after = to_proto(After(), example, shapes, ["f", "ab"], [OUTPUT])
    proto = _join(before, network, after)
    inputs = input_dimensions(PIPELINE)
    name_dimensions(proto, list(inputs.values()), inputs["photo"])
    return proto


def _join(before: Any, network: Any, after: Any) -> Any:
    """One graph of the three, each output going into the input of the same name."""
    from onnx import compose

    parts = []
    for prefix, part in (("before.", before), ("net.", network), ("after.", after)):
        del part.graph.value_info[:]  # each part has its own names of sizes
        del part.metadata_props[:]
        parts.append(compose.add_prefix(part, prefix, rename_inputs=False, rename_outputs=False))
    joined = compose.merge_models(parts[0], parts[1], [("input", "input")])
    joined = compose.merge_models(joined, parts[2], [("f", "f"), ("ab", "ab")])
    del joined.opset_import[1:]  # three times the same
    return joined


def measure(
    proto: Any,
    model: Network,
    precision: str = "fp32",
    report: Callable[[Check], None] = lambda check: None,
) -> list[Check]:
    """Run a pipeline in ONNX Runtime beside what `runtime.Colorizer` does with the same network.

    Parameters
    ----------
    precision : {"fp32", "fp16"}
        What the graph computes in.
    report : callable
        Called with each `Check`.

    Returns
    -------
    list of Check
        Largest and mean difference of 8-bit values for each of `export.checks.cases`.

    Raises
    ------
    ExportError
        If more than one value in a thousand differs by more than a level (and by more than what
        the precision's `TOLERANCE` on ab makes of it).
    """
    import onnxruntime as ort

    allowed = max(1, round(TOLERANCE[precision] * 255))
    session = ort.InferenceSession(proto.SerializeToString(), providers=["CPUExecutionProvider"])
    rows = []
    for name, (photo, hints) in cases().items():
        ours = session.run(None, dict(draw(photo, hints)))[0][0]
        difference = np.abs(ours.astype(np.int16) - _colorize(model, photo, hints))
        row = Check(name, photo.shape, float(difference.max()), float(difference.mean()))
        rows.append(row)
        report(row)
        far = float((difference > allowed).mean())
        if not far <= 1e-3:
            raise ExportError(
                f"The exported pipeline differs from the runtime by more than {allowed} "
                f"level on {far:.2%} of the values of {name!r}; nothing was written."
            )
    return rows


def _colorize(model: Network, photo: NDArray[np.uint8], hints: Hints) -> NDArray[np.uint8]:
    """What `runtime.Colorizer` does, with the network in PyTorch for an engine."""
    from runtime.colorizer import SIZE
    from runtime.fullsize.picture import Picture
    from runtime.view import View

    view = View(Picture(photo), SIZE)
    with torch.inference_mode():
        ab = unpack_output(model(torch.from_numpy(view.input(hints))))
    joined: NDArray[np.uint8] = view.picture.join(ab[0].numpy())
    return joined
