"""Options of families that translate images; their networks built from options, and options read from saved ones."""

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, ClassVar, Literal, get_args

from ..checks import check_minimums, check_multiple, check_positive, check_unused
from ..choices import PatchPenalty, ReceptiveField, TranslatorNorm, TranslatorStatistics
from ..data.spec import DataSpec
from ..errors import UserError
from ..sizes import as_option, in_words
from .base import DISCRIMINATOR_RATE, adopt_saved_options, find_saved, load_saved
from .penalties import (
    GRADIENT_PENALTY,
    GRADIENT_PENALTY_WEIGHT,
    check_batch_norm,
    check_penalty,
    lipschitz_refusal,
)

if TYPE_CHECKING:
    from diffusers import ModelMixin

TRANSLATORS = ("UNetTranslator", "ResNetTranslator")
DISCRIMINATORS = ("PatchDiscriminator",)
# The authors have 6 residual blocks for images below 256 pixels, 9 from there on.
LARGE_IMAGE = 256
MOST_DOWNS = 8
# Pixels of a U-Net's narrowest maps on a side, by default.
WIDEST_BOTTLENECK = 8
# Option `architecture` -> `layout` of a `ResNetTranslator`.
RESIDUAL_LAYOUTS = {"resnet": "cyclegan", "polarcycle": "polarcycle"}

TranslationLoss = Literal["non_saturating", "least_squares", "hinge", "wasserstein"]


@dataclass
class TranslatorArguments:
    """Options of every family with translators and patch discriminators."""

    # Zhu et al. and Isola et al. alike.
    loop_defaults: ClassVar[dict[str, Any]] = {
        "learning_rate": 2e-4,
        "adam_beta1": 0.5,
        "train_batch_size": 1,
        "lr_scheduler": "constant_then_linear",
    }

    discriminator_learning_rate: float | None = field(default=None, metadata=DISCRIMINATOR_RATE)
    architecture: Literal["unet", "resnet"] = field(
        default="resnet", metadata={"help": "unet (pix2pix's, with skips) or resnet (CycleGAN's residual blocks)."}
    )
    width: int = field(default=64, metadata={"help": "Channels after the first convolution of a translator."})
    num_blocks: int | None = field(
        default=None, metadata={"help": "resnet: residual blocks (9 from 256 pixels on, else 6)."}
    )
    num_downs: int | None = field(
        default=None, metadata={"help": "unet: halvings of an image (as many as it can take, at most 8)."}
    )
    norm: TranslatorNorm = field(
        default="instance", metadata={"help": "Normalisation of all networks: batch, instance or none."}
    )
    norm_statistics: TranslatorStatistics = field(
        default="running",
        metadata={"help": "What batch norms use at inference: running averages, or each image's own statistics."},
    )
    dropout: float = field(default=0.0, metadata={"help": "Probability of dropout inside a translator."})
    receptive_field: ReceptiveField = field(
        default=70, metadata={"help": "Pixels on a side of the patches that a discriminator judges."}
    )
    discriminator_width: int = field(
        default=64, metadata={"help": "Channels after the first convolution of a discriminator."}
    )
    gan_loss: TranslationLoss = field(default="least_squares", metadata={"help": "See `losses/gan.py`."})
    gradient_penalty: PatchPenalty = field(default="none", metadata=GRADIENT_PENALTY)
    gradient_penalty_weight: float | None = field(default=None, metadata=GRADIENT_PENALTY_WEIGHT)


def check_translators(args: TranslatorArguments, data: DataSpec) -> None:
    """Compare the options with each other and with the data.

    Raises:
        UserError: An option that means nothing here, or data that are no images.
    """
    for spec in (data, second(data)):
        if not spec.is_image:
            raise UserError(f"{spec.name} has vectors; image to image needs images")
    check_minimums(args, width=1, discriminator_width=1, dropout=0, num_blocks=0, num_downs=2)
    if args.dropout >= 1:
        raise UserError(f"--dropout must be below 1, got {args.dropout}")
    check_positive(args, "discriminator_learning_rate")
    elsewhere = "num_blocks" if args.architecture == "unet" else "num_downs"
    check_unused(args, f"with --architecture {args.architecture}", elsewhere)
    if args.norm != "batch":
        check_unused(args, f"with --norm {args.norm}", "norm_statistics")


def check_critics(args: TranslatorArguments, saved: Iterable[Any] = ()) -> None:
    """Compare the options of the adversarial loss with each other, and with saved discriminators.

    Args:
        args: The options.
        saved: Discriminators whose norm can no longer be chosen; that of new ones is `--norm`.

    Raises:
        UserError: One line that names the options.
    """
    check_penalty(args, get_args(PatchPenalty))
    norms = [network.config.norm for network in saved]
    for norm in norms or [args.norm]:
        check_batch_norm(args, norm, "norm", "instance or none", saved=bool(norms))
        if args.gan_loss == "wasserstein" and args.gradient_penalty == "none" and norm != "spectral":
            if norms and norm == "batch":
                raise UserError(
                    "--gan_loss wasserstein needs a Lipschitz critic, which the saved discriminator with its batch "
                    "normalisation cannot become; use another loss"
                )
            instead = " and --norm instance" if norm == "batch" else ""
            raise lipschitz_refusal([f"--gradient_penalty wgan_gp{instead}"])


def second(data: DataSpec) -> DataSpec:
    """What the second images of the examples look like."""
    assert data.other is not None  # the family's layout has two images
    return data.other


# building ------------------------------------------------------------------------------------------------------------


def build_translator(
    args: TranslatorArguments, source: DataSpec, target: DataSpec, head: Mapping[str, Any] = MappingProxyType({})
) -> "ModelMixin":
    """The translator that the options describe.

    Args:
        args: The family's options, checked.
        source: What it takes.
        target: What it makes.
        head: Its configuration's entries about the last layer, where that is another one than the default.

    Raises:
        UserError: Images whose sides its levels cannot halve.
    """
    from ..models.resnet_translator import SIZE_MULTIPLE, ResNetTranslator
    from ..models.unet_translator import UNetTranslator, halving_multiple

    size = source.size
    assert size is not None  # `check_translators`
    shape: dict[str, Any] = {
        "in_channels": source.channels,
        "out_channels": made_channels(target),
        "sample_size": source.sample_size,
    }
    layers: dict[str, Any] = {
        "output_head": made_head(target),
        "width": args.width,
        "norm": args.norm,
        "norm_statistics": args.norm_statistics,
        "dropout": args.dropout,
        **head,
    }
    if args.architecture == "unet":
        downs = args.num_downs or most_downs(source)
        check_multiple("--architecture unet", size, halving_multiple(downs), source.name)
        return UNetTranslator(**shape, **layers, num_downs=downs)
    check_multiple(f"--architecture {args.architecture}", size, SIZE_MULTIPLE, source.name)
    blocks = args.num_blocks if args.num_blocks is not None else 9 if min(size) >= LARGE_IMAGE else 6
    return ResNetTranslator(**shape, **layers, num_blocks=blocks, layout=RESIDUAL_LAYOUTS[args.architecture])


def made_channels(target: DataSpec) -> int:
    """How many channels a translator makes: of label maps one for each class."""
    return target.channels if target.label_maps is None else target.label_maps.num_classes


def made_head(target: DataSpec) -> str:
    """`output_head` of a translator: logits for label maps, tanh for images."""
    return "tanh" if target.label_maps is None else "logits"


def most_downs(data: DataSpec) -> int:
    """How often an image can be halved, at most 8 times.

    Raises:
        UserError: So seldom that the narrowest maps would still be large, and a U-Net would see no whole image.
    """
    from ..models.unet_translator import halving_multiple

    assert data.size is not None  # `check_translators`
    downs = next(downs for downs in range(MOST_DOWNS, -1, -1) if math.gcd(*data.size) % halving_multiple(downs) == 0)
    if min(data.size) >> downs > WIDEST_BOTTLENECK or downs < 2:
        nearest = as_option(*(max(1, round(side / 32)) * 32 for side in data.size))
        raise UserError(
            "--architecture unet halves images as often as it can, which is "
            f"{downs} times for the {in_words(data.size)} pixels of {data.name}; use --resolution {nearest}, or say "
            "how often with --num_downs"
        )
    return downs


def build_patch_discriminator(args: TranslatorArguments, channels: int, data: DataSpec) -> "ModelMixin":
    """The discriminator that the options describe, of images of so many channels, as large as `data`.

    Raises:
        UserError: The images are too small for it.
    """
    from ..models.patch_discriminator import PatchDiscriminator

    check_smallest(args.receptive_field, data)
    return PatchDiscriminator(
        channels, width=args.discriminator_width, receptive_field=args.receptive_field, norm=args.norm
    )


def check_smallest(receptive_field: int, data: DataSpec) -> None:
    """Refuse images that a discriminator is too large for.

    Raises:
        UserError: One line with the size it needs.
    """
    from ..models.patch_discriminator import smallest_image

    smallest = smallest_image(receptive_field)
    if data.size is not None and min(data.size) < smallest:
        raise UserError(
            f"--receptive_field {receptive_field} needs images of at least {smallest} pixels, {data.name} has "
            f"{in_words(data.size)}; use a smaller one, or a larger --resolution"
        )


# saved networks ------------------------------------------------------------------------------------------------------


def load_translating(
    folder: Path, args: TranslatorArguments, translators: tuple[str, ...], discriminators: tuple[str, ...]
) -> dict[str, Any]:
    """Load a family's networks, and set the options that shape them to what was saved.

    Args:
        folder: As of `load_networks`.
        args: The family's options, changed in place to those of the first translator and the first discriminator.
        translators: Names of the translators, of which the first must be there.
        discriminators: Names of the discriminators, if there are any.

    Returns:
        Name -> network, of those that are there; a published generator may stand alone.

    Raises:
        UserError: The first translator is not there; a network is of another class or damaged, or an option asks for
            other networks.
    """
    networks = {translators[0]: load_saved(folder, translators[0], TRANSLATORS)}
    allowed = dict.fromkeys(translators[1:], TRANSLATORS) | dict.fromkeys(discriminators, DISCRIMINATORS)
    networks |= {name: load_saved(folder, name, each) for name, each in allowed.items() if find_saved(folder, name)}
    saved = saved_translator_options(networks[translators[0]])
    judge = next((networks[name] for name in discriminators if name in networks), None)
    if judge is not None:
        saved |= {"discriminator_width": judge.config.width, "receptive_field": judge.config.receptive_field}
    adopt_saved_options(args, saved)
    return networks


def saved_translator_options(translator: Any) -> dict[str, Any]:
    """The options that a saved translator answers."""
    config = translator.config
    is_unet = type(translator).__name__ == "UNetTranslator"
    residual = {layout: architecture for architecture, layout in RESIDUAL_LAYOUTS.items()}
    return {
        "architecture": "unet" if is_unet else residual[config.layout],
        "width": config.width,
        "num_blocks": None if is_unet else config.num_blocks,
        "num_downs": config.num_downs if is_unet else None,
        "norm": config.norm,
        # a published instance norm says it, too, where it has no meaning
        "norm_statistics": config.norm_statistics if config.norm == "batch" else TranslatorArguments.norm_statistics,
        "dropout": config.dropout,
    }


def adopt_data(translator: Any, source: DataSpec, target: DataSpec) -> None:
    """Let a saved translator be trained on images of another size, which its configuration shall tell.

    Raises:
        UserError: It has other channels, or cannot halve images of this size.
    """
    config = translator.config
    makes_labels = config.output_head == "logits"
    if makes_labels is (target.label_maps is None):
        makes = "label maps" if makes_labels else "images"
        raise UserError(f"the pretrained network makes {makes}: choose --target_kind accordingly, or start without it")
    if (config.in_channels, config.out_channels) != (source.channels, made_channels(target)):
        raise UserError(
            f"the pretrained network translates {config.in_channels} channels to {config.out_channels}, "
            f"{source.name} has {source.channels} and {made_channels(target)}"
        )
    assert source.size is not None  # `check_translators`
    check_multiple("the pretrained network", source.size, translator.size_multiple, source.name)
    translator.register_to_config(sample_size=source.sample_size)
