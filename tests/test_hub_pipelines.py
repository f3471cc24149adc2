"""A trained pipeline over HTTP: pushed by training and by hand, loaded in fresh processes, offline, after a move."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
from huggingface_hub import ModelCard

from tests.testing_utils.fresh import ROOT
from tests.testing_utils.hub_server import TOKEN, HubServer, run_client

TRAIN = f"""
import sys
from hf_genmodels.training.train_vae import main
main(["--dataset_name", "builtin:digits", "--output_dir", sys.argv[1], "--max_train_steps", "2", "--latent_dim", "2",
      "--block_out_channels", "4", "8", "--num_threads", "1",
      "--push_to_hub", "--hub_model_id", "tester/vae", "--hub_token", "{TOKEN}"])
"""
DRAW = """
import sys
import torch
import hf_genmodels

def draw(pipeline, name, **options):
    pipe = getattr(hf_genmodels, pipeline).from_pretrained(name, **options)
    images = pipe(batch_size=2, generator=torch.Generator().manual_seed(0), output_type="pt").images
    print(type(pipe).__name__, images.double().pow(2).sum().item())
    return pipe
"""


@pytest.fixture(scope="module")
def hub(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[HubServer, Path]]:
    """A Hub with the VAE that training pushed to tester/vae, and the training output folder."""
    home = tmp_path_factory.mktemp("hub")
    with HubServer() as server:
        printed = run_client(TRAIN, server, home, str(home / "vae"), token=None)
        assert f"published at {server.url}/tester/vae/commit/" in printed
        yield server, home / "vae"


def test_what_training_published(hub: tuple[HubServer, Path]) -> None:
    server, folder = hub
    files = server.files("tester/vae")
    assert set(files) == {
        "README.md",
        "losses.png",
        "metrics.json",
        "model_index.json",
        "samples/step-2.png",
        "training_args.json",
        "vae/config.json",
        "vae/diffusion_pytorch_model.safetensors",
    }
    assert not any(TOKEN.encode() in content for content in files.values())
    card = ModelCard(files["README.md"].decode())
    measured = json.loads((folder / "metrics.json").read_text())["validation"]
    assert {result.metric_name: result.metric_value for result in card.data.eval_results} == measured
    assert len(measured) > 0


def test_push_and_load_in_fresh_processes(hub: tuple[HubServer, Path], tmp_path: Path) -> None:
    server, folder = hub
    push = 'print(draw("VAEPipeline", sys.argv[1]).push_to_hub("tester/again", token=None))'
    expected, url = run_client(DRAW + push, server, tmp_path / "pushing", str(folder)).splitlines()
    assert url.startswith(f"{server.url}/tester/again/commit/")
    again, first = server.files("tester/again"), server.files("tester/vae")
    assert set(again) == set(first)
    assert {name for name in first if again[name] != first[name]} <= {
        "README.md",
        "model_index.json",
        "vae/config.json",
    }
    assert b'VAEPipeline.from_pretrained("tester/again")' in again["README.md"]

    load = """
for revision in sys.argv[1:]:
    for pipeline in ("VAEPipeline", "AutoPipeline"):
        draw(pipeline, "tester/again", revision=revision)
"""
    home, commit = tmp_path / "loading", url.rsplit("/", 1)[-1]
    server.requests.clear()
    assert run_client(DRAW + load, server, home, "main").splitlines() == [expected] * 2
    downloaded = {path.split("/resolve/")[1].split("/", 1)[1] for _, path in server.requests if "/resolve/" in path}
    assert downloaded == {name for name in again if name.endswith((".json", ".safetensors"))}
    server.requests.clear()
    assert run_client(DRAW + load, server, home, "main", commit, offline=True).splitlines() == [expected] * 4
    assert server.requests == []


EDIT = """
from huggingface_hub import HfApi, ModelCard
card = ModelCard.load("tester/edited")
card.data.license = "mit"
card.text += "Our own words."
HfApi().upload_file(path_or_fileobj=str(card).encode(), path_in_repo="README.md", repo_id="tester/edited")
"""


def test_what_people_wrote_on_the_card_stays(hub: tuple[HubServer, Path], tmp_path: Path) -> None:
    """Pushed again from the Hub's copy the card is not touched, from training's folder it keeps licence and words."""
    server, folder = hub
    push = "\ndraw('VAEPipeline', sys.argv[1]).push_to_hub('tester/edited')"
    run_client(DRAW + push, server, tmp_path, str(folder))
    run_client(EDIT, server, tmp_path)
    edited = server.files("tester/edited")
    run_client(DRAW + push, server, tmp_path, "tester/edited")
    again = server.files("tester/edited")
    assert again["README.md"] == edited["README.md"]
    assert set(again) == set(edited)
    run_client(DRAW + push, server, tmp_path, str(folder))
    written = server.files("tester/edited")["README.md"].decode()
    assert "license: mit" in written and written.rstrip().endswith("Our own words.")

    run_client(EDIT.replace("str(card)", "'Only ours.'"), server, tmp_path)
    run_client(DRAW + push, server, tmp_path, str(folder))
    assert server.files("tester/edited")["README.md"] == b"Only ours."


def test_a_folder_of_a_repository(hub: tuple[HubServer, Path], tmp_path: Path) -> None:
    """It gets the model alone, in place of an earlier one there; what lies beside it stays."""
    server, folder = hub
    push = """
from hf_genmodels.errors import UserError
pipe = draw("VAEPipeline", sys.argv[1])
from huggingface_hub import HfApi
HfApi().create_repo("tester/many")
for name in ("README.md", "models/vae/README.md", "models/vae/vae/stale.safetensors", "models/other.json", "vae/a"):
    HfApi().upload_file(path_or_fileobj=b"mine", path_in_repo=name, repo_id="tester/many")
for subfolder in ("..", "a/../b", "/", ""):
    try:
        pipe.push_to_hub("tester/many", subfolder=subfolder)
    except UserError as error:
        print(error)
pipe.push_to_hub("tester/many", subfolder="models/vae", safe_serialization=True)
draw("AutoPipeline", "tester/many", subfolder="models/vae")
"""
    expected, *refusals, loaded = run_client(DRAW + push, server, tmp_path, str(folder)).splitlines()
    assert loaded == expected
    assert refusals == [
        f"subfolder must be a folder inside the repository, got {name!r}" for name in ("..", "a/../b", "/", "")
    ]
    files = server.files("tester/many")
    assert {name for name, content in files.items() if content == b"mine"} == {
        *("README.md", "models/vae/README.md", "models/other.json", "vae/a"),
    }
    assert {name for name, content in files.items() if content != b"mine"} == {
        *("models/vae/model_index.json", "models/vae/vae/config.json"),
        "models/vae/vae/diffusion_pytorch_model.safetensors",
    }


def test_the_cards_snippet_runs_as_pasted(hub: tuple[HubServer, Path], tmp_path: Path) -> None:
    server, _ = hub
    text = server.files("tester/vae")["README.md"].decode()
    snippet = text.split("```python\n")[1].split("```")[0]
    check = (
        "\nassert len(images) == len(reconstructions) == len(latents) == len(log_likelihood) == 16 and len(path) == 8"
    )
    run_client(snippet + check, server, tmp_path)


def test_load_after_the_classes_moved(hub: tuple[HubServer, Path], tmp_path: Path) -> None:
    """The library with `VAE` and `VAEPipeline` in other files loads what the library of today published."""
    server, _ = hub
    for name in ("hf_genmodels", "pipelines", "model_cards"):
        shutil.copytree(ROOT / name, tmp_path / name, ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copy(ROOT / "setup.py", tmp_path)
    (tmp_path / "hf_genmodels" / "models" / "vae.py").rename(tmp_path / "hf_genmodels" / "models" / "moved_network.py")
    (tmp_path / "pipelines" / "vae.py").rename(tmp_path / "pipelines" / "moved_pipeline.py")
    for path in tmp_path.rglob("*.py"):
        text = path.read_text()
        text = text.replace("models.vae", "models.moved_network").replace("pipelines.vae", "pipelines.moved_pipeline")
        path.write_text(text)

    load = 'for pipeline in ("VAEPipeline", "AutoPipeline"): pipe = draw(pipeline, "tester/vae")'
    today = run_client(DRAW + load, server, tmp_path / "home").splitlines()
    where = f"import sys\nsys.path.insert(0, {str(tmp_path)!r})\n"
    modules = "\nprint(type(pipe).__module__, type(pipe.vae).__module__)"
    *moved, names = run_client(where + DRAW + load + modules, server, tmp_path / "home").splitlines()
    assert names == "hf_genmodels.pipelines.moved_pipeline hf_genmodels.models.moved_network"
    assert moved == today and len(today) == 2


def test_what_is_refused(hub: tuple[HubServer, Path], tmp_path: Path) -> None:
    server, folder = hub
    prepare = """
import os, pickle, sys
from pathlib import Path
from huggingface_hub import CommitOperationAdd, CommitOperationDelete, HfApi
from safetensors.torch import load_file, save_file

class Bomb:
    def __reduce__(self):
        return os.mkdir, (sys.argv[2],)

folder, weights = Path(sys.argv[1]), "vae/diffusion_pytorch_model.safetensors"
tensors = load_file(folder / weights)
tensors.popitem()
save_file(tensors, sys.argv[2] + ".safetensors")
bomb = pickle.dumps(Bomb())
changes = {
    "tester/pickle": [CommitOperationAdd("vae/diffusion_pytorch_model.bin", bomb), CommitOperationDelete(weights)],
    "tester/partial": [CommitOperationAdd(weights, sys.argv[2] + ".safetensors")],
    "tester/code": [
        CommitOperationAdd("vae/elsewhere.py", b"import os; os.mkdir(" + repr(sys.argv[2]).encode() + b")"),
        CommitOperationAdd("model_index.json", (folder / "model_index.json").read_bytes().replace(
            b'"hf_genmodels",', b'"elsewhere",')),
    ],
}
for repo_id, operations in changes.items():
    HfApi().create_repo(repo_id)
    HfApi().upload_folder(repo_id=repo_id, folder_path=folder, allow_patterns=["model_index.json", "vae/*"])
    HfApi().create_commit(repo_id, operations, commit_message="Damage")
"""
    load = """
from hf_genmodels.errors import UserError
loads = [("AutoencoderPipeline", "tester/vae"), ("VAEPipeline", "tester/pickle"), ("VAEPipeline", "tester/partial")]
for pipeline, name in [*loads, ("AutoPipeline", "tester/code")]:
    try:
        draw(pipeline, name)
    except UserError as error:
        print(error)
"""
    run_client(prepare, server, tmp_path, str(folder), str(tmp_path / "executed"))
    other, pickled, partial, code = run_client(DRAW + load, server, tmp_path).splitlines()
    assert other.startswith("tester/vae holds a VAEPipeline, not a AutoencoderPipeline")
    assert "the weights cannot be loaded" in pickled
    assert "missing keys in the checkpoint" in partial
    assert "elsewhere" in code
    assert not (tmp_path / "executed").exists()
