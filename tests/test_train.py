import itertools
import json
import signal
import subprocess
import sys
import time
from dataclasses import replace

import pytest
import torch
from conftest import ROOT, run_python
from hscaunet.backbone import find_backbone, read_backbone
from hscaunet.network import HSCAUNet
from hscaunet.recipes import RECIPES, learning_rate, step_seed

from hscaunet import train
from hscaunet.checkpoints import load_checkpoint, load_training, save_release, save_training
from hscaunet.train import main


def arguments(data, out, *more):
    prior = () if "--prior" in more or "--backbone" in more else ("--no-prior",)
    return [
        *("--data", str(data), "--out", str(out), "--width", "4", "--batch", "4", "--size", "32"),
        *("--device", "cpu", "--grid-images", "16", "--seed", "5", "--threads", "1"),
        *(*prior, *more),
    ]


def test_a_run_killed_with_9_and_resumed_ends_as_an_unbroken_one(photo_folder, tmp_path):
    common = ["--images", "240", "--checkpoint-every", "0"]
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
    assert 0 < load_training(tmp_path / "broken" / left[0])["seen"] < 240
    assert main(arguments(photo_folder, tmp_path / "broken", *common, "--resume")) == 0
    whole = load_training(tmp_path / "whole" / "last.pt")
    broken = load_training(tmp_path / "broken" / "last.pt")
    assert whole["seen"] == broken["seen"] == 240
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


@pytest.mark.parametrize(("recipe", "form"), [("published", "published"), ("clicks", "published")])
def test_recipes_and_forms_train_and_load(photo_folder, tmp_path, recipe, form):
    more = ["--recipe", recipe, "--form", form, "--images", "12"]
    assert main(arguments(photo_folder, tmp_path / "run", *more)) == 0
    checkpoint = load_checkpoint(tmp_path / "run" / "last.pt")
    assert checkpoint.model.form == form
    assert checkpoint.metadata["images_seen"] == 12
    assert checkpoint.metadata["recipe"]["name"] == recipe


def test_validation_figures_and_speed_are_logged(photo_folder, tmp_path):
    out = tmp_path / "run"
    more = ["--images", "24", "--val", str(photo_folder), "--val-photos", "2", "--log-every", "0"]
    assert main(arguments(photo_folder, out, *more)) == 0
    rows = [json.loads(line) for line in (out / "log.jsonl").read_text().splitlines()]
    assert {"seen", "loss", "lr", "images_per_s"} <= rows[0].keys()
    assert rows[0]["phase"] == "grid"
    figures = rows[-1]["validation"]
    assert 5 < figures["published 0.5 % psnr"] < 60
    assert 0 < figures["zhang N=10 ssim"] <= 1


def test_the_interpolation_learns_first_then_is_held(photo_folder, tmp_path):
    out = tmp_path / "run"
    assert main(arguments(photo_folder, out, "--images", "16")) == 0
    first = load_training(out / "last.pt")
    assert not first["model"]["outc.conv.weight"].any()
    assert main(arguments(photo_folder, out, "--images", "32", "--resume")) == 0
    second = load_training(out / "last.pt")
    assert second["model"]["outc.conv.weight"].any()
    assert torch.equal(
        first["model"]["grid.passes.1.log_lambda"], second["model"]["grid.passes.1.log_lambda"]
    )
    assert not torch.equal(first["model"]["grid.passes.1.log_lambda"], torch.full((6,), 0.2).log())


def test_the_prior_learns_before_the_network_and_its_backbone_never(photo_folder, tmp_path):
    out = tmp_path / "run"
    phases = ("--grid-images", "4", "--guess-images", "8", "--prior-images", "8", "--prior")
    states = []
    for images in ("4", "12", "20", "28"):
        more = ("--images", images, *phases, *(("--resume",) if states else ()))
        assert main(arguments(photo_folder, out, *more)) == 0
        states.append(load_training(out / "last.pt")["model"])

    def moved(part):
        names = [
            n for n in states[0] if n.startswith(part) and "running" not in n and "num" not in n
        ]
        pairs = itertools.pairwise(states)
        return [any(not torch.equal(a[n], b[n]) for n in names) for a, b in pairs]

    assert moved("prior.mix") == [True, True, False]
    assert moved("prior.guide") == [False, True, False]
    assert moved("grid.") == [False, True, False]
    assert moved("prior.backbone") == [False, False, False]
    assert moved("up1.") == [False, False, True]
    # What is held keeps its statistics too.
    key = "prior.mix.0.1.running_mean"
    assert not torch.equal(states[0][key], states[1][key])
    assert torch.equal(states[2][key], states[3][key])
    backbone = read_backbone(find_backbone())
    assert all(torch.equal(v, states[3][f"prior.backbone.{k}"]) for k, v in backbone.items())


def rates_of(state):
    """Learning rates of the groups of parameters, as shares of the largest."""
    rates = [group["lr"] for group in state["optimizer"]["param_groups"]]
    return {rate / max(rates) for rate in rates}


@pytest.mark.parametrize("rate", [0.0, 0.5])
def test_all_parts_may_learn_together(photo_folder, tmp_path, rate):
    init = HSCAUNet(4, "guided", steps=(1, 1, 1, 1, 1))
    init.prior.backbone.load_state_dict(read_backbone(find_backbone()))
    torch.nn.init.normal_(init.prior.out.weight, std=0.02)
    save_release(tmp_path / "init.safetensors", init, {"images_seen": 0})
    before = load_checkpoint(tmp_path / "init.safetensors").model.state_dict()
    more = ("--init", str(tmp_path / "init.safetensors"), "--prior", "--grid-images", "0")
    more += ("--images", "8", "--joint", "--backbone-rate", str(rate), "--steps", *"11211")
    assert main(arguments(photo_folder, tmp_path / "run", *more)) == 0
    state = load_training(tmp_path / "run" / "last.pt")
    assert state["config"]["steps"] == [1, 1, 2, 1, 1]
    moved = {k.partition(".")[0] for k, v in state["model"].items()
             if "num" not in k and not torch.equal(v, before[k])}  # fmt: skip
    assert {"grid", "prior", "outc"} <= moved
    key = "prior.backbone.blocks.0.project.0.weight"
    assert torch.equal(state["model"][key], before[key]) == (rate == 0)
    # The loss of the guess without hints is there, too.
    assert not torch.equal(state["model"]["prior.guess.weight"], before["prior.guess.weight"])
    assert rates_of(state) == ({1.0, 0.5} if rate else {1.0})


def test_the_rate_of_the_backbone_belongs_to_the_recipe(photo_folder, tmp_path):
    prior = ("--prior", "--grid-images", "0", "--guess-images", "0", "--prior-images", "99")
    run, common = tmp_path / "run", ("--images", "8", *prior)
    assert main(arguments(photo_folder, run, *common, "--backbone-rate", "0.5")) == 0
    more = ("--resume", *prior, "--images", "16", "--backbone-rate", "0.25")
    assert main(arguments(photo_folder, run, *more)) == 0
    assert rates_of(load_training(run / "last.pt")) == {1.0, 0.25}


def test_parts_of_the_unet_can_be_held(photo_folder, tmp_path, capsys, caplog):
    init = HSCAUNet(4, "guided", prior=False)
    torch.nn.init.normal_(init.outc.conv.weight)
    save_release(tmp_path / "init.safetensors", init, {"images_seen": 0})
    before = load_checkpoint(tmp_path / "init.safetensors").model.state_dict()
    more = ("--init", str(tmp_path / "init.safetensors"), "--images", "8", "--grid-images", "0")
    resumed = ("--images", "12", "--grid-images", "0", "--resume")
    hold = ("--hold", "down4", "up1")
    assert main(arguments(photo_folder, tmp_path / "run", *more, *hold)) == 0
    assert main(arguments(photo_folder, tmp_path / "run", *resumed)) == 0
    state = load_training(tmp_path / "run" / "last.pt")
    assert state["recipe"]["hold"] == ("down4", "up1")
    for part in ("model", "ema"):  # BatchNorm's statistics, too
        moved = {k.partition(".")[0] for k, v in state[part].items()
                 if "num" not in k and not torch.equal(v, before[k])}  # fmt: skip
        assert {"inc", "down3", "up2", "outc"} <= moved
        assert not moved & {"down4", "up1"}
    with pytest.raises(SystemExit):
        main(arguments(photo_folder, tmp_path / "other", *more, "--hold", "prior"))
    assert "choose from" in capsys.readouterr().err
    assert main(arguments(photo_folder, tmp_path / "run", *resumed, "--hold", "up1")) == 0
    assert "the optimizer begins anew" in caplog.text
    assert main(arguments(photo_folder, tmp_path / "all", *more, "--hold", *train._UNET)) == 1
    assert "nothing is left to learn" in capsys.readouterr().err


@pytest.mark.skipif(not torch.cuda.is_available(), reason="replays a step on a GPU")
@pytest.mark.parametrize("joint", [(), ("--prior", "--joint")])
def test_a_replayed_step_is_the_step(photo_folder, tmp_path, joint):
    common = ("--device", "cuda", "--amp", "off", "--grid-images", "0", "--guess-images", "0")
    common += ("--prior-images", "0", "--lr", "0.01", "--cooldown", "0", *joint)
    states = []
    for name in ("--replay", "--no-replay"):
        for more in (("--images", "40"), ("--images", "80", "--resume")):
            assert main(arguments(photo_folder, tmp_path / name, *common, name, *more)) == 0
        states.append(load_training(tmp_path / name / "last.pt")["model"])
    one, other = states
    for key, value in one.items():  # statistics and their counters, too
        assert torch.allclose(value.float(), other[key].float(), rtol=1e-2, atol=1e-3), key
    assert one["outc.conv.weight"].abs().max() > 0.02  # it began at 0


def test_replaying_without_a_gpu_is_refused(photo_folder, tmp_path, capsys):
    assert main(arguments(photo_folder, tmp_path / "run", "--images", "4", "--replay")) == 1
    assert "--replay is for one process with a GPU" in capsys.readouterr().err


def test_losses_read_now_and_then_are_the_same(photo_folder, tmp_path, monkeypatch, capsys):
    common = ("--images", "40", "--grid-images", "0")
    assert main(arguments(photo_folder, tmp_path / "each", *common)) == 0
    monkeypatch.setitem(train._LOSSES, "cpu", 4)
    assert main(arguments(photo_folder, tmp_path / "four", *common)) == 0
    states = [load_training(tmp_path / name / "last.pt")["model"] for name in ("each", "four")]
    assert all(torch.equal(value, states[1][key]) for key, value in states[0].items())
    whole = train.Trainer._gradients

    def broken(self, *inputs):
        return whole(self, *inputs) * (float("nan") if self.step == 5 else 1)

    monkeypatch.setattr(train.Trainer, "_gradients", broken)
    bad = tmp_path / "bad"
    assert main(arguments(photo_folder, bad, *common)) == 1
    assert "after 32 images" in capsys.readouterr().err
    assert not (bad / "last.pt").exists()
    # Looked at before each save.
    assert main(arguments(photo_folder, bad, *common, "--checkpoint-every", "0")) == 1
    assert "after 24 images" in capsys.readouterr().err
    assert load_training(bad / "last.pt")["seen"] == 20


def test_what_is_compiled(photo_folder, tmp_path, monkeypatch):
    compiled = []

    def compile_(what, **_):
        compiled.append(getattr(what, "__name__", type(what).__name__))
        return what

    monkeypatch.setattr(torch, "compile", compile_)
    phases = ("--grid-images", "4", "--guess-images", "4", "--prior-images", "4", "--prior")
    out = tmp_path / "run"
    assert main(arguments(photo_folder, out, "--images", "16", *phases, "--compile")) == 0
    # In bf16 on a CPU the U-Net turns NaN when it is compiled as one: nine and four blocks.
    parts = ["find", "step", "carry"]
    assert compiled == ["picture_losses", *parts, *["_call_impl"] * 13, *parts]


def test_a_prior_is_added_to_a_network_that_has_none(photo_folder, tmp_path, capsys):
    old = HSCAUNet(4, "guided", prior=False)
    save_release(tmp_path / "old.safetensors", old, {"images_seen": 0})
    common = ("--images", "4", "--guess-images", "4", "--init", str(tmp_path / "old.safetensors"))
    assert main(arguments(photo_folder, tmp_path / "plain", *common)) == 0
    assert not load_training(tmp_path / "plain" / "last.pt")["config"]["prior"]
    assert main(arguments(photo_folder, tmp_path / "run", *common, "--prior")) == 0
    assert load_training(tmp_path / "run" / "last.pt")["config"]["prior"]
    assert main(arguments(photo_folder, tmp_path / "run", "--resume")) == 1
    assert "--no-prior does not fit the run" in capsys.readouterr().err


def test_a_run_may_start_from_a_network_of_half_its_width(photo_folder, tmp_path, capsys):
    narrow = HSCAUNet(2, "guided", prior=False)
    torch.nn.init.normal_(narrow.outc.conv.weight)
    save_release(tmp_path / "narrow.safetensors", narrow, {"images_seen": 0})
    common = ("--images", "4", "--init", str(tmp_path / "narrow.safetensors"), "--lr", "0")
    assert main(arguments(photo_folder, tmp_path / "run", *common, "--width", "4")) == 0
    state = load_training(tmp_path / "run" / "last.pt")
    assert state["config"]["width"] == 4
    pairs = state["model"]["outc.conv.weight"].chunk(2, 1)
    assert torch.allclose(sum(pairs), narrow.outc.conv.weight.half().float(), atol=1e-6)
    assert main(arguments(photo_folder, tmp_path / "other", *common, "--width", "8")) == 1
    assert "--width 8 does not fit" in capsys.readouterr().err


def test_the_planes_of_the_prior_can_be_added(photo_folder, tmp_path, capsys):
    old = HSCAUNet(4, "guided")
    save_release(tmp_path / "old.safetensors", old, {"images_seen": 0})
    init = ("--images", "12", "--init", str(tmp_path / "old.safetensors"), "--prior")
    init += ("--grid-images", "0")
    assert main(arguments(photo_folder, tmp_path / "plain", *init)) == 0
    assert not load_training(tmp_path / "plain" / "last.pt")["config"]["show_prior"]
    assert main(arguments(photo_folder, tmp_path / "run", *init, "--show-prior")) == 0
    state = load_training(tmp_path / "run" / "last.pt")
    assert state["config"]["show_prior"]
    assert state["model"]["inc.double_conv.0.weight"][:, -16:].any()
    new = ("--images", "4", "--grid-images", "1", "--guess-images", "1", "--prior-images", "1")
    for out, more in (("new", ()), ("none", ("--no-show-prior",))):
        assert main(arguments(photo_folder, tmp_path / out, *new, "--prior", *more)) == 0
        config = load_training(tmp_path / out / "last.pt")["config"]
        assert config["show_prior"] is (out == "new")
    resume = ("--prior", "--no-show-prior", "--resume")
    assert main(arguments(photo_folder, tmp_path / "run", *resume)) == 1
    assert "--no-show-prior does not fit the run" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("more", "message"),
    [
        (["--form", "published", "--prior"], "Only the guided form has a prior"),
        (["--no-prior", "--backbone", "x.pth"], "--backbone is for a new prior"),
        (["--prior", "--guess-images", "0", "--prior-images", "0"], "A new prior must learn"),
    ],
)
def test_options_of_a_prior_that_do_not_fit_are_refused(
    photo_folder, tmp_path, capsys, more, message
):
    assert main(arguments(photo_folder, tmp_path / "run", "--images", "4", *more)) == 1
    assert message in capsys.readouterr().err


def test_parts_that_are_not_there_take_no_photos(photo_folder, tmp_path, caplog):
    more = ("--images", "8", "--guess-images", "4", "--grid-images", "4")
    assert main(arguments(photo_folder, tmp_path / "a", *more)) == 0
    assert "no such part: --guess-images" in caplog.text
    assert load_training(tmp_path / "a" / "last.pt")["recipe"]["guess_images"] == 0
    assert main(arguments(photo_folder, tmp_path / "b", *more, "--form", "published")) == 0
    assert load_training(tmp_path / "b" / "last.pt")["recipe"]["grid_images"] == 0
    assert "before the U-Net" not in caplog.text
    assert main(arguments(photo_folder, tmp_path / "c", "--images", "8")) == 0
    assert "before the U-Net begins to learn at 16" in caplog.text


def test_a_file_that_is_no_backbone_is_refused(photo_folder, tmp_path, capsys, tiny_checkpoint):
    more = ("--images", "4", "--prior", "--backbone")
    for i, path in enumerate((tiny_checkpoint, tmp_path / "none.pth")):
        assert main(arguments(photo_folder, tmp_path / f"run{i}", *more, str(path))) == 1
        assert str(path) in capsys.readouterr().err


def test_augmentation_and_weight_decay_belong_to_the_recipe(photo_folder, tmp_path):
    more = ("--hue-share", "0.5", "--contrast", "0.2", "--weight-decay", "0.1")
    common = ("--images", "48", "--grid-images", "0")
    runs = {"plain": common, "changed": (*common, *more), "decayed": (*common, *more[4:])}
    states = {}
    for name, options in runs.items():
        assert main(arguments(photo_folder, tmp_path / name, *options)) == 0
        states[name] = load_training(tmp_path / name / "last.pt")
    recipe = states["changed"]["recipe"]
    assert (recipe["hue_share"], recipe["contrast"], recipe["weight_decay"]) == (0.5, 0.2, 0.1)
    key = "down4.maxpool_conv.1.double_conv.3.weight"
    sizes = {name: float(state["model"][key].norm()) for name, state in states.items()}
    assert sizes["decayed"] < sizes["plain"]
    assert not torch.equal(states["changed"]["model"][key], states["decayed"]["model"][key])
    # Resumed with another decay, it is that one that counts.
    out = tmp_path / "decayed"
    resumed = ("--resume", "--images", "64", "--weight-decay", "5")
    assert main(arguments(photo_folder, out, *resumed)) == 0
    groups = load_training(out / "last.pt")["optimizer"]["param_groups"]
    assert [group["weight_decay"] for group in groups] == [5.0, 0.0]
    # Killed and resumed, the changes are drawn as they would have been.
    out = tmp_path / "half"
    assert main(arguments(photo_folder, out, *common, *more, "--time-limit", "0")) == 0
    assert load_training(out / "last.pt")["seen"] == 4
    assert main(arguments(photo_folder, out, "--resume", *common)) == 0
    assert torch.equal(
        load_training(out / "last.pt")["model"][key], states["changed"]["model"][key]
    )


def test_a_run_of_an_older_release_is_refused_in_a_sentence(photo_folder, tmp_path, capsys):
    out = tmp_path / "run"
    assert main(arguments(photo_folder, out, "--images", "8", "--grid-images", "0")) == 0
    state = load_training(out / "last.pt")
    whole = state["optimizer"]["param_groups"]
    whole[:] = [{**whole[0], "params": [n for group in whole for n in group["params"]]}]
    save_training(out / "last.pt", state)
    more = ("--images", "16", "--grid-images", "0", "--resume")
    assert main(arguments(photo_folder, out, *more)) == 1
    assert "start a new run" in capsys.readouterr().err


@pytest.mark.parametrize(
    "option",
    [
        ("--hue-share", "50"),
        ("--contrast", "nan"),
        ("--weight-decay", "-1"),
        ("--dense-share", "1.1"),
    ],
)
def test_changes_of_photos_have_limits(photo_folder, tmp_path, capsys, option):
    with pytest.raises(SystemExit):
        main(arguments(photo_folder, tmp_path / "run", *option))
    assert f"{option[0]} must" in capsys.readouterr().err


def test_a_time_limit_stops_with_a_checkpoint(photo_folder, tmp_path):
    out = tmp_path / "run"
    assert main(arguments(photo_folder, out, "--images", "100000", "--time-limit", "0.02")) == 0
    assert 0 < load_training(out / "last.pt")["seen"] < 100_000


def test_the_published_schedule_and_the_cooldown():
    published = RECIPES["published"]
    rates = [learning_rate(published, e * 10_000, 10_000) for e in (0, 185, 186, 286, 324, 337)]
    assert rates == [5e-4, 5e-4, 5e-5, 5e-6, 5e-8, 5e-8]
    assert (published.batch, published.betas) == (32, (0.5, 0.999))
    from dataclasses import replace

    clicks = replace(RECIPES["clicks"], images=100_000, cooldown=20_000, grid_images=0)
    prior = replace(clicks, guess_images=30_000, prior_images=15_000)
    rates = [learning_rate(prior, seen, 1) for seen in (15_000, 25_000, 31_000, 42_500, 50_000)]
    assert rates == pytest.approx([2e-3, 1e-3, 1e-3, 5e-4, 1e-3])
    assert learning_rate(prior, 30_000, 1) < 1e-4
    clicks = replace(clicks, guess_images=0, prior_images=0)
    assert learning_rate(clicks, 50_000, 1) == clicks.lr
    assert learning_rate(clicks, 90_000, 1) == pytest.approx(clicks.lr / 2)
    assert learning_rate(clicks, 0, 1) < clicks.lr / 10


def test_two_processes_train_together(photo_folder, tmp_path):
    """Through all phases: each has gradients of its own to share."""
    out = tmp_path / "run"
    phases = ("--images", "40", "--prior", "--guess-images", "8", "--prior-images", "8")
    result = run_python(
        *("-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"),
        *("-m", "hscaunet.train", *arguments(photo_folder, out, *phases)),
        OMP_NUM_THREADS="1",
        GLOO_SOCKET_IFNAME="lo",
    )
    assert result.returncode == 0, result.stderr[-2000:]
    state = load_training(out / "last.pt")
    assert (state["seen"], state["step"]) == (40, 10)


def test_a_wrong_crop_size_is_refused(tmp_path, capsys):
    with pytest.raises(SystemExit):
        main(["--data", "x", "--out", str(tmp_path), "--size", "100"])
    assert "multiple of 16" in capsys.readouterr().err


def test_seeds_make_a_difference_however_large():
    numbers = [(0, 0, 0), (1, 0, 0), (0, 1, 0), (0, 0, 1), (20261122, 5, 1), (1 << 40, 5, 1)]
    seeds = {step_seed(*n) for n in numbers}
    assert len(seeds) == len(numbers)
    assert all(0 <= seed < 1 << 32 for seed in seeds)
    draws = {torch.rand(1, generator=torch.Generator().manual_seed(seed)).item() for seed in seeds}
    assert len(draws) == len(numbers)


def test_the_published_recipe_trains_the_published_form(photo_folder, tmp_path):
    more = ["--recipe", "published", "--images", "8"]
    assert main(arguments(photo_folder, tmp_path / "run", *more)) == 0
    assert load_training(tmp_path / "run" / "last.pt")["config"]["form"] == "published"


def test_fine_tuning_takes_the_network_of_its_weights(photo_folder, tmp_path, tiny_checkpoint):
    common = ["--data", str(photo_folder), "--batch", "4", "--size", "32", "--images", "8"]
    common += ["--device", "cpu", "--grid-images", "0", "--init", str(tiny_checkpoint)]
    common += ["--guess-images", "0", "--prior-images", "0"]
    assert main([*common, "--out", str(tmp_path / "run")]) == 0
    state = load_training(tmp_path / "run" / "last.pt")
    assert state["config"]["width"] == 8
    before = load_checkpoint(tiny_checkpoint).model.state_dict()
    moved = (state["model"]["outc.conv.weight"] - before["outc.conv.weight"]).abs().max()
    assert 0 < moved < 0.02


@pytest.mark.parametrize(
    ("more", "message"),
    [
        (["--width", "8"], "--width 8 does not fit the run"),
        (["--form", "published"], "--form published does not fit the run"),
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


def test_dense_hints_and_rates_belong_to_the_recipe(photo_folder, tmp_path, capsys):
    out = tmp_path / "run"
    more = ("--pixels", "0.5", "0.25", "--ssim-weight", "0", "--prior-lr", "2e-4")
    assert main(arguments(photo_folder, out, "--images", "4", *more)) == 0
    assert main(arguments(photo_folder, out, "--images", "8", "--resume")) == 0
    recipe = load_training(out / "last.pt")["recipe"]
    assert (recipe["pixels"], recipe["ssim_weight"]) == ((0.5, 0.25), 0)
    recipe = replace(RECIPES["clicks"], prior_lr=2e-4)
    assert learning_rate(recipe, 100_000, 10) == 2e-4
    with pytest.raises(SystemExit):
        main(arguments(photo_folder, out, "--pixels", "0"))
    assert "--pixels must be probabilities" in capsys.readouterr().err
    with pytest.raises(SystemExit):
        main(arguments(photo_folder, out, "--steps", "1", "1", "1", "1", "-1"))
    assert "--steps must not be negative" in capsys.readouterr().err


@pytest.mark.parametrize("option", ["--width", "--batch", "--images", "--threads"])
def test_zero_is_refused(tmp_path, capsys, option):
    with pytest.raises(SystemExit):
        main(["--data", "x", "--out", str(tmp_path), option, "0"])
    assert "at least 1" in capsys.readouterr().err
