"""`hf-genmodels sample`."""

from __future__ import annotations

import argparse
import re
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..checks import check_seed
from ..errors import UserError
from ..files import filling
from .options import SAMPLING_OPTIONS, add_compile_option, add_options, check_output_dir, class_label, load_pipeline

if TYPE_CHECKING:
    import numpy as np
    from PIL.Image import Image

    from ..pipelines.base import GenerativePipeline

# What `sample` writes, and what its --overwrite therefore removes.
SAMPLE_FILE = re.compile(r"\d{5,}\.png|grid\.png|chains\.png|samples\.npy")

MOST_CHAINS, MOST_IMAGES = 4, 8  # of chains.png


def add_arguments(command: argparse.ArgumentParser) -> None:
    """The options of `sample`."""
    command.add_argument("model", metavar="MODEL", help="folder, or repository id on the Hub")
    command.add_argument("--num_samples", type=int, default=16, help="(default: %(default)s)")
    command.add_argument("--seed", type=int, default=0, help="sample i is drawn from seed + i (default: %(default)s)")
    command.add_argument("--batch_size", type=int, default=16, help="drawn at a time (default: %(default)s)")
    command.add_argument("--output_dir", default="samples", help="must be empty (default: %(default)s)")
    command.add_argument("--overwrite", action="store_true", help="replace the samples that --output_dir has")
    command.add_argument(
        "--class_labels", nargs="+", help="of a conditional model, numbers or names; sample i has the i-th, in turn"
    )
    add_options(command, SAMPLING_OPTIONS)
    command.add_argument(
        "--classifier", help="of noisy images, which guides a DDPM to --class_labels; folder or Hub id"
    )
    command.add_argument("--classifier_scale", type=float, help="how far it pushes samples (default: 1)")
    command.add_argument(
        "--chains", action="store_true", help="of a DDPM: chains.png, how noise becomes a few samples, and they noise"
    )
    add_compile_option(command)


def sample(args: argparse.Namespace) -> None:
    """`sample MODEL`: PNG files where such a picture exists, else one `samples.npy`; and `grid.png`.

    Image i is drawn from seed + i alone, whatever the batch size.
    """
    if args.num_samples < 1 or args.batch_size < 1:
        raise UserError("--num_samples and --batch_size must be at least 1")
    check_seed("--seed", args.seed, args.num_samples)
    folder = Path(args.output_dir)
    check_output_dir(folder)
    if folder.exists() and any(folder.iterdir()) and not args.overwrite:
        raise UserError(f"{folder} is not empty; choose another --output_dir, or replace its samples with --overwrite")
    import torch

    from ..pipelines.labels import find_labels

    pipeline = load_pipeline(args.model, args.compile)
    if "samples" not in pipeline.measures:
        raise UserError(f"{args.model}: {type(pipeline).__name__} has nothing to sample from: it takes images")
    named = {name: getattr(args, name) for name in SAMPLING_OPTIONS}
    named |= {name: getattr(args, name) for name in ("class_labels", "classifier", "classifier_scale")}
    options = pipeline.check_sampling_options(named)
    if "classifier" in options:
        options["classifier"] = load_classifier(args.classifier)
    if args.chains and (not hasattr(pipeline, "noised") or len(pipeline.sample_shape) != 3):
        raise UserError(f"--chains: a {type(pipeline).__name__} of {args.model} is no DDPM of images; leave it out")
    words = options.pop("class_labels", None)
    labels = None if words is None else pipeline.class_numbers([class_label(pipeline, word) for word in words])
    if labels is not None:
        is_guided = pipeline.num_classes is None and "classifier" in options
        number = options["classifier"].config.num_classes if is_guided else pipeline.num_classes
        find_labels(labels, number, torch.device("cpu"))  # the message shows them as they were given
    samples = _draw(pipeline, args, labels, options)
    count = min(MOST_CHAINS, args.num_samples)
    chains = _chains(pipeline, count, args.seed, labels, options) if args.chains else None
    print(f"{folder}: {_write(pipeline, samples, chains, folder)}")


def _draw(
    pipeline: GenerativePipeline, args: argparse.Namespace, labels: Sequence[int] | None, options: Mapping[str, Any]
) -> list[Image] | np.ndarray:
    """All samples, image i from the seed + i and with the i-th label, in turn."""
    import numpy as np
    import torch
    from tqdm import tqdm

    batches: list[Any] = []
    with tqdm(total=args.num_samples, unit="sample", disable=None) as progress:
        for start in range(0, args.num_samples, args.batch_size):
            indices = range(start, min(start + args.batch_size, args.num_samples))
            generators = [torch.Generator().manual_seed(args.seed + index) for index in indices]
            given = {**options, **({} if labels is None else {"class_labels": in_turn(labels, indices)})}
            batches.append(pipeline(batch_size=len(indices), generator=generators, output_type=None, **given).images)
            progress.update(len(indices))
    return [image for batch in batches for image in batch] if isinstance(batches[0], list) else np.concatenate(batches)


def _write(pipeline: GenerativePipeline, samples: list[Image] | np.ndarray, chains: Image | None, folder: Path) -> str:
    """Replace the samples that a folder has by these; what was written."""
    import numpy as np

    earlier = [path for path in folder.iterdir() if SAMPLE_FILE.fullmatch(path.name)] if folder.is_dir() else []
    with filling(folder) as new:
        if isinstance(samples, list):
            for index, image in enumerate(samples):
                image.save(new / f"{index:05d}.png")
            written = f"{len(samples)} PNG files"
        else:
            np.save(new / "samples.npy", samples)
            written = f"samples.npy, shape {samples.shape}"
        overview = _overview(pipeline, samples)
        if overview is not None:
            overview.save(new / "grid.png")
            written += " and grid.png"
        if chains is not None:
            chains.save(new / "chains.png")
            written += ", and chains.png"
        for path in earlier:
            path.unlink()
    return written


def in_turn(labels: Sequence[Any], indices: Iterable[int]) -> list[Any]:
    """The labels of the samples with these numbers."""
    return [labels[index % len(labels)] for index in indices]


def _overview(pipeline: GenerativePipeline, samples: list[Image] | np.ndarray) -> Image | None:
    """One picture of all samples; None for vectors that are not 2-D."""
    import torch

    from ..plots import image_grid, scatter

    if len(pipeline.sample_shape) == 3:
        return image_grid((pipeline.prepare_images(samples, torch.float32) + 1) / 2)
    return scatter(torch.as_tensor(samples)) if pipeline.sample_shape == (2,) else None


def load_classifier(name_or_path: str) -> Any:
    """The classifier that `hf-genmodels train classifier` saved in a folder or on the Hub."""
    from ..folders import resolve_folder
    from ..loading import load_network
    from ..models.classifier import Classifier

    return load_network(Classifier, resolve_folder(name_or_path)).eval()


def _chains(pipeline: Any, count: int, seed: int, labels: Sequence[int] | None, options: Mapping[str, Any]) -> Image:
    """How noise became the first samples, and these become noise."""
    import torch

    from ..plots import chains_picture

    last = len(pipeline.trained_schedule().betas) - 1
    num_images = min(MOST_IMAGES, int(options.get("num_inference_steps", last + 1)) + 1)  # few steps have no more
    given = {**options, **({} if labels is None else {"class_labels": in_turn(labels, range(count))})}
    generators = [torch.Generator().manual_seed(seed + index) for index in range(count)]
    made = pipeline(count, generators, num_intermediates=num_images, output_type="pt", **given)
    forward, generator = [made.images], torch.Generator().manual_seed(seed)
    for timestep in torch.linspace(0, last, num_images).round().int().tolist()[1:]:
        forward.append(pipeline.noised(made.images, timestep, generator))
    return chains_picture(torch.stack(forward), torch.stack(made.intermediates[::-1]))
