"""What pipelines share whose network was trained at noise levels that are numbers: EDM, flow matching, scores."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

import torch
from torch import Tensor

from hf_genmodels.errors import UserError

from .base import GenerativePipelineOutput, Generators
from .guided import GuidedPipeline
from .iterative import StepCallback
from .labels import ClassLabels
from .latent_sampling import LatentSampling

NUM_STEPS = 50


class NoiseLevelPipeline(GuidedPipeline):
    """Samples, with classifier-free guidance where the network knows classes.

    The sampler is swapped as in diffusers, `pipe.scheduler = X.from_config(pipe.scheduler.config)`, for one of
    `samplers`; others are refused when samples are made.

    Attributes:
        samplers: Names of diffusers' schedulers that go with the network.
        of_training: What of a scheduler's configuration says how the network was trained, which none may change.
        least_steps: Fewest `num_inference_steps`.
    """

    sampling_options = frozenset({"num_inference_steps", "class_labels", "guidance_scale"})
    samplers: ClassVar[tuple[str, ...]] = ()
    of_training: ClassVar[tuple[str, ...]] = ()
    least_steps: ClassVar[int] = 1

    def set_up(
        self,
        value_scale: float,
        trained_schedule: dict[str, Any] | None,
        id2label: dict[int, str] | None,
        scaling_factor: float | None = None,
        **parts: Any,
    ) -> None:
        """What constructors do: keep networks, scheduler (`parts`) and settings, after a look at what goes together.

        Raises:
            UserError: The scheduler is of another training, or the network makes other latents.
        """
        self.register_modules(**parts)
        self.register_to_config(value_scale=value_scale)
        self.register_schedule(trained_schedule)
        self.register_classes(id2label)
        if isinstance(self, LatentSampling):
            self.register_to_config(scaling_factor=scaling_factor)
            self.check_latents()

    def register_schedule(self, trained_schedule: Mapping[str, Any] | None) -> None:
        """Keep what of the scheduler's configuration is of the training: a swapped sampler may have another.

        Args:
            trained_schedule: As saved; None takes that of the scheduler that the pipeline is made with.

        Raises:
            UserError: The scheduler is of another training, or `trained_schedule` of another kind.
        """
        self.check_kind()
        known = {name: self.scheduler.config[name] for name in self.of_training}
        kept = known if trained_schedule is None else dict(trained_schedule)
        if kept.keys() != known.keys():
            raise UserError(f"trained_schedule must have {', '.join(known) or 'nothing'}, got {', '.join(kept)}")
        self.register_to_config(trained_schedule=kept)

    def check_kind(self) -> None:
        """Refuse a scheduler for models of another training.

        Raises:
            UserError: It is one.
        """
        name = type(self.scheduler).__name__
        if name not in self.samplers:
            raise UserError(
                f"a {name} is for models of another training; a {type(self).__name__} takes "
                f"{' or '.join(self.samplers)}"
            )

    def prepare_scheduler(self, num_inference_steps: int | None) -> int:
        """Set the scheduler's steps, and give their number.

        Raises:
            UserError: The scheduler does not go with the network, or too few steps.
        """
        self.check_kind()
        for name, trained in self.config.trained_schedule.items():
            if (found := self.scheduler.config[name]) != trained:
                raise UserError(
                    f"the {type(self.scheduler).__name__} has {name} {found}, and the training had {trained}: make it "
                    f"with from_config(..., {name}={trained!r})"
                )
        steps = NUM_STEPS if num_inference_steps is None else num_inference_steps
        if steps < self.least_steps:
            raise UserError(f"num_inference_steps must be at least {self.least_steps}, got {steps}")
        self.set_timesteps(steps)
        return steps

    def set_timesteps(self, steps: int) -> None:
        """Set the scheduler's steps."""
        self.scheduler.set_timesteps(steps)

    @torch.no_grad()
    def __call__(
        self,
        batch_size: int | None = None,
        generator: Generators = None,
        latents: Tensor | None = None,
        num_inference_steps: int | None = None,
        class_labels: ClassLabels = None,
        guidance_scale: float | None = None,
        output_type: str | None = None,
        return_dict: bool = True,
        callback_on_step_end: StepCallback | None = None,
        callback_on_step_end_tensor_inputs: Sequence[str] = ("latents",),
        max_batch_size: int | None = None,
    ) -> GenerativePipelineOutput | tuple[Any]:
        """Samples: standard normal noise, scaled and then denoised step by step as the scheduler says.

        Args:
            batch_size: How many; by default one for each of `latents` or `class_labels`.
            generator: One for all, or a sequence with one for each image, which reproduces each image alone.
            latents: The noise before it is scaled, (batch, *latent_shape), instead of a random one. A sampler that
                draws noise draws more on the way.
            num_inference_steps: Steps of the scheduler, 50 by default.
            class_labels: Of a conditional network; by default each class is as likely as the others.
            guidance_scale: Of a conditional network, 2 by default: how far a sample is pushed towards its class; 1
                for the plain conditional distribution.
            output_type: "pil", "np" or "pt"; by default "pil" where that exists.
            return_dict: Return a `GenerativePipelineOutput` instead of a tuple.
            callback_on_step_end: Called after each step, see `IterativePipeline`. "latents" are what the step ends
                with, "denoised" is the sample that the network saw where it began, both (batch, *latent_shape).
            callback_on_step_end_tensor_inputs: Which of the two it gets.
            max_batch_size: Most images that go through the networks at once (a guided image goes through twice). The
                images are the same to rounding, and callbacks see all of them.

        Raises:
            UserError: The arguments' shapes do not fit, there is no such class, guidance of a network without
                classes, too few steps, or a scheduler that does not go with the network.
        """

        def prepare() -> tuple[int, dict[str, Any]]:
            return self.prepare_scheduler(num_inference_steps), {"generator": generator}

        callback, names = callback_on_step_end, callback_on_step_end_tensor_inputs
        chosen = (batch_size, generator, latents, class_labels, guidance_scale)
        diffused = self._sample(*chosen, prepare, callback, names, max_batch_size)
        return self._finish_diffused(diffused, output_type, return_dict, max_batch_size)
