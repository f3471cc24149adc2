"""A denoising diffusion GAN in 4 steps beside a DDPM's samplers in 4: FID, seconds a sample, pictures.

    python benchmarks/reference_diffusion_gan.py --dataset_name FOLDER --extractor runs/reference-classifier-32 \
        --output_dir runs/reference-diffusion-gan

The generator has the DDPM's widths. The DDPM is that of `reference_formulations.py`, trained here unless `--ddpm`
names one; FID, too, is computed as there. What is done is not done again: figures are kept in `results.json`, the
table in `table.md`, pictures in `diffusion_gan.png`.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path

import torch
from reference_formulations import BATCH, LOOP, NETWORK, NUM_SAMPLES, RUN, SEED, load, real_features, samples
from results import Results, seconds_of, train_once
from torch import Tensor

from hf_genmodels import DiffusionGANPipeline
from hf_genmodels.metrics.distribution import frechet_distance_from_features
from hf_genmodels.metrics.extractors import load_extractor
from hf_genmodels.plots import image_grid, stack_pictures

STEPS = 4
GAN_NETWORKS = f"{NETWORK} --discriminator_channels 16 32 64 64"
GAN_RUN = "--train_batch_size 32 --learning_rate 5e-4 --lr_scheduler cosine"
# row of the table -> a sampler of the DDPM, and its settings
SAMPLERS = {
    "DDPM, DDIM": ("DDIMScheduler", {"clip_sample": False}),
    "DDPM, DPM-Solver": ("DPMSolverMultistepScheduler", {}),
}


def gan_samples(folder: Path, count: int) -> Tensor:
    """Images in [0, 1]."""
    pipe, generator = DiffusionGANPipeline.from_pretrained(folder), torch.Generator().manual_seed(SEED)
    return torch.cat([pipe(min(BATCH, count), generator, output_type="pt").images for _ in range(-(-count // BATCH))])


def seconds_a_sample(make: Callable[[], object]) -> float:
    """Median of three batches, after one that warms up."""
    taken = []
    for _ in range(4):
        start = time.perf_counter()
        make()
        taken.append((time.perf_counter() - start) / BATCH)
    return sorted(taken[1:])[1]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--dataset_name", required=True)
    parser.add_argument("--resolution", type=int, default=32)
    parser.add_argument("--extractor", required=True, help="folder of the classifier")
    parser.add_argument("--ddpm", type=Path, help="folder of a trained DDPM")
    parser.add_argument("--output_dir", type=Path, required=True)
    parser.add_argument("--ddpm_steps", type=int, default=3000)
    parser.add_argument("--gan_steps", type=int, default=1500)
    parser.add_argument("--threads", type=int, default=1)
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    results = Results(args.output_dir / "results.json", args)
    common = [
        *("--dataset_name", args.dataset_name, "--resolution", str(args.resolution)),
        *("--num_threads", str(args.threads), "--seed", str(SEED)),
    ]
    gan = args.output_dir / "diffusion_gan"
    train_once("diffusion_gan", gan, common, GAN_NETWORKS, GAN_RUN, f"--max_train_steps {args.gan_steps}", LOOP)
    ddpm = args.ddpm or args.output_dir / "ddpm"
    train_once("ddpm", ddpm, common, NETWORK, RUN, f"--max_train_steps {args.ddpm_steps}", LOOP)

    extractor = load_extractor(args.extractor, torch.device("cpu"))
    test = real_features(args, extractor, "test")
    # row -> its images, one batch of them, and where it was trained
    rows: dict[str, tuple[Callable[[int], Tensor], Callable[[], object], Path]] = {}
    for name, (scheduler, settings) in SAMPLERS.items():
        make = partial(samples, ddpm, scheduler, settings, STEPS)
        pipe = load(ddpm, scheduler, settings)
        rows[name] = make, partial(pipe, batch_size=BATCH, num_inference_steps=STEPS, output_type="pt"), ddpm
    pipe = DiffusionGANPipeline.from_pretrained(gan)
    rows["diffusion GAN"] = partial(gan_samples, gan), partial(pipe, batch_size=BATCH, output_type="pt"), gan

    lines = [f"| Model | Training (s) | FID, {STEPS} steps | Seconds a sample |", "|--|--|--|--|"]
    pictures = {}
    for name, (make, batch, folder) in rows.items():
        trained = results.get(f"seconds of training, {name}", partial(seconds_of, folder))
        fid = results.get(
            f"FID, {name}", lambda make=make: frechet_distance_from_features(test, extractor(make(NUM_SAMPLES))[0])
        )
        seconds = results.get(f"seconds a sample, {name}", partial(seconds_a_sample, batch))
        lines.append(f"| {name} | {trained:.0f} | {fid:.1f} | {seconds:.4f} |")
        pictures[f"{name}, {STEPS} steps"] = image_grid(make(24), columns=24)
    stack_pictures(pictures).save(args.output_dir / "diffusion_gan.png")
    (args.output_dir / "table.md").write_text("\n".join(lines) + "\n", encoding="utf-8")
    print("\n".join(lines))


if __name__ == "__main__":
    main()
