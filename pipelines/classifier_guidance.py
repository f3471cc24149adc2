"""Classifier guidance: a classifier of noisy images pushes a diffusion model's samples towards a class."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from diffusers import DDPMScheduler
from torch import Tensor

from hf_genmodels.errors import UserError
from hf_genmodels.losses.diffusion import guided_prediction, signal_to_noise
from hf_genmodels.models.classifier import Classifier
from hf_genmodels.sizes import sample_shape

from .labels import ClassLabels, require_labels
from .noise_schedules import training_scheduler


@dataclass(frozen=True)
class ClassifierGuide:
    """Adds scale * gradient of log p(y | x_t) to the score (Dhariwal & Nichol 2021, arXiv 2105.05233, algorithm 2).

    That form is the same for all samplers. For DDPM the paper shifts the mean of a step instead (algorithm 1), by the
    gradient times the step's variance; this shifts it by the gradient times beta / sqrt(alpha), next to the same.

    Attributes:
        classifier: x_t, t -> `logits`.
        scale: How far samples are pushed; 1 for p(x | y) of the two models, more for samples that are surer.
        labels: The classes, (1,) or (batch,).
        trained: The noise that both were trained with.
    """

    classifier: Any
    scale: float
    labels: Tensor
    trained: DDPMScheduler

    def __call__(self, prediction: Tensor, noisy: Tensor, labels: Tensor, time: Tensor) -> Tensor:
        """The network's prediction with the classifier's gradient in it.

        Args:
            prediction: (batch, channels, height, width).
            noisy: What the network saw: x_t, same shape.
            labels: (batch,).
            time: Its time step, one number; some samplers ask between two of the training.
        """
        with torch.enable_grad():
            seen = noisy.detach().float().requires_grad_()
            log_probabilities = self.classifier(seen, timestep=time).logits.float().log_softmax(1)
            (gradient,) = torch.autograd.grad(log_probabilities.gather(1, labels[:, None]).sum(), seen)
        kind = self.trained.config.prediction_type
        return guided_prediction(kind, prediction.float(), self.scale * gradient, self.alpha_bar(time))

    def alpha_bar(self, time: Tensor) -> Tensor:
        """Of a time step; between two of the training, the logarithm of signal to noise is interpolated."""
        log_snr = signal_to_noise(self.trained.alphas_cumprod.double()).log().to(time.device)
        before = time.floor().long()
        after = (before + 1).clamp(max=len(log_snr) - 1)
        found = torch.lerp(log_snr[before], log_snr[after], time.double() - before)
        return torch.sigmoid(found).float()


def classifier_guide(
    classifier: Any,
    scale: float | None,
    class_labels: ClassLabels,
    trained: DDPMScheduler,
    shape: tuple[int, ...],
    device: torch.device,
) -> ClassifierGuide:
    """The guide that a call asks for.

    Args:
        classifier: A `Classifier`.
        scale: 1 where the call says nothing.
        class_labels: As of the call.
        trained: The noise of the diffusion model's training.
        shape: Of what it diffuses.
        device: Where it runs; the classifier is moved there.

    Raises:
        UserError: It is no classifier of such noisy samples, a class is missing or unknown, or `scale` is negative.
    """
    if not isinstance(classifier, Classifier):
        raise UserError(f"classifier must be a Classifier, got a {type(classifier).__name__}")
    config: Any = classifier.config
    if config.noise_schedule is None:
        raise UserError(
            "classifier: it was trained on clean images, and guides on noisy ones; train it with "
            "--diffusion_model_name_or_path"
        )
    found = sample_shape(config.in_channels, config.sample_size)
    if found != shape:
        raise UserError(
            f"classifier: it takes samples of shape {found}, and this model noises samples of shape {shape}"
        )
    theirs, ours = training_scheduler(config.noise_schedule).alphas_cumprod, trained.alphas_cumprod
    if theirs.shape != ours.shape or not torch.allclose(theirs, ours, rtol=1e-4):
        raise UserError(
            "classifier: it was trained on the noise of another model; train it with --diffusion_model_name_or_path "
            "of this one"
        )
    if class_labels is None:
        raise UserError(
            f"classifier: say with class_labels which of its {config.num_classes} classes it is to guide to"
        )
    scale = 1.0 if scale is None else scale
    if not 0 <= scale < float("inf"):
        raise UserError(f"classifier_scale must be at least 0, got {scale}")
    labels = require_labels(class_labels, config.num_classes, device)
    assert labels is not None
    return ClassifierGuide(classifier.to(device).eval(), scale, labels, trained)
