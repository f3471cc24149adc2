"""Load a pipeline without knowing its class."""

from __future__ import annotations

import os
from typing import Any

from hf_genmodels.errors import UserError
from hf_genmodels.families import find_pipeline
from hf_genmodels.folders import resolve_folder

from .base import GenerativePipeline
from .components import read_index

# The options of `from_pretrained` that say where the folder is.
WHERE = ("revision", "subfolder", "token", "cache_dir", "local_files_only", "force_download")
# Pipelines of diffusers' own that one of ours reads, and does the same as.
OF_DIFFUSERS = {"DDIMPipeline": "DDPMPipeline"}


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
            UserError: Nothing there, or a pipeline that is none of ours, of an installed family, or registered.
        """
        source = str(pretrained_model_name_or_path)
        where = {key: kwargs.pop(key) for key in WHERE if key in kwargs}
        folder = resolve_folder(source, **where)
        class_name = str(read_index(folder, source).get("_class_name"))
        pipeline_class: type[GenerativePipeline] | None = find_pipeline(OF_DIFFUSERS.get(class_name, class_name))
        if pipeline_class is None:
            raise UserError(
                f"{source} holds a {class_name}, which is no pipeline of hf_genmodels, of an installed package, or "
                "registered with hf_genmodels.register"
            )
        return pipeline_class._from_folder(folder, source, **kwargs)
