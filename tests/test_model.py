import copy

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from conftest import tiny_network

from hscaunet import HSCAUNet
from hscaunet.checkpoints import load_checkpoint, save_release
from hscaunet.model.affinity import Affinity
from hscaunet.model.backbone import CHANNELS, Backbone, find_backbone, read_backbone
from hscaunet.model.blocks import GlobalAttention, cell_sums, paint
from hscaunet.model.diffusion import Diffusion
from hscaunet.model.folding import fold, normalize, refresh
from hscaunet.model.interpolation import Interpolation
from hscaunet.tensors import enlarge
from runtime.layout import NEUTRAL


def grey(height=64, width=96, batch=1):
    return torch.rand(batch, 1, height, width, generator=torch.Generator().manual_seed(1))


def random_input(n=2, height=64, width=96, share=0.01, seed=0):
    generator = torch.Generator().manual_seed(seed)
    x = torch.rand(n, 4, height, width, generator=generator)
    x[:, 3] = (x[:, 3] < share).float()
    x[:, 1:3] = torch.where(x[:, 3:] > 0, x[:, 1:3], torch.tensor(NEUTRAL))
    return x


@pytest.fixture(scope="module")
def model():
    return tiny_network()


@torch.inference_mode()
def test_the_stem_sees_the_grey_picture_as_the_published_one_sees_rgb():
    """One plane with the folded weights, against three planes as it was trained with them."""
    found = torch.load(find_backbone(), weights_only=True)
    L = grey()
    rgb = (L.expand(-1, 3, -1, -1) * 255 - 127) / 128
    theirs = F.conv2d(F.pad(rgb, (0, 1, 0, 1)), found["_conv_stem.weight"], stride=2)
    norm = [found[f"_bn0.{n}"] for n in ("running_mean", "running_var", "weight", "bias")]
    theirs = F.relu6(F.batch_norm(theirs, *norm, eps=1e-3))
    backbone = Backbone()
    backbone.load_state_dict(read_backbone(find_backbone()))
    seen = []
    backbone.blocks[0].register_forward_hook(lambda _, inputs, __: seen.append(inputs[0]))
    backbone(L)
    # The padding is another: it is 0 after scaling, which is not the same grey here and there.
    assert torch.allclose(seen[0][..., :-1, :-1], theirs[..., :-1, :-1], atol=1e-4)


@torch.inference_mode()
@pytest.mark.parametrize("size", [(16, 16), (16, 48), (80, 144), (64, 96)])
def test_features_round_sizes_up(size):
    features = Backbone()(grey(*size))
    wanted = [(-(-size[0] // n), -(-size[1] // n)) for n in (4, 8, 16, 32)]
    assert [tuple(f.shape[2:]) for f in features] == wanted
    assert tuple(f.shape[1] for f in features) == CHANNELS


def test_statistics_of_the_backbone_are_held():
    backbone = Backbone()
    before = backbone.stem[1].running_mean.clone()
    backbone.train()(grey())
    assert torch.equal(backbone.stem[1].running_mean, before)


def test_the_network_learns_and_every_part_has_a_gradient():
    torch.manual_seed(0)
    model = tiny_network().train()
    x, target = random_input(), torch.full((2, 2, 64, 96), 0.55)
    optimizer = torch.optim.Adam(model.parameters(), 0.01)
    losses = []
    for _ in range(12):
        predicted, guess = model.both(x)
        loss = F.l1_loss(predicted, target) + F.l1_loss(guess, target)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(float(loss.detach()))
    assert losses[-1] < 0.7 * losses[0]
    assert [n for n, p in model.named_parameters() if p.grad is None] == []


def test_an_untrained_network_guesses_nothing_and_interpolates_hints():
    torch.manual_seed(0)
    model = HSCAUNet((8, 12, 16, 16)).eval()
    x = random_input(1)
    x[:, 1:3], x[:, 3] = NEUTRAL, 0
    with torch.inference_mode():
        assert torch.allclose(model(x), torch.full_like(x[:, :2], NEUTRAL), atol=1e-6)
        x[:, 0] = 0.5
        x[0, 1:3, 30:34, 40:44], x[0, 3, 30:34, 40:44] = 0.6, 1
        found = model(x)
    assert found[0, :, 32, 42].min() > 0.56  # its own colour at the hint
    assert found[0, :, 32, 42].min() > found[0, :, 0, 0].max()  # and less of it far away


@torch.inference_mode()
def test_what_lies_outside_the_mask_does_not_matter(model):
    x = random_input()
    other = x.clone()
    other[:, 1:3] = torch.where(x[:, 3:] > 0, x[:, 1:3], torch.tensor(0.9))
    assert torch.equal(model(x), model(other))


@torch.inference_mode()
def test_a_batch_is_its_pictures(model):
    x = random_input(3)
    singles = torch.cat([model(one[None]) for one in x])
    assert np.abs((model(x) - singles).numpy()).max() < 1e-5


@torch.inference_mode()
@pytest.mark.parametrize("size", [(16, 16), (80, 144), (64, 96), (48, 16)])
def test_sizes_of_what_comes_out(model, size):
    x = random_input(1, *size, share=0.05)
    answer, guess = model.both(x)
    assert answer.shape == guess.shape == (1, 2, *size)
    assert torch.isfinite(answer).all()
    assert not torch.equal(answer, guess)


def test_sizes_that_are_no_multiples_of_16_are_refused(model):
    with pytest.raises(ValueError, match="multiples of 16"):
        model(torch.zeros(1, 4, 64, 72))


@torch.inference_mode()
def test_the_photos_part_does_not_depend_on_hints_and_gives_the_same(model):
    x = random_input()
    photo = model.look(x[:, :1])
    without = x.clone()
    without[:, 1:3], without[:, 3] = NEUTRAL, 0
    for one in (x, without):
        assert torch.equal(model.answer(one, photo)[0], model(one))
    assert torch.equal(model.both(x)[1], model.both(without)[1])


@torch.inference_mode()
def test_without_hints_the_answer_is_a_colour_of_its_own(model):
    """No rule makes it the guess: the U-Net may correct that too."""
    x = random_input()
    x[:, 1:3], x[:, 3] = NEUTRAL, 0
    answer, guess = model.both(x)
    assert (guess - NEUTRAL).abs().max() > 1e-3
    assert torch.isfinite(answer).all()


def affinity():
    torch.manual_seed(0)
    return Affinity(96, heads=4, depth=12).eval()


@torch.inference_mode()
def test_a_hint_is_carried_to_what_looks_alike_and_not_elsewhere():
    """Two kinds of places, by an embedding made up here: stripes of it across the picture."""
    module, (height, width) = affinity(), (16, 24)
    embedded = torch.zeros(1, 48, height, width)
    embedded[:, :, :, ::2] = 2.0
    doubt = torch.full((1, 4, height, width), -3.0)
    count, sums = torch.zeros(1, 1, height, width), torch.zeros(1, 2, height, width)
    count[0, 0, 7, 8], sums[0, :, 7, 8] = 4.0, 4 * torch.tensor([0.5, -0.25])
    said, certain = module(embedded, doubt, count, sums)
    assert torch.allclose(said[0, :2, 7, 8], torch.tensor([0.5, -0.25]), atol=0.02)
    assert said[0, 0, 7, 10] > 0.1  # of its kind, two cells away
    assert said[0, :, 7, 9].abs().max() < 1e-6  # beside it, of the other kind
    assert 0 <= certain.min() <= certain.max() < 1


@torch.inference_mode()
def test_nothing_is_carried_where_there_is_no_hint_however_small_the_doubt():
    nothing = torch.zeros(1, 1, 16, 24)
    embedded, doubt = torch.randn(1, 48, 16, 24), torch.full((1, 4, 16, 24), -40.0)
    said, certain = affinity()(embedded, doubt, nothing, nothing.expand(1, 2, -1, -1))
    assert not said.any()
    assert not certain.any()


def cells_of(L, ab, mask):
    """What `Interpolation` takes of a picture: mean L, hints' L, counts, sums."""
    sums = cell_sums(torch.cat([mask, L * mask, ab * mask], 1))
    count = sums[:, :1]
    return F.avg_pool2d(L, 4), sums[:, 1:2] / count.clamp_min(1), count, sums[:, 2:]


@torch.inference_mode()
def test_hints_of_one_L_do_not_leak_over_an_edge_of_L():
    L = torch.full((1, 1, 64, 64), 0.3)
    L[..., 32:] = 0.8
    ab, mask = torch.zeros(1, 2, 64, 64), torch.zeros(1, 1, 64, 64)
    for x, value in ((10, 0.5), (54, -0.5)):
        ab[0, :, 30, x], mask[0, 0, 30, x] = value, 1
    mean_L, *hints = cells_of(L, ab, mask)
    module = Interpolation()
    found = paint(module(*hints, mean_L), L, mean_L)
    assert found[..., :28].min() > 0.15
    assert found[..., 36:].max() < -0.15


@torch.inference_mode()
def test_a_reading_has_the_slope_of_what_is_read():
    """A texture of one pixel, where nothing but the slope can tell."""
    checks = (torch.arange(64)[:, None] + torch.arange(64)) % 2
    L = (0.4 + 0.2 * checks.float())[None, None]
    module, mean_L = Interpolation(), torch.full((1, 1, 16, 16), 0.5)
    by_bin = torch.linspace(0, 1, module.bins)[None, None, :, None, None] - 0.5
    estimate = torch.cat([by_bin, -by_bin], 1).expand(1, 2, -1, 16, 16)
    found = paint(module.read(estimate, mean_L), L, mean_L)
    assert torch.allclose(found, torch.cat([L - 0.5, 0.5 - L], 1), atol=1e-4)


@torch.inference_mode()
@pytest.mark.parametrize("size", [(16, 16), (16, 48), (80, 144)])
def test_odd_numbers_of_cells_lose_no_hint(size):
    L, ab, mask = (torch.full((1, n, *size), v) for n, v in ((1, 0.4), (2, 0.0), (1, 0.0)))
    ab[..., -1, -1], mask[..., -1, -1] = 0.4, 1
    mean_L, *hints = cells_of(L, ab, mask)
    found = Interpolation()(*hints, mean_L)
    assert found.shape == (1, 4, size[0] // 4, size[1] // 4)
    assert found[0, :2, -1, -1].min() > 0.2


@torch.inference_mode()
def test_no_hint_interpolates_to_nothing():
    L = grey()
    mean_L, *hints = cells_of(L, torch.rand(1, 2, 64, 96), torch.zeros_like(L))
    assert not Interpolation()(*hints, mean_L).any()


def test_the_interpolation_is_the_same_with_gradients():
    L, mask = torch.rand(2, 1, 48, 80), (torch.rand(2, 1, 48, 80) < 0.02).float()
    mean_L, *hints = cells_of(L, 0.2 * torch.randn(2, 2, 48, 80), mask)
    module = Interpolation()
    with torch.inference_mode():
        wanted = module(*hints, mean_L)
    assert torch.allclose(module(*hints, mean_L), wanted, atol=1e-5)


def diffuse(module, features, cells_L, start, count, sums):
    """Of a picture whose cells of 2 pixels each have one L."""
    L = cells_L.repeat_interleave(2, 2).repeat_interleave(2, 3)
    return module(module.weights(L, features), start, count, sums)


@torch.inference_mode()
def test_diffusion_moves_colour_along_like_L_and_keeps_hints():
    """A start that is wrong beside an edge of L is set right from the hints on its own side."""
    torch.manual_seed(0)
    features = torch.zeros(1, 8, 16, 16)
    L = 0.3 + 0.02 * grey(32, 32)
    L[..., 16:] += 0.4
    count, sums = torch.zeros(1, 1, 32, 32), torch.zeros(1, 2, 32, 32)
    for x, value in ((4, 0.3), (28, -0.3)):
        count[..., ::4, x], sums[..., ::4, x] = 2.0, 2 * value
    start = torch.full((1, 2, 32, 32), 0.3)
    start[..., 18:] = -0.3  # two columns too late
    module = Diffusion(8)
    moved = start + diffuse(module, features, L, start, count, sums)
    assert moved[..., 16:18].mean() < -0.1 < 0.15 < moved[..., :15].min()
    on = (count > 0).expand_as(sums)
    assert torch.allclose(moved[on], (sums / count.clamp_min(1))[on], atol=1e-6)
    # What coarser cells changed is added to the start, which may overshoot a little.
    assert start.min() - 0.03 <= moved.min() <= moved.max() <= start.max() + 0.03
    flat = torch.full_like(start, 0.2)
    nothing = diffuse(module, features, L, flat, 0 * count, 0 * sums)
    assert torch.allclose(nothing, torch.zeros_like(flat), atol=1e-6)


@torch.inference_mode()
def test_colour_does_not_diffuse_over_an_edge_of_the_guide():
    module = Diffusion(1)
    module.guide.weight.fill_(1.0)
    L, features = torch.full((1, 1, 32, 32), 0.5), torch.zeros(1, 1, 16, 16)
    features[..., 8:] = 3.0
    start = torch.zeros(1, 2, 32, 32)
    start[..., :16] = 0.5
    count = torch.zeros(1, 1, 32, 32)
    open_, shut = (
        diffuse(module, f, L, start, count, 0 * start)[..., 17:20].mean()
        for f in (0 * features, features)
    )
    assert shut < 0.7 * open_
    features[..., 3, 3] = 1e3  # a place unlike all others stays a number
    assert torch.isfinite(diffuse(module, features, L, start, count, 0 * start)).all()


@pytest.mark.parametrize("factor", [2, 4])
def test_enlarging_with_gradients_is_bilinear(factor):
    x = torch.randn(2, 3, 5, 8, requires_grad=True)
    y = enlarge(x, factor)
    wanted = F.interpolate(x, scale_factor=float(factor), mode="bilinear")
    assert torch.allclose(y, wanted, atol=1e-6)
    weight = torch.randn_like(y)
    ours, theirs = (torch.autograd.grad((z * weight).sum(), x)[0] for z in (y, wanted))
    assert torch.allclose(ours, theirs, atol=1e-5)


@torch.inference_mode()
def test_every_place_asks_every_other():
    torch.manual_seed(0)
    block = GlobalAttention(16).eval()
    x = torch.randn(1, 16, 6, 10)
    moved = x.clone()
    moved[..., 5, 9] += 1
    change = (block(moved) - block(x)).abs().amax(1)
    assert change[0, 0, 0] > 0


@torch.inference_mode()
def test_folding_and_normalizing_keep_the_function(model):
    x = random_input()
    wanted = model(x)
    assert torch.allclose(fold(model)(x), wanted, atol=1e-5)
    changed = copy.deepcopy(model)
    normalize(changed)
    assert torch.allclose(changed(x), wanted, atol=1e-5)
    weights, folded = changed.state_dict(), fold(changed).state_dict()
    for key in (
        "unet.down1.conv.weight",
        "photo.adds.1.weight",
        "photo.reduce16.weight",
        "photo.fine.1.0.weight",
    ):
        assert torch.allclose(weights[key], folded[key], rtol=1e-6), key


@torch.inference_mode()
def test_refreshed_weights_have_the_size_of_new_ones_and_the_same_function(model):
    """Fine-tuning from released weights, some of which are a thousandth of that."""
    x = random_input()
    wanted = model(x)
    released = copy.deepcopy(model)
    normalize(released)
    refresh(released)
    assert torch.allclose(released(x), wanted, atol=1e-4)
    assert torch.allclose(released.train()(x), copy.deepcopy(model).train()(x), atol=1e-3)
    for key in ("unet.down1.conv.weight", "photo.reduce16.weight", "photo.fine.1.0.weight"):
        weight = released.state_dict()[key]
        sizes = weight.square().mean((1, 2, 3)).sqrt() * weight[0].numel() ** 0.5
        assert 0.7 < sizes.min() < sizes.max() < 1.4, key  # of a sum, its first convolution has it


@torch.inference_mode()
def test_a_release_is_the_network_it_was_made_of(model, tmp_path):
    released = save_release(tmp_path / "w.safetensors", model, {"name": "tiny"})
    read = load_checkpoint(tmp_path / "w.safetensors")
    x = random_input()
    assert torch.equal(read.model(x), released(x))
    assert (released(x) - model(x)).abs().max() < 2e-3
    assert read.metadata["name"] == "tiny"
