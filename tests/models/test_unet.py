"""The U-Net: published parameter counts, shapes, which parameters belong to which part."""

import pytest
import torch

from uscl.models.unet import OUTPUT_BIAS, UNet


def count(module):
    return sum(parameter.numel() for parameter in module.parameters())


def test_chaitanya_has_the_papers_parameters():
    network = UNet("chaitanya", num_classes=4, image_size=192)
    assert count(network.encoder) == pytest.approx(0.886e6, abs=500)
    assert count(network.decoder) == pytest.approx(1.205e6, abs=500)
    assert count(network) == pytest.approx(2.10e6, abs=5000)


@pytest.mark.parametrize(("image_size", "parameters"), [(512, 46_330_627), (256, 33_476_350)])
def test_nnunet2d_has_exactly_the_parameters_of_nnunet(image_size, parameters):
    with torch.device("meta"):
        network = UNet("nnunet2d", num_classes=5, image_size=image_size, norm="instance", activation="leaky_relu")
    assert count(network) == parameters


def test_tiny_stays_under_its_budget():
    assert count(UNet("tiny", num_classes=4, image_size=64)) < 150_000


@pytest.mark.parametrize(("preset", "size"), [("tiny", 64), ("chaitanya", 64), ("nnunet2d", 32)])
@pytest.mark.parametrize("norm", ["batch", "instance", "group"])
def test_every_map_has_the_size_that_the_geometry_promises(preset, size, norm):
    network = UNet(preset, num_classes=3, image_size=size, norm=norm, activation="silu")
    image = torch.rand(2, 1, size, size)
    features = network.encode(image)
    assert [level.shape[1] for level in features] == list(network.widths)
    assert features[-1].shape[-1] == network.geometry.bottleneck_size
    for level in range(1, network.num_blocks + 1):
        level_map = network.decode(features, upto=level)
        assert level_map.shape[1:] == (network.decoder_channels(level), *[network.geometry.level_size(level)] * 2)
    assert network(image).shape == (2, 3, size, size)


@pytest.mark.parametrize("preset", ["tiny", "nnunet2d"])
def test_decode_upto_a_level_trains_the_first_blocks_only(preset):
    network = UNet(preset, num_classes=2, image_size=64)
    network.decode(network.encode(torch.rand(2, 1, 64, 64)), upto=2).sum().backward()
    touched = {
        name.split(".")[2] for name, p in network.decoder.named_parameters(prefix="decoder") if p.grad is not None
    }
    assert touched == {"0", "1"}
    assert all(parameter.grad is None for parameter in network.tail.parameters())


def test_parameter_names_begin_with_their_part():
    names = [name for name, _ in UNet("nnunet2d", num_classes=2, image_size=32).named_parameters()]
    assert {name.split(".")[0] for name in names} == {"encoder", "decoder", "tail"}
    assert all(name.startswith("decoder.blocks.") for name in names if name.startswith("decoder"))


def test_tiny_starts_out_near_background():
    network = UNet("tiny", num_classes=4, image_size=64)
    assert torch.equal(network.tail.heads[-1][-1].bias, torch.full((4,), OUTPUT_BIAS))


def test_deep_logits_begin_with_the_forward_logits_and_halve():
    network = UNet("nnunet2d", num_classes=2, image_size=32, norm="instance").eval()
    image = torch.rand(2, 1, 32, 32)
    deep = network.deep_logits(image)
    assert [logits.shape[-1] for logits in deep] == [32, 16, 8][: network.num_blocks]
    assert torch.equal(deep[0], network(image))


def test_presets_without_deep_supervision_give_one_output():
    assert len(UNet("tiny", num_classes=2, image_size=64).deep_logits(torch.rand(2, 1, 64, 64))) == 1


@pytest.mark.parametrize("preset", ["tiny", "chaitanya", "nnunet2d"])
def test_channels_last_gives_the_same_network(preset):
    torch.manual_seed(0)
    network = UNet(preset, num_classes=2, image_size=64).eval()
    image = torch.rand(2, 1, 64, 64)
    usual = network(image)
    swapped = network.to(memory_format=torch.channels_last)(image.contiguous(memory_format=torch.channels_last))
    torch.testing.assert_close(swapped, usual, rtol=1e-4, atol=1e-4)


def test_every_parameter_gets_a_finite_gradient():
    network = UNet("tiny", num_classes=2, image_size=64)
    network(torch.rand(2, 1, 64, 64)).square().mean().backward()
    assert all(torch.isfinite(p.grad).all() and p.grad.any() for p in network.parameters() if p.dim() > 1)


def test_weights_come_from_the_seed():
    def weights(seed):
        torch.manual_seed(seed)
        return UNet("tiny", num_classes=2, image_size=64).state_dict()["encoder.levels.1.0.0.weight"]

    assert torch.equal(weights(1), weights(1))
    assert not torch.equal(weights(1), weights(2))
