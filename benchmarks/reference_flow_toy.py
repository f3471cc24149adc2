"""RealNVP on points in the plane, against a kernel density estimate of the same training points.

    python benchmarks/reference_flow_toy.py --output_dir runs/reference-flow-toy

Trains on two moons and on the AVAE thesis's toy set for each seed, and prints the held-out log-likelihood (10,000
points) beside that of a Gaussian kernel density estimate of all 50,000 training points, whose bandwidth is chosen on
1,000 of them. Pictures of the first seed go to `flow_toy.png`. A run that is finished is not made again.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import torch
from tables import mean_and_spread
from torch import Tensor

from hf_genmodels import FlowPipeline
from hf_genmodels.data import DataArguments, evaluation_batches, load_split
from hf_genmodels.metrics.likelihood import choose_bandwidth, parzen_log_likelihood
from hf_genmodels.plots import scatter, stack_pictures
from hf_genmodels.training.entry import train_family

SETS = {"moons": "two moons", "avae": "thesis 3.4.1"}
OPTIONS = "--train_batch_size 256 --learning_rate 3e-3 --lr_scheduler cosine --log_steps 500 --num_threads 1"
POINTS_SHOWN, POINTS_HELD_OUT = 5000, 1000


def points(variant: str, split: str) -> Tensor:
    """All points of a split, (number, 2)."""
    data = load_split(DataArguments(dataset_name="builtin:toy2d", dataset_config_name=variant), split)
    return torch.cat([batch["image"] for batch in evaluation_batches(data, batch_size=10_000)])


def kernel_density(variant: str) -> tuple[float, float]:
    """Held-out mean log-likelihood of the kernel density estimate, and its bandwidth."""
    known = points(variant, "train")
    bandwidth = choose_bandwidth(known[POINTS_HELD_OUT:], known[:POINTS_HELD_OUT])
    return parzen_log_likelihood(known, points(variant, "test"), bandwidth).mean().item(), bandwidth


def make(variant: str, seed: int, steps: int, folder: Path) -> FlowPipeline:
    """Train one run, unless that is done."""
    if not (folder / "metrics.json").is_file():
        options = ["--dataset_name", "builtin:toy2d", "--dataset_config_name", variant, *OPTIONS.split()]
        options += ["--output_dir", str(folder), "--overwrite_output_dir", "--checkpointing_steps", "0"]
        train_family("flow", [*options, "--max_train_steps", str(steps), "--seed", str(seed)])
    return FlowPipeline.from_pretrained(folder)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--output_dir", type=Path, required=True)
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--steps", type=int, default=2000)
    args = parser.parse_args()
    lines = ["| Set | RealNVP (nats) | kernel density (nats) | bandwidth |", "|--|--|--|--|"]
    pictures = {}
    for variant, title in SETS.items():
        held_out, found = points(variant, "test"), []
        for seed in args.seeds:
            pipe = make(variant, seed, args.steps, args.output_dir / f"{variant}-seed{seed}-steps{args.steps}")
            found.append(pipe.log_likelihood(held_out).mean().item())
            if seed == args.seeds[0]:
                generator = torch.Generator().manual_seed(seed)
                pictures[f"{title}, data"] = scatter(held_out[:POINTS_SHOWN])
                samples = pipe(batch_size=POINTS_SHOWN, generator=generator, output_type="pt").images
                pictures[f"{title}, samples"] = scatter(samples)
        density, bandwidth = kernel_density(variant)
        lines.append(f"| {title} | {mean_and_spread(found, '.3f', '.3f')} | {density:.3f} | {bandwidth:.3g} |")
    table = "\n".join(lines)
    (args.output_dir / "table.md").write_text(table + "\n", encoding="utf-8")
    stack_pictures(pictures).save(args.output_dir / "flow_toy.png")
    print(table)


if __name__ == "__main__":
    main()
