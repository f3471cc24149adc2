"""The cases of family diffusion_gan."""

from __future__ import annotations

from hf_genmodels import DiffusionGANPipeline
from hf_genmodels.families.diffusion_gan import build_scheduler
from tests.testing_utils.cases import Equal, FamilyCase
from tests.testing_utils.networks import tiny_stochastic_unet

SMALL = {"block_out_channels": [8], "layers_per_block": 1, "latent_dim": 2, "discriminator_channels": [8, 8]}
RUN = SMALL | {"block_out_channels": (8, 8), "discriminator_channels": (4, 8)}
OPTIONS = "--layers_per_block 1 --latent_dim 2 --diffusion_steps 2"

CASE = FamilyCase(
    options=f"--block_out_channels 8 8 --discriminator_channels 4 8 {OPTIONS}",
    vector_options=f"--block_out_channels 8 --discriminator_channels 8 {OPTIONS}",
    pipelines={
        "DiffusionGANPipeline": lambda shape, scale: DiffusionGANPipeline(
            tiny_stochastic_unet(shape), build_scheduler(3), value_scale=scale
        )
    },
    equal={"diffusion_gan": Equal(SMALL | {"penalty_every": 3}, "builtin:digits")},
    resumed={
        "diffusion_gan": RUN | {"dropout": 0.1, "random_flip": True, "penalty_every": 3},
        "one step of diffusion_gan": RUN | {"diffusion_steps": 1, "penalty_weight": 0.0},
    },
)
