"""`callback_on_step_end` of the pipelines that take steps: what it sees, what it changes, and how it ends them."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from diffusers.callbacks import PipelineCallback

from hf_genmodels import DDPMPipeline
from hf_genmodels.operators import Inpainting
from tests.testing_utils.denoising import SAMPLERS, ConstantDenoiser
from tests.testing_utils.networks import tiny_denoiser
from tests.testing_utils.pipelines import random_images, tiny_pipeline
from tests.testing_utils.refusals import refused


def generator() -> torch.Generator:
    return torch.Generator().manual_seed(0)


def ddpm(name: str, **options: Any) -> Any:
    pipe = tiny_pipeline(name)
    return pipe, lambda **more: pipe(batch_size=2, generator=generator(), output_type="pt", **options, **more).images


def inverse_problem() -> Any:
    pipe: Any = tiny_pipeline("InverseProblemPipeline")
    operator = Inpainting(torch.eye(8)[None])
    measured = operator(random_images((1, 8, 8), 2))
    return pipe, lambda **more: pipe(measured, operator, generator=generator(), output_type="pt", **more).images


def inversion() -> Any:
    pipe: Any = tiny_pipeline("GANPipeline")
    images = random_images((1, 8, 8), 2)
    return pipe, lambda **more: pipe.invert(images, num_steps=3, generator=generator(), **more)


# name -> a pipeline, and a call of three steps
ITERATIVE = {
    "DDPM": lambda: ddpm("DDPMPipeline"),
    "classes": lambda: ddpm("ConditionalDDPMPipeline", class_labels=[0, 1]),
    "latents": lambda: ddpm("LatentDDPMPipeline"),
    "inverse problem": inverse_problem,
    "inversion": inversion,
}


@pytest.mark.parametrize("name", ITERATIVE)
def test_a_callback_sees_every_step_and_changes_nothing_by_itself(name: str) -> None:
    pipe, call = ITERATIVE[name]()
    seen: list[tuple[int, Any, dict[str, torch.Tensor]]] = []

    def callback(pipeline: Any, step: int, timestep: Any, tensors: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
        assert pipeline is pipe
        seen.append((step, timestep, tensors))
        return tensors

    plain = call()
    names = pipe._callback_tensor_inputs
    watched = call(callback_on_step_end=callback, callback_on_step_end_tensor_inputs=names)
    assert torch.equal(watched, plain)
    assert torch.equal(call(callback_on_step_end=lambda *step: None), plain)
    assert [step for step, _, _ in seen] == [0, 1, 2]
    for _, _, tensors in seen:
        assert list(tensors) == names
        assert all(len(each) == 2 and each.isfinite().all() and not each.requires_grad for each in tensors.values())
    call(callback_on_step_end=callback)
    assert list(seen[-1][2]) == ["latents"]


@pytest.mark.parametrize("name", ITERATIVE)
def test_a_callback_ends_the_steps_and_replaces_latents(name: str) -> None:
    pipe, call = ITERATIVE[name]()
    steps = []

    def stop(pipeline: Any, step: int, timestep: Any, tensors: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
        steps.append(step)
        pipeline._interrupt = True
        return tensors

    ended = call(callback_on_step_end=stop)
    assert steps == [0] and pipe.interrupt and ended.isfinite().all()
    plain = call()
    assert not pipe.interrupt and not torch.equal(ended, plain)
    zeros = call(callback_on_step_end=lambda pipe, step, time, tensors: {"latents": 0 * tensors["latents"]})
    assert not torch.equal(zeros, plain)


@pytest.mark.parametrize("name", ITERATIVE)
def test_refused_callbacks(name: str) -> None:
    _, call = ITERATIVE[name]()
    with refused("callback_on_step_end_tensor_inputs: a .*Pipeline has no 'prompt_embeds'; choose from latents"):
        call(callback_on_step_end=lambda *step: {}, callback_on_step_end_tensor_inputs=["prompt_embeds"])
    with refused("callback_on_step_end must return its dict of tensors, got int"):
        call(callback_on_step_end=lambda *step: 3)
    with refused(r"callback_on_step_end: latents must be \(2, .*\), got \(1,\)"):
        call(callback_on_step_end=lambda *step: {"latents": torch.zeros(1)})


def test_diffusers_callbacks_name_their_own_tensors() -> None:
    class Counter(PipelineCallback):
        tensor_inputs = ("denoised",)

        def callback_fn(self, pipeline: Any, step: int, timestep: Any, tensors: dict[str, Any]) -> dict[str, Any]:
            assert list(tensors) == ["denoised"]
            return tensors

    _, call = ITERATIVE["DDPM"]()
    assert torch.equal(call(callback_on_step_end=Counter(cutoff_step_ratio=None, cutoff_step_index=1)), call())


@pytest.mark.parametrize("sampler", SAMPLERS)
def test_what_is_seen_of_the_only_picture_is_that_picture_at_every_step(sampler: Any) -> None:
    _, trained = tiny_denoiser((3, 2, 2), 20)
    picture = torch.linspace(-0.9, 0.9, 12).reshape(3, 2, 2)
    pipe = DDPMPipeline(ConstantDenoiser(picture, trained), trained)
    pipe.set_progress_bar_config(disable=True)
    pipe.scheduler = sampler.from_config(trained.config)
    seen = []
    pipe(
        num_inference_steps=5,
        callback_on_step_end=lambda pipe, step, time, tensors: seen.append(tensors["denoised"]),
        callback_on_step_end_tensor_inputs=["denoised"],
    )
    assert len(seen) >= 5
    for denoised in seen:
        shown = pipe.finish(pipe.from_diffused(denoised), "pt").images
        torch.testing.assert_close(shown[0], (picture + 1) / 2, atol=0.01, rtol=0)
