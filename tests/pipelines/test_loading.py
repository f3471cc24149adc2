"""What `from_pretrained` refuses: one line that names the folder, and nothing is executed or imported."""

from __future__ import annotations

import json
import os
import pickle
import re
import shutil
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from diffusers.utils import logging
from safetensors.torch import load_file, save_file

from hf_genmodels import VAE, Autoencoder, AutoencoderPipeline, AutoPipeline, UserError, VAEPipeline
from hf_genmodels.cli import main
from hf_genmodels.training.train_vae import main as train_vae
from tests.testing_utils.pipelines import tiny_pipeline
from tests.testing_utils.refusals import refused

WEIGHTS = Path("vae", "diffusion_pytorch_model.safetensors")


class Bomb:
    """Unpickling it makes a folder."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> Any:
        return os.mkdir, (str(self.path),)


@pytest.fixture(scope="module")
def saved(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("saved")
    tiny_pipeline("VAEPipeline").save_pretrained(folder)
    return folder


@pytest.fixture
def folder(saved: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(saved, tmp_path / "model"))


def cannot_be_loaded(folder: Path, message: str, **options: Any) -> None:
    for pipeline in (VAEPipeline, AutoPipeline):
        with refused(re.escape(message)) as error:
            pipeline.from_pretrained(folder, **options)
        assert folder.name in str(error.value) or options


def edit_json(path: Path, **changes: Any) -> None:
    path.write_text(json.dumps(json.loads(path.read_text()) | changes))


def edit_weights(folder: Path, change: Callable[[dict[str, torch.Tensor]], Any]) -> None:
    tensors = load_file(folder / WEIGHTS)
    change(tensors)
    save_file(tensors, folder / WEIGHTS)


def test_another_pipelines_folder(folder):
    message = "holds a VAEPipeline, not a AutoencoderPipeline; use that class, or AutoPipeline"
    with pytest.raises(UserError, match=message):
        AutoencoderPipeline.from_pretrained(folder)


def test_a_network_that_cannot_be_built_leaves_the_default_type_alone(folder: Path) -> None:
    edit_json(folder / "vae" / "config.json", latent_dim=0)
    cannot_be_loaded(folder, "latent_dim", dtype=torch.bfloat16)
    assert torch.get_default_dtype() == torch.float32


@pytest.mark.parametrize("name", ["DiTPipeline", "UserError", None, ["code", "VAEPipeline"]])
def test_a_class_that_is_no_pipeline_of_ours(name, folder):
    edit_json(folder / "model_index.json", _class_name=name)
    cannot_be_loaded(folder, f"holds a {name}, ")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda tensors: tensors.pop("posterior.bias"), "missing keys in the checkpoint: posterior.bias"),
        (lambda tensors: tensors.update(extra=torch.zeros(1)), "unexpected keys in the checkpoint: extra"),
        (lambda tensors: tensors.update({"posterior.bias": torch.zeros(3)}), "posterior.bias expected shape"),
    ],
)
def test_weights_that_do_not_fit(change, message, folder):
    edit_weights(folder, change)
    cannot_be_loaded(folder, message)


def test_many_missing_weights_are_counted(folder):
    edit_weights(folder, lambda tensors: [tensors.pop(name) for name in list(tensors)[:5]])
    cannot_be_loaded(folder, " and 2 more")


@pytest.mark.parametrize("size", [0, 4, 200, -1])
def test_truncated_weights(size, folder):
    content = (folder / WEIGHTS).read_bytes()
    (folder / WEIGHTS).write_bytes(content[:size])
    cannot_be_loaded(folder, "the weights cannot be loaded")


@pytest.mark.parametrize("name", ["diffusion_pytorch_model.bin", "diffusion_pytorch_model.safetensors"])
@pytest.mark.parametrize("harmless", [True, False])
def test_pickles_are_never_opened(name, harmless, folder, tmp_path):
    tensors = load_file(folder / WEIGHTS)
    (folder / WEIGHTS).unlink()
    if harmless:
        torch.save(tensors, folder / "vae" / name)
    else:
        (folder / "vae" / name).write_bytes(pickle.dumps(Bomb(tmp_path / "executed")))
    cannot_be_loaded(folder, "the weights cannot be loaded")
    assert not (tmp_path / "executed").exists()


@pytest.mark.parametrize("variant", [None, "fp16"])
@pytest.mark.parametrize(
    "place",
    ["{}.bin", "{}.safetensors.bin", "../{}.safetensors", "/tmp/{}.safetensors", "a\\{}.safetensors", "..", 3, None],
)
def test_an_index_names_safetensors_of_its_folder_alone(place, variant, folder, tmp_path):
    """Also where it is another variant's, and where the file is there."""
    bomb = pickle.dumps(Bomb(tmp_path / "executed"))
    for name in ("shard.bin", "shard.safetensors.bin"):
        (folder / "vae" / name).write_bytes(bomb)
    (folder / "shard.safetensors").write_bytes((folder / WEIGHTS).read_bytes())
    shard = place.format("shard") if isinstance(place, str) else place
    index = {"metadata": {}, "weight_map": dict.fromkeys(load_file(folder / WEIGHTS), shard)}
    name = "diffusion_pytorch_model.safetensors.index.json"
    path = folder / "vae" / (name if variant is None else name.replace("json", "fp16.json"))
    path.write_text(json.dumps(index))
    cannot_be_loaded(folder, f"{path.name} names {json.dumps(shard)}, which is no safetensors file of its folder")
    assert not (tmp_path / "executed").exists()


@pytest.mark.parametrize(
    ("index", "message"),
    [
        (
            '{"metadata": {}, "weight_map": {"posterior.bias": "lost.safetensors"}}',
            " names lost.safetensors, which is",
        ),
        (
            json.dumps({"metadata": {}, "weight_map": {"posterior.bias": "m" * 300 + ".safetensors"}}),
            f" names {'m' * 300}.safetensors, which is not there",
        ),
        ('{"metadata": {}}', " is no index of weights: it needs a weight_map and metadata"),
        ('{"weight_map": {"posterior.bias": "diffusion_pytorch_model.safetensors"}}', " is no index of weights"),
        ('{"metadata": [], "weight_map": []}', " is no index of weights"),
        ("[]", " must hold a JSON object"),
        ("{", " cannot be read as JSON"),
    ],
)
def test_a_broken_index_is_named(index, message, folder):
    path = folder / "vae" / "diffusion_pytorch_model.safetensors.index.json"
    path.write_text(index)
    cannot_be_loaded(folder, f"{path}{message}")


def test_a_foreign_library_is_not_imported(folder, tmp_path, monkeypatch):
    (tmp_path / "elsewhere.py").write_text("from hf_genmodels import VAE\n")
    (folder / "vae" / "elsewhere.py").write_text("from hf_genmodels import VAE\n")
    monkeypatch.syspath_prepend(tmp_path)
    edit_json(folder / "model_index.json", vae=["elsewhere", "VAE"])
    cannot_be_loaded(folder, "component vae is a VAE of 'elsewhere', and nothing is imported on a file's word")
    assert "elsewhere" not in sys.modules


@pytest.mark.parametrize(
    ("component", "message"),
    [
        (["hf_genmodels", "NoSuchNetwork"], "hf_genmodels has no network or scheduler called 'NoSuchNetwork'"),
        (["hf_genmodels", "UserError"], "no network or scheduler called 'UserError'"),
        (["hf_genmodels", "AutoPipeline"], "no network or scheduler called 'AutoPipeline'"),
        (["diffusers", "DDPMPipeline"], "no network or scheduler called 'DDPMPipeline'"),
        (["diffusers", "DDPMScheduler"], "component vae must be a VAE, not a DDPMScheduler"),
        (["transformers", "AutoModel"], "no network or scheduler called 'AutoModel'"),
        (["hf_genmodels", "Autoencoder"], "vae holds a VAE, not a Autoencoder"),
        ([None, None], "model_index.json names no component vae"),
        ("VAE", "model_index.json names no component vae"),
        (None, "model_index.json names no component vae"),
    ],
)
def test_components_that_are_no_networks(component, message, folder):
    edit_json(folder / "model_index.json", vae=component)
    cannot_be_loaded(folder, message)


def test_a_missing_component(folder):
    index = json.loads((folder / "model_index.json").read_text())
    del index["vae"]
    (folder / "model_index.json").write_text(json.dumps(index))
    cannot_be_loaded(folder, "model_index.json names no component vae")


def test_a_repository_cannot_choose_another_network(folder):
    """Only what the constructor's annotation allows is loaded, whatever the file says."""
    edit_json(folder / "model_index.json", vae=["transformers", "BertModel"])
    cannot_be_loaded(folder, "component vae must be a VAE, not a BertModel")
    with pytest.raises(UserError, match="of VAEPipeline must be a VAE, but Autoencoder has no posterior_p"):
        VAEPipeline.from_pretrained(folder, vae=Autoencoder(sample_size=4, architecture="linear"))


@pytest.mark.parametrize(
    ("path", "content", "message"),
    [
        ("model_index.json", None, "model_index.json is missing; is "),
        ("model_index.json", "{", "model_index.json cannot be read as JSON"),
        ("model_index.json", "[]", "model_index.json must hold a JSON object"),
        ("vae/config.json", None, "config.json is missing; is "),
        ("vae/config.json", "{", "config.json cannot be read as JSON"),
        *(
            ("vae/config.json", json.dumps({"_class_name": "VAE", **entry}), f"config.json{message}")
            for entry, message in [
                ({"activation": "cosine"}, " has an impossible value: activation 'cosine' is unknown"),
                ({"sample_size": "8"}, ": sample_size must be int | list[int] | tuple[int, int] | None, got '8'"),
                ({"latent_dim": 2.5}, ": latent_dim must be int, got 2.5"),
                ({"latent_dim": None}, ": latent_dim must be int, got None"),
                ({"latent_dim": True}, ": latent_dim must be int, got True"),
                ({"latent_dim": -3}, " has an impossible value: latent_dim"),
                ({"latent_dim": 10**25}, " has an impossible value: "),
                ({"activation": ["relu"]}, ": activation must be Literal["),
                ({"block_out_channels": 8}, ": block_out_channels must be tuple[int, ...], got 8"),
                ({"block_out_channels": [8, "16"]}, ": block_out_channels must be tuple[int, ...], got [8, '16']"),
                ({"block_out_channels": []}, " has an impossible value: "),
                ({"learn_std": "yes"}, ": learn_std must be bool, got 'yes'"),
                ({"gaussian_std": {}}, ": gaussian_std must be float, got {}"),
                ({"gaussian_std": "x" * 500}, f": gaussian_std must be float, got '{'x' * 79}..."),
                ({"quantization_config": {"quant_method": "bitsandbytes", "load_in_4bit": True}}, ""),
                ({"quantization_config": 3}, ""),
            ]
        ),
        ("vae/config.json", '{"architectures": [3, null]}', "holds a 3None, not a VAE"),
        (
            "model_index.json",
            '{"_class_name": "VAEPipeline", "vae": ["hf_genmodels", "VAE"], "value_scale": "x"}',
            "model_index.json: value_scale must be float, got 'x'",
        ),
    ],
)
def test_damaged_json(path, content, message, folder):
    (folder / path).unlink()
    if content is not None:
        (folder / path).write_text(content)
    cannot_be_loaded(folder, message)


def test_a_component_that_was_not_copied(folder):
    shutil.rmtree(folder / "vae")
    cannot_be_loaded(
        folder, f"{folder} has no folder vae, whose VAE model_index.json names; copy or download all of it"
    )


@pytest.mark.parametrize(
    ("entry", "message"),
    [
        ({"num_train_timesteps": "10"}, ": num_train_timesteps must be int, got '10'"),
        ({"num_train_timesteps": -1}, ": num_train_timesteps must lie between 1 and 1000000, got -1"),
        ({"beta_start": None}, ": beta_start must be float, got None"),
        ({"beta_schedule": "steep"}, " has an impossible value: steep"),
        ({"trained_betas": [0.1, 0.2]}, ": there are 2 trained_betas for num_train_timesteps 3; give as many"),
        ({"trained_betas": "many"}, ": trained_betas must be "),
        ({"prediction_type": 3}, ": prediction_type must be "),
        ({"clip_sample": 1}, ": clip_sample must be bool, got 1"),
        ([], " must hold a JSON object"),
        (None, " is missing; is "),
    ],
)
def test_schedulers_with_impossible_values(entry, message, tmp_path):
    tiny_pipeline("DDPMPipeline").save_pretrained(tmp_path)
    path = tmp_path / "scheduler" / "scheduler_config.json"
    if isinstance(entry, dict):
        edit_json(path, **entry)
    elif entry is None:
        path.unlink()
    else:
        path.write_text(json.dumps(entry))
    with refused(re.escape(f"{path}{message}")):
        AutoPipeline.from_pretrained(tmp_path)


def test_what_a_library_did_not_foresee(tmp_path):
    tiny_pipeline("DDPMPipeline").save_pretrained(tmp_path)
    edit_json(tmp_path / "unet" / "config.json", time_embedding_type="sundial")
    with refused("config.json has an impossible value: "):
        AutoPipeline.from_pretrained(tmp_path)


def test_a_checkpoint_of_training(tmp_path, capsys):
    run = tmp_path / "vae"
    data = "--dataset_name builtin:toy2d --max_train_samples 32 --train_batch_size 4 --num_threads 1"
    network = "--architecture mlp --hidden_dims 4 --latent_dim 2 --max_train_steps 2 --checkpointing_steps 1"
    train_vae([*data.split(), *network.split(), "--output_dir", str(run)])
    for pipeline in (VAEPipeline, AutoPipeline):
        with refused(r"checkpoint-1 is a checkpoint of training, not a model: give the folder of the finished run"):
            pipeline.from_pretrained(run / "checkpoint-1")
    for command in (
        "sample {} --output_dir {}",
        "evaluate {} --dataset_name builtin:toy2d --metrics mmd --output_dir {}",
    ):
        assert main(command.format(run / "checkpoint-2", tmp_path / "out").split()) == 1
        assert "checkpoint-2 is a checkpoint of training" in capsys.readouterr().err.splitlines()[-1]
    assert not (tmp_path / "out").exists()
    assert VAE.from_pretrained(str(run / "checkpoint-2" / "networks" / "vae")).config.latent_dim == 2


@pytest.mark.parametrize("name", ["m" * 300, "m" * 300 + "/m", "~nobody_of_that_name/model", "/root/" + "m/" * 3000])
def test_names_that_no_file_can_have(name, folder):
    for pipeline in (VAEPipeline, AutoPipeline):
        with refused("cannot be looked up: "):
            pipeline.from_pretrained(name)
        with refused("cannot be looked up: |has no folder"):
            pipeline.from_pretrained(folder, subfolder=name)


def test_unknown_option(folder):
    cannot_be_loaded(folder, "VAEPipeline.from_pretrained has no option 'safety_checker'", safety_checker=None)
    assert VAEPipeline.from_pretrained(folder, value_scale=7.0).config.value_scale == 7.0


def test_no_such_folder(tmp_path):
    cannot_be_loaded(tmp_path / "nothing", "there is no folder")


def test_the_logger_is_as_it_was(folder):
    before = logging.get_verbosity()
    logging.set_verbosity(logging.DEBUG)
    try:
        VAEPipeline.from_pretrained(folder)
        assert logging.get_verbosity() == logging.DEBUG
        (folder / WEIGHTS).unlink()
        cannot_be_loaded(folder, "the weights cannot be loaded")
        assert logging.get_verbosity() == logging.DEBUG
    finally:
        logging.set_verbosity(before)


@pytest.mark.parametrize("value", ["x", None, True, 0.0, float("inf")])
def test_white_is_a_number_above_0(value):
    with refused("value_scale must be the value that means white"):
        tiny_pipeline("VAEPipeline", value_scale=value)
