"""The warning of a collapse on real runs: GANs on a ring of Gaussians and on digits, healthy ones and others."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from hf_genmodels.training.train_gan import main

SHARED = ["--checkpointing_steps", "0", "--num_threads", "1"]
RING = [
    *("--dataset_name", "builtin:toy2d", "--architecture", "mlp", "--hidden_dims", "64", "64", "--latent_dim", "2"),
    *("--train_batch_size", "128", "--max_train_steps", "400", "--log_steps", "40"),
]
DIGITS = [
    *("--dataset_name", "builtin:digits", "--resolution", "16", "--architecture", "dcgan", "--width", "8"),
    *("--train_batch_size", "64", "--max_train_steps", "150", "--log_steps", "15"),
]
HEALTHY = {
    "least squares": [*RING, "--gan_loss", "least_squares", "--learning_rate", "1e-3"],
    "default loss": [*RING, "--learning_rate", "1e-3"],
    "digits": DIGITS,
}


def trained(output_dir: Path, seed: int, *options: str) -> Any:
    main([*SHARED, *options, "--seed", str(seed), "--output_dir", str(output_dir)])
    return json.loads((output_dir / "metrics.json").read_text())


@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize("kind", HEALTHY)
def test_healthy_runs_have_no_warning(
    kind: str, seed: int, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    metrics = trained(tmp_path / "run", seed, *HEALTHY[kind])
    assert "warnings" not in metrics and "collapsed" not in capsys.readouterr().out
    # a short run on images is on its way to 1
    assert (0.25 if kind == "digits" else 0.5) < metrics["train"]["sample_diversity"] < 1.5


@pytest.mark.parametrize("seed", range(5))
def test_runs_that_recover_have_no_warning(seed: int, tmp_path: Path) -> None:
    """The default learning rate is slow on the ring: some seeds fall below the limit on the way, none stays there."""
    metrics = trained(tmp_path / "run", seed, *RING)
    assert "warnings" not in metrics and "collapsed" not in (tmp_path / "run" / "README.md").read_text()
    assert metrics["train"]["sample_diversity"] > 0.25


@pytest.mark.parametrize("seed", range(5))
def test_runs_that_collapse_say_so(seed: int, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A generator that is much too fast for its discriminator goes wherever that likes best, with all its samples."""
    rates = ["--learning_rate", "1e-2", "--discriminator_learning_rate", "1e-4", "--adam_beta1", "0.9"]
    metrics = trained(tmp_path / "run", seed, *RING, *rates)
    (warning,) = metrics["warnings"]
    assert "the generator has collapsed: its samples are" in warning
    assert capsys.readouterr().out.count(f"warning: {warning}") == 1
    assert f"Training gave a warning: {warning}." in (tmp_path / "run" / "README.md").read_text()
