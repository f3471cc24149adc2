"""What every pipeline shares: what it can do, checked arguments, random latents, class names, image formats."""

from __future__ import annotations

import inspect
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Literal

import torch
from diffusers.utils import BaseOutput
from diffusers.utils.torch_utils import randn_tensor
from torch import Tensor

from hf_genmodels.data.spec import LayoutKind
from hf_genmodels.errors import UserError
from hf_genmodels.sizes import sample_shape

from .arguments import check_arguments
from .compiling import compile_in_place
from .components import parts_of
from .images import SampleShape, from_network, to_network
from .labels import ClassLabels, find_labels, find_names, find_number
from .stored import StoredPipeline

Generators = torch.Generator | Sequence[torch.Generator] | None
Direction = Literal["a_to_b", "b_to_a"]
Measure = Literal[
    "samples",
    "reconstructions",
    "likelihood",
    "anomalies",
    "translations",
    "label_maps",
    "violations",
    "completions",
    "codes",
    "latents",
    "posteriors",
]
Task = Literal["translate", "reconstruct", "denoise", "encode", "score"]


@dataclass
class GenerativePipelineOutput(BaseOutput):
    """What a pipeline returns.

    Args:
        images: List of PIL images, array (batch, height, width, channels) in [0, 1], or tensor (batch, channels,
            height, width) in [0, 1]; vectors are (batch, dim).
    """

    images: Any


class GenerativePipeline(StoredPipeline):
    """Base of all pipelines of hf_genmodels.

    Differences from diffusers: components are recorded by public name (`["hf_genmodels", "VAE"]`), so that moving a
    file breaks no checkpoint; each must be of the class, or play the role (`roles.py`), that its constructor's
    parameter is annotated with; loading raises on a missing weight, on another pipeline's folder, and on anything but
    safetensors and JSON; no code is ever run from a repository, and a class of your own is loaded only if you give it
    or have registered it (`hf_genmodels.register`).

    Weights may be offloaded as in diffusers (`enable_model_cpu_offload`), whichever methods are called afterwards.

    What `hf-genmodels evaluate` and `sample` may ask of a pipeline is what its class says in the attributes below.

    Attributes:
        measures: What can be measured of it. A call `(batch_size=, generator=, output_type="pt")` gives "samples"; or
            `(image=, output_type="pt")` "translations", to compare with the other images of a `data_layout` of two, or
            "label_maps", to compare with theirs, as `LabelMapPipeline`;
            or `(values, mask, generator=, output_type="pt")` "completions", as `PixelwisePipelineOutput`. Methods
            give "reconstructions", `reconstruct(images, output_type="pt")`; "codes", `encode(images)`, and with
            `prior_latents` "latents"; "posteriors", `posterior(images)` as `PosteriorPipeline` has it; "likelihood",
            `log_likelihood(images, generator=)`; "anomalies", as `AnomalyPipeline` has them; and "violations" of
            translations, `violations(images)` as in `PolarimetricPipeline`.
        tasks: What `hf-genmodels apply` can do to images with it, the first by default: "translate", a call
            `(image=)`; "reconstruct", "denoise", "encode", methods of these names; "score", those of `scores`.
        scores: Methods that give one number for each image, `(images)` or `(images, generator=)`.
        data_layout: What an example of the data that it is measured on consists of, see `Layout`. With "domains" it is
            measured on pairs where both are columns of one data set.
        sampling_options: Further arguments of a call that may be passed on to it.
        default_direction: Of a call that takes `direction`, "a_to_b" or "b_to_a"; None of others.
        random_reconstructions: Whether `reconstruct` takes a `generator`.
        likelihood_options: Those of `sampling_options` that `log_likelihood` takes, too.
        has_labelled_classes: Whether `class_labels` are those of data with labels, as samples can be judged by.
        likelihood_draws: How many draws stand behind each likelihood; None where that is no argument.
    """

    measures: ClassVar[frozenset[Measure]] = frozenset({"samples"})
    tasks: ClassVar[tuple[Task, ...]] = ()
    scores: ClassVar[tuple[str, ...]] = ()
    data_layout: ClassVar[LayoutKind] = "image"
    sampling_options: ClassVar[frozenset[str]] = frozenset()
    default_direction: ClassVar[Direction | None] = None
    random_reconstructions: ClassVar[bool] = False
    likelihood_options: ClassVar[frozenset[str]] = frozenset()
    has_labelled_classes: ClassVar[bool] = True
    likelihood_draws: ClassVar[int | None] = None

    def __init_subclass__(cls, **kwargs: Any) -> None:
        super().__init_subclass__(**kwargs)
        for name, method in list(vars(cls).items()):
            if inspect.isfunction(method) and (name == "__call__" or not name.startswith("_")):
                setattr(cls, name, check_arguments(method))

    def compile(self, **options: Any) -> None:
        """Compile the networks in place, `forward` and the other methods that this pipeline calls.

        Calls take less time from the second one of each batch size on; compilation itself takes up to minutes. Saving,
        `to` and copies are as before. Networks whose weights are offloaded later run as they are, uncompiled, where
        the pipeline calls another method than `forward`.

        Args:
            options: Of `torch.compile`, such as `mode="max-autotune"`.
        """
        for name, part in parts_of(type(self)).items():
            network = getattr(self, name)
            if isinstance(network, torch.nn.Module):
                methods = (*part.role.members, *part.role.optional) if part.role else ()
                compile_in_place(network, methods, **options)

    # what sampling needs ---------------------------------------------------------------------------------------------

    @property
    def sample_shape(self) -> SampleShape:
        """Shape of one sample, (channels, height, width) or (dim,): that of the first component's configuration."""
        config = next(iter(self.components.values())).config
        return sample_shape(config.in_channels, config.sample_size)

    @property
    def num_classes(self) -> int | None:
        """Number of classes of a conditional model, else None."""
        return None

    @property
    def id2label(self) -> dict[int, str] | None:
        """Names of the classes by number, as diffusers' DiTPipeline has them; None where nobody gave any."""
        names: dict[int, str] | None = self.config.get("id2label")
        return names

    def register_classes(self, id2label: Mapping[Any, str] | None) -> None:
        """Keep the names of the classes in the configuration, so that `class_labels` may be names.

        Args:
            id2label: Number (a string of it in JSON) -> name; None for no names.

        Raises:
            UserError: It does not name each class.
        """
        self.register_to_config(id2label=None if id2label is None else find_names(id2label, self.num_classes or 0))

    @property
    def translates(self) -> bool:
        """Whether what is measured is made of the first images of a `data_layout` of two."""
        return not self.measures.isdisjoint({"translations", "label_maps"})

    def class_numbers(self, class_labels: Any) -> Any:
        """`class_labels` as users give them, with numbers in place of names.

        Raises:
            UserError: No class, or more than one, is called so.
        """
        if isinstance(class_labels, (list, tuple)):
            return [self.class_numbers(label) for label in class_labels]
        return find_number(class_labels, self.id2label or {}) if isinstance(class_labels, str) else class_labels

    def find_labels(self, class_labels: ClassLabels) -> Tensor | None:
        """Class labels as users give them -> (number of them,) int64 on this pipeline's device; None for none.

        Raises:
            UserError: They are no classes, or the model knows none.
        """
        if class_labels is None:
            return None
        return find_labels(class_labels, self.num_classes, self._execution_device)

    def random_latents(
        self,
        batch_size: int,
        shape: tuple[int, ...],
        generator: Generators,
        latents: Tensor | None,
        dtype: torch.dtype,
    ) -> Tensor:
        """Standard normal latents (batch_size, *shape), or the given ones after a check of their shape.

        A sequence of generators, one for each image, gives each image the latents that it gets alone. Its sample is
        then the same as well, except of networks with `norm_statistics="batch"`, which normalise each image by the
        others.

        Raises:
            UserError: `latents` has another shape, or there are not as many generators as images, or no images at all.
        """
        if isinstance(generator, list) and len(generator) != batch_size and latents is None:
            raise UserError(f"{len(generator)} generators for batch_size={batch_size}; give one for each image")
        if latents is None:
            # in float32, so that a seed means the same numbers in any precision
            place = {"device": self._execution_device, "dtype": torch.float32}
            return randn_tensor((batch_size, *shape), generator=generator, **place).to(dtype)
        if latents.ndim == 0 or tuple(latents.shape[1:]) != shape:
            raise UserError(f"latents must be (batch, {', '.join(map(str, shape))}), got {tuple(latents.shape)}")
        return latents.to(self._execution_device, dtype)

    def random_uniform(self, batch_size: int, generator: Generators) -> Tensor:
        """Uniform numbers in [0, 1], (batch_size,) float32; `generator` as for `random_latents`."""
        return torch.special.ndtr(self.random_latents(batch_size, (), generator, None, torch.float32))

    def prepare_images(self, images: Any, dtype: torch.dtype) -> Tensor:
        """User's images -> (batch, channels, height, width) in [-1, 1] on this pipeline's device.

        See `images.to_network` for what they may be.
        """
        return to_network(images, self.sample_shape, self.config.value_scale).to(self._execution_device, dtype)

    def finish(
        self, samples: Tensor, output_type: str | None, return_dict: bool = True
    ) -> GenerativePipelineOutput | tuple[Any]:
        """A network's samples -> the output object; see `images.from_network`."""
        images = from_network(samples, output_type, self.config.value_scale)
        return GenerativePipelineOutput(images=images) if return_dict else (images,)

    def check_sampling_options(self, options: Mapping[str, Any]) -> dict[str, Any]:
        """The options that are not None, once it is known that they are among `sampling_options`.

        Raises:
            UserError: One is not.
        """
        given = {name: value for name, value in options.items() if value is not None}
        for name in given:
            if name not in self.sampling_options:
                raise UserError(f"--{name}: a {type(self).__name__} has no such option; leave it out")
        return given
