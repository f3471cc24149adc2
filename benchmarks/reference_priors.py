"""Inverse problems with a VAE, a GAN, a flow and a DDPM as priors, on Fashion-MNIST at 32x32.

    python benchmarks/reference_priors.py --dataset_name FASHION_MNIST --output_dir runs/reference-priors

Problems: a hole of 8x8 pixels in the middle, 90 % of the pixels missing, and super-resolution by 2. A model whose
folder is not given is trained. Settings of each prior and problem are those with the best PSNR on training images;
figures are of test images, beside mean filling or bicubic interpolation. What is done is not done again: figures are
kept in results.json, and a training that was stopped goes on.
"""

from __future__ import annotations

import argparse
import itertools
import time
from functools import partial
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from results import Results, train_once
from torch import Tensor

from hf_genmodels import AutoPipeline, solve_inverse_problem
from hf_genmodels.data import DataArguments, evaluation_batches, load_split
from hf_genmodels.metrics.reconstruction import psnr
from hf_genmodels.operators import Inpainting, MeasurementOperator, SuperResolution
from hf_genmodels.plots import image_grid

SIZE, SEED, SHOWN = 32, 0, 8
HOLE = slice(12, 20)
MODELS = {
    "vae": "--likelihood bernoulli --latent_dim 32 --train_batch_size 128 --learning_rate 1e-3 --num_train_epochs 10 "
    "--lr_scheduler constant_then_linear --checkpointing_steps 500",
    "gan": "--architecture dcgan --width 32 --train_batch_size 64 --max_train_steps 4000 --use_ema "
    "--checkpointing_steps 1000",
    "flow": "--architecture glow --num_scales 2 --num_flow_steps 4 --hidden_channels 32 --learning_rate 1e-3 "
    "--max_grad_norm 1000 --use_ema --train_batch_size 32 --max_train_steps 2000 --lr_scheduler cosine "
    "--lr_warmup_steps 100 --checkpointing_steps 500",
    "ddpm": "--block_out_channels 16 32 64 64 --layers_per_block 1 --train_batch_size 64 --learning_rate 1e-3 "
    "--lr_scheduler cosine --lr_warmup_steps 100 --max_train_steps 3000 --checkpointing_steps 500",
}
# What is chosen from on training images
LATENT = [{"prior_weight": 0.0}, *({"noise_std": std} for std in (0.03, 0.1, 0.3))]
CHOICES: dict[str, list[dict[str, Any]]] = {
    **dict.fromkeys(("vae", "gan", "flow"), LATENT),
    "ddpm": [{"method": "dps"}, {"method": "dps", "step_size": 3.0}, {"method": "pigdm"}],
}
REPAINT = {"method": "repaint", "jump_length": 5, "num_resamples": 3}


def problems() -> dict[str, MeasurementOperator]:
    """The operators by name."""
    mask = torch.ones(1, SIZE, SIZE)
    mask[:, HOLE, HOLE] = 0
    sparse = Inpainting.sparse(SIZE, SIZE, 0.1, torch.Generator().manual_seed(SEED))
    return {"hole of 8x8": Inpainting(mask), "90 % missing": sparse, "x2": SuperResolution(2)}


def images_of(args: argparse.Namespace, split: str, number: int) -> Tensor:
    """The first images of a split, in [0, 1]."""
    data = load_split(DataArguments(dataset_name=args.dataset_name, resolution=SIZE), split)
    batch: Tensor = next(iter(evaluation_batches(data, batch_size=number)))["image"]
    return (batch + 1) / 2


def simple_solution(operator: MeasurementOperator, measured: Tensor) -> Tensor:
    """The mean of the known pixels where one is unknown, or bicubic interpolation."""
    if isinstance(operator, Inpainting):
        known = operator.mask.expand_as(measured)
        means = measured.sum((1, 2, 3)) / known.sum((1, 2, 3))
        return measured + means.view(-1, 1, 1, 1) * (1 - known)
    return F.interpolate(measured, size=(SIZE, SIZE), mode="bicubic", align_corners=False).clamp(0, 1)


def solve(pipe: Any, operator: MeasurementOperator, images: Tensor, options: dict[str, Any]) -> tuple[Any, float]:
    """The solver's output, and its seconds an image."""
    begin = time.monotonic()
    generator = torch.Generator().manual_seed(SEED)
    output = solve_inverse_problem(pipe, operator(images), operator, generator=generator, output_type="pt", **options)
    return output, (time.monotonic() - begin) / len(images)


def choose(pipe: Any, operator: MeasurementOperator, images: Tensor, choices: list[dict[str, Any]]) -> dict[str, Any]:
    """The options with the best PSNR on these images."""
    scores = [psnr(images, solve(pipe, operator, images, each)[0].images).mean().item() for each in choices]
    return choices[scores.index(max(scores))]


def measure(
    pipe: Any, operator: MeasurementOperator, images: Tensor, options: dict[str, Any], picture: Path
) -> dict[str, Any]:
    """PSNR, consistency error and seconds an image; writes what the solver finds."""
    output, seconds = solve(pipe, operator, images, options)
    image_grid(output.images[:SHOWN], columns=SHOWN).save(picture)
    return {
        "psnr": psnr(images, output.images).mean().item(),
        "consistency error": output.consistency_error.mean().item(),
        "seconds": seconds,
        "options": options,
    }


def models(args: argparse.Namespace) -> dict[str, Any]:
    """The priors, trained where no folder was given."""
    common = f"--dataset_name {args.dataset_name} --resolution {SIZE} --seed {SEED} --num_threads {args.threads}"
    found = {}
    for name, options in MODELS.items():
        folder = getattr(args, name) or train_once(name, args.output_dir / name, common, options)
        found[name] = AutoPipeline.from_pretrained(folder)
        found[name].set_progress_bar_config(disable=True)
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--dataset_name", required=True)
    parser.add_argument("--output_dir", type=Path, required=True)
    for name in MODELS:
        parser.add_argument(f"--{name}", help="folder of the trained model")
    parser.add_argument("--num_images", type=int, default=32, help="test images")
    parser.add_argument("--num_training_images", type=int, default=16, help="to choose the settings on")
    parser.add_argument("--threads", type=int, default=1)
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    args.output_dir.mkdir(parents=True, exist_ok=True)
    results = Results(args.output_dir / "results.json", args)
    priors = models(args)
    seen, images = images_of(args, "train", args.num_training_images), images_of(args, "test", args.num_images)
    lines = ["| Problem | Prior | Options | PSNR (dB) | Consistency error | Seconds an image |", "|--" * 6 + "|"]
    for (problem, operator), (name, pipe) in itertools.product(problems().items(), priors.items()):
        slug = problem.replace(" ", "-").replace("%", "percent")
        if name == next(iter(priors)):
            simple = simple_solution(operator, operator(images))
            image_grid(torch.cat([images[:SHOWN], simple[:SHOWN]]), columns=SHOWN).save(
                args.output_dir / f"{slug}-simple.png"
            )
            lines.append(f"| {problem} | none | | {psnr(images, simple).mean():.2f} | | |")
        chosen = results.get(f"{problem}, {name}: options", partial(choose, pipe, operator, seen, CHOICES[name]))
        rows = {name: chosen}
        if name == "ddpm" and isinstance(operator, Inpainting):
            rows["ddpm, repaint"] = REPAINT
        for row, options in rows.items():
            picture = args.output_dir / f"{slug}-{row.replace(', ', '-')}.png"
            found = results.get(f"{problem}, {row}", partial(measure, pipe, operator, images, options, picture))
            told = " ".join(f"{key}={value}" for key, value in options.items())
            lines.append(
                f"| {problem} | {row} | {told} | {found['psnr']:.2f} | {found['consistency error']:.4f} | "
                f"{found['seconds']:.2f} |"
            )
    (args.output_dir / "table.md").write_text("\n".join(lines) + "\n", encoding="utf-8")
    print("\n".join(lines))


if __name__ == "__main__":
    main()
