"""Model cards: what a model is, how it was trained and what was measured, from the files of its folder."""

from __future__ import annotations

import logging
import math
import os
import re
import shlex
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from huggingface_hub import EvalResult, ModelCard, ModelCardData
from yaml import YAMLError

from .card_text import Markdown, code, python_string, render, shell_word, tidy
from .errors import UserError, one_line
from .families import FAMILIES, Family, find_family
from .files import LIBRARIES, read_json, replacing
from .metrics.record import read_metrics
from .registration import find_registered

logger = logging.getLogger(__name__)

KEEP_MARKER = "<!-- Written by hf_genmodels; what you add below this line is kept when the card is written again. -->"
# At the start of its line alone: elsewhere it may be the value of an option.
_MARKER_LINE = re.compile(f"^{re.escape(KEEP_MARKER)}", re.MULTILINE)
HUB_ID = re.compile(r"[A-Za-z0-9][\w.-]*(/[\w.-]+)?")
DATA_OPTIONS = (
    "dataset_config_name",
    "revision",
    "train_split",
    "validation_split",
    "validation_size",
    "exclude_label",
    "max_train_samples",
    "resolution",
    "crop_size",
    "center_crop_fraction",
    "resize_mode",
    "convert",
    "value_range",
    "center_crop",
    "random_flip",
    "image_column",
    "conditioning_image_column",
    "target_image_column",
    "image_columns",
    "side_by_side",
    "direction",
)
TEXT_OPTIONS = (
    "dataset_name",
    "dataset_name_b",
    "train_data_dir",
    "train_data_dir_b",
    "dataset_config_name",
    "validation_split",
)
# As in `DataArguments`, whose import takes seconds.
USUAL_COLUMNS = {
    "image_column": "image",
    "conditioning_image_column": "conditioning_image",
    "target_image_column": "target_image",
    "direction": "a_to_b",
}


def make_card(folder: str | os.PathLike[str], *, repo_id: str | None = None, license: str | None = None) -> ModelCard:
    """Describe a trained model by what its folder holds; a section without facts is left out.

    Args:
        folder: A training output folder, or any folder written by `save_pretrained`. Read are `model_index.json`, the
            networks' `config.json` and, where they exist, `metrics.json`, `training_args.json`, `losses.png` and the
            newest pictures of `samples/`.
        repo_id: Repository that the card's snippet loads from; the folder by default.
        license: Identifier of the weights' licence, such as "apache-2.0".

    Returns:
        The card; its metadata hold the figures as evaluation results.

    Raises:
        UserError: The folder holds no model of a known family, nor one that training here has made, or a damaged file.
    """
    folder = Path(folder)
    family = _family(folder)
    metrics, training = tidy(read_metrics(folder)), training_arguments(folder)
    options = tidy(training.get("arguments", {}))
    model_name = one_line((repo_id or folder.resolve().name).split("/")[-1])
    data = _data_name(options), _data_name(options, "_b")
    domains = [_described_data(*each) for each in data]
    metadata = ModelCardData(
        library_name="hf_genmodels",
        pipeline_tag=family.pipeline_tag,
        license=license,
        tags=["hf_genmodels", family.name],
        datasets=[name for name, is_hub_id in data if name is not None and is_hub_id] or None,
        model_name=model_name,
        eval_results=_eval_results(family, metrics, options) or None,
    )
    context = {
        "folder": folder,
        "metadata": Markdown(metadata.to_yaml()),
        "model_name": model_name,
        "pipeline": _optional_json(folder / "model_index.json").get("_class_name"),
        "source": python_string(repo_id or folder.as_posix()),
        "options": options,
        "networks": {name: _config(path) for name, path in component_folders(folder).items()},
        "own_classes": _own_classes(folder),
        "class_names": _class_names(folder),
        "class_colors": _class_colors(folder),
        "own_pipeline": family.pipeline is not None and find_family(family.pipelines[0]) is None,
        "pictures": [(caption, path.relative_to(folder).as_posix()) for caption, path in newest_pictures(folder)],
        "has_losses": (folder / "losses.png").is_file(),
        "command": Markdown(training["command"]) if "command" in training else None,
        "step": metrics.get("step"),
        "seconds": metrics.get("seconds"),
        "environment": metrics.get("environment"),
        "data_name": domains[0] if domains[1] is None else _both(*domains),
        "domains": domains,
        "data_options": _data_options(options),
        "losses": _losses(metrics),
        "evaluation": metrics.get("evaluation", []),
        "best": metrics.get("best"),
        "warnings": metrics.get("warnings", []),
        "license": license,
        "keep_marker": Markdown(KEEP_MARKER),
    }
    text = render(family.card, family.name, context)
    return ModelCard(re.sub(r"\n{3,}", "\n\n", text))


def _losses(metrics: dict[str, Any]) -> dict[str, dict[str, Any]]:
    """The figures of training and validation side by side, by name."""
    train, validation = metrics.get("train", {}), metrics.get("validation", {})
    return {name: {"train": train.get(name), "validation": validation.get(name)} for name in [*train, *validation]}


def write_card(
    folder: str | os.PathLike[str],
    *,
    repo_id: str | None = None,
    license: str | None = None,
    published: ModelCard | None = None,
) -> Path:
    """Write `README.md` into a model's folder, see `make_card`.

    An earlier card's licence and what was added at its end are kept; a README.md of the user's own is left alone.

    Args:
        folder: As for `make_card`.
        repo_id: As for `make_card`.
        license: As for `make_card`; by default that of `published`, else of the folder's earlier card.
        published: The card that the repository has, which was perhaps edited there; what was added at its end is kept
            beside what was added to the folder's.

    Returns:
        The path of the card.
    """
    folder = Path(folder)
    path, additions = folder / "README.md", [] if published is None else [_addition(published)]
    license = license or (published.data.get("license") if published is not None else None)
    if path.is_file():
        earlier = load_card(path)
        if not is_ours(earlier):
            logger.warning("%s was not written by hf_genmodels and is left as it is", path)
            return path
        license = license or earlier.data.get("license")
        additions.append(_addition(earlier))
    kept: list[str] = []
    for addition in sorted(additions, key=lambda text: len(text.strip()), reverse=True):
        if not any(addition.strip() in longer for longer in kept):
            kept.append(addition)
    card = make_card(folder, repo_id=repo_id, license=license)
    card.text = card.text.rstrip("\n") + "".join(kept or ["\n"])
    with replacing(path) as temporary:
        card.save(temporary)
    return path


def load_card(path: Path) -> ModelCard:
    """A card from a file, whatever its evaluation results.

    Raises:
        UserError: It cannot be read, or its metadata are no YAML mapping.
    """
    try:
        return ModelCard.load(path, ignore_metadata_errors=True)
    except (OSError, ValueError, YAMLError, RecursionError) as error:
        raise UserError(f"{path}: the card's metadata cannot be read: {one_line(str(error))}; mend them") from error


def is_ours(card: ModelCard) -> bool:
    """Whether a card was written by `write_card`."""
    return _MARKER_LINE.search(card.text) is not None


def _addition(card: ModelCard) -> str:
    """What was added below the marker, with the line break before it; a line break where there is no marker."""
    return _MARKER_LINE.split(card.text, maxsplit=1)[-1] if is_ours(card) else "\n"


def training_arguments(folder: Path) -> dict[str, Any]:
    """`training_args.json` of a folder as others may see it, {} if there is none.

    Without the access token, and with absolute paths reduced to their last part: where things lie on the machine that
    trained says nothing to the reader of a card.

    Raises:
        UserError: The file is damaged, or something in it is of another type.
    """
    path = folder / "training_args.json"
    training = _optional_json(path)
    arguments = training.get("arguments", {})
    if not isinstance(arguments, dict):
        raise UserError(f"{path}: arguments must be an object")
    texts = {name: training.get(name) for name in ("family", "command") if name in training}
    for name, value in (texts | {name: arguments.get(name, "") or "" for name in TEXT_OPTIONS}).items():
        if not isinstance(value, str):
            raise UserError(f"{path}: {name} must be a text, got {str(value)[:60]!r}")
    arguments.pop("hub_token", None)
    for name, value in arguments.items():
        if isinstance(value, str):
            arguments[name] = _without_place(value)
    if "command" in training:
        try:
            training["command"] = _shown_command(training["command"])
        except ValueError as error:
            raise UserError(f"{path}: the command cannot be read: {one_line(str(error))}") from None
    return training


def _shown_command(command: str) -> str:
    """The command without the access token, each word and each option's value reduced by `_without_place`."""
    words, is_token = [], False
    for word in shlex.split(command):
        name, equals, value = word.partition("=")
        if is_token or name.replace("-", "_") == "__hub_token":
            is_token = not (is_token or equals)
            continue
        is_pair = equals and name.startswith("--")
        words.append(shell_word(f"{name}={_without_place(value)}" if is_pair else _without_place(word)))
    return " ".join(words)


def _without_place(value: str) -> str:
    return f"./{Path(value).name}" if value.startswith(("/", "~", "..")) else value


def _family(folder: Path) -> Family:
    """The family of a folder; where several share a pipeline, the one that training recorded."""
    recorded: str | None = training_arguments(folder).get("family")
    own = recorded if recorded is not None and recorded not in FAMILIES else None
    if not (folder / "model_index.json").is_file() and recorded is not None:
        if own is not None:
            return Family.unknown(own, None)
        if FAMILIES[recorded].pipeline is None:
            return FAMILIES[recorded]
    pipeline = str(read_json(folder / "model_index.json").get("_class_name"))
    if not pipeline.isidentifier():
        raise UserError(f"{folder / 'model_index.json'}: _class_name must be that of a class, got {pipeline[:60]!r}")
    if own is not None:
        return Family.unknown(own, pipeline)
    family = find_family(pipeline, recorded)
    if family is None and find_registered(pipeline) is None:
        raise UserError(f"{folder / 'model_index.json'} names {pipeline}, which is no pipeline of hf_genmodels")
    return family or Family.unknown(pipeline, pipeline)


def component_folders(folder: Path) -> dict[str, Path]:
    """Folders of networks and schedulers by name; `folder` itself is that of a network without a pipeline."""
    if not (folder / "model_index.json").is_file():
        return {_family(folder).name: folder} if (folder / "config.json").is_file() else {}
    index = read_json(folder / "model_index.json")
    return {path.name: path for path in sorted(folder.iterdir()) if path.name in index and path.is_dir()}


def _config(folder: Path) -> dict[str, Any]:
    found = _optional_json(folder / "config.json") or _optional_json(folder / "scheduler_config.json")
    shown = {name: value for name, value in tidy(found).items() if not name.startswith("_") and value is not None}
    if shown.get("output_head") != "cone":
        shown.pop("intensity_source", None)  # says nothing about another head
    return shown


def _class_names(folder: Path) -> list[str]:
    """The names of the classes that a pipeline tells apart, by number."""
    names = _optional_json(folder / "model_index.json").get("id2label")
    return [one_line(str(name)) for name in names.values()] if isinstance(names, dict) else []


def _class_colors(folder: Path) -> list[str]:
    """The colours by which a pipeline shows classes, such as "#ff0000", by number."""
    colors = _optional_json(folder / "model_index.json").get("label_colors")
    is_listed = isinstance(colors, list) and all(isinstance(c, list) and len(c) == 3 for c in colors)
    return ["#" + "".join(f"{value:02x}" for value in color) for color in colors or ()] if is_listed else []


def _own_classes(folder: Path) -> dict[str, str]:
    """Components whose class is the author's own, and that class."""
    entries = _optional_json(folder / "model_index.json").items()
    pairs = {name: entry for name, entry in entries if isinstance(entry, list) and len(entry) == 2 and entry[0]}
    return {name: str(entry[1]) for name, entry in pairs.items() if entry[0] not in LIBRARIES}


def newest_pictures(folder: Path) -> list[tuple[str, Path]]:
    """The newest picture of each kind in `samples/` (`<kind>-<step>.png`), with its caption."""
    newest: dict[str, tuple[int, Path]] = {}
    for path in sorted((folder / "samples").glob("*.png")):
        kind, _, step = path.stem.rpartition("-")
        if step.isdecimal() and int(step) >= newest.get(kind, (-1, path))[0]:
            newest[kind] = int(step), path
    return [
        (f"Step {step}" if kind == "step" else f"{kind.replace('_', ' ').capitalize()} at step {step}", path)
        for kind, (step, path) in newest.items()
    ]


def _data_name(options: Mapping[str, Any], suffix: str = "") -> tuple[str | None, bool]:
    """Name of the training data, and whether that is an id on the Hub; of a local path only the last part.

    With the suffix "_b" of domain B, where it is another data set.
    """
    given = options.get(f"dataset_name{suffix}")
    name = given or options.get(f"train_data_dir{suffix}")
    if name is None or name.startswith("builtin:"):
        return name, False
    if given is None or Path(name).exists() or not HUB_ID.fullmatch(name):
        return Path(name).name, False
    return name, True


def _described_data(name: str | None, is_hub_id: bool) -> Markdown | None:
    if name is None:
        return None
    if is_hub_id:
        return Markdown(f"[{name}](https://huggingface.co/datasets/{name})")
    where = "which comes with hf_genmodels" if name.startswith("builtin:") else "local files"
    return Markdown(f"{code(name)}, {where}")


def _both(domain_a: Markdown | None, domain_b: Markdown | None) -> Markdown:
    return Markdown(f"Domain A: {domain_a}; domain B: {domain_b}")


def _data_options(options: Mapping[str, Any]) -> dict[str, Any]:
    """How the data were read, where that is not the usual way."""
    shown = {}
    for name in DATA_OPTIONS:
        value = options.get(name)
        if value not in (None, False, USUAL_COLUMNS.get(name)):
            shown[name] = " ".join(map(str, value)) if isinstance(value, list) else value
            if isinstance(value, float):
                shown[name] = f"{value:g}"
    return shown


def _eval_results(family: Family, metrics: Mapping[str, Any], options: Mapping[str, Any]) -> list[EvalResult]:
    """The finite held-out figures, in the Hub's form; their settings go along as arguments.

    Of a figure that both the training loop and the evaluation measured, the evaluation's is told.
    """
    data_name = _data_name(options)[0] or "unknown"
    evaluation = metrics.get("evaluation", [])
    evaluated = {_metric_type(figure["name"]) for figure in evaluation}
    held_out = {"dataset": data_name, "split": options.get("validation_split")}
    figures = [
        {"name": name, "value": value, "settings": held_out}
        for name, value in metrics.get("validation", {}).items()
        if _metric_type(name) not in evaluated
    ]
    results = []
    for figure in [*figures, *evaluation]:
        settings = {name: value for name, value in figure.get("settings", {}).items() if value is not None}
        dataset, split = settings.pop("dataset", data_name), settings.pop("split", None)
        if math.isfinite(figure["value"]):
            results.append(
                EvalResult(
                    task_type=family.pipeline_tag,
                    task_name=family.title,
                    dataset_type=dataset,
                    dataset_name=dataset,
                    dataset_config=options.get("dataset_config_name") if dataset == data_name else None,
                    dataset_split=split,
                    metric_type=_metric_type(figure["name"]),
                    metric_name=figure["name"],
                    metric_value=figure["value"],
                    metric_args=settings or None,
                )
            )
    return results


def _metric_type(name: str) -> str:
    """As in `constraint_mse` for "constraint MSE"."""
    return re.sub(r"\W+", "_", name.lower())


def _optional_json(path: Path) -> dict[str, Any]:
    return read_json(path) if path.is_file() else {}
