"""Time of a training step of every family: float32, bf16, and compiled.

    python benchmarks/bench_families.py [--steps 20] [--threads 2] [--families gan avae] [--ways float32 bf16]

Each family trains its default networks at width 32 on 1x32x32 images (`builtin:digits` enlarged), batch 64; pix2pix
(batch 8) and cyclegan (batch 1, with identity loss) on 3x64x64 images (`builtin:edges`). The first
steps, and compilation, are not counted. Phases that differentiate a gradient run uncompiled and in float32.
"""

from __future__ import annotations

import argparse
import os
import statistics
import tempfile
import time
from pathlib import Path

import torch
from accelerate.state import AcceleratorState
from timing import quiet

from hf_genmodels.data import load_data
from hf_genmodels.families import FAMILIES
from hf_genmodels.training.arguments import parse
from hf_genmodels.training.entry import make_accelerator
from hf_genmodels.training.loop import TrainingLoop

NARROW = "--width 32"
OPTIONS = {
    "autoencoder": "",
    "vae": "",
    "gan": NARROW,
    "gan, WGAN-GP": f"{NARROW} --gan_loss wasserstein --gradient_penalty wgan_gp --critic_updates 5",
    "began": NARROW,
    "tempered_gan": NARROW,
    "avae": NARROW,
    "bigan": NARROW,
    "vaegan": NARROW,
    "aae": NARROW,
    "flow": "--num_flow_steps 4 --hidden_channels 32",
    "ddpm": "--block_out_channels 16 32 32 --layers_per_block 1",
    "classifier": "",
    "pix2pix": f"{NARROW} --discriminator_width 32 --num_downs 6 --train_batch_size 8",
    "cyclegan": f"{NARROW} --discriminator_width 32 --identity_weight 5 --train_batch_size 1",
}
DIGITS = "--dataset_name builtin:digits --resolution 32"
EDGES = "--dataset_name builtin:edges --conditioning_image_column image --max_train_samples 200"  # RGB on both sides
WAYS = {"float32": "no", "bf16": "bf16", "compiled": "no", "compiled, bf16": "bf16"}
WARM_UP = 3


def time_step(name: str, way: str, steps: int, threads: int) -> float:
    """Median seconds of a step."""
    family = FAMILIES[name.split(",")[0]]
    with tempfile.TemporaryDirectory() as folder:
        words = (EDGES if name in ("pix2pix", "cyclegan") else DIGITS).split()
        words += ["--output_dir", str(Path(folder) / "out")]
        words += ["--mixed_precision", WAYS[way], "--num_threads", str(threads), *OPTIONS[name].split()]
        words += ["--max_train_steps", "1000000", "--checkpointing_steps", "0", "--log_steps", "1000000"]
        words += ["--compile"] if "compiled" in way else []
        data_args, args, family_args = parse(words, family.arguments, "")
        AcceleratorState._reset_state(reset_partial_state=True)  # it keeps a precision for the life of a process
        accelerator = make_accelerator(args)
        data = load_data(data_args, args.seed, family.layout(family_args))
        torch.manual_seed(args.seed)
        loop = TrainingLoop(family.build(family_args, data.spec), data, args, accelerator)
        with quiet():
            loop.prepare(None)
            for _ in range(WARM_UP):
                loop.training_step()
            seconds = []
            for _ in range(steps):
                start = time.perf_counter()
                loop.training_step()
                seconds.append(time.perf_counter() - start)
    torch._dynamo.reset()
    return statistics.median(seconds)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--steps", type=int, default=20)
    parser.add_argument("--threads", type=int, default=len(os.sched_getaffinity(0)))
    parser.add_argument("--families", nargs="+", choices=OPTIONS, default=list(OPTIONS), metavar="FAMILY")
    parser.add_argument("--ways", nargs="+", choices=WAYS, default=list(WAYS), metavar="WAY")
    args = parser.parse_args()
    print(f"| Family | {' | '.join(f'{way} (ms)' for way in args.ways)} |")
    print("|--" * (len(args.ways) + 1) + "|")
    for name in args.families:
        times = [1000 * time_step(name, way, args.steps, args.threads) for way in args.ways]
        print(f"| {name} | {' | '.join(f'{value:.1f}' for value in times)} |", flush=True)


if __name__ == "__main__":
    main()
