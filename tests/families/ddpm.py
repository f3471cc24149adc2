"""The cases of family ddpm."""

from __future__ import annotations

from hf_genmodels import (
    VAE,
    ConditionalDDPMPipeline,
    DDPMObjective,
    DDPMPipeline,
    InverseProblemPipeline,
    LatentDDPMPipeline,
)
from tests.testing_utils.cases import Equal, FamilyCase
from tests.testing_utils.networks import tiny_autoencoding, tiny_denoiser

SMALL = {"block_out_channels": [8, 8], "layers_per_block": 1, "ddpm_num_steps": 25}
UNET = SMALL | {"block_out_channels": (8, 8), "ddpm_num_inference_steps": 2, "latent_dim": None}


def latent(objective: DDPMObjective) -> DDPMObjective:
    """Diffusion in the latents of a VAE that has learnt nothing."""
    data = objective.data
    vae = VAE(data.channels, data.sample_size, latent_dim=2, architecture="mlp", hidden_dims=(8,))
    return DDPMObjective(*tiny_denoiser((2,), 25, ddpm_beta_schedule="linear"), data, vae=vae)


CASE = FamilyCase(
    options="--block_out_channels 8 8 --layers_per_block 1 --ddpm_num_steps 25 --ddpm_num_inference_steps 5",
    vector_options="--block_out_channels 8 --layers_per_block 1 --ddpm_num_steps 25 --ddpm_num_inference_steps 5",
    pipelines={
        "DDPMPipeline": lambda shape, scale: DDPMPipeline(*tiny_denoiser(shape), value_scale=scale),
        "ConditionalDDPMPipeline": lambda shape, scale: ConditionalDDPMPipeline(
            *tiny_denoiser(shape, num_classes=3), value_scale=scale
        ),
        "InverseProblemPipeline": lambda shape, scale: InverseProblemPipeline(
            *tiny_denoiser(shape), value_scale=scale
        ),
        "LatentDDPMPipeline": lambda shape, scale: LatentDDPMPipeline(
            tiny_autoencoding(VAE, shape), *tiny_denoiser((2,)), scaling_factor=0.5, value_scale=scale
        ),
    },
    images_only=frozenset({"InverseProblemPipeline"}),
    equal={
        "ddpm": Equal(SMALL | {"class_conditional": True, "snr_gamma": 5.0}, "builtin:digits"),
        "variances": Equal(SMALL | {"ddpm_variance_type": "learned_range"}, "builtin:digits", float64=True),
        "latent": Equal(SMALL, "builtin:digits", change=latent),
    },
    resumed={
        "ddpm": UNET | {"dropout": 0.1, "random_flip": True},
        "variances of ddpm": UNET | {"ddpm_variance_type": "learned_range"},
        "classes of ddpm": UNET | {"class_conditional": True, "snr_gamma": 5},
    },
)
