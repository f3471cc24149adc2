"""`--fast`: what is measured changes nothing, what is chosen is kept; averages in the host's memory."""

from __future__ import annotations

import copy
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch

from hf_genmodels.data import TrainingBatches
from hf_genmodels.training.arguments import TrainingArguments
from hf_genmodels.training.checks import check_machine
from hf_genmodels.training.fast import AS_IS, WAYS, choose, has_bf16, time_ways
from hf_genmodels.training.train_vae import main
from tests.testing_utils.adversaries import Adversaries, make_loop
from tests.testing_utils.family_runs import build, load
from tests.testing_utils.forging import forge, put
from tests.testing_utils.refusals import refused
from tests.testing_utils.training import assert_same_run, history, interrupted, largest_difference, options, weights

FAST: dict[str, Any] = {"fast": True, "norm": "batch", "use_ema": True, "max_train_steps": 6, "checkpointing_steps": 2}


@pytest.fixture(scope="module")
def fast(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("fast") / "run"
    main(options(folder, **FAST))
    return folder


@pytest.mark.parametrize("way", WAYS)
def test_a_resumed_run_goes_on_in_the_way_of_its_checkpoint(fast: Path, tmp_path: Path, way: str) -> None:
    run = interrupted(fast, 2, tmp_path / "run")
    forge(run / "checkpoint-2", "state.pt", put("way", value=way))
    main(options(run, **FAST, resume_from_checkpoint="latest"))
    resumed = interrupted(run, 4, tmp_path / "resumed")
    main(options(resumed, **FAST, resume_from_checkpoint="latest"))
    assert_same_run(run, resumed, 6)
    assert torch.load(resumed / "checkpoint-6" / "state.pt", weights_only=True)["way"] == way
    assert {value.dtype for value in weights(run / "vae").values()} == {torch.float32, torch.int64}

    plain = interrupted(fast, 2, tmp_path / "plain")
    forge(plain / "checkpoint-2", "state.pt", put("way", value=AS_IS))
    main(options(plain, **FAST, resume_from_checkpoint="latest"))
    difference = largest_difference(plain / "vae", run / "vae")
    print(difference)
    assert difference <= (0.05 if WAYS[way].bf16 else 1e-4)
    assert (difference > 1e-4) == WAYS[way].bf16
    assert history(plain)[1]["loss"] == pytest.approx(history(run)[1]["loss"], rel=0.01)


def test_a_way_that_no_run_has_chosen(fast: Path, tmp_path: Path) -> None:
    run = interrupted(fast, 2, tmp_path / "run")
    forge(run / "checkpoint-2", "state.pt", put("way", value="fp8"))
    with refused("'fp8' is no way of --fast"):
        main(options(run, **FAST, resume_from_checkpoint="latest"))


def test_what_gradients_of_gradients_are_computed_in(tmp_path: Path) -> None:
    objective = Adversaries()
    loop = make_loop(objective, tmp_path, fast=True)
    loop.prepare(None)
    loop.way = "channels-last with bf16"
    loop.learn()
    types = {phase: dtype for phase, *_, dtype in objective.seen}
    assert types == {"critic": torch.float32, "generator": torch.bfloat16, "lazy": torch.bfloat16}


@pytest.mark.parametrize("name", ["spectral", "ddpm", "cyclegan", "r1"])
def test_measuring_changes_nothing(name: str) -> None:
    data = load(name)
    objective = build(name, data.spec)
    batches = TrainingBatches(data.train, batch_size=4, accumulation=1, rank=0, world_size=1, seed=0, num_workers=0)
    batch = next(batches.start(0, None))
    before = copy.deepcopy(objective)
    state = torch.get_rng_state()
    seconds = time_ways(objective, [batch], TrainingArguments("unused"), 0)
    assert list(seconds) == [name for name, way in WAYS.items() if has_bf16() or not way.bf16]
    assert min(seconds.values()) > 0
    assert torch.equal(torch.get_rng_state(), state)
    for name, network in objective.networks.items():
        torch.testing.assert_close(network.state_dict(), before.networks[name].state_dict(), rtol=0, atol=0)
        assert all(parameter.grad is None and parameter.requires_grad for parameter in network.parameters())
    torch.testing.assert_close(objective.state_dict(), before.state_dict(), rtol=0, atol=0)


@pytest.mark.parametrize(
    ("seconds", "expected"),
    [((1.0, 0.9, 0.5), 2), ((1.0, 0.8, 0.9), 1), ((1.0, 0.96, 0.97), 0), ((1.0, 1.2), 0), ((1.0, 0.7), 1)],
)
def test_the_quickest_way_must_be_worth_it(seconds: tuple[float, ...], expected: int) -> None:
    assert choose(dict(zip(WAYS, seconds, strict=False))) == list(WAYS)[expected]


def test_where_it_has_no_meaning(tmp_path: Path) -> None:
    with refused("--fast times networks that are not compiled; leave it or --compile out"):
        main(options(tmp_path / "run", fast=True, compile=True))
    loop = make_loop(Adversaries(), tmp_path, fast=True)
    machine = SimpleNamespace(mixed_precision="no", device=torch.device("cuda"), num_processes=1)
    with refused("--fast chooses how a CPU computes; on a GPU give --mixed_precision bf16"):
        check_machine(loop.objective, loop.args, machine)  # type: ignore[arg-type]
    machine.device, machine.mixed_precision, loop.args.mixed_precision = torch.device("cpu"), "bf16", "bf16"
    with refused("--fast chooses the precision; leave it or --mixed_precision bf16 out"):
        check_machine(loop.objective, loop.args, machine)  # type: ignore[arg-type]
    assert not (tmp_path / "run").exists()


def test_it_says_what_it_measured(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    main(options(tmp_path / "run", **{**FAST, "max_train_steps": 1, "gradient_accumulation_steps": 2}))
    (line,) = [each for each in capsys.readouterr().out.splitlines() if each.startswith("--fast: ")]
    assert line.count(" s ") == 2 + has_bf16()
    assert any(line.endswith(f"; training goes on {way}") for way in WAYS)


def test_averages_in_the_hosts_memory(tmp_path: Path) -> None:
    for name, changes in (("beside", {}), ("host", {"ema_device": "cpu"})):
        main(options(tmp_path / name, use_ema=True, max_train_steps=4, checkpointing_steps=2, **changes))
    assert_same_run(tmp_path / "beside", tmp_path / "host", 4)
