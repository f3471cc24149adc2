"""Learning rates as plain functions of the step."""

from __future__ import annotations

from collections.abc import Callable

import torch
from diffusers.optimization import get_scheduler

from hf_genmodels.errors import UserError

from .arguments import TrainingArguments


def learning_rate_factor(args: TrainingArguments, total_steps: int) -> Callable[[int], float]:
    """What the learning rate is multiplied by at step 0, 1, ..., total_steps - 1.

    "constant_then_linear": 1 until `lr_decay_start_step`, by default half of the steps, then linearly to 0 at
    `total_steps` (CycleGAN).
    "exponential": `lr_final_ratio` to the power step / total_steps (AVAE). Others: diffusers' schedules of that name.
    The warm-up is diffusers' everywhere: step / `lr_warmup_steps`, so nothing at step 0.

    Raises:
        UserError: The decay starts after the last step, or the ratio is no positive number.
    """
    warmup = args.lr_warmup_steps
    if args.lr_scheduler == "constant_then_linear":
        start = total_steps // 2 if args.lr_decay_start_step is None else args.lr_decay_start_step
        if not 0 <= start < total_steps:
            raise UserError(f"--lr_decay_start_step {start} must lie in [0, {total_steps}), the steps of this run")
        return lambda step: _warmup(step, warmup) * min(1.0, (total_steps - step) / (total_steps - start))
    if args.lr_scheduler == "exponential":
        if not args.lr_final_ratio > 0:
            raise UserError(f"--lr_final_ratio must be positive, got {args.lr_final_ratio}")
        return lambda step: _warmup(step, warmup) * args.lr_final_ratio ** (step / total_steps)
    # diffusers ties its schedules to an optimiser; only the function of the step is wanted.
    carrier = torch.optim.SGD([torch.zeros(1)], lr=1.0)
    scheduler = get_scheduler(args.lr_scheduler, carrier, num_warmup_steps=warmup, num_training_steps=total_steps)
    factor: Callable[[int], float] = scheduler.lr_lambdas[0]
    return factor


def _warmup(step: int, warmup_steps: int) -> float:
    return min(1.0, step / warmup_steps) if warmup_steps else 1.0
