from __future__ import annotations

import sys
import threading
from collections.abc import Callable
from pathlib import Path

import pytest

from hf_genmodels.errors import UserError
from hf_genmodels.training import checkpointing
from hf_genmodels.training.train_vae import main
from tests.testing_utils.adversaries import Adversaries, make_loop
from tests.testing_utils.refusals import refused
from tests.testing_utils.training import flip_a_bit, interrupted, options, run, same_bytes

WEIGHTS = "networks/vae/diffusion_pytorch_model.safetensors"
LIMITED = """
import resource, signal
from hf_genmodels.training.entry import script
from hf_genmodels.training import checkpointing
from hf_genmodels.training.train_vae import main
from tests.testing_utils.adversaries import Adversaries, make_loop
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
resource.setrlimit(resource.RLIMIT_FSIZE, (12000, 12000))
script(main)
"""


def truncate(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-100])


def empty(path: Path) -> None:
    path.write_bytes(b"")


def remove(path: Path) -> None:
    path.unlink()


def no_manifest(path: Path) -> None:
    path.write_text('{"run": {}}')


@pytest.mark.parametrize(
    ("name", "damage"),
    [
        (WEIGHTS, truncate),
        (WEIGHTS, flip_a_bit),
        (WEIGHTS, remove),
        ("networks/vae/config.json", empty),
        ("state.pt", truncate),
        ("state.pt", flip_a_bit),
        ("state.pt", remove),
        ("process-0.pt", truncate),
        ("checkpoint.json", truncate),
        ("checkpoint.json", empty),
        ("checkpoint.json", remove),
        ("checkpoint.json", no_manifest),
    ],
)
@pytest.mark.parametrize("resume_from", ["latest", "checkpoint-10"])
def test_a_damaged_checkpoint_is_named_and_the_one_before_it_offered(
    finished: Path, tmp_path: Path, name: str, damage: Callable[[Path], None], resume_from: str
) -> None:
    output_dir = tmp_path / "run"
    for step in (5, 10):
        interrupted(finished, step, output_dir)
    damage(output_dir / "checkpoint-10" / name)
    with refused() as error:
        main(options(output_dir, resume_from_checkpoint=resume_from))
    assert str(output_dir / "checkpoint-10" / name) in str(error.value)
    assert f"--resume_from_checkpoint {output_dir / 'checkpoint-5'}" in str(error.value)
    assert sorted(path.name for path in output_dir.iterdir()) == ["checkpoint-10", "checkpoint-5"]


def test_the_offered_checkpoint_is_the_way_out(finished: Path, tmp_path: Path) -> None:
    output_dir = tmp_path / "run"
    for step in (5, 10):
        interrupted(finished, step, output_dir)
    truncate(output_dir / "checkpoint-10" / "state.pt")
    main(options(output_dir, resume_from_checkpoint="checkpoint-5"))
    assert same_bytes(finished / "vae", output_dir / "vae")
    main(options(output_dir, resume_from_checkpoint="checkpoint-10"))  # written anew on the way


def test_a_damaged_first_checkpoint(finished: Path, tmp_path: Path) -> None:
    output_dir = interrupted(finished, 5, tmp_path / "run")
    truncate(output_dir / "checkpoint-5" / "state.pt")
    with pytest.raises(UserError, match="there is no earlier checkpoint"):
        main(options(output_dir, resume_from_checkpoint="latest"))


@pytest.mark.skipif(sys.platform == "win32", reason="limits the size of files as Unix does")
def test_a_full_disk_leaves_the_earlier_checkpoint_whole(finished: Path, tmp_path: Path) -> None:
    output_dir = interrupted(finished, 5, tmp_path / "run")
    arguments = options(output_dir, resume_from_checkpoint="latest")
    done = run([sys.executable, "-c", LIMITED, *arguments])
    assert done.returncode == 1
    assert "Traceback" not in done.stderr
    said = [line for line in done.stderr.splitlines() if "error" in line.lower()]
    assert len(said) == 1
    assert said[0].startswith(f"error: cannot write checkpoint-10 in {output_dir}: ")
    assert "File too large" in said[0]  # the limit's own words; a full disk has others
    assert f"{output_dir / 'checkpoint-5'} is intact" in said[0]
    assert [path.name for path in output_dir.glob("checkpoint-*")] == ["checkpoint-5"]
    assert not (output_dir / "model_index.json").exists()
    main(arguments)
    assert same_bytes(finished / "vae", output_dir / "vae")


def unreadable(path: Path) -> str:
    raise OSError(5, "Input/output error", str(path))


@pytest.mark.parametrize("steps", [10, 12])
def test_files_that_cannot_be_read_again_make_no_checkpoint(
    finished: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, steps: int
) -> None:
    """They are hashed in a thread while the run goes on, which ends at the next log, or at its end."""
    output_dir = interrupted(finished, 5, tmp_path / "run")
    arguments = options(output_dir, resume_from_checkpoint="latest", max_train_steps=steps)
    hashed = checkpointing.sha256
    read = lambda path: unreadable(path) if ".partial" in str(path) else hashed(path)  # noqa: E731
    with monkeypatch.context() as broken:
        broken.setattr(checkpointing, "sha256", read)
        with refused(
            f"^cannot write checkpoint-10 in {output_dir}: .*error.*{output_dir / 'checkpoint-5'} is intact$"
        ):
            main(arguments)
    assert [path.name for path in output_dir.glob("checkpoint-*")] == ["checkpoint-5"]
    assert not (output_dir / "model_index.json").exists()
    main(options(output_dir, resume_from_checkpoint="latest"))
    assert same_bytes(finished / "vae", output_dir / "vae")


def test_a_checkpoint_is_named_when_it_has_been_hashed_and_old_ones_are_kept_until_then(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whatever the training does meanwhile: the hash of the second ends when the fourth step after it has begun."""
    seen: list[tuple[int, list[str]]] = []
    go_on, hashed = threading.Event(), checkpointing.sha256

    class Watching(Adversaries):
        def before_step(self, step: int) -> None:
            super().before_step(step)
            seen.append((step, sorted(path.name for path in tmp_path.glob("*checkpoint-*"))))
            if step == 7:
                go_on.set()

    def slow(path: Path) -> str:
        assert "checkpoint-4" not in str(path) or go_on.wait(60)
        return hashed(path)

    monkeypatch.setattr(checkpointing, "sha256", slow)
    changes = {"max_train_steps": 8, "log_steps": 100, "checkpointing_steps": 4, "checkpoints_total_limit": 1}
    make_loop(Watching(), tmp_path, **changes).run(None)
    assert seen[4:] == [(step, [".partial-checkpoint-4"]) for step in (4, 5, 6, 7)]
    assert [path.name for path in tmp_path.glob("*checkpoint-*")] == ["checkpoint-8"]


def test_an_output_folder_below_a_file(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("mine")
    for output_dir in (tmp_path / "file", tmp_path / "file" / "run"):
        with refused(f"--output_dir {output_dir} "):
            main(options(output_dir))
    assert (tmp_path / "file").read_text() == "mine"


@pytest.mark.skipif(sys.platform != "linux", reason="needs a folder that not even root may write to")
def test_an_output_folder_without_permission() -> None:
    with pytest.raises(UserError, match="--output_dir /sys/hf_genmodels/run cannot be written: "):
        main(options(Path("/sys/hf_genmodels/run")))


def test_a_folder_in_use_needs_a_word(finished: Path, tmp_path: Path) -> None:
    before = {path: path.stat().st_mtime_ns for path in finished.rglob("*")}
    with pytest.raises(UserError, match="is not empty; use --resume_from_checkpoint latest to go on"):
        main(options(finished))
    assert {path: path.stat().st_mtime_ns for path in finished.rglob("*")} == before
    (tmp_path / "empty").mkdir()
    main(options(tmp_path / "empty", max_train_steps=1))


def test_overwriting_removes_the_earlier_run_and_nothing_else(tmp_path: Path) -> None:
    from hf_genmodels.training.train_autoencoder import main as train_autoencoder

    output_dir = tmp_path / "run"
    train_autoencoder(options(output_dir, max_train_steps=4, checkpointing_steps=2, sample_steps=2, seed=1))
    mine = [output_dir / "notes.txt", output_dir / "paper" / "figure.png", output_dir / "checkpoint-best" / "x.pt"]
    for path in mine:
        path.parent.mkdir(exist_ok=True)
        path.write_text("mine")
    (output_dir / ".partial-checkpoint-6").mkdir()

    main(options(output_dir, overwrite_output_dir=True, max_train_steps=3, checkpointing_steps=3))
    main(options(tmp_path / "fresh", max_train_steps=3, checkpointing_steps=3))
    assert all(path.read_text() == "mine" for path in mine)
    ours = {path.relative_to(output_dir) for path in output_dir.rglob("*") if path.is_file() and path not in mine}
    assert ours == {path.relative_to(tmp_path / "fresh") for path in (tmp_path / "fresh").rglob("*") if path.is_file()}
    assert same_bytes(tmp_path / "fresh" / "vae", output_dir / "vae")


def test_overwriting_a_folder_that_no_run_of_ours_wrote(tmp_path: Path) -> None:
    mine = [tmp_path / name / "mine.txt" for name in ("samples", "logs", "checkpoint-3")]
    mine += [tmp_path / "config.json", tmp_path / "README.md"]
    for path in mine:
        path.parent.mkdir(exist_ok=True)
        path.write_text("mine")
    main(options(tmp_path, overwrite_output_dir=True, max_train_steps=1, checkpointing_steps=0))
    assert all(path.read_text() == "mine" for path in mine)
