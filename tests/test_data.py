import logging
import tarfile

import cv2
import numpy as np
import pytest
import torch
from conftest import SHARED_PHOTOS, colorful

from hscaunet.data.hints import dense_pixels, pack_input, paint_patches
from hscaunet.data.photos import (
    DataError,
    center_square,
    iterate_files,
    load_photos,
    source_of,
)
from hscaunet.evaluation.protocols import Protocol, parse_protocols
from hscaunet.similarity import psnr, ssim
from hscaunet.tensors import lab_from_rgb, rgb_from_lab
from hscaunet.training.augmentation import Augmentation
from hscaunet.training.block import PhotoBlock
from hscaunet.training.everywhere import HintRecipe
from hscaunet.training.losses import picture_losses, published_loss
from runtime.hints import Hint, Hints
from runtime.images import encode_image, write_image
from runtime.layout import NEUTRAL
from runtime.layout import pack_input as pack_arrays


def generator(seed=0):
    return torch.Generator().manual_seed(seed)


def test_grey_and_broken_photos_are_left_out_and_named(photo_folder, caplog):
    with caplog.at_level(logging.WARNING):
        names = [name for name, _ in load_photos([photo_folder], short_side=64)]
    assert names == [f"a_{i:03}.png" for i in range(8)]
    assert "b_000.png is grey" in caplog.text
    assert "b_001.jpg is a damaged JPEG" in caplog.text


def test_tar_files_read_like_folders_and_a_cut_one_as_far_as_it_goes(
    photo_folder, tmp_path, caplog
):
    path = tmp_path / "p.tar"
    with tarfile.open(path, "w") as tar:
        for file in sorted(photo_folder.glob("a_*.png")):
            tar.add(file, file.name)
    from_tar = dict(load_photos([path], short_side=64))
    from_folder = dict(load_photos([photo_folder], short_side=64))
    assert from_tar.keys() == from_folder.keys()
    assert all(np.array_equal(from_tar[k], from_folder[k]) for k in from_tar)
    data = path.read_bytes()
    path.write_bytes(data[: len(data) // 2])
    with caplog.at_level(logging.WARNING):
        assert 0 < len(dict(load_photos([path], short_side=64))) < 8
    assert "cut short" in caplog.text


def test_a_compressed_tar_with_flipped_bits_does_not_stop_training(photo_folder, tmp_path, caplog):
    path = tmp_path / "p.tar.gz"
    with tarfile.open(path, "w:gz", compresslevel=1) as tar:
        for file in sorted(photo_folder.glob("a_*.png")):
            tar.add(file, file.name)
    data = bytearray(path.read_bytes())
    data[len(data) * 3 // 4] ^= 0xFF
    path.write_bytes(bytes(data))
    with caplog.at_level(logging.WARNING):
        assert len(dict(load_photos([path], short_side=64))) < 8
    assert caplog.text


def test_every_format_of_the_runtime_is_read(tmp_path):
    from PIL import Image

    for ending in ("avif", "gif", "jpg", "bmp", "tif", "webp"):
        Image.fromarray(colorful(48, 64)).save(tmp_path / f"x.{ending}")
    assert len(list(load_photos([tmp_path], short_side=48))) == 6


def test_places_without_photos_say_so(tmp_path):
    with pytest.raises(DataError, match="No usable colour photo"):
        list(load_photos([tmp_path], short_side=64))
    with pytest.raises(DataError, match="does not exist"):
        list(load_photos([tmp_path / "none"], short_side=64))
    (tmp_path / "x.dat").write_bytes(b"nothing" * 1000)
    with pytest.raises(DataError, match="neither a folder nor a tar"):
        list(load_photos([tmp_path / "x.dat"], short_side=64))


def test_sources_are_known_by_name_and_balanced(tmp_path):
    assert source_of("food_00042.jpg") == source_of("food/42.jpg") == "food"
    assert source_of("a/b/1.jpg") == "b"
    assert source_of("nips17_f5ab.jpg") == source_of("nips17_00.png") == "nips17"
    assert [source_of(n) for n in ("scan-12b.tif", "a12.png", "7.png")] == ["scan", "a", "photos"]
    for i in range(9):
        cv2.imwrite(str(tmp_path / f"many_{i}.png"), colorful(32, 32, i))
    cv2.imwrite(str(tmp_path / "few_0.png"), colorful(32, 32, 9))
    block = PhotoBlock.load([tmp_path], balance=0.5)
    assert block.weight.tolist() == pytest.approx([1.0] + [9**-0.5] * 9)
    block = PhotoBlock.load([tmp_path], balance=0.5, weights={"few": 3.0})
    assert block.weight.tolist() == pytest.approx([3.0] + [9**-0.5] * 9)
    with pytest.raises(DataError, match="no source 'fe' to weigh; there are few, many"):
        PhotoBlock.load([tmp_path], weights={"fe": 2.0})


def test_crops_are_pieces_of_the_photos_mirrored_or_not(tmp_path):
    rgb = colorful(48, 64)
    cv2.imwrite(str(tmp_path / "a_0.png"), rgb[..., ::-1])
    block = PhotoBlock.load([tmp_path])
    crops = (
        (block.draw(64, 32, 32, generator())[0] * 255).round().to(torch.uint8).permute(0, 2, 3, 1)
    )
    windows = np.lib.stride_tricks.sliding_window_view(rgb, (32, 32), (0, 1))
    windows = windows.transpose(0, 1, 3, 4, 2).reshape(-1, 32, 32, 3)
    found = [(windows == c.numpy()).all((1, 2, 3)).any() for c in crops]
    mirrored = [(windows[:, :, ::-1] == c.numpy()).all((1, 2, 3)).any() for c in crops]
    assert all(a or b for a, b in zip(found, mirrored, strict=True))
    assert 16 < sum(found) < 48
    assert len({c.numpy().tobytes() for c in crops}) > 30
    again = (
        (block.draw(64, 32, 32, generator())[0] * 255).round().to(torch.uint8).permute(0, 2, 3, 1)
    )
    assert torch.equal(crops, again)


def test_small_photos_are_continued_by_reflection(tmp_path):
    rgb = colorful(20, 24)
    cv2.imwrite(str(tmp_path / "a_0.png"), rgb[..., ::-1])
    crop = PhotoBlock.load([tmp_path]).draw(1, 64, 64, generator())[0][0]
    crop = (crop * 255).round().to(torch.uint8).permute(1, 2, 0).numpy()
    tall = np.concatenate([rgb, rgb[::-1]] * 2)[:64]
    wide = np.concatenate([tall, tall[:, ::-1]] * 2, axis=1)[:, :64]
    assert np.array_equal(crop, wide) or np.array_equal(crop, wide[:, ::-1])


def test_wider_windows_are_averaged_down_and_their_labels_with_them(tmp_path):
    rgb, labels = colorful(64, 64), np.zeros((64, 64), np.uint16)
    labels[:32, :32], labels[40:, 8:] = 7, 3
    cv2.imwrite(str(tmp_path / "a_0.png"), rgb)
    (tmp_path / "maps").mkdir()
    cv2.imwrite(str(tmp_path / "maps" / "a_0.png"), labels)
    block = PhotoBlock.load([tmp_path / "a_0.png"], things=[tmp_path / "maps"])
    big, big_labels = block.draw(4, 64, 64, generator(5), things=True)
    small, small_labels = block.draw(4, 32, 64, generator(5), things=True)
    assert torch.allclose(small.mean((2, 3)), big.mean((2, 3)), atol=0.01)
    wanted = torch.nn.functional.interpolate(big, (32, 32), mode="bilinear", antialias=True)
    assert torch.allclose(small, wanted.clamp(0, 1), atol=1e-6)
    assert torch.equal(small_labels, big_labels[:, 1::2, 1::2])
    assert set(big_labels.unique().tolist()) == {0, 1, 2}  # numbered anew, the largest first
    assert int((big_labels == 1).sum()) == 4 * 24 * 56
    assert not block.draw(4, 32, 64, generator(5))[1].any()


def test_center_square_resizes_the_short_side():
    assert center_square(colorful(100, 300), 64).shape == (64, 64, 3)
    assert center_square(colorful(300, 30), 64).shape == (64, 64, 3)
    rgb = colorful(64, 90)
    assert np.array_equal(center_square(rgb, 64), rgb[:, 13:77])


def test_patches_reveal_their_mean_and_the_later_wins():
    ab = torch.randn(1, 2, 32, 32, generator=generator())
    x, y = torch.tensor([[10, 12, 31]]), torch.tensor([[10, 10, 31]])
    size, count = torch.tensor([[6, 3, 5]]), torch.tensor([3])
    hint, mask = paint_patches(ab, x, y, size, count)
    first, second = ab[0, :, 7:13, 7:13].mean((1, 2)), ab[0, :, 9:12, 11:14].mean((1, 2))
    assert torch.allclose(hint[0, :, 7, 7], first)
    assert torch.allclose(hint[0, :, 10, 12], second)
    assert torch.allclose(hint[0, :, 31, 31], ab[0, :, 29:, 29:].mean((1, 2)))
    assert int(mask.sum()) == 36 + 9 - 6 + 9
    assert (hint[:, :, ~mask[0, 0]] == 0).all()
    _, fewer = paint_patches(ab, x, y, size, torch.tensor([1]))
    assert int(fewer.sum()) == 36


def test_training_draws_hints_where_the_runtime_does():
    """One definition of rasterisation: the cells of a patch are those of a Hint of its size."""
    rng = np.random.default_rng(0)
    for size in range(1, 10):
        x, y = (int(v) for v in rng.integers(0, 48, 2))
        _, mask = paint_patches(
            torch.zeros(1, 2, 48, 48),
            torch.tensor([[x]]),
            torch.tensor([[y]]),
            torch.tensor([[size]]),
            torch.tensor([1]),
        )
        _, drawn = Hints([Hint(x, y, "#ff0000", size)]).rasterize((48, 48), (48, 48))
        assert np.array_equal(mask[0, 0].numpy(), drawn), size


def test_training_lays_out_its_input_as_the_runtime_does():
    rng = np.random.default_rng(0)
    L = rng.uniform(0, 100, (16, 32)).astype(np.float32)
    ab = rng.uniform(-90, 90, (16, 32, 2)).astype(np.float32)
    mask = rng.random((16, 32)) < 0.2
    ours = pack_input(
        torch.from_numpy(L)[None, None],
        torch.from_numpy(ab).permute(2, 0, 1)[None],
        torch.from_numpy(mask)[None, None],
    )
    assert np.allclose(ours.numpy(), pack_arrays(L, ab, mask), atol=1e-6)
    assert np.allclose(ours[0, 1:3].numpy()[:, ~mask], NEUTRAL)


def test_clicks_are_0_to_128_hints_of_1_to_9_px_and_dense_masks():
    ab = torch.ones(400, 2, 64, 64)
    _, mask = HintRecipe(0.3).draw(ab, generator())
    covered = mask.flatten(1).sum(1)
    assert 10 < int((covered == 0).sum()) < 60  # geometric: 1 in 8 of 35 %
    assert int(covered.max()) > 500
    _, clicks = HintRecipe(0.0).draw(ab, generator())
    assert int((clicks.flatten(1).sum(1) <= 81).sum()) > 100
    _, dense = HintRecipe(1.0).draw(ab, generator())
    share = dense.float().mean((1, 2, 3))
    for p in (0.03, 0.01, 0.005):
        assert ((share - p).abs() < p / 2).float().mean() > 0.15
    least = torch.arange(400) % 3
    _, some = HintRecipe(0.0).draw(ab, generator(), least)
    assert bool(some[least > 0].flatten(1).any(1).all())
    assert torch.equal(some[least == 0], clicks[least == 0])
    with pytest.raises(RuntimeError):
        HintRecipe(0.5).draw(ab[:, :, :0], generator())


def test_augmentation_turns_hues_and_bends_L_within_what_srgb_can_show():
    rgb = torch.rand(200, 3, 8, 8, generator=generator()) * 0.1 + 0.4
    rgb[:, 0] += 0.15  # reddish, all of them
    plain = lab_from_rgb(rgb)
    same, turned = Augmentation().draw(rgb, generator())
    assert torch.equal(same, plain)
    assert not turned.any()
    lab, turned = Augmentation(hue_share=0.5).draw(rgb, generator())
    assert 70 < int(turned.sum()) < 130
    assert torch.allclose(lab[~turned], plain[~turned], atol=2e-3)
    mean, before = (x[turned, 1:].mean((2, 3)) for x in (lab, plain))
    size = mean.norm(dim=1) / before.norm(dim=1)
    assert 0.65 < float(size.min()) < 0.8
    assert 1.2 < float(size.max()) < 1.35
    direction = mean / mean.norm(dim=1, keepdim=True)
    assert float(direction.mean(0).norm()) < 0.25
    back = rgb_from_lab(lab[:, :1], lab[:, 1:])
    assert float(back.min()) > -1e-3
    assert float(back.max()) < 1 + 1e-3
    lab, turned = Augmentation(contrast=0.3).draw(rgb, generator())
    assert not turned.any()
    change = (lab[:, 0] - plain[:, 0]).flatten(1).mean(1)
    assert float(change.min()) < -3
    assert float(change.max()) > 3
    order = plain[:, 0].flatten(1).argmax(1)
    assert torch.equal(lab[:, 0].flatten(1).argmax(1), order)
    again, _ = Augmentation(0.5, 0.3).draw(rgb, generator(3))
    assert torch.equal(again, Augmentation(0.5, 0.3).draw(rgb, generator(3))[0])


def test_dense_pixels_have_exact_colours():
    ab = torch.randn(2, 2, 64, 64, generator=generator())
    hint, mask = dense_pixels(ab, torch.tensor([0.0, 0.5]), generator())
    assert not mask[0].any()
    assert 0.4 < float(mask[1].float().mean()) < 0.6
    assert torch.equal(hint, ab * mask)


def test_protocols_reveal_what_they_say():
    ab = torch.randn(1, 2, 256, 256, generator=generator())
    hint, mask = Protocol("published").reveal(ab, 3)
    assert 250 < int(mask.sum()) < 410
    assert torch.equal(hint, ab * mask)
    for name, patch in (("zhang", 36), ("icolorit", 4)):
        protocol = Protocol(name, 1)
        picture = ab[..., : protocol.size, : protocol.size]
        hint, mask = protocol.reveal(picture, 3)
        assert int(mask.sum()) == patch
        place = mask.expand_as(hint)
        assert torch.allclose(
            hint[place].view(2, -1), picture[place].view(2, -1).mean(1, keepdim=True), atol=1e-6
        )
        _, more = Protocol(name, 10).reveal(picture, 3)
        assert bool((more >= mask).all())  # the first of ten is the one
        assert not Protocol(name, 0).reveal(picture, 3)[1].any()
        _, other = protocol.reveal(picture, 4)
        assert not torch.equal(mask, other)


def test_protocols_are_parsed_once_each():
    labels = [p.label for p in parse_protocols(["published", "zhang"], [10, 0, 10])]
    assert labels == ["published 0.5 %", "zhang N=0", "zhang N=10"]


def test_ssim_and_psnr_are_scikit_images():
    metrics = pytest.importorskip("skimage.metrics")
    a, b = colorful(64, 80, 1), colorful(64, 80, 2)
    b = cv2.addWeighted(a, 0.7, b, 0.3, 0)
    ta, tb = (torch.from_numpy(v).permute(2, 0, 1)[None].float() for v in (a, b))
    theirs = metrics.structural_similarity(
        a, b, channel_axis=2, gaussian_weights=True, sigma=1.5, use_sample_covariance=False
    )
    assert float(ssim(ta, tb, 255.0)) == pytest.approx(theirs, abs=1e-4)
    assert float(psnr(ta, tb)) == pytest.approx(metrics.peak_signal_noise_ratio(a, b), abs=1e-6)
    assert float(psnr(ta, ta)) == pytest.approx(80)


def picture_loss(*pictures):
    return picture_losses(*pictures, ssim_weight=4.0).mean()


@pytest.mark.parametrize("loss", [published_loss, picture_loss])
def test_losses_fall_towards_the_truth_and_have_finite_gradients(loss):
    L = torch.rand(2, 1, 32, 32, generator=generator())
    truth = 0.3 + 0.4 * torch.rand(2, 2, 32, 32, generator=generator(1))
    values = []
    for share in (0.0, 0.5, 0.9, 1.0):
        predicted = (NEUTRAL + share * (truth - NEUTRAL)).requires_grad_()
        value = loss(L, predicted, truth)
        value.backward()
        assert torch.isfinite(predicted.grad).all()
        values.append(float(value.detach()))
    assert values == sorted(values, reverse=True)
    wild = torch.full_like(truth, 5.0, requires_grad=True)
    loss(L, wild, truth).backward()
    assert torch.isfinite(wild.grad).all()


@pytest.mark.skipif(not SHARED_PHOTOS.is_dir(), reason=f"{SHARED_PHOTOS} is not on this machine")
def test_the_shared_photos_can_be_read():
    names = [
        name for name, _ in load_photos([SHARED_PHOTOS / "photos-val.tar"], short_side=64, limit=20)
    ]
    assert len(names) >= 18


def test_a_folder_and_its_tar_give_the_same_photos_names_and_order(tmp_path):
    d = tmp_path / "d"
    (d / "cats").mkdir(parents=True)
    (tmp_path / "elsewhere").mkdir()
    for i, place in enumerate(["z.png", "a_1.png", "cats/b.png", "m.JFIF"]):
        picture = encode_image(colorful(20, 24, seed=i), "PNG" if "png" in place else "JPEG")
        (d / place).write_bytes(picture)
    names = {}
    for mode, ending in (("w", "tar"), ("w:gz", "tar.gz")):
        with tarfile.open(tmp_path / f"d.{ending}", mode) as tar:
            for path in sorted(d.rglob("*"), reverse=True):  # not in the order of names
                tar.add(path, path.relative_to(tmp_path).as_posix(), recursive=False)
        names[ending] = list(iterate_files([tmp_path / f"d.{ending}"]))
    wanted = list(iterate_files([d]))
    assert [name for name, _ in wanted] == ["a_1.png", "cats/b.png", "m.JFIF", "z.png"]
    assert names["tar"] == names["tar.gz"] == wanted
    with tarfile.open(tmp_path / "flat.tar", "w") as tar:
        for path in sorted(d.rglob("*")):
            tar.add(path, "./" + path.relative_to(d).as_posix(), recursive=False)
    assert list(iterate_files([tmp_path / "flat.tar"])) == wanted


def test_linked_class_folders_are_read(tmp_path):
    (tmp_path / "real").mkdir()
    (tmp_path / "data").mkdir()
    write_image(tmp_path / "real" / "x.png", colorful(20, 24))
    (tmp_path / "data" / "classA").symlink_to(tmp_path / "real")
    (tmp_path / "data" / "loop").symlink_to(tmp_path / "data")
    assert [name for name, _ in iterate_files([tmp_path / "data"])] == ["classA/x.png"]
