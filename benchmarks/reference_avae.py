"""The AVAE paper's table 3.1 on Fashion-MNIST at 32x32: same networks, same steps, several seeds.

    python benchmarks/reference_avae.py --dataset_name FOLDER --extractor runs/reference-classifier-32 \
        --output_dir runs/reference-avae

Every run trains in a process of its own with one thread, `--num_processes` of them at a time. One that is finished is
not made again and one that was interrupted is resumed, so the command can be stopped and repeated. The table is
printed and written to `table.md` in the output folder, pictures of the first seed to `pictures.png`. Runs of another
width or for another number of steps, and their table and pictures, have these in their names.

The VAE's row is the encoder and decoder of the AVAE runs with L_Z^b and xi: neither learns from the generator or the
critic, so they are what a VAE with these networks and this seed is.

Reconstructions are made from z ~ q(z|x), as the authors do (BiGAN: from E(x)). MSE and SSIM are over [0, 1], the
feature distance is the mean Euclidean distance between the extractor's features of an image and of its reconstruction,
and FID compares those features of as many samples as the test split has images.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import torch
from diffusers import DiffusionPipeline
from PIL import Image
from tables import mean_and_spread

from hf_genmodels import AutoPipeline, AVAEPipeline, BiGANPipeline, GANPipeline, VAEGANPipeline
from hf_genmodels.blocks.adversarial import BatchNorm
from hf_genmodels.data import DataArguments, evaluation_batches, load_split
from hf_genmodels.evaluation import evaluate_pipeline
from hf_genmodels.files import read_json
from hf_genmodels.metrics.extractors import load_extractor
from hf_genmodels.metrics.reconstruction import ssim
from hf_genmodels.plots import image_grid, stack_pictures

# Five times the authors' rate for networks an eighth as wide, trained for a 25th of their steps: with it the GAN alone
# and the VAE alone came out better in runs before these. Log sigma keeps the authors' rate.
SHARED = [
    "--learning_rate",
    "1e-3",
    "--norm_statistics",
    "batch",
    "--train_batch_size",
    "64",
    "--mixed_precision",
    "bf16",
]
AVAE = ["--log_std_learning_rate", "2e-4"]
# row of the table -> family and its options
ROWS = {
    "GAN": ("gan", ["--gan_loss", "linear_logit"]),
    "AVAE, L_Z^b, xi": ("avae", [*AVAE, "--latent_loss", "nll_b"]),
    "AVAE, L_Z^b, no xi": ("avae", [*AVAE, "--latent_loss", "nll_b", "--xi_dim", "0"]),
    "AVAE, L_Z^a, xi": ("avae", [*AVAE, "--latent_loss", "nll_a"]),
    # The thesis's beta for 32-pixel images is 10 at width 128; the feature error is a sum over as many features as the
    # networks are wide.
    "VAE/GAN": ("vaegan", ["--beta", "{vaegan_beta}"]),
    "BiGAN": ("bigan", []),
}
STEPS, WIDTH = 2000, 16
VAE_FROM = "AVAE, L_Z^b, xi"
FIGURES = ("MSE", "SSIM", "feature distance", "FID")
STATISTICS = ("batch", "running")
BATCH = 100


def suffix(args: argparse.Namespace) -> str:
    """What the names of runs have at the end that are not of the default width and steps."""
    return "" if (args.width, args.steps) == (WIDTH, STEPS) else f"-width{args.width}-steps{args.steps}"


def train(args: argparse.Namespace, row: str, seed: int) -> Path:
    """Train and measure one run, unless that is done; its folder."""
    family, options = ROWS[row]
    name = row.replace(", ", "-").replace("/", "").replace(" ", "-")
    folder: Path = args.output_dir / f"{name}-seed{seed}{suffix(args)}"
    options = [option.format(vaegan_beta=10 * args.width / 128) for option in options]
    if not (folder / "metrics.json").is_file():
        run(
            *("-m", f"hf_genmodels.training.train_{family}", "--output_dir", str(folder), "--seed", str(seed)),
            *("--dataset_name", args.dataset_name, "--resolution", "32", "--architecture", "avae"),
            *(
                "--width",
                str(args.width),
                *SHARED,
                *options,
                "--max_train_steps",
                str(args.steps),
                "--num_threads",
                "1",
            ),
            *("--log_steps", "100", "--checkpointing_steps", "500", "--checkpoints_total_limit", "1"),
            *("--resume_from_checkpoint", "latest"),
        )
    if not (folder / "reference.json").is_file():
        run(
            *(__file__, "--measure", str(folder), "--dataset_name", args.dataset_name),
            *("--extractor", args.extractor, "--output_dir", str(args.output_dir), "--seeds", str(seed)),
        )
    print(f"{row}, seed {seed}: {read_json(folder / 'reference.json')['batch']}", flush=True)
    return folder


def run(*command: str) -> None:
    """A Python process of its own; what it prints is shown if it fails."""
    done = subprocess.run([sys.executable, *command], capture_output=True, text=True)
    if done.returncode:
        sys.exit(f"{' '.join(command)} failed:\n{done.stderr[-3000:]}")


# measuring -----------------------------------------------------------------------------------------------------------


def measure(args: argparse.Namespace) -> None:
    """Write the figures of a finished run to `reference.json`, with either kind of batch-norm statistics."""
    torch.set_num_threads(1)
    pipeline = AutoPipeline.from_pretrained(args.measure)
    parts: dict[str, DiffusionPipeline] = {"": pipeline}
    if isinstance(pipeline, AVAEPipeline):
        parts["VAE"] = VAEGANPipeline(pipeline.encoder, pipeline.decoder, pipeline.config.value_scale)
    results: dict[str, Any] = {}
    # running averages once: the difference is the same in every run, and measuring takes a third as long as training
    for kind in STATISTICS if args.seeds[0] == 0 else STATISTICS[:1]:
        for name, part in parts.items():
            for network in part.components.values():
                for layer in network.modules():
                    if isinstance(layer, BatchNorm):
                        layer.statistics = kind
            results[" ".join([name, kind]).strip()] = figures(part, args)
    (args.measure / "reference.json").write_text(json.dumps(results, indent=2))


@torch.no_grad()
def figures(pipeline: Any, args: argparse.Namespace) -> dict[str, float]:
    """The table's figures of one pipeline."""
    data_args = DataArguments(dataset_name=args.dataset_name, resolution=32)
    (fid,) = (
        result["value"]
        for result in evaluate_pipeline(
            pipeline,
            data_args,
            split="test",
            metrics=["fid"],
            num_samples=10_000,
            batch_size=BATCH,
            extractor=args.extractor,
            seed=args.seeds[0],
            progress=False,
        )
        if result["name"] == "FID"
    )
    if isinstance(pipeline, GANPipeline):
        return {"FID": fid}
    extractor = load_extractor(args.extractor, torch.device("cpu"))
    generator = torch.Generator().manual_seed(args.seeds[0])
    draws = {} if isinstance(pipeline, BiGANPipeline) else {"sample": True, "generator": generator}
    xi = {"generator": generator} if isinstance(pipeline, AVAEPipeline) else {}
    sums = torch.zeros(3, dtype=torch.float64)
    count = 0
    for batch in evaluation_batches(load_split(data_args, "test"), batch_size=BATCH):
        image = (batch["image"] + 1) / 2
        restored = pipeline.decode(pipeline.encode(image, **draws), output_type="pt", **xi).images
        distance = (extractor.network(image).features - extractor.network(restored).features).norm(dim=1)
        error = (image - restored).square().flatten(1).mean(1)
        sums += torch.stack([error.sum(), ssim(image, restored).sum(), distance.sum()]).double()
        count += len(image)
    mse, similarity, distance = (sums / count).tolist()
    return {"MSE": mse, "SSIM": similarity, "feature distance": distance, "FID": fid}


def table(args: argparse.Namespace, folders: dict[str, list[Path]], kind: str) -> str:
    """Mean and standard deviation over the seeds, a row a model."""
    results = {row: [read_json(folder / "reference.json") for folder in found] for row, found in folders.items()}
    measured = {"VAE": [result[f"VAE {kind}"] for result in results[VAE_FROM] if f"VAE {kind}" in result]}
    measured |= {row: [result[kind] for result in found if kind in result] for row, found in results.items()}
    lines = [f"| Model | {' | '.join(FIGURES)} |", "|--" * (len(FIGURES) + 1) + "|"]
    for row, seeds in measured.items():
        cells = [mean_and_spread([seed[name] for seed in seeds if name in seed], ".4g") for name in FIGURES]
        lines.append(f"| {row} | {' | '.join(cells)} |")
    return "\n".join(lines)


@torch.no_grad()
def picture(args: argparse.Namespace, folders: dict[str, list[Path]]) -> Image.Image:
    """Test images, their reconstructions and samples by the models of the first seed."""
    split = load_split(DataArguments(dataset_name=args.dataset_name, resolution=32), "test")
    shown = (next(evaluation_batches(split, batch_size=BATCH))["image"] + 1) / 2
    rows = {"test images": shown}
    for row, (folder, *_) in folders.items():
        pipeline: Any = AutoPipeline.from_pretrained(folder)
        pipeline.set_progress_bar_config(disable=True)
        generator = torch.Generator().manual_seed(0)
        rows[f"{row}: samples"] = pipeline(batch_size=BATCH, generator=generator, output_type="pt").images
        if isinstance(pipeline, GANPipeline):
            continue
        options = {"generator": generator} if isinstance(pipeline, AVAEPipeline) else {}
        rows[f"{row}: reconstructions"] = pipeline.reconstruct(shown, output_type="pt", **options).images
        if row == VAE_FROM:
            vae = VAEGANPipeline(pipeline.encoder, pipeline.decoder, pipeline.config.value_scale)
            rows["VAE: samples"] = vae(batch_size=BATCH, generator=generator, output_type="pt").images
            rows["VAE: reconstructions"] = vae.reconstruct(shown, output_type="pt").images
    return stack_pictures({name: image_grid(images[:20], columns=20) for name, images in rows.items()})


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--dataset_name", required=True)
    parser.add_argument("--extractor", required=True, help="folder of a classifier trained on the data at 32 pixels")
    parser.add_argument("--output_dir", type=Path, required=True)
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--steps", type=int, default=STEPS)
    parser.add_argument("--width", type=int, default=WIDTH)
    parser.add_argument("--num_processes", type=int, default=2)
    parser.add_argument("--measure", type=Path, help="only measure the finished run in this folder")
    args = parser.parse_args()
    if args.measure is not None:
        measure(args)
        return
    jobs = [(row, seed) for seed in args.seeds for row in ROWS]
    with ThreadPoolExecutor(args.num_processes) as pool:
        done = dict(zip(jobs, pool.map(lambda job: train(args, *job), jobs), strict=True))
    folders = {row: [done[row, seed] for seed in args.seeds] for row in ROWS}
    text = "\n\n".join(f"Batch norms with {kind} statistics:\n\n{table(args, folders, kind)}" for kind in STATISTICS)
    (args.output_dir / f"table{suffix(args)}.md").write_text(text + "\n", encoding="utf-8")
    picture(args, folders).save(args.output_dir / f"pictures{suffix(args)}.png")
    print(text)


if __name__ == "__main__":
    main()
