import json
from pathlib import Path

import numpy as np
import onnx
import pytest
import torch
from conftest import stir
from torch import nn

from export.onnx import TOLERANCE, build_onnx, check_inputs, export, main, measure
from export.release import release
from hscaunet import HSCAUNet, load_checkpoint
from hscaunet.checkpoints import save_release
from hscaunet.weights import bundled_weights
from runtime import Colorizer, ModelError
from runtime.manifest import find_model, read_manifest, sha256_of


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
    assert json.loads(facts["config"])["width"] == 8
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
    model = HSCAUNet(8)
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
    model = HSCAUNet(4)
    proto = build_onnx(model.eval(), metadata={})
    with torch.no_grad():
        model.outc.conv.bias.fill_(float("nan"))
    assert max(r.largest for r in measure(proto, model)) == float("inf")


def test_wrong_checkpoints_and_folders_say_so(tmp_path, capsys):
    assert main(["--checkpoint", str(tmp_path / "no.pt"), "-o", str(tmp_path / "a.onnx")]) == 1
    assert "no checkpoint" in capsys.readouterr().err
    assert main(["--checkpoint", "x.pt", "-o", str(tmp_path / "no" / "a.onnx")]) == 1
    assert "make it first" in capsys.readouterr().err


def test_parity_of_width_64(tmp_path):
    """The full network, published form: PyTorch against ONNX Runtime."""
    from hscaunet.checkpoints import save_training

    torch.manual_seed(1)
    model = HSCAUNet(64, "published")
    stir(model)
    nn.init.normal_(model.outc.conv.weight, std=0.01)
    state = {"config": model.config, "ema": model.state_dict(), "seen": 0, "recipe": {}}
    save_training(tmp_path / "full.pt", state)
    rows = export(tmp_path / "full.pt", tmp_path / "full.onnx")
    assert max(r.largest for r in rows) <= 1e-4
    assert len({r.shape for r in rows}) >= 3


@pytest.mark.parametrize(("name", "width"), [("hscaunet-lite", 32), ("hscaunet", 64)])
def test_parity_of_the_bundled_weights(name, width):
    """The released safetensors in PyTorch against the released ONNX in the runtime."""
    model = load_checkpoint(bundled_weights(name)).model
    assert (model.width, model.form) == (width, "guided")
    colorizer = Colorizer(name, backend="onnxruntime", device="cpu")
    assert colorizer.precision == "fp32"
    assert colorizer.metadata["weights_sha256"] == sha256_of(bundled_weights(name))
    for name, x in check_inputs().items():
        x = np.ascontiguousarray(x)
        with torch.inference_mode():
            theirs = model(torch.from_numpy(x)).numpy()
        ours = colorizer.predict(x)
        assert np.abs(ours - theirs).max() <= 1e-4, name
        singles = np.concatenate([colorizer.predict(one[None]) for one in x])
        assert np.abs(ours - singles).max() <= 1e-4, name


def test_a_release_is_consistent_and_its_manifest_true(tmp_path):
    from hscaunet.checkpoints import save_training

    torch.manual_seed(0)
    model = HSCAUNet(8, "guided", prior=False, diffuse=False)  # which take a minute to export
    stir(model)
    nn.init.normal_(model.outc.conv.weight, std=0.02)
    state = {"config": model.config, "ema": model.state_dict(), "seen": 9, "recipe": {"name": "x"}}
    save_training(tmp_path / "c.pt", state)
    weights, models = tmp_path / "w", tmp_path / "m"
    weights.mkdir()
    models.mkdir()
    release(tmp_path / "c.pt", "tiny", weights, models)
    assert find_model("tiny", weights).name == "tiny.safetensors"
    graph = find_model("tiny", models)
    entry = read_manifest(models)["tiny"]
    assert entry["weights_sha256"] == sha256_of(weights / "tiny.safetensors")
    assert entry["images_seen"] == 9
    stored = {t.data_type for t in onnx.load(graph).graph.initializer if len(t.dims) == 4}
    assert onnx.TensorProto.FLOAT16 in stored
    assert graph.stat().st_size < 0.7 * 4 * sum(p.numel() for p in model.parameters()) + 100_000


def test_the_manifests_of_the_packages_are_true():
    import hscaunet.weights
    import runtime.models

    for package in (hscaunet.weights, runtime.models):
        folder = Path(package.__file__).parent
        for name, entry in read_manifest(folder).items():
            assert sha256_of(folder / entry["file"]) == entry["sha256"], name
            assert find_model(name, folder).is_file()


def test_a_release_that_fails_leaves_the_old_one_consistent(tmp_path, monkeypatch):
    from export import onnx as module
    from hscaunet.checkpoints import save_training

    model = HSCAUNet(4)
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


def test_a_release_can_hold_back_a_lone_hint(tmp_path, tiny_checkpoint, monkeypatch):
    import export.onnx as module

    folder = tmp_path / "out"
    folder.mkdir()
    monkeypatch.setattr(module, "export", lambda _, output, **__: output.write_bytes(b"") and [])
    release(tiny_checkpoint, "less", folder, folder, lone_hint=(0.75, 40.0), lone_near=4.5)
    prior = load_checkpoint(folder / "less.safetensors").model.prior
    assert (prior.lone_hint, prior.lone_near) == (0.75, 4.5)
    assert float(prior.log_few.detach().exp()) == pytest.approx(40)
    for wrong in ((1.5, 40.0), (0.5, 0.0), (0.5, float("nan"))):
        with pytest.raises(ModelError, match="--lone-hint"):
            release(tiny_checkpoint, "wrong", folder, folder, lone_hint=wrong)
    for wrong in (-1.0, float("nan")):
        with pytest.raises(ModelError, match="--lone-near"):
            release(tiny_checkpoint, "wrong", folder, folder, lone_near=wrong)
    assert not list(folder.glob("wrong*"))


def test_a_release_can_diffuse_in_more_steps(tmp_path, tiny_checkpoint, monkeypatch):
    import export.onnx as module

    monkeypatch.setattr(module, "export", lambda _, output, **__: output.write_bytes(b"") and [])
    release(tiny_checkpoint, "more", tmp_path, tmp_path, steps=(1, 1, 3, 3, 1))
    more = load_checkpoint(tmp_path / "more.safetensors").model
    assert more.grid.diffusion.steps == (1, 1, 3, 3, 1)
    release(tiny_checkpoint, "same", tmp_path, tmp_path)
    same = load_checkpoint(tmp_path / "same.safetensors").model
    assert same.grid.diffusion.steps == load_checkpoint(tiny_checkpoint).model.grid.diffusion.steps
    assert all(torch.equal(v, more.state_dict()[k]) for k, v in same.state_dict().items())
    plain = HSCAUNet(4)
    save_release(tmp_path / "plain.safetensors", plain, {})
    with pytest.raises(ModelError, match="does not diffuse"):
        release(tmp_path / "plain.safetensors", "no", tmp_path, tmp_path, steps=(1, 1, 1, 1, 1))


def test_a_release_can_damp_the_correction(tmp_path, tiny_checkpoint, monkeypatch):
    import export.onnx as module

    folder = tmp_path / "out"
    folder.mkdir()
    # The ONNX file is another test's; half a minute is saved.
    monkeypatch.setattr(module, "export", lambda _, output, **__: output.write_bytes(b"") and [])
    release(tiny_checkpoint, "half", folder, folder, correction=0.5)
    paths = tiny_checkpoint, folder / "half.safetensors", tiny_checkpoint
    full, half, none = (load_checkpoint(p).model for p in paths)
    with torch.inference_mode():
        for p in none.outc.parameters():
            p[:2] = 0
        x = torch.from_numpy(check_inputs()["80x144"])
        full, half, none = full(x), half(x), none(x)
    assert (full - none).abs().max() > 1e-3
    assert torch.allclose(half - none, (full - none) / 2, atol=2e-4)
