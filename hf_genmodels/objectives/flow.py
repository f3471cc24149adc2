"""The flows' objective: exact negative log-likelihood, of images after uniform dequantisation."""

import math
from typing import Any

import torch
from diffusers import ModelMixin
from torch import Tensor

from ..data.spec import DataSpec
from ..errors import UserError
from ..losses.dequantization import bits_per_dim, check_range, dequantize, discrete_log_likelihood
from ..pipelines.flow import FlowPipeline
from .base import Batch, Gather, Noise, Objective, Phase


class FlowObjective(Objective):
    """-log p(x) of the change of variables, log p(x) = log N(z; 0, I) + log|det dz/dx|, z = f(x).

    One phase trains the flow by exact maximum likelihood (Dinh et al. 2017, arXiv 1605.08803, eq. 2 and 3). Images are
    dequantised by fresh uniform noise each time, which makes the loss an upper bound of the grey levels' negative
    log-probability (Theis et al. 2016, arXiv 1511.01844, section 3.1). The loss is in nats a sample; `bits_per_dim` in
    the log is the same number in the literature's unit.
    """

    pipeline_class = FlowPipeline
    ema = ("flow",)
    phases = (Phase("likelihood", trains=("flow",)),)

    def losses(
        self, phase: Phase, networks: dict[str, Any], batch: Batch, noise: Noise, cache: dict[str, Any]
    ) -> dict[str, Tensor]:
        drawn = None if self.num_levels is None else noise.uniform(tuple(batch["image"].shape), like=batch["image"])
        log_likelihood = self.log_likelihood(networks["flow"], batch, drawn).mean()
        return {"loss": -log_likelihood, "bits_per_dim": bits_per_dim(log_likelihood, self.dim)}

    def log_likelihood(self, flow: Any, batch: Batch, noise: Tensor | None) -> Tensor:
        """Log p(x) of each sample, (batch,) nats: of vectors the density, of images the bound of the probability.

        Args:
            flow: The network, possibly wrapped.
            batch: As for `losses`.
            noise: Uniform in [0, 1), of the images' shape; None for vectors.
        """
        sample = self.continuous(batch["image"], noise)
        log_density: Tensor = flow(sample, self.labels(batch), **self.given(batch)).log_likelihood
        return (
            log_density if self.num_levels is None else discrete_log_likelihood(log_density, self.dim, self.num_levels)
        )

    def continuous(self, image: Tensor, noise: Tensor | None) -> Tensor:
        """What the flow takes: vectors as they are, images dequantised with `noise`."""
        return image if self.num_levels is None or noise is None else dequantize(image, noise, self.num_levels)

    def labels(self, batch: Batch) -> Tensor | None:
        """The labels, where the flow reads them."""
        return batch["label"] if self.is_conditional else None

    def context(self, batch: Batch) -> Tensor:
        """What a flow with a `context_dim` is conditioned on, (batch, context_dim): for data of your own to give.

        Raises:
            UserError: The batch has no "context".
        """
        if "context" not in batch:
            raise UserError(
                f"the flow has a context, but {self.data.name} has none; override FlowObjective.context to give it"
            )
        return batch["context"]

    def given(self, batch: Batch) -> dict[str, Tensor]:
        """The context as an argument, where the flow takes one."""
        return {"context": self.context(batch)} if self.has_context else {}

    def initialize(self, batch: Batch, noise: Noise, gather: Gather) -> None:
        """Let the flow's layers that want to see a first batch see one, at the middles of the grey levels."""
        image, flow = batch["image"], self.networks["flow"]
        if self.num_levels is not None:
            check_range(image)
        if initialize := getattr(flow, "initialize", None):
            middles = self.continuous(image, torch.full_like(image, 0.5))

            def reduce(tensor: Tensor) -> Tensor:
                return gather(tensor[None]).mean(0)

            initialize(middles, self.labels(batch), reduce, **self.given(batch))

    # what it is made of ----------------------------------------------------------------------------------------------

    def __init__(self, flow: ModelMixin, data: DataSpec) -> None:
        """Put the parts together.

        Args:
            flow: x -> z with `log_likelihood`; `num_levels` in its configuration says by how many grey levels images
                are dequantised, `num_classes` that it reads labels, `context_dim` that it reads a context.
            data: What the training data look like.
        """
        super().__init__({"flow": flow}, data)
        config: Any = flow.config
        self.num_levels: int | None = config.get("num_levels")
        self.is_conditional = config.get("num_classes") is not None
        self.has_context = config.get("context_dim") is not None
        self.dim = math.prod(data.shape)

    # pictures and held-out figures -----------------------------------------------------------------------------------

    def sample_grid(self, pipeline: Any, batch: Batch, generator: torch.Generator) -> dict[str, Tensor]:
        image = batch["image"]
        options = {"batch_size": len(image), "generator": generator, "output_type": "pt", **self.given(batch)}
        samples = pipeline(**options).images
        if not self.data.is_image:
            return {"data": image, "samples": samples}
        return {"samples": samples, "samples at temperature 0.7": pipeline(temperature=0.7, **options).images}

    def evaluate(self, networks: dict[str, ModelMixin], batch: Batch, generator: torch.Generator) -> dict[str, Tensor]:
        image = batch["image"]
        drawn = None if self.num_levels is None else torch.rand(image.shape, generator=generator).to(image)
        log_likelihood = self.log_likelihood(networks["flow"], batch, drawn)
        return {
            "negative_log_likelihood": -log_likelihood,
            "bits_per_dim": bits_per_dim(log_likelihood, self.dim),
        }
