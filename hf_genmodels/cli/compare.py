"""`hf-genmodels compare`."""

from __future__ import annotations

import argparse
import json
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..errors import UserError
from .options import (
    DATA_OPTIONS,
    SAMPLING_OPTIONS,
    add_options,
    check_output_dir,
    load_pipeline,
    options_of_training,
    take_from_training,
)

if TYPE_CHECKING:
    from ..data import DataArguments
    from ..evaluation.comparison import Contestant

# The options of `evaluate` that say which data, without those that belong to translators and anomalies.
OF_OTHERS = ("dataset_name_b", "train_data_dir_b", "conditioning_image_column", "target_image_column", "side_by_side")
OPTIONS = {name: kind for name, kind in DATA_OPTIONS.items() if name not in (*OF_OTHERS, "exclude_label")}
FILES = ("comparison.json", "comparison.md")


def add_arguments(command: argparse.ArgumentParser) -> None:
    """The options of `compare`."""
    command.add_argument(
        "models",
        nargs="+",
        metavar="MODEL",
        help="folders, or repository ids on the Hub, each with options of its sampling if need be: "
        "runs/ddpm@num_inference_steps=20,guidance_scale=2",
    )
    add_options(command, OPTIONS)
    command.add_argument("--split", help="split to compare with (default: test, or train where there is no other)")
    command.add_argument(
        "--metrics", nargs="+", default=["fid", "precision_recall"], help="(default: fid precision_recall)"
    )
    command.add_argument("--extractor", help="whose features are compared, as for `evaluate`")
    command.add_argument("--num_samples", type=int, default=5000, help="of each model (default: %(default)s)")
    command.add_argument("--batch_size", type=int, default=64, help="also of the timed calls (default: %(default)s)")
    command.add_argument("--repeats", type=int, default=5, help="timed calls of each model (default: %(default)s)")
    command.add_argument("--seed", type=int, default=0, help="(default: %(default)s)")
    command.add_argument("--output_dir", help=f"where {' and '.join(FILES)} go (default: the table is printed only)")


def compare(args: argparse.Namespace) -> None:
    """`compare MODEL MODEL ...`: quality, diversity and seconds a sample of several models, as a table."""
    from ..data import DataArguments
    from ..evaluation.comparison import Contestant, check, markdown
    from ..evaluation.comparison import compare as compare_contestants
    from ..files import replacing

    if args.output_dir is not None:
        check_output_dir(Path(args.output_dir))
    data = DataArguments(**{name: getattr(args, name) for name in OPTIONS})
    given = [split_model(word) for word in args.models]
    contestants = []
    for word, (model, options) in zip(args.models, given, strict=True):
        pipeline = load_pipeline(model)
        name = Path(model).resolve().name if Path(model).is_dir() else model
        name += word[len(model) :]  # with its options
        contestants.append(Contestant(name, pipeline, pipeline.check_sampling_options(options)))
    check(contestants, args.repeats)
    read_as_in_training(data, contestants)
    found = compare_contestants(
        contestants,
        data,
        split=args.split,
        metrics=args.metrics,
        num_samples=args.num_samples,
        batch_size=args.batch_size,
        extractor=args.extractor,
        seed=args.seed,
        repeats=args.repeats,
    )
    table = markdown(found)
    print(table)
    if args.output_dir is not None:
        folder = Path(args.output_dir)
        folder.mkdir(parents=True, exist_ok=True)
        for name, text in zip(FILES, (json.dumps(found, indent=2) + "\n", table), strict=True):
            with replacing(folder / name) as temporary:
                temporary.write_text(text, encoding="utf-8")
        print(f"written to {' and '.join(str(folder / name) for name in FILES)}")


def read_as_in_training(data: DataArguments, contestants: Sequence[Contestant]) -> None:
    """Read data as the models' training did, where the user does not say how.

    Raises:
        UserError: Two of them read their data differently.
    """
    from ..cards import training_arguments

    found = {each.name: training_arguments(each.pipeline._source) for each in contestants if each.pipeline._source}
    saved = {name: record["arguments"] for name, record in found.items() if "arguments" in record}
    names = options_of_training(data)
    for option in names:
        if getattr(data, option) is not None:
            continue
        for name, options in saved.items():
            first = next(iter(saved))
            mine, other = options.get(option), saved[first].get(option)
            if mine != other:
                raise UserError(
                    f"--{option}: {first} was trained with {_shown(other)}, {name} with {_shown(mine)}; say which "
                    "holds for all, or compare models of the same data"
                )
    for options in list(saved.values())[:1]:
        take_from_training(data, options, names)


def _shown(value: Any) -> str:
    if value is None:
        return "the default"
    return " ".join(map(str, value)) if isinstance(value, list) else str(value)


def split_model(word: str) -> tuple[str, dict[str, Any]]:
    """A model's place and the options of its sampling, of `place@name=value,name=value`.

    Raises:
        UserError: There is no such option, or its value is none.
    """
    place, at, tail = word.rpartition("@")
    if not at or "=" not in tail:
        return word, {}
    options = {}
    for pair in tail.split(","):
        name, _, value = pair.partition("=")
        settings = SAMPLING_OPTIONS.get(name)
        if settings is None or "type" not in settings:
            known = ", ".join(each for each, about in SAMPLING_OPTIONS.items() if "type" in about)
            raise UserError(f"{word}: {name!r} is no option of sampling; choose from {known}")
        try:
            options[name] = settings["type"](value)
        except ValueError:
            raise UserError(f"{word}: {name} must be a number, got {value!r}") from None
    return place, options
