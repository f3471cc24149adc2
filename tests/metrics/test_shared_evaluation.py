"""Processes that share an evaluation, and the numbers that they draw."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Generator, Tensor

from hf_genmodels.cli import main
from hf_genmodels.evaluation.processes import Processes, Turns, check_turns
from hf_genmodels.models.classifier import Classifier
from hf_genmodels.models.vae import VAE
from hf_genmodels.pipelines.vae import VAEPipeline
from tests.testing_utils.refusals import refused
from tests.testing_utils.training import launch_two_of

SIZES = (5, 5, 5, 5, 3)


def draw(places: Tensor, generator: Generator) -> Tensor:
    """Of kinds that leave different things behind in a generator."""
    normal = torch.randn(len(places), 3, generator=generator)
    filled = torch.empty(len(places), 2).uniform_(generator=generator)
    return torch.cat([normal, filled, torch.randint(9, (len(places), 1), generator=generator)], 1)


def draw_by_content(places: Tensor, generator: Generator) -> Tensor:
    """What no other process can know."""
    return torch.cat([torch.rand(len(places), generator=generator) for _ in range(int(places[0]) % 3 + 1)])


def shared(make: Callable[[Tensor, Generator], Tensor], number: int) -> tuple[dict[int, Tensor], list[Any]]:
    """What each batch draws, where `number` processes have the batches in turn."""
    drawn, seen = {}, []
    batches = torch.arange(sum(SIZES)).split(SIZES)
    for rank in range(number):
        processes = Processes()
        processes.number, processes.rank = number, rank
        turns = Turns(torch.Generator().manual_seed(4), processes)
        for batch in range(rank, len(SIZES), number):
            drawn[batch] = turns.run(batch, batches[batch], SIZES[0], make)
        seen.append(turns.seen)
    return drawn, seen


@pytest.mark.parametrize("number", [1, 2, 3, 5])
def test_each_batch_draws_what_it_draws_in_one_process(number: int) -> None:
    generator = torch.Generator().manual_seed(4)
    expected = [draw(torch.empty(size), generator) for size in SIZES]
    drawn, seen = shared(draw, number)
    for batch, numbers in enumerate(expected):
        assert torch.equal(drawn[batch], numbers)
    check_turns(seen)


def test_draws_that_depend_on_the_examples_are_refused() -> None:
    _, seen = shared(draw_by_content, 2)
    with refused("draws at random differs from batch to batch"):
        check_turns(seen)


@pytest.fixture
def model(tmp_path: Path) -> Path:
    torch.manual_seed(0)
    VAEPipeline(VAE(sample_size=8, latent_dim=3, block_out_channels=(4, 8)).eval()).save_pretrained(tmp_path / "vae")
    Classifier(sample_size=8, block_out_channels=(4, 8), feature_dim=6).save_pretrained(tmp_path / "judge")
    return tmp_path / "vae"


def test_two_processes_and_one_make_the_same_figures(model: Path, tmp_path: Path) -> None:
    words = ["evaluate", str(model), "--dataset_name", "builtin:digits", "--num_samples", "60", "--batch_size", "25"]
    words += ["--metrics", "fid", "kid", "precision_recall", "mse", "nll", "--extractor", str(tmp_path / "judge")]
    assert main([*words, "--output_dir", str(tmp_path / "one")]) == 0
    ended = launch_two_of(["-m", "hf_genmodels.cli", *words, "--output_dir", str(tmp_path / "two")])
    assert ended.returncode == 0, ended.stderr
    assert ended.stdout.count("FID") == 1
    one, two = (json.loads((tmp_path / name / "metrics.json").read_text())["evaluation"] for name in ("one", "two"))
    for a, b in zip(one, two, strict=True):
        assert a | {"value": 0} == b | {"value": 0}
        assert b["value"] == pytest.approx(a["value"], rel=1e-6)  # processes may have other numbers of threads


def test_threads_of_a_program_stay_as_it_set_them(tmp_path: Path) -> None:
    program = tmp_path / "program.py"
    program.write_text(
        "import torch\n"
        "from hf_genmodels.evaluation.processes import Processes\n"
        "torch.set_num_threads(3)\n"
        "processes = Processes()\n"
        "assert (processes.number, torch.get_num_threads()) == (2, 3)\n"
        "processes.leave()\n"
    )
    ended = launch_two_of([str(program)])
    assert ended.returncode == 0, ended.stderr
