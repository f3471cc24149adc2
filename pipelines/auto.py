"""Load a pipeline without knowing its class."""

from __future__ import annotations

import os
from typing import Any

import hf_genmodels
from hf_genmodels.errors import UserError
from hf_genmodels.families import PIPELINES
from hf_genmodels.files import read_json
from hf_genmodels.hub import resolve_folder

from .base import GenerativePipeline


class AutoPipeline:
    """`AutoPipeline.from_pretrained(folder_or_repo)` returns the pipeline that `model_index.json` names."""

    @classmethod
    def from_pretrained(
        cls, pretrained_model_name_or_path: str | os.PathLike[str], **kwargs: Any
    ) -> GenerativePipeline:
        """Load whichever pipeline of hf_genmodels was saved there.

        Args:
            pretrained_model_name_or_path: Folder or repository id.
            kwargs: As for `GenerativePipeline.from_pretrained`.

        Raises:
            UserError: Nothing there, or a pipeline that is not one of ours.
        """
        where = {
            key: kwargs[key]
            for key in ("revision", "subfolder", "token", "cache_dir", "local_files_only", "force_download")
            if key in kwargs
        }
        folder = resolve_folder(str(pretrained_model_name_or_path), **where)
        class_name = str(read_json(folder / "model_index.json").get("_class_name"))
        if class_name not in PIPELINES:
            raise UserError(
                f"{pretrained_model_name_or_path} holds a {class_name}, which is no pipeline of hf_genmodels"
            )
        pipeline_class: type[GenerativePipeline] = getattr(hf_genmodels, class_name)
        return pipeline_class.from_pretrained(pretrained_model_name_or_path, **kwargs)
