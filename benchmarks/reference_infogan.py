"""InfoGAN on handwritten digits: how well the category, found without labels, tells the class.

    python benchmarks/reference_infogan.py --output_dir runs/reference-infogan

Trains a run for each of --seeds, and one whose weights of the information are 0, the same GAN without the idea.
Categories are matched with classes one to one, the best way on the training images; the share of test images whose
category is that of their class is reported. A run that was stopped goes on. Writes `results.json`, `table.md`, and
pictures of the first seed's codes.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import torch
from results import Results, seconds_of, train_once
from scipy.optimize import linear_sum_assignment
from tables import mean_and_spread
from torch import Tensor

from hf_genmodels import InfoGANPipeline
from hf_genmodels.data import DataArguments, evaluation_batches, load_split
from hf_genmodels.plots import image_grid

NETWORKS = "--dataset_name builtin:digits --width 16 --latent_dim 16 --num_codes 2"
LOOP = "--learning_rate 1e-3 --discriminator_learning_rate 2e-4 --num_threads 1 --checkpointing_steps 200"
RUNS = {"InfoGAN": "", "weights 0": "--category_weight 0 --code_weight 0"}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--steps", type=int, default=1500, help="at batches of 64")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--resolution", type=int, default=16, help="8 is the digits' own")
    parser.add_argument("--norm", default="layer", help="of the discriminator")
    parser.add_argument("--output_dir", type=Path, required=True)
    args = parser.parse_args()
    results = Results(args.output_dir / "results.json", args)
    train, test = (labelled(split, args.resolution) for split in ("train", "test"))
    rows = ["| Run | seeds | right on test | one class | seconds |", "|--|--|--|--|--|"]
    for name, weights in RUNS.items():
        found = []
        for seed in args.seeds:
            key = f"{name}, seed {seed}"
            options = f"--max_train_steps {args.steps} --seed {seed} --discriminator_norm {args.norm}"
            options += f" --resolution {args.resolution}"
            folder = train_once(
                "infogan", args.output_dir / key.replace(", ", "-").replace(" ", "_"), NETWORKS, LOOP, options, weights
            )
            found.append(results.get(key, lambda folder=folder: measure(folder, train, test)))
        right, share, seconds = ([each[k] for each in found] for k in ("right", "largest class", "seconds"))
        cells = (mean_and_spread(right), mean_and_spread(share), mean_and_spread(seconds))
        rows.append(f"| {name} | {len(found)} | {' | '.join(cells)} |")
    (args.output_dir / "table.md").write_text("\n".join(rows) + "\n", encoding="utf-8")
    print("\n".join(rows))
    draw(args.output_dir / f"InfoGAN-seed_{args.seeds[0]}", args.output_dir)


def labelled(split: str, resolution: int) -> tuple[Tensor, Tensor]:
    """All images of a split in [0, 1], and their classes."""
    data = DataArguments(dataset_name="builtin:digits", resolution=resolution)
    batches = list(evaluation_batches(load_split(data, split), batch_size=500))
    return (torch.cat([each["image"] for each in batches]) + 1) / 2, torch.cat([each["label"] for each in batches])


def measure(folder: Path, train: tuple[Tensor, Tensor], test: tuple[Tensor, Tensor]) -> dict[str, float]:
    """Of test images: the share in the category of their class, and that of the largest class (a guess's accuracy)."""
    pipe = InfoGANPipeline.from_pretrained(folder)
    categories = [pipe.find_codes(images).probabilities.argmax(1) for images, _ in (train, test)]
    counts = torch.zeros(10, 10)
    counts.index_put_((categories[0], train[1]), torch.ones(len(train[1])), accumulate=True)
    _, class_of = linear_sum_assignment(counts.numpy(), maximize=True)
    right = (torch.from_numpy(class_of)[categories[1]] == test[1]).double().mean().item()
    largest = test[1].bincount().max().item() / len(test[1])
    return {"right": right, "largest class": largest, "seconds": seconds_of(folder)}


def draw(folder: Path, where: Path) -> None:
    """Rows along which the category, and each continuous code, changes."""
    pipe = InfoGANPipeline.from_pretrained(folder)
    for name, code in (("category", None), ("code0", 0), ("code1", 1)):
        generator = torch.Generator().manual_seed(0)
        images = pipe.traverse(code=code, num_rows=5, num_steps=10, generator=generator, output_type="pt").images
        image_grid(images, columns=10).save(where / f"{name}.png")


if __name__ == "__main__":
    main()
