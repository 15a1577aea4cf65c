import json
import signal
import subprocess
import sys
import time
from dataclasses import fields, replace

import cv2
import numpy as np
import pytest
import torch
from conftest import ROOT, run_python

from hscaunet import train
from hscaunet.checkpoints import load_checkpoint, load_training, save_training
from hscaunet.model.backbone import find_backbone, read_backbone
from hscaunet.train import build_parser, main
from hscaunet.training import loop
from hscaunet.training.options import RECIPES, OptionError, Options, step_seed

_TINY = ("--widths", "8", "8", "8", "8")


def arguments(data, out, *more):
    return [
        *("--data", str(data), "--out", str(out), "--batch", "4", "--size", "32", "--amp", "off"),
        *("--device", "cpu", "--seed", "5", "--threads", "1", "--warm", "1", "--cooldown", "0"),
        *(*_TINY, *more),
    ]


PUBLISHED = ("--form", "published", "--width", "4", "--loss", "published")


@pytest.fixture(scope="module")
def label_maps(photo_folder, tmp_path_factory):
    """A thing in the middle of each photo."""
    folder = tmp_path_factory.mktemp("maps")
    for i in range(8):
        labels = np.full((72 + 8 * i, 96), 1, np.uint16)
        labels[20:50, 30:60], labels[50:70, 60:90] = 2, 3
        cv2.imwrite(str(folder / f"a_{i:03}.png"), labels)
    return folder


def test_a_run_killed_with_9_and_resumed_ends_as_an_unbroken_one(
    photo_folder, label_maps, tmp_path
):
    common = ["--images", "100", "--checkpoint-every", "0", "--things", str(label_maps)]
    assert main(arguments(photo_folder, tmp_path / "whole", *common)) == 0
    command = [sys.executable, "-m", "hscaunet.train"]
    process = subprocess.Popen(
        [*command, *arguments(photo_folder, tmp_path / "broken", *common, "--log-every", "0")],
        cwd=ROOT,
        stderr=subprocess.DEVNULL,
    )
    log = tmp_path / "broken" / "log.jsonl"
    deadline = time.monotonic() + 120
    while time.monotonic() < deadline and process.poll() is None:
        if log.exists() and len(log.read_text().splitlines()) >= 12:
            break
        time.sleep(0.01)
    process.kill()
    process.wait()
    assert process.returncode == -signal.SIGKILL
    names = ("last.pt", "next.pt", "previous.pt")
    left = [p for p in names if (tmp_path / "broken" / p).exists()]
    assert 0 < load_training(tmp_path / "broken" / left[0])["seen"] < 100
    assert main(arguments(photo_folder, tmp_path / "broken", *common, "--resume")) == 0
    whole = load_training(tmp_path / "whole" / "last.pt")
    broken = load_training(tmp_path / "broken" / "last.pt")
    assert whole["seen"] == broken["seen"] == 100
    for part in ("model", "ema"):
        for key, value in whole[part].items():
            assert torch.equal(value, broken[part][key]), (part, key)


def test_resuming_survives_a_cut_checkpoint(photo_folder, tmp_path, caplog):
    out = tmp_path / "run"
    assert main(arguments(photo_folder, out, "--images", "40", "--checkpoint-every", "0")) == 0
    data = (out / "last.pt").read_bytes()
    (out / "last.pt").write_bytes(data[: len(data) // 3])
    assert main(arguments(photo_folder, out, "--images", "48", "--resume")) == 0
    assert "cut short" in caplog.text
    # The damaged file did not take the place of the good one before.
    assert load_training(out / "previous.pt")["seen"] == 36
    assert load_training(out / "last.pt")["seen"] == 48


def test_resuming_what_cannot_be_resumed_says_so(photo_folder, tmp_path, capsys):
    out = tmp_path / "run"
    out.mkdir()
    (out / "last.pt").write_bytes(b"junk")
    assert main(arguments(photo_folder, out, "--resume")) == 1
    assert "nothing to resume" in capsys.readouterr().err
    assert main(arguments(photo_folder, out)) == 1
    assert "add --resume" in capsys.readouterr().err
    assert main(arguments(photo_folder, out, "--resume", str(tmp_path / "no.pt"))) == 1
    assert "no checkpoint" in capsys.readouterr().err
    assert main(arguments(tmp_path / "none", tmp_path / "new")) == 1
    assert "does not exist" in capsys.readouterr().err


@pytest.mark.parametrize(("recipe", "more"), [("published", ("--width", "4")), ("clicks", ())])
def test_recipes_train_and_load(photo_folder, label_maps, tmp_path, recipe, more):
    more = ["--recipe", recipe, "--images", "12", "--things", str(label_maps), *more]
    assert main(arguments(photo_folder, tmp_path / "run", *more)) == 0
    checkpoint = load_checkpoint(tmp_path / "run" / "last.pt")
    assert checkpoint.model.form == ("published" if recipe == "published" else "guided")
    assert checkpoint.metadata["images_seen"] == 12
    assert checkpoint.metadata["recipe"]["form"] == checkpoint.model.form


def test_validation_figures_and_speed_are_logged(photo_folder, tmp_path):
    out = tmp_path / "run"
    more = ["--images", "12", "--val", str(photo_folder), "--val-photos", "2", "--log-every", "0"]
    assert main(arguments(photo_folder, out, *more)) == 0
    rows = [json.loads(line) for line in (out / "log.jsonl").read_text().splitlines()]
    assert {"seen", "loss", "lr", "images_per_s"} <= rows[0].keys()
    figures = rows[-1]["validation"]
    assert 5 < figures["published 0.5 % psnr"] < 60
    assert 0 < figures["zhang N=10 ssim"] <= 1


@pytest.mark.parametrize("rate", [0.0, 0.5])
def test_all_parts_learn_together_and_the_backbone_at_its_own_rate(
    photo_folder, label_maps, tmp_path, rate
):
    out = tmp_path / "run"
    more = ("--images", "12", "--backbone-rate", str(rate), "--things", str(label_maps))
    assert main(arguments(photo_folder, out, *more)) == 0
    state = load_training(out / "last.pt")
    backbone = read_backbone(find_backbone())
    same = all(torch.equal(v, state["model"][f"photo.backbone.{k}"]) for k, v in backbone.items())
    assert same == (rate == 0)
    torch.manual_seed(5)
    from hscaunet import build_network

    before = build_network(state["config"]).state_dict()
    changed = [k for k, v in state["model"].items() if not torch.equal(v, before[k])]
    moved = {k.partition(".")[0] for k in changed if "num" not in k and "backbone" not in k}
    assert moved == {"photo", "affinity", "unet", "diffusion", "detail"}
    groups = state["optimizer"]["param_groups"]
    lrs = {round(group["lr"] / RECIPES["clicks"].lr, 3) for group in groups}
    assert lrs == ({1.0, 0.5} if rate else {1.0})
    # Resumed, the rate may be another, since it belongs to the options.
    assert main(arguments(photo_folder, out, "--images", "16", "--resume", *more[2:])) == 0


def test_without_label_maps_hints_lie_all_over_and_it_is_said(photo_folder, tmp_path, caplog):
    assert main(arguments(photo_folder, tmp_path / "run", "--images", "4")) == 0
    assert "Without --things" in caplog.text
    facts = load_training(tmp_path / "run" / "last.pt")["facts"]
    assert facts["mapped"] == 0


@pytest.mark.skipif(not torch.cuda.is_available(), reason="replays a step on a GPU")
def test_a_replayed_step_is_the_step(photo_folder, label_maps, tmp_path, monkeypatch):
    common = ("--device", "cuda", "--lr", "0.01", "--cooldown", "0", "--things", str(label_maps))
    states = []
    for name in ("replayed", "plain"):
        if name == "plain":
            monkeypatch.setattr(loop, "Replay", lambda compute, keep: compute)
        for more in (("--images", "40"), ("--images", "80", "--resume")):
            assert main(arguments(photo_folder, tmp_path / name, *common, *more)) == 0
        states.append(load_training(tmp_path / name / "last.pt")["model"])
    one, other = states
    for key, value in one.items():  # statistics and their counters, too
        assert torch.allclose(value.float(), other[key].float(), rtol=1e-2, atol=1e-3), key


def test_losses_read_now_and_then_are_the_same(photo_folder, tmp_path, monkeypatch, capsys):
    common = ("--images", "40", *PUBLISHED)
    assert main(arguments(photo_folder, tmp_path / "each", *common)) == 0
    monkeypatch.setitem(loop._LOSSES, "cpu", 4)
    assert main(arguments(photo_folder, tmp_path / "four", *common)) == 0
    states = [load_training(tmp_path / name / "last.pt")["model"] for name in ("each", "four")]
    assert all(torch.equal(value, states[1][key]) for key, value in states[0].items())
    whole = loop.Learner._gradients

    def broken(self, *inputs):
        return whole(self, *inputs) * (float("nan") if self.run.step == 5 else 1)

    monkeypatch.setattr(loop.Learner, "_gradients", broken)
    bad = tmp_path / "bad"
    assert main(arguments(photo_folder, bad, *common)) == 1
    assert "after 32 images" in capsys.readouterr().err
    assert not (bad / "last.pt").exists()
    # Looked at before each save.
    assert main(arguments(photo_folder, bad, *common, "--checkpoint-every", "0")) == 1
    assert "after 32 images" in capsys.readouterr().err
    assert load_training(bad / "last.pt")["seen"] == 16


def test_the_loss_and_what_is_no_convolution_can_be_compiled(photo_folder, tmp_path, monkeypatch):
    compiled = []

    def compile_(what, **_):
        compiled.append(what.__name__)
        return what

    monkeypatch.setattr(torch, "compile", compile_)
    monkeypatch.setattr(
        torch.nn.Module, "compile", lambda part: compiled.append(type(part).__name__)
    )
    for name, options in (("published", PUBLISHED), ("clicks", ())):
        more = ("--images", "4", "--compile", *options)
        assert main(arguments(photo_folder, tmp_path / name, *more)) == 0
    assert compiled == ["loss_of", "loss_of", "Interpolation", "Affinity", "Diffusion"]


def test_a_run_may_start_from_weights_that_fit_in_part(
    photo_folder, tmp_path, tiny_checkpoint, caplog, capsys
):
    more = ("--images", "4", "--init", str(tiny_checkpoint), "--lr", "0", "--weight-decay", "0")
    assert main(arguments(photo_folder, tmp_path / "run", *more)) == 0
    assert "these begin anew: affinity" in caplog.text
    ours = load_training(tmp_path / "run" / "last.pt")["model"]
    given = load_checkpoint(tiny_checkpoint).model.state_dict()
    for key in ("photo.guess8.weight", "unet.down1.conv.weight", "photo.guess4.weight"):
        assert torch.equal(ours[key], given[key]) == (ours[key].shape == given[key].shape)
    assert ours["unet.down1.conv.weight"].shape != given["unet.down1.conv.weight"].shape
    none = ("--images", "4", "--init", str(tiny_checkpoint), *PUBLISHED)
    assert main(arguments(photo_folder, tmp_path / "none", *none)) == 1
    assert "leave --init out" in capsys.readouterr().err


def test_a_file_that_is_no_backbone_is_refused(photo_folder, tmp_path, capsys, tiny_checkpoint):
    for i, path in enumerate((tiny_checkpoint, tmp_path / "none.pth")):
        more = ("--images", "4", "--backbone", str(path))
        assert main(arguments(photo_folder, tmp_path / f"run{i}", *more)) == 1
        assert str(path) in capsys.readouterr().err
    more = ("--images", "4", "--backbone", "x", *PUBLISHED)
    assert main(arguments(photo_folder, tmp_path / "run", *more)) == 1
    assert "--backbone is for" in capsys.readouterr().err


def test_options_belong_to_the_checkpoint(photo_folder, tmp_path):
    more = ("--hue-share", "0.5", "--contrast", "0.2", "--weight-decay", "9")
    common = ("--images", "48", "--form", "published", "--width", "4")
    runs = {"plain": common, "changed": (*common, *more), "decayed": (*common, *more[4:])}
    states = {}
    for name, options in runs.items():
        assert main(arguments(photo_folder, tmp_path / name, *options)) == 0
        states[name] = load_training(tmp_path / name / "last.pt")
    recipe = states["changed"]["recipe"]
    assert (recipe["hue_share"], recipe["contrast"], recipe["weight_decay"]) == (0.5, 0.2, 9)
    key = "down4.maxpool_conv.1.double_conv.3.weight"
    sizes = {name: float(state["model"][key].norm()) for name, state in states.items()}
    assert sizes["decayed"] < sizes["plain"]
    assert not torch.equal(states["changed"]["model"][key], states["decayed"]["model"][key])
    # Resumed with another decay, it is that one that counts.
    out = tmp_path / "decayed"
    resumed = ("--resume", "--images", "64", "--weight-decay", "5", *common[2:])
    assert main(arguments(photo_folder, out, *resumed)) == 0
    groups = load_training(out / "last.pt")["optimizer"]["param_groups"]
    assert sorted(group["weight_decay"] for group in groups) == [0.0, 5.0]
    # Killed and resumed, the changes are drawn as they would have been.
    out = tmp_path / "half"
    assert main(arguments(photo_folder, out, *common, *more, "--time-limit", "0")) == 0
    assert load_training(out / "last.pt")["seen"] == 4
    assert main(arguments(photo_folder, out, "--resume", *common)) == 0
    assert torch.equal(
        load_training(out / "last.pt")["model"][key], states["changed"]["model"][key]
    )


def test_a_run_of_an_older_release_is_refused_in_a_sentence(photo_folder, tmp_path, capsys):
    out, common = tmp_path / "run", ("--form", "published", "--width", "4")
    assert main(arguments(photo_folder, out, "--images", "8", *common)) == 0
    whole = load_training(out / "last.pt")
    groups = whole["optimizer"]["param_groups"]
    merged = [{**groups[0], "params": [n for group in groups for n in group["params"]]}]
    for change in (
        {"optimizer": {**whole["optimizer"], "param_groups": merged}},
        {"recipe": {"name": "clicks", "grid_images": 4}},
    ):
        save_training(out / "last.pt", {**whole, **change})
        assert main(arguments(photo_folder, out, "--images", "16", "--resume", *common)) == 1
        assert "start a new run" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("option", "message"),
    [
        (("--hue-share", "50"), "--hue-share must be at most 1"),
        (("--contrast", "nan"), "--contrast must be at least 0"),
        (("--weight-decay", "-1"), "--weight-decay must be at least 0"),
        (("--dense-share", "1.1"), "--dense-share must be at most 1"),
        (("--thing-share", "-0.1"), "--thing-share must be at least 0"),
        (("--size", "100"), "multiple of 16"),
        (("--pixels", "0"), "--pixels must be probabilities"),
        (("--betas", "0.9"), "--betas are two"),
        (("--schedule", "1"), "pairs of an epoch"),
        (("--form", "x"), "--form must be guided or published"),
        (("--loss", "x"), "--loss must be picture or published"),
        (("--images", "0"), "--images must be at least 1"),
        (("--batch", "0"), "--batch must be at least 1"),
        (("--widths", "8", "8"), "four whole numbers"),
    ],
)
def test_options_have_limits(photo_folder, tmp_path, capsys, option, message):
    assert main(arguments(photo_folder, tmp_path / "run", *option)) == 1
    assert message in capsys.readouterr().err
    assert not (tmp_path / "run").exists()


def test_every_option_is_on_the_command_line_with_a_word_of_help(capsys):
    with pytest.raises(SystemExit):
        build_parser().parse_args(["--help"])
    said = capsys.readouterr().out
    for one in fields(Options):
        assert f"--{one.name.replace('_', '-')} " in said
        assert len(one.metadata["help"]) > 5


def test_options_are_checked_wherever_they_are_made():
    with pytest.raises(OptionError, match="--batch must be at least 1"):
        Options(batch=0)


def test_a_time_limit_stops_with_a_checkpoint(photo_folder, tmp_path):
    out = tmp_path / "run"
    more = ("--images", "100000", "--time-limit", "0.02", *PUBLISHED)
    assert main(arguments(photo_folder, out, *more)) == 0
    assert 0 < load_training(out / "last.pt")["seen"] < 100_000


def test_the_published_schedule_and_the_cooldown():
    published = RECIPES["published"]
    rates = [published.learning_rate(e * 10_000, 10_000) for e in (0, 185, 186, 286, 324, 337)]
    assert rates == [5e-4, 5e-4, 5e-5, 5e-6, 5e-8, 5e-8]
    assert (published.batch, published.betas) == (32, (0.5, 0.999))
    clicks = replace(RECIPES["clicks"], images=100_000, cooldown=20_000)
    assert clicks.learning_rate(50_000, 1) == clicks.lr
    assert clicks.learning_rate(90_000, 1) == pytest.approx(clicks.lr / 2)
    assert clicks.learning_rate(0, 1) < clicks.lr / 10


def test_two_processes_train_together(photo_folder, label_maps, tmp_path):
    out = tmp_path / "run"
    more = ("--images", "24", "--things", str(label_maps))
    result = run_python(
        *("-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"),
        *("-m", "hscaunet.train", *arguments(photo_folder, out, *more)),
        OMP_NUM_THREADS="1",
        GLOO_SOCKET_IFNAME="lo",
    )
    assert result.returncode == 0, result.stderr[-2000:]
    state = load_training(out / "last.pt")
    assert (state["seen"], state["step"]) == (24, 6)


def test_seeds_make_a_difference_however_large():
    numbers = [(0, 0, 0), (1, 0, 0), (0, 1, 0), (0, 0, 1), (20261122, 5, 1), (1 << 40, 5, 1)]
    seeds = {step_seed(*n) for n in numbers}
    assert len(seeds) == len(numbers)
    assert all(0 <= seed < 1 << 32 for seed in seeds)
    draws = {torch.rand(1, generator=torch.Generator().manual_seed(seed)).item() for seed in seeds}
    assert len(draws) == len(numbers)


@pytest.mark.parametrize(
    ("more", "message"),
    [
        (["--form", "published"], "keeps its network"),
        (["--recipe", "published"], "leave --recipe out"),
        (["--device", "cuda"], "no CUDA device"),
        (["--device", "nonsense"], "no device"),
    ],
)
def test_options_that_do_not_fit_are_refused(photo_folder, tmp_path, capsys, more, message):
    out = tmp_path / "run"
    assert main(arguments(photo_folder, out, "--images", "4")) == 0
    assert main(arguments(photo_folder, out, "--resume", *more)) == 1
    assert message in capsys.readouterr().err


def test_resuming_with_other_photos_is_said(photo_folder, tmp_path, caplog):
    out = tmp_path / "run"
    assert main(arguments(photo_folder, out, "--images", "4")) == 0
    assert main(arguments(photo_folder, out, "--images", "8", "--limit", "3", "--resume")) == 0
    assert "drawn otherwise" in caplog.text


def test_sources_can_be_weighed(photo_folder, tmp_path, capsys):
    out, more = tmp_path / "run", ("--images", "4", "--weigh")
    assert main(arguments(photo_folder, out, *more, "a=2")) == 0
    assert load_training(out / "last.pt")["facts"]["weigh"] == {"a": 2.0}
    assert main(arguments(photo_folder, tmp_path / "b", *more, "moon=2")) == 1
    assert "no source 'moon' to weigh" in capsys.readouterr().err
    for wrong in ("moon", "=2", "moon=-1", "moon=inf", "moon=x"):
        with pytest.raises(SystemExit):
            main(arguments(photo_folder, out, *more, wrong))
        assert "--weigh" in capsys.readouterr().err


@pytest.mark.parametrize("option", ["--threads", "--limit", "--val-photos"])
def test_zero_is_refused(tmp_path, capsys, option):
    with pytest.raises(SystemExit):
        main(["--data", "x", "--out", str(tmp_path), option, "0"])
    assert "at least 1" in capsys.readouterr().err


def test_memory_is_kept_once_for_the_process(monkeypatch):
    """Only on Linux, and only where there is glibc: elsewhere nothing happens."""
    monkeypatch.setattr(sys, "platform", "darwin")
    train.keep_freed_memory()
