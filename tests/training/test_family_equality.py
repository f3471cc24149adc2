"""Two processes with half a batch each train the objectives as one with the whole batch does."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from hf_genmodels.families import FAMILIES
from tests.testing_utils.family_runs import RUNS, SHARED_STATES, STEPS, build, load, main
from tests.testing_utils.training import largest_difference, launch_two_of, networks_of, same_bytes

# Attention does not depend on the bias of its keys: the gradient is rounding, of which Adam makes a step.
WITHOUT_GRADIENT = "to_k.bias"


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """All cases by one process in `one/` and by two in `two/`."""
    from accelerate.state import AcceleratorState

    folder = tmp_path_factory.mktemp("runs")
    done = launch_two_of(["-m", "tests.testing_utils.family_runs", str(folder / "two")])
    assert done.returncode == 0, done.stderr
    AcceleratorState._reset_state(reset_partial_state=True)
    main(folder / "one")
    return folder


@pytest.mark.parametrize("name", RUNS)
def test_two_processes_equal_one(runs: Path, name: str) -> None:
    one, two = runs / "one" / name, runs / "two" / name
    networks = sorted(path.name for path in one.iterdir() if path.is_dir())
    differences = {name: largest_difference(one / name, two / name, but=WITHOUT_GRADIENT) for name in networks}
    print(differences)
    assert max(differences.values()) <= 1e-5

    ours, theirs = (torch.load(folder / "losses.pt") for folder in (one, two))
    assert ours.keys() == theirs.keys()
    family, case = RUNS[name]
    for figure in ours.keys() - case.of_one_process:
        points = dict(ours[figure])
        assert list(points) == [5, STEPS] or FAMILIES[family].is_fitted
        assert dict(theirs[figure]) == pytest.approx(points, rel=1e-3, abs=1e-5), figure
    if not case.own_rows:
        states = [torch.load(folder / "state.pt") for folder in (one, two)]
        torch.testing.assert_close(*states, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("name", SHARED_STATES)
def test_shared_states_of_optimisers_change_nothing(runs: Path, name: str) -> None:
    """Not even when the run was interrupted; each process has saved its own moments, and each has some."""
    whole, shared, resumed = (runs / "two" / f"{name}{how}" for how in ("", " shared", " resumed"))
    networks = networks_of(shared / "checkpoint-10" / "networks")
    for network in networks:
        assert same_bytes(whole / network, shared / network)
        assert same_bytes(whole / network, resumed / network)
    ours, theirs = ([own_moments(folder, rank) for rank in (0, 1)] for folder in (shared, resumed))
    torch.testing.assert_close(ours, theirs, rtol=0, atol=0)
    objective = build(name, load(name).spec)
    numbers = [sum(each.numel() for each in moments) for moments in ours]
    used = [
        p
        for network in networks
        for n, p in objective.networks[str(network)].named_parameters()
        if "classifier" not in n
    ]
    assert sum(numbers) == sum(parameter.numel() for parameter in used)
    assert min(numbers) > 0.3 * sum(numbers)


def test_activations_computed_anew_change_nothing(runs: Path) -> None:
    for network in ("generator", "discriminator"):
        assert same_bytes(runs / "two" / "pix2pix" / network, runs / "two" / "pix2pix recomputed" / network)


def own_moments(run: Path, rank: int) -> list[torch.Tensor]:
    """The first moments that the optimisers of one process have saved, one for each parameter that was used."""
    states = torch.load(run / "checkpoint-10" / f"process-{rank}.pt")["optimizers"].values()
    return [each["exp_avg"] for state in states for each in state["state"].values() if each]


@pytest.mark.parametrize("name", RUNS)
def test_every_network_of_the_runs_moved(runs: Path, name: str, tmp_path: Path) -> None:
    objective = build(name, load(name).spec)
    trained = {trained for phase in objective.phases for trained in phase.trains}
    for network_name in trained or objective.networks:
        network = objective.networks[network_name]
        network.save_pretrained(str(tmp_path / network_name))
        assert largest_difference(tmp_path / network_name, runs / "one" / name / network_name) > 1e-3
