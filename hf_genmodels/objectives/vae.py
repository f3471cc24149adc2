"""The VAE's objective: the negative evidence lower bound, with beta, warm-up and free bits."""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import torch
from diffusers import ModelMixin
from torch import Tensor

from ..data import DataSpec
from ..errors import UserError
from ..loading import load_network
from ..losses.likelihood import free_bits, kl_standard_normal
from ..losses.reconstruction import clamped_squared_error
from ..models.vae import VAE, Likelihood
from ..pipelines.vae import VAEPipeline
from .base import (
    Batch,
    Noise,
    Objective,
    Phase,
    adopt_saved_options,
    check_minimums,
    check_shape,
    reconstruction_pairs,
)
from .levels import check_num_levels, choose_num_levels
from .trunk import TrunkArguments, saved_options

# Table 4.2 of the Plumerault thesis (after Burgess et al. 2018), with its reshape mended (see `VAE`).
BETA_VAE: dict[str, Any] = {
    "architecture": "conv",
    "block_out_channels": (32, 32, 32, 32),
    "hidden_dims": (256, 256),
    "decoder_hidden_dims": (256,),
    "norm": "none",
}
DECODER = "the categorical decoder"  # as the messages about grey levels call it


@dataclass
class VAEArguments(TrunkArguments):
    """Options of `train_vae.py`."""

    architecture: Literal["conv", "mlp", "beta_vae"] = field(
        default="conv",
        metadata={
            "help": "conv (DCGAN-style), mlp, or beta_vae (Plumerault thesis, table 4.2, after Burgess et al. 2018; "
            "64x64)."
        },
    )
    likelihood: Likelihood = field(default="gaussian", metadata={"help": "Decoder p(x|z)."})
    gaussian_std: float = field(default=1.0, metadata={"help": "gaussian: standard deviation s on the [-1, 1] scale."})
    learn_std: bool = field(default=False, metadata={"help": "gaussian: learn s, starting at --gaussian_std."})
    num_levels: int | None = field(
        default=None,
        metadata={"help": "categorical: grey levels of a pixel; those of the data by default, at most 256."},
    )
    beta: float = field(default=1.0, metadata={"help": "Weight of the KL term."})
    beta_warmup_steps: int = field(default=0, metadata={"help": "Steps over which beta rises linearly from 0."})
    free_bits: float = field(
        default=0.0, metadata={"help": "Nats a latent dimension below which its batch-averaged KL is not pushed."}
    )


class VAEObjective(Objective):
    """-E_q log p(x|z) + beta KL(q(z|x) || N(0, I)) (Kingma & Welling 2013, eq. 7; beta: Higgins et al. 2017).

    One phase trains encoder and decoder together. `reconstruction_nll` (E_q[-log p(x|z)]) + `kl` in the log is the
    negative ELBO in nats, whatever beta is. With free bits the average that is clamped is over one process's
    micro-batch.
    """

    Arguments = VAEArguments
    ema = ("vae",)
    phases = (Phase("elbo", trains=("vae",)),)

    def __init__(
        self,
        vae: VAE,
        data: DataSpec,
        beta: float = 1.0,
        beta_warmup_steps: int = 0,
        free_bits: float = 0.0,
    ) -> None:
        self.networks = {"vae": vae}
        self.data = data
        self.final_beta = beta
        self.beta = beta
        self.beta_warmup_steps = beta_warmup_steps
        self.schedule = ("beta_warmup_steps", beta_warmup_steps)
        self.free_bits = free_bits

    @classmethod
    def from_args(cls, args: VAEArguments, data: DataSpec) -> "VAEObjective":
        check_minimums(args, latent_dim=1, beta=0, beta_warmup_steps=0, free_bits=0)
        if args.likelihood != "gaussian" and (args.learn_std or args.gaussian_std != 1.0):
            raise UserError(f"--gaussian_std and --learn_std have no meaning with --likelihood {args.likelihood}")
        if args.likelihood != "categorical" and args.num_levels is not None:
            raise UserError(f"--num_levels has no meaning with --likelihood {args.likelihood}; leave it out")
        if args.likelihood != "gaussian" and not data.is_image:
            raise UserError(f"--likelihood {args.likelihood} needs images in [-1, 1], but {data.name} has vectors")
        options = args.network_options(args.architecture)
        if args.architecture == "beta_vae":
            options |= BETA_VAE
        if args.likelihood == "categorical":
            options["num_levels"] = choose_num_levels(args, data, DECODER, most=256)
        vae = VAE(
            in_channels=data.channels,
            sample_size=data.size,
            likelihood=args.likelihood,
            gaussian_std=args.gaussian_std,
            learn_std=args.learn_std,
            **options,
        )
        return cls(vae, data, args.beta, args.beta_warmup_steps, args.free_bits)

    @classmethod
    def from_pretrained(cls, folder: Path, args: VAEArguments, data: DataSpec) -> "VAEObjective":
        check_minimums(args, beta=0, beta_warmup_steps=0, free_bits=0)
        vae = load_network(VAE, folder / "vae")
        check_shape(vae, data)
        config, given = vae.config, args.num_levels
        adopt_saved_options(args, saved_vae_options(config))
        if config.likelihood == "categorical" and given is None:
            check_num_levels(config.num_levels, data, DECODER)
        return cls(vae, data, args.beta, args.beta_warmup_steps, args.free_bits)

    def before_step(self, step: int) -> None:
        self.beta = (
            self.final_beta * min(1.0, step / self.beta_warmup_steps) if self.beta_warmup_steps else self.final_beta
        )

    def losses(
        self, phase: Phase, networks: dict[str, Any], batch: Batch, noise: Noise, cache: dict[str, Any]
    ) -> dict[str, Tensor]:
        image = batch["image"]
        vae = self.networks["vae"]
        output = networks["vae"](image, noise.normal((len(image), vae.config.latent_dim), like=image))
        nll = vae.negative_log_likelihood(image, output.decoded, output.log_scale).mean()
        kl = kl_standard_normal(output.mean, output.log_std)
        kl_mean = kl.sum(1).mean()
        penalised = free_bits(kl, self.free_bits) if self.free_bits > 0 else kl_mean
        return {"loss": nll + self.beta * penalised, "reconstruction_nll": nll, "kl": kl_mean}

    def pipeline(self, networks: dict[str, ModelMixin]) -> VAEPipeline:
        return VAEPipeline(vae=networks["vae"], value_scale=self.data.value_scale)

    def sample_grid(self, pipeline: Any, batch: Batch, generator: torch.Generator) -> dict[str, Tensor]:
        samples = pipeline(batch_size=len(batch["image"]), generator=generator, output_type="pt").images
        if not self.data.is_image:
            return {"data": batch["image"], "samples": samples}
        return {"samples": samples, "reconstructions": reconstruction_pairs(pipeline, batch["image"])}

    def evaluate(self, networks: dict[str, ModelMixin], batch: Batch, generator: torch.Generator) -> dict[str, Tensor]:
        vae = networks["vae"]
        image = batch["image"]
        draw = torch.randn(len(image), vae.config.latent_dim, generator=generator).to(image)
        output = vae(image, draw)
        nll = vae.negative_log_likelihood(image, output.decoded, output.log_scale)
        kl = kl_standard_normal(output.mean, output.log_std).sum(1)
        return {
            "negative_elbo": nll + kl,
            "reconstruction_nll": nll,
            "kl": kl,
            "mse": clamped_squared_error(vae.decode(output.mean), image),
        }


def saved_vae_options(config: Any) -> dict[str, Any]:
    """The options that shape a VAE, of a saved one's configuration."""
    options = saved_options(config) | {
        "likelihood": config.likelihood,
        "gaussian_std": config.gaussian_std,
        "learn_std": config.learn_std,
        "num_levels": config.num_levels if config.likelihood == "categorical" else None,
    }
    # a configuration read from JSON has lists
    as_built = {name: tuple(v) if isinstance(v := config[name], list) else v for name in BETA_VAE}
    if as_built == BETA_VAE:
        options["architecture"] = "beta_vae"
    return options
