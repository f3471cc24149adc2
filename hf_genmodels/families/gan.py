"""Family `gan`: its options, which of them go together, and how networks are built from them or found again."""

from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, get_args

from ..checks import check_minimums, check_positive, check_unused
from ..choices import DiscriminatorNorm, GANLossName, Penalty
from ..data.spec import DataSpec
from ..errors import UserError
from ..sizes import in_words
from .architectures import (
    ARCHITECTURES,
    DISCRIMINATOR_NORM,
    DISCRIMINATORS,
    GENERATORS,
    GeneratorArguments,
    build_discriminator,
    build_generator,
    check_architecture,
    saved_generator_options,
    saved_norm,
)
from .base import Family, adopt_saved_options, check_labels, check_saved_classes, class_notes, load_networks
from .penalties import (
    GRADIENT_PENALTY,
    GRADIENT_PENALTY_WEIGHT,
    check_batch_norm,
    check_penalty,
    lipschitz_refusal,
)
from .stabilisers import OF_A_DISCRIMINATOR, StabiliserArguments, check_bandwidths, check_stabilisers

if TYPE_CHECKING:
    from ..objectives.base import Objective
    from ..objectives.gan import GANObjective
    from ..objectives.moment_matching import MomentMatchingObjective
    from ..random_measurements import RandomMeasurement

SNGAN_SIZES = (32, 64, 128)


@dataclass
class GANArguments(StabiliserArguments, GeneratorArguments):
    """Options of `train_gan.py`."""

    architecture: Literal["dcgan", "avae", "sngan", "mlp"] = field(  # type: ignore[assignment]
        default="dcgan",
        metadata={
            "help": "dcgan (kernel 4), avae (the AVAE authors' layout, kernel 5), sngan (residual, 32, 64 or 128 "
            "pixels), or mlp (vectors, small images)."
        },
    )
    discriminator_norm: DiscriminatorNorm | None = field(default=None, metadata=DISCRIMINATOR_NORM)
    gan_loss: GANLossName = field(default="non_saturating", metadata={"help": "See `losses/gan.py`."})
    gradient_penalty: Penalty = field(default="none", metadata=GRADIENT_PENALTY)
    gradient_penalty_weight: float | None = field(default=None, metadata=GRADIENT_PENALTY_WEIGHT)
    weight_clip: float | None = field(
        default=None, metadata={"help": "wasserstein: keep the critic's weights within +- this (paper: 0.01)."}
    )
    critic_updates: int = field(default=1, metadata={"help": "Discriminator updates for each of the generator's."})
    share_fakes: bool = field(
        default=False,
        metadata={"help": "Generator first, and the discriminator on the same fakes: a faster step that learns less."},
    )
    packing: int = field(default=1, metadata={"help": "m of PacGAN: samples that the discriminator judges together."})
    conditioning: Literal["none", "cgan", "acgan", "projection"] = field(
        default="none", metadata={"help": "How classes are used; all need labels."}
    )
    class_weight: float = field(default=1.0, metadata={"help": "acgan: weight of the classification losses."})
    measurement: str | None = field(
        default=None,
        metadata={
            "help": "AmbientGAN: the discriminator sees measurements, 'drop SHARE' of the pixels, 'patch PIXELS' that "
            "are lost, or 'blur SIGMA STD'."
        },
    )
    measured_data: bool = field(
        default=False, metadata={"help": "The data are measured already (black where nothing is known)."}
    )


# building and reloading ----------------------------------------------------------------------------------------------


def build(args: GANArguments, data: DataSpec) -> "Objective":
    """The objective with new networks; see `Family.build`."""
    check_architecture(args, data)
    if args.architecture == "sngan" and data.size is not None and min(data.size) not in SNGAN_SIZES:
        raise UserError(
            f"--architecture sngan needs images of 32, 64 or 128 pixels, {data.name} has {in_words(data.size)}; "
            "use --resolution 32"
        )
    check_combination(args)
    if args.generator_loss == "mmd":
        return moment_matching(args, build_generator(args, data, args.latent_dim), data)
    measurement_of(args, data)
    for_generator, for_discriminator = conditioning_of(args, data)
    generator = build_generator(args, data, args.latent_dim, **for_generator)
    batches = {"packing": args.packing} if args.packing > 1 else {}
    batches |= {"minibatch_kernels": args.minibatch_kernels} if args.minibatch_kernels else {}
    norm = args.discriminator_norm
    if norm is None and args.gradient_penalty != "none" and args.architecture in ("dcgan", "avae"):
        norm = "layer"
    discriminator = build_discriminator(args, data, norm, **for_discriminator, **batches)
    return objective(args, generator, discriminator, data)


def reload(folder: Path, args: GANArguments, data: DataSpec) -> "Objective":
    """The objective around saved networks; see `Family.reload`."""
    check_positive(args, "discriminator_learning_rate")
    if args.generator_loss == "mmd":
        generator = load_networks(folder, data, {"generator": GENERATORS})["generator"]
        adopt_saved_options(args, saved_generator_options(generator))
        check_combination(args, saved=True)
        return moment_matching(args, generator, data)
    networks = load_networks(folder, data, {"discriminator": DISCRIMINATORS, "generator": GENERATORS})
    generator, discriminator = networks["generator"], networks["discriminator"]
    adopt_saved_options(args, saved_options(generator, discriminator))
    check_combination(args, saved=True)
    if args.conditioning != "none":
        check_saved_classes(generator.config.num_classes, data)
    built = objective(args, generator, discriminator, data)
    if args.conditioning != "none":
        built.notes = class_notes(folder, data)
    return built


def objective(args: GANArguments, generator: Any, discriminator: Any, data: DataSpec) -> "GANObjective":
    """The objective with the options' numbers."""
    from ..objectives.gan import GANObjective

    return GANObjective(
        generator,
        discriminator,
        data,
        gan_loss=args.gan_loss,
        gradient_penalty=args.gradient_penalty,
        gradient_penalty_weight=args.gradient_penalty_weight,
        weight_clip=args.weight_clip,
        critic_updates=args.critic_updates,
        share_fakes=args.share_fakes,
        class_weight=args.class_weight,
        discriminator_learning_rate=args.discriminator_learning_rate,
        measurement=measurement_of(args, data),
        measured_data=args.measured_data,
        feature_loss=None if args.generator_loss is None else "feature_matching",
        label_smoothing=args.label_smoothing,
        instance_noise=args.instance_noise,
        instance_noise_steps=args.instance_noise_steps,
        consensus_weight=args.consensus_weight,
    )


def moment_matching(args: GANArguments, generator: Any, data: DataSpec) -> "MomentMatchingObjective":
    """The objective of a generator without a discriminator, with the options' numbers."""
    from ..objectives.moment_matching import BANDWIDTHS, MomentMatchingObjective

    return MomentMatchingObjective(generator, data, tuple(args.mmd_bandwidths or BANDWIDTHS))


def measurement_of(args: GANArguments, data: DataSpec) -> "RandomMeasurement | None":
    """What `--measurement` says, None without it.

    Raises:
        UserError: It is impossible, or not for these data.
    """
    if args.measurement is None:
        if args.measured_data:
            raise UserError("--measured_data says that the data are measured: give --measurement, too")
        return None
    from ..random_measurements import RandomMeasurement

    measurement = RandomMeasurement.parse(args.measurement)
    measurement.check_size(data.size)
    return measurement


def conditioning_of(args: GANArguments, data: DataSpec) -> tuple[dict[str, Any], dict[str, Any]]:
    """What generator and discriminator are built with to know the data's classes."""
    if args.conditioning == "none":
        return {}, {}
    num_classes = check_labels(data, f"--conditioning {args.conditioning}")
    ways = ARCHITECTURES[args.architecture].conditionings[args.conditioning]
    return {"conditioning": ways[0], "num_classes": num_classes}, {"conditioning": ways[1], "num_classes": num_classes}


def saved_options(generator: Any, discriminator: Any) -> dict[str, Any]:
    """The options that shape the networks of a GAN, of saved ones' configurations."""
    config = discriminator.config
    return saved_generator_options(generator) | {
        "packing": config.get("packing", 1),
        "minibatch_kernels": config.get("minibatch_kernels", 0),
        "conditioning": {"concat": "cgan"}.get(config.conditioning, config.conditioning),
        "discriminator_norm": saved_norm(discriminator),
    }


# which options go together -------------------------------------------------------------------------------------------


def check_combination(args: GANArguments, saved: bool = False) -> None:
    """Refuse options that exclude each other, see `choices.PENALTIES` and `ARCHITECTURES`.

    Args:
        args: The options.
        saved: The networks are saved ones, whose options can no longer be changed.

    Raises:
        UserError: One line that names the options.
    """
    check_minimums(args, critic_updates=1, packing=1, class_weight=0)
    if args.generator_loss == "mmd":
        check_unused(args, "with --generator_loss mmd, which has no discriminator", *OF_A_DISCRIMINATOR)
        check_bandwidths(args.mmd_bandwidths)
        return
    check_stabilisers(args, saved)
    if args.share_fakes and args.critic_updates > 1:
        raise UserError(
            f"--share_fakes and --critic_updates {args.critic_updates} exclude each other: drop one of them"
        )
    check_penalty(args, get_args(Penalty))
    penalised = args.gradient_penalty != "none"
    check_batch_norm(args, args.discriminator_norm, "discriminator_norm", "layer, instance or none", saved)
    if args.weight_clip is not None:
        if args.gan_loss != "wasserstein" or penalised:
            raise UserError("--weight_clip is for --gan_loss wasserstein without a --gradient_penalty; leave it out")
        check_positive(args, "weight_clip")
    elif args.gan_loss == "wasserstein" and not penalised:
        norms = ARCHITECTURES[args.architecture].norms
        if (args.discriminator_norm or norms[0]) != "spectral":
            ways = [] if args.discriminator_norm == "batch" else ["--gradient_penalty wgan_gp"]
            ways += ["--weight_clip 0.01"]
            ways += ["--discriminator_norm spectral"] if "spectral" in norms and not saved else []
            raise lipschitz_refusal(ways)
    check_conditioning(args)


def check_conditioning(args: GANArguments) -> None:
    """The part of `check_combination` that is about classes and packs."""
    row = ARCHITECTURES[args.architecture]
    if args.conditioning not in ("none", *row.conditionings):
        raise UserError(
            f"--conditioning {args.conditioning} does not exist with --architecture {args.architecture}; "
            f"choose one of none, {', '.join(row.conditionings)}"
        )
    if args.conditioning != "acgan" and args.class_weight != 1.0:
        raise UserError(f"--class_weight has no meaning with --conditioning {args.conditioning}; leave it out")
    if args.packing > 1:
        packed = tuple(name for name, each in ARCHITECTURES.items() if each.packs)
        for name, choices in (("architecture", packed), ("conditioning", ("none", "cgan"))):
            given = getattr(args, name)
            if given not in choices:
                raise UserError(
                    f"--packing {args.packing} does not go with --{name} {given}; it needs {' or '.join(choices)}"
                )


FAMILY = Family("gan", "Generative adversarial network", GANArguments, build, reload, "GANPipeline")
