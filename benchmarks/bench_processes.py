"""How much faster two CPU processes train than one, at the same global batch, each with one thread.

    python benchmarks/bench_processes.py [--rounds 6] [--seconds 2] [--families vae gan]

vae      convolutional VAE, 1x32x32, width 64, global batch 64.
gan      DCGAN, 1x32x32, width 64, global batch 64.
pix2pix  3x64x64, U-Net of 6 levels, width 32, discriminator of 70 pixels, global batch 8.
ddpm     1x32x32, channels 32, 64, 64, one layer a block, global batch 16.

Efficiency is images a second of two processes over twice those of one. Two independent processes of half the batch,
which exchange nothing, say what the machine allows: the memory and caches that the cores share, and what a smaller
batch costs. All are started first, and then train in turns: in a round each for about `--seconds`, in an order that
alternates. The first steps of each are not counted; the figures are medians over the rounds.
"""

from __future__ import annotations

import argparse
import os
import socket
import statistics
import subprocess
import sys
import tempfile
import time
from contextlib import ExitStack
from pathlib import Path
from typing import Any

from timing import make_loop, quiet

from hf_genmodels.data import DataArguments, load_data
from hf_genmodels.families import get_family
from hf_genmodels.families.ddpm import DDPMArguments
from hf_genmodels.families.gan import GANArguments
from hf_genmodels.families.pix2pix import Pix2PixArguments
from hf_genmodels.families.vae import VAEArguments

WARM_UP = 3
DIGITS = DataArguments(dataset_name="builtin:digits", resolution=[32])
PAIRS = DataArguments(dataset_name="builtin:edges", conditioning_image_column="image", max_train_samples=200)
# family -> its options, global batch
CASES: dict[str, tuple[Any, int]] = {
    "vae": (VAEArguments(latent_dim=64, block_out_channels=[64, 128, 256]), 64),
    "gan": (GANArguments(), 64),
    "pix2pix": (Pix2PixArguments(width=32, discriminator_width=32, num_downs=6), 8),
    "ddpm": (DDPMArguments(block_out_channels=[32, 64, 64], layers_per_block=1), 16),
}


def work(family: str, batch_size: int) -> None:
    """Train as many steps as each line of the standard input says, and say when they are done."""
    options = CASES[family][0]
    data = load_data(PAIRS if family == "pix2pix" else DIGITS, 0, get_family(family).layout(options))
    with tempfile.TemporaryDirectory() as folder:
        loop = make_loop(family, options, data, Path(folder), 1, batch_size)
    with quiet():
        for line in sys.stdin:
            for _ in range(int(line)):
                loop.training_step()
            print("done", flush=True)


class Group:
    """Processes that train at the same time, together or each by itself."""

    def __init__(self, family: str, batch_size: int, count: int, together: bool, stack: ExitStack) -> None:
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            port = free.getsockname()[1]
        command = [sys.executable, __file__, "--worker", family, "--batch_size", str(batch_size)]
        self.workers = []
        for rank in range(count):
            environment = {"ACCELERATE_USE_CPU": "true", "GLOO_SOCKET_IFNAME": "lo", "OMP_NUM_THREADS": "1"}
            if together:
                environment |= {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port), "WORLD_SIZE": str(count)}
                environment |= {"RANK": str(rank), "LOCAL_RANK": str(rank), "LOCAL_WORLD_SIZE": str(count)}
            worker = subprocess.Popen(
                command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=os.environ | environment
            )
            self.workers.append(stack.enter_context(worker))
        self.train(WARM_UP)

    def train(self, steps: int) -> float:
        """Seconds of a step."""
        start = time.perf_counter()
        for worker in self.workers:
            assert worker.stdin is not None
            worker.stdin.write(f"{steps}\n")
            worker.stdin.flush()
        for worker in self.workers:
            assert worker.stdout is not None
            assert worker.stdout.readline() == "done\n", "a process ended"
        return (time.perf_counter() - start) / steps


def compare(family: str, rounds: int, seconds: float) -> None:
    """Print a row of the table."""
    batch_size = CASES[family][1]
    with ExitStack() as stack:
        groups = {
            "one": Group(family, batch_size, 1, False, stack),
            "two": Group(family, batch_size // 2, 2, True, stack),
            "apart": Group(family, batch_size // 2, 2, False, stack),
        }
        steps = {name: max(1, round(seconds / group.train(WARM_UP))) for name, group in groups.items()}
        times: dict[str, list[float]] = {name: [] for name in groups}
        for index in range(rounds):
            for name in list(groups)[:: -1 if index % 2 else 1]:
                times[name].append(groups[name].train(steps[name]))
        for group in groups.values():
            for worker in group.workers:
                assert worker.stdin is not None
                worker.stdin.close()
    one, two, apart = (statistics.median(times[name]) for name in groups)
    shares = [
        statistics.median([a / b / 2 for a, b in zip(times["one"], times[n], strict=True)]) for n in ("two", "apart")
    ]
    print(
        f"| {family} | {batch_size} | {1000 * one:.0f} | {batch_size / one:.1f} | {1000 * two:.0f} | "
        f"{batch_size / two:.1f} | {shares[0]:.2f} | {1000 * apart:.0f} | {shares[1]:.2f} |",
        flush=True,
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=6)
    parser.add_argument("--seconds", type=float, default=2.0, help="of a turn")
    parser.add_argument("--families", nargs="+", choices=CASES, default=list(CASES), metavar="FAMILY")
    parser.add_argument("--worker", choices=CASES, help=argparse.SUPPRESS)
    parser.add_argument("--batch_size", type=int, help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.worker:
        work(args.worker, args.batch_size)
        return
    columns = ["Family", "Global batch", "1 process (ms)", "images/s", "2 processes (ms)", "images/s", "Efficiency"]
    columns += ["2 apart (ms)", "Machine's limit"]
    print(f"| {' | '.join(columns)} |\n{'|--' * len(columns)}|", flush=True)
    for family in args.families:
        compare(family, args.rounds, args.seconds)


if __name__ == "__main__":
    main()
