"""What pipelines share that come to their samples step by step: a look at each step, and an early end."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, ClassVar

from diffusers.callbacks import MultiPipelineCallbacks, PipelineCallback
from torch import Tensor

from hf_genmodels.errors import UserError

from .base import GenerativePipeline
from .latents import as_latents

# (pipeline, step, time step, tensors by name) -> the tensors, changed or not; None leaves them as they are
StepCallback = Callable[[Any, int, Any, dict[str, Tensor]], Mapping[str, Any] | None]


class IterativePipeline(GenerativePipeline):
    """Base of the pipelines whose call, or another method, takes `callback_on_step_end`.

    As in diffusers: after each step `callback_on_step_end(pipe, step, timestep, tensors)` gets a dict of those tensors
    that `callback_on_step_end_tensor_inputs` names, of `_callback_tensor_inputs`. It returns the dict; what it puts
    there as "latents" takes the place of the step's. Once it has set `pipe._interrupt = True`, no further step is
    taken, and what is there by then is returned. diffusers' `PipelineCallback` objects will do, too.
    """

    _callback_tensor_inputs: ClassVar[list[str]] = ["latents"]
    _interrupt: bool = False

    @property
    def interrupt(self) -> bool:
        """Whether the steps are to end with the one that is being taken."""
        return self._interrupt

    def start_steps(self, callback: StepCallback | None, tensor_inputs: Sequence[str]) -> list[str]:
        """The tensors that the callback is to get, before the first step.

        Raises:
            UserError: There is no such tensor.
        """
        self._interrupt = False
        if isinstance(callback, (PipelineCallback, MultiPipelineCallbacks)):
            tensor_inputs = callback.tensor_inputs
        for name in tensor_inputs:
            if name not in self._callback_tensor_inputs:
                raise UserError(
                    f"callback_on_step_end_tensor_inputs: a {type(self).__name__} has no {name!r}; choose from "
                    f"{', '.join(self._callback_tensor_inputs)}"
                )
        return list(tensor_inputs)

    def end_step(
        self, callback: StepCallback, names: list[str], step: int, timestep: Any, tensors: dict[str, Tensor]
    ) -> dict[str, Tensor]:
        """The step's tensors, as the callback returns them.

        Raises:
            UserError: It returns no dict, or "latents" of another shape.
        """
        changed = callback(self, step, timestep, {name: tensors[name] for name in names})
        if changed is None:
            return tensors
        if not isinstance(changed, Mapping):
            raise UserError(f"callback_on_step_end must return its dict of tensors, got {type(changed).__name__}")
        if changed.get("latents", tensors["latents"]) is tensors["latents"]:
            return tensors
        latents = as_latents("callback_on_step_end", changed["latents"])
        if latents.shape != tensors["latents"].shape:
            raise UserError(
                f"callback_on_step_end: latents must be {tuple(tensors['latents'].shape)}, got {tuple(latents.shape)}"
            )
        return {**tensors, "latents": latents.to(tensors["latents"])}
