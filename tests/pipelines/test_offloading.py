"""Offloaded weights: every public method of every pipeline gives what it gives without, and takes them away again."""

from __future__ import annotations

import copy
import dataclasses
import importlib
import pkgutil
from typing import Any

import pytest
import torch
from accelerate.hooks import CpuOffload, add_hook_to_module
from accelerate.utils import send_to_device
from diffusers.utils import BaseOutput

import hf_genmodels.blocks
import hf_genmodels.models
from hf_genmodels import NICE, VAE, FlowPipeline, Glow, RealNVP, TexturePipeline, VAEPipeline
from tests.families import TINY
from tests.testing_utils.networks import tiny_autoencoding, tiny_resnet
from tests.testing_utils.offloading import Elsewhere, call, offload_in_parts, public_methods
from tests.testing_utils.pipelines import networks, tiny_pipeline
from tests.testing_utils.refusals import refused

METHODS = [(pipeline, name) for pipeline in TINY for name in public_methods(type(tiny_pipeline(pipeline, (4, 8, 8))))]


def tiny(name: str) -> Any:
    pipeline: Any = tiny_pipeline(name, (4, 8, 8) if name == "PolarimetricPipeline" else (1, 8, 8))
    if "generator_ba" in pipeline.components:
        pipeline.generator_ba = tiny_resnet((pipeline.generator_ab.config.out_channels, 8, 8)).eval()
    return pipeline


@pytest.mark.parametrize(("pipeline", "method"), METHODS)
def test_methods_with_offloaded_weights(pipeline, method):
    expected = call(tiny(pipeline), method)
    assert expected

    by_model = tiny(pipeline)
    by_model.enable_model_cpu_offload(device="cpu")
    away = {name: Elsewhere() for name in networks(by_model)}
    for name, network in networks(by_model).items():
        add_hook_to_module(network, away[name])
    torch.testing.assert_close(call(by_model, method), expected)
    if any(hook.uses for hook in away.values()):
        assert all(type(network._hf_hook) is CpuOffload for network in networks(by_model).values())

    in_parts = tiny(pipeline)
    offload_in_parts(in_parts)
    torch.testing.assert_close(call(in_parts, method), expected)
    assert {weight.device.type for network in networks(in_parts).values() for weight in network.parameters()} == {
        "meta"
    }
    in_parts.remove_all_hooks()
    torch.testing.assert_close(call(in_parts, method), expected)


def test_the_exemplar_of_an_offloaded_texture():
    pipeline: Any = tiny_pipeline("TexturePipeline")
    expected = pipeline.exemplar
    offload_in_parts(pipeline)
    assert isinstance(pipeline, TexturePipeline) and torch.equal(pipeline.exemplar, expected)


@pytest.mark.parametrize(
    "flow",
    [
        lambda: RealNVP(1, 8, 256, hidden_channels=4, num_blocks=1, num_scales=1),
        lambda: Glow(1, 8, hidden_channels=4, num_flow_steps=1, num_scales=1),
        lambda: NICE(1, 8, 256, hidden_dims=(8,)),
    ],
    ids=["RealNVP", "Glow", "NICE"],
)
def test_flows_with_buffers_inside(flow):
    """Some are saved and some are not."""
    torch.manual_seed(0)
    pipeline = FlowPipeline(flow().eval())
    latents = torch.randn(2, pipeline.latent_dim)
    expected = pipeline.decode(latents, output_type="pt").images
    for _ in range(2):
        offload_in_parts(pipeline)
        assert torch.equal(pipeline.decode(latents, output_type="pt").images, expected)
    pipeline.remove_all_hooks()
    assert torch.equal(pipeline.decode(latents, output_type="pt").images, expected)


class PlainVAE(VAE):
    """A class of a user's own, with a method more."""

    def halfway(self, sample: torch.Tensor) -> torch.Tensor:
        return self.decode(self.posterior_parameters(sample)[0] / 2)


def test_networks_of_others_and_their_copies():
    """A copy of an offloaded network is a network of its own, a network that is offloaded no more is as it was."""
    network = tiny_autoencoding(PlainVAE, (1, 8, 8)).eval()
    sample = torch.zeros(1, 1, 8, 8)
    expected = network.halfway(sample)
    members = set(vars(network))
    pipeline = VAEPipeline(network)
    offload_in_parts(pipeline)
    assert torch.equal(network.halfway(sample), expected)
    copied = copy.deepcopy(network)
    pipeline.remove_all_hooks()
    assert set(vars(network)) == members
    with torch.no_grad():
        network.posterior.bias.add_(1)
    assert torch.equal(copied.halfway(sample), expected)
    assert not torch.equal(network.halfway(sample), expected)


def test_a_pipeline_whose_weights_are_elsewhere_is_not_saved(tmp_path):
    pipeline = tiny("LatentDDPMPipeline")
    offload_in_parts(pipeline)
    with refused("the weights of vae are offloaded; call remove_all_hooks"):
        pipeline.save_pretrained(tmp_path / "model")
    assert not (tmp_path / "model").exists()
    pipeline.enable_model_cpu_offload(device="cpu")
    pipeline.save_pretrained(tmp_path / "model")
    loaded = type(pipeline).from_pretrained(tmp_path / "model")
    assert torch.equal(loaded.vae.posterior.weight, pipeline.vae.posterior.weight)


OUTPUTS = [
    member
    for package in (hf_genmodels.models, hf_genmodels.blocks)
    for found in pkgutil.iter_modules(package.__path__)
    for member in vars(importlib.import_module(f"{package.__name__}.{found.name}")).values()
    if isinstance(member, type) and issubclass(member, BaseOutput) and member is not BaseOutput
]


@pytest.mark.parametrize("kind", sorted(set(OUTPUTS), key=lambda kind: kind.__name__))
def test_outputs_can_be_moved_by_accelerate(kind):
    names = [field.name for field in dataclasses.fields(kind)]
    output = kind(*(torch.full((2,), float(index)) for index in range(len(names))))
    moved = send_to_device(output, "meta")
    assert type(moved) is kind and list(moved) == names
    assert all(getattr(moved, name).device.type == "meta" for name in names)
