"""DDPM on Fashion-MNIST at 32x32: FID by sampler and number of steps, DDIM inversion, and inverse problems.

    python benchmarks/reference_ddpm.py --dataset_name FOLDER --extractor runs/reference-classifier-32 \
        --vae runs/reference-vae-32 --output_dir runs/reference-ddpm

Trains a DDPM, and a GAN for as long (by the time that steps of both take in turn); FID compares the 64 features of its
own classifier, of all test images and of 1,000 samples, for the DDPM by sampler, for the GAN and the VAE.
Inversion, inpainting and super-resolution are of test images. What is done is not done again: results are kept in
`results.json`, the table in `table.md`, pictures in `ddpm.png` and `<problem>-<method>.png`.
"""

from __future__ import annotations

import argparse
import statistics
import tempfile
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from diffusers import DDIMScheduler, DDPMScheduler, DPMSolverMultistepScheduler
from results import Results, seconds_of, train_once
from timing import interleave, make_loop
from torch import Tensor

from hf_genmodels import AutoPipeline, DDPMPipeline, InverseProblemPipeline
from hf_genmodels.data import DataArguments, evaluation_batches, load_data, load_split
from hf_genmodels.families import get_family
from hf_genmodels.metrics.distribution import frechet_distance_from_features
from hf_genmodels.metrics.extractors import load_extractor
from hf_genmodels.metrics.reconstruction import psnr
from hf_genmodels.operators import Inpainting, SuperResolution
from hf_genmodels.plots import image_grid, stack_pictures
from hf_genmodels.training.arguments import parse

SIZE, SEED, NUM_SAMPLES, BATCH = 32, 0, 1000, 100
DDPM = "--block_out_channels 16 32 64 64 --layers_per_block 1 --train_batch_size 64 --learning_rate 1e-3"
DDPM += " --lr_scheduler cosine --lr_warmup_steps 100"
GAN = "--width 32 --train_batch_size 64 --learning_rate 2e-4 --norm_statistics batch"
LOOP = "--log_steps 100 --checkpointing_steps 500"
SAMPLERS: dict[str, tuple[Any, dict[str, Any]]] = {
    "DDPM": (DDPMScheduler, {}),
    "DDIM": (DDIMScheduler, {}),
    "DDIM, clip_sample=False": (DDIMScheduler, {"clip_sample": False}),
    "DPM-Solver": (DPMSolverMultistepScheduler, {}),
}
STEPS = (10, 20, 50, 100)
INVERTED, SOLVED, POSTERIOR_SAMPLES = 64, 16, 8
HOLE = slice(12, 20)


def train_run(family: str, args: argparse.Namespace, options: str, steps: int) -> Path:
    """Train one run, unless that is done."""
    data = ["--dataset_name", args.dataset_name, "--resolution", str(SIZE)]
    length = f"--max_train_steps {steps} --num_threads {args.threads} --seed {SEED}"
    return train_once(family, args.output_dir / f"{family}-steps{steps}", data, length, options, LOOP)


def steps_of_equal_time(args: argparse.Namespace) -> int:
    """GAN steps that take as long as the DDPM's, by 10 steps of each in turn."""
    data = load_data(DataArguments(dataset_name=args.dataset_name, resolution=SIZE), SEED)
    runs: dict[str, Callable[[], Any]] = {}
    with tempfile.TemporaryDirectory() as folder:
        for family, options in (("ddpm", DDPM), ("gan", GAN)):
            words = ["--output_dir", folder, "--dataset_name", args.dataset_name, *options.split()]
            _, loop_args, family_args = parse(words, get_family(family).arguments, family)
            batch = loop_args.train_batch_size
            loop = make_loop(family, family_args, data, Path(folder), args.threads, batch)
            runs[family] = loop.training_step
        seconds = interleave(runs, rounds=10)
    return round(args.steps * statistics.median(seconds["ddpm"]) / statistics.median(seconds["gan"]))


def test_images(args: argparse.Namespace, number: int | None = None) -> Iterator[Tensor]:
    """Batches of test images in [0, 1]."""
    data = load_split(DataArguments(dataset_name=args.dataset_name, resolution=SIZE), "test")
    for batch in evaluation_batches(data, batch_size=number or 500):
        yield (batch["image"] + 1) / 2


class Judge:
    """FID of a pipeline's samples to all test images."""

    def __init__(self, args: argparse.Namespace) -> None:
        self.extractor = load_extractor(args.extractor, torch.device("cpu"))
        self.real = torch.cat([self.extractor(images)[0] for images in test_images(args)])

    def fid(self, pipeline: Any, **options: Any) -> float:
        """Of 1,000 samples."""
        pipeline.set_progress_bar_config(disable=True)
        generator = torch.Generator().manual_seed(SEED)
        made = [
            self.extractor(pipeline(batch_size=BATCH, generator=generator, output_type="pt", **options).images)[0]
            for _ in range(NUM_SAMPLES // BATCH)
        ]
        return frechet_distance_from_features(self.real, torch.cat(made))


def load(folder: Path, sampler: str = "DDPM") -> DDPMPipeline:
    """The trained pipeline, with another sampler."""
    pipe = DDPMPipeline.from_pretrained(folder)
    scheduler, options = SAMPLERS[sampler]
    pipe.scheduler = scheduler.from_config(pipe.scheduler.config, **options)
    return pipe


def inversion(pipe: DDPMPipeline, images: Tensor, steps: int) -> float:
    """Mean PSNR (dB) of image -> latent -> image."""
    again = pipe.reconstruct(images, num_inference_steps=steps, output_type="pt").images
    return psnr(images, again).mean().item()


def filled(images: Tensor) -> Tensor:
    """The hole takes the mean of the image's known pixels."""
    known = torch.ones_like(images)
    known[..., HOLE, HOLE] = 0
    means = (images * known).sum((1, 2, 3)) / known.sum((1, 2, 3))
    return images * known + means[:, None, None, None] * (1 - known)


def enlarged(small: Tensor) -> Tensor:
    """Bicubic interpolation."""
    return F.interpolate(small, size=(SIZE, SIZE), mode="bicubic", align_corners=False).clamp(0, 1)


def solve(pipe: InverseProblemPipeline, images: Tensor, problem: str, method: str, picture: Path) -> dict[str, float]:
    """PSNR of one posterior sample and of the mean of 8, consistency error, and PSNR of the simple solution."""
    mask = torch.ones(1, SIZE, SIZE)
    mask[:, HOLE, HOLE] = 0
    operator = Inpainting(mask) if problem == "inpainting" else SuperResolution(2)
    measured = operator(images)
    simple = filled(images) if problem == "inpainting" else enlarged(measured)
    output = pipe(
        measured,
        operator,
        method=method,
        num_samples=POSTERIOR_SAMPLES,
        num_inference_steps=100,
        generator=torch.Generator().manual_seed(SEED),
        output_type="pt",
    )
    samples = output.images.unflatten(0, (len(images), POSTERIOR_SAMPLES))
    mean = samples.mean(1)
    rows = torch.stack([images, simple, mean, samples[:, 0], samples[:, 1]], 1).flatten(0, 1)
    image_grid(rows[: 5 * 8], columns=10).save(picture)
    return {
        "simple": psnr(images, simple).mean().item(),
        "one sample": psnr(images, samples[:, 0]).mean().item(),
        "mean of 8": psnr(images, mean).mean().item(),
        "consistency error": output.consistency_error.mean().item(),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--dataset_name", required=True)
    parser.add_argument("--extractor", required=True, help="folder of the classifier")
    parser.add_argument("--vae", required=True, help="folder of the VAE's reference run at 32x32")
    parser.add_argument("--output_dir", type=Path, required=True)
    parser.add_argument("--steps", type=int, default=3000)
    parser.add_argument("--threads", type=int, default=1)
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    folder = train_run("ddpm", args, DDPM, args.steps)
    results = Results(args.output_dir / "results.json", args)
    results.get("seconds of DDPM", lambda: seconds_of(folder))

    judge = Judge(args)
    pipe = load(folder)
    lines = ["| Sampler | " + " | ".join(f"{steps} steps" for steps in STEPS) + " |", "|--" * (len(STEPS) + 1) + "|"]
    for sampler in SAMPLERS:
        cells = []
        for steps in STEPS:
            name = f"FID of {sampler}, {steps} steps"
            fid = results.get(name, partial(judge.fid, load(folder, sampler), num_inference_steps=steps))
            cells.append(f"{fid:.1f}")
        lines.append(f"| {sampler} | {' | '.join(cells)} |")
    images = next(test_images(args, INVERTED))
    for steps in (20, 50, 100):
        results.get(f"PSNR of inversion, {steps} steps", partial(inversion, pipe, images, steps))
    solver = InverseProblemPipeline.from_pipe(pipe)
    solver.set_progress_bar_config(disable=True)
    for problem in ("inpainting", "super-resolution"):
        for method in ("dps", "pigdm"):
            picture = args.output_dir / f"{problem}-{method}.png"
            results.get(
                f"{problem}, {method}",
                partial(solve, solver, images[:SOLVED], problem, method, picture),
            )
    results.get("FID of VAE", lambda: judge.fid(AutoPipeline.from_pretrained(args.vae)))
    gan = train_run("gan", args, GAN, results.get("steps of GAN", lambda: steps_of_equal_time(args)))
    results.get("seconds of GAN", lambda: seconds_of(gan))
    results.get("FID of GAN", lambda: judge.fid(AutoPipeline.from_pretrained(gan)))
    generator = torch.Generator().manual_seed(SEED)
    pipe.set_progress_bar_config(disable=True)
    sampler = load(folder, "DPM-Solver")
    sampler.set_progress_bar_config(disable=True)
    shown = sampler(batch_size=48, num_inference_steps=20, generator=generator, output_type="pt").images
    again = pipe.reconstruct(images[:12], num_inference_steps=50, output_type="pt").images
    inverted = torch.stack([images[:12], again], 1).flatten(0, 1)
    pictures = {"samples, DPM-Solver, 20 steps": image_grid(shown, columns=12)}
    pictures["images and DDIM inversion"] = image_grid(inverted, columns=12)
    stack_pictures(pictures).save(args.output_dir / "ddpm.png")
    (args.output_dir / "table.md").write_text("\n".join(lines) + "\n", encoding="utf-8")
    print("\n".join(lines))


if __name__ == "__main__":
    main()
