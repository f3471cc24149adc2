"""Sharing: publishing to the Hub, and finding the folder that a name or a repository id stands for.

What leaves this machine is a list drawn up here (`published_files`): safetensors, JSON, the card and its pictures.
What comes in is safetensors and JSON only. No code and no pickle is ever fetched from a repository.
"""

from __future__ import annotations

import json
import logging
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from huggingface_hub import CommitOperationAdd, CommitOperationDelete, HfApi, constants, snapshot_download
from huggingface_hub.errors import (
    HfHubHTTPError,
    HFValidationError,
    HTTPError,
    LocalEntryNotFoundError,
    RepositoryNotFoundError,
    RevisionNotFoundError,
)

from . import __version__
from .cards import KEEP_MARKER, component_folders, make_card, newest_pictures, training_arguments, write_card
from .errors import UserError

__all__ = ["copy_card_files", "make_card", "publish", "published_files", "resolve_folder", "write_card"]

logger = logging.getLogger(__name__)

WEIGHTS_AND_CONFIGS = ("*.json", "*.safetensors")
TRAINING_NETWORKS = "training_networks"


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
) -> str:
    """Upload a model's folder with its card, in one commit. `published_files` lists what is uploaded.

    What people wrote on the repository's card stays: a README.md of their own is left alone, the licence and the text
    below our marker are carried over, and a folder without a card (a pipeline that was loaded from the Hub) replaces
    none.

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

    Returns:
        URL of the commit, or of the pull request.

    Raises:
        UserError: The folder holds no whole model, or the Hub cannot be reached or refuses.
    """
    folder = Path(folder)
    make_card(folder, repo_id=repo_id, license=license)  # shows what is wrong before a repository is made
    if not any(path.suffix == ".safetensors" for path in published_files(folder).values()):
        raise UserError(
            f"{folder} holds no safetensors weights in its networks' folders, so there is nothing to publish"
        )
    api = HfApi(token=token, library_name="hf_genmodels", library_version=__version__)
    with _hub_failures(f"publishing {folder} to {repo_id}"):
        repo_id = api.create_repo(repo_id, private=private, exist_ok=True).repo_id
        if revision is not None:
            api.create_branch(repo_id, branch=revision, exist_ok=True)
        files = published_files(folder)
        if not _keep_hub_card(api, repo_id, revision, folder):
            files["README.md"] = write_card(folder, repo_id=repo_id, license=license)
        else:
            files.pop("README.md", None)
        additions = [
            CommitOperationAdd(path_in_repo=name, path_or_fileobj=_content(path)) for name, path in files.items()
        ]
        sent = {addition.path_in_repo for addition in additions}
        folders = {name.split("/")[0] for name in sent if "/" in name}
        stale = [
            CommitOperationDelete(path_in_repo=name)
            for name in api.list_repo_files(repo_id, revision=revision)
            if name.split("/")[0] in folders and name not in sent
        ]
        commit = api.create_commit(
            repo_id,
            [*stale, *additions],
            commit_message=commit_message or "Upload with hf_genmodels",
            revision=revision,
            create_pr=create_pr,
        )
    return commit.pr_url or commit.commit_url


def _keep_hub_card(api: HfApi, repo_id: str, revision: str | None, folder: Path) -> bool:
    """Whether the repository's card stays as it is; else its licence and addition go into the folder's card."""
    if not api.file_exists(repo_id, "README.md", revision=revision):
        return False
    theirs = Path(api.hf_hub_download(repo_id, "README.md", revision=revision))
    if KEEP_MARKER not in theirs.read_text(encoding="utf-8"):
        logger.warning("the card of %s was not written by hf_genmodels and is left as it is", repo_id)
        return True
    ours = folder / "README.md"
    if not ours.is_file():
        return True
    if not ours.read_text(encoding="utf-8").partition(KEEP_MARKER)[2].strip():
        shutil.copyfile(theirs, ours)  # write_card takes over what stands on it
    return False


def published_files(folder: Path) -> dict[str, Path]:
    """What may leave a model's folder: path in the repository -> local path.

    JSON and safetensors of the networks, schedulers and training-only networks; the card, its figures, loss curves and
    newest pictures. Never checkpoints, logs, pickles or code.
    """
    names = ("model_index.json", "README.md", "metrics.json", "training_args.json", "losses.png")
    found = [folder / name for name in names]
    for component in component_folders(folder).values():
        found += [path for path in sorted(component.iterdir()) if _is_safe(path)]
    found += [path for path in sorted((folder / TRAINING_NETWORKS).rglob("*")) if _is_safe(path)]
    found += [path for _, path in newest_pictures(folder)]
    return {path.relative_to(folder).as_posix(): path for path in found if path.is_file()}


def copy_card_files(source: Path, target: Path) -> None:
    """Copy what a card is made of, and the networks that only training needs, from one model folder to another."""
    networks = (source / TRAINING_NETWORKS).rglob("*")
    wanted = [source / name for name in ("README.md", "metrics.json", "training_args.json", "losses.png")]
    for path in (
        *wanted,
        *(path for _, path in newest_pictures(source)),
        *(path for path in networks if _is_safe(path)),
    ):
        if path.is_file():
            copy = target / path.relative_to(source)
            copy.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(path, copy)


def _is_safe(path: Path) -> bool:
    return path.suffix in (".json", ".safetensors") and path.is_file()


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
        raise UserError(f"{action} failed: {_reason(error)}{hint}") from error


def _reason(error: Exception) -> str:
    """What the Hub said, or the first line of the client's own message."""
    if isinstance(error, HfHubHTTPError) and error.server_message:
        return f"{error.response.status_code} {' '.join(error.server_message.split())}"
    return next((line.strip() for line in str(error).splitlines() if line.strip()), type(error).__name__)


# loading -------------------------------------------------------------------------------------------------------------


def resolve_folder(
    name_or_path: str | os.PathLike[str],
    *,
    revision: str | None = None,
    subfolder: str | None = None,
    token: str | bool | None = None,
    cache_dir: str | os.PathLike[str] | None = None,
    local_files_only: bool = False,
    force_download: bool = False,
    with_training_networks: bool = False,
) -> Path:
    """The folder that a model's name stands for: a local folder, or the snapshot of a repository in the Hub's cache.

    Of a repository only safetensors and JSON are downloaded. Without a connection, and with HF_HUB_OFFLINE=1, the
    cache answers.

    Args:
        name_or_path: Local folder, or repository id ("user/repo").
        revision: Branch, tag or commit of the repository; the main branch by default.
        subfolder: Folder inside it.
        token: Access token, or True for the stored one.
        cache_dir: Instead of the Hub's cache.
        local_files_only: Do not ask the Hub.
        force_download: Download even what is cached.
        with_training_networks: Fetch the networks that only further training needs, too.

    Raises:
        UserError: There is no such folder, repository, revision or subfolder, or it is not cached and out of reach.
    """
    folder = Path(name_or_path).expanduser()
    if folder.is_file():
        raise UserError(f"{name_or_path} is a file; give the folder that holds the model")
    if not folder.is_dir():
        prefix = f"{subfolder}/" if subfolder else ""
        folder = _snapshot(
            str(name_or_path),
            revision=revision,
            token=token,
            cache_dir=cache_dir,
            local_files_only=local_files_only,
            force_download=force_download,
            allow_patterns=[prefix + pattern for pattern in WEIGHTS_AND_CONFIGS],
            ignore_patterns=None if with_training_networks else [f"{prefix}{TRAINING_NETWORKS}/*"],
        )
    folder = folder / subfolder if subfolder else folder
    if not folder.is_dir():
        where = f"no folder {subfolder}" if subfolder else "neither safetensors nor JSON files"
        raise UserError(f"{name_or_path} has {where}{f' at revision {revision}' if revision else ''}")
    return folder


def _snapshot(repo_id: str, *, revision: str | None, local_files_only: bool, **options: Any) -> Path:
    at = f"{repo_id} at revision {revision}" if revision else repo_id
    offline = local_files_only or constants.HF_HUB_OFFLINE
    try:
        return Path(
            snapshot_download(
                repo_id,
                revision=revision,
                local_files_only=local_files_only,
                library_name="hf_genmodels",
                library_version=__version__,
                **options,
            )
        )
    except HFValidationError:
        raise UserError(
            f"there is no folder {repo_id}, and it cannot be a repository of the Hub (user/name)"
        ) from None
    except RevisionNotFoundError:
        raise UserError(f"repository {repo_id} on the Hub has no branch, tag or commit {revision}") from None
    except RepositoryNotFoundError:
        raise UserError(
            f"{repo_id} is neither a folder here nor a repository to be read on the Hub; a private one needs a token"
        ) from None
    except LocalEntryNotFoundError as error:
        reason = "the Hub was not asked (offline)" if offline else "the Hub cannot be reached"
        raise UserError(f"{at} is no folder here, is not (or only in part) in the cache, and {reason}") from error
    except (HTTPError, OSError) as error:
        raise UserError(f"{at} could not be downloaded: {_reason(error)}") from error
