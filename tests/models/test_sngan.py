"""SNGAN's residual networks."""

from __future__ import annotations

from itertools import pairwise

import pytest
import torch
from torch import nn
from torch.nn.utils import parametrize

from hf_genmodels import SNGANDiscriminator, SNGANGenerator
from tests.testing_utils.adversarial import AdversarialTesterMixin
from tests.testing_utils.refusals import refused


class TestSNGANGenerator(AdversarialTesterMixin):
    model_class = SNGANGenerator
    configs = (
        {"latent_dim": 3, "out_channels": 1, "sample_size": 8, "block_out_channels": (4, 4)},
        {
            "latent_dim": 3,
            "sample_size": 16,
            "block_out_channels": (8, 4, 4),
            "conditioning": "batch_norm",
            "num_classes": 3,
            "norm_statistics": "batch",
        },
        {
            "latent_dim": 3,
            "sample_size": 8,
            "block_out_channels": (4, 6),
            "conditioning": "concat",
            "num_classes": 2,
        },
    )
    inputs = AdversarialTesterMixin.latent_inputs


class TestSNGANDiscriminator(AdversarialTesterMixin):
    model_class = SNGANDiscriminator
    configs = (
        {"in_channels": 1, "sample_size": 8, "block_out_channels": (4, 4, 4), "num_downsamples": 1},
        {
            "in_channels": 3,
            "sample_size": 8,
            "block_out_channels": (4, 8),
            "num_downsamples": 2,
            "conditioning": "projection",
            "num_classes": 3,
        },
        {
            "in_channels": 4,
            "sample_size": 8,
            "block_out_channels": (4, 8),
            "num_downsamples": 1,
            "norm": "none",
            "conditioning": "acgan",
            "num_classes": 3,
        },
    )
    inputs = AdversarialTesterMixin.image_inputs


def on_meta(build) -> nn.Module:
    """The default networks are large; their shapes need no memory."""
    with torch.device("meta"):
        return build()


@pytest.mark.parametrize(
    ("size", "widths"),
    [(32, (256,) * 4), (64, (1024, 512, 256, 128, 64)), (128, (1024, 1024, 512, 256, 128, 64))],
)
def test_default_generators_are_the_papers(size, widths):
    generator = on_meta(lambda: SNGANGenerator(sample_size=size))
    expected = 128 * 16 * widths[0] + 16 * widths[0]
    for a, b in pairwise(widths):
        expected += 2 * a + (9 * a * b + b) + 2 * b + (9 * b * b + b) + (a * b + b)
    expected += 2 * widths[-1] + 9 * widths[-1] * 3 + 3
    assert sum(parameter.numel() for parameter in generator.parameters()) == expected


@pytest.mark.parametrize(
    ("size", "widths", "halvings"),
    [(32, (128,) * 4, 2), (64, (64, 128, 256, 512, 1024), 4), (128, (64, 128, 256, 512, 1024, 1024), 5)],
)
def test_default_discriminators_are_the_papers(size, widths, halvings):
    discriminator = on_meta(lambda: SNGANDiscriminator(sample_size=size))
    expected = widths[-1] + 1
    for index, (a, b) in enumerate(zip((3, *widths[:-1]), widths, strict=True)):
        shortcut = 0 if a == b and index >= halvings else a * b + b
        expected += (9 * a * b + b) + (9 * b * b + b) + shortcut
    assert sum(parameter.numel() for parameter in discriminator.parameters()) == expected
    output = discriminator(torch.zeros(2, 3, size, size, device="meta"))
    assert output.features.shape == (2, widths[-1], size >> halvings, size >> halvings)


def test_images_are_bounded():
    generator = SNGANGenerator(latent_dim=3, sample_size=8, block_out_channels=(4, 4))
    nn.init.constant_(generator.to_image.bias, 10)
    image = generator(torch.randn(2, 3)).sample
    assert image.shape == (2, 3, 8, 8)
    assert image.min() > 0.9 and image.max() <= 1


@pytest.mark.parametrize("statistics", ["running", "batch"])
def test_inference_uses_the_statistics_that_the_config_asks_for(statistics):
    torch.manual_seed(0)
    shape = {"latent_dim": 3, "sample_size": 8, "block_out_channels": (4, 4)}
    generator = SNGANGenerator(**shape, norm_statistics=statistics)
    latents = torch.randn(4, 3)
    in_training = generator.train()(latents).sample
    assert torch.allclose(generator.eval()(latents).sample, in_training, atol=1e-6) == (statistics == "batch")


def test_every_weight_of_the_discriminator_has_norm_one():
    torch.manual_seed(0)
    discriminator = SNGANDiscriminator(
        in_channels=3,
        sample_size=8,
        block_out_channels=(6, 8),
        num_downsamples=1,
        conditioning="projection",
        num_classes=4,
    )
    sample, labels = torch.randn(4, 3, 8, 8), torch.tensor([0, 1, 2, 3])
    for _ in range(100):  # power iterations
        discriminator(sample, labels)
    discriminator.eval()
    weighted = [m for m in discriminator.modules() if isinstance(m, nn.Conv2d | nn.Linear | nn.Embedding)]
    # three convolutions and a shortcut in the first block, as many in the second, a linear layer, an embedding
    assert len(weighted) == 3 + 3 + 2
    for module in weighted:
        assert parametrize.is_parametrized(module, "weight")
        assert torch.linalg.matrix_norm(module.weight.flatten(1), 2).item() == pytest.approx(1, rel=1e-4)


def test_a_residual_block_is_the_paper_s_order_of_layers():
    """The shortcut's 1x1 convolution is moved across the resampling, which changes the cost and not the result."""
    torch.manual_seed(0)
    generator = SNGANGenerator(latent_dim=3, sample_size=8, block_out_channels=(4, 5)).eval()
    up = nn.Upsample(scale_factor=2)
    (block,) = generator.blocks
    hidden = torch.randn(2, 4, 4, 4)
    residual = block.conv1(up(torch.relu(block.norm1(hidden))))
    expected = block.conv2(torch.relu(block.norm2(residual))) + block.shortcut(up(hidden))
    torch.testing.assert_close(block(hidden, None), expected)

    shape = {"sample_size": 8, "block_out_channels": (4, 5, 5), "num_downsamples": 2, "norm": "none"}
    discriminator = SNGANDiscriminator(in_channels=3, **shape)
    first, second, third = discriminator.blocks
    image, hidden, last = torch.randn(2, 3, 8, 8), torch.randn(2, 4, 4, 4), torch.randn(2, 5, 2, 2)
    pool = nn.AvgPool2d(2)
    torch.testing.assert_close(
        first(image), pool(first.conv2(torch.relu(first.conv1(image)))) + pool(first.shortcut(image))
    )
    residual = second.conv2(torch.relu(second.conv1(torch.relu(hidden))))
    torch.testing.assert_close(second(hidden), pool(residual) + pool(second.shortcut(hidden)))
    torch.testing.assert_close(third(last), third.conv2(torch.relu(third.conv1(torch.relu(last)))) + last)


def test_logits_sum_over_pixels_and_project_on_the_class():
    torch.manual_seed(0)
    shape = {"in_channels": 1, "sample_size": 8, "block_out_channels": (4,), "num_downsamples": 1}
    discriminator = SNGANDiscriminator(**shape, conditioning="projection", num_classes=3).eval()
    output = discriminator(torch.randn(2, 1, 8, 8), torch.tensor([2, 0]))
    head = discriminator.head
    for row, label in enumerate((2, 0)):
        pooled = output.features[row].sum((1, 2))
        expected = pooled @ head.linear.weight[0] + head.linear.bias[0] + pooled @ head.embedding.weight[label]
        assert output.logits[row].item() == pytest.approx(expected.item(), rel=1e-5)


@pytest.mark.parametrize(
    ("build", "message"),
    [
        (lambda: SNGANGenerator(sample_size=28), "0 block_out_channels do not lead from 4 to 28 pixels"),
        (lambda: SNGANGenerator(sample_size=16, block_out_channels=(4, 4)), "2 block_out_channels do not lead"),
        (
            lambda: SNGANGenerator(sample_size=32, num_classes=3),
            "SNGANGenerator: conditioning 'none' and num_classes 3",
        ),
        (lambda: SNGANDiscriminator(sample_size=48), "0 of 0 blocks cannot halve 48 pixels"),
        (
            lambda: SNGANDiscriminator(sample_size=12, block_out_channels=(4,) * 4, num_downsamples=3),
            "3 of 4 blocks cannot halve 12 pixels",
        ),
        (lambda: SNGANDiscriminator(norm="batch"), "norm 'batch' is unknown; choose one of: spectral, none"),
        (lambda: SNGANDiscriminator(conditioning="concat", num_classes=3), "conditioning 'concat' is unknown"),
        (lambda: SNGANGenerator(conditioning="projection", num_classes=3), "conditioning 'projection' is unknown"),
        (lambda: SNGANGenerator(latent_dim=0), "latent_dim must be at least 1, got 0"),
        (lambda: SNGANGenerator(sample_size=8, block_out_channels=(4, 0)), "block_out_channels must be at least 1"),
        (lambda: SNGANDiscriminator(1, 8, (4, 0), 1), "block_out_channels must be at least 1"),
        (lambda: SNGANDiscriminator(conditioning="projection"), "'projection' and num_classes None"),
        (
            lambda: SNGANGenerator(3, 1, 8, (2, 2))(torch.zeros(1, 4)),
            r"takes latents of shape \(batch, 3\), got \(1, 4\)",
        ),
        (
            lambda: SNGANDiscriminator(1, 8, (2,), 1)(torch.zeros(1, 3, 8, 8)),
            r"takes samples of shape \(1, 8, 8\), got \(3, 8, 8\)",
        ),
        (
            lambda: SNGANDiscriminator(1, 8, (2,), 1, conditioning="projection", num_classes=2)(
                torch.zeros(1, 1, 8, 8)
            ),
            r"conditioned on classes \(projection\)",
        ),
    ],
)
def test_impossible_networks_and_inputs_are_one_line_errors(build, message):
    with refused(message):
        build()
