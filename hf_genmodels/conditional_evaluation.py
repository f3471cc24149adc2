"""What `evaluate` compares where a pipeline works on images: translations, and images from a few known pixels."""

from __future__ import annotations

import inspect
import itertools
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import torch
from diffusers import DiffusionPipeline
from torch import Tensor

from .data import DataArguments, Layout, evaluation_batches
from .data.columns import is_builtin
from .data.layouts import TwoImageDataset
from .data.spec import LayoutKind
from .data.sets import MapDataset
from .errors import UserError
from .losses.constraints import sample_mask
from .metrics.constraints import EPSILON
from .metrics.polarimetry import mean_std_median
from .pipelines.pixelwise import PixelwisePipeline

KNOWN_PIXELS = 0.005


class Answers(NamedTuple):
    """A batch of real images, and one of those that a pipeline made.

    Attributes:
        real: (batch, channels, height, width) in [0, 1]; None where the others are more.
        made: The same.
        scores: Numbers for each image of `made`, (batch,), by name.
    """

    real: Tensor | None
    made: Tensor | None
    scores: Mapping[str, Tensor]


def translates(pipeline: DiffusionPipeline) -> bool:
    """Whether a call makes an image of an image."""
    return hasattr(pipeline, "data_layout")


def completes(pipeline: DiffusionPipeline) -> bool:
    """Whether a call makes images from a few known pixels."""
    return isinstance(pipeline, PixelwisePipeline)


def real_batches(dataset: Any, batch_size: int, limit: int) -> Iterator[Tensor]:
    """At most `limit` real examples, in order: (batch, channels, height, width) in [0, 1], or vectors (batch, dim)."""
    taken = 0
    for batch in evaluation_batches(dataset, batch_size=batch_size):
        examples = batch["image"][: limit - taken]
        taken += len(examples)
        yield (examples + 1) / 2 if examples.ndim == 4 else examples
        if taken == limit:
            return


def layout_of(pipeline: Any, data_args: DataArguments, one_by_one: Sequence[str]) -> Layout:
    """What an example consists of: for a translator of two domains pairs, where both are columns of one set.

    Args:
        pipeline: Any.
        data_args: The data set, or two.
        one_by_one: The metrics asked for that compare a translation with its own target.

    Raises:
        UserError: There are such metrics, and no targets.
    """
    kind: LayoutKind = getattr(pipeline, "data_layout", "image")
    if kind == "domains" and not _has_second_set(data_args):
        return Layout("pair")
    if kind == "domains" and one_by_one:
        raise UserError(f"{one_by_one[0]} needs pairs, two columns of one data set: leave out the second data set")
    return Layout(kind)


def compared_shape(pipeline: Any, dataset: Any, sampling: Mapping[str, Any]) -> tuple[int, ...]:
    """Shape of one of the examples that samples are compared with."""
    side = _sides(pipeline, dataset, sampling)[1] if isinstance(dataset, TwoImageDataset) else dataset
    shape: tuple[int, ...] = side.spec.shape
    return shape


def translations(
    pipeline: Any,
    dataset: TwoImageDataset,
    sampling: Mapping[str, Any],
    with_violations: bool,
    *,
    batch_size: int,
    limit: int,
) -> Iterator[Answers]:
    """Translations beside their targets, or beside the images of the other domain, at most `limit` of either."""
    batches = (real_batches(side, batch_size, limit) for side in _sides(pipeline, dataset, sampling))
    for given, real in itertools.zip_longest(*batches):
        if given is None:
            yield Answers(real, None, {})
            continue
        made = pipeline(image=given, output_type="pt", **sampling).images.cpu()
        yield Answers(real, made, pipeline.violations(made) if with_violations else {})


def completions(
    pipeline: Any,
    dataset: Any,
    sampling: Mapping[str, Any],
    known_pixels: float,
    seed: int,
    *,
    batch_size: int,
    limit: int,
) -> Iterator[Answers]:
    """A sample for a map of known pixels of each real image, at most `limit`."""
    places = torch.Generator().manual_seed(seed)
    # a seed of its own: from the same numbers, the noise would tell which pixels are known
    noise = torch.Generator().manual_seed(int(torch.randint(2**62, (), generator=places)))
    for real in real_batches(dataset, batch_size, limit):
        mask = sample_mask(torch.rand(len(real), 1, *real.shape[2:], generator=places), known_pixels)
        output = pipeline(real, mask[:, 0], generator=noise, output_type="pt", **sampling)
        yield Answers(real, output.images.cpu(), {"mse": output.mse, "satisfied": output.satisfied})


def report_scores(
    metric: str, scores: Mapping[str, Sequence[Tensor]]
) -> Iterator[tuple[str, float, dict[str, float]]]:
    """Name, value and further settings of each number of "violations" or "constraints"."""
    if metric == "violations":
        for name in ("C1", "C2", "C3"):
            of_images = mean_std_median(torch.cat(list(scores[name])))
            yield name, of_images.mean, {}
            yield f"{name} std", of_images.std, {}
            yield f"{name} median", of_images.median, {}
    else:
        yield "constraint MSE", torch.cat(list(scores["mse"])).mean().item(), {}
        yield "constraints satisfied", torch.cat(list(scores["satisfied"])).mean().item(), {"epsilon": EPSILON}


def data_settings(
    pipeline: Any, dataset: Any, data_args: DataArguments, sampling: Mapping[str, Any]
) -> dict[str, Any]:
    """What tells a figure from those on other images: the data, the columns that are not the usual ones.

    Of a translator also the second data set, the size of the images and the direction.
    """
    variant = "" if data_args.dataset_config_name is None else f" ({data_args.dataset_config_name})"
    # of a local folder its own name, since a path says nothing to the reader of a card
    settings: dict[str, Any] = {"dataset": f"{dataset.spec.name}{variant}"}
    if _has_second_set(data_args):
        settings["dataset_b"] = dataset.second.spec.name + (variant if is_builtin(data_args.dataset_name_b) else "")
    usual = DataArguments()
    for name in ("image_column", "conditioning_image_column", "target_image_column", "image_columns"):
        if getattr(data_args, name) != getattr(usual, name):
            settings[name] = getattr(data_args, name)
    if translates(pipeline):
        settings |= {"resolution": data_args.resolution, "direction": _direction(pipeline, sampling)}
    return {name: value for name, value in settings.items() if value is not None}


def _sides(pipeline: Any, dataset: TwoImageDataset, sampling: Mapping[str, Any]) -> tuple[MapDataset, MapDataset]:
    """The images to translate, and those to compare the translations with."""
    both = dataset.first, dataset.second
    return both[::-1] if _direction(pipeline, sampling) == "b_to_a" else both


def _direction(pipeline: Any, sampling: Mapping[str, Any]) -> str | None:
    """The direction of a translator that has two, else None."""
    parameters = inspect.signature(type(pipeline).__call__).parameters
    return sampling.get("direction", parameters["direction"].default) if "direction" in parameters else None


def _has_second_set(data_args: DataArguments) -> bool:
    return data_args.dataset_name_b is not None or data_args.train_data_dir_b is not None
