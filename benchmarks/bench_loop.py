"""What the training loop costs over the same step hand-written in plain PyTorch: time and peak memory.

    python benchmarks/bench_loop.py [--rounds 300] [--threads 2]

The work: the DCGAN-style convolutional VAE at 3x32x32, width 32, latent 64, batch 64 (727 thousand parameters),
float32, Adam, images held in memory. Steps of the two alternate in one process, so that both see the same machine;
the ratio is the median of the rounds' ratios. Peak memory is measured in a fresh process each.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from timing import interleave, make_loop, report

from hf_genmodels.data import DataArguments, LoadedData, load_data
from hf_genmodels.families.vae import VAEArguments
from hf_genmodels.losses.likelihood import gaussian_nll, kl_standard_normal
from hf_genmodels.models.vae import VAE

BATCH, LATENT, NUM_IMAGES, LEARNING_RATE = 64, 64, 2048, 1e-3
MEMORY_STEPS = 30


def write_images(folder: Path) -> None:
    """Noise images, 32x32 RGB."""
    pixels = np.random.default_rng(0).integers(0, 256, (NUM_IMAGES, 32, 32, 3), dtype=np.uint8)
    for index, image in enumerate(pixels):
        Image.fromarray(image).save(folder / f"{index:05d}.png")


def load(folder: Path) -> LoadedData:
    """The images, decoded into memory."""
    return load_data(DataArguments(train_data_dir=str(folder)), seed=0)


def library_loop(folder: Path, threads: int) -> Callable[[], None]:
    """A step of our loop."""
    options = VAEArguments(latent_dim=LATENT)
    loop = make_loop("vae", options, load(folder), folder, threads, BATCH, learning_rate=LEARNING_RATE)
    return loop.training_step


def plain_loop(folder: Path, threads: int) -> Callable[[], None]:
    """The same step without any library: shuffled batches from memory, noise, forward, loss, backward, Adam."""
    torch.set_num_threads(threads)
    torch.manual_seed(0)
    pixels = torch.stack([torch.from_numpy(np.array(Image.open(path))) for path in sorted(folder.glob("*.png"))])
    pixels = pixels.permute(0, 3, 1, 2).contiguous()
    vae = VAE(in_channels=3, sample_size=32, latent_dim=LATENT)
    optimizer = torch.optim.AdamW(vae.parameters(), lr=LEARNING_RATE, weight_decay=0.0, fused=True)
    per_epoch = NUM_IMAGES // BATCH
    state = {"step": 0, "order": torch.empty(0, dtype=torch.long)}

    def train() -> None:
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


LOOPS: dict[str, Callable[[Path, int], Callable[[], None]]] = {"library": library_loop, "plain": plain_loop}


def peak_memory(name: str, folder: Path, threads: int) -> tuple[float, float]:
    """Peak resident memory in MiB of a fresh process that trains: all of it, and what came after the imports.

    Both processes import the same libraries, whose size would otherwise hide a difference.
    """
    command = [sys.executable, __file__, "--only", name, "--folder", str(folder)]
    command += ["--threads", str(threads)]
    printed = subprocess.run(command, check=True, capture_output=True, text=True).stdout.split()
    return float(printed[-2]), float(printed[-1])


def resident(field: str) -> float:
    """Resident memory of this process in MiB: "VmRSS" now, "VmHWM" at its peak (Linux)."""
    line = next(line for line in Path("/proc/self/status").read_text().splitlines() if line.startswith(field))
    return int(line.split()[1]) / 1024


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=300, help="steps of each")
    parser.add_argument("--threads", type=int, default=len(os.sched_getaffinity(0)))
    parser.add_argument("--only", choices=LOOPS, help=argparse.SUPPRESS)
    parser.add_argument("--folder", type=Path, help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.only:
        Path("/proc/self/clear_refs").write_text("5")  # forget the peak that importing reached
        imported = resident("VmRSS")
        step = LOOPS[args.only](args.folder, args.threads)
        for _ in range(MEMORY_STEPS):
            step()
        print(resident("VmHWM"), resident("VmHWM") - imported)
        return

    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        write_images(folder)
        loops = {name: make(folder, args.threads) for name, make in LOOPS.items()}
        report(interleave(loops, args.rounds), [("library", "plain")])
        memory = {name: peak_memory(name, folder, args.threads) for name in LOOPS}
        for position, what in enumerate(("whole process", "above its imports")):
            ours, plain = memory["library"][position], memory["plain"][position]
            print(f"memory: library / plain = {ours / plain:.3f} ({what}: {ours:.0f} and {plain:.0f} MiB at the peak)")


if __name__ == "__main__":
    main()
