"""Variances of the two unbiased estimates of a VAE's loss: KL in closed form, and log q(z|x) - log p(z) at a draw.

    python benchmarks/reference_kl_estimators.py --output_dir runs/reference-kl-estimators

A VAE of `builtin:digits` is looked at before training and after `--steps` steps with either estimator. Both losses are
computed with the same `--draws` draws of the latents of one batch of 64 training images, in eval mode: means and
variances of the KL term and of the loss, and the variance of the encoder's gradient, summed over its parameters. The
table is printed and written to `table.md`.
"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

import torch
from results import Results, train_once
from torch import Tensor

from hf_genmodels.data import DataArguments, evaluation_batches, load_split
from hf_genmodels.families import get_family
from hf_genmodels.families.vae import VAEArguments
from hf_genmodels.objectives.base import Noise

NETWORK = {"latent_dim": 8, "block_out_channels": [16, 32], "norm": "none", "likelihood": "bernoulli"}
OPTIONS = "--dataset_name builtin:digits --latent_dim 8 --block_out_channels 16 32 --norm none --likelihood bernoulli"
OPTIONS += " --train_batch_size 64 --learning_rate 1e-3 --num_threads 1 --checkpointing_steps 0 --seed 0"
ESTIMATORS = ("closed_form", "sampled")


def estimates(folder: Path | None, draws: int) -> dict[str, dict[str, float]]:
    """Of one model, None for a new one: means and variances by estimator."""
    data = load_split(DataArguments(dataset_name="builtin:digits"), "train")
    batch = {"image": next(evaluation_batches(data, batch_size=64))["image"]}
    found: dict[str, dict[str, float]] = {}
    for kind in ESTIMATORS:
        torch.manual_seed(0)
        args, family = VAEArguments(**NETWORK, kl_estimator=kind), get_family("vae")
        objective: Any = family.build(args, data.spec) if folder is None else family.reload(folder, args, data.spec)
        vae = objective.networks["vae"].eval()
        encoder = [*vae.trunk.parameters(), *vae.posterior.parameters()]
        terms: dict[str, list[Tensor]] = {"KL": [], "loss": []}
        gradients = []
        for draw in range(draws):
            losses = objective.losses(objective.phases[0], objective.networks, batch, Noise(draw), {})
            terms["KL"].append(losses["kl"].detach())
            terms["loss"].append(losses["loss"].detach())
            gradient = torch.autograd.grad(losses["loss"], encoder)
            gradients.append(torch.cat([each.flatten() for each in gradient]))
        found[kind] = {f"mean of the {name}": torch.stack(values).mean().item() for name, values in terms.items()}
        found[kind] |= {
            f"variance of the {name}": torch.stack(values).double().var().item() for name, values in terms.items()
        }
        stacked = torch.stack(gradients).double()
        found[kind]["norm of the mean gradient"] = stacked.mean(0).norm().item()
        found[kind]["variance of the gradient"] = stacked.var(0).sum().item()
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--output_dir", type=Path, required=True)
    parser.add_argument("--steps", type=int, default=2000)
    parser.add_argument("--draws", type=int, default=1000)
    args = parser.parse_args()
    torch.set_num_threads(1)
    results = Results(args.output_dir / "results.json", args)
    models: dict[str, Path | None] = {"new": None}
    for kind in ESTIMATORS:
        options = f"--kl_estimator {kind} --max_train_steps {args.steps}"
        models[f"trained, {kind}"] = train_once("vae", args.output_dir / kind, OPTIONS, options)
    found = {name: results.get(name, lambda f=folder: estimates(f, args.draws)) for name, folder in models.items()}
    figures = list(found["new"]["closed_form"])
    lines = [f"| Network | Estimator | {' | '.join(figures)} |", "|--" * (len(figures) + 2) + "|"]
    for name, of_model in found.items():
        for kind, values in of_model.items():
            lines.append(f"| {name} | {kind} | {' | '.join(f'{values[figure]:.4g}' for figure in figures)} |")
    text = "\n".join(lines)
    (args.output_dir / "table.md").write_text(text + "\n", encoding="utf-8")
    print(text)


if __name__ == "__main__":
    main()
