import json

import numpy as np
import pytest
import torch
from conftest import colorful

from hscaunet.data.hints import pack_input
from hscaunet.evaluate import main
from hscaunet.evaluation.baselines import Grey, Grid, Kernel, Levin
from hscaunet.evaluation.metrics import (
    color_difference,
    hint_difference,
    hint_range,
    join,
    present,
)
from hscaunet.evaluation.photos import made_worse, measure
from hscaunet.evaluation.protocols import Protocol
from hscaunet.evaluation.report import table
from runtime.color import lab_from_rgb
from runtime.layout import NEUTRAL


def packed(rgb, mask):
    lab = torch.from_numpy(np.moveaxis(lab_from_rgb(rgb), -1, 0).copy())[None]
    return pack_input(lab[:, :1], lab[:, 1:], torch.from_numpy(mask)[None, None])


def test_checkpoint_and_onnx_agree_and_floors_stand_beside(
    tiny_checkpoint, tiny_onnx, photo_folder, tmp_path, capsys
):
    options = ["--data", str(photo_folder), "--photos", "2", "--points", "0", "3"]
    options += ["--backend", "onnxruntime"]
    report = tmp_path / "r.json"
    models = [str(tiny_checkpoint), str(tiny_onnx)]
    assert main([*models, *options, "--json", str(report)]) == 0
    said = capsys.readouterr().out
    ours = f"{tiny_checkpoint.parent.name}/tiny (PyTorch)"
    assert "where the hints are" in said
    assert "(from N=0)" in said
    for name in ("grey", "Levin 2004", "kernel", "grid", ours):
        assert f"| {name} " in said
    document = json.loads(report.read_text())
    rows = {(r["method"], r["protocol"]): r for r in document["rows"]}
    assert {p for _, p in rows} == {
        *("published 0.5 %", "zhang N=0", "zhang N=3", "icolorit N=0", "icolorit N=3")
    }
    for (method, protocol), row in rows.items():
        assert len(row["photos"]) == 2
        assert (row["at_hints"] is None) == protocol.endswith("N=0")
        assert row["ciede2000"] > 0
        if method == ours:
            other = rows["tiny (onnxruntime fp32)", protocol]
            assert row["psnr"] == pytest.approx(other["psnr"], abs=0.01)
        if protocol.endswith("N=0") and method not in (ours, "tiny (onnxruntime fp32)"):
            assert row["psnr"] == pytest.approx(rows["grey", protocol]["psnr"])
    # An earlier report's methods can stand beside a new one on the same photos, and on no others.
    again = [models[0], "--floors", "--protocols", "published", "--beside", str(report)]
    assert main([*again, *options]) == 0
    assert "| Levin 2004 " in capsys.readouterr().out
    assert main([*again, *options, "--seed", "1"]) == 1
    assert "other photos" in capsys.readouterr().err


def test_bad_models_data_and_reports_say_so(tmp_path, photo_folder, capsys):
    data = ["--data", str(photo_folder)]
    assert main([str(tmp_path / "no.pt"), *data]) == 1
    assert "no checkpoint" in capsys.readouterr().err
    assert main([str(tmp_path / "no.onnx"), *data]) == 1
    assert "no model file" in capsys.readouterr().err
    assert main(["--data", str(tmp_path)]) == 1
    assert "No usable" in capsys.readouterr().err
    (tmp_path / "r.json").write_text("{}")
    assert main([*data, "--beside", str(tmp_path / "r.json")]) == 1
    assert "no report" in capsys.readouterr().err


def test_perfect_colours_score_the_ceiling():
    rgb = colorful(256, 256)
    lab = torch.from_numpy(np.moveaxis(lab_from_rgb(rgb), -1, 0).copy())[None]

    class Truth:
        name = "truth"

        def predict(self, x):
            return (lab[:, 1:] + 128) / 255

    figures = measure(Truth(), Protocol("published"), rgb, 0)
    assert figures["psnr"] > 60
    assert figures["ssim"] > 0.9999


@pytest.mark.parametrize("floor", [Grey(), Grid(), Levin(), Kernel()])
def test_floors_give_no_colour_without_hints(floor):
    rgb = colorful(64, 64)
    out = floor.predict(packed(rgb, np.zeros((64, 64), bool)))
    assert out.shape == (1, 2, 64, 64)
    assert torch.allclose(out, torch.full_like(out, NEUTRAL), atol=1e-6)


@pytest.mark.parametrize("floor", [Grid(), Levin(), Kernel()])
def test_floors_spread_one_hint_over_everything(floor):
    rgb = colorful(64, 64)
    mask = np.zeros((64, 64), bool)
    mask[20, 30] = True
    x = packed(rgb, mask)
    expected = x[:, 1:3, 20, 30][:, :, None, None].expand(1, 2, 64, 64)
    assert torch.allclose(floor.predict(x), expected, atol=1e-3)


@pytest.mark.parametrize("floor", [Levin(), Kernel()])
def test_floors_use_edges_of_L(floor):
    rgb = np.zeros((64, 64, 3), np.uint8)
    rgb[:, :32], rgb[:, 32:] = (90, 10, 10), (120, 160, 255)
    mask = np.zeros((64, 64), bool)
    mask[32, 5] = mask[32, 60] = True
    x = packed(rgb, mask)
    truth = packed(rgb, np.ones((64, 64), bool))[:, 1:3]
    assert float((floor.predict(x) - truth).abs().mean()) < 0.02


def test_levin_solves_its_own_equations():
    """Each free pixel is the weighted mean of its neighbours; each hint is kept."""
    rgb = colorful(32, 32)
    mask = np.zeros((32, 32), bool)
    mask[::7, ::9] = True
    x = packed(rgb, mask)
    out = Levin().predict(x)[0]
    assert torch.allclose(out[:, mask], x[0, 1:3][:, mask], atol=1e-6)
    assert float(out.min()) >= float(x[0, 1:3][:, mask].min()) - 1e-4
    assert float(out.max()) <= float(x[0, 1:3][:, mask].max()) + 1e-4


def test_differences_are_those_of_the_picture_and_at_the_hints():
    rgb = colorful(256, 256)
    protocol = Protocol("zhang", 3)
    L, x = present(protocol, rgb, 0)

    class Given:
        """The hints' own colour at the hints, grey elsewhere; or grey there as well."""

        def __init__(self, keeps):
            self.name, self.keeps = "given", keeps

        def predict(self, x):
            return x[:, 1:3] if self.keeps else torch.full_like(x[:, 1:3], NEUTRAL)

    kept, lost = (measure(Given(k), protocol, rgb, 0) for k in (True, False))
    assert kept["at_hints"] == pytest.approx(0, abs=1e-6)
    assert lost["at_hints"] > 3
    assert kept["ciede2000"] < lost["ciede2000"]
    truth = join(L, x[:, 1:3])
    assert color_difference(truth, truth) == 0
    assert np.isnan(measure(Given(True), Protocol("zhang", 0), rgb, 0)["at_hints"])
    assert 0 < hint_difference(join(L, x[:, 1:3] * 0.99), L, x) < 3


def test_photos_that_a_hint_makes_worse_are_counted():
    def row(method, protocol, *psnr):
        return {"method": method, "protocol": protocol, "photos": [{"psnr": p} for p in psnr]}

    rows = [
        row("a", "published 0.5 %", 9, 9, 9, 9),
        row("a", "zhang N=0", 1, 2, 3, 4),
        row("a", "zhang N=1", 2, 1, 3, 5),
        row("a", "zhang N=10", 3, 3, 2, 4),
        row("a", "icolorit N=0", 9, 9, 9, 9),
    ]
    other = [{**r, "method": "b", "photos": r["photos"][::-1]} for r in rows]
    mixed = [r for pair in zip(rows, other, strict=True) for r in pair]
    assert [w for w in made_worse(mixed) if w["method"] == "a"] == made_worse(rows)
    assert len(made_worse(mixed)) == 2 * len(made_worse(rows))
    assert made_worse(rows) == [
        {"method": "a", "protocol": "zhang N=1", "fewer": "zhang N=0", "share": 0.25},
        {"method": "a", "protocol": "zhang N=10", "fewer": "zhang N=1", "share": 0.5},
    ]


def test_the_table_is_markdown():
    rows = [
        {"method": "a", "protocol": "p", "psnr": 1, "ssim": 0.5},
        {"method": "long", "protocol": "p", "psnr": 22.222, "ssim": 0.99999},
    ]
    assert table(rows).splitlines() == [
        "| method | p              |",
        "|--------|----------------|",
        "| a      | 1.00 / 0.5000  |",
        "| long   | 22.22 / 1.0000 |",
    ]


def test_two_runs_newest_checkpoints_are_two_rows(tiny_checkpoint, photo_folder, tmp_path, capsys):
    import shutil

    paths = [tmp_path / run / "last.pt" for run in ("a", "b")]
    for path in paths:
        path.parent.mkdir()
        shutil.copy(tiny_checkpoint, path)
    options = ["--data", str(photo_folder), "--photos", "1", "--protocols", "published"]
    assert main([*map(str, paths), *options, "--floors"]) == 0
    said = capsys.readouterr().out
    assert "| a/last (PyTorch) " in said
    assert "| b/last (PyTorch) " in said


def test_a_device_that_is_not_there_is_refused(tiny_checkpoint, photo_folder, capsys):
    for device, message in (("cuda", "no CUDA device"), ("nonsense", "no device")):
        options = ["--data", str(photo_folder), "--device", device]
        assert main([str(tiny_checkpoint), *options]) == 1
        assert message in capsys.readouterr().err


def test_the_bundled_network_is_trained_and_beats_what_needs_no_training():
    """Three photos prove little of quality, but a placeholder in the weights' place fails here."""
    data = pytest.importorskip("skimage.data")
    from hscaunet.checkpoints import load_checkpoint
    from hscaunet.evaluation.method import TorchMethod
    from hscaunet.evaluation.photos import evaluate
    from hscaunet.weights import bundled_weights

    model = load_checkpoint(bundled_weights()).model
    protocols = [Protocol("published"), Protocol("zhang", 10), Protocol("zhang", 0)]
    methods = [TorchMethod("net", model), Grid(), Grey()]
    photos = [data.astronaut(), data.coffee(), data.chelsea()]
    rows = evaluate(methods, protocols, photos)
    rows += evaluate([Levin(), Kernel()], protocols[:1], photos)
    figures = {(r["protocol"], r["method"]): r for r in rows}
    for (protocol, method), row in figures.items():
        if method != "net":
            assert figures[protocol, "net"]["psnr"] > row["psnr"], (protocol, method)
    for floor in ("Levin 2004", "kernel", "grid", "grey"):
        ours, theirs = figures["published 0.5 %", "net"], figures["published 0.5 %", floor]
        assert ours["ssim"] > theirs["ssim"] + 0.005, floor


def test_how_far_a_hint_spreads():
    before = torch.full((1, 2, 64, 96), NEUTRAL)
    ab = before.clone()
    ab[0, 0, 10, 20:23] += 5 / 255  # at its place, one and two pixels beside it
    ab[0, 1, 40, 20] += 2 / 255  # nobody would see it
    assert hint_range(ab, before, (10, 20)) == pytest.approx(1.0)
    assert np.isnan(hint_range(before, before, (10, 20)))


def test_the_last_hint_is_the_one_that_spreads():
    rgb = colorful(256, 256)
    protocol = Protocol("zhang", 3)
    figures = measure(Kernel(), protocol, rgb, 0, spread=True)
    _, x = present(protocol, rgb, 0)
    before = present(Protocol("zhang", 2), rgb, 0)[1]
    new = torch.nonzero((x[0, 3] > 0) & (before[0, 3] == 0)).double().mean(0)
    place = protocol.places(256, 256, 0)[-1]
    assert np.abs(new.numpy() - place).max() <= 0.5
    changed = Kernel().predict(x), Kernel().predict(before)
    assert figures["hpr"] == pytest.approx(hint_range(*changed, place))
    assert np.isnan(measure(Kernel(), Protocol("zhang", 0), rgb, 0, spread=True)["hpr"])


def test_plot_and_contact_sheet_are_drawn(tiny_checkpoint, photo_folder, tmp_path, capsys):
    import cv2

    plot, sheet, report = (tmp_path / n for n in ("plot.png", "sheet.jpg", "r.json"))
    options = ["--data", str(photo_folder), "--photos", "4", "--floors", "kernel", "--hpr"]
    options += ["--protocols", "zhang", "--points", "0", "2", "--json", str(report)]
    drawn = ["--plot", str(plot), "--sheet", str(sheet), "--sheet-photos", "3"]
    assert main([str(tiny_checkpoint), *options, *drawn]) == 0
    assert " px |" in capsys.readouterr().out
    assert cv2.imread(str(plot)).std() > 5
    height, width = cv2.imread(str(sheet)).shape[:2]
    assert 0.55 < height / width < 0.7  # three rows of five squares
    reach = {r["protocol"]: r["hpr"] for r in json.loads(report.read_text())["rows"]}
    assert reach["zhang N=0"] is None
    assert 0 < reach["zhang N=2"] < 362
    dense = ["--protocols", "published", "--floors", "grey", "--plot", str(plot)]
    for wrong, message in (
        (dense, "measure zhang or icolorit"),
        (["--sheet", str(sheet)], "name one"),
        (["--plot", str(tmp_path / "plot.xyz")], "must end in"),
        (["--json", str(tmp_path / "none" / "r.json")], "does not exist"),
    ):
        with pytest.raises(SystemExit):
            main(["--data", str(photo_folder), *wrong])
        assert message in capsys.readouterr().err
