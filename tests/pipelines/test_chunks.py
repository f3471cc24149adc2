"""`max_batch_size`: networks see no more images at once, and what comes out is what comes out of one call."""

from __future__ import annotations

import inspect
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from hf_genmodels import FlowPipeline, GenerativePipeline, RealNVP
from hf_genmodels.operators import Inpainting
from hf_genmodels.pipelines.chunks import in_chunks
from tests.families import TINY
from tests.testing_utils.flows import perturb
from tests.testing_utils.offloading import source_images, tensors_in
from tests.testing_utils.pipelines import networks, random_images, tiny_pipeline

COUNT, MOST = 5, 2


def build(name: str) -> Any:
    pipeline = tiny_pipeline(name, (4, 8, 8) if name == "PolarimetricPipeline" else (1, 8, 8))
    for network in networks(pipeline).values():
        if isinstance(network, RealNVP):
            perturb(network, 0.1)
    return pipeline


def sizes_of(pipeline: GenerativePipeline) -> list[int]:
    """The batches that layers with weights of the networks will see."""
    seen: list[int] = []

    def note(module: nn.Module, inputs: tuple[Any, ...], output: Any) -> None:
        if inputs and isinstance(inputs[0], Tensor) and inputs[0].ndim in (2, 4):
            seen.append(len(inputs[0]))

    for network in networks(pipeline).values():
        for module in network.modules():
            if isinstance(module, (nn.Conv2d, nn.ConvTranspose2d)) or module is network:
                module.register_forward_hook(note)
    return seen


def arguments_of(pipeline: Any) -> dict[str, Any]:
    """Of a call for COUNT images."""
    known = inspect.signature(type(pipeline).__call__).parameters
    if "image" in known:
        return {
            "image": source_images(pipeline)[:1].repeat(COUNT, 1, 1, 1) * torch.linspace(0, 1, COUNT).view(-1, 1, 1, 1)
        }
    images = random_images(pipeline.sample_shape, COUNT)
    if "mask" in known:
        return {"values": images, "mask": torch.eye(8)}
    if "measurement" in known:
        operator = Inpainting(torch.eye(8)[None])
        return {"measurement": operator(images), "operator": operator, "num_inference_steps": 2}
    return {"batch_size": COUNT} | ({"num_inference_steps": 3} if "num_inference_steps" in known else {})


def seeded(pipeline: Any, *, one_each: bool) -> dict[str, Any]:
    if "generator" not in inspect.signature(type(pipeline).__call__).parameters:
        return {}
    seeds = [torch.Generator().manual_seed(seed) for seed in range(COUNT)]
    return {"generator": seeds if one_each else seeds[0]}


@pytest.mark.parametrize("one_each", [False, True], ids=["one generator", "one for each image"])
@pytest.mark.parametrize("name", TINY)
def test_chunks_give_what_one_call_gives(name: str, one_each: bool) -> None:
    pipeline = build(name)
    arguments = arguments_of(pipeline)
    whole = pipeline(**arguments, **seeded(pipeline, one_each=one_each), output_type="pt")
    seen = sizes_of(pipeline)
    chunks = pipeline(**arguments, **seeded(pipeline, one_each=one_each), output_type="pt", max_batch_size=MOST)
    assert type(chunks) is type(whole) and len(whole.images) == COUNT
    torch.testing.assert_close(list(tensors_in(chunks)), list(tensors_in(whole)), rtol=1e-5, atol=1e-5)
    guided = 2 if name == "ConditionalDDPMPipeline" else 1
    assert not seen or max(seen) <= guided * MOST


@pytest.mark.parametrize("output_type", ["pil", "np", "pt"])
def test_every_output_type_is_joined(output_type: str) -> None:
    pipeline = tiny_pipeline("VAEPipeline")
    latents = torch.randn(COUNT, 2, generator=torch.Generator().manual_seed(0))
    whole = pipeline(latents=latents, output_type=output_type).images
    chunks = pipeline(latents=latents, output_type=output_type, max_batch_size=MOST).images
    assert type(chunks) is type(whole) and len(chunks) == COUNT
    rounding = 1 if output_type == "pil" else 1e-6
    np.testing.assert_allclose(np.stack(chunks) * 1.0, np.stack(whole) * 1.0, atol=rounding)
    (images,) = pipeline(latents=latents, output_type=output_type, max_batch_size=MOST, return_dict=False)
    assert np.array_equal(np.stack(images), np.stack(chunks))


def test_labels_and_contexts_go_with_their_images() -> None:
    flow = RealNVP(2, num_classes=3, context_dim=2, num_couplings=2, hidden_dims=(4,)).eval()
    perturb(flow, 0.5)
    pipeline = FlowPipeline(flow)
    latents, context = torch.randn(2, COUNT, 2, generator=torch.Generator().manual_seed(0)).unbind()
    given: dict[str, Any] = {"latents": latents, "class_labels": [0, 1, 2, 1, 0], "context": context}
    whole = pipeline(**given, output_type="pt").images
    chunks = pipeline(**given, output_type="pt", max_batch_size=MOST).images
    torch.testing.assert_close(chunks, whole)
    for shared in ({"class_labels": 1}, {"context": context[0]}):
        whole = pipeline(**{**given, **shared}, output_type="pt").images
        torch.testing.assert_close(pipeline(**{**given, **shared}, output_type="pt", max_batch_size=1).images, whole)


def test_what_is_handed_to_each_chunk() -> None:
    calls = []

    def make(numbers: Tensor, names: list[str], nothing: None) -> tuple[Tensor, dict[str, list[str]]]:
        calls.append((numbers.tolist(), names, nothing))
        return -numbers, {"names": names}

    negative, told = in_chunks(make, 2, torch.arange(3), ["a", "b", "c"], None)
    assert calls == [([0, 1], ["a", "b"], None), ([2], ["c"], None)]
    assert negative.tolist() == [0, -1, -2] and told == {"names": ["a", "b", "c"]}
