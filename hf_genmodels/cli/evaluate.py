"""`hf-genmodels evaluate`."""

from __future__ import annotations

import argparse
from pathlib import Path

from ..errors import UserError
from .options import DATA_OPTIONS, SAMPLING_OPTIONS, add_options, check_output_dir, load_pipeline, print_table


def add_arguments(command: argparse.ArgumentParser) -> None:
    """The options of `evaluate`."""
    command.add_argument("model", metavar="MODEL", help="folder, or repository id on the Hub; or a folder of images")
    add_options(command, DATA_OPTIONS)
    command.add_argument("--split", default="test", help="split to compare with (default: %(default)s)")
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
    command.add_argument("--output_dir", help="where metrics.json and the card go (default: MODEL, if it is a folder)")
    add_options(command, SAMPLING_OPTIONS)


def evaluate(args: argparse.Namespace) -> None:
    """`evaluate MODEL`: measure a pipeline, or a folder of images, on a data set.

    The figures and a new card go into --output_dir, by default into the model's folder if it is local; those of a
    folder of images, without a card, nowhere else than into --output_dir.
    """
    from ..cards import load_card, training_arguments
    from ..data import DataArguments
    from ..evaluation import evaluate_pipeline
    from ..evaluation.folder import FolderOfImages, is_folder_of_images
    from ..hub import copy_descriptions, write_card
    from ..metrics.record import read_metrics, write_evaluation

    model, target = Path(args.model), Path(args.output_dir or args.model)
    if args.output_dir is not None:
        check_output_dir(target)
    if args.exclude_label is not None and "auroc" not in args.metrics:
        raise UserError("--exclude_label has no effect without --metrics auroc; leave it out")
    data = DataArguments(**{name: getattr(args, name) for name in DATA_OPTIONS})
    are_images = is_folder_of_images(args.model)
    if args.output_dir is not None or not are_images:
        read_metrics(target)  # what cannot be added to shows before anything is measured
    if not are_images and (target / "README.md").is_file():
        load_card(target / "README.md")
    pipeline = FolderOfImages.read(Path(args.model), data) if are_images else load_pipeline(args.model)
    if "auroc" in args.metrics and data.exclude_label is None and pipeline._source is not None:
        data.exclude_label = training_arguments(pipeline._source).get("arguments", {}).get("exclude_label")
    sampling = {name: getattr(args, name) for name in SAMPLING_OPTIONS}
    if "translations" in pipeline.measures and pipeline.default_direction is None and args.direction is not None:
        data.direction = sampling.pop("direction")  # a translator of one direction reads its data in that
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
    )
    rows = [("METRIC", "VALUE", "SAMPLES", "EXTRACTOR", "")]
    for result in results:
        settings = result["settings"]
        extractor, count = settings.get("extractor") or "-", str(settings["num_samples"])
        rows.append((result["name"], f"{result['value']:.6g}", count, extractor, result.get("note", "")))
    print_table(rows)
    if are_images:
        if args.output_dir is not None:
            Path(args.output_dir).mkdir(parents=True, exist_ok=True)
            write_evaluation(args.output_dir, results)
            print(f"written to {Path(args.output_dir) / 'metrics.json'}")
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
