"""The cases of family vae."""

from __future__ import annotations

from hf_genmodels import VAE, VAEPipeline
from tests.testing_utils.cases import Equal, FamilyCase
from tests.testing_utils.networks import tiny_autoencoding

MLP = {"architecture": "mlp", "hidden_dims": [16], "latent_dim": 3, "tc_weight": 5.0}
FACTOR = {"tc_estimator": "discriminator", "latent_hidden_dims": [16]}

CASE = FamilyCase(
    options="--latent_dim 2 --block_out_channels 4 8 --learn_std",
    vector_options="--latent_dim 2 --architecture mlp --hidden_dims 8 --gaussian_std 0.1",
    pipelines={"VAEPipeline": lambda shape, scale: VAEPipeline(tiny_autoencoding(VAE, shape), value_scale=scale)},
    equal={
        "beta-tc-vae": Equal(MLP | {"tc_estimator": "minibatch_stratified", "kl_estimator": "sampled"}),
        "factorvae": Equal(MLP | FACTOR),
    },
    resumed={"factorvae": MLP | FACTOR | {"likelihood": "bernoulli"}},
)
