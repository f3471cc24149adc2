"""The GAN's objective: its losses, penalties, class conditioning, and which of them go together."""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import torch
import torch.nn.functional as F
from diffusers import ModelMixin
from torch import Tensor

from ..blocks.adversarial import CONDITIONED
from ..data import DataSpec
from ..errors import UserError
from ..losses.gan import accuracy, discriminator_loss, generator_loss
from ..losses.penalties import (
    gradient_penalty,
    interpolate,
    r1_penalty,
    r2_penalty,
    roth_regulariser,
    zero_centred_penalty,
)
from ..models.sngan import GENERATOR_CHANNELS
from ..pipelines.gan import GANPipeline
from .adversarial import (
    DISCRIMINATORS,
    GENERATORS,
    NORMS,
    AdversarialArguments,
    AdversarialObjective,
    build_discriminator,
    build_generator,
    saved_generator_options,
)
from .base import (
    Batch,
    Noise,
    Phase,
    adopt_saved_options,
    check_labels,
    check_minimums,
    check_positive,
    check_saved_classes,
    load_networks,
)

GANLossName = Literal["minimax", "non_saturating", "linear_logit", "least_squares", "wasserstein", "hinge"]
Penalty = Literal["none", "wgan_gp", "zero_centred", "r1", "r2", "roth"]
Conditioning = Literal["none", "cgan", "acgan", "projection"]

# Which penalties a loss can have. The Wasserstein loss needs a Lipschitz critic, see `check_combination`.
PENALTIES: dict[str, tuple[str, ...]] = {
    "minimax": ("none", "r1", "r2", "zero_centred", "roth"),
    "non_saturating": ("none", "r1", "r2", "zero_centred", "roth"),
    "linear_logit": ("none", "r1", "r2", "zero_centred", "roth"),
    "least_squares": ("none", "r1", "r2", "zero_centred"),
    "wasserstein": ("none", "wgan_gp", "zero_centred"),
    "hinge": ("none", "wgan_gp", "r1", "r2", "zero_centred"),
}
# The papers' weights: lambda of WGAN-GP and of Thanh-Tung et al., gamma of the others.
PENALTY_WEIGHTS = {"wgan_gp": 10.0, "zero_centred": 10.0, "r1": 10.0, "r2": 10.0, "roth": 2.0}
# (architecture, conditioning) -> how the generator and the discriminator are told the class.
CONDITIONINGS: dict[tuple[str, str], tuple[str, str]] = {
    ("dcgan", "cgan"): ("concat", "concat"),
    ("dcgan", "acgan"): ("concat", "acgan"),
    ("dcgan", "projection"): ("batch_norm", "projection"),
    ("avae", "cgan"): ("concat", "concat"),
    ("avae", "acgan"): ("concat", "acgan"),
    ("avae", "projection"): ("batch_norm", "projection"),
    ("sngan", "acgan"): ("batch_norm", "acgan"),
    ("sngan", "projection"): ("batch_norm", "projection"),
    ("mlp", "cgan"): ("concat", "concat"),
}
PACKED = ("dcgan", "avae", "mlp")  # architectures whose discriminator can pack samples, without classes or with "cgan"


@dataclass
class GANArguments(AdversarialArguments):
    """Options of `train_gan.py`."""

    architecture: Literal["dcgan", "avae", "sngan", "mlp"] = field(  # type: ignore[assignment]
        default="dcgan",
        metadata={
            "help": "dcgan (kernel 4), avae (the AVAE authors' layout, kernel 5), sngan (residual, 32, 64 or 128 "
            "pixels), or mlp (vectors, small images)."
        },
    )
    gan_loss: GANLossName = field(default="non_saturating", metadata={"help": "See `losses/gan.py`."})
    gradient_penalty: Penalty = field(
        default="none", metadata={"help": "Penalty on the discriminator's gradient, see `losses/penalties.py`."}
    )
    gradient_penalty_weight: float | None = field(
        default=None, metadata={"help": "Its lambda or gamma; the paper's by default (10; roth: 2)."}
    )
    weight_clip: float | None = field(
        default=None, metadata={"help": "wasserstein: keep the critic's weights within +- this (paper: 0.01)."}
    )
    critic_updates: int = field(default=1, metadata={"help": "Discriminator updates for each of the generator's."})
    share_fakes: bool = field(
        default=False,
        metadata={"help": "Generator first, and the discriminator on the same fakes: a faster step that learns less."},
    )
    packing: int = field(default=1, metadata={"help": "m of PacGAN: samples that the discriminator judges together."})
    conditioning: Conditioning = field(default="none", metadata={"help": "How classes are used; all need labels."})
    class_weight: float = field(default=1.0, metadata={"help": "acgan: weight of the classification losses."})

    def check(self, data: DataSpec) -> None:
        super().check(data)
        if self.architecture == "sngan" and data.size not in GENERATOR_CHANNELS:
            raise UserError(
                f"--architecture sngan needs images of 32, 64 or 128 pixels, {data.name} has {data.size}; "
                "use --resolution 32"
            )


class GANObjective(AdversarialObjective):
    """A generator against a discriminator (Goodfellow et al. 2014), with the losses and penalties of its successors.

    The discriminator goes first, `critic_updates` times on fresh fakes and data, then the generator (Goodfellow et al.
    2014, algorithm 1). With `share_fakes` the generator goes first and the discriminator learns from the fakes that
    the generator was trained on, which saves a pass through the generator. Each network is then updated at the other's
    old weights: simultaneous gradient descent, which turns away from an equilibrium where alternating steps circle
    around it (Mescheder et al. 2018).

    Class conditioning: "cgan" (Mirza & Osindero 2014), "acgan" (Odena et al. 2017), "projection" (Miyato & Koyama
    2018). Fakes get the labels of the data they are compared with.
    """

    Arguments = GANArguments
    pipeline_class = GANPipeline
    ema = ("generator",)

    def __init__(self, networks: dict[str, Any], data: DataSpec, args: GANArguments) -> None:
        super().__init__(networks, data, args)
        self.penalty_weight = args.gradient_penalty_weight
        if args.gradient_penalty != "none" and self.penalty_weight is None:
            self.penalty_weight = PENALTY_WEIGHTS[args.gradient_penalty]
        self.batch_multiple = args.packing
        penalised = args.gradient_penalty != "none"
        if args.share_fakes:
            self.phases = (
                Phase("generator", trains=("generator",)),
                Phase("discriminator", trains=("discriminator",), reuse_batch=True, double_backward=penalised),
            )
        else:
            self.phases = (
                Phase(
                    "discriminator",
                    trains=("discriminator",),
                    updates=args.critic_updates,
                    double_backward=penalised,
                ),
                Phase("generator", trains=("generator",), reuse_batch=True),
            )

    @classmethod
    def from_args(cls, args: GANArguments, data: DataSpec) -> "GANObjective":
        args.check(data)
        check_combination(args)
        for_generator, for_discriminator = conditioning_of(args, data)
        generator = build_generator(args, data, args.latent_dim, **for_generator)
        packing = {} if args.packing == 1 else {"packing": args.packing}
        norm = args.discriminator_norm
        if norm is None and args.gradient_penalty != "none" and args.architecture in ("dcgan", "avae"):
            norm = "layer"
        discriminator = build_discriminator(args, data, norm, **for_discriminator, **packing)
        return cls({"generator": generator, "discriminator": discriminator}, data, args)

    @classmethod
    def from_pretrained(cls, folder: Path, args: GANArguments, data: DataSpec) -> "GANObjective":
        args.check_rates()
        networks = load_networks(folder, data, {"discriminator": DISCRIMINATORS, "generator": GENERATORS})
        adopt_saved_options(args, saved_options(**networks))
        check_combination(args, saved=True)
        if args.conditioning != "none":
            check_saved_classes(networks["generator"].config.num_classes, data)
        return cls(networks, data, args)

    # losses ----------------------------------------------------------------------------------------------------------

    def losses(
        self, phase: Phase, networks: dict[str, Any], batch: Batch, noise: Noise, cache: dict[str, Any]
    ) -> dict[str, Tensor]:
        if phase.name == "generator":
            return self.generator_losses(networks, batch, noise, cache)
        return self.discriminator_losses(networks, batch, noise, cache)

    def generator_losses(
        self, networks: dict[str, Any], batch: Batch, noise: Noise, cache: dict[str, Any]
    ) -> dict[str, Tensor]:
        """The generator's adversarial loss, and with "acgan" how well its samples' classes are recognised."""
        fake = self.generate(networks["generator"], batch, noise)
        if self.args.share_fakes:
            cache["fake"] = fake.detach()
        judged = networks["discriminator"](fake, **self.discriminator_labels(batch))
        losses = {"loss": generator_loss(self.args.gan_loss, judged.logits)}
        if judged.class_logits is not None:
            losses["class"] = F.cross_entropy(judged.class_logits.float(), batch["label"])
            losses["loss"] = losses["loss"] + self.args.class_weight * losses["class"]
        return losses

    def discriminator_losses(
        self, networks: dict[str, Any], batch: Batch, noise: Noise, cache: dict[str, Any]
    ) -> dict[str, Tensor]:
        """The discriminator's loss, its penalty, and the share of samples that it judges rightly."""
        real, labels = batch["image"], self.discriminator_labels(batch)
        if self.args.share_fakes:
            fake = cache.pop("fake").to(real.dtype)
        else:
            with torch.no_grad():
                fake = self.generate(networks["generator"], batch, noise).to(real.dtype)
        kind = self.args.gradient_penalty
        real = real.detach().requires_grad_(kind in ("r1", "roth"))
        fake = fake.detach().requires_grad_(kind in ("r2", "roth"))
        discriminator = networks["discriminator"]
        on_real, on_fake = discriminator(real, **labels), discriminator(fake, **labels)
        losses = {"loss": discriminator_loss(self.args.gan_loss, on_real.logits, on_fake.logits)}
        losses["accuracy"] = accuracy(self.args.gan_loss, on_real.logits.detach(), on_fake.logits.detach())
        if on_real.class_logits is not None:
            losses["class"] = F.cross_entropy(on_real.class_logits.float(), batch["label"])
            of_fakes = F.cross_entropy(on_fake.class_logits.float(), batch["label"])
            losses["loss"] = losses["loss"] + self.args.class_weight * (losses["class"] + of_fakes)
        if kind != "none":
            if kind in ("wgan_gp", "zero_centred"):
                between = self.interpolates(real, fake, noise)
                losses["penalty"] = self.penalty_between(discriminator(between, **labels).logits, between)
            else:
                losses["penalty"] = self.penalty_at_samples(on_real.logits, real, on_fake.logits, fake)
            losses["loss"] = losses["loss"] + losses["penalty"]
        return losses

    def generate(self, generator: Any, batch: Batch, noise: Noise) -> Tensor:
        """As many fakes as the batch has data, with their labels."""
        latents = noise.normal((len(batch["image"]), self.args.latent_dim), like=batch["image"])
        labels = {} if self.args.conditioning == "none" else {"labels": batch["label"]}
        fake: Tensor = generator(latents, **labels).sample
        return fake

    def discriminator_labels(self, batch: Batch) -> dict[str, Tensor]:
        """The labels, where the discriminator reads them."""
        config: Any = self.networks["discriminator"].config
        return {"labels": batch["label"]} if config.get("conditioning", "none") in CONDITIONED else {}

    def interpolates(self, real: Tensor, fake: Tensor, noise: Noise) -> Tensor:
        """Points between data and fakes, in one proportion for all samples of a pack."""
        packing = self.args.packing
        weight = noise.uniform((len(real) // packing,), like=real).repeat_interleave(packing)
        return interpolate(real, fake, weight)

    def penalty_between(self, logits: Tensor, between: Tensor) -> Tensor:
        """WGAN-GP's penalty or the zero-centred one, on interpolates."""
        function = gradient_penalty if self.args.gradient_penalty == "wgan_gp" else zero_centred_penalty
        assert self.penalty_weight is not None
        return function(logits, between, self.penalty_weight)

    def penalty_at_samples(self, real_logits: Tensor, real: Tensor, fake_logits: Tensor, fake: Tensor) -> Tensor:
        """R1, R2 or Roth's regulariser: they share the passes of the loss."""
        assert self.penalty_weight is not None
        if self.args.gradient_penalty == "r1":
            return r1_penalty(real_logits, real, self.penalty_weight)
        if self.args.gradient_penalty == "r2":
            return r2_penalty(fake_logits, fake, self.penalty_weight)
        return roth_regulariser(real_logits, real, fake_logits, fake, self.penalty_weight)

    def after_update(self, phase: Phase, networks: dict[str, ModelMixin], reduce: Any) -> None:
        clip = self.args.weight_clip
        if clip is not None and phase.name == "discriminator":
            with torch.no_grad():
                for parameter in networks["discriminator"].parameters():
                    parameter.clamp_(-clip, clip)

    # inference -------------------------------------------------------------------------------------------------------

    def watched_samples(self, networks: dict[str, ModelMixin], count: int, generator: torch.Generator) -> Tensor:
        network: Any = networks["generator"]
        latents = torch.randn(count, network.config.latent_dim, generator=generator)
        labels = {}
        if self.args.conditioning != "none":
            labels["labels"] = torch.arange(count, device=network.device) % network.config.num_classes
        sample: Tensor = network(latents.to(network.device, network.dtype), **labels).sample
        return sample


# which options go together -------------------------------------------------------------------------------------------


def check_combination(args: GANArguments, saved: bool = False) -> None:
    """Refuse options that exclude each other, see `PENALTIES` and `CONDITIONINGS`.

    Args:
        args: The options.
        saved: The networks are saved ones, whose options can no longer be changed.

    Raises:
        UserError: One line that names the options.
    """
    check_minimums(args, critic_updates=1, packing=1, class_weight=0)
    if args.share_fakes and args.critic_updates > 1:
        raise UserError(
            f"--share_fakes and --critic_updates {args.critic_updates} exclude each other: drop one of them"
        )
    if args.gradient_penalty not in PENALTIES[args.gan_loss]:
        raise UserError(
            f"--gan_loss {args.gan_loss} and --gradient_penalty {args.gradient_penalty} exclude each other; "
            f"choose one of {', '.join(PENALTIES[args.gan_loss])}"
        )
    penalised = args.gradient_penalty != "none"
    if args.gradient_penalty_weight is not None:
        if not penalised:
            raise UserError("--gradient_penalty_weight has no meaning with --gradient_penalty none; leave it out")
        check_minimums(args, gradient_penalty_weight=0)
    if penalised and args.discriminator_norm == "batch":
        culprit = "the saved discriminator's batch normalisation" if saved else "--discriminator_norm batch"
        advice = "leave the penalty out or train a new model" if saved else "use layer, instance or none"
        raise UserError(
            f"{culprit} and --gradient_penalty {args.gradient_penalty} exclude each other: a logit must depend on its "
            f"own sample alone; {advice}"
        )
    if args.weight_clip is not None:
        if args.gan_loss != "wasserstein" or penalised:
            raise UserError("--weight_clip is for --gan_loss wasserstein without a --gradient_penalty; leave it out")
        check_positive(args, "weight_clip")
    elif args.gan_loss == "wasserstein" and not penalised:
        spectral = args.discriminator_norm == "spectral"
        if not (spectral or (args.architecture == "sngan" and args.discriminator_norm is None)):
            ways = [] if args.discriminator_norm == "batch" else ["--gradient_penalty wgan_gp"]
            ways += ["--weight_clip 0.01"]
            ways += ["--discriminator_norm spectral"] if "spectral" in NORMS[args.architecture] and not saved else []
            raise UserError(f"--gan_loss wasserstein needs a Lipschitz critic: give {' or '.join(ways)}")
    check_conditioning(args)


def check_conditioning(args: GANArguments) -> None:
    """The part of `check_combination` that is about classes and packs."""
    known = [c for architecture, c in CONDITIONINGS if architecture == args.architecture]
    if args.conditioning not in ("none", *known):
        raise UserError(
            f"--conditioning {args.conditioning} does not exist with --architecture {args.architecture}; "
            f"choose one of none, {', '.join(known)}"
        )
    if args.conditioning != "acgan" and args.class_weight != 1.0:
        raise UserError(f"--class_weight has no meaning with --conditioning {args.conditioning}; leave it out")
    if args.packing > 1:
        for name, choices in (("architecture", PACKED), ("conditioning", ("none", "cgan"))):
            given = getattr(args, name)
            if given not in choices:
                raise UserError(
                    f"--packing {args.packing} does not go with --{name} {given}; it needs {' or '.join(choices)}"
                )


def conditioning_of(args: GANArguments, data: DataSpec) -> tuple[dict[str, Any], dict[str, Any]]:
    """What generator and discriminator are built with to know the data's classes."""
    if args.conditioning == "none":
        return {}, {}
    num_classes = check_labels(data, f"--conditioning {args.conditioning}")
    ways = CONDITIONINGS[args.architecture, args.conditioning]
    return {"conditioning": ways[0], "num_classes": num_classes}, {"conditioning": ways[1], "num_classes": num_classes}


def saved_options(generator: Any, discriminator: Any) -> dict[str, Any]:
    """The options that shape the networks of a GAN, of saved ones' configurations."""
    config = discriminator.config
    return saved_generator_options(generator) | {
        "packing": config.get("packing", 1),
        "conditioning": {"concat": "cgan"}.get(config.conditioning, config.conditioning),
        "discriminator_norm": config.get("norm", "none"),
    }
