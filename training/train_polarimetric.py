"""Train a translator from colour to polarimetric images.

    accelerate launch training/train_polarimetric.py --dataset_name builtin:polarimetric --output_dir runs/polarimetric

The losses are in `hf_genmodels/objectives/polarimetric.py`, the loop in `training/loop.py`.
"""

from __future__ import annotations

from hf_genmodels.training.entry import script, train_family


def main(argv: list[str] | None = None) -> None:
    """Run with the options in `argv`, by default the command line's."""
    train_family("polarimetric", argv)


if __name__ == "__main__":
    script(main)
