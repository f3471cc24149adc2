"""Inverse problems: with the optimal denoiser of a Gaussian the posterior is known, and so is every step."""

from __future__ import annotations

import json

import diffusers
import numpy as np
import pytest
import torch
from diffusers import (
    DDIMScheduler,
    DDPMScheduler,
    DPMSolverMultistepScheduler,
    EDMEulerScheduler,
    UNet2DModel,
)
from PIL import Image

from hf_genmodels import AutoPipeline, GANPipeline, UserError
from hf_genmodels.operators import Blur, Inpainting, Saturation, SuperResolution
from hf_genmodels.pipelines.inverse_problem import InverseProblemPipeline
from tests.testing_utils.gaussian_diffusion import GaussianUNet, Reference
from tests.testing_utils.pipelines import PipelineTesterMixin, tiny_pipeline
from tests.testing_utils.refusals import refused

MASK = torch.ones(1, 8, 8)
MASK[:, 2:6, 2:6] = 0


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def tiny_unet(channels: int = 1, **options) -> UNet2DModel:
    settings = {
        "sample_size": 8,
        "in_channels": channels,
        "out_channels": channels,
        "block_out_channels": (4, 8),
        "down_block_types": ("DownBlock2D", "DownBlock2D"),
        "up_block_types": ("UpBlock2D", "UpBlock2D"),
        "layers_per_block": 1,
        "norm_num_groups": 4,
        "add_attention": False,
    }
    torch.manual_seed(0)
    return UNet2DModel(**(settings | options)).eval()


def prior_mean() -> torch.Tensor:
    return torch.rand(1, 1, 8, 8, generator=generator(7)) * 0.8 - 0.4


def gaussian_pipeline(std: float, prediction_type: str = "epsilon", mean=None) -> InverseProblemPipeline:
    scheduler = DDPMScheduler(clip_sample=False, prediction_type=prediction_type)
    unet = GaussianUNet(**{key: value for key, value in tiny_unet().config.items() if not key.startswith("_")})
    pipe = InverseProblemPipeline(unet.prepare(prior_mean() if mean is None else mean, std, scheduler), scheduler)
    pipe.set_progress_bar_config(disable=True)
    return pipe


def tiny(**options) -> InverseProblemPipeline:
    pipe = InverseProblemPipeline(tiny_unet(**options), DDPMScheduler())
    pipe.set_progress_bar_config(disable=True)
    return pipe


def draw(pipe: InverseProblemPipeline, measurement=None, operator=None, seed: int = 0, **options):
    """Five steps towards a grey image of which the border is known."""
    operator = operator or Inpainting(MASK)
    measurement = operator(torch.full((1, *pipe.sample_shape), 0.6)) if measurement is None else measurement
    settings = {"num_inference_steps": 5, "generator": generator(seed), "output_type": "pt"}
    return pipe(measurement, operator, **(settings | options))


# the algorithms ------------------------------------------------------------------------------------------------------


def same_noises(count: int, num_inference_steps: int) -> list[torch.Tensor]:
    source = generator()
    return [torch.randn(count, 1, 8, 8, generator=source).flatten(1).double() for _ in range(num_inference_steps + 1)]


@pytest.mark.parametrize("prediction_type", ["epsilon", "sample", "v_prediction"])
@pytest.mark.parametrize(
    ("method", "operator", "options"),
    [
        ("dps", Inpainting(MASK), {"step_size": 3.0}),
        ("dps", SuperResolution(2), {"step_size": 4.0}),
        ("dps", Saturation(1.5), {"step_size": 0.2}),
        ("pigdm", Inpainting(MASK), {}),
        ("pigdm", SuperResolution(2), {"noise_std": 0.1}),
        ("pigdm", Blur.gaussian(0.6), {"noise_std": 0.05, "step_size": 0.7, "prior_std": 0.4}),
    ],
    ids=lambda value: type(value).__name__ if hasattr(value, "forward") else None,
)
def test_every_step_is_that_of_the_paper(method, operator, options, prediction_type):
    pipe, steps = gaussian_pipeline(0.3, prediction_type), 8
    measurement = operator(torch.rand(1, 1, 8, 8, generator=generator(3)))
    output = draw(
        pipe, measurement, operator, method=method, num_samples=2, num_inference_steps=steps, **options
    ).images
    reference = Reference(pipe, operator, measurement, steps, **options)
    expected = getattr(reference, method)(same_noises(2, steps)).view(2, 1, 8, 8)
    torch.testing.assert_close(output.double(), ((expected + 1) / 2).clamp(0, 1), rtol=0, atol=2e-5)


@pytest.mark.parametrize("operator", [Inpainting(MASK), SuperResolution(2), Blur.gaussian(0.6)])
def test_pigdm_is_exact_for_a_gaussian(operator):
    """With all steps, up to the variance that a step loses by putting x0_hat for x0; samples have these moments."""
    std = 0.5
    pipe = gaussian_pipeline(std)
    measurement = operator(torch.rand(1, 1, 8, 8, generator=generator(3)))
    reference = Reference(pipe, operator, measurement, 1000, noise_std=0.1, prior_std=std)
    mean, covariance = reference.pigdm_moments()
    exact_mean, exact_covariance = reference.posterior()
    torch.testing.assert_close(mean, exact_mean, rtol=0, atol=0.01 * std)
    torch.testing.assert_close(covariance, exact_covariance, rtol=0, atol=0.02 * std**2)
    assert (exact_covariance - std**2 * torch.eye(64)).abs().max() > 0.15 * std**2


@pytest.mark.parametrize(("method", "options"), [("dps", {"step_size": 0.5}), ("pigdm", {})])
def test_inpainting_keeps_known_pixels_and_draws_unknown_ones_from_the_prior(method, options):
    """The pixels of the prior are independent, so that what is known says nothing of the others."""
    count, std, steps = 400, 0.2, 50
    pipe = gaussian_pipeline(std)
    truth = (prior_mean() + std * torch.randn(1, 1, 8, 8, generator=generator(3)) + 1) / 2
    measurement = Inpainting(MASK)(truth)
    output = draw(pipe, measurement, method=method, num_samples=count, num_inference_steps=steps, **options)
    known, prior = MASK[0].bool(), (prior_mean() + 1) / 2
    assert (output.images - truth)[:, 0, known].abs().max() < 0.1 * std
    unknown = (output.images - prior)[:, 0, ~known]
    # what steps of this number leave of the variance; 16 means of 400 numbers, and a deviation of 6,400
    _, covariance = Reference(pipe, Inpainting(MASK), measurement, steps).pigdm_moments()
    expected = covariance.diagonal().view(8, 8)[~known].mean().sqrt().item() / 2
    assert expected > 0.75 * std / 2
    assert unknown.mean(0).abs().max() < 4 * expected / count**0.5
    assert unknown.std().item() == pytest.approx(expected, rel=4 / (2 * 6400) ** 0.5)


def test_the_consistency_error_is_of_the_images_that_are_returned():
    pipe, operator = tiny(), SuperResolution(2)
    measurement = torch.rand(2, 1, 4, 4, generator=generator(3))
    output = draw(pipe, measurement, operator, num_samples=2)
    difference = torch.nn.functional.avg_pool2d(output.images, 2) - measurement.repeat_interleave(2, 0)
    torch.testing.assert_close(output.consistency_error, difference.square().mean((1, 2, 3)).sqrt())
    images, errors = draw(pipe, measurement, operator, num_samples=2, return_dict=False)
    assert torch.equal(images, output.images) and torch.equal(errors, output.consistency_error)


# what is put in, what comes out --------------------------------------------------------------------------------------


@pytest.mark.parametrize("method", ["dps", "pigdm"])
def test_samples_of_a_measurement_stand_together_and_repeat_alone(method):
    pipe, operator = tiny(channels=3), SuperResolution(4)
    pipe.unet.double()  # one image and several are rounded in other ways, and the method makes much of it
    measurements = torch.rand(2, 3, 2, 2, generator=generator(3))
    seeds = [5, 6, 7, 8]
    together = draw(
        pipe, measurements, operator, method=method, num_samples=2, generator=[generator(seed) for seed in seeds]
    ).images
    assert together.shape == (4, 3, 8, 8)
    for index, (seed, image) in enumerate(zip(seeds, together, strict=True)):
        alone = draw(pipe, measurements[index // 2], operator, method=method, seed=seed).images
        torch.testing.assert_close(alone[0], image, rtol=0, atol=1e-4)
    assert torch.equal(draw(pipe, method=method).images, draw(pipe, method=method).images)
    assert not torch.equal(draw(pipe, method=method).images, draw(pipe, method=method, seed=1).images)


def test_all_forms_of_measurements_are_equal():
    pipe, operator = tiny(channels=3), SuperResolution(2)
    bytes_ = np.random.default_rng(0).integers(256, size=(2, 4, 4, 3), dtype=np.uint8)
    tensor = torch.from_numpy(bytes_).permute(0, 3, 1, 2) / 255
    expected = draw(pipe, tensor, operator).images
    for form in (bytes_, bytes_ / 255, [Image.fromarray(image) for image in bytes_]):
        torch.testing.assert_close(draw(pipe, form, operator).images, expected)
    assert draw(pipe, tensor + 3, operator).images.shape == (2, 3, 8, 8), "noise may lead out of [0, 1]"
    assert all(isinstance(image, Image.Image) for image in draw(pipe, tensor, operator, output_type=None).images)


def test_weights_gather_no_gradients_and_stay_trainable():
    pipe = tiny()
    pipe.unet.conv_in.requires_grad_(False)
    before = {name: parameter.requires_grad for name, parameter in pipe.unet.named_parameters()}
    output = draw(pipe)
    assert not output.images.requires_grad and not output.consistency_error.requires_grad
    assert {name: parameter.requires_grad for name, parameter in pipe.unet.named_parameters()} == before
    assert all(parameter.grad is None for parameter in pipe.unet.parameters())
    with pytest.raises(RuntimeError):
        draw(pipe, operator=BrokenOperator())
    assert {name: parameter.requires_grad for name, parameter in pipe.unet.named_parameters()} == before


class BrokenOperator(Saturation):
    def __init__(self):
        super().__init__(2.0)
        self.calls = 0

    def forward(self, image):
        self.calls += 1
        if self.calls > 3:
            raise RuntimeError("after a step")
        return super().forward(image)


def test_half_precision():
    pipe = tiny().to(torch.bfloat16)
    images = draw(pipe).images
    assert images.dtype == torch.float32 and images.isfinite().all()


def test_clipping_is_the_schedulers():
    """An untrained network's x0_hat is far outside; what is known shows only where it is clipped."""
    for method in ("dps", "pigdm"):
        pipe = tiny()
        clipped = draw(pipe, method=method).images
        pipe.scheduler = DDPMScheduler(clip_sample=False)
        assert not torch.allclose(draw(pipe, method=method).images, clipped)


class TestInverseProblemPipeline(PipelineTesterMixin):
    pipeline_class = InverseProblemPipeline


# loading -------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["DDPMPipeline", "DDIMPipeline"])
def test_a_folder_of_diffusers_loads_and_reloads_as_ours(kind, tmp_path):
    theirs = getattr(diffusers, kind)(tiny_unet(), DDPMScheduler(beta_schedule="squaredcos_cap_v2"))
    theirs.save_pretrained(tmp_path / "theirs")
    loaded = InverseProblemPipeline.from_pretrained(tmp_path / "theirs")
    loaded.set_progress_bar_config(disable=True)
    assert loaded.config.value_scale == 255.0
    assert loaded.scheduler.config.beta_schedule == "squaredcos_cap_v2"
    images = draw(loaded).images
    made = InverseProblemPipeline.from_pipe(theirs)
    made.set_progress_bar_config(disable=True)
    # not bit for bit: weights lie elsewhere in a mapped file, and so do vector instructions' borders
    torch.testing.assert_close(draw(made).images, images, rtol=0, atol=1e-4)
    loaded.save_pretrained(tmp_path / "ours")
    assert json.loads((tmp_path / "ours" / "model_index.json").read_text())["_class_name"] == "InverseProblemPipeline"
    for again in (
        InverseProblemPipeline.from_pretrained(tmp_path / "ours"),
        AutoPipeline.from_pretrained(tmp_path / "ours"),
    ):
        assert type(again) is InverseProblemPipeline
        again.set_progress_bar_config(disable=True)
        torch.testing.assert_close(draw(again).images, images, rtol=0, atol=1e-4)


def test_a_folder_with_everything_at_its_root_loads(tmp_path):
    """Diffusers' first models on the Hub are laid out like that."""
    theirs = diffusers.DDPMPipeline(tiny_unet(), DDPMScheduler(beta_schedule="squaredcos_cap_v2"))
    theirs.save_pretrained(tmp_path)
    for name in ("unet", "scheduler"):
        for path in (tmp_path / name).iterdir():
            path.rename(tmp_path / path.name)
        (tmp_path / name).rmdir()
    loaded = InverseProblemPipeline.from_pretrained(tmp_path)
    assert loaded.scheduler.config.beta_schedule == "squaredcos_cap_v2"
    for name, value in theirs.unet.state_dict().items():
        assert torch.equal(loaded.unet.state_dict()[name], value)


def test_from_pipe_shares_components_and_keeps_the_scale():
    first = InverseProblemPipeline(tiny_unet(), DDPMScheduler(), value_scale=16.0)
    second = InverseProblemPipeline.from_pipe(first)
    assert second.unet is first.unet and second.scheduler is first.scheduler and second.config.value_scale == 16.0
    assert InverseProblemPipeline.from_pipe(first, value_scale=1.0).config.value_scale == 1.0
    with pytest.raises(UserError, match="ConditionalDDPMPipeline or LatentDDPMPipeline, not a GANPipeline"):
        InverseProblemPipeline.from_pipe(tiny_pipeline("GANPipeline"))


def test_other_folders_are_refused(tmp_path):
    tiny_pipeline("GANPipeline").save_pretrained(tmp_path / "gan")
    with pytest.raises(UserError, match="holds a GANPipeline, not a InverseProblemPipeline"):
        InverseProblemPipeline.from_pretrained(tmp_path / "gan")
    tiny().save_pretrained(tmp_path / "inverse")
    with pytest.raises(UserError, match="holds a InverseProblemPipeline, not a GANPipeline"):
        GANPipeline.from_pretrained(tmp_path / "inverse")


def test_the_solver_makes_no_difference_and_the_scheduler_is_left_alone():
    pipe = tiny()
    images = draw(pipe).images
    pipe.scheduler.set_timesteps(7)
    for scheduler in (
        pipe.scheduler,
        DDIMScheduler.from_config(pipe.scheduler.config),
        DPMSolverMultistepScheduler.from_config(pipe.scheduler.config),
    ):
        other = InverseProblemPipeline(pipe.unet, scheduler)
        other.set_progress_bar_config(disable=True)
        assert torch.equal(draw(other).images, images)
    assert len(pipe.scheduler.timesteps) == 7


# errors --------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("unet", "scheduler", "message"),
    [
        ({"class_embed_type": "timestep"}, DDPMScheduler(), "this one has class_embed_type 'timestep'"),
        ({"sample_size": 1}, DDPMScheduler(), "needs a UNet of images, this one has sample_size 1"),
        ({"sample_size": None}, DDPMScheduler(), "needs a UNet of images, this one has sample_size None"),
        (
            {"out_channels": 3},
            DDPMScheduler(),
            "as many output as input channels, or twice as many, this one has 3 and 1",
        ),
        ({}, EDMEulerScheduler(), "a EDMEulerScheduler has other noise levels than a DDPM; give a DDPMScheduler"),
    ],
)
def test_impossible_components(unet, scheduler, message):
    with pytest.raises(UserError, match=message):
        InverseProblemPipeline(tiny_unet(**unet), scheduler)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (
            {"measurement": torch.zeros(1, 8, 8), "operator": SuperResolution(2)},
            "measurement must be ([n,] 1, 4, 4), which the operator makes of the model's images, got (1, 8, 8)",
        ),
        ({"measurement": torch.zeros(8, 8)}, "measurement must be ([n,] 1, 8, 8)"),
        ({"measurement": torch.zeros(0, 1, 8, 8)}, "got (0, 1, 8, 8)"),
        ({"measurement": np.zeros((4, 4))}, "measurement: the network takes images of shape (1, 8, 8), got (1, 4, 4)"),
        (
            {"measurement": torch.zeros(1, 8, 9), "operator": Inpainting(torch.ones(1, 8, 9))},
            "the operator takes images of shape (1, 8, 9) or with more channels, the model makes (1, 8, 8)",
        ),
        (
            {"operator": SuperResolution(3), "measurement": torch.zeros(1, 2, 2)},
            "the operator takes images whose height and width are multiples of 3, the model makes (1, 8, 8)",
        ),
        (
            {"method": "pigdm", "operator": Saturation(2.0)},
            "method 'pigdm' needs a linear operator, Saturation is none; use 'dps'",
        ),
        ({"method": "ddrm"}, "method must be 'dps', 'pigdm' or 'repaint', got 'ddrm'"),
        ({"num_samples": 0}, "num_samples must be at least 1, got 0"),
        ({"num_inference_steps": 0}, "num_inference_steps must be 1 to 1000 (num_train_timesteps), got 0"),
        ({"num_inference_steps": 1001}, "num_inference_steps must be 1 to 1000 (num_train_timesteps), got 1001"),
        ({"step_size": 0.0}, "step_size must be above 0, got 0.0"),
        ({"noise_std": 0.1}, "noise_std and prior_std are for method 'pigdm'; of 'dps' choose step_size"),
        ({"prior_std": 0.1}, "noise_std and prior_std are for method 'pigdm'"),
        ({"method": "pigdm", "prior_std": 0.0}, "prior_std must be above 0, got 0.0"),
        ({"method": "pigdm", "noise_std": -0.1}, "noise_std must be at least 0, got -0.1"),
        ({"generator": [generator(), generator()]}, "2 generators for batch_size=1; give one for each image"),
    ],
)
def test_impossible_calls(options, message):
    with refused() as error:
        draw(tiny(), **options)
    assert message in str(error.value)


# impossible and unusual arguments -----------------------------------------------------------------------------------


def test_what_a_damaged_picture_has_in_the_hole_does_not_matter():
    pipe = tiny()
    picture = torch.rand(1, 8, 8, generator=generator(3))
    damaged = torch.where(MASK == 1, picture, torch.ones(1, 8, 8))
    outputs = [draw(pipe, measurement=measured) for measured in (picture * MASK, damaged)]
    assert torch.equal(outputs[0].images, outputs[1].images)
    assert torch.equal(outputs[0].consistency_error, outputs[1].consistency_error)


def test_fewer_trained_steps_than_the_default():
    pipe = InverseProblemPipeline(
        tiny_unet(), DDPMScheduler(num_train_timesteps=30, beta_schedule="squaredcos_cap_v2")
    )
    pipe.set_progress_bar_config(disable=True)
    assert pipe(MASK * 0.5, Inpainting(MASK), output_type="pt").images.isfinite().all()


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"measurement": torch.full((1, 8, 8), torch.nan)}, "measurement: there are values that are not finite"),
        ({"operator": lambda image: image}, "operator must be one of hf_genmodels.operators, got function"),
        ({"method": "pigdm", "noise_std": torch.nan}, "noise_std must be at least 0, got nan"),
    ],
)
def test_impossible_values(changes, message):
    with pytest.raises(UserError, match=message):
        tiny()(**{"measurement": MASK * 0.5, "operator": Inpainting(MASK), **changes})
