"""Fit a Gaussian, that is principal components.

    accelerate launch training/train_gaussian.py --dataset_name builtin:digits --output_dir runs/gaussian

The fit is in `hf_genmodels/objectives/gaussian.py`; `training/closed_form.py` takes the loop's place.
"""

from __future__ import annotations

from hf_genmodels.training.entry import script, train_family


def main(argv: list[str] | None = None) -> None:
    """Run with the options in `argv`, by default the command line's."""
    train_family("gaussian", argv)


if __name__ == "__main__":
    script(main)
