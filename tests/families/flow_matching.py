"""The cases of family flow_matching."""

from __future__ import annotations

from diffusers import FlowMatchEulerDiscreteScheduler

from hf_genmodels import VAE, FlowMatchingObjective, FlowMatchingPipeline, LatentFlowMatchingPipeline
from tests.testing_utils.cases import Equal, FamilyCase
from tests.testing_utils.networks import tiny_autoencoding, tiny_unet

SMALL = {"block_out_channels": [8, 8], "layers_per_block": 1}
UNET = SMALL | {"block_out_channels": (8, 8), "latent_dim": None, "flow_num_inference_steps": 2}


def latent(objective: FlowMatchingObjective) -> FlowMatchingObjective:
    """In the latents of a VAE that has learnt nothing."""
    data = objective.data
    vae = VAE(data.channels, data.sample_size, latent_dim=2, architecture="mlp", hidden_dims=(8,))
    return FlowMatchingObjective(tiny_unet((2,)), objective.scheduler, data, vae=vae)


CASE = FamilyCase(
    options="--block_out_channels 8 8 --layers_per_block 1 --flow_num_inference_steps 2",
    vector_options="--block_out_channels 8 --layers_per_block 1 --flow_num_inference_steps 2",
    pipelines={
        "FlowMatchingPipeline": lambda shape, scale: FlowMatchingPipeline(
            tiny_unet(shape), FlowMatchEulerDiscreteScheduler(), value_scale=scale
        ),
        "LatentFlowMatchingPipeline": lambda shape, scale: LatentFlowMatchingPipeline(
            tiny_autoencoding(VAE, shape),
            tiny_unet((2,)),
            FlowMatchEulerDiscreteScheduler(),
            scaling_factor=0.5,
            value_scale=scale,
        ),
    },
    equal={
        "flow_matching": Equal(SMALL | {"class_conditional": True}, "builtin:digits"),
        "latent flow_matching": Equal(SMALL, "builtin:digits", change=latent),
    },
    resumed={
        "flow_matching": UNET | {"dropout": 0.1, "random_flip": True},
        "classes of flow_matching": UNET | {"class_conditional": True},
    },
)
