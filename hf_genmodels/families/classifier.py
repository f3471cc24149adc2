"""Family `classifier`: its options, and how its network is built or found again."""

from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..checks import check_minimums
from ..data.spec import DataSpec
from ..errors import UserError
from .base import Family, adopt_saved_options, check_labels, check_saved_classes, check_shape

if TYPE_CHECKING:
    from ..objectives.classifier import ClassifierObjective


@dataclass
class ClassifierArguments:
    """Options of `train_classifier.py`."""

    block_out_channels: list[int] = field(
        default_factory=lambda: [32, 64], metadata={"help": "Widths of the convolutional blocks."}
    )
    feature_dim: int = field(default=64, metadata={"help": "Dimension of the features that metrics use."})
    diffusion_model_name_or_path: str | None = field(
        default=None,
        metadata={
            "help": "Folder or Hub id of a trained DDPM: learn from images with its noise, to guide its samples "
            "(`hf-genmodels sample --classifier`), instead of clean ones."
        },
    )


def build(args: ClassifierArguments, data: DataSpec) -> "ClassifierObjective":
    """The objective with a new network; see `Family.build`."""
    from ..models.classifier import Classifier
    from ..objectives.classifier import ClassifierObjective

    check_minimums(args, feature_dim=1)
    path = args.diffusion_model_name_or_path
    if data.size is None:
        raise UserError(f"the classifier takes images, but {data.name} has vectors")
    classifier = Classifier(
        in_channels=data.channels,
        sample_size=data.sample_size,
        num_classes=check_labels(data, "train_classifier"),
        block_out_channels=tuple(args.block_out_channels),
        feature_dim=args.feature_dim,
        noise_schedule=None if path is None else noise_of(path, data),
    )
    return ClassifierObjective(classifier, data)


def noise_of(name_or_path: str, data: DataSpec) -> dict[str, Any]:
    """The noise schedule that a saved diffusion model of the same data was trained with.

    Raises:
        UserError: There is none, or it is of other data.
    """
    from ..pipelines.auto import AutoPipeline
    from ..pipelines.ddpm import LikelihoodPipeline

    try:
        pipeline = AutoPipeline.from_pretrained(name_or_path)
    except UserError as error:
        raise UserError(f"--diffusion_model_name_or_path: {error}") from None
    if not isinstance(pipeline, LikelihoodPipeline):
        raise UserError(
            f"--diffusion_model_name_or_path {name_or_path}: a {type(pipeline).__name__} is no DDPM of the data "
            "themselves, which a classifier can guide"
        )
    if tuple(pipeline.sample_shape) != data.shape:
        raise UserError(
            f"--diffusion_model_name_or_path {name_or_path} makes samples of shape {tuple(pipeline.sample_shape)}, "
            f"{data.name} has {data.shape}"
        )
    pipeline.trained_schedule()
    schedule: dict[str, Any] = dict(pipeline.config.trained_schedule)
    return schedule


def reload(folder: Path, args: ClassifierArguments, data: DataSpec) -> "ClassifierObjective":
    """The objective around a saved network; see `Family.reload`."""
    from ..loading import load_network
    from ..models.classifier import Classifier
    from ..objectives.classifier import ClassifierObjective

    if args.diffusion_model_name_or_path is not None:
        raise UserError("--diffusion_model_name_or_path cannot be changed with --pretrained_model_name_or_path")
    # a run's folder is the network's own; a checkpoint has it under its name, like any other
    classifier = load_network(Classifier, folder / "classifier" if (folder / "classifier").is_dir() else folder)
    check_shape(classifier, data)
    config = classifier.config
    saved = {"block_out_channels": list(config.block_out_channels), "feature_dim": config.feature_dim}
    adopt_saved_options(args, saved)
    check_saved_classes(config.num_classes, data)
    return ClassifierObjective(classifier, data)


FAMILY = Family(
    "classifier", "Feature classifier", ClassifierArguments, build, reload, pipeline_tag="image-classification"
)
