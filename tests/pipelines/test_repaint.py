"""RePaint, and class-conditional and latent DDPMs as priors of inverse problems."""

from __future__ import annotations

from itertools import pairwise

import pytest
import torch

from hf_genmodels.operators import Inpainting, SuperResolution
from hf_genmodels.pipelines.inverse_problem import InverseProblemPipeline
from hf_genmodels.pipelines.repaint import resampling_path
from tests.pipelines.test_inverse_problem import MASK, draw, gaussian_pipeline, generator, prior_mean, tiny
from tests.testing_utils.gaussian_diffusion import Reference
from tests.testing_utils.pipelines import tiny_pipeline
from tests.testing_utils.refusals import refused


def inverse(name: str) -> InverseProblemPipeline:
    pipe = InverseProblemPipeline.from_pipe(tiny_pipeline(name))
    pipe.set_progress_bar_config(disable=True)
    return pipe


def schedule_of_the_paper(num_steps: int, jump_length: int, num_resamples: int) -> list[int]:
    """By single steps, as the paper's appendix B lists them: x_t, of which t + 1 steps are left."""
    jumps = dict.fromkeys(range(0, num_steps - jump_length, jump_length), num_resamples - 1)
    time, times = num_steps - 1, [num_steps - 1]
    while time >= 1:
        time -= 1
        times.append(time)
        if jumps.get(time, 0) > 0:
            jumps[time] -= 1
            for _ in range(jump_length):
                time += 1
                times.append(time)
    return [time + 1 for time in [*times, -1]]


@pytest.mark.parametrize(("num_steps", "jump_length", "num_resamples"), [(25, 5, 3), (10, 1, 2), (7, 3, 4), (5, 9, 9)])
def test_the_path_is_the_papers_with_jumps_in_one_move(num_steps, jump_length, num_resamples):
    path = resampling_path(num_steps, jump_length, num_resamples)
    single = [path[0]]
    for left, right in pairwise(path):
        single += range(left + 1, right + 1) if right > left else [right]
    assert single == schedule_of_the_paper(num_steps, jump_length, num_resamples)


def test_repaint_keeps_known_pixels_exactly():
    pipe = tiny()
    measurement = torch.rand(2, 1, 8, 8, generator=generator(3))
    output = draw(pipe, Inpainting(MASK)(measurement), method="repaint", jump_length=2, num_resamples=2, num_samples=2)
    known = MASK.bool().expand(4, 1, 8, 8)
    expected = measurement.repeat_interleave(2, 0)
    torch.testing.assert_close(output.images[known], expected[known], rtol=0, atol=1e-6)
    assert output.consistency_error.max() < 1e-6
    assert (output.images[~known] - expected[~known]).abs().max() > 0.01


def test_a_jump_as_long_as_the_way_is_refused():
    with refused("jump_length 10 must be below the 3 steps"):
        draw(tiny(), Inpainting(MASK)(torch.rand(1, 1, 8, 8)), method="repaint", num_inference_steps=3)


def test_repaint_draws_unknown_pixels_from_a_gaussian_prior():
    """Its pixels are independent: what is known says nothing of the others, whose variance each move maps."""
    count, std, steps = 400, 0.2, 30
    pipe = gaussian_pipeline(std)
    truth = (prior_mean() + std * torch.randn(1, 1, 8, 8, generator=generator(3)) + 1) / 2
    options = {"method": "repaint", "num_samples": count, "num_inference_steps": steps}
    output = draw(pipe, truth, jump_length=5, num_resamples=2, **options)
    levels = Reference(pipe, Inpainting(MASK), Inpainting(MASK)(truth), steps)
    variance, path = 1.0, schedule_of_the_paper(steps, 5, 2)
    for left, right in pairwise(path):
        now, after = levels.alpha_bars[steps - left], levels.alpha_bars[steps - right]
        if right > left:
            variance = after / now * variance + 1 - after / now
            continue
        kept = now / after
        gain = pipe.unet.gain(levels.timesteps[steps - left])
        factor = (after**0.5 * (1 - kept) * gain + kept**0.5 * (1 - after)) / (1 - now)
        variance = factor**2 * variance + (1 - after) * (1 - kept) / (1 - now)
    expected = variance**0.5 / 2
    unknown = (output.images - (prior_mean() + 1) / 2)[:, 0, ~MASK[0].bool()]
    assert unknown.mean(0).abs().max() < 4 * expected / count**0.5
    assert unknown.std().item() == pytest.approx(expected, rel=4 / (2 * 6400) ** 0.5)


def test_repaint_repeats_alone():
    pipe = tiny()
    measurement = Inpainting(MASK)(torch.rand(2, 1, 8, 8, generator=generator(3)))
    options = {"method": "repaint", "jump_length": 2, "num_resamples": 2}
    together = draw(pipe, measurement, generator=[generator(5), generator(6)], **options).images
    alone = draw(pipe, measurement[1], seed=6, **options).images
    torch.testing.assert_close(alone[0], together[1], rtol=0, atol=1e-3)


def test_dps_of_a_latent_ddpm_goes_through_the_decoder():
    """One step by hand: the denoised latents, and the gradient with respect to x_T."""
    pipe, operator, step_size = inverse("LatentDDPMPipeline"), SuperResolution(2), 0.3
    measurement = operator(torch.rand(1, 1, 8, 8, generator=generator(3)))
    seen = {}

    def look(pipe, step, timestep, tensors):
        seen.update(tensors, timestep=timestep)
        return tensors

    options = {"step_size": step_size, "callback_on_step_end": look, "num_inference_steps": 1}
    inputs = {"callback_on_step_end_tensor_inputs": ["latents", "denoised"]}
    images = draw(pipe, measurement, operator, **options, **inputs).images
    noise = torch.randn(1, 2, generator=generator()).requires_grad_()
    alpha_bar = pipe.scheduler.alphas_cumprod[seen["timestep"]]
    velocity = pipe.unet(noise.view(1, 2, 1, 1), seen["timestep"]).sample.view(1, 2)
    denoised = alpha_bar.sqrt() * noise - (1 - alpha_bar).sqrt() * velocity  # v prediction, unclipped
    decoded = pipe.vae.decode(denoised / pipe.config.scaling_factor)
    misfit = torch.nn.functional.avg_pool2d(decoded, 2) - (2 * measurement - 1)
    (gradient,) = torch.autograd.grad(misfit.square().sum(), noise)
    length = min(step_size / misfit.norm().item(), 0.5 * 4)
    torch.testing.assert_close(seen["denoised"], denoised.detach(), rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(seen["latents"], (denoised - length * gradient).detach(), rtol=1e-4, atol=1e-5)
    with torch.no_grad():
        shown = pipe.vae.decode(seen["latents"] / pipe.config.scaling_factor)
    torch.testing.assert_close(images, ((shown + 1) / 2).clamp(0, 1), rtol=0, atol=1e-5)


def test_classes_guide_a_conditional_prior():
    pipe = inverse("ConditionalDDPMPipeline")
    measurement = torch.rand(2, 1, 8, 8, generator=generator(3))

    def images(**options) -> torch.Tensor:
        return draw(pipe, measurement, num_inference_steps=2, **options).images

    of_classes = images(class_labels=[0, 2])
    assert not torch.allclose(images(), of_classes)
    assert not torch.allclose(images(class_labels=[0, 2], guidance_scale=1.0), of_classes)
    assert torch.equal(images(class_labels=[0, 2], guidance_scale=2.0), of_classes)


@pytest.mark.parametrize("name", ["ConditionalDDPMPipeline", "LatentDDPMPipeline"])
def test_priors_are_saved_and_reload(name, tmp_path):
    pipe = inverse(name)
    pipe.save_pretrained(tmp_path / "ours")
    tiny_pipeline(name).save_pretrained(tmp_path / "theirs")
    for folder in ("ours", "theirs"):
        again = InverseProblemPipeline.from_pretrained(tmp_path / folder)
        again.set_progress_bar_config(disable=True)
        images = [draw(each, num_inference_steps=2).images for each in (again, pipe)]
        torch.testing.assert_close(*images, rtol=0, atol=1e-4)


@pytest.mark.parametrize(
    ("name", "options", "message"),
    [
        ("DDPMPipeline", {"class_labels": 1}, "the model was trained without classes"),
        ("DDPMPipeline", {"guidance_scale": 2.0}, "guidance_scale: the model was trained without classes"),
        ("ConditionalDDPMPipeline", {"guidance_scale": 2.0}, "guidance_scale leads towards a class"),
        ("ConditionalDDPMPipeline", {"class_labels": 7}, "class_labels must be 0 to 2"),
        ("LatentDDPMPipeline", {"method": "pigdm"}, "method 'pigdm' works on pixels"),
        ("DDPMPipeline", {"jump_length": 3}, "jump_length is for method 'repaint'; leave it out"),
        ("DDPMPipeline", {"method": "repaint", "num_resamples": 0}, "num_resamples must be at least 1, got 0"),
        ("DDPMPipeline", {"method": "repaint", "noise_std": 0.1}, "'repaint' keeps known pixels exactly"),
        ("DDPMPipeline", {"method": "repaint", "step_size": 2.0}, "step_size is for methods 'dps' and 'pigdm'"),
    ],
)
def test_impossible_calls_of_priors(name, options, message):
    with refused() as error:
        draw(inverse(name), **options)
    assert message in str(error.value)
