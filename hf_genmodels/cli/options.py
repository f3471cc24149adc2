"""What several commands share: options, loading a pipeline, tables."""

from __future__ import annotations

import argparse
import os
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..errors import UserError

if TYPE_CHECKING:
    from ..data import DataArguments
    from ..pipelines.base import GenerativePipeline

# The options of `evaluate` that say which data: name in `DataArguments` -> settings of the option.
DATA_OPTIONS: dict[str, dict[str, Any]] = {
    "dataset_name": {"help": "Hub id, local folder or parquet file, or builtin:<name>"},
    "dataset_config_name": {"help": "configuration of the data set"},
    "revision": {"help": "branch, tag or commit of a data set on the Hub"},
    "train_data_dir": {"help": "image folder, instead of --dataset_name"},
    "dataset_name_b": {"help": "translators: data set of domain B"},
    "train_data_dir_b": {"help": "translators: image folder of domain B"},
    "image_column": {"default": "image", "help": "column of the images (default: image)"},
    "conditioning_image_column": {"default": "conditioning_image", "help": "translators: column of what they take"},
    "conditioning_image_columns": {
        "nargs": "+",
        "help": "translators: columns that are the channels of what they take",
    },
    "target_image_column": {"default": "target_image", "help": "translators: column of what they shall make"},
    "image_columns": {"nargs": "+", "help": "columns that are the channels of one image (of a target)"},
    "side_by_side": {"action": "store_true", "help": "translators: each image shows A and B beside each other"},
    "label_column": {"default": "label", "help": "column of the labels (default: label)"},
    "exclude_label": {"help": "auroc: the class that is the anomaly (default: the one that training left out)"},
    "cache_dir": {"help": "where downloaded data sets are kept"},
    "streaming": {"action": "store_true", "help": "read the data set without downloading it first"},
    "on_bad_image": {"default": "error", "choices": ["error", "skip"], "help": "(default: error)"},
    "resolution": {"type": int, "nargs": "+", "help": "make images cover this size (H, or H W), and crop the middle"},
    "crop_size": {"type": int, "nargs": "+", "help": "crop the middle of this size instead (H, or H W)"},
    "center_crop_fraction": {"type": float, "help": "keep this share of height and width, in the middle, first"},
    "resize_mode": {"choices": ["cover", "stretch"], "help": "keep proportions and crop, or not (default: cover)"},
    "convert": {"choices": ["rgb", "grey"], "help": "make all images RGB or grey"},
    "value_range": {"type": float, "nargs": 2, "help": "stored values that mean black and white"},
}

# The options of `sample` and `evaluate` that go to the call of the pipelines that know them.
SAMPLING_OPTIONS: dict[str, dict[str, Any]] = {
    "num_inference_steps": {"type": int, "help": "steps of a diffusion model's sampler"},
    "guidance_scale": {"type": float, "help": "classifier-free guidance of a conditional diffusion model"},
    "truncation": {"type": float, "help": "of a GAN's latents"},
    "temperature": {"type": float, "help": "of a flow's latents"},
    "direction": {"choices": ["a_to_b", "b_to_a"], "help": "of a translator between domains A and B"},
    "project": {"action": "store_true", "default": None, "help": "make polarimetric images physically admissible"},
}


def add_options(command: argparse.ArgumentParser, options: Mapping[str, dict[str, Any]]) -> None:
    """Give a command options by a table of names and settings."""
    for name, settings in options.items():
        command.add_argument(f"--{name}", **settings)


def check_output_dir(folder: Path) -> None:
    """Refuse a folder that cannot be made or written to, before anything is computed for it.

    Raises:
        UserError: It or one above it is a file, or must not be written to.
    """
    existing = next(path for path in (folder, *folder.absolute().parents) if path.exists())
    if not existing.is_dir():
        raise UserError(f"--output_dir {folder}: {existing} is a file; choose another folder")
    if not os.access(existing, os.W_OK | os.X_OK):
        raise UserError(f"--output_dir {folder} cannot be written: {existing} allows it not")


def add_compile_option(command: argparse.ArgumentParser) -> None:
    """Give a command --compile, see `load_pipeline`."""
    command.add_argument(
        "--compile", action="store_true", help="torch.compile the networks: minutes at first, less for each sample"
    )


def load_pipeline(model: str, is_compiled: bool = False) -> GenerativePipeline:
    """A pipeline from a folder or the Hub, on the GPU if there is one."""
    import torch

    from ..pipelines.auto import AutoPipeline

    pipeline = AutoPipeline.from_pretrained(model)
    pipeline.to("cuda" if torch.cuda.is_available() else "cpu")
    if is_compiled:
        pipeline.compile()
    return pipeline


def options_of_training(data: DataArguments) -> list[str]:
    """The options that say how images are read, as in the model's training where the user does not give them."""
    from ..data.columns import is_builtin

    names = [] if is_builtin(data.dataset_name) else ["convert", "value_range"]
    return names if data.resolution is None else [*names, "center_crop_fraction", "resize_mode"]


def take_from_training(data: DataArguments, saved: Mapping[str, Any], names: Iterable[str]) -> None:
    """Read data as the model's training did, where the user does not say how.

    Args:
        data: The user's options, changed in place.
        saved: Those of the training.
        names: Options whose default is None.

    Raises:
        UserError: A saved value is none that the option can have.
    """
    taken = {name: saved[name] for name in names if getattr(data, name) is None and saved.get(name) is not None}
    for name, value in taken.items():
        if name == "value_range" and not isinstance(value, list):
            raise UserError("training_args.json: value_range must be a list of two numbers")
        if name == "center_crop_fraction" and (isinstance(value, bool) or not isinstance(value, (int, float))):
            raise UserError("training_args.json: center_crop_fraction must be a number")
        setattr(data, name, value)
        shown = " ".join(map(str, value)) if isinstance(value, list) else value
        print(f"as in the model's training: --{name} {shown}")


def class_label(pipeline: GenerativePipeline, word: str) -> int | str:
    """A word of the command line: the name of a class where one is called so, else a number."""
    is_name = word in (pipeline.id2label or {}).values()
    return int(word) if word.isdecimal() and not is_name else word


def print_table(rows: Sequence[Sequence[str]]) -> None:
    """Print rows with their columns aligned."""
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    for row in rows:
        print("  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip())
