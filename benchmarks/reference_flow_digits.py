"""Bits per dimension on handwritten digits (8x8, 17 grey levels): Glow against a Gaussian and Gaussian mixtures.

    python benchmarks/reference_flow_digits.py --output_dir runs/reference-flow-digits

15 % of the training split are a validation split: it stops Glow and chooses among the mixtures. Everything is
measured on the same images after uniform dequantisation, with the mean of 8 draws of the noise. The table goes to
`table.md`, samples of the first seed to `glow_digits.png`.
"""

from __future__ import annotations

import argparse
import copy
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from tables import mean_and_spread
from timing import make_loop, quiet

from hf_genmodels.data import DataArguments, LoadedData, evaluation_batches, load_data
from hf_genmodels.data.sets import ArrayDataset
from hf_genmodels.data.streams import ImageDataset
from hf_genmodels.families import gaussian, gaussian_mixture
from hf_genmodels.families.flow import FlowArguments
from hf_genmodels.objectives.closed_form import ClosedFormObjective
from hf_genmodels.plots import image_grid

VALIDATION_SHARE, DRAWS, BATCH = 0.15, 8, 128
GLOW = {"num_flow_steps": 8, "num_scales": 2, "hidden_channels": 64}
TRAINING = {
    "learning_rate": 3e-3,
    "lr_scheduler": "constant_with_warmup",
    "lr_warmup_steps": 50,
    "max_grad_norm": 100.0,
}
TRAINING |= {"use_ema": True, "ema_max_decay": 0.99}
EVERY, PATIENCE, MOST_STEPS = 50, 4, 2000
MIXTURES = [("full", number, 1e-3) for number in (2, 5, 10, 20)]
MIXTURES += [("diag", number, 1e-4) for number in (20, 40, 80, 120, 160)]


def load() -> tuple[LoadedData, ImageDataset]:
    """Training and validation split, and the test split."""
    data = load_data(DataArguments(dataset_name="builtin:digits"), 0)
    assert isinstance(data.train, ArrayDataset) and data.validation is not None
    order = np.random.default_rng(0).permutation(len(data.train))
    count = int(VALIDATION_SHARE * len(order))
    train, validation = (
        ArrayDataset(data.train.pixels[rows], replace(data.spec, num_examples=len(rows)), None, random_flip=False)
        for rows in (order[count:], order[:count])
    )
    return LoadedData(train.spec, train, validation, "validation"), data.validation


@torch.no_grad()
def bits(objective: Any, networks: dict[str, Any], dataset: ImageDataset) -> float:
    """Mean bits per dimension."""
    generator = torch.Generator().manual_seed(0)
    found = [
        objective.evaluate(networks, batch, generator)["bits_per_dim"]
        for _ in range(DRAWS)
        for batch in evaluation_batches(dataset, batch_size=500)
    ]
    return torch.cat(found).mean().item()


def fit(objective: ClosedFormObjective, data: LoadedData, test: ImageDataset) -> tuple[float, float]:
    """Bits per dimension of a classical model on validation and test images."""
    assert data.validation is not None
    objective.fit(evaluation_batches(data.train, batch_size=500), torch.Generator().manual_seed(0))
    return bits(objective, objective.networks, data.validation), bits(objective, objective.networks, test)


def train_glow(data: LoadedData, test: ImageDataset, seed: int, folder: Path) -> tuple[int, float, float]:
    """Steps, and bits per dimension on validation and test images, at the step that is best on the former."""
    assert data.validation is not None
    loop = make_loop("flow", FlowArguments(**GLOW), data, folder, 1, BATCH, seed=seed, **TRAINING)
    best: tuple[float, int, Any] = (float("inf"), 0, None)
    while loop.step < MOST_STEPS and loop.step - best[1] < PATIENCE * EVERY:
        with quiet():
            loop.train_until(loop.step + EVERY)
        networks = loop.inference_networks()
        found = bits(loop.objective, networks, data.validation)
        if found < best[0]:
            best = (found, loop.step, copy.deepcopy(networks))
    if seed == 0:
        pipe: Any = loop.objective.pipeline(best[2])
        generator = torch.Generator().manual_seed(0)
        rows = [pipe(batch_size=16, temperature=t, generator=generator, output_type="pt").images for t in (1.0, 0.8)]
        image_grid(torch.cat(rows), columns=16).save(folder / "glow_digits.png")
    return best[1], best[0], bits(loop.objective, best[2], test)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--output_dir", type=Path, required=True)
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    args = parser.parse_args()
    args.output_dir.mkdir(parents=True, exist_ok=True)
    torch.set_num_threads(1)
    data, test = load()
    lines = ["| Model | Validation | Test |", "|--|--|--|"]

    def add(name: str, validation: str, held_out: str) -> None:
        lines.append(f"| {name} | {validation} | {held_out} |")
        print(lines[-1], flush=True)

    found = fit(gaussian.build(gaussian.GaussianArguments(), data.spec), data, test)
    add("Gaussian, full covariance", f"{found[0]:.3f}", f"{found[1]:.3f}")
    for kind, number, reg_covar in MIXTURES:
        options = gaussian_mixture.GaussianMixtureArguments(
            num_components=number, covariance_type=kind, reg_covar=reg_covar
        )
        found = fit(gaussian_mixture.build(options, data.spec), data, test)
        add(f"Mixture of {number}, {kind} covariances", f"{found[0]:.3f}", f"{found[1]:.3f}")
    runs = [train_glow(data, test, seed, args.output_dir) for seed in args.seeds]
    steps = " ".join(str(run[0]) for run in runs)
    validation, held_out = (mean_and_spread([run[i] for run in runs], ".3f", ".3f") for i in (1, 2))
    add(f"Glow, stopped after {steps} steps", validation, held_out)
    (args.output_dir / "table.md").write_text("\n".join(lines) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
