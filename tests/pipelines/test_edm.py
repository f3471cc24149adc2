"""EDM's pipelines: what all must do, exact samplers of Gaussian data, and schedulers that do not fit."""

from __future__ import annotations

import pytest
import torch
from diffusers import EDMDPMSolverMultistepScheduler, EDMEulerScheduler

from hf_genmodels import EDMPipeline, LatentEDMPipeline
from tests.testing_utils.noise_levels import AnsweringUNet, NoiseLevelTesterMixin
from tests.testing_utils.refusals import refused

MEAN, STD = 0.3, 0.6


class TestEDMPipeline(NoiseLevelTesterMixin):
    pipeline_class = EDMPipeline
    latent_shape = (1, 8, 8)
    others = {EDMDPMSolverMultistepScheduler: {}}


class TestLatentEDMPipeline(NoiseLevelTesterMixin):
    pipeline_class = LatentEDMPipeline
    others = {EDMDPMSolverMultistepScheduler: {}}


def best_output(inputs, time):
    """F of the exact denoiser of N(MEAN, STD^2), for sigma_data 0.5."""
    sigma = torch.exp(4 * time)
    total = sigma**2 + 0.25
    noisy = inputs * total.sqrt()
    denoised = MEAN + STD**2 / (STD**2 + sigma**2) * (noisy - MEAN)
    return (denoised - 0.25 / total * noisy) / (sigma * 0.5 / total.sqrt())


def gaussian_pipeline(scheduler) -> EDMPipeline:
    pipeline = EDMPipeline(AnsweringUNet(best_output), scheduler, value_scale=1.0)
    pipeline.set_progress_bar_config(disable=True)
    return pipeline


@pytest.mark.parametrize(("sampler", "steps"), [(EDMEulerScheduler, 150), (EDMDPMSolverMultistepScheduler, 40)])
def test_samplers_give_the_mean_and_variance_of_gaussian_data(sampler, steps):
    seen = []

    def look(pipe, step, timestep, tensors):
        seen.append(tensors)
        return tensors

    samples = gaussian_pipeline(sampler())(
        2000,
        torch.Generator().manual_seed(0),
        num_inference_steps=steps,
        output_type="pt",
        callback_on_step_end=look,
        callback_on_step_end_tensor_inputs=["latents", "denoised"],
    ).images
    assert samples.mean().item() == pytest.approx(MEAN, abs=0.03)
    assert samples.std().item() == pytest.approx(STD, rel=0.05)
    assert len(seen) == steps
    torch.testing.assert_close(seen[0]["denoised"], torch.full((2000, 2), MEAN), atol=0.05, rtol=0)
    torch.testing.assert_close(seen[-1]["denoised"], samples, atol=0.01, rtol=0)


def test_schedulers_of_another_training_are_refused():
    pipeline = gaussian_pipeline(EDMEulerScheduler())
    pipeline.scheduler = EDMDPMSolverMultistepScheduler(sigma_data=1.0)
    with refused(r"the EDMDPMSolverMultistepScheduler has sigma_data 1.0, and the training had 0.5: make it with"):
        pipeline()
    with refused("trained_schedule must have sigma_data, prediction_type, got nothing"):
        EDMPipeline(pipeline.unet, EDMEulerScheduler(), trained_schedule={"nothing": 1})
