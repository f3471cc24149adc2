"""The cases of family aae."""

from __future__ import annotations

from hf_genmodels import AAEPipeline
from tests.testing_utils.cases import Equal, FamilyCase
from tests.testing_utils.networks import tiny_encoder, tiny_generator

MLP = {"architecture": "mlp", "hidden_dims": [16], "latent_dim": 2}
# 16 pixels: the first size with batch norm in encoders and discriminators, whose running averages are saved too
DIGITS = {"resolution": 16, "width": 2}

CASE = FamilyCase(
    options="--latent_dim 2 --width 2 --latent_hidden_dims 8 --prior mixture --num_components 3",
    vector_options="--latent_dim 1 --architecture mlp --hidden_dims 8 --latent_hidden_dims 8",
    pipelines={
        "AAEPipeline": lambda shape, scale: AAEPipeline(tiny_encoder(shape), tiny_generator(shape), value_scale=scale)
    },
    equal={"aae": Equal(MLP | {"latent_hidden_dims": [8]})},
    resumed={"aae": DIGITS | {"latent_hidden_dims": 8, "prior": "mixture"}},
)
