"""Model repositories for Triton: what its own protobuf reads of them is what the files have."""

import runpy
import sys
import types

import numpy as np
import onnx
import pytest
from conftest import ROOT

from export.triton.__main__ import main
from export.triton.config import Model, Service, config, to_text
from export.triton.measure import worth_waiting
from runtime.layout import CONTRACT, INTERFACES, PIPELINE

triton = pytest.importorskip("tritonclient.grpc.model_config_pb2")
from google.protobuf import text_format  # noqa: E402


def parsed(text):
    return text_format.Parse(text, triton.ModelConfig())


@pytest.fixture(scope="module")
def pipeline(tiny_checkpoint, tmp_path_factory):
    from export.onnx import main as export

    path = tmp_path_factory.mktemp("pipeline") / "tiny.pipeline.onnx"
    assert export(["--checkpoint", str(tiny_checkpoint), "--pipeline", "-o", str(path)]) == 0
    return path


@pytest.fixture(scope="module")
def repository(tiny_onnx, pipeline, tmp_path_factory):
    folder = tmp_path_factory.mktemp("triton")
    models = [str(tiny_onnx), str(pipeline)]
    assert main([*models, "-o", str(folder), "--max-batch", "4", "--instances", "2"]) == 0
    return folder


def test_names_types_and_shapes_are_those_of_the_files(repository):
    found = {path.parent.name for path in repository.glob("*/config.pbtxt")}
    assert found == {"hscaunet", "hscaunet_photo"}
    kinds = {onnx.TensorProto.FLOAT: triton.TYPE_FP32, onnx.TensorProto.UINT8: triton.TYPE_UINT8}
    for name in found:
        told = parsed((repository / name / "config.pbtxt").read_text())
        assert told.name == name
        assert told.backend == "onnxruntime"
        graph = onnx.load(repository / name / "1" / told.default_model_filename).graph
        for ours, theirs in ((told.input, graph.input), (told.output, graph.output)):
            assert [one.name for one in ours] == [one.name for one in theirs]
            for one, value in zip(ours, theirs, strict=True):
                kind = value.type.tensor_type
                assert one.data_type == kinds[kind.elem_type]
                _, *dims = [d.dim_value or -1 for d in kind.shape.dim]
                assert list(one.dims) == dims
        assert told.max_batch_size == 4
        (group,) = told.instance_group
        assert group.count == 2
        assert group.kind == triton.ModelInstanceGroup.KIND_AUTO


def test_warm_up_is_what_the_graph_takes(repository):
    import onnxruntime as ort

    for folder in repository.iterdir():
        told = parsed((folder / "config.pbtxt").read_text())
        session = ort.InferenceSession(
            str(folder / "1" / "model.onnx"), providers=["CPUExecutionProvider"]
        )
        assert {1, 4} <= {one.batch_size for one in told.model_warmup}
        one = told.model_warmup[0]
        feeds = {}
        for name, given in one.inputs.items():
            dtype = np.float32 if given.data_type == triton.TYPE_FP32 else np.uint8
            dims = [min(d, 64) for d in given.dims]  # smaller, for the test's time
            feeds[name] = np.zeros([one.batch_size, *dims], dtype)
        assert session.run(None, feeds)[0].shape[0] == one.batch_size


def test_another_call_makes_another_version(repository, tiny_onnx, capsys):
    arguments = [str(tiny_onnx), "-o", str(repository), "--delay", "250", "--keep-versions", "2"]
    assert main(arguments) == 0
    assert "version 2" in capsys.readouterr().out
    assert sorted(p.name for p in (repository / "hscaunet").iterdir()) == ["1", "2", "config.pbtxt"]
    told = parsed((repository / "hscaunet" / "config.pbtxt").read_text())
    assert told.version_policy.latest.num_versions == 2
    assert told.dynamic_batching.max_queue_delay_microseconds == 250


@pytest.mark.parametrize("layout", [CONTRACT, PIPELINE])
def test_an_engine_is_a_plan_with_its_profiles(layout):
    told = parsed(to_text(config(Model("m", layout, True, 2, 8), Service(kind="cpu", delay=7))))
    assert told.platform == "tensorrt_plan"
    assert told.default_model_filename == "model.plan"
    (group,) = told.instance_group
    assert group.kind == triton.ModelInstanceGroup.KIND_GPU
    assert list(group.profile) == ["0", "1"]
    assert [one.name for one in told.input] == list(INTERFACES[layout])[:-1]


def test_an_engine_file_goes_in_with_what_its_sidecar_says(tmp_path):
    from test_tensorrt_run import write_engine

    engine = write_engine(tmp_path, "10.12.0", data=b"an engine")
    assert main([str(engine), "-o", str(tmp_path / "r")]) == 0
    told = parsed((tmp_path / "r" / "hscaunet" / "config.pbtxt").read_text())
    assert told.platform == "tensorrt_plan"
    assert (tmp_path / "r" / "hscaunet" / "1" / "model.plan").read_bytes() == b"an engine"
    assert list(told.model_warmup[0].inputs["input"].dims) == [4, 64, 64]  # its best shape


def test_engines_that_triton_cannot_serve_are_a_sentence(tmp_path, capsys):
    from test_tensorrt_run import write_engine

    shapes = ((4, 4, 64, 64), (4, 4, 64, 64), (8, 4, 64, 64))
    for made_by, changes, sentence in (
        ("rtx", {}, "TensorRT for RTX"),
        ("10.12.0", {"profiles": ({"input": shapes},)}, "--batch 1,1,N"),
        ("10.12.0", {"profiles": ({},)}, "lacks the shapes"),
    ):
        engine = write_engine(tmp_path, made_by, **changes)
        assert main([str(engine), "-o", str(tmp_path / "r")]) == 1
        assert sentence in capsys.readouterr().err


def test_versions_are_of_one_kind(tmp_path, tiny_onnx, capsys):
    from test_tensorrt_run import write_engine

    assert main([str(tiny_onnx), "-o", str(tmp_path / "r"), "--delay", "0"]) == 0
    engine = write_engine(tmp_path, "10.12.0")
    assert main([str(engine), "-o", str(tmp_path / "r")]) == 1
    assert "another --name" in capsys.readouterr().err


def test_who_saves_nothing_does_not_wait():
    assert worth_waiting({1: 0.010, 2: 0.020, 4: 0.041}) == (0, ())
    assert worth_waiting({1: 0.010, 2: 0.012, 4: 0.014, 8: 0.028}) == (6500, (4,))


def test_one_photo_at_a_time_has_no_batching():
    told = parsed(to_text(config(Model("m", CONTRACT, max_batch=1), Service())))
    assert not told.HasField("dynamic_batching")


def test_wrong_arguments_are_a_sentence(tmp_path, tiny_onnx, capsys):
    (tmp_path / "x.onnx").write_bytes(b"nothing")
    for arguments, sentence in (
        ([str(tmp_path / "x.onnx")], "no ONNX model"),
        ([str(tiny_onnx), "--name", "../up"], "letters, digits"),
        ([str(tiny_onnx), "--max-batch", "0"], "1 to 1024"),
        ([str(tiny_onnx), "--delay", "-1"], "microseconds"),
        ([str(tiny_onnx), str(tiny_onnx)], "of its own"),
    ):
        assert main([*arguments, "-o", str(tmp_path / "r")]) == 1
        assert sentence in capsys.readouterr().err
    assert not (tmp_path / "r").exists()


def test_the_example_asks_as_the_model_is_described(tmp_path, monkeypatch, capsys):
    """Against a stand-in for the client: there is no server here."""
    asked = {}

    class Input:
        def __init__(self, name, shape, kind):
            self.name, self.shape, self.kind = name, shape, kind

        def set_data_from_numpy(self, value):
            assert list(value.shape) == self.shape
            self.value = value

    class Client:
        def __init__(self, url):
            asked["url"] = url

        def infer(self, model, inputs, outputs):
            asked.update(model=model, inputs={one.name: one for one in inputs}, outputs=outputs)
            photo = asked["inputs"]["photo"].value
            return types.SimpleNamespace(as_numpy=lambda name: photo)

    module = types.SimpleNamespace(
        InferInput=Input, InferRequestedOutput=lambda name: name, InferenceServerClient=Client
    )
    monkeypatch.setitem(sys.modules, "tritonclient.http", module)
    monkeypatch.setattr("sys.argv", ["x", "host:8000", str(tmp_path / "o.png")])
    runpy.run_path(str(ROOT / "examples/triton_client.py"))
    assert asked["url"] == "host:8000"
    assert asked["model"] == "hscaunet_photo"
    told = config(Model("hscaunet_photo", PIPELINE), Service())
    assert [one["name"] for one in told["input"]] == list(asked["inputs"])
    for one in told["input"]:
        given = asked["inputs"][one["name"]]
        assert given.value.dtype == np.uint8
        assert len(given.shape) == len(one["dims"]) + 1
    assert (tmp_path / "o.png").is_file()
