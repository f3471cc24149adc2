from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import pytest

from hf_genmodels.errors import UserError
from hf_genmodels.training.arguments import TrainingArguments
from hf_genmodels.training.schedules import learning_rate_factor

TOTAL, WARMUP = 40, 8


def rising(step: int) -> float:
    """diffusers' warm-up: nothing at step 0."""
    return step / WARMUP


def left(step: int) -> float:
    """Share of the steps after the warm-up that are still to come."""
    return (TOTAL - step) / (TOTAL - WARMUP)


SCHEDULES: list[tuple[str, dict[str, Any], Callable[[int], float]]] = [
    ("constant", {}, lambda step: 1.0),
    ("constant_with_warmup", {"lr_warmup_steps": WARMUP}, lambda step: min(1.0, rising(step))),
    ("linear", {"lr_warmup_steps": WARMUP}, lambda step: rising(step) if step < WARMUP else left(step)),
    (
        "cosine",
        {"lr_warmup_steps": WARMUP},
        lambda step: rising(step) if step < WARMUP else math.sin(math.pi / 2 * left(step)) ** 2,
    ),
    (
        "cosine_with_restarts",
        {"lr_warmup_steps": WARMUP},
        lambda step: rising(step) if step < WARMUP else math.sin(math.pi / 2 * left(step)) ** 2,
    ),
    ("polynomial", {"lr_warmup_steps": WARMUP}, lambda step: rising(step) if step < WARMUP else left(step)),
    ("constant_then_linear", {"lr_decay_start_step": 30}, lambda step: 1.0 if step < 30 else 1 - (step - 30) / 10),
    (
        "constant_then_linear",
        {"lr_decay_start_step": 30, "lr_warmup_steps": WARMUP},
        lambda step: rising(step) if step < WARMUP else min(1.0, 4 - step / 10),
    ),
    (
        "exponential",
        {"lr_final_ratio": 0.1, "lr_warmup_steps": WARMUP},
        lambda step: min(1.0, rising(step)) * 10 ** (-step / TOTAL),
    ),
    ("exponential", {"lr_final_ratio": 0.1}, lambda step: 10 ** (-step / TOTAL)),
    ("exponential", {"lr_final_ratio": 1e-3}, lambda step: math.exp(math.log(1e-3) * step / TOTAL)),
]


def factor(name: str, total: int = TOTAL, **options: Any) -> Callable[[int], float]:
    return learning_rate_factor(TrainingArguments(output_dir="", lr_scheduler=name, **options), total)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("name", "options", "formula"), SCHEDULES, ids=[f"{s[0]}-{n}" for n, s in enumerate(SCHEDULES)]
)
def test_schedule_is_this_function_of_the_step(
    name: str, options: dict[str, Any], formula: Callable[[int], float]
) -> None:
    ours = factor(name, **options)
    expected = [formula(step) for step in range(TOTAL)]
    assert [ours(step) for step in range(TOTAL)] == pytest.approx(expected, abs=2e-7)
    assert [ours(step) for step in reversed(range(TOTAL))] == pytest.approx(expected[::-1], abs=2e-7)  # no memory


def test_every_schedule_is_tested() -> None:
    choices = TrainingArguments.__dataclass_fields__["lr_scheduler"].type.__args__
    assert {name for name, *_ in SCHEDULES} == set(choices)


@pytest.mark.parametrize("start", [-1, TOTAL, TOTAL + 1])
def test_decay_that_never_begins_is_refused(start: int) -> None:
    with pytest.raises(UserError, match="--lr_decay_start_step"):
        factor("constant_then_linear", lr_decay_start_step=start)


@pytest.mark.parametrize("ratio", [0.0, -1.0, float("nan")])
def test_final_ratio_must_be_positive(ratio: float) -> None:
    with pytest.raises(UserError, match="--lr_final_ratio"):
        factor("exponential", lr_final_ratio=ratio)
