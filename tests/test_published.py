import pytest
import torch
import torch.nn.functional as F

from hscaunet import PublishedNet, build_network
from hscaunet.model.gates import ChannelAttention, HintAttention, SpatialAttention, shrink


def test_widths_are_those_of_the_publication():
    model = PublishedNet()
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
    up = PublishedNet(4).eval().up3
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
    module = HintAttention(factor)
    x = torch.rand(2, 2, 48, 80)
    expected = F.interpolate(x, (48 // factor, 80 // factor), mode="bilinear", antialias=True)
    assert torch.allclose(shrink(x, module.triangle, factor), expected, atol=1e-6)


def test_channel_attention_is_a_choice():
    assert isinstance(PublishedNet(4).up1.ch, ChannelAttention)
    assert isinstance(PublishedNet(4, "spatial").up1.ch, SpatialAttention)
    for bad in ({"channel_attention": "x"}, {"width": 0}, {"width": 1.5}):
        with pytest.raises(ValueError, match="must be"):
            PublishedNet(**bad)
    with pytest.raises(ValueError, match="multiples of 16"):
        PublishedNet(4)(torch.zeros(1, 4, 64, 72))


def test_the_published_form_learns():
    torch.manual_seed(0)
    model = PublishedNet(4)
    x, target = torch.rand(2, 4, 64, 96), torch.full((2, 2, 64, 96), 0.6)
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


def test_a_network_is_made_of_its_config():
    for config in (
        {"form": "published", "width": 4, "channel_attention": "spatial"},
        {"form": "guided", "widths": [8, 12, 16, 16], "heads": 2, "depth": 4},
    ):
        assert build_network(config).config == config
    with pytest.raises(ValueError, match="form must be one of guided, published"):
        build_network({"form": "x"})
    with pytest.raises(ValueError, match="four whole numbers"):
        build_network({"form": "guided", "widths": [8, 8]})
    with pytest.raises(ValueError, match="multiple of 4"):
        build_network({"form": "guided", "widths": [8, 8, 18, 8]})
