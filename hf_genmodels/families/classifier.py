"""Family `classifier`: its options, and how its network is built or found again."""

from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

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


def build(args: ClassifierArguments, data: DataSpec) -> "ClassifierObjective":
    """The objective with a new network; see `Family.build`."""
    from ..models.classifier import Classifier
    from ..objectives.classifier import ClassifierObjective

    check_minimums(args, feature_dim=1)
    if data.size is None:
        raise UserError(f"the classifier takes images, but {data.name} has vectors")
    classifier = Classifier(
        in_channels=data.channels,
        sample_size=data.sample_size,
        num_classes=check_labels(data, "train_classifier"),
        block_out_channels=tuple(args.block_out_channels),
        feature_dim=args.feature_dim,
    )
    return ClassifierObjective(classifier, data)


def reload(folder: Path, args: ClassifierArguments, data: DataSpec) -> "ClassifierObjective":
    """The objective around a saved network; see `Family.reload`."""
    from ..loading import load_network
    from ..models.classifier import Classifier
    from ..objectives.classifier import ClassifierObjective

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
