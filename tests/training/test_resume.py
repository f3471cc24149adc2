from __future__ import annotations

import dataclasses
import shutil
from pathlib import Path
from typing import Any

import pytest

from hf_genmodels.data import DataArguments
from hf_genmodels.errors import UserError
from hf_genmodels.training.arguments import MAY_CHANGE_ON_RESUME, TrainingArguments
from hf_genmodels.training.checkpointing import list_checkpoints
from hf_genmodels.training.train_autoencoder import main as train_autoencoder
from hf_genmodels.training.train_vae import main
from tests.testing_utils.refusals import refused
from tests.testing_utils.training import (
    dice,
    history,
    interrupted,
    kill_after_checkpoints,
    options,
    same_bytes,
    script,
    weights,
    write_pictures,
)


def names(output_dir: Path) -> list[str]:
    return [path.name for path in list_checkpoints(output_dir)]


def test_kill_9_at_a_random_moment(tmp_path: Path) -> None:
    changes = {
        "max_train_steps": 240,
        "checkpointing_steps": 4,
        "use_ema": True,
        "lr_scheduler": "cosine",
        "lr_warmup_steps": 10,
        "beta_warmup_steps": 200,
        "max_grad_norm": 50,
        "norm": "batch",
    }
    main(options(tmp_path / "whole", **changes))

    killed = options(tmp_path / "killed", **changes, resume_from_checkpoint="latest")
    random = dice("kill -9")
    for _ in range(2):
        more, seconds = random.randint(1, 20), random.uniform(0, 0.1)
        kill_after_checkpoints(script("vae", killed), tmp_path / "killed", more, seconds)
        assert not (tmp_path / "killed" / "model_index.json").exists()
        assert "checkpoint-240" not in names(tmp_path / "killed")
    main(killed)

    assert same_bytes(tmp_path / "whole" / "vae", tmp_path / "killed" / "vae")
    for part in ("networks/vae", "ema/vae"):
        assert same_bytes(*(tmp_path / run / "checkpoint-240" / part for run in ("whole", "killed")))
    assert not same_bytes(*(tmp_path / "whole" / "checkpoint-240" / part for part in ("networks/vae", "ema/vae")))
    assert history(tmp_path / "whole") == history(tmp_path / "killed")
    assert not list((tmp_path / "killed").glob(".partial*"))


@pytest.mark.parametrize(
    "changes",
    [
        {"gradient_accumulation_steps": 2, "lr_scheduler": "exponential"},
        {"dataset_name": None, "train_data_dir": True, "random_flip": True, "train_batch_size": 8},
        {
            "architecture": "mlp",
            "block_out_channels": None,
            "norm": None,
            "hidden_dims": 8,
            "learn_std": True,
            "free_bits": 0.1,
        },
        {"dataset_name": None, "train_data_dir": True, "train_batch_size": 8, "streaming": True},
        {"sample_steps": 4, "log_steps": 3},
    ],
    ids=["accumulation", "flips", "mlp", "streaming", "samples"],
)
def test_resuming_is_exact(tmp_path: Path, changes: dict[str, Any]) -> None:
    changes = {"cache_dir": tmp_path / "cache", "max_train_steps": 12, "checkpointing_steps": 6, **changes}
    if "train_data_dir" in changes:
        changes["train_data_dir"] = write_pictures(tmp_path / "pictures")
    whole = tmp_path / "whole"
    main(options(whole, **changes))
    resumed = interrupted(whole, 6, tmp_path / "resumed")
    main(options(resumed, **changes, resume_from_checkpoint="latest"))
    assert same_bytes(whole / "vae", resumed / "vae")
    assert not same_bytes(whole / "checkpoint-6" / "networks" / "vae", whole / "vae")
    assert history(whole) == history(resumed)


@pytest.mark.parametrize("corruption", ["gaussian", "masking"])
def test_resuming_with_noise_on_the_input_is_exact(tmp_path: Path, corruption: str) -> None:
    changes = {"corruption": corruption, "max_train_steps": 12, "checkpointing_steps": 6}
    whole = tmp_path / "whole"
    train_autoencoder(options(whole, **changes))
    resumed = interrupted(whole, 6, tmp_path / "resumed")
    train_autoencoder(options(resumed, **changes, resume_from_checkpoint="checkpoint-6"))
    assert same_bytes(whole / "autoencoder", resumed / "autoencoder")


def test_latest_without_a_checkpoint_starts_from_the_beginning(
    finished: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "notes.txt").write_text("mine")
    main(options(tmp_path / "run", resume_from_checkpoint="latest"))
    assert "no checkpoint" in capsys.readouterr().out
    assert same_bytes(finished / "vae", tmp_path / "run" / "vae")


def test_a_finished_run_trains_no_further(finished: Path, tmp_path: Path) -> None:
    run = interrupted(finished, 20, tmp_path / "run")
    state = (run / "checkpoint-20" / "state.pt").stat().st_mtime_ns
    main(options(run, resume_from_checkpoint="latest"))
    assert same_bytes(finished / "vae", run / "vae")
    assert history(finished) == history(run)
    assert (run / "checkpoint-20" / "state.pt").stat().st_mtime_ns == state
    assert names(run) == ["checkpoint-20"]


def test_more_steps_continue_a_finished_run(finished: Path, tmp_path: Path) -> None:
    run = interrupted(finished, 20, tmp_path / "run")
    main(options(run, resume_from_checkpoint="latest", max_train_steps=25))
    main(options(tmp_path / "whole", max_train_steps=25))
    assert same_bytes(tmp_path / "whole" / "vae", run / "vae")


def test_only_the_newest_checkpoints_are_kept(finished: Path, tmp_path: Path) -> None:
    assert names(finished) == ["checkpoint-5", "checkpoint-10", "checkpoint-15", "checkpoint-20"]
    run = interrupted(finished, 5, tmp_path / "run")
    main(options(run, resume_from_checkpoint="latest", checkpoints_total_limit=2))
    assert names(run) == ["checkpoint-15", "checkpoint-20"]


def test_half_written_checkpoints_are_ignored_and_removed(finished: Path, tmp_path: Path) -> None:
    run = interrupted(finished, 5, tmp_path / "run")
    shutil.copytree(run / "checkpoint-5", run / ".partial-checkpoint-10")
    (run / ".partial-checkpoint-10" / "state.pt").write_bytes(b"half")
    main(options(run, resume_from_checkpoint="latest"))
    assert same_bytes(finished / "vae", run / "vae")
    assert not list(run.glob(".partial*"))


def test_no_checkpoints_when_not_wanted(tmp_path: Path) -> None:
    main(options(tmp_path / "run", checkpointing_steps=0, max_train_steps=2))
    assert names(tmp_path / "run") == []


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"seed": 7}, "--seed = 0 in the checkpoint, 7 in this run"),
        ({"train_batch_size": 16}, "--train_batch_size = 32 in the checkpoint, 16 in this run"),
        ({"gradient_accumulation_steps": 2}, "--gradient_accumulation_steps = 1 in the checkpoint, 2 in this run"),
        ({"use_ema": True}, "--use_ema = false in the checkpoint, true in this run"),
        (
            {"dataset_name": "builtin:shapes", "resolution": 8, "max_train_samples": 99},
            'data set = "builtin:digits" in the checkpoint, "builtin:shapes" in this run',
        ),
        ({"exclude_label": 3}, '--exclude_label = null in the checkpoint, "3" in this run'),
        ({"latent_dim": 3}, "vae.latent_dim = 2 in the checkpoint, 3 in this run"),
        ({"block_out_channels": (4, 9)}, "vae.block_out_channels = [4, 8] in the checkpoint, [4, 9] in this run"),
        ({"likelihood": "bernoulli"}, 'vae.likelihood = "gaussian" in the checkpoint, "bernoulli" in this run'),
        ({"beta": 2}, "--beta = 1.0 in the checkpoint, 2.0 in this run"),
        ({"beta_warmup_steps": 9}, "--beta_warmup_steps = 0 in the checkpoint, 9 in this run"),
        ({"learning_rate": 0.02}, "--learning_rate = 0.01 in the checkpoint, 0.02 in this run"),
        ({"lr_scheduler": "cosine"}, '--lr_scheduler = "constant" in the checkpoint, "cosine" in this run'),
        ({"max_grad_norm": 1}, "--max_grad_norm = null in the checkpoint, 1.0 in this run"),
        ({"random_flip": True}, "--random_flip = false in the checkpoint, true in this run"),
        ({"mixed_precision": "bf16"}, '--mixed_precision = "no" in the checkpoint, "bf16" in this run'),
    ],
    ids=str,
)
def test_another_run_cannot_be_resumed(finished: Path, tmp_path: Path, changes: dict[str, Any], said: str) -> None:
    run = interrupted(finished, 10, tmp_path / "run")
    with refused() as error:
        main(options(run, resume_from_checkpoint="latest", **changes))
    assert said in str(error.value)
    assert str(error.value).startswith(f"{run / 'checkpoint-10'} is of another run: ")
    assert [path.name for path in run.iterdir()] == ["checkpoint-10"]


def test_a_checkpoint_of_another_family(finished: Path, tmp_path: Path) -> None:
    run = interrupted(finished, 10, tmp_path / "run")
    tiny = "--latent_dim 2 --block_out_channels 4 --num_threads 1 --max_train_steps 20 --max_train_samples 99"
    data = "--dataset_name builtin:digits --resume_from_checkpoint latest"
    with refused("checkpoint-10 is of another run: its networks are vae, this run's are autoencoder; resume with the"):
        train_autoencoder([*data.split(), *tiny.split(), "--output_dir", str(run)])


def test_what_may_change(finished: Path, tmp_path: Path) -> None:
    run = interrupted(finished, 10, tmp_path / "run")
    changes = {"log_steps": 3, "sample_steps": 15, "checkpointing_steps": 4, "checkpoints_total_limit": 1}
    changes |= {"eval_batch_size": 7, "cache_dir": tmp_path / "cache", "validation_split": "train"}
    changes |= {"hub_model_id": "me/digits", "hub_token": "hf_x", "tracker_project_name": "other"}
    main(options(run, resume_from_checkpoint="latest", **changes))
    assert same_bytes(finished / "vae", run / "vae")
    assert names(run) == ["checkpoint-20"]
    assert "hf_x" not in (run / "checkpoint-20" / "checkpoint.json").read_text()


def test_every_option_that_may_change_exists() -> None:
    known = {option.name for group in (DataArguments, TrainingArguments) for option in dataclasses.fields(group)}
    assert set(MAY_CHANGE_ON_RESUME) <= known


def test_corruption_is_part_of_a_run(tmp_path: Path) -> None:
    run = tmp_path / "run"
    train_autoencoder(options(run, max_train_steps=1, checkpointing_steps=1))
    with pytest.raises(UserError, match='--corruption = "none" in the checkpoint, "gaussian" in this run'):
        train_autoencoder(options(run, corruption="gaussian", resume_from_checkpoint="latest"))


def test_fewer_steps_than_were_trained(finished: Path, tmp_path: Path) -> None:
    run = interrupted(finished, 10, tmp_path / "run")
    with refused() as error:
        main(options(run, resume_from_checkpoint="latest", max_train_steps=9))
    assert str(error.value).startswith(f"{run / 'checkpoint-10'} has been trained for 10 steps, this run has only 9; ")
    assert [path.name for path in run.iterdir()] == ["checkpoint-10"]
    main(options(run, resume_from_checkpoint="latest", max_train_steps=10))
    assert same_bytes(run / "checkpoint-10" / "networks" / "vae", run / "vae")


def test_a_checkpoint_elsewhere_or_of_another_name_is_a_start(finished: Path, tmp_path: Path) -> None:
    shutil.copytree(finished / "checkpoint-10", tmp_path / "best")
    main(options(tmp_path / "run", resume_from_checkpoint=str(tmp_path / "best")))
    assert same_bytes(finished / "vae", tmp_path / "run" / "vae")
    assert names(tmp_path / "run") == ["checkpoint-15", "checkpoint-20"]


@pytest.mark.parametrize("name", ["checkpoint-7", "nonsense"])
def test_a_checkpoint_that_does_not_exist(tmp_path: Path, name: str) -> None:
    with pytest.raises(UserError, match=f"--resume_from_checkpoint {name}: there is no such checkpoint"):
        main(options(tmp_path / "run", resume_from_checkpoint=name))
    assert not (tmp_path / "run").exists()


def test_a_saved_run_differs_from_its_start(finished: Path) -> None:
    """What the comparisons above would not see: weights that never move."""
    first, last = weights(finished / "checkpoint-5" / "networks" / "vae"), weights(finished / "vae")
    assert all((first[name] != last[name]).any() for name in first if name != "log_scale")
