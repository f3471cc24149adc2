"""Finding the folder that a name or a repository id stands for, and strict loading of one network from it.

What comes in is safetensors and JSON only. No code and no pickle is ever fetched from a repository.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any, TypeVar

import torch
from diffusers import ModelMixin
from diffusers.utils import logging as diffusers_logging
from huggingface_hub import constants, snapshot_download
from huggingface_hub.errors import (
    HfHubHTTPError,
    HFValidationError,
    HTTPError,
    LocalEntryNotFoundError,
    RepositoryNotFoundError,
    RevisionNotFoundError,
)
from safetensors import SafetensorError

from . import __version__
from .errors import UserError
from .files import read_json

NetworkT = TypeVar("NetworkT", bound=ModelMixin)

WEIGHTS_AND_CONFIGS = ("*.json", "*.safetensors")
TRAINING_NETWORKS = "training_networks"


# folders -------------------------------------------------------------------------------------------------------------


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
        raise UserError(f"{at} could not be downloaded: {hub_reason(error)}") from error


def hub_reason(error: Exception) -> str:
    """What the Hub said, or the first line of the client's own message."""
    if isinstance(error, HfHubHTTPError) and error.server_message:
        return f"{error.response.status_code} {' '.join(error.server_message.split())}"
    return next((line.strip() for line in str(error).splitlines() if line.strip()), type(error).__name__)


# networks ------------------------------------------------------------------------------------------------------------


def load_network(
    network_class: type[NetworkT], folder: Path, *, dtype: torch.dtype | None = None, variant: str | None = None
) -> NetworkT:
    """Load a network saved by `save_pretrained`, in eval mode.

    diffusers only warns of a missing weight and leaves it on the meta device; here that is an error.

    Args:
        network_class: The class the folder must have been saved from.
        folder: Holds `config.json` and `diffusion_pytorch_model[.variant].safetensors`.
        dtype: Of the weights; float32 by default.
        variant: Such as "fp16", part of the weights' file name.

    Raises:
        UserError: Another class, no safetensors file, a damaged one, or missing, extra or misshapen weights.
    """
    config = read_json(folder / "config.json")
    # as diffusers writes it, or as transformers does
    saved_class = config.get("_class_name") or "".join(config.get("architectures", [])) or None
    if saved_class != network_class.__name__:
        raise UserError(f"{folder} holds a {saved_class}, not a {network_class.__name__}")
    verbosity, default_dtype = diffusers_logging.get_verbosity(), torch.get_default_dtype()
    diffusers_logging.set_verbosity(diffusers_logging.CRITICAL)
    try:
        network, info = network_class.from_pretrained(
            str(folder), dtype=dtype, variant=variant, use_safetensors=True, output_loading_info=True
        )
    except (UserError, KeyError, TypeError) as error:
        raise UserError(f"{folder / 'config.json'} has an impossible value: {error}") from error
    except (OSError, ValueError, RuntimeError, SafetensorError) as error:
        # what diffusers advises from here on are options that do not exist here
        reason = " ".join(str(error).split()).partition(" If you want to instead overwrite")[0]
        raise UserError(f"{folder}: the weights cannot be loaded: {reason}") from error
    finally:
        diffusers_logging.set_verbosity(verbosity)
        torch.set_default_dtype(default_dtype)  # diffusers leaves another one behind where a constructor fails
    for kind in ("missing_keys", "unexpected_keys", "mismatched_keys"):
        if info[kind]:
            keys = [str(key) for key in info[kind]]
            more = f" and {len(keys) - 3} more" if len(keys) > 3 else ""
            raise UserError(f"{folder}: {kind.replace('_', ' ')} in the checkpoint: {', '.join(keys[:3])}{more}")
    # safetensors leaves them at addresses by which sums are rounded in other ways than before saving
    for tensor in (*network.parameters(), *network.buffers()):
        tensor.data = tensor.data.clone()
    # diffusers notes where the weights came from; a folder of this machine has no place in what is saved next.
    if isinstance(network, ModelMixin):
        network.register_to_config(_name_or_path="")
    return network
