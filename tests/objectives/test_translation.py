"""What translating families share: pictures, networks that options build, checks of options."""

from __future__ import annotations

import pytest
import torch

from hf_genmodels import DataSpec, UserError
from hf_genmodels.families.cyclegan import CycleGANArguments
from hf_genmodels.families.cyclegan import build as build_cyclegan
from hf_genmodels.families.pix2pix import Pix2PixArguments
from hf_genmodels.families.pix2pix import build as build_pix2pix
from hf_genmodels.families.translators import (
    TranslatorArguments,
    build_patch_discriminator,
    build_translator,
    check_translators,
    most_downs,
)
from hf_genmodels.models.resnet_translator import ResNetTranslator
from hf_genmodels.models.unet_translator import UNetTranslator
from hf_genmodels.objectives.pictures import side_by_side
from tests.testing_utils.refusals import refused


def spec(channels: int = 1, size: int | None = 8, other: DataSpec | None = None) -> DataSpec:
    return DataSpec(
        "builtin:edges", channels, None if size is None else (size, size), 255.0, None, 100, "0" * 12, other
    )


def test_images_side_by_side():
    grey, colour, angles = torch.rand(2, 1, 4, 4), torch.rand(2, 3, 4, 4), torch.rand(2, 4, 4, 4)
    shown = side_by_side(grey, colour, angles)
    assert shown.shape == (2, 3, 4, 12)
    assert torch.equal(shown[..., :4], grey.expand(2, 3, 4, 4))
    assert torch.equal(shown[..., 4:8], colour)
    assert torch.equal(shown[..., 8:], angles[:, :1].expand(2, 3, 4, 4))
    assert side_by_side(grey, grey).shape == (2, 1, 4, 8)


# networks ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("size", "downs"), [(8, 3), (12, 2), (24, 3), (512, 8)])
def test_a_unet_halves_an_image_as_often_as_it_can(size, downs):
    network = build_translator(TranslatorArguments(architecture="unet", width=1), spec(1, size), spec(3, size))
    assert isinstance(network, UNetTranslator)
    config = network.config
    assert (config.num_downs, config.in_channels, config.out_channels, config.sample_size) == (downs, 1, 3, size)


@pytest.mark.parametrize(("size", "given", "blocks"), [(8, None, 6), (252, None, 6), (256, None, 9), (256, 0, 0)])
def test_a_residual_translator_has_more_blocks_for_large_images(size, given, blocks):
    args = TranslatorArguments(architecture="resnet", width=1, num_blocks=given)
    network = build_translator(args, spec(1, size), spec(3, size))
    assert isinstance(network, ResNetTranslator)
    assert network.config.num_blocks == blocks


@pytest.mark.parametrize("architecture", ["unet", "resnet"])
def test_options_reach_the_networks(architecture):
    args = TranslatorArguments(
        architecture=architecture, width=3, norm="batch", norm_statistics="image", dropout=0.25,
        num_downs=2 if architecture == "unet" else None, receptive_field=16, discriminator_width=5,
    )  # fmt: skip
    config = build_translator(args, spec(), spec()).config
    assert (config.width, config.norm, config.norm_statistics, config.dropout) == (3, "batch", "image", 0.25)
    config = build_patch_discriminator(args, 7, spec(size=64)).config
    assert (config.in_channels, config.width, config.receptive_field, config.norm) == (7, 5, 16, "batch")


@pytest.mark.parametrize(
    ("options", "size", "advice"),
    [
        ({"architecture": "unet", "num_downs": 3}, 12, "multiples of 8, builtin:edges has 12; use --resolution 16"),
        ({"architecture": "unet", "num_downs": 4}, 5, "multiples of 16, builtin:edges has 5; use --resolution 16"),
        ({"architecture": "resnet"}, 31, "multiples of 4, builtin:edges has 31; use --resolution 32"),
    ],
)
def test_sizes_that_the_levels_do_not_divide(options, size, advice):
    with pytest.raises(UserError) as error:
        build_translator(TranslatorArguments(**options), spec(1, size), spec(1, size))
    assert str(error.value) == f"--architecture {options['architecture']} needs images whose sides are {advice}"


@pytest.mark.parametrize(("size", "downs"), [(8, 3), (40, 3), (64, 6), (96, 5), (256, 8), (512, 8)])
def test_a_unet_halves_as_often_as_it_can(size, downs):
    assert most_downs(spec(1, size)) == downs


@pytest.mark.parametrize(("size", "times", "better"), [(10, 1, 32), (100, 2, 96), (500, 2, 512), (31, 0, 32)])
def test_sizes_that_are_halved_too_seldom(size, times, better):
    with refused(f"which is {times} times for the {size} pixels .*; use --resolution {better}, "):
        build_translator(TranslatorArguments(architecture="unet"), spec(1, size), spec(1, size))


# options -------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"width": 0}, "--width must be at least 1, got 0"),
        ({"discriminator_width": 0}, "--discriminator_width must be at least 1, got 0"),
        ({"dropout": -0.1}, "--dropout must be at least 0, got -0.1"),
        ({"dropout": 1.0}, "--dropout must be below 1, got 1.0"),
        ({"num_downs": 3}, "--num_downs has no meaning with --architecture resnet; leave it out"),
        (
            {"architecture": "unet", "num_blocks": 3},
            "--num_blocks has no meaning with --architecture unet; leave it out",
        ),
        ({"norm_statistics": "image"}, "--norm_statistics has no meaning with --norm instance; leave it out"),
        ({"discriminator_learning_rate": 0.0}, "--discriminator_learning_rate must be positive, got 0.0"),
    ],
)
def test_options_that_mean_nothing(options, message):
    with pytest.raises(UserError) as error:
        check_translators(TranslatorArguments(**options), spec(other=spec()))
    assert str(error.value) == message


def test_vectors_are_no_images():
    for data in (spec(2, None, spec()), spec(other=spec(2, None))):
        with pytest.raises(UserError) as error:
            check_translators(TranslatorArguments(), data)
        assert str(error.value) == "builtin:edges has vectors; image to image needs images"


@pytest.mark.parametrize("rate", [None, 0.5])
def test_discriminators_may_have_a_learning_rate_of_their_own(rate):
    options = {"width": 1, "receptive_field": 16, "discriminator_width": 1, "discriminator_learning_rate": rate}
    data = spec(other=spec())
    for objective in (
        build_pix2pix(Pix2PixArguments(**options), data),
        build_cyclegan(CycleGANArguments(**options, num_blocks=0), data),
    ):
        for name, network in objective.networks.items():
            (group,) = objective.param_groups(name)
            assert list(map(id, group["params"])) == list(map(id, network.parameters()))
            assert group.get("lr") == (None if name.startswith("generator") else rate)


def test_images_too_small_for_the_discriminator():
    args = TranslatorArguments(receptive_field=70)
    small = spec(size=16)
    with refused("--receptive_field 70 needs images of at least 24 pixels, builtin:edges has"):
        build_patch_discriminator(args, 1, small)
    build_patch_discriminator(args, 1, spec(size=24))(torch.zeros(1, 1, 24, 24))
