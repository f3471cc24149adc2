"""Whose the output folder is, and what is removed from it or stands in its way."""

from __future__ import annotations

import os
import shutil
import signal
from pathlib import Path
from typing import Any

import pytest

from hf_genmodels.training.checkpointing import list_checkpoints
from hf_genmodels.training.entry import train_family
from hf_genmodels.training.output_folder import occupied
from hf_genmodels.training.train_vae import main
from tests.families import CASES
from tests.testing_utils.refusals import refused
from tests.testing_utils.training import interrupted, options, same_bytes, write_pictures


def content(folder: Path) -> dict[str, float]:
    return {str(path.relative_to(folder)): path.lstat().st_mtime_ns for path in sorted(folder.rglob("*"))}


# one run in a folder -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("changes", [{"resume_from_checkpoint": "latest"}, {"overwrite_output_dir": True}], ids=str)
def test_two_runs_in_one_folder(finished: Path, tmp_path: Path, changes: dict[str, Any]) -> None:
    run = interrupted(finished, 10, tmp_path / "run")
    with occupied(run):
        before = content(run)
        for words in (options(run), options(run, **changes)):
            with refused(f"another run is at work in --output_dir {run}: "):
                main(words)
        assert content(run) == before
    main(options(run, **changes))
    assert same_bytes(finished / "vae", run / "vae")
    assert not (run / ".lock").exists()


@pytest.mark.parametrize(("name", "reason"), [("n" * 300, "File name too long"), ("a\0b", "embedded null byte")])
def test_a_name_that_no_folder_can_have(tmp_path: Path, name: str, reason: str) -> None:
    with refused(f"^--output_dir .* cannot be looked at: {reason}"):
        main(options(tmp_path / name))
    assert list(tmp_path.iterdir()) == []


def test_two_runs_that_begin_in_one_new_folder(tmp_path: Path) -> None:
    with occupied(tmp_path / "run"), refused("another run is at work"):
        main(options(tmp_path / "run"))
    assert list((tmp_path / "run").iterdir()) == []


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs a process to kill")
def test_a_killed_run_leaves_its_folder_free(tmp_path: Path) -> None:
    begun, begin = os.pipe()
    child = os.fork()
    if child == 0:
        with occupied(tmp_path / "run"):
            os.write(begin, b"1")
            signal.pause()
    os.read(begun, 1)
    with refused("another run is at work"):
        main(options(tmp_path / "run"))
    os.kill(child, signal.SIGKILL)
    os.waitpid(child, 0)
    assert [path.name for path in (tmp_path / "run").iterdir()] == [".lock"]
    main(options(tmp_path / "run", max_train_steps=1))  # its lock does not make it a folder in use
    assert not (tmp_path / "run" / ".lock").exists()


# what is in the way --------------------------------------------------------------------------------------------------


def a_file(path: Path) -> None:
    path.write_text("mine")


def a_folder(path: Path) -> None:
    path.mkdir()
    (path / "mine").write_text("mine")


def a_link_to_nothing(path: Path) -> None:
    path.symlink_to("nowhere")


@pytest.mark.parametrize("changes", [{"resume_from_checkpoint": "latest"}, {"overwrite_output_dir": True}], ids=str)
@pytest.mark.parametrize(
    ("name", "put"),
    [
        ("vae", a_file),
        ("vae", a_link_to_nothing),
        ("samples", a_file),
        ("training_networks", a_file),
        ("metrics.json", a_folder),
        ("README.md", a_folder),
        ("losses.png", a_folder),
        ("model_index.json", a_folder),
    ],
)
def test_what_is_in_the_way_is_named_before_anything_is_removed(
    finished: Path, tmp_path: Path, changes: dict[str, Any], name: str, put: Any
) -> None:
    run = interrupted(finished, 10, tmp_path / "run")
    shutil.copy(finished / "training_args.json", run)
    put(run / name)
    before = content(run)
    with refused(f"{run / name} is no (file|folder), and the run has to write a (file|folder) there: move it away"):
        main(options(run, **changes))
    assert content(run) == before


def test_overwriting_removes_links_and_not_what_they_lead_to(tmp_path: Path) -> None:
    run, elsewhere = tmp_path / "run", tmp_path / "elsewhere"
    main(options(run, max_train_steps=2, checkpointing_steps=1))
    for name in ("samples", "checkpoint-1", "vae", "losses.png"):
        elsewhere.mkdir(exist_ok=True)
        (run / name).rename(elsewhere / name)
        (run / name).symlink_to(elsewhere / name)
    (run / "frozen").symlink_to("nowhere")
    before = content(elsewhere)
    main(options(run, max_train_steps=1, seed=1, overwrite_output_dir=True))
    assert content(elsewhere) == before
    assert not any(path.is_symlink() for path in run.iterdir())
    assert not same_bytes(run / "vae", elsewhere / "vae")


def test_only_links_to_the_oldest_checkpoints_are_removed(finished: Path, tmp_path: Path) -> None:
    run = interrupted(finished, 10, tmp_path / "run")
    (run / "checkpoint-5").symlink_to(interrupted(finished, 5, tmp_path / "elsewhere") / "checkpoint-5")
    main(options(run, resume_from_checkpoint="latest", checkpoints_total_limit=1))
    assert [path.name for path in list_checkpoints(run)] == ["checkpoint-20"]
    assert (tmp_path / "elsewhere" / "checkpoint-5" / "state.pt").is_file()


def test_overwriting_does_not_remove_what_the_run_begins_with(finished: Path, tmp_path: Path) -> None:
    run = tmp_path / "run"
    shutil.copytree(finished, run)
    pictures = write_pictures(run / "samples" / "pictures")
    before = content(run)
    start = {"latent_dim": None, "block_out_channels": None, "norm": None, "overwrite_output_dir": True}
    for name, path in (
        ("pretrained_model_name_or_path", run),
        ("pretrained_model_name_or_path", run / "checkpoint-5"),
        ("train_data_dir", pictures),
    ):
        changes = {**start, name: path, "cache_dir": tmp_path / "cache"}
        changes |= {"dataset_name": None} if name == "train_data_dir" else {}
        with refused(f"--overwrite_output_dir would remove {path}, which --{name} names: choose another --output_dir"):
            main(options(run, **changes))
        assert content(run) == before


# errors of the first batch and of a fit ------------------------------------------------------------------------------


def too_few_in_a_stream(folder: Path) -> tuple[str, list[str]]:
    pictures = write_pictures(folder / "pictures", count=6)
    words = ["--train_data_dir", str(pictures), "--streaming", "--cache_dir", str(folder / "cache")]
    return "vae", [*words, "--train_batch_size", "8", "--norm", "none", "--max_train_steps", "1"]


def too_few_in_a_stream_for_a_saved_model(folder: Path) -> tuple[str, list[str]]:
    from hf_genmodels import VAE, VAEPipeline

    VAEPipeline(VAE(1, 8, block_out_channels=(4, 8), norm="none")).save_pretrained(folder / "model")
    family, words = too_few_in_a_stream(folder)
    words[words.index("--norm") :] = ["--max_train_steps", "1"]
    return family, [*words, "--pretrained_model_name_or_path", str(folder / "model")]


def a_flow_of_one_example(folder: Path) -> tuple[str, list[str]]:
    words = [*CASES["flow"].options.split(), "--dataset_name", "builtin:digits", "--architecture", "glow"]
    return "flow", [*words, "--num_scales", "3", "--train_batch_size", "1", "--max_train_steps", "1"]


def a_fit_that_fails(folder: Path) -> tuple[str, list[str]]:
    words = ["--dataset_name", "builtin:toy2d", "--max_train_samples", "3", "--num_components", "3"]
    return "gaussian_mixture", [*words, "--reg_covar", "0"]


@pytest.mark.parametrize(
    "case",
    [too_few_in_a_stream, too_few_in_a_stream_for_a_saved_model, a_flow_of_one_example, a_fit_that_fails],
)
def test_an_error_of_the_first_batch_leaves_nothing_behind(tmp_path: Path, case: Any) -> None:
    family, words = case(tmp_path)
    with refused():
        train_family(family, [*words, "--output_dir", str(tmp_path / "run"), "--num_threads", "1"])
    assert not (tmp_path / "run").exists()
