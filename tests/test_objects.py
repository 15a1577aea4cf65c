import io
import tarfile

import cv2
import numpy as np
import pytest
import torch

from hscaunet.data.photos import DataError
from hscaunet.data.things import encode_labels
from hscaunet.evaluate import main
from hscaunet.evaluation.objects import (
    CLICKS,
    LABELS,
    cases,
    evaluate_objects,
    load_objects,
    predict_alone,
    score,
)
from runtime.layout import NEUTRAL, normalize_ab


def picture():
    """Two clear things on grey, of 1/8 and 1/16 of the photo; a third too small, a fourth grey."""
    rgb = np.full((128, 160, 3), 120, np.uint8)
    labels = np.ones((128, 160), np.uint16)
    for number, color, place in (
        (2, (190, 60, 50), np.s_[20:84, 10:50]),
        (3, (60, 90, 200), np.s_[20:84, 60:80]),
        (4, (40, 180, 60), np.s_[100:108, 100:110]),
        (5, (140, 140, 140), np.s_[20:84, 100:140]),
    ):
        rgb[place], labels[place] = color, number
    return rgb, labels


@pytest.fixture(scope="module")
def objects(tmp_path_factory):
    """A tar file of three such photos with their label maps."""
    path = tmp_path_factory.mktemp("objects") / "objects.tar"
    rgb, labels = picture()
    with tarfile.open(path, "w") as tar:
        for i in range(3):
            photo = bytes(cv2.imencode(".jpg", rgb[:, :: (-1) ** i, ::-1], [1, 95])[1])
            for name, data in (
                (f"{i}.jpg", photo),
                (f"{i}.png", encode_labels(labels[:, :: (-1) ** i])),
            ):
                entry = tarfile.TarInfo(name)
                entry.size = len(data)
                tar.addfile(entry, io.BytesIO(data))
    return path


class Painter:
    """Knows the things: paints the mean of the hints on those they lie on, or on everything."""

    def __init__(self, labels, floods):
        self.name, self.labels, self.floods = "painter", torch.from_numpy(labels.copy()), floods

    def predict(self, x):
        out = torch.full_like(x[:, 1:3], NEUTRAL)
        on = x[0, 3] > 0
        if on.any():
            where = torch.isin(self.labels, self.labels[on]) | self.floods
            out[0, :, where] = x[0, 1:3, on].mean(1, keepdim=True)
        return out


def test_photos_come_with_their_label_maps(objects, tmp_path):
    photos = load_objects([objects])
    assert [p.name for p in photos] == ["0", "1", "2"]
    assert photos[0].lab.shape == (1, 3, 256, 256)
    assert set(np.unique(photos[0].labels)) == {1, 2, 3, 4, 5}
    assert len(load_objects([objects], 2)) == 2
    cv2.imwrite(str(tmp_path / "x.jpg"), picture()[0])
    with pytest.raises(DataError, match=r"no label map x\.png"):
        load_objects([tmp_path])
    (tmp_path / "empty").mkdir()
    with pytest.raises(DataError, match="no photos for objects"):
        load_objects([tmp_path / "empty"])


def test_cases_are_things_worth_a_click_with_hints_inside_them(objects):
    photo = load_objects([objects])[0]
    guess = torch.zeros(1, 2, 256, 256)
    found = list(cases(photo, 0, guess))
    assert [c.task for c in found] == ["true", "turned"] * 2
    assert {c.thing for c in found} == {2, 3}  # neither the tiny one nor what is grey as guessed
    for case in found:
        mask = torch.zeros(256, 256, dtype=torch.bool)
        for k in CLICKS:
            x = case.inputs[k]
            on = x[0, 3] > 0
            assert not (on & ~case.inside).any()
            assert 25 <= int(on.sum()) <= 25 * k
            assert bool((on >= mask).all())  # the first of five are the three
            mask = on
            truth = normalize_ab(case.truth)[0][:, on]
            assert float((x[0, 1:3][:, on] - truth).abs().mean()) < 0.01
        outside = ~case.inside
        assert torch.equal(case.truth[0][:, outside], photo.lab[0, 1:][:, outside])
    true, turned = found[0], found[1]
    a, b = (c.truth[0][:, c.inside].mean(1) for c in (true, turned))
    assert float(a.norm()) == pytest.approx(float(b.norm()), rel=0.01)
    assert float(torch.dot(a, b) / a.norm() / b.norm()) < 0.05  # by 90 to 270 degrees
    again = next(cases(photo, 0, guess))
    assert torch.equal(again.inputs[5], true.inputs[5])
    # A method that guesses a thing right has no case for it.
    right = guess.clone()
    right[0][:, photo.labels == 2] = photo.lab[0, 1:][:, photo.labels == 2]
    assert {c.thing for c in cases(photo, 0, right)} == {3}


def test_what_took_spilled_and_harmed(objects):
    photos = load_objects([objects])
    photo = photos[0]
    guess = torch.zeros(1, 2, 256, 256)
    case = list(cases(photo, 0, guess))[1]
    inside = case.inside
    perfect = torch.where(inside, case.truth, guess)
    assert score(case, guess, guess) == {"took": 0.0, "spill": 0.0, "harmed": 0.0}
    found = score(case, guess, perfect)
    assert found["took"] == pytest.approx(1)
    assert (found["spill"], found["harmed"]) == (0, 0)
    flood = case.truth[0][:, inside].mean(1)[None, :, None, None].expand_as(guess)
    found = score(case, guess, flood)
    assert found["spill"] == pytest.approx(1, abs=0.05)
    assert found["harmed"] == 1
    # Harm is growth by more than 5 % of the error outside, of one of at least 4 ab^2.
    before = float((guess - case.truth)[0][:, ~inside].square().mean())
    for share, harmed in ((0.03, 0.0), (0.07, 1.0)):
        worse = perfect + (case.truth - perfect) * (
            1 - (1 + share * max(before, 4) / before) ** 0.5
        )
        assert score(case, guess, worse)["harmed"] == harmed


def test_a_painter_of_things_beats_a_flood(objects):
    photos = load_objects([objects], 1)
    rows = [
        evaluate_objects([Painter(photos[0].labels.astype(np.int64), floods)], photos)
        for floods in (False, True)
    ]
    for row in rows[0]:
        assert row["cases"] == 2
        assert row["took"] > 0.95
        assert row["spill"] < 0.01
        assert row["harmed"] == 0
    assert {r["protocol"] for r in rows[0]} == set(LABELS)
    assert all(r["spill"] > 0.9 and r["harmed"] == 1 for r in rows[1])
    nothing = predict_alone(Painter(photos[0].labels.astype(np.int64), True), photos[0])
    assert nothing.abs().max() < 1e-3


def test_the_command_measures_objects_beside_floors(objects, tiny_checkpoint, tmp_path, capsys):
    report, sheet = tmp_path / "r.json", tmp_path / "s.png"
    options = ["--data", str(objects), "--protocols", "objects", "--floors", "grey", "kernel"]
    drawn = ["--sheet", str(sheet), "--sheet-photos", "2", "--photos", "2"]
    assert main([str(tiny_checkpoint), *options, *drawn, "--json", str(report)]) == 0
    said = capsys.readouterr().out
    assert "took / spill (medians) / harmed" in said
    assert "| kernel " in said
    height, width = cv2.imread(str(sheet)).shape[:2]
    assert width > 4 * height * 0.8
    again = ["--floors", "--beside", str(report), "--photos", "2"]
    assert main([str(tiny_checkpoint), *options[:4], *again]) == 0
    assert "| kernel " in capsys.readouterr().out
    with pytest.raises(SystemExit):
        main([*options, "--protocols", "objects", "zhang"])
    assert "in a command of its own" in capsys.readouterr().err
