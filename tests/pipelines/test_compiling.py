"""Compiled pipelines: the methods that they call are compiled, and nothing else about them changes."""

from __future__ import annotations

import copy
import json
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from hf_genmodels import FlowPipeline
from hf_genmodels.cli import main
from tests.testing_utils.offloading import call, public_methods
from tests.testing_utils.pipelines import draw, networks, tiny_pipeline

SAMPLERS = ["VAEPipeline", "GANPipeline", "LatentDDPMPipeline"]


class Counting:
    """A backend that runs graphs as they are, and counts them."""

    def __init__(self) -> None:
        self.graphs = 0

    def __call__(self, graph: Any, inputs: Any) -> Any:
        self.graphs += 1
        return graph.forward


@pytest.fixture(autouse=True)
def _nothing_compiled_before():
    torch._dynamo.reset()
    yield
    torch._dynamo.reset()


@pytest.mark.parametrize("name", SAMPLERS)
def test_compiled_methods_give_the_same(name):
    pipeline, counting = tiny_pipeline(name), Counting()
    methods = public_methods(type(pipeline))
    expected = {method: call(pipeline, method) for method in methods}
    pipeline.compile(backend=counting)
    torch.testing.assert_close({method: call(pipeline, method) for method in methods}, expected)
    assert counting.graphs >= 1
    graphs = counting.graphs
    call(pipeline, "__call__")
    assert counting.graphs == graphs, "the second call of a batch size compiles nothing"


def test_a_flow_samples_by_a_compiled_method_and_so_does_its_copy():
    pipeline, counting = tiny_pipeline("FlowPipeline"), Counting()
    expected = draw(pipeline, output_type="pt").images
    pipeline.compile(backend=counting)
    torch.testing.assert_close(draw(pipeline, output_type="pt").images, expected)
    assert counting.graphs
    copied = FlowPipeline(copy.deepcopy(pipeline.flow))
    with torch.no_grad():
        for weight in pipeline.flow.parameters():
            weight.zero_()
    torch.testing.assert_close(draw(copied, output_type="pt").images, expected)


@pytest.mark.parametrize("way", ["pipeline", "component"])
@pytest.mark.parametrize("name", ["FlowPipeline", "DDPMPipeline"])
def test_compiled_pipelines_are_saved_moved_and_offloaded_as_others(name, way, tmp_path):
    """Also where a component was replaced by what `torch.compile` makes of it, as diffusers' documentation does."""
    pipeline = tiny_pipeline(name)
    expected = draw(pipeline, output_type="pt").images
    if way == "pipeline":
        pipeline.compile(backend="eager")
    else:
        for part, network in networks(pipeline).items():
            setattr(pipeline, part, torch.compile(network, backend="eager"))
    torch.testing.assert_close(draw(pipeline, output_type="pt").images, expected)
    pipeline.save_pretrained(tmp_path)
    plain = tiny_pipeline(name)
    plain.save_pretrained(tmp_path / "plain")
    read = [json.loads((folder / "model_index.json").read_text()) for folder in (tmp_path, tmp_path / "plain")]
    assert read[0] == read[1]
    loaded = type(pipeline).from_pretrained(tmp_path)
    loaded.set_progress_bar_config(disable=True)
    torch.testing.assert_close(draw(loaded, output_type="pt").images, expected)
    assert pipeline.to(torch.bfloat16).dtype == torch.bfloat16
    draw(pipeline.to(torch.float32), output_type="pt")


def test_compiled_weights_that_are_offloaded():
    pipeline = tiny_pipeline("FlowPipeline")
    expected = draw(pipeline, output_type="pt").images
    pipeline.compile(backend="eager")
    pipeline.enable_model_cpu_offload(device="cpu")
    torch.testing.assert_close(draw(pipeline, output_type="pt").images, expected)


@pytest.mark.slow
def test_sample_compiles_for_the_processor(tmp_path):
    """Through the compiler of C++; the samples are those of the command without --compile, to a grey level."""
    pipeline = tiny_pipeline("DDPMPipeline")
    pipeline.save_pretrained(tmp_path / "model")
    folders = []
    for options in ([], ["--compile"]):
        folders.append(tmp_path / f"samples{len(options)}")
        arguments = ["sample", str(tmp_path / "model"), "--num_samples", "3", "--batch_size", "2"]
        assert not main([*arguments, "--num_inference_steps", "2", "--output_dir", str(folders[-1]), *options])
    for number in range(3):
        plain, compiled = (np.array(Image.open(folder / f"{number:05d}.png"), int) for folder in folders)
        assert abs(plain - compiled).max() <= 1
