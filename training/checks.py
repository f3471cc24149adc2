"""What the loop refuses before anything is written, and how long a run is."""

from __future__ import annotations

import math
import os
from dataclasses import fields

from accelerate import Accelerator
from accelerate.utils import str_to_bool

from hf_genmodels.data import DataArguments
from hf_genmodels.errors import UserError
from hf_genmodels.objectives.base import Objective

from .arguments import TrainingArguments
from .networks import can_recompute

# The options of the loop that have a meaning without training steps, and those of the data that have none.
FIT_OPTIONS = (
    *("output_dir", "overwrite_output_dir", "seed", "num_threads", "train_batch_size", "eval_batch_size"),
    *("logging_dir", "report_to", "tracker_project_name"),
    *("push_to_hub", "hub_model_id", "hub_private_repo", "hub_token"),
)
NOT_OF_A_FIT = ("streaming", "shuffle_buffer_size", "random_flip", "dataloader_num_workers")


def check_fit_options(family_name: str, data_args: DataArguments, args: TrainingArguments) -> None:
    """Refuse the options that have no meaning for a family that is fitted to all data at once.

    Raises:
        UserError: One line that names the option.
    """
    given = [
        *((args, option) for option in fields(args) if option.name not in FIT_OPTIONS),
        *((data_args, option) for option in fields(data_args) if option.name in NOT_OF_A_FIT),
    ]
    for group, option in given:
        # what the saved options of an earlier fit say of it
        is_saved = (option.name, getattr(group, option.name)) in (
            ("mixed_precision", "no"),
            ("dataloader_num_workers", 0),
        )
        if getattr(group, option.name) != option.default and not is_saved:
            raise UserError(
                f"--{option.name} has no meaning for {family_name}, which is fitted to all data at once; leave it out"
            )


# What `accelerate config` or the options of `accelerate launch` ask for and the loop does not do, by the variable that
# tells the processes so.
UNSUPPORTED = {
    "ACCELERATE_USE_DEEPSPEED": "DeepSpeed",
    "ACCELERATE_USE_FSDP": "FSDP",
    "ACCELERATE_USE_MEGATRON_LM": "Megatron-LM",
    "ACCELERATE_USE_PARALLELISM_CONFIG": "a parallelism_config",
}


def check_launch(args: TrainingArguments) -> None:
    """Refuse what Accelerate was told to do and the loop does not do, before Accelerate begins with it.

    Raises:
        UserError: One line that names the setting and what to use instead.
    """
    for variable, what in UNSUPPORTED.items():
        if str_to_bool(os.environ.get(variable, "false")):
            raise UserError(
                f"{what} is not supported: every network is whole on every GPU; choose plain multi-GPU training in "
                "`accelerate config`, or give the launcher --multi_gpu and no such option"
            )
    if args.mixed_precision is None and os.environ.get("ACCELERATE_MIXED_PRECISION") == "fp8":
        raise UserError("mixed precision fp8 is not supported; give --mixed_precision bf16, fp16 or no")
    if (backend := os.environ.get("ACCELERATE_DYNAMO_BACKEND", "no").lower()) != "no":
        raise UserError(
            f"dynamo_backend {backend} is not supported: it would compile what cannot be compiled; set it to no in "
            "`accelerate config` or the launcher's options, and give --compile, which leaves those phases out"
        )


def check_machine(objective: Objective, args: TrainingArguments, accelerator: Accelerator) -> None:
    """Refuse precision and device options that cannot work here."""
    if accelerator.mixed_precision == "fp16" and any(phase.double_backward for phase in objective.phases):
        raise UserError("--mixed_precision fp16 cannot train a loss that differentiates a gradient; use bf16 or no")
    if accelerator.mixed_precision == "fp16" and accelerator.device.type == "cpu":
        raise UserError("--mixed_precision fp16 needs a GPU; use bf16 or no on a CPU")
    if args.sync_bn and not (accelerator.device.type == "cuda" and accelerator.num_processes > 1):
        raise UserError("--sync_bn needs several GPUs")
    if args.fast and accelerator.device.type != "cpu":
        raise UserError("--fast chooses how a CPU computes; on a GPU give --mixed_precision bf16 instead")
    if args.fast and accelerator.mixed_precision != "no":
        raise UserError(f"--fast chooses the precision; leave it or --mixed_precision {args.mixed_precision} out")
    if args.fast and args.compile:
        raise UserError("--fast times networks that are not compiled; leave it or --compile out")
    if args.gradient_checkpointing and not can_recompute(objective):
        raise UserError(
            f"--gradient_checkpointing: none of these networks can ({', '.join(objective.networks)}); leave it out"
        )
    if args.zero_redundancy_optimizer and accelerator.num_processes == 1:
        raise UserError(
            "--zero_redundancy_optimizer shares states between processes, and there is only one; leave it out, or "
            "start several with `accelerate launch --num_processes`"
        )


def check_batch_size(objective: Objective, args: TrainingArguments) -> None:
    """Refuse micro-batches that the objective cannot divide."""
    multiple = objective.batch_multiple
    if args.train_batch_size % multiple:
        raise UserError(
            f"--train_batch_size {args.train_batch_size} must be a multiple of {multiple}: "
            "this model takes its examples in packs of that many"
        )


def count_steps(objective: Objective, args: TrainingArguments, batches_per_epoch: int | None) -> int:
    """Steps of the run: `--max_train_steps`, or as many as `--num_train_epochs` passes over the data hold."""
    if args.max_train_steps is not None:
        return args.max_train_steps
    if batches_per_epoch is None:
        raise UserError("a streamed data set has no known length; give --max_train_steps")
    needed = args.num_train_epochs * batches_per_epoch
    last = max(math.inf if phase.stops is None else phase.stops for phase in objective.phases)
    step = consumed = 0
    while consumed < needed:
        if step >= last:
            raise UserError(
                f"the phases end at step {step}, before {args.num_train_epochs} epochs; give --max_train_steps"
            )
        consumed += fresh_batches(objective, step) * args.gradient_accumulation_steps
        step += 1
    return step


def fresh_batches(objective: Objective, step: int) -> int:
    """Batches that a step takes: one an update, but of a phase that sees those of the one before it none."""
    taken = 0
    for phase in objective.phases:
        updates = phase.updates_in(step)
        taken += updates if not phase.reuse_batch else min(updates, 1) if taken == 0 else 0
    return taken


def check_objective(objective: Objective) -> None:
    """Refuse phases and names that cannot be meant.

    Raises:
        UserError: One line that says which.
    """
    phases, networks, name = objective.phases, objective.networks, type(objective).__name__
    if not phases:
        raise UserError(f"{name} has no phases: there is nothing to train")
    if len({phase.name for phase in phases}) < len(phases):
        raise UserError(f"{name}: two phases have one name; rename one of them")
    for phase in phases:
        if phase.updates < 1 or phase.every < 1 or not phase.trains:
            raise UserError(
                f"{name}: phase {phase.name} needs updates and every of at least 1, and a network to train"
            )
    trained = {each for phase in phases for each in phase.trains}
    for what, names in (("phases", trained), ("ema", objective.ema), ("frozen", objective.frozen)):
        unknown = sorted(set(names) - networks.keys())
        if unknown:
            raise UserError(f"{name}: {what} names a network {unknown[0]}, and there are {', '.join(networks)}")
    if both := sorted(trained & set(objective.frozen)):
        raise UserError(f"{name}: {both[0]} is frozen, and a phase trains it; choose one")


def schedule_warnings(objective: Objective, total_steps: int) -> list[str]:
    """Say where a run is over before a warm-up or annealing of its losses is."""
    return [
        f"the losses change until step {steps}, and the run has only {total_steps} steps; "
        f"lower --{option}, or train for longer"
        for option, steps in objective.schedule
        if total_steps <= steps
    ]
