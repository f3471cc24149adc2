"""The cases of family score."""

from __future__ import annotations

from diffusers import ScoreSdeVeScheduler

from hf_genmodels import VAE, LatentScorePipeline, ScoreObjective, ScorePipeline
from tests.testing_utils.cases import Equal, FamilyCase
from tests.testing_utils.networks import tiny_autoencoding, tiny_unet

SMALL = {"block_out_channels": [8, 8], "layers_per_block": 1}
UNET = SMALL | {"block_out_channels": (8, 8), "latent_dim": None, "score_num_inference_steps": 2}


def latent(objective: ScoreObjective) -> ScoreObjective:
    """In the latents of a VAE that has learnt nothing."""
    data = objective.data
    vae = VAE(data.channels, data.sample_size, latent_dim=2, architecture="mlp", hidden_dims=(8,))
    return ScoreObjective(tiny_unet((2,)), objective.scheduler, data, vae=vae, measures_data=True)


CASE = FamilyCase(
    options="--block_out_channels 8 8 --layers_per_block 1 --score_num_inference_steps 2",
    vector_options="--block_out_channels 8 --layers_per_block 1 --score_num_inference_steps 2",
    pipelines={
        "ScorePipeline": lambda shape, scale: ScorePipeline(
            tiny_unet(shape), ScoreSdeVeScheduler(sigma_max=5.0), value_scale=scale
        ),
        "LatentScorePipeline": lambda shape, scale: LatentScorePipeline(
            tiny_autoencoding(VAE, shape),
            tiny_unet((2,)),
            ScoreSdeVeScheduler(sigma_max=5.0),
            scaling_factor=0.5,
            value_scale=scale,
        ),
    },
    equal={
        "score": Equal(SMALL | {"class_conditional": True}, "builtin:digits"),
        "latent score": Equal(SMALL, "builtin:digits", change=latent),
    },
    resumed={
        "score": UNET | {"dropout": 0.1, "random_flip": True},
        "classes of score": UNET | {"class_conditional": True},
    },
)
