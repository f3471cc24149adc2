"""Dense adversarial networks."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from hf_genmodels import MLPDiscriminator, MLPEncoder, MLPGenerator
from tests.testing_utils.adversarial import AdversarialTesterMixin
from tests.testing_utils.refusals import refused


class TestMLPGenerator(AdversarialTesterMixin):
    model_class = MLPGenerator
    configs = (
        {"latent_dim": 2, "out_channels": 2, "hidden_dims": (8, 8)},
        {"latent_dim": 3, "out_channels": 1, "sample_size": 4, "hidden_dims": (8,), "activation": "silu"},
        {"latent_dim": 1, "hidden_dims": (8,), "conditioning": "concat", "num_classes": 3},
    )
    inputs = AdversarialTesterMixin.latent_inputs


class TestMLPDiscriminator(AdversarialTesterMixin):
    model_class = MLPDiscriminator
    configs = (
        {"in_channels": 2, "sample_size": None, "hidden_dims": (8, 8)},
        {"in_channels": 1, "sample_size": None, "hidden_dims": ()},
        {"in_channels": 3, "sample_size": 4, "hidden_dims": (8,), "activation": "tanh"},
        {"in_channels": 2, "sample_size": None, "hidden_dims": (8,), "minibatch_kernels": 3},
        {
            "in_channels": 2,
            "sample_size": None,
            "hidden_dims": (8,),
            "conditioning": "concat",
            "num_classes": 3,
            "packing": 2,
        },
    )
    inputs = AdversarialTesterMixin.image_inputs


class TestMLPEncoder(AdversarialTesterMixin):
    model_class = MLPEncoder
    configs = (
        {"in_channels": 2, "sample_size": None, "latent_dim": 1, "hidden_dims": (8, 8)},
        {"in_channels": 1, "sample_size": 4, "latent_dim": 3, "hidden_dims": (8,), "shared_log_std": True},
    )
    inputs = AdversarialTesterMixin.image_inputs


def test_networks_are_dense_layers_of_the_asked_widths():
    generator = MLPGenerator(latent_dim=3, out_channels=2, hidden_dims=(5, 6), conditioning="concat", num_classes=4)
    discriminator = MLPDiscriminator(hidden_dims=(5, 6), conditioning="concat", num_classes=4, packing=3)
    encoder = MLPEncoder(hidden_dims=(5, 6), latent_dim=2)
    widths = [
        [(m.in_features, m.out_features) for m in network.modules() if isinstance(m, nn.Linear)]
        for network in (generator, discriminator, encoder)
    ]
    assert widths == [[(7, 5), (5, 6), (6, 2)], [(18, 5), (5, 6), (6, 1)], [(2, 5), (5, 6), (6, 2)]]


def test_points_are_unbounded_and_images_are_not():
    latents = 1e3 * torch.randn(16, 2, generator=torch.Generator().manual_seed(0))
    torch.manual_seed(0)
    assert MLPGenerator(latent_dim=2)(latents).sample.abs().max() > 1
    images = MLPGenerator(latent_dim=2, out_channels=1, sample_size=4)(latents).sample
    assert images.shape == (16, 1, 4, 4)
    assert images.abs().max() <= 1


def test_packs_hold_the_class_beside_each_point():
    torch.manual_seed(0)
    discriminator = MLPDiscriminator(hidden_dims=(8,), conditioning="concat", num_classes=3, packing=2)
    points, labels = torch.randn(4, 2), torch.tensor([2, 0, 1, 1])
    classes = torch.eye(3)
    packs = torch.stack(
        [torch.cat([points[i], classes[labels[i]], points[i + 1], classes[labels[i + 1]]]) for i in (0, 2)]
    )
    features = discriminator.layers(packs)
    output = discriminator(points, labels)
    torch.testing.assert_close(output.features, features)
    torch.testing.assert_close(output.logits, discriminator.head.linear(features).squeeze(1))


@pytest.mark.parametrize(
    ("build", "message"),
    [
        (lambda: MLPGenerator(conditioning="concat"), "MLPGenerator: conditioning 'concat' and num_classes None"),
        (lambda: MLPDiscriminator(conditioning="acgan", num_classes=2), "conditioning 'acgan' is unknown"),
        (lambda: MLPGenerator(conditioning="acgan", num_classes=2), "conditioning 'acgan' is unknown"),
        (lambda: MLPEncoder(activation="gelu"), "activation 'gelu' is unknown; choose one of: relu, silu, tanh"),
        (lambda: MLPDiscriminator(packing=0), "packing must be at least 1, got 0"),
        (lambda: MLPGenerator(latent_dim=0), "latent_dim must be at least 1, got 0"),
        (lambda: MLPEncoder(latent_dim=0), "latent_dim must be at least 1, got 0"),
        (lambda: MLPDiscriminator(num_classes=2), "MLPDiscriminator: conditioning 'none' and num_classes 2"),
        (lambda: MLPGenerator()(torch.zeros(3, 4)), r"latents of shape \(batch, 2\), got \(3, 4\)"),
        (lambda: MLPDiscriminator(packing=2)(torch.zeros(3, 2)), "a batch of 3 samples cannot be packed by 2"),
        (lambda: MLPDiscriminator()(torch.zeros(3, 5)), r"samples of shape \(2,\), got \(5,\)"),
        (lambda: MLPEncoder()(torch.zeros(3, 5)), r"samples of shape \(2,\), got \(5,\)"),
        (lambda: MLPDiscriminator()(torch.zeros(3, 2), torch.zeros(3)), "without class conditioning, but got labels"),
    ],
)
def test_impossible_networks_and_inputs_are_one_line_errors(build, message):
    with refused(message):
        build()
