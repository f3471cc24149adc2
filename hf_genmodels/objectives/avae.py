"""AVAE's objective: a VAE, and a generator that shares its latent space and learns from a critic."""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import torch
from diffusers import ModelMixin
from torch import Tensor

from ..data import DataSpec
from ..losses.gan import accuracy, discriminator_loss, generator_loss
from ..losses.latent import latent_loss
from ..losses.likelihood import kl_standard_normal, sum_per_sample
from ..losses.reconstruction import clamped_squared_error
from ..pipelines.avae import AVAEPipeline
from .adversarial import (
    DISCRIMINATORS,
    ENCODERS,
    GENERATORS,
    AdversarialArguments,
    AdversarialObjective,
    build_discriminator,
    build_encoder,
    build_generator,
    running_averages_kept,
    saved_generator_options,
)
from .base import (
    Batch,
    Noise,
    Phase,
    adopt_saved_options,
    check_minimums,
    check_positive,
    load_networks,
)

CRITIC_LOSS = "linear_logit"  # L_C and L_M


@dataclass
class AVAEArguments(AdversarialArguments):
    """Options of `train_avae.py`."""

    xi_dim: int | None = field(
        default=None, metadata={"help": "Dimension of xi, which G takes beside z; that of z by default, 0 for none."}
    )
    latent_loss: Literal["nll_a", "nll_b", "softmax"] = field(
        default="nll_b", metadata={"help": "L_Z^a or L_Z^b of the paper, or softmax, the authors' code."}
    )
    latent_warmup_steps: int = field(
        default=500,
        metadata={"help": "The latent loss has no weight for so many steps, then rises to its own over as many."},
    )
    beta: float = field(default=1.0, metadata={"help": "Weight of the KL term."})
    log_std_learning_rate: float | None = field(
        default=None, metadata={"help": "Of log sigma; --learning_rate by default."}
    )


class AVAEObjective(AdversarialObjective):
    """Adversarial VAE (Plumerault et al. 2020, arXiv 2012.11551; thesis, chapter 3).

    vae (encoder E, decoder D)  L_rec + beta L_KL, with z = mu(x) + sigma eps and D(z) of fixed deviation 1
    generator G                 L_Z + L_M, where mu(G(z, xi)) is to be z and the critic is to take G(z, xi) for data
    critic C                    L_C; its logit says "real", which is minus the paper's

    Gradients pass through E and C into G without changing them. E and D do not depend on G or C: they are a VAE. E's
    running averages of batch statistics are those of data alone.

    Differences from the paper: critic, generator and VAE are updated one after the other, where the authors update all
    at each other's old weights (see `GANObjective` for why), and the latent loss sets in after a warm-up (with equal
    weights from the start the generator finds patterns that please E, and the critic wins), which
    `--latent_warmup_steps 0` undoes. Training further from a saved model begins with the warm-up again.

    Log sigma moves by at most a learning rate a step: a short run ends with sigma near 1, hence with blurrier
    reconstructions and a weaker latent loss. `--log_std_learning_rate` gives it a rate of its own.
    """

    Arguments = AVAEArguments
    pipeline_class = AVAEPipeline
    ema = ("encoder", "decoder", "generator")
    phases = (
        Phase("critic", trains=("discriminator",)),
        Phase("generator", trains=("generator",), reuse_batch=True),
        Phase("vae", trains=("encoder", "decoder"), reuse_batch=True),
    )

    def __init__(self, networks: dict[str, Any], data: DataSpec, args: AVAEArguments) -> None:
        super().__init__(networks, data, args)
        self.latent_weight = 1.0
        self.schedule = ("latent_warmup_steps", 2 * args.latent_warmup_steps)

    @classmethod
    def from_args(cls, args: AVAEArguments, data: DataSpec) -> "AVAEObjective":
        args.check(data)
        check_weights(args)
        xi_dim = args.latent_dim if args.xi_dim is None else args.xi_dim
        networks = {
            "encoder": build_encoder(args, data, shared_log_std=True),
            "decoder": build_generator(args, data, args.latent_dim),
            "generator": build_generator(args, data, args.latent_dim + xi_dim),
            "discriminator": build_discriminator(args, data),
        }
        return cls(networks, data, args)

    @classmethod
    def from_pretrained(cls, folder: Path, args: AVAEArguments, data: DataSpec) -> "AVAEObjective":
        args.check_rates()
        check_weights(args)
        networks = load_networks(
            folder,
            data,
            {
                "encoder": ENCODERS,
                "decoder": GENERATORS,
                "generator": GENERATORS,
                "discriminator": DISCRIMINATORS,
            },
        )
        adopt_saved_options(args, saved_options(networks))
        return cls(networks, data, args)

    def param_groups(self, name: str) -> list[dict[str, Any]]:
        if name != "encoder":
            (group,) = super().param_groups(name)
            return [group | self.args.learning_rate_of(name)]
        encoder: Any = self.networks["encoder"]
        rate = self.args.log_std_learning_rate
        others = [parameter for parameter in encoder.parameters() if parameter is not encoder.log_std]
        return [{"params": others}, {"params": [encoder.log_std], **({} if rate is None else {"lr": rate})}]

    def before_step(self, step: int) -> None:
        warmup = self.args.latent_warmup_steps
        self.latent_weight = min(1.0, max(0.0, step / warmup - 1)) if warmup else 1.0

    # losses ----------------------------------------------------------------------------------------------------------

    def losses(
        self, phase: Phase, networks: dict[str, Any], batch: Batch, noise: Noise, cache: dict[str, Any]
    ) -> dict[str, Tensor]:
        if phase.name == "generator":
            return self.generator_losses(networks, batch["image"], noise)
        if phase.name == "critic":
            return self.critic_losses(networks, batch["image"], noise)
        return self.vae_losses(networks, batch["image"], noise)

    def generator_losses(self, networks: dict[str, Any], image: Tensor, noise: Noise) -> dict[str, Tensor]:
        """L_Z + L_M on fakes."""
        draws = self.draw(image, noise)
        fake = networks["generator"](draws).sample
        with running_averages_kept(networks["encoder"]):
            encoded = networks["encoder"](fake)
        on_latents = latent_loss(
            self.args.latent_loss, draws[:, : self.args.latent_dim], encoded.mean, encoded.log_std
        )
        on_critic = generator_loss(CRITIC_LOSS, networks["discriminator"](fake).logits)
        return {"loss": self.latent_weight * on_latents + on_critic, "latent": on_latents, "critic": on_critic}

    def draw(self, image: Tensor, noise: Noise) -> Tensor:
        """[z, xi] for as many fakes as there are images."""
        config: Any = self.networks["generator"].config
        return noise.normal((len(image), config.latent_dim), like=image)

    def critic_losses(self, networks: dict[str, Any], image: Tensor, noise: Noise) -> dict[str, Tensor]:
        """L_C on data and on fakes."""
        with torch.no_grad():
            fakes = networks["generator"](self.draw(image, noise)).sample
        real = networks["discriminator"](image).logits
        fake = networks["discriminator"](fakes.to(image.dtype)).logits
        return {
            "loss": discriminator_loss(CRITIC_LOSS, real, fake),
            "accuracy": accuracy(CRITIC_LOSS, real.detach(), fake.detach()),
        }

    def vae_losses(self, networks: dict[str, Any], image: Tensor, noise: Noise) -> dict[str, Tensor]:
        """L_rec + beta L_KL."""
        encoded = networks["encoder"](image)
        eps = noise.normal((len(image), self.args.latent_dim), like=image)
        decoded = networks["decoder"](encoded.mean + torch.exp(encoded.log_std) * eps).sample
        reconstruction = 0.5 * sum_per_sample((decoded.float() - image.float()).square()).mean()
        kl = kl_standard_normal(encoded.mean, encoded.log_std).sum(1).mean()
        return {"loss": reconstruction + self.args.beta * kl, "reconstruction": reconstruction, "kl": kl}

    # inference -------------------------------------------------------------------------------------------------------

    def sample_grid(self, pipeline: Any, batch: Batch, generator: torch.Generator) -> dict[str, Tensor]:
        pictures = self.sample_pictures(pipeline, batch, generator)
        if not self.data.is_image:
            restored = pipeline.reconstruct(batch["image"], sample=True, generator=generator, output_type="pt").images
            return {**pictures, "reconstructions": restored}
        few = batch["image"][:8]
        spread = pipeline.reconstruct(
            (few + 1) / 2, num_samples=6, sample=pipeline.xi_dim == 0, generator=generator, output_type="pt"
        ).images.unflatten(0, (len(few), 6))
        blurry = pipeline.reconstruct((few + 1) / 2, network="decoder", output_type="pt").images
        original = ((few + 1) / 2).to(spread)
        rows = torch.cat([original[:, None], blurry[:, None].to(spread), spread], dim=1)
        return {**pictures, "image, decoder, generator": rows.flatten(0, 1)}

    def evaluate(self, networks: dict[str, ModelMixin], batch: Batch, generator: torch.Generator) -> dict[str, Tensor]:
        image = batch["image"]
        parts: dict[str, Any] = dict(networks)
        encoded = parts["encoder"](image)
        draws = torch.randn(len(image), parts["generator"].config.latent_dim, generator=generator).to(image)
        eps, xi = draws[:, : self.args.latent_dim], draws[:, self.args.latent_dim :]
        latents = encoded.mean + torch.exp(encoded.log_std) * eps
        generated = parts["generator"](torch.cat([latents, xi], dim=1)).sample
        decoded = parts["decoder"](encoded.mean).sample
        return {
            "mse_drawn": clamped_squared_error(generated, image),
            "mse_decoder": clamped_squared_error(decoded, image),
            "kl": kl_standard_normal(encoded.mean, encoded.log_std).sum(1),
        }


def check_weights(args: AVAEArguments) -> None:
    """Refuse weights and steps below zero, and learning rates that are not above it."""
    check_minimums(args, latent_warmup_steps=0, beta=0, **({} if args.xi_dim is None else {"xi_dim": 0}))
    check_positive(args, "log_std_learning_rate")


def saved_options(networks: dict[str, Any]) -> dict[str, Any]:
    """The options that shape an AVAE's networks, of saved ones' configurations."""
    latent_dim = networks["decoder"].config.latent_dim
    xi_dim = networks["generator"].config.latent_dim - latent_dim
    return saved_generator_options(networks["generator"]) | {
        "latent_dim": latent_dim,
        "xi_dim": xi_dim,
        "discriminator_norm": networks["discriminator"].config.get("norm", "none"),
    }
