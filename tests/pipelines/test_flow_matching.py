"""Flow matching's pipelines: what all must do, exact samplers of Gaussian data, and the times of Euler's steps."""

from __future__ import annotations

import pytest
import torch
from diffusers import FlowMatchEulerDiscreteScheduler, FlowMatchHeunDiscreteScheduler

from hf_genmodels import FlowMatchingPipeline, LatentFlowMatchingPipeline
from tests.testing_utils.noise_levels import AnsweringUNet, NoiseLevelTesterMixin

MEAN, STD = 0.3, 0.6


class TestFlowMatchingPipeline(NoiseLevelTesterMixin):
    pipeline_class = FlowMatchingPipeline
    latent_shape = (1, 8, 8)
    others = {FlowMatchHeunDiscreteScheduler: {}, FlowMatchEulerDiscreteScheduler: {"shift": 3.0}}


class TestLatentFlowMatchingPipeline(NoiseLevelTesterMixin):
    pipeline_class = LatentFlowMatchingPipeline
    others = {FlowMatchHeunDiscreteScheduler: {}}


def best_velocity(noisy, thousandths):
    """E[epsilon - x_0 | x_t] of N(MEAN, STD^2), by the regression of both on x_t."""
    time = thousandths / 1000
    variance = (1 - time) ** 2 * STD**2 + time**2
    centred = (noisy - (1 - time) * MEAN) / variance
    return time * centred - MEAN - (1 - time) * STD**2 * centred


@pytest.mark.parametrize(
    ("scheduler", "steps"), [(FlowMatchEulerDiscreteScheduler(), 80), (FlowMatchHeunDiscreteScheduler(), 20)]
)
def test_samplers_give_the_mean_and_variance_of_gaussian_data(scheduler, steps):
    pipeline = FlowMatchingPipeline(AnsweringUNet(best_velocity), scheduler, value_scale=1.0)
    pipeline.set_progress_bar_config(disable=True)
    seen = []

    def look(pipe, step, timestep, tensors):
        seen.append(tensors["denoised"])
        return tensors

    samples = pipeline(
        2000,
        torch.Generator().manual_seed(0),
        num_inference_steps=steps,
        output_type="pt",
        callback_on_step_end=look,
        callback_on_step_end_tensor_inputs=["denoised"],
    ).images
    assert samples.mean().item() == pytest.approx(MEAN, abs=0.03)
    assert samples.std().item() == pytest.approx(STD, rel=0.05)
    torch.testing.assert_close(seen[0], torch.full((2000, 2), MEAN), atol=0.01, rtol=0)
    torch.testing.assert_close(seen[-1], samples, atol=0.02, rtol=0)


def test_eulers_steps_are_equal_but_for_the_shift():
    for shift in (1.0, 3.0):
        scheduler, seen = FlowMatchEulerDiscreteScheduler(shift=shift), []
        unet = AnsweringUNet(lambda noisy, time, seen=seen: (seen.append(time.item()), noisy)[1])
        pipeline = FlowMatchingPipeline(unet, scheduler, value_scale=1.0)
        pipeline.set_progress_bar_config(disable=True)
        pipeline(num_inference_steps=4)
        even = [1, 0.75, 0.5, 0.25]
        assert seen == pytest.approx([1000 * shift * time / (1 + (shift - 1) * time) for time in even])
