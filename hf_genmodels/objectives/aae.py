"""The adversarial autoencoder's objective: an autoencoder whose codes a discriminator pulls towards a prior."""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from diffusers import ModelMixin
from torch import Tensor

from ..checks import check_widths
from ..data import DataSpec
from ..errors import UserError
from ..files import read_json
from ..losses.gan import accuracy, discriminator_loss, generator_loss
from ..losses.latent_prior import Prior, check_prior, sample_prior
from ..losses.likelihood import sum_per_sample
from ..losses.reconstruction import clamped_squared_error
from ..models.mlp import MLPDiscriminator
from ..pipelines.aae import AAEPipeline
from .adversarial import (
    ENCODERS,
    GENERATORS,
    AdversarialObjective,
    GeneratorArguments,
    build_encoder,
    build_generator,
    saved_generator_options,
)
from .base import Batch, Noise, Phase, adopt_saved_options, load_networks

LOSS = "non_saturating"
NUM_COMPONENTS = 10  # of the paper's mixture


@dataclass
class AAEArguments(GeneratorArguments):
    """Options of `train_aae.py`."""

    latent_dim: int = field(default=8, metadata={"help": "Dimension of the code z (paper: 8 for MNIST)."})
    prior: Prior = field(
        default="gaussian", metadata={"help": "What the codes are to follow, see `losses/latent_prior.py`."}
    )
    num_components: int | None = field(default=None, metadata={"help": "mixture: number of Gaussians (10)."})
    latent_hidden_dims: list[int] = field(
        default_factory=lambda: [1000, 1000],
        metadata={"help": "Widths of the discriminator, which judges codes."},
    )

    def check_codes(self) -> None:
        """Compare the options about the codes and their discriminator.

        Raises:
            UserError: One line that names the option.
        """
        if self.num_components is not None and self.prior != "mixture":
            raise UserError(f"--num_components has no meaning with --prior {self.prior}; leave it out")
        check_prior(self.prior, self.latent_dim, self.components(), prefix="--")
        check_widths("--latent_hidden_dims", self.latent_hidden_dims)

    def components(self) -> int:
        """Number of Gaussians of the mixture."""
        return NUM_COMPONENTS if self.num_components is None else self.num_components


class AAEObjective(AdversarialObjective):
    """Adversarial autoencoder (Makhzani et al. 2015, arXiv 1511.05644) with a deterministic encoder.

    reconstruction  encoder E and decoder D: ||D(E(x)) - x||^2, summed over a sample's entries
    discriminator   cross-entropy: draws from the prior are real, codes E(x) are fake
    regularisation  encoder: -log sigmoid(d(E(x)))

    The phases follow each other as in the paper, each at the weights that the one before left. The encoder has one
    Adam for its two losses, where the paper has an SGD for each, so that their sizes count against each other; the
    squared error is a sum, as a log-likelihood is, to which the other loss relates as the KL does in a VAE.
    """

    Arguments = AAEArguments
    pipeline_class = AAEPipeline
    sampler = "decoder"
    ema = ("encoder", "decoder")
    phases = (
        Phase("reconstruction", trains=("encoder", "decoder")),
        Phase("discriminator", trains=("discriminator",), reuse_batch=True),
        Phase("regularisation", trains=("encoder",), reuse_batch=True),
    )

    @classmethod
    def from_args(cls, args: AAEArguments, data: DataSpec) -> "AAEObjective":
        args.check(data)
        args.check_codes()
        networks = {
            "encoder": build_encoder(args, data, shared_log_std=False),
            "decoder": build_generator(args, data, args.latent_dim),
            "discriminator": MLPDiscriminator(args.latent_dim, None, tuple(args.latent_hidden_dims)),
        }
        return cls(networks, data, args)

    @classmethod
    def from_pretrained(cls, folder: Path, args: AAEArguments, data: DataSpec) -> "AAEObjective":
        """See `Objective.from_pretrained`. A checkpoint's networks do not say which prior they were trained with."""
        args.check_rates()
        networks = load_networks(
            folder, data, {"encoder": ENCODERS, "decoder": GENERATORS, "discriminator": (MLPDiscriminator,)}
        )
        options = saved_generator_options(networks["decoder"]) | {
            "latent_hidden_dims": list(networks["discriminator"].config.hidden_dims),
        }
        adopt_saved_options(args, options | saved_prior(folder))
        args.check_codes()
        return cls(networks, data, args)

    # losses ----------------------------------------------------------------------------------------------------------

    def losses(
        self, phase: Phase, networks: dict[str, Any], batch: Batch, noise: Noise, cache: dict[str, Any]
    ) -> dict[str, Tensor]:
        image, encoder, discriminator = batch["image"], networks["encoder"], networks["discriminator"]
        if phase.name == "reconstruction":
            decoded = networks["decoder"](encoder(image).mean).sample
            return {"loss": sum_per_sample((decoded.float() - image.float()).square()).mean()}
        if phase.name == "regularisation":
            return {"loss": generator_loss(LOSS, discriminator(encoder(image).mean).logits)}
        with torch.no_grad():
            codes = encoder(image).mean
        normal = noise.normal((len(image), self.args.latent_dim), like=image)
        prior = self.prior(normal, noise.uniform((len(image),), like=image))
        on_prior, on_codes = discriminator(prior).logits, discriminator(codes.to(image.dtype)).logits
        return {
            "loss": discriminator_loss(LOSS, on_prior, on_codes),
            "accuracy": accuracy(LOSS, on_prior.detach(), on_codes.detach()),
        }

    def prior(self, normal: Tensor, uniform: Tensor) -> Tensor:
        """Draws from the prior: (batch, latent_dim) and (batch,) random numbers -> (batch, latent_dim)."""
        return sample_prior(self.args.prior, normal, uniform, self.args.components())

    # inference -------------------------------------------------------------------------------------------------------

    def pipeline(self, networks: dict[str, ModelMixin]) -> AAEPipeline:
        parts: Any = {name: networks[name] for name in ("encoder", "decoder")}
        return AAEPipeline(
            **parts,
            prior=self.args.prior,
            num_components=self.args.components(),
            value_scale=self.data.value_scale,
        )

    def evaluate(self, networks: dict[str, ModelMixin], batch: Batch, generator: torch.Generator) -> dict[str, Tensor]:
        parts: dict[str, Any] = dict(networks)
        decoded = parts["decoder"](parts["encoder"](batch["image"]).mean).sample
        return {"mse": clamped_squared_error(decoded, batch["image"])}

    def watched_samples(self, networks: dict[str, ModelMixin], count: int, generator: torch.Generator) -> Tensor:
        decoder: Any = networks["decoder"]
        normal = torch.randn(count, self.args.latent_dim, generator=generator)
        latents = self.prior(normal, torch.rand(count, generator=generator))
        sample: Tensor = decoder(latents.to(decoder.device, decoder.dtype)).sample
        return sample


def saved_prior(folder: Path) -> dict[str, Any]:
    """The options that say what a saved pipeline's codes follow; none of them for a checkpoint's networks.

    Raises:
        UserError: The pipeline has no prior over codes.
    """
    path = folder / "model_index.json"
    if not path.is_file():
        return {}
    index = read_json(path)
    if "prior" not in index:
        raise UserError(f"{path} names no prior, so this is no adversarial autoencoder; give a run of train_aae.py")
    return {
        "prior": index["prior"],
        "num_components": index["num_components"] if index["prior"] == "mixture" else None,
    }
