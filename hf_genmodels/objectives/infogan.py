"""InfoGAN's objective: a GAN whose samples tell the codes that they were made of."""

import math
from typing import Any

import torch
from diffusers import ModelMixin
from torch import Tensor

from ..data.spec import DataSpec
from ..errors import UserError
from ..losses.gan import accuracy, discriminator_loss, generator_loss
from ..losses.information import categorical_information, gaussian_information
from ..pipelines.infogan import InfoGANPipeline, check_codes
from .base import Batch, Noise, Objective, Phase, latent_samples

LOSS = "non_saturating"


class InfoGANObjective(Objective):
    """InfoGAN (Chen et al. 2016, arXiv 1606.03657): no labels are read.

    The latents of G have three parts: noise z, a category c, and continuous codes, which are the first coordinates of
    the normal latents. Q(c|x) shares the discriminator's trunk. With L the lower bound of the information that a
    sample has of its codes (eq. 5, `losses/information.py`), the category's weighed by `category_weight` and the
    continuous codes' by `code_weight`:

    generator      -log sigmoid(d(G(z, c))) - L
    discriminator  -log sigmoid(d(x)) - log(1 - sigmoid(d(G(z, c)))) - L, on fakes of its own

    Both have L, as the authors' code has it: Q learns in the discriminator's phase. `information` in the log is the
    bound in nats without weights, at most log K for the category.

    Differences from the paper: the continuous codes are standard normal (there uniform in [-1, 1]), so that latents
    are what they are for every other GAN; there is one categorical code at most (there up to ten); and Q predicts the
    deviation of continuous codes, too (the authors' code keeps it at 1 for MNIST). The paper trains the generator at
    1e-3 and the discriminator at 2e-4.
    """

    pipeline_class = InfoGANPipeline
    ema = ("generator", "discriminator")
    phases = (
        Phase("discriminator", trains=("discriminator",)),
        Phase("generator", trains=("generator",), reuse_batch=True),
    )

    def losses(
        self, phase: Phase, networks: dict[str, Any], batch: Batch, noise: Noise, cache: dict[str, Any]
    ) -> dict[str, Tensor]:
        real, discriminator = batch["image"], networks["discriminator"]
        latents = noise.normal((len(real), self.latent_dim), like=real)
        labels = self.draw_categories(noise, real)
        with torch.set_grad_enabled(phase.name == "generator"):
            fake = networks["generator"](latents, **labels).sample
        on_fake = discriminator(fake.to(real.dtype))
        weighed, information = self.information(on_fake, latents, labels)
        if phase.name == "generator":
            return {"loss": generator_loss(LOSS, on_fake.logits) - weighed, "information": information}
        on_real = discriminator(real)
        return {
            "loss": discriminator_loss(LOSS, on_real.logits, on_fake.logits) - weighed,
            "accuracy": accuracy(LOSS, on_real.logits.detach(), on_fake.logits.detach()),
            "information": information,
        }

    def draw_categories(self, noise: Noise, real: Tensor) -> dict[str, Tensor]:
        """The generator's labels: a category for each fake, all as likely; nothing without a categorical code."""
        if self.num_categories is None:
            return {}
        uniform = noise.uniform((len(real),), like=real.float())
        return {"labels": (uniform * self.num_categories).long()}

    def information(self, judged: Any, latents: Tensor, labels: dict[str, Tensor]) -> tuple[Tensor, Tensor]:
        """The bound L of what Q says of fakes, with the weights and without."""
        weighed = information = torch.zeros((), device=latents.device)
        if labels:
            of_category = categorical_information(judged.class_logits, labels["labels"])
            weighed, information = weighed + self.category_weight * of_category, information + of_category
        if self.num_codes:
            of_codes = gaussian_information(judged.code_mean, judged.code_log_std, latents[:, : self.num_codes])
            weighed, information = weighed + self.code_weight * of_codes, information + of_codes
        return weighed, information.detach()

    # what it is made of ----------------------------------------------------------------------------------------------

    def __init__(
        self,
        generator: ModelMixin,
        discriminator: ModelMixin,
        data: DataSpec,
        category_weight: float = 1.0,
        code_weight: float = 0.1,
        discriminator_learning_rate: float | None = None,
    ) -> None:
        """Put the parts together.

        Args:
            generator: z and category -> x.
            discriminator: x -> logit of "real", and what Q(c|x) says of the codes.
            data: What the training data look like.
            category_weight: lambda of the categorical code, at least 0.
            code_weight: lambda of the continuous codes, at least 0.
            discriminator_learning_rate: Of the discriminator; the loop's by default.

        Raises:
            UserError: The networks do not have the same codes, or a weight is out of range.
        """
        super().__init__({"generator": generator, "discriminator": discriminator}, data)
        check_codes(type(self).__name__, generator, discriminator)
        for name, weight in (("category_weight", category_weight), ("code_weight", code_weight)):
            if not 0 <= weight < math.inf:
                raise UserError(f"{name} must be at least 0 and finite, got {weight}")
        self.learning_rates["discriminator"] = discriminator_learning_rate
        self.category_weight, self.code_weight = category_weight, code_weight
        config: Any = generator.config
        self.latent_dim: int = config.latent_dim
        config = discriminator.config
        self.num_categories: int | None = config.num_categories
        self.num_codes: int = config.num_codes

    # pictures --------------------------------------------------------------------------------------------------------

    def pipeline(self, networks: dict[str, Any]) -> InfoGANPipeline:
        # without the names of the data's classes, of which the categories know nothing
        return InfoGANPipeline(networks["generator"], networks["discriminator"], value_scale=self.data.value_scale)

    def sample_grid(self, pipeline: Any, batch: Batch, generator: torch.Generator) -> dict[str, Tensor]:
        pictures = super().sample_grid(pipeline, batch, generator)
        if self.data.is_image and self.num_categories is not None:
            # as many rows as categories: pictures are laid out in squares
            rows = {"num_rows": self.num_categories, "generator": generator, "output_type": "pt"}
            pictures["categories"] = pipeline.traverse(**rows).images
        return pictures

    def watched_samples(self, networks: dict[str, ModelMixin], count: int, generator: torch.Generator) -> Tensor:
        return latent_samples(networks["generator"], count, generator)
