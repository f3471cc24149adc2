"""BiGAN's objective: an encoder and a generator against a discriminator of pairs."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from diffusers import ModelMixin
from torch import Tensor

from ..data import DataSpec
from ..losses.gan import accuracy, discriminator_loss
from ..losses.reconstruction import clamped_squared_error
from ..models.bigan import BiGANDiscriminator
from ..pipelines.bigan import BiGANPipeline
from .adversarial import (
    ENCODERS,
    GENERATORS,
    NORMS,
    AdversarialArguments,
    AdversarialObjective,
    build_encoder,
    build_generator,
    saved_generator_options,
)
from .base import Batch, Noise, Phase, adopt_saved_options, load_networks

LOSS = "non_saturating"


@dataclass
class BiGANArguments(AdversarialArguments):
    """Options of `train_bigan.py`."""


class BiGANObjective(AdversarialObjective):
    """Bidirectional GAN (Donahue et al. 2017, arXiv 1605.09782; Dumoulin et al. 2017, arXiv 1606.00704).

    The discriminator's logit d(x, z) says that a pair is (x, E(x)) rather than (G(z), z). It minimises the
    cross-entropy of that; generator and encoder minimise the cross-entropy with the answers swapped, as the AVAE
    authors' baseline does. That code labels the pairs the other way round, which changes nothing, and multiplies the
    encoder's loss by ten, which Adam undoes.

    The discriminator goes first, then generator and encoder together.
    """

    Arguments = BiGANArguments
    pipeline_class = BiGANPipeline
    ema = ("encoder", "generator")
    phases = (
        Phase("discriminator", trains=("discriminator",)),
        Phase("generator", trains=("generator", "encoder"), reuse_batch=True),
    )

    @classmethod
    def from_args(cls, args: BiGANArguments, data: DataSpec) -> "BiGANObjective":
        args.check(data)
        shape: dict[str, Any] = {"hidden_dims": args.dims()}
        if data.size is not None and args.architecture != "mlp":
            norm = args.discriminator_norm or NORMS[args.architecture][0]
            shape = {"norm": norm, **args.layout(data.size)}
        networks = {
            "encoder": build_encoder(args, data, shared_log_std=False),
            "generator": build_generator(args, data, args.latent_dim),
            "discriminator": BiGANDiscriminator(data.channels, data.size, args.latent_dim, **shape),
        }
        return cls(networks, data, args)

    @classmethod
    def from_pretrained(cls, folder: Path, args: BiGANArguments, data: DataSpec) -> "BiGANObjective":
        args.check_rates()
        networks = load_networks(
            folder, data, {"encoder": ENCODERS, "generator": GENERATORS, "discriminator": (BiGANDiscriminator,)}
        )
        options = saved_generator_options(networks["generator"])
        is_mlp = options["architecture"] == "mlp"
        options["discriminator_norm"] = "none" if is_mlp else networks["discriminator"].config.norm
        adopt_saved_options(args, options)
        return cls(networks, data, args)

    def losses(
        self, phase: Phase, networks: dict[str, Any], batch: Batch, noise: Noise, cache: dict[str, Any]
    ) -> dict[str, Tensor]:
        image, discriminator = batch["image"], networks["discriminator"]
        latents = noise.normal((len(image), self.args.latent_dim), like=image)
        with torch.set_grad_enabled(phase.name == "generator"):
            fake, code = networks["generator"](latents).sample, networks["encoder"](image).mean
        if phase.name == "generator":
            # the cross-entropy with the answers swapped: data pairs in the place of fakes
            swapped = discriminator_loss(LOSS, discriminator(fake, latents).logits, discriminator(image, code).logits)
            return {"loss": swapped}
        real_logits = discriminator(image, code.to(image.dtype)).logits
        fake_logits = discriminator(fake.to(image.dtype), latents).logits
        return {
            "loss": discriminator_loss(LOSS, real_logits, fake_logits),
            "accuracy": accuracy(LOSS, real_logits.detach(), fake_logits.detach()),
        }

    def evaluate(self, networks: dict[str, ModelMixin], batch: Batch, generator: torch.Generator) -> dict[str, Tensor]:
        parts: dict[str, Any] = dict(networks)
        decoded = parts["generator"](parts["encoder"](batch["image"]).mean).sample
        return {"mse": clamped_squared_error(decoded, batch["image"])}
