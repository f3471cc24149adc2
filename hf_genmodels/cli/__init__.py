"""The command `hf-genmodels`: what it can be asked for, and how errors and interruptions end it.

Only argparse and the registry are imported at the top, so that help comes at once; each handler imports what it runs.
"""

from __future__ import annotations

import argparse
import signal
import sys
from collections.abc import Sequence
from typing import Any

from .. import __version__
from ..errors import UserError
from .apply import add_arguments as add_apply_arguments
from .apply import apply
from .compare import add_arguments as add_compare_arguments
from .compare import compare
from .evaluate import add_arguments as add_evaluate_arguments
from .evaluate import evaluate
from .inspect import add_arguments as add_inspect_arguments
from .inspect import inspect
from .others import add_card_arguments, add_convert_arguments, card, convert, list_families, quickstart
from .sample import add_arguments as add_sample_arguments
from .sample import sample
from .train import missing_launch_options, train

# Arguments that say where something is, and what they are called.
PLACES = {
    "model": "MODEL",
    "folder": "FOLDER",
    "checkpoint": "CHECKPOINT",
    "reverse": "--reverse",
    "extractor": "--extractor",
    "cache_dir": "--cache_dir",
    "output_dir": "OUTPUT_DIR",
}

__all__ = ["main", "missing_launch_options"]


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line and return its exit status: 0, 1 (error), 2 (wrong usage), 130 (interrupted).

    Args:
        argv: Arguments without the program's name; those of the process by default.
    """
    arguments = list(sys.argv[1:] if argv is None else argv)
    try:
        # argparse cannot leave another program's options, and its `--`, alone.
        if arguments[:1] == ["train"]:
            return train(arguments[1:])
        parsed = _parser().parse_args(arguments)
        _check_places(parsed)
        parsed.handler(parsed)
    except (UserError, OSError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        return 128 + signal.SIGINT
    return 0


def _check_places(parsed: argparse.Namespace) -> None:
    """Refuse what names no place; an empty name would be taken for the current folder."""
    for name in PLACES:
        value = getattr(parsed, name, None)
        if value is not None and (not value.strip() or "\0" in value):
            raise UserError(f"{PLACES[name]} {value!r} is no name of a file or folder")


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser("hf-genmodels", description="Train, sample, measure and share generative models.")
    parser.add_argument("--version", action="version", version=f"hf-genmodels {__version__}")
    commands = parser.add_subparsers(metavar="COMMAND", required=True)
    command = _command(commands, "quickstart", quickstart, "train, evaluate and reload a VAE on handwritten digits")
    command.add_argument("--output_dir", default="runs/quickstart", help="(default: %(default)s)")
    _command(commands, "list", list_families, "the families of models")
    commands.add_parser("train", help="train a family: train FAMILY [options] [-- launcher options]")
    add_sample_arguments(_command(commands, "sample", sample, "draw samples from a model"))
    add_apply_arguments(_command(commands, "apply", apply, "translate, encode, score ... the images of a folder"))
    add_evaluate_arguments(_command(commands, "evaluate", evaluate, "measure a model on held-out data"))
    add_compare_arguments(_command(commands, "compare", compare, "several models by the same figures, as a table"))
    add_inspect_arguments(
        _command(commands, "inspect", inspect, "look at the nearest training images of samples, and at codes")
    )
    add_convert_arguments(
        _command(commands, "convert", convert, "make a pipeline of published pix2pix or CycleGAN weights")
    )
    add_card_arguments(_command(commands, "card", card, "write the model card of a training output folder"))
    return parser


def _command(commands: Any, name: str, handler: Any, text: str) -> argparse.ArgumentParser:
    command: argparse.ArgumentParser = commands.add_parser(name, help=text, description=text)
    command.set_defaults(handler=handler)
    return command
