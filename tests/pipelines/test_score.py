"""Score models' pipelines: what all must do, exact samplers of Gaussian data, and the calls of the network."""

from __future__ import annotations

import pytest
import torch
from diffusers import ScoreSdeVeScheduler

from hf_genmodels import LatentScorePipeline, ScorePipeline
from tests.testing_utils.noise_levels import AnsweringUNet, NoiseLevelTesterMixin
from tests.testing_utils.refusals import refused

MEAN, STD = 0.3, 0.6
LEVELS = {"sigma_min": 0.01, "sigma_max": 6.0}


class ScoreTesterMixin(NoiseLevelTesterMixin):
    def test_given_latents_are_used(self):
        """Beside the noise that the steps draw."""
        pipeline = self.tiny()
        latents = torch.randn(2, 3, *self.latent_shape, generator=torch.Generator().manual_seed(0))
        first, second, again = (self.sample(pipeline, [0, 1, 2], latents=latents[each]) for each in (0, 1, 0))
        assert torch.equal(first, again) and not torch.equal(first, second)


class TestScorePipeline(ScoreTesterMixin):
    pipeline_class = ScorePipeline
    latent_shape = (1, 8, 8)
    others = {ScoreSdeVeScheduler: {"correct_steps": 0}}


class TestLatentScorePipeline(ScoreTesterMixin):
    pipeline_class = LatentScorePipeline
    others = {ScoreSdeVeScheduler: {"correct_steps": 0}}


def best_output(inputs, time):
    """F of the exact score of N(MEAN, STD^2) with noise."""
    sigma = torch.exp(4 * time)
    noisy = inputs * (1 + sigma**2).sqrt()
    return sigma * (noisy - MEAN) / (STD**2 + sigma**2)


@pytest.mark.parametrize("corrections", [0, 1, 2])
def test_samplers_give_the_mean_and_variance_of_gaussian_data(corrections):
    calls = []
    unet = AnsweringUNet(lambda inputs, time: (calls.append(time.item()), best_output(inputs, time))[1])
    pipeline = ScorePipeline(unet, ScoreSdeVeScheduler(correct_steps=corrections, **LEVELS), value_scale=1.0)
    pipeline.set_progress_bar_config(disable=True)
    samples = pipeline(3000, torch.Generator().manual_seed(0), num_inference_steps=100, output_type="pt").images
    assert samples.mean().item() == pytest.approx(MEAN, abs=0.1)
    assert samples.std().item() == pytest.approx(STD, rel=0.06)
    assert len(calls) == 100 * (corrections + 1)
    assert torch.tensor(calls[:: corrections + 1]).diff().max() < 0


def test_two_levels_at_least():
    pipeline = ScorePipeline(AnsweringUNet(best_output), ScoreSdeVeScheduler(**LEVELS), value_scale=1.0)
    with refused("num_inference_steps must be at least 2, got 1"):
        pipeline(num_inference_steps=1)
