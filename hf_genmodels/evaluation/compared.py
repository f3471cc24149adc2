"""What is compared with what: real examples, translations and their targets, images from a few known pixels."""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple

import torch
from torch import Generator, Tensor

from ..data import DataArguments, Layout, evaluation_batches
from ..data.columns import is_builtin
from ..data.layouts import TwoImageDataset
from ..data.sets import MapDataset
from ..data.sources import has_two_sources
from ..errors import UserError
from ..losses.constraints import sample_mask
from ..metrics.depth import depth_errors
from ..metrics.segmentation import overlaps
from .folder import FolderOfImages
from .kinds import ANOMALY, DEPTH, ERROR, FEATURE_ERROR, MAPS, VIOLATIONS
from .processes import Turns
from .request import Request

_EIGHT_BITS = 255


class RealBatch(NamedTuple):
    """Some of the real data, of those batches that are this process's.

    Attributes:
        number: Of the batch, counted over all processes.
        examples: (batch, channels, height, width) in [0, 1] or, of label maps, of int64; or (batch, dim).
        labels: (batch,), where there are any.
        factors: (batch, factors), what the examples were made of, where that is known.
    """

    number: int
    examples: Tensor
    labels: Tensor | None
    factors: Tensor | None


class Answers(NamedTuple):
    """A batch of real images, and one of those that a pipeline made of images.

    Attributes:
        real: (batch, channels, height, width) in [0, 1]; None where the others are more.
        made: The same.
        scores: Numbers for each image of `made`, (batch, ...), by name.
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
    one_by_one = request.of(ERROR, FEATURE_ERROR, DEPTH)
    if kind == "domains" and one_by_one:
        raise UserError(f"{one_by_one[0]} needs pairs, two columns of one data set: leave out the second data set")
    maps = request.pipeline.label_maps if "label_maps" in request.pipeline.measures else None
    return Layout(kind, label_maps=maps)


def compared_shape(request: Request, dataset: Any) -> tuple[int, ...]:
    """Shape of one of the examples that samples are compared with."""
    side = _sides(request, dataset)[1] if request.pipeline.translates else dataset
    shape: tuple[int, ...] = side.spec.shape
    return shape


def check_white(request: Request, dataset: Any, data_args: DataArguments) -> None:
    """Refuse data of 16 bits in which another value is white than in those of 16 bits that the pipeline learnt from.

    Raises:
        UserError: The white levels differ, and no `value_range` says that of the data.
    """
    config = getattr(request.pipeline, "config", {})  # one without components has none
    white = config.get("value_scale", config.get("source_value_scale"))
    if data_args.value_range is not None or white is None:
        return
    sides = [(dataset.spec, white)]
    if request.pipeline.translates:
        sides = [(dataset.first.spec, config.get("source_value_scale", white)), (dataset.second.spec, white)]
    for spec, learnt in sides:
        if min(spec.value_scale, learnt) > _EIGHT_BITS and spec.value_scale != learnt:
            raise UserError(
                f"{spec.name}: {spec.value_scale:g} is white, and in the images that the model learnt from {learnt:g} "
                f"was; give --value_range 0 {learnt:g}, or 0 {spec.value_scale:g} if the data have units of their own"
            )


def real_batches(request: Request, dataset: Any) -> Iterator[RealBatch]:
    """As many real examples as asked for, in order; of several processes each has every so manieth batch."""
    processes, size = request.processes, request.batch_size
    batches = evaluation_batches(
        dataset, batch_size=size, rank=processes.rank, world_size=processes.number, num_workers=None
    )
    mine = range(processes.rank, -(-request.num_samples // size), processes.number)
    for number, batch in zip(mine, batches, strict=False):
        examples = batch["image"][: request.num_samples - number * size]
        labels = batch["label"][: len(examples)] if "label" in batch else None
        is_image = examples.is_floating_point() and examples.ndim == 4
        factors = batch["factors"][: len(examples)] if "factors" in batch else None
        yield RealBatch(number, (examples + 1) / 2 if is_image else examples, labels, factors)


def translations(request: Request, dataset: TwoImageDataset) -> Iterator[Answers]:
    """Translations beside their targets or images of the other domain, as many of either as asked for at most."""
    pipeline, unit = request.pipeline, _sides(request, dataset)[1].spec.value_scale
    batches = (real_batches(request, side) for side in _sides(request, dataset))
    for given, real in itertools.zip_longest(*batches):
        targets = None if real is None else real.examples
        if given is None:
            yield Answers(targets, None, {})
            continue
        made = pipeline(image=given.examples, output_type="pt", **request.sampling).images.cpu()
        scores: dict[str, Tensor] = pipeline.violations(made) if request.of(VIOLATIONS) else {}
        if request.of(DEPTH) and targets is not None:
            scores |= depth_errors(targets, made, unit)
        if request.of(MAPS) and targets is not None:
            scores["overlaps"] = overlaps(
                made, targets[:, 0], pipeline.label_maps.num_classes, pipeline.config.ignore_index
            )
        yield Answers(targets, made, scores)


def completions(request: Request, dataset: Any, turns: tuple[Turns, Turns]) -> Iterator[Answers]:
    """A sample for a map of known pixels of each real image, as many as asked for at most.

    Args:
        request: What was asked for.
        dataset: The images.
        turns: For the places of the known pixels, and for the noise.
    """

    def places(real: Tensor, generator: Generator) -> Tensor:
        return sample_mask(torch.rand(len(real), 1, *real.shape[2:], generator=generator), request.known_pixels)

    for number, real, *_ in real_batches(request, dataset):
        mask = turns[0].run(number, real, request.batch_size, places)

        def complete(real: Tensor, generator: Generator, mask: Tensor = mask) -> Any:
            shown = mask[torch.arange(len(real)) % len(mask), 0]
            return request.pipeline(real, shown, generator=generator, output_type="pt", **request.sampling)

        output = turns[1].run(number, real, request.batch_size, complete)
        yield Answers(real, output.images.cpu(), {"mse": output.mse, "satisfied": output.satisfied})


def completion_turns(request: Request) -> tuple[Turns, Turns]:
    """The generators of `completions`."""
    places = request.generator()
    # a seed of its own: from the same numbers, the noise would tell which pixels are known
    noise = torch.Generator().manual_seed(int(torch.randint(2**62, (), generator=places)))
    return request.turns(places), request.turns(noise)


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
    columns = ("image_column", "conditioning_image_column", "conditioning_image_columns", "target_image_column")
    for name in (
        *columns,
        "image_columns",
        "side_by_side",
        "direction",
        "crop_size",
        "center_crop_fraction",
        "resize_mode",
        "convert",
        "value_range",
    ):
        if getattr(data_args, name) != getattr(usual, name):
            settings[name] = getattr(data_args, name)
    if request.pipeline.translates:
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
