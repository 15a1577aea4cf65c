import io
import tarfile

import cv2
import numpy as np
import pytest
import torch
from conftest import colorful

from hscaunet.data.photos import DataError
from hscaunet.data.things import decode_labels, encode_labels, fit_labels, read_labels, segment
from hscaunet.segment import main
from hscaunet.tensors import lab_from_rgb
from hscaunet.training.block import PhotoBlock
from hscaunet.training.clicks import MOST, choose_things, click
from hscaunet.training.losses import thing_losses


def generator(seed=0):
    return torch.Generator().manual_seed(seed)


def two_things(n=1, side=64):
    """Grey-brown pictures with a thing of 1/8 of them (1), another of 1/16 (2), and no thing."""
    labels = torch.zeros(n, side, side, dtype=torch.uint8)
    labels[:, : side // 2, : side // 4] = 1
    labels[:, side // 2 :, -side // 8 :] = 2
    rgb = torch.tensor([0.5, 0.4, 0.3])[None, :, None, None].expand(n, 3, side, side)
    return lab_from_rgb(rgb.contiguous()), labels


def test_things_of_different_colours_are_told_apart_by_their_colours():
    rgb = np.zeros((96, 128, 3), np.uint8)
    rgb[:, :64], rgb[:, 64:] = (180, 60, 50), (60, 90, 170)
    labels = segment(rgb)
    assert labels.dtype == np.uint16
    assert labels.min() >= 1
    assert len(np.unique(labels[8:-8, 8:56])) == 1
    assert labels[20, 20] != labels[20, 100]


def test_label_maps_go_through_png_and_are_refused_otherwise(tmp_path):
    labels = np.arange(48 * 64, dtype=np.uint16).reshape(48, 64) * 7
    assert np.array_equal(decode_labels(encode_labels(labels), "x"), labels)
    for bad in (b"", b"nothing", bytes(cv2.imencode(".png", colorful(8, 8))[1])):
        with pytest.raises(DataError, match="x is no label map"):
            decode_labels(bad, "x")
    with pytest.raises(DataError, match="No label maps"):
        read_labels([tmp_path])


def test_label_maps_are_fitted_to_their_photo_the_largest_things_first():
    labels = np.full((40, 60), 300, np.uint16)
    labels[:4, :4], labels[10:30, 10:20], labels[:, 50:] = 9, 40000, 0
    fitted = fit_labels(labels, 20, 30)
    assert fitted.shape == (20, 30)
    assert fitted.dtype == np.uint8
    assert [fitted[19, 0], fitted[8, 8], fitted[0, 0], fitted[0, 29]] == [1, 2, 3, 0]
    with pytest.raises(DataError, match="does not fit its photo"):
        fit_labels(labels, 30, 20)
    many = np.arange(400, dtype=np.uint16).reshape(20, 20) + 1
    assert fit_labels(np.kron(many, np.ones((2, 2), np.uint16)), 40, 40).max() == 255


def test_a_stopped_segmentation_goes_on_where_it_was(photo_folder, tmp_path, capsys):
    whole, broken = tmp_path / "whole.tar", tmp_path / "broken.tar"
    command = ["--data", str(photo_folder), "--out"]
    assert main([*command, str(whole)]) == 0
    assert "8 label maps added" in capsys.readouterr().out
    data = whole.read_bytes()
    with tarfile.open(whole) as tar:
        fourth = tar.getmembers()[3]
    broken.write_bytes(data[: fourth.offset_data + 10])  # killed within the fourth
    assert main([*command, str(broken)]) == 0
    assert "5 label maps added" in capsys.readouterr().out
    ours, theirs = read_labels([broken]), read_labels([whole])
    assert ours.keys() == theirs.keys()
    assert all(np.array_equal(ours[k], theirs[k]) for k in ours)
    assert main([*command, str(whole)]) == 0
    assert "0 label maps added" in capsys.readouterr().out


def test_photos_take_the_first_map_there_is_and_each_set_is_drawn_as_often(photo_folder, tmp_path):
    for name, keys in (("hand", (0, 1)), ("made", range(8))):
        with tarfile.open(tmp_path / f"{name}.tar", "w") as tar:
            for i in keys:
                labels = np.full((72 + 8 * i, 96), 5, np.uint16)
                labels[:, : 40 if name == "hand" else 60] = 0
                data = encode_labels(labels)
                entry = tarfile.TarInfo(f"deep/a_{i:03}.png")
                entry.size = len(data)
                tar.addfile(entry, io.BytesIO(data))
    maps = [tmp_path / "hand.tar", tmp_path / "made.tar"]
    block = PhotoBlock.load([photo_folder], things=maps)
    assert block.mapped == 8
    weight = block.thing_weight
    assert float(weight[:2].sum()) == pytest.approx(float(weight[2:].sum()))
    starts = [int(s) for s in block.label_start]
    rows = [block.labels[s : s + 96].nonzero().numel() for s in starts]
    assert rows == [56, 56] + [36] * 6
    assert PhotoBlock.load([photo_folder], things=maps[:1]).mapped == 2


def test_things_are_chosen_among_those_of_a_size_that_people_click():
    _, labels = two_things(200)
    labels[:, :3, 40:43] = 3  # too small
    things = choose_things(labels, generator())
    first, second = things[:, 0].float().mean((1, 2)), things[:, 1].float().mean((1, 2))
    assert {round(float(a), 4) for a in first} == {1 / 8, 1 / 16}
    assert not (things[:, 0] & things[:, 1]).any()
    assert bool((first + second == 3 / 16).all())
    share = float((first == 1 / 8).float().mean())
    assert 0.45 < share < 0.7  # in proportion to the root of the area
    lonely = torch.where(labels == 1, labels, torch.zeros_like(labels))
    assert not choose_things(lonely, generator())[:, 1].any()
    assert choose_things(torch.zeros_like(labels), generator())[:, 0].all()


def test_clicks_lie_inside_their_things_and_nowhere_else():
    lab, labels = two_things(200)
    clicked = click(lab, labels, 0.0, generator())
    assert not (clicked.mask & ~(clicked.inside > 0)).float().mean() > 0.002  # a wide patch may
    assert bool(clicked.mask.flatten(1).any(1).all())
    both = clicked.inside.flatten(1).mean(1) > 0.18
    assert 0.1 < float(both.float().mean()) < 0.4
    # Where two things are clicked, each has a hint.
    on = [(clicked.mask[:, 0] & (labels == k)).flatten(1).any(1) for k in (1, 2)]
    assert bool((on[0] & on[1])[both].all())
    assert torch.equal(clicked.ab, lab[:, 1:]) or (clicked.ab - lab[:, 1:]).abs().max() < 0.05
    assert not clicked.repainted.any()
    pixels = clicked.mask.flatten(1).sum(1)
    assert int(pixels.min()) >= 1
    assert int(pixels.max()) <= MOST * 49


def test_repainted_things_change_and_the_rest_stays():
    lab, labels = two_things(200)
    clicked = click(lab, labels, 1.0, generator())
    assert clicked.repainted.all()
    change = (clicked.ab - lab[:, 1:]).norm(dim=1, keepdim=True)
    inner = clicked.inside > 0
    far = torch.nn.functional.max_pool2d(clicked.inside, 5, 1, 2) == 0
    assert float(change[far.expand_as(change)].max()) < 0.05
    assert float((change * inner).sum() / inner.sum()) > 8
    # The hints say the new colour.
    on = clicked.mask
    said = (clicked.hint - clicked.ab).norm(dim=1, keepdim=True)[on]
    assert float(said.median()) < 0.5
    again = click(lab, labels, 1.0, generator())
    assert torch.equal(again.ab, clicked.ab)
    assert torch.equal(again.mask, clicked.mask)


def test_what_clicks_are_judged_by():
    inside = torch.zeros(1, 1, 32, 32)
    inside[..., :8] = 1
    guess, truth = torch.zeros(1, 2, 32, 32), 40 * inside.expand(1, 2, -1, -1)
    repainted = torch.ones(1)

    def loss(thing, rest, painted=repainted, growth=6.0):
        predicted = thing * truth + rest * (1 - inside)
        return float(thing_losses(predicted, guess, truth, inside, painted, 2.0, 2.0, growth))

    assert loss(1, 0) < loss(0.5, 0) < loss(0, 0)
    assert loss(1, 0) < loss(1, 2) < loss(1, 8)
    # What spills counts for more where the thing was repainted: there it tells of nothing else.
    assert loss(1, 2, 0 * repainted) < loss(1, 2)
    # Growth of the error outside counts in proportion: its logarithm would give in.
    assert loss(1, 8) - loss(1, 8, growth=0) > 10 * (loss(1, 2) - loss(1, 2, growth=0)) > 0
    predicted = torch.zeros(1, 2, 32, 32, requires_grad=True)
    thing_losses(predicted, guess, truth, inside, repainted, 2.0, 2.0, 6.0).sum().backward()
    assert torch.isfinite(predicted.grad).all()


def test_two_photos_of_one_name_are_not_given_one_map(tmp_path, capsys):
    for folder in ("food", "cat"):
        (tmp_path / "photos" / folder).mkdir(parents=True)
        cv2.imwrite(str(tmp_path / "photos" / folder / "42.jpg"), colorful(64, 64))
    assert main(["--data", str(tmp_path / "photos"), "--out", str(tmp_path / "t.tar")]) == 1
    assert "two photos of the name 42" in capsys.readouterr().err
    (tmp_path / "maps").mkdir()
    cv2.imwrite(str(tmp_path / "maps" / "42.png"), np.ones((64, 64), np.uint16))
    with pytest.raises(DataError, match="Two photos have the name 42"):
        PhotoBlock.load([tmp_path / "photos"], things=[tmp_path / "maps"])


def test_a_file_that_is_no_tar_is_left_as_it_is(photo_folder, tmp_path, capsys):
    other = tmp_path / "photo.jpg"
    other.write_bytes(b"\xff\xd8" + bytes(range(256)) * 8)
    before = other.read_bytes()
    assert main(["--data", str(photo_folder), "--out", str(other)]) == 1
    assert "is no tar file; name another --out" in capsys.readouterr().err
    assert other.read_bytes() == before
