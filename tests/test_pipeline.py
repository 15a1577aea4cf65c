"""Whole pipelines: one graph from photo to photo, beside what the runtime does."""

import numpy as np
import onnx
import onnxruntime as ort
import pytest
from conftest import colorful

from export.checks import ExportError, cases, draw, feeds_of
from export.onnx import main
from export.pipeline import measure
from export.precision import to_half
from export.tensorrt.build import build
from export.tensorrt.options import BuildOptions
from runtime import Colorizer, Hint, HintError, Hints, ModelError, Region, Stroke
from runtime.engines.tensorrt.library import open_library
from runtime.engines.tensorrt.sidecar import read_engine
from runtime.layout import PIPELINE


@pytest.fixture(scope="module")
def pipeline(tiny_checkpoint, tmp_path_factory):
    path = tmp_path_factory.mktemp("pipeline") / "tiny.pipeline.onnx"
    assert main(["--checkpoint", str(tiny_checkpoint), "--pipeline", "-o", str(path)]) == 0
    return path


@pytest.fixture(scope="module")
def half(pipeline):
    """The same in fp16."""
    proto, report = to_half(onnx.load(pipeline), feeds_of(PIPELINE))
    assert report.half == report.convolutions
    return proto


def run(model, photo, hints, size=256):
    session = ort.InferenceSession(
        model if isinstance(model, bytes) else str(model), providers=["CPUExecutionProvider"]
    )
    return session.run(None, dict(draw(photo, hints, size)))[0][0]


HINTS = {
    "none": lambda h, w: Hints([]),
    "points": lambda h, w: Hints(
        [Hint(w // 3, h // 3, "#c04020", 9), Hint(w // 2, h - 1, (20, 80, 200), 1)]
    ),
    "shapes": lambda h, w: Hints(
        [
            Region("#209030", [(0, 0), (w // 2, 0), (w // 2, h // 2)]),
            Stroke([(1, h // 2), (w - 2, h // 2)], "#806020", size=4),
        ]
    ),
}


@pytest.mark.parametrize("hints", HINTS)
@pytest.mark.parametrize(
    "shape", [(256, 256), (333, 500), (901, 300), (64, 64), (90, 400), (1200, 1600), (37, 51)]
)
def test_it_gives_what_colorizer_gives(shape, hints, pipeline, tiny_onnx):
    """Photos larger and smaller than the network sees them, every aspect."""
    height, width = shape
    photo, given = colorful(height, width, height), HINTS[hints](height, width)
    with Colorizer(tiny_onnx, backend="onnxruntime", device="cpu") as colorizer:
        wanted = colorizer.colorize(photo, given)
    found = run(pipeline, photo, given)
    assert found.dtype == np.uint8
    assert found.shape == wanted.shape
    difference = np.abs(found.astype(int) - wanted)
    assert (difference <= 1).mean() >= 0.999
    assert difference.max() <= 3


def test_black_white_and_grey(pipeline, tiny_onnx):
    with Colorizer(tiny_onnx, backend="onnxruntime", device="cpu") as colorizer:
        for value in (0, 1, 128, 254, 255):
            photo = np.full((100, 140, 3), value, np.uint8)
            given = HINTS["points"](100, 140)
            difference = run(pipeline, photo, given).astype(int) - colorizer.colorize(photo, given)
            assert (np.abs(difference) <= 1).mean() >= 0.999, value


def test_batches_and_other_sizes(pipeline, tiny_onnx):
    photos = [colorful(120, 160, seed) for seed in range(3)]
    given = [Hints([Hint(10 * i, 20, "#c04020", 5)]) for i in range(3)]
    one = [draw(photo, hints, 128) for photo, hints in zip(photos, given, strict=True)]
    batch = {name: np.concatenate([d[name] for d in one]) for name in one[0]}
    session = ort.InferenceSession(pipeline, providers=["CPUExecutionProvider"])
    together = session.run(None, batch)[0]
    with Colorizer(tiny_onnx, backend="onnxruntime", device="cpu", size=128) as colorizer:
        for photo, hints, found in zip(photos, given, together, strict=True):
            difference = found.astype(int) - colorizer.colorize(photo, hints)
            assert (np.abs(difference) <= 1).mean() >= 0.999


def test_in_fp16_it_stays_within_a_level(half, tiny_onnx):
    data = half.SerializeToString()
    with Colorizer(tiny_onnx, backend="onnxruntime", device="cpu") as colorizer:
        for name, (photo, given) in cases().items():
            difference = run(data, photo, given).astype(int) - colorizer.colorize(photo, given)
            assert (np.abs(difference) <= 1).mean() >= 0.999, name


def test_its_interface(pipeline):
    proto = onnx.load(pipeline)
    dims = {
        v.name: [d.dim_param or d.dim_value for d in v.type.tensor_type.shape.dim]
        for v in (*proto.graph.input, *proto.graph.output)
    }
    assert dims == {
        "photo": ["N", "photo_H", "photo_W", 3],
        "hint": ["N", "H", "W", 3],
        "mask": ["N", "H", "W"],
        "colorized": ["N", "photo_H", "photo_W", 3],
    }
    kinds = {v.type.tensor_type.elem_type for v in (*proto.graph.input, *proto.graph.output)}
    assert kinds == {onnx.TensorProto.UINT8}
    assert {n.domain for n in proto.graph.node} <= {"", "ai.onnx"}
    # TensorRT takes uint8 at its borders only: cast at once, and back last.
    makers = {name: node for node in proto.graph.node for name in node.output}
    assert makers["colorized"].op_type == "Cast"
    for node in proto.graph.node:
        if {"photo", "hint", "mask"} & set(node.input):
            assert node.op_type in ("Cast", "Shape")


def test_rtx_builds_it_in_fp16(pipeline, tmp_path):
    output = tmp_path / "a.engine"
    options = BuildOptions(photo=(64, 512, 2048), batch=(1, 1, 2))
    sidecar = build(pipeline, output, open_library("rtx"), options)
    assert sidecar.precision == "fp16"
    assert sidecar.half == sidecar.convolutions
    assert sidecar.profiles[0]["photo"] == ((1, 64, 64, 3), (1, 512, 512, 3), (2, 2048, 2048, 3))
    assert sidecar.profiles[0]["mask"] == ((1, 64, 64), (1, 256, 256), (2, 512, 512))
    assert read_engine(output)[1].metadata["layout"] == "hscaunet-pipeline-1"


def test_the_runtime_says_what_a_pipeline_is_for(pipeline):
    with pytest.raises(ModelError, match="is a whole pipeline, for applications without"):
        Colorizer(pipeline, backend="onnxruntime")


def test_a_pipeline_that_differs_is_not_written(pipeline, tiny_checkpoint):
    from hscaunet import load_checkpoint

    model = load_checkpoint(tiny_checkpoint).model
    proto = onnx.load(pipeline)
    rows = measure(proto, model)
    assert max(row.largest for row in rows) <= 3
    model.unet.outc.bias.data += 1.0
    with pytest.raises(ExportError, match=r"more than 1 level on .* nothing was written"):
        measure(proto, model)
    model.unet.outc.bias.data += float("nan")
    with pytest.raises(ExportError):
        measure(proto, model)


def test_hints_are_drawn_as_they_are_rasterized():
    hints = HINTS["shapes"](60, 90)
    rgb, mask = hints.draw((90, 60), (96, 64))
    ab, other = hints.rasterize((90, 60), (96, 64))
    assert np.array_equal(mask, other)
    assert rgb.dtype == np.uint8
    assert not rgb[~mask].any()
    assert {tuple(c) for c in rgb[mask].tolist()} == {(0x20, 0x90, 0x30), (0x80, 0x60, 0x20)}
    from runtime.color import lab_from_rgb

    assert np.allclose(lab_from_rgb(rgb)[mask][:, 1:], ab[mask], atol=1e-4)
    with pytest.raises(HintError):
        Hints([Hint(100, 1, "#000000")]).draw((90, 60), (96, 64))
