"""Metrics of two feature sets: this library, its peers and code by hand, in interleaved rounds of the same process.

    python benchmarks/bench_metrics.py --metrics fid precision_recall kid swd --num_threads 1

All start from the same float32 features and end with the number; the processor time of all threads
is compared. KID's subsets are each library's own draw. torch-fidelity and clean-fid import torchvision, of which
these metrics use nothing: where it is not installed, empty modules stand in for it.
"""

from __future__ import annotations

import argparse
import contextlib
import importlib.util
import io
import statistics
import sys
import time
from collections.abc import Callable
from unittest.mock import MagicMock

import numpy as np
import torch
from timing import interleave
from torch import Tensor

from hf_genmodels.metrics import distribution
from hf_genmodels.metrics.sliced_wasserstein import sliced_wasserstein

# As long as they are imported: torchmetrics looks whether it is there.
_STAND_INS = [
    "torchvision" + part
    for part in ("", ".transforms", ".transforms.functional", ".datasets", ".models", ".models.utils")
    if importlib.util.find_spec("torchvision") is None
]
sys.modules.update({name: MagicMock() for name in _STAND_INS})
from cleanfid import fid as clean_fid  # noqa: E402
from torch_fidelity import metric_fid, metric_kid, metric_prc  # noqa: E402

for name in _STAND_INS:
    del sys.modules[name]
from bench_fid import make_features, torchmetrics_fid  # noqa: E402
from torchmetrics.image.kid import poly_mmd  # noqa: E402

Runs = dict[str, Callable[[], object]]


def fid(a: Tensor, b: Tensor, options: argparse.Namespace) -> Runs:
    x, y = a.numpy(), b.numpy()
    return {
        "library": lambda: distribution.frechet_distance_from_features(a, b),
        "torch-fidelity": lambda: metric_fid.fid_statistics_to_metric(
            metric_fid.fid_features_to_statistics(a), metric_fid.fid_features_to_statistics(b), verbose=False
        )[metric_fid.KEY_METRIC_FID],
        "clean-fid": lambda: clean_fid.fid_from_feats(x, y),
        "torchmetrics": lambda: torchmetrics_fid(a, b, 500),
    }


def precision_recall(a: Tensor, b: Tensor, options: argparse.Namespace) -> Runs:
    def by_hand() -> tuple[float, float]:
        radii = [torch.cdist(each, each).topk(4, dim=1, largest=False).values[:, 3] for each in (a, b)]
        distances = torch.cdist(b, a)
        inside = (distances <= radii[0]).any(1), (distances <= radii[1][:, None]).any(0)
        return inside[0].double().mean().item(), inside[1].double().mean().item()

    def of_fidelity() -> tuple[float, float]:
        found = metric_prc.prc_features_to_metric(b, a, prc_neighborhood=3, prc_batch_size=10_000, save_cpu_ram=False)
        return found["precision"], found["recall"]

    return {
        "library": lambda: tuple(distribution.precision_recall(a, b)),
        "torch-fidelity": of_fidelity,
        "by hand": by_hand,
    }


def kid(a: Tensor, b: Tensor, options: argparse.Namespace) -> Runs:
    x, y, subsets = a.numpy(), b.numpy(), options.num_subsets

    def draw(features: Tensor) -> Tensor:
        return features[torch.randperm(len(features))[:1000]]

    def of_torchmetrics() -> float:  # what `KernelInceptionDistance.compute` does with the features it has kept
        return torch.stack([poly_mmd(draw(a), draw(b), 3, None, 1.0) for _ in range(subsets)]).mean().item()

    def by_hand() -> float:
        def kernel(p: Tensor, q: Tensor) -> Tensor:
            shifted = torch.addmm(torch.ones(()), p, q.T, alpha=1 / p.shape[1])
            return shifted.square().mul_(shifted)

        values = []
        for _ in range(subsets):
            p, q = draw(a), draw(b)
            within = [each.sum() - each.trace() for each in (kernel(p, p), kernel(q, q))]
            values.append((within[0] + within[1]) / (1000 * 999) - 2 * kernel(p, q).mean())
        return torch.stack(values).mean().item()

    def of_library() -> float:
        generator = torch.Generator().manual_seed(options.seed)
        return distribution.kernel_distance(a, b, generator=generator, num_subsets=subsets).mean

    return {
        "library": of_library,
        "torch-fidelity": lambda: metric_kid.kid_features_to_metric(
            a, b, kid_subsets=subsets, kid_subset_size=1000, verbose=False
        )[metric_kid.KEY_METRIC_KID_MEAN],
        "clean-fid": lambda: clean_fid.kernel_distance(x, y, num_subsets=subsets),
        "torchmetrics": of_torchmetrics,
        "by hand": by_hand,
    }


def swd(a: Tensor, b: Tensor, options: argparse.Namespace) -> Runs:
    def by_hand() -> float:
        u = torch.nn.functional.normalize(torch.randn(a.shape[1], 512), dim=0)
        x, y = ((u.T @ each.T).sort(dim=1).values for each in (a, b))
        return (x - y).square().mean().sqrt().item()

    def of_library() -> float:
        return sliced_wasserstein(a, b, generator=torch.Generator().manual_seed(options.seed))

    return {"library": of_library, "by hand": by_hand}


METRICS = {"fid": fid, "precision_recall": precision_recall, "kid": kid, "swd": swd}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--metrics", nargs="+", choices=METRICS, default=list(METRICS))
    parser.add_argument("--number", type=int, default=10_000, help="rows of each feature set")
    parser.add_argument("--dim", type=int, default=2048, help="dimensions of the features")
    parser.add_argument("--num_subsets", type=int, default=100, help="subsets of KID")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--num_threads", type=int, default=1)
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    torch.set_num_threads(options.num_threads)
    np.random.seed(options.seed)
    a, b = make_features(options.number, options.dim, options.seed)
    print(f"{options.number} x {options.dim} features, {options.num_threads} threads, {options.rounds} rounds")
    for metric in options.metrics:
        values: dict[str, object] = {}

        def remember(name: str, run: Callable[[], object], values: dict[str, object] = values) -> Callable[[], None]:
            return lambda: values.update({name: run()})

        with contextlib.redirect_stdout(io.StringIO()):
            runs = {name: remember(name, run) for name, run in METRICS[metric](a, b, options).items()}
            seconds = interleave(runs, options.rounds, warm_up=0, clock=time.process_time)
        ours = seconds["library"]
        for name, theirs in seconds.items():
            ratio = statistics.median(x / y for x, y in zip(ours, theirs, strict=True))
            value = values[name]
            shown = " ".join(f"{each:.7g}" for each in (value if isinstance(value, tuple) else (value,)))
            print(f"{metric} {name}: {statistics.median(theirs):.2f} s, library / this {ratio:.2f}, value {shown}")


if __name__ == "__main__":
    main()
