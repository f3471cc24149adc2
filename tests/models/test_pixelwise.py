"""The generator from known pixels: its layers are the tables', its latents' shape, what reaches what."""

from __future__ import annotations

from typing import get_args

import pytest
import torch
from torch import nn

from hf_genmodels import UserError
from hf_genmodels.choices import PixelwiseArchitecture
from hf_genmodels.models.pixelwise import PixelwiseGenerator
from tests.testing_utils.models import ModelTesterMixin


class TestPixelwiseGenerator(ModelTesterMixin):
    model_class = PixelwiseGenerator
    configs = (
        {"sample_size": 12, "architecture": "dcgan", "width": 2},
        {"in_channels": 3, "sample_size": 8, "latent_channels": 2, "width": 2, "num_residual_blocks": 1},
        {"in_channels": 4, "sample_size": 20, "architecture": "dcgan", "latent_channels": 3, "width": 2},
        {"sample_size": 12, "architecture": "up_dil", "width": 2},
        {"sample_size": 16, "architecture": "up_encdec", "width": 2, "num_halvings": 3},
        {"sample_size": 12, "architecture": "unet", "width": 2, "num_residual_blocks": 0},
        {"sample_size": 16, "architecture": "res", "width": 2, "num_residual_blocks": 1, "num_halvings": 3},
    )

    def inputs(self, config, generator):
        shape = self.sample_shape(config)
        mask = (torch.rand(2, 1, *shape[1:], generator=generator) < 0.2).float()
        side = config["sample_size"] // 2 ** config.get("num_halvings", 2)
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


def texture(architecture: str, num_residual_blocks: int = 0) -> PixelwiseGenerator:
    """The thesis' networks for grey textures, an eighth as wide and for a fifth of their 160 pixels."""
    return PixelwiseGenerator(1, 32, 3, architecture, 8, num_residual_blocks, num_halvings=3)


def convolutions(network: nn.Module) -> list[tuple[object, ...]]:
    assert network.latent_shape == (3, 4, 4)
    inputs = torch.zeros(1, 1, 32, 32), torch.zeros(1, 1, 32, 32), torch.rand(1, 3, 4, 4)
    rows = layers(network, *inputs)
    assert rows[-1][0] == "conv" and rows[-1][2] == 1
    return [row for row in rows if row[0] in ("conv", "up")]


RISE = [("up", 3, 32, 3, 8), ("up", 32, 16, 3, 16)]
ENCODER = [("conv", 2, 8, 5, 32), ("conv", 8, 16, 3, 16), ("conv", 16, 32, 3, 8), ("conv", 32, 64, 3, 4)]
BLOCK = [("conv", 67, 67, 3, 4)] * 3


@pytest.mark.parametrize(
    ("architecture", "blocks", "table"),
    [
        (
            "up_dil",
            0,
            [*RISE, ("up", 16, 8, 3, 32), ("conv", 10, 8, 3, 32), ("conv", 8, 16, 3, 32), ("conv", 16, 32, 3, 32),
             ("conv", 32, 64, 3, 32), ("conv", 64, 1, 3, 32)],
        ),
        (
            "up_encdec",
            0,
            [*RISE, ("up", 16, 8, 5, 32), ("conv", 10, 8, 3, 16), ("conv", 8, 16, 3, 8), ("conv", 16, 32, 3, 4),
             ("up", 32, 32, 3, 8), ("up", 32 + 16, 16, 3, 16), ("up", 16 + 8, 8, 3, 32), ("conv", 8, 1, 3, 32)],
        ),
        (
            "unet",
            0,
            [*ENCODER, ("up", 67 + 64, 32, 3, 8), ("up", 32 + 32, 16, 3, 16), ("up", 16 + 16, 8, 3, 32),
             ("conv", 8, 1, 3, 32)],
        ),
        (
            "unet",
            6,
            [*ENCODER, *BLOCK * 6, ("up", 67 + 64, 32, 3, 8), ("up", 32 + 32, 16, 3, 16), ("up", 16 + 16, 8, 3, 32),
             ("conv", 8, 1, 3, 32)],
        ),
        (
            "res",
            6,
            [*ENCODER, *BLOCK * 6, ("up", 67, 32, 3, 8), ("up", 32, 16, 3, 16), ("up", 16, 8, 3, 32),
             ("conv", 8, 1, 3, 32)],
        ),
    ],
)  # fmt: skip
def test_the_networks_of_textures_are_the_tables(architecture, blocks, table):
    assert convolutions(texture(architecture, blocks)) == table


def counted(table: list[tuple[int, int, int]]) -> int:
    """Parameters of layers (channels in, channels out, kernel), each but the last with a norm in place of a bias."""
    *hidden, last = table
    return sum(i * o * k * k + 2 * o for i, o, k in hidden) + last[0] * last[1] * last[2] ** 2 + last[1]


@pytest.mark.parametrize(
    ("architecture", "blocks", "table"),
    [
        (
            "up_dil",
            0,
            [(1, 256, 3), (256, 128, 3), (128, 64, 3), (66, 64, 3), (64, 128, 3), (128, 256, 3), (256, 512, 3),
             (512, 1, 3)],
        ),
        (
            "up_encdec",
            0,
            [(1, 256, 3), (256, 128, 3), (128, 64, 5), (66, 64, 3), (64, 128, 3), (128, 256, 3), (256, 256, 3),
             (384, 128, 3), (192, 64, 3), (64, 1, 3)],
        ),
        (
            "res",
            6,
            [(2, 64, 5), (64, 128, 3), (128, 256, 3), (256, 512, 3), *[(513, 513, 3)] * 18, (513, 256, 3),
             (256, 128, 3), (128, 64, 3), (64, 1, 3)],
        ),
    ],
)  # fmt: skip
def test_parameters_at_the_size_of_the_tables(architecture, blocks, table):
    with torch.device("meta"):
        network = PixelwiseGenerator(1, 160, 1, architecture, 64, blocks, num_halvings=3)
    assert network.latent_shape == (1, 20, 20)
    assert sum(parameter.numel() for parameter in network.parameters()) == counted(table)


def test_dilations_grow_by_one():
    dilations = [layer[0].dilation for layer in texture("up_dil").body.dilated]
    assert dilations == [(1, 1), (2, 2), (3, 3), (4, 4)]


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


@pytest.mark.parametrize(("architecture", "reach"), [("dcgan", 1), ("unet_res", None), ("up_dil", 11)])
def test_how_far_a_known_pixel_reaches(architecture, reach):
    torch.manual_seed(0)
    side, middle = (32, 16) if architecture == "up_dil" else (16, 8)
    network = PixelwiseGenerator(1, side, architecture=architecture, width=2, num_residual_blocks=1)
    if architecture == "up_dil":  # over a whole image its norms see every pixel
        for layer in network.body.dilated:
            layer[1] = nn.Identity()
    values = torch.rand(1, 1, side, side, requires_grad=True)
    mask, latents = torch.zeros(1, 1, side, side), torch.rand(1, 1, side // 4, side // 4)
    output = network(values, mask, latents).sample[0, 0, middle, middle]
    (gradient,) = torch.autograd.grad(output, values)
    rows, columns = gradient[0, 0].nonzero(as_tuple=True)
    if reach is None:
        assert len(rows) == side * side
    else:
        for axis in (rows, columns):
            assert (axis.min(), axis.max()) == (middle - reach, middle + reach)


@pytest.mark.parametrize("architecture", get_args(PixelwiseArchitecture))
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
        ({"sample_size": 8, "architecture": "unet", "num_halvings": 3}, "no multiple of 8 of at least 16; use one"),
        ({"sample_size": (16, 20), "architecture": "res", "num_halvings": 3}, "sample_size 16x20 is no multiple of 8"),
        ({"num_halvings": 3}, "num_halvings must be 2 with architecture unet_res, got 3"),
        ({"architecture": "up_dil", "num_halvings": 0}, "num_halvings must be at least 1, got 0"),
        ({"architecture": "vit"}, "architecture 'vit' is unknown; choose one of: dcgan, unet_res, up_dil, up_encdec"),
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
