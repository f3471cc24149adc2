"""The generator from known pixels: its layers are the tables', its latents' shape, what reaches what."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from hf_genmodels import UserError
from hf_genmodels.models.pixelwise import PixelwiseGenerator
from tests.testing_utils.models import ModelTesterMixin


class TestPixelwiseGenerator(ModelTesterMixin):
    model_class = PixelwiseGenerator
    configs = (
        {"sample_size": 12, "architecture": "dcgan", "width": 2},
        {"in_channels": 3, "sample_size": 8, "latent_channels": 2, "width": 2, "num_residual_blocks": 1},
        {"in_channels": 4, "sample_size": 20, "architecture": "dcgan", "latent_channels": 3, "width": 2},
    )

    def inputs(self, config, generator):
        shape = self.sample_shape(config)
        mask = (torch.rand(2, 1, *shape[1:], generator=generator) < 0.2).float()
        side = config["sample_size"] // 4
        latents = torch.rand(2, config.get("latent_channels", 1), side, side, generator=generator)
        values = torch.rand(2, *shape, generator=generator) * 2 - 1
        return {"values": values * mask, "mask": mask, "latents": 2 * latents - 1}


def layers(network: nn.Module, *inputs: torch.Tensor) -> list[tuple[object, ...]]:
    """(kind, channels in, channels out, kernel, height of the output) in the order of the pass."""
    rows: list[tuple[object, ...]] = []

    def note(module, arguments, result):
        if isinstance(module, nn.Linear):
            rows.append(("dense", module.in_features, module.out_features))
        elif isinstance(module, nn.Conv2d | nn.ConvTranspose2d):
            kind = "conv" if isinstance(module, nn.Conv2d) else "up"
            row = (kind, module.in_channels, module.out_channels, module.kernel_size[0], result.shape[2])
            rows.append(row)
        elif isinstance(module, nn.InstanceNorm2d):
            assert module.affine and not module.track_running_stats
            rows.append(("norm",))
        elif isinstance(module, nn.ReLU):
            rows.append(("relu",))

    for module in network.modules():
        module.register_forward_hook(note)
    network(*inputs)
    return rows


NORMED = [("norm",), ("relu",)]


def test_dcgan_is_the_table():
    network = PixelwiseGenerator(1, 28, architecture="dcgan", width=64)
    assert network.latent_shape == (1, 7, 7)
    assert layers(network, torch.zeros(1, 1, 28, 28), torch.zeros(1, 1, 28, 28), torch.rand(1, 1, 7, 7)) == [
        ("dense", 49, 343),
        *NORMED,
        ("up", 7, 128, 3, 14),
        *NORMED,
        ("up", 128, 64, 3, 28),
        *NORMED,
        ("conv", 64 + 2, 1, 3, 28),
    ]


def test_unet_res_is_the_table():
    network = PixelwiseGenerator(3, 32, latent_channels=2, width=64)
    assert network.latent_shape == (2, 8, 8)
    block = [("conv", 256, 256, 3, 8), *NORMED, ("conv", 256, 256, 3, 8), *NORMED, ("conv", 256, 256, 3, 8), ("norm",)]
    assert layers(network, torch.zeros(1, 3, 32, 32), torch.zeros(1, 1, 32, 32), torch.rand(1, 2, 8, 8)) == [
        ("conv", 4, 64, 5, 32),
        *NORMED,
        ("conv", 64, 128, 3, 16),
        *NORMED,
        ("conv", 128, 256, 3, 8),
        *NORMED,
        ("conv", 256 + 2, 256, 1, 8),
        *NORMED,
        *block * 4,
        ("up", 256 + 256, 256, 3, 16),
        *NORMED,
        ("up", 256 + 128, 128, 3, 32),
        *NORMED,
        ("up", 128 + 64, 64, 3, 32),
        *NORMED,
        ("conv", 64, 3, 3, 32),
    ]


def test_residual_blocks_add_and_skips_carry():
    """With the middle of the network and z silenced, the known pixels still arrive, over each skip alone."""
    torch.manual_seed(0)
    network = PixelwiseGenerator(1, 16, width=2, num_residual_blocks=2).eval()
    hidden = torch.randn(1, 8, 4, 4)
    for residual in network.body.residuals:
        nn.init.zeros_(residual[-1].weight)
        nn.init.zeros_(residual[-1].bias)
    seen = []
    network.body.up[0].register_forward_hook(lambda module, arguments, result: seen.append(arguments[0]))
    network.body.join.register_forward_hook(lambda module, arguments, result: hidden)
    network(torch.zeros(1, 1, 16, 16), torch.zeros(1, 1, 16, 16), torch.zeros(1, 1, 4, 4))
    assert torch.equal(seen[0][:, :8], hidden), "a block whose branch is 0 passes on what it gets"


@pytest.mark.parametrize(("architecture", "reach"), [("dcgan", 1), ("unet_res", None)])
def test_how_far_a_known_pixel_reaches(architecture, reach):
    torch.manual_seed(0)
    network = PixelwiseGenerator(1, 16, architecture=architecture, width=2, num_residual_blocks=1)
    values = torch.rand(1, 1, 16, 16, requires_grad=True)
    mask, latents = torch.zeros(1, 1, 16, 16), torch.rand(1, 1, 4, 4)
    output = network(values, mask, latents).sample[0, 0, 8, 8]
    (gradient,) = torch.autograd.grad(output, values)
    rows, columns = gradient[0, 0].nonzero(as_tuple=True)
    if reach is None:
        assert len(rows) == 256
    else:
        assert {*rows.tolist()} == {*columns.tolist()} == {8 - reach, 8, 8 + reach}


@pytest.mark.parametrize("architecture", ["dcgan", "unet_res"])
def test_values_mask_and_latents_all_matter_and_samples_do_not_see_each_other(architecture):
    torch.manual_seed(0)
    network = PixelwiseGenerator(2, 8, architecture=architecture, width=4, num_residual_blocks=1)
    inputs = [torch.rand(2, 2, 8, 8, requires_grad=True), torch.rand(2, 1, 8, 8, requires_grad=True)]
    inputs.append(torch.rand(2, 1, 2, 2, requires_grad=True))
    sample = network(*inputs).sample
    assert sample.shape == (2, 2, 8, 8) and sample.abs().max() <= 1
    for gradient in torch.autograd.grad(sample[0].square().sum(), inputs):
        assert gradient[0].abs().sum() > 0 and gradient[1].abs().sum() == 0


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"sample_size": 30}, "sample_size 30 is no multiple of 4 of at least 8; use one \\(--resolution\\)"),
        ({"sample_size": 4}, "sample_size 4 is no multiple of 4 of at least 8"),
        ({"architecture": "unet"}, "architecture 'unet' is unknown; choose one of: dcgan, unet_res"),
        ({"width": 0}, "width must be at least 1, got 0"),
        ({"latent_channels": 0}, "latent_channels must be at least 1, got 0"),
        ({"num_residual_blocks": -1}, "num_residual_blocks must be at least 0, got -1"),
    ],
)
def test_impossible_networks(options, message):
    with pytest.raises(UserError, match=message):
        PixelwiseGenerator(**options)


@pytest.mark.parametrize(
    ("name", "shape", "expected"),
    [
        ("values", (2, 1, 8, 12), r"values: the network takes shape \(2, 3, 8, 8\), got \(2, 1, 8, 12\)"),
        ("mask", (2, 3, 8, 8), r"mask: the network takes shape \(2, 1, 8, 8\), got \(2, 3, 8, 8\)"),
        ("latents", (1, 1, 2, 2), r"latents: the network takes shape \(2, 1, 2, 2\), got \(1, 1, 2, 2\)"),
    ],
)
def test_inputs_of_another_shape(name, shape, expected):
    network = PixelwiseGenerator(3, 8, width=2, num_residual_blocks=0)
    inputs = {"values": torch.zeros(2, 3, 8, 8), "mask": torch.zeros(2, 1, 8, 8), "latents": torch.zeros(2, 1, 2, 2)}
    with pytest.raises(UserError, match=expected):
        network(**{**inputs, name: torch.zeros(shape)})
