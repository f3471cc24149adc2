"""Fit a mixture of Gaussians.

    accelerate launch training/train_gaussian_mixture.py --dataset_name builtin:digits --output_dir runs/mixture

The fit is in `hf_genmodels/objectives/gaussian_mixture.py`; `training/closed_form.py` takes the loop's place.
"""

from __future__ import annotations

from hf_genmodels.training.entry import script, train_family


def main(argv: list[str] | None = None) -> None:
    """Run with the options in `argv`, by default the command line's."""
    train_family("gaussian_mixture", argv)


if __name__ == "__main__":
    script(main)
