"""What is compared with what: real examples, translations and their targets, images from a few known pixels."""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple

import torch
from torch import Tensor

from ..data import DataArguments, Layout, evaluation_batches
from ..data.columns import is_builtin
from ..data.layouts import TwoImageDataset
from ..data.sets import MapDataset
from ..data.sources import has_two_sources
from ..errors import UserError
from ..losses.constraints import sample_mask
from .folder import FolderOfImages
from .kinds import ANOMALY, ERROR, VIOLATIONS
from .request import Request

_EIGHT_BITS = 255


class Answers(NamedTuple):
    """A batch of real images, and one of those that a pipeline made of images.

    Attributes:
        real: (batch, channels, height, width) in [0, 1]; None where the others are more.
        made: The same.
        scores: Numbers for each image of `made`, (batch,), by name.
    """

    real: Tensor | None
    made: Tensor | None
    scores: Mapping[str, Tensor]


def layout_of(request: Request, data_args: DataArguments) -> Layout:
    """What an example consists of: what the pipeline says, but pairs where both domains are columns of one set.

    Args:
        request: What was asked for.
        data_args: The data set, or two.

    Raises:
        UserError: A metric compares a translation with its own target, and there are no targets.
    """
    kind = request.pipeline.data_layout
    if kind == "domains" and not has_two_sources(data_args):
        return Layout("pair")
    one_by_one = request.of(ERROR)
    if kind == "domains" and one_by_one:
        raise UserError(f"{one_by_one[0]} needs pairs, two columns of one data set: leave out the second data set")
    return Layout(kind)


def compared_shape(request: Request, dataset: Any) -> tuple[int, ...]:
    """Shape of one of the examples that samples are compared with."""
    side = _sides(request, dataset)[1] if "translations" in request.pipeline.measures else dataset
    shape: tuple[int, ...] = side.spec.shape
    return shape


def check_white(request: Request, dataset: Any, data_args: DataArguments) -> None:
    """Refuse data of 16 bits in which another value is white than in those of 16 bits that the pipeline learnt from.

    Raises:
        UserError: The white levels differ, and no `value_range` says that of the data.
    """
    config = getattr(request.pipeline, "config", {})  # one without components has none
    if data_args.value_range is not None or "value_scale" not in config:
        return
    white = config["value_scale"]
    sides = [(dataset.spec, white)]
    if "translations" in request.pipeline.measures:
        sides = [(dataset.first.spec, config.get("source_value_scale", white)), (dataset.second.spec, white)]
    for spec, learnt in sides:
        if min(spec.value_scale, learnt) > _EIGHT_BITS and spec.value_scale != learnt:
            raise UserError(
                f"{spec.name}: {spec.value_scale:g} is white, and in the images that the model learnt from {learnt:g} "
                f"was; give --value_range 0 {learnt:g}, or 0 {spec.value_scale:g} if the data have units of their own"
            )


def real_batches(request: Request, dataset: Any) -> Iterator[Tensor]:
    """As many real examples as asked for, in order: (batch, channels, height, width) in [0, 1], or (batch, dim)."""
    return (examples for examples, _ in labelled_batches(request, dataset))


def labelled_batches(request: Request, dataset: Any) -> Iterator[tuple[Tensor, Tensor | None]]:
    """`real_batches` with the labels (batch,) of each, where there are any."""
    taken = 0
    for batch in evaluation_batches(dataset, batch_size=request.batch_size):
        examples = batch["image"][: request.num_samples - taken]
        taken += len(examples)
        labels = batch["label"][: len(examples)] if "label" in batch else None
        yield (examples + 1) / 2 if examples.ndim == 4 else examples, labels
        if taken == request.num_samples:
            return


def translations(request: Request, dataset: TwoImageDataset) -> Iterator[Answers]:
    """Translations beside their targets or images of the other domain, as many of either as asked for at most."""
    pipeline, with_violations = request.pipeline, bool(request.of(VIOLATIONS))
    batches = (real_batches(request, side) for side in _sides(request, dataset))
    for given, real in itertools.zip_longest(*batches):
        if given is None:
            yield Answers(real, None, {})
            continue
        made = pipeline(image=given, output_type="pt", **request.sampling).images.cpu()
        yield Answers(real, made, pipeline.violations(made) if with_violations else {})


def completions(request: Request, dataset: Any) -> Iterator[Answers]:
    """A sample for a map of known pixels of each real image, as many as asked for at most."""
    places = request.generator()
    # a seed of its own: from the same numbers, the noise would tell which pixels are known
    noise = torch.Generator().manual_seed(int(torch.randint(2**62, (), generator=places)))
    for real in real_batches(request, dataset):
        mask = sample_mask(torch.rand(len(real), 1, *real.shape[2:], generator=places), request.known_pixels)
        output = request.pipeline(real, mask[:, 0], generator=noise, output_type="pt", **request.sampling)
        yield Answers(real, output.images.cpu(), {"mse": output.mse, "satisfied": output.satisfied})


def data_settings(request: Request, dataset: Any, data_args: DataArguments) -> dict[str, Any]:
    """What tells a figure from those on other images: the data, the columns that are not the usual ones.

    Of a translator also the second data set, the size of the images and the direction; of images from known pixels
    the share of those.
    """
    variant = "" if data_args.dataset_config_name is None else f" ({data_args.dataset_config_name})"
    # of a local folder its own name, since a path says nothing to the reader of a card
    settings: dict[str, Any] = {"dataset": f"{dataset.spec.name}{variant}"}
    if isinstance(request.pipeline, FolderOfImages):
        settings |= {"images": request.pipeline.name, "resolution": data_args.resolution}
    if has_two_sources(data_args):
        settings["dataset_b"] = dataset.second.spec.name + (variant if is_builtin(data_args.dataset_name_b) else "")
    usual = DataArguments()
    columns = ("image_column", "conditioning_image_column", "target_image_column", "image_columns")
    for name in (*columns, "side_by_side", "direction", "crop_size", "convert", "value_range"):
        if getattr(data_args, name) != getattr(usual, name):
            settings[name] = getattr(data_args, name)
    if "translations" in request.pipeline.measures:
        settings["resolution"] = data_args.resolution
        settings["direction"] = _direction(request) or settings.get("direction")
    if request.of(ANOMALY):
        settings["anomaly"] = data_args.exclude_label
    if "completions" in request.pipeline.measures:
        settings["known_pixels"] = request.known_pixels
    return {name: value for name, value in settings.items() if value is not None}


def _sides(request: Request, dataset: TwoImageDataset) -> tuple[MapDataset, MapDataset]:
    """The images to translate, and those to compare the translations with."""
    both = dataset.first, dataset.second
    return both[::-1] if _direction(request) == "b_to_a" else both


def _direction(request: Request) -> str | None:
    """The direction of a translator that has two, else None."""
    return request.sampling.get("direction", request.pipeline.default_direction)
