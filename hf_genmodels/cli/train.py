"""`hf-genmodels train`: a training script under Accelerate."""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import NoReturn

from ..errors import UserError
from ..families import FAMILIES, get_family

TRAIN_USAGE = """usage: hf-genmodels train FAMILY [options] [-- launcher options]

Runs `accelerate launch <launcher options> -m hf_genmodels.training FAMILY <options>`.

  hf-genmodels train vae --dataset_name builtin:digits --output_dir runs/vae
  hf-genmodels train vae --dataset_name builtin:digits --output_dir runs/vae -- --multi_gpu --num_processes 2
                                           on two GPUs; with ACCELERATE_USE_CPU=true before it, on CPUs
  hf-genmodels train vae --help            the options of a family
  accelerate launch --help                 the options of the launcher

families: """

# What `accelerate launch` complains about when neither the command nor a configuration file says it.
LAUNCH_DEFAULTS = {
    "--num_processes": "1",
    "--num_machines": "1",
    "--mixed_precision": "no",
    "--dynamo_backend": "no",
}


def train(arguments: list[str]) -> int:
    """`train FAMILY [options] [-- launcher options]`: run a script under Accelerate and return its exit status."""
    if not arguments or arguments[0] in ("-h", "--help"):
        print(TRAIN_USAGE + " ".join(FAMILIES), file=sys.stdout if arguments else sys.stderr)
        return 0 if arguments else 2
    try:
        family = get_family(arguments[0])
    except UserError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    split = arguments.index("--") if "--" in arguments else len(arguments)
    options, launcher = arguments[1:split], arguments[split + 1 :]
    if "-h" in options or "--help" in options:
        from ..training.arguments import make_parser

        make_parser(family.arguments, f"Train: {family.title}.", prog=f"hf-genmodels train {family.name}").print_help()
        return 0
    words = ["--quiet", *launcher, *missing_launch_options(launcher)]
    return launch([*words, "-m", "hf_genmodels.training", family.name, *options])


def missing_launch_options(launcher: Sequence[str]) -> list[str]:
    """What to add for a quiet single-process launch, where no Accelerate configuration and no given option says it."""
    given = {option.split("=")[0].replace("-", "_") for option in launcher if option.startswith("-")}
    cache = os.environ.get("XDG_CACHE_HOME", "~/.cache")
    home = Path(os.environ.get("HF_HOME", os.path.join(cache, "huggingface"))).expanduser()
    if "__config_file" in given or (home / "accelerate" / "default_config.yaml").is_file():
        return []
    added = []
    for option, value in LAUNCH_DEFAULTS.items():
        # --multi_gpu means all of them, and refuses a number of processes below two.
        if option.replace("-", "_") not in given and not (option == "--num_processes" and "__multi_gpu" in given):
            added += [option, value]
    return added


def launch(words: list[str]) -> int:
    """`accelerate launch` with these words, for signals to reach the training, and without a traceback of its own.

    On Linux and macOS one training process takes the place of this one. Several are children, to whom this process
    passes on what it is sent; they have TORCH_ELASTIC_SHUTDOWN_TIMEOUT seconds (30) to stop.

    Returns:
        The exit status of the training.
    """
    from accelerate.commands import launch as accelerate_launch
    from torch.distributed.elastic.multiprocessing import SignalException
    from torch.distributed.elastic.multiprocessing.errors import ChildFailedError

    if os.name == "posix":
        # Accelerate's own starts a child, and leaves it running when it is itself told to end.
        accelerate_launch.simple_launcher = _become_the_training
    try:
        accelerate_launch.launch_command(accelerate_launch.launch_command_parser().parse_args(words))
    except SignalException as stop:
        return 128 + stop.sigval
    except ChildFailedError as error:
        _, failure = error.get_first_failure()
        return failure.exitcode if failure.exitcode > 0 else 128 - failure.exitcode
    except (ValueError, AssertionError, ImportError, RuntimeError) as error:
        said = " ".join(str(error).split())
        raise UserError(f"accelerate launch: {said} (what is given after --, or `accelerate config`)") from error
    return 0


def _become_the_training(args: argparse.Namespace) -> NoReturn:
    from accelerate.utils.launch import prepare_simple_launcher_cmd_env

    command, environment = prepare_simple_launcher_cmd_env(args)
    sys.stdout.flush()
    os.execvpe(command[0], command, environment)
