"""The short commands: list, quickstart, convert, card."""

from __future__ import annotations

import argparse

from ..families import FAMILIES
from .options import print_table


def list_families(args: argparse.Namespace) -> None:
    """`list`: every family, one line each."""
    rows = [("FAMILY", "PIPELINE", "TITLE")]
    rows += [(family.name, family.pipeline or "-", family.title) for family in FAMILIES.usable()]
    print_table(rows)


def quickstart(args: argparse.Namespace) -> None:
    """`quickstart`: train, evaluate, save and reload a small VAE."""
    from ..quickstart import main as run_quickstart

    run_quickstart(args.output_dir)


def convert(args: argparse.Namespace) -> None:
    """`convert KIND CHECKPOINT OUTPUT_DIR`: make a pipeline of the authors' published weights."""
    from ..convert import command

    command(args)


def card(args: argparse.Namespace) -> None:
    """`card FOLDER`: write the model card of a training output folder."""
    from ..hub import write_card

    print(write_card(args.folder, license=args.license))


def add_convert_arguments(command: argparse.ArgumentParser) -> None:
    """The options of `convert`."""
    command.add_argument("kind", choices=["pix2pix", "cyclegan"])
    command.add_argument("checkpoint", help="a generator's .pth file; no code in it is run")
    command.add_argument("output_dir", help="where the pipeline is written; empty, or to be created")
    command.add_argument(
        "--direction", default="AtoB", choices=["AtoB", "BtoA"], help="of cyclegan (default: %(default)s)"
    )
    command.add_argument("--reverse", help="cyclegan: .pth file of the other direction")


def add_card_arguments(command: argparse.ArgumentParser) -> None:
    """The options of `card`."""
    command.add_argument("folder", metavar="FOLDER")
    command.add_argument("--license", help="of the weights, such as apache-2.0")
