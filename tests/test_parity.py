"""export.parity: any two forms of a network, and how they are judged."""

import json

import fake_gpu
import numpy as np
import onnx
import pytest
from conftest import SHARED_PHOTOS
from fake_gpu import Gpu
from onnx import numpy_helper
from test_tensorrt_run import write_engine

from export.checks import feeds_of
from export.parity import PSNR_CHANGE, Row, Side, compare_sides, judge, main, table
from export.precision import to_half
from runtime.engines.tensorrt import library
from runtime.layout import CONTRACT


@pytest.fixture(scope="module")
def half_onnx(tiny_onnx, tmp_path_factory):
    path = tmp_path_factory.mktemp("half") / "tiny.fp16.onnx"
    proto = onnx.load(tiny_onnx)
    onnx.save(to_half(proto, feeds_of(CONTRACT))[0], path)
    return path


def changed(tiny_onnx, path, change):
    """The tiny file with other weights in its last convolution."""
    proto = onnx.load(tiny_onnx)
    (tensor,) = (t for t in proto.graph.initializer if t.name == "unet.outc.weight")
    value = numpy_helper.to_array(tensor) + np.float32(change)
    tensor.CopyFrom(numpy_helper.from_array(value, tensor.name))
    onnx.save(proto, path)
    return str(path)


def test_every_pair_that_a_cpu_can_run(tiny_checkpoint, tiny_onnx, half_onnx, capsys):
    sides = {
        str(tiny_checkpoint): "fp32",
        f"onnxruntime:{tiny_onnx}": "fp32",
        f"openvino:{tiny_onnx}": None,  # fp32, or bf16 where the processor has it
        f"onnxruntime:{half_onnx}": "fp16",
    }
    names = list(sides)
    for i, a in enumerate(names):
        for b in names[i + 1 :]:
            assert main([a, b, "--device", "cpu"]) == 0, (a, b)
            out = capsys.readouterr().out
            assert "\nthe same: " in out
            assert "published 0.5 %" in out
    assert Side(names[3], "cpu").precision == "fp16", "its weights are rounded, wherever it runs"


def test_the_report(tiny_checkpoint, tiny_onnx, photo_folder, tmp_path, capsys):
    report = tmp_path / "r.json"
    command = [str(tiny_checkpoint), f"onnxruntime:{tiny_onnx}", "--json", str(report)]
    assert main([*command, "--data", str(photo_folder), "--photos", "3"]) == 0
    found = json.loads(report.read_text())
    assert found["same"] is True
    assert "PyTorch" in found["a"]
    rows = {row["inputs"]: row for row in found["rows"]}
    assert rows["zhang N=10"]["pictures"] == 3
    assert rows["zhang N=10"]["largest"] <= 1e-4
    assert rows["zhang N=10"]["psnr_between"] > 60
    assert abs(rows["published 0.5 %"]["change"]) < 1e-3
    assert rows["black"]["psnr_a"] is None
    assert "max |d ab|" in capsys.readouterr().out


def test_what_differs_fails(tiny_onnx, tmp_path, capsys):
    other = changed(tiny_onnx, tmp_path / "other.onnx", 0.1)
    a = f"onnxruntime:{tiny_onnx}"
    assert main([a, f"onnxruntime:{other}"]) == 1
    assert "NOT the same: ab differs by" in capsys.readouterr().out
    assert main([a, f"onnxruntime:{other}", "--tolerance", "0.5"]) == 0


def test_nan_fails_whatever_is_allowed(tiny_onnx, tmp_path, capsys):
    other = changed(tiny_onnx, tmp_path / "other.onnx", np.nan)
    command = [f"onnxruntime:{tiny_onnx}", f"onnxruntime:{other}", "--tolerance", "1e9"]
    report = tmp_path / "r.json"
    assert main([*command, "--json", str(report)]) == 1
    assert "Infinity" not in report.read_text()
    assert "values are NaN or infinite" in capsys.readouterr().out


def row(change, largest=1.0, nan=0):
    return Row("zhang N=10", 1, largest, 0.1, 30.0, 25.0, 25.0 + change, nan)


@pytest.mark.parametrize("precision", ["bf16", "int8"])
def test_bf16_and_int8_are_judged_by_psnr(precision):
    assert judge([row(0.04), row(-0.04)], precision)[0]
    good, why = judge([row(0.0), row(-0.06)], precision)
    assert not good
    assert f"-0.060 dB at most (zhang N=10); {precision} may by {PSNR_CHANGE} dB" in why
    assert not judge([row(0.06)], precision)[0]


def test_fp32_and_fp16_are_judged_by_ab():
    assert judge([row(9.0, 9e-5)], "fp32")[0]
    assert not judge([row(0.0, 2e-4)], "fp32")[0]
    assert judge([row(0.0, 2e-4)], "fp16")[0]
    assert not judge([row(0.0, 6e-3)], "fp16")[0]
    assert not judge([row(0.0, 0.0, nan=1)], "fp16")[0]


def test_an_engine_is_a_side(tmp_path, monkeypatch):
    """On a GPU of the imagination."""
    gpu = Gpu()
    module = fake_gpu.tensorrt(
        gpu, "rtx", profiles=[((1, 4, 16, 16), (1, 4, 64, 64), (8, 4, 256, 256))]
    )
    monkeypatch.setattr(library, "import_module", {"tensorrt_rtx": module}.__getitem__)
    fake_gpu.cuda_python(gpu, monkeypatch)
    every = ((1, 4, 16, 16), (1, 4, 64, 64), (8, 4, 256, 256))
    path = write_engine(tmp_path, profiles=({"input": every},))
    one, two = Side(str(path)), Side(str(path))
    assert one.name == "tiny.engine (tensorrt cuda fp16)"
    rows = compare_sides(one, two)
    assert judge(rows, "fp16") == (True, judge(rows, "fp16")[1])
    assert max(r.largest for r in rows) == 0
    assert len(table(rows).splitlines()) == len(rows) + 1
    # One that was built for single pictures is judged on those.
    path = write_engine(
        tmp_path, profiles=({"input": ((1, 4, 64, 64),) * 2 + ((1, 4, 256, 256),)},)
    )
    fewer = compare_sides(Side(str(path), cuda="cuda-python"), one)
    assert {r.inputs for r in rows} - {r.inputs for r in fewer} == {"batch of 3, 192x128"}
    path = write_engine(tmp_path, profiles=({"input": ((1, 4, 16, 16),) * 3},))
    assert compare_sides(Side(str(path)), one) == []
    assert judge([], "fp16") == (False, "no input has a shape that both take")


@pytest.mark.parametrize(
    "arguments",
    [
        ["no.onnx", "hscaunet-lite"],
        ["hscaunet-lite", "no.engine"],
        ["x.pt", "y.pt"],
        ["onnxruntime:x.pt", "hscaunet-lite"],
    ],
)
def test_what_is_not_there_is_said(arguments, capsys):
    assert main(arguments) == 1
    assert capsys.readouterr().err.startswith("error: ")


@pytest.mark.skipif(not SHARED_PHOTOS.is_dir(), reason="the shared photos are not here")
def test_the_bundled_model_on_real_photos(capsys):
    from hscaunet.weights import bundled_weights

    data = str(SHARED_PHOTOS / "photos-val.tar")
    command = [str(bundled_weights()), "onnxruntime:hscaunet-lite", "--data", data, "--photos", "2"]
    assert main(command) == 0
    assert "the same" in capsys.readouterr().out
