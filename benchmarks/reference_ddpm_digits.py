"""DDPM on handwritten digits (8x8): DDIM inversion of the test images, and samples.

    python benchmarks/reference_ddpm_digits.py --output_dir runs/reference-ddpm-digits

Prints the PSNR between the 355 test images and what comes back of them, image -> latent -> image, by number of DDIM
steps; samples and reconstructions go to `ddpm_digits.png`. A run that is finished is not made again.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import torch
from diffusers import DDIMScheduler

from hf_genmodels import DDPMPipeline
from hf_genmodels.data import DataArguments, evaluation_batches, load_split
from hf_genmodels.metrics.reconstruction import psnr
from hf_genmodels.plots import image_grid, stack_pictures
from hf_genmodels.training.entry import train_family

OPTIONS = "--dataset_name builtin:digits --block_out_channels 32 64 --layers_per_block 1 --train_batch_size 32"
OPTIONS += " --learning_rate 1e-3 --lr_scheduler cosine --max_train_steps 1500 --log_steps 100 --checkpointing_steps 0"
STEPS = (10, 20, 50, 100)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--output_dir", type=Path, required=True)
    args = parser.parse_args()
    torch.set_num_threads(1)
    folder = args.output_dir / "ddpm"
    if not (folder / "metrics.json").is_file():
        train_family(
            "ddpm", [*OPTIONS.split(), "--num_threads", "1", "--output_dir", str(folder), "--overwrite_output_dir"]
        )
    pipe = DDPMPipeline.from_pretrained(folder)
    pipe.set_progress_bar_config(disable=True)
    data = load_split(DataArguments(dataset_name="builtin:digits"), "test")
    images = (next(evaluation_batches(data, batch_size=len(data)))["image"] + 1) / 2
    lines = ["| DDIM steps | mean PSNR (dB) | worst image (dB) |", "|--|--|--|"]
    for steps in STEPS:
        again = pipe.reconstruct(images, num_inference_steps=steps, output_type="pt").images
        found = psnr(images, again)
        lines.append(f"| {steps} | {found.mean().item():.1f} | {found.min().item():.1f} |")
    pipe.scheduler = DDIMScheduler.from_config(pipe.scheduler.config)
    generator = torch.Generator().manual_seed(0)
    samples = pipe(batch_size=32, num_inference_steps=50, generator=generator, output_type="pt").images
    again = pipe.reconstruct(images[:16], num_inference_steps=50, output_type="pt").images
    pictures = {"samples, DDIM, 50 steps": image_grid(samples, columns=16)}
    pictures["test images, and what comes back of them"] = image_grid(torch.cat([images[:16], again]), columns=16)
    stack_pictures(pictures).save(args.output_dir / "ddpm_digits.png")
    (args.output_dir / "table.md").write_text("\n".join(lines) + "\n", encoding="utf-8")
    print("\n".join(lines))


if __name__ == "__main__":
    main()
