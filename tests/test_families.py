"""One sweep over the registry: every family has all its pieces, trains, saves, reloads, and samples or reconstructs.

What a family trains with is in its case file, `tests/families/<family>.py`.
"""

from __future__ import annotations

import ast
import dataclasses
import importlib
import json
import re
from collections.abc import Iterator
from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path

import pytest
import torch
from accelerate.state import AcceleratorState
from safetensors.torch import load_file

import hf_genmodels
from hf_genmodels import AutoPipeline, Classifier, UserError
from hf_genmodels.data import load_data
from hf_genmodels.families import FAMILIES, OURS, get_family
from hf_genmodels.loading import load_network
from hf_genmodels.objectives.base import Objective
from hf_genmodels.training.arguments import parse
from tests.families import CASES
from tests.testing_utils.pipelines import ROOT, draw
from tests.testing_utils.refusals import refused
from tests.testing_utils.training import largest_difference, weights

LOOP = "--max_train_steps 2 --checkpointing_steps 2 --train_batch_size 16 --num_threads 1 --log_steps 1 --use_ema"
FIT = "--train_batch_size 16 --num_threads 1"
CLOSED_FORM = [name for name in OURS if FAMILIES[name].is_fitted]
TRAINED = [name for name in OURS if name not in CLOSED_FORM]


def loop_options(family: str) -> list[str]:
    """The shortest run of a family: two steps, or a fit."""
    return (FIT if family in CLOSED_FORM else LOOP).split()


@pytest.fixture(autouse=True)
def _fresh_accelerator() -> Iterator[None]:
    """Accelerate keeps precision for the life of a process; each run here is to have its own."""
    AcceleratorState._reset_state(reset_partial_state=True)
    yield
    AcceleratorState._reset_state(reset_partial_state=True)


@dataclass
class Run:
    """A training run through a family's script."""

    family: str
    folder: Path
    arguments: list[str]

    def objective(self) -> Objective:
        """The objective with the networks as they were before the first step."""
        family = FAMILIES[self.family]
        data_args, args, family_args = parse(self.arguments, family.arguments, "")
        data = load_data(data_args, args.seed, family.layout(family_args))
        torch.manual_seed(args.seed)
        return family.build(family_args, data.spec)


def train(family: str, folder: Path, more: str = "") -> Run:
    """Train as the family's case says, with further options."""
    case = CASES[family]
    return train_on(case.dataset_name, family, folder, f"{case.options} {more}")


def train_on(dataset: str, family: str, folder: Path, options: str) -> Run:
    arguments = ["--dataset_name", dataset, "--output_dir", str(folder), *loop_options(family), *options.split()]
    importlib.import_module(f"hf_genmodels.training.train_{family}").main(arguments)
    return Run(family, folder, arguments)


@pytest.fixture(scope="module", params=OURS)
def run(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Run:
    folder = tmp_path_factory.mktemp(request.param) / "run"
    return train(request.param, folder)


@pytest.mark.parametrize("name", OURS)
def test_every_piece_is_there(name: str) -> None:
    family = get_family(name)
    assert family.name == name and family.title and family.pipeline_tag
    options = dataclasses.fields(family.arguments)
    assert not [option.name for option in options if not option.metadata.get("help")]
    script = importlib.import_module(f"hf_genmodels.training.train_{name}")
    assert callable(script.main) and f"training/train_{name}.py --dataset_name" in script.__doc__
    assert (ROOT / "training" / f"train_{name}.py").is_file()
    assert (files("hf_genmodels.model_cards") / f"{name}.md").read_text(encoding="utf-8").startswith("{% extends")
    tests = [ROOT / "tests" / "objectives" / f"test_{name}.py"]
    if family.pipeline is not None:
        module = getattr(hf_genmodels, family.pipeline).__module__
        tests.append(ROOT / "tests" / "pipelines" / f"test_{module.split('.')[-1]}.py")
    assert not [path for path in tests if not path.is_file()]


def test_no_script_objective_or_case_is_outside_the_registry() -> None:
    def stems(folder: str, pattern: str) -> set[str]:
        return {path.stem.removeprefix("train_") for path in (ROOT / folder).glob(pattern)}

    shared = {
        "__init__",
        "base",
        "closed_form",
        "critics",
        "denoising",
        "factorvae",
        "global_batch",
        "image_pool",
        "label_maps",
        "moment_matching",
        "noise_levels",
        "pictures",
    }
    assert stems("training", "train_*.py") == stems("hf_genmodels/objectives", "*.py") - shared == set(OURS)
    assert stems("tests/families", "[!_]*.py") == set(OURS)


def test_unknown_family() -> None:
    with pytest.raises(UserError, match="unknown family 'gna'; choose one of: autoencoder, vae, "):
        get_family("gna")


def test_the_output_folder_is_whole(run: Run) -> None:
    written = {path.name for path in run.folder.iterdir()}
    expected = {"README.md", "metrics.json", "training_args.json"}
    expected |= set() if run.family in CLOSED_FORM else {"losses.png", "checkpoint-2"}
    expected |= {"config.json"} if FAMILIES[run.family].pipeline is None else {"model_index.json", "samples"}
    assert expected <= written
    metrics = json.loads((run.folder / "metrics.json").read_text())
    assert metrics["family"] == run.family
    assert run.family in CLOSED_FORM or metrics["step"] == 2
    values = [*metrics["train"].values(), *metrics["validation"].values()]
    assert len(values) >= 2 and torch.tensor(values).isfinite().all()


@pytest.mark.parametrize("run", TRAINED, indirect=True)
def test_every_parameter_of_every_trained_network_moved(run: Run) -> None:
    objective = run.objective()
    trained = {name for phase in objective.phases for name in phase.trains}
    assert trained <= objective.networks.keys() and set(objective.ema) <= objective.networks.keys()
    for name, before in objective.networks.items():
        after = load_network(type(before), run.folder / "checkpoint-2" / "networks" / name).state_dict()
        still = [key for key, value in before.named_parameters() if torch.equal(value, after[key])]
        assert still == ([] if name in trained else [key for key, _ in before.named_parameters()])


def test_what_was_saved_reloads_and_works(run: Run) -> None:
    if FAMILIES[run.family].pipeline is None:
        network = load_network(Classifier, run.folder)
        assert network(torch.zeros(2, 1, 8, 8)).logits.shape == (2, 10)
    else:
        pipeline = AutoPipeline.from_pretrained(run.folder)
        assert type(pipeline).__name__ == FAMILIES[run.family].pipeline
        data = run.objective().data
        made = data.other or data
        assert pipeline.sample_shape == made.shape and pipeline.config.value_scale == made.value_scale
        images = draw(pipeline, output_type="pt").images
        assert images.shape[0] == 3 and images.isfinite().all()


@pytest.mark.parametrize("run", TRAINED, indirect=True)
def test_the_saved_networks_are_the_averages(run: Run) -> None:
    averages = run.folder / "checkpoint-2" / "ema"
    for path in averages.iterdir():
        saved = run.folder if FAMILIES[run.family].pipeline is None else run.folder / path.name
        ours, theirs = weights(saved), weights(path)
        assert ours.keys() == theirs.keys() and all(torch.equal(value, theirs[key]) for key, value in ours.items())


@pytest.mark.parametrize("run", TRAINED, indirect=True)
def test_bf16(run: Run, tmp_path: Path) -> None:
    half = train(run.family, tmp_path / "run", "--mixed_precision bf16")
    metrics = json.loads((half.folder / "metrics.json").read_text())
    assert torch.tensor([*metrics["train"].values(), *metrics["validation"].values()]).isfinite().all()
    parts = [path for part in ("networks", "ema") for path in (run.folder / "checkpoint-2" / part).iterdir()]
    assert any(part.parent.name == "ema" for part in parts)
    differences = {}
    for part in parts:
        name = str(part.relative_to(run.folder))
        kinds = {value.dtype for value in weights(half.folder / name).values()}
        assert kinds <= {torch.float32, torch.int64, torch.bool}
        differences[name] = largest_difference(part, half.folder / name)
    # an update of Adam is at most a learning rate, whichever way rounding turns a small gradient
    assert 0 < max(differences.values()) < 0.1, differences


def test_the_card_shows_how_to_load_it(run: Run) -> None:
    card = (run.folder / "README.md").read_text(encoding="utf-8")
    snippet = re.search(r"```python\n(.+?)```", card, re.DOTALL)
    assert snippet is not None
    names = {node.id for node in ast.walk(ast.parse(snippet[1])) if isinstance(node, ast.Name)}
    assert (FAMILIES[run.family].pipeline or "Classifier") in names
    assert f"training/train_{run.family}.py --dataset_name {CASES[run.family].dataset_name}" in card


@pytest.mark.parametrize("family", [name for name in OURS if CASES[name].vector_options is not None])
def test_vectors(family: str, tmp_path: Path) -> None:
    train_on("builtin:toy2d", family, tmp_path / "run", CASES[family].vector_options or "")
    pipeline = AutoPipeline.from_pretrained(tmp_path / "run")
    assert pipeline.sample_shape == (2,)
    points = draw(pipeline).images
    assert points.shape == (3, 2)
    assert list((tmp_path / "run" / "samples").glob("step-*.png"))


@pytest.mark.parametrize("family", [name for name in OURS if CASES[name].vector_options is None])
def test_families_that_take_no_vectors_say_so_and_write_nothing(family: str, tmp_path: Path) -> None:
    options = CASES[family].options
    if CASES[family].dataset_name != "builtin:digits":  # of two images
        options = "--conditioning_image_column image --target_image_column image"
    with refused("builtin:toy2d has vectors"):
        train_on("builtin:toy2d", family, tmp_path / "run", options)
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize("family", CLOSED_FORM)
@pytest.mark.parametrize("option", ["--max_train_steps 2", "--use_ema", "--mixed_precision bf16", "--random_flip"])
def test_families_without_steps_refuse_options_of_training(family: str, option: str, tmp_path: Path) -> None:
    with pytest.raises(UserError, match=f"^{option.split()[0]} has no meaning for {family}, which is fitted to all"):
        train_on("builtin:digits", family, tmp_path / "run", option)
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize("family", TRAINED)
def test_training_goes_on_from_a_saved_model(family: str, tmp_path: Path) -> None:
    run = train(family, tmp_path / "first")
    train(family, tmp_path / "second", f"--pretrained_model_name_or_path {run.folder} --learning_rate 1e-12")
    saved = [path.relative_to(run.folder) for path in run.folder.rglob("*.safetensors")]
    for path in (path for path in saved if path.parts[0] != "checkpoint-2"):
        after = load_file(tmp_path / "second" / path)
        for name, value in load_file(run.folder / path).items():
            if "running_" not in name and "num_batches" not in name:
                torch.testing.assert_close(after[name], value, atol=1e-8, rtol=1e-6)
