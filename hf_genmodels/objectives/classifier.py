"""The feature classifier's objective. Its output folder is what `hf-genmodels evaluate --extractor` takes."""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from diffusers import ModelMixin
from torch import Tensor

from ..data import DataSpec
from ..errors import UserError
from ..loading import load_network
from ..models.classifier import Classifier
from .base import (
    Batch,
    Noise,
    Objective,
    Phase,
    adopt_saved_options,
    check_labels,
    check_minimums,
    check_saved_classes,
    check_shape,
)


@dataclass
class ClassifierArguments:
    """Options of `train_classifier.py`."""

    block_out_channels: list[int] = field(
        default_factory=lambda: [32, 64], metadata={"help": "Widths of the convolutional blocks."}
    )
    feature_dim: int = field(default=64, metadata={"help": "Dimension of the features that metrics use."})


class ClassifierObjective(Objective):
    """Cross-entropy of the labels; held-out figures are cross-entropy and accuracy."""

    Arguments = ClassifierArguments
    ema = ("classifier",)
    phases = (Phase("classification", trains=("classifier",)),)

    def __init__(self, classifier: Classifier, data: DataSpec) -> None:
        self.networks = {"classifier": classifier}
        self.data = data

    @classmethod
    def from_args(cls, args: ClassifierArguments, data: DataSpec) -> "ClassifierObjective":
        check_minimums(args, feature_dim=1)
        if data.size is None:
            raise UserError(f"the classifier takes images, but {data.name} has vectors")
        classifier = Classifier(
            in_channels=data.channels,
            sample_size=data.size,
            num_classes=check_labels(data, "train_classifier"),
            block_out_channels=tuple(args.block_out_channels),
            feature_dim=args.feature_dim,
        )
        return cls(classifier, data)

    @classmethod
    def from_pretrained(cls, folder: Path, args: ClassifierArguments, data: DataSpec) -> "ClassifierObjective":
        # a run's folder is the network's own; a checkpoint has it under its name, like any other
        classifier = load_network(Classifier, folder / "classifier" if (folder / "classifier").is_dir() else folder)
        check_shape(classifier, data)
        config = classifier.config
        saved = {"block_out_channels": list(config.block_out_channels), "feature_dim": config.feature_dim}
        adopt_saved_options(args, saved)
        check_saved_classes(config.num_classes, data)
        return cls(classifier, data)

    def losses(
        self, phase: Phase, networks: dict[str, Any], batch: Batch, noise: Noise, cache: dict[str, Any]
    ) -> dict[str, Tensor]:
        return {"loss": F.cross_entropy(networks["classifier"](batch["image"]).logits.float(), batch["label"])}

    def evaluate(self, networks: dict[str, ModelMixin], batch: Batch, generator: torch.Generator) -> dict[str, Tensor]:
        logits = networks["classifier"](batch["image"]).logits
        return {
            "cross_entropy": F.cross_entropy(logits, batch["label"], reduction="none"),
            "accuracy": (logits.argmax(1) == batch["label"]).float(),
        }
