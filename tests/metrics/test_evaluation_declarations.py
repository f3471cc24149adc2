"""What pipeline classes say of themselves, against what they have; a user's own class says it the same way."""

from __future__ import annotations

import inspect
from typing import Any

import pytest
import torch

import hf_genmodels
from hf_genmodels import DataArguments, GenerativePipeline, UserError
from hf_genmodels.evaluation import evaluate_pipeline
from hf_genmodels.pipelines.base import GenerativePipelineOutput

OURS = {name for name in hf_genmodels.__all__ if name.endswith("Pipeline")} - {"AutoPipeline", "GenerativePipeline"}
# What a call is given or asked for whatever the pipeline can do.
USUAL = {
    *("self", "batch_size", "generator", "latents", "xi", "image", "values", "mask", "num_samples", "output_type"),
    *("callback_on_step_end", "callback_on_step_end_tensor_inputs", "context", "max_batch_size"),
    *("num_intermediates", "return_probabilities"),
}


def parameters(function: Any) -> dict[str, Any]:
    return {name: parameter.default for name, parameter in inspect.signature(function).parameters.items()}


@pytest.mark.parametrize("name", sorted(OURS))
def test_a_class_says_what_it_has(name: str) -> None:
    kind = getattr(hf_genmodels, name)
    call = parameters(kind.__call__)
    assert ("samples" in kind.measures) == ("batch_size" in call)
    assert kind.measures.isdisjoint({"translations", "label_maps"}) == (kind.data_layout == "image")
    assert "image" in call or "translations" not in kind.measures
    assert ("completions" in kind.measures) == ("mask" in call)
    methods = {"reconstructions": "reconstruct", "likelihood": "log_likelihood", "violations": "violations"}
    methods |= {"anomalies": "anomaly_score", "posteriors": "posterior"}
    for measure, method in methods.items():
        assert (measure in kind.measures) == hasattr(kind, method), measure
    if kind.measures:
        assert kind.sampling_options == call.keys() - USUAL - {"return_dict"}
    assert kind.default_direction == call.get("direction")
    if "reconstructions" in kind.measures:
        assert kind.random_reconstructions == ("generator" in parameters(kind.reconstruct))
    if "anomalies" in kind.measures:
        assert kind.random_anomaly_scores == ("generator" in parameters(kind.anomaly_score))
    if "likelihood" in kind.measures:
        assert kind.likelihood_draws == parameters(kind.log_likelihood).get("num_samples")
    classes = ("num_classes" in vars(base) for base in kind.__mro__ if base is not GenerativePipeline)
    assert ("class_labels" in call) == any(classes)


class Grey(GenerativePipeline):
    """A user's own: grey images, as bright as asked for."""

    measures = frozenset({"samples", "reconstructions"})
    sampling_options = frozenset({"level"})
    sample_shape = (1, 8, 8)

    def __call__(self, batch_size: int, generator: Any, output_type: str, level: float = 0.5) -> Any:
        return GenerativePipelineOutput(torch.full((batch_size, 1, 8, 8), level))

    def reconstruct(self, images: torch.Tensor, output_type: str) -> Any:
        return GenerativePipelineOutput((images + 0.25).clamp(0, 1))

    def log_likelihood(self, images: torch.Tensor, generator: Any) -> torch.Tensor:
        return torch.zeros(len(images))


def evaluate(*metrics: str, **sampling: Any) -> dict[str, Any]:
    results = evaluate_pipeline(
        Grey(),
        DataArguments(dataset_name="builtin:digits"),
        split="test",
        metrics=metrics,
        num_samples=20,
        batch_size=8,
        extractor="pixels",
        seed=0,
        progress=False,
        sampling=sampling,
    )
    return {result["name"]: result for result in results}


def test_a_pipeline_of_ones_own_is_measured_by_what_it_says() -> None:
    dark, bright = evaluate("swd", "mse", level=0.1), evaluate("swd", level=1.0)
    assert dark["SWD"]["value"] < bright["SWD"]["value"]
    assert dark["SWD"]["settings"]["level"] == 0.1
    assert 0.25**2 / 2 < dark["MSE"]["value"] < 0.25**2


def test_what_it_does_not_say_is_not_asked_of_it() -> None:
    with pytest.raises(UserError, match="nll needs likelihoods"):
        evaluate("nll")
    with pytest.raises(UserError, match="--brightness: a Grey has no such option; leave it out"):
        evaluate("swd", brightness=1.0)
