"""Publishing and resolving hand-made model folders over HTTP; trained ones are in `test_hub_pipelines.py`."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest
from huggingface_hub import ModelCard

from hf_genmodels.cards import make_card, write_card
from hf_genmodels.errors import UserError
from hf_genmodels.folders import resolve_folder
from hf_genmodels.hub import copy_card_files, copy_descriptions, publish, published_files
from tests.testing_utils.hub_server import TOKEN, HubServer, run_client
from tests.testing_utils.model_folders import (
    LOADED,
    PUBLISHED,
    SECRET,
    write_model,
    write_network,
    write_trained_model,
)
from tests.testing_utils.refusals import refused


@pytest.fixture
def trained(tmp_path: Path) -> Path:
    return write_trained_model(tmp_path / "runs" / "digits")


def test_what_may_leave_the_folder(trained: Path) -> None:
    assert set(published_files(trained)) == PUBLISHED - {"README.md"}


def test_files_of_a_family_without_a_pipeline(tmp_path: Path) -> None:
    folder = write_model(tmp_path, "classifier")
    (folder / "model.py").touch()
    assert set(published_files(folder)) == {
        "config.json",
        "diffusion_pytorch_model.safetensors",
        "training_args.json",
    }


def test_what_a_card_is_made_of_can_be_copied(trained: Path, tmp_path: Path) -> None:
    write_card(trained, license="mit")
    copy = write_model(tmp_path / "copy")
    copy_card_files(trained, copy)
    assert {path.relative_to(copy).as_posix() for path in copy.rglob("*") if path.is_file()} == PUBLISHED
    write_card(copy)
    assert str(make_card(copy, repo_id="a/b", license="mit")) == str(make_card(trained, repo_id="a/b", license="mit"))


LINKED = (
    "losses.png",
    "metrics.json",
    "training_args.json",
    "model_index.json",
    "README.md",
    "samples",
    "samples/step-500.png",
    "vae",
    "vae/config.json",
    "vae/diffusion_pytorch_model.safetensors",
    "vae/other.json",
    "training_networks",
    "training_networks/critic",
    "training_networks/critic/config.json",
    "training_networks/other",
    "training_networks/other.json",
)


@pytest.mark.parametrize("name", LINKED)
def test_links_are_not_published(name: str, trained: Path, tmp_path: Path) -> None:
    secret = tmp_path / "secret"
    path = trained / name
    if path.is_dir():
        path.rename(secret)
    elif "." in path.name:
        secret.write_bytes(path.read_bytes() if path.exists() else b"{}")
        path.unlink(missing_ok=True)
    else:
        secret.mkdir()
    path.symlink_to(secret)
    message = f"{path} is a link, and links are not published; put what it leads to in its place"
    for act in (published_files, lambda folder: copy_descriptions(folder, tmp_path / "copy")):
        with refused(re.escape(message)):
            act(trained)
    if not name.startswith(("vae", "model_index")):
        with refused(re.escape(message)):
            copy_card_files(trained, tmp_path / "copy")
    assert not (tmp_path / "copy").exists()
    with refused(re.escape(message)):  # before the Hub is asked for anything
        publish(trained, "tester/model", token="hf_wrong")


def test_a_dangling_link_is_no_missing_file(trained: Path) -> None:
    (trained / "losses.png").unlink()
    (trained / "losses.png").symlink_to("nowhere")
    with refused("losses.png is a link"):
        published_files(trained)


def test_links_that_nothing_publishes_and_links_to_the_folder_are_fine(trained: Path, tmp_path: Path) -> None:
    (trained / "vae" / "notes.txt").symlink_to(tmp_path / "file")
    (trained / "elsewhere").symlink_to(tmp_path)
    (tmp_path / "latest").symlink_to(trained)
    assert set(published_files(tmp_path / "latest")) == PUBLISHED - {"README.md"}


def test_the_links_of_the_hubs_cache_are_its_files(trained: Path, tmp_path: Path) -> None:
    snapshot, blobs = tmp_path / "hub" / "snapshots" / "abc", tmp_path / "hub" / "blobs"
    blobs.mkdir(parents=True)
    for number, (name, path) in enumerate(published_files(trained).items()):
        (snapshot / name).parent.mkdir(parents=True, exist_ok=True)
        path.rename(blobs / str(number))
        (snapshot / name).symlink_to(blobs / str(number))
    assert set(published_files(snapshot)) == PUBLISHED - {"README.md"}
    (snapshot / "losses.png").unlink()
    (snapshot / "losses.png").symlink_to(tmp_path / "secret")
    with refused("losses.png is a link"):
        published_files(snapshot)
    blobs.rename(tmp_path / "elsewhere")
    blobs.symlink_to(tmp_path / "elsewhere")
    (snapshot / "losses.png").unlink()
    with refused("is a link"):
        published_files(snapshot)


PUBLISH = """
import sys
from hf_genmodels.hub import publish
for argument in sys.argv[1:]:
    options = dict(option.split("=") for option in argument.split(",")[2:])
    print(publish(*argument.split(",")[:2], **options))
"""
RESOLVE = """
import json, sys
from hf_genmodels.errors import UserError
from hf_genmodels.folders import resolve_folder
for argument in sys.argv[1:]:
    name, options = argument.split(" ", 1)
    try:
        folder = resolve_folder(name, **json.loads(options))
        files = [path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file()]
        print(json.dumps([str(folder), sorted(files)]))
    except UserError as error:
        print(error)
"""


def resolve(server: HubServer, home: Path, *calls: tuple[str, dict[str, Any]], **environment: Any) -> list[Any]:
    """`resolve_folder` for each (name, options): [folder, its files], or the message of the error."""
    arguments = [f"{name} {json.dumps(options)}" for name, options in calls]
    lines = run_client(RESOLVE, server, home, *arguments, **environment).splitlines()
    assert len(lines) == len(calls)
    return [json.loads(line) if line.startswith("[") else line for line in lines]


def test_publish_and_resolve(trained: Path, tmp_path: Path) -> None:
    with HubServer() as server:
        url = run_client(PUBLISH, server, tmp_path / "a", f"{trained},digits,license=mit").strip()
        assert re.fullmatch(f"{server.url}/tester/digits/commit/[0-9a-f]{{40}}", url)
        files = server.files("tester/digits")
        assert set(files) == PUBLISHED
        assert not any(SECRET.encode() in content for content in files.values())
        assert json.loads(files["training_args.json"])["arguments"]["beta"] == 4.0
        assert files["README.md"] == (trained / "README.md").read_bytes()
        card = ModelCard(files["README.md"].decode())
        assert 'from_pretrained("tester/digits")' in card.text
        assert [result.metric_value for result in card.data.eval_results] == [31.125, 12.5]

        home = tmp_path / "b"
        (folder, names), (_, more), (sub, inside) = resolve(
            server,
            home,
            ("tester/digits", {}),
            ("tester/digits", {"with_training_networks": True, "cache_dir": str(tmp_path / "c")}),
            ("tester/digits", {"subfolder": "vae", "cache_dir": str(tmp_path / "d")}),
        )
        assert set(names) == LOADED
        assert set(more) == LOADED | {name for name in PUBLISHED if name.startswith("training_networks/")}
        assert inside == ["config.json", "diffusion_pytorch_model.safetensors"] and sub.endswith("/vae")
        for name in set(names) - {"training_args.json"}:
            assert (Path(folder) / name).read_bytes() == (trained / name).read_bytes()

        server.requests.clear()
        cached, training = resolve(
            server, home, ("tester/digits", {}), ("tester/digits", {"with_training_networks": True}), offline=True
        )
        assert cached == [folder, names]
        assert training.startswith("tester/digits is no folder here, is not (or only in part) in the cache")
        assert server.requests == []
    (unreachable,) = resolve(server, home, ("tester/digits", {}))
    assert unreachable == [folder, names]


def test_a_second_upload_replaces_the_first(trained: Path, tmp_path: Path) -> None:
    second = write_model(tmp_path / "second", value=1.0)
    write_network(second / "vae", "Network", 1.0)
    (second / "vae" / "diffusion_pytorch_model.safetensors").rename(second / "vae" / "other.safetensors")
    arguments = [f"{trained},tester/model", f"{second},tester/model", f"{trained},tester/model,revision=old"]
    with HubServer() as server:
        first, *_ = run_client(PUBLISH, server, tmp_path / "a", *arguments).splitlines()
        weights = {name for name in server.files("tester/model") if name.startswith("vae/")}
        assert weights == {"vae/config.json", "vae/other.safetensors"}
        assert "training_networks/critic/config.json" in server.files("tester/model")

        sha = first.rsplit("/", 1)[-1]
        new, old, branch = resolve(
            server,
            tmp_path / "b",
            ("tester/model", {}),
            ("tester/model", {"revision": sha}),
            ("tester/model", {"revision": "old"}),
        )
        assert "vae/other.safetensors" in new[1] and "vae/diffusion_pytorch_model.safetensors" not in new[1]
        assert old[0].endswith(sha) and set(old[1]) == LOADED
        assert set(branch[1]) == LOADED and branch[0] != old[0]
        (pinned,) = resolve(server, tmp_path / "b", ("tester/model", {"revision": sha}), offline=True)
        assert pinned == old


def test_pull_request_and_private_repository(trained: Path, tmp_path: Path) -> None:
    script = f"""
import sys
from hf_genmodels.hub import publish
publish(sys.argv[1], "tester/model", private=True, commit_message="Mine", token={TOKEN!r})
open(sys.argv[1] + "/losses.png", "w").write("new")
print(publish(sys.argv[1], "tester/model", create_pr=True, token={TOKEN!r}))
"""
    with HubServer() as server:
        url = run_client(script, server, tmp_path / "a", str(trained), token=None).strip()
        assert url == f"{server.url}/tester/model/discussions/1"
        assert server.repos["models", "tester/model"].private
        assert server.files("tester/model")["losses.png"] == b"losses.png"
        assert server.files("tester/model", "refs/pr/1")["losses.png"] == b"new"
        anonymous, known = resolve(
            server, tmp_path / "b", ("tester/model", {}), ("tester/model", {"token": TOKEN}), token=None
        )
        assert "a private one needs a token" in anonymous
        assert set(known[1]) == LOADED


def test_only_safe_files_are_downloaded(tmp_path: Path) -> None:
    script = """
from huggingface_hub import HfApi
HfApi().create_repo("tester/unsafe")
for name in ("vae/diffusion_pytorch_model.bin", "vae/model.py", "weights.pkl"):
    HfApi().upload_file(path_or_fileobj=b"x", path_in_repo=name, repo_id="tester/unsafe")
"""
    with HubServer() as server:
        run_client(script, server, tmp_path)
        server.requests.clear()
        (message,) = resolve(server, tmp_path, ("tester/unsafe", {}))
        assert message == "tester/unsafe has neither safetensors nor JSON files"
        assert not any("/resolve/" in path for _, path in server.requests)


def test_one_line_errors(trained: Path, tmp_path: Path) -> None:
    script = """
import sys
from hf_genmodels.errors import UserError
from hf_genmodels.hub import publish
for folder, token in ((sys.argv[1], "hf_wrong"), (sys.argv[2], None)):
    try:
        publish(folder, "tester/model", token=token)
    except UserError as error:
        print(error)
"""
    bare = write_model(tmp_path / "bare")
    (bare / "vae" / "diffusion_pytorch_model.safetensors").rename(bare / "vae" / "diffusion_pytorch_model.bin")
    with HubServer() as server:
        refused, empty = run_client(script, server, tmp_path / "a", str(trained), str(bare)).splitlines()
        assert refused.startswith(f"publishing {trained} to tester/model failed: 401 Invalid")
        assert refused.endswith("log in with `hf auth login`, or pass a token that may write there")
        assert empty == f"{bare} holds no safetensors weights in its networks' folders; there is nothing to publish"
        assert server.repos == {} and not (trained / "README.md").exists()

        run_client(PUBLISH, server, tmp_path / "a", f"{trained},tester/model")
        absent, path, revision, subfolder = resolve(
            server,
            tmp_path / "b",
            ("tester/absent", {}),
            ("runs/vae/absent", {}),
            ("tester/model", {"revision": "v9"}),
            ("tester/model", {"subfolder": "absent"}),
        )
        assert absent.startswith("tester/absent is neither a folder here nor a repository")
        assert path == "there is no folder runs/vae/absent, and it cannot be a repository of the Hub (user/name)"
        assert revision == "repository tester/model on the Hub has no branch, tag or commit v9"
        assert subfolder == "tester/model has no folder absent"
        offline, local = resolve(
            server,
            tmp_path / "c",
            ("tester/model", {}),
            ("tester/model", {"local_files_only": True, "revision": "v1"}),
            offline=True,
        )
        assert offline.endswith("in the cache, and the Hub was not asked (offline)")
        assert local.startswith("tester/model at revision v1 is no folder here")
    (unreachable,) = resolve(server, tmp_path / "c", ("tester/model", {}))
    assert unreachable.endswith("in the cache, and the Hub cannot be reached")


def test_local_folders_need_no_hub(trained: Path) -> None:
    assert resolve_folder(trained) == trained
    assert resolve_folder(str(trained), subfolder="vae") == trained / "vae"
    with pytest.raises(UserError, match="is a file; give the folder"):
        resolve_folder(trained / "losses.png")
    with pytest.raises(UserError, match="has no folder absent"):
        resolve_folder(trained, subfolder="absent")
