"""The denoising diffusion GAN's pipeline: what all must do, and exact steps for data whose x_0 can be drawn."""

from __future__ import annotations

import json

import pytest
import torch
from diffusers import DDIMScheduler, DDPMScheduler

from hf_genmodels import DiffusionGANPipeline, StochasticUNet
from hf_genmodels.families.diffusion_gan import build_scheduler
from hf_genmodels.models.stochastic_unet import DenoisedOutput
from tests.testing_utils.pipelines import PipelineTesterMixin, SamplingTesterMixin
from tests.testing_utils.refusals import refused


class TestDiffusionGANPipeline(PipelineTesterMixin, SamplingTesterMixin):
    pipeline_class = DiffusionGANPipeline
    latent_shape = (1, 8, 8)

    def test_given_latents_are_used(self):
        """Beside what the steps draw."""
        pipeline, generator = self.tiny(), torch.Generator().manual_seed(0)
        drawn = pipeline(3, torch.Generator().manual_seed(0), output_type="pt").images
        latents = torch.randn(3, *self.latent_shape, generator=generator)
        assert torch.equal(pipeline(latents=latents, generator=generator, output_type="pt").images, drawn)

    def test_chunks_and_an_early_end(self):
        pipeline, seen = self.tiny(), []

        def stop(pipe, step, timestep, tensors):
            seen.append((int(timestep), tensors["denoised"]))
            pipe._interrupt = step == 1
            return tensors

        options = {"batch_size": 3, "output_type": "pt"}
        whole, parts = (
            pipeline(generator=torch.Generator().manual_seed(0), max_batch_size=most, **options).images
            for most in (None, 2)
        )
        torch.testing.assert_close(whole, parts)
        look = {"callback_on_step_end": stop, "callback_on_step_end_tensor_inputs": ["denoised", "latents"]}
        pipeline(generator=torch.Generator().manual_seed(0), **options, **look)
        assert [time for time, _ in seen] == [2, 1] and seen[0][1].shape == (3, 1, 8, 8)

    @pytest.mark.parametrize(
        ("scheduler", "message"),
        [
            (DDIMScheduler(4), "DDPMScheduler.*, not a DDIMScheduler"),
            (DDPMScheduler(4), "the DDPMScheduler has prediction_type 'epsilon', and a"),
            (DDPMScheduler(4, prediction_type="sample"), "the DDPMScheduler has clip_sample True, and a"),
            (
                DDPMScheduler(3, prediction_type="sample", clip_sample=False),
                "has other betas than a .* of 3 steps was",
            ),
        ],
    )
    def test_schedulers_of_another_training_are_refused(self, scheduler, message):
        pipeline = self.tiny()
        with refused(message):
            DiffusionGANPipeline(pipeline.generator, scheduler)
        pipeline.scheduler = scheduler
        with refused(message):
            pipeline()

    def test_another_number_of_steps_is_refused(self, tmp_path):
        pipeline = self.tiny()
        pipeline.save_pretrained(tmp_path)
        pipeline.scheduler = build_scheduler(7)
        with refused("the DDPMScheduler has num_train_timesteps 7, and a DiffusionGANPipeline takes 3"):
            pipeline()
        file = tmp_path / "scheduler" / "scheduler_config.json"
        file.write_text(json.dumps(json.loads(file.read_text()) | {"trained_betas": None}))
        with refused("has other betas than a DiffusionGANPipeline of 3 steps was trained with"):
            DiffusionGANPipeline.from_pretrained(tmp_path)


class CoinTosser(StochasticUNet):
    """Draws x_0 from p(x_0 | x_t) of data that are 1 or -1 with equal chances."""

    def __init__(self) -> None:
        super().__init__(1, None, 1, block_out_channels=(4,), layers_per_block=1, norm_num_groups=1)
        self.alpha_bars = build_scheduler(4).alphas_cumprod

    def forward(self, noisy, timestep, latents, return_dict=True):
        bar = self.alpha_bars[timestep]
        chance = torch.sigmoid(2 * bar.sqrt() * noisy / (1 - bar))
        return DenoisedOutput(torch.where(torch.special.ndtr(latents) < chance, 1.0, -1.0))


def test_every_step_ends_in_the_noised_data():
    """Far from a Gaussian: second and fourth moments of x_t, and the coins in the end."""
    pipeline, moments = DiffusionGANPipeline(CoinTosser(), build_scheduler(4), value_scale=1.0), []

    def look(pipe, step, timestep, tensors):
        moments.append([tensors["latents"].square().mean().item(), tensors["latents"].pow(4).mean().item()])
        return tensors

    generator = torch.Generator().manual_seed(0)
    points = pipeline(100_000, generator, output_type="pt", callback_on_step_end=look).images
    assert set(points.flatten().tolist()) == {-1.0, 1.0} and points.mean().abs() < 0.02
    bars = [*pipeline.scheduler.alphas_cumprod[:3].flip(0).tolist(), 1.0]
    for (second, fourth), bar in zip(moments, bars, strict=True):
        assert second == pytest.approx(1, abs=0.03)
        assert fourth == pytest.approx(bar**2 + 6 * bar * (1 - bar) + 3 * (1 - bar) ** 2, abs=0.1)
