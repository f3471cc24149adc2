"""Family `pix2pix`: its options, which of them go together, and how networks are built from them or found again."""

from dataclasses import dataclass, field, replace
from math import isfinite
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from ..checks import check_minimums, check_unused
from ..choices import PixelLoss, TargetKind, TranslatorNorm
from ..data.spec import DataSpec, LabelMaps, Layout
from ..errors import UserError
from .base import TRANSLATION, Family, built_anew, class_notes, saved_class_names
from .translators import (
    TranslationLoss,
    TranslatorArguments,
    adopt_data,
    build_patch_discriminator,
    build_translator,
    check_critics,
    check_smallest,
    check_translators,
    load_translating,
    second,
)

if TYPE_CHECKING:
    from diffusers import ModelMixin

    from ..objectives.pix2pix import Pix2PixObjective


# Options that say something about label maps alone.
OF_LABELS = ("label_names", "ignore_index", "cross_entropy_weight", "dice_weight", "class_weights")


@dataclass
class Pix2PixArguments(TranslatorArguments):
    """Options of `train_pix2pix.py`."""

    architecture: Literal["unet", "resnet"] = field(
        default="unet", metadata={"help": "unet (pix2pix's, with skips) or resnet (CycleGAN's residual blocks)."}
    )
    norm: TranslatorNorm = field(
        default="batch", metadata={"help": "Normalisation of all networks: batch, instance or none."}
    )
    dropout: float = field(
        default=0.5, metadata={"help": "Probability of dropout inside the translator, its only noise."}
    )
    gan_loss: TranslationLoss = field(default="non_saturating", metadata={"help": "See `losses/gan.py`."})
    adversarial_weight: float = field(
        default=1.0,
        metadata={"help": "Of the adversarial loss; at 0 there is no discriminator: a plain encoder-decoder."},
    )
    reconstruction_weight: float = field(default=100.0, metadata={"help": "lambda, of the distance to the target."})
    reconstruction_loss: PixelLoss = field(default="l1", metadata={"help": "The distance to the target: l1 or mse."})
    target_kind: TargetKind = field(
        default="image",
        metadata={
            "help": "`labels`: the targets are label maps, palette or grey pictures whose pixels hold numbers of "
            "classes; with --adversarial_weight 0."
        },
    )
    label_names: list[str] | None = field(
        default=None,
        metadata={
            "help": "Label maps: names of the classes 0, 1, ... (`background nucleus border`). Default: those of "
            "id2label.json beside the data, or of the model that is trained further."
        },
    )
    ignore_index: int = field(
        default=255, metadata={"help": "Label maps: the number of pixels that are neither learnt nor measured."}
    )
    cross_entropy_weight: float = field(default=1.0, metadata={"help": "Label maps: of the cross-entropy."})
    dice_weight: float = field(
        default=0.0,
        metadata={"help": "Label maps: of 1 - Dice's coefficient of the probabilities."},
    )
    class_weights: list[str] | None = field(
        default=None,
        metadata={
            "help": "Label maps: a weight for each class, or `balanced`: the inverse of its share of the training "
            "pixels. Default: 1 each."
        },
    )


def layout(args: Pix2PixArguments) -> Layout:
    """An image and its translation."""
    if args.target_kind == "image":
        return Layout("pair")
    names = None if args.label_names is None else tuple(args.label_names)
    return Layout("pair", label_maps=LabelMaps(names, args.ignore_index))


def saved_layout(folder: Path, layout: Layout) -> Layout:
    """The layout with the names of the classes that a saved model of label maps knows, where the data have none.

    Raises:
        UserError: Other names were asked for.
    """
    names = saved_class_names(folder)
    if layout.label_maps is None or names is None:
        return layout
    if layout.label_maps.names not in (None, names):
        raise UserError(
            "--label_names cannot be changed with --pretrained_model_name_or_path; the saved model has "
            + " ".join(names)
        )
    return replace(layout, label_maps=replace(layout.label_maps, otherwise=names))


def build(args: Pix2PixArguments, data: DataSpec) -> "Pix2PixObjective":
    """The objective with new networks; see `Family.build`."""
    check_options(args, data)
    generator = build_translator(args, data, second(data))
    return objective(args, generator, build_judge(args, data) if args.adversarial_weight > 0 else None, data)


def reload(folder: Path, args: Pix2PixArguments, data: DataSpec) -> "Pix2PixObjective":
    """The objective around saved networks; see `Family.reload`."""
    is_adversarial = args.adversarial_weight > 0
    networks = load_translating(folder, args, ("generator",), ("discriminator",) if is_adversarial else ())
    generator, judge = networks["generator"], networks.get("discriminator")
    check_options(args, data, judge)
    adopt_data(generator, data, second(data))
    is_missing = is_adversarial and judge is None
    if is_adversarial:
        check_smallest(args.receptive_field, data)
    built = objective(args, generator, build_judge(args, data) if is_missing else judge, data)
    built.notes = built_anew(folder, ["discriminator"] if is_missing else []) + class_notes(folder, second(data))
    return built


def build_judge(args: Pix2PixArguments, data: DataSpec) -> "ModelMixin":
    """A new discriminator of an image beside its translation."""
    return build_patch_discriminator(args, data.channels + second(data).channels, data)


def objective(args: Pix2PixArguments, generator: Any, discriminator: Any, data: DataSpec) -> "Pix2PixObjective":
    """The objective with the options' numbers."""
    from ..objectives.label_maps import LabelMapObjective
    from ..objectives.pix2pix import Pix2PixObjective

    if args.target_kind == "labels":
        return LabelMapObjective(
            generator,
            data,
            cross_entropy_weight=args.cross_entropy_weight,
            dice_weight=args.dice_weight,
            class_weights=weights_of_classes(args, second(data)),
        )
    return Pix2PixObjective(
        generator,
        discriminator,
        data,
        gan_loss=args.gan_loss,
        adversarial_weight=args.adversarial_weight,
        reconstruction_weight=args.reconstruction_weight,
        reconstruction_loss=args.reconstruction_loss,
        discriminator_learning_rate=args.discriminator_learning_rate,
        gradient_penalty=args.gradient_penalty,
        gradient_penalty_weight=args.gradient_penalty_weight,
    )


def check_options(args: Pix2PixArguments, data: DataSpec, judge: Any = None) -> None:
    """Compare the options with each other, with the data, and with a saved discriminator.

    Raises:
        UserError: One line that names the option.
    """
    check_translators(args, data)
    check_minimums(args, adversarial_weight=0, reconstruction_weight=0, cross_entropy_weight=0, dice_weight=0)
    if args.target_kind == "labels":
        check_label_options(args)
    else:
        check_unused(args, "without --target_kind labels", *OF_LABELS)
    if args.adversarial_weight == args.reconstruction_weight == 0:
        raise UserError("--adversarial_weight and --reconstruction_weight are both 0: there is nothing to learn")
    if args.adversarial_weight == 0:
        of_discriminator = ("receptive_field", "discriminator_width", "discriminator_learning_rate")
        of_loss = ("gan_loss", "gradient_penalty", "gradient_penalty_weight")
        check_unused(args, "with --adversarial_weight 0", *of_loss, *of_discriminator)
    else:
        check_critics(args, [] if judge is None else [judge])


def check_label_options(args: Pix2PixArguments) -> None:
    """Compare the options of label maps with the others.

    Raises:
        UserError: One line that names the option.
    """
    if args.adversarial_weight > 0:
        raise UserError(
            "--target_kind labels has no adversarial term, for a choice of classes has no gradient: give "
            "--adversarial_weight 0"
        )
    check_unused(args, "with --target_kind labels", "reconstruction_weight", "reconstruction_loss")
    if args.cross_entropy_weight == args.dice_weight == 0:
        raise UserError("--cross_entropy_weight and --dice_weight are both 0: there is nothing to learn")


def weights_of_classes(args: Pix2PixArguments, target: DataSpec) -> list[float] | None:
    """The weight of each class; None for 1 each.

    Raises:
        UserError: They are no weights, or another number of them than classes.
    """
    from ..losses.segmentation import balanced_weights

    maps, words = target.label_maps, args.class_weights
    if words is None or maps is None:
        return None
    if words == ["balanced"]:
        assert maps.pixels is not None  # training data are counted
        return balanced_weights(maps.pixels)
    try:
        weights = [float(word) for word in words]
    except ValueError:
        raise UserError(f"--class_weights {' '.join(words)}: give a number for each class, or balanced") from None
    if len(weights) != maps.num_classes:
        raise UserError(f"--class_weights: {len(weights)} weights for {maps.num_classes} classes; give one for each")
    if not all(isfinite(weight) and weight >= 0 for weight in weights) or not any(weights):
        raise UserError(f"--class_weights {' '.join(words)}: weights are at least 0, and one of them above")
    return weights


FAMILY = Family(
    "pix2pix",
    "Pix2Pix",
    Pix2PixArguments,
    build,
    reload,
    "Pix2PixPipeline",
    TRANSLATION,
    ("LabelMapPipeline",),
    layout,
    saved_layout,
)
