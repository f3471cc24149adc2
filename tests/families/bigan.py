"""The cases of family bigan."""

from __future__ import annotations

from hf_genmodels import BiGANPipeline
from tests.testing_utils.cases import Equal, FamilyCase
from tests.testing_utils.networks import tiny_encoder, tiny_generator

MLP = {"architecture": "mlp", "hidden_dims": [16], "latent_dim": 2}
# 16 pixels: the first size with batch norm in encoders and discriminators, whose running averages are saved too
DIGITS = {"resolution": 16, "width": 2}

CASE = FamilyCase(
    options="--latent_dim 2 --width 2",
    vector_options="--latent_dim 2 --architecture mlp --hidden_dims 8",
    pipelines={
        "BiGANPipeline": lambda shape, scale: BiGANPipeline(
            tiny_encoder(shape), tiny_generator(shape), value_scale=scale
        )
    },
    equal={"bigan": Equal(MLP)},
    resumed={"bigan": DIGITS},
)
