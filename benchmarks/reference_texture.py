"""Stationary Gaussian textures of three photographs.

    python benchmarks/reference_texture.py --output_dir runs/reference-texture

Fits `builtin:textures`' first quarter (256x256) of brick, grass and gravel; prints the standard deviation of the
exemplar, of its periodic component and of 64 samples, and the lag-one correlations of the last two; draws exemplar,
periodic component, an ADSN and a random-phase sample (a quarter of each) to `textures.png`.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import torch
from torch import Tensor

from hf_genmodels import TexturePipeline
from hf_genmodels.data import DataArguments, evaluation_batches, load_split
from hf_genmodels.plots import image_grid, stack_pictures
from hf_genmodels.training.entry import train_family

TEXTURES = {"brick": 0, "grass": 3, "gravel": 6}
NUM_SAMPLES, SHOWN = 64, 128


def lag_one(images: Tensor) -> float:
    """Mean correlation of horizontal neighbours, of (batch, 1, height, width) with the mean of all."""
    centred = images - images.mean()
    return float((centred * centred.roll(1, 3)).mean() / centred.square().mean())


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--output_dir", type=Path, required=True)
    args = parser.parse_args()
    split = load_split(DataArguments(dataset_name="builtin:textures"), "train")
    photographs = (next(evaluation_batches(split, batch_size=9))["image"] + 1) / 2
    lines = ["| Texture | std: photograph | periodic part | 64 samples | neighbours: periodic part | 64 samples |"]
    lines.append("|--|--|--|--|--|--|")
    pictures = {}
    for name, index in TEXTURES.items():
        folder = args.output_dir / name
        words = ["--dataset_name", "builtin:textures", "--example_index", str(index), "--output_dir", str(folder)]
        train_family("texture", [*words, "--overwrite_output_dir"])
        pipe = TexturePipeline.from_pretrained(folder)
        periodic = (pipe.texture.exemplar.detach()[None] + 1) / 2
        latents = torch.randn(NUM_SAMPLES, 256, 256, generator=torch.Generator().manual_seed(0))
        samples = (pipe.texture(latents, "adsn").sample.detach() + 1) / 2  # not clipped to [0, 1]
        deviations = [float(images.std(correction=0)) for images in (photographs[index], periodic, samples)]
        neighbours = [lag_one(images) for images in (periodic, samples)]
        lines.append(f"| {name} | " + " | ".join(f"{value:.4f}" for value in [*deviations, *neighbours]) + " |")
        phases = pipe(latents=latents[:1], method="random_phase", output_type="pt").images
        shown = torch.cat([photographs[index][None], pipe.exemplar[None], samples[:1].clamp(0, 1), phases])
        shown = shown[..., :SHOWN, :SHOWN]
        pictures[f"{name}: photograph, periodic component, ADSN, random phase"] = image_grid(shown, columns=4)
    stack_pictures(pictures).save(args.output_dir / "textures.png")
    (args.output_dir / "table.md").write_text("\n".join(lines) + "\n", encoding="utf-8")
    print("\n".join(lines))


if __name__ == "__main__":
    main()
