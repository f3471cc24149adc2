"""Options: one dataclass for the loop, read from the command line and from a YAML or JSON file."""

import math
import shlex
from collections.abc import Mapping
from dataclasses import MISSING, dataclass, field, fields
from pathlib import Path
from typing import Any, Literal, NoReturn, get_args, get_origin

from transformers import HfArgumentParser
from transformers.hf_argparser import string_to_bool

from hf_genmodels.checks import check_seed
from hf_genmodels.data import DataArguments
from hf_genmodels.errors import UserError
from hf_genmodels.families import OURS

from .config_file import NOT_REPEATED, options_of_file

# How far a run goes, where and how often it reports, and what leaves its weights as they are.
MAY_CHANGE_ON_RESUME = (
    *("max_train_steps", "num_train_epochs", "resume_from_checkpoint"),
    *("output_dir", "overwrite_output_dir", "cache_dir", "logging_dir", "report_to", "tracker_project_name"),
    *("log_steps", "sample_steps", "checkpointing_steps", "checkpoints_total_limit"),
    *("checkpoint_on_stop", "num_threads", "dataloader_num_workers", "eval_batch_size", "validation_split"),
    *("on_bad_image", "gradient_checkpointing", "ema_device"),
    *("push_to_hub", "hub_model_id", "hub_private_repo", "hub_token"),
)


@dataclass
class TrainingArguments:
    """Options of the loop, the same for every family; names and meanings are those of diffusers' example scripts."""

    output_dir: str = field(metadata={"help": "Where everything is written."})
    overwrite_output_dir: bool = field(
        default=False, metadata={"help": "Start anew in a folder that is not empty; its earlier run is removed."}
    )
    pretrained_model_name_or_path: str | None = field(
        default=None, metadata={"help": "Folder or Hub id of a saved model of this family to start from."}
    )
    seed: int = field(default=0, metadata={"help": "Of initial weights, order of the data, augmentation and noise."})
    train_batch_size: int = field(default=64, metadata={"help": "Per process and micro-batch."})
    eval_batch_size: int | None = field(
        default=None, metadata={"help": "Per process, for held-out figures; --train_batch_size by default."}
    )
    num_train_epochs: int = field(default=10, metadata={"help": "Passes over the data.", "aliases": ["--num_epochs"]})
    max_train_steps: int | None = field(default=None, metadata={"help": "Training steps; overrides the epochs."})
    gradient_accumulation_steps: int = field(default=1, metadata={"help": "Micro-batches of one optimiser update."})
    optimizer: Literal["adamw", "adam", "rmsprop", "sgd"] = field(
        default="adamw", metadata={"help": "Of every network to which its family gives no other."}
    )
    learning_rate: float = field(default=1e-3, metadata={"help": "The optimiser's, before the schedule."})
    lr_scheduler: Literal[
        "linear",
        "cosine",
        "cosine_with_restarts",
        "polynomial",
        "constant",
        "constant_with_warmup",
        "constant_then_linear",
        "exponential",
    ] = field(default="constant", metadata={"help": "Learning rate as a function of the step."})
    lr_warmup_steps: int = field(default=0, metadata={"help": "Steps of linear warm-up."})
    lr_decay_start_step: int | None = field(
        default=None,
        metadata={"help": "constant_then_linear: first step of the linear decay to zero (half of the run's)."},
    )
    lr_final_ratio: float = field(
        default=0.01, metadata={"help": "exponential: last learning rate over the first one."}
    )
    adam_beta1: float = field(default=0.9, metadata={"help": "Adam's first decay."})
    adam_beta2: float = field(default=0.999, metadata={"help": "Adam's second decay."})
    adam_weight_decay: float = field(default=0.0, metadata={"help": "Weight decay, of any optimiser."})
    adam_epsilon: float = field(default=1e-8, metadata={"help": "Adam's epsilon."})
    zero_redundancy_optimizer: bool = field(
        default=False, metadata={"help": "Share the optimisers' states between the processes (ZeRO, stage 1)."}
    )
    max_grad_norm: float | None = field(default=None, metadata={"help": "Clip each network's gradient norm to this."})
    mixed_precision: Literal["no", "fp16", "bf16"] | None = field(
        default=None, metadata={"help": "By default what `accelerate config` says."}
    )
    fast: bool = field(
        default=False,
        metadata={"help": "On a CPU: channels-last images and bf16, if they are faster when the run begins."},
    )
    allow_tf32: bool = field(
        default=False,
        metadata={"help": "TF32 in matrix products, too, on GPUs that have it; PyTorch has it in convolutions."},
    )
    gradient_checkpointing: bool = field(
        default=False,
        metadata={
            "help": "Compute activations again in the backward pass: less memory, more time, the same gradients."
        },
    )
    compile: bool = field(default=False, metadata={"help": "torch.compile the networks."})
    compile_mode: Literal["default", "reduce-overhead", "max-autotune", "max-autotune-no-cudagraphs"] = field(
        default="default",
        metadata={"help": "torch.compile's; reduce-overhead uses CUDA graphs, max-autotune looks for kernels, too."},
    )
    num_threads: int | None = field(
        default=None, metadata={"help": "CPU threads of each process; by default the cores over the local processes."}
    )
    sync_bn: bool = field(default=False, metadata={"help": "Batch statistics over all GPUs."})
    use_ema: bool = field(default=False, metadata={"help": "Average the weights and save the average."})
    ema_max_decay: float = field(default=0.9999, metadata={"help": "Largest decay of the average."})
    ema_inv_gamma: float = field(
        default=1.0, metadata={"help": "Warm-up of the decay: 1 - (1 + step / inv_gamma)^-power."}
    )
    ema_power: float = field(default=0.75, metadata={"help": "See --ema_inv_gamma."})
    ema_device: Literal["cpu"] | None = field(
        default=None, metadata={"help": "Keep the averages in the host's memory, by default beside the networks."}
    )
    log_steps: int = field(
        default=50, metadata={"help": "Steps between log entries and checks for non-finite values."}
    )
    sample_steps: int | None = field(
        default=None, metadata={"help": "Steps between sample grids (one is always made at the end)."}
    )
    logging_dir: str = field(default="logs", metadata={"help": "Trackers' folder inside the output folder."})
    report_to: str = field(
        default="none", metadata={"help": "Tracker of Accelerate: tensorboard, trackio, wandb, ..., all, or none."}
    )
    tracker_project_name: str = field(default="hf_genmodels", metadata={"help": "Project name for the tracker."})
    checkpointing_steps: int = field(default=500, metadata={"help": "Steps between checkpoints; 0 for none."})
    checkpoint_on_stop: bool = field(
        default=True, metadata={"help": "Save a checkpoint when Ctrl-C (SIGINT) or SIGTERM stops the run."}
    )
    checkpoints_total_limit: int | None = field(default=None, metadata={"help": "Keep only the newest ones."})
    save_best: list[str] | None = field(
        default=None,
        metadata={
            "help": "End with the networks that are best by these figures on validation images, such as `mse`, or "
            "`fid mse` (nearest to the origin, each scaled to [0, 1] over the run): held-out figures, or metrics of "
            "`evaluate`."
        },
    )
    save_best_steps: int | None = field(
        default=None, metadata={"help": "Steps between evaluations for --save_best; --checkpointing_steps by default."}
    )
    save_best_samples: int = field(
        default=2000, metadata={"help": "--save_best: samples that `fid` and the like are made of at each evaluation."}
    )
    extractor: str | None = field(
        default=None,
        metadata={"help": "--save_best: whose features `fid` and the like compare, as for `hf-genmodels evaluate`."},
    )
    resume_from_checkpoint: str | None = field(
        default=None, metadata={"help": "Path of a checkpoint, or `latest` in the output folder."}
    )
    push_to_hub: bool = field(default=False, metadata={"help": "Publish the result."})
    hub_model_id: str | None = field(
        default=None, metadata={"help": "user/repo; the output folder's name by default."}
    )
    hub_private_repo: bool | None = field(default=None, metadata={"help": "Visibility of a new repository."})
    hub_token: str | None = field(default=None, metadata={"help": "Access token; the stored one by default."})


class Parser(HfArgumentParser):
    """Dataclasses' options; errors are one line."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        for action in self._actions:  # of `bool | None`: alone it means true, as an option of `bool` does
            if action.type is string_to_bool and action.nargs is None:
                action.nargs, action.const = "?", True

    def error(self, message: str) -> NoReturn:
        raise UserError(f"{message} (see --help)")


def parse(
    argv: list[str], family_arguments: type, description: str, family_name: str | None = None
) -> tuple[DataArguments, TrainingArguments, Any]:
    """Read all options: command line over `--config` file over defaults.

    Args:
        argv: The command line without the program's name.
        family_arguments: Dataclass of the family's own options.
        description: Shown by --help.
        family_name: If given, the options saved by a run of another family are refused.

    Returns:
        Options of the data, of the loop and of the family, whose `loop_defaults` are defaults of the loop's options.

    Raises:
        UserError: Unknown option, wrong type or choice, unreadable file.
    """
    parser = make_parser(family_arguments, description)
    config = _config_path(argv)
    if config is not None:
        options = [f for group in (DataArguments, TrainingArguments, family_arguments) for f in fields(group)]
        known = {f.name: f.name for f in options}
        known |= {alias.removeprefix("--"): f.name for f in options for alias in f.metadata.get("aliases", ())}
        words = options_of_file(Path(config), known, family_name)
        try:
            parser.parse_args([*words, "--output_dir", ""])
        except UserError as error:
            raise UserError(f"--config {config}: {error}") from None
        argv = [*words, *argv]
    data, training, family, _, unknown = parser.parse_args_into_dataclasses(
        argv, look_for_args_file=False, return_remaining_strings=True
    )
    if unknown:
        parser.error(f"unknown option or value: {' '.join(unknown)}")
    check_finite(data, training, family)
    check_arguments(training, loop_defaults(family_arguments))
    return data, training, family


def make_parser(family_arguments: type, description: str, prog: str | None = None) -> Parser:
    """The parser of all options of a family, see `parse`; `prog` is what --help calls the program."""
    groups: Any = (DataArguments, TrainingArguments, family_arguments)
    parser = Parser(groups, prog=prog, description=description, allow_abbrev=False)
    parser.set_defaults(**loop_defaults(family_arguments))
    parser.add_argument("--config", metavar="FILE", help="YAML or JSON file of options; the command line wins.")
    return parser


def loop_defaults(family_arguments: type) -> dict[str, Any]:
    """The defaults that a family gives options of the loop, by name."""
    defaults: dict[str, Any] = getattr(family_arguments, "loop_defaults", {})
    return defaults


def defaults_of(*groups: Any) -> dict[str, Any]:
    """The default of every option of dataclass instances, the family's last, by "--name"."""
    found = {
        f"--{option.name}": option.default if option.default_factory is MISSING else option.default_factory()
        for group in groups
        for option in fields(group)
    }
    return found | {f"--{name}": value for name, value in loop_defaults(type(groups[-1])).items()}


def _config_path(argv: list[str]) -> str | None:
    for position, word in enumerate(argv):
        if word == "--config":
            return argv[position + 1] if position + 1 < len(argv) else None
        if word.startswith("--config="):
            return word.partition("=")[2]
    return None


def check_finite(*groups: Any) -> None:
    """Refuse infinite and undefined numbers: no option has a use for them.

    Raises:
        UserError: One line that names the option.
    """
    for name, value in ((name, value) for group in groups for name, value in vars(group).items()):
        for each in value if isinstance(value, list) else [value]:
            if isinstance(each, float) and not math.isfinite(each):
                raise UserError(f"--{name} must be a finite number, got {each}")


def literal_choices(kind: Any) -> tuple[str, ...]:
    """The choices of a `Literal`, none of another type."""
    return get_args(kind) if get_origin(kind) is Literal else ()


# Options that mean something with some values of another option only: (name, that option, those values).
NEEDS = (
    ("lr_decay_start_step", "lr_scheduler", ("constant_then_linear",)),
    ("lr_final_ratio", "lr_scheduler", ("exponential",)),
    ("compile_mode", "compile", (True,)),
    ("ema_max_decay", "use_ema", (True,)),
    ("ema_inv_gamma", "use_ema", (True,)),
    ("ema_power", "use_ema", (True,)),
    ("ema_device", "use_ema", (True,)),
)


def check_arguments(args: TrainingArguments, family_defaults: Mapping[str, Any] | None = None) -> None:
    """Refuse impossible values before anything is read or written.

    Args:
        args: The options.
        family_defaults: Defaults that the family gives instead of those of `TrainingArguments`.

    Raises:
        UserError: One line that names the option.
    """
    for option in fields(args):  # of a program; the parser has seen to those of a command line
        choices = [choice for part in (option.type, *get_args(option.type)) for choice in literal_choices(part)]
        if choices and getattr(args, option.name) not in (*choices, option.default):
            raise UserError(f"--{option.name} must be one of {', '.join(choices)}, got {getattr(args, option.name)!r}")
    for name in ("train_batch_size", "num_train_epochs", "gradient_accumulation_steps", "log_steps"):
        if getattr(args, name) < 1:
            raise UserError(f"--{name} must be at least 1, got {getattr(args, name)}")
    least_one = ("max_train_steps", "eval_batch_size", "num_threads", "sample_steps", "checkpoints_total_limit")
    for name in (*least_one, "save_best_steps"):
        value = getattr(args, name)
        if value is not None and value < 1:
            raise UserError(f"--{name} must be at least 1, got {value}")
    for name in ("seed", "checkpointing_steps", "lr_warmup_steps", "adam_weight_decay"):
        if not getattr(args, name) >= 0:
            raise UserError(f"--{name} must be at least 0, got {getattr(args, name)}")
    for name in ("learning_rate", "adam_epsilon", "max_grad_norm", "ema_inv_gamma", "ema_power"):
        value = getattr(args, name)
        if value is not None and not value > 0:
            raise UserError(f"--{name} must be positive, got {value}")
    for name in ("adam_beta1", "adam_beta2", "ema_max_decay"):
        if not 0 <= getattr(args, name) < 1:
            raise UserError(f"--{name} must lie in [0, 1), got {getattr(args, name)}")
    check_seed("--seed", args.seed)
    defaults = {option.name: option.default for option in fields(args)} | dict(family_defaults or {})
    for name, other, values in NEEDS:
        if getattr(args, name) != defaults[name] and getattr(args, other) not in values:
            needed = f"--{other}" if values == (True,) else f"--{other} {values[0]}"
            raise UserError(f"--{name} has no effect without {needed}; give that, or leave it out")
    if args.save_best is None:
        for name in ("save_best_steps", "save_best_samples", "extractor"):
            if getattr(args, name) != defaults[name]:
                raise UserError(f"--{name} has no effect without --save_best; give that, or leave it out")
    elif not any(name.strip() for name in args.save_best):
        raise UserError("--save_best names no figure; give one, such as mse, or leave it out")
    if args.lr_warmup_steps and args.lr_scheduler == "constant":
        raise UserError("--lr_warmup_steps has no effect with --lr_scheduler constant; use constant_with_warmup")
    if args.resume_from_checkpoint and args.overwrite_output_dir:
        raise UserError("--resume_from_checkpoint and --overwrite_output_dir contradict each other; drop one")


def command_line(family: str, groups: tuple[Any, ...], num_processes: int = 1) -> str:
    """The command that repeats a run, for its card: the options that are not at their defaults, but `NOT_REPEATED`.

    Args:
        family: Name of the family.
        groups: The resolved options (dataclass instances), the family's last.
        num_processes: Processes of the run.
    """
    launcher = ["--num_processes", str(num_processes)] if num_processes > 1 else []
    if family in OURS:
        words = ["accelerate", "launch", *launcher, f"training/train_{family}.py"]
    else:
        words = ["hf-genmodels", "train", family]
    for group in groups:
        other_defaults = loop_defaults(type(groups[-1])) if isinstance(group, TrainingArguments) else {}
        for option in fields(group):
            value = getattr(group, option.name)
            default = option.default if option.default_factory is MISSING else option.default_factory()
            default = other_defaults.get(option.name, default)
            if value == default or option.name in NOT_REPEATED:
                continue
            if str(value).startswith("-"):  # would be read as an option
                words.append(f"--{option.name}={value}")
            else:
                words += [f"--{option.name}", *map(str, value if isinstance(value, list) else [value])]
    return shlex.join(words if family in OURS or not launcher else [*words, "--", *launcher])
