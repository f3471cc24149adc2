"""An objective's networks as the loop trains them: placed, wrapped for several processes, compiled."""

from __future__ import annotations

from collections.abc import Collection, Iterator
from contextlib import ExitStack, contextmanager
from typing import Any

import torch
from accelerate import Accelerator
from accelerate.utils import DistributedDataParallelKwargs
from diffusers import ModelMixin
from torch import nn

from hf_genmodels.blocks.adversarial import power_iterates
from hf_genmodels.blocks.recomputation import recomputed
from hf_genmodels.objectives.base import Objective, Phase

from .arguments import TrainingArguments


def place(objective: Objective, args: TrainingArguments, accelerator: Accelerator) -> None:
    """Bring the networks to the device, in the mode and the layout of memory that they are trained in."""
    for name, network in objective.networks.items():
        network.to(accelerator.device).train(name not in objective.frozen)
        if args.sync_bn:
            nn.SyncBatchNorm.convert_sync_batchnorm(network)
        if accelerator.mixed_precision != "no":
            network.to(memory_format=torch.channels_last)


def can_recompute(objective: Objective) -> list[ModelMixin]:
    """The networks that can compute their activations anew instead of storing them."""
    return [
        network
        for network in objective.networks.values()
        if network._supports_gradient_checkpointing
        and any(hasattr(module, "gradient_checkpointing") for module in network.modules())
    ]


def compile_options(args: TrainingArguments, device: torch.device) -> dict[str, Any]:
    """What `torch.compile` is told: the mode, and on a CPU to leave the layout of memory alone.

    With the channels-last layouts that torch 2.13's compiler chooses on a CPU, the gradient of a residual block before
    a nearest upsampling (as in diffusers' UNet2DModel) is 0, in silence.
    """
    if device.type != "cpu":
        return {"mode": args.compile_mode}
    return {"options": {**torch._inductor.list_mode_options(args.compile_mode), "layout_optimization": False}}


class PhaseNetworks:
    """The networks as each phase sees them, and whose gradients are on.

    Args:
        objective: Its networks are placed, and have the weights that the run begins with.
        args: Whether to compile.
        accelerator: Of the run.

    Attributes:
        parameters: Network -> its parameters that can take gradients.
        wrapped: Those that a phase trains, wrapped for several processes.
        views: Phase -> what `Objective.losses` gets. Compiled ones have a graph where they are trained and one where
            they are frozen, since gradients on and off are two graphs for torch.
        power_iterates: Of spectral norms, see `blocks.adversarial.power_iterates`.
    """

    def __init__(self, objective: Objective, args: TrainingArguments, accelerator: Accelerator) -> None:
        self.objective, self.accelerator = objective, accelerator
        networks, phases = objective.networks, objective.phases
        self.parameters = {
            name: [p for p in network.parameters() if p.requires_grad] for name, network in networks.items()
        }
        self._trainable = set(networks)
        self.recomputing = can_recompute(objective) if args.gradient_checkpointing else []
        for network in self.recomputing:
            network.enable_gradient_checkpointing(recomputed)
        self.power_iterates = [each for network in networks.values() for each in power_iterates(network)]
        trained = dict.fromkeys(name for phase in phases for name in phase.trains)
        self.wrapped = {name: self._wrap(name) for name in trained}
        ways = [dict[str, Any](networks), dict[str, Any](self.wrapped)]
        compiled = ways
        if args.compile:
            options = compile_options(args, accelerator.device)
            compiled = [{name: torch.compile(network, **options) for name, network in way.items()} for way in ways]
        self.views: dict[str, dict[str, Any]] = {}
        for phase in phases:
            if args.compile and phase.double_backward:
                accelerator.print(f"phase {phase.name} differentiates a gradient: it is not compiled")
            frozen, used = ways if phase.double_backward else compiled
            self.views[phase.name] = {**frozen, **{name: used[name] for name in phase.trains}}

    def _wrap(self, name: str) -> nn.Module:
        handler = self.accelerator.ddp_handler
        self.accelerator.ddp_handler = DistributedDataParallelKwargs(
            gradient_as_bucket_view=True,  # the buckets of the exchange are the gradients, and no copy of them
            find_unused_parameters=name in self.objective.partly_used,
        )
        wrapped: nn.Module = self.accelerator.prepare(self.objective.networks[name])
        self.accelerator.ddp_handler = handler
        # Accelerate has put autocast into `forward`; ours is around the losses, where a phase can do without.
        self.accelerator.unwrap_model(wrapped, keep_fp32_wrapper=False)
        return wrapped

    def set_trainable(self, names: Collection[str] | None = None) -> None:
        """Turn the gradients of these networks on, by default of all, and those of the others off."""
        wanted = set(self.parameters if names is None else names)
        for name in self._trainable ^ wanted:
            for parameter in self.parameters[name]:
                parameter.requires_grad_(name in wanted)
        self._trainable = wanted

    def release(self) -> None:
        """Leave the objective's networks as whoever goes on with them expects."""
        self.set_trainable()
        for network in self.recomputing:
            network.disable_gradient_checkpointing()

    @contextmanager
    def unsynchronised(self, phase: Phase) -> Iterator[None]:
        """A micro-batch whose gradients the processes do not exchange yet."""
        with ExitStack() as stack:
            for name in phase.trains:
                stack.enter_context(self.accelerator.no_sync(self.wrapped[name]))
            yield
