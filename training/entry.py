"""From a command line to a finished output folder: what every `train_<family>.py` runs."""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Callable
from pathlib import Path

import torch
from accelerate import Accelerator
from accelerate.tracking import get_available_trackers
from accelerate.utils import LoggerType, ProjectConfiguration

from hf_genmodels.data import load_data
from hf_genmodels.errors import UserError
from hf_genmodels.families import Family, get_family
from hf_genmodels.hub import resolve_folder
from hf_genmodels.objectives.closed_form import ClosedFormObjective

from . import checkpointing
from .arguments import TrainingArguments, parse
from .checks import check_fit_options
from .closed_form import ClosedFormFit
from .loop import TrainingLoop
from .outputs import (
    check_output_dir,
    make_output_dir,
    networks_named,
    push,
    save_arguments,
    save_results,
)
from .state import identity


def train(family_name: str, argv: list[str] | None = None) -> Path:
    """Train a family with the options of `argv` (by default the command line's).

    Returns:
        The output folder.

    Raises:
        UserError: Anything the user can put right. Options, data and networks are checked before anything is written.
    """
    family = get_family(family_name)
    objective_class = family.load_objective()
    argv = sys.argv[1:] if argv is None else argv
    data_args, args, family_args = parse(argv, objective_class.Arguments, f"Train: {family.title}.", family.name)
    output_dir = Path(args.output_dir)
    trains = not issubclass(objective_class, ClosedFormObjective)
    if not trains:
        check_fit_options(family.name, data_args, args)
        args.mixed_precision = "no"
    check_output_dir(output_dir, bool(args.resume_from_checkpoint), args.overwrite_output_dir, resumable=trains)
    accelerator = make_accelerator(args)
    args.mixed_precision = accelerator.mixed_precision  # what `accelerate config` said is part of what was run
    torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = args.allow_tf32

    with accelerator.main_process_first():
        data = load_data(data_args, args.seed, objective_class.layout(family_args))
    data_args.validation_split = data.validation_split  # the card says which split was held out
    torch.manual_seed(args.seed)
    if args.pretrained_model_name_or_path is None:
        objective = objective_class.from_args(family_args, data.spec)
    else:
        with accelerator.main_process_first():
            source = saved_networks(args.pretrained_model_name_or_path)
        objective = objective_class.from_pretrained(source, family_args, data.spec)
    loop: TrainingLoop
    if isinstance(objective, ClosedFormObjective):
        loop = ClosedFormFit(objective, data, args, accelerator)
    else:
        options = {**vars(data_args), **vars(family_args)}
        loop = TrainingLoop(objective, data, args, accelerator, data_args.dataloader_num_workers, options)
    resume_from = None
    if args.resume_from_checkpoint is not None:
        resume_from = checkpoint_to_resume(loop, args.resume_from_checkpoint)
    if accelerator.is_main_process:
        make_output_dir(output_dir, args.overwrite_output_dir)
        with checkpointing.writing("the options", output_dir):
            save_arguments(output_dir, family, accelerator.num_processes, (data_args, args, family_args))
    accelerator.wait_for_everyone()
    accelerator.print(first_line(family, loop))
    accelerator.init_trackers(args.tracker_project_name, config=tracked_options(data_args, args, family_args))
    try:
        results = loop.run(resume_from)
        if accelerator.is_main_process:
            finish(loop, family, results)
        accelerator.wait_for_everyone()
    finally:
        let_collectives_end(accelerator)
    accelerator.end_training()
    return output_dir


def finish(loop: TrainingLoop, family: Family, results: dict[str, dict[str, float]]) -> None:
    """Save, say what came out, publish if asked to (the main process)."""
    save_results(loop, family, results)
    figures = {**{f"train {k}": v for k, v in results["train"].items()}, **results["validation"]}
    print(f"{loop.output_dir}: {', '.join(f'{name} {value:.4g}' for name, value in figures.items())}")
    if loop.args.push_to_hub:
        print(f"published at {push(loop)}")


def let_collectives_end(accelerator: Accelerator) -> None:
    """Let gloo's threads have the interpreter lock before this process destroys them.

    They need the lock to drop the tensors of a collective that has ended. A process that destroys its process group at
    that moment holds the lock while it joins them, and neither goes on (seen with torch 2.13).
    """
    if accelerator.num_processes > 1:
        time.sleep(0.3)


def saved_networks(name_or_path: str) -> Path:
    """The folder of `--pretrained_model_name_or_path`: a model's, or that of the networks in a checkpoint."""
    folder = resolve_folder(name_or_path, with_training_networks=True)
    return checkpointing.network_folder(folder) if (folder / checkpointing.MANIFEST).is_file() else folder


def checkpoint_to_resume(loop: TrainingLoop, name: str) -> Path | None:
    """The checkpoint that `name` stands for, found to be whole and of this run; None where there is none yet.

    Raises:
        UserError: It is damaged, of another run, or beyond the last step of this one.
    """
    checkpoint = checkpointing.find(loop.output_dir, name)
    if checkpoint is None:
        loop.accelerator.print(f"there is no checkpoint in {loop.output_dir} yet: starting from the beginning")
        return None
    step = checkpointing.verify(checkpoint, identity(loop))
    if step > loop.total_steps:
        raise UserError(
            f"{checkpoint} has been trained for {step} steps, this run has only {loop.total_steps}; "
            "give a larger --max_train_steps (or --num_train_epochs), or an earlier checkpoint"
        )
    return checkpoint


def make_accelerator(args: TrainingArguments) -> Accelerator:
    """Set the threads of this process and make the `Accelerator`.

    Raises:
        UserError: A tracker that is unknown or not installed, or a precision that this machine cannot do.
    """
    tracker = args.report_to
    if tracker not in ("none", *LoggerType.list()):
        raise UserError(f"--report_to {tracker} is no tracker; choose from none, {', '.join(LoggerType.list())}")
    if tracker not in ("none", "all") and LoggerType(tracker) not in get_available_trackers():
        raise UserError(f"--report_to {tracker}: its package is not installed: pip install {tracker}")
    local_processes = int(os.environ.get("LOCAL_WORLD_SIZE", "1"))
    # `accelerate launch` sets OMP_NUM_THREADS=1 when it is unset, which would leave a laptop's other cores idle.
    torch.set_num_threads(args.num_threads or max(1, available_cores() // local_processes))
    logging_dir = Path(args.output_dir) / args.logging_dir
    try:
        return Accelerator(
            mixed_precision=args.mixed_precision,
            log_with=None if tracker == "none" else tracker,
            project_config=ProjectConfiguration(project_dir=args.output_dir, logging_dir=str(logging_dir)),
        )
    except ValueError as error:
        raise UserError(f"--mixed_precision {args.mixed_precision}: {error}") from None


def tracked_options(*groups: object) -> dict[str, str | int | float | bool]:
    """The options as trackers take them: plain values, without the access token."""
    options = {name: value for group in groups for name, value in vars(group).items() if name != "hub_token"}
    return {n: v if isinstance(v, (str, int, float, bool)) else str(v) for n, v in options.items()}


def available_cores() -> int:
    """Cores this process may run on."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def first_line(family: Family, loop: TrainingLoop) -> str:
    """What is about to run, on what."""
    accelerator = loop.accelerator
    examples = loop.data.spec.num_examples
    how_long = f"{loop.total_steps} steps" if loop.objective.phases else "fitted to all at once"
    return (
        f"{family.name} ({networks_named(loop.objective.networks)}) on {loop.data.spec.name}: "
        f"{'streamed' if examples is None else examples} examples, {how_long}; "
        f"{accelerator.num_processes} process(es) x {torch.get_num_threads()} thread(s), "
        f"{accelerator.device.type}, {accelerator.mixed_precision} mixed precision"
    )


def script(main: Callable[[], object]) -> None:
    """Run a script's `main`; a user's mistake becomes one line on stderr and exit status 1."""
    try:
        main()
    except UserError as error:
        sys.exit(f"error: {error}")
    except KeyboardInterrupt:
        sys.exit(130)
