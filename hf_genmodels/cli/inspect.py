"""`hf-genmodels inspect`."""

from __future__ import annotations

import argparse
import itertools
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..errors import UserError
from .compare import OPTIONS
from .options import (
    SAMPLING_OPTIONS,
    add_options,
    check_output_dir,
    load_pipeline,
    options_of_training,
    take_from_training,
)

if TYPE_CHECKING:
    from PIL import Image
    from torch import Tensor

    from ..data import DataArguments
    from ..pipelines.base import GenerativePipeline

BATCH = 250


def add_arguments(command: argparse.ArgumentParser) -> None:
    """The options of `inspect`."""
    command.add_argument("model", metavar="MODEL", help="folder, or repository id on the Hub")
    command.add_argument(
        "--nearest", type=int, metavar="N", help="show N samples above the training images that lie nearest to them"
    )
    command.add_argument(
        "--codes", nargs="+", choices=["pca", "tsne"], help="show the codes of held-out images, projected to the plane"
    )
    command.add_argument(
        "--holes", action="store_true", help="show draws of the prior beside codes of held-out images, by PCA"
    )
    add_options(command, OPTIONS)
    command.add_argument("--train_split", default="train", help="what was learnt from (default: %(default)s)")
    command.add_argument("--split", help="held-out images (default: test, or train where there is no other)")
    command.add_argument("--extractor", help="--nearest: look in its features, too, as for `evaluate`")
    command.add_argument("--num_codes", type=int, default=2000, help="--codes, --holes: images (default: %(default)s)")
    command.add_argument("--seed", type=int, default=0, help="of the samples and of t-SNE (default: %(default)s)")
    command.add_argument(
        "--output_dir", help="where the pictures go (default: MODEL, if it is a folder, with its card)"
    )
    add_options(command, SAMPLING_OPTIONS)


def inspect(args: argparse.Namespace) -> None:
    """`inspect MODEL`: pictures of the nearest training images, of the codes, and of holes among them.

    They go into `samples/` of --output_dir, by default of the model's folder, whose card then shows them.
    """
    from ..cards import training_arguments
    from ..data import DataArguments
    from ..files import replacing
    from ..hub import write_card
    from ..metrics.record import read_metrics, write_evaluation

    if args.nearest is None and args.codes is None and not args.holes:
        raise UserError("say what to look at: --nearest 12, --codes pca tsne, --holes, or several of them")
    for name, least in (("nearest", 1), ("num_codes", 4)):
        if getattr(args, name) is not None and getattr(args, name) < least:
            raise UserError(f"--{name} must be at least {least}, got {getattr(args, name)}")
    is_local = Path(args.model).is_dir()
    if args.output_dir is None and not is_local:
        raise UserError(f"{args.model} is no folder: say with --output_dir where the pictures go")
    target = Path(args.output_dir or args.model)
    check_output_dir(target)
    data = DataArguments(**{name: getattr(args, name) for name in OPTIONS})
    pipeline = load_pipeline(args.model)
    if pipeline._source is not None:
        take_from_training(data, training_arguments(pipeline._source).get("arguments", {}), options_of_training(data))
    has_card = is_local and args.output_dir is None
    step = read_metrics(target).get("step", 0) if has_card else 0
    pictures: dict[str, Image.Image] = {}
    figures: list[dict[str, Any]] = []
    if args.nearest is not None:
        pictures["nearest_training_images"], figures = _nearest(args, pipeline, data)
    if args.codes is not None:
        pictures["codes"] = _codes(args, pipeline, data)
    if args.holes:
        pictures["codes_and_prior"] = _holes(args, pipeline, data)
    (target / "samples").mkdir(parents=True, exist_ok=True)
    for name, picture in pictures.items():
        path = target / "samples" / f"{name}-{step}.png"
        with replacing(path) as temporary:
            picture.save(temporary)
        print(f"written to {path}")
    for figure in figures:
        print(f"{figure['name']}: mean distance {figure['value']:.4g}")
    if has_card:
        if figures:
            write_evaluation(target, figures)
        print(f"written to {write_card(target)}")


def _nearest(
    args: argparse.Namespace, pipeline: GenerativePipeline, data: DataArguments
) -> tuple[Image.Image, list[dict[str, Any]]]:
    import torch

    from ..data import evaluation_batches, load_split
    from ..data.loading import load_chosen_split
    from ..inspection import nearest_training_images
    from ..metrics.extractors import load_extractor

    if "samples" not in pipeline.measures or len(pipeline.sample_shape) != 3:
        raise UserError(f"--nearest: a {type(pipeline).__name__} makes no images by itself; leave it out")
    options = pipeline.check_sampling_options({name: getattr(args, name) for name in SAMPLING_OPTIONS})
    extractor = None if args.extractor is None else load_extractor(args.extractor, pipeline.device)
    train = load_split(data, args.train_split)
    if train.spec.shape != tuple(pipeline.sample_shape):
        raise UserError(
            f"the pipeline makes samples of shape {tuple(pipeline.sample_shape)}, the data have {train.spec.shape}; "
            "choose the data set or --resolution it was trained with"
        )
    if extractor is not None:
        extractor.describe(train.spec.shape)
    split, held_out = load_chosen_split(data, args.split)

    def images(dataset: Any) -> Iterator[Tensor]:
        return ((batch["image"] + 1) / 2 for batch in evaluation_batches(dataset, batch_size=BATCH))

    generator = torch.Generator().manual_seed(args.seed)
    samples = pipeline(batch_size=args.nearest, generator=generator, output_type="pt", **options).images.float().cpu()
    others = None if split == args.train_split else next(images(held_out))[: args.nearest]
    picture, figures = nearest_training_images(samples, others, lambda: images(train), extractor)
    about = {"dataset": train.spec.name, "split": args.train_split, "seed": args.seed, **options}
    for figure in figures:
        figure["settings"] |= about
    return picture, figures


def _codes(args: argparse.Namespace, pipeline: GenerativePipeline, data: DataArguments) -> Image.Image:
    from ..data import evaluation_batches
    from ..data.loading import load_chosen_split
    from ..inspection import codes_of, picture_of_codes

    _, dataset = load_chosen_split(data, args.split)
    batches = evaluation_batches(dataset, batch_size=BATCH)
    codes, labels = codes_of(pipeline, itertools.islice(batches, -(-args.num_codes // BATCH)))
    labels = None if labels is None else labels[: args.num_codes]
    return picture_of_codes(codes[: args.num_codes], labels, args.codes)


def _holes(args: argparse.Namespace, pipeline: GenerativePipeline, data: DataArguments) -> Image.Image:
    import torch

    from ..data import evaluation_batches
    from ..data.loading import load_chosen_split
    from ..inspection import picture_of_holes

    _, dataset = load_chosen_split(data, args.split)
    image = next(evaluation_batches(dataset, batch_size=args.num_codes))["image"]
    images = (image + 1) / 2 if image.ndim == 4 else image
    return picture_of_holes(pipeline, images, torch.Generator().manual_seed(args.seed))
