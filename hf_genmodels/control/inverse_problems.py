"""Images that explain a measurement, with whatever trained model as the prior."""

from __future__ import annotations

import inspect
import typing
from typing import Any

import torch
from torch import Tensor

from ..errors import UserError
from ..operators import LinearOperator, MeasurementOperator
from ..pipelines.arguments import check_arguments
from ..pipelines.base import GenerativePipeline
from ..pipelines.chunks import in_chunks
from ..pipelines.guidance_problem import METHODS
from ..pipelines.inverse_problem import InverseProblemPipeline
from ..pipelines.labels import ClassLabels, match_labels, require_labels
from ..pipelines.measurements import (
    InverseProblemOutput,
    check_differentiable,
    consistency_error,
    prepare_measurement,
)
from .latent_priors import LatentPrior, latent_prior
from .latent_search import best_of_restarts, cosine_rates, search_latents

LATENT_METHOD = "latents"


def solve_inverse_problem(
    pipe: Any, measurement: Any, operator: MeasurementOperator, method: str | None = None, **options: Any
) -> InverseProblemOutput:
    """Images that explain measurements and look like what a model was trained on.

    Args:
        pipe: A pipeline: of a DDPM (also class-conditional, or of a VAE's latents), which gives posterior samples; or
            of a GAN, a model with encoder and prior (VAE, AVAE, BiGAN, VAE/GAN, AAE, Gaussian) or a flow, whose
            latents are searched for the most probable ones.
        measurement: y, see `InverseProblemPipeline`.
        operator: A, of images in [0, 1], see `hf_genmodels.operators`.
        method: "dps" (default of a DDPM), "pigdm" or "repaint", see `InverseProblemPipeline`; or "latents" (default
            of the others), see `search_for_measurement`.
        options: Of the method: what a call of `InverseProblemPipeline`, or `search_for_measurement`, takes.

    Raises:
        UserError: The pipeline is no prior, the method does not go with it, there is no such option, or operator or
            measurement do not fit.
    """
    if isinstance(pipe, InverseProblemPipeline) or type(pipe).__name__ in InverseProblemPipeline.loads_from:
        solver = pipe if isinstance(pipe, InverseProblemPipeline) else InverseProblemPipeline.from_pipe(pipe)
        method = "dps" if method is None else method
        if method == LATENT_METHOD:
            raise UserError(f"method 'latents' is not for a {type(pipe).__name__}; choose from {', '.join(METHODS)}")
        _check_options(InverseProblemPipeline.__call__, options, f"method {method!r}")
        if solver is not pipe:
            solver.set_progress_bar_config(**getattr(pipe, "_progress_bar_config", {}))
        return typing.cast(InverseProblemOutput, solver(measurement, operator, method, **options))
    if not isinstance(pipe, GenerativePipeline):
        raise UserError(f"pipe must be a pipeline of a trained model, got {type(pipe).__name__}")
    if method not in (None, LATENT_METHOD):
        raise UserError(f"method {method!r} needs a DDPM; a {type(pipe).__name__} has method 'latents' alone")
    if options.get("num_samples", 1) != 1:
        raise UserError("num_samples: a search in latents finds one image, the best; leave it out, or use a DDPM")
    options.pop("num_samples", None)
    _check_options(search_for_measurement, options, "method 'latents'")
    return search_for_measurement(pipe, measurement, operator, **options)


@check_arguments
@torch.no_grad()
def search_for_measurement(
    pipe: GenerativePipeline,
    measurement: Any,
    operator: MeasurementOperator,
    num_steps: int = 300,
    learning_rate: float = 0.1,
    num_restarts: int = 4,
    noise_std: float = 0.1,
    prior_weight: float = 1.0,
    class_labels: ClassLabels = None,
    generator: torch.Generator | None = None,
    output_type: str | None = None,
    max_batch_size: int | None = None,
) -> InverseProblemOutput:
    """The image G(z) that minimises |A(G(z)) - y|^2 / (2 noise_std^2) + prior_weight |z|^2 / 2 over z.

    For GANs and VAEs that is Bora et al. 2017 (arXiv 1703.03208, eq. 3), for flows Asim et al. 2020 (arXiv 1905.11672,
    eq. 3), in whose latents every image lies; with weight 1 the most probable z given y. By Adam, whose learning rate
    falls along half a cosine. Starts are the same for all images: with an encoder the code of A^+ y is one of them
    (for a linear operator), for a flow z = 0; the others are draws from the prior. The best result is kept.

    Args:
        pipe: See `latent_prior`.
        measurement: y, see `InverseProblemPipeline`.
        operator: A, differentiable.
        num_steps: Of Adam.
        learning_rate: Of Adam at the first step.
        num_restarts: Starting points of each image, all tried at once.
        noise_std: Standard deviation of what y is off, in units of the operator's output, above 0: its noise, and what
            the model's images cannot show.
        prior_weight: 0 for the best fit alone.
        class_labels: Of a conditional model, one for all or one for each measurement.
        generator: For the starting points.
        output_type: "pil", "np" or "pt"; by default "pil" where that exists.
        max_batch_size: Most images that go through the network at once, but at least the restarts of one; the
            images are the same to rounding.

    Returns:
        One image for each measurement, and its consistency error.

    Raises:
        UserError: The pipeline is no prior or has no normal latents, labels are missing, or the operator or the
            measurement does not fit.
    """
    prior = latent_prior(pipe)
    if prior_weight and not prior.is_normal:
        raise UserError(f"the latents of this {type(pipe).__name__} are not normal; use prior_weight=0")
    if not noise_std > 0:
        raise UserError("noise_std must be above 0 for method 'latents'; for noiseless data use prior_weight=0")
    target = prepare_measurement(measurement, operator, pipe.sample_shape, pipe.config.value_scale)
    target = target.to(pipe._execution_device)
    labels = match_labels(require_labels(class_labels, pipe.num_classes, target.device), len(target))
    rows = None if max_batch_size is None else max(1, max_batch_size // num_restarts)
    drawn = prior.draw(num_restarts, generator)

    def solve(target: Tensor, labels: Tensor | None) -> Tensor:
        starts = _starts(prior, drawn, target, operator)
        repeated = target.repeat_interleave(num_restarts, 0)
        each = None if labels is None else labels.repeat_interleave(num_restarts)

        def energy(latents: Tensor) -> Tensor:
            measured = operator((prior.decode(latents, each).float() + 1) / 2)
            if torch.is_grad_enabled():
                check_differentiable(operator, measured)
            misfit = (measured - repeated).square().flatten(1).sum(1) / (2 * noise_std**2)
            return misfit + prior_weight * latents.square().sum(1) / 2

        rates = pipe.progress_bar(cosine_rates(learning_rate, num_steps))
        found = search_latents(energy, starts, rates)
        return prior.decode(best_of_restarts(energy, found, num_restarts), labels).float()

    samples = in_chunks(solve, rows, target, labels)
    errors = consistency_error(operator, ((samples + 1) / 2).clamp(0, 1), target)
    images = pipe.finish(samples, output_type, False)[0]
    return InverseProblemOutput(images=images, consistency_error=errors)


def _starts(prior: LatentPrior, drawn: Tensor, target: Tensor, operator: MeasurementOperator) -> Tensor:
    """(n * restarts, dim): those drawn, for each measurement, and the encoder's or z = 0 in place of the first."""
    starts = drawn.repeat(len(target), 1, 1)
    if prior.begins_at_zero:
        starts[:, 0] = 0
    if prior.encode is not None and isinstance(operator, LinearOperator):
        simple = operator.pseudo_inverse(target).clamp(0, 1)
        starts[:, 0] = prior.encode(simple * 2 - 1)
    return starts.flatten(0, 1)


def _check_options(function: Any, options: dict[str, Any], what: str) -> None:
    """Refuse options that a function does not take.

    Raises:
        UserError: There is one.
    """
    left_out = ("self", "pipe", "measurement", "operator", "method", "return_dict")
    known = [name for name in inspect.signature(function).parameters if name not in left_out]
    for name in options:
        if name not in known:
            raise UserError(f"{what} has no option {name!r}; it has {', '.join(known)}")
