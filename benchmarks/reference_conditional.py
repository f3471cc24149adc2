"""Class-conditional GANs on handwritten digits: how many samples an independent classifier takes for the asked class.

    python benchmarks/reference_conditional.py --output_dir runs/reference-conditional

Trains a classifier on the training split, and a CGAN and an ACGAN for each seed; prints the
classifier's accuracy on the test split, and for each GAN the share of 2,000 samples, 200 a class, to which it gives
their class. A run that is finished is not made again.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import torch
from tables import mean_and_spread

from hf_genmodels import Classifier, GANPipeline
from hf_genmodels.files import read_json
from hf_genmodels.loading import load_network
from hf_genmodels.plots import image_grid
from hf_genmodels.training.entry import train_family

NUM_CLASSES, PER_CLASS = 10, 200
DATA = ["--dataset_name", "builtin:digits", "--resolution", "16", "--num_threads", "1", "--checkpointing_steps", "0"]
CLASSIFIER = ["--max_train_steps", "1000", "--lr_scheduler", "cosine"]
GAN = ["--width", "32", "--max_train_steps", "1500", "--log_steps", "500", "--use_ema"]
CONDITIONINGS = ("cgan", "acgan")


def make(family: str, folder: Path, options: list[str]) -> Path:
    """Train one run, unless that is done."""
    if not (folder / "metrics.json").is_file():
        train_family(family, [*DATA, "--output_dir", str(folder), "--overwrite_output_dir", *options])
    return folder


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--output_dir", type=Path, required=True)
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    args = parser.parse_args()
    folder = make("classifier", args.output_dir / "classifier", CLASSIFIER)
    classifier = load_network(Classifier, folder).eval()
    accuracy = read_json(folder / "metrics.json")["validation"]["accuracy"]
    lines = [
        f"Accuracy of the classifier on the test split: {100 * accuracy:.1f} %",
        "",
        "| GAN | Asked class |",
        "|--|--|",
    ]
    labels = torch.arange(NUM_CLASSES).repeat_interleave(PER_CLASS)
    for conditioning in CONDITIONINGS:
        shares = []
        for seed in args.seeds:
            options = [*GAN, "--conditioning", conditioning, "--seed", str(seed)]
            run = make("gan", args.output_dir / f"{conditioning}-seed{seed}", options)
            pipe = GANPipeline.from_pretrained(run)
            generator = torch.Generator().manual_seed(seed)
            images = pipe(batch_size=len(labels), class_labels=labels, generator=generator, output_type="pt").images
            with torch.no_grad():
                predicted = classifier(images * 2 - 1).logits.argmax(1)
            shares.append(100 * (predicted == labels).float().mean().item())
            if seed == args.seeds[0]:
                shown = images.unflatten(0, (NUM_CLASSES, PER_CLASS))[:, :NUM_CLASSES].flatten(0, 1)
                image_grid(shown, columns=NUM_CLASSES).save(args.output_dir / f"{conditioning}.png")
        lines.append(f"| {conditioning} | {mean_and_spread(shares, '.1f', '.1f')} % |")
    table = "\n".join(lines)
    (args.output_dir / "table.md").write_text(table + "\n", encoding="utf-8")
    print(table)


if __name__ == "__main__":
    main()
