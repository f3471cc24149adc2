"""What the families that translate images share: options that shape their networks, building them, held-out errors."""

from dataclasses import dataclass, field
from typing import Any, ClassVar, Literal

import torch
from diffusers import ModelMixin
from torch import Tensor

from ..blocks.translation import TranslatorNorm, TranslatorStatistics
from ..data import DataSpec
from ..errors import UserError
from ..losses.gan import at_least_float32, discriminator_loss, generator_loss
from ..models.patch_discriminator import PatchDiscriminator, smallest_image
from ..models.resnet_translator import ResNetTranslator
from ..models.unet_translator import UNetTranslator
from .adversarial import DiscriminatorRate
from .base import Batch, Objective, adopt_saved_options, check_minimums

TRANSLATORS = (UNetTranslator, ResNetTranslator)
# The authors have 6 residual blocks for images below 256 pixels, 9 from there on.
LARGE_IMAGE = 256
MOST_DOWNS = 8
# Pixels of a U-Net's narrowest maps on a side, by default.
WIDEST_BOTTLENECK = 8
RESNET_MULTIPLE = 4

TranslationLoss = Literal["non_saturating", "least_squares", "hinge", "wasserstein"]
PixelLoss = Literal["l1", "mse"]


@dataclass
class TranslatorArguments(DiscriminatorRate):
    """Options of every family with translators and patch discriminators."""

    # Zhu et al. and Isola et al. alike.
    loop_defaults: ClassVar[dict[str, Any]] = {
        "learning_rate": 2e-4,
        "adam_beta1": 0.5,
        "train_batch_size": 1,
        "lr_scheduler": "constant_then_linear",
    }

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
    receptive_field: Literal[1, 16, 70, 286] = field(
        default=70, metadata={"help": "Pixels on a side of the patches that a discriminator judges."}
    )
    discriminator_width: int = field(
        default=64, metadata={"help": "Channels after the first convolution of a discriminator."}
    )
    gan_loss: TranslationLoss = field(default="least_squares", metadata={"help": "See `losses/gan.py`."})

    def check(self, data: DataSpec) -> None:
        """Compare the options with each other and with the data.

        Raises:
            UserError: An option that means nothing here, or data that are no images.
        """
        assert data.other is not None  # `Objective.layout`
        for spec in (data, data.other):
            if not spec.is_image:
                raise UserError(f"{spec.name} has vectors; image to image needs images")
        check_minimums(self, width=1, discriminator_width=1, dropout=0)
        for name, minimum in (("num_blocks", 0), ("num_downs", 2)):
            if getattr(self, name) is not None:
                check_minimums(self, **{name: minimum})
        if self.dropout >= 1:
            raise UserError(f"--dropout must be below 1, got {self.dropout}")
        self.check_rates()
        for name, is_unet in (("num_blocks", False), ("num_downs", True)):
            if getattr(self, name) is not None and (self.architecture == "unet") != is_unet:
                raise UserError(f"--{name} has no meaning with --architecture {self.architecture}; leave it out")
        if self.norm != "batch" and self.norm_statistics != "running":
            raise UserError(f"--norm_statistics has no meaning with --norm {self.norm}; leave it out")


def build_translator(args: TranslatorArguments, source: DataSpec, target: DataSpec) -> ModelMixin:
    """The translator that the options describe.

    Raises:
        UserError: Images whose sides its levels cannot halve.
    """
    size = source.size
    assert size is not None  # `TranslatorArguments.check`
    shape = {"in_channels": source.channels, "out_channels": target.channels, "sample_size": size}
    norms = {"norm": args.norm, "norm_statistics": args.norm_statistics, "dropout": args.dropout}
    if args.architecture == "unet":
        downs = args.num_downs or most_downs(source)
        check_multiple("--architecture unet", size, 2**downs, source.name)
        return UNetTranslator(**shape, width=args.width, num_downs=downs, **norms)
    check_multiple(f"--architecture {args.architecture}", size, RESNET_MULTIPLE, source.name)
    blocks = args.num_blocks if args.num_blocks is not None else 9 if size >= LARGE_IMAGE else 6
    layout = "cyclegan" if args.architecture == "resnet" else "polarcycle"
    return ResNetTranslator(**shape, width=args.width, num_blocks=blocks, layout=layout, **norms)


def check_multiple(network: str, size: int, multiple: int, name: str) -> None:
    """Refuse images that a translator cannot halve.

    Raises:
        UserError: One line with a size that it can.
    """
    if size % multiple:
        nearest = max(1, round(size / multiple)) * multiple
        raise UserError(
            f"{network} needs images whose sides are multiples of {multiple}, {name} has {size}; use --resolution "
            f"{nearest}"
        )


def most_downs(data: DataSpec) -> int:
    """How often an image can be halved, at most 8 times.

    Raises:
        UserError: So seldom that the narrowest maps would still be large, and a U-Net would see no whole image.
    """
    assert data.size is not None  # `TranslatorArguments.check`
    downs = next(downs for downs in range(MOST_DOWNS, -1, -1) if data.size % 2**downs == 0)
    if data.size >> downs > WIDEST_BOTTLENECK or downs < 2:
        nearest = max(1, round(data.size / 32)) * 32
        raise UserError(
            f"--architecture unet halves images as often as it can, which is {downs} times for the {data.size} pixels "
            f"of {data.name}; use --resolution {nearest}, or say how often with --num_downs"
        )
    return downs


def build_patch_discriminator(args: TranslatorArguments, channels: int, data: DataSpec) -> ModelMixin:
    """The discriminator that the options describe, of images of so many channels, as large as `data`.

    Raises:
        UserError: The images are too small for it.
    """
    check_smallest(args.receptive_field, data)
    return PatchDiscriminator(
        channels, width=args.discriminator_width, receptive_field=args.receptive_field, norm=args.norm
    )


def check_smallest(receptive_field: int, data: DataSpec) -> None:
    """Refuse images that a discriminator is too large for.

    Raises:
        UserError: One line with the size it needs.
    """
    smallest = smallest_image(receptive_field)
    if data.size is not None and data.size < smallest:
        raise UserError(
            f"--receptive_field {receptive_field} needs images of at least {smallest} pixels, {data.name} has "
            f"{data.size}; use a smaller one, or a larger --resolution"
        )


def saved_translator_options(translator: Any) -> dict[str, Any]:
    """The options that a saved translator answers."""
    config = translator.config
    is_unet = isinstance(translator, UNetTranslator)
    residual = {"cyclegan": "resnet", "polarcycle": "polarcycle"}
    return {
        "architecture": "unet" if is_unet else residual[config.layout],
        "width": config.width,
        "num_blocks": None if is_unet else config.num_blocks,
        "num_downs": config.num_downs if is_unet else None,
        "norm": config.norm,
        "norm_statistics": config.norm_statistics,
        "dropout": config.dropout,
    }


def adopt_translator_options(args: TranslatorArguments, translator: Any, discriminator: Any | None) -> None:
    """`adopt_saved_options` of the networks of a translating family.

    Raises:
        UserError: An option asks for other networks.
    """
    saved = saved_translator_options(translator)
    if discriminator is not None:
        config = discriminator.config
        saved |= {"discriminator_width": config.width, "receptive_field": config.receptive_field}
    adopt_saved_options(args, saved)


def adopt_data(translator: Any, source: DataSpec, target: DataSpec) -> None:
    """Let a saved translator be trained on images of another size, which its configuration shall tell.

    Raises:
        UserError: It has other channels, or cannot halve images of this size.
    """
    config = translator.config
    if (config.in_channels, config.out_channels) != (source.channels, target.channels):
        raise UserError(
            f"the pretrained network translates {config.in_channels} channels to {config.out_channels}, "
            f"{source.name} has {source.channels} and {target.channels}"
        )
    assert source.size is not None  # a translator's data are images: `TranslatorArguments.check`
    multiple = 2**config.num_downs if isinstance(translator, UNetTranslator) else RESNET_MULTIPLE
    check_multiple("the pretrained network", source.size, multiple, source.name)
    translator.register_to_config(sample_size=source.size)


# losses --------------------------------------------------------------------------------------------------------------


def fooling_loss(kind: str, fake_logits: Tensor) -> Tensor:
    """A translator's adversarial loss.

    Least squares is (d - 1)^2, twice that of `losses.gan`: the papers' lambda is relative to it.
    """
    return generator_loss(kind, fake_logits) * (2 if kind == "least_squares" else 1)


def judging_loss(kind: str, real_logits: Tensor, fake_logits: Tensor) -> Tensor:
    """A patch discriminator's loss, the mean over data and fakes (Isola et al. 2017, section 3.3).

    Least squares has that half already.
    """
    return discriminator_loss(kind, real_logits, fake_logits) * (1 if kind == "least_squares" else 0.5)


def pixel_loss(kind: PixelLoss, image: Tensor, target: Tensor) -> Tensor:
    """Mean absolute ("l1") or squared ("mse") error on the [-1, 1] scale, in float32; a scalar."""
    difference = at_least_float32(image) - at_least_float32(target)
    return difference.abs().mean() if kind == "l1" else difference.square().mean()


def absolute_error(image: Tensor, target: Tensor) -> Tensor:
    """Mean absolute error of each image on the [0, 1] scale, (batch,)."""
    return (image.float().clamp(-1, 1) - target.float()).abs().flatten(1).mean(1) / 2


# the objective -------------------------------------------------------------------------------------------------------


class TranslationObjective(Objective):
    """What is the same in every translating family.

    Attributes:
        args: The family's options.
    """

    args: Any

    def __init__(self, networks: dict[str, Any], data: DataSpec, args: Any) -> None:
        self.networks = networks
        self.data = data
        self.args = args

    @property
    def other(self) -> DataSpec:
        """What the second images look like."""
        assert self.data.other is not None  # `layout`
        return self.data.other

    def param_groups(self, name: str) -> list[dict[str, Any]]:
        (group,) = super().param_groups(name)
        rate = self.args.discriminator_learning_rate
        return [group if rate is None or not name.startswith("discriminator") else group | {"lr": rate}]


def side_by_side(*images: Tensor) -> Tensor:
    """One wide picture for each example, of its images from left to right; grey ones beside coloured ones as coloured.

    Args:
        images: (batch, channels, height, width) in [0, 1] each; of more than 3 channels the first is shown.

    Returns:
        (batch, 1 or 3, height, len(images) * width).
    """
    shown = [image if image.shape[1] in (1, 3) else image[:, :1] for image in images]
    channels = max(image.shape[1] for image in shown)
    return torch.cat([image.expand(-1, channels, -1, -1) for image in shown], 3)


def in_unit_range(image: Tensor) -> Tensor:
    """[-1, 1] -> [0, 1]."""
    return (image + 1) / 2


__all__ = [
    "TRANSLATORS",
    "Batch",
    "PixelLoss",
    "TranslationObjective",
    "TranslatorArguments",
    "absolute_error",
    "adopt_data",
    "adopt_translator_options",
    "build_patch_discriminator",
    "build_translator",
    "check_smallest",
    "fooling_loss",
    "in_unit_range",
    "judging_loss",
    "pixel_loss",
    "side_by_side",
]
