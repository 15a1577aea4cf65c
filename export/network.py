"""The network as an ONNX graph: one of the two things that are exported."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from runtime.layout import CONTRACT, input_dimensions
from runtime.models.onnx_cut import KEY

from .checks import TOLERANCE, Check, ExportError, check_inputs
from .graphs import name_dimensions, to_proto

if TYPE_CHECKING:
    import onnx

    from hscaunet.model import Network


def build_graph(model: Network) -> onnx.ModelProto:
    """The fp32 graph of a network.

    Returns
    -------
    onnx.ModelProto
        Input "input" (N, 4, H, W), output "ab" (N, 2, H, W); N free, H and W multiples of 16.
        Of a network made for clicks the metadata names what it keeps of a photo, so that the
        runtime can cut it there (`runtime.models.onnx_cut`).
    """
    import torch
    from torch.export import Dim

    from hscaunet.model.folding import fold

    model = fold(model)
    between = []
    if model.form == "guided":
        from hscaunet.model.photo import Photo

        between = [f"photo.{name}" for name in Photo._fields]
        model.forward = model.in_parts  # type: ignore[method-assign]
    proto = to_proto(
        model,
        (torch.zeros(2, 4, 64, 96),),
        ({0: Dim("N"), 2: 16 * Dim("H16"), 3: 16 * Dim("W16")},),
        ["input"],
        ["ab", *between],
    )
    edges = list(proto.graph.output)[1:]
    del proto.graph.output[1:]
    name_dimensions(proto, list(input_dimensions(CONTRACT).values()), ["N", 2, "H", "W"])
    if between:
        proto.graph.value_info.extend(edges)
        proto.metadata_props.add(key=KEY, value=",".join(between))
    return proto


def measure(
    proto: onnx.ModelProto,
    model: Network,
    precision: str = "fp32",
    report: Callable[[Check], None] = lambda check: None,
) -> list[Check]:
    """Run a graph in ONNX Runtime beside the PyTorch network.

    Parameters
    ----------
    precision : {"fp32", "fp16"}
        What the graph computes in.
    report : callable
        Called with each `Check`.

    Returns
    -------
    list of Check
        Largest and mean absolute difference for each of `export.checks.check_inputs`.

    Raises
    ------
    ExportError
        If one is above `TOLERANCE`.
    """
    import numpy as np
    import onnxruntime as ort
    import torch

    session = ort.InferenceSession(proto.SerializeToString(), providers=["CPUExecutionProvider"])
    rows = []
    for name, x in check_inputs().items():
        ours = session.run(None, {"input": x})[0]
        with torch.inference_mode():
            theirs = model(torch.from_numpy(np.ascontiguousarray(x))).numpy()
        difference = np.abs(ours - theirs)
        # NaN compares false to everything; make it fail every tolerance.
        largest = float(difference.max()) if np.isfinite(difference).all() else float("inf")
        rows.append(Check(name, x.shape, largest, float(difference.mean())))
        report(rows[-1])
    worst = max(rows, key=lambda row: row.largest)
    if not worst.largest <= TOLERANCE[precision]:
        raise ExportError(
            f"The exported network differs from PyTorch by {worst.largest:.2e} on "
            f"{worst.name!r}, more than the {TOLERANCE[precision]:.0e} allowed for {precision}; "
            "nothing was written."
        )
    return rows
