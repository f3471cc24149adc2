"""Pipeline of the unconditional DDPM: samplers, likelihood against slow formulas, and diffusers' own pipeline."""

from __future__ import annotations

import json
import math
from typing import Any

import diffusers
import numpy as np
import pytest
import torch
from diffusers import DDIMScheduler, DDPMScheduler, DPMSolverMultistepScheduler, EulerDiscreteScheduler
from PIL import Image
from scipy.stats import norm
from torch.distributions import Normal, kl_divergence

from hf_genmodels import DDPMPipeline, UserError
from hf_genmodels.losses.diffusion import log_variance_bounds
from tests.testing_utils.denoising import (
    SAMPLERS,
    ConstantDenoiser,
    DenoisingTesterMixin,
    GaussianDenoiser,
)
from tests.testing_utils.fresh import run_python
from tests.testing_utils.networks import tiny_denoiser
from tests.testing_utils.pipelines import random_images, tiny_pipeline
from tests.testing_utils.refusals import refused

TYPES = ["epsilon", "sample", "v_prediction"]


class TestDDPMPipeline(DenoisingTesterMixin):
    pipeline_class = DDPMPipeline


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def silent(pipeline: DDPMPipeline) -> DDPMPipeline:
    pipeline.set_progress_bar_config(disable=True)
    return pipeline


def schedule(steps: int, kind: str = "epsilon", **options) -> DDPMScheduler:
    options = {"num_train_timesteps": steps, "prediction_type": kind, **options}
    return DDPMScheduler(beta_schedule="squaredcos_cap_v2", **options)


# diffusers -----------------------------------------------------------------------------------------------------------

ELSEWHERE = """
import importlib.abc, json, sys

class Blocked(importlib.abc.MetaPathFinder):
    def find_spec(self, name, path=None, target=None):
        if name.split(".")[0] == "hf_genmodels":
            raise ModuleNotFoundError(name)

sys.meta_path.insert(0, Blocked())
import numpy, torch
from diffusers import DDPMPipeline

pipe = DDPMPipeline.from_pretrained(sys.argv[1])
pipe.set_progress_bar_config(disable=True)
images = pipe(2, torch.Generator().manual_seed(5), num_inference_steps=3, output_type="np").images
numpy.save(sys.argv[2], images)
picture = pipe(1, torch.Generator().manual_seed(5), num_inference_steps=2).images[0]
picture.save(sys.argv[3])
assert not [name for name in sys.modules if name.startswith("hf_genmodels")]
"""


def test_plain_diffusers_loads_it_where_this_library_is_not_installed(tmp_path):
    pipe = tiny_pipeline("DDPMPipeline", (3, 8, 8))
    pipe.save_pretrained(tmp_path / "model")
    index = json.loads((tmp_path / "model" / "model_index.json").read_text())
    assert index["_class_name"] == "DDPMPipeline"
    assert (index["unet"], index["scheduler"]) == (["diffusers", "UNet2DModel"], ["diffusers", "DDPMScheduler"])
    paths = [str(tmp_path / name) for name in ("model", "images.npy", "picture.png")]
    done = run_python("-c", ELSEWHERE, *paths)
    assert done.returncode == 0, done.stderr
    ours = pipe(2, generator(5), output_type="np").images
    # up to rounding, which depends on where in memory a reader of safetensors has put the weights
    np.testing.assert_allclose(np.load(paths[1]), ours, atol=1e-5, rtol=0)
    picture = pipe(1, generator(5), num_inference_steps=2).images[0]
    with Image.open(paths[2]) as theirs:
        assert theirs.mode == picture.mode
        assert np.abs(np.asarray(theirs).astype(int) - np.asarray(picture).astype(int)).max() <= 1


def test_what_diffusers_saved_loads_and_gives_the_same(tmp_path):
    theirs = diffusers.DDPMPipeline(*tiny_denoiser((1, 8, 8)))
    theirs.save_pretrained(tmp_path)
    ours = silent(DDPMPipeline.from_pretrained(tmp_path))
    theirs.set_progress_bar_config(disable=True)
    theirs.unet.eval()
    assert ours.config.value_scale == 255.0
    for seeds in (generator(1), [generator(1), generator(2)]):
        again = generator(1) if isinstance(seeds, torch.Generator) else [generator(1), generator(2)]
        expected = theirs(2, seeds, num_inference_steps=3, output_type="pt").images
        torch.testing.assert_close(ours(2, again, output_type="pt").images, expected, atol=1e-5, rtol=0)


def test_a_network_of_oblong_images():
    unet, scheduler = tiny_denoiser((1, 8, 8))
    unet.register_to_config(sample_size=[4, 6])
    pipe = silent(DDPMPipeline(unet, scheduler))
    assert pipe.sample_shape == (1, 4, 6)
    assert pipe(2, output_type="pt").images.shape == (2, 1, 4, 6)


# samplers ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", TYPES)
@pytest.mark.parametrize("sampler", SAMPLERS, ids=lambda sampler: sampler.__name__)
def test_a_network_that_knows_the_only_picture_makes_it(sampler, kind):
    picture = torch.linspace(-0.9, 0.9, 12).reshape(3, 2, 2)
    trained = schedule(20, kind)
    pipe = silent(DDPMPipeline(ConstantDenoiser(picture, trained), trained))
    pipe.scheduler = sampler.from_config(trained.config, **SAMPLERS[sampler])
    for steps in (15, 8):
        images = pipe(2, generator(), num_inference_steps=steps, output_type="pt").images
        torch.testing.assert_close(images, (picture + 1).expand_as(images) / 2, atol=1e-4, rtol=0)


def test_steps_that_a_sampler_cannot_do():
    """A DPM-Solver of as many steps as the training had takes one of them twice."""
    trained = schedule(20)
    pipe = silent(DDPMPipeline(ConstantDenoiser(torch.zeros(1, 2, 2), trained), trained))
    pipe.scheduler = DPMSolverMultistepScheduler.from_config(trained.config)
    with pytest.raises(UserError, match="20 steps of DPMSolverMultistepScheduler give numbers that are not finite"):
        pipe()


@pytest.mark.parametrize("sampler", SAMPLERS, ids=lambda sampler: sampler.__name__)
def test_samples_of_gaussian_data_have_its_mean_and_spread(sampler):
    trained = schedule(100, clip_sample=False)
    pipe = silent(DDPMPipeline(GaussianDenoiser((3,), trained, 0.5, 0.3), trained, value_scale=1.0))
    pipe.scheduler = sampler.from_config(trained.config, **SAMPLERS[sampler])
    points = pipe(4000, generator(), num_inference_steps=100 if sampler is DDPMScheduler else 50).images
    assert points.shape == (4000, 3)
    assert points.mean(0).tolist() == pytest.approx([0.5] * 3, abs=0.02)
    # a DDPM with the smaller of its variances, and Euler's method, spread too little in so few steps
    assert points.std(0).tolist() == pytest.approx([0.3] * 3, rel=0.13)


def test_eta_turns_ddim_into_a_random_sampler():
    pipe = tiny_pipeline("DDPMPipeline")
    pipe.scheduler = DDIMScheduler.from_config(pipe.scheduler.config)
    latents = torch.randn(2, 1, 8, 8, generator=generator())
    first, again = (pipe(generator=generator(s), latents=latents, output_type="pt").images for s in (1, 2))
    assert torch.equal(first, again)
    first, again, same = (
        pipe(generator=generator(s), latents=latents, eta=1.0, output_type="pt").images for s in (1, 2, 1)
    )
    assert torch.equal(first, same) and not torch.equal(first, again)


def test_latents_may_be_an_array():
    pipe = tiny_pipeline("DDPMPipeline")
    latents = torch.randn(2, 1, 8, 8, generator=generator())
    given = pipe(generator=generator(), latents=latents.numpy(), output_type="pt").images
    assert torch.equal(given, pipe(generator=generator(), latents=latents, output_type="pt").images)


@pytest.mark.parametrize("sampler", [DDIMScheduler, DDPMScheduler])
def test_steps_that_begin_after_the_training_ended(sampler):
    """With `steps_offset=1`, all steps of the training begin one after the last, an IndexError in diffusers."""
    trained = schedule(20)
    pipe = silent(DDPMPipeline(ConstantDenoiser(torch.zeros(1, 2, 2), trained), trained))
    pipe.scheduler = sampler.from_config(trained.config, steps_offset=1)
    with refused(f"20 steps of a {sampler.__name__} with steps_offset=1 begin after the last of the 20 time steps"):
        pipe(num_inference_steps=20)
    assert pipe(num_inference_steps=19, output_type="pt").images.isfinite().all()


def test_zero_signal_and_predicted_noise_do_not_go_together():
    trained = schedule(20, clip_sample=False)
    pipe = silent(DDPMPipeline(ConstantDenoiser(torch.zeros(1, 2, 2), trained), trained))
    pipe.scheduler = DDIMScheduler.from_config(
        trained.config, rescale_betas_zero_snr=True, timestep_spacing="trailing"
    )
    with refused("the first step sees noise alone, .* leave that out, or train with prediction_type 'v_prediction'"):
        pipe(num_inference_steps=5)


@pytest.mark.parametrize("sampler", SAMPLERS, ids=lambda sampler: sampler.__name__)
def test_networks_that_predict_variances(sampler):
    """Nichol & Dhariwal 2021: DDPM takes them, other samplers and codes leave them out."""
    torch.manual_seed(0)
    unet, _ = tiny_denoiser((1, 8, 8))
    both = diffusers.UNet2DModel.from_config(unet.config, out_channels=2).eval()
    for name, value in both.state_dict().items():  # the same noise, and variances beside it
        value[: len(dict(unet.state_dict())[name])] = unet.state_dict()[name]
    trained = schedule(10, variance_type="learned_range")
    pipe, plain = (
        silent(DDPMPipeline(network, schedule(10, variance_type=kind)))
        for network, kind in ((both, "learned_range"), (unet.eval(), "fixed_small"))
    )
    theirs = diffusers.DDPMPipeline(both, trained)
    theirs.set_progress_bar_config(disable=True)
    expected = theirs(2, generator(1), num_inference_steps=5, output_type="pt").images
    found = pipe(2, generator(1), num_inference_steps=5, output_type="pt").images
    torch.testing.assert_close(found, expected, atol=1e-5, rtol=0)
    images = random_images((1, 8, 8))
    torch.testing.assert_close(pipe.encode(images), plain.encode(images))
    if sampler is DDPMScheduler:
        return
    for each in (pipe, plain):
        each.scheduler = sampler.from_config(each.scheduler.config, **SAMPLERS[sampler])
    samples = [each(2, generator(1), num_inference_steps=5, output_type="pt").images for each in (pipe, plain)]
    torch.testing.assert_close(*samples)


def test_dpm_solvers_of_many_channels_are_made_without_variances():
    torch.manual_seed(0)
    unet, scheduler = tiny_denoiser((4, 4, 4), steps=9, ddpm_variance_type="learned_range")
    pipe = silent(DDPMPipeline(unet.eval(), scheduler))
    pipe.scheduler = DPMSolverMultistepScheduler.from_config(scheduler.config)
    with refused("takes 3 channels of 4: make it with from_config"):
        pipe(num_inference_steps=3)
    pipe.scheduler = DPMSolverMultistepScheduler.from_config(scheduler.config, variance_type=None)
    assert pipe(num_inference_steps=3, output_type="pt").images.shape == (1, 4, 4, 4)


# inversion -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", TYPES)
def test_ddim_comes_back_the_nearer_the_more_steps_it_takes(kind):
    torch.manual_seed(0)
    # a schedule that leaves some of the signal: an untrained network does not know that x_T is all noise
    scheduler = DDPMScheduler(num_train_timesteps=100, prediction_type=kind)
    unet, _ = tiny_denoiser((1, 4, 4))
    if kind == "sample":  # nor that x_t is free of noise at the other end
        unet = GaussianDenoiser((1, 4, 4), scheduler, 0.0, 0.5)
    pipe = silent(DDPMPipeline(unet.eval(), scheduler))
    images = random_images((1, 4, 4)) * 0.6 + 0.2
    errors = [
        (pipe.reconstruct(images, num_inference_steps=steps, output_type="pt").images - images).square().mean().item()
        for steps in (2, 6, 25)
    ]
    assert errors[1] < errors[0] and errors[2] < errors[1] / 4 and errors[2] < 1e-4


def test_codes_of_gaussian_data_are_standard_normal():
    trained = schedule(100, clip_sample=False)
    pipe = silent(DDPMPipeline(GaussianDenoiser((2,), trained, -0.4, 0.2), trained, value_scale=1.0))
    points = torch.randn(3, 2, generator=generator())
    codes = pipe.encode(-0.4 + 0.2 * points, num_inference_steps=100)
    torch.testing.assert_close(codes, points, atol=0.1, rtol=0)
    assert torch.equal(pipe.encode(points), pipe.encode(points, num_inference_steps=50))


def test_predicted_samples_are_not_clipped_on_the_way_from_a_code():
    trained = schedule(50)
    picture = torch.tensor([1.5, -2.0])
    pipe = silent(DDPMPipeline(ConstantDenoiser(picture[:, None, None], trained), trained, value_scale=1.0))
    assert trained.config.clip_sample
    assert pipe.decode(torch.zeros(1, 2), 10).images[0].tolist() == pytest.approx(picture.tolist(), abs=1e-3)


# likelihood ----------------------------------------------------------------------------------------------------------


def slow_bound(
    pipe: DDPMPipeline, sample: torch.Tensor, seed: int, steps: tuple[int, ...] = (0, 1, 2, 3, 4)
) -> list[float]:
    """The bound of each sample in nats, from whole Gaussians in float64, for the same draws."""
    config, channels = pipe.scheduler.config, sample.shape[1]
    bars = pipe.scheduler.alphas_cumprod.double()[list(steps)]
    draws = generator(seed)
    x0 = sample.double()
    bound = kl_divergence(Normal(bars[-1].sqrt() * x0, (1 - bars[-1]).sqrt()), Normal(0.0, 1.0)).flatten(1).sum(1)
    for t in range(len(bars)):
        noise = torch.randn(sample.shape, generator=draws)
        noisy = (bars[t].sqrt() * x0 + (1 - bars[t]).sqrt() * noise.double()).float()
        with torch.no_grad():
            output, values = (
                pipe.unet(noisy, steps[t])
                .sample.double()
                .split([channels, pipe.unet.config.out_channels - channels], 1)
            )
        if config.prediction_type == "epsilon":
            found = (noisy.double() - (1 - bars[t]).sqrt() * output) / bars[t].sqrt()
        elif config.prediction_type == "sample":
            found = output
        else:
            found = bars[t].sqrt() * noisy.double() - (1 - bars[t]).sqrt() * output
        if config.clip_sample:
            found = found.clamp(-1, 1)
        later = max(t, 1)  # the first step's least variance is the second's
        alpha = bars[later] / bars[later - 1]
        small = (1 - bars[later - 1]) / (1 - bars[later]) * (1 - alpha)
        large = 1 - alpha if t else 1 - bars[0]
        share = (values + 1) / 2
        variance = torch.exp(share * large.log() + (1 - share) * small.log()) if values.numel() else small
        if t == 0:
            std = (variance if values.numel() else large).sqrt().numpy()
            bound -= slow_decoder(x0, found, std, pipe.config.value_scale)
            continue

        def step(x, variance, t=t, alpha=alpha, noisy=noisy):
            mean = bars[t - 1].sqrt() * (1 - alpha) * x + alpha.sqrt() * (1 - bars[t - 1]) * noisy.double()
            return Normal(mean / (1 - bars[t]), variance.sqrt())

        bound += kl_divergence(step(x0, small), step(found, variance)).flatten(1).sum(1)
    return (-bound).tolist()


def slow_decoder(x0: torch.Tensor, mean: torch.Tensor, std: Any, value_scale: float) -> torch.Tensor:
    """Log-probability of each sample's grey levels, or its log-density."""
    if value_scale == 1:
        return Normal(mean, torch.tensor(std)).log_prob(x0).flatten(1).sum(1)
    half = 1 / value_scale
    upper = np.where(x0 > 1 - half, 1.0, norm.cdf(x0 + half, mean, std))
    lower = np.where(x0 < -1 + half, 0.0, norm.cdf(x0 - half, mean, std))
    return torch.tensor(np.log(upper - lower)).flatten(1).sum(1)


@pytest.mark.parametrize("kind", TYPES)
@pytest.mark.parametrize(("shape", "scale"), [((1, 4, 4), 4.0), ((2, 4, 4), 1.0), ((2,), 1.0)])
def test_bound_is_that_of_whole_gaussians(kind, shape, scale):
    torch.manual_seed(0)
    unet, scheduler = tiny_denoiser(shape, steps=5, prediction_type=kind)
    pipe = silent(DDPMPipeline(unet.eval(), scheduler, value_scale=scale))
    shown = torch.randint(int(scale) + 1, (3, *shape), generator=generator()) / scale
    sample = shown * 2 - 1 if len(shape) == 3 else shown
    expected = slow_bound(pipe, sample.reshape(3, *pipe.network_shape), seed=4)
    assert pipe.log_likelihood(shown, generator=generator(4)).tolist() == pytest.approx(expected, rel=1e-4)
    bits = pipe.bits_per_dim(shown, generator=generator(4))
    dims = float(np.prod(shape))
    assert bits.tolist() == pytest.approx([-value / dims / np.log(2) for value in expected], rel=1e-4)
    if scale > 1:  # values between levels are rounded
        nearby = (shown + 0.1 / scale).clamp(max=1)
        torch.testing.assert_close(pipe.bits_per_dim(nearby, generator=generator(4)), bits)
    # it is the trained model's, whatever sampler is in use
    pipe.scheduler = EulerDiscreteScheduler.from_config(pipe.scheduler.config, use_karras_sigmas=True)
    assert torch.equal(pipe.bits_per_dim(shown, generator=generator(4)), bits)


@pytest.mark.parametrize("variances", ["fixed_small", "learned_range"])
@pytest.mark.parametrize(("shape", "scale"), [((1, 4, 4), 255.0), ((2, 4, 4), 1.0), ((2,), 1.0)])
def test_bound_of_learned_variances_and_of_fewer_steps(variances, shape, scale):
    torch.manual_seed(0)
    unet, scheduler = tiny_denoiser(shape, steps=9, prediction_type="epsilon", ddpm_variance_type=variances)
    pipe = silent(DDPMPipeline(unet.eval(), scheduler, value_scale=scale))
    shown = torch.randint(int(scale) + 1, (3, *shape), generator=generator()) / scale
    sample = (shown * 2 - 1 if len(shape) == 3 else shown).reshape(3, *pipe.network_shape)
    for number, steps in ((None, tuple(range(9))), (5, (0, 2, 4, 6, 8)), (2, (0, 8))):
        found = pipe.log_likelihood(shown, generator=generator(4), num_inference_steps=number)
        assert found.tolist() == pytest.approx(slow_bound(pipe, sample, 4, steps), rel=1e-4)
    for number in (1, 10):
        with refused("num_inference_steps of a likelihood must be 2 to 9, the steps that the model was trained with"):
            pipe.bits_per_dim(shown, num_inference_steps=number)


def test_the_noise_is_that_of_the_training_whatever_sampler_is_in_use_or_saved(tmp_path):
    torch.manual_seed(0)
    unet, scheduler = tiny_denoiser((1, 4, 4), steps=30)
    pipe = silent(DDPMPipeline(unet.eval(), scheduler))
    images = random_images((1, 4, 4))

    def figures(pipe):
        return torch.cat([pipe.bits_per_dim(images, generator=generator()), pipe.encode(images).flatten()])

    before = figures(pipe)
    pipe.scheduler = DDIMScheduler.from_config(scheduler.config, rescale_betas_zero_snr=True, beta_schedule="linear")
    assert torch.equal(figures(pipe), before)
    pipe.save_pretrained(tmp_path)
    loaded = silent(DDPMPipeline.from_pretrained(tmp_path))
    assert type(loaded.scheduler) is DDIMScheduler and torch.equal(figures(loaded), before)
    again = silent(DDPMPipeline.from_pretrained(tmp_path, scheduler=pipe.scheduler))
    assert torch.equal(figures(again), before)


@pytest.mark.parametrize(("name", "value"), [("beta_schedule", "no such"), ("num_train_timesteps", 0), ("eta", 1)])
def test_an_impossible_schedule_of_the_training(name, value, tmp_path):
    tiny_pipeline("DDPMPipeline").save_pretrained(tmp_path)
    index = json.loads((tmp_path / "model_index.json").read_text())
    index["trained_schedule"][name] = value
    (tmp_path / "model_index.json").write_text(json.dumps(index))
    with refused("trained_schedule: num_train_timesteps must" if value == 0 else "trained_schedule has an impossible"):
        DDPMPipeline.from_pretrained(tmp_path)


def test_bound_of_a_network_that_knows_gaussian_data():
    """Against its expectation, which has a closed form, and below the density."""
    mean, std = 0.3, 0.4
    trained = schedule(50, clip_sample=False)
    pipe = silent(DDPMPipeline(GaussianDenoiser((2,), trained, mean, std), trained, value_scale=1.0))
    points = mean + std * torch.randn(20_000, 2, generator=generator())
    found = pipe.log_likelihood(points, generator=generator(1))
    bars = trained.alphas_cumprod.double()
    snr = bars / (1 - bars)
    remaining = std**2 / (std**2 * snr + 1)  # variance of x_0 given x_t
    last = 0.5 * (bars[-1] * (mean**2 + std**2) - bars[-1] - (1 - bars[-1]).log())
    first = 0.5 * (2 * torch.pi * (1 - bars[0])).log() + 0.5 * remaining[0] / (1 - bars[0])
    expected = -2 * (last + first + 0.5 * ((snr[:-1] - snr[1:]) * remaining[1:]).sum()).item()
    assert found.mean().item() == pytest.approx(expected, abs=4 * found.std().item() / len(points) ** 0.5)
    assert found.std().item() / len(points) ** 0.5 < 0.03
    density = Normal(mean, std).log_prob(points).sum(1).mean().item()
    entropy = 2 * (0.5 * math.log(2 * math.pi * math.e) + math.log(std))
    assert expected < density == pytest.approx(-entropy, abs=0.03)
    few = pipe.log_likelihood(points[:2000], generator=generator(1), num_inference_steps=10).mean().item()
    assert few < found.mean().item() - 0.1


class WholeGaussianDenoiser(GaussianDenoiser):
    """Knows the variance of x_{t-1} given x_t, too, and says where it lies between the bounds."""

    def prepare(self, trained: DDPMScheduler) -> WholeGaussianDenoiser:
        self.register_to_config(out_channels=2 * self.config.in_channels)
        bars = trained.alphas_cumprod.double()
        before = torch.cat([torch.ones(1).double(), bars[:-1]])
        alpha, marginal = bars / before, before * self.std**2 + 1 - before
        log_variance = -(1 / marginal + alpha / (1 - alpha)).log()
        least, greatest = log_variance_bounds(bars)
        self.values = (2 * (log_variance - least) / (greatest - least) - 1).float()
        return self

    def forward(self, sample, timestep, class_labels=None, return_dict=True):
        (prediction,) = super().forward(sample, timestep)
        values = self.values[torch.as_tensor(timestep)].reshape(-1, 1, 1, 1).expand_as(sample)
        return (torch.cat([prediction, values], 1),)


def test_with_learned_variances_the_bound_of_gaussian_data_is_their_entropy():
    """Nothing is lost where each step back is Gaussian and known; with the posterior variance much is."""
    trained = schedule(50, clip_sample=False, variance_type="learned_range")
    unet = WholeGaussianDenoiser((2,), trained, 0.3, 0.4).prepare(trained)
    pipe = silent(DDPMPipeline(unet, trained, value_scale=1.0))
    points = 0.3 + 0.4 * torch.randn(5000, 2, generator=generator())
    found = pipe.bits_per_dim(points, generator=generator(1))
    entropy = 0.5 * math.log2(2 * math.pi * math.e * 0.4**2)
    assert found.mean().item() == pytest.approx(entropy, abs=4 * found.std().item() / len(points) ** 0.5)
    fixed = silent(DDPMPipeline(GaussianDenoiser((2,), trained, 0.3, 0.4), trained, value_scale=1.0))
    assert fixed.bits_per_dim(points, generator=generator(1)).mean() > entropy + 0.1


def test_few_draws_of_time_steps_are_right_on_average():
    trained = schedule(6, clip_sample=False)
    pipe = silent(DDPMPipeline(GaussianDenoiser((2,), trained, 0.3, 0.8), trained, value_scale=1.0))
    points = torch.tensor([[0.5, -1.0]]).expand(20_000, 2)
    every = pipe.log_likelihood(points, generator=generator(1)).mean().item()
    for number in (1, 3):
        some = pipe.log_likelihood(points, num_timesteps=number, generator=generator(2))
        error = some.std().item() / len(points) ** 0.5
        assert abs(some.mean().item() - every) < 4 * error and error < 0.02 * abs(every)
        steps = pipe.log_likelihood(points[:500], num_timesteps=number, generator=generator(2))
        assert len(steps.unique()) == 500  # each image has time steps and noise of its own


def test_impossible_numbers_of_time_steps():
    pipe = tiny_pipeline("DDPMPipeline")
    for number in (0, 3):
        with pytest.raises(UserError, match="num_timesteps must be 1 to 2, the time steps after the first, got"):
            pipe.bits_per_dim(torch.zeros(1, 8, 8), num_timesteps=number)


# classes -------------------------------------------------------------------------------------------------------------


def test_classes_and_guidance_are_for_networks_that_know_them():
    pipe = tiny_pipeline("DDPMPipeline")
    with pytest.raises(UserError, match="guidance_scale: the model was trained without classes"):
        pipe(guidance_scale=2.0)
    for call in (pipe, lambda **labels: pipe.encode(torch.zeros(1, 8, 8), **labels)):
        with pytest.raises(UserError, match="class_labels: the model was trained without classes"):
            call(class_labels=1)
    with pytest.raises(UserError, match="DDPMPipeline: this network knows classes; use ConditionalDDPMPipeline"):
        DDPMPipeline(*tiny_denoiser((1, 8, 8), num_classes=3))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"eta": -1.0}, r"eta must lie in \[0, 1\], got -1.0"),
        ({"eta": float("nan")}, r"eta must lie in \[0, 1\], got nan"),
    ],
)
def test_impossible_numbers(options, message):
    with pytest.raises(UserError, match=message):
        tiny_pipeline("DDPMPipeline")(**options)


def test_a_scheduler_of_another_training_is_refused():
    pipeline = tiny_pipeline("DDPMPipeline")
    pipeline.scheduler = diffusers.FlowMatchEulerDiscreteScheduler()
    with pytest.raises(UserError, match="a FlowMatchEulerDiscreteScheduler is for models of another training"):
        pipeline()


@pytest.mark.parametrize("prediction_type", ["sample", "v_prediction"])
def test_codes_of_a_model_trained_to_see_noise_alone(prediction_type):
    unet, _ = tiny_denoiser((1, 8, 8))
    scheduler = DDPMScheduler(25, rescale_betas_zero_snr=True, prediction_type=prediction_type)
    pipe = silent(DDPMPipeline(unet.eval(), scheduler))
    assert torch.isfinite(pipe.reconstruct(random_images((1, 8, 8)), 5, output_type="pt").images).all()


def test_codes_have_the_steps_of_the_training():
    """`from_config` forgets how many steps a scheduler was given by position."""
    unet, _ = tiny_denoiser((1, 8, 8))
    pipe = silent(DDPMPipeline(unet.eval(), DDPMScheduler(25)))
    images = random_images((1, 8, 8))
    before = pipe.encode(images)
    pipe.scheduler = DPMSolverMultistepScheduler.from_config(pipe.scheduler.config)
    assert torch.equal(pipe.encode(images), before)
    with refused("of 1000 time steps, and the training had 25.*num_train_timesteps=25"):
        pipe()
