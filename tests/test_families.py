"""One sweep over the registry: every family has all its pieces, trains, saves, reloads, and samples or reconstructs.

A new family adds a line to `OPTIONS`, and one to `VECTOR_OPTIONS` if it takes vectors.
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
from hf_genmodels.families import FAMILIES, PIPELINES, get_family
from hf_genmodels.loading import load_network
from hf_genmodels.objectives.base import Objective
from hf_genmodels.objectives.closed_form import ClosedFormObjective
from hf_genmodels.training.arguments import parse
from tests.testing_utils.pipelines import ROOT, draw
from tests.testing_utils.training import largest_difference, weights

# the data of a family, where they are not builtin:digits
DATASETS = {"pix2pix": "builtin:edges", "cyclegan": "builtin:edges", "polarimetric": "builtin:polarimetric"}
TRANSLATOR = "--resolution 8 --max_train_samples 32 --width 2 --discriminator_width 2 --receptive_field 16"
# the smallest network of a family, on its data
OPTIONS = {
    "autoencoder": "--latent_dim 2 --block_out_channels 4 8 --classification_weight 0.1 --corruption gaussian",
    "vae": "--latent_dim 2 --block_out_channels 4 8 --learn_std",
    "classifier": "--block_out_channels 4 8 --feature_dim 5",
    "gan": "--latent_dim 2 --width 2 --conditioning cgan --gradient_penalty r1 --critic_updates 2 --packing 2",
    "began": "--latent_dim 2 --width 2",
    "tempered_gan": "--latent_dim 2 --width 2 --lens_width 2 --lens_steps 2",
    "avae": "--latent_dim 2 --width 2 --architecture avae --latent_warmup_steps 0",
    "bigan": "--latent_dim 2 --width 2",
    "vaegan": "--latent_dim 2 --width 2",
    "aae": "--latent_dim 2 --width 2 --latent_hidden_dims 8 --prior mixture --num_components 3",
    "flow": "--num_flow_steps 1 --num_scales 1 --hidden_channels 4",
    "ddpm": "--block_out_channels 8 8 --layers_per_block 1 --ddpm_num_steps 25 --ddpm_num_inference_steps 5",
    "pix2pix": f"{TRANSLATOR} --num_downs 2 --random_flip",
    "cyclegan": f"{TRANSLATOR} --num_blocks 1 --pool_size 16 --norm batch",
    "polarimetric": f"{TRANSLATOR} --num_blocks 1 --norm batch --dataset_config_name 32 --random_flip",
    "pixelwise": "--width 2 --num_residual_blocks 1 --known_pixels 0.05",
    "gaussian": "",
    "gaussian_mixture": "--num_components 2",
    "texture": "",
}
# and on builtin:toy2d
VECTOR_OPTIONS = {
    "autoencoder": "--latent_dim 1 --architecture mlp --hidden_dims 8",
    "vae": "--latent_dim 2 --architecture mlp --hidden_dims 8 --gaussian_std 0.1",
    "gan": "--latent_dim 2 --architecture mlp --hidden_dims 8 --packing 2",
    "began": "--latent_dim 2 --hidden_dims 8",
    "tempered_gan": "--latent_dim 2 --architecture mlp --hidden_dims 8",
    "avae": "--latent_dim 1 --architecture mlp --hidden_dims 8",
    "bigan": "--latent_dim 2 --architecture mlp --hidden_dims 8",
    "vaegan": "--latent_dim 1 --architecture mlp --hidden_dims 8",
    "aae": "--latent_dim 1 --architecture mlp --hidden_dims 8 --latent_hidden_dims 8",
    "flow": "--num_flow_steps 2 --hidden_dims 8",
    "ddpm": "--block_out_channels 8 --layers_per_block 1 --ddpm_num_steps 25 --ddpm_num_inference_steps 5",
    "gaussian": "",
    "gaussian_mixture": "--num_components 2",
}
LOOP = "--max_train_steps 2 --checkpointing_steps 2 --train_batch_size 16 --num_threads 1 --log_steps 1 --use_ema"
FIT = "--train_batch_size 16 --num_threads 1"
CLOSED_FORM = [name for name, family in FAMILIES.items() if issubclass(family.load_objective(), ClosedFormObjective)]
TRAINED = [name for name in FAMILIES if name not in CLOSED_FORM]


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
        objective_class = FAMILIES[self.family].load_objective()
        data_args, args, family_args = parse(self.arguments, objective_class.Arguments, "")
        data = load_data(data_args, args.seed, objective_class.layout(family_args))
        torch.manual_seed(args.seed)
        return objective_class.from_args(family_args, data.spec)


def dataset_of(family: str) -> str:
    return DATASETS.get(family, "builtin:digits")


def train(family: str, dataset: str, options: str, folder: Path) -> Run:
    arguments = ["--dataset_name", dataset, "--output_dir", str(folder), *loop_options(family), *options.split()]
    importlib.import_module(FAMILIES[family].script).main(arguments)
    return Run(family, folder, arguments)


@pytest.fixture(scope="module", params=FAMILIES)
def run(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Run:
    folder = tmp_path_factory.mktemp(request.param) / "run"
    return train(request.param, dataset_of(request.param), OPTIONS[request.param], folder)


@pytest.mark.parametrize("name", FAMILIES)
def test_every_piece_is_there(name: str) -> None:
    family = get_family(name)
    assert family.name == name and family.title and family.pipeline_tag
    objective = family.load_objective()
    assert issubclass(objective, Objective)
    options = dataclasses.fields(objective.Arguments)
    assert not [option.name for option in options if not option.metadata.get("help")]
    script = importlib.import_module(family.script)
    assert callable(script.main) and f"training/train_{name}.py --dataset_name" in script.__doc__
    assert (ROOT / "training" / f"train_{name}.py").is_file()
    assert (files("hf_genmodels.model_cards") / f"{name}.md").read_text(encoding="utf-8").startswith("{% extends")
    tests = [ROOT / "tests" / "objectives" / f"test_{name}.py"]
    if family.pipeline is not None:
        module = getattr(hf_genmodels, family.pipeline).__module__
        tests.append(ROOT / "tests" / "pipelines" / f"test_{module.split('.')[-1]}.py")
    assert not [path for path in tests if not path.is_file()]


def test_no_script_or_objective_is_outside_the_registry() -> None:
    scripts = {path.stem.removeprefix("train_") for path in (ROOT / "training").glob("train_*.py")}
    modules = (ROOT / "hf_genmodels" / "objectives").glob("*.py")
    pattern = r"^    Arguments(: ClassVar\[type\])? = (?!NoArguments)\w+$"
    objectives = {path.stem for path in modules if re.search(pattern, path.read_text(), re.M)}
    assert scripts == objectives == set(FAMILIES)


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
    half = train(run.family, dataset_of(run.family), f"{OPTIONS[run.family]} --mixed_precision bf16", tmp_path / "run")
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
    assert f"training/train_{run.family}.py --dataset_name {dataset_of(run.family)}" in card


@pytest.mark.parametrize("family", VECTOR_OPTIONS)
def test_vectors(family: str, tmp_path: Path) -> None:
    train(family, "builtin:toy2d", VECTOR_OPTIONS[family], tmp_path / "run")
    pipeline = AutoPipeline.from_pretrained(tmp_path / "run")
    assert pipeline.sample_shape == (2,)
    points = draw(pipeline).images
    assert points.shape == (3, 2)
    assert list((tmp_path / "run" / "samples").glob("step-*.png"))


@pytest.mark.parametrize("family", sorted(FAMILIES.keys() - VECTOR_OPTIONS.keys()))
def test_families_that_take_no_vectors_say_so_and_write_nothing(family: str, tmp_path: Path) -> None:
    options = OPTIONS[family]
    if family in DATASETS:  # of two images
        options = "--conditioning_image_column image --target_image_column image"
    with pytest.raises(UserError, match="builtin:toy2d has vectors") as error:
        train(family, "builtin:toy2d", options, tmp_path / "run")
    assert "\n" not in str(error.value)
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize("family", CLOSED_FORM)
@pytest.mark.parametrize("option", ["--max_train_steps 2", "--use_ema", "--mixed_precision bf16", "--random_flip"])
def test_families_without_steps_refuse_options_of_training(family: str, option: str, tmp_path: Path) -> None:
    with pytest.raises(UserError, match=f"^{option.split()[0]} has no meaning for {family}, which is fitted to all"):
        train(family, "builtin:digits", option, tmp_path / "run")
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize("family", TRAINED)
def test_training_goes_on_from_a_saved_model(family: str, tmp_path: Path) -> None:
    run = train(family, dataset_of(family), OPTIONS[family], tmp_path / "first")
    options = f"{OPTIONS[family]} --pretrained_model_name_or_path {run.folder} --learning_rate 1e-12"
    train(family, dataset_of(family), options, tmp_path / "second")
    saved = [path.relative_to(run.folder) for path in run.folder.rglob("*.safetensors")]
    for path in (path for path in saved if path.parts[0] != "checkpoint-2"):
        after = load_file(tmp_path / "second" / path)
        for name, value in load_file(run.folder / path).items():
            if "running_" not in name and "num_batches" not in name:
                torch.testing.assert_close(after[name], value, atol=1e-8, rtol=1e-6)


def test_pipelines_of_the_registry() -> None:
    assert {name for family in FAMILIES.values() for name in family.pipelines} == PIPELINES
    assert all(family.pipeline is not None or not family.variants for family in FAMILIES.values())
