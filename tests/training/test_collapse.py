"""The warning of a collapse on real runs: GANs on a ring of Gaussians, healthy ones and ones driven too fast."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from hf_genmodels.training.train_gan import main

SHARED = [
    *("--dataset_name", "builtin:toy2d", "--architecture", "mlp", "--hidden_dims", "64", "64", "--latent_dim", "2"),
    *("--train_batch_size", "128", "--max_train_steps", "400", "--log_steps", "40", "--checkpointing_steps", "0"),
    *("--num_threads", "1"),
]


def trained(output_dir: Path, seed: int, *options: str) -> Any:
    main([*SHARED, *options, "--seed", str(seed), "--output_dir", str(output_dir)])
    return json.loads((output_dir / "metrics.json").read_text())


@pytest.mark.parametrize("seed", range(5))
def test_healthy_runs_have_no_warning(seed: int, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    metrics = trained(tmp_path / "run", seed, "--gan_loss", "least_squares", "--learning_rate", "1e-3")
    assert "warnings" not in metrics and "collapsed" not in capsys.readouterr().out
    assert 0.5 < metrics["train"]["sample_diversity"] < 1.5


@pytest.mark.parametrize("seed", range(3))
def test_runs_that_collapse_say_so(seed: int, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A learning rate of a hundred times GAN's default, with Adam's own momentum."""
    metrics = trained(tmp_path / "run", seed, "--learning_rate", "2e-2", "--adam_beta1", "0.9")
    (warning,) = metrics["warnings"]
    assert "the generator has collapsed: its samples are" in warning
    assert capsys.readouterr().out.count(f"warning: {warning}") == 1
    assert f"Training gave a warning: {warning}." in (tmp_path / "run" / "README.md").read_text()
