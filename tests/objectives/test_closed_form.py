"""Families that are fitted instead of trained: refused options, what a run leaves behind, several processes."""

from __future__ import annotations

import importlib
import json
import logging
from collections.abc import Iterator
from dataclasses import fields
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from accelerate.state import AcceleratorState
from PIL import Image

from hf_genmodels import AutoPipeline, UserError
from hf_genmodels.data import DataArguments
from hf_genmodels.training.arguments import TrainingArguments
from hf_genmodels.training.checks import FIT_OPTIONS, NOT_OF_A_FIT, check_fit_options
from tests.testing_utils.training import same_bytes, write_pictures

FAMILIES = ("gaussian", "gaussian_mixture", "texture")
COMPONENT = {"gaussian": "gaussian", "gaussian_mixture": "mixture", "texture": "texture"}


@pytest.fixture(autouse=True)
def _fresh_accelerator() -> Iterator[None]:
    AcceleratorState._reset_state(reset_partial_state=True)
    yield
    AcceleratorState._reset_state(reset_partial_state=True)


def fit(family: str, output_dir: Path, *words: str) -> Path:
    data = [] if "--train_data_dir" in words else ["--dataset_name", "builtin:digits"]
    arguments = [*data, "--output_dir", str(output_dir), "--num_threads", "1", *words]
    importlib.import_module(f"hf_genmodels.training.train_{family}").main(arguments)
    return output_dir


def metrics(run: Path) -> Any:
    return json.loads((run / "metrics.json").read_text())


# refused options ------------------------------------------------------------------------------------------


def other_value(option: Any) -> Any:
    if isinstance(option.default, bool):
        return not option.default
    return option.default + 1 if isinstance(option.default, (int, float)) else "something"


@pytest.mark.parametrize(
    "option", [o for o in fields(TrainingArguments) if o.name not in FIT_OPTIONS], ids=lambda o: o.name
)
def test_options_of_training_are_refused(option: Any) -> None:
    args = TrainingArguments("runs/x")
    check_fit_options("gaussian", DataArguments(), args)
    setattr(args, option.name, other_value(option))
    with pytest.raises(UserError) as error:
        check_fit_options("gaussian", DataArguments(), args)
    expected = f"--{option.name} has no meaning for gaussian, which is fitted to all data at once; leave it out"
    assert str(error.value) == expected


def test_every_option_that_is_kept_exists() -> None:
    assert set(FIT_OPTIONS) < {option.name for option in fields(TrainingArguments)}
    assert set(NOT_OF_A_FIT) < {option.name for option in fields(DataArguments)}


@pytest.mark.parametrize(
    "words",
    [
        *("--learning_rate 1e-4", "--max_train_steps 5", "--use_ema", "--mixed_precision bf16", "--random_flip"),
        *("--resume_from_checkpoint latest", "--pretrained_model_name_or_path x", "--dataloader_num_workers 2"),
    ],
)
def test_a_run_with_one_of_them_writes_nothing(words: str, tmp_path: Path) -> None:
    with pytest.raises(UserError, match=f"^{words.split()[0]} has no meaning for gaussian"):
        fit("gaussian", tmp_path / "run", *words.split())
    assert not (tmp_path / "run").exists()


def test_streams_are_refused(tmp_path: Path) -> None:
    pictures = write_pictures(tmp_path / "pictures")
    with pytest.raises(UserError, match=r"^--streaming has no meaning for texture"):
        fit("texture", tmp_path / "run", "--train_data_dir", str(pictures), "--streaming")


def test_a_folder_in_use_is_not_offered_to_be_resumed(tmp_path: Path) -> None:
    (tmp_path / "note.txt").touch()
    with pytest.raises(UserError, match=r"is not empty; use --overwrite_output_dir to start anew, or another folder$"):
        fit("gaussian", tmp_path)


# runs -----------------------------------------------------------------------------------------------------


def colours(path: Path) -> int:
    with Image.open(path) as picture:
        return len(np.unique(np.asarray(picture.convert("RGB")).reshape(-1, 3), axis=0))


@pytest.mark.parametrize("family", FAMILIES)
def test_what_a_run_leaves_behind(family: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run = fit(family, tmp_path / "run", *(["--num_components", "2"] if family == "gaussian_mixture" else []))
    found = metrics(run)
    curve = {"losses.png"} if family == "gaussian_mixture" else set()
    assert {path.name for path in run.iterdir()} == curve | {
        *("README.md", "metrics.json", "model_index.json", "training_args.json", "samples", COMPONENT[family])
    }
    assert (found["family"], found["environment"]["precision"]) == (family, "no")
    assert found["step"] > 1 if curve else found["step"] == 1
    assert colours(run / "samples" / f"step-{found['step']}.png") > 10
    if family == "texture":
        assert found["validation"] == {}
    else:
        assert found["train"].keys() <= found["validation"].keys()
        assert found["validation"]["bits_per_dim"] == pytest.approx(
            found["validation"]["negative_log_likelihood"] / 64 / np.log(2), rel=1e-6
        )
    printed = capsys.readouterr().out.splitlines()
    assert "1442 examples, fitted to all at once; 1 process(es) x 1 thread(s), cpu" in printed[0]
    assert printed[-1].startswith(f"{run}: train ")

    pipeline = AutoPipeline.from_pretrained(run)
    assert pipeline.sample_shape == (1, 8, 8) and pipeline.config.value_scale == 16.0
    images = pipeline(batch_size=2, generator=torch.Generator().manual_seed(0), output_type="pt").images
    assert images.shape == (2, 1, 8, 8) and images.std() > 0.05
    card = (run / "README.md").read_text()
    assert f"training/train_{family}.py --dataset_name builtin:digits" in card
    # the saved options repeat it, in a folder that is not empty if asked to
    again = tmp_path / "again"
    again.mkdir()
    (again / "training_args.json").write_bytes((run / "training_args.json").read_bytes())
    fit(family, again, "--config", str(run / "training_args.json"), "--overwrite_output_dir")
    assert same_bytes(run / COMPONENT[family], again / COMPONENT[family])


@pytest.mark.parametrize("family", ["gaussian", "gaussian_mixture"])
def test_vectors(family: str, tmp_path: Path) -> None:
    words = ["--dataset_name", "builtin:toy2d", "--max_train_samples", "2000", "--num_components", "2"]
    run = fit(family, tmp_path / "run", *words, "--eval_batch_size", "1000")
    pipeline = AutoPipeline.from_pretrained(run)
    assert pipeline(batch_size=3, output_type="pt").images.shape == (3, 2)
    assert metrics(run)["validation"]["negative_log_likelihood"] == pytest.approx(
        metrics(run)["train"]["negative_log_likelihood"], abs=0.2
    )
    assert colours(run / "samples" / f"step-{metrics(run)['step']}.png") > 1


def test_a_warning_is_said_and_kept(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run = fit("gaussian_mixture", tmp_path / "run", "--max_iter", "2", "--num_components", "3")
    said = "the likelihood was still rising after 2 steps; give a larger --max_iter"
    assert f"warning: {said}" in capsys.readouterr().out.splitlines()
    assert metrics(run)["warnings"] == [said]
    assert f"Training gave a warning: {said}." in (run / "README.md").read_text()


def test_logs_of_a_fit(tmp_path: Path) -> None:
    accumulator = pytest.importorskip("tensorboard.backend.event_processing.event_accumulator")
    run = fit("gaussian_mixture", tmp_path / "run", "--report_to", "tensorboard", "--num_components", "2")
    (folder,) = (run / "logs").iterdir()
    logging.getLogger("tensorboard").setLevel(logging.ERROR)
    events = accumulator.EventAccumulator(str(folder))
    events.Reload()
    assert [event.step for event in events.Scalars("bits_per_dim")] == [*range(1, metrics(run)["step"] + 1)]
    assert len(events.Scalars("validation/bits_per_dim")) == 1
