"""Pipelines in folders and on the Hub: strict loading, saving that survives moved files, publishing."""

from __future__ import annotations

import functools
import inspect
import logging
import math
import os
import tempfile
from collections.abc import Mapping
from numbers import Real
from pathlib import Path
from typing import Any, ClassVar, TypeVar

import torch

from hf_genmodels.configs import check_types
from hf_genmodels.errors import UserError

from .components import Loading, find_device, find_dtypes, is_component, load_component, parts_of, read_index
from .offloading import Offloadable
from .saving import check_shard_size, write_pipeline

logger = logging.getLogger(__name__)

DType = torch.dtype | str
PipelineT = TypeVar("PipelineT", bound="StoredPipeline")


class StoredPipeline(Offloadable):
    """A pipeline that is loaded, saved and published as `GenerativePipeline` says.

    Attributes:
        loads_from: Names of other pipeline classes whose folders `from_pretrained` takes, too.
    """

    loads_from: ClassVar[tuple[str, ...]] = ()

    def register_modules(self, **kwargs: Any) -> None:
        parts = parts_of(type(self))
        for name, module in kwargs.items():
            if name in parts:
                parts[name].check(type(self), name, module)
        super().register_modules(**kwargs)
        for name, module in kwargs.items():
            self._record_public_name(name, module)

    def register_to_config(self, **kwargs: Any) -> None:
        for name in ("value_scale", "source_value_scale"):
            value = kwargs.get(name, 1.0)
            if isinstance(value, bool) or not isinstance(value, Real) or not 0 < float(value) < math.inf:
                raise UserError(f"{name} must be the value that means white, above 0 and finite, got {value!r}")
        super().register_to_config(**kwargs)

    def __setattr__(self, name: str, value: Any) -> None:
        super().__setattr__(name, value)
        if isinstance(value, torch.nn.Module):
            self._record_public_name(name, value)

    def _record_public_name(self, name: str, module: Any) -> None:
        module = getattr(module, "_orig_mod", module)  # of what torch.compile made, the network itself
        package = type(module).__module__.partition(".")[0]
        if name in self.config and module is not None and package not in ("diffusers", "transformers", "torch"):
            self.register_to_config(**{name: (package, type(module).__name__)})

    # loading ---------------------------------------------------------------------------------------------------------

    @classmethod
    def from_pretrained(
        cls: type[PipelineT],
        pretrained_model_name_or_path: str | os.PathLike[str],
        *,
        dtype: DType | Mapping[str, DType] | None = None,
        torch_dtype: DType | Mapping[str, DType] | None = None,
        variant: str | None = None,
        use_safetensors: bool = True,
        device_map: str | int | torch.device | None = None,
        low_cpu_mem_usage: bool = True,
        revision: str | None = None,
        subfolder: str | None = None,
        token: str | bool | None = None,
        cache_dir: str | os.PathLike[str] | None = None,
        local_files_only: bool = False,
        force_download: bool = False,
        **overrides: Any,
    ) -> PipelineT:
        """Load a pipeline from a folder, a repository on the Hub, or the local cache when offline.

        Args:
            pretrained_model_name_or_path: Folder or repository id ("user/repo").
            dtype: Of the weights: `torch.float16` or "float16", "auto" for that of the saved ones, or such by name of
                component, `{"unet": torch.float16, "default": "auto"}`; float32 by default.
            torch_dtype: The older name of `dtype`.
            variant: Such as "fp16", part of the weights' file names.
            use_safetensors: As in diffusers; nothing else is ever loaded, so False is an error.
            device_map: One device for all networks, such as "cuda"; the CPU by default.
            low_cpu_mem_usage: As in diffusers: False first builds networks with weights of their own.
            revision: Branch, tag or commit.
            subfolder: Folder inside the repository that holds `model_index.json`.
            token: Access token, or True for the stored one.
            cache_dir: Instead of the Hub's cache.
            local_files_only: Do not ask the Hub.
            force_download: Download even what is cached.
            overrides: Components or configuration values to use instead of the saved ones; for a component also the
                class to load it as, such as `generator=MyGenerator`.

        Raises:
            UserError: Nothing there, another class, missing weights, foreign components, no such type or device, or
                unknown overrides.
        """
        from hf_genmodels.folders import resolve_folder

        name = str(pretrained_model_name_or_path)
        folder = resolve_folder(
            name,
            revision=revision,
            subfolder=subfolder,
            token=token,
            cache_dir=cache_dir,
            local_files_only=local_files_only,
            force_download=force_download,
        )
        return cls._from_folder(
            folder,
            name,
            dtype=dtype,
            torch_dtype=torch_dtype,
            variant=variant,
            use_safetensors=use_safetensors,
            device_map=device_map,
            low_cpu_mem_usage=low_cpu_mem_usage,
            **overrides,
        )

    @classmethod
    def _from_folder(
        cls: type[PipelineT],
        folder: Path,
        source: str,
        /,
        dtype: DType | Mapping[str, DType] | None = None,
        torch_dtype: DType | Mapping[str, DType] | None = None,
        variant: str | None = None,
        use_safetensors: bool = True,
        device_map: str | int | torch.device | None = None,
        low_cpu_mem_usage: bool = True,
        **overrides: Any,
    ) -> PipelineT:
        """`from_pretrained` once the folder is found; `source` is what the user called it."""
        if use_safetensors is False:
            raise UserError(f"use_safetensors=False for {source}: only safetensors are loaded; leave the option out")
        index = read_index(folder, source)
        if index.get("_class_name") not in (cls.__name__, *cls.loads_from):
            raise UserError(
                f"{source} holds a {index.get('_class_name')}, not a {cls.__name__}; use that class, or AutoPipeline"
            )
        parameters = {n: p for n, p in inspect.signature(cls.__init__).parameters.items() if n != "self"}
        unknown = sorted(set(overrides) - set(parameters))
        if unknown:
            raise UserError(f"{cls.__name__}.from_pretrained has no option {unknown[0]!r}")
        ignored = [name for name in index if not name.startswith("_") and name not in parameters]
        if ignored:
            logger.warning(
                "%s: a %s has no %s; ignored", folder / "model_index.json", cls.__name__, ", ".join(ignored)
            )
        parts = parts_of(cls)
        how = Loading(
            find_dtypes(torch_dtype if dtype is None else dtype, cls, parts),
            variant,
            find_device(device_map),
            low_cpu_mem_usage,
        )
        values = {name: value for name, value in index.items() if name not in parts and name not in overrides}
        check_types(folder / "model_index.json", cls, values)
        arguments = dict(overrides)
        for name, parameter in parameters.items():
            given, entry = overrides.get(name), index.get(name)
            if name in overrides and not (name in parts and isinstance(given, type)):
                if name in parts:
                    parts[name].check(cls, name, given)
                continue
            if parameter.default is inspect.Parameter.empty and not is_component(entry):
                raise UserError(f"{folder / 'model_index.json'} names no component {name}")
            if name in parts and is_component(entry):
                arguments[name] = load_component(folder, name, entry, parts[name], how, given)
            elif name in index:
                arguments[name] = None if entry == [None, None] else entry
        try:
            pipeline = cls(**arguments)
        except UserError as error:
            raise UserError(f"{folder}: {error}") from None
        pipeline._source = folder
        return pipeline

    # saving and sharing ----------------------------------------------------------------------------------------------

    _source: Path | None = None

    def save_pretrained(
        self,
        save_directory: str | os.PathLike[str],
        safe_serialization: bool = True,
        variant: str | None = None,
        max_shard_size: int | str | None = None,
        push_to_hub: bool = False,
        repo_id: str | None = None,
        private: bool | None = None,
        token: str | None = None,
        commit_message: str | None = None,
        create_pr: bool = False,
    ) -> None:
        """Write `model_index.json` and a folder for each component (JSON and safetensors).

        Weights that an earlier save left in the same place are removed, those of other variants stay.

        Args:
            save_directory: Created if needed.
            safe_serialization: As in diffusers; nothing but safetensors is ever written, so False is an error.
            variant: Becomes part of the weights' file names.
            max_shard_size: Such as "5GB"; larger weights are split.
            push_to_hub: Publish afterwards, see `push_to_hub`; the options below are for that.
            repo_id: Where to; the folder's name by default.
            private: Visibility of a new repository.
            token: Access token; the stored one by default.
            commit_message: Of the commit.
            create_pr: Open a pull request instead of committing.

        Raises:
            UserError: `safe_serialization` is False, `max_shard_size` is no size, there is a file at `save_directory`,
                weights are offloaded, or publishing fails.
        """
        if not safe_serialization:
            raise UserError("safe_serialization=False: only safetensors are written; leave the option out")
        check_shard_size(max_shard_size)
        networks = {name: part for name, part in self.components.items() if isinstance(part, torch.nn.Module)}
        for name, network in networks.items():
            if any(parameter.device.type == "meta" for parameter in network.parameters()):
                raise UserError(f"the weights of {name} are offloaded; call remove_all_hooks() before saving")
        save = functools.partial(super().save_pretrained, variant=variant, max_shard_size=max_shard_size)
        write_pipeline(Path(save_directory), save, networks, variant)
        if push_to_hub:
            self.push_to_hub(
                repo_id or Path(save_directory).name,
                commit_message=commit_message,
                private=private,
                token=token,
                create_pr=create_pr,
                variant=variant,
            )

    def push_to_hub(
        self,
        repo_id: str,
        commit_message: str | None = None,
        private: bool | None = None,
        token: str | None = None,
        create_pr: bool = False,
        variant: str | None = None,
        revision: str | None = None,
        license: str | None = None,
        safe_serialization: bool = True,
        subfolder: str | None = None,
    ) -> str:
        """Publish the pipeline with a model card.

        A pipeline that was loaded from a training output folder takes that folder's card, figures and pictures along;
        another one leaves those that an earlier upload put into the repository as they are, see `hub.publish`.

        Args:
            repo_id: "user/repo".
            commit_message: Of the commit.
            private: Visibility of a new repository.
            token: Access token; the stored one by default.
            create_pr: Open a pull request instead of committing.
            variant: Upload the weights under this variant's file names too, beside the plain ones.
            revision: Branch to commit to, created if it does not exist; the main one by default.
            license: Identifier of the weights' licence, such as "apache-2.0".
            safe_serialization: As for `save_pretrained`.
            subfolder: Folder of the repository to put the pipeline into, without a card;
                `from_pretrained(repo_id, subfolder=...)` loads it from there.

        Returns:
            URL of the commit.

        Raises:
            UserError: As of `save_pretrained` and `hub.publish`.
        """
        from hf_genmodels.hub import copy_card_files, publish

        with tempfile.TemporaryDirectory() as folder:
            self.save_pretrained(folder, safe_serialization)
            if variant is not None:
                self.save_pretrained(folder, variant=variant)
            if self._source is not None:
                copy_card_files(self._source, Path(folder))
            return publish(
                folder,
                repo_id,
                private=private,
                token=token,
                commit_message=commit_message,
                revision=revision,
                create_pr=create_pr,
                license=license,
                subfolder=subfolder,
            )
