"""Train a GAN in plain PyTorch: networks, losses and pipeline of hf_genmodels, your own loop.

    python examples/train_gan_by_hand.py --output_dir runs/gan_by_hand

Learns handwritten digits (`builtin:digits`, 1442 images of 8x8 pixels) in about a minute on two CPU cores. Leaves a
pipeline that `GANPipeline.from_pretrained` loads, and `samples.png` with what the loaded pipeline draws.
"""

import argparse
from pathlib import Path

import torch

from hf_genmodels import DataArguments, DCGANDiscriminator, DCGANGenerator, GANPipeline, load_data
from hf_genmodels.data import TrainingBatches
from hf_genmodels.losses.gan import discriminator_loss, generator_loss
from hf_genmodels.plots import image_grid

parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
parser.add_argument("--output_dir", type=Path, default=Path("runs/gan_by_hand"))
parser.add_argument("--steps", type=int, default=3000)
parser.add_argument("--seed", type=int, default=0)
LATENT_DIM, BATCH_SIZE, LOSS = 32, 64, "non_saturating"


def main() -> None:
    args = parser.parse_args()
    torch.manual_seed(args.seed)
    data = load_data(DataArguments(dataset_name="builtin:digits"), args.seed)
    batches = TrainingBatches(data.train, batch_size=BATCH_SIZE, seed=args.seed).start(0)  # without end
    channels, size = data.spec.channels, data.spec.sample_size
    generator = DCGANGenerator(LATENT_DIM, channels, size, width=64)
    discriminator = DCGANDiscriminator(channels, size, width=64, norm="spectral")
    for_generator = torch.optim.Adam(generator.parameters(), lr=2e-4, betas=(0.5, 0.999))
    for_discriminator = torch.optim.Adam(discriminator.parameters(), lr=2e-4, betas=(0.5, 0.999))

    for step in range(1, args.steps + 1):
        real = next(batches)["image"]  # (batch, channels, height, width) in [-1, 1]

        # The discriminator learns to tell data from fakes, which are constants here,
        fake = generator(torch.randn(len(real), LATENT_DIM)).sample
        loss_d = discriminator_loss(LOSS, discriminator(real).logits, discriminator(fake.detach()).logits)
        for_discriminator.zero_grad()
        loss_d.backward()
        for_discriminator.step()

        # and the generator to make fakes that it takes for data.
        loss_g = generator_loss(LOSS, discriminator(fake).logits)
        for_generator.zero_grad()
        loss_g.backward()
        for_generator.step()

        if step == 1 or step % 100 == 0 or step == args.steps:
            print(f"step {step}: discriminator {loss_d.item():.3f}, generator {loss_g.item():.3f}")

    # value_scale: the number in the data that is white, here 16. The loaded networks are in eval mode.
    GANPipeline(generator, value_scale=data.spec.value_scale).save_pretrained(args.output_dir)
    pipe = GANPipeline.from_pretrained(args.output_dir)
    images = pipe(64, torch.Generator().manual_seed(args.seed), output_type="pt").images  # in [0, 1]
    image_grid(images).save(args.output_dir / "samples.png")
    print(f"{args.output_dir}: a GANPipeline, and samples.png")


if __name__ == "__main__":
    main()
