"""Building engines: really, with TensorRT for RTX; and the full TensorRT's own steps on a fake."""

import contextlib
import json
import math
import re
import signal
import threading
from types import SimpleNamespace as Space

import fake_gpu
import numpy as np
import onnx
import pytest
import torch
from conftest import run_python
from fake_gpu import VERSIONS, Gpu
from onnx import helper

from export.checks import check_inputs, feeds_of
from export.reading import load_graph
from export.tensorrt.build import build
from export.tensorrt.graph import settle_precision
from export.tensorrt.layers import check_layers, layers_of_engine, layers_of_network
from export.tensorrt.options import BuildError, BuildOptions
from export.trt import main
from runtime import BackendError, Colorizer, ModelError
from runtime.engines.tensorrt import library
from runtime.engines.tensorrt.library import Library, open_library
from runtime.engines.tensorrt.sidecar import read_engine, sidecar_path
from runtime.layout import CONTRACT
from runtime.models.manifest import DEFAULT_MODEL, find_model

LATER = [v for v in VERSIONS if v != "rtx"]

CONVOLUTIONS = 149
"""Of the bundled model: what has weights, and eight that spread hints in the interpolation."""


@pytest.fixture(scope="module")
def rtx():
    return open_library("rtx")


@pytest.fixture(scope="module")
def int8_onnx(tiny_onnx, tmp_path_factory):
    """The tiny network quantized by ONNX Runtime in the way that TensorRT takes."""
    from onnxruntime.quantization import (
        CalibrationDataReader,
        QuantFormat,
        QuantType,
        quantize_static,
    )
    from onnxruntime.quantization.shape_inference import quant_pre_process

    class Reader(CalibrationDataReader):
        def __init__(self):
            small = [f for f in feeds_of(CONTRACT) if f["input"].size < 4 * 256 * 256]
            self.rows = iter(small)

        def get_next(self):
            return next(self.rows, None)

    folder = tmp_path_factory.mktemp("int8")
    quant_pre_process(tiny_onnx, folder / "ready.onnx", skip_symbolic_shape=True)
    quantize_static(
        folder / "ready.onnx",
        folder / "tiny.int8.onnx",
        Reader(),
        quant_format=QuantFormat.QDQ,
        activation_type=QuantType.QInt8,
        weight_type=QuantType.QInt8,
        per_channel=True,
        op_types_to_quantize=["Conv"],
        extra_options={
            "ActivationSymmetric": True,
            "WeightSymmetric": True,
            "AddQDQPairToWeight": True,
            "QuantizeBias": False,
        },
    )
    proto = onnx.load(folder / "tiny.int8.onnx")
    have = {p.key for p in proto.metadata_props}
    for entry in onnx.load(tiny_onnx).metadata_props:
        if entry.key not in have:
            proto.metadata_props.add(key=entry.key, value=entry.value)
    onnx.save(proto, folder / "tiny.int8.onnx")
    return folder / "tiny.int8.onnx"


@pytest.mark.parametrize("name", ["hscaunet-lite"])
def test_rtx_builds_both_models(name, rtx, tmp_path):
    path = find_model(name)
    sizes = {}
    for precision in ("fp32", "fp16"):
        output = tmp_path / f"{precision}.engine"
        said = []
        made = build(
            path,
            output,
            rtx,
            BuildOptions(precision=precision),
            lambda *line, to=said: to.append(line),
        )
        sizes[precision] = output.stat().st_size
        data, sidecar = read_engine(output)
        assert sidecar == made
        assert len(data) == sizes[precision]
        assert sidecar.precision == precision
        assert sidecar.profiles[0]["input"] == ((1, 4, 64, 64), (1, 4, 256, 256), (8, 4, 512, 512))
        assert sidecar.convolutions == CONVOLUTIONS
        # "fp16" is what it says: over nine tenths of the convolutions.
        half = sidecar.half / sidecar.convolutions
        assert half == 0 if precision == "fp32" else half > 0.9
        assert any(topic == "output" and text == "ab FLOAT" for topic, text in said)
    # The weights are halved, but for those of layers whose values come too near to half's end. Some
    # 20 to 30 MB of each engine are something else, such as kernels, of which half has more.
    weights = sum(math.prod(tensor.dims) for tensor in onnx.load(path).graph.initializer)
    assert sizes["fp32"] - sizes["fp16"] > 0.75 * 2 * weights


def test_rtx_builds_int8_from_a_graph_with_qdq_nodes(rtx, int8_onnx, tmp_path):
    sidecar = build(int8_onnx, tmp_path / "a.engine", rtx, BuildOptions())
    assert sidecar.precision == "int8"
    assert sidecar.quantized > 0.5 * sidecar.convolutions
    with pytest.raises(BuildError, match="cannot be built as fp16"):
        build(int8_onnx, tmp_path / "b.engine", rtx, BuildOptions(precision="fp16"))
    assert not (tmp_path / "b.engine").exists()


def test_a_convolution_is_quantized_if_its_weights_are_too():
    kinds = Space(**{name: name for name in ("CONVOLUTION", "DECONVOLUTION", "DEQUANTIZE")})
    trt = Space(LayerType=kinds, DataType=Space(HALF="HALF"))

    def layer(kind, inputs, output):
        return Space(
            type=kind,
            num_inputs=len(inputs),
            num_outputs=1,
            get_input=lambda i: inputs[i] and Space(name=inputs[i]),
            get_output=lambda i: Space(name=output, dtype="FLOAT"),
        )

    layers = [
        layer("DEQUANTIZE", ["x8", "scale"], "x"),
        layer("DEQUANTIZE", ["w8", "scale"], "w"),
        layer("CONVOLUTION", ["x", "w"], "a"),
        layer("CONVOLUTION", ["x", "floats", None], "b"),  # shares its input, stays in float
        layer("DECONVOLUTION", ["x"], "c"),  # its weights are constants
    ]
    network = Space(num_layers=len(layers), get_layer=layers.__getitem__)
    found = layers_of_network(trt, network)
    assert (found.convolutions, found.quantized, found.layers) == (3, 1, 5)


def test_the_command_builds_the_bundled_model(tmp_path):
    done = run_python("-m", "export.trt", "-o", str(tmp_path / "lite.engine"))
    assert done.returncode == 0, done.stderr
    half, whole = map(int, re.search(r"(\d+) of (\d+) convolutions", done.stdout).groups())
    assert whole == CONVOLUTIONS
    assert half > 0.9 * whole
    assert "input FLOAT (1, 4, 64, 64) to (8, 4, 512, 512)" in done.stdout
    assert "MiB" in done.stdout
    assert json.loads((tmp_path / "lite.engine.json").read_text())["precision"] == "fp16"
    # No GPU here, or one that may not fit: never a crash, always a sentence.
    if not torch.cuda.is_available():
        with pytest.raises(
            BackendError, match=r"nvidia-smi tells. An ONNX model runs on the CPU\."
        ):
            Colorizer(tmp_path / "lite.engine")


def test_batch_and_size_make_the_profile(rtx, tiny_onnx, tmp_path):
    output = str(tmp_path / "a.engine")
    command = [str(tiny_onnx), "-o", output, "--batch", "1,4,16", "--size", "128"]
    assert main([*command, "--optimization-level", "0", "--workspace", "2000"]) == 0
    profile = json.loads((tmp_path / "a.engine.json").read_text())["profiles"][0]
    assert profile == {"input": [[1, 4, 32, 32], [4, 4, 128, 128], [16, 4, 256, 256]]}


@pytest.mark.parametrize(
    ("options", "match"),
    [
        (["--batch", "4,2,1"], "MIN,OPT,MAX in that order"),
        (["--size", "64,100,128"], "multiples of 16"),
        (["--flavor", "rtx", "--version-compatible"], "leave --version-compatible out"),
        (["--flavor", "rtx", "--hardware-compatible", "ampere+"], "leave --hardware-compatible"),
        (["--precision", "int8"], "has no Q/DQ nodes"),
        (["-o", "no/folder/a.engine"], "make it first"),
        (["-o", "model.onnx"], "must end in .engine or .plan"),
        (["-o", "a.trt"], "must end in .engine or .plan"),
        (["-o", "."], "must end in .engine or .plan"),
        (["--batch", "1,1,100000000000000000000"], "from 1 to 32768"),
        (["--size", "0,16,32"], "from 16 to 32768"),
        (["--photo", "16"], "from 32 to 32768"),
        (["--workspace", "99999999999"], "--workspace must be"),
    ],
)
def test_options_that_contradict(options, match, capsys, tiny_onnx, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert main([str(tiny_onnx), *options]) == 1
    error = capsys.readouterr().err
    assert match in error
    assert list(tmp_path.iterdir()) == []


def test_without_a_gpu_the_full_tensorrt_is_not_touched(monkeypatch, capsys, tmp_path):
    """Its builder crashes the process there."""
    touched = []

    class Module:
        __version__ = "11.4.0.106"

        def __getattr__(self, name):
            touched.append(name)
            raise AssertionError(name)

    def no_cuda():
        raise BackendError("CUDA does not start.")

    monkeypatch.setattr(library, "import_module", lambda name: Module())
    monkeypatch.setattr("export.tensorrt.build.open_cuda", no_cuda)
    assert main(["--flavor", "tensorrt", "-o", str(tmp_path / "a.engine")]) == 1
    error = capsys.readouterr().err
    assert "builds on the GPU that the engine is for" in error
    assert "--flavor rtx builds without a GPU" in error
    assert touched == []


def test_broken_truncated_and_foreign_files(rtx, tiny_onnx, tmp_path):
    whole = tiny_onnx.read_bytes()
    foreign = helper.make_model(helper.make_graph([], "g", [], []))
    ours = onnx.load(tiny_onnx)
    del ours.graph.node[len(ours.graph.node) // 2 :]
    claims = onnx.load(tiny_onnx)
    for tensor in claims.graph.initializer:
        tensor.name = tensor.name.replace("outc", "other")
    for node in claims.graph.node:
        for i, name in enumerate(node.input):
            node.input[i] = name.replace("outc", "other")
    files = {
        "empty": b"",
        "junk": bytes(range(256)) * 20,
        "short": whole[: len(whole) // 2],
        "nearly": whole[:-1],
        "foreign": foreign.SerializeToString(),
        "half a graph": ours.SerializeToString(),
        "another network": claims.SerializeToString(),
    }
    output = tmp_path / "a.engine"
    output.write_bytes(b"old")
    for name, data in files.items():
        path = tmp_path / "x.onnx"
        path.write_bytes(data)
        with pytest.raises((ModelError, BuildError)) as caught:
            build(path, output, rtx, BuildOptions(precision="auto"))
        assert "export" in str(caught.value) or "damaged" in str(caught.value), name
        assert output.read_bytes() == b"old"
    rng = np.random.default_rng(0)
    for _ in range(10):
        data = bytearray(whole)
        at = rng.integers(len(data) - 64)
        data[at : at + 64] = rng.bytes(64)
        path.write_bytes(bytes(data))
        # Flipped weights are no error; everything else is one of ours.
        with contextlib.suppress(ModelError, BuildError):
            build(path, tmp_path / "b.engine", rtx, BuildOptions(precision="fp32"))


def test_other_shapes_and_weights_elsewhere_are_refused(rtx, tiny_onnx, tmp_path):
    fixed, renamed, outside = (onnx.load(tiny_onnx) for _ in range(3))
    fixed.graph.input[0].type.tensor_type.shape.dim[0].dim_value = 1
    renamed.graph.input[0].type.tensor_type.shape.dim[0].dim_param = "batch"
    tensor = outside.graph.initializer[0]
    tensor.data_location = onnx.TensorProto.EXTERNAL
    tensor.external_data.add(key="location", value="elsewhere")
    cases = {"takes": fixed, "it again": renamed, "one file": outside}
    for match, proto in cases.items():
        (tmp_path / "x.onnx").write_bytes(proto.SerializeToString())
        with pytest.raises(ModelError, match=match):
            build(tmp_path / "x.onnx", tmp_path / "a.engine", rtx, BuildOptions())
    # With key and value the other way round in the file, which protobuf allows.
    data = outside.SerializeToString()
    pair = b"\x0a\x08location\x12\x09elsewhere"
    assert pair in data
    (tmp_path / "x.onnx").write_bytes(data.replace(pair, b"\x12\x09elsewhere\x0a\x08location"))
    with pytest.raises(ModelError, match="one file"):
        Colorizer(tmp_path / "x.onnx", backend="onnxruntime")


def test_graphs_of_other_tools_convert_as_ours_do(tiny_onnx):
    """Without names, with names twice, with constants as nodes."""
    from export.precision import to_half

    ours = onnx.load(tiny_onnx)
    right = to_half(ours, feeds_of(CONTRACT)[-1:])[1]
    unnamed, twice, constants = (onnx.load(tiny_onnx) for _ in range(3))
    for node in unnamed.graph.node:
        node.name = ""
    for node in twice.graph.node:
        node.name = "same"
    tensor = constants.graph.initializer[0]
    constants.graph.node.insert(0, helper.make_node("Constant", [], [tensor.name], value=tensor))
    del constants.graph.initializer[0]
    for proto in (unnamed, twice, constants):
        report = to_half(proto, feeds_of(CONTRACT)[-1:])[1]
        assert (report.half, report.convolutions) == (right.half, right.convolutions)
        assert report.kept == ()
    branch = helper.make_graph([], "b", [], [])
    within = onnx.load(tiny_onnx)
    within.graph.node.append(
        helper.make_node("If", ["c"], ["d"], then_branch=branch, else_branch=branch)
    )
    with pytest.raises(ModelError, match="a If with a graph of its own"):
        to_half(within, [])


def test_a_node_that_tensorrt_does_not_know_is_named(rtx, tiny_onnx, tmp_path):
    proto = onnx.load(tiny_onnx)
    last = proto.graph.node[-1]
    made = last.output[0]
    last.output[0] = "before"
    proto.graph.node.append(
        helper.make_node("Bernoulli", ["before"], [made], "odd_one", domain="", seed=1.0)
    )
    path = tmp_path / "x.onnx"
    onnx.save(proto, path)
    with pytest.raises(BuildError, match=r"node odd_one \(Bernoulli\)"):
        build(path, tmp_path / "a.engine", rtx, BuildOptions(precision="fp32"))
    assert not (tmp_path / "a.engine").exists()


def test_a_graph_that_is_fp16_in_name_only_is_no_fp16_engine(rtx, tiny_onnx, tmp_path):
    proto = onnx.load(tiny_onnx)
    for entry in proto.metadata_props:
        if entry.key == "precision":
            entry.value = "fp16"
    onnx.save(proto, tmp_path / "liar.onnx")
    with pytest.raises(BuildError, match="fp16 in name only"):
        build(tmp_path / "liar.onnx", tmp_path / "a.engine", rtx, BuildOptions())
    assert not (tmp_path / "a.engine").exists()


def test_what_comes_near_the_end_of_half_precision_stays_in_float(tiny_onnx):
    """Weights so large that their products pass 65504: left in float, and still right."""
    import onnxruntime as ort
    from onnx import numpy_helper

    from export.precision import HEADROOM, to_half

    proto = onnx.load(tiny_onnx)
    for tensor in proto.graph.initializer:
        if tensor.name in ("unet.down1.conv.weight",):
            value = numpy_helper.to_array(tensor) * 1e5
            tensor.CopyFrom(numpy_helper.from_array(value, tensor.name))
    ins = feeds_of(CONTRACT)
    half, report = to_half(proto, ins)
    assert report.kept
    assert report.largest * HEADROOM < 65504
    assert 0 < report.half < report.convolutions
    one, two = (
        ort.InferenceSession(p.SerializeToString(), providers=["CPUExecutionProvider"])
        for p in (proto, half)
    )
    a, b = (s.run(None, ins[0])[0] for s in (one, two))
    assert np.isfinite(b).all()
    # This network amplifies: what is asked is that it does not overflow, not that it is exact.
    assert np.abs(a - b).mean() < 2e-3 * np.abs(a).max()


def test_stored_fp16_weights_are_floats_again_in_an_fp32_engine():
    proto, metadata, _ = load_graph(find_model(DEFAULT_MODEL))
    plain, precision, remark = settle_precision(proto, metadata, "fp32", find_model(DEFAULT_MODEL))
    assert (precision, "TF32" in remark) == ("fp32", True)
    assert not [t for t in plain.graph.initializer if t.data_type == onnx.TensorProto.FLOAT16]


def test_the_full_sums_of_hints_fit_half_precision():
    """A mask all over the picture: cells' sums are kept in units that fit.

    What stays in float is the last gate, whose values reach 27,000 with the released weights.
    """
    from export.precision import to_half

    proto = onnx.load(find_model(DEFAULT_MODEL))
    full = {"input": np.ascontiguousarray(check_inputs()["photo, full hints"])}
    _, report = to_half(proto, [full])
    assert len(report.kept) <= 6
    assert report.half >= report.convolutions - 4
    assert report.convolutions == CONVOLUTIONS


@pytest.fixture
def full_tensorrt(monkeypatch):
    """The full library on a GPU of the imagination."""

    def make(version, **kinds):
        gpu = Gpu()
        module = fake_gpu.tensorrt(gpu, version, **kinds)
        fake_gpu.cuda_python(gpu, monkeypatch)
        return Library("tensorrt", module, version), gpu

    return make


@pytest.mark.parametrize("version", LATER)
def test_the_full_library_is_built_with_its_real_api(version, full_tensorrt, tiny_onnx, tmp_path):
    found, gpu = full_tensorrt(version, version_compatible=True)
    cache = tmp_path / "cache" / "timing"
    options = BuildOptions(
        workspace=64, level=5, timing_cache=cache, version_compatible=True,
        hardware_compatible="same", refit=True, batch=(1, 2, 4),
    )  # fmt: skip
    output = tmp_path / "a.engine"
    said = []
    build(tiny_onnx, output, found, options, lambda *line: said.append(line))
    config = found.module.record.config
    assert set(config.set) == {"VERSION_COMPATIBLE", "REFIT"}
    assert config.pools == {"WORKSPACE": 64 << 20}
    assert config.builder_optimization_level == 5
    assert config.profiles[0]._inside.shapes["input"] == (
        (1, 4, 64, 64),
        (2, 4, 256, 256),
        (4, 4, 512, 512),
    )
    assert dict(said)["timing cache"].startswith("0 of 2 entries")
    assert dict(said)["inspected"] == "1 of 1 convolutions and 1 of 2 layers in half precision"
    sidecar = read_engine(output)[1]
    assert (sidecar.gpu, sidecar.compute_capability) == ("Fake GPU", (8, 9))
    assert (sidecar.flavor, sidecar.version, sidecar.refit) == ("tensorrt", version, True)
    assert gpu.alive() == {}
    assert gpu.retained == 0
    said.clear()
    build(tiny_onnx, output, found, options, lambda *line: said.append(line))
    assert dict(said)["timing cache"].startswith("hit: all 2 entries")
    assert config.cleared == ["TF32"]
    assert found.module.record.orphans == 0, "an engine outlived CUDA's context"
    before = output.read_bytes(), cache.read_bytes()
    for content in (b"\xff", b"other-GPU"):  # no cache, and one of another GPU
        cache.write_bytes(content)
        with pytest.raises(BuildError, match="is no timing cache of this version and GPU"):
            build(tiny_onnx, output, found, options)
        assert cache.read_bytes() == content, "somebody's file was overwritten"
    assert output.read_bytes() == before[0]


def test_a_timing_cache_that_cannot_be_kept_costs_no_engine(full_tensorrt, tiny_onnx, tmp_path):
    found, _ = full_tensorrt("11.4.0.106")
    (tmp_path / "file").write_bytes(b"")
    said = []
    options = BuildOptions(timing_cache=tmp_path / "file" / "below")
    build(tiny_onnx, tmp_path / "a.engine", found, options, lambda *line: said.append(line))
    assert "2 new entries could not be kept" in dict(said)["timing cache"]
    assert read_engine(tmp_path / "a.engine")


@pytest.mark.parametrize("conv", ["HALF", "FLOAT"])
def test_rtx_is_not_opened_on_a_gpu_that_it_does_not_support(
    conv, monkeypatch, tiny_onnx, tmp_path
):
    """It builds anywhere, an H100 included, and is inspected only where it runs."""
    gpu = Gpu("H100", (9, 0))
    fake_gpu.cuda_python(gpu, monkeypatch)
    said = []
    build(tiny_onnx, tmp_path / "a.engine", open_library("rtx"), BuildOptions(),
          lambda *line: said.append(line))  # fmt: skip
    assert dict(said)["inspected"].startswith("not here, where it does not run")
    assert "deserialize" not in gpu.calls


@pytest.mark.parametrize(
    ("kinds", "match"),
    [
        ({"fail": {"parse"}}, r"node node_7 \(Einsum\): unsupported"),
        ({"fail": {"build"}}, "could not build .*smaller --batch"),
        ({"fail": {"deserialize"}}, "does not open here"),
        ({"version_compatible": True}, "does not open here"),
        ({"conv": "FLOAT"}, "fp16 in name only"),
    ],
)
def test_what_the_full_library_refuses(kinds, match, full_tensorrt, tiny_onnx, tmp_path):
    found, gpu = full_tensorrt(LATER[-1], **kinds)
    with pytest.raises(BuildError, match=match):
        build(tiny_onnx, tmp_path / "a.engine", found, BuildOptions())
    assert list(tmp_path.iterdir()) == []
    assert gpu.retained == 0


def test_the_inspector_has_the_last_word():
    text = json.dumps(
        {
            "Layers": [
                {
                    "LayerType": "CaskConvolution",
                    "Outputs": [{"Format/Datatype": "Row major FP32"}],
                },
                {"LayerType": "CaskDeconvolutionV2", "Outputs": [{"Format/Datatype": "Float"}]},
            ]
        }
    )
    layers = layers_of_engine(text)
    assert (layers.convolutions, layers.half) == (2, 0)
    with pytest.raises(BuildError, match="Not one of the 2 convolutions of the built engine"):
        check_layers(layers, "fp16", "of the built engine")


def test_ctrl_c_ends_a_build_and_writes_nothing(rtx, tiny_onnx, tmp_path):
    """The builder is asked to stop at its next step."""
    code = f"""
import os, signal, sys
from export.tensorrt import compile
real = compile._progress
class Stop:
    def __init__(self, *a): self.inner = real(*a)
    def __enter__(self):
        self.inner.__enter__()
        os.kill(os.getpid(), signal.SIGINT)
    def __exit__(self, *a): return self.inner.__exit__(*a)
compile._progress = Stop
from export.trt import main
sys.exit(main([{str(tiny_onnx)!r}, "-o", {str(tmp_path / "a.engine")!r}]))
"""
    done = run_python("-c", code)
    assert done.returncode == 130, done.stderr
    assert "interrupted" in done.stderr
    assert list(tmp_path.iterdir()) == []


def test_a_build_in_another_thread_leaves_ctrl_c_alone(rtx, tiny_onnx, tmp_path):
    before = signal.getsignal(signal.SIGINT)
    problems = []

    def work():
        try:
            build(tiny_onnx, tmp_path / "a.engine", rtx, BuildOptions())
        except Exception as error:
            problems.append(error)

    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    assert problems == []
    assert signal.getsignal(signal.SIGINT) is before
    assert sidecar_path(tmp_path / "a.engine").is_file()
