"""Pipeline of a DDPM of a VAE's latents."""

from __future__ import annotations

import pytest
import torch
from diffusers import DDIMScheduler

from hf_genmodels import VAE, LatentDDPMPipeline, UserError
from tests.testing_utils.denoising import ConstantDenoiser, DenoisingTesterMixin, GaussianDenoiser
from tests.testing_utils.networks import tiny_denoiser
from tests.testing_utils.pipelines import tiny_pipeline


class TestLatentDDPMPipeline(DenoisingTesterMixin):
    pipeline_class = LatentDDPMPipeline
    latent_shape = (2,)


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def test_samples_are_decoded_latents_over_the_scaling_factor():
    pipe = tiny_pipeline("LatentDDPMPipeline")
    latents = torch.tensor([0.8, -1.2])
    pipe.unet = ConstantDenoiser(latents[:, None, None], pipe.scheduler)
    samples = pipe(2, generator(), output_type="pt").images
    with torch.no_grad():
        expected = ((pipe.vae.decode(latents[None] / 0.5) + 1) / 2).clamp(0, 1)
    torch.testing.assert_close(samples, expected.expand_as(samples), atol=1e-4, rtol=0)


def test_codes_go_on_from_the_posterior_mean():
    vae = tiny_pipeline("LatentDDPMPipeline").vae
    _, scheduler = tiny_denoiser((2,), steps=100)
    pipe = LatentDDPMPipeline(vae, GaussianDenoiser((2,), scheduler, 0.0, 1.0), scheduler, scaling_factor=0.7)
    pipe.set_progress_bar_config(disable=True)
    images = torch.rand(3, 1, 8, 8, generator=generator())
    with torch.no_grad():
        mean, _ = vae.posterior_parameters(images * 2 - 1)
    # standard normal data stay as they are at every degree of noise
    torch.testing.assert_close(pipe.encode(images), mean * 0.7, atol=0.05, rtol=0.05)
    with torch.no_grad():
        expected = ((vae.decode(mean) + 1) / 2).clamp(0, 1)
    torch.testing.assert_close(pipe.reconstruct(images, output_type="pt").images, expected, atol=0.02, rtol=0)


def test_a_network_may_know_classes():
    vae = tiny_pipeline("LatentDDPMPipeline").vae
    pipe = LatentDDPMPipeline(vae, *tiny_denoiser((2,), num_classes=3))
    pipe.set_progress_bar_config(disable=True)
    pipe.scheduler = DDIMScheduler.from_config(pipe.scheduler.config)
    assert pipe.num_classes == 3
    assert pipe(class_labels=[0, 1], output_type="pt").images.shape == (2, 1, 8, 8)


def test_network_and_vae_must_fit():
    vae = VAE(sample_size=8, latent_dim=3, block_out_channels=(4,))
    with pytest.raises(UserError, match=r"the network denoises \(2,\), the VAE's latents are \(3,\)"):
        LatentDDPMPipeline(vae, *tiny_denoiser((2,)))
