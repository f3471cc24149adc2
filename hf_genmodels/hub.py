"""Publishing to the Hub.

What leaves this machine is a list drawn up here (`published_files`): safetensors, JSON, the card and its pictures.
"""

from __future__ import annotations

import json
import logging
import os
import tempfile
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path

from huggingface_hub import CommitOperationAdd, CommitOperationDelete, HfApi, ModelCard
from huggingface_hub.errors import HfHubHTTPError, HTTPError

from . import __version__
from .cards import (
    component_folders,
    is_ours,
    load_card,
    make_card,
    newest_pictures,
    training_arguments,
    write_card,
)
from .errors import UserError
from .files import copy_file
from .folders import TRAINING_NETWORKS, hub_reason

__all__ = ["copy_card_files", "copy_descriptions", "make_card", "publish", "published_files", "write_card"]

logger = logging.getLogger(__name__)

# What a card shows of a training run, besides its pictures.
CARD_FILES = ("README.md", "metrics.json", "training_args.json", "losses.png")


# publishing ----------------------------------------------------------------------------------------------------------


def publish(
    folder: str | os.PathLike[str],
    repo_id: str,
    *,
    private: bool | None = None,
    token: str | None = None,
    commit_message: str | None = None,
    revision: str | None = None,
    create_pr: bool = False,
    license: str | None = None,
    subfolder: str | None = None,
) -> str:
    """Upload a model's folder with its card, in one commit. `published_files` lists what is uploaded.

    What people wrote on the repository's card stays: a README.md of their own is left alone, the licence and the text
    below our marker are carried over. A folder that is no training output (a pipeline that was loaded from the Hub)
    leaves the card, figures and pictures of a training run in the repository as they are.

    Files of an earlier upload that lie in the folders uploaded now, and that this model has not, are deleted: stale
    shards would be loaded in place of the new weights.

    Args:
        folder: A training output folder, or any folder written by `save_pretrained`. Its README.md is written anew.
        repo_id: "user/repo", or "repo" under one's own name; created if it does not exist.
        private: Visibility of a new repository; the account's default if None.
        token: Access token with the right to write; the stored one by default.
        commit_message: Of the commit.
        revision: Branch to commit to, created if it does not exist; the main one by default.
        create_pr: Open a pull request instead of committing to the branch.
        license: Identifier of the weights' licence, such as "apache-2.0".
        subfolder: Folder of the repository to put the model into, without a card: the repository's is of all that is
            in it.

    Returns:
        URL of the commit, or of the pull request.

    Raises:
        UserError: The folder holds no whole model, `subfolder` is none inside a repository, or the Hub cannot be
            reached or refuses.
    """
    folder = Path(folder)
    prefix = "" if subfolder is None else f"{subfolder.strip('/')}/"
    if subfolder is not None and not {"", ".", ".."}.isdisjoint(prefix[:-1].split("/")):
        raise UserError(f"subfolder must be a folder inside the repository, got {subfolder!r}")
    make_card(folder, repo_id=repo_id)  # what is wrong with the folder shows before a repository is made
    if not any(name.endswith(".safetensors") for name in published_files(folder)):
        raise UserError(f"{folder} holds no safetensors weights in its networks' folders; there is nothing to publish")
    api = HfApi(token=token, library_name="hf_genmodels", library_version=__version__)
    with _hub_failures(f"publishing {folder} to {repo_id}"):
        repo_id = api.create_repo(repo_id, private=private, exist_ok=True).repo_id
        if revision is not None:
            api.create_branch(repo_id, branch=revision, exist_ok=True)
        present = api.list_repo_files(repo_id, revision=revision)
        if prefix:
            files = {name: path for name, path in published_files(folder).items() if not _is_of_card(name)}
        else:
            card = _published_card(api, repo_id, revision) if "README.md" in present else None
            files = _write_and_choose(folder, repo_id, license, present, card)
        commit = api.create_commit(
            repo_id,
            _changes(files, present, prefix),
            commit_message=commit_message or "Upload with hf_genmodels",
            revision=revision,
            create_pr=create_pr,
        )
    return commit.pr_url or commit.commit_url


def _published_card(api: HfApi, repo_id: str, revision: str | None) -> ModelCard:
    # not through the cache, where a snapshot of the card alone would hide an older whole one from work offline
    with tempfile.TemporaryDirectory() as folder:
        path = api.hf_hub_download(repo_id, "README.md", revision=revision, local_dir=folder)
        return load_card(Path(path))


def _write_and_choose(
    folder: Path, repo_id: str, license: str | None, present: list[str], card: ModelCard | None
) -> dict[str, Path]:
    """Write the folder's card and choose what is uploaded; `present` and `card` are what the repository has."""
    readme, files = folder / "README.md", published_files(folder)
    if card is not None and (not readme.is_file() or is_ours(load_card(readme))):
        if not is_ours(card) and card.text.strip():
            logger.warning("README.md of %s was not written by hf_genmodels and is left as it is", repo_id)
            return {name: path for name, path in files.items() if name != "README.md"}
        shows_training = any(name in CARD_FILES[1:] or _is_picture(name) for name in present)
        if shows_training and not {"metrics.json", "losses.png"} <= files.keys():
            logger.warning("%s is no training output: the card of %s is left as it is", folder, repo_id)
            return {name: path for name, path in files.items() if not _is_of_card(name)}
    write_card(folder, repo_id=repo_id, license=license, published=card)
    return published_files(folder)


def _changes(
    files: dict[str, Path], present: list[str], prefix: str
) -> list[CommitOperationAdd | CommitOperationDelete]:
    """Delete what lies in the folders of `files` and is not among them; add the files, their names after a prefix."""
    folders = tuple({f"{prefix}{name.split('/')[0]}/" for name in files if "/" in name})
    added = {prefix + name: path for name, path in files.items()}
    stale = [name for name in present if name.startswith(folders) and name not in added]
    return [
        *(CommitOperationDelete(path_in_repo=name) for name in stale),
        *(CommitOperationAdd(path_in_repo=name, path_or_fileobj=_content(path)) for name, path in added.items()),
    ]


def published_files(folder: Path) -> dict[str, Path]:
    """What may leave a model's folder: path in the repository -> local path.

    JSON and safetensors of the networks, schedulers and training-only networks; the card, its figures, loss curves and
    newest pictures. Never checkpoints, logs, pickles or code.

    Raises:
        UserError: One of them, or a folder of theirs, is a link: what it leads to may be none of the model's.
    """
    networks = (path for component in component_folders(folder).values() for path in sorted(component.iterdir()))
    model = [folder / "model_index.json", *filter(_is_of_network, networks)]
    return _own_files(folder, model) | _files_of_card(folder)


def copy_card_files(source: Path, target: Path) -> None:
    """Copy what a card is made of, and the networks that only training needs, from one model folder to another.

    Raises:
        UserError: As of `published_files`, or a file cannot be written.
    """
    for name, path in _files_of_card(source).items():
        copy_file(path, target / name)


def _files_of_card(folder: Path) -> dict[str, Path]:
    card = [folder / name for name in CARD_FILES]
    pictures = [path for _, path in newest_pictures(folder)]
    networks = sorted((folder / TRAINING_NETWORKS).rglob("*"))
    return _own_files(folder, [*card, *pictures, *filter(_is_of_network, networks)])


def _own_files(folder: Path, paths: Iterable[Path]) -> dict[str, Path]:
    """Those of the paths that are there, by their names in a repository; none of them may lead elsewhere."""
    found = {path.relative_to(folder).as_posix(): path for path in paths if path.is_file() or path.is_symlink()}
    for name in found:
        for part in [Path(name), *Path(name).parents[:-1]]:
            if (folder / part).is_symlink() and not _is_in_hub_cache(folder / part):
                raise UserError(
                    f"{folder / part} is a link, and links are not published; put what it leads to in its place"
                )
    return found


def _is_of_network(path: Path) -> bool:
    return path.suffix in (".json", ".safetensors") or (path.is_symlink() and path.is_dir())


def _is_in_hub_cache(path: Path) -> bool:
    """Whether a link is one by which the Hub's cache keeps the files of a snapshot among a repository's blobs."""
    snapshots = next((parent for parent in path.parents if parent.name == "snapshots"), None)
    return snapshots is not None and path.resolve().parent == snapshots.resolve().parent / "blobs"


def copy_descriptions(source: Path, target: Path) -> None:
    """Copy what a card is made of, without any weights, from one model folder to another; what is there stays.

    Raises:
        UserError: As of `published_files`, or a file cannot be written.
    """
    for name, path in published_files(source).items():
        is_network = path.suffix == ".safetensors" or name.startswith(f"{TRAINING_NETWORKS}/")
        if not is_network and not (target / name).exists():
            copy_file(path, target / name)


def _is_of_card(name: str) -> bool:
    return name in CARD_FILES or _is_picture(name)


def _is_picture(name: str) -> bool:
    return name.startswith("samples/") and name.endswith(".png")


def _content(path: Path) -> bytes | str:
    """What is uploaded for a file: itself, but of the training options only what `training_arguments` lets through."""
    if path.name != "training_args.json":
        return str(path)
    return (json.dumps(training_arguments(path.parent), indent=2) + "\n").encode()


@contextmanager
def _hub_failures(action: str) -> Iterator[None]:
    """Turn whatever the client raises into a UserError of one line."""
    try:
        yield
    except UserError:
        raise
    except (HTTPError, OSError, ValueError) as error:
        hint = ""
        if isinstance(error, HfHubHTTPError) and error.response.status_code in (401, 403):
            hint = "; log in with `hf auth login`, or pass a token that may write there"
        raise UserError(f"{action} failed: {hub_reason(error)}{hint}") from error
