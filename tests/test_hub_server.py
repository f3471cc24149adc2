"""The loopback Hub of the tests, driven by huggingface_hub's own client in fresh processes."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.testing_utils.hub_server import TOKEN, HubServer, hub_environment, run_client


def run(script: str, server: HubServer, home: Path, *arguments: str) -> str:
    return run_client("from huggingface_hub import HfApi\napi = HfApi()\n" + script, server, home, *arguments)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A folder with a text file in a sub-folder, a card, and a binary of 1 MB."""
    folder = tmp_path / "upload"
    (folder / "network").mkdir(parents=True)
    (folder / "network" / "config.json").write_text('{"size": 28}')
    (folder / "README.md").write_text("---\nlicense: mit\n---\n# A card\n")
    (folder / "weights.safetensors").write_bytes(bytes(range(256)) * 4096)
    return folder


UPLOAD = """
import sys
assert api.whoami()["name"] == "tester"
print(api.create_repo("tester/model"))
api.create_repo("tester/model", exist_ok=True)
print(api.upload_folder(repo_id="tester/model", folder_path=sys.argv[1]).oid)
"""


def test_upload_list_download(folder: Path, tmp_path: Path) -> None:
    script = """
print(sorted(api.list_repo_files("tester/model")))
tree = {entry.path: entry for entry in api.list_repo_tree("tester/model")}
print(sorted(tree), tree["weights.safetensors"].lfs.size, tree["README.md"].lfs)
print([info.size for info in api.get_paths_info("tester/model", ["network/config.json", "absent"])])
print(api.snapshot_download("tester/model"))
"""
    with HubServer() as server:
        url, commit = run(UPLOAD, server, tmp_path / "home", str(folder)).split()
        assert url == f"{server.url}/tester/model"
        sent = {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()}
        assert server.files("tester/model") == sent
        assert [method for method, path in server.requests if path.startswith("/lfs/")] == ["PUT", "POST"]

        files, tree, sizes, snapshot = run(script, server, tmp_path / "other").splitlines()
    assert files == "['.gitattributes', 'README.md', 'network/config.json', 'weights.safetensors']"
    assert tree == "['.gitattributes', 'README.md', 'network', 'weights.safetensors'] 1048576 None"
    assert sizes == "[12]"
    assert snapshot.endswith(commit)
    for path, content in sent.items():
        assert (Path(snapshot) / path).read_bytes() == content


def test_unchanged_files_are_not_uploaded_again(folder: Path, tmp_path: Path) -> None:
    with HubServer() as server:
        _, first = run(UPLOAD, server, tmp_path, str(folder)).split()
        server.requests.clear()
        again = run("import sys\n" + UPLOAD.splitlines()[-1], server, tmp_path, str(folder)).strip()
        assert again == first
        assert not any(path.startswith("/lfs/") or "/commit/" in path for _, path in server.requests)


def test_revisions_and_deletion(folder: Path, tmp_path: Path) -> None:
    script = """
api.create_tag("tester/model", tag="v1")
api.create_branch("tester/model", branch="try/out")
api.delete_folder("network", "tester/model", revision="try/out")
api.delete_file("README.md", "tester/model")
refs = api.list_repo_refs("tester/model")
print([ref.name for ref in refs.branches], [ref.ref for ref in refs.tags])
for revision in ("main", "v1", "try/out", api.repo_info("tester/model", revision="v1").sha):
    print("README.md" in api.list_repo_files("tester/model", revision=revision), end=" ")
print(api.list_repo_tree("tester/model", revision="try/out", path_in_repo="").__next__().path)
pr = api.upload_file(path_or_fileobj=b"{}", path_in_repo="a.json", repo_id="tester/model", create_pr=True)
print(pr.pr_revision, *[api.file_exists("tester/model", "a.json", revision=ref) for ref in ("main", pr.pr_revision)])
api.delete_tag("tester/model", tag="v1")
print(api.revision_exists("tester/model", "v1"))
api.delete_repo("tester/model")
print(api.repo_exists("tester/model"))
"""
    with HubServer() as server:
        run(UPLOAD, server, tmp_path, str(folder))
        refs, present, pull_request, tag, repo = run(script, server, tmp_path).splitlines()
        assert server.repos == {}
    assert refs == "['main', 'try/out'] ['refs/tags/v1']"
    assert present == "False True True True .gitattributes"
    assert pull_request == "refs/pr/1 False True"
    assert (tag, repo) == ("False", "False")


def test_errors_have_the_clients_own_types(folder: Path, tmp_path: Path) -> None:
    script = """
def attempt(call, *arguments, **options):
    try:
        call(*arguments, **options)
    except Exception as error:
        print(type(error).__name__)
attempt(api.snapshot_download, "tester/absent")
attempt(api.hf_hub_download, "tester/model", "absent.json")
attempt(api.snapshot_download, "tester/model", revision="absent")
attempt(api.create_repo, "tester/model")
attempt(api.create_tag, "tester/model", tag="v1", revision="absent")
attempt(api.delete_file, "absent.json", "tester/model")
attempt(api.upload_file, path_or_fileobj=b"---\\nx: [\\n---\\n", path_in_repo="README.md", repo_id="tester/model")
attempt(api.create_repo, "tester/private", token="hf_wrong")
api.create_repo("tester/private", private=True)
attempt(api.repo_info, "tester/private", token=False)
"""
    with HubServer() as server:
        run(UPLOAD, server, tmp_path, str(folder))
        assert run(script, server, tmp_path).split() == [
            "RepositoryNotFoundError",
            "RemoteEntryNotFoundError",
            "RevisionNotFoundError",
            "HfHubHTTPError",
            "RevisionNotFoundError",
            "RemoteEntryNotFoundError",
            "ValueError",
            "HfHubHTTPError",
            "RepositoryNotFoundError",
        ]


def test_interrupted_downloads_can_go_on(folder: Path, tmp_path: Path) -> None:
    script = """
import urllib.request
request = urllib.request.Request(api.endpoint + "/tester/model/resolve/main/weights.safetensors")
request.add_header("Range", "bytes=1048570-")
with urllib.request.urlopen(request) as reply:
    print(reply.status, reply.headers["Content-Range"], reply.read().hex())
"""
    with HubServer() as server:
        run(UPLOAD, server, tmp_path, str(folder))
        assert run(script, server, tmp_path).split() == ["206", "bytes", "1048570-1048575/1048576", "fafbfcfdfeff"]


def test_the_environment_names_no_other_hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_TOKEN", "the developer's own")
    monkeypatch.setenv("HF_HUB_CACHE", "the developer's own")
    with HubServer() as server:
        assert "HF_TOKEN" not in hub_environment(server, tmp_path, token=None)
        assert hub_environment(server, tmp_path)["HF_TOKEN"] == TOKEN
        assert "HF_HUB_CACHE" not in hub_environment(server, tmp_path)
