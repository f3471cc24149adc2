"""The feature classifier's objective. Its output folder is what `hf-genmodels evaluate --extractor` takes."""

from typing import Any

import torch
import torch.nn.functional as F
from diffusers import ModelMixin
from torch import Tensor

from ..data.spec import DataSpec
from .base import Batch, Noise, Objective, Phase


class ClassifierObjective(Objective):
    """Cross-entropy of the labels; held-out figures are cross-entropy and accuracy."""

    ema = ("classifier",)
    higher_is_better = ("accuracy",)
    phases = (Phase("classification", trains=("classifier",)),)

    def losses(
        self, phase: Phase, networks: dict[str, Any], batch: Batch, noise: Noise, cache: dict[str, Any]
    ) -> dict[str, Tensor]:
        return {"loss": F.cross_entropy(networks["classifier"](batch["image"]).logits.float(), batch["label"])}

    # what it is made of ----------------------------------------------------------------------------------------------

    def __init__(self, classifier: ModelMixin, data: DataSpec) -> None:
        """Put the parts together.

        Args:
            classifier: x -> `logits`, log p(y|x) up to a constant.
            data: What the training data look like; they have labels.
        """
        super().__init__({"classifier": classifier}, data)

    # held-out figures ------------------------------------------------------------------------------------------------

    def evaluate(self, networks: dict[str, ModelMixin], batch: Batch, generator: torch.Generator) -> dict[str, Tensor]:
        logits = networks["classifier"](batch["image"]).logits
        return {
            "cross_entropy": F.cross_entropy(logits, batch["label"], reduction="none"),
            "accuracy": (logits.argmax(1) == batch["label"]).float(),
        }
