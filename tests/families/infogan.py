"""The cases of family infogan."""

from __future__ import annotations

from hf_genmodels import InfoGANDiscriminator, InfoGANPipeline, MLPGenerator
from tests.testing_utils.cases import Equal, FamilyCase, Shape
from tests.testing_utils.networks import size_of

MLP = {"architecture": "mlp", "hidden_dims": [16], "latent_dim": 2}
# 16 pixels: the first size with batch norm in encoders and discriminators, whose running averages are saved too
DIGITS = {"resolution": 16, "width": 2}


def tiny(shape: Shape, value_scale: float) -> InfoGANPipeline:
    """Two latents, both of them codes, and no category."""
    generator = MLPGenerator(2, shape[0], size_of(shape), hidden_dims=(8,))
    discriminator = InfoGANDiscriminator(shape[0], size_of(shape), None, 2, hidden_dims=(8,))
    return InfoGANPipeline(generator, discriminator, value_scale=value_scale)


CASE = FamilyCase(
    options="--latent_dim 2 --width 2 --num_categories 3 --num_codes 1",
    vector_options="--latent_dim 2 --architecture mlp --hidden_dims 8 --num_categories 0",
    pipelines={"InfoGANPipeline": tiny},
    equal={"infogan": Equal(MLP)},
    resumed={"infogan": DIGITS | {"num_codes": 1}},
)
