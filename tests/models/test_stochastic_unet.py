"""The generator and the discriminator of denoising diffusion GANs."""

from __future__ import annotations

import pytest
import torch

from hf_genmodels import StochasticUNet, TimeDiscriminator
from tests.testing_utils.models import ModelTesterMixin
from tests.testing_utils.refusals import refused

TINY = {"block_out_channels": (8,), "layers_per_block": 1, "norm_num_groups": 2}


class TestStochasticUNet(ModelTesterMixin):
    model_class = StochasticUNet
    configs = (
        {"in_channels": 1, "sample_size": 8, "latent_dim": 3, **TINY},
        {
            **TINY,
            "in_channels": 3,
            "sample_size": 8,
            "latent_dim": 2,
            "attention": True,
            "num_mapping_layers": 1,
            "block_out_channels": (8, 8),
        },
        {"in_channels": 2, "sample_size": None, "latent_dim": 2, **TINY},
    )

    def inputs(self, config, generator):
        noisy = torch.randn(4, *self.sample_shape(config), generator=generator)
        latents = torch.randn(4, config["latent_dim"], generator=generator)
        return {"noisy": noisy, "timestep": torch.tensor([0, 1, 3, 3]), "latents": latents}

    def test_latents_and_time_change_the_sample(self, case):
        network, inputs = case
        sample = network(**inputs).sample
        assert sample.shape == inputs["noisy"].shape
        for other in ({"latents": inputs["latents"].flip(1)}, {"timestep": inputs["timestep"].flip(0)}):
            assert (network(**{**inputs, **other}).sample[0] - sample[0]).abs().max() > 1e-4
        longer = network(**{**inputs, "latents": 3 * inputs["latents"]}).sample
        torch.testing.assert_close(longer, sample, msg="the length of z says nothing")


class TestTimeDiscriminator(ModelTesterMixin):
    model_class = TimeDiscriminator
    configs = (
        {"in_channels": 1, "sample_size": 8, "block_out_channels": (4, 6)},
        {"in_channels": 3, "sample_size": 8, "block_out_channels": (4,)},
        {"in_channels": 2, "sample_size": None, "block_out_channels": (4, 4)},
    )

    def inputs(self, config, generator):
        sample, noisy = torch.randn(2, 4, *self.sample_shape(config), generator=generator)
        return {"sample": sample, "noisy": noisy, "timestep": torch.tensor([0, 1, 3, 3])}

    def test_a_logit_depends_on_its_own_pair_and_time_alone(self, case):
        network, inputs = case
        logits = network(**inputs).logits
        for row in range(4):
            alone = network(**{name: value[row : row + 1] for name, value in inputs.items()}).logits
            torch.testing.assert_close(alone, logits[row : row + 1])
        for name in inputs:
            changed = network(**{**inputs, name: inputs[name].flip(0)}).logits
            assert (changed[0] - logits[0]).abs() > 1e-5, name


@pytest.mark.parametrize(
    ("build", "message"),
    [
        (lambda: StochasticUNet(num_mapping_layers=0), "num_mapping_layers must be at least 1, got 0"),
        (lambda: StochasticUNet(latent_dim=0), "latent_dim must be at least 1, got 0"),
        (
            lambda: TimeDiscriminator(sample_size=6, block_out_channels=(4, 4, 4)),
            "halve an image 2 times, and 6 pixels",
        ),
        (lambda: TimeDiscriminator(block_out_channels=(4, 0)), "block_out_channels must be at least 1, got 4 0"),
    ],
)
def test_refused(build, message):
    with refused(message):
        build()
