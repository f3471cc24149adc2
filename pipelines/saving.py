"""Writing a pipeline's folder: each file whole or not at all, and no weights of an earlier save beside new ones."""

from __future__ import annotations

import os
import re
import tempfile
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

from safetensors import SafetensorError

from hf_genmodels.configs import shorten
from hf_genmodels.errors import UserError
from hf_genmodels.loading import weight_files

SIZE = re.compile(r"\s*\d+(\.\d+)?\s*[kmgt]b\s*", re.IGNORECASE)


def check_shard_size(size: Any) -> None:
    """Refuse a `max_shard_size` that is none.

    Raises:
        UserError: It is no number of bytes above 0, and no number with a unit.
    """
    is_number = isinstance(size, int) and not isinstance(size, bool) and size > 0
    if size is not None and not is_number and not (isinstance(size, str) and SIZE.fullmatch(size)):
        raise UserError(f"max_shard_size must be bytes or a word such as '500MB' or '5GB', got {size!r}")


def write_pipeline(folder: Path, save: Callable[[str], None], networks: Iterable[str], variant: str | None) -> None:
    """Write files aside and move them to their places, then remove what an earlier save left of the same weights.

    An index or shards of an earlier save would be loaded instead of the new weights. Other variants stay.

    Args:
        folder: Made if need be.
        save: Writes into the folder that it is given.
        networks: Folders in there that hold weights.
        variant: Of the weights' file names.

    Raises:
        UserError: `folder` is a file, or a file cannot be written (disk full, no permission).
    """
    try:
        if folder.is_file():
            raise UserError(f"{folder} is a file; give a folder to save to")
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(prefix=".part-", dir=folder) as temporary:
            save(temporary)
            written = {path.relative_to(temporary) for path in Path(temporary).rglob("*") if path.is_file()}
            for name in sorted(written):  # shards come before the index that names them
                (folder / name).parent.mkdir(exist_ok=True)
                os.replace(Path(temporary) / name, folder / name)
        for network in networks:
            for path in (folder / network).iterdir():
                if weight_files(variant).fullmatch(path.name) and path.relative_to(folder) not in written:
                    path.unlink()
    except (OSError, SafetensorError) as error:
        reason = getattr(error, "strerror", None) or " ".join(str(error).split())
        raise UserError(f"{shorten(str(folder), 200)} cannot be written: {reason}") from error
