"""Features of real data, kept from one evaluation to the next."""

from __future__ import annotations

import dataclasses
import hashlib
import json
import logging
import os
import zlib
from contextlib import suppress
from pathlib import Path
from typing import Any

import torch
from huggingface_hub import constants
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from .. import __version__
from ..data import DataArguments
from ..data.decoding import Encoded, Half, Record, Stack
from ..data.sets import ArrayDataset, LazyDataset
from ..errors import UserError
from ..files import replacing
from .request import Request

logger = logging.getLogger(__name__)

LARGEST = 2**30  # bytes of the features of one set
KEPT = 4 * 2**30  # bytes of all files
# Of the options of data, those that change no image.
_NO_MATTER = ("cache_dir", "dataloader_num_workers")
_ROWS = 256


class FeatureCache:
    """A file of features of real data, used only if all is as it was: images, extractor, options, versions.

    Args:
        path: In the folder of `--cache_dir`, or of the Hub's cache.
        key: All that the features depend on, as JSON.
    """

    def __init__(self, path: Path, key: str) -> None:
        self.path = path
        self.key = key

    @classmethod
    def of(
        cls, request: Request, dataset: Any, data_args: DataArguments, split: str, description: dict[str, Any]
    ) -> FeatureCache | None:
        """That of the real data of a request, None where there can be none.

        That is of streams, of extractors without a hash of their weights, and where what is real is not compared
        with samples, but with translations or completions.
        """
        if request.extractor is None or request.extractor.weights_sha256 is None:
            return None
        if not isinstance(dataset, (ArrayDataset, LazyDataset)) or "samples" not in request.pipeline.measures:
            return None
        given = dataclasses.asdict(data_args)
        key = json.dumps(
            {
                "versions": [__version__, torch.__version__],
                "device": request.pipeline.device.type,
                "data": {name: value for name, value in given.items() if name not in _NO_MATTER},
                "fingerprint": dataset.spec.fingerprint,
                "content": _content(dataset, request.num_samples) if isinstance(dataset, LazyDataset) else None,
                "split": split,
                "num_samples": request.num_samples,
                "batch_size": request.batch_size,
                "extractor": description,
            },
            sort_keys=True,
        )
        folder = Path(data_args.cache_dir or constants.HF_HOME) / "hf_genmodels_features"
        return cls(folder / f"{hashlib.sha256(key.encode()).hexdigest()[:32]}.safetensors", key)

    def load(self) -> Tensor | None:
        """The features, (number, dim) float32; None where there are none, or the file is not what was written."""
        if not self.path.is_file():
            return None
        try:
            with safe_open(self.path, "pt") as file:
                said, features = file.metadata() or {}, file.get_tensor("features")
        except (SafetensorError, OSError) as error:
            logger.warning("%s cannot be read (%s): features are computed anew", self.path, error)
            return None
        is_whole = features.ndim == 2 and features.dtype == torch.float32
        if not is_whole or said != {"key": self.key, "crc32": _crc32(features)}:
            logger.warning("%s is not as it was written: features are computed anew", self.path)
            return None
        with suppress(OSError):  # a folder that may only be read
            os.utime(self.path)  # `store` removes what has not been used for longest
        return features

    def store(self, features: Tensor) -> None:
        """Keep features, unless they are too large, and remove the oldest; where they cannot be written, say so."""
        if features.numel() * features.element_size() > LARGEST:
            return
        features = features.contiguous()
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            with replacing(self.path) as temporary:
                save_file({"features": features}, temporary, {"key": self.key, "crc32": _crc32(features)})
            _remove_oldest(self.path)
        except (UserError, OSError, SafetensorError) as error:
            logger.warning("features are not kept for another evaluation: %s", error)


def _remove_oldest(newest: Path) -> None:
    """Remove the files beside the newest one that were not used for longest, until all have no more than `KEPT`."""
    found = []
    for path in newest.parent.glob("[0-9a-f]*.safetensors"):
        with suppress(FileNotFoundError):  # another evaluation has removed it
            found.append((path != newest, -path.stat().st_mtime_ns, path.stat().st_size, path))
    total = 0
    for is_older, _, size, path in sorted(found):
        total += size
        if is_older and total > KEPT:
            path.unlink(missing_ok=True)


def _crc32(features: Tensor) -> str:
    return str(zlib.crc32(features.numpy().data))


def _content(dataset: LazyDataset, number: int) -> str:
    """SHA-256 of the stored images; those that are decoded one by one are known by no other content."""
    digest = hashlib.sha256()
    rows = dataset.rows[:number]
    for start in range(0, len(rows), _ROWS):
        for record in dataset.images.fetch(rows[start : start + _ROWS]):
            _add(digest, record)
    return digest.hexdigest()


def _add(digest: Any, record: Record) -> None:
    match record:
        case Encoded(data=None, path=path):
            digest.update(b"" if path is None else Path(path).read_bytes())
        case Encoded(data=data):
            digest.update(data)
        case Stack(parts=parts):
            for part in parts:
                _add(digest, part)
        case Half(whole=whole):
            _add(digest, whole)
        case array:
            digest.update(repr(array.shape).encode())
            digest.update(array.tobytes())
    digest.update(b"|")
