"""Two processes with half a batch each train the objectives as one with the whole batch does."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from hf_genmodels.families import FAMILIES
from tests.testing_utils.family_runs import RUNS, STEPS, build, load, main
from tests.testing_utils.training import largest_difference, launch_two_of

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


@pytest.mark.parametrize("name", RUNS)
def test_every_network_of_the_runs_moved(runs: Path, name: str, tmp_path: Path) -> None:
    objective = build(name, load(name).spec)
    trained = {trained for phase in objective.phases for trained in phase.trains}
    for network_name in trained or objective.networks:
        network = objective.networks[network_name]
        network.save_pretrained(str(tmp_path / network_name))
        assert largest_difference(tmp_path / network_name, runs / "one" / name / network_name) > 1e-3
