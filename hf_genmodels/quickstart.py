"""`hf-genmodels quickstart`: a VAE on real handwritten digits, from nothing to a model that can be shared."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from .data import DataArguments, evaluation_batches, load_data
from .evaluation import evaluate_pipeline
from .files import replacing
from .hub import write_card
from .losses.reconstruction import clamped_squared_error
from .metrics.record import write_evaluation
from .plots import image_grid, scatter

DATASET = "builtin:digits"
LATENT_DIM = 8
OPTIONS = (
    f"--dataset_name {DATASET} --latent_dim {LATENT_DIM} --block_out_channels 64 128 --learn_std --gaussian_std 0.3 "
    "--max_train_steps 2000 --lr_scheduler cosine --sample_steps 500 --checkpointing_steps 0"
).split()


def main(output_dir: str) -> None:
    """Train, evaluate, save, reload and draw; prints where everything is and how it compares with PCA.

    Args:
        output_dir: Written anew.
    """
    from .pipelines.vae import VAEPipeline
    from .training.entry import train_family

    folder = train_family("vae", [*OPTIONS, "--output_dir", output_dir, "--overwrite_output_dir"])
    pipe = VAEPipeline.from_pretrained(folder)

    data_args = DataArguments(dataset_name=DATASET)
    results = evaluate_pipeline(
        pipe,
        data_args,
        split="test",
        metrics=["mse", "ssim", "swd", "nll"],
        num_samples=1000,
        batch_size=500,
        extractor="pixels",
        seed=0,
    )
    write_evaluation(folder, results)
    write_card(folder)

    data = load_data(data_args, seed=0)
    assert data.validation is not None
    train_images, test_images = (_all(split)["image"] for split in (data.train, data.validation))
    labels = _all(data.validation)["label"]
    shown = (test_images[:32] + 1) / 2
    samples = pipe(64, torch.Generator().manual_seed(0), output_type="pt", return_dict=False)[0]
    pairs = torch.stack([shown, pipe.reconstruct(shown, output_type="pt").images], 1).flatten(0, 1)
    latents = pipe.encode((test_images + 1) / 2)
    pictures = {
        "samples.png": image_grid(samples, columns=8),
        "reconstructions.png": image_grid(pairs, columns=8),
        "latents.png": scatter(
            latents @ principal_directions(latents, 2).T, labels, "latent space, two main directions"
        ),
    }
    for name, picture in pictures.items():
        with replacing(folder / name) as temporary:
            picture.save(temporary)

    vae_error = next(result["value"] for result in results if result["name"] == "MSE")
    pca_error = error_of_pca(train_images, test_images, LATENT_DIM)
    print(f"\nheld-out reconstruction MSE, {LATENT_DIM} latents: VAE {vae_error:.5f}, PCA {pca_error:.5f}")
    for name in (*pictures, "losses.png", "README.md", "model_index.json"):
        print(f"  {folder / name}")
    place = str(Path(output_dir))
    print(f"load it with: from hf_genmodels import VAEPipeline; VAEPipeline.from_pretrained({place!r})")


def _all(split: Any) -> dict[str, Tensor]:
    batches = list(evaluation_batches(split, batch_size=500))
    return {name: torch.cat([batch[name] for batch in batches]) for name in batches[0]}


def principal_directions(points: Tensor, count: int) -> Tensor:
    """The `count` main directions (count, dim) of points (n, dim)."""
    return torch.linalg.svd(points - points.mean(0), full_matrices=False).Vh[:count]


def error_of_pca(fitted_on: Tensor, images: Tensor, count: int) -> float:
    """Mean squared error, on the [0, 1] scale, of images projected onto the `count` main directions of others.

    The projections are clamped to the images' range, as a pipeline's reconstructions are.

    Args:
        fitted_on: (m, channels, height, width) in [-1, 1].
        images: (n, channels, height, width) in [-1, 1].
        count: Of directions.
    """
    mean, directions = fitted_on.flatten(1).mean(0), principal_directions(fitted_on.flatten(1), count)
    projected = (images.flatten(1) - mean) @ directions.T @ directions + mean
    return float(clamped_squared_error(projected.view_as(images), images).mean())
