"""A run that is sent signals at a moment of its training."""

from __future__ import annotations

import signal
from pathlib import Path
from typing import Any

import torch

from hf_genmodels import DataArguments, TrainingArguments, load_data, train
from tests.testing_utils.adversaries import Adversaries


class Told(Adversaries):
    """Is sent signals at a moment of its training; `_dropped` is what dropout left out, pass by pass."""

    def __init__(self, moment: str = "", *numbers: int) -> None:
        super().__init__(dropout=0.1)
        self._moment, self._numbers = moment, numbers
        self._dropped: list[torch.Tensor] = []
        self.networks["generator"].drop.register_forward_hook(lambda *each: self._dropped.append(each[-1] == 0))

    def _tell(self, moment: str) -> None:
        numbers, self._numbers = (self._numbers, ()) if moment == self._moment else ((), self._numbers)
        for number in numbers:
            signal.raise_signal(number)

    def before_step(self, step: int) -> None:
        super().before_step(step)
        self._tell(f"step {step}")

    def state_dict(self) -> dict[str, Any]:
        self._tell(f"saving {self.step}")  # the networks have been written by then
        return super().state_dict()

    def evaluate(self, *arguments: Any) -> dict[str, Any]:
        self._tell("held-out data")
        return super().evaluate(*arguments)


def trained(folder: Path, *told: Any, max_train_samples: int = 64, **changes: Any) -> Told:
    """Ten steps with dropout, averages, a log every fourth step and a checkpoint every fifth."""
    torch.manual_seed(0)
    objective = Told(*told)
    chosen: dict[str, Any] = {"train_batch_size": 8, "max_train_steps": 10, "log_steps": 4, "checkpointing_steps": 5}
    chosen |= {"learning_rate": 0.01, "use_ema": True, "num_threads": 1, **changes}
    data = load_data(DataArguments(dataset_name="builtin:toy2d", max_train_samples=max_train_samples), 0)
    train(objective, data, TrainingArguments(output_dir=str(folder), **chosen))
    return objective
