"""Adversarial objectives around networks of one's own, of which nothing is known but their forward and sizes."""

from __future__ import annotations

from types import SimpleNamespace

import pytest
import torch
from diffusers import ConfigMixin, ModelMixin
from diffusers.configuration_utils import register_to_config
from torch import nn

from hf_genmodels.objectives.aae import AAEObjective
from hf_genmodels.objectives.avae import AVAEObjective
from hf_genmodels.objectives.began import BEGANObjective
from hf_genmodels.objectives.bigan import BiGANObjective
from hf_genmodels.objectives.gan import GANObjective
from hf_genmodels.objectives.pixelwise import PixelwiseObjective
from hf_genmodels.objectives.tempered_gan import TemperedGANObjective
from hf_genmodels.objectives.vaegan import VAEGANObjective
from tests.testing_utils.adversarial_objectives import phase_losses
from tests.testing_utils.objectives import IMAGES, make_batch
from tests.testing_utils.refusals import refused


class OwnGenerator(ModelMixin, ConfigMixin):
    @register_to_config
    def __init__(self, latent_dim=3, out_channels=1, sample_size=8):
        super().__init__()
        self.layer = nn.Linear(latent_dim, out_channels * sample_size**2)

    def forward(self, latents):
        config = self.config
        shape = (config.out_channels, config.sample_size, config.sample_size)
        return SimpleNamespace(sample=torch.tanh(self.layer(latents)).unflatten(1, shape))


class OwnEncoder(ModelMixin, ConfigMixin):
    @register_to_config
    def __init__(self, in_channels=1, sample_size=8, latent_dim=3):
        super().__init__()
        self.layer = nn.Linear(in_channels * sample_size**2, latent_dim)
        self.scale = nn.Parameter(torch.zeros(latent_dim))

    def forward(self, sample):
        return SimpleNamespace(mean=self.layer(sample.flatten(1)), log_std=self.scale)


class OwnDiscriminator(ModelMixin, ConfigMixin):
    @register_to_config
    def __init__(self, inputs=64):
        super().__init__()
        self.layer, self.head = nn.Linear(inputs, 4), nn.Linear(4, 1)

    def forward(self, *parts):
        features = torch.relu(self.layer(torch.cat([part.flatten(1) for part in parts], 1)))
        return SimpleNamespace(logits=self.head(features).squeeze(1), features=features)


class OwnMap(ModelMixin, ConfigMixin):
    """A lens, a discriminator that restores what it sees, or a generator from known pixels."""

    @register_to_config
    def __init__(self, in_channels=1, sample_size=8):
        super().__init__()
        self.latent_shape = (2, 4)
        self.layer = nn.Conv2d(in_channels, in_channels, 3, padding=1)

    def forward(self, sample, mask=None, latents=None):
        made = self.layer(sample)
        if latents is not None:
            made = made * (1 - mask) + latents.mean((1, 2))[:, None, None, None]
        return SimpleNamespace(sample=made, reconstruction=made)


OBJECTIVES = {
    "gan": lambda: GANObjective(OwnGenerator(), OwnDiscriminator(), IMAGES, gradient_penalty="r1"),
    "began": lambda: BEGANObjective(OwnGenerator(), OwnMap(), IMAGES),
    "tempered_gan": lambda: TemperedGANObjective(OwnGenerator(), OwnDiscriminator(), OwnMap(), IMAGES),
    "avae": lambda: AVAEObjective(OwnEncoder(), OwnGenerator(), OwnGenerator(5), OwnDiscriminator(), IMAGES),
    "bigan": lambda: BiGANObjective(OwnEncoder(), OwnGenerator(), OwnDiscriminator(67), IMAGES),
    "vaegan": lambda: VAEGANObjective(OwnEncoder(), OwnGenerator(), OwnDiscriminator(), IMAGES),
    "aae": lambda: AAEObjective(OwnEncoder(), OwnGenerator(), OwnDiscriminator(3), IMAGES, prior="mixture"),
    "pixelwise": lambda: PixelwiseObjective(OwnMap(), OwnDiscriminator(), IMAGES, known_pixels=0.1),
    "pixelwise cgan": lambda: PixelwiseObjective(
        OwnMap(), OwnDiscriminator(3 * 64), IMAGES, known_pixels=0.1, conditioning="cgan"
    ),
}


@pytest.mark.parametrize("name", OBJECTIVES)
def test_losses_figures_and_watched_samples(name):
    objective, cache = OBJECTIVES[name](), {}
    batch = make_batch(IMAGES)
    batch["constraint_image"] = batch["image"].flip(0)
    objective.before_step(700)
    for phase in objective.phases:
        for network in objective.networks.values():
            network.zero_grad()
        phase_losses(objective, phase.name, batch, cache)["loss"].backward()
        for trained in phase.trains:
            assert any(p.grad is not None and p.grad.any() for p in objective.networks[trained].parameters())
            groups = objective.param_groups(trained)
            assert sum(len(group["params"]) for group in groups) == len([*objective.networks[trained].parameters()])
    with torch.no_grad():
        for figure in objective.evaluate(objective.networks, batch, torch.Generator()).values():
            assert figure.shape == (5,) and figure.isfinite().all()
        assert objective.watched_samples(objective.networks, 4, torch.Generator()).shape == (4, 1, 8, 8)


def test_packing_and_classes_are_read_from_the_discriminators_configuration():
    discriminator = OwnDiscriminator()
    discriminator.register_to_config(packing=5, conditioning="of my own")
    objective = GANObjective(OwnGenerator(), discriminator, IMAGES)
    assert objective.batch_multiple == 5 and not objective.is_conditional
    batch = make_batch(IMAGES)
    assert objective.discriminator_labels(batch) == {"labels": batch["label"]}


def test_refused_arguments():
    with refused("gradient_penalty 'r3' is unknown; choose one of: none, wgan_gp"):
        GANObjective(OwnGenerator(), OwnDiscriminator(), IMAGES, gradient_penalty="r3")
    with refused("conditioning 'both' is unknown; choose one of: map, cgan"):
        PixelwiseObjective(OwnMap(), OwnDiscriminator(), IMAGES, conditioning="both")
    with refused("prior 'mixture' needs a latent_dim of at least 2, got 1"):
        AAEObjective(OwnEncoder(), OwnGenerator(1), OwnDiscriminator(1), IMAGES, prior="mixture")
    with refused("log_std_learning_rate is that of a parameter log_std, which the encoder does not have"):
        networks = OwnEncoder(), OwnGenerator(), OwnGenerator(5), OwnDiscriminator()
        AVAEObjective(*networks, IMAGES, log_std_learning_rate=0.1)
