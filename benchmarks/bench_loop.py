"""What the training loop costs over the same step hand-written in plain PyTorch: time and peak memory.

    python benchmarks/bench_loop.py [--rounds 9] [--steps 30] [--threads 2]

The work: the DCGAN-style convolutional VAE at 3x32x32, width 32, latent 64, batch 64 (727 thousand parameters),
float32, Adam, images held in memory. Rounds of the two alternate in one process, so that both see the same machine;
the ratio is the median of the rounds' ratios. Peak memory is measured in a fresh process each.
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

import numpy as np
import torch
from PIL import Image

from hf_genmodels.data import DataArguments, LoadedData, load_data
from hf_genmodels.losses.likelihood import gaussian_nll, kl_standard_normal
from hf_genmodels.models.vae import VAE
from hf_genmodels.objectives.vae import VAEObjective
from hf_genmodels.training.arguments import TrainingArguments
from hf_genmodels.training.entry import make_accelerator
from hf_genmodels.training.loop import TrainingLoop

BATCH, LATENT, NUM_IMAGES, LEARNING_RATE = 64, 64, 2048, 1e-3


@contextlib.contextmanager
def quiet() -> Iterator[None]:
    """Without progress bars."""
    with open(os.devnull, "w", encoding="utf-8") as nowhere, contextlib.redirect_stderr(nowhere):
        yield


def write_images(folder: Path) -> None:
    """Noise images, 32x32 RGB."""
    pixels = np.random.default_rng(0).integers(0, 256, (NUM_IMAGES, 32, 32, 3), dtype=np.uint8)
    for index, image in enumerate(pixels):
        Image.fromarray(image).save(folder / f"{index:05d}.png")


def load(folder: Path) -> LoadedData:
    """The images, decoded into memory."""
    return load_data(DataArguments(train_data_dir=str(folder)), seed=0)


def library_loop(folder: Path, threads: int) -> Callable[[int], None]:
    """Our loop, ready to train some steps."""
    args = TrainingArguments(
        output_dir=str(folder / "out"),
        train_batch_size=BATCH,
        max_train_steps=10**9,
        learning_rate=LEARNING_RATE,
        checkpointing_steps=0,
        num_threads=threads,
        mixed_precision="no",
    )
    accelerator = make_accelerator(args)
    data = load(folder)
    torch.manual_seed(0)
    objective = VAEObjective(VAE(in_channels=3, sample_size=32, latent_dim=LATENT), data.spec)
    loop = TrainingLoop(objective, data, args, accelerator)
    loop.prepare(None)
    return lambda steps: loop.train_until(loop.step + steps)


def plain_loop(folder: Path, threads: int) -> Callable[[int], None]:
    """The same step without any library: shuffled batches from memory, noise, forward, loss, backward, Adam."""
    torch.set_num_threads(threads)
    torch.manual_seed(0)
    pixels = torch.stack([torch.from_numpy(np.array(Image.open(path))) for path in sorted(folder.glob("*.png"))])
    pixels = pixels.permute(0, 3, 1, 2).contiguous()
    vae = VAE(in_channels=3, sample_size=32, latent_dim=LATENT)
    optimizer = torch.optim.AdamW(vae.parameters(), lr=LEARNING_RATE, weight_decay=0.0)
    per_epoch = NUM_IMAGES // BATCH
    state = {"step": 0, "order": torch.empty(0, dtype=torch.long)}

    def train(steps: int) -> None:
        for _ in range(steps):
            position = state["step"] % per_epoch
            if position == 0:
                state["order"] = torch.randperm(NUM_IMAGES)
            image = pixels[state["order"][position * BATCH : (position + 1) * BATCH]].float() / 255 * 2 - 1
            output = vae(image, torch.randn(BATCH, LATENT))
            nll = gaussian_nll(image, output.decoded, output.log_scale).mean()
            loss = nll + kl_standard_normal(output.mean, output.log_std).sum(1).mean()
            optimizer.zero_grad(set_to_none=True)
            loss.backward()
            optimizer.step()
            state["step"] += 1

    return train


LOOPS: dict[str, Callable[[Path, int], Callable[[int], None]]] = {"library": library_loop, "plain": plain_loop}


def peak_memory(name: str, folder: Path, threads: int, steps: int) -> tuple[float, float]:
    """Peak resident memory in MiB of a fresh process that trains: all of it, and what came after the imports.

    Both processes import the same libraries, whose size would otherwise hide a difference.
    """
    command = [sys.executable, __file__, "--only", name, "--folder", str(folder)]
    command += ["--threads", str(threads), "--steps", str(steps)]
    printed = subprocess.run(command, check=True, capture_output=True, text=True).stdout.split()
    return float(printed[-2]), float(printed[-1])


def resident(field: str) -> float:
    """Resident memory of this process in MiB: "VmRSS" now, "VmHWM" at its peak (Linux)."""
    line = next(line for line in Path("/proc/self/status").read_text().splitlines() if line.startswith(field))
    return int(line.split()[1]) / 1024


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=9)
    parser.add_argument("--steps", type=int, default=30, help="steps of one round")
    parser.add_argument("--threads", type=int, default=len(os.sched_getaffinity(0)))
    parser.add_argument("--only", choices=LOOPS, help=argparse.SUPPRESS)
    parser.add_argument("--folder", type=Path, help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.only:
        Path("/proc/self/clear_refs").write_text("5")  # forget the peak that importing reached
        imported = resident("VmRSS")
        with quiet():
            LOOPS[args.only](args.folder, args.threads)(args.steps)
        print(resident("VmHWM"), resident("VmHWM") - imported)
        return

    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        write_images(folder)
        with quiet():
            loops = {name: make(folder, args.threads) for name, make in LOOPS.items()}
            for train in loops.values():
                train(5)
            seconds: dict[str, list[float]] = {name: [] for name in loops}
            for round_index in range(args.rounds):
                for name in sorted(loops, reverse=bool(round_index % 2)):
                    start = time.perf_counter()
                    loops[name](args.steps)
                    seconds[name].append((time.perf_counter() - start) / args.steps)
        ratios = [ours / plain for ours, plain in zip(seconds["library"], seconds["plain"], strict=True)]
        for name, values in seconds.items():
            print(f"{name:8s} {1000 * statistics.median(values):7.2f} ms a step (median of {args.rounds} rounds)")
        spread = f"from {min(ratios):.3f} to {max(ratios):.3f}"
        print(f"time:   library / plain = {statistics.median(ratios):.3f} ({spread})")
        memory = {name: peak_memory(name, folder, args.threads, args.steps) for name in LOOPS}
        for position, what in enumerate(("whole process", "above its imports")):
            ours, plain = memory["library"][position], memory["plain"][position]
            print(f"memory: library / plain = {ours / plain:.3f} ({what}: {ours:.0f} and {plain:.0f} MiB at the peak)")


if __name__ == "__main__":
    main()
