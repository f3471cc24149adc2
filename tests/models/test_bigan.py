"""BiGAN's discriminator of pairs, and the one of AVAE's comparison as a configuration of it."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from hf_genmodels import BiGANDiscriminator, DCGANDiscriminator
from hf_genmodels.models.dcgan import avae_layout
from tests.testing_utils.adversarial import AdversarialTesterMixin
from tests.testing_utils.refusals import refused


class TestBiGANDiscriminator(AdversarialTesterMixin):
    model_class = BiGANDiscriminator
    configs = (
        {"in_channels": 1, "sample_size": 8, "latent_dim": 3, "width": 2},
        {"in_channels": 4, "sample_size": 32, "latent_dim": 3, "width": 2, **avae_layout(32)},
        {"in_channels": 3, "sample_size": 16, "latent_dim": 3, "width": 2, "norm": "spectral"},
        {"in_channels": 2, "sample_size": None, "latent_dim": 3, "hidden_dims": (6, 5)},
        {"in_channels": 2, "sample_size": None, "latent_dim": 3, "hidden_dims": (6,), "norm": "spectral"},
        {"in_channels": 2, "sample_size": 7, "latent_dim": 3, "hidden_dims": (6, 5)},
    )

    def inputs(self, config, generator):
        latents = torch.randn(4, config["latent_dim"], generator=generator)
        return {**self.image_inputs(config, generator), "latents": latents}


def dense(network: nn.Module) -> list[tuple[object, ...]]:
    rows: list[tuple[object, ...]] = []
    for module in network.modules():
        if isinstance(module, nn.Linear):
            rows.append((module.in_features, module.out_features))
        elif isinstance(module, nn.LeakyReLU):
            assert module.negative_slope == 0.2
            rows.append(("leaky",))
    return rows


W, Z = 2, 5
LEAKY = ("leaky",)


@pytest.mark.parametrize("size", [32, 64])
def test_avae_discriminator_is_the_table(size):
    network = BiGANDiscriminator(sample_size=size, latent_dim=Z, width=W, **avae_layout(size))
    critic = DCGANDiscriminator(sample_size=size, width=W, **avae_layout(size))
    assert str(network.x_net[0]) == str(critic.trunk)
    assert dense(network.x_net[1:]) == [(16 * 8 * W, 8 * W)]
    assert dense(network.z_net) == [(Z, 8 * W), LEAKY, (8 * W, 8 * W), LEAKY, (8 * W, 8 * W)]
    assert dense(network.joint) == [(16 * W, 16 * W), LEAKY, (16 * W, 16 * W), LEAKY]
    assert dense(network.head) == [(16 * W, 1)]


def test_a_narrower_trunk_leads_to_the_same_features():
    network = BiGANDiscriminator(sample_size=16, latent_dim=Z, width=W)
    assert dense(network.x_net[1:]) == [(16 * 2 * W, 8 * W)]


def test_networks_for_vectors_have_the_asked_widths_three_times():
    network = BiGANDiscriminator(2, None, Z, hidden_dims=(6, 4))
    assert dense(network.x_net) == [(2, 6), LEAKY, (6, 4)]
    assert dense(network.z_net) == [(Z, 6), LEAKY, (6, 4)]
    assert dense(network.joint) == [(8, 6), LEAKY, (6, 4), LEAKY]
    assert dense(network.head) == [(4, 1)]
    assert dense(BiGANDiscriminator(2, None, Z).z_net) == [(Z, 128), LEAKY, (128, 128)]


def test_hidden_dims_make_a_dense_network_of_images_too():
    network = BiGANDiscriminator(3, 7, Z, hidden_dims=(6, 4))
    assert dense(network.x_net) == [(3 * 7 * 7, 6), LEAKY, (6, 4)]
    assert dense(network.joint) == [(8, 6), LEAKY, (6, 4), LEAKY]


def test_the_logit_is_computed_from_both_parts_side_by_side():
    torch.manual_seed(0)
    network = BiGANDiscriminator(1, 8, Z, width=W, norm="none")
    sample, latents = torch.randn(3, 1, 8, 8), torch.randn(3, Z)
    hidden = torch.cat([network.x_net(sample), network.z_net(latents)], dim=1)
    for layer in (network.joint[0], network.joint[2]):
        hidden = hidden @ layer.weight.T + layer.bias
        hidden = torch.where(hidden > 0, hidden, 0.2 * hidden)
    output = network(sample, latents)
    torch.testing.assert_close(output.features, hidden)
    torch.testing.assert_close(output.logits, hidden @ network.head.weight[0] + network.head.bias)
    assert output.logits.shape == (3,)


def test_a_logit_depends_on_its_own_pair_alone():
    torch.manual_seed(0)
    network = BiGANDiscriminator(2, None, Z, hidden_dims=(8, 8))
    pair = torch.randn(3, 2, requires_grad=True), torch.randn(3, Z, requires_grad=True)
    for gradient in torch.autograd.grad(network(*pair).logits[1], pair):
        assert (gradient.abs().sum(1) > 0).tolist() == [False, True, False]


def test_convolutions_start_as_dcgan_draws_them_and_dense_networks_as_pytorch_does():
    torch.manual_seed(0)
    network = BiGANDiscriminator(3, 16, 20, width=16)
    for module in network.modules():
        if isinstance(module, nn.Conv2d | nn.Linear):
            assert module.weight.std().item() == pytest.approx(0.02, rel=0.15)
            assert module.bias is None or module.bias.abs().sum() == 0
    for network in (BiGANDiscriminator(3, None, 20), BiGANDiscriminator(3, 8, 20, hidden_dims=(128, 128))):
        assert network.joint[2].weight.std().item() == pytest.approx(1 / (3 * 128) ** 0.5, rel=0.05)


@pytest.mark.parametrize("norm", ["instance", "layer", "none", "spectral"])
def test_norms_without_the_batch_can_be_chosen(norm):
    torch.manual_seed(0)
    network = BiGANDiscriminator(1, 16, Z, width=W, norm=norm)
    sample = torch.randn(3, 1, 16, 16, requires_grad=True)
    (gradient,) = torch.autograd.grad(network(sample, torch.randn(3, Z)).logits[1], sample)
    assert (gradient.flatten(1).abs().sum(1) > 0).tolist() == [False, True, False]


@pytest.mark.parametrize("size", [16, None])
def test_spectral_normalises_every_weight(size):
    torch.manual_seed(0)
    network = BiGANDiscriminator(2, size, Z, width=W, norm="spectral")
    weighted = [module for module in network.modules() if isinstance(module, nn.Conv2d | nn.Linear)]
    for module in weighted:
        assert torch.linalg.matrix_norm(module.weight.flatten(1), 2).item() == pytest.approx(1, rel=0.1)


@pytest.mark.parametrize(
    ("build", "message"),
    [
        (lambda: BiGANDiscriminator(sample_size=28), "BiGANDiscriminator: sample_size 28 is no power of two"),
        (lambda: BiGANDiscriminator(norm="group"), "norm 'group' is unknown; choose one of: batch, instance"),
        (lambda: BiGANDiscriminator(sample_size=None, norm="group"), "norm 'group' is unknown"),
        (lambda: BiGANDiscriminator(latent_dim=0), "latent_dim must be at least 1, got 0"),
        (lambda: BiGANDiscriminator(width=0), "width must be at least 1, got 0"),
        (lambda: BiGANDiscriminator(kernel_size=3), "kernel_size must be 4 or 5, got 3"),
        (lambda: BiGANDiscriminator(strides=(2, 2)), r"strides \(2, 2\) with kernel_size 4 do not lead from 32"),
        (lambda: BiGANDiscriminator(2, None, hidden_dims=(4, 0)), "hidden_dims must be at least 1, got 4 0"),
        (lambda: BiGANDiscriminator(2, None, hidden_dims=()), "at least one width in hidden_dims"),
        (
            lambda: BiGANDiscriminator(2, None)(torch.zeros(2, 3), torch.zeros(2, 100)),
            r"takes samples of shape \(2,\), got \(3,\)",
        ),
        (
            lambda: BiGANDiscriminator(2, None)(torch.zeros(2, 2), torch.zeros(2, 5)),
            r"takes latents of shape \(batch, 100\), got \(2, 5\)",
        ),
        (
            lambda: BiGANDiscriminator(2, None)(torch.zeros(2, 2), torch.zeros(3, 100)),
            "pairs need as many samples as latents, got 2 and 3",
        ),
    ],
)
def test_impossible_networks_and_inputs_are_one_line_errors(build, message):
    with refused(message):
        build()
