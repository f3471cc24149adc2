"""Train a score model by denoising score matching, with noise whose variance explodes.

    accelerate launch training/train_score.py --dataset_name builtin:digits --output_dir runs/score

The losses are in `hf_genmodels/objectives/score.py`, the loop in `training/loop.py`.
"""

from __future__ import annotations

from hf_genmodels.training.entry import script, train_family


def main(argv: list[str] | None = None) -> None:
    """Run with the options in `argv`, by default the command line's."""
    train_family("score", argv)


if __name__ == "__main__":
    script(main)
