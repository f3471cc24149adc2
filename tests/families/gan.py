"""The cases of family gan."""

from __future__ import annotations

from hf_genmodels import DCGANDiscriminator, GANObjective, GANPipeline, MLPGenerator
from tests.testing_utils.cases import Equal, FamilyCase
from tests.testing_utils.networks import tiny_generator

MLP = {"architecture": "mlp", "hidden_dims": [16], "latent_dim": 2}
TOY = {"dataset_name": "builtin:toy2d", "hidden_dims": 8, "architecture": "mlp"}
# 16 pixels: the first size with batch norm in encoders and discriminators, whose running averages are saved too
DIGITS = {"resolution": 16, "width": 2}
PAIRS = frozenset({"discriminator/accuracy"})
STEADIED = {"label_smoothing": 0.1, "instance_noise": 0.5, "instance_noise_steps": 7}


def spectral(objective: GANObjective) -> GANObjective:
    """Spectral norm needs convolutions, whose generator has batch norm: here a dense one takes its place."""
    data = objective.data
    generator = MLPGenerator(2, data.channels, data.sample_size, hidden_dims=(16,))
    discriminator = DCGANDiscriminator(data.channels, data.sample_size or 0, width=4, norm="spectral")
    return GANObjective(generator, discriminator, data, gan_loss="hinge", critic_updates=2)


CASE = FamilyCase(
    options="--latent_dim 2 --width 2 --conditioning cgan --gradient_penalty r1 --critic_updates 2 --packing 2",
    vector_options="--latent_dim 2 --architecture mlp --hidden_dims 8 --packing 2",
    pipelines={"GANPipeline": lambda shape, scale: GANPipeline(tiny_generator(shape), value_scale=scale)},
    equal={
        "wgan_gp": Equal(
            MLP | {"gan_loss": "wasserstein", "gradient_penalty": "wgan_gp", "critic_updates": 5}, of_one_process=PAIRS
        ),
        "packs": Equal(MLP | {"gan_loss": "hinge", "gradient_penalty": "zero_centred", "packing": 2}),
        "r1": Equal(MLP | {"gradient_penalty": "r1"}),
        "roth": Equal(MLP | {"gan_loss": "minimax", "gradient_penalty": "roth"}),
        "shared": Equal(MLP | {"gradient_penalty": "r2", "share_fakes": True}),
        "clipped": Equal(
            MLP | {"gan_loss": "wasserstein", "weight_clip": 0.05, "critic_updates": 2}, of_one_process=PAIRS
        ),
        "classes": Equal(MLP | {"conditioning": "cgan", "gan_loss": "least_squares"}, "builtin:digits"),
        "spectral": Equal(MLP, "builtin:digits", change=spectral),
        "ambient": Equal(MLP | {"measurement": "drop 0.5"}, "builtin:digits"),
        "steadied": Equal(MLP | STEADIED),
        "consensus": Equal(MLP | {"consensus_weight": 1.0, "generator_loss": "feature_matching"}),
        "moments": Equal(MLP | {"generator_loss": "mmd"}),
    },
    resumed={
        "gan": DIGITS | {"lr_scheduler": "cosine", "random_flip": True},
        "spectral": DIGITS | {"discriminator_norm": "spectral", "gan_loss": "hinge", "critic_updates": 3},
        "packs": TOY | {"gan_loss": "wasserstein", "gradient_penalty": "wgan_gp", "packing": 2},
        "accumulated": TOY | {"gradient_penalty": "r1", "gradient_accumulation_steps": 2},
        "shared": DIGITS | {"share_fakes": True, "gradient_accumulation_steps": 2},
        "classes": DIGITS | {"conditioning": "projection", "gradient_penalty": "r2"},
        "ambient": DIGITS | {"measurement": "blur 0.5 0.1", "share_fakes": True},
        "optimizers": TOY | {"optimizer": "rmsprop"},
        "steadied": TOY | STEADIED | {"minibatch_kernels": 4, "generator_loss": "feature_matching"},
        "consensus": TOY | {"consensus_weight": 0.1, "gan_loss": "f_js"},
        "moments": TOY | {"generator_loss": "mmd"},
    },
)
