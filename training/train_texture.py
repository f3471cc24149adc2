"""Fit a stationary Gaussian texture to one image.

    accelerate launch training/train_texture.py --dataset_name builtin:textures --output_dir runs/texture

The fit is in `hf_genmodels/objectives/texture.py`; `training/closed_form.py` takes the loop's place.
"""

from __future__ import annotations

from hf_genmodels.training.entry import script, train_family


def main(argv: list[str] | None = None) -> None:
    """Run with the options in `argv`, by default the command line's."""
    train_family("texture", argv)


if __name__ == "__main__":
    script(main)
