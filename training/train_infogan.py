"""Train an information maximising GAN (InfoGAN), whose codes are found without labels.

    accelerate launch training/train_infogan.py --dataset_name builtin:digits --output_dir runs/infogan

The losses are in `hf_genmodels/objectives/infogan.py`, the loop in `training/loop.py`.
"""

from __future__ import annotations

from hf_genmodels.training.entry import script, train_family


def main(argv: list[str] | None = None) -> None:
    """Run with the options in `argv`, by default the command line's."""
    train_family("infogan", argv)


if __name__ == "__main__":
    script(main)
