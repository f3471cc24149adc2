"""What a training step costs in two checkouts of this repository, on the same machine at the same time.

    python benchmarks/bench_versions.py --old FOLDER [--new FOLDER] [--rounds 40] [--threads 2] [--families VAE Glow]

For each family a process of either checkout trains the same networks on the same data, at the sizes of the other
benchmarks, float32; what is not said is as the training script has it (a DDPM's step clips and averages, too). The two
take turns with short blocks of steps, every second round in the other order, so that only one computes at a time.
Printed are the median times of a step, their ratio, and median and quartiles of the rounds' ratios.
"""

from __future__ import annotations

import argparse
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from contextlib import ExitStack, redirect_stdout
from pathlib import Path
from typing import Any

WARM_UP, BLOCK_SECONDS, NUM_EXAMPLES = 3, 0.3, 2048
LOOP = "--max_train_steps 1000000000 --checkpointing_steps 0 --log_steps 1000000000 --mixed_precision no"
EDGES = "--dataset_name builtin:edges --conditioning_image_column image --max_train_samples 200 --train_batch_size 1"
EDGES += " --width 32 --discriminator_width 32"
WGAN_GP = "--gan_loss wasserstein --gradient_penalty wgan_gp --critic_updates 5"
GLOW = "--architecture glow --num_flow_steps 8 --num_scales 3 --hidden_channels 128"
REALNVP = "--architecture realnvp --num_flow_steps 8 --hidden_dims 128 128"
# row of the table -> family, shape of an example of noise (None: the options name a data set), options
CASES: dict[str, tuple[str, tuple[int, ...] | None, str]] = {
    "VAE": ("vae", (3, 32, 32), "--train_batch_size 64 --latent_dim 64"),
    "DCGAN": ("gan", (3, 32, 32), "--train_batch_size 64"),
    "WGAN-GP": ("gan", (3, 32, 32), f"--train_batch_size 64 {WGAN_GP}"),
    "DDPM": ("ddpm", (1, 32, 32), "--train_batch_size 16 --learning_rate 1e-4"),
    "Glow": ("flow", (3, 32, 32), f"--train_batch_size 16 {GLOW}"),
    "RealNVP": ("flow", (64,), f"--train_batch_size 256 {REALNVP}"),
    "CycleGAN": ("cyclegan", None, f"{EDGES} --num_blocks 9 --pool_size 50"),
    "Pix2Pix": ("pix2pix", None, f"{EDGES} --num_downs 6"),
}


def noise(shape: tuple[int, ...]) -> Any:
    """Random 8-bit images, or normal vectors, held in memory."""
    import numpy as np

    from hf_genmodels.data import DataSpec, LoadedData
    from hf_genmodels.data.sets import ArrayDataset

    random, is_image = np.random.default_rng(0), len(shape) == 3
    # a number in 0.1.0
    size: Any = shape[1:] if hasattr(DataSpec, "sample_size") else shape[1]
    if not is_image:
        values: Any = random.standard_normal((NUM_EXAMPLES, *shape)).astype(np.float32)
    else:
        values = random.integers(0, 256, (NUM_EXAMPLES, *shape), dtype=np.uint8)
    about = (size, 255.0) if is_image else (None, 1.0)
    spec = DataSpec("noise", shape[0], *about, None, NUM_EXAMPLES, "0" * 12)
    return LoadedData(spec, ArrayDataset(values, spec, None, random_flip=False), None, None)


def make_step(name: str, threads: int) -> Callable[[], None]:
    """A training step of whichever version is imported."""
    import torch

    from hf_genmodels.data import load_data
    from hf_genmodels.families import get_family
    from hf_genmodels.training.arguments import parse
    from hf_genmodels.training.entry import make_accelerator
    from hf_genmodels.training.loop import TrainingLoop

    family_name, shape, options = CASES[name]
    family: Any = get_family(family_name)
    if hasattr(family, "load_objective"):  # a version whose objectives read the options themselves
        objective = family.load_objective()
        arguments, build, layout = objective.Arguments, objective.from_args, objective.layout
    else:
        arguments, build, layout = family.arguments, family.build, family.layout
    words = [*options.split(), *LOOP.split(), "--output_dir", tempfile.gettempdir()]  # nothing is written
    data_args, args, family_args = parse([*words, "--num_threads", str(threads)], arguments, "")
    accelerator = make_accelerator(args)
    torch.set_num_threads(threads)
    data = load_data(data_args, args.seed, layout(family_args)) if shape is None else noise(shape)
    torch.manual_seed(args.seed)
    loop = TrainingLoop(build(family_args, data.spec), data, args, accelerator)
    loop.prepare(None)
    step: Callable[[], None] = loop.training_step
    return step


def work(name: str, threads: int) -> None:
    """Say where the library lies; then, for each number that comes in, take so many steps and say one's seconds."""
    answers = sys.stdout
    with redirect_stdout(sys.stderr):
        import hf_genmodels

        step = make_step(name, threads)
        print(Path(str(hf_genmodels.__file__)).parents[1], file=answers, flush=True)
        for line in sys.stdin:
            start = time.perf_counter()
            for _ in range(int(line)):
                step()
            print((time.perf_counter() - start) / int(line), file=answers, flush=True)


def start_worker(stack: ExitStack, checkout: Path, name: str, threads: int) -> Callable[[int], float]:
    """A process of a checkout that lives as long as the stack: number of steps -> seconds of one."""
    path = os.pathsep.join([str(checkout), os.environ.get("PYTHONPATH", "")])
    command = [sys.executable, __file__, "--worker", name, "--threads", str(threads)]
    pipes: dict[str, Any] = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True}
    process = stack.enter_context(subprocess.Popen(command, env={**os.environ, "PYTHONPATH": path}, **pipes))
    requests, answers = process.stdin, process.stdout
    assert requests is not None and answers is not None
    found = answers.readline().strip()
    if found != str(checkout):
        sys.exit(f"error: the process of {checkout} runs the library in {found}" if found else "error: see above")

    def take(steps: int) -> float:
        print(steps, file=requests, flush=True)
        return float(answers.readline())

    return take


def compare(name: str, checkouts: list[Path], rounds: int, threads: int) -> str:
    """The table's row of one family."""
    with ExitStack() as stack:
        workers = [start_worker(stack, checkout, name, threads) for checkout in checkouts]
        seconds = min([worker(WARM_UP) for worker in workers for _ in range(2)])
        steps = max(1, round(BLOCK_SECONDS / seconds))
        taken: list[list[float]] = [[], []]
        for index in range(rounds):
            for version in (0, 1) if index % 2 == 0 else (1, 0):
                taken[version].append(workers[version](steps))
    old, new = (1000 * statistics.median(each) for each in taken)
    low, middle, high = statistics.quantiles([b / a for a, b in zip(*taken, strict=True)], n=4)
    row = f"| {name} | {rounds} x {steps} | {old:.2f} | {new:.2f} | {new / old:.3f}"
    return f"{row} | {middle:.3f} ({low:.3f}, {high:.3f}) |"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--old", type=Path, help="checkout to compare with")
    parser.add_argument("--new", type=Path, default=Path(__file__).parents[1], help="this one by default")
    parser.add_argument("--rounds", type=int, default=40, help="blocks of steps of each, at least 2")
    parser.add_argument("--threads", type=int, default=len(os.sched_getaffinity(0)))
    parser.add_argument("--families", nargs="+", choices=CASES, default=list(CASES), metavar="FAMILY")
    parser.add_argument("--worker", choices=CASES, help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.worker:
        work(args.worker, args.threads)
        return
    if args.old is None or args.rounds < 2:
        parser.error("--old is needed, and --rounds of at least 2")
    print("| Family | Rounds x steps | Old (ms) | New (ms) | New / old | Median of the ratios (quartiles) |")
    print("|--" * 6 + "|", flush=True)
    for name in args.families:
        print(compare(name, [args.old.resolve(), args.new.resolve()], args.rounds, args.threads), flush=True)


if __name__ == "__main__":
    main()
