"""Train a diffusion model with Karras' preconditioning, noise levels and weights (EDM).

    accelerate launch training/train_edm.py --dataset_name builtin:digits --output_dir runs/edm

The losses are in `hf_genmodels/objectives/edm.py`, the loop in `training/loop.py`.
"""

from __future__ import annotations

from hf_genmodels.training.entry import script, train_family


def main(argv: list[str] | None = None) -> None:
    """Run with the options in `argv`, by default the command line's."""
    train_family("edm", argv)


if __name__ == "__main__":
    script(main)
