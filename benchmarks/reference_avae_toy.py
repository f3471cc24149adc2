"""The toy set of the AVAE thesis, section 3.4.1: VAE, AVAE without xi and AVAE with xi, in figures and a picture.

    python benchmarks/reference_avae_toy.py --output_dir runs/reference-avae-toy

Latents have one dimension, the networks two hidden layers of 128 units. Each test point x is encoded, z ~ q(z|x), and
reconstructed. The VAE is the encoder and decoder of the AVAE with xi: they do not depend on its other networks.

Log-density   mean log p of the data's true density at the reconstructions, in nats.
Branches      the set is x2 = cos(x1 +- 1) but for noise; the share of points nearer to the upper sign's curve, and how
              far it is from the data's share in regions of x1, on average: a model that follows one branch in each
              region has about half of its points on either, but is far off in every region.
Order         Spearman's rank correlation of z ~ N(0, 1) and mu(G(z, xi)).
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np
import torch
from scipy.stats import spearmanr
from tables import mean_and_spread
from torch import Tensor

from hf_genmodels import AVAEPipeline, DataArguments
from hf_genmodels.data import evaluation_batches, load_split
from hf_genmodels.plots import scatter, stack_pictures
from hf_genmodels.training.entry import train_family

OPTIONS = [
    *("--dataset_name", "builtin:toy2d", "--dataset_config_name", "avae", "--architecture", "mlp"),
    *("--latent_dim", "1", "--hidden_dims", "128", "128", "--latent_warmup_steps", "500"),
    *("--train_batch_size", "256", "--learning_rate", "1e-3", "--lr_scheduler", "cosine"),
    *("--checkpointing_steps", "0", "--log_steps", "500", "--num_threads", "1", "--overwrite_output_dir"),
]
MODELS = {"AVAE without xi": ["--xi_dim", "0"], "AVAE with xi": []}
NUM_POINTS = 2000
REGIONS = 12
NOISE = 0.1


def log_density(points: Tensor) -> Tensor:
    """Log of the data's density, (count, 2) -> (count,), by quadrature over 3 z1 given x1 and over z2."""
    x1, x2 = points.double().T
    nodes, weights = np.polynomial.hermite_e.hermegauss(24)
    shrink = 9 / (9 + NOISE**2)
    phase = shrink * x1[:, None] + shrink**0.5 * NOISE * torch.from_numpy(nodes)  # 3 z1 given x1 is Gaussian
    quantiles = torch.special.ndtri((torch.arange(400, dtype=torch.float64) + 0.5) / 400)
    mean = torch.cos(phase[:, :, None] + torch.tanh(3 * quantiles))
    of_x2 = torch.distributions.Normal(mean, NOISE).log_prob(x2[:, None, None])
    of_x2 = torch.logsumexp(of_x2, 2) - np.log(len(quantiles)) + torch.from_numpy(np.log(weights / weights.sum()))
    of_x1 = torch.distributions.Normal(0.0, (9 + NOISE**2) ** 0.5).log_prob(x1)
    return of_x1 + torch.logsumexp(of_x2, 1)


def upper_branch(points: Tensor) -> Tensor:
    """Whether a point is nearer to cos(x1 + 1) than to cos(x1 - 1); NaN where the two cannot be told apart."""
    x1, x2 = points.T
    plus, minus = torch.cos(x1 + 1), torch.cos(x1 - 1)
    is_upper = ((x2 - plus).abs() < (x2 - minus).abs()).float()
    return torch.where((plus - minus).abs() > 6 * NOISE, is_upper, torch.nan)


def branch_shares(points: Tensor) -> Tensor:
    """The share of points on the upper branch in each region of -6 < x1 < 6, NaN where a region is empty."""
    region = ((points[:, 0] + 6) / 12 * REGIONS).floor()
    upper = upper_branch(points)
    return torch.stack([upper[region == index].nanmean() for index in range(REGIONS)])


def figures(pipeline: AVAEPipeline, network: str, data: Tensor, seed: int) -> tuple[dict[str, float], Tensor]:
    """The table's figures of the generator or the decoder, and its reconstructions."""
    generator = torch.Generator().manual_seed(seed)
    restored = pipeline.reconstruct(data, sample=True, network=network, generator=generator, output_type="pt").images
    latents = torch.randn(NUM_POINTS, 1, generator=generator)
    generated = pipeline.decode(latents, network=network, generator=generator, output_type="pt").images
    order = spearmanr(latents.flatten(), pipeline.encode(generated).flatten()).statistic
    return {
        "log-density": log_density(restored).mean().item(),
        "upper branch": 100 * upper_branch(restored).nanmean().item(),
        "off in regions": 100 * (branch_shares(restored) - branch_shares(data)).abs().nanmean().item(),
        "order": float(order),
    }, restored


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--output_dir", type=Path, required=True)
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--steps", type=int, default=6000)
    args = parser.parse_args()
    split = load_split(DataArguments(dataset_name="builtin:toy2d", dataset_config_name="avae"), "test")
    data = next(evaluation_batches(split, batch_size=NUM_POINTS))["image"]

    found: dict[str, list[dict[str, float]]] = {"VAE": [], **{name: [] for name in MODELS}}
    pictures = {"data": scatter(data)}
    for seed in args.seeds:
        for name, options in MODELS.items():
            folder = args.output_dir / f"{name.replace(' ', '-')}-seed{seed}"
            if not (folder / "metrics.json").is_file():
                own = ["--seed", str(seed), "--max_train_steps", str(args.steps), "--output_dir", str(folder)]
                train_family("avae", [*OPTIONS, *options, *own])
            pipeline = AVAEPipeline.from_pretrained(folder)
            parts = {"VAE": "decoder", name: "generator"} if name == "AVAE with xi" else {name: "generator"}
            for row, network in parts.items():
                result, restored = figures(pipeline, network, data, seed)
                found[row].append(result)
                if seed == args.seeds[0]:
                    pictures[row] = scatter(restored)
    of_data = log_density(data).mean().item(), 100 * upper_branch(data).nanmean().item()
    lines = [
        "| | Log-density (nats) | Upper branch | Off in regions | Order |",
        "|--|--|--|--|--|",
        f"| data | {of_data[0]:.2f} | {of_data[1]:.0f} % | | |",
    ]
    for row, results in found.items():
        cells = [mean_and_spread([result[name] for result in results]) for name in results[0]]
        lines.append(f"| {row} | {' | '.join(cells)} |")
    table = "\n".join(lines)
    (args.output_dir / "table.md").write_text(table + "\n", encoding="utf-8")
    stack_pictures(pictures).save(args.output_dir / "reconstructions.png")
    print(table)


if __name__ == "__main__":
    main()
