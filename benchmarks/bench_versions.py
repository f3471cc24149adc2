"""What a training step costs in two checkouts of this repository, on the same machine at the same time.

    python benchmarks/bench_versions.py --old FOLDER [--new FOLDER] [--rounds 40] [--threads 2] [--families VAE Glow]

For each family a process of either checkout trains the same networks on the same data, at the sizes of the other
benchmarks, float32; what is not said is as the training script has it (a DDPM's step clips and averages, too). The two
take turns with short blocks of steps, every second round in the other order, so that only one computes at a time.
Printed are the median times of a step, their ratio, and the quartiles of the rounds' ratios.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

WARM_UP, NUM_EXAMPLES = 3, 2048
EDGES = "--dataset_name builtin:edges --conditioning_image_column image --max_train_samples 200 --train_batch_size 1"
LOOP = "--max_train_steps 1000000000 --checkpointing_steps 0 --log_steps 1000000000 --mixed_precision no"
NARROW = "--width 32 --discriminator_width 32"


class Case(NamedTuple):
    """A family's step: the family, the shape of an example of noise (None: `options` name a data set), and options."""

    family: str
    shape: tuple[int, ...] | None
    options: str


CASES = {
    "VAE": Case("vae", (3, 32, 32), "--latent_dim 64 --train_batch_size 64"),
    "DCGAN": Case("gan", (3, 32, 32), "--train_batch_size 64"),
    "WGAN-GP": Case(
        *("gan", (3, 32, 32)),
        "--train_batch_size 64 --gan_loss wasserstein --gradient_penalty wgan_gp --critic_updates 5",
    ),
    "DDPM": Case("ddpm", (1, 32, 32), "--train_batch_size 16 --learning_rate 1e-4"),
    "Glow": Case(
        *("flow", (3, 32, 32)),
        "--architecture glow --num_flow_steps 8 --num_scales 3 --hidden_channels 128 --train_batch_size 16",
    ),
    "RealNVP": Case(
        "flow", (64,), "--architecture realnvp --num_flow_steps 8 --hidden_dims 128 128 --train_batch_size 256"
    ),
    "CycleGAN": Case("cyclegan", None, f"{EDGES} {NARROW} --num_blocks 9 --pool_size 50"),
    "Pix2Pix": Case("pix2pix", None, f"{EDGES} {NARROW} --num_downs 6"),
}


# a worker: the process of one checkout -------------------------------------------------------------------------------


def noise(shape: tuple[int, ...]) -> Any:
    """Random 8-bit images or normal vectors, held in memory."""
    import numpy as np

    from hf_genmodels.data import DataSpec, LoadedData
    from hf_genmodels.data.sets import ArrayDataset

    random, is_image = np.random.default_rng(0), len(shape) == 3
    values = random.integers(0, 256, (NUM_EXAMPLES, *shape), dtype=np.uint8) if is_image else None
    if values is None:
        values = random.standard_normal((NUM_EXAMPLES, *shape)).astype(np.float32)
    size, scale = (shape[1], 255.0) if is_image else (None, 1.0)
    spec = DataSpec("noise", shape[0], size, scale, None, NUM_EXAMPLES, "0" * 12)
    return LoadedData(spec, ArrayDataset(values, spec, None, random_flip=False), None, None)


def make_step(case: Case, threads: int) -> Callable[[], None]:
    """A training step of whichever version is imported."""
    import torch

    from hf_genmodels.data import load_data
    from hf_genmodels.families import get_family
    from hf_genmodels.training.arguments import parse
    from hf_genmodels.training.entry import make_accelerator
    from hf_genmodels.training.loop import TrainingLoop

    family: Any = get_family(case.family)
    if hasattr(family, "load_objective"):  # a version whose objectives read the options themselves
        objective = family.load_objective()
        arguments, build, layout = objective.Arguments, objective.from_args, objective.layout
    else:
        arguments, build, layout = family.arguments, family.build, family.layout
    folder = tempfile.gettempdir()  # nothing is written
    words = [*case.options.split(), *LOOP.split(), "--num_threads", str(threads), "--output_dir", folder]
    data_args, args, family_args = parse(words, arguments, "")
    accelerator = make_accelerator(args)
    torch.set_num_threads(threads)
    shape = case.shape
    data = load_data(data_args, args.seed, layout(family_args)) if shape is None else noise(shape)
    torch.manual_seed(args.seed)
    loop = TrainingLoop(build(family_args, data.spec), data, args, accelerator)
    loop.prepare(None)
    step: Callable[[], None] = loop.training_step
    return step


def work(case: Case, threads: int) -> None:
    """Say where the library lies; then for each number on standard input take so many steps, and say the seconds."""
    answers = sys.stdout
    with contextlib.redirect_stdout(sys.stderr):
        import hf_genmodels

        step = make_step(case, threads)
        print(Path(str(hf_genmodels.__file__)).parent.parent, file=answers, flush=True)
        for line in sys.stdin:
            start = time.perf_counter()
            for _ in range(int(line)):
                step()
            print(time.perf_counter() - start, file=answers, flush=True)


# the process that lets the workers take turns ------------------------------------------------------------------------


@contextlib.contextmanager
def worker(checkout: Path, name: str, threads: int) -> Iterator[Callable[[int], float]]:
    """A process of a checkout: number of steps -> seconds of one.

    Raises:
        SystemExit: The process ended, or does not run that checkout.
    """
    command = [sys.executable, __file__, "--worker", name, "--threads", str(threads)]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([str(checkout), os.environ.get("PYTHONPATH", "")])}
    with tempfile.TemporaryFile("w+") as errors:
        pipes: dict[str, Any] = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "stderr": errors}
        process = subprocess.Popen(command, env=environment, text=True, **pipes)
        assert process.stdin is not None and process.stdout is not None

        def answer() -> str:
            assert process.stdout is not None
            line = process.stdout.readline().strip()
            if not line:
                errors.seek(0)
                sys.exit(f"error: the process of {checkout} ended:\n{errors.read()[-3000:]}")
            return line

        def seconds(steps: int) -> float:
            print(steps, file=process.stdin, flush=True)
            return float(answer()) / steps

        try:
            found = answer()
            if Path(found) != checkout:
                sys.exit(f"error: the process of {checkout} runs the library in {found}")
            yield seconds
        finally:
            with contextlib.suppress(BrokenPipeError):
                process.stdin.close()
            process.wait()


def compare(name: str, checkouts: dict[str, Path], rounds: int, threads: int, block_seconds: float) -> str:
    """The line of the table of one family."""
    taken: dict[str, list[float]] = {version: [] for version in checkouts}
    with contextlib.ExitStack() as stack:
        workers = {v: stack.enter_context(worker(checkout, name, threads)) for v, checkout in checkouts.items()}
        warm = [run(WARM_UP) for run in workers.values() for _ in range(2)]
        steps = max(1, round(block_seconds / min(warm)))
        for index in range(rounds):
            for version in list(workers)[:: -1 if index % 2 else 1]:
                taken[version].append(workers[version](steps))
    old, new = (1000 * statistics.median(taken[version]) for version in ("old", "new"))
    low, middle, high = statistics.quantiles([b / a for a, b in zip(taken["old"], taken["new"], strict=True)], n=4)
    cells = [f"{rounds} x {steps}", f"{old:.2f}", f"{new:.2f}", f"{new / old:.3f}"]
    return f"| {name} | {' | '.join(cells)} | {middle:.3f} ({low:.3f}, {high:.3f}) |"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--old", type=Path, help="checkout to compare with")
    parser.add_argument("--new", type=Path, default=Path(__file__).parent.parent, help="this one by default")
    parser.add_argument("--rounds", type=int, default=40, help="blocks of steps of each, at least 2")
    parser.add_argument("--block_seconds", type=float, default=0.3, help="how long a block takes, at least one step")
    parser.add_argument("--threads", type=int, default=len(os.sched_getaffinity(0)))
    parser.add_argument("--families", nargs="+", choices=CASES, default=list(CASES), metavar="FAMILY")
    parser.add_argument("--worker", choices=CASES, help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.worker:
        work(CASES[args.worker], args.threads)
        return
    if args.old is None or args.rounds < 2:
        parser.error("--old is needed, and --rounds of at least 2")
    checkouts = {"old": args.old.resolve(), "new": args.new.resolve()}
    for folder in checkouts.values():
        if not (folder / "hf_genmodels").is_dir():
            parser.error(f"{folder} is no checkout: it has no folder hf_genmodels")
    print("| Family | Rounds x steps | Old (ms) | New (ms) | New / old | Median of the ratios (quartiles) |")
    print("|--" * 6 + "|", flush=True)
    for name in args.families:
        print(compare(name, checkouts, args.rounds, args.threads, args.block_seconds), flush=True)


if __name__ == "__main__":
    main()
