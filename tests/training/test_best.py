"""`--save_best`: the networks of the best evaluation are a run's result, however it was interrupted."""

from __future__ import annotations

import json
import math
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch

from hf_genmodels import Classifier, DDPMPipeline
from hf_genmodels.training.loop import TrainingLoop
from hf_genmodels.training.train_autoencoder import main as train_autoencoder
from hf_genmodels.training.train_ddpm import main as train_ddpm
from hf_genmodels.training.train_pixelwise import main as train_pixelwise
from hf_genmodels.training.train_vae import main
from tests.testing_utils.refusals import refused
from tests.testing_utils.training import (
    flip_a_bit,
    history,
    interrupted,
    launch_two,
    options,
    same_bytes,
    weights,
)

# The divergence grows while the error falls, so that several evaluations stay in the race.
CHANGES: dict[str, Any] = {
    "save_best": ["kl mse"],
    "save_best_steps": 2,
    "validation_size": 100,
    "learning_rate": 0.03,
    "eval_batch_size": 50,
    "max_train_samples": 256,
}


def told(output_dir: Path) -> Any:
    return json.loads((output_dir / "metrics.json").read_text())["best"]


def kept(output_dir: Path) -> set[int]:
    return {int(path.name.removeprefix("step-")) for path in (output_dir / "best").iterdir()}


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("whole") / "run"
    main(options(folder, **CHANGES))
    return folder


@pytest.fixture(scope="module")
def extractor(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("extractor")
    torch.manual_seed(0)
    Classifier(in_channels=1, sample_size=8, num_classes=10, block_out_channels=(4,)).save_pretrained(folder)
    return folder


def test_the_best_networks_are_the_result(whole: Path) -> None:
    chosen = told(whole)
    assert chosen["evaluations"] == 10 and 2 < chosen["step"] < 20 and chosen["step"] in kept(whole)
    assert same_bytes(whole / "vae", whole / "best" / f"step-{chosen['step']}" / "vae")
    assert not same_bytes(whole / "vae", whole / "checkpoint-20" / "networks" / "vae")
    metrics = json.loads((whole / "metrics.json").read_text())
    assert {name: metrics["validation"][name] for name in ("kl", "mse")} == pytest.approx(chosen["by"])
    assert f"The networks are those of step {chosen['step']}" in (whole / "README.md").read_text()
    assert (whole / "samples" / f"best-{chosen['step']}.png").is_file()


def test_the_choice_is_that_of_the_figures_logged(whole: Path) -> None:
    logged = torch.load(whole / "checkpoint-20" / "state.pt", weights_only=True)["history"]
    columns = [torch.tensor([value for _, value in logged[f"validation/{name}"]]) for name in ("kl", "mse")]
    scaled = [(column - column.min()) / (column.max() - column.min()) for column in columns]
    assert told(whole)["step"] == 2 * (int(torch.hypot(*scaled).argmin()) + 1)


@pytest.mark.parametrize("step", [5, 15])
def test_resuming_makes_the_same_choice(whole: Path, tmp_path: Path, step: int) -> None:
    resumed = interrupted(whole, step, tmp_path / "resumed")
    shutil.copytree(whole / "best", resumed / "best")  # with those of steps that the run has not come to yet
    main(options(resumed, **CHANGES, resume_from_checkpoint="latest"))
    assert told(resumed) == told(whole) and kept(resumed) <= kept(whole)
    assert same_bytes(resumed / "vae", whole / "vae") and history(resumed) == history(whole)


def test_resuming_in_another_folder(whole: Path, tmp_path: Path) -> None:
    elsewhere = tmp_path / "elsewhere"
    main(options(elsewhere, **CHANGES, resume_from_checkpoint=whole / "checkpoint-15"))
    assert told(elsewhere) == told(whole) and same_bytes(elsewhere / "vae", whole / "vae")


def test_a_run_may_go_on_from_any_checkpoint_that_is_left(whole: Path, tmp_path: Path) -> None:
    limited = tmp_path / "limited"
    main(options(limited, **CHANGES, checkpoints_total_limit=1))
    assert told(limited) == told(whole) and kept(limited) < kept(whole)
    assert same_bytes(limited / "vae", whole / "vae")
    main(options(limited, **CHANGES, resume_from_checkpoint="latest", checkpoints_total_limit=1))
    assert told(limited) == told(whole) and same_bytes(limited / "vae", whole / "vae")


def test_damaged_networks_of_a_candidate_are_named(whole: Path, tmp_path: Path) -> None:
    damaged = tmp_path / "damaged"
    shutil.copytree(whole, damaged)
    flip_a_bit(damaged / "best" / f"step-{told(whole)['step']}" / "vae" / "diffusion_pytorch_model.safetensors")
    with refused(f"best/step-{told(whole)['step']}/vae/.* is damaged or missing"):
        main(options(damaged, **CHANGES, resume_from_checkpoint="latest"))


def test_two_processes_choose_as_one(tmp_path: Path, extractor: Path) -> None:
    changes = {**CHANGES, "save_best": ["fid", "mse"], "save_best_samples": 60, "extractor": extractor}
    changes |= {"norm": "none", "save_best_steps": 5, "checkpointing_steps": 10, "use_ema": True}
    one, two = tmp_path / "one", tmp_path / "two"
    main(options(one, **changes))
    done = launch_two("vae", options(two, **changes, train_batch_size=16))
    assert done.returncode == 0, done.stderr
    assert told(two)["step"] == told(one)["step"] and kept(two) == kept(one)
    assert told(two)["by"] == pytest.approx(told(one)["by"], rel=1e-4)


def test_more_may_be_better(tmp_path: Path) -> None:
    changes = {**CHANGES, "save_best": "satisfied", "save_best_steps": None, "checkpointing_steps": 4}
    changes |= dict.fromkeys(("block_out_channels", "norm", "latent_dim"))
    changes |= {
        "width": 2,
        "num_residual_blocks": 1,
        "known_pixels": 0.1,
        "train_batch_size": 8,
        "max_train_steps": 10,
    }
    train_pixelwise(options(tmp_path / "run", **changes))
    metrics = json.loads((tmp_path / "run" / "metrics.json").read_text())
    logged = torch.load(tmp_path / "run" / "checkpoint-10" / "state.pt", weights_only=True)["history"]
    shares = [value for _, value in logged["validation/constraints_satisfied"]] + [
        metrics["validation"]["constraints_satisfied"]
    ]
    assert metrics["best"]["evaluations"] == 3  # at 4 and 8, and at the end
    assert min(shares) < metrics["best"]["by"]["satisfied"] == max(shares)


def test_one_figure_under_two_names(tmp_path: Path) -> None:
    changes = {**CHANGES, "save_best": "mse constraint_mse", "width": 2, "num_residual_blocks": 1}
    changes |= dict.fromkeys(("block_out_channels", "norm", "latent_dim"))
    with refused("--save_best: mse and constraint_mse are one figure; name it once"):
        train_pixelwise(options(tmp_path / "run", **changes))
    assert not (tmp_path / "run").exists()


def test_a_psnr_of_evaluate_is_turned_round(tmp_path: Path) -> None:
    pytest.importorskip("torchmetrics")
    changes = {**CHANGES, "save_best": "psnr", "save_best_steps": 10, "learning_rate": 0.003, "save_best_samples": 40}
    train_autoencoder(options(tmp_path / "run", **changes))
    by = told(tmp_path / "run")
    assert by["step"] == 20 and by["by"]["psnr"] > 0  # the error falls at such a rate
    assert weights(tmp_path / "run" / "autoencoder").keys()


def test_figures_that_are_not_finite_count_as_the_worst(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    honest, bad = TrainingLoop.evaluate, {8, 20}

    def evaluate(loop: TrainingLoop) -> dict[str, float]:
        return honest(loop) | ({"mse": math.nan} if loop.step in bad else {})

    monkeypatch.setattr(TrainingLoop, "evaluate", evaluate)
    changes = {**CHANGES, "save_best": "mse", "save_best_steps": 4, "max_train_steps": 20}
    main(options(tmp_path / "run", **changes))
    assert "warning: --save_best mse is no finite number after step 8" in capsys.readouterr().out
    assert told(tmp_path / "run")["step"] in (4, 12, 16)
    bad |= {4, 12, 16}
    with refused("--save_best mse: after no step were all of these finite numbers"):
        main(options(tmp_path / "bad", **changes))


def test_the_likelihood_of_a_ddpm_has_all_its_steps(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[dict[str, Any]] = []
    honest = DDPMPipeline.log_likelihood

    def log_likelihood(self: DDPMPipeline, *inputs: Any, **others: Any) -> Any:
        asked.append(others)
        return honest(self, *inputs, **others)

    monkeypatch.setattr(DDPMPipeline, "log_likelihood", log_likelihood)
    changes = {**CHANGES, "save_best": "nll", "save_best_samples": 4, "save_best_steps": 2, "max_train_steps": 2}
    changes |= dict.fromkeys(("block_out_channels", "norm", "latent_dim"))
    changes |= {"ddpm_num_steps": 30, "ddpm_num_inference_steps": 2, "block_out_channels": 8, "layers_per_block": 1}
    train_ddpm(options(tmp_path / "run", **changes))
    assert asked and not any("num_inference_steps" in each for each in asked)


@pytest.mark.parametrize(
    ("changes", "match"),
    [
        ({"validation_size": None}, "--save_best would choose the networks by the test images"),
        ({"validation_size": None, "validation_split": "test"}, "would choose the networks by the test images"),
        ({"save_best": "fid"}, "fid needs --extractor"),
        ({"save_best": "fidd"}, "--save_best fidd is no figure of this family; choose from negative_elbo, .*, fid, "),
        ({"save_best": "mse mse"}, "--save_best names mse twice"),
        ({"save_best": "fidd"}, "choose from negative_elbo, (?!.*mse.* mse)"),
        ({"save_best": "fid", "extractor": "nosuch/nosuch/nosuch"}, "--extractor: there is no folder nosuch/"),
        ({"save_best": "psnr", "save_best_samples": 1}, "--save_best_samples must be at least 4"),
        ({"save_best_samples": 50}, "--save_best_samples has no effect here"),
        ({"extractor": "pixels"}, "--extractor has no effect here"),
        (
            {"save_best": None, "save_best_steps": None, "extractor": "pixels"},
            "--extractor has no effect without --save",
        ),
        ({"save_best": " "}, "--save_best names no figure"),
        ({"save_best_steps": 0}, "--save_best_steps must be at least 1, got 0"),
        ({"validation_size": 0}, "--validation_size 0 is neither a number of images nor a share"),
        ({"validation_size": 1.5}, "--validation_size 1.5 is neither"),
        ({"validation_size": 5000}, "--validation_size 5000 of 1442 training images leaves none to learn from"),
        ({"validation_size": 0.0001}, "leaves none to hold out"),
        ({"validation_split": "test"}, "--validation_size holds training images out"),
    ],
)
def test_what_cannot_be_chosen_by_is_refused(tmp_path: Path, changes: dict[str, Any], match: str) -> None:
    with refused(match):
        main(options(tmp_path / "run", **{**CHANGES, **changes}))
    assert not (tmp_path / "run").exists()
