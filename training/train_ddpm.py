"""Train a denoising diffusion probabilistic model.

    accelerate launch training/train_ddpm.py --dataset_name builtin:digits --output_dir runs/ddpm

The losses are in `hf_genmodels/objectives/ddpm.py`, the loop in `training/loop.py`.
"""

from __future__ import annotations

from hf_genmodels.training.entry import script, train_family


def main(argv: list[str] | None = None) -> None:
    """Run with the options in `argv`, by default the command line's."""
    train_family("ddpm", argv)


if __name__ == "__main__":
    script(main)
