import copy

import pytest
import torch
import torch.nn.functional as F
from conftest import stir
from hscaunet.backbone import CHANNELS, Backbone, find_backbone, read_backbone
from hscaunet.diffusion import Diffusion
from hscaunet.grid import HintGrid
from hscaunet.network import HSCAUNet, centred_hints
from hscaunet.prior import Prior
from hscaunet.widen import widen
from torch import nn

from hscaunet.checkpoints import load_checkpoint, save_release
from runtime.layout import NEUTRAL


def picture(height=64, width=96, batch=1):
    L = torch.rand(batch, 1, height, width, generator=torch.Generator().manual_seed(1))
    return L, torch.zeros(batch, 2, height, width), torch.zeros(batch, 1, height, width)


@pytest.fixture(scope="module")
def prior():
    torch.manual_seed(0)
    made = Prior().eval()
    made.backbone.load_state_dict(read_backbone(find_backbone()))
    nn.init.normal_(made.guess.weight, std=0.1)
    nn.init.normal_(made.out.weight, std=0.05)
    return made


@torch.inference_mode()
def test_the_stem_sees_the_grey_picture_as_the_published_one_sees_rgb():
    """One plane with the folded weights, against three planes as it was trained with them."""
    found = torch.load(find_backbone(), weights_only=True)
    L = picture()[0]
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
    features = Backbone()(picture(*size)[0])
    wanted = [(-(-size[0] // n), -(-size[1] // n)) for n in (4, 8, 16, 32)]
    assert [tuple(f.shape[2:]) for f in features] == wanted
    assert tuple(f.shape[1] for f in features) == CHANNELS


def test_statistics_of_the_backbone_are_held():
    backbone = Backbone()
    before = backbone.stem[1].running_mean.clone()
    backbone.train()(picture()[0])
    assert torch.equal(backbone.stem[1].running_mean, before)


@torch.inference_mode()
@pytest.mark.parametrize("size", [(16, 16), (80, 144), (64, 96)])
def test_sizes_of_what_comes_out(prior, size):
    L, ab, mask = picture(*size)
    mask[..., 3, 4] = 1
    alone, guess, doubt, guide, heard, fine = prior(L, ab + 0.1, mask)
    assert heard is None
    assert fine.shape == (L.shape[0], 48, L.shape[2] // 4, L.shape[3] // 4)
    assert alone.shape == guess.shape == ab.shape
    assert doubt.shape[1:] == (1, size[0] // 4, size[1] // 4)
    assert guide.shape[2:] == doubt.shape[2:]
    assert (doubt > 0).all()
    assert all(torch.isfinite(t).all() for t in (guess, doubt, guide))


@torch.inference_mode()
def test_without_hints_it_guesses_and_what_is_not_under_the_mask_is_nothing(prior):
    L, ab, mask = picture()
    alone, guess, *_ = prior.outputs(L, ab, mask)
    assert alone.abs().max() > 1e-4
    assert torch.equal(prior(L, ab + 0.3, mask)[1], guess)


@torch.inference_mode()
def test_a_hint_is_carried_to_what_looks_alike_and_not_elsewhere(prior):
    """Two kinds of places, by an embedding made up here: stripes of it across the picture."""
    height, width = 16, 24
    embedded = torch.zeros(1, prior.heads * prior.depth, height, width)
    embedded[:, :, :, ::2] = 2.0
    guess, doubt = torch.zeros(1, 2, height, width), torch.full((1, prior.heads, 1, 1), -3.0)
    cells = torch.zeros(1, 3, height, width)
    cells[0, :, 7, 8] = torch.tensor([4.0, 4 * 0.5, 4 * -0.25])  # four pixels of (0.5, -0.25)
    doubt = doubt.expand(1, prior.heads, height, width)
    said, certain = prior.carry(embedded, doubt, guess, cells)
    assert torch.allclose(said[0, :2, 7, 8], torch.tensor([0.5, -0.25]), atol=0.02)
    assert said[0, 0, 7, 10] > 0.1  # of its kind, two cells away
    assert said[0, :, 7, 9].abs().max() < 1e-6  # beside it, of the other kind
    assert certain.min() >= 0
    assert certain.max() < 1
    # The guess is what hints are held against: where they say the same, nothing is carried.
    guess[:, 0], guess[:, 1] = 0.5, -0.25
    assert prior.carry(embedded, doubt, guess, cells)[0].abs().max() < 1e-6


@torch.inference_mode()
def test_nothing_is_carried_where_there_is_no_hint_however_small_the_doubt(prior):
    height, width = 16, 24
    embedded = torch.randn(1, prior.heads * prior.depth, height, width)
    guess, doubt = torch.rand(1, 2, height, width), torch.full((1, prior.heads, 16, 24), -40.0)
    said, certain = prior.carry(embedded, doubt, guess, torch.zeros(1, 3, height, width))
    assert not said.any()
    assert not certain.any()


@torch.inference_mode()
def test_hints_are_counted_and_not_their_pixels(prior):
    def rarity(*places, side=1):
        count = torch.zeros(1, 1, 32, 48)
        for row, column in places:
            count[0, 0, row : row + side, column : column + side] = 9.0
        return float(prior.rarity(count))

    assert rarity() == 0
    assert rarity((5, 5)) == pytest.approx(1)
    assert rarity((5, 5), side=2) == pytest.approx(1)  # over four cells: one hint all the same
    assert rarity((5, 5), (6, 6)) == pytest.approx(1)  # beside each other, they tell of one place
    assert rarity((5, 5), (20, 30)) == pytest.approx(1 / 8)
    assert rarity((5, 5), (20, 30), (5, 40), (28, 8), (16, 16)) < 0.01


@torch.inference_mode()
def test_what_few_hints_change(prior):
    """A lone one is doubted more, and its share of the guess can be smaller; many are not."""
    L, ab, mask = picture(192, 240)
    ab += torch.tensor([0.2, -0.1])[:, None, None]
    one, many = mask.clone(), mask.clone()
    one[..., 20:23, 40:43] = many[..., 24::48, 24::48] = 1
    less = copy.deepcopy(prior)
    less.lone_hint = 0.5
    sure = copy.deepcopy(prior)
    sure.log_few.fill_(-99.0)
    for hints, factor, share in ((mask, 1, 1), (one, 21, 0.5), (many, 1, 1)):
        alone, told, doubt, _ = prior.outputs(L, ab, hints)
        assert torch.allclose(doubt, factor * sure(L, ab, hints)[2], rtol=0.01)
        wanted = alone + share * (told - alone)
        assert torch.allclose(less(L, ab, hints)[1], wanted, atol=0.01 * float(told.abs().max()))
    with pytest.raises(ValueError, match="lone_hint"):
        HSCAUNet(8, "guided", lone_hint=1.5)


@pytest.fixture(scope="module")
def near():
    """A network to which a lone hint within 5 of the guess says nothing; and one that hears it."""
    torch.manual_seed(0)
    near = HSCAUNet(8, "guided", lone_near=5.0)
    stir(near)
    near.prior.backbone.load_state_dict(read_backbone(find_backbone()))
    for layer, std in ((near.outc.conv, 0.02), (near.prior.out, 0.02), (near.prior.guess, 0.05)):
        nn.init.normal_(layer.weight, std=std)
    every = HSCAUNet(**{**near.config, "lone_near": 0.0}).eval()
    every.load_state_dict(near.state_dict())
    return near, every


@torch.inference_mode()
@pytest.mark.parametrize("place", [(60, 100), (0, 0), (159, 207)])
@pytest.mark.parametrize("side", [1, 4])
def test_a_lone_hint_of_what_is_guessed_changes_its_place_alone(near, place, side):
    near, every = near
    rows, columns = (slice(max(0, p - side + 1), p + 1) for p in place)
    L, _, mask = picture(160, 208)
    without = torch.cat([L, torch.full((1, 2, 160, 208), NEUTRAL), mask], 1)
    x = without.clone()
    alone = near.guesses(x)[1]
    x[:, 3, rows, columns] = 1
    said = alone[..., rows, columns].mean((2, 3)) + torch.tensor([0.012, -0.012])  # 4.3 away
    x[:, 1:3, rows, columns] = said[..., None, None] + NEUTRAL
    before, after = near(without), near(x)
    assert torch.equal(before, every(without))
    changed = (after - before).abs().amax(1)[0]
    around = F.max_pool2d(x[:, 3:], 9, 1, 4)[0, 0] > 0
    assert changed[~around].max() < 1e-6
    assert changed[rows, columns].mean() > 1e-3
    found = after[..., rows, columns].mean((2, 3)) - NEUTRAL
    assert torch.allclose(found, said, atol=1e-5)
    edge = F.max_pool2d(x[:, 3:], 7, 1, 3)[0, 0] > 0  # fades: no seam
    assert changed[around & ~edge].max() < 0.5 * changed.max()
    # The same hint elsewhere in a batch, farther from the guess or not alone, is heard.
    far, two = x.clone(), x.clone()
    far[:, 1:3, rows, columns] += 0.02
    two[:, 1:, 96:98, 20:22] = 1.0
    batch = torch.cat([x, far, two, without])
    assert near.prior.heard(
        near.guesses(batch)[1], *centred_hints(batch)
    ).flatten().tolist() == [0, 1, 1, 1]  # fmt: skip
    assert torch.allclose(near(batch)[1:], every(batch)[1:], atol=1e-6)
    assert torch.allclose(near(batch)[:1], after, atol=1e-6)


def test_the_unet_is_shown_what_the_prior_knows(near, tmp_path):
    """As if there were no such planes at first; then they make a difference, and are learned."""
    plain = near[1]
    shown = HSCAUNet(**{**plain.config, "show_prior": True}).eval()
    shown.adopt(plain)
    L, ab, mask = picture()
    mask[..., 20:23, 30:33] = 1
    x = torch.cat([L, ab + NEUTRAL + 0.1 * mask, mask], 1)
    planes = shown.inc.double_conv[0].weight
    assert not planes[:, -16:].any()
    with torch.no_grad():
        before = shown(x)
        assert torch.allclose(before, plain(x), atol=1e-6)
    shown(x).square().mean().backward()
    assert planes.grad[:, -16:].any()
    with torch.no_grad():
        nn.init.normal_(planes[:, -16:])
        after = shown(x)
        assert not torch.allclose(before, after, atol=1e-3)
        assert torch.allclose(widen(shown)(x), after, atol=1e-5)
    save_release(tmp_path / "a.safetensors", shown, {})
    again = load_checkpoint(tmp_path / "a.safetensors").model
    assert again.config["show_prior"]
    with torch.no_grad():
        assert torch.allclose(again(x), shown(x), atol=5e-3)


def test_how_near_is_checked_and_kept(tmp_path):
    for wrong in (-1.0, float("nan"), float("inf"), "5"):
        with pytest.raises(ValueError, match="lone_near"):
            HSCAUNet(8, "guided", lone_near=wrong)
    save_release(tmp_path / "a.safetensors", HSCAUNet(8, "guided", lone_near=5.0), {})
    assert load_checkpoint(tmp_path / "a.safetensors").model.prior.lone_near == 5.0


@torch.inference_mode()
def test_doubt_makes_a_hint_fade_with_distance():
    grid = HintGrid(diffuse=False)
    L, ab, mask = picture(256, 256)
    L[:] = 0.5
    ab[0, 0, 128, 128], mask[0, 0, 128, 128] = 0.2, 1
    everywhere = grid.steps(L, ab, mask, torch.zeros_like(ab))[0][0, 0]
    assert torch.allclose(everywhere, torch.full_like(everywhere, 0.2), atol=1e-4)
    doubt = torch.full((1, 1, 64, 64), 0.3)
    row = grid.steps(L, ab, mask, torch.zeros_like(ab), doubt)[0][0, 0, 128]
    assert row[128] > 0.1
    assert row[128] > row[160] > row[250] > 0
    assert row[250] < 0.08


@torch.inference_mode()
def test_the_interpolation_starts_from_the_guess():
    grid = HintGrid(diffuse=False)
    L, ab, mask = picture()
    guess = torch.rand(1, 2, 64, 96)
    assert torch.equal(grid.steps(L, ab, mask, guess)[0], guess)
    # A hint that says what was guessed changes nothing.
    mask[..., 20, 30] = 1
    assert torch.allclose(grid.steps(L, guess, mask, guess)[0], guess, atol=1e-6)


@torch.inference_mode()
def test_colour_does_not_diffuse_over_an_edge_of_the_guide():
    L, ab, mask = picture()
    L[:] = 0.5
    start = torch.zeros_like(ab)
    start[..., 48:] = 0.3
    guide = torch.zeros(1, 4, 16, 24)
    guide[..., 12:] = 3.0
    diffusion = Diffusion()
    diffusion.steps = (8, 8, 8, 0, 0)
    free = start + diffusion(L, start, ab, mask)
    held = start + diffusion(L, start, ab, mask, guide)
    assert free[..., 40].mean() > 0.05
    assert held[..., 40].mean() < 0.01
    assert held[..., 56].mean() > 0.29


@torch.inference_mode()
def test_a_place_unlike_all_others_stays_a_number():
    L, ab, mask = picture()
    guide = torch.zeros(1, 4, 16, 24)
    guide[..., 7, 9] = 50.0
    assert torch.isfinite(Diffusion()(L, torch.rand(1, 2, 64, 96), ab, mask, guide)).all()


@torch.inference_mode()
@pytest.mark.parametrize("size", [(80, 144), (64, 64)])
def test_doubt_at_the_edge_is_doubt(size):
    """What is the same everywhere fades the same everywhere, whatever sizes round up to."""
    grid = HintGrid(passes=1, smooth=False, diffuse=False)
    L, ab, mask = picture(*size)
    L[:] = 0.5
    ab[:], mask[:] = 0.2, 0.0
    mask[..., size[0] // 2, :] = 1
    doubt = torch.full((1, 1, size[0] // 4, size[1] // 4), 2.0)
    row = grid.steps(L, ab, mask, None, doubt)[0][0, 0, 2]
    inner = row[16:-16]
    assert (row[-4:] < inner.max() * 1.2).all()
