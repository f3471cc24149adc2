"""Two processes without a shared disk, as on two machines."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from tests.testing_utils.fresh import run_python
from tests.testing_utils.training import launch_two_of, same_bytes


def run_both(*words: str) -> list[subprocess.CompletedProcess[str]]:
    """Run a module of `testing_utils` in two processes that are started by hand."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    shared = {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port), "GLOO_SOCKET_IFNAME": "lo"}
    shared |= {"ACCELERATE_USE_CPU": "true"}
    with ThreadPoolExecutor(2) as pool:
        started = [
            pool.submit(
                run_python,
                *("-m", *words),
                environment={**os.environ, **shared, "RANK": str(rank)},
                timeout=60,
            )
            for rank in range(2)
        ]
    return [done.result() for done in started]


@pytest.fixture(scope="module")
def machines(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    """The folders of both after `two_machines.main`."""
    folder = tmp_path_factory.mktemp("machines")
    for done in run_both("tests.testing_utils.two_machines", str(folder)):
        assert done.returncode == 0, done.stderr
    return [folder / f"machine-{rank}" for rank in range(2)]


@pytest.fixture
def said(machines: list[Path]) -> list[dict[str, Any]]:
    return [json.loads((machine / "said.json").read_text()) for machine in machines]


def test_both_stop_after_the_same_step_when_one_is_told(machines: list[Path], said: list[dict[str, Any]]) -> None:
    # told in its sixth step: they exchange it behind the seventh, and stop there
    assert [each["stopped"] for each in said] == [["checkpoint-5", "checkpoint-7"]] * 2


def test_each_disk_has_whole_checkpoints_of_its_own(machines: list[Path], said: list[dict[str, Any]]) -> None:
    for rank, each in enumerate(said):
        files = [name for name in each["files"] if name.startswith("checkpoint-10/")]
        assert {f"checkpoint-10/{name}" for name in ("checkpoint.json", "state.pt", f"process-{rank}.pt")} <= set(
            files
        )
        assert f"checkpoint-10/process-{1 - rank}.pt" not in files
        assert not any(name.startswith(".") for name in each["files"])
    identifiers = [
        json.loads((machine / "resumed" / "checkpoint-10" / "checkpoint.json").read_text())["id"]
        for machine in machines
    ]
    assert identifiers[0] == identifiers[1]
    main_only = {name for name in said[0]["files"] if "checkpoint" not in name}
    assert {"metrics.json", "training_args.json"} <= main_only
    assert [name for name in said[1]["files"] if "checkpoint" not in name] == ["training_args.json"]


def test_the_stopped_run_ends_as_the_whole_one(machines: list[Path]) -> None:
    for machine in machines:
        for part in ("networks/generator", "networks/critic", "ema/generator"):
            whole, resumed, again = (
                machine / run / "checkpoint-10" / part for run in ("whole", "resumed", "run") if machine.is_dir()
            )
            assert same_bytes(whole, resumed)
            assert same_bytes(machines[0] / "whole" / "checkpoint-10" / part, whole)
            if machine is machines[0]:
                assert same_bytes(whole, again)


def test_files_are_hashed_by_one_process_on_each_disk(machines: list[Path], said: list[dict[str, Any]]) -> None:
    assert [each["sees first"] for each in said] == [[True, True], [True, False]]
    for each in said:
        assert each["damaged"].startswith(
            f"{machines[1] / 'run' / 'checkpoint-10' / 'state.pt'} is damaged or missing; "
        )


def test_dropout_leaves_out_other_units_in_each_process(said: list[dict[str, Any]]) -> None:
    for equal, share in (each["masks"] for each in said):
        assert not equal
        assert 0.05 < share < 0.15


def test_what_they_do_not_have_together_is_refused_by_both(machines: list[Path], said: list[dict[str, Any]]) -> None:
    for machine, each in zip(machines, said, strict=True):
        assert each["another"].startswith(
            f"{machine / 'run' / 'checkpoint-5'} is another one for process 1 (step 5) than for process 0 (step 5): "
        )
        assert each["none"].startswith("process 0 has checkpoint-5, checkpoint-7, checkpoint-10 in ")
        assert "of which process 1 has none" in each["none"]
        assert each["options"].startswith("--learning_rate is 1.01 in process 1 and 0.01 in process 0: ")
        assert each["data"].startswith("--max_train_samples is 65 in process 1 and 64 in process 0: ")
        assert "another run is at work in --output_dir" in each["occupied"]
        assert "\n" not in "".join(str(value) for value in each.values())


def assert_ended_with_a_line(errors: str) -> None:
    (said,) = [line for line in errors.splitlines() if "error" in line.lower() and not line.startswith("training:")]
    assert said.startswith("error: another process of the run has ended or does not answer (")
    assert "Traceback" not in errors


@pytest.mark.parametrize(
    ("victim", "moment", "left"),
    [(1, "saving 9", ["checkpoint-5"]), (0, "step 7", ["checkpoint-5"])],
)
def test_when_one_is_killed_the_other_ends_and_leaves_no_half_checkpoint(
    tmp_path: Path, victim: int, moment: str, left: list[str]
) -> None:
    done = run_both("tests.testing_utils.lost_process", str(tmp_path), str(victim), moment)
    assert done[victim].returncode == -signal.SIGKILL
    assert done[1 - victim].returncode == 1
    assert_ended_with_a_line(done[1 - victim].stderr)
    for rank in range(2):
        assert [path.name for path in (tmp_path / f"machine-{rank}" / "run").glob("checkpoint-*")] == left


@pytest.mark.slow
def test_a_launcher_ends_when_one_is_killed(tmp_path: Path) -> None:
    done = launch_two_of(["-m", "tests.testing_utils.lost_process", str(tmp_path), "1", "step 7"])
    assert done.returncode == 1
    assert "Signal 9 (SIGKILL)" in done.stderr  # it tells of that itself, and may end the other before that can
    assert "[rank0]" not in done.stderr
    assert [path.name for path in (tmp_path / "machine-0" / "run").glob("checkpoint-*")] == ["checkpoint-5"]
