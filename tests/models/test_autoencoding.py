"""The networks of autoencoders and VAEs."""

from __future__ import annotations

import pytest
import torch
from safetensors.torch import save_file
from torch import nn

from hf_genmodels import VAE, Autoencoder, UserError
from hf_genmodels.blocks.autoencoding import dense_layers
from hf_genmodels.families.vae import BETA_VAE
from hf_genmodels.loading import load_network
from tests.testing_utils.models import ModelTesterMixin
from tests.testing_utils.refusals import refused


class TestVAE(ModelTesterMixin):
    model_class = VAE
    configs = (
        {"in_channels": 1, "sample_size": 8, "latent_dim": 4, "block_out_channels": (8, 16)},
        {"in_channels": 3, "sample_size": 9, "latent_dim": 2, "block_out_channels": (8, 16), "norm": "group"},
        {"in_channels": 2, "sample_size": None, "latent_dim": 1, "architecture": "mlp", "hidden_dims": (16,)},
        {"sample_size": 4, "latent_dim": 2, "block_out_channels": (8,), "likelihood": "categorical", "num_levels": 5},
        {"sample_size": 8, "latent_dim": 2, "block_out_channels": (8,), "learn_std": True, "gaussian_std": 0.3},
    )

    def inputs(self, config, generator):
        shape = self.sample_shape(config)
        return {
            "sample": torch.rand(4, *shape, generator=generator) * 2 - 1,
            "noise": torch.randn(4, config["latent_dim"], generator=generator),
        }


class TestAutoencoder(ModelTesterMixin):
    model_class = Autoencoder
    configs = (
        {"in_channels": 1, "sample_size": 8, "latent_dim": 4, "block_out_channels": (8, 16)},
        {
            "in_channels": 3,
            "sample_size": 7,
            "latent_dim": 3,
            "block_out_channels": (8,),
            "norm": "none",
            "num_classes": 5,
        },
        {"in_channels": 2, "sample_size": None, "latent_dim": 1, "architecture": "linear"},
        {
            "sample_size": 4,
            "latent_dim": 6,
            "architecture": "mlp",
            "hidden_dims": (16,),
            "latent_activation": "sigmoid",
        },
    )

    def inputs(self, config, generator):
        return {"sample": torch.rand(4, *self.sample_shape(config), generator=generator) * 2 - 1}


def test_conv_vae_at_32_pixels_has_the_size_that_benchmarks_name():
    vae = VAE(in_channels=3, sample_size=32, latent_dim=64)
    assert sum(parameter.numel() for parameter in vae.parameters()) == 726_755


def test_beta_vae_is_table_4_2_with_its_reshape_mended():
    vae = VAE(in_channels=1, sample_size=64, latent_dim=10, likelihood="bernoulli", **BETA_VAE)

    def summary(module: nn.Module) -> list[object]:
        rows: list[object] = []
        for layer in module:
            if isinstance(layer, nn.Linear):
                rows.append((layer.in_features, layer.out_features))
            elif isinstance(layer, nn.Conv2d | nn.ConvTranspose2d):
                assert layer.kernel_size == (4, 4) and layer.stride == (2, 2)
                rows.append((type(layer).__name__, layer.in_channels, layer.out_channels))
            elif not isinstance(layer, nn.Flatten):
                rows.append(type(layer).__name__)
        return rows

    convs = [("Conv2d", 1, 32), "ReLU", *[("Conv2d", 32, 32), "ReLU"] * 3]
    assert summary(vae.trunk) == [*convs, (512, 256), "ReLU", (256, 256), "ReLU"]
    assert (vae.posterior.in_features, vae.posterior.out_features) == (256, 20)
    up = [("ConvTranspose2d", 32, 32), "ReLU"] * 3
    assert summary(vae.decoder) == [
        (10, 256),
        "ReLU",
        (256, 512),
        "ReLU",
        "Unflatten",
        *up,
        ("ConvTranspose2d", 32, 1),
    ]


def test_k_sparse_keeps_the_largest_entries_and_lets_only_them_learn():
    autoencoder = Autoencoder(sample_size=4, latent_dim=6, architecture="linear", k_sparse=2)
    sample = torch.randn(3, 1, 4, 4)
    dense = autoencoder.to_latents(autoencoder.trunk(sample))
    latents = autoencoder.encode(sample)
    for code, full in zip(latents, dense, strict=True):
        kept = full.argsort(descending=True)[:2]
        assert sorted(code.nonzero().flatten().tolist()) == sorted(kept.tolist())
        assert code[kept].tolist() == full[kept].tolist()


@pytest.mark.parametrize("likelihood", ["bernoulli", "categorical"])
def test_decode_gives_the_mean_of_the_likelihood(likelihood):
    vae = VAE(sample_size=4, latent_dim=2, block_out_channels=(8,), likelihood=likelihood, num_levels=5)
    latents = torch.randn(3, 2)
    decoded = vae.decoder_parameters(latents)
    if likelihood == "bernoulli":
        expected = torch.sigmoid(decoded)
    else:
        probability = decoded.softmax(1)
        expected = sum(probability[:, level] * level / 4 for level in range(5))
    torch.testing.assert_close(vae.decode(latents), expected * 2 - 1)


@pytest.mark.parametrize(
    ("build", "message"),
    [
        (
            lambda: VAE(sample_size=4),
            r"resolution 4 is too small for 3 .* sample_size \(--resolution\) of 8 or more, or fewer",
        ),
        (lambda: VAE(in_channels=2, sample_size=None), "needs images, but the data are vectors"),
        (
            lambda: VAE(sample_size=8)(torch.zeros(1, 3, 8, 8), torch.zeros(1, 32)),
            r"takes samples of shape \(1, 8, 8\)",
        ),
    ],
)
def test_impossible_shapes_are_one_line_errors(build, message):
    with pytest.raises(UserError, match=message):
        build()


@pytest.mark.parametrize(
    ("model_class", "options", "message"),
    [
        (VAE, {"architecture": "cnn"}, "architecture 'cnn' is unknown; choose one of: conv, mlp"),
        (VAE, {"architecture": "linear"}, "architecture 'linear' is unknown; choose one of: conv, mlp"),
        (Autoencoder, {"architecture": "lin"}, "architecture 'lin' is unknown; choose one of: linear, mlp, conv"),
        (VAE, {"norm": "batchnorm"}, "norm 'batchnorm' is unknown; choose one of: batch, group, none"),
        (Autoencoder, {"architecture": "mlp", "norm": "layer"}, "norm 'layer' is unknown"),
        (VAE, {"likelihood": "normal"}, "likelihood 'normal' is unknown; choose one of: gaussian, bernoulli, cat"),
        (VAE, {"activation": "gelu"}, "activation 'gelu' is unknown; choose one of: relu, silu, tanh"),
        (Autoencoder, {"architecture": "linear", "activation": "gelu"}, "activation 'gelu' is unknown"),
        (
            Autoencoder,
            {"latent_activation": "tanh"},
            "latent_activation 'tanh' is unknown; choose one of: identity, r",
        ),
        (VAE, {"block_out_channels": (16, 0)}, "block_out_channels must be at least 1, got 16 0"),
        (Autoencoder, {"block_out_channels": (-4,)}, "block_out_channels must be at least 1, got -4"),
        (Autoencoder, {"block_out_channels": ()}, "architecture conv needs at least one width in block_out_channels"),
        (VAE, {"hidden_dims": (8, 0)}, "hidden_dims must be at least 1, got 8 0"),
        (Autoencoder, {"architecture": "mlp", "hidden_dims": (-1,)}, "hidden_dims must be at least 1, got -1"),
        (VAE, {"latent_dim": 0}, "latent_dim must be at least 1, got 0"),
        (Autoencoder, {"latent_dim": 0}, "latent_dim must be at least 1, got 0"),
        (VAE, {"gaussian_std": float("nan")}, "gaussian_std must be positive and finite, got nan"),
        (VAE, {"gaussian_std": float("inf")}, "gaussian_std must be positive and finite, got inf"),
        (VAE, {"gaussian_std": 0.0}, "gaussian_std must be positive and finite, got 0.0"),
    ],
)
def test_mistyped_options_build_no_other_network(model_class, options, message):
    with refused(message):
        model_class(**options)


def test_dense_layers_alone_are_checked_too():
    with pytest.raises(UserError, match="activation 'gelu' is unknown"):
        dense_layers([3, 4], "gelu")
    with pytest.raises(UserError, match="hidden_dims must be at least 1, got 0"):
        dense_layers([3, 0], "relu")


def test_weights_of_the_layers_earlier_name_are_read(tmp_path):
    """Version 0.1.0 called the last layer of the encoder `code`."""
    network = Autoencoder(2, None, latent_dim=1, architecture="linear")
    old = {name.replace("to_latents", "code"): value for name, value in network.state_dict().items()}
    assert {"code.weight", "code.bias"} <= old.keys()
    loaded = Autoencoder(2, None, latent_dim=1, architecture="linear")
    loaded.load_state_dict(old)
    network.save_pretrained(str(tmp_path))
    save_file(old, tmp_path / "diffusion_pytorch_model.safetensors", {"format": "pt"})
    for again in (loaded, load_network(Autoencoder, tmp_path), Autoencoder.from_pretrained(tmp_path)):
        torch.testing.assert_close(again.state_dict(), network.state_dict(), rtol=0, atol=0)
