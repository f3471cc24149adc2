"""What must not grow with the number of processes or of examples: noise, the order of an epoch, its augmentation.

    python benchmarks/bench_scale.py [--rounds 40] [--threads 1]

Noise: what the last of 1, 8 and 64 ranks computes for its 64 rows of a global batch, beside `torch.randn` of its own
rows, which N processes could not split, and of the whole batch, which every rank drew before. Order: the
first batch of the epoch that begins after three epochs of 10^8 images, with flips, in a fresh process each time.
"""

from __future__ import annotations

import argparse
import itertools
import statistics
import subprocess
import sys
import time
import tracemalloc
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from bench_loop import resident
from timing import interleave

from hf_genmodels.data import DataSpec, TrainingBatches
from hf_genmodels.data.sets import ArrayDataset
from hf_genmodels.objectives.base import Noise

RANKS = (1, 8, 64)
SHAPES = ((64, 64), (64, 3, 32, 32), (64, 3, 64, 64))
BATCH, EXAMPLES, EPOCH = 64, 10**8, 3


def noise_runs(shape: tuple[int, ...]) -> dict[str, Callable[[], Any]]:
    """A rank's normal numbers of one shape, keyed and by PyTorch's generator."""
    like, generator = torch.empty(0), torch.Generator()
    runs: dict[str, Callable[[], Any]] = {"torch.randn, own rows": lambda: torch.randn(shape, generator=generator)}
    for ranks in RANKS:
        runs[f"keyed, {ranks} ranks"] = lambda ranks=ranks: Noise(0, ranks - 1, ranks).normal(shape, like)
    return runs


def whole_batch(shape: tuple[int, ...], ranks: int) -> Callable[[], Any]:
    """What each rank drew before: the whole batch, of which it took its rows."""
    generator = torch.Generator()
    return lambda: torch.randn(ranks * shape[0], *shape[1:], generator=generator)[-shape[0] :].clone()


def report_noise(rounds: int) -> None:
    for shape in SHAPES:
        print("normal numbers of", " x ".join(map(str, shape)))
        seconds = interleave(noise_runs(shape), rounds)
        for name, values in seconds.items():
            ratios = [a / b for a, b in zip(values, seconds["torch.randn, own rows"], strict=True)]
            print(
                f"  {name}: {1e3 * statistics.median(values):.3f} ms, {statistics.median(ratios):.2f} of torch.randn"
            )
        for ranks in RANKS[1:]:
            (values,) = interleave({"whole": whole_batch(shape, ranks)}, max(3, rounds // 10), 1).values()
            print(f"  torch.randn, rows of {ranks} ranks: {1e3 * statistics.median(values):.3f} ms")


def huge_dataset() -> ArrayDataset:
    """10^8 images that are one."""
    spec = DataSpec("none", 1, (8, 8), 255.0, None, EXAMPLES, "0" * 12)
    return ArrayDataset(np.broadcast_to(np.zeros((1, 1, 8, 8), np.uint8), (EXAMPLES, 1, 8, 8)), spec, None, True)


def first_batch(traced: bool) -> None:
    """Print the seconds until the first batch of a late epoch, and the peak of what was allocated for it in MB."""
    batches = TrainingBatches(huge_dataset(), batch_size=BATCH)
    assert batches.batches_per_epoch is not None
    Path("/proc/self/clear_refs").write_text("5")
    before = resident("VmRSS")
    if traced:
        tracemalloc.start()
    start = time.perf_counter()
    stream = batches.start(EPOCH * batches.batches_per_epoch)
    next(stream)
    seconds = time.perf_counter() - start
    resident_mb = (resident("VmHWM") - before) * 2**20 / 1e6
    traced_mb = tracemalloc.get_traced_memory()[1] / 1e6 if traced else 0.0
    start = time.perf_counter()
    for _ in itertools.islice(stream, 1000):
        pass
    print(seconds, resident_mb, traced_mb, (time.perf_counter() - start) / 1000)


def report_order(rounds: int) -> None:
    def measured(*words: str) -> list[float]:
        command = [sys.executable, __file__, "--only", "order", *words]
        return [float(word) for word in subprocess.run(command, check=True, capture_output=True).stdout.split()]

    found = [measured() for _ in range(rounds)]
    first, memory, _, later = (statistics.median(column) for column in zip(*found, strict=True))
    print(f"epoch {EPOCH} of {EXAMPLES:,} examples, {rounds} processes: first batch after {1e3 * first:.1f} ms,")
    print(f"  {memory:.1f} MB more resident at the peak, {measured('--traced')[2]:.1f} MB of Python's and NumPy's;")
    print(f"  later batches of {BATCH} images of 8 x 8, with flips: {1e6 * later:.0f} us each")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=40)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--only", choices=["order"], help=argparse.SUPPRESS)
    parser.add_argument("--traced", action="store_true", help=argparse.SUPPRESS)
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    if args.only:
        first_batch(args.traced)
        return
    report_noise(args.rounds)
    report_order(max(3, args.rounds // 8))


if __name__ == "__main__":
    main()
