"""Interrupted runs of every family with training steps end with the weights of whole ones, bit for bit."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from hf_genmodels.training.entry import train_family
from tests.families import CASES
from tests.testing_utils.training import (
    assert_same_run,
    dice,
    interrupted,
    kill_after_checkpoints,
    largest_difference,
    networks_of,
    options,
    script,
)

SHORT: dict[str, Any] = {
    "block_out_channels": None,
    "norm": None,
    "max_train_steps": 4,
    "checkpointing_steps": 2,
    "train_batch_size": 8,
    "max_train_samples": 64,
    "eval_batch_size": 1000,
    "log_steps": 1,
    "use_ema": True,
}
# name -> (family, options) of every run
RUNS: dict[str, tuple[str, dict[str, Any]]] = {
    name: (family, changes) for family, case in CASES.items() for name, changes in case.resumed.items()
}


@pytest.mark.parametrize("case", RUNS)
def test_resuming_is_exact(tmp_path: Path, case: str) -> None:
    family, changes = RUNS[case]
    changes = {**SHORT, **changes}
    whole = tmp_path / "whole"
    train_family(family, options(whole, **changes))
    resumed = interrupted(whole, 2, tmp_path / "resumed")
    train_family(family, options(resumed, **changes, resume_from_checkpoint="latest"))
    assert_same_run(whole, resumed, 4)
    for name in networks_of(whole / "checkpoint-4" / "networks"):
        steps = [whole / f"checkpoint-{step}" / "networks" / name for step in (2, 4)]
        assert largest_difference(*steps) > 1e-3, name


def test_kill_9_at_a_random_moment(tmp_path: Path) -> None:
    """Of a family with two phases and state of its own, which moves with every update."""
    family, changes = RUNS["began"]
    changes = {**SHORT, **changes, "max_train_steps": 160, "checkpointing_steps": 4, "lr_scheduler": "cosine"}
    train_family(family, options(tmp_path / "whole", **changes))
    killed = options(tmp_path / "killed", **changes, resume_from_checkpoint="latest")
    random = dice("kill -9")
    more, seconds = random.randint(1, 15), random.uniform(0, 0.1)
    kill_after_checkpoints(script(family, killed), tmp_path / "killed", more, seconds)
    assert not (tmp_path / "killed" / "model_index.json").exists()
    train_family(family, killed)
    assert_same_run(tmp_path / "whole", tmp_path / "killed", 160)
