"""The cases of family avae."""

from __future__ import annotations

from hf_genmodels import AVAEPipeline
from tests.testing_utils.cases import Equal, FamilyCase
from tests.testing_utils.networks import tiny_encoder, tiny_generator

MLP = {"architecture": "mlp", "hidden_dims": [16], "latent_dim": 2}
# 16 pixels: the first size with batch norm in encoders and discriminators, whose running averages are saved too
DIGITS = {"resolution": 16, "width": 2}

CASE = FamilyCase(
    options="--latent_dim 2 --width 2 --architecture avae --latent_warmup_steps 0",
    vector_options="--latent_dim 1 --architecture mlp --hidden_dims 8",
    pipelines={
        "AVAEPipeline": lambda shape, scale: AVAEPipeline(
            tiny_encoder(shape, True), tiny_generator(shape), tiny_generator(shape, 5), value_scale=scale
        )
    },
    equal={"avae": Equal(MLP | {"latent_warmup_steps": 4})},
    resumed={"avae": DIGITS | {"latent_warmup_steps": 1}},
)
