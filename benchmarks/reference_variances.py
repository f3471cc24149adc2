"""Learned variances and classifier guidance of a DDPM on Fashion-MNIST at 32x32.

    python benchmarks/reference_variances.py --dataset_name FOLDER --extractor runs/reference-classifier-32 \
        --ddpm runs/reference-ddpm/ddpm-steps3000 --output_dir runs/reference-variances

`--ddpm` is the network with fixed variances. Beside it: one of the same command that learns variances by the hybrid
loss (`--steps`, 0 to leave it out), and the very same network with a head for the variances alone, trained for
`--head_steps`. The bound in bits per dimension is of `--images` test images, by the number of steps. Then a classifier
learns from the first model's noisy images (`--classifier_steps`) and guides it; that samples are of their class says
another classifier, the extractor, whose features give FID, too. What is done is not done again: results are kept in
`results.json`, tables in `table.md`, samples in `guided-<scale>.png` and the two chains in `chains.png`.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch
from diffusers import DDIMScheduler, DDPMScheduler, UNet2DModel
from results import Results, train_once
from torch import Tensor

from hf_genmodels import Classifier, DDPMObjective, DDPMPipeline
from hf_genmodels.data import DataArguments, evaluation_batches, load_data, load_split
from hf_genmodels.loading import load_network
from hf_genmodels.metrics.distribution import frechet_distance_from_features
from hf_genmodels.metrics.extractors import load_extractor
from hf_genmodels.objectives.base import Noise
from hf_genmodels.plots import chains_picture, image_grid

SIZE, SEED, BATCH = 32, 0, 50
DDPM = "--block_out_channels 16 32 64 64 --layers_per_block 1 --train_batch_size 64 --learning_rate 1e-3"
DDPM += " --lr_scheduler cosine --lr_warmup_steps 100 --ddpm_variance_type learned_range"
CLASSIFIER = "--train_batch_size 64 --learning_rate 1e-3"
LOOP = "--log_steps 100 --checkpointing_steps 500"
SAMPLING = {"num_inference_steps": 25}


def images_of(args: argparse.Namespace, number: int | None = None) -> Iterator[Tensor]:
    """Batches of test images in [0, 1], in all as many as asked for."""
    data = load_split(DataArguments(dataset_name=args.dataset_name, resolution=SIZE), "test")
    seen = 0
    for batch in evaluation_batches(data, batch_size=BATCH if number else 500):
        if number is not None and seen >= number:
            return
        seen += len(batch["image"])
        yield (batch["image"] + 1) / 2


def silent(pipe: Any) -> Any:
    """Without a bar for each call."""
    pipe.set_progress_bar_config(disable=True)
    return pipe


# variances -----------------------------------------------------------------------------------------------------------


def bits(args: argparse.Namespace, pipe: DDPMPipeline, steps: int) -> float:
    """Mean bound in bits per dimension of the model that takes so many steps."""
    generator = torch.Generator().manual_seed(SEED)
    found = [
        pipe.bits_per_dim(images, generator=generator, num_inference_steps=steps)
        for images in images_of(args, args.images)
    ]
    return torch.cat(found).mean().item()


def with_head(args: argparse.Namespace, folder: Path) -> Path:
    """The same network with a head for the variances, which alone is trained, by the hybrid loss."""
    if (folder / "model_index.json").is_file():
        return folder
    plain = DDPMPipeline.from_pretrained(args.ddpm)
    unet = UNet2DModel.from_config(plain.unet.config, out_channels=2 * plain.unet.config.in_channels)
    weights = plain.unet.state_dict()
    for name in ("conv_out.weight", "conv_out.bias"):
        weights[name] = torch.cat([weights[name], torch.zeros_like(weights[name])])
    unet.load_state_dict(weights)
    unet.requires_grad_(False)
    head = unet.conv_out.requires_grad_(True)
    keep = torch.arange(head.out_channels) < plain.unet.config.in_channels
    head.weight.register_hook(lambda gradient: gradient.masked_fill(keep[:, None, None, None], 0))
    head.bias.register_hook(lambda gradient: gradient.masked_fill(keep, 0))
    scheduler = DDPMScheduler.from_config(plain.scheduler.config, variance_type="learned_range")
    data = load_data(DataArguments(dataset_name=args.dataset_name, resolution=SIZE), SEED)
    objective = DDPMObjective(unet, scheduler, data.spec, loss="hybrid")
    optimizer = torch.optim.Adam(head.parameters(), lr=1e-2)
    batches = training_batches(args)
    for step in range(args.head_steps):
        losses = objective.losses(objective.phases[0], objective.networks, next(batches), Noise(step), {})
        optimizer.zero_grad()
        losses["loss"].backward()
        optimizer.step()
    objective.pipeline(objective.networks).save_pretrained(folder)
    return folder


def training_batches(args: argparse.Namespace) -> Iterator[dict[str, Tensor]]:
    """Batches of 64 training images in their order."""
    data = load_split(DataArguments(dataset_name=args.dataset_name, resolution=SIZE), "train")
    while True:
        yield from evaluation_batches(data, batch_size=64)


# guidance ------------------------------------------------------------------------------------------------------------


def guided(
    args: argparse.Namespace, classifier: Classifier, scale: float, real: Tensor
) -> tuple[dict[str, float], Tensor]:
    """Accuracy by another classifier, and FID to `real` features, of samples of all classes; and the first of them."""
    pipe = silent(DDPMPipeline.from_pretrained(args.ddpm))
    pipe.scheduler = DDIMScheduler.from_config(pipe.scheduler.config, clip_sample=False)
    judge = load_extractor(args.extractor, torch.device("cpu"))
    features, hits, first = [], [], None
    for start in range(0, args.samples, BATCH):
        labels = torch.arange(start, min(start + BATCH, args.samples)) % 10
        generator = torch.Generator().manual_seed(SEED + start)
        options = {"classifier": classifier, "classifier_scale": scale, "class_labels": labels}
        images = pipe(generator=generator, output_type="pt", **options, **SAMPLING).images
        found, probabilities = judge(images)
        features.append(found)
        hits.append(probabilities.argmax(1) == labels)
        first = images[:20] if first is None else first
    fid = frechet_distance_from_features(real, torch.cat(features))
    assert first is not None
    return {"accuracy": torch.cat(hits).float().mean().item(), "fid": fid}, first


def chains(args: argparse.Namespace) -> None:
    """Test images that become noise, and noise that becomes samples."""
    pipe = silent(DDPMPipeline.from_pretrained(args.ddpm))
    images = next(images_of(args, BATCH))[:4]
    made = pipe(4, torch.Generator().manual_seed(SEED), num_intermediates=9, output_type="pt", num_inference_steps=100)
    places = torch.linspace(0, len(pipe.trained_schedule().betas) - 1, 9).round().int().tolist()
    generator = torch.Generator().manual_seed(SEED)
    forward = torch.stack([images, *(pipe.noised(images, place, generator) for place in places[1:])])
    chains_picture(forward, torch.stack(made.intermediates[::-1])).save(args.output_dir / "chains.png")


# tables --------------------------------------------------------------------------------------------------------------


def measure(args: argparse.Namespace, results: Results) -> str:
    """All figures that are not known yet, and their tables."""
    data = ["--dataset_name", args.dataset_name, "--resolution", str(SIZE)]
    length = "--max_train_steps {} --num_threads " + f"{args.threads} --seed {SEED}"
    models = {"fixed": Path(args.ddpm), "learned head": with_head(args, args.output_dir / "head")}
    if args.steps:
        folder = args.output_dir / f"learned-steps{args.steps}"
        models["learned"] = train_once("ddpm", folder, data, length.format(args.steps), DDPM, LOOP)
    bounds = args.bound_steps
    lines = ["| Variances | " + " | ".join(f"{steps} steps" for steps in bounds) + " |", "|--|" + "--|" * len(bounds)]
    for name, folder in models.items():
        pipe = silent(DDPMPipeline.from_pretrained(folder))
        row = [
            results.get(f"bits, {name}, {steps} steps", lambda p=pipe, s=steps: bits(args, p, s)) for steps in bounds
        ]
        lines.append(f"| {name} | " + " | ".join(f"{value:.3f}" for value in row) + " |")

    words = [*data, "--diffusion_model_name_or_path", args.ddpm]
    folder = args.output_dir / "guide"
    train_once("classifier", folder, words, length.format(args.classifier_steps), CLASSIFIER, LOOP)
    classifier = load_network(Classifier, folder).eval()
    judge = load_extractor(args.extractor, torch.device("cpu"))
    real = torch.cat([judge(images)[0] for images in images_of(args)])
    lines += ["", "| classifier_scale | accuracy | FID |", "|--|--|--|"]
    for scale in args.scales:

        def figures(scale: float = scale) -> dict[str, float]:
            found, first = guided(args, classifier, scale, real)
            image_grid(first, columns=10).save(args.output_dir / f"guided-{scale:g}.png")
            return found

        found = results.get(f"scale {scale:g}", figures)
        lines.append(f"| {scale:g} | {found['accuracy']:.3f} | {found['fid']:.1f} |")
    return "\n".join(lines) + "\n"


def main() -> None:
    """Train what is not trained, measure what is not measured."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--dataset_name", required=True, help="Fashion-MNIST, a folder or Hub id")
    parser.add_argument("--extractor", required=True, help="classifier that judges samples and gives FID's features")
    parser.add_argument("--ddpm", required=True, help="model with fixed variances")
    parser.add_argument("--output_dir", type=Path, required=True)
    parser.add_argument("--steps", type=int, default=3000, help="of the model that learns variances; 0 for none")
    parser.add_argument("--bound_steps", type=int, nargs="+", default=[25, 50, 100])
    parser.add_argument("--scales", type=float, nargs="+", default=[0.0, 1.0, 4.0, 16.0])
    parser.add_argument("--head_steps", type=int, default=100)
    parser.add_argument("--classifier_steps", type=int, default=1000)
    parser.add_argument("--images", type=int, default=500)
    parser.add_argument("--samples", type=int, default=1000)
    parser.add_argument("--threads", type=int, default=1)
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    args.output_dir.mkdir(parents=True, exist_ok=True)
    results = Results(args.output_dir / "results.json", args)
    if not (args.output_dir / "chains.png").is_file():
        chains(args)
    table = measure(args, results)
    (args.output_dir / "table.md").write_text(table, encoding="utf-8")
    print(table)


if __name__ == "__main__":
    main()
