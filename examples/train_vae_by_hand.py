"""Train a variational autoencoder in plain PyTorch: network, losses and pipeline of hf_genmodels, your own loop.

    python examples/train_vae_by_hand.py --output_dir runs/vae_by_hand

Learns handwritten digits (`builtin:digits`, 1442 images of 8x8 pixels) in about a minute on two CPU cores. Leaves a
pipeline that `VAEPipeline.from_pretrained` loads, and `samples.png` with what the loaded pipeline makes: samples, and
test images beside their reconstructions.
"""

import argparse
from pathlib import Path

import torch

from hf_genmodels import VAE, DataArguments, VAEPipeline, load_data
from hf_genmodels.data import TrainingBatches, evaluation_batches
from hf_genmodels.losses.likelihood import kl_standard_normal
from hf_genmodels.plots import image_grid, stack_pictures

parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
parser.add_argument("--output_dir", type=Path, default=Path("runs/vae_by_hand"))
parser.add_argument("--steps", type=int, default=3000)
parser.add_argument("--seed", type=int, default=0)
LATENT_DIM, BATCH_SIZE = 8, 64


def main() -> None:
    args = parser.parse_args()
    torch.manual_seed(args.seed)
    data = load_data(DataArguments(dataset_name="builtin:digits"), args.seed)
    batches = TrainingBatches(data.train, batch_size=BATCH_SIZE, seed=args.seed).start(0)  # without end
    channels, size = data.spec.channels, data.spec.sample_size
    vae = VAE(channels, size, LATENT_DIM, block_out_channels=(64, 128), learn_std=True)
    optimizer = torch.optim.Adam(vae.parameters(), lr=1e-3)

    for step in range(1, args.steps + 1):
        image = next(batches)["image"]  # (batch, channels, height, width) in [-1, 1]
        output = vae(image, noise=torch.randn(len(image), LATENT_DIM))  # encodes, draws z from q(z|x), decodes
        # The negative evidence lower bound: -log p(x|z) + KL(q(z|x) || N(0, I)), in nats an image.
        nll = vae.negative_log_likelihood(image, output.decoded, output.log_scale).mean()
        kl = kl_standard_normal(output.mean, output.log_std).sum(1).mean()
        optimizer.zero_grad()
        (nll + kl).backward()
        optimizer.step()
        if step == 1 or step % 100 == 0 or step == args.steps:
            print(f"step {step}: loss {(nll + kl).item():.3f}, reconstruction {nll.item():.3f}, kl {kl.item():.3f}")

    # value_scale: the number in the data that is white, here 16. The loaded networks are in eval mode.
    VAEPipeline(vae, value_scale=data.spec.value_scale).save_pretrained(args.output_dir)
    pipe = VAEPipeline.from_pretrained(args.output_dir)
    draw = torch.Generator().manual_seed(args.seed)
    samples = pipe(64, draw, output_type="pt").images  # (64, channels, height, width) in [0, 1]
    test = next(evaluation_batches(data.validation or data.train, batch_size=32))["image"]
    test = (test + 1) / 2  # pipelines take and return [0, 1]
    pairs = torch.stack([test, pipe.reconstruct(test, output_type="pt").images], dim=1).flatten(0, 1)
    pictures = {"samples": image_grid(samples), "test images and their reconstructions": image_grid(pairs)}
    stack_pictures(pictures).save(args.output_dir / "samples.png")
    print(f"{args.output_dir}: a VAEPipeline, and samples.png")


if __name__ == "__main__":
    main()
