"""The cases of family edm."""

from __future__ import annotations

from diffusers import EDMEulerScheduler

from hf_genmodels import VAE, EDMObjective, EDMPipeline, LatentEDMPipeline
from tests.testing_utils.cases import Equal, FamilyCase
from tests.testing_utils.networks import tiny_autoencoding, tiny_unet

SMALL = {"block_out_channels": [8, 8], "layers_per_block": 1}
UNET = SMALL | {"block_out_channels": (8, 8), "latent_dim": None, "edm_num_inference_steps": 2}


def latent(objective: EDMObjective) -> EDMObjective:
    """In the latents of a VAE that has learnt nothing."""
    data = objective.data
    vae = VAE(data.channels, data.sample_size, latent_dim=2, architecture="mlp", hidden_dims=(8,))
    return EDMObjective(tiny_unet((2,)), objective.scheduler, data, vae=vae, measures_data=True)


CASE = FamilyCase(
    options="--block_out_channels 8 8 --layers_per_block 1 --edm_num_inference_steps 2",
    vector_options="--block_out_channels 8 --layers_per_block 1 --edm_num_inference_steps 2",
    pipelines={
        "EDMPipeline": lambda shape, scale: EDMPipeline(tiny_unet(shape), EDMEulerScheduler(), value_scale=scale),
        "LatentEDMPipeline": lambda shape, scale: LatentEDMPipeline(
            tiny_autoencoding(VAE, shape), tiny_unet((2,)), EDMEulerScheduler(), scaling_factor=0.5, value_scale=scale
        ),
    },
    equal={
        "edm": Equal(SMALL | {"class_conditional": True}, "builtin:digits"),
        "latent edm": Equal(SMALL, "builtin:digits", change=latent),
    },
    resumed={
        "edm": UNET | {"dropout": 0.1, "random_flip": True},
        "classes of edm": UNET | {"class_conditional": True},
    },
)
