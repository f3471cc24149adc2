"""Finding the folder that a name or a repository id stands for; imports no torch.

Of a repository safetensors and JSON are downloaded, and nothing else: no code and no pickle.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

from huggingface_hub import constants, snapshot_download
from huggingface_hub.errors import (
    HfHubHTTPError,
    HFValidationError,
    HTTPError,
    LocalEntryNotFoundError,
    RepositoryNotFoundError,
    RevisionNotFoundError,
)

from . import __version__
from .configs import shorten
from .errors import UserError

WEIGHTS_AND_CONFIGS = ("*.json", "*.safetensors")
TRAINING_NETWORKS = "training_networks"


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
    folder = Path(name_or_path)
    if _is(Path.is_file, folder):
        raise UserError(f"{name_or_path} is a file; give the folder that holds the model")
    if _is(Path.is_dir, folder):
        folder = folder.expanduser()
    else:
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
    if not _is(Path.is_dir, folder):
        where = f"no folder {subfolder}" if subfolder else "neither safetensors nor JSON files"
        raise UserError(f"{name_or_path} has {where}{f' at revision {revision}' if revision else ''}")
    return folder


def _is(kind: Callable[[Path], bool], path: Path) -> bool:
    try:
        return kind(path.expanduser())
    except (OSError, RuntimeError) as error:  # a name too long, a folder that may not be searched, "~nobody"
        reason = getattr(error, "strerror", None) or str(error)
        raise UserError(f"{shorten(str(path))} cannot be looked up: {reason}") from None


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
        raise UserError(f"{at} could not be downloaded: {hub_reason(error)}") from error


def hub_reason(error: Exception) -> str:
    """What the Hub said, or the first line of the client's own message."""
    if isinstance(error, HfHubHTTPError) and error.server_message:
        return f"{error.response.status_code} {' '.join(error.server_message.split())}"
    return next((line.strip() for line in str(error).splitlines() if line.strip()), type(error).__name__)
