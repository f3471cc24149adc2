"""What must not matter: how a global batch is split over micro-batches and processes."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from hf_genmodels import PatchDiscriminator, ResNetTranslator
from hf_genmodels.data import DataArguments, Layout, load_data
from hf_genmodels.data.workers import available_cores
from hf_genmodels.errors import UserError
from hf_genmodels.objectives.pix2pix import Pix2PixObjective
from hf_genmodels.training.arguments import TrainingArguments
from hf_genmodels.training.entry import train
from hf_genmodels.training.train_autoencoder import main as train_autoencoder
from hf_genmodels.training.train_flow import main as train_flow
from hf_genmodels.training.train_vae import main as train_vae
from tests.testing_utils.training import interrupted, largest_difference, launch_two, options

# A schedule, an average, a clipped gradient: each must be the same function of the step in every process.
CHANGES: dict[str, Any] = {
    "use_ema": True,
    "lr_scheduler": "cosine",
    "lr_warmup_steps": 5,
    "max_grad_norm": 30,
    "log_steps": 4,
    "checkpointing_steps": 10,
    "eval_batch_size": 16,
}
FAMILIES: dict[str, tuple[Callable[[list[str]], None], dict[str, Any]]] = {
    "vae": (train_vae, {**CHANGES, "num_threads": None}),
    "autoencoder": (
        train_autoencoder,
        {**CHANGES, "num_threads": 1, "corruption": "gaussian", "gradient_accumulation_steps": 2},
    ),
}


def metrics(output_dir: Path) -> Any:
    return json.loads((output_dir / "metrics.json").read_text())


@pytest.mark.parametrize("family", FAMILIES)
def test_two_processes_equal_one(tmp_path: Path, family: str) -> None:
    main, changes = FAMILIES[family]
    one, two = tmp_path / "one", tmp_path / "two"
    main(options(one, **{**changes, "num_threads": 1}))
    done = launch_two(family, options(two, **changes, train_batch_size=16))
    assert done.returncode == 0, done.stderr

    parts = [f"checkpoint-{step}/{part}/{family}" for step in (10, 20) for part in ("networks", "ema")]
    differences = {part: largest_difference(one / part, two / part) for part in [*parts, family]}
    print(differences)
    assert max(differences.values()) <= 1e-5
    assert largest_difference(one / f"checkpoint-10/networks/{family}", one / family) > 1e-3  # they do move
    same_figures(metrics(one), metrics(two))
    first_line_is_true(done.stdout, family, metrics(two)["environment"]["threads"], changes["num_threads"])

    command = json.loads((two / "training_args.json").read_text())["command"]
    assert command.startswith(f"accelerate launch --num_processes 2 training/train_{family}.py --dataset_name ")
    run = interrupted(two, 10, tmp_path / "run")
    with pytest.raises(UserError, match="checkpoint-10 is of another run: world size = 2 in the checkpoint, 1 in"):
        main(options(run, **changes, train_batch_size=16, resume_from_checkpoint="latest"))


def same_figures(ours: Any, theirs: Any) -> None:
    assert ours["train"] == pytest.approx(theirs["train"], rel=1e-5)
    assert ours["validation"] == pytest.approx(theirs["validation"], rel=1e-5)  # a VAE's with noise of its batches
    assert (ours["environment"]["processes"], theirs["environment"]["processes"]) == (1, 2)


def first_line_is_true(printed: str, family: str, threads: int, asked_for: int | None) -> None:
    """One process speaks, and says what runs where; by default the processes share the cores."""
    first = printed.splitlines()[0]
    assert first.startswith(f"{family} ({family} ")
    assert first.endswith(f"20 steps; 2 process(es) x {threads} thread(s), cpu, no mixed precision")
    assert threads == (asked_for or max(1, available_cores() // 2))
    assert printed.count("process(es)") == 1


@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"lr_scheduler": "linear", "max_grad_norm": 20, "use_ema": True},
        {"architecture": "mlp", "block_out_channels": None, "norm": None, "hidden_dims": (16, 8), "learn_std": True},
    ],
    ids=["conv", "clipped", "mlp"],
)
def test_two_accumulated_batches_equal_a_double_one(tmp_path: Path, changes: dict[str, Any]) -> None:
    train_vae(options(tmp_path / "double", **changes))
    train_vae(options(tmp_path / "two", **changes, train_batch_size=16, gradient_accumulation_steps=2))
    difference = largest_difference(tmp_path / "double" / "vae", tmp_path / "two" / "vae")
    print(difference)
    assert difference <= 1e-6
    assert metrics(tmp_path / "double")["train"] == pytest.approx(metrics(tmp_path / "two")["train"], rel=1e-5)


def test_accumulated_batches_of_a_flow_are_initialised_by_the_double_batch(tmp_path: Path) -> None:
    """A Glow's ActNorms take their statistics from all of the first update's examples."""
    changes = dict.fromkeys(("block_out_channels", "latent_dim", "norm"))
    changes |= {"architecture": "glow", "num_scales": 1, "num_flow_steps": 2, "hidden_channels": 4}
    changes |= {"max_train_steps": 2, "checkpointing_steps": 1}
    train_flow(options(tmp_path / "double", **changes))
    train_flow(options(tmp_path / "two", **changes, train_batch_size=16, gradient_accumulation_steps=2))
    assert largest_difference(tmp_path / "double" / "flow", tmp_path / "two" / "flow") <= 1e-6
    assert metrics(tmp_path / "double")["train"] == pytest.approx(metrics(tmp_path / "two")["train"], rel=1e-5)


def test_accumulated_batches_of_a_spectral_critic_equal_a_double_one(tmp_path: Path) -> None:
    """Its power iterations are counted by updates, not by micro-batches."""
    data = load_data(
        DataArguments(dataset_name="builtin:edges", resolution=8, max_train_samples=32), 0, Layout("pair")
    )
    for name, batch_size, accumulation in (("double", 8, 1), ("four", 2, 4)):
        torch.manual_seed(0)
        generator = ResNetTranslator(1, 3, 8, width=2, num_blocks=0, norm="none")
        objective = Pix2PixObjective(
            generator, PatchDiscriminator(4, 2, 16, norm="spectral"), data.spec, gan_loss="hinge"
        )
        args = TrainingArguments(
            str(tmp_path / name), train_batch_size=batch_size, gradient_accumulation_steps=accumulation
        )
        train(objective, data, dataclasses.replace(args, max_train_steps=4, adam_epsilon=1e-3, num_threads=1))
    for place in ("generator", "training_networks/discriminator"):
        assert largest_difference(tmp_path / "double" / place, tmp_path / "four" / place) <= 1e-6
    assert metrics(tmp_path / "double")["train"] == pytest.approx(metrics(tmp_path / "four")["train"], rel=1e-5)


def test_accumulated_noise_is_that_of_the_double_batch(tmp_path: Path) -> None:
    changes = {"corruption": "gaussian", "corruption_level": 1.0, "adam_epsilon": 1e-3}
    train_autoencoder(options(tmp_path / "double", **changes))
    train_autoencoder(options(tmp_path / "two", **changes, train_batch_size=16, gradient_accumulation_steps=2))
    assert largest_difference(tmp_path / "double" / "autoencoder", tmp_path / "two" / "autoencoder") <= 1e-6


def test_a_seed_repeats_a_run_and_another_does_not(tmp_path: Path) -> None:
    for name, seed in (("first", 3), ("again", 3), ("other", 4)):
        train_vae(options(tmp_path / name, seed=seed, max_train_steps=4))
    assert largest_difference(tmp_path / "first" / "vae", tmp_path / "again" / "vae") == 0
    assert largest_difference(tmp_path / "first" / "vae", tmp_path / "other" / "vae") > 1e-3
