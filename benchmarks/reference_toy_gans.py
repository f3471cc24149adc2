"""GANs on a ring of 8 and a grid of 25 Gaussians: modes covered and share of samples near one, over five seeds.

    python benchmarks/reference_toy_gans.py --output_dir runs/reference-toy-gans

`--num_processes` workers train at a time, each with one thread. A run that is finished is not made again. There are
two tables, of losses and of what steadies training (`--table tricks`). Each is printed and written to `<table>.md` in
the output folder, the samples of the first seed to `<table>.png`.
"""

from __future__ import annotations

import argparse
import math
import multiprocessing
import time
from pathlib import Path

import torch
from PIL import Image
from tables import mean_and_spread

from hf_genmodels import DataArguments, GANPipeline
from hf_genmodels.data import evaluation_batches, load_split
from hf_genmodels.metrics.modes import mode_coverage
from hf_genmodels.plots import scatter, stack_pictures
from hf_genmodels.training.entry import train_family

STD = 0.05  # of every Gaussian of both sets
NUM_SAMPLES = 2500
# Row of the table -> its options. WGAN-GP's penalty is that of a set where distances are about 1 rather than 50, and a
# step of it has five updates of the critic.
ROWS = {
    "minimax": ["--gan_loss", "minimax", "--max_train_steps", "2500"],
    "non-saturating": ["--gan_loss", "non_saturating", "--max_train_steps", "2500"],
    "PacGAN 2": ["--gan_loss", "non_saturating", "--packing", "2", "--max_train_steps", "2500"],
    "R1": [
        *("--gan_loss", "non_saturating", "--gradient_penalty", "r1", "--gradient_penalty_weight", "0.1"),
        *("--max_train_steps", "2500"),
    ],
    "WGAN-GP": [
        *("--gan_loss", "wasserstein", "--gradient_penalty", "wgan_gp", "--gradient_penalty_weight", "0.1"),
        *("--critic_updates", "5", "--max_train_steps", "2000"),
    ],
}
# What steadies training, each beside the plain non-saturating loss of as many steps; one setting each, none tuned. The
# f-GAN loss of the Jensen-Shannon divergence has the gradients of the baseline.
STEPS = ["--max_train_steps", "1000"]
TRICKS = {
    "baseline": STEPS,
    "feature matching": ["--generator_loss", "feature_matching", *STEPS],
    "minibatch discrimination": ["--minibatch_kernels", "4", *STEPS],
    "label smoothing": ["--label_smoothing", "0.1", *STEPS],
    "instance noise": ["--instance_noise", "0.5", "--instance_noise_steps", "800", *STEPS],
    "R1": ["--gradient_penalty", "r1", "--gradient_penalty_weight", "0.1", *STEPS],
    "Roth": ["--gradient_penalty", "roth", "--gradient_penalty_weight", "0.1", *STEPS],
    "consensus": ["--consensus_weight", "1", *STEPS],
    "f-GAN, KL": ["--gan_loss", "f_kl", *STEPS],
    "f-GAN, reverse KL": ["--gan_loss", "f_reverse_kl", *STEPS],
    "f-GAN, Pearson": ["--gan_loss", "f_pearson", *STEPS],
    "f-GAN, squared Hellinger": ["--gan_loss", "f_squared_hellinger", *STEPS],
    "MMD": ["--generator_loss", "mmd", *STEPS],
}
TABLES = {"losses": ROWS, "tricks": TRICKS}
COLUMNS = 7  # of pictures
SETS = ("ring8", "grid25")
SHARED = [
    *("--dataset_name", "builtin:toy2d", "--architecture", "mlp", "--hidden_dims", "128", "128", "--latent_dim", "2"),
    *("--train_batch_size", "256", "--learning_rate", "1e-3", "--adam_beta1", "0.5", "--adam_beta2", "0.9"),
    *("--checkpointing_steps", "0", "--log_steps", "500", "--num_threads", "1", "--overwrite_output_dir"),
]

Job = tuple[str, str, str, int, Path]


def folder_of(job: Job) -> Path:
    """Where a run goes."""
    table, row, config, seed, output_dir = job
    name = f"{config}-{row.replace(',', '').replace(' ', '-')}-seed{seed}"
    return output_dir / name if table == "losses" else output_dir / table / name


def make(job: Job) -> None:
    """Train one run, unless that is done."""
    table, row, config, seed, _ = job
    folder = folder_of(job)
    if not (folder / "metrics.json").is_file():
        own = ["--dataset_config_name", config, "--seed", str(seed), "--output_dir", str(folder)]
        train_family("gan", [*SHARED, *TABLES[table][row], *own])


def centres(config: str) -> torch.Tensor:
    """The centre of every mode: the mean of the points that were drawn from it."""
    split = load_split(DataArguments(dataset_name="builtin:toy2d", dataset_config_name=config), "train")
    (everything,) = evaluation_batches(split, batch_size=split.spec.num_examples)
    points, labels = everything["image"], everything["label"]
    return torch.stack([points[labels == label].mean(0) for label in labels.unique()])


def mosaic(pictures: dict[str, Image.Image], columns: int) -> Image.Image:
    """The pictures with their names in rows of so many, at half their size."""
    named = [stack_pictures({name: picture}).reduce(2) for name, picture in pictures.items()]
    width, height = named[0].size
    canvas = Image.new("RGB", (width * columns, height * math.ceil(len(named) / columns)), "white")
    for index, picture in enumerate(named):
        canvas.paste(picture, (width * (index % columns), height * (index // columns)))
    return canvas


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--output_dir", type=Path, required=True)
    parser.add_argument("--table", choices=TABLES, default="losses")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2, 3, 4])
    parser.add_argument("--num_processes", type=int, default=2)
    args = parser.parse_args()
    started = time.monotonic()
    rows, where = TABLES[args.table], args.output_dir
    jobs = [(args.table, row, config, seed, where) for seed in args.seeds for config in SETS for row in rows]
    with multiprocessing.get_context("spawn").Pool(args.num_processes) as pool:
        pool.map(make, jobs, chunksize=1)

    lines = ["| Set | Loss | Modes covered | Samples within 3 std of a mode |", "|--|--|--|--|"]
    pictures = {}
    for config in SETS:
        modes = centres(config)
        for row in rows:
            found = []
            for seed in args.seeds:
                pipe = GANPipeline.from_pretrained(folder_of((args.table, row, config, seed, where)))
                generator = torch.Generator().manual_seed(seed)
                samples = pipe(batch_size=NUM_SAMPLES, generator=generator, output_type="pt").images
                found.append(mode_coverage(samples, modes, STD))
                if seed == args.seeds[0]:
                    pictures[f"{config}, {row}"] = scatter(samples)
            covered, share = [result.modes for result in found], [100 * result.high_quality for result in found]
            cells = [
                f"{mean_and_spread(covered, '.1f', '.1f')} of {len(modes)}",
                f"{mean_and_spread(share, '.0f', '.0f')} %",
            ]
            lines.append(f"| {config} | {row} | {' | '.join(cells)} |")
    table = "\n".join(lines)
    (where / f"{args.table}.md").write_text(table + "\n", encoding="utf-8")
    mosaic(pictures, len(rows) if len(rows) < COLUMNS else COLUMNS).save(where / f"{args.table}.png")
    print(f"{table}\n{time.monotonic() - started:.0f} s")


if __name__ == "__main__":
    main()
