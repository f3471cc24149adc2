"""The cases of family tempered_gan."""

from __future__ import annotations

from tests.testing_utils.cases import Equal, FamilyCase

MLP = {"architecture": "mlp", "hidden_dims": [16], "latent_dim": 2}
# 16 pixels: the first size with batch norm in encoders and discriminators, whose running averages are saved too
DIGITS = {"resolution": 16, "width": 2}

CASE = FamilyCase(
    options="--latent_dim 2 --width 2 --lens_width 2 --lens_steps 2",
    vector_options="--latent_dim 2 --architecture mlp --hidden_dims 8",
    equal={"tempered_gan": Equal(MLP | {"lens_steps": 6})},
    resumed={"tempered_gan": DIGITS | {"lens_steps": 3, "lens_width": 2}},
)
