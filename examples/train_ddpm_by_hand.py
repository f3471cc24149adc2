"""Train a diffusion model in plain PyTorch: losses and pipeline of hf_genmodels, network of diffusers, your own loop.

    python examples/train_ddpm_by_hand.py --output_dir runs/ddpm_by_hand

Learns handwritten digits (`builtin:digits`, 1442 images of 8x8 pixels) in about two minutes on two CPU cores. Leaves a
pipeline that `DDPMPipeline.from_pretrained` loads (of hf_genmodels or of diffusers), and `samples.png` with what the
loaded pipeline draws.
"""

import argparse
from pathlib import Path

import torch
from diffusers import DDIMScheduler, DDPMScheduler, UNet2DModel

from hf_genmodels import DataArguments, DDPMPipeline, load_data
from hf_genmodels.data import TrainingBatches
from hf_genmodels.losses.diffusion import prediction_target, q_sample
from hf_genmodels.plots import image_grid

parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
parser.add_argument("--output_dir", type=Path, default=Path("runs/ddpm_by_hand"))
parser.add_argument("--steps", type=int, default=2000)
parser.add_argument("--seed", type=int, default=0)
BATCH_SIZE = 64


def main() -> None:
    args = parser.parse_args()
    torch.manual_seed(args.seed)
    data = load_data(DataArguments(dataset_name="builtin:digits"), args.seed)
    batches = TrainingBatches(data.train, batch_size=BATCH_SIZE, seed=args.seed).start(0)  # without end
    unet = UNet2DModel(
        sample_size=data.spec.sample_size,
        in_channels=data.spec.channels,
        out_channels=data.spec.channels,
        block_out_channels=(32, 64),
        down_block_types=("DownBlock2D", "DownBlock2D"),
        up_block_types=("UpBlock2D", "UpBlock2D"),
        layers_per_block=1,
        norm_num_groups=8,
    )
    scheduler = DDPMScheduler(num_train_timesteps=1000, prediction_type="epsilon")
    optimizer = torch.optim.Adam(unet.parameters(), lr=1e-3)
    decay = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, args.steps)

    for step in range(1, args.steps + 1):
        image = next(batches)["image"]  # (batch, channels, height, width) in [-1, 1]
        noise = torch.randn_like(image)
        timesteps = torch.randint(1000, (len(image),))
        alpha_bar = scheduler.alphas_cumprod[timesteps]
        prediction = unet(q_sample(image, noise, alpha_bar), timesteps).sample
        target = prediction_target("epsilon", image, noise, alpha_bar)
        loss = (prediction - target).square().mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        decay.step()
        if step == 1 or step % 100 == 0 or step == args.steps:
            print(f"step {step}: loss {loss.item():.3f}")

    DDPMPipeline(unet, scheduler, value_scale=data.spec.value_scale).save_pretrained(args.output_dir)
    pipe = DDPMPipeline.from_pretrained(args.output_dir)
    pipe.scheduler = DDIMScheduler.from_config(pipe.scheduler.config)  # 50 steps do where DDPM needs 1000
    images = pipe(64, torch.Generator().manual_seed(args.seed), num_inference_steps=50, output_type="pt").images
    image_grid(images).save(args.output_dir / "samples.png")
    print(f"{args.output_dir}: a DDPMPipeline, and samples.png")


if __name__ == "__main__":
    main()
