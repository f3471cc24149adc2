"""From an objective or a command line to a finished output folder: `train`, and what each `train_<family>.py` runs."""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Callable
from contextlib import ExitStack, nullcontext
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from accelerate import Accelerator
from accelerate.tracking import get_available_trackers
from accelerate.utils import GradientAccumulationPlugin, LoggerType, ProjectConfiguration

from hf_genmodels.data import DataArguments, LoadedData, load_data
from hf_genmodels.data.workers import cores_of_this_process
from hf_genmodels.errors import UserError
from hf_genmodels.families import FAMILIES, Family, get_family
from hf_genmodels.folders import resolve_folder
from hf_genmodels.objectives.base import Objective
from hf_genmodels.objectives.closed_form import ClosedFormObjective
from hf_genmodels.processes import let_collectives_end

from . import checkpointing
from .arguments import TrainingArguments, check_arguments, check_finite, command_line, defaults_of, parse
from .checks import check_fit_options, check_launch
from .closed_form import ClosedFormFit
from .loop import TrainingLoop
from .output_folder import check_output_dir, check_unoccupied, check_ways, clear, occupied
from .outputs import networks_named, push, save_arguments, save_results
from .resuming import check_same_run, checkpoint_to_resume, sees_first
from .run import Run
from .state import plain_values
from .stopping import Stopped
from .together import main_first, missing_no_other, share_of, together, writes_alone

if TYPE_CHECKING:
    from hf_genmodels.pipelines.base import GenerativePipeline


@missing_no_other()
def train(objective: Objective, data: LoadedData, args: TrainingArguments) -> GenerativePipeline | None:
    """Train an objective, in a notebook or a program of your own, exactly as the scripts do.

    Output folder, checkpoints, resumption, logs, pictures and card are those of `training/train_<family>.py`. In
    several processes, such as those of `accelerate.notebook_launcher`, call it in each.

    Args:
        objective: Networks and losses, ours or your own.
        data: From `load_data`.
        args: Options of the loop; those that shape networks are the objective's.

    Returns:
        The pipeline around the trained networks, averaged where there are averages; None for a family without one.

    Raises:
        UserError: Anything you can put right, before anything is written.
        KeyboardInterrupt: Ctrl-C (the notebook's stop button): the step has been finished, and a checkpoint saved,
            unless `checkpoint_on_stop` is off. After SIGTERM, too, which then ends a program as it would have before.
    """
    args.output_dir = os.fspath(args.output_dir)
    check_finite(args)
    check_arguments(args)
    if args.pretrained_model_name_or_path is not None:
        raise UserError(
            "pretrained_model_name_or_path is for the scripts; load the networks by their from_pretrained, and give "
            "them to the objective"
        )
    family = family_of(objective)
    accelerator = make_ready(family.name, isinstance(objective, ClosedFormObjective), data.arguments, args)
    torch.manual_seed(args.seed)
    of_data = {**vars(data.arguments), "validation_split": data.validation_split}
    run = make_run(objective, data, args, accelerator, of_data)
    stopped = None
    try:
        carry_out(run, family, {**plain_values(objective), **of_data, **vars(args)}, None, {})
    except Stopped as error:
        stopped = error
    for tracker in accelerator.trackers:  # `end_training` would end the processes' group, too, and the next `train`
        tracker.finish()
    if stopped is not None:
        signal.raise_signal(stopped.signal)  # to whoever handles it in this program
        raise stopped
    pipeline = objective.pipeline(run.inference_networks())
    if pipeline is not None:
        pipeline.to(accelerator.device)
    for network in run.inference_networks().values():
        network.eval()
    return pipeline


@missing_no_other()
def train_family(family_name: str, argv: list[str] | None = None) -> Path:
    """Train a family with the options of `argv` (by default the command line's).

    Returns:
        The output folder.

    Raises:
        UserError: Anything the user can put right. Options, data and networks are checked before anything is written.
    """
    family = get_family(family_name)
    argv = sys.argv[1:] if argv is None else argv
    data_args, args, family_args = parse(argv, family.arguments, f"Train: {family.title}.", family.name)
    accelerator = make_ready(family.name, family.is_fitted, data_args, args)
    layout, source = family.layout(family_args), None
    if args.pretrained_model_name_or_path is not None:
        source = saved_networks(accelerator, args.pretrained_model_name_or_path)
        layout = family.saved_layout(source, layout)
    data = load_data(data_args, args.seed, layout, share_of(accelerator))
    data_args.validation_split = data.validation_split  # the card says which split was held out
    torch.manual_seed(args.seed)
    if source is None:
        objective = family.build(family_args, data.spec)
    else:
        objective = family.reload(source, family_args, data.spec)
    groups = (data_args, args, family_args)
    run = make_run(objective, data, args, accelerator, {**vars(data_args), **vars(family_args)})
    options = {name: value for group in groups for name, value in vars(group).items()}
    command = command_line(family.name, groups, accelerator.num_processes)
    try:
        carry_out(run, family, options, command, defaults_of(*groups))
    except Stopped:
        accelerator.end_training()
        raise
    accelerator.end_training()
    return Path(args.output_dir)


def make_ready(family_name: str, is_fitted: bool, data_args: DataArguments, args: TrainingArguments) -> Accelerator:
    """Refuse what can be refused without data, and make the `Accelerator`.

    Raises:
        UserError: Options that a fit does not have, a folder in use, or see `make_accelerator`.
    """
    if is_fitted:
        check_fit_options(family_name, data_args, args)
        args.mixed_precision = "no"
    accelerator = make_accelerator(args)
    with together(accelerator):
        if accelerator.is_main_process:
            check_unoccupied(Path(args.output_dir))
        check_output_dir(args, resumable=not is_fitted)
    return accelerator


def make_run(
    objective: Objective, data: LoadedData, args: TrainingArguments, accelerator: Accelerator, options: dict[str, Any]
) -> Run:
    """The training loop, or the fit of a family that has no steps; its networks make a whole pipeline."""
    run: Run
    if isinstance(objective, ClosedFormObjective):
        run = ClosedFormFit(objective, data, args, accelerator)
    else:
        run = TrainingLoop(objective, data, args, accelerator, options)
    check_networks(objective, data)
    return run


def check_networks(objective: Objective, data: LoadedData) -> None:
    """Find networks that cannot play their part, or not with these data, before hours of training.

    Raises:
        UserError: One line that says what does not fit.
    """
    if objective.data.shape != data.spec.shape:
        raise UserError(
            f"the objective was built for samples of shape {objective.data.shape}, {data.spec.name} has "
            f"{data.spec.shape}; give it the `spec` of the data it is trained on"
        )
    pipeline = objective.pipeline(objective.networks)
    made = data.spec.other or data.spec
    if pipeline is not None and pipeline.sample_shape != made.shape:
        raise UserError(
            f"the networks of {type(pipeline).__name__} make samples of shape {tuple(pipeline.sample_shape)}, "
            f"{made.name} has {made.shape}"
        )


def carry_out(
    run: Run, family: Family, options: dict[str, Any], command: str | None, defaults: dict[str, Any]
) -> None:
    """Run from the beginning or from a checkpoint, save, publish.

    Args:
        run: Ready to begin; nothing has been written by then.
        family: Whose card is written.
        options: All of them by name, for the record.
        command: The command line that repeats the run.
        defaults: Defaults of the options, for checkpoints that do not tell all.
    """
    args, accelerator = run.args, run.accelerator
    resume_from = None
    if isinstance(run, TrainingLoop):
        check_same_run(run)
        if args.resume_from_checkpoint is not None:
            resume_from = checkpoint_to_resume(run, args.resume_from_checkpoint, defaults)
    accelerator.print(first_line(family, run))
    for note in run.objective.notes:
        accelerator.print(note)
    run.prepare(resume_from)
    if isinstance(run, TrainingLoop) and run.best is not None:
        accelerator.print(run.best.described())
    with ExitStack() as stack:
        with together(accelerator):
            if accelerator.is_main_process:
                stack.enter_context(occupied(run.output_dir))
        run.writes = writes_alone(accelerator, run.output_dir)
        with together(accelerator):
            if run.writes:
                if not accelerator.is_main_process:
                    stack.enter_context(occupied(run.output_dir))
                check_output_dir(args, resumable=isinstance(run, TrainingLoop))  # another run may have come and gone
                check_ways(run.output_dir, parts_of(run), args.overwrite_output_dir, options)
        with together(accelerator):
            if run.writes:
                begin_output_dir(run, is_resumed=resume_from is not None)
                save_arguments(run.output_dir, family, command, options)
        follow(run, family, options)


def parts_of(run: Run) -> list[str]:
    """The folders that the run's pipeline is saved in."""
    pipeline = run.objective.pipeline(run.networks)
    return [] if pipeline is None else [name for name, part in pipeline.components.items() if part is not None]


def begin_output_dir(run: Run, is_resumed: bool) -> None:
    """Remove from the folder what is not to stay there."""
    if run.args.overwrite_output_dir:
        clear(run.output_dir)
    for name in (checkpointing.FROZEN, checkpointing.BEST):
        left = run.output_dir / name
        if not is_resumed and left.is_dir():  # by a run that was stopped before its first checkpoint
            checkpointing.remove(left)


def follow(run: Run, family: Family, options: dict[str, Any]) -> None:
    """Run to the end, save and publish, in a folder that is ready."""
    args, accelerator = run.args, run.accelerator
    accelerator.init_trackers(args.tracker_project_name, config=tracked_options(options))
    try:
        with run.stop_signals if isinstance(run, TrainingLoop) else nullcontext():
            results = run.complete()
            with together(accelerator):
                if accelerator.is_main_process:
                    finish(run, family, results)
        if run.stop_signals.received is not None:  # too late to stop anything
            raise Stopped(run.stop_signals.received)
    finally:
        if accelerator.num_processes > 1:
            let_collectives_end()


def family_of(objective: Objective) -> Family:
    """The family that an objective belongs to by its class; one of its own where there is none."""
    for kind in type(objective).__mro__:
        package, _, stem = kind.__module__.rpartition(".")
        if package == "hf_genmodels.objectives" and stem in FAMILIES:
            return get_family(stem)
    pipeline_class = objective.pipeline_class
    return Family.unknown(type(objective).__name__, None if pipeline_class is None else pipeline_class.__name__)


def finish(run: Run, family: Family, results: dict[str, dict[str, float]]) -> None:
    """Save, say what came out, publish if asked to and not told to stop (the main process)."""
    save_results(run, family, results)
    figures = {**{f"train {k}": v for k, v in results["train"].items()}, **results["validation"]}
    print(f"{run.output_dir}: {', '.join(f'{name} {value:.4g}' for name, value in figures.items())}")
    if run.args.push_to_hub and run.stop_signals.received is not None:
        print(f"stopped by {run.stop_signals.received.name} before it was published")
    elif run.args.push_to_hub:
        print(f"published at {push(run)}")


def saved_networks(accelerator: Accelerator, name_or_path: str) -> Path:
    """The folder of `--pretrained_model_name_or_path`: a model's, or that of the networks in a checkpoint."""
    folder = main_first(accelerator, lambda: resolve_folder(name_or_path, with_training_networks=True))
    manifest = folder / checkpointing.MANIFEST
    hashed = sees_first(accelerator, manifest)
    with together(accelerator):
        return checkpointing.network_folder(folder, hashed) if manifest.is_file() else folder


def make_accelerator(args: TrainingArguments) -> Accelerator:
    """Set the threads of this process and make the `Accelerator`.

    Raises:
        UserError: A tracker that is unknown or not installed, a precision that this machine cannot do, something that
            the launcher was told to do and the loop does not do, or processes that do not find each other.
    """
    check_launch(args)
    tracker = args.report_to
    if tracker not in ("none", *LoggerType.list()):
        raise UserError(f"--report_to {tracker} is no tracker; choose from none, {', '.join(LoggerType.list())}")
    if tracker not in ("none", "all") and LoggerType(tracker) not in get_available_trackers():
        raise UserError(f"--report_to {tracker}: its package is not installed: pip install {tracker}")
    # `accelerate launch` sets OMP_NUM_THREADS=1 when it is unset, which would leave a laptop's other cores idle.
    torch.set_num_threads(args.num_threads or cores_of_this_process())
    if args.allow_tf32:
        torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = True
    logging_dir = Path(args.output_dir) / args.logging_dir
    try:
        accelerator = Accelerator(
            mixed_precision=args.mixed_precision,
            log_with=None if tracker == "none" else tracker,
            project_config=ProjectConfiguration(project_dir=args.output_dir, logging_dir=str(logging_dir)),
            # The loop accumulates; what a variable of the launcher says would divide its losses once more.
            gradient_accumulation_plugin=GradientAccumulationPlugin(num_steps=1),
        )
    except ValueError as error:
        raise UserError(f"--mixed_precision {args.mixed_precision}: {error}") from None
    launched = int(os.environ.get("WORLD_SIZE", "1"))
    if launched > accelerator.num_processes:
        raise UserError(
            f"{launched} processes were launched, and none would know of the others: there are no GPUs for them; set "
            "ACCELERATE_USE_CPU=true to train in several processes on CPUs"
        )
    args.mixed_precision = accelerator.mixed_precision  # what `accelerate config` said is part of what was run
    return accelerator


def tracked_options(options: dict[str, Any]) -> dict[str, str | int | float | bool]:
    """The options as trackers take them: plain values, without the access token."""
    plain = {name: value for name, value in options.items() if name != "hub_token"}
    return {n: v if isinstance(v, (str, int, float, bool)) else str(v) for n, v in plain.items()}


def first_line(family: Family, run: Run) -> str:
    """What is about to run, on what."""
    accelerator = run.accelerator
    examples = run.data.spec.num_examples
    how_long = f"{run.total_steps} steps" if run.objective.phases else "fitted to all at once"
    return (
        f"{family.name} ({networks_named(run.networks)}) on {run.data.spec.name}: "
        f"{'streamed' if examples is None else examples} examples, {how_long}; "
        f"{accelerator.num_processes} process(es) x {torch.get_num_threads()} thread(s), "
        f"{accelerator.device.type}, {accelerator.mixed_precision} mixed precision"
    )


def script(main: Callable[[], object]) -> None:
    """Run a script's `main`; a user's mistake becomes one line on stderr and status 1, a signal 128 + its number."""
    try:
        main()
    except UserError as error:
        sys.exit(f"error: {error}")
    except Stopped as stop:
        sys.exit(128 + stop.signal)
    except KeyboardInterrupt:
        sys.exit(128 + signal.SIGINT)


def main() -> None:
    """Train the family that the command line names first; see `__main__.py`."""
    train_family(sys.argv[1], sys.argv[2:])
