"""The command `hf-genmodels`: quickstart, list, train, sample, evaluate, card.

Only argparse and the registry are imported at the top, so that help comes at once; each handler imports what it runs.
"""

from __future__ import annotations

import argparse
import os
import re
import signal
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from . import __version__
from .errors import UserError
from .families import FAMILIES, get_family

if TYPE_CHECKING:
    import numpy as np
    from PIL.Image import Image

    from .pipelines.base import GenerativePipeline

TRAIN_USAGE = """usage: hf-genmodels train FAMILY [options] [-- launcher options]

Runs `accelerate launch <launcher options> -m hf_genmodels.training.entry FAMILY <options>`.

  hf-genmodels train vae --dataset_name builtin:digits --output_dir runs/vae
  hf-genmodels train vae --dataset_name builtin:digits --output_dir runs/vae -- --multi_gpu --num_processes 2
  hf-genmodels train vae --help            the options of a family
  accelerate launch --help                 the options of the launcher

families: """

# What `sample` writes, and what its --overwrite therefore removes.
SAMPLE_FILE = re.compile(r"\d{5,}\.png|grid\.png|samples\.npy")

# What `accelerate launch` complains about when neither the command nor a configuration file says it.
LAUNCH_DEFAULTS = {
    "--num_processes": "1",
    "--num_machines": "1",
    "--mixed_precision": "no",
    "--dynamo_backend": "no",
}


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line and return its exit status: 0, 1 (error), 2 (wrong usage), 130 (interrupted).

    Args:
        argv: Arguments without the program's name; those of the process by default.
    """
    arguments = list(sys.argv[1:] if argv is None else argv)
    try:
        # argparse cannot leave another program's options, and its `--`, alone.
        if arguments[:1] == ["train"]:
            return train(arguments[1:])
        parsed = _parser().parse_args(arguments)
        parsed.handler(parsed)
    except (UserError, OSError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        return 128 + signal.SIGINT
    return 0


def train(arguments: list[str]) -> int:
    """`train FAMILY [options] [-- launcher options]`: run a script under Accelerate and return its exit status."""
    if not arguments or arguments[0] in ("-h", "--help"):
        print(TRAIN_USAGE + " ".join(FAMILIES), file=sys.stdout if arguments else sys.stderr)
        return 0 if arguments else 2
    try:
        family = get_family(arguments[0])
    except UserError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    split = arguments.index("--") if "--" in arguments else len(arguments)
    options, launcher = arguments[1:split], arguments[split + 1 :]
    if "-h" in options or "--help" in options:
        from .training.arguments import make_parser

        make_parser(family.arguments, f"Train: {family.title}.", prog=f"hf-genmodels train {family.name}").print_help()
        return 0
    # --quiet: the script's own message is the error; the launcher would add a traceback of itself.
    launch = [
        sys.executable,
        "-m",
        "accelerate.commands.launch",
        "--quiet",
        *launcher,
        *missing_launch_options(launcher),
    ]
    return _run([*launch, "-m", "hf_genmodels.training.entry", family.name, *options])


def missing_launch_options(launcher: Sequence[str]) -> list[str]:
    """What to add for a quiet single-process launch, where no Accelerate configuration and no given option says it."""
    given = {option.split("=")[0].replace("-", "_") for option in launcher if option.startswith("-")}
    cache = os.environ.get("XDG_CACHE_HOME", "~/.cache")
    home = Path(os.environ.get("HF_HOME", os.path.join(cache, "huggingface"))).expanduser()
    if "__config_file" in given or (home / "accelerate" / "default_config.yaml").is_file():
        return []
    added = []
    for option, value in LAUNCH_DEFAULTS.items():
        # --multi_gpu means all of them, and refuses a number of processes below two.
        if option.replace("-", "_") not in given and not (option == "--num_processes" and "__multi_gpu" in given):
            added += [option, value]
    return added


def list_families(args: argparse.Namespace) -> None:
    """`list`: every family, one line each."""
    rows = [("FAMILY", "PIPELINE", "TITLE")]
    rows += [(family.name, family.pipeline or "-", family.title) for family in FAMILIES.usable()]
    _print_table(rows)


def sample(args: argparse.Namespace) -> None:
    """`sample MODEL`: PNG files where such a picture exists, else one `samples.npy`; and `grid.png`.

    Image i is drawn from seed + i alone, whatever the batch size.
    """
    if args.num_samples < 1 or args.batch_size < 1:
        raise UserError("--num_samples and --batch_size must be at least 1")
    folder = Path(args.output_dir)
    if folder.exists() and any(folder.iterdir()) and not args.overwrite:
        raise UserError(f"{folder} is not empty; choose another --output_dir, or replace its samples with --overwrite")
    import numpy as np
    import torch
    from tqdm import tqdm

    pipeline = _load_pipeline(args.model)
    if "samples" not in pipeline.measures:
        raise UserError(f"{args.model}: {type(pipeline).__name__} has nothing to sample from: it takes images")
    named = {name: getattr(args, name) for name in SAMPLING_OPTIONS}
    options = pipeline.check_sampling_options({**named, "class_labels": args.class_labels})
    labels = options.pop("class_labels", None)
    batches: list[Any] = []
    with tqdm(total=args.num_samples, unit="sample", disable=None) as progress:
        for start in range(0, args.num_samples, args.batch_size):
            indices = range(start, min(start + args.batch_size, args.num_samples))
            generators = [torch.Generator().manual_seed(args.seed + index) for index in indices]
            if labels is not None:
                options["class_labels"] = [labels[index % len(labels)] for index in indices]
            output = pipeline(batch_size=len(generators), generator=generators, output_type=None, **options)
            batches.append(output.images)
            progress.update(len(generators))

    folder.mkdir(parents=True, exist_ok=True)
    for path in folder.iterdir():
        if SAMPLE_FILE.fullmatch(path.name):
            path.unlink()
    if isinstance(batches[0], list):
        samples: list[Image] | np.ndarray = [image for batch in batches for image in batch]
        for index, image in enumerate(samples):
            image.save(folder / f"{index:05d}.png")
        written = f"{len(samples)} PNG files"
    else:
        samples = np.concatenate(batches)
        np.save(folder / "samples.npy", samples)
        written = f"samples.npy, shape {samples.shape}"
    overview = _overview(pipeline, samples)
    if overview is not None:
        overview.save(folder / "grid.png")
        written += " and grid.png"
    print(f"{folder}: {written}")


def evaluate(args: argparse.Namespace) -> None:
    """`evaluate MODEL`: measure a pipeline on a data set.

    The figures and a new card go into --output_dir, by default into the model's folder if it is local.
    """
    from .data import DataArguments
    from .evaluation import evaluate_pipeline
    from .hub import copy_descriptions, write_card
    from .metrics.record import write_evaluation

    pipeline = _load_pipeline(args.model)
    data = DataArguments(**{name: getattr(args, name) for name in DATA_OPTIONS})
    results = evaluate_pipeline(
        pipeline,
        data,
        split=args.split,
        metrics=args.metrics,
        num_samples=args.num_samples,
        batch_size=args.batch_size,
        extractor=args.extractor,
        seed=args.seed,
        sampling={name: getattr(args, name) for name in SAMPLING_OPTIONS},
        known_pixels=args.known_pixels,
    )
    rows = [("METRIC", "VALUE", "SAMPLES", "EXTRACTOR")]
    for result in results:
        settings = result["settings"]
        extractor, count = settings.get("extractor") or "-", str(settings["num_samples"])
        rows.append((result["name"], f"{result['value']:.6g}", count, extractor))
    _print_table(rows)
    model, target = Path(args.model), Path(args.output_dir or args.model)
    if args.output_dir is None and not model.is_dir():
        return
    is_elsewhere = target.resolve() != model.resolve()
    if is_elsewhere:
        assert pipeline._source is not None
        copy_descriptions(pipeline._source, target)
    write_evaluation(target, results)
    card_path = write_card(target, repo_id=args.model if is_elsewhere else None)
    print(f"written to {target / 'metrics.json'} and {card_path}")


def convert(args: argparse.Namespace) -> None:
    """`convert KIND CHECKPOINT OUTPUT_DIR`: make a pipeline of the authors' published weights."""
    from .convert import command

    command(args)


def card(args: argparse.Namespace) -> None:
    """`card FOLDER`: write the model card of a training output folder."""
    from .hub import write_card

    print(write_card(args.folder, license=args.license))


def quickstart(args: argparse.Namespace) -> None:
    """`quickstart`: train, evaluate, save and reload a small VAE."""
    from .quickstart import main as run_quickstart

    run_quickstart(args.output_dir)


# The options of `evaluate` that say which data: name in `DataArguments` -> settings of the option.
DATA_OPTIONS: dict[str, dict[str, Any]] = {
    "dataset_name": {"help": "Hub id, local folder or parquet file, or builtin:<name>"},
    "dataset_config_name": {"help": "configuration of the data set"},
    "revision": {"help": "branch, tag or commit of a data set on the Hub"},
    "train_data_dir": {"help": "image folder, instead of --dataset_name"},
    "dataset_name_b": {"help": "translators: data set of domain B"},
    "train_data_dir_b": {"help": "translators: image folder of domain B"},
    "image_column": {"default": "image", "help": "column of the images (default: image)"},
    "conditioning_image_column": {"default": "conditioning_image", "help": "translators: column of what they take"},
    "target_image_column": {"default": "target_image", "help": "translators: column of what they shall make"},
    "image_columns": {"nargs": "+", "help": "columns that are the channels of one image (of a target)"},
    "label_column": {"default": "label", "help": "column of the labels (default: label)"},
    "cache_dir": {"help": "where downloaded data sets are kept"},
    "streaming": {"action": "store_true", "help": "read the data set without downloading it first"},
    "on_bad_image": {"default": "error", "choices": ["error", "skip"], "help": "(default: error)"},
    "resolution": {"type": int, "help": "resize the shorter side to this, then crop the middle"},
}


# The options of `sample` and `evaluate` that go to the call of the pipelines that know them.
SAMPLING_OPTIONS: dict[str, dict[str, Any]] = {
    "num_inference_steps": {"type": int, "help": "steps of a diffusion model's sampler"},
    "guidance_scale": {"type": float, "help": "classifier-free guidance of a conditional diffusion model"},
    "truncation": {"type": float, "help": "of a GAN's latents"},
    "temperature": {"type": float, "help": "of a flow's latents"},
    "direction": {"choices": ["a_to_b", "b_to_a"], "help": "of a translator between domains A and B"},
    "project": {"action": "store_true", "default": None, "help": "make polarimetric images physically admissible"},
}


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser("hf-genmodels", description="Train, sample, measure and share generative models.")
    parser.add_argument("--version", action="version", version=f"hf-genmodels {__version__}")
    commands = parser.add_subparsers(metavar="COMMAND", required=True)

    command = _command(commands, "quickstart", quickstart, "train, evaluate and reload a VAE on handwritten digits")
    command.add_argument("--output_dir", default="runs/quickstart", help="(default: %(default)s)")

    _command(commands, "list", list_families, "the families of models")
    commands.add_parser("train", help="train a family: train FAMILY [options] [-- launcher options]")

    command = _command(commands, "sample", sample, "draw samples from a model")
    command.add_argument("model", metavar="MODEL", help="folder, or repository id on the Hub")
    command.add_argument("--num_samples", type=int, default=16, help="(default: %(default)s)")
    command.add_argument("--seed", type=int, default=0, help="sample i is drawn from seed + i (default: %(default)s)")
    command.add_argument("--batch_size", type=int, default=16, help="drawn at a time (default: %(default)s)")
    command.add_argument("--output_dir", default="samples", help="must be empty (default: %(default)s)")
    command.add_argument("--overwrite", action="store_true", help="replace the samples that --output_dir has")
    command.add_argument(
        "--class_labels", type=int, nargs="+", help="of a conditional model; sample i has the i-th, in turn"
    )
    for name, settings in SAMPLING_OPTIONS.items():
        command.add_argument(f"--{name}", **settings)

    command = _command(commands, "evaluate", evaluate, "measure a model on held-out data")
    command.add_argument("model", metavar="MODEL", help="folder, or repository id on the Hub")
    for name, settings in DATA_OPTIONS.items():
        command.add_argument(f"--{name}", **settings)
    command.add_argument("--split", default="test", help="split to compare with (default: %(default)s)")
    command.add_argument("--metrics", nargs="+", required=True, help="such as fid kid precision_recall swd mse ssim")
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
    for name, settings in SAMPLING_OPTIONS.items():
        command.add_argument(f"--{name}", **settings)

    command = _command(commands, "convert", convert, "make a pipeline of published pix2pix or CycleGAN weights")
    command.add_argument("kind", choices=["pix2pix", "cyclegan"])
    command.add_argument("checkpoint", help="a generator's .pth file; no code in it is run")
    command.add_argument("output_dir", help="where the pipeline is written; empty, or to be created")
    command.add_argument(
        "--direction", default="AtoB", choices=["AtoB", "BtoA"], help="of cyclegan (default: %(default)s)"
    )
    command.add_argument("--reverse", help="cyclegan: .pth file of the other direction")

    command = _command(commands, "card", card, "write the model card of a training output folder")
    command.add_argument("folder", metavar="FOLDER")
    command.add_argument("--license", help="of the weights, such as apache-2.0")
    return parser


def _command(commands: Any, name: str, handler: Any, text: str) -> argparse.ArgumentParser:
    command: argparse.ArgumentParser = commands.add_parser(name, help=text, description=text)
    command.set_defaults(handler=handler)
    return command


def _run(command: list[str]) -> int:
    process = subprocess.Popen(command)
    try:
        status = process.wait()
    except KeyboardInterrupt:
        # The terminal has told the script too; it is left to finish what it is writing.
        process.wait()
        raise
    return status if status >= 0 else 128 - status


def _load_pipeline(model: str) -> GenerativePipeline:
    import torch

    from .pipelines.auto import AutoPipeline

    pipeline = AutoPipeline.from_pretrained(model)
    pipeline.to("cuda" if torch.cuda.is_available() else "cpu")
    return pipeline


def _overview(pipeline: GenerativePipeline, samples: list[Image] | np.ndarray) -> Image | None:
    """One picture of all samples; None for vectors that are not 2-D."""
    import torch

    from .plots import image_grid, scatter

    if len(pipeline.sample_shape) == 3:
        return image_grid((pipeline.prepare_images(samples, torch.float32) + 1) / 2)
    return scatter(torch.as_tensor(samples)) if pipeline.sample_shape == (2,) else None


def _print_table(rows: Sequence[Sequence[str]]) -> None:
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    for row in rows:
        print("  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip())


if __name__ == "__main__":
    sys.exit(main())
