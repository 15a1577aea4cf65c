import json
import shutil
from pathlib import Path

import numpy as np
import onnx
import pytest
import torch
from conftest import stir, tiny_network
from torch import nn

from export.checks import TOLERANCE, ExportError, check_inputs
from export.network import measure
from export.onnx import build_onnx, export, main
from export.release import mean_of, release
from hscaunet import PublishedNet, load_checkpoint
from hscaunet.weights import bundled_weights
from runtime import Colorizer, ModelError
from runtime.models.manifest import MODELS, find_model, read_manifest, sha256_of


def test_the_exported_file_is_one_clean_dynamic_model(tiny_checkpoint, tiny_onnx):
    proto = onnx.load(tiny_onnx, load_external_data=False)
    for value, channels in ((proto.graph.input[0], 4), (proto.graph.output[0], 2)):
        dims = [d.dim_param or d.dim_value for d in value.type.tensor_type.shape.dim]
        assert dims == ["N", channels, "H", "W"]
        assert value.type.tensor_type.elem_type == onnx.TensorProto.FLOAT
    assert {n.domain for n in proto.graph.node} <= {"", "ai.onnx"}
    assert not [n for n in proto.graph.node if n.op_type == "BatchNormalization"]
    assert not [n.name for n in proto.graph.node if n.metadata_props or n.doc_string]
    assert all(t.data_location == onnx.TensorProto.DEFAULT for t in proto.graph.initializer)
    assert b"/hscaunet/" not in tiny_onnx.read_bytes()
    facts = {p.key: p.value for p in proto.metadata_props}
    assert facts["network"] == "HSCAU-Net"
    assert facts["layout"] == "hscaunet-layout-1"
    assert json.loads(facts["config"])["widths"] == [8, 12, 16, 16]
    assert facts["precision"] == "fp32"
    assert facts["weights_sha256"] == sha256_of(tiny_checkpoint)
    assert proto.opset_import[0].version <= 20


def test_every_input_of_the_self_measurement_is_there():
    inputs = check_inputs()
    assert {"photo, no hints", "photo, full hints", "black", "white"} <= inputs.keys()
    assert len({x.shape for x in inputs.values()}) >= 3
    assert not inputs["photo, no hints"][:, 3].any()
    assert inputs["photo, full hints"][:, 3].all()
    assert all(np.isfinite(x).all() for x in inputs.values())


def test_fp16_computes_in_half_precision_and_stays_close(tiny_checkpoint, tmp_path):
    output = tmp_path / "half.onnx"
    rows = export(tiny_checkpoint, output, precision="fp16")
    assert 0 < max(r.largest for r in rows) <= TOLERANCE["fp16"]
    proto = onnx.load(output)
    kinds = {t.name: t.data_type for t in proto.graph.initializer}
    convolutions = [n for n in proto.graph.node if n.op_type == "Conv"]
    half = [n for n in convolutions if kinds.get(n.input[1]) == onnx.TensorProto.FLOAT16]
    assert len(half) >= 18
    assert proto.graph.input[0].type.tensor_type.elem_type == onnx.TensorProto.FLOAT
    colorizer = Colorizer(output, backend="onnxruntime", device="cpu")
    assert colorizer.metadata["precision"] == "fp16"
    assert colorizer.precision == "fp32"  # what ONNX Runtime's CPU kernels compute in


def test_a_file_that_differs_is_not_written(tmp_path, capsys):
    from hscaunet.checkpoints import save_training

    torch.manual_seed(0)
    model = PublishedNet(8)
    stir(model)
    nn.init.normal_(model.outc.conv.weight, std=100.0)
    state = {"config": model.config, "ema": model.state_dict(), "seen": 0, "recipe": {}}
    save_training(tmp_path / "c.pt", state)
    output = tmp_path / "out.onnx"
    output.write_bytes(b"old")
    # These weights do not fit fp16 exactly, and its colours are large: storing them so differs.
    command = ["--checkpoint", str(tmp_path / "c.pt"), "--weights", "fp16", "-o", str(output)]
    assert main(command) == 1
    assert "use --weights fp32" in capsys.readouterr().err
    assert output.read_bytes() == b"old"


def test_nan_fails_every_tolerance():
    model = PublishedNet(4)
    proto = build_onnx(model.eval(), metadata={})
    with torch.no_grad():
        model.outc.conv.bias.fill_(float("nan"))
    with pytest.raises(ExportError, match="differs from PyTorch by inf"):
        measure(proto, model)


def test_wrong_checkpoints_and_folders_say_so(tmp_path, capsys):
    assert main(["--checkpoint", str(tmp_path / "no.pt"), "-o", str(tmp_path / "a.onnx")]) == 1
    assert "no checkpoint" in capsys.readouterr().err
    assert main(["--checkpoint", "x.pt", "-o", str(tmp_path / "no" / "a.onnx")]) == 1
    assert "make it first" in capsys.readouterr().err


def test_parity_of_width_64(tmp_path):
    """The full network, published form: PyTorch against ONNX Runtime."""
    from hscaunet.checkpoints import save_training

    torch.manual_seed(1)
    model = PublishedNet(64)
    stir(model)
    nn.init.normal_(model.outc.conv.weight, std=0.01)
    state = {"config": model.config, "ema": model.state_dict(), "seen": 0, "recipe": {}}
    save_training(tmp_path / "full.pt", state)
    rows = export(tmp_path / "full.pt", tmp_path / "full.onnx")
    assert max(r.largest for r in rows) <= 1e-4
    assert len({r.shape for r in rows}) >= 3


@pytest.mark.parametrize("name", sorted(read_manifest(MODELS)))
def test_parity_of_the_bundled_weights(name):
    """The released safetensors in PyTorch against the released ONNX in the runtime."""
    model = load_checkpoint(bundled_weights(name)).model
    assert model.form == "guided"
    colorizer = Colorizer(name, backend="onnxruntime", device="cpu")
    assert colorizer.precision == "fp32"
    for name, x in check_inputs().items():
        x = np.ascontiguousarray(x)
        with torch.inference_mode():
            theirs = model(torch.from_numpy(x)).numpy()
        ours = colorizer.predict(x)
        assert np.abs(ours - theirs).max() <= 1e-4, name
        singles = np.concatenate([colorizer.predict(one[None]) for one in x])
        assert np.abs(ours - singles).max() <= 1e-4, name


def assert_shared(folder, tensors, graph, model):
    """The convolutions lie in the ONNX file alone, and the network is the same."""
    from hscaunet.checkpoints import save_release

    whole = save_release(folder / "whole.safetensors", model, {})
    assert tensors.stat().st_size < 0.3 * (folder / "whole.safetensors").stat().st_size
    with pytest.raises(ModelError, match=r"keeps its convolutions in tiny\.onnx"):
        load_checkpoint(tensors)
    shutil.copy(graph, tensors.parent)
    read = load_checkpoint(tensors).model.state_dict()
    for key, value in whole.state_dict().items():
        assert torch.equal(read[key], value), key


def test_a_release_is_consistent_and_its_manifest_true(tmp_path):
    from hscaunet.checkpoints import save_training

    model = tiny_network()
    state = {"config": model.config, "ema": model.state_dict(), "seen": 9, "recipe": {"name": "x"}}
    save_training(tmp_path / "c.pt", state)
    weights, models = tmp_path / "w", tmp_path / "m"
    weights.mkdir()
    models.mkdir()
    release(tmp_path / "c.pt", "tiny", weights, models)
    assert find_model("tiny", weights).name == "tiny.safetensors"
    graph = find_model("tiny", models)
    assert read_manifest(models)["tiny"]["images_seen"] == 9
    assert_shared(tmp_path, weights / "tiny.safetensors", graph, model)
    stored = {t.data_type for t in onnx.load(graph).graph.initializer if len(t.dims) == 4}
    assert onnx.TensorProto.FLOAT16 in stored
    assert graph.stat().st_size < 0.7 * 4 * sum(p.numel() for p in model.parameters()) + 100_000


def test_of_several_checkpoints_the_mean_is_released(tmp_path):
    from hscaunet.checkpoints import save_training

    models = [tiny_network(seed) for seed in (3, 4)]
    for i, model in enumerate(models):
        state = {"config": model.config, "ema": model.state_dict(), "seen": 9, "recipe": {}}
        save_training(tmp_path / f"{i}.pt", state)
    mean = mean_of([tmp_path / "0.pt", tmp_path / "1.pt"]).model.state_dict()
    for key, value in mean.items():
        if value.is_floating_point():
            halves = [model.state_dict()[key] for model in models]
            assert torch.allclose(value, (halves[0] + halves[1]) / 2), key


def test_the_manifests_of_the_packages_are_true():
    import hscaunet.weights
    import runtime.models

    for package in (hscaunet.weights, runtime.models):
        folder = Path(package.__file__).parent
        for name, entry in read_manifest(folder).items():
            assert sha256_of(folder / entry["file"]) == entry["sha256"], name
            assert find_model(name, folder).is_file()


def test_a_release_that_fails_leaves_the_old_one_consistent(tmp_path, monkeypatch):
    from export import checks as module
    from hscaunet.checkpoints import save_training

    model = PublishedNet(4)
    state = {"config": model.config, "ema": model.state_dict(), "seen": 1, "recipe": {}}
    save_training(tmp_path / "c.pt", state)
    folder = tmp_path / "out"
    folder.mkdir()
    monkeypatch.setitem(module.TOLERANCE, "fp32", -1.0)
    with pytest.raises(module.ExportError):
        release(tmp_path / "c.pt", "tiny", folder, folder)
    assert list(folder.iterdir()) == []


def test_the_bundled_file_rounds_no_bias():
    """Released convolutions are numbers of fp16; biases, which hold BatchNorm, are not."""
    found = onnx.load(find_model("hscaunet-lite")).graph.initializer
    halves = {len(t.dims) for t in found if t.data_type == onnx.TensorProto.FLOAT16}
    assert halves == {4}
    assert any(t.dims[0] >= 256 for t in found if len(t.dims) == 1)
