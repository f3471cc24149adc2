"""Train the classifier whose features `hf-genmodels evaluate --extractor` uses.

    accelerate launch training/train_classifier.py --dataset_name builtin:digits --output_dir runs/classifier

The losses are in `hf_genmodels/objectives/classifier.py`, the loop in `training/loop.py`.
"""

from __future__ import annotations

from hf_genmodels.training.entry import script, train_family


def main(argv: list[str] | None = None) -> None:
    """Run with the options in `argv`, by default the command line's."""
    train_family("classifier", argv)


if __name__ == "__main__":
    script(main)
