"""What a diffusion model's samples cost: in the pipeline, by hand with diffusers' network and scheduler, and compiled.

    python benchmarks/bench_sampling.py [--rounds 10] [--threads 2] [--compile]

UNet2DModel of width 32, 64, 64, one layer, 3x32x32, batch 4, 20 steps of DDPM; conditional ones guided (scale 2), the
network called once a step with a batch of two. Calls alternate in one process; the ratio is the median of the rounds'.
"""

from __future__ import annotations

import argparse
import os
from collections.abc import Callable

import torch
from diffusers import DDPMScheduler, UNet2DModel
from timing import interleave, report
from torch import Tensor

from hf_genmodels import ConditionalDDPMPipeline, DDPMPipeline

SHAPE, BATCH, STEPS, CLASSES, SCALE = (3, 32, 32), 4, 20, 10, 2.0


def build(num_classes: int | None) -> UNet2DModel:
    """The network."""
    torch.manual_seed(0)
    return UNet2DModel(
        sample_size=SHAPE[1],
        in_channels=SHAPE[0],
        out_channels=SHAPE[0],
        block_out_channels=(32, 64, 64),
        layers_per_block=1,
        down_block_types=("DownBlock2D", "DownBlock2D", "AttnDownBlock2D"),
        up_block_types=("AttnUpBlock2D", "UpBlock2D", "UpBlock2D"),
        num_class_embeds=None if num_classes is None else num_classes + 1,
    ).eval()


def by_hand(unet: UNet2DModel, labels: Tensor | None) -> Tensor:
    """The loop of diffusers' tutorials, without a progress bar."""
    scheduler = DDPMScheduler(1000)
    scheduler.set_timesteps(STEPS)
    sample = torch.randn(BATCH, *SHAPE)
    if labels is not None:
        both = torch.cat([labels, torch.full_like(labels, CLASSES)])
    for timestep in scheduler.timesteps:
        if labels is None:
            noise = unet(sample, timestep).sample
        else:
            given, any_class = unet(torch.cat([sample, sample]), timestep, both).sample.chunk(2)
            noise = any_class + SCALE * (given - any_class)
        sample = scheduler.step(noise, timestep, sample).prev_sample
    return (sample / 2 + 0.5).clamp(0, 1)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=10)
    parser.add_argument("--threads", type=int, default=len(os.sched_getaffinity(0)))
    parser.add_argument("--compile", action="store_true", help="compiled against not compiled, instead of by hand")
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    labels = torch.arange(BATCH)
    plain, conditional = build(None), build(CLASSES)
    pipelines = {
        "DDPM": DDPMPipeline(plain, DDPMScheduler(1000)),
        "guided DDPM": ConditionalDDPMPipeline(conditional, DDPMScheduler(1000)),
    }
    given = {"DDPM": None, "guided DDPM": labels.tolist()}
    for pipeline in pipelines.values():
        pipeline.set_progress_bar_config(disable=True)

    def call(name: str, pipeline: DDPMPipeline | ConditionalDDPMPipeline) -> Callable[[], object]:
        options = {"num_inference_steps": STEPS, "class_labels": given[name], "output_type": "pt"}
        return lambda: pipeline(batch_size=BATCH, **options)

    runs = {name: call(name, pipeline) for name, pipeline in pipelines.items()}
    if args.compile:
        compiled = {
            "DDPM": DDPMPipeline(build(None), DDPMScheduler(1000)),
            "guided DDPM": ConditionalDDPMPipeline(build(CLASSES), DDPMScheduler(1000)),
        }
        for name, pipeline in compiled.items():
            pipeline.set_progress_bar_config(disable=True)
            pipeline.compile()
            runs[f"{name}, compiled"] = call(name, pipeline)
        pairs = [(f"{name}, compiled", name) for name in pipelines]
    else:
        runs["DDPM by hand"] = lambda: by_hand(plain, None)
        runs["guided DDPM by hand"] = lambda: by_hand(conditional, labels)
        pairs = [(name, f"{name} by hand") for name in pipelines]
    with torch.no_grad():
        report(interleave(runs, args.rounds, warm_up=1), pairs)


if __name__ == "__main__":
    main()
