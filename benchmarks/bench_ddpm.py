"""What a training step of the DDPM family costs in the loop and hand-written with diffusers.

    python benchmarks/bench_ddpm.py [--rounds 60] [--threads 2]

The family's default network on 1x32x32 images, batch 16, float32. Steps of the two alternate in one process; the ratio
is the median of the rounds' ratios.
"""

from __future__ import annotations

import argparse
import copy
import os
import tempfile
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from diffusers import DDPMScheduler
from timing import interleave, make_loop, report, report_log_cost

from hf_genmodels import DataSpec
from hf_genmodels.data import LoadedData
from hf_genmodels.data.sets import ArrayDataset
from hf_genmodels.families.ddpm import DDPMArguments

SHAPE, BATCH, NUM_IMAGES, RATE, TIMESTEPS = (1, 32, 32), 16, 2048, 1e-4, 1000


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=60, help="steps of each")
    parser.add_argument("--threads", type=int, default=len(os.sched_getaffinity(0)))
    args = parser.parse_args()
    pixels = np.random.default_rng(0).integers(0, 256, (NUM_IMAGES, *SHAPE), dtype=np.uint8)
    spec = DataSpec("noise", SHAPE[0], SHAPE[1:], 255.0, None, NUM_IMAGES, "0" * 12)
    data = LoadedData(spec, ArrayDataset(pixels, spec, None, random_flip=False), None, None)
    with tempfile.TemporaryDirectory() as name:
        ours = make_loop("ddpm", DDPMArguments(), data, Path(name), args.threads, BATCH, learning_rate=RATE)
    unet = copy.deepcopy(ours.networks["unet"])
    optimizer = torch.optim.AdamW(unet.parameters(), lr=RATE, weight_decay=0.0, fused=True)
    scheduler = DDPMScheduler(TIMESTEPS)
    images = torch.from_numpy(pixels)

    def by_hand() -> None:
        image = images[torch.randint(NUM_IMAGES, (BATCH,))].float() / 255 * 2 - 1
        noise, timesteps = torch.randn_like(image), torch.randint(TIMESTEPS, (BATCH,))
        loss = F.mse_loss(unet(scheduler.add_noise(image, noise, timesteps), timesteps).sample, noise)
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        optimizer.step()

    seconds = interleave({"library": ours.training_step, "by hand": by_hand}, args.rounds)
    report(seconds, [("library", "by hand")])
    report_log_cost(ours, seconds["library"])


if __name__ == "__main__":
    main()
