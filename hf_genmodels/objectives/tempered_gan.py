"""The tempered adversarial network's objective: a GAN whose discriminator sees the data through a lens."""

import math
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from ..data import DataSpec
from ..errors import UserError
from ..losses.gan import GAN_LOSSES, accuracy, discriminator_loss, generator_loss, mean_of
from ..models.lens import LensNetwork
from ..pipelines.gan import GANPipeline
from .adversarial import (
    DISCRIMINATORS,
    GENERATORS,
    AdversarialArguments,
    AdversarialObjective,
    build_discriminator,
    build_generator,
    saved_generator_options,
)
from .base import Batch, Noise, Phase, adopt_saved_options, check_minimums, load_networks

LOSS = "non_saturating"


@dataclass
class TemperedGANArguments(AdversarialArguments):
    """Options of `train_tempered_gan.py`."""

    lens_steps: int = field(
        default=5000,
        metadata={"help": "K: steps over which the lens's adversarial weight falls from 1 to 0. Train for more."},
    )
    lens_width: int | None = field(
        default=None,
        metadata={"help": "Images: channels of the lens (64). A lens for vectors has the widths of --hidden_dims."},
    )

    def check_lens(self, data: DataSpec) -> None:
        """Refuse steps or widths below 1, and a width for vectors.

        Raises:
            UserError: One line that names the option.
        """
        check_minimums(self, lens_steps=1, **({} if self.lens_width is None else {"lens_width": 1}))
        if self.lens_width is not None and not data.is_image:
            raise UserError(f"--lens_width has no meaning for vectors, which {data.name} has; leave it out")


class TemperedGANObjective(AdversarialObjective):
    """Tempered adversarial network (Sajjadi et al. 2018, arXiv 1802.04374).

    A lens L distorts the data until they are hard to tell from what the generator can make by now. With d the logit
    of "real" and t the step from 0:

    generator      -log sigmoid(d(G(z)))
    lens           lambda A + R with A = -log(1 - sigmoid(d(L(x)))) and R = ||L(x) - x||^2
    discriminator  -log sigmoid(d(L(x))) - log(1 - sigmoid(d(G(z))))
    lambda         1 - sin(pi t / (2 K)) for t <= K, then 0

    R is the mean over the entries of all samples: as a sum it would leave the lens of a large image next to no room.
    A is the non-saturating form of the paper's minus L_D, like the generator's loss. Once lambda is 0 the lens goes on
    learning by R alone, as the paper's formula has it, and becomes the identity. The default of K and the layers of
    the lens are ours, see `LensNetwork`.

    The discriminator goes first, then the generator, then the lens. Training further from a saved model begins at step
    0, with lambda at 1 again.
    """

    Arguments = TemperedGANArguments
    pipeline_class = GANPipeline
    ema = ("generator",)
    phases = (
        Phase("discriminator", trains=("discriminator",)),
        Phase("generator", trains=("generator",), reuse_batch=True),
        Phase("lens", trains=("lens",), reuse_batch=True),
    )

    def __init__(self, networks: dict[str, Any], data: DataSpec, args: TemperedGANArguments) -> None:
        super().__init__(networks, data, args)
        self.adversarial_weight = 1.0
        self.schedule = ("lens_steps", args.lens_steps)

    @classmethod
    def from_args(cls, args: TemperedGANArguments, data: DataSpec) -> "TemperedGANObjective":
        args.check(data)
        args.check_lens(data)
        width = 64 if args.lens_width is None else args.lens_width
        networks = {
            "generator": build_generator(args, data, args.latent_dim),
            "discriminator": build_discriminator(args, data),
            "lens": LensNetwork(data.channels, data.size, width, hidden_dims=args.dims()),
        }
        return cls(networks, data, args)

    @classmethod
    def from_pretrained(cls, folder: Path, args: TemperedGANArguments, data: DataSpec) -> "TemperedGANObjective":
        args.check_rates()
        args.check_lens(data)
        networks = load_networks(
            folder, data, {"discriminator": DISCRIMINATORS, "generator": GENERATORS, "lens": (LensNetwork,)}
        )
        options = saved_generator_options(networks["generator"])
        if data.is_image:
            options["lens_width"] = networks["lens"].config.width
        options["discriminator_norm"] = networks["discriminator"].config.get("norm", "none")
        adopt_saved_options(args, options)
        return cls(networks, data, args)

    def before_step(self, step: int) -> None:
        self.adversarial_weight = adversarial_weight(step, self.args.lens_steps)

    # losses ----------------------------------------------------------------------------------------------------------

    def losses(
        self, phase: Phase, networks: dict[str, Any], batch: Batch, noise: Noise, cache: dict[str, Any]
    ) -> dict[str, Tensor]:
        real, discriminator = batch["image"], networks["discriminator"]
        if phase.name == "generator":
            return {"loss": generator_loss(LOSS, discriminator(self.generate(networks, real, noise)).logits)}
        if phase.name == "lens":
            seen = networks["lens"](real).sample
            adversarial = mean_of(GAN_LOSSES[LOSS].fake, discriminator(seen).logits, "logits of the distorted data")
            distortion = (seen.float() - real.float()).square().mean()
            loss = self.adversarial_weight * adversarial + distortion
            return {"loss": loss, "adversarial": adversarial, "distortion": distortion}
        with torch.no_grad():
            seen, fake = networks["lens"](real).sample, self.generate(networks, real, noise)
        on_seen, on_fake = discriminator(seen.to(real.dtype)).logits, discriminator(fake.to(real.dtype)).logits
        return {
            "loss": discriminator_loss(LOSS, on_seen, on_fake),
            "accuracy": accuracy(LOSS, on_seen.detach(), on_fake.detach()),
        }

    def generate(self, networks: dict[str, Any], real: Tensor, noise: Noise) -> Tensor:
        """As many fakes as there are data."""
        latents = noise.normal((len(real), self.args.latent_dim), like=real)
        fake: Tensor = networks["generator"](latents).sample
        return fake

    # inference -------------------------------------------------------------------------------------------------------

    def sample_grid(self, pipeline: Any, batch: Batch, generator: torch.Generator) -> dict[str, Tensor]:
        pictures = super().sample_grid(pipeline, batch, generator)
        lens: Any = self.networks["lens"]
        seen = lens(batch["image"]).sample
        return {**pictures, "data through the lens": (seen.clamp(-1, 1) + 1) / 2 if self.data.is_image else seen}


def adversarial_weight(step: int, lens_steps: int) -> float:
    """lambda: 1 at step 0, falling along a sine to 0 at step `lens_steps`, and 0 from then on."""
    return 1.0 - math.sin(0.5 * math.pi * step / lens_steps) if step <= lens_steps else 0.0
