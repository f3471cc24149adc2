from __future__ import annotations

import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from hf_genmodels.errors import UserError
from hf_genmodels.families import FAMILIES
from hf_genmodels.training.arguments import TrainingArguments
from hf_genmodels.training.checks import schedule_warnings
from hf_genmodels.training.schedules import learning_rate_factor
from tests.testing_utils.adversaries import Adversaries, make_loop
from tests.testing_utils.objectives import VECTORS

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
    ("constant_then_linear", {}, lambda step: 1.0 if step < 20 else 1 - (step - 20) / 20),
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


# schedules of the losses ------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("family", "option", "value", "weight", "final"),
    [
        ("vae", "beta_warmup_steps", 4, "beta", 1.0),
        ("avae", "latent_warmup_steps", 2, "latent_weight", 1.0),
        ("tempered_gan", "lens_steps", 4, "adversarial_weight", 0.0),
    ],
)
def test_runs_that_end_before_the_losses_are_final(
    family: str, option: str, value: int, weight: str, final: float
) -> None:
    args = FAMILIES[family].arguments(architecture="mlp", hidden_dims=[4], latent_dim=2, **{option: value})
    objective = FAMILIES[family].build(args, VECTORS)
    weights = []
    for step in range(6):
        objective.before_step(step)
        weights.append(getattr(objective, weight))
    assert [w == pytest.approx(final, abs=1e-9) for w in weights] == [False] * 4 + [True] * 2
    assert schedule_warnings(objective, 5) == []
    (warning,) = schedule_warnings(objective, 4)
    assert warning == (
        f"the losses change until step 4, and the run has only 4 steps; lower --{option}, or train for longer"
    )


def test_a_family_without_schedule_or_with_none_asked_for() -> None:
    vae = FAMILIES["vae"]
    objective = vae.build(vae.arguments(architecture="mlp", hidden_dims=[4], latent_dim=2), VECTORS)
    assert schedule_warnings(objective, 1) == schedule_warnings(Adversaries(), 1) == []


@pytest.mark.parametrize(("steps", "warns"), [(4, True), (3, False)])
def test_the_loop_tells_of_a_schedule_that_is_too_long(
    steps: int, warns: bool, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    objective = Adversaries()
    objective.schedule = (("warmup_steps", steps), ("short_steps", 1))
    make_loop(objective, tmp_path, max_train_steps=4).run(None)
    assert capsys.readouterr().out.count("warning: the losses change") == warns
