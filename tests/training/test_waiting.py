"""The share of the steps' time that is spent waiting for data."""

from __future__ import annotations

import json
import time
from pathlib import Path

import pytest
import torch
from accelerate import Accelerator

from hf_genmodels.training.train_vae import main
from hf_genmodels.training.waiting import DataWait
from tests.testing_utils.training import options


def test_the_share(monkeypatch: pytest.MonkeyPatch) -> None:
    now = 5.0
    monkeypatch.setattr(time, "perf_counter", lambda: now)
    wait = DataWait()
    with wait.waiting():
        now += 1
    now += 2
    with wait.elsewhere():
        now += 100
    with wait.waiting():
        now += 1
    assert wait.share(Accelerator()) == pytest.approx(2 / 4)
    now += 3  # begins anew
    with wait.waiting():
        now += 1
    assert wait.share(Accelerator()) == pytest.approx(1 / 4)
    assert wait.share(Accelerator()) == 0


def test_it_is_logged_but_no_result(tmp_path: Path) -> None:
    main(options(tmp_path / "run", max_train_steps=4, log_steps=2, checkpointing_steps=4))
    metrics = json.loads((tmp_path / "run" / "metrics.json").read_text())
    assert 0 <= metrics["data_wait"] <= 1 and "data_wait" not in metrics["train"]
    state = torch.load(tmp_path / "run" / "checkpoint-4" / "state.pt", weights_only=True)
    assert "loss" in state["history"] and "data_wait" not in state["history"]  # a resumed run is the same but for it
