"""What a process's memory is with shared states of optimisers (ZeRO) and with activations that are computed anew.

    python benchmarks/bench_memory.py [--steps 3] [--threads 1]

Networks of the families ddpm and pix2pix, of 50 to 100 M parameters, on random pixels. Each figure is of fresh
processes: the peak of resident memory above that after the imports, of process 0, and the bytes of the optimisers'
tensors that it holds.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
import psutil
from accelerate.utils import gather_object
from timing import make_loop, quiet

from hf_genmodels import DataSpec
from hf_genmodels.data import DataArguments, LoadedData, load_data
from hf_genmodels.data.sets import ArrayDataset
from hf_genmodels.families import FAMILIES
from hf_genmodels.families.ddpm import DDPMArguments
from hf_genmodels.families.pix2pix import Pix2PixArguments
from hf_genmodels.training.entry import let_collectives_end
from hf_genmodels.training.optimizers import own_share

MIB = 2**20
# name -> (family, its options, batch of a process, resolution)
RUNS: dict[str, tuple[str, Any, int, int]] = {
    "ddpm": ("ddpm", DDPMArguments(block_out_channels=[128, 256, 384, 512], layers_per_block=2), 4, 32),
    "pix2pix": ("pix2pix", Pix2PixArguments(), 1, 256),
}
# name -> processes, how many times that batch, options; activations count where the batch is large
WAYS: dict[str, tuple[int, int, dict[str, bool]]] = {
    "one process": (1, 8, {}),
    "one process, gradient checkpointing": (1, 8, {"gradient_checkpointing": True}),
    "two processes": (2, 1, {}),
    "two processes, ZeRO": (2, 1, {"zero_redundancy_optimizer": True}),
}


def load(family: str, options: Any, size: int) -> LoadedData:
    """Random pictures, or random pairs."""
    if family == "pix2pix":
        args = DataArguments(dataset_name="builtin:edges", resolution=size, max_train_samples=64)
        return load_data(args, 0, FAMILIES[family].layout(options))
    pixels = np.random.default_rng(0).integers(0, 256, (64, 3, size, size), dtype=np.uint8)
    spec = DataSpec("noise", 3, (size, size), 255.0, None, 64, "0" * 12)
    return LoadedData(spec, ArrayDataset(pixels, spec, None, random_flip=False), None, None)


def measure(name: str, way: str, steps: int, threads: int, folder: Path) -> dict[str, float]:
    """Some steps in this process (and in the others that were started with it)."""
    imported = psutil.Process().memory_info().rss
    family, options, batch, size = RUNS[name]
    _, times, changes = WAYS[way]
    with quiet():
        data = load(family, options, size)
        loop = make_loop(family, options, data, folder, threads, times * batch, **changes)
    seconds = []
    for _ in range(steps):
        started = time.perf_counter()
        loop.training_step()
        seconds.append(time.perf_counter() - started)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024  # Linux counts in KiB
    states = [each for o in loop.optimizers.values() for each in own_share(o, loop.args).state.values()]
    held = sum(value.nbytes for state in states for value in state.values())
    mine = {"peak": (peak - imported) / MIB, "states": held / MIB, "seconds": min(seconds)}
    mine["parameters"] = sum(network.num_parameters() for network in loop.networks.values()) / 1e6
    every: list[dict[str, float]] = gather_object([mine])
    with contextlib.suppress(IndexError):  # of two processes the shares differ
        mine["other states"] = every[1]["states"]
    let_collectives_end(loop.accelerator)
    return mine if loop.accelerator.is_main_process else {}


def start(name: str, way: str, steps: int, threads: int) -> dict[str, float]:
    """`measure` in as many fresh processes as the way has."""
    words = [__file__, "--name", name, "--way", way, "--steps", str(steps), "--threads", str(threads)]
    number = WAYS[way][0]
    launcher = ["-m", "torch.distributed.run", "--standalone", "--nproc_per_node", str(number)] if number > 1 else []
    environment = {**os.environ, "ACCELERATE_USE_CPU": "true", "GLOO_SOCKET_IFNAME": "lo"}
    done = subprocess.run(
        [sys.executable, *launcher, *words], env=environment, check=True, capture_output=True, text=True
    )
    (line,) = [each for each in done.stdout.splitlines() if each.startswith("{") and len(each) > 2]
    found: dict[str, float] = json.loads(line)
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--steps", type=int, default=3)
    parser.add_argument("--threads", type=int, default=1, help="of each process")
    parser.add_argument("--name", choices=RUNS, help="one run alone")
    parser.add_argument("--way", choices=WAYS, help="with --name: in this process")
    args = parser.parse_args()
    if args.way is not None:
        with tempfile.TemporaryDirectory() as folder:
            print(json.dumps(measure(args.name, args.way, args.steps, args.threads, Path(folder))), flush=True)
        return
    print("| Networks | | Peak above imports (MiB) | Optimisers' tensors (MiB) | Fastest step (s) |\n|--|--|--|--|--|")
    for name in [args.name] if args.name else RUNS:
        for way in WAYS:
            found = start(name, way, args.steps, args.threads)
            states = f"{found['states']:.0f}"
            if "other states" in found:
                states += f", {found['other states']:.0f}"
            what = f"{name}, {found['parameters']:.0f} M, batch {WAYS[way][1] * RUNS[name][2]}"
            print(f"| {what} | {way} | {found['peak']:.0f} | {states} | {found['seconds']:.2f} |", flush=True)


if __name__ == "__main__":
    main()
