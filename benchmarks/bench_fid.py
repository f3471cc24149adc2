"""FID of two feature sets: this library against torchmetrics, in interleaved rounds of the same process.

    python benchmarks/bench_fid.py --num_threads 2

Both start from the same float32 features and end with the number. torchmetrics' `FrechetInceptionDistance` gets the
identity as its feature network and the features in batches, which is how its users feed it. Its last step alone, from
finished means and covariances, is timed too, against ours from the same statistics.
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Callable

import torch
from torch import Tensor, nn
from torchmetrics.image.fid import FrechetInceptionDistance, _compute_fid

from hf_genmodels.metrics.distribution import (
    frechet_distance,
    frechet_distance_from_features,
    mean_and_covariance,
)


class Identity(nn.Identity):
    """The features are the input; torchmetrics reads their number from `num_features`."""

    def __init__(self, num_features: int) -> None:
        super().__init__()
        self.num_features = num_features


def make_features(number: int, dim: int, seed: int) -> tuple[Tensor, Tensor]:
    """Two sets of correlated, non-negative features with a decaying spectrum, as pooled activations have."""
    generator = torch.Generator().manual_seed(seed)
    mixing = torch.randn(dim, dim, generator=generator) * torch.arange(1, dim + 1).pow(-0.5)[:, None]
    sets = []
    for shift in (0.0, 0.2):
        sets.append(torch.relu(torch.randn(number, dim, generator=generator) @ mixing + shift))
    return sets[0], sets[1]


def torchmetrics_fid(real: Tensor, fake: Tensor, batch_size: int) -> float:
    metric = FrechetInceptionDistance(feature=Identity(real.shape[1]))
    for features, is_real in ((real, True), (fake, False)):
        for batch in features.split(batch_size):
            metric.update(batch, real=is_real)
    return float(metric.compute())


def timed(times: list[float], job: Callable[[], float]) -> float:
    start = time.perf_counter()
    value = job()
    times.append(time.perf_counter() - start)
    return value


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--number", type=int, default=10_000, help="rows of each feature set")
    parser.add_argument("--dim", type=int, default=2048, help="dimensions of the features")
    parser.add_argument("--batch_size", type=int, default=500, help="rows in one torchmetrics update")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--num_threads", type=int, default=2)
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    torch.set_num_threads(options.num_threads)

    real, fake = make_features(options.number, options.dim, options.seed)
    (mean_a, cov_a), (mean_b, cov_b) = mean_and_covariance(real), mean_and_covariance(fake)
    ours: list[float] = []
    theirs: list[float] = []
    our_last_step: list[float] = []
    their_last_step: list[float] = []
    for _ in range(options.rounds):
        value = timed(ours, lambda: frechet_distance_from_features(real, fake))
        reference = timed(theirs, lambda: torchmetrics_fid(real, fake, options.batch_size))
        timed(our_last_step, lambda: frechet_distance(mean_a, cov_a, mean_b, cov_b))
        timed(their_last_step, lambda: float(_compute_fid(mean_a, cov_a, mean_b, cov_b)))

    print(
        f"{options.number} x {options.dim} features, {options.num_threads} threads, median of {options.rounds} rounds"
    )
    for name, mine, other in (
        ("features to number", ours, theirs),
        ("statistics to number", our_last_step, their_last_step),
    ):
        a, b = statistics.median(mine), statistics.median(other)
        print(f"{name:>21}: {a:.2f} s, torchmetrics {b:.2f} s, ratio {a / b:.2f}")
    difference = abs(value - reference) / abs(reference)
    print(f"FID {value:.6g}, torchmetrics {reference:.6g}, relative difference {difference:.1e}")


if __name__ == "__main__":
    main()
