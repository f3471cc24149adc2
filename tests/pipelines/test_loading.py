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

from hf_genmodels import Autoencoder, AutoencoderPipeline, AutoPipeline, UserError, VAEPipeline
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


@pytest.mark.parametrize("name", ["DDIMPipeline", "UserError", None, ["code", "VAEPipeline"]])
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
        (
            "vae/config.json",
            '{"_class_name": "VAE", "activation": "cosine"}',
            "config.json has an impossible value: activation 'cosine' is unknown",
        ),
    ],
)
def test_damaged_json(path, content, message, folder):
    (folder / path).unlink()
    if content is not None:
        (folder / path).write_text(content)
    cannot_be_loaded(folder, message)


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
