import json
import pickle

import pytest
import torch
from conftest import stir, tiny_network

from hscaunet import PublishedNet, load_checkpoint, read_published
from hscaunet.checkpoints import load_training, save_release, save_training
from runtime import ModelError


def published_state(width=64):
    """A state dict of the shape that the authors published, filled at random."""
    torch.manual_seed(0)
    model = PublishedNet(width, "spatial")
    stir(model)
    state = {}
    for key, value in model.state_dict().items():
        state[key.replace("conv_1by1.conv.", "conv_1by1.")] = value
        if key.endswith(".ch.conv1.weight"):
            state[f"ch{key[2]}.conv1.weight"] = value
    return model, state


@pytest.mark.parametrize("wrapped", [False, True])
def test_the_published_checkpoint_is_read(tmp_path, wrapped):
    model, state = published_state()
    assert {"ch1.conv1.weight", "up1.ch.conv1.weight", "up4.conv_1by1.weight"} <= state.keys()
    if wrapped:
        state = {"state_dict": {f"module.{k}": v for k, v in state.items()}}
    torch.save(state, tmp_path / "net.pth")
    read = load_checkpoint(tmp_path / "net.pth").model
    assert (read.width, read.form, read.channel_attention) == (64, "published", "spatial")
    assert not read.training
    x = torch.rand(1, 4, 32, 48)
    with torch.inference_mode():
        assert torch.equal(read(x), model(x))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda s: s.pop("up2.sp.conv1.weight"), "lacks up2.sp"),
        (lambda s: s.pop("inc.double_conv.0.weight"), "inc.double_conv.0.weight"),
        (lambda s: s.update({"extra.weight": torch.zeros(1)}), "extra.weight"),
        (lambda s: s.update({"outc.conv.weight": torch.zeros(3, 8, 1, 1)}), "shape"),
        (lambda s: s.update({"ch3.conv1.weight": torch.zeros(1, 2, 7, 7)}), "second copy"),
        (lambda s: s.update({"note": "text"}), "not a state dict"),
    ],
)
def test_other_state_dicts_are_refused_by_name(change, message):
    _, state = published_state(8)
    change(state)
    with pytest.raises(ModelError, match=message):
        read_published(state)


def test_a_checkpoint_that_would_run_code_is_not_loaded(tmp_path):
    ran = tmp_path / "ran"

    class Evil:
        def __reduce__(self):
            return (open, (str(ran), "w"))

    with open(tmp_path / "evil.pt", "wb") as file:
        pickle.dump({"format": Evil()}, file)
    torch.save({"format": Evil()}, tmp_path / "evil2.pt")
    for name in ("evil.pt", "evil2.pt"):
        with pytest.raises(ModelError, match="evil"):
            load_checkpoint(tmp_path / name)
    assert not ran.exists()


def test_damaged_checkpoints_say_so(tmp_path):
    path = tmp_path / "c.pt"
    with pytest.raises(ModelError, match="no checkpoint"):
        load_training(path)
    state = {"seen": 1, "ema": {"a": torch.zeros(5000)}, "config": {}, "recipe": {}}
    save_training(path, state | {"ema": [1]})
    with pytest.raises(ModelError, match="without weights in its ema"):
        load_training(path)
    save_training(path, state)
    assert load_training(path)["seen"] == 1
    data = path.read_bytes()
    for length in (0, 10, len(data) // 2, len(data) - 10):
        path.write_bytes(data[:length])
        with pytest.raises(ModelError, match=r"cut short|damaged"):
            load_training(path)
    torch.save({"a": 1}, path)
    with pytest.raises(ModelError, match="not a training checkpoint"):
        load_training(path)
    for content in (b"", b"junk" * 100, data):
        (tmp_path / "w.safetensors").write_bytes(content)
        with pytest.raises(ModelError, match="safetensors"):
            load_checkpoint(tmp_path / "w.safetensors")


def test_releasing_keeps_the_function_in_training_and_in_evaluation(tmp_path):
    model = tiny_network()
    released = save_release(tmp_path / "w.safetensors", model, {"name": "tiny", "images_seen": 3})
    x = torch.rand(2, 4, 32, 32)
    with torch.inference_mode():
        # fp16 weights: half a unit in the eleventh bit each.
        assert (released(x) - model(x)).abs().max() < 5e-3
        assert (released.train()(x) - model.train()(x)).abs().max() < 5e-3
    again = load_checkpoint(tmp_path / "w.safetensors")
    assert again.metadata == {"name": "tiny", "images_seen": 3}
    assert again.model.config == model.config
    for block in (*again.model.unet.up1.conv, *again.model.photo.fine):
        conv, norm = block[0], block[1]
        assert torch.equal(conv.weight, conv.weight.half().float())
        scale = norm.weight / torch.sqrt(norm.running_var + norm.eps)
        assert torch.allclose(scale, torch.ones_like(scale), atol=1e-6)


def test_a_release_without_our_header_or_with_other_weights_is_refused(tmp_path):
    from safetensors.torch import save_file

    save_file({"a": torch.zeros(1)}, tmp_path / "w.safetensors")
    with pytest.raises(ModelError, match="no weights of this project"):
        load_checkpoint(tmp_path / "w.safetensors")
    config = json.dumps({"form": "published", "width": 8})
    header = {"format": "hscaunet-weights-1", "config": config, "metadata": "{}"}
    save_file({"a": torch.zeros(1)}, tmp_path / "w.safetensors", header)
    with pytest.raises(ModelError, match="does not hold the weights"):
        load_checkpoint(tmp_path / "w.safetensors")


def test_a_network_with_nan_is_not_released(tmp_path):
    model = PublishedNet(8)
    with torch.no_grad():
        model.outc.conv.bias[0] = float("nan")
    with pytest.raises(ModelError, match="NaN"):
        save_release(tmp_path / "w.safetensors", model, {})
    assert not (tmp_path / "w.safetensors").exists()


def test_checkpoints_with_the_right_marker_and_odd_content_are_refused(tmp_path):
    path = tmp_path / "c.pt"
    marker = {"format": "hscaunet-training-1"}
    good = {
        **marker,
        "config": {"form": "published", "width": 4},
        "recipe": {},
        "ema": {},
        "seen": 1,
    }
    for content in (
        marker,
        {**marker, "config": {"form": "published", "width": 4}},
        good,
        {**good, "config": {"form": "published", "width": -1}},
        {**good, "config": {"nonsense": 1}},
        {0: torch.zeros(1)},
        {"inc.double_conv.0.weight": torch.zeros(0, 4, 3, 3)},
        [1, 2],
    ):
        torch.save(content, path)
        with pytest.raises(ModelError):
            load_checkpoint(path)
