"""Denoising networks for tests: tiny ones, ones that know the answer, and what all their pipelines must do."""

from __future__ import annotations

from typing import Any, ClassVar

import numpy as np
import pytest
import torch
from diffusers import (
    DDIMScheduler,
    DDPMScheduler,
    DPMSolverMultistepScheduler,
    EulerDiscreteScheduler,
    HeunDiscreteScheduler,
    UNet2DModel,
)
from torch import Tensor

from hf_genmodels import UserError
from hf_genmodels.losses.diffusion import PredictionType, prediction_target
from tests.testing_utils.pipelines import ImageInputTesterMixin, PipelineTesterMixin, SamplingTesterMixin

KARRAS: dict[str, Any] = {"use_karras_sigmas": True}
# sampler -> options beside the training's
SAMPLERS: dict[type, dict[str, Any]] = {
    DDPMScheduler: {},
    DDIMScheduler: {},
    DPMSolverMultistepScheduler: {},
    EulerDiscreteScheduler: KARRAS,
    HeunDiscreteScheduler: KARRAS,
}


class KnowingDenoiser(UNet2DModel):
    """Stands for a network that knows the data, by `best_sample`; it also takes the time steps between two trained."""

    def __init__(self, shape: tuple[int, ...], scheduler: DDPMScheduler) -> None:
        size = shape[1] if len(shape) == 3 else 1
        super().__init__(
            size,
            shape[0],
            shape[0],
            block_out_channels=(4,),
            down_block_types=("DownBlock2D",),
            up_block_types=("UpBlock2D",),
            norm_num_groups=1,
            add_attention=False,
        )
        self.kind: PredictionType = scheduler.config.prediction_type
        self.log_sigmas = (1 / scheduler.alphas_cumprod - 1).log().numpy() / 2

    def best_sample(self, noisy: Tensor, alpha_bar: Tensor) -> Tensor:
        """E[x_0 | x_t]."""
        raise NotImplementedError

    def forward(self, sample: Tensor, timestep: Any, class_labels: Any = None, return_dict: bool = True) -> Any:
        places = torch.as_tensor(timestep).expand(len(sample)).numpy()
        log_sigma = torch.as_tensor(np.interp(places, np.arange(len(self.log_sigmas)), self.log_sigmas))
        alpha_bar = (1 / (1 + torch.exp(2 * log_sigma))).view(-1, 1, 1, 1)
        best = self.best_sample(sample.double(), alpha_bar)
        noise = (sample - alpha_bar.sqrt() * best) / (1 - alpha_bar).sqrt()
        return (prediction_target(self.kind, best, noise, alpha_bar).to(sample.dtype),)


class ConstantDenoiser(KnowingDenoiser):
    """Knows that all data are one picture."""

    def __init__(self, picture: Tensor, scheduler: DDPMScheduler) -> None:
        super().__init__(tuple(picture.shape), scheduler)
        self.picture = picture.double()

    def best_sample(self, noisy: Tensor, alpha_bar: Tensor) -> Tensor:
        return self.picture.expand_as(noisy)


class GaussianDenoiser(KnowingDenoiser):
    """Knows that data are N(mean, std^2 I)."""

    def __init__(self, shape: tuple[int, ...], scheduler: DDPMScheduler, mean: float, std: float) -> None:
        super().__init__(shape, scheduler)
        self.mean, self.std = mean, std

    def best_sample(self, noisy: Tensor, alpha_bar: Tensor) -> Tensor:
        gain = alpha_bar.sqrt() * self.std**2 / (alpha_bar * self.std**2 + 1 - alpha_bar)
        return self.mean + gain * (noisy - alpha_bar.sqrt() * self.mean)


class DenoisingTesterMixin(PipelineTesterMixin, SamplingTesterMixin, ImageInputTesterMixin):
    """What every denoising pipeline must do. `labels` are what a conditional one needs to repeat itself."""

    labels: ClassVar[dict[str, Any]] = {}
    latent_shape: ClassVar[tuple[int, ...]] = (1, 8, 8)

    def test_given_latents_are_used(self):
        """By DDIM: a DDPM's noise on the way comes from the generator too."""
        pipeline = self.tiny()
        pipeline.scheduler = DDIMScheduler.from_config(pipeline.scheduler.config)
        latents = torch.randn(3, *self.latent_shape, generator=torch.Generator().manual_seed(0))
        drawn = self.sample(pipeline, batch_size=3, generators=torch.Generator().manual_seed(0), **self.labels)
        assert torch.equal(self.sample(pipeline, latents=latents, **self.labels), drawn)

    def sample(self, pipeline, seeds=None, generators=None, **options):
        generators = generators if seeds is None else [torch.Generator().manual_seed(seed) for seed in seeds]
        return pipeline(generator=generators, output_type="pt", **options).images

    @pytest.mark.parametrize("sampler", SAMPLERS, ids=lambda sampler: sampler.__name__)
    def test_samplers_are_swapped_saved_and_loaded(self, sampler, tmp_path):
        pipeline = self.tiny()
        usual = self.sample(pipeline, [0, 1], batch_size=2, num_inference_steps=2, **self.labels)
        pipeline.scheduler = sampler.from_config(pipeline.scheduler.config, **SAMPLERS[sampler])
        images = self.sample(pipeline, [0, 1], batch_size=2, num_inference_steps=2, **self.labels)
        assert images.isfinite().all() and torch.equal(images, usual) == (sampler is DDPMScheduler)
        pipeline.save_pretrained(tmp_path)
        loaded = self.pipeline_class.from_pretrained(tmp_path)
        loaded.set_progress_bar_config(disable=True)
        assert type(loaded.scheduler) is sampler
        again = self.sample(loaded, [0, 1], batch_size=2, num_inference_steps=2, **self.labels)
        assert torch.equal(again, images)

    def test_codes_do_not_depend_on_the_sampler(self):
        pipeline = self.tiny()
        images = torch.rand(2, 1, 8, 8, generator=torch.Generator().manual_seed(0))
        codes = pipeline.encode(images)
        assert codes.shape == (2, *self.latent_shape) and codes.dtype == torch.float32
        assert torch.equal(pipeline.encode(images), codes)
        decoded = pipeline.decode(codes, output_type="pt").images
        assert torch.equal(pipeline.reconstruct(images, output_type="pt").images, decoded)
        pipeline.scheduler = EulerDiscreteScheduler.from_config(pipeline.scheduler.config, **KARRAS)
        assert torch.equal(pipeline.encode(images), codes)
        assert torch.equal(pipeline.decode(codes, output_type="pt").images, decoded)

    @pytest.mark.parametrize("mode", ["linear", "spherical"])
    def test_interpolation_begins_and_ends_at_the_reconstructions(self, mode):
        pipeline = self.tiny()
        images = torch.rand(2, 1, 8, 8, generator=torch.Generator().manual_seed(0))
        path = pipeline.interpolate(images[0], images[1], num_steps=3, mode=mode, output_type="pt").images
        ends = pipeline.reconstruct(images, output_type="pt").images
        assert path.shape == (3, 1, 8, 8)
        torch.testing.assert_close(path[[0, -1]], ends, atol=1e-3, rtol=0)
        with pytest.raises(UserError, match="interpolate goes from one image to one image, got 2 and 1"):
            pipeline.interpolate(images, images[0])

    def test_refused_arguments(self):
        pipeline = self.tiny()
        for number in (0, 4):
            with pytest.raises(UserError, match="num_inference_steps must be 1 to 3, the steps that the model"):
                pipeline(num_inference_steps=number)
            with pytest.raises(UserError, match="num_inference_steps must be 1 to 3"):
                pipeline.encode(torch.zeros(1, 8, 8), num_inference_steps=number)
            with pytest.raises(UserError, match="num_inference_steps must be 1 to 3"):
                pipeline.decode(torch.zeros(1, *self.latent_shape), num_inference_steps=number)
        with pytest.raises(UserError, match="eta is for a DDIMScheduler, this pipeline has a DDPMScheduler"):
            pipeline(eta=0.5)
        with pytest.raises(UserError, match=r"latents must be \(batch, "):
            pipeline.decode(torch.zeros(2, 5))
