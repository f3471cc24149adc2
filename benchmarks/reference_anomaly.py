"""Anomaly detection with one class held out: plain against denoising autoencoder, AUROC of each class.

    python benchmarks/reference_anomaly.py --dataset_name FOLDER --output_dir runs/reference-anomaly

Each run trains on nine classes (`--exclude_label`); the score is the test images' reconstruction error
(`AutoencoderPipeline.anomaly_score`), and the held-out class should have the higher one. A run that is finished is not
made again and one that was interrupted is resumed, so the command can be stopped and repeated.
"""

from __future__ import annotations

import argparse
import json
import statistics
from pathlib import Path

import torch
from tables import mean_and_spread

from hf_genmodels import AutoencoderPipeline
from hf_genmodels.data import DataArguments, evaluation_batches, load_split
from hf_genmodels.metrics.detection import auroc
from hf_genmodels.training.entry import train_family

KINDS = {"plain": "--corruption none", "denoising": "--corruption gaussian --corruption_level 0.5"}
OPTIONS = [
    *("--architecture", "mlp", "--latent_dim", "32"),
    *("--train_batch_size", "128", "--learning_rate", "1e-3", "--num_train_epochs", "5"),
    *("--checkpointing_steps", "1000", "--checkpoints_total_limit", "1", "--resume_from_checkpoint", "latest"),
]
NUM_CLASSES = 10


def scores(folder: Path, dataset: object) -> tuple[torch.Tensor, torch.Tensor]:
    """Anomaly score and label of every image."""
    pipe = AutoencoderPipeline.from_pretrained(folder)
    found, labels = [], []
    for batch in evaluation_batches(dataset, batch_size=1000):
        found.append(pipe.anomaly_score((batch["image"] + 1) / 2))
        labels.append(batch["label"])
    return torch.cat(found), torch.cat(labels)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--dataset_name", required=True)
    parser.add_argument("--output_dir", type=Path, required=True)
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--num_threads", type=int, default=1)
    args = parser.parse_args()

    test = load_split(DataArguments(dataset_name=args.dataset_name), "test")
    names = test.spec.class_names
    table: dict[str, dict[str, list[float]]] = {kind: {} for kind in KINDS}
    for seed in args.seeds:
        for label in range(NUM_CLASSES):
            for kind, options in KINDS.items():
                folder = args.output_dir / f"{kind}-{label}-seed{seed}"
                if not (folder / "metrics.json").is_file():
                    own = ["--dataset_name", args.dataset_name, "--output_dir", str(folder), "--seed", str(seed)]
                    own += ["--exclude_label", str(label), "--num_threads", str(args.num_threads)]
                    train_family("autoencoder", [*OPTIONS, *options.split(), *own])
                score, truth = scores(folder, test)
                table[kind].setdefault(names[label], []).append(auroc(score, truth == label))

    lines = ["| held-out class | plain | denoising |", "|--|--|--|"]
    for name in names:
        lines.append(f"| {name} | {' | '.join(cell(table[kind][name]) for kind in KINDS)} |")
    means = {kind: [statistics.mean(run) for run in zip(*table[kind].values(), strict=True)] for kind in KINDS}
    lines.append(f"| mean | {' | '.join(cell(means[kind]) for kind in KINDS)} |")
    print("\n".join(lines))
    (args.output_dir / "auroc.json").write_text(json.dumps({"seeds": args.seeds, "auroc": table}, indent=2))
    (args.output_dir / "auroc.md").write_text("\n".join(lines) + "\n")


def cell(values: list[float]) -> str:
    """An AUROC of every seed, for the table."""
    return mean_and_spread(values, ".3f", ".3f")


if __name__ == "__main__":
    main()
