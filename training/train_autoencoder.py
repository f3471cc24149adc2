"""Train an autoencoder: linear, MLP or convolutional, with the regularisers of the courses.

    accelerate launch training/train_autoencoder.py --dataset_name builtin:digits --output_dir runs/autoencoder

The losses are in `hf_genmodels/objectives/autoencoder.py`, the loop in `training/loop.py`.
"""

from __future__ import annotations

from hf_genmodels.training.entry import script, train_family


def main(argv: list[str] | None = None) -> None:
    """Run with the options in `argv`, by default the command line's."""
    train_family("autoencoder", argv)


if __name__ == "__main__":
    script(main)
