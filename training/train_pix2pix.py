"""Train Pix2Pix, on pairs of images.

    accelerate launch training/train_pix2pix.py --dataset_name builtin:edges --output_dir runs/pix2pix

The losses are in `hf_genmodels/objectives/pix2pix.py`, the loop in `training/loop.py`.
"""

from __future__ import annotations

from hf_genmodels.training.entry import script, train_family


def main(argv: list[str] | None = None) -> None:
    """Run with the options in `argv`, by default the command line's."""
    train_family("pix2pix", argv)


if __name__ == "__main__":
    script(main)
