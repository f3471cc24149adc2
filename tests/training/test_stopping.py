"""Runs that SIGINT or SIGTERM ends early go on bit for bit."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from PIL import Image

from hf_genmodels.training.entry import script
from hf_genmodels.training.stopping import Stopped
from tests.families import CASES
from tests.testing_utils.told import trained
from tests.testing_utils.training import (
    DEADLINE_SECONDS,
    ROOT,
    assert_same_run,
    dice,
    options,
    run,
    still_running,
    write_pictures,
)

SIGNALS = (signal.SIGINT, signal.SIGTERM)


@pytest.fixture(autouse=True)
def others() -> Iterator[list[int]]:
    """What reached the handler that a program has of its own, which must be in force again after a run."""
    reached: list[int] = []

    def handler(number: int, _: object) -> None:
        reached.append(number)
        if number == signal.SIGINT:
            raise KeyboardInterrupt

    before = {number: signal.signal(number, handler) for number in SIGNALS}
    yield reached
    assert all(signal.getsignal(number) is handler for number in SIGNALS)
    for number, former in before.items():
        signal.signal(number, former)


def checkpoints(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.glob("*checkpoint*"))


@pytest.mark.parametrize("number", SIGNALS)
@pytest.mark.parametrize(
    ("moment", "saved"),
    [
        ("step 2", ["checkpoint-3"]),  # between two logs
        ("step 4", ["checkpoint-5"]),
        ("saving 4", ["checkpoint-5"]),
        ("step 9", ["checkpoint-10", "checkpoint-5"]),
        ("saving 9", ["checkpoint-10", "checkpoint-5"]),
    ],
)
def test_the_step_is_finished_saved_and_gone_on_from_bit_for_bit(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], others: list[int], number: int, moment: str, saved: list[str]
) -> None:
    trained(tmp_path / "whole")
    capsys.readouterr()
    with pytest.raises(KeyboardInterrupt):
        trained(tmp_path / "run", moment, number)
    assert others == [number]  # the program hears of it after the run
    assert checkpoints(tmp_path / "run") == saved
    assert not (tmp_path / "run" / "metrics.json").exists()
    last = int(saved[0].partition("-")[2])
    said = capsys.readouterr().out.splitlines()[-1]
    assert said == (
        f"stopped by {signal.Signals(number).name} after step {last}: the same command with --resume_from_checkpoint "
        f"latest goes on from {tmp_path / 'run' / saved[0]}"
    )
    trained(tmp_path / "run", resume_from_checkpoint="latest")
    assert_same_run(tmp_path / "whole", tmp_path / "run", 10)


def test_a_signal_while_the_end_is_saved_lets_it_end(tmp_path: Path, others: list[int]) -> None:
    trained(tmp_path / "whole")
    with pytest.raises(KeyboardInterrupt):
        trained(tmp_path / "run", "held-out data", signal.SIGTERM)
    assert others == [signal.SIGTERM]
    assert_same_run(tmp_path / "whole", tmp_path / "run", 10)


def test_without_a_checkpoint_if_it_is_not_wanted(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for moment, said in (
        ("step 6", f"goes on from {tmp_path / 'step 6' / 'checkpoint-5'}"),
        ("step 2", "no checkpoint"),
    ):
        with pytest.raises(KeyboardInterrupt):
            trained(tmp_path / moment, moment, signal.SIGINT, checkpoint_on_stop=False)
        assert said in capsys.readouterr().out.splitlines()[-1]
    assert checkpoints(tmp_path / "step 6") == ["checkpoint-5"]
    assert checkpoints(tmp_path / "step 2") == []


def test_a_second_signal_ends_at_once(tmp_path: Path, others: list[int], capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(KeyboardInterrupt) as error:
        trained(tmp_path / "run", "step 2", signal.SIGTERM, signal.SIGINT)
    assert not isinstance(error.value, Stopped)
    assert others == [signal.SIGINT]
    assert checkpoints(tmp_path / "run") == []
    assert "stopped" not in capsys.readouterr().out


def test_weights_that_are_not_finite_are_not_saved(tmp_path: Path) -> None:
    from hf_genmodels import UserError

    with pytest.raises(UserError, match="is not finite at step"):
        trained(tmp_path / "run", "step 2", signal.SIGTERM, learning_rate=1e30)
    assert checkpoints(tmp_path / "run") == []


def test_a_thread_trains_and_leaves_signals_alone(tmp_path: Path, others: list[int]) -> None:
    thread = threading.Thread(target=trained, args=(tmp_path / "run", "step 2", signal.SIGTERM))
    thread.start()
    thread.join()
    assert others == [signal.SIGTERM]
    assert checkpoints(tmp_path / "run") == ["checkpoint-10", "checkpoint-5"]


def test_an_ignored_signal_stays_ignored(tmp_path: Path) -> None:
    """As `nohup` and shells, for what runs in the background, have it."""
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        trained(tmp_path / "run", "step 2", signal.SIGINT)
    finally:
        signal.signal(signal.SIGINT, before)
    assert checkpoints(tmp_path / "run") == ["checkpoint-10", "checkpoint-5"]


@pytest.mark.parametrize(("error", "status"), [(Stopped(signal.SIGTERM), 143), (Stopped(signal.SIGINT), 130)])
def test_the_exit_status_of_a_script(error: BaseException, status: int) -> None:
    def main() -> None:
        raise error

    with pytest.raises(SystemExit) as end:
        script(main)
    assert end.value.code == status


def test_ctrl_c_while_libraries_are_imported() -> None:
    code = """
import runpy, sys
class Impatient:
    def find_spec(self, name, *_):
        if name == "torch":
            raise KeyboardInterrupt
sys.modules.pop("torch", None)
sys.meta_path.insert(0, Impatient())
runpy.run_module("hf_genmodels.training", run_name="__main__")
"""
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True)
    assert (done.returncode, done.stdout, done.stderr) == (130, "", "")


# processes -----------------------------------------------------------------------------------------------------------

COMMAND = [sys.executable, "-m", "hf_genmodels.cli", "train"]


def signalled(
    command: list[str], ready: Callable[[], bool], number: int, seconds: float
) -> tuple[int, str, str, bool]:
    """Start a run, send it and its workers a signal `seconds` after it is ready, as terminals and schedulers do.

    Returns:
        Its exit status, its words, and whether it was writing a checkpoint when it got the signal.
    """
    process = subprocess.Popen(
        command, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, start_new_session=True
    )
    try:
        deadline = time.monotonic() + DEADLINE_SECONDS
        while not ready():
            assert still_running(process, 0.01), process.stderr.read()  # type: ignore[union-attr]
            assert time.monotonic() < deadline, "no step was taken"
        ended = not still_running(process, seconds)
        output_dir = Path(command[command.index("--output_dir") + 1])
        saving = any(output_dir.glob(".partial-*"))
        os.killpg(process.pid, number)
        out, err = process.communicate(timeout=DEADLINE_SECONDS)
    finally:
        process.kill()
        process.communicate()
    return 0 if ended else process.returncode, out, err, saving


def test_the_command_passes_it_on(tmp_path: Path) -> None:
    pictures = write_pictures(tmp_path / "pictures")
    Image.new("L", (14, 8)).save(pictures / "wide.png")  # shapes that differ are decoded by workers
    changes = {"dataset_name": None, "train_data_dir": pictures, "cache_dir": tmp_path / "cache", "resolution": 8}
    changes |= {"max_train_steps": 100000, "train_batch_size": 8, "dataloader_num_workers": 1}
    arguments = options(tmp_path / "run", **changes)
    ready = lambda: any((tmp_path / "run").glob("checkpoint-*"))  # noqa: E731
    status, out, err, _ = signalled([*COMMAND, "vae", *arguments], ready, signal.SIGTERM, 0.1)
    assert status == 143
    assert "Traceback" not in err
    last = out.splitlines()[-1]
    assert last.startswith("stopped by SIGTERM after step ")
    checkpoint = Path(last.rpartition(" ")[2])
    assert json.loads((checkpoint / "checkpoint.json").read_text())["step"] == int(last.split()[5].rstrip(":"))


@pytest.mark.slow
@pytest.mark.timeout(1800)
@pytest.mark.parametrize("family", ["vae", "gan", "ddpm"])
def test_twenty_signals_at_random_moments(tmp_path: Path, family: str) -> None:
    """Sent to `hf-genmodels train`, in turn SIGTERM and SIGINT, each run resuming the one before."""
    words = CASES[family].options.split()
    steps = 900
    words += ["--dataset_name", "builtin:digits", "--max_train_samples", "64", "--train_batch_size", "8"]
    words += ["--max_train_steps", str(steps), "--checkpointing_steps", "3", "--checkpoints_total_limit", "2"]
    words += ["--log_steps", "50", "--num_threads", "1", "--eval_batch_size", "1000"]
    words += ["--use_ema", "true", "--resume_from_checkpoint", "latest"]
    done = run([*COMMAND, family, *words, "--output_dir", str(tmp_path / "whole")])
    assert done.returncode == 0, done.stderr
    killed = [*COMMAND, family, *words, "--output_dir", str(tmp_path / "killed")]
    random, saving = dice(family), 0
    for count in range(20):
        number = SIGNALS[count % 2]
        before = set(checkpoints(tmp_path / "killed"))
        ready = lambda before=before: bool(set(checkpoints(tmp_path / "killed")) - before)  # noqa: E731
        status, out, err, was_saving = signalled(killed, ready, number, random.uniform(0, 0.3))
        assert status == 128 + number, (count, err)
        assert "Traceback" not in err
        assert f"stopped by {signal.Signals(number).name}" in out
        saving += was_saving
    print(f"{family}: {saving} of 20 while a checkpoint was being written; last: {out.splitlines()[-1]}")
    done = run(killed)
    assert done.returncode == 0, done.stderr
    assert_same_run(tmp_path / "whole", tmp_path / "killed", steps)
