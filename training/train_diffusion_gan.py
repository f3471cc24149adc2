"""Train a denoising diffusion GAN, which samples in a few large steps.

    accelerate launch training/train_diffusion_gan.py --dataset_name builtin:digits --output_dir runs/diffusion_gan

The losses are in `hf_genmodels/objectives/diffusion_gan.py`, the loop in `training/loop.py`.
"""

from __future__ import annotations

from hf_genmodels.training.entry import script, train_family


def main(argv: list[str] | None = None) -> None:
    """Run with the options in `argv`, by default the command line's."""
    train_family("diffusion_gan", argv)


if __name__ == "__main__":
    script(main)
