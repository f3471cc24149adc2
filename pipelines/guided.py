"""What pipelines share that turn noise into samples by a UNet2DModel and a scheduler, step by step, with guidance."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any, ClassVar

import torch
from torch import Tensor

from hf_genmodels.errors import UserError
from hf_genmodels.sizes import height_width

from .base import GenerativePipelineOutput, Generators
from .chunks import in_chunks
from .classifier_guidance import ClassifierGuide
from .images import SampleShape
from .intermediates import Intermediates
from .iterative import IterativePipeline, StepCallback
from .labels import ClassLabels, match_labels, random_labels

GUIDANCE_SCALE = 2.0
# What a step gives: the next sample, and a function that says which x_0 the network saw in the one before.
Step = tuple[Tensor, Callable[[], Tensor]]
# (network's input, its time) -> its prediction and what it says of variances, both float32
Predict = Callable[[Tensor, Tensor], tuple[Tensor, Tensor]]


class GuidedPipeline(IterativePipeline):
    """Samples of a UNet2DModel that was trained on noisy data, whatever the noise; see its subclasses.

    `to_diffused` and `from_diffused` say what the noise was added to: by default the samples themselves, (channels,
    height, width) or, where the network's `sample_size` is 1, vectors (dim,), which are (dim, 1, 1) inside.

    A conditional network (`num_class_embeds`) knows one class more than the data have, the last: it means "any".
    """

    model_cpu_offload_seq = "unet"
    _callback_tensor_inputs: ClassVar[list[str]] = ["latents", "denoised"]
    unet: Any
    scheduler: Any

    # hooks -----------------------------------------------------------------------------------------------------------

    @property
    def sample_shape(self) -> SampleShape:
        """Shape of one sample, (channels, height, width) or (dim,)."""
        return self.latent_shape

    def to_diffused(self, images: Any) -> Tensor:
        """Images as users give them -> what is noised and denoised, float32 (batch, *latent_shape)."""
        return self.prepare_images(images, torch.float32)

    def from_diffused(self, diffused: Tensor) -> Tensor:
        """(batch, *latent_shape) -> samples, images in [-1, 1]."""
        return diffused

    # the network -----------------------------------------------------------------------------------------------------

    @property
    def network_shape(self) -> tuple[int, int, int]:
        """What the network takes: (channels, height, width)."""
        return self.unet.config.in_channels, *height_width(self.unet.config.sample_size)

    @property
    def latent_shape(self) -> SampleShape:
        """Shape of x_T as `latents`, and of what is diffused: the network's, or (dim,) for vectors."""
        channels, height, width = self.network_shape
        return (channels,) if (height, width) == (1, 1) else (channels, height, width)

    @property
    def num_classes(self) -> int | None:
        """Number of classes of a conditional network, else None."""
        embeddings: int | None = self.unet.config.get("num_class_embeds")
        return None if embeddings is None else embeddings - 1

    def predict(
        self, noisy: Tensor, timestep: Tensor, labels: Tensor | None = None, guidance_scale: float = 1.0
    ) -> Tensor:
        """The network's prediction (noise, sample or v) for x_t, with classifier-free guidance.

        Guidance is Ho & Salimans 2022 (arXiv 2207.12598), eq. 6, with guidance_scale = 1 + w. Variances that the
        network predicts too are left out.

        Args:
            noisy: (batch, channels, height, width).
            timestep: One, or (batch,) without guidance.
            labels: (1,) or (batch,); None for "any".
            guidance_scale: 1 for none.
        """
        return self._predict(noisy.to(self.unet.dtype), labels, timestep, guidance_scale)[0]

    def _predict(
        self, noisy: Tensor, labels: Tensor | None, timestep: Tensor, guidance_scale: float
    ) -> tuple[Tensor, Tensor]:
        """`predict`, and what the network says of the variances (batch, 0 or as many channels, height, width)."""
        channels = noisy.shape[1]
        if self.num_classes is None:
            output: Tensor = self.unet(noisy, timestep, return_dict=False)[0]
            return output[:, :channels], output[:, channels:]
        any_class = torch.full((len(noisy),), self.num_classes, device=noisy.device)
        labels = any_class if labels is None else labels.expand(len(noisy))
        if guidance_scale == 1.0:
            output = self.unet(noisy, timestep, class_labels=labels, return_dict=False)[0]
            return output[:, :channels], output[:, channels:]
        both = self.unet(noisy.repeat(2, 1, 1, 1), timestep, torch.cat([labels, any_class]), return_dict=False)[0]
        conditional, unconditional = both[:, :channels].chunk(2)
        return unconditional + guidance_scale * (conditional - unconditional), both[: len(noisy), channels:]

    # samples ---------------------------------------------------------------------------------------------------------

    def take_step(self, sample: Tensor, step: int, time: Tensor, predict: Predict, options: dict[str, Any]) -> Step:
        """One step of the scheduler from `sample`, (batch, channels, height, width) float32.

        Args:
            sample: Where the step begins.
            step: Its number, from 0.
            time: What the network is told of it, of `network_times`.
            predict: The guided network.
            options: What the scheduler's `step` takes beside.
        """
        raise NotImplementedError

    def network_times(self) -> Tensor:
        """What the network is told of each step, (steps,)."""
        times: Tensor = self.scheduler.timesteps
        return times

    @property
    def noise_scale(self) -> float:
        """Standard deviation of the noise that the steps start from."""
        scale: float = self.scheduler.init_noise_sigma
        return scale

    def advice_if_not_finite(self) -> str:
        """What to do about samples that are not finite."""
        if any(not each.isfinite().all() for each in self.unet.parameters()):
            return "the network's weights hold NaN or infinite numbers: load or train them anew"
        return "try another num_inference_steps, or another scheduler"

    def _sample(
        self,
        batch_size: int | None,
        generator: Generators,
        latents: Tensor | None,
        class_labels: ClassLabels,
        guidance_scale: float | None,
        prepare: Callable[[], tuple[int, dict[str, Any]]],
        callback: StepCallback | None,
        tensor_inputs: Sequence[str],
        max_batch_size: int | None,
        guide: ClassifierGuide | None = None,
    ) -> Tensor:
        """Noise, and the steps of the scheduler from there: (batch, *latent_shape).

        Args:
            batch_size: As of a call, like all that is not told here.
            generator: Likewise.
            latents: Likewise.
            class_labels: Likewise.
            guidance_scale: Likewise.
            prepare: Sets the scheduler's steps; gives their number, and what its `step` takes beside.
            callback: `callback_on_step_end`.
            tensor_inputs: `callback_on_step_end_tensor_inputs`.
            max_batch_size: Likewise.
            guide: A classifier that has a say in each prediction.

        Raises:
            UserError: The arguments do not fit, or samples are not finite.
        """
        labels = self.find_labels(class_labels)
        if guidance_scale is not None and self.num_classes is None:
            raise UserError("guidance_scale: the model was trained without classes (num_class_embeds is None)")
        scale = GUIDANCE_SCALE if guidance_scale is None else guidance_scale
        steps, options = prepare()
        if latents is not None:
            batch_size = len(latents)
        elif batch_size is None:
            known = guide.labels if labels is None and guide is not None else labels
            batch_size = 1 if known is None else len(known)
        guided_to = None if guide is None else match_labels(guide.labels, batch_size)
        noise = self.random_latents(batch_size, self.latent_shape, generator, latents, torch.float32)
        labels = match_labels(labels, batch_size)
        if labels is None and self.num_classes is not None:
            labels = random_labels(self.random_uniform(batch_size, generator), self.num_classes)
        dtype = self.unet.dtype

        def predict(inputs: Tensor, time: Tensor) -> tuple[Tensor, Tensor]:
            network = partial(self._predict, timestep=time, guidance_scale=scale)
            prediction, variances = in_chunks(network, max_batch_size, inputs.to(dtype), labels)
            if guide is not None:
                prediction = in_chunks(partial(guide, time=time), max_batch_size, prediction, inputs, guided_to)
            # in float32, so that what a scheduler draws does not depend on the network's precision
            return prediction.float(), variances.float()

        sample = noise.reshape(batch_size, *self.network_shape) * self.noise_scale
        sample = self._take_steps(sample, noise.shape, predict, options, callback, tensor_inputs)
        if not sample.isfinite().all():
            name = type(self.scheduler).__name__
            raise UserError(f"{steps} steps of {name} give numbers that are not finite; {self.advice_if_not_finite()}")
        return sample.reshape(noise.shape)

    def _take_steps(
        self,
        sample: Tensor,
        shape: torch.Size,
        predict: Predict,
        options: dict[str, Any],
        callback: StepCallback | None,
        tensor_inputs: Sequence[str],
    ) -> Tensor:
        """All steps of the scheduler, with a look by the callback, for which tensors have `shape`, after each."""
        names = self.start_steps(callback, tensor_inputs)
        if isinstance(callback, Intermediates):
            callback.start(self, sample.reshape(shape))
        # The scheduler's stay on the CPU, where it reads them; the network's are moved once, not in every step.
        times = self.network_times().to(sample.device)
        for step, timestep in enumerate(self.progress_bar(self.scheduler.timesteps)):
            sample, denoised = self.take_step(sample, step, times[step], predict, options)
            if callback is not None:
                tensors = {"latents": sample.reshape(shape)}
                if "denoised" in names:
                    tensors["denoised"] = denoised().reshape(shape)
                changed = self.end_step(callback, names, step, timestep, tensors)
                sample = changed["latents"].reshape(sample.shape)
            if self.interrupt:
                break
        return sample

    def _finish_diffused(
        self, diffused: Tensor, output_type: str | None, return_dict: bool, max_batch_size: int | None
    ) -> GenerativePipelineOutput | tuple[Any]:
        """(batch, *latent_shape) -> the output object."""

        def make(rows: Tensor) -> Any:
            return self.finish(self.from_diffused(rows), output_type, return_dict)

        made: GenerativePipelineOutput | tuple[Any] = in_chunks(make, max_batch_size, diffused)
        return made
