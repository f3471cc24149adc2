"""`hf-genmodels apply`."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

from ..errors import UserError
from .options import (
    DATA_OPTIONS,
    SAMPLING_OPTIONS,
    add_options,
    check_output_dir,
    class_label,
    load_pipeline,
    take_from_training,
)

TASKS = ("translate", "reconstruct", "denoise", "encode", "score")
# Of what becomes of images before the model sees them; by default as in its training.
SHAPING = ("center_crop_fraction", "resize_mode")
# Options that go to the pipeline's method, where it knows them.
METHOD_OPTIONS: dict[str, dict[str, Any]] = {
    **{name: SAMPLING_OPTIONS[name] for name in ("num_inference_steps", "direction", "project")},
    "tile_size": {"type": int, "help": "translators: go through images by tiles of this side"},
    "tile_overlap": {"type": int, "help": "translators: pixels by which tiles overlap"},
    "stochastic": {"action": "store_true", "default": None, "help": "translators: keep dropout"},
    "num_samples": {"type": int, "help": "draws for each likelihood of a vae"},
    "num_timesteps": {"type": int, "help": "time steps for each likelihood of a diffusion model"},
    "class_labels": {"metavar": "CLASS", "help": "of a conditional model: the class of all images, or its number"},
}


def add_arguments(command: argparse.ArgumentParser) -> None:
    """The options of `apply`."""
    command.add_argument("model", metavar="MODEL", help="folder, or repository id on the Hub")
    command.add_argument("folder", metavar="FOLDER", help="images, in sub-folders or not")
    command.add_argument("--output_dir", required=True, help="empty, or of a call of the same to go on with")
    command.add_argument("--task", choices=TASKS, help="(default: what the model is for)")
    command.add_argument("--batch_size", type=int, default=8, help="images at a time (default: %(default)s)")
    command.add_argument("--seed", type=int, default=0, help="of what is drawn at random (default: %(default)s)")
    command.add_argument(
        "--resolution", type=int, nargs="+", help="make images cover this size (H, or H W), and crop the middle"
    )
    for name in SHAPING:
        command.add_argument(f"--{name}", **DATA_OPTIONS[name])
    command.add_argument("--convert", choices=["rgb", "grey"], help="make all images RGB or grey (default: neither)")
    command.add_argument(
        "--value_range", type=float, nargs=2, metavar=("BLACK", "WHITE"), help="stored values of black and white"
    )
    command.add_argument("--on_bad_image", default="error", choices=["error", "skip"], help="(default: error)")
    command.add_argument(
        "--scores_format", default="csv", choices=["csv", "jsonl"], help="of --task score (default: csv)"
    )
    add_options(command, METHOD_OPTIONS)


def apply(args: argparse.Namespace) -> None:
    """`apply MODEL FOLDER`: translate, reconstruct, denoise, encode or score every image of a folder."""
    if args.batch_size < 1:
        raise UserError(f"--batch_size must be at least 1, got {args.batch_size}")
    from ..data.arguments import DataArguments

    names = ("resolution", "convert", "value_range", *SHAPING)
    reading = DataArguments(**{name: getattr(args, name) for name in names})
    reading.check_images()
    check_output_dir(Path(args.output_dir))
    from ..apply import apply_pipeline
    from ..cards import training_arguments

    pipeline = load_pipeline(args.model)
    if pipeline._source is not None and reading.resolution is not None:
        saved = training_arguments(pipeline._source).get("arguments", {})
        take_from_training(reading, saved, SHAPING)
        reading.check_images()
    options = {name: getattr(args, name) for name in METHOD_OPTIONS}
    if args.class_labels is not None:
        options["class_labels"] = class_label(pipeline, args.class_labels)
    done = apply_pipeline(
        pipeline,
        args.folder,
        args.output_dir,
        task=args.task,
        batch_size=args.batch_size,
        seed=args.seed,
        resolution=reading.size,
        center_fraction=reading.center_crop_fraction,
        resize_mode=reading.resize_mode or "cover",
        conversion=reading.conversion,
        on_bad_image=args.on_bad_image,
        scores_format=args.scores_format,
        options=options,
    )
    earlier = f", {done.present} were there" if done.present else ""
    skipped = f", {done.skipped} left out" if done.skipped else ""
    print(f"{args.output_dir}: {done.written} images done{earlier}{skipped}")
