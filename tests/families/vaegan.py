"""The cases of family vaegan."""

from __future__ import annotations

from hf_genmodels import VAEGANPipeline
from tests.testing_utils.cases import Equal, FamilyCase
from tests.testing_utils.networks import tiny_encoder, tiny_generator

MLP = {"architecture": "mlp", "hidden_dims": [16], "latent_dim": 2}
# 16 pixels: the first size with batch norm in encoders and discriminators, whose running averages are saved too
DIGITS = {"resolution": 16, "width": 2}

CASE = FamilyCase(
    options="--latent_dim 2 --width 2",
    vector_options="--latent_dim 1 --architecture mlp --hidden_dims 8",
    pipelines={
        "VAEGANPipeline": lambda shape, scale: VAEGANPipeline(
            tiny_encoder(shape, True), tiny_generator(shape), value_scale=scale
        )
    },
    equal={"vaegan": Equal(MLP)},
    resumed={"vaegan": DIGITS | {"log_steps": 3}},
)
