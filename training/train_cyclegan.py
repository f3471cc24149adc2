"""Train CycleGAN, on two sets of images.

    accelerate launch training/train_cyclegan.py --dataset_name builtin:polarimetric --output_dir runs/cyclegan

The losses are in `hf_genmodels/objectives/cyclegan.py`, the loop in `training/loop.py`.
"""

from __future__ import annotations

from hf_genmodels.training.entry import script, train_family


def main(argv: list[str] | None = None) -> None:
    """Run with the options in `argv`, by default the command line's."""
    train_family("cyclegan", argv)


if __name__ == "__main__":
    script(main)
