"""A pipeline applied to a folder of images: a file, or a line of scores, for each of them, by its name."""

from __future__ import annotations

import inspect
import json
import logging
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from torch import Tensor
from tqdm import tqdm

from .applied_files import ImageFiles, ScoreFile, carry_metadata, read_metadata
from .applied_inputs import Inputs, find_inputs
from .checks import check_seed
from .data.conversion import AS_STORED, Conversion, Kind
from .data.decoding import BadImage, Header, opened
from .data.folders import tell_passed_over
from .data.listing import OF_A_RUN, Listing, list_folder
from .data.reader import Reader
from .data.resizing import ResizeMode
from .errors import UserError
from .files import read_json, replacing, sha256
from .pipelines.base import GenerativePipeline, Task

logger = logging.getLogger(__name__)

SETTINGS = "apply.json"
OnBadImage = Literal["error", "skip"]
ScoresFormat = Literal["csv", "jsonl"]


@dataclass(frozen=True)
class Applied:
    """How it went: images that something was written for, those that were done before, and bad ones left out."""

    written: int
    present: int
    skipped: int


@torch.no_grad()
def apply_pipeline(
    pipeline: GenerativePipeline,
    folder: str | Path,
    output_dir: str | Path,
    *,
    task: Task | None = None,
    batch_size: int = 8,
    seed: int = 0,
    resolution: tuple[int, int] | None = None,
    center_fraction: float | None = None,
    resize_mode: ResizeMode = "cover",
    conversion: Conversion = AS_STORED,
    on_bad_image: OnBadImage = "error",
    scores_format: ScoresFormat = "csv",
    options: Mapping[str, Any] | None = None,
    progress: bool = True,
) -> Applied:
    """Apply a pipeline to every image of a folder and of the folders in it.

    Images become PNG files where such pictures exist, else arrays (height, width, channels) in `.npy`; codes become
    `.npy`; scores lines of `scores.csv` or `scores.jsonl`. All keep the names and sub-folders of the images, and
    metadata files that name images go along. What exists is not made again: the same call goes on where an earlier one
    was interrupted, and ends with the same files.

    Args:
        pipeline: Its class says what it can do to images (`tasks`).
        folder: PNG, JPEG, TIFF, `.npy` ... as for training. For a network of several images it holds a folder for each
            of them, by its name, with files of equal names.
        output_dir: Outside `folder`; absent, empty, or of an interrupted call with the same arguments.
        task: One of `pipeline.tasks`, the first by default.
        batch_size: Images at a time; of several sizes, those of one size together.
        seed: Of what is drawn at random: batch k is drawn from `seed` + the number of its first image.
        resolution: (height, width) that images are made to cover, before the middle is cut out; None leaves them.
        center_fraction: Share of height and width, in the middle, that is kept before that; None for all.
        resize_mode: "stretch" for images that become `resolution` whatever their proportions.
        conversion: What is done to modes and values, as in training.
        on_bad_image: "skip" goes on without images that cannot be read or do not fit.
        scores_format: Of the scores.
        options: Further arguments of the pipeline's method, such as {"tile_size": 512}; those that are None are unset.
        progress: Show a progress bar.

    Raises:
        UserError: The pipeline cannot do it, a folder cannot be used, an image is bad, or nothing can be written.
    """
    folder, output_dir = Path(folder), Path(output_dir)
    chosen = _task(pipeline, task)
    methods = _methods(pipeline, chosen)
    given = _options(pipeline, chosen, methods, options or {})
    listing = _listing(folder, output_dir, on_bad_image)
    parts = [str(name) for name, *_ in pipeline.config.get("source_parts") or ()]
    inputs = find_inputs(listing, parts)
    reading = _Reading(
        resolution, conversion, on_bad_image, _value_scale(pipeline, given), center_fraction, resize_mode
    )
    settings: dict[str, Any] = {"pipeline": type(pipeline).__name__, "weights": _fingerprint(pipeline), "task": chosen}
    settings |= {"batch_size": batch_size, "seed": seed, **reading.settings()}
    settings |= {"scores_format": scores_format if chosen == "score" else None, "options": given}
    headers = _headers(pipeline, inputs, reading)
    names = list(headers)
    metadata = {} if chosen == "score" or parts else read_metadata(listing)
    check_seed("--seed", seed, len(inputs.files))
    _check_output(output_dir, settings)
    is_score = chosen == "score"
    output = ScoreFile(output_dir, scores_format, list(methods)) if is_score else ImageFiles(output_dir, names)
    images = {name: inputs.digest(name) for name in names}
    _check_images(output_dir, output, images)
    settings["images"] = images
    pipeline.set_progress_bar_config(disable=True)
    present, written = sum(map(output.has, names)), 0
    with tqdm(total=len(names), initial=present, unit="image", disable=None if progress else True) as bar:
        for start in range(0, len(names), batch_size):
            chunk = names[start : start + batch_size]
            missing = {name for name in chunk if not output.has(name)}
            for batch_names, batch in _batches(inputs, chunk if missing else [], headers, reading):
                place = start + chunk.index(batch_names[0])
                results = _run(methods, batch, given, seed + place, inputs.path(batch_names[0]))
                if not written:
                    _save_settings(output_dir, settings)
                for name, result in zip(batch_names, results, strict=True):
                    if name in missing:
                        output.write(name, result if is_score else result[chosen])
                        written += 1
            bar.update(len(missing))
    output.finish(names)
    if isinstance(output, ImageFiles):
        carry_metadata(metadata, output)
    return Applied(written, present, len(inputs.files) - written - present)


# what is to be done --------------------------------------------------------------------------------------------------


def _task(pipeline: GenerativePipeline, task: Task | None) -> Task:
    name = type(pipeline).__name__
    if not pipeline.tasks:
        raise UserError(f"a {name} does nothing to images; use a model that translates, encodes or scores")
    if task is not None and task not in pipeline.tasks:
        raise UserError(f"a {name} cannot {task} images; choose --task from {', '.join(pipeline.tasks)}")
    return task or pipeline.tasks[0]


def _methods(pipeline: GenerativePipeline, task: Task) -> dict[str, Callable[..., Any]]:
    """What is called for each image, by name: several methods for scores."""
    if task == "translate":
        return {task: pipeline.__call__}
    return {name: getattr(pipeline, name) for name in (pipeline.scores if task == "score" else (task,))}


def _options(
    pipeline: GenerativePipeline, task: Task, methods: Mapping[str, Callable[..., Any]], options: Mapping[str, Any]
) -> dict[str, Any]:
    """The options that are given, once it is known that the methods take them."""
    given = {name: value for name, value in options.items() if value is not None}
    for name in given:
        if not any(name in inspect.signature(method).parameters for method in methods.values()):
            raise UserError(f"--{name}: a {type(pipeline).__name__} has no such option to {task}; leave it out")
    return given


def _run(
    methods: Mapping[str, Callable[..., Any]], batch: Tensor, options: Mapping[str, Any], seed: int, first: Path
) -> list[Any]:
    """What the methods make of each image of a batch: a picture, an array, or numbers by the methods' names.

    Raises:
        UserError: A method refuses the batch, of which `first` is the first image.
    """
    made: list[dict[str, Any]] = [{} for _ in batch]
    for name, method in methods.items():
        accepted = inspect.signature(method).parameters
        arguments = {key: value for key, value in options.items() if key in accepted}
        if "class_labels" in arguments:
            arguments["class_labels"] = [arguments["class_labels"]] * len(batch)
        if "generator" in accepted:
            arguments["generator"] = torch.Generator().manual_seed(seed)
        try:
            result = method(**{"image" if name == "translate" else "images": batch}, **arguments)
        except UserError as error:
            raise UserError(f"{first}: {error}") from error
        results = result.float().cpu().numpy() if isinstance(result, Tensor) else result.images
        for each, value in zip(made, results, strict=True):
            each[name] = value
    return made


# images --------------------------------------------------------------------------------------------------------------


def _listing(folder: Path, output_dir: Path, on_bad_image: OnBadImage) -> Listing:
    if not folder.is_dir():
        raise UserError(f"{folder} is no folder; give one that holds images")
    if any((folder / name).exists() for name in OF_A_RUN):
        raise UserError(f"{folder} holds a training run or a model, not images; give a folder of images")
    if folder.resolve() in (output_dir.resolve(), *output_dir.resolve().parents):
        raise UserError(f"--output_dir {output_dir} lies in {folder}, whose images are read; choose another one")
    listing = list_folder(folder)
    if not listing.images:
        raise UserError(f"{folder} holds no images; give a folder of such as .png, .jpg or .npy files")
    tell_passed_over(listing, on_bad_image == "skip")
    return listing


def _value_scale(pipeline: GenerativePipeline, options: Mapping[str, Any]) -> float:
    """What 1 stands for in the data that the pipeline takes."""
    config = pipeline.config
    is_reversed = options.get("direction") == "b_to_a"
    scale: float = config["value_scale" if is_reversed or "source_value_scale" not in config else "source_value_scale"]
    return scale


@dataclass(frozen=True)
class _Reading:
    """How images are read, for a pipeline that was trained on data whose white is `value_scale`."""

    resolution: tuple[int, int] | None
    conversion: Conversion
    on_bad_image: OnBadImage
    value_scale: float
    center_fraction: float | None = None
    resize_mode: ResizeMode = "cover"

    def settings(self) -> dict[str, Any]:
        """What tells one reading from another; options that earlier versions had not are there where they are used."""
        value_range = self.conversion.value_range
        settings: dict[str, Any] = {
            "resolution": list(self.resolution) if self.resolution else None,
            "convert": self.conversion.mode,
            "value_range": list(value_range) if value_range else None,
        }
        settings |= {} if self.center_fraction is None else {"center_crop_fraction": self.center_fraction}
        return settings | ({} if self.resize_mode == "cover" else {"resize_mode": self.resize_mode})

    def reader(self, header: Header) -> Reader:
        return Reader(
            header.kind,
            None,
            self.resolution,
            center_crop=True,
            conversion=self.conversion,
            center_fraction=self.center_fraction,
            resize_mode=self.resize_mode,
        )

    def white(self, kind: Kind) -> float:
        """The stored value of white: of 16 bits what it was in training, as in `pipelines.images.to_network`."""
        if kind.dtype != "uint16" or self.value_scale <= 255 or self.conversion.value_range is not None:
            return kind.value_scale
        return self.value_scale

    @contextmanager
    def trying(self, path: Path) -> Iterator[None]:
        """A block in which an image may turn out to be bad: an error, or a warning and the end of the block."""
        try:
            yield
        except BadImage as error:
            if self.on_bad_image == "error":
                raise UserError(f"{path} {error}, or pass --on_bad_image skip to leave such images out") from error
            logger.warning("left out: %s %s", path, error)


def _headers(pipeline: GenerativePipeline, inputs: Inputs, reading: _Reading) -> dict[str, Header]:
    """What the images are, in order, without those that are to be left out; decodes none of them."""
    found: dict[str, Header] = {}
    for name in inputs.files:
        with reading.trying(inputs.path(name)), opened(inputs.record(name), reading.conversion) as (header, _):
            if "translate" not in pipeline.tasks:
                _check_shape(reading.reader(header).target_shape(header), tuple(pipeline.sample_shape))
            found[name] = header
    if not found:
        raise UserError(f"none of the {len(inputs.files)} images of {inputs.folder} can be used")
    return found


def _check_shape(shape: tuple[int, ...], wanted: tuple[int, ...]) -> None:
    if len(shape) == len(wanted) == 3 and shape[0] == wanted[0] and shape != wanted:
        raise BadImage(
            f"is {shape[1]}x{shape[2]} (height x width) where the model takes {wanted[1]}x{wanted[2]}: pass "
            f"--resolution {wanted[1]} {wanted[2]}"
        )
    if shape != wanted:
        raise BadImage(f"has shape {shape} where the model takes {wanted}: convert it (--convert) or remove it")


def _batches(
    inputs: Inputs, names: list[str], headers: Mapping[str, Header], reading: _Reading
) -> Iterator[tuple[list[str], Tensor]]:
    """Images of one shape together: their names, and (batch, channels, height, width) in [0, 1] or (batch, dim)."""
    images: dict[tuple[int, ...], dict[str, Tensor]] = {}
    for name in names:
        with reading.trying(inputs.path(name)):
            kind = headers[name].kind
            pixels = reading.reader(headers[name]).read(inputs.record(name)).astype(np.float32)
            image = torch.from_numpy(pixels)
            image = image if kind.vector else (image / reading.white(kind)).clamp(max=1)
            images.setdefault(tuple(image.shape), {})[name] = image
    for group in images.values():
        yield list(group), torch.stack(list(group.values()))


# the output folder ---------------------------------------------------------------------------------------------------


def _fingerprint(pipeline: GenerativePipeline) -> dict[str, str] | None:
    """SHA-256 of each file of weights, where the pipeline was loaded from some."""
    if pipeline._source is None:
        return None
    files = sorted(pipeline._source.glob("*/*.safetensors"))
    return {path.relative_to(pipeline._source).as_posix(): sha256(path) for path in files}


def _save_settings(output_dir: Path, settings: Mapping[str, Any]) -> None:
    """With the first results, so that a call that fails at once can be corrected."""
    with replacing(output_dir / SETTINGS) as temporary:
        temporary.write_text(json.dumps(settings, indent=2) + "\n", encoding="utf-8")


def _check_images(output_dir: Path, output: ScoreFile | ImageFiles, images: Mapping[str, str]) -> None:
    """Refuse to go on where an image that is done has changed or is no longer there: it may be of another folder."""
    settings = output_dir / SETTINGS
    earlier = read_json(settings).get("images", {}) if settings.is_file() else {}
    if not isinstance(earlier, dict):
        raise UserError(f"{settings} was not written by apply; choose another --output_dir")
    for name in dict.fromkeys([*earlier, *images]):
        if output.has(name) and earlier.get(name) != images.get(name):
            raise UserError(f"--output_dir {output_dir} holds what was made of another {name}; choose another one")


def _check_output(output_dir: Path, settings: Mapping[str, Any]) -> None:
    """Refuse a folder with anything but what an interrupted call with the same settings has left."""
    output_dir.mkdir(parents=True, exist_ok=True)
    if not any(output_dir.iterdir()):
        return
    if not (output_dir / SETTINGS).is_file():
        raise UserError(f"--output_dir {output_dir} is not empty; choose another one")
    earlier = read_json(output_dir / SETTINGS)
    for name, value in settings.items():
        if earlier.get(name) != value:
            raise UserError(f"--output_dir {output_dir} holds what was made with another {name}; choose another one")
