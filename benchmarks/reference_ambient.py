"""AmbientGAN on digits with holes, beside a GAN that learns the holes too, and one that learns whole digits.

    python benchmarks/reference_ambient.py --extractor runs/reference-classifier-digits \
        --output_dir runs/reference-ambient

Each training image loses its pixels once, so that nobody but the last GAN ever sees a whole one. FID compares the
features of the digits' classifier, of the test images and of 1,000 samples. What is done is not done again: figures
are kept in `results.json`, the table in `table.md`, samples of the first seed in `ambient.png`.
"""

from __future__ import annotations

import argparse
from functools import partial
from pathlib import Path

import torch
from PIL import Image
from reference_formulations import real_features
from results import Results, train_once
from tables import mean_and_spread
from torch import Tensor

from hf_genmodels import GANPipeline, Noise
from hf_genmodels.data import DataArguments, evaluation_batches, load_split
from hf_genmodels.metrics.distribution import frechet_distance_from_features
from hf_genmodels.metrics.extractors import load_extractor
from hf_genmodels.plots import image_grid, stack_pictures
from hf_genmodels.random_measurements import RandomMeasurement

DIGITS, SIDE, NUM_SAMPLES = "builtin:digits", 8, 1000
NETWORK = "--architecture mlp --hidden_dims 256 256 --latent_dim 32 --gradient_penalty r1 --gradient_penalty_weight 1"
RUN = "--train_batch_size 64 --learning_rate 5e-4 --use_ema --checkpointing_steps 0 --log_steps 500"


def write_holes(folder: Path, measurement: str) -> Path:
    """The training images, each measured once, as PNG files."""
    if not (folder / "done").is_file():
        folder.mkdir(parents=True, exist_ok=True)
        measure, noise = RandomMeasurement.parse(measurement), Noise(0)
        data = load_split(DataArguments(dataset_name=DIGITS), "train")
        images = torch.cat([batch["image"] for batch in evaluation_batches(data, batch_size=500)])
        measured = ((measure(images, noise) + 1) * 127.5).round().to(torch.uint8)
        for index, image in enumerate(measured[:, 0]):
            Image.fromarray(image.numpy()).save(folder / f"{index:04d}.png")
        (folder / "done").touch()
    return folder


def samples(folder: Path, count: int) -> Tensor:
    """Images in [0, 1]."""
    return GANPipeline.from_pretrained(folder)(count, torch.Generator().manual_seed(0), output_type="pt").images


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--extractor", required=True, help="folder of the digits' classifier")
    parser.add_argument("--output_dir", type=Path, required=True)
    parser.add_argument("--measurement", default="drop 0.5")
    parser.add_argument("--steps", type=int, default=2000)
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--threads", type=int, default=1)
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    results = Results(args.output_dir / "results.json", args)
    holes = str(write_holes(args.output_dir / "holes", args.measurement))
    # row of the table -> its data and what its discriminator sees
    rows = {
        "AmbientGAN, digits with holes": (holes, ["--measurement", args.measurement, "--measured_data"]),
        "GAN, digits with holes": (holes, []),
        "GAN, whole digits": (DIGITS, []),
    }
    extractor = load_extractor(args.extractor, torch.device("cpu"))
    digits = argparse.Namespace(dataset_name=DIGITS, resolution=SIDE)
    real = real_features(digits, extractor, "test")

    def fid(images: Tensor) -> float:
        return frechet_distance_from_features(real, extractor(images)[0])

    lines = ["| Trained as | FID |", "|--|--|"]
    pictures = {}
    for row, (dataset_name, options) in rows.items():
        found = []
        for seed in args.seeds:
            data = ["--dataset_name", dataset_name]
            length = f"--max_train_steps {args.steps} --num_threads {args.threads} --seed {seed}"
            folder = args.output_dir / f"{row.replace(', ', '-').replace(' ', '-')}-seed{seed}"
            train_once("gan", folder, data, options, NETWORK, RUN, length)
            measure = partial(lambda place: fid(samples(place, NUM_SAMPLES)), folder)
            found.append(results.get(f"FID, {row}, seed {seed}", measure))
            if seed == args.seeds[0]:
                pictures[row] = image_grid(samples(folder, 24), columns=24)
        lines.append(f"| {row} | {mean_and_spread(found)} |")
    stack_pictures(pictures).save(args.output_dir / "ambient.png")
    (args.output_dir / "table.md").write_text("\n".join(lines) + "\n", encoding="utf-8")
    print("\n".join(lines))


if __name__ == "__main__":
    main()
