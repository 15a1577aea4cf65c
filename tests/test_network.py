import numpy as np
import pytest
import torch
import torch.nn.functional as F
from conftest import stir
from hscaunet.attention import ChannelAttention, SpatialAttention, shrink
from hscaunet.diffusion import Diffusion
from hscaunet.network import centred_hints
from hscaunet.widen import widen
from torch import nn

from hscaunet import HintGrid, HSCAUNet
from hscaunet.checkpoints import load_checkpoint, save_training
from hscaunet.tensors import enlarge
from runtime.layout import NEUTRAL


def random_input(n=2, height=64, width=96, share=0.01, seed=0):
    generator = torch.Generator().manual_seed(seed)
    x = torch.rand(n, 4, height, width, generator=generator)
    x[:, 3] = (x[:, 3] < share).float()
    x[:, 1:3] = torch.where(x[:, 3:] > 0, x[:, 1:3], torch.tensor(NEUTRAL))
    return x


def test_widths_are_those_of_the_publication():
    model = HSCAUNet()
    assert (model.width, model.form) == (64, "published")
    shapes = {k: tuple(v.shape) for k, v in model.state_dict().items()}
    assert shapes["inc.double_conv.0.weight"] == (64, 4, 3, 3)
    assert shapes["down4.maxpool_conv.1.double_conv.3.weight"] == (1024, 1024, 3, 3)
    assert shapes["up1.up.weight"] == (1024, 512, 2, 2)
    assert shapes["up1.conv.double_conv.0.weight"] == (512, 1024, 3, 3)
    assert shapes["up1.sp.conv1.weight"] == (1, 2, 7, 7)
    assert shapes["up1.ch.fc1.weight"] == (32, 512, 1, 1)
    assert shapes["up4.conv_1by1.conv.weight"] == (1, 2, 1, 1)
    assert shapes["outc.conv.weight"] == (2, 64, 1, 1)
    assert not any(k.endswith("double_conv.0.bias") for k in shapes)
    assert sum(p.numel() for p in model.parameters()) == pytest.approx(31.1e6, rel=0.01)


def test_an_up_block_multiplies_the_skip_by_three_maps_and_puts_it_first():
    torch.manual_seed(0)
    up = HSCAUNet(4).eval().up3
    below, skip, hint = torch.rand(1, 16, 8, 8), torch.rand(1, 8, 16, 16), torch.rand(1, 2, 32, 32)
    pooled = torch.cat([skip.mean(1, keepdim=True), skip.amax(1, keepdim=True)], 1)
    spatial = torch.sigmoid(F.conv2d(pooled, up.sp.conv1.weight, padding=3))

    def shared(v):
        return up.ch.fc2(F.relu(up.ch.fc1(v[:, :, None, None])))

    channel = torch.sigmoid(shared(skip.mean((2, 3))) + shared(skip.amax((2, 3))))
    small = F.interpolate(hint, (16, 16), mode="bilinear", antialias=True)
    gate = torch.sigmoid(F.conv2d(small, up.conv_1by1.conv.weight))
    expected = up.conv(torch.cat([skip * spatial * channel * gate, up.up(below)], 1))
    assert torch.allclose(up(below, skip, hint), expected, atol=1e-6)


@pytest.mark.parametrize("factor", [2, 4, 8])
def test_hint_maps_shrink_as_antialiased_bilinear_does(factor):
    module = HSCAUNet(4).up1.conv_1by1.__class__(factor)
    x = torch.rand(2, 2, 48, 80)
    expected = F.interpolate(x, (48 // factor, 80 // factor), mode="bilinear", antialias=True)
    assert torch.allclose(shrink(x, module.triangle, factor), expected, atol=1e-6)


def test_channel_attention_is_a_choice():
    assert isinstance(HSCAUNet(4).up1.ch, ChannelAttention)
    assert isinstance(HSCAUNet(4, channel_attention="spatial").up1.ch, SpatialAttention)
    for bad in ({"form": "x"}, {"channel_attention": "x"}, {"width": 0}, {"width": 1.5}):
        with pytest.raises(ValueError, match="must be"):
            HSCAUNet(**bad)
    with pytest.raises(ValueError, match="multiples of 16"):
        HSCAUNet(4)(torch.zeros(1, 4, 64, 72))


@pytest.mark.parametrize(
    ("width", "form", "attention"), [(4, "published", "cbam"), (16, "guided", "spatial")]
)
def test_a_widened_network_gives_the_same_and_its_copies_part(width, form, attention):
    torch.manual_seed(0)
    model = HSCAUNet(width, form, channel_attention=attention, prior=False)
    stir(model)
    nn.init.normal_(model.outc.conv.weight, 0, 0.3)
    before = {k: v.clone() for k, v in model.state_dict().items()}
    wide = widen(model, torch.Generator().manual_seed(1))
    assert wide.config == {**model.config, "width": 2 * width}
    assert not wide.training
    x = random_input()
    with torch.inference_mode():
        assert torch.allclose(wide(x), model(x), atol=1e-5)
        assert model(x).std() > 0.01
    assert all(torch.equal(v, before[k]) for k, v in model.state_dict().items())
    wide(x).square().mean().backward()
    for name, read in (("down4.maxpool_conv.1.double_conv.3.weight", 1), ("up1.up.weight", 0)):
        weight = dict(wide.named_parameters())[name]
        # Copies are read differently, so what makes them is changed differently.
        for values, axis in ((weight, read), (weight.grad, 1 - read)):
            one, other = values.chunk(2, axis)
            assert (one - other).norm() > 0.1 * one.norm()


@pytest.mark.parametrize("form", ["published", "guided"])
def test_both_forms_learn(form):
    torch.manual_seed(0)
    model = HSCAUNet(4, form)
    x = random_input()
    target = torch.full((2, 2, 64, 96), 0.6)
    optimizer = torch.optim.Adam(model.parameters(), 0.01)
    losses = []
    for _ in range(25):
        loss = F.l1_loss(model(x), target)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(float(loss.detach()))
    assert losses[-1] < 0.7 * losses[0]
    assert all(p.grad is not None for p in model.parameters())


def test_an_untrained_guided_network_is_its_interpolation():
    torch.manual_seed(0)
    model = HSCAUNet(4, "guided", prior=False).eval()
    x = random_input()
    assert torch.equal(model(x), model.interpolate(x) + NEUTRAL)
    x[:, 1:3], x[:, 3] = NEUTRAL, 0
    assert torch.equal(model(x), torch.full_like(x[:, :2], NEUTRAL))
    assert torch.equal(HSCAUNet(4, "guided").eval()(x), torch.full_like(x[:, :2], NEUTRAL))


def test_the_guided_network_ignores_what_lies_outside_the_mask():
    torch.manual_seed(0)
    model = HSCAUNet(4, "guided")
    nn.init.normal_(model.outc.conv.weight)
    stir(model)
    x = random_input()
    other = x.clone()
    other[:, 1:3] = torch.where(x[:, 3:] > 0, x[:, 1:3], torch.rand_like(x[:, 1:3]))
    assert torch.equal(model(x), model(other))


def grid_arrays(height=64, width=64):
    L = torch.rand(1, 1, height, width, generator=torch.Generator().manual_seed(1))
    return L, torch.zeros(1, 2, height, width), torch.zeros(1, 1, height, width)


def test_one_hint_colours_everything_and_no_hint_nothing():
    grid = HintGrid().eval()
    L, ab, mask = grid_arrays()
    assert torch.equal(grid(L, ab, mask), torch.zeros_like(ab))
    ab[0, :, 20, 30], mask[0, 0, 20, 30] = torch.tensor([0.2, -0.1]), 1
    out = grid(L, ab, mask)
    assert torch.allclose(
        out, torch.tensor([0.2, -0.1])[None, :, None, None].expand_as(out), atol=1e-5
    )


def test_hints_of_one_L_do_not_leak_over_an_edge_of_L():
    grid = HintGrid()
    L, ab, mask = grid_arrays()
    L[..., :32], L[..., 32:] = 0.2, 0.8
    for x, value in ((10, 0.3), (50, -0.3)):
        ab[0, :, 32, x], mask[0, 0, 32, x] = value, 1
    out = grid(L, ab, mask)
    assert (out[..., :32] > 0.2).all()
    assert (out[..., 32:] < -0.2).all()


def test_an_all_equal_L_still_interpolates_in_space():
    grid = HintGrid()
    L, ab, mask = grid_arrays(128, 128)
    L[:] = 0.5
    for x, value in ((8, 0.3), (120, -0.3)):
        ab[0, :, 64, x], mask[0, 0, 64, x] = value, 1
    out = grid(L, ab, mask)[0, 0, 64]
    assert torch.isfinite(out).all()
    assert out[8] > 0.25
    assert out[120] < -0.25
    assert (out[16:-16].diff() <= 1e-4).all()


@pytest.mark.parametrize("size", [(16, 16), (16, 48), (80, 144), (112, 64)])
def test_sizes_that_are_not_multiples_of_64_round_up_without_losing_a_hint(size):
    grid = HintGrid()
    L, ab, mask = grid_arrays(*size)
    ab[0, :, -1, -1], mask[0, 0, -1, -1] = 0.25, 1
    assert torch.allclose(grid(L, ab, mask), torch.full_like(ab, 0.25), atol=1e-5)


def test_full_hints_come_back_nearly_as_they_are():
    grid = HintGrid()
    L, ab, mask = grid_arrays()
    y, x = torch.meshgrid(
        torch.linspace(-0.3, 0.3, 64), torch.linspace(-0.3, 0.3, 64), indexing="ij"
    )
    ab[0, 0], ab[0, 1], mask[:] = x, y, 1
    assert (grid(L, ab, mask) - ab).abs().mean() < 0.01


def test_a_batch_is_its_pictures():
    torch.manual_seed(0)
    model = HSCAUNet(8, "guided")
    nn.init.normal_(model.outc.conv.weight, std=0.1)
    stir(model)
    x = random_input(3)
    with torch.inference_mode():
        singles = torch.cat([model(one[None]) for one in x])
        assert np.abs((model(x) - singles).numpy()).max() < 1e-5


def test_diffusion_moves_colour_along_like_L_and_keeps_hints():
    """A start that is wrong beside an edge of L is set right from the hint on its own side."""
    L, ab, mask = grid_arrays()
    L = 0.3 + 0.02 * L
    L[..., 32:] += 0.4
    for x, value in ((8, 0.3), (56, -0.3)):
        ab[0, :, ::8, x], mask[0, 0, ::8, x] = value, 1
    start = torch.full_like(ab, 0.3)
    start[..., 36:] = -0.3  # four columns too late
    diffusion = Diffusion()
    moved = start + diffusion(L, start, ab, mask)
    assert moved[..., 32:36].mean() < -0.1 < 0.15 < moved[..., :30].min()
    assert torch.allclose(moved * mask, ab, atol=1e-6)
    turned = torch.flip(start, (1,)) * -1
    again = turned + diffusion(L, turned, -ab.flip(1), mask)
    assert torch.allclose(again, -moved.flip(1), atol=1e-6)


def test_diffusion_only_mixes_the_colours_that_are_there():
    L, ab, mask = grid_arrays(48, 80)
    start = torch.rand(1, 2, 48, 80, generator=torch.Generator().manual_seed(2))
    moved = start + Diffusion()(L, start, ab, mask)
    assert start.min() - 1e-5 <= moved.min()
    assert moved.max() <= start.max() + 1e-5
    flat = torch.full_like(start, 0.2)
    assert torch.allclose(Diffusion()(L, flat, ab, mask), torch.zeros_like(flat), atol=1e-6)


@pytest.mark.parametrize("factor", [2, 4])
def test_enlarging_with_gradients_is_bilinear(factor):
    x = torch.randn(2, 3, 5, 8, requires_grad=True)
    y = enlarge(x, factor)
    wanted = F.interpolate(x, scale_factor=float(factor), mode="bilinear")
    assert torch.allclose(y, wanted, atol=1e-6)
    weight = torch.randn_like(y)
    ours, theirs = (torch.autograd.grad((z * weight).sum(), x)[0] for z in (y, wanted))
    assert torch.allclose(ours, theirs, atol=1e-5)


def test_what_is_summed_in_another_order_for_gradients_is_the_same(monkeypatch):
    torch.manual_seed(0)
    grid = HintGrid()
    L, mask = torch.rand(2, 1, 48, 80), (torch.rand(2, 1, 48, 80) < 0.02).float()
    ab = 0.2 * torch.randn(2, 2, 48, 80) * mask
    with torch.inference_mode():
        wanted = grid(L, ab, mask)
    assert torch.allclose(grid(L, ab, mask), wanted, atol=1e-5)
    monkeypatch.setattr(torch.compiler, "is_compiling", lambda: True)
    assert torch.allclose(grid(L, ab, mask), wanted, atol=1e-5)


def test_steps_of_the_diffusion_are_a_networks_own(tmp_path):
    model = HSCAUNet(4, "guided", prior=False, steps=[1, 0, 2, 0, 1]).eval()
    save_training(
        tmp_path / "new.pt",
        {"config": model.config, "recipe": {}, "ema": model.state_dict(), "seen": 0},
    )
    assert load_checkpoint(tmp_path / "new.pt").model.grid.diffusion.steps == (1, 0, 2, 0, 1)
    config = {k: v for k, v in model.config.items() if k != "steps"}  # of an older release
    save_training(
        tmp_path / "old.pt", {"config": config, "recipe": {}, "ema": model.state_dict(), "seen": 0}
    )
    assert load_checkpoint(tmp_path / "old.pt").model.grid.diffusion.steps == (8, 8, 8, 8, 2)
    for wrong in ((1, 2), (1, 1, 1, 1, -1), (1, 1, 1, 1, 0.5)):
        with pytest.raises(ValueError, match="steps must be 5 whole numbers"):
            HSCAUNet(4, "guided", prior=False, steps=wrong)


def test_the_network_chooses_how_much_is_diffused():
    torch.manual_seed(0)
    model = HSCAUNet(4, "guided").eval()
    x = random_input()
    L, (hint, mask) = x[:, :1], centred_hints(x)
    with torch.no_grad():
        start, change = model.grid.steps(L, hint, mask, *model.prior(L, hint, mask)[1:4])
        for logit, share in ((-40.0, 0.0), (40.0, 1.0)):
            model.outc.conv.bias[2] = logit
            assert torch.allclose(model(x), start + share * change + NEUTRAL, atol=1e-6)


def test_networks_of_before_the_diffusion_can_still_be_read(tmp_path):
    old = HSCAUNet(4, "guided", diffuse=False)
    assert old.inc.double_conv[0].in_channels == 4
    config = {k: v for k, v in old.config.items() if k != "diffuse"}
    state = {"config": config, "ema": old.state_dict(), "seen": 1, "recipe": {}}
    save_training(tmp_path / "old.pt", state)
    read = load_checkpoint(tmp_path / "old.pt").model
    assert read.config == old.config
    x = random_input()
    assert torch.equal(read(x), old.eval()(x))
