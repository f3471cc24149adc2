"""The autoencoder's objective: squared error, with a regulariser of the code or a corruption of the input."""

from typing import Any, get_args

import torch
import torch.nn.functional as F
from diffusers import ModelMixin
from torch import Tensor

from ..checks import check_choice
from ..choices import CodeRegularizer, Corruption
from ..data.spec import DataSpec
from ..losses.reconstruction import clamped_squared_error
from ..losses.sparsity import contractive_penalty, kl_sparsity, l1_sparsity
from ..pipelines.autoencoder import AutoencoderPipeline
from .base import Batch, Noise, Objective, Phase, reconstruction_pairs


class AutoencoderObjective(Objective):
    """||x - g(f(x~))||^2, summed over dimensions and averaged over the batch, plus weight x regulariser.

    x~ is x, or x corrupted (denoising autoencoder, Vincent et al. 2008). Regularisers: `losses/sparsity.py`. The KL's
    mean activation is over one process's micro-batch.
    """

    pipeline_class = AutoencoderPipeline
    ema = ("autoencoder",)
    higher_is_better = ("accuracy",)

    def losses(
        self, phase: Phase, networks: dict[str, Any], batch: Batch, noise: Noise, cache: dict[str, Any]
    ) -> dict[str, Tensor]:
        image = batch["image"]
        sample = corrupt(image, self.corruption, self.corruption_level, noise)
        if self.regularizer == "contractive":
            sample = sample.detach().requires_grad_()
        output = networks["autoencoder"](sample)
        error = (output.reconstruction - image).square().flatten(1).sum(1).mean()
        losses = {"loss": error, "error": error}
        if self.regularizer == "l1":
            losses["regularizer"] = l1_sparsity(output.latents)
        elif self.regularizer == "kl":
            losses["regularizer"] = kl_sparsity(output.latents, self.sparsity_target)
        elif self.regularizer == "contractive":
            losses["regularizer"] = contractive_penalty(output.latents, sample)
        if "regularizer" in losses:
            losses["loss"] = losses["loss"] + self.regularizer_weight * losses["regularizer"]
        if self.classification_weight:
            losses["cross_entropy"] = F.cross_entropy(output.logits, batch["label"])
            losses["loss"] = losses["loss"] + self.classification_weight * losses["cross_entropy"]
        return losses

    # what it is made of ----------------------------------------------------------------------------------------------

    def __init__(
        self,
        autoencoder: ModelMixin,
        data: DataSpec,
        regularizer: CodeRegularizer = "none",
        regularizer_weight: float = 1e-3,
        sparsity_target: float = 0.05,
        corruption: Corruption = "none",
        corruption_level: float = 0.3,
        classification_weight: float = 0.0,
    ) -> None:
        """Put the parts together.

        Args:
            autoencoder: x -> z and x^; with `classification_weight` logits of the classes too.
            data: What the training data look like.
            regularizer: Of the code: "l1", "kl" (needs activations in (0, 1)) or "contractive" (needs codes that
                depend on one image each: no batch norm), see `losses/sparsity.py`.
            regularizer_weight: Its weight.
            sparsity_target: "kl": wished mean activation, rho of Ng 2011, in (0, 1).
            corruption: What is done to the input before it is encoded, see `corrupt`.
            corruption_level: How much of it.
            classification_weight: Weight of the cross-entropy of the labels given the code.

        Raises:
            UserError: An unknown regulariser or corruption.
        """
        super().__init__({"autoencoder": autoencoder}, data)
        check_choice("regularizer", regularizer, get_args(CodeRegularizer))
        check_choice("corruption", corruption, get_args(Corruption))
        self.regularizer, self.regularizer_weight = regularizer, regularizer_weight
        self.sparsity_target = sparsity_target
        self.corruption, self.corruption_level = corruption, corruption_level
        self.classification_weight = classification_weight
        double = regularizer == "contractive"
        if (head := getattr(autoencoder, "classifier", None)) is not None:
            # several processes would wait for the gradients of a head that is called and judged by nothing
            head.requires_grad_(classification_weight > 0)
        self.phases = (Phase("reconstruction", trains=("autoencoder",), double_backward=double),)

    # pictures and held-out figures -----------------------------------------------------------------------------------

    def sample_grid(self, pipeline: Any, batch: Batch, generator: torch.Generator) -> dict[str, Tensor]:
        if not self.data.is_image:
            points = batch["image"]
            return {"data": points, "reconstructions": pipeline.reconstruct(points, output_type="pt").images}
        return {"reconstructions": reconstruction_pairs(pipeline, batch["image"])}

    def evaluate(self, networks: dict[str, ModelMixin], batch: Batch, generator: torch.Generator) -> dict[str, Tensor]:
        output = networks["autoencoder"](batch["image"])
        figures = {"mse": clamped_squared_error(output.reconstruction, batch["image"])}
        logits = getattr(output, "logits", None)
        if logits is not None and "label" in batch:
            figures["accuracy"] = (logits.argmax(1) == batch["label"]).float()
        return figures


def corrupt(image: Tensor, corruption: Corruption, level: float, noise: Noise) -> Tensor:
    """x~: add Gaussian noise of standard deviation `level`, or set a share `level` of the entries to -1, the minimum.

    Args:
        image: (batch, ...) in [-1, 1].
        corruption: "none", "gaussian" or "masking".
        level: See above.
        noise: Where the random numbers come from.
    """
    if corruption == "gaussian":
        return image + level * noise.normal(tuple(image.shape), like=image)
    if corruption == "masking":
        return torch.where(noise.uniform(tuple(image.shape), like=image) < level, -torch.ones_like(image), image)
    return image
