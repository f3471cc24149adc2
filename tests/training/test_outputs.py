from __future__ import annotations

import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from hf_genmodels import VAE, AutoPipeline, UserError, VAEObjective, VAEPipeline, __version__
from hf_genmodels.data import DataArguments, load_data
from hf_genmodels.families import get_family
from hf_genmodels.training.checkpointing import network_folder
from hf_genmodels.training.loop import TrainingLoop
from hf_genmodels.training.outputs import save_results
from hf_genmodels.training.train_autoencoder import main as train_autoencoder
from hf_genmodels.training.train_classifier import main as train_classifier
from hf_genmodels.training.train_vae import main
from tests.testing_utils.adversaries import Adversaries, make_loop
from tests.testing_utils.refusals import refused
from tests.testing_utils.training import (
    interrupted,
    largest_difference,
    options,
    same_bytes,
    weights,
    write_pictures,
)


def drawn(path: Path) -> int:
    """Number of colours in a picture: one for an empty one."""
    with Image.open(path) as picture:
        assert picture.format == "PNG"
        return len(np.unique(np.asarray(picture.convert("RGB")).reshape(-1, 3), axis=0))


def test_what_a_run_leaves_behind(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run = tmp_path / "run"
    main(options(run, sample_steps=8, log_steps=5, checkpointing_steps=0))
    assert {path.name for path in run.iterdir()} == {
        *("README.md", "losses.png", "metrics.json", "model_index.json", "training_args.json", "samples", "vae")
    }
    assert sorted(path.name for path in (run / "samples").iterdir()) == ["step-16.png", "step-20.png", "step-8.png"]
    assert all(drawn(path) > 10 for path in [*(run / "samples").iterdir(), run / "losses.png"])

    metrics = json.loads((run / "metrics.json").read_text())
    assert (metrics["family"], metrics["step"]) == ("vae", 20)
    assert metrics["seconds"] >= 0
    assert metrics["train"].keys() == {"loss", "reconstruction_nll", "kl"}
    assert metrics["train"]["loss"] == pytest.approx(
        metrics["train"]["reconstruction_nll"] + metrics["train"]["kl"], rel=1e-4
    )
    figures = metrics["validation"]
    assert figures["negative_elbo"] == pytest.approx(figures["reconstruction_nll"] + figures["kl"], rel=1e-6)
    assert metrics["environment"] == {
        "hf_genmodels": __version__,
        "torch": torch.__version__,
        "device": "cpu",
        "threads": 1,
        "processes": 1,
        "precision": "no",
    }
    printed = capsys.readouterr().out.splitlines()
    assert printed[-1].startswith(f"{run}: train loss {metrics['train']['loss']:.4g}, ")
    assert f"mse {figures['mse']:.4g}" in printed[-1]


def test_the_saved_model_gives_the_reported_figures(finished: Path) -> None:
    from hf_genmodels.data import DataArguments, evaluation_batches, load_split

    pipeline = AutoPipeline.from_pretrained(str(finished))
    assert isinstance(pipeline, VAEPipeline)
    held_out = load_split(DataArguments(dataset_name="builtin:digits"), "test")
    errors = []
    for batch in evaluation_batches(held_out, batch_size=100):
        image = (batch["image"] + 1) / 2
        reconstruction = pipeline.reconstruct(image, output_type="pt").images
        errors.append((reconstruction - image).square().flatten(1).mean(1))
    reported = json.loads((finished / "metrics.json").read_text())["validation"]["mse"]
    assert float(torch.cat(errors).mean()) == pytest.approx(reported, rel=1e-2)


@pytest.mark.parametrize(
    ("train", "network"),
    [(train_autoencoder, "autoencoder"), (train_classifier, None)],
    ids=["autoencoder", "classifier"],
)
def test_other_families_leave_the_same(
    tmp_path: Path, train: Callable[[list[str]], None], network: str | None
) -> None:
    run = tmp_path / "run"
    family = network or "classifier"
    changes = {"latent_dim": None, "norm": None, "feature_dim": 4} if network is None else {}
    train(options(run, max_train_steps=2, checkpointing_steps=0, **changes))
    assert weights(run / network if network else run)
    assert json.loads((run / "metrics.json").read_text())["family"] == family
    assert json.loads((run / "training_args.json").read_text())["command"].split()[2] == f"training/train_{family}.py"
    assert (run / "README.md").is_file()
    assert (run / "losses.png").is_file()
    assert (run / "samples").is_dir() == (network is not None)


def test_points_are_drawn_too(tmp_path: Path) -> None:
    changes = {"dataset_name": "builtin:toy2d", "architecture": "mlp", "hidden_dims": 8}
    changes |= {"block_out_channels": None, "norm": None}
    main(options(tmp_path / "run", max_train_steps=2, **changes))
    assert drawn(tmp_path / "run" / "samples" / "step-2.png") > 1


def test_tensorboard(tmp_path: Path) -> None:
    accumulator = pytest.importorskip("tensorboard.backend.event_processing.event_accumulator")
    run = tmp_path / "run"
    main(options(run, report_to="tensorboard", log_steps=5, sample_steps=10))
    (folder,) = (run / "logs").iterdir()
    events = accumulator.EventAccumulator(str(folder))
    events.Reload()
    assert {"loss", "reconstruction_nll", "kl", "validation/mse"} <= set(events.Tags()["scalars"])
    assert [event.step for event in events.Scalars("loss")] == [5, 10, 15, 20]
    assert [event.step for event in events.Scalars("validation/mse")] == [10, 20]
    metrics = json.loads((run / "metrics.json").read_text())
    assert events.Scalars("loss")[-1].value == pytest.approx(metrics["train"]["loss"], rel=1e-6)
    assert events.Scalars("validation/mse")[-1].value == pytest.approx(metrics["validation"]["mse"], rel=1e-6)


@pytest.mark.parametrize(("tracker", "said"), [("nonsense", "is no tracker"), ("clearml", "is not installed")])
def test_a_tracker_that_is_not_there(tmp_path: Path, tracker: str, said: str) -> None:
    with refused(f"--report_to {tracker}.* {said}"):
        main(options(tmp_path / "run", report_to=tracker))
    assert not (tmp_path / "run").exists()


def test_starting_from_a_saved_model(finished: Path, tmp_path: Path) -> None:
    changes = {"seed": 5, "latent_dim": None, "block_out_channels": None, "norm": None, "max_train_steps": 1}
    start = {"pretrained_model_name_or_path": finished, "learning_rate": 1e-6, **changes}
    main(options(tmp_path / "run", **start))
    assert 0 < largest_difference(finished / "vae", tmp_path / "run" / "vae") < 2e-6
    before, after = ((folder / "vae" / "config.json").read_text() for folder in (finished, tmp_path / "run"))
    assert json.loads(before).items() <= json.loads(after).items()
    assert str(finished) not in after

    with pytest.raises(UserError):
        train_autoencoder(options(tmp_path / "other", **start))
    with pytest.raises(UserError, match="nowhere"):
        main(options(tmp_path / "other", **{**start, "pretrained_model_name_or_path": tmp_path / "nowhere"}))
    assert not (tmp_path / "other").exists()


@pytest.mark.parametrize("use_ema", [False, True])
@pytest.mark.parametrize(
    ("train", "name"),
    [(main, "vae"), (train_autoencoder, "autoencoder"), (train_classifier, "classifier")],
    ids=["vae", "autoencoder", "classifier"],
)
def test_starting_from_a_checkpoint(
    tmp_path: Path, train: Callable[[list[str]], None], name: str, use_ema: bool
) -> None:
    # the classifier has no such options
    left_out = {"latent_dim": None, "norm": None} if name == "classifier" else {}
    changes = {"max_train_steps": 4, "checkpointing_steps": 2, **left_out}
    averaged = {"use_ema": True, "ema_max_decay": 0.9} if use_ema else {}
    train(options(tmp_path / "first", **changes, **averaged))
    checkpoint = tmp_path / "first" / "checkpoint-4"
    start = {**changes, "max_train_steps": 1, "learning_rate": 1e-12, "seed": 3, "block_out_channels": None}
    train(options(tmp_path / "second", **start, pretrained_model_name_or_path=checkpoint))
    found = tmp_path / "second" if name == "classifier" else tmp_path / "second" / name
    kinds = ("ema", "networks") if use_ema else ("networks",)
    assert largest_difference(checkpoint / kinds[0] / name, found) < 1e-6
    if use_ema:
        assert largest_difference(checkpoint / "networks" / name, found) > 1e-4
    assert len(weights(found)) > 3


def test_a_checkpoint_in_which_only_some_networks_are_averaged(tmp_path: Path) -> None:
    make_loop(Adversaries(), tmp_path, use_ema=True, checkpointing_steps=4).run(None)
    checkpoint = tmp_path / "checkpoint-4"
    assert [path.name for path in (checkpoint / "ema").iterdir()] == ["generator"]
    assert network_folder(checkpoint) == checkpoint / "networks"


def test_starting_from_a_damaged_checkpoint_or_one_of_another_family(finished: Path, tmp_path: Path) -> None:
    checkpoint = interrupted(finished, 10, tmp_path / "first") / "checkpoint-10"
    start = options(tmp_path / "run", pretrained_model_name_or_path=checkpoint)
    with refused("/networks holds no autoencoder") as error:
        train_autoencoder(start)
    interrupted(finished, 5, tmp_path / "first")
    damaged = checkpoint / "networks" / "vae" / "diffusion_pytorch_model.safetensors"
    damaged.write_bytes(damaged.read_bytes()[:-1])
    with pytest.raises(UserError) as error:
        main(start)
    earlier = checkpoint.parent / "checkpoint-5"
    assert str(error.value) == (
        f"{damaged} is damaged or missing; the one before it: --pretrained_model_name_or_path {earlier}"
    )
    assert not (tmp_path / "run").exists()


def test_streaming_needs_a_number_of_steps_and_then_works(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    pictures = write_pictures(tmp_path / "pictures")
    changes = {"dataset_name": None, "train_data_dir": pictures, "streaming": True, "train_batch_size": 8}
    changes |= {"cache_dir": tmp_path / "cache", "checkpointing_steps": 0}
    with pytest.raises(UserError, match="--max_train_steps"):
        main(options(tmp_path / "run", **changes, max_train_steps=None))
    assert not (tmp_path / "run").exists()
    main(options(tmp_path / "run", **changes, max_train_steps=14))  # more than two passes
    assert re.search(r"on pictures: streamed examples, 14 steps;", capsys.readouterr().out)
    metrics = json.loads((tmp_path / "run" / "metrics.json").read_text())
    assert (metrics["step"], metrics["validation"]) == (14, {})


def test_workers_change_nothing(tmp_path: Path) -> None:
    pictures = write_pictures(tmp_path / "pictures", size=10)
    Image.new("L", (14, 10)).save(pictures / "wide.png")  # shapes that differ are decoded when asked for
    changes = {"dataset_name": None, "train_data_dir": pictures, "resolution": 8, "train_batch_size": 8}
    changes |= {"cache_dir": tmp_path / "cache", "checkpointing_steps": 4, "max_train_steps": 8}
    for workers in (0, 1):
        main(options(tmp_path / f"run-{workers}", **changes, dataloader_num_workers=workers))
    assert same_bytes(*(tmp_path / f"run-{workers}" / "vae" for workers in (0, 1)))


class Undrawable(VAEObjective):
    """Its sampler fails."""

    def sample_grid(self, *args: Any) -> Any:
        raise NotImplementedError("this sampler knows\nno such noise")


class Unmeasurable(VAEObjective):
    """Its figures fail."""

    def evaluate(self, *args: Any) -> Any:
        raise ZeroDivisionError("no figure")


def small_loop(objective_class: type[VAEObjective], output_dir: Path, **changes: Any) -> TrainingLoop:
    torch.manual_seed(0)
    data = load_data(DataArguments(dataset_name="builtin:toy2d", max_train_samples=64), 0)
    objective = objective_class(VAE(2, None, latent_dim=2, architecture="mlp", hidden_dims=(8,)), data.spec)
    loop = make_loop(objective, output_dir, checkpointing_steps=0, **changes)
    loop.data = data
    return loop


def test_a_picture_that_fails_neither_stops_nor_loses_a_run(tmp_path: Path, capsys: Any) -> None:
    loop = small_loop(Undrawable, tmp_path, sample_steps=2)
    save_results(loop, get_family("vae"), loop.run(None))
    said = [line for line in capsys.readouterr().out.splitlines() if "warning" in line]
    assert said == [f"warning: no picture of step {step}: this sampler knows no such noise" for step in (2, 4)]
    assert not (tmp_path / "samples").exists() and (tmp_path / "metrics.json").is_file()
    VAEPipeline.from_pretrained(tmp_path)


def test_figures_that_fail_do_not_lose_what_was_learnt(tmp_path: Path) -> None:
    loop = small_loop(Unmeasurable, tmp_path)
    with pytest.raises(ZeroDivisionError):
        loop.run(None)
    saved = VAEPipeline.from_pretrained(tmp_path).vae.state_dict()
    assert all(torch.equal(value, saved[name]) for name, value in loop.networks["vae"].state_dict().items())
