from __future__ import annotations

import itertools
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from accelerate import Accelerator
from diffusers import ModelMixin
from PIL import Image
from torch import Tensor

from hf_genmodels import VAE
from hf_genmodels.data import DataArguments, TrainingBatches, load_data
from hf_genmodels.data.sets import MapDataset
from hf_genmodels.families import get_family
from hf_genmodels.objectives.base import Batch, Noise, Phase
from hf_genmodels.objectives.vae import VAEObjective
from hf_genmodels.plots import line_chart
from hf_genmodels.training.arguments import TrainingArguments
from hf_genmodels.training.health import (
    SampleWatch,
    collapse_warning,
    is_gradient_norm,
    lasting_warning,
    mean_pairwise_distance,
)
from hf_genmodels.training.loop import TrainingLoop
from hf_genmodels.training.outputs import save_results
from tests.testing_utils.adversaries import Adversaries, make_loop

# distances --------------------------------------------------------------------------------------------------------


def slow_distance(samples: Tensor) -> float:
    pairs = list(itertools.combinations(samples.double().flatten(1).tolist(), 2))
    return sum(sum((a - b) ** 2 for a, b in zip(*pair, strict=True)) ** 0.5 for pair in pairs) / len(pairs)


@pytest.mark.parametrize("shape", [(2, 1), (5, 2), (7, 3, 4, 4)])
def test_mean_pairwise_distance(shape: tuple[int, ...]) -> None:
    samples = torch.randn(shape, generator=torch.Generator().manual_seed(0)) + 1000
    assert mean_pairwise_distance(samples) == pytest.approx(slow_distance(samples), rel=1e-5)
    assert mean_pairwise_distance(samples.bfloat16()) == pytest.approx(slow_distance(samples.bfloat16()), rel=1e-5)


def test_distances_of_equal_samples_and_of_one() -> None:
    assert mean_pairwise_distance(torch.ones(4, 3)) == 0
    assert np.isnan(mean_pairwise_distance(torch.ones(1, 3)))


# the rule ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("ratios", "at"),
    [
        ([0.9, 1.0, 1.0, 0.2, 0.1, 0.05, 0.02, 1.0, 1.0, 1.0], 6),  # fell; what comes later changes nothing
        ([0.19, 0.19, 0.18, 0.2, 0.19, 0.18, 0.17, 0.17, 0.18, 0.19], 6),  # never rose
        ([0.0] * 10, 5),
        ([0.1, 0.15, 0.24, 0.1, 0.26, 0.2, 0.1, 0.24, 0.24, 0.2], 10),  # interrupted, then rising
        ([0.0, 0.01, 0.03, 0.06, 0.09, 0.12, 0.15, 0.18, 0.2, 0.24], None),  # low, but rising
        ([1.0, 0.1, 0.64, 0.28, 0.1, 0.1, 0.7, 0.1, 0.1, 0.5], None),  # never three in a row
        ([0.2, 0.1, 0.05, 0.3, 0.9, 1.0, 1.0, 1.0, 1.0, 1.0], None),  # low at the beginning only
        ([0.25] * 10, None),
        ([], None),
    ],
    ids=str,
)
def test_when_a_generator_has_collapsed(ratios: list[float], at: int | None) -> None:
    history = {"loss": [(100, 0.0)] * 9, "sample_diversity": [(100 * i, r) for i, r in enumerate(ratios, start=1)]}
    warning = collapse_warning(history, 1000)
    if at is None:
        assert warning is None
    else:
        assert warning is not None
        said = (
            f"at step {100 * at} the generator has collapsed: its samples are {ratios[at - 1]:.2g} times as far apart"
        )
        assert warning.startswith(said)
        assert "\n" not in warning


@pytest.mark.parametrize(
    ("ratios", "lasts"),
    [
        ([0.07, 0.16, 0.23, 0.13, 0.15, 0.20, 0.24, 0.27, 0.38, 0.45], False),
        ([0.9, 0.9, 0.9, 0.1, 0.1, 0.05, 0.3, 0.3, 0.3, 0.24], True),
        ([0.9, 0.9, 0.9, 0.1, 0.1, 0.05, 0.1, 0.15, 0.2, 0.25], False),
        ([0.9, 0.9, 0.9, 0.9, 0.9, 0.9, 0.9, 0.9, 0.9, 0.1], False),
    ],
    ids=str,
)
def test_a_generator_that_recovered_has_no_lasting_warning(ratios: list[float], lasts: bool) -> None:
    history = {"sample_diversity": [(100 * i, r) for i, r in enumerate(ratios, start=1)]}
    assert lasting_warning(history, 1000) == (collapse_warning(history, 1000) if lasts else None)
    assert (collapse_warning(history, 1000) is None) == (ratios[-2] == 0.9)


def test_a_run_that_watches_no_samples_has_no_warning() -> None:
    history = {"loss": [(step, 0.0) for step in range(9)]}
    assert collapse_warning(history, 9) is lasting_warning(history, 9) is None


# gradient norms ---------------------------------------------------------------------------------------------------


class Norms(Adversaries):
    """Keeps what the gradients' norms are after each update: (phase, step) -> the last one."""

    def __init__(self, **options: Any) -> None:
        super().__init__(**options)
        self.norms: dict[tuple[str, int], float] = {}

    def after_update(self, phase: Phase, networks: dict[str, ModelMixin], noise: Noise, gather: Any) -> None:
        gradients = torch.cat([p.grad.flatten() for p in networks[phase.trains[0]].parameters()])
        self.norms[phase.name, self.step] = float(gradients.double().norm())


def norms_in(loop: TrainingLoop) -> dict[str, list[tuple[int, float]]]:
    return {name: points for name, points in loop.history.items() if is_gradient_norm(name)}


def test_gradient_norms_of_the_steps_that_are_logged(tmp_path: Path) -> None:
    objective = Norms(every=3)
    loop = make_loop(objective, tmp_path, max_train_steps=7, log_steps=3, checkpointing_steps=4)
    results = loop.run(None)
    # log -> the step it is of, one before; of a lazy phase the last step before the log in which it ran
    every = {3: 2, 4: 3, 6: 5, 7: 6}
    logged = {"critic": every, "generator": every, "lazy": {3: 0, 4: 3, 7: 6}}
    networks = {"critic": "critic", "generator": "generator", "lazy": "critic"}
    expected = {
        f"{phase}/gradient_norm_{networks[phase]}": [
            (log, pytest.approx(objective.norms[phase, step], rel=1e-5)) for log, step in steps.items()
        ]
        for phase, steps in logged.items()
    }
    assert norms_in(loop) == expected
    assert len({value for points in norms_in(loop).values() for _, value in points}) == 11
    assert not any(map(is_gradient_norm, results["train"]))


def test_gradient_norms_are_those_before_clipping(tmp_path: Path) -> None:
    histories = []
    for limit in (None, 1e-3):
        torch.manual_seed(0)
        loop = make_loop(Adversaries(critic_updates=1), tmp_path / str(limit), max_grad_norm=limit, max_train_steps=1)
        loop.run(None)
        histories.append({name: points[0][1] for name, points in norms_in(loop).items() if name[:4] != "lazy"})
    # what the critic learns from the clipped gradient differs a little, and with it the generator's gradient
    assert histories[0]["critic/gradient_norm_critic"] > 1e-2
    assert histories[1] == pytest.approx(histories[0], rel=1e-3)


def test_gradient_norms_of_a_family_with_one_phase_and_accumulated_gradients(tmp_path: Path) -> None:
    objective = Norms()
    objective.phases = (Phase("generator", ("generator",)),)
    loop = make_loop(objective, tmp_path, gradient_accumulation_steps=2)
    loop.run(None)
    points = [(step, pytest.approx(objective.norms["generator", step - 1], rel=1e-5)) for step in (2, 4)]
    assert norms_in(loop) == {"gradient_norm_generator": points}


def test_nothing_is_measured_at_other_steps(tmp_path: Path) -> None:
    class Watching(Adversaries):
        measured: list[tuple[int, str, set[str]]]

        def after_update(self, phase: Phase, networks: dict[str, ModelMixin], noise: Noise, gather: Any) -> None:
            self.measured.append((self.step, phase.name, {name.split("/")[0] for name in loop.gradient_norms}))

    objective = Watching(every=9)
    objective.measured = []
    loop = make_loop(objective, tmp_path, max_grad_norm=1.0)
    loop.run(None)
    of_step = {step: [norms for at, _, norms in objective.measured if at == step] for step in range(4)}
    # the lazy phase runs in the first step alone, and is told of in the log after the second
    assert of_step[0] == [set()] * 6 + [{"lazy"}]
    assert of_step[1][-1] == {"lazy", "critic", "generator"}
    assert of_step[2] == [set()] * 6
    assert of_step[3][-1] == {"critic", "generator"}


def test_a_gradient_norm_that_is_not_finite_is_left_out(tmp_path: Path) -> None:
    class Steep(Adversaries):
        def losses(
            self, phase: Phase, networks: dict[str, Any], batch: Batch, noise: Noise, cache: dict[str, Any]
        ) -> dict[str, Tensor]:
            losses = super().losses(phase, networks, batch, noise, cache)
            # each derivative is finite, the sum of their squares is not
            return losses | {"loss": losses["loss"] * 1e30} if phase.name == "generator" else losses

    loop = make_loop(Steep(), tmp_path)
    loop.run(None)
    assert loop.step == 4
    assert norms_in(loop).keys() == {"critic/gradient_norm_critic", "lazy/gradient_norm_critic"}


# samples ----------------------------------------------------------------------------------------------------------


class Watched(Adversaries):
    """Lets its samples be watched, and looks at how that is done."""

    def watched_samples(self, networks: dict[str, ModelMixin], count: int, generator: torch.Generator) -> Tensor:
        assert not torch.is_grad_enabled()
        assert not any(network.training for network in networks.values())
        assert networks == self.networks  # not the averages
        latents = torch.randn(count, 2, generator=generator)
        self.latents = latents
        return networks["generator"](latents)


def test_how_far_samples_lie_apart(tmp_path: Path) -> None:
    objective = Watched(batch_norm=True, dropout=0.5)
    loop = make_loop(objective, tmp_path, use_ema=True, max_train_steps=5)
    results = loop.run(None)
    points = loop.history["sample_diversity"]
    assert [step for step, _ in points] == [2, 4, 5]
    assert results["train"]["sample_diversity"] == points[-1][1]
    assert all(network.training for network in objective.networks.values())
    assert len(objective.latents) == 64
    assert torch.equal(objective.latents, torch.randn(64, 2, generator=torch.Generator().manual_seed(loop.args.seed)))
    order = TrainingBatches(loop.data.train, batch_size=64, seed=loop.args.seed).start(0)
    examples = next(order)["image"]
    objective.networks["generator"].eval()
    with torch.no_grad():
        samples = objective.networks["generator"](objective.latents)
    assert points[-1][1] == pytest.approx(slow_distance(samples) / slow_distance(examples), rel=1e-5)


@pytest.mark.parametrize("streaming", [False, True])
def test_the_examples_compared_with_are_of_all_classes(streaming: bool, tmp_path: Path) -> None:
    """Images of a folder that is sorted by class: 100 black ones, then 100 white ones."""
    for name, level in (("black", 0), ("white", 255)):
        (tmp_path / name).mkdir()
        for number in range(100):
            Image.fromarray(np.full((8, 8), level, np.uint8)).save(tmp_path / name / f"{number:03}.png")
    data = load_data(DataArguments(train_data_dir=str(tmp_path), resolution=8, streaming=streaming), 0)
    assert isinstance(data.train, MapDataset) != streaming
    # 0 within a class and 16 between the two, which about every second pair is of
    assert 7 < SampleWatch(Adversaries(), data.train, seed=3).data_distance < 9


def test_watching_changes_nothing(tmp_path: Path) -> None:
    weights = []
    for kind in (Adversaries, Watched):
        torch.manual_seed(0)
        objective = kind(batch_norm=True, dropout=0.5)
        make_loop(objective, tmp_path / kind.__name__).run(None)
        weights.append([value for network in objective.networks.values() for value in network.state_dict().values()])
    assert all(torch.equal(ours, theirs) for ours, theirs in zip(*weights, strict=True))


class Collapsed(VAEObjective):
    """Its samples are all the same from the fifth log on, until it recovers."""

    asked = 0
    recovers_at = 99

    def watched_samples(self, networks: dict[str, ModelMixin], count: int, generator: torch.Generator) -> Tensor:
        self.asked += 1
        return torch.randn(count, 2, generator=generator) * (not 4 < self.asked < self.recovers_at)


def finished_run(
    output_dir: Path, resume_from: Path | None = None, asked: int = 0, recovers_at: int = 99
) -> TrainingLoop:
    data = load_data(DataArguments(dataset_name="builtin:toy2d", max_train_samples=64), 0)
    objective = Collapsed(VAE(2, None, latent_dim=2, architecture="mlp", hidden_dims=(4,)), data.spec)
    objective.asked, objective.recovers_at = asked, recovers_at
    args = TrainingArguments(
        output_dir=str(output_dir), max_train_steps=10, log_steps=1, train_batch_size=8, checkpointing_steps=8
    )
    output_dir.mkdir()
    loop = TrainingLoop(objective, data, args, Accelerator())
    save_results(loop, get_family("vae"), loop.run(resume_from))
    return loop


def test_a_collapse_is_told_once_and_recorded(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    loop = finished_run(tmp_path / "run")
    warning = collapse_warning(loop.history, 10)
    assert warning is not None and warning.startswith("at step 7 the generator has collapsed: its samples are 0 times")
    assert [line for line in capsys.readouterr().out.splitlines() if "collapsed" in line] == [f"warning: {warning}"]
    metrics = json.loads((tmp_path / "run" / "metrics.json").read_text())
    assert metrics["warnings"] == [warning]
    assert f"Training gave a warning: {warning}." in (tmp_path / "run" / "README.md").read_text()

    finished_run(tmp_path / "resumed", tmp_path / "run" / "checkpoint-8", asked=8)
    assert capsys.readouterr().out.count(f"warning: {warning}") == 1
    assert json.loads((tmp_path / "resumed" / "metrics.json").read_text())["warnings"] == [warning]


def test_a_collapse_is_forgotten_where_the_run_recovered(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    loop = finished_run(tmp_path / "run", recovers_at=10)
    assert capsys.readouterr().out.count(f"warning: {collapse_warning(loop.history, 10)}") == 1
    assert "warnings" not in json.loads((tmp_path / "run" / "metrics.json").read_text())
    assert "collapsed" not in (tmp_path / "run" / "README.md").read_text()


def test_curves_without_gradient_norms(tmp_path: Path) -> None:
    loop = finished_run(tmp_path / "run")
    curves = {f"train {name}": loop.history[name] for name in ("loss", "reconstruction_nll", "kl", "sample_diversity")}
    curves |= {name.replace("/", " "): points for name, points in loop.history.items() if name[:5] == "valid"}
    assert len(loop.history) == len(curves) + 2  # a gradient norm, and `data_wait`
    expected = line_chart(curves, title=get_family("vae").title)
    with Image.open(tmp_path / "run" / "losses.png") as picture:
        assert np.array_equal(np.asarray(picture), np.asarray(expected))


def test_a_healthy_run_has_no_warnings(finished: Path) -> None:
    metrics = json.loads((finished / "metrics.json").read_text())
    assert "warnings" not in metrics
    assert not any(map(is_gradient_norm, metrics["train"]))
    assert "warning" not in (finished / "README.md").read_text().lower()
