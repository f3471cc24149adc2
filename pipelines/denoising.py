"""What every pipeline around a denoising network and a scheduler shares: sampling, guidance, DDIM inversion."""

from __future__ import annotations

import inspect
from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any, ClassVar

import torch
from diffusers import DDIMInverseScheduler, DDIMScheduler, DDPMScheduler
from torch import Tensor

from hf_genmodels.errors import UserError
from hf_genmodels.losses.diffusion import predicted_noise, predicted_sample

from .base import GenerativePipelineOutput, Generators, Task
from .classifier_guidance import classifier_guide
from .guided import GuidedPipeline, Predict, Step
from .intermediates import DenoisingPipelineOutput, Intermediates
from .iterative import StepCallback
from .labels import ClassLabels, match_labels
from .latents import interpolate_latents
from .noise_schedules import (
    advice_if_not_finite,
    checked_steps,
    no_ddpm_schedule,
    predicts_variances,
    schedule_to_keep,
    set_timesteps,
    training_scheduler,
)

DDIM_STEPS = 50


class DenoisingPipeline(GuidedPipeline):
    """Samples, DDIM codes and reconstructions of a UNet2DModel that was trained to denoise.

    Samplers are swapped as in diffusers, `pipe.scheduler = DDIMScheduler.from_config(pipe.scheduler.config)`: DDPM,
    DDIM, DPM-Solver (`DPMSolverMultistepScheduler`), Karras et al.'s (`EulerDiscreteScheduler` and
    `HeunDiscreteScheduler` with `use_karras_sigmas=True`), and others that take time steps of the same training.
    """

    measures = frozenset({"samples", "reconstructions"})
    tasks: ClassVar[tuple[Task, ...]] = ("reconstruct", "encode")
    sampling_options = frozenset(
        {"num_inference_steps", "class_labels", "guidance_scale", "eta", "classifier", "classifier_scale"}
    )

    @property
    def predicts_variances(self) -> bool:
        """Whether the network predicts the variance of each step too (Nichol & Dhariwal 2021, arXiv 2102.09672)."""
        return predicts_variances(self.unet)

    def register_schedule(self, trained_schedule: Mapping[str, Any] | None) -> None:
        """Keep the schedule of the training in the pipeline's configuration: a swapped sampler may have another.

        Args:
            trained_schedule: As saved; None takes that of the scheduler that the pipeline is made with.

        Raises:
            UserError: It is impossible.
        """
        self.register_to_config(trained_schedule=schedule_to_keep(self.scheduler, trained_schedule))

    def trained_schedule(self) -> DDPMScheduler:
        """The noise that the network was trained with, whatever sampler is in use.

        Raises:
            UserError: The network was trained with another kind of noise.
        """
        if self.config.trained_schedule is None:
            raise no_ddpm_schedule(self.scheduler)
        return training_scheduler(self.config.trained_schedule)

    # samples ---------------------------------------------------------------------------------------------------------

    @torch.no_grad()
    def __call__(
        self,
        batch_size: int | None = None,
        generator: Generators = None,
        latents: Tensor | None = None,
        num_inference_steps: int | None = None,
        class_labels: ClassLabels = None,
        guidance_scale: float | None = None,
        eta: float = 0.0,
        output_type: str | None = None,
        return_dict: bool = True,
        callback_on_step_end: StepCallback | None = None,
        callback_on_step_end_tensor_inputs: Sequence[str] = ("latents",),
        max_batch_size: int | None = None,
        classifier: Any = None,
        classifier_scale: float | None = None,
        num_intermediates: int | None = None,
    ) -> GenerativePipelineOutput | tuple[Any, ...]:
        """Samples: noise x_T ~ N(0, I), denoised step by step as the scheduler says.

        Args:
            batch_size: How many; by default one for each of `latents` or `class_labels`.
            generator: One for all, or a sequence with one for each image, which reproduces each image alone.
            latents: x_T, (batch, *latent_shape), instead of a random one. A DDPM scheduler draws more noise on the
                way.
            num_inference_steps: Steps of the scheduler; by default as many as the network was trained with for a
                DDPMScheduler, 50 for others. A second-order scheduler (Heun) calls the network up to twice a step.
            class_labels: Of a conditional network; by default each class is as likely as the others.
            guidance_scale: Of a conditional network, 2 by default: how far a sample is pushed towards its class; 1
                for the plain conditional distribution.
            eta: Of a DDIMScheduler: 0 is deterministic, 1 adds as much noise as DDPM.
            output_type: "pil", "np" or "pt"; by default "pil" where that exists.
            return_dict: Return a `GenerativePipelineOutput` instead of a tuple.
            callback_on_step_end: Called after each step, see `IterativePipeline`. "latents" are x_t after the step,
                "denoised" is the x_0 that the network saw in the x_t before it, both (batch, *latent_shape);
                `pipe.finish(pipe.from_diffused(denoised))` shows the latter.
            callback_on_step_end_tensor_inputs: Which of the two it gets.
            max_batch_size: Most images that go through the networks at once (a guided image goes through twice). All
                take a step before any takes the next, so whatever the steps draw, the images are the same to
                rounding, and callbacks see all of them.
            classifier: A `Classifier` that was trained on noisy images of this model (`hf-genmodels train classifier
                --diffusion_model_name_or_path`); it guides samples to `class_labels` of its own, which the diffusion
                model need not know.
            classifier_scale: How far it pushes, see `ClassifierGuide`; 1 by default.
            num_intermediates: Return as many x_t as well, from x_T to x_0, at evenly spread steps (see
                `DenoisingPipelineOutput`); without `return_dict` they are the second of the tuple.

        Raises:
            UserError: The arguments' shapes do not fit, there is no such class, guidance of a network without
                classes, too many steps, steps that the scheduler cannot do, `eta` for one that has none, a classifier
                that cannot guide this model, or `num_intermediates` together with a callback.
        """
        guide = None
        if classifier is not None:
            trained = self.trained_schedule()
            shape, device = self.latent_shape, self._execution_device
            guide = classifier_guide(classifier, classifier_scale, class_labels, trained, shape, device)
            class_labels = None if self.num_classes is None else class_labels
        elif classifier_scale is not None:
            raise UserError("classifier_scale has no meaning without a classifier; give one, or leave it out")
        if num_intermediates is not None:
            if callback_on_step_end is not None:
                raise UserError("num_intermediates takes the place of callback_on_step_end; leave one of them out")
            callback_on_step_end, callback_on_step_end_tensor_inputs = Intermediates(num_intermediates), ("latents",)

        def prepare() -> tuple[int, dict[str, Any]]:
            return self._prepare_scheduler(num_inference_steps, generator, eta)

        callback, names = callback_on_step_end, callback_on_step_end_tensor_inputs
        chosen = (batch_size, generator, latents, class_labels, guidance_scale)
        diffused = self._sample(*chosen, prepare, callback, names, max_batch_size, guide)
        if not isinstance(callback, Intermediates):
            return self._finish_diffused(diffused, output_type, return_dict, max_batch_size)
        kept = [self._finish_diffused(each, output_type, False, max_batch_size)[0] for each in callback.kept]
        return DenoisingPipelineOutput(images=kept[-1], intermediates=kept) if return_dict else (kept[-1], kept)

    def take_step(self, sample: Tensor, step: int, time: Tensor, predict: Predict, options: dict[str, Any]) -> Step:
        """One step of the scheduler, see `GuidedPipeline`."""
        timestep = self.scheduler.timesteps[step]
        scaled = self.scheduler.scale_model_input(sample, timestep)
        prediction, variances = predict(scaled, time)
        output = torch.cat([prediction, variances], 1) if self._scheduler_takes_variances else prediction
        made = self.scheduler.step(output, timestep, sample, **options)
        return made.prev_sample, partial(self._denoised, made, prediction, scaled, timestep)

    def advice_if_not_finite(self) -> str:
        """What to do about samples that are not finite."""
        return advice_if_not_finite(self.unet, self.scheduler)

    @property
    def _scheduler_takes_variances(self) -> bool:
        """Whether the sampler makes use of variances that the network predicts; others cut them off, or trip."""
        kind = self.scheduler.config.get("variance_type")
        return isinstance(self.scheduler, DDPMScheduler) and kind in ("learned", "learned_range")

    def _denoised(self, made: Any, prediction: Tensor, scaled: Tensor, timestep: Tensor) -> Tensor:
        """The x_0 behind a step's prediction: the scheduler's own, or that of the schedule."""
        known: Tensor | None = getattr(made, "pred_original_sample", None)
        if known is not None:
            return known
        alpha_bar = self.scheduler.alphas_cumprod[timestep.long()]
        return predicted_sample(self.scheduler.config.prediction_type, prediction, scaled, alpha_bar)

    def _prepare_scheduler(
        self, num_inference_steps: int | None, generator: Any, eta: float
    ) -> tuple[int, dict[str, Any]]:
        """Set the scheduler's steps; returns their number, and what its `step` takes: not every one draws noise."""
        name = type(self.scheduler).__name__
        if not hasattr(self.scheduler, "betas"):
            raise no_ddpm_schedule(self.scheduler)
        trained, sampled = len(self.trained_schedule().betas), self.scheduler.config.num_train_timesteps
        if sampled != trained:
            raise UserError(
                f"the {name} is of {sampled} time steps, and the training had {trained}: make it with "
                f"from_config(..., num_train_timesteps={trained})"
            )
        learned = self.scheduler.config.get("variance_type") in ("learned", "learned_range")
        # DPM-Solvers of diffusers cut what is predicted beside learned variances to RGB
        if learned and name.startswith("DPMSolver") and self.network_shape[0] > 3:
            raise UserError(
                f"a {name} with variance_type {self.scheduler.config.variance_type!r} takes 3 channels of "
                f"{self.network_shape[0]}: make it with from_config(..., variance_type=None)"
            )
        default = trained if isinstance(self.scheduler, DDPMScheduler) else DDIM_STEPS
        steps = checked_steps(num_inference_steps, default, trained)
        known = inspect.signature(self.scheduler.step).parameters
        if eta and "eta" not in known:
            raise UserError(f"eta is for a DDIMScheduler, this pipeline has a {name}")
        set_timesteps(self.scheduler, steps)
        options: dict[str, Any] = {"generator": generator} if "generator" in known else {}
        return steps, options | ({"eta": eta} if "eta" in known else {})

    # codes -----------------------------------------------------------------------------------------------------------

    @torch.no_grad()
    def encode(self, images: Any, num_inference_steps: int | None = None, class_labels: ClassLabels = None) -> Tensor:
        """The x_T from which DDIM comes back to each image: its equation, followed from the image to noise.

        Song et al. 2021 (arXiv 2010.02502), section 4.3. The network's prediction at the end of a step is taken from
        where the step begins, so `decode` comes back the nearer the smaller the steps are. Which scheduler the
        pipeline has does not matter, and predicted samples are not clipped.

        Args:
            images: PIL images, arrays or tensors, see `images.to_network`.
            num_inference_steps: 50 by default, or as many as the network was trained with if that is less.
            class_labels: Of a conditional network; by default "any class".

        Returns:
            (batch, *latent_shape), float32.

        Raises:
            UserError: The images or labels do not fit, or too many steps.
        """
        steps = checked_steps(num_inference_steps, DDIM_STEPS, len(self.trained_schedule().betas))
        return self._follow(self.to_diffused(images), DDIMInverseScheduler, steps, class_labels)

    @torch.no_grad()
    def decode(
        self,
        latents: Tensor,
        num_inference_steps: int | None = None,
        class_labels: ClassLabels = None,
        output_type: str | None = None,
    ) -> GenerativePipelineOutput:
        """Samples of given x_T by deterministic DDIM, the inverse of `encode` with the same number of steps.

        Args:
            latents: (batch, *latent_shape).
            num_inference_steps: As for `encode`.
            class_labels: As for `encode`.
            output_type: "pil", "np" or "pt"; by default "pil" where that exists.

        Raises:
            UserError: The latents or labels do not fit, or too many steps.
        """
        steps = checked_steps(num_inference_steps, DDIM_STEPS, len(self.trained_schedule().betas))
        latents = self.random_latents(len(latents), self.latent_shape, None, latents, torch.float32)
        samples = self.from_diffused(self._follow(latents, DDIMScheduler, steps, class_labels))
        return GenerativePipelineOutput(images=self.finish(samples, output_type, False)[0])

    @torch.no_grad()
    def reconstruct(
        self,
        images: Any,
        num_inference_steps: int | None = None,
        class_labels: ClassLabels = None,
        output_type: str | None = None,
    ) -> GenerativePipelineOutput:
        """`decode(encode(images))`."""
        latents = self.encode(images, num_inference_steps, class_labels)
        return self.decode(latents, num_inference_steps, class_labels, output_type)

    @torch.no_grad()
    def interpolate(
        self,
        a: Any,
        b: Any,
        num_steps: int = 8,
        mode: str = "spherical",
        num_inference_steps: int | None = None,
        class_labels: ClassLabels = None,
        output_type: str | None = None,
    ) -> GenerativePipelineOutput:
        """Decode a path from the code of image `a` to that of `b` (Song et al. 2021, section 5.3).

        Args:
            a: One image.
            b: One image.
            num_steps: Images on the path, both ends included.
            mode: "linear", or "spherical", see `latents.interpolate_latents`.
            num_inference_steps: As for `encode`.
            class_labels: As for `encode`.
            output_type: "pil", "np" or "pt"; by default "pil" where that exists.

        Raises:
            UserError: `a` or `b` is more than one image, or another argument is impossible.
        """
        start, end = (self.encode(image, num_inference_steps, class_labels) for image in (a, b))
        if len(start) != 1 or len(end) != 1:
            raise UserError(f"interpolate goes from one image to one image, got {len(start)} and {len(end)}")
        path = interpolate_latents(start.flatten(), end.flatten(), num_steps, mode)
        return self.decode(path.reshape(num_steps, *start.shape[1:]), num_inference_steps, class_labels, output_type)

    def _follow(self, diffused: Tensor, scheduler_class: type, num_steps: int, class_labels: ClassLabels) -> Tensor:
        """Follow DDIM's equation, (batch, *latent_shape), in the direction of a scheduler."""
        labels = self.find_labels(class_labels)
        labels = match_labels(labels, len(diffused))
        trained = self.trained_schedule()
        betas = trained.betas.numpy()
        # Of what is predicted, the inverse needs the noise at the end of a step, where there is always some; on the
        # way back to the image there may be noise alone at first, of which no x_0 can be told.
        to_noise, predicts = scheduler_class is DDIMInverseScheduler, trained.config.prediction_type
        scheduler: Any = scheduler_class(
            num_train_timesteps=len(betas),
            trained_betas=betas,
            clip_sample=False,
            prediction_type="epsilon" if to_noise else predicts,
        )
        scheduler.set_timesteps(num_steps)
        sample = diffused.reshape(len(diffused), *self.network_shape)
        network_timesteps, dtype = scheduler.timesteps.to(sample.device), self.unet.dtype
        for step, timestep in enumerate(self.progress_bar(scheduler.timesteps)):
            prediction = self._predict(sample.to(dtype), labels, network_timesteps[step], 1.0)[0].float()
            if to_noise:
                prediction = predicted_noise(predicts, prediction, sample, scheduler.alphas_cumprod[timestep])
            sample = scheduler.step(prediction, timestep, sample).prev_sample
        return sample.reshape(diffused.shape)
