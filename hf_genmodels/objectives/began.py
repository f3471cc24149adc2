"""BEGAN's objective: the discriminator is an autoencoder, and a control loop keeps its two losses in proportion."""

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar

import torch
from diffusers import ModelMixin
from torch import Tensor

from ..checks import check_widths
from ..data import DataSpec
from ..errors import UserError
from ..losses.gan import at_least_float32
from ..models.began import BEGANDiscriminator, BEGANGenerator
from ..pipelines.gan import GANPipeline
from .adversarial import AdversarialObjective, DiscriminatorRate
from .base import Batch, Noise, Phase, adopt_saved_options, check_minimums, load_networks


@dataclass
class BEGANArguments(DiscriminatorRate):
    """Options of `train_began.py`."""

    loop_defaults: ClassVar[dict[str, Any]] = {"learning_rate": 1e-4, "adam_beta1": 0.5}

    latent_dim: int = field(
        default=64, metadata={"help": "Dimension of the latent z, and of the discriminator's code."}
    )
    width: int | None = field(
        default=None, metadata={"help": "Images: channels of the maps, n in the paper, which has 64 or 128 (64)."}
    )
    hidden_dims: list[int] | None = field(
        default=None, metadata={"help": "Vectors: widths of the hidden layers (128 128)."}
    )
    gamma: float = field(
        default=0.5,
        metadata={
            "help": "L(G(z)) / L(x) that is aimed at, 0 to 1: lower for better, higher for more diverse samples."
        },
    )
    lambda_k: float = field(default=0.001, metadata={"help": "Gain of the control loop of k."})

    def check(self, data: DataSpec) -> None:
        """Refuse options that mean nothing for such data, and values out of range.

        Raises:
            UserError: One line that names the option.
        """
        check_minimums(self, latent_dim=1, **({} if self.width is None else {"width": 1}))
        unused, kind = ("hidden_dims", "images") if data.is_image else ("width", "vectors")
        if getattr(self, unused) is not None:
            raise UserError(f"--{unused} has no meaning for {kind}, which {data.name} has; leave it out")
        check_widths("--hidden_dims", self.hidden_dims or ())
        self.check_balance()

    def check_balance(self) -> None:
        """Refuse a proportion, a gain or a learning rate out of range.

        Raises:
            UserError: One line that names the option.
        """
        self.check_rates()
        for name in ("gamma", "lambda_k"):
            if not 0 <= getattr(self, name) <= 1:
                raise UserError(f"--{name} must be from 0 to 1, got {getattr(self, name)}")


class BEGANObjective(AdversarialObjective):
    """Boundary equilibrium GAN (Berthelot et al. 2017, arXiv 1703.10717, section 3.3).

    With D an autoencoder and L(v) = |v - D(v)|, the mean over all entries (the paper's eta = 1):

    generator      L_G = L(G(z))
    discriminator  L_D = L(x) - k L(G(z))
    then           k <- k + lambda_k (gamma L(x) - L(G(z))), kept within [0, 1]; 0 at first

    `convergence` in the log is the paper's global measure M = L(x) + |gamma L(x) - L(G(z))|.

    The discriminator goes first, each network on fakes of its own. The losses that move k are those of the
    discriminator's update, averaged over all micro-batches and processes. A saved model that is trained further starts
    with k = 0 again; a resumed run goes on with its own k.

    For vectors the code should have fewer dimensions than the data: an autoencoder that can copy anything finds no
    fault with a fake.

    Differences from the paper: z is standard normal (there uniform in [-1, 1]), and the learning rate follows the
    loop's schedule (there it is halved whenever M stalls). The paper says Adam and 1e-4 but no betas; 0.5 is DCGAN's.
    """

    Arguments = BEGANArguments
    pipeline_class = GANPipeline
    ema = ("generator",)
    phases = (
        Phase("discriminator", trains=("discriminator",)),
        Phase("generator", trains=("generator",), reuse_batch=True),
    )

    def __init__(self, networks: dict[str, Any], data: DataSpec, args: BEGANArguments) -> None:
        super().__init__(networks, data, args)
        self.k = torch.zeros(())
        self.measured: list[Tensor] = []  # [L(x), L(G(z))] of each micro-batch of the discriminator's update

    @classmethod
    def from_args(cls, args: BEGANArguments, data: DataSpec) -> "BEGANObjective":
        args.check(data)
        shape: dict[str, Any] = {"width": 64 if args.width is None else args.width}
        if not data.is_image:
            shape = {"hidden_dims": (128, 128) if args.hidden_dims is None else tuple(args.hidden_dims)}
        generator = BEGANGenerator(args.latent_dim, data.channels, data.size, **shape)
        discriminator = BEGANDiscriminator(data.channels, data.size, args.latent_dim, **shape)
        return cls({"generator": generator, "discriminator": discriminator}, data, args)

    @classmethod
    def from_pretrained(cls, folder: Path, args: BEGANArguments, data: DataSpec) -> "BEGANObjective":
        args.check_balance()
        networks = load_networks(
            folder, data, {"discriminator": (BEGANDiscriminator,), "generator": (BEGANGenerator,)}
        )
        config = networks["generator"].config
        is_image = config.sample_size is not None
        options = {
            "latent_dim": config.latent_dim,
            "width": config.width if is_image else None,
            "hidden_dims": None if is_image else list(config.hidden_dims),
        }
        adopt_saved_options(args, options)
        return cls(networks, data, args)

    # losses ----------------------------------------------------------------------------------------------------------

    def losses(
        self, phase: Phase, networks: dict[str, Any], batch: Batch, noise: Noise, cache: dict[str, Any]
    ) -> dict[str, Tensor]:
        real, discriminator = batch["image"], networks["discriminator"]
        with torch.set_grad_enabled(phase.name == "generator"):
            fake = networks["generator"](noise.normal((len(real), self.args.latent_dim), like=real)).sample
        if phase.name == "generator":
            return {"loss": reconstruction_loss(discriminator, fake)}
        self.k = self.k.to(real.device)
        on_real = reconstruction_loss(discriminator, real)
        on_fake = reconstruction_loss(discriminator, fake.to(real.dtype))
        pair = torch.stack([on_real, on_fake]).detach()
        self.measured.append(pair)
        return {
            "loss": on_real - self.k * on_fake,
            "real": pair[0],
            "fake": pair[1],
            "convergence": pair[0] + self.imbalance(pair).abs(),
            "k": self.k,
        }

    def imbalance(self, pair: Tensor) -> Tensor:
        """How far from equilibrium [L(x), L(G(z))] are: gamma L(x) - L(G(z))."""
        return self.args.gamma * pair[0] - pair[1]

    def after_update(self, phase: Phase, networks: dict[str, ModelMixin], reduce: Callable[[Tensor], Tensor]) -> None:
        if phase.name == "discriminator":
            pair = reduce(torch.stack(self.measured).mean(0))
            self.measured.clear()
            self.k = (self.k + self.args.lambda_k * self.imbalance(pair)).clamp(0, 1)

    def state_dict(self) -> dict[str, Any]:
        return {"k": self.k}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self.k = state["k"]


def reconstruction_loss(discriminator: Any, sample: Tensor) -> Tensor:
    """L(v) = |v - D(v)|, mean over all entries and the batch."""
    reconstruction = discriminator(sample).reconstruction
    return (at_least_float32(sample) - at_least_float32(reconstruction)).abs().mean()
