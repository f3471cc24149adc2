"""`hf-genmodels evaluate`."""

from __future__ import annotations

import argparse
import contextlib
import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..errors import UserError
from .options import (
    DATA_OPTIONS,
    SAMPLING_OPTIONS,
    add_compile_option,
    add_options,
    check_output_dir,
    load_pipeline,
    options_of_training,
    print_table,
    take_from_training,
)

if TYPE_CHECKING:
    from ..data import DataArguments
    from ..evaluation.processes import Processes
    from ..pipelines.base import GenerativePipeline


def add_arguments(command: argparse.ArgumentParser) -> None:
    """The options of `evaluate`."""
    command.add_argument("model", metavar="MODEL", help="folder, or repository id on the Hub; or a folder of images")
    add_options(command, DATA_OPTIONS)
    command.add_argument("--split", help="split to compare with (default: test, or train where there is no other)")
    command.add_argument("--metrics", nargs="+", required=True, help="such as fid kid swd mse ssim auroc")
    command.add_argument(
        "--extractor", help="whose features are compared: a classifier's folder or Hub id, inception, pixels"
    )
    command.add_argument("--num_samples", type=int, default=5000, help="(default: %(default)s)")
    command.add_argument("--batch_size", type=int, default=64, help="(default: %(default)s)")
    command.add_argument("--seed", type=int, default=0, help="(default: %(default)s)")
    command.add_argument(
        "--known_pixels", type=float, help="pixelwise: share of the pixels that are known (default: 0.005)"
    )
    command.add_argument(
        "--no_feature_cache", action="store_true", help="compute the features of real data anew, and do not keep them"
    )
    command.add_argument("--output_dir", help="where metrics.json and the card go (default: MODEL, if it is a folder)")
    add_options(command, SAMPLING_OPTIONS)
    add_compile_option(command)


def evaluate(args: argparse.Namespace) -> None:
    """`evaluate MODEL`: measure a pipeline, or a folder of images, on a data set.

    The figures and a new card go into --output_dir, by default into the model's folder if it is local; those of a
    folder of images, without a card, nowhere else than into --output_dir. Several processes of a launcher share the
    work, and one of them prints and writes.
    """
    import torch

    from ..data.workers import cores_of_this_process
    from ..evaluation.processes import Processes

    processes = Processes()
    # Launchers set it when it is unset, which would leave other cores idle.
    if processes.number > 1 and os.environ.get("OMP_NUM_THREADS") == "1":
        torch.set_num_threads(cores_of_this_process())
    with contextlib.ExitStack() as stack:
        stack.callback(processes.leave)
        if not processes.is_main:
            stack.enter_context(contextlib.redirect_stdout(stack.enter_context(open(os.devnull, "w"))))
        _evaluate(args, processes)


def _evaluate(args: argparse.Namespace, processes: Processes) -> None:
    from ..evaluation import evaluate_pipeline
    from ..evaluation.folder import FolderOfImages

    with processes.together():
        pipeline, data, sampling = _prepare(args)
    results = evaluate_pipeline(
        pipeline,
        data,
        split=args.split,
        metrics=args.metrics,
        num_samples=args.num_samples,
        batch_size=args.batch_size,
        extractor=args.extractor,
        seed=args.seed,
        sampling=sampling,
        known_pixels=args.known_pixels,
        processes=processes,
        feature_cache=not args.no_feature_cache,
    )
    with processes.together():
        if processes.is_main:
            _print_results(results)
            _write_results(args, results, None if isinstance(pipeline, FolderOfImages) else pipeline)


def _prepare(args: argparse.Namespace) -> tuple[GenerativePipeline, DataArguments, dict[str, Any]]:
    """What is measured, on which data, with which options of its call."""
    from ..cards import load_card, training_arguments
    from ..data import DataArguments
    from ..evaluation.folder import FolderOfImages, is_folder_of_images
    from ..metrics.record import read_metrics

    target = Path(args.output_dir or args.model)
    if args.output_dir is not None:
        check_output_dir(target)
    if args.exclude_label is not None and "auroc" not in args.metrics:
        raise UserError("--exclude_label has no effect without --metrics auroc; leave it out")
    data = DataArguments(**{name: getattr(args, name) for name in DATA_OPTIONS})
    are_images = is_folder_of_images(args.model)
    if are_images and args.compile:
        raise UserError(f"--compile has no effect on {args.model}, a folder of images; leave it out")
    if args.output_dir is not None or not are_images:
        read_metrics(target)  # what cannot be added to shows before anything is measured
    if not are_images and (target / "README.md").is_file():
        load_card(target / "README.md")
    pipeline = FolderOfImages.read(Path(args.model), data) if are_images else load_pipeline(args.model, args.compile)
    sampling = {name: getattr(args, name) for name in SAMPLING_OPTIONS}
    is_one_way = pipeline.translates and pipeline.default_direction is None
    if pipeline._source is not None:
        saved = training_arguments(pipeline._source).get("arguments", {})
        if is_one_way and args.direction is not None:
            saved = {**saved, "direction": None}
        _read_as_in_training(data, saved, with_anomaly="auroc" in args.metrics)
    if is_one_way and args.direction is not None:
        data.direction = sampling.pop("direction")  # a translator of one direction reads its data in that
    return pipeline, data, sampling


def _write_results(
    args: argparse.Namespace, results: list[dict[str, Any]], pipeline: GenerativePipeline | None
) -> None:
    """Into the folder that `evaluate` says; without a pipeline those of a folder of images."""
    from ..hub import copy_descriptions, write_card
    from ..metrics.record import write_evaluation

    model, target = Path(args.model), Path(args.output_dir or args.model)
    if pipeline is None:
        if args.output_dir is not None:
            target.mkdir(parents=True, exist_ok=True)
            write_evaluation(target, results)
            print(f"written to {target / 'metrics.json'}")
        return
    if args.output_dir is None and not model.is_dir():
        return
    is_elsewhere = target.resolve() != model.resolve()
    if is_elsewhere:
        assert pipeline._source is not None
        copy_descriptions(pipeline._source, target)
    write_evaluation(target, results)
    card_path = write_card(target, repo_id=args.model if is_elsewhere else None)
    print(f"written to {target / 'metrics.json'} and {card_path}")


def _print_results(results: list[dict[str, Any]]) -> None:
    rows = [("METRIC", "VALUE", "SAMPLES", "EXTRACTOR", "")]
    for result in results:
        settings = result["settings"]
        extractor, count = settings.get("extractor") or "-", str(settings["num_samples"])
        rows.append((result["name"], f"{result['value']:.6g}", count, extractor, result.get("note", "")))
    print_table(rows)


def _read_as_in_training(data: DataArguments, saved: dict[str, Any], with_anomaly: bool) -> None:
    """Take what the user does not say of the data from the model's training: other units or halves are not its own."""
    from ..data.sources import has_domain_folders

    names = (["exclude_label"] if with_anomaly else []) + options_of_training(data)
    if saved.get("direction") == "b_to_a" and (data.side_by_side or has_domain_folders(data)):
        data.direction = "b_to_a"
        print("as in the model's training: --direction b_to_a")
    take_from_training(data, saved, names)
