"""What every pipeline shares: strict loading, move-proof saving, publishing, random latents, image formats."""

from __future__ import annotations

import importlib
import inspect
import os
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import torch
from diffusers import DiffusionPipeline, SchedulerMixin
from diffusers.utils import BaseOutput
from diffusers.utils.torch_utils import randn_tensor
from torch import Tensor

from hf_genmodels.errors import UserError
from hf_genmodels.files import read_json
from hf_genmodels.loading import load_network

from .images import SampleShape, from_network, to_network

Generators = torch.Generator | list[torch.Generator] | None
PipelineT = TypeVar("PipelineT", bound="GenerativePipeline")

LIBRARIES = ("hf_genmodels", "diffusers", "transformers")


@dataclass
class GenerativePipelineOutput(BaseOutput):
    """What a pipeline returns.

    Args:
        images: List of PIL images, array (batch, height, width, channels) in [0, 1], or tensor (batch, channels,
            height, width) in [0, 1]; vectors are (batch, dim).
    """

    images: Any


class GenerativePipeline(DiffusionPipeline):
    """Base of all pipelines of hf_genmodels.

    Differences from diffusers: components are recorded by public name (`["hf_genmodels", "VAE"]`), so that moving a
    file breaks no checkpoint; loading raises on a missing weight, on another pipeline's folder, and on anything but
    safetensors and JSON; no code is ever run from a repository.
    """

    def register_modules(self, **kwargs: Any) -> None:
        super().register_modules(**kwargs)
        for name, module in kwargs.items():
            self._record_public_name(name, module)

    def __setattr__(self, name: str, value: Any) -> None:
        super().__setattr__(name, value)
        if isinstance(value, torch.nn.Module):
            self._record_public_name(name, value)

    def _record_public_name(self, name: str, module: Any) -> None:
        if name in self.config and type(module).__module__.split(".")[0] == "hf_genmodels":
            self.register_to_config(**{name: ("hf_genmodels", type(module).__name__)})

    # loading ---------------------------------------------------------------------------------------------------------

    @classmethod
    def from_pretrained(
        cls: type[PipelineT],
        pretrained_model_name_or_path: str | os.PathLike[str],
        *,
        dtype: torch.dtype | None = None,
        torch_dtype: torch.dtype | None = None,
        variant: str | None = None,
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
            dtype: Of the weights; float32 by default.
            torch_dtype: The older name of `dtype`.
            variant: Such as "fp16", part of the weights' file names.
            revision: Branch, tag or commit.
            subfolder: Folder inside the repository that holds `model_index.json`.
            token: Access token, or True for the stored one.
            cache_dir: Instead of the Hub's cache.
            local_files_only: Do not ask the Hub.
            force_download: Download even what is cached.
            overrides: Components or configuration values to use instead of the saved ones.

        Raises:
            UserError: Nothing there, another class, missing weights, foreign components, or unknown overrides.
        """
        from hf_genmodels.hub import resolve_folder

        folder = resolve_folder(
            str(pretrained_model_name_or_path),
            revision=revision,
            subfolder=subfolder,
            token=token,
            cache_dir=cache_dir,
            local_files_only=local_files_only,
            force_download=force_download,
        )
        index = read_json(folder / "model_index.json")
        if index.get("_class_name") != cls.__name__:
            raise UserError(
                f"{pretrained_model_name_or_path} holds a {index.get('_class_name')}, not a {cls.__name__}; "
                "use that class, or AutoPipeline"
            )
        parameters = {n: p for n, p in inspect.signature(cls.__init__).parameters.items() if n != "self"}
        unknown = sorted(set(overrides) - set(parameters))
        if unknown:
            raise UserError(f"{cls.__name__}.from_pretrained has no option {unknown[0]!r}")
        arguments = dict(overrides)
        for name in [name for name in parameters if name not in overrides]:
            if parameters[name].default is inspect.Parameter.empty and not _is_component(index.get(name)):
                raise UserError(f"{folder / 'model_index.json'} names no component {name}")
            if name in index:
                arguments[name] = _load_entry(folder, name, index[name], dtype or torch_dtype, variant)
        pipeline = cls(**arguments)
        pipeline._source = folder
        return pipeline

    # saving and sharing ----------------------------------------------------------------------------------------------

    _source: Path | None = None

    def save_pretrained(
        self,
        save_directory: str | os.PathLike[str],
        variant: str | None = None,
        max_shard_size: int | str | None = None,
        push_to_hub: bool = False,
        repo_id: str | None = None,
        **hub_arguments: Any,
    ) -> None:
        """Write `model_index.json` and a folder for each component (JSON and safetensors).

        Args:
            save_directory: Created if needed.
            variant: Becomes part of the weights' file names.
            max_shard_size: Such as "5GB"; larger weights are split.
            push_to_hub: Publish afterwards, see `push_to_hub`.
            repo_id: Where to; the folder's name by default.
            hub_arguments: Passed on to `push_to_hub`.
        """
        super().save_pretrained(save_directory, variant=variant, max_shard_size=max_shard_size)
        if push_to_hub:
            self.push_to_hub(repo_id or Path(save_directory).name, variant=variant, **hub_arguments)

    def push_to_hub(
        self,
        repo_id: str,
        commit_message: str | None = None,
        private: bool | None = None,
        token: str | None = None,
        create_pr: bool = False,
        variant: str | None = None,
    ) -> str:
        """Publish the pipeline with a model card.

        A pipeline that was loaded from a training output folder takes that folder's card, figures and pictures along.

        Args:
            repo_id: "user/repo".
            commit_message: Of the commit.
            private: Visibility of a new repository.
            token: Access token; the stored one by default.
            create_pr: Open a pull request instead of committing.
            variant: Upload the weights under this variant's file names too, beside the plain ones.

        Returns:
            URL of the commit.
        """
        from hf_genmodels.hub import copy_card_files, publish

        with tempfile.TemporaryDirectory() as folder:
            self.save_pretrained(folder)
            if variant is not None:
                self.save_pretrained(folder, variant=variant)
            if self._source is not None:
                copy_card_files(self._source, Path(folder))
            return publish(
                folder, repo_id, private=private, token=token, commit_message=commit_message, create_pr=create_pr
            )

    # what sampling needs ---------------------------------------------------------------------------------------------

    @property
    def sample_shape(self) -> SampleShape:
        """Shape of one sample, (channels, height, width) or (dim,): that of the first component's configuration."""
        config = next(iter(self.components.values())).config
        return (config.in_channels,) if config.sample_size is None else (config.in_channels, *[config.sample_size] * 2)

    def random_latents(
        self,
        batch_size: int,
        shape: tuple[int, ...],
        generator: Generators,
        latents: Tensor | None,
        dtype: torch.dtype,
    ) -> Tensor:
        """Standard normal latents (batch_size, *shape), or the given ones after a check of their shape.

        Raises:
            UserError: `latents` has another shape, or there are not as many generators as images, or no images at all.
        """
        if batch_size < 1:
            raise UserError(f"batch_size must be at least 1, got {batch_size}")
        if isinstance(generator, list) and len(generator) != batch_size and latents is None:
            raise UserError(f"{len(generator)} generators for batch_size={batch_size}; give one for each image")
        if latents is None:
            return randn_tensor((batch_size, *shape), generator=generator, device=self._execution_device, dtype=dtype)
        if tuple(latents.shape[1:]) != shape:
            raise UserError(f"latents must be (batch, {', '.join(map(str, shape))}), got {tuple(latents.shape)}")
        return latents.to(self._execution_device, dtype)

    def prepare_images(self, images: Any, dtype: torch.dtype) -> Tensor:
        """User's images -> (batch, channels, height, width) in [-1, 1] on this pipeline's device.

        See `images.to_network` for what they may be.
        """
        return to_network(images, self.sample_shape).to(self._execution_device, dtype)

    def finish(
        self, samples: Tensor, output_type: str | None, return_dict: bool = True
    ) -> GenerativePipelineOutput | tuple[Any]:
        """A network's samples -> the output object; see `images.from_network`."""
        images = from_network(samples, output_type, self.config.value_scale)
        return GenerativePipelineOutput(images=images) if return_dict else (images,)


def _is_component(value: Any) -> bool:
    """Whether an entry of `model_index.json` is [library, class]; the parameters without a default are such."""
    return isinstance(value, list) and len(value) == 2 and value[0] is not None


def _load_entry(folder: Path, name: str, value: Any, dtype: torch.dtype | None, variant: str | None) -> Any:
    """One entry of `model_index.json`: a component is loaded, any other value is itself."""
    if not _is_component(value):
        return None if value == [None, None] else value
    library, class_name = value
    if library not in LIBRARIES:
        raise UserError(f"{folder}: component {name} is from {library!r}; only {', '.join(LIBRARIES)} are loaded")
    component_class: Any = getattr(importlib.import_module(library), str(class_name), None)
    # Networks and schedulers alone: the Auto classes and pipelines of these libraries would load pickles and code.
    is_known = inspect.isclass(component_class) and issubclass(component_class, (torch.nn.Module, SchedulerMixin))
    if not is_known:
        raise UserError(f"{folder}: {library} has no network or scheduler called {class_name!r}")
    if issubclass(component_class, torch.nn.Module):
        return load_network(component_class, folder / name, dtype=dtype, variant=variant)
    try:
        return component_class.from_pretrained(str(folder / name))
    except OSError as error:
        raise UserError(f"{folder / name} holds no {class_name}: {' '.join(str(error).split())}") from error
