"""`--fast`: which of three ways to compute a step is the quickest on this processor, found by timing each."""

from __future__ import annotations

import copy
import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn

from hf_genmodels.blocks.recomputation import recomputed
from hf_genmodels.objectives.base import Batch, Noise, Objective

from .arguments import TrainingArguments
from .networks import can_recompute

MOST_RUNS, MOST_SECONDS = 5, 2.0  # of timed steps, for each way
WORTH_IT = 0.95  # of the time of float32 as it is; what gains less is not worth other bits


@dataclass(frozen=True)
class Way:
    """How a step is computed.

    Attributes:
        channels_last: Images lie in memory pixel by pixel, the channels of one beside each other.
        bf16: Matrix products and convolutions take operands rounded to bf16; weights stay float32, and phases that
            differentiate a gradient are left out.
    """

    channels_last: bool = False
    bf16: bool = False


AS_IS = "as it is"
WAYS = {AS_IS: Way(), "channels-last": Way(True), "channels-last with bf16": Way(True, True)}


def has_bf16() -> bool:
    """Whether the processor has instructions for bf16."""
    has = torch.cpu.get_capabilities()
    return any(has.get(name, False) for name in ("avx512_bf16", "amx_bf16", "bf16"))


def time_ways(objective: Objective, batches: Sequence[Batch], args: TrainingArguments, step: int) -> dict[str, float]:
    """Seconds that the losses and gradients of a step take in each way that the processor knows.

    Nothing of the run changes: networks and state are copies, and so are random numbers. Optimisers, which do not
    depend on the way, are left out.

    Args:
        objective: With the weights that training begins with.
        batches: The micro-batches of an update.
        args: Whether activations are stored.
        step: The one to time.
    """
    with torch.random.fork_rng(devices=[]):
        ways = {name: way for name, way in WAYS.items() if has_bf16() or not way.bf16}
        return {name: _time(objective, batches, args, step, way) for name, way in ways.items()}


def choose(seconds: dict[str, float]) -> str:
    """The quickest way, if it is quicker than float32 as it is by more than chance."""
    best = min(seconds, key=seconds.__getitem__)
    return best if seconds[best] < WORTH_IT * seconds[AS_IS] else AS_IS


def chosen_line(seconds: dict[str, float], chosen: str) -> str:
    """What was measured, and what follows from it."""
    measured = ", ".join(f"{value:.3g} s {name}" for name, value in seconds.items())
    return f"--fast: losses and gradients of a step take {measured}; training goes on {chosen}"


def lay_out(value: Any, channels_last: bool) -> Any:
    """A tensor or network in the layout of memory that is asked for; only images have one."""
    if channels_last and (not isinstance(value, torch.Tensor) or value.ndim == 4):
        return value.to(memory_format=torch.channels_last)
    return value


def lay_out_moments(optimizer: torch.optim.Optimizer) -> None:
    """Bring an optimiser's state into the layout of its parameters: fused ones go by the order in memory."""
    for parameter, state in optimizer.state.items():
        for name, value in state.items():
            if value.shape == parameter.shape:
                state[name] = torch.empty_like(parameter).copy_(value)


def _time(objective: Objective, batches: Sequence[Batch], args: TrainingArguments, step: int, way: Way) -> float:
    trial = copy.deepcopy(objective)
    for network in trial.networks.values():
        lay_out(network, way.channels_last)
    for network in can_recompute(trial) if args.gradient_checkpointing else ():
        network.enable_gradient_checkpointing(recomputed)
    parameters = {name: [p for p in net.parameters() if p.requires_grad] for name, net in trial.networks.items()}
    laid_out = [{name: lay_out(value, way.channels_last) for name, value in batch.items()} for batch in batches]
    trial.before_step(step)
    _time_phases(trial, parameters, laid_out, way)  # kernels are chosen in the first passes
    times: list[float] = []
    while len(times) < MOST_RUNS and sum(times) < MOST_SECONDS:
        times.append(_time_phases(trial, parameters, laid_out, way))
    return min(times)


def _time_phases(
    trial: Objective, parameters: dict[str, list[nn.Parameter]], batches: Sequence[Batch], way: Way
) -> float:
    """Seconds of losses and gradients of all phases, of a lazy phase those of an average step."""
    caches: list[dict[str, Any]] = [{} for _ in batches]
    seconds = 0.0
    for phase in trial.phases:
        for name, mine in parameters.items():
            for parameter in mine:
                parameter.requires_grad_(name in phase.trains)
        rounds = way.bf16 and not phase.double_backward
        started = time.perf_counter()
        for _ in range(phase.updates):
            for batch, cache in zip(batches, caches, strict=True):
                with torch.autocast("cpu", torch.bfloat16, enabled=rounds):
                    loss = trial.losses(phase, trial.networks, batch, Noise(0), cache)["loss"]
                loss.backward()
        seconds += (time.perf_counter() - started) / phase.every
        for parameter in (each for name in phase.trains for each in parameters[name]):
            parameter.grad = None
    return seconds
