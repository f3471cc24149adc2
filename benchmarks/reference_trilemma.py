"""Quality, diversity and seconds a sample of a VAE, a GAN and a DDPM on Fashion-MNIST at 32x32.

    python benchmarks/reference_trilemma.py --dataset_name FASHION_MNIST --extractor runs/reference-classifier-32 \
        --ddpm runs/reference-ddpm/ddpm-steps3000 --output_dir runs/reference-trilemma

The VAE and the GAN are trained here, each for --steps; the DDPM is that of `make reference-ddpm`, or
left out. A run that was stopped goes on. The table is `comparison.md` of the output folder.
"""

from __future__ import annotations

import argparse
from pathlib import Path

from results import train_once

from hf_genmodels.cli import main as command

VAE = "--likelihood bernoulli --latent_dim 32 --block_out_channels 16 32 64 --learning_rate 1e-3"
GAN = "--width 16 --latent_dim 64"
ON = "--resolution 32 --seed 0 --num_threads 1 --checkpointing_steps 500"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--dataset_name", required=True, help="Fashion-MNIST")
    parser.add_argument("--extractor", required=True, help="of make reference-classifier-32")
    parser.add_argument("--ddpm", help="the DDPM's folder, of make reference-ddpm")
    parser.add_argument("--steps", type=int, default=3000, help="of the VAE and of the GAN, at batches of 64")
    parser.add_argument("--num_samples", type=int, default=2000)
    parser.add_argument("--output_dir", type=Path, required=True)
    args = parser.parse_args()
    if args.ddpm and not (Path(args.ddpm) / "model_index.json").is_file():
        parser.error(f"--ddpm {args.ddpm} holds no model; `make reference-ddpm` makes one, see above")
    data, folder, steps = ["--dataset_name", args.dataset_name], args.output_dir, f"--max_train_steps {args.steps}"
    models = [
        train_once("vae", folder / "vae", data, ON, steps, VAE),
        train_once("gan", folder / "dcgan", data, ON, steps, GAN),
    ]
    if args.ddpm:
        models += [f"{args.ddpm}@num_inference_steps={count}" for count in (10, 20, 50)]
    words = ["compare", *map(str, models), *data, "--resolution", "32", "--extractor", args.extractor]
    words += ["--num_samples", str(args.num_samples), "--batch_size", "100", "--output_dir", str(folder)]
    raise SystemExit(command(words))


if __name__ == "__main__":
    main()
