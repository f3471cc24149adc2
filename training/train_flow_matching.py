"""Train a flow from noise to data along straight paths (flow matching, rectified flow).

    accelerate launch training/train_flow_matching.py --dataset_name builtin:digits --output_dir runs/flow_matching

The losses are in `hf_genmodels/objectives/flow_matching.py`, the loop in `training/loop.py`.
"""

from __future__ import annotations

from hf_genmodels.training.entry import script, train_family


def main(argv: list[str] | None = None) -> None:
    """Run with the options in `argv`, by default the command line's."""
    train_family("flow_matching", argv)


if __name__ == "__main__":
    script(main)
