"""The feature classifier's objective. Its output folder is what `hf-genmodels evaluate --extractor` takes."""

from typing import Any

import torch
import torch.nn.functional as F
from diffusers import ModelMixin
from torch import Tensor

from ..data.spec import DataSpec
from ..losses.diffusion import q_sample
from ..pipelines.noise_schedules import training_scheduler
from .base import Batch, Noise, Objective, Phase


class ClassifierObjective(Objective):
    """Cross-entropy of the labels; held-out figures are cross-entropy and accuracy.

    A network with a `noise_schedule` sees each image with the noise of a random time step of it, and is told which
    (Dhariwal & Nichol 2021, arXiv 2105.05233, section 4); the held-out figures are means over all time steps.
    """

    ema = ("classifier",)
    higher_is_better = ("accuracy",)
    phases = (Phase("classification", trains=("classifier",)),)
    alpha_bar: Tensor | None

    def losses(
        self, phase: Phase, networks: dict[str, Any], batch: Batch, noise: Noise, cache: dict[str, Any]
    ) -> dict[str, Tensor]:
        image = batch["image"]
        if self.alpha_bar is None:
            logits = networks["classifier"](image).logits
        else:
            timesteps = (noise.uniform((len(image),), like=image) * len(self.alpha_bar)).long()
            logits = self.noisy_logits(networks["classifier"], image, timesteps, noise.normal(image.shape, like=image))
        return {"loss": F.cross_entropy(logits.float(), batch["label"])}

    def noisy_logits(self, classifier: Any, image: Tensor, timesteps: Tensor, noise: Tensor) -> Tensor:
        """What the network says of images with noise of time steps (batch,), (batch, classes)."""
        assert self.alpha_bar is not None
        self.alpha_bar = self.alpha_bar.to(image.device)
        logits: Tensor = classifier(q_sample(image, noise, self.alpha_bar[timesteps]), timestep=timesteps).logits
        return logits

    # what it is made of ----------------------------------------------------------------------------------------------

    def __init__(self, classifier: ModelMixin, data: DataSpec) -> None:
        """Put the parts together.

        Args:
            classifier: x -> `logits`, log p(y|x) up to a constant; x, t -> `logits` with a `noise_schedule`.
            data: What the training data look like; they have labels.
        """
        super().__init__({"classifier": classifier}, data)
        schedule: Any = classifier.config.get("noise_schedule")
        self.alpha_bar = None if schedule is None else training_scheduler(schedule).alphas_cumprod

    # held-out figures ------------------------------------------------------------------------------------------------

    def evaluate(self, networks: dict[str, ModelMixin], batch: Batch, generator: torch.Generator) -> dict[str, Tensor]:
        image = batch["image"]
        if self.alpha_bar is None:
            logits = networks["classifier"](image).logits
        else:
            places = (torch.arange(len(image)) / len(image) + torch.rand((), generator=generator)) % 1
            timesteps = (places * len(self.alpha_bar)).long().to(image.device)
            noise = torch.randn(image.shape, generator=generator).to(image)
            logits = self.noisy_logits(networks["classifier"], image, timesteps, noise)
        return {
            "cross_entropy": F.cross_entropy(logits, batch["label"], reduction="none"),
            "accuracy": (logits.argmax(1) == batch["label"]).float(),
        }
