"""Every public method of every pipeline, called with arguments by their names, and a stand-in for a device."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterator, Mapping
from dataclasses import fields, is_dataclass
from typing import Any

import torch
from accelerate.hooks import ModelHook
from torch import Tensor, nn

from hf_genmodels import GANPipeline, GenerativePipeline
from hf_genmodels.operators import Inpainting
from tests.testing_utils.pipelines import networks, random_images

# What a parameter of this name is given; of a pipeline.
ARGUMENTS: dict[str, Callable[[Any], Any]] = {
    "batch_size": lambda pipeline: 2,
    "generator": lambda pipeline: torch.Generator().manual_seed(0),
    "output_type": lambda pipeline: "pt",
    "num_inference_steps": lambda pipeline: 2,
    "num_steps": lambda pipeline: 2,
    "num_samples": lambda pipeline: 2,
    "num_timesteps": lambda pipeline: 1,
    "timesteps": lambda pipeline: 1,
    "num_rows": lambda pipeline: 2,
    "class_labels": lambda pipeline: None if pipeline.num_classes is None else 1,
    "image": lambda pipeline: source_images(pipeline),
    "images": lambda pipeline: random_images(pipeline.sample_shape),
    "intensities": lambda pipeline: random_images(pipeline.sample_shape),
    "values": lambda pipeline: random_images(pipeline.sample_shape),
    "mask": lambda pipeline: torch.eye(pipeline.sample_shape[-1]),
    "measurement": lambda pipeline: operator(pipeline)(random_images(pipeline.sample_shape)),
    "operator": lambda pipeline: operator(pipeline),
    "a": lambda pipeline: one_of(pipeline, 0),
    "b": lambda pipeline: one_of(pipeline, 1),
    "plus": lambda pipeline: [one_of(pipeline, 0), one_of(pipeline, 1)],
    "latents": lambda pipeline: codes(pipeline),
}
# What pipelines are made of; the methods that users call go through them.
HOOKS = {
    *("network_posterior", "network_decode", "prior_latents", "posterior_draw", "path_between", "translate"),
    *("predict", "trained_schedule", "to_diffused", "from_diffused", "from_pipe", "class_numbers"),
    "network_reconstruct",
    *("register_schedule", "start_steps", "end_step"),
    *("set_up", "check_kind", "check_latents", "prepare_scheduler", "set_timesteps"),
    *("take_step", "network_times", "advice_if_not_finite"),
}


def source_images(pipeline: Any) -> Tensor:
    network = next(iter(networks(pipeline).values()))
    return random_images((network.config.in_channels, *pipeline.sample_shape[1:]))


def operator(pipeline: Any) -> Inpainting:
    return Inpainting(torch.eye(pipeline.sample_shape[-1])[None])


def one_of(pipeline: Any, index: int) -> Tensor:
    if isinstance(pipeline, GANPipeline):
        return torch.full((pipeline.latent_dim,), float(index + 1))
    return random_images(pipeline.sample_shape)[index]


def codes(pipeline: Any) -> Tensor:
    """Latents as `encode` gives them, but of this file's own."""
    config = next(iter(networks(pipeline).values())).config
    dim = getattr(pipeline, "latent_dim", None) or config.get("latent_dim")
    shape = getattr(pipeline, "latent_shape", None) or (dim,)
    return torch.randn(2, *shape, generator=torch.Generator().manual_seed(1))


def public_methods(pipeline_class: type) -> list[str]:
    """What users may call of a pipeline, of its own class and its bases up to `GenerativePipeline`."""
    kinds = [kind for kind in pipeline_class.__mro__ if issubclass(kind, GenerativePipeline)]
    found = {
        name
        for kind in kinds[: kinds.index(GenerativePipeline)]
        for name, member in vars(kind).items()
        if inspect.isfunction(member) and (name == "__call__" or not name.startswith("_"))
    }
    return sorted(found - HOOKS)


def call(pipeline: Any, name: str) -> list[Tensor]:
    """What a method gives, as tensors."""
    arguments = {}
    for key, parameter in inspect.signature(getattr(type(pipeline), name)).parameters.items():
        is_needed = parameter.default is inspect.Parameter.empty and key != "self"
        if is_needed or (key in ARGUMENTS and key != "latents"):  # latents that are left out are drawn
            arguments[key] = ARGUMENTS[key](pipeline)
    return list(tensors_in(getattr(pipeline, name)(**arguments)))


def tensors_in(result: Any) -> Iterator[Tensor]:
    if isinstance(result, Tensor):
        yield result.detach()
    elif isinstance(result, float):
        yield torch.tensor(result)
    elif is_dataclass(result):
        for field in fields(result):
            yield from tensors_in(getattr(result, field.name))
    elif isinstance(result, Mapping):
        for value in result.values():
            yield from tensors_in(value)
    elif isinstance(result, (list, tuple)):
        for value in result:
            yield from tensors_in(value)


def offload_in_parts(pipeline: Any) -> None:
    """`enable_sequential_cpu_offload` with the CPU as the accelerator: weights at rest are on the meta device.

    Diffusers says "cpu:0", by which torch makes a parameter a plain tensor.
    """
    pipeline.enable_sequential_cpu_offload(device="cpu")
    for network in networks(pipeline).values():
        for module in network.modules():
            hook = getattr(module, "_hf_hook", None)
            for each in getattr(hook, "hooks", [hook]):
                if each is not None:
                    each.execution_device = torch.device("cpu")


class Elsewhere(ModelHook):
    """The weights of a network are on another device: whoever reads them here without asking reads NaN."""

    def __init__(self) -> None:
        self.execution_device = torch.device("cpu")
        self.uses = 0

    def init_hook(self, module: nn.Module) -> nn.Module:
        self.kept = {name: tensor.clone() for name, tensor in module.state_dict().items()}
        for tensor in module.state_dict().values():
            if tensor.is_floating_point():
                tensor.fill_(float("nan"))
        return module

    def pre_forward(self, module: nn.Module, *args: Any, **kwargs: Any) -> tuple[Any, Any]:
        self.uses += 1
        self.detach_hook(module)
        return args, kwargs

    def detach_hook(self, module: nn.Module) -> nn.Module:
        for name, tensor in module.state_dict().items():
            tensor.copy_(self.kept[name])
        return module
