"""DCGAN's networks, and AVAE's as one configuration of them."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from hf_genmodels import DCGANDiscriminator, DCGANEncoder, DCGANGenerator
from hf_genmodels.blocks.adversarial import BatchNorm
from hf_genmodels.models.dcgan import avae_layout
from tests.testing_utils.adversarial import AdversarialTesterMixin
from tests.testing_utils.refusals import refused


class TestDCGANGenerator(AdversarialTesterMixin):
    model_class = DCGANGenerator
    configs = (
        {"latent_dim": 3, "out_channels": 1, "sample_size": 8, "width": 4},
        {"latent_dim": 5, "out_channels": 4, "sample_size": 32, "width": 2, **avae_layout(32)},
        {"latent_dim": 3, "sample_size": 16, "width": 4, "conditioning": "concat", "num_classes": 3},
        {
            "latent_dim": 3,
            "sample_size": 16,
            "width": 4,
            "conditioning": "batch_norm",
            "num_classes": 3,
            "norm_statistics": "batch",
        },
    )
    inputs = AdversarialTesterMixin.latent_inputs


class TestDCGANDiscriminator(AdversarialTesterMixin):
    model_class = DCGANDiscriminator
    configs = (
        {"in_channels": 1, "sample_size": 8, "width": 4},
        {"in_channels": 3, "sample_size": 16, "width": 4, "norm": "spectral", "kernel_size": 5},
        {"in_channels": 3, "sample_size": 16, "width": 4, "norm": "instance", "packing": 2},
        {
            "in_channels": 4,
            "sample_size": 16,
            "width": 4,
            "norm": "layer",
            "conditioning": "concat",
            "num_classes": 3,
            "packing": 4,
        },
        {
            "in_channels": 1,
            "sample_size": 16,
            "width": 4,
            "norm": "spectral",
            "conditioning": "projection",
            "num_classes": 3,
        },
        {
            "in_channels": 1,
            "sample_size": 16,
            "width": 4,
            "norm": "none",
            "conditioning": "acgan",
            "num_classes": 3,
            "feature_block": 0,
        },
    )
    inputs = AdversarialTesterMixin.image_inputs


class TestDCGANEncoder(AdversarialTesterMixin):
    model_class = DCGANEncoder
    configs = (
        {"in_channels": 1, "sample_size": 8, "latent_dim": 3, "width": 4},
        {
            "in_channels": 3,
            "sample_size": 32,
            "latent_dim": 2,
            "width": 2,
            "shared_log_std": True,
            "norm_statistics": "batch",
            **avae_layout(32),
        },
    )
    inputs = AdversarialTesterMixin.image_inputs


# AVAE's table ------------------------------------------------------------------------------------------------------


def layers(network: nn.Module) -> list[tuple[object, ...]]:
    """The layers with weights or an activation of their own, in order."""
    rows: list[tuple[object, ...]] = []
    for module in network.modules():
        if isinstance(module, nn.Conv2d | nn.ConvTranspose2d):
            assert module.kernel_size == (5, 5)
            kind = "conv" if isinstance(module, nn.Conv2d) else "up"
            rows.append((kind, module.in_channels, module.out_channels, module.stride[0], module.bias is not None))
        elif isinstance(module, nn.Linear):
            rows.append(("dense", module.in_features, module.out_features, module.bias is not None))
        elif isinstance(module, nn.BatchNorm2d):
            assert (module.eps, module.momentum, module.affine) == (1e-3, 0.1, True)
            rows.append(("norm", module.num_features))
        elif isinstance(module, nn.LeakyReLU):
            assert module.negative_slope == 0.2
            rows.append(("leaky",))
    return rows


# of the two sizes of image: the stride of the block that the table marks
SIZES = pytest.mark.parametrize(("size", "marked"), [(64, 2), (32, 1)])
W, C, Z = 2, 3, 100


def trunk(marked: int) -> list[tuple[object, ...]]:
    rows: list[tuple[object, ...]] = [("conv", C, W, 2, True), ("leaky",)]
    for narrow, wide, stride in ((W, 2 * W, 2), (2 * W, 4 * W, marked), (4 * W, 8 * W, 2)):
        rows += [("conv", narrow, wide, stride, False), ("norm", wide), ("leaky",)]
    return rows


TRUNK_SIZE = 25 * (C * W + 2 * W**2 + 8 * W**2 + 32 * W**2) + W + 2 * 14 * W


@SIZES
@pytest.mark.parametrize("latent_dim", [Z, 2 * Z])
def test_avae_generator_is_the_table(size, marked, latent_dim):
    generator = DCGANGenerator(latent_dim=latent_dim, sample_size=size, width=W, **avae_layout(size))
    assert layers(generator) == [
        ("dense", latent_dim, 16 * 8 * W, False),
        ("norm", 8 * W),
        ("up", 8 * W, 4 * W, 2, False),
        ("norm", 4 * W),
        ("up", 4 * W, 2 * W, marked, False),
        ("norm", 2 * W),
        ("up", 2 * W, W, 2, False),
        ("norm", W),
        ("up", W, C, 2, True),
    ]
    expected = latent_dim * 128 * W + 25 * (32 * W**2 + 8 * W**2 + 2 * W**2 + C * W) + C + 2 * 15 * W
    assert sum(parameter.numel() for parameter in generator.parameters()) == expected


@SIZES
def test_avae_encoder_is_the_table(size, marked):
    encoder = DCGANEncoder(sample_size=size, width=W, shared_log_std=True, **avae_layout(size))
    assert layers(encoder) == [*trunk(marked), ("dense", 128 * W, Z, True)]
    expected = TRUNK_SIZE + 128 * W * Z + Z + Z
    assert sum(parameter.numel() for parameter in encoder.parameters()) == expected
    assert encoder.log_std.tolist() == [0] * Z


@SIZES
def test_avae_critic_is_the_table(size, marked):
    critic = DCGANDiscriminator(sample_size=size, width=W, **avae_layout(size))
    assert layers(critic) == [*trunk(marked), ("dense", 128 * W, 1, True)]
    assert sum(parameter.numel() for parameter in critic.parameters()) == TRUNK_SIZE + 128 * W + 1


@pytest.mark.parametrize(
    ("size", "block", "shape"),
    [(64, -2, (4 * W, 8, 8)), (32, -1, (8 * W, 4, 4)), (32, -2, (4 * W, 8, 8)), (64, 0, (W, 32, 32))],
)
def test_features_are_the_activations_of_the_asked_block(size, block, shape):
    """The first two are the maps that VAE/GAN compares at the two sizes of AVAE's table."""
    critic = DCGANDiscriminator(sample_size=size, width=W, feature_block=block, **avae_layout(size))
    sample = torch.randn(2, 3, size, size)
    output = critic(sample)
    assert output.features.shape == (2, *shape)
    seen = []
    critic.trunk[block].register_forward_hook(lambda module, arguments, result: seen.append(result))
    torch.testing.assert_close(critic(sample).features, seen[0])


# the rest ----------------------------------------------------------------------------------------------------------


def test_weights_start_as_the_paper_draws_them():
    torch.manual_seed(0)
    networks = [
        DCGANGenerator(sample_size=16, width=32, conditioning="batch_norm", num_classes=20),
        DCGANDiscriminator(sample_size=16, width=32, norm="layer", conditioning="projection", num_classes=20),
        DCGANEncoder(sample_size=16, width=32),
    ]
    for network in networks:
        for module in network.modules():
            if isinstance(module, nn.Conv2d | nn.ConvTranspose2d | nn.Linear | nn.Embedding):
                means, stds = (0, 5e-3), 0.02
                values = module.weight
            elif isinstance(module, nn.BatchNorm2d | nn.GroupNorm) and module.affine:
                means, stds = (1, 1e-2), 0.02
                values = module.weight
            elif isinstance(module, BatchNorm) and module.gain is not None:
                means, stds = (1, 1e-2), 0.02
                values = module.gain
                assert module.shift.abs().sum() == 0
            else:
                continue
            assert values.mean().item() == pytest.approx(means[0], abs=means[1])
            assert values.std().item() == pytest.approx(stds, rel=0.35)
            if getattr(module, "bias", None) is not None:
                assert module.bias.abs().sum() == 0


@pytest.mark.parametrize(("size", "kernel_size", "blocks"), [(8, 4, 1), (16, 5, 2), (32, 4, 3), (128, 5, 5)])
def test_every_power_of_two_leads_to_a_4x4_map_and_back(size, kernel_size, blocks):
    shape = {"sample_size": size, "width": 1, "kernel_size": kernel_size}
    discriminator = DCGANDiscriminator(in_channels=2, **shape)
    generator = DCGANGenerator(latent_dim=3, out_channels=2, **shape)
    nn.init.constant_(generator.to_image.bias, 10)
    image = generator(torch.randn(2, 3)).sample
    assert image.shape == (2, 2, size, size)
    assert image.min() > 0.9 and image.max() <= 1
    output = discriminator(image)
    assert len(discriminator.trunk) == blocks
    assert output.features.shape == (2, min(2 ** (blocks - 1), 8), 4, 4)
    assert output.logits.shape == (2,)


def test_packed_samples_share_a_logit_with_their_neighbours():
    torch.manual_seed(0)
    discriminator = DCGANDiscriminator(in_channels=1, sample_size=8, width=4, packing=2).eval()
    sample = torch.randn(6, 1, 8, 8, requires_grad=True)
    logits = discriminator(sample).logits
    assert logits.shape == (3,)
    (gradient,) = torch.autograd.grad(logits[1], sample)
    assert (gradient.flatten(1).abs().sum(1) > 0).tolist() == [False, False, True, True, False, False]


def test_labels_stay_with_their_sample_inside_a_pack():
    torch.manual_seed(0)
    shape = {"in_channels": 1, "sample_size": 8, "width": 4, "conditioning": "concat", "num_classes": 3}
    discriminator = DCGANDiscriminator(**shape, packing=2).eval()
    sample, labels = torch.randn(4, 1, 8, 8), torch.tensor([0, 1, 2, 0])
    planes = torch.zeros(2, 8, 8, 8)
    planes[:, 0], planes[:, 4] = sample[0::2, 0], sample[1::2, 0]
    for pack in range(2):
        planes[pack, 1 + labels[2 * pack]] = 1
        planes[pack, 5 + labels[2 * pack + 1]] = 1
    expected = discriminator.head.linear(discriminator.trunk(planes).flatten(1)).squeeze(1)
    torch.testing.assert_close(discriminator(sample, labels).logits, expected)


def test_projection_adds_the_inner_product_with_the_embedding():
    torch.manual_seed(0)
    discriminator = DCGANDiscriminator(
        in_channels=1, sample_size=8, width=4, conditioning="projection", num_classes=3, norm="none"
    )
    sample = torch.randn(2, 1, 8, 8)
    first, second = (discriminator(sample, torch.tensor([label] * 2)) for label in (0, 2))
    weight = discriminator.head.embedding.weight
    expected = first.features.flatten(1) @ (weight[2] - weight[0])
    torch.testing.assert_close(second.logits - first.logits, expected)


def test_conditional_batch_norm_scales_each_class_on_its_own():
    torch.manual_seed(0)
    norm = BatchNorm(2, num_classes=3)
    nn.init.normal_(norm.gain), nn.init.normal_(norm.shift)
    hidden, labels = torch.randn(4, 2, 3, 3), torch.tensor([2, 0, 2, 1])
    actual = norm(hidden, labels)
    for channel in range(2):
        values = hidden[:, channel]
        mean, std = values.mean(), (values.var(unbiased=False) + 1e-5).sqrt()
        for row, label in enumerate(labels):
            expected = norm.gain[label, channel] * (values[row] - mean) / std + norm.shift[label, channel]
            torch.testing.assert_close(actual[row, channel], expected)


@pytest.mark.parametrize("num_classes", [None, 3])
def test_statistics_of_the_batch_are_those_of_training_and_leave_the_averages_alone(num_classes):
    torch.manual_seed(0)
    running, batch = (BatchNorm(2, 1e-3, num_classes, statistics) for statistics in ("running", "batch"))
    hidden = torch.randn(4, 2, 3, 3) + 2
    labels = None if num_classes is None else torch.tensor([0, 1, 2, 0])
    trained = [norm.train()(hidden, labels) for norm in (running, batch)]
    torch.testing.assert_close(trained[0], trained[1])
    averages = batch.normalise.running_mean.clone()
    assert averages.abs().sum() > 0
    torch.testing.assert_close(batch.eval()(hidden, labels), trained[1])
    assert torch.equal(batch.normalise.running_mean, averages)
    assert not torch.allclose(running.eval()(hidden, labels), trained[0], atol=0.1)


@pytest.mark.parametrize("statistics", ["running", "batch"])
def test_inference_uses_the_statistics_that_the_config_asks_for(statistics):
    torch.manual_seed(0)
    shape = {"sample_size": 16, "width": 4, "norm_statistics": statistics}
    generator, encoder = DCGANGenerator(latent_dim=3, **shape), DCGANEncoder(latent_dim=2, **shape)
    for network, inputs in ((generator, torch.randn(4, 3)), (encoder, torch.randn(4, 3, 16, 16))):
        in_training = network.train()(inputs)[0]
        assert torch.allclose(network.eval()(inputs)[0], in_training, atol=1e-6) == (statistics == "batch")


@pytest.mark.parametrize(
    ("norm", "sees"), [("batch", True), ("instance", False), ("layer", False), ("spectral", False), ("none", False)]
)
def test_only_batch_norm_lets_a_sample_see_its_neighbours(norm, sees):
    torch.manual_seed(0)
    sample = torch.randn(3, 1, 16, 16, requires_grad=True)
    logits = DCGANDiscriminator(in_channels=1, sample_size=16, width=4, norm=norm)(sample).logits
    (gradient,) = torch.autograd.grad(logits[0], sample)
    assert (gradient.flatten(1).abs().sum(1) > 0).tolist() == [True, sees, sees]


@pytest.mark.parametrize(
    ("build", "message"),
    [
        (lambda: DCGANGenerator(sample_size=28), "DCGANGenerator: sample_size 28 is no power of two"),
        (lambda: DCGANEncoder(sample_size=4), "sample_size 4 is no power of two of at least 8"),
        (lambda: DCGANDiscriminator(norm="group"), "norm 'group' is unknown; choose one of: batch, instance"),
        (lambda: DCGANGenerator(conditioning="projection", num_classes=3), "conditioning 'projection' is unknown"),
        (lambda: DCGANGenerator(conditioning="concat", num_classes=0), "num_classes must be at least 1, got 0"),
        (lambda: DCGANEncoder(norm_statistics="none"), "norm_statistics 'none' is unknown"),
        (lambda: DCGANDiscriminator(packing=0), "packing must be at least 1, got 0"),
        (lambda: DCGANEncoder(width=0), "width must be at least 1, got 0"),
        (lambda: DCGANEncoder(latent_dim=0), "latent_dim must be at least 1, got 0"),
        (lambda: DCGANGenerator(latent_dim=0), "latent_dim must be at least 1, got 0"),
        (lambda: DCGANDiscriminator(kernel_size=3), "kernel_size must be 4 or 5, got 3"),
        (lambda: DCGANDiscriminator(strides=(2, 2, 2)), r"strides \(2, 2, 2\) with kernel_size 4 do not lead from 64"),
        (lambda: DCGANGenerator(sample_size=32, strides=(2, 2, 1, 2)), "ones only with kernel_size 5"),
        (lambda: DCGANGenerator(conditioning="concat"), "'concat' and num_classes None do not go together"),
        (lambda: DCGANDiscriminator(num_classes=3), "'none' and num_classes 3 do not go together"),
        (
            lambda: DCGANDiscriminator(packing=2, conditioning="acgan", num_classes=3),
            "packing and conditioning 'acgan' do not go together",
        ),
        (lambda: DCGANDiscriminator(sample_size=8, feature_block=1), "no block 1, only 1 blocks"),
        (
            lambda: DCGANDiscriminator(sample_size=8, width=2, packing=2)(torch.zeros(3, 3, 8, 8)),
            "a batch of 3 samples cannot be packed by 2",
        ),
        (
            lambda: DCGANDiscriminator(sample_size=8, width=2)(torch.zeros(2, 1, 8, 8)),
            r"takes samples of shape \(3, 8, 8\), got \(1, 8, 8\)",
        ),
        (lambda: DCGANEncoder(sample_size=8, width=2)(torch.zeros(2, 3, 4, 4)), r"takes samples of shape \(3, 8, 8\)"),
        (
            lambda: DCGANGenerator(sample_size=8, width=2)(torch.zeros(2, 50)),
            r"takes latents of shape \(batch, 100\), got \(2, 50\)",
        ),
        (
            lambda: DCGANGenerator(sample_size=8, width=2)(torch.zeros(2, 100), torch.tensor([0, 1])),
            "without class conditioning, but got labels",
        ),
        (
            lambda: DCGANGenerator(2, 3, 8, 2, conditioning="batch_norm", num_classes=3)(torch.zeros(4, 2)),
            r"conditioned on classes \(batch_norm\): give \(4,\) labels",
        ),
        (
            lambda: DCGANGenerator(2, 3, 8, 2, conditioning="concat", num_classes=3)(
                torch.zeros(2, 2), torch.zeros(2, 3, dtype=torch.long)
            ),
            r"labels must have shape \(2,\), one a sample, got \(2, 3\)",
        ),
    ],
)
def test_impossible_networks_and_inputs_are_one_line_errors(build, message):
    with refused(message):
        build()
