"""Runs on streams of several shards: killed and gone on with, in two processes, from odd checkpoints."""

from __future__ import annotations

import logging
from collections.abc import Callable
from pathlib import Path
from typing import Any

import datasets
import numpy as np
import pytest
from PIL import Image

from hf_genmodels.training.train_vae import main
from tests.testing_utils.refusals import refused
from tests.testing_utils.training import (
    dice,
    history,
    interrupted,
    kill_after_checkpoints,
    largest_difference,
    launch_two,
    options,
    same_bytes,
    script,
)
from tests.training.test_forged_state import forge, put

CHANGES: dict[str, Any] = {
    "streaming": True,
    "random_flip": True,
    "shuffle_buffer_size": 20,
    "train_batch_size": 8,
    "gradient_accumulation_steps": 2,
    "max_train_steps": 12,
    "checkpointing_steps": 4,
}


@pytest.fixture(scope="module")
def shards(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """Options of a run on eight parquet files of eleven pictures each."""
    folder = tmp_path_factory.mktemp("shards")
    return {**CHANGES, "dataset_name": write_shards(folder / "pictures", 8), "cache_dir": folder / "cache"}


def write_shards(folder: Path, count: int) -> Path:
    folder.mkdir()
    draw = np.random.default_rng(0)
    for shard in range(count):
        pictures = [Image.fromarray(draw.integers(0, 256, (8, 8), dtype=np.uint8)) for _ in range(11)]
        rows = datasets.Dataset.from_dict({"image": pictures}, datasets.Features({"image": datasets.Image()}))
        rows.to_parquet(folder / f"train-{shard:05}-of-{count:05}.parquet", batch_size=4)
    return folder


@pytest.fixture(scope="module")
def finished(shards: dict[str, Any], tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("finished") / "run"
    main(options(folder, **shards))
    return folder


@pytest.mark.parametrize("workers", [0, 2])
def test_resuming_is_exact(shards: dict[str, Any], finished: Path, tmp_path: Path, workers: int) -> None:
    run = interrupted(finished, 4, tmp_path / "run")
    main(options(run, **shards, resume_from_checkpoint="latest", dataloader_num_workers=workers))
    assert same_bytes(finished / "vae", run / "vae")
    assert history(finished) == history(run)
    main(options(tmp_path / "other", **{**shards, "shuffle_buffer_size": 5}))
    assert not same_bytes(finished / "vae", tmp_path / "other" / "vae")


def test_kill_9_at_a_random_moment(shards: dict[str, Any], tmp_path: Path) -> None:
    changes = {**shards, "max_train_steps": 60, "dataloader_num_workers": 2}
    main(options(tmp_path / "whole", **{**changes, "dataloader_num_workers": 0}))
    killed = options(tmp_path / "killed", **changes, resume_from_checkpoint="latest")
    random = dice("kill -9 of a stream")
    more, seconds = random.randint(1, 10), random.uniform(0, 0.05)
    kill_after_checkpoints(script("vae", killed), tmp_path / "killed", more, seconds)
    main(killed)
    assert same_bytes(tmp_path / "whole" / "vae", tmp_path / "killed" / "vae")
    assert history(tmp_path / "whole") == history(tmp_path / "killed")


def test_two_processes_equal_one(shards: dict[str, Any], tmp_path: Path) -> None:
    one, two = tmp_path / "one", tmp_path / "two"
    main(options(one, **{**shards, "train_batch_size": 16}))
    done = launch_two("vae", options(two, **shards, dataloader_num_workers=1))
    assert done.returncode == 0, done.stderr
    assert largest_difference(one / "vae", two / "vae") <= 1e-5
    assert largest_difference(one / "checkpoint-4/networks/vae", one / "vae") > 1e-3


def test_a_checkpoint_that_does_not_tell_how_far_the_stream_was_read(
    shards: dict[str, Any], finished: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    run = interrupted(finished, 4, tmp_path / "run")
    forge(run / "checkpoint-4", "process-0.pt", put("stream", value=None))
    with caplog.at_level(logging.WARNING):
        main(options(run, **shards, resume_from_checkpoint="latest"))
    assert [line for line in caplog.messages if "how far split 'train' of pictures was read" in line]
    assert not same_bytes(finished / "vae", run / "vae")


LANE = ("stream", "lanes", 3)


@pytest.mark.parametrize(
    "change",
    [
        put("stream", value=[]),
        put("stream", value={}),
        put("stream", "update", value=7),
        put("stream", "lanes", value={0: {}}),
        put("stream", "lanes", value={"0": 1}),
        put(*LANE, "epoch", value=-1),
        put(*LANE, "epoch", value=None),
        put(*LANE, "place", value="here"),
        put(*LANE, "beginning", value=None),
        put(*LANE, "beginning", "order", value=9),
        put(*LANE, "beginning", "shard", value={"row": 1, "stream": {}}),
        put(*LANE, "beginning", "shard", value={"row": -1}),
    ],
)
def test_forged_states(shards: dict[str, Any], finished: Path, tmp_path: Path, change: Callable[[Any], Any]) -> None:
    run = interrupted(finished, 4, tmp_path / "run")
    forge(run / "checkpoint-4", "process-0.pt", change)
    with refused(r"process-0\.pt does not hold what a checkpoint of this run holds"):
        main(options(run, **shards, resume_from_checkpoint="latest"))


def test_another_number_of_shards(shards: dict[str, Any], finished: Path, tmp_path: Path) -> None:
    run = interrupted(finished, 4, tmp_path / "run")
    forge(run / "checkpoint-4", "process-0.pt", put("stream", "shards", value=9))
    with refused("the stream had 9 shards, it has 8"):
        main(options(run, **shards, resume_from_checkpoint="latest"))
