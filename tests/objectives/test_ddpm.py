"""The DDPM's loss against a slow formula, its options, classes, a VAE's latents, and held-out figures."""

from __future__ import annotations

import copy
import dataclasses
import json
import math
import re
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
from diffusers import DDIMScheduler, DDPMScheduler, UNet2DModel
from torch.distributions import Normal, kl_divergence

from hf_genmodels import VAE, ConditionalDDPMPipeline, DDPMPipeline, LatentDDPMPipeline, UserError, VAEPipeline
from hf_genmodels.families.ddpm import DDPMArguments, build, reload
from hf_genmodels.families.denoisers import norm_groups
from hf_genmodels.objectives.ddpm import DDPMObjective
from tests.testing_utils.denoising import ConstantDenoiser
from tests.testing_utils.objectives import IMAGES, VECTORS, losses_of, make_batch, seeded_noise
from tests.testing_utils.refusals import refused

TYPES = ["epsilon", "sample", "v_prediction"]
COSINE = {"ddpm_beta_schedule": "squaredcos_cap_v2"}
SMALL = {"block_out_channels": [8], "layers_per_block": 1, "ddpm_num_steps": 10, **COSINE}
CLASSES = {"class_conditional": True, "label_dropout": 0.4}


def objective_of(data=IMAGES, **options) -> DDPMObjective:
    torch.manual_seed(0)
    return build(DDPMArguments(**SMALL | options), data)


@pytest.fixture
def vae_folder(tmp_path):
    """A VAE with batch statistics that has seen some data."""
    torch.manual_seed(0)
    vae = VAE(1, 8, latent_dim=3, block_out_channels=(4, 8)).train()
    vae(make_batch(IMAGES, 20)["image"], torch.zeros(20, 3))
    VAEPipeline(vae.eval(), value_scale=16.0).save_pretrained(tmp_path / "vae_model")
    return tmp_path / "vae_model"


def identity(tensor: torch.Tensor) -> torch.Tensor:
    return tensor


# losses --------------------------------------------------------------------------------------------------------------


def slow_losses(objective: DDPMObjective, sample: torch.Tensor, timesteps, noise, labels) -> list[torch.Tensor]:
    """Weighted and plain error of each sample, one after the other."""
    kind, bars = objective.scheduler.config.prediction_type, objective.scheduler.alphas_cumprod
    pairs = []
    for row, t in enumerate(timesteps):
        bar, x0, epsilon = bars[t], sample[row], noise[row]
        noisy = bar.sqrt() * x0 + (1 - bar).sqrt() * epsilon
        told = {} if labels is None else {"class_labels": labels[row : row + 1]}
        output = objective.networks["unet"](noisy[None], t, **told).sample[0]
        snr = (bar / (1 - bar)).item()
        gamma = float("inf") if objective.snr_gamma is None else objective.snr_gamma
        if kind == "epsilon":
            error, weight = (output - epsilon).square().mean(), min(snr, gamma) / snr
        elif kind == "sample":
            error, weight = (output - x0).square().mean(), min(snr, gamma)
        else:
            velocity = bar.sqrt() * epsilon - (1 - bar).sqrt() * x0
            error, weight = (output - velocity).square().mean(), min(snr, gamma) / (snr + 1)
        pairs.append(torch.stack([error * (1.0 if objective.snr_gamma is None else weight), error]))
    return list(torch.stack(pairs).unbind(1))


@pytest.mark.parametrize("kind", TYPES)
@pytest.mark.parametrize(
    ("data", "options"),
    [(IMAGES, {}), (IMAGES, {"snr_gamma": 0.8}), (IMAGES, CLASSES | {"snr_gamma": 5.0}), (VECTORS, {})],
    ids=["images", "min-snr", "classes", "vectors"],
)
def test_loss_is_the_mean_squared_error_of_the_prediction(kind, data, options):
    objective = objective_of(data, prediction_type=kind, **options)
    batch = make_batch(data, 8)
    losses = losses_of(objective, batch)
    noise, labels = seeded_noise(), None
    timesteps = (noise.uniform((8,), like=batch["image"]) * 10).floor().long()
    if objective.class_conditional:
        told = noise.uniform((8,), like=batch["image"]) >= 0.4
        labels = torch.where(told, batch["label"], 3)
        assert 0 < told.sum() < 8
    sample = batch["image"] if data.is_image else batch["image"][..., None, None]
    weighted, plain = slow_losses(objective, sample, timesteps, noise.normal(sample.shape, like=sample), labels)
    assert losses["loss"].item() == pytest.approx(weighted.mean().item(), rel=1e-4)
    assert losses.keys() == ({"loss"} if "snr_gamma" not in options else {"loss", "denoising_mse"})
    if "snr_gamma" in options:
        assert losses["denoising_mse"].item() == pytest.approx(plain.mean().item(), rel=1e-4)
        assert losses["denoising_mse"] != losses["loss"]
    parameters = list(objective.networks["unet"].parameters())
    for ours, theirs in zip(
        torch.autograd.grad(losses["loss"], parameters),
        torch.autograd.grad(weighted.mean(), parameters),
        strict=True,
    ):
        torch.testing.assert_close(ours, theirs, rtol=1e-3, atol=1e-5)


def slow_bound(objective: DDPMObjective, sample, timesteps, noise, is_stopped: bool) -> torch.Tensor:
    """Ten times each sample's term of the bound in bits a dimension, from whole Gaussians in float64."""
    bars, rows = objective.scheduler.alphas_cumprod.double(), []
    for row, t in enumerate(timesteps.tolist()):
        now, before = bars[t], bars[t - 1] if t else torch.tensor(1.0).double()
        x0, beta = sample[row].double(), 1 - now / before
        noisy = now.sqrt() * x0 + (1 - now).sqrt() * noise[row].double()
        output = objective.networks["unet"](noisy.float()[None], t).sample[0].double()
        epsilon, values = output.split([len(x0), len(output) - len(x0)])
        guess = (noisy - (1 - now).sqrt() * (epsilon.detach() if is_stopped else epsilon)) / now.sqrt()
        first = (1 - bars[0]) / (1 - bars[1]) * (1 - bars[1] / bars[0])
        small = (1 - before) / (1 - now) * beta if t else first
        if len(values):
            share = (values + 1) / 2
            variance = torch.exp(share * beta.log() + (1 - share) * small.log())
        else:
            variance = (small if t else beta).expand_as(x0)
        if t == 0:
            half = 1 / objective.data.value_scale
            p = Normal(guess, variance.sqrt())
            upper = torch.where(x0 > 1 - half, 1.0, p.cdf(x0 + half))
            term = -(upper - torch.where(x0 < half - 1, 0.0, p.cdf(x0 - half))).log()
        else:
            scale = before.sqrt() * beta / (1 - now)
            term = kl_divergence(Normal(scale * x0, small.sqrt()), Normal(scale * guess, variance.sqrt()))
        rows.append(len(bars) * term.mean() / math.log(2))
    return torch.stack(rows)


@pytest.mark.parametrize(
    ("variances", "loss"), [("learned_range", "hybrid"), ("learned_range", "vlb"), ("fixed_small", "vlb")]
)
def test_variational_bound_as_a_loss(variances, loss):
    objective = objective_of(ddpm_variance_type=variances, ddpm_loss=loss)
    levels, batch = int(IMAGES.value_scale), make_batch(IMAGES, 30)
    batch["image"] = ((batch["image"].clamp(-1, 1) + 1) / 2 * levels).round() / levels * 2 - 1
    losses = losses_of(objective, batch)
    noise = seeded_noise()
    timesteps = (noise.uniform((30,), like=batch["image"]) * 10).floor().long()
    assert (timesteps == 0).any()
    epsilon = noise.normal(batch["image"].shape, like=batch["image"])
    bound = slow_bound(objective, batch["image"], timesteps, epsilon, loss == "hybrid").mean()
    expected = bound
    if loss == "hybrid":
        assert losses["bits_per_dim"].item() == pytest.approx(bound.item(), rel=1e-4)
        unet = objective.networks["unet"]
        noisy = objective.scheduler.add_noise(batch["image"], epsilon, timesteps)
        error = (unet(noisy, timesteps).sample[:, :1] - epsilon).square().mean()
        assert losses["denoising_mse"].item() == pytest.approx(error.item(), rel=1e-4)
        expected = error + 0.001 * bound
    assert losses["loss"].item() == pytest.approx(expected.item(), rel=1e-4)
    assert losses.keys() == ({"loss", "denoising_mse", "bits_per_dim"} if loss == "hybrid" else {"loss"})
    parameters = list(objective.networks["unet"].parameters())
    for ours, theirs in zip(
        torch.autograd.grad(losses["loss"], parameters), torch.autograd.grad(expected, parameters), strict=True
    ):
        torch.testing.assert_close(ours, theirs, rtol=1e-3, atol=1e-4 * theirs.abs().max().item() + 1e-6)
    figures = objective.evaluate(objective.networks, batch, torch.Generator().manual_seed(0))
    assert figures["bits_per_dim"].shape == (30,) and figures["bits_per_dim"].isfinite().all()


@pytest.mark.parametrize("kind", TYPES)
def test_a_network_that_knows_the_only_picture_has_no_loss(kind):
    objective = objective_of(prediction_type=kind)
    picture = make_batch(IMAGES)["image"][0]
    objective.networks["unet"] = ConstantDenoiser(picture, objective.scheduler)
    batch = {"image": picture.expand(20, 1, 8, 8), "index": torch.arange(20)}
    assert losses_of(objective, batch)["loss"].item() < 1e-8
    figures = objective.evaluate(objective.networks, batch, torch.Generator().manual_seed(0))
    assert figures["denoising_mse"].shape == (20,) and figures["denoising_mse"].max() < 1e-8
    batch["image"] = batch["image"] * 0.9
    assert losses_of(objective, batch)["loss"].item() > 1e-3


def test_held_out_time_steps_are_spread_evenly():
    objective = objective_of()
    seen = []
    unet = objective.networks["unet"]
    unet.register_forward_pre_hook(lambda _, inputs: seen.append(inputs[1]))
    generator = torch.Generator().manual_seed(0)
    firsts = set()
    for _ in range(8):
        with torch.no_grad():
            objective.evaluate(objective.networks, make_batch(IMAGES, 10), generator)
        assert sorted(seen[-1].tolist()) == list(range(10))
        firsts.add(seen[-1][0].item())
    assert len(firsts) > 3


# classes -------------------------------------------------------------------------------------------------------------


def test_classes_make_a_conditional_model():
    objective = objective_of(**CLASSES)
    assert objective.networks["unet"].config.num_class_embeds == 4
    pipeline = objective.pipeline(objective.networks)
    assert type(pipeline) is ConditionalDDPMPipeline and pipeline.num_classes == 3
    figures = objective.evaluate(objective.networks, make_batch(IMAGES), torch.Generator())
    assert figures["denoising_mse"].shape == (5,)
    unlabelled = dataclasses.replace(IMAGES, class_names=None)
    with pytest.raises(UserError, match="--class_conditional needs labels, but builtin:digits has none"):
        objective_of(unlabelled, class_conditional=True)


# latents -------------------------------------------------------------------------------------------------------------


def test_latents_are_scaled_draws_from_the_frozen_posterior(vae_folder):
    objective = objective_of(vae_model_name_or_path=str(vae_folder))
    vae, unet = objective.networks["vae"], objective.networks["unet"].train()
    assert objective.frozen == ("vae",) and not vae.training and objective_of().frozen == ()
    before = copy.deepcopy(vae.state_dict())
    assert (unet.config.in_channels, unet.config.sample_size) == (3, 1)
    assert not objective.scheduler.config.clip_sample
    assert [phase.trains for phase in objective.phases] == [("unet",)] and objective.ema == ("unet",)
    batch = make_batch(IMAGES, 30)
    objective.initialize(batch, seeded_noise(), identity)
    with torch.no_grad():
        mean, log_std = vae.posterior_parameters(batch["image"])
    draws = mean + log_std.exp() * torch.randn(2000, 30, 3, generator=torch.Generator().manual_seed(0))
    assert 1 / objective.scaling_factor == pytest.approx(draws.std().item(), rel=0.02)

    losses = losses_of(objective, batch)
    noise = seeded_noise()
    timesteps = (noise.uniform((30,), like=mean) * 10).floor().long()
    sample = (mean + log_std.exp() * noise.normal((30, 3), like=mean)) * objective.scaling_factor
    sample = sample[..., None, None]
    _, plain = slow_losses(objective, sample, timesteps, noise.normal(sample.shape, like=mean), None)
    assert losses["loss"].item() == pytest.approx(plain.mean().item(), rel=1e-4)
    losses["loss"].backward()
    assert all(parameter.grad is None for parameter in vae.parameters())
    assert all(torch.equal(value, before[name]) for name, value in vae.state_dict().items())


def test_scaling_factor_is_that_of_all_processes_and_is_kept(vae_folder):
    path = str(vae_folder)
    whole, batch = objective_of(vae_model_name_or_path=path), make_batch(IMAGES, 8)
    whole.initialize(batch, seeded_noise(), identity)
    halves, moments = [{"image": batch["image"][:4]}, {"image": batch["image"][4:]}], []
    for half in halves:  # what each of two processes hands to the other
        objective_of(vae_model_name_or_path=path).initialize(
            half, seeded_noise(), lambda tensor: moments.append(tensor) or tensor
        )
    shared = objective_of(vae_model_name_or_path=path)
    shared.initialize(halves[0], seeded_noise(), lambda tensor: torch.cat(moments))
    assert shared.scaling_factor == pytest.approx(whole.scaling_factor, rel=1e-5) and whole.scaling_factor != 1
    resumed = objective_of(vae_model_name_or_path=path)
    resumed.load_state_dict(whole.state_dict())
    pipeline = resumed.pipeline(resumed.networks)
    assert type(pipeline) is LatentDDPMPipeline
    assert pipeline.config.scaling_factor == whole.scaling_factor and pipeline.config.value_scale == 16.0


def test_latents_may_have_classes(vae_folder):
    objective = objective_of(vae_model_name_or_path=str(vae_folder), **CLASSES)
    pipeline = objective.pipeline(objective.networks)
    assert type(pipeline) is LatentDDPMPipeline and pipeline.num_classes == 3
    assert losses_of(objective, make_batch(IMAGES))["loss"].isfinite()


def test_a_vae_is_found_and_must_fit(vae_folder, tmp_path):
    assert objective_of(vae_model_name_or_path=str(vae_folder / "vae")).networks["vae"].config.latent_dim == 3
    larger = dataclasses.replace(IMAGES, size=(16, 16))
    with pytest.raises(UserError, match=r"network takes samples of shape \(1, 8, 8\), builtin:digits has \(1, 16, 16"):
        objective_of(larger, vae_model_name_or_path=str(vae_folder))
    with pytest.raises(UserError, match=r"config\.json"):
        objective_of(vae_model_name_or_path=str(tmp_path))


# options -------------------------------------------------------------------------------------------------------------


def test_options_shape_the_network():
    objective = objective_of(
        block_out_channels=[8, 16, 16], attention=True, layers_per_block=2, dropout=0.1, prediction_type="sample"
    )
    config = objective.networks["unet"].config
    assert (config.in_channels, config.out_channels, config.sample_size) == (1, 1, 8)
    assert (config.block_out_channels, config.layers_per_block, config.dropout) == ((8, 16, 16), 2, 0.1)
    assert config.down_block_types == ("DownBlock2D", "AttnDownBlock2D", "AttnDownBlock2D")
    assert config.up_block_types == ("AttnUpBlock2D", "AttnUpBlock2D", "UpBlock2D")
    assert objective.scheduler.config.prediction_type == "sample" and objective.scheduler.config.clip_sample
    assert objective.networks["unet"](torch.zeros(2, 1, 8, 8), torch.tensor([1, 2])).sample.shape == (2, 1, 8, 8)
    assert objective_of(block_out_channels=None).networks["unet"].config.block_out_channels == (32, 64, 64)
    vectors = objective_of(VECTORS, block_out_channels=None)
    config = vectors.networks["unet"].config
    assert (config.block_out_channels, config.sample_size, config.norm_num_groups) == ((64,), 1, 1)
    assert not vectors.scheduler.config.clip_sample
    for data, kind in ((IMAGES, "epsilon"), (VECTORS, "v_prediction")):
        args = DDPMArguments(**SMALL)
        default = build(args, data)
        assert default.scheduler.config.prediction_type == default.prediction_type == args.prediction_type == kind


@pytest.mark.parametrize(
    ("channels", "groups"),
    [((32, 64, 64), 8), ((128, 256), 32), ((64, 128, 512), 16), ((8, 8), 2), ((6, 10), 1), ((3,), 1), ((24, 36), 6)],
)
def test_groups_divide_the_channels_into_four_or_more(channels, groups):
    assert norm_groups(channels, is_image=True) == groups
    assert norm_groups(channels, is_image=False) == 1


def test_linear_schedule_ends_in_noise_after_any_number_of_steps():
    paper = objective_of(ddpm_beta_schedule="linear", ddpm_num_steps=1000).scheduler
    torch.testing.assert_close(paper.alphas_cumprod, DDPMScheduler().alphas_cumprod)
    for steps in (25, 100, 1000):
        scheduler = objective_of(ddpm_beta_schedule="linear", ddpm_num_steps=steps).scheduler
        assert 0 < scheduler.alphas_cumprod[-1] < 1e-4


@pytest.mark.parametrize(
    ("data", "options", "message"),
    [
        (
            IMAGES,
            {"block_out_channels": [8] * 5},
            "height and width of images must be multiples of 16, but",
        ),
        (IMAGES, {"block_out_channels": [8, 0]}, "--block_out_channels must be at least 1, got 0"),
        (VECTORS, {"block_out_channels": [8, 8]}, "--block_out_channels must be one number for vectors, which buil"),
        (VECTORS, {"attention": True}, "--attention has no meaning with one level of --block_out_channels; leave it"),
        (IMAGES, {"layers_per_block": 0}, "--layers_per_block must be at least 1"),
        (IMAGES, {"ddpm_num_steps": 1}, "--ddpm_num_steps must be at least 2"),
        (IMAGES, {"ddpm_num_inference_steps": 0}, "--ddpm_num_inference_steps must be at least 1"),
        (IMAGES, {"ddpm_beta_schedule": "linear"}, "--ddpm_beta_schedule linear needs more than 20 --ddpm_num_steps"),
        (IMAGES, {"snr_gamma": 0.0}, "--snr_gamma must be positive, got 0.0"),
        (IMAGES, {"dropout": 1.0}, "--dropout must lie in [0, 1), got 1.0"),
        (IMAGES, CLASSES | {"label_dropout": -0.1}, "--label_dropout must lie in [0, 1), got -0.1"),
        (IMAGES, {"label_dropout": 0.2}, "--label_dropout has no meaning without --class_conditional; leave it out"),
        (VECTORS, {"class_conditional": True}, "--class_conditional needs labels, but builtin:toy2d has none"),
        (dataclasses.replace(IMAGES, size=(1, 1)), {}, "builtin:digits has images of one pixel"),
    ],
)
def test_refused_options(data, options, message):
    with refused(re.escape(message)):
        objective_of(data, **options)


# pictures ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("data", "options"), [(IMAGES, {}), (IMAGES, CLASSES), (VECTORS, {})])
def test_pictures_are_made_by_ddim_and_leave_the_scheduler_alone(data, options):
    objective, batch = objective_of(data, ddpm_num_inference_steps=4, **options), make_batch(data)
    pipeline = objective.pipeline(objective.networks)
    pipeline.unet.eval()
    pictures = objective.sample_grid(pipeline, batch, torch.Generator().manual_seed(0))
    assert pipeline.scheduler is objective.scheduler and type(pipeline.scheduler) is DDPMScheduler
    pipeline.scheduler = DDIMScheduler.from_config(pipeline.scheduler.config)
    labels = {"class_labels": [0, 1, 2, 0, 1]} if options else {}
    pipeline.set_progress_bar_config(disable=True)
    expected = pipeline(5, torch.Generator().manual_seed(0), num_inference_steps=4, output_type="pt", **labels).images
    assert torch.equal(pictures.pop("samples"), expected)
    assert pictures.keys() == (set() if data.is_image else {"data"})


# saved models --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("data", "options"),
    [
        (IMAGES, {"prediction_type": "v_prediction", "block_out_channels": [8, 8], "attention": True}),
        (IMAGES, {"class_conditional": True, "dropout": 0.2}),
        (VECTORS, {"prediction_type": "sample"}),
    ],
)
def test_from_a_saved_pipeline(data, options, tmp_path):
    first = objective_of(data, **options)
    first.pipeline(first.networks).save_pretrained(tmp_path)
    for given in (DDPMArguments(), DDPMArguments(**SMALL | options, snr_gamma=3.0)):
        again = reload(tmp_path, given, data)
        recorded = {name: getattr(given, name) for name in SMALL | options}
        assert recorded == SMALL | options
        assert type(again.pipeline(again.networks)) is type(first.pipeline(first.networks))
        assert torch.equal(again.alpha_bar, first.alpha_bar)
        saved = first.networks["unet"].state_dict()
        assert all(torch.equal(value, saved[name]) for name, value in again.networks["unet"].state_dict().items())
        assert losses_of(again, make_batch(data))["loss"].isfinite()
    for option, value, shown in (("layers_per_block", 3, "1"), ("ddpm_num_steps", 50, "10")):
        with pytest.raises(UserError, match=f"--{option} cannot be changed with .*; the saved network has {shown}"):
            reload(tmp_path, DDPMArguments(**{option: value}), data)
    with pytest.raises(UserError, match="--snr_gamma must be positive"):
        reload(tmp_path, DDPMArguments(snr_gamma=-1.0), data)


def test_a_pipeline_saved_with_another_sampler_or_by_diffusers(tmp_path):
    first = objective_of(prediction_type="v_prediction")
    pipeline = first.pipeline(first.networks)
    pipeline.scheduler = DDIMScheduler.from_config(pipeline.scheduler.config)
    pipeline.save_pretrained(tmp_path)
    index = json.loads((tmp_path / "model_index.json").read_text())
    del index["value_scale"]
    (tmp_path / "model_index.json").write_text(json.dumps(index))
    args = DDPMArguments()
    again = reload(tmp_path, args, IMAGES)
    assert type(again.scheduler) is DDPMScheduler and args.prediction_type == "v_prediction"
    assert torch.equal(again.alpha_bar, first.alpha_bar)
    assert type(again.pipeline(again.networks)) is DDPMPipeline


def test_from_a_checkpoints_networks(tmp_path):
    """They say nothing of the noise: that is what the options say."""
    first = objective_of(prediction_type="sample")
    first.networks["unet"].save_pretrained(str(tmp_path / "unet"))
    again = reload(tmp_path, DDPMArguments(**SMALL, prediction_type="sample"), IMAGES)
    assert again.scheduler.config.prediction_type == "sample" and torch.equal(again.alpha_bar, first.alpha_bar)


def test_from_a_saved_pipeline_of_latents(vae_folder, tmp_path):
    first = objective_of(vae_model_name_or_path=str(vae_folder))
    first.initialize(make_batch(IMAGES), seeded_noise(), identity)
    folder = tmp_path / "model"
    first.pipeline(first.networks).save_pretrained(folder)
    again = reload(folder, DDPMArguments(), IMAGES)
    assert again.scaling_factor == first.scaling_factor and not again.scheduler.config.clip_sample
    for name, value in again.networks["vae"].state_dict().items():
        assert torch.equal(value, first.networks["vae"].state_dict()[name])
    assert losses_of(again, make_batch(IMAGES))["loss"].isfinite()
    with pytest.raises(UserError, match="--vae_model_name_or_path cannot be changed with --pretrained_model_name_or"):
        reload(folder, DDPMArguments(vae_model_name_or_path=str(vae_folder)), IMAGES)
    with pytest.raises(UserError, match="the pretrained network takes samples of shape"):
        reload(folder, DDPMArguments(), dataclasses.replace(IMAGES, size=(16, 16)))
    (folder / "model_index.json").unlink()
    with pytest.raises(UserError, match="does not say how latents were scaled; give the folder of a finished run"):
        reload(folder, DDPMArguments(), IMAGES)


def test_a_checkpoint_of_latents_is_known_by_the_frozen_vae_beside_it(vae_folder, tmp_path):
    first = objective_of(vae_model_name_or_path=str(vae_folder))
    networks = tmp_path / "run" / "checkpoint-2" / "networks"
    first.networks["unet"].save_pretrained(str(networks / "unet"))
    first.networks["vae"].save_pretrained(str(tmp_path / "run" / "frozen" / "vae"))
    # vectors of as many numbers as the latents, which the network would take
    vectors = dataclasses.replace(VECTORS, channels=3)
    for data in (IMAGES, vectors):
        with pytest.raises(UserError, match="does not say how latents were scaled; give the folder of a finished run"):
            reload(networks, DDPMArguments(**SMALL), data)


def test_a_frozen_vae_elsewhere_is_none_of_a_finished_models(vae_folder, tmp_path):
    first = objective_of()
    first.pipeline(first.networks).save_pretrained(tmp_path / "runs" / "ddpm")
    VAE(1, 8, latent_dim=3, block_out_channels=(4, 8)).save_pretrained(str(tmp_path / "frozen" / "vae"))
    assert reload(tmp_path / "runs" / "ddpm", DDPMArguments(), IMAGES).networks.keys() == {"unet"}


def test_a_saved_model_must_fit_the_data(tmp_path):
    first = objective_of(class_conditional=True)
    first.pipeline(first.networks).save_pretrained(tmp_path)
    with pytest.raises(UserError, match=r"takes samples of shape \(1, 8, 8\), builtin:digits has \(1, 16, 16\)"):
        reload(tmp_path, DDPMArguments(), dataclasses.replace(IMAGES, size=(16, 16)))
    with pytest.raises(UserError, match="the saved network knows 3 classes, builtin:digits has 2"):
        reload(tmp_path, DDPMArguments(), dataclasses.replace(IMAGES, class_names=("a", "b")))
    with pytest.raises(UserError, match="this model needs labels, but builtin:digits has none"):
        reload(tmp_path, DDPMArguments(), dataclasses.replace(IMAGES, class_names=None))
    shutil.rmtree(tmp_path / "scheduler")
    (tmp_path / "scheduler").mkdir()
    with refused("scheduler_config.json is missing"):
        reload(tmp_path, DDPMArguments(), IMAGES)


def published(folder: Path, unet: UNet2DModel, **schedule: Any) -> None:
    """diffusers' first models: everything at the top of the folder."""
    scheduler = DDPMScheduler(num_train_timesteps=10, **schedule)
    unet.save_pretrained(folder)
    scheduler.save_pretrained(folder)
    index = {"_class_name": "DDPMPipeline", "unet": ["diffusers", "UNet2DModel"]}
    (folder / "model_index.json").write_text(json.dumps(index | {"scheduler": ["diffusers", "DDPMScheduler"]}))


@pytest.mark.parametrize(
    "schedule", [{}, {"beta_schedule": "sigmoid"}, {"trained_betas": [0.02 * (k + 1) for k in range(10)]}]
)
def test_published_models_of_flat_folders_and_of_schedules_that_ddim_lacks_train_further(schedule, tmp_path):
    unet = objective_of().networks["unet"]
    published(tmp_path, unet, **schedule)
    args = DDPMArguments()
    again = reload(tmp_path, args, IMAGES)
    assert args.ddpm_beta_schedule == schedule.get("beta_schedule", "linear") and args.ddpm_num_steps == 10
    assert torch.equal(again.alpha_bar, DDPMScheduler(num_train_timesteps=10, **schedule).alphas_cumprod)
    assert torch.equal(again.networks["unet"].conv_in.weight, unet.conv_in.weight)
    pipeline = again.pipeline(again.networks)
    assert again.sample_grid(pipeline, make_batch(IMAGES), torch.Generator())["samples"].isfinite().all()


@pytest.mark.parametrize("name", ["scaled_linear", "sigmoid", "laplace"])
def test_schedules_of_published_models_are_options_too(name):
    objective = objective_of(ddpm_beta_schedule=name, ddpm_num_steps=25)
    assert objective.scheduler.config.beta_schedule == name and losses_of(objective, make_batch(IMAGES))["loss"] > 0


def test_published_networks_that_predict_variances_train_further(tmp_path):
    unet = UNet2DModel.from_config(objective_of().networks["unet"].config, out_channels=2)
    published(tmp_path, unet, variance_type="learned_range")
    args = DDPMArguments()
    again = reload(tmp_path, args, IMAGES)
    assert args.ddpm_variance_type == "learned_range" and again.learns_variances and again.loss == "hybrid"
    # also where it was saved with a sampler that takes no variances
    pipeline = again.pipeline(again.networks)
    pipeline.scheduler = DDIMScheduler.from_config(pipeline.scheduler.config)
    pipeline.save_pretrained(tmp_path / "ddim")
    assert reload(tmp_path / "ddim", DDPMArguments(), IMAGES).scheduler.config.variance_type == "learned_range"
    with refused("--ddpm_variance_type cannot be changed with --pretrained_model_name_or_path; the saved"):
        reload(fixed_folder(tmp_path), DDPMArguments(ddpm_variance_type="learned_range"), IMAGES)


def fixed_folder(folder: Path) -> Path:
    """A saved model with fixed variances."""
    first = objective_of()
    first.pipeline(first.networks).save_pretrained(folder / "fixed")
    return folder / "fixed"


@pytest.mark.parametrize(
    ("out_channels", "kind", "loss", "told"),
    [
        (3, "fixed_small", "simple", "the network makes 3 channels of 1: expected 1 or 2"),
        (
            2,
            "fixed_small",
            "hybrid",
            "makes 2 channels of 1, and the scheduler's variance_type is 'fixed_small'",
        ),
        (
            1,
            "learned_range",
            "vlb",
            "makes 1 channels of 1, and the scheduler's variance_type is 'learned_range'",
        ),
        (2, "learned_range", "simple", "loss 'simple' does not teach the variances that the network predicts; use"),
        (1, "fixed_small", "hybrid", "loss 'hybrid' teaches variances, and the network predicts none; use 'vlb'"),
        (1, "fixed_small", "l2", "loss 'l2' is unknown; choose one of: simple, hybrid, vlb"),
    ],
)
def test_losses_that_do_not_fit_the_network(out_channels, kind, loss, told):
    unet = UNet2DModel.from_config(objective_of().networks["unet"].config, out_channels=out_channels)
    with refused(told):
        DDPMObjective(unet, DDPMScheduler(10, variance_type=kind), IMAGES, loss=loss)


@pytest.mark.parametrize(
    ("options", "told"),
    [
        (
            {"ddpm_loss": "hybrid"},
            "--ddpm_loss hybrid teaches variances; it goes with --ddpm_variance_type lea",
        ),
        (
            {"ddpm_loss": "simple", "ddpm_variance_type": "learned_range"},
            "--ddpm_loss simple does not teach the",
        ),
        ({"ddpm_loss": "vlb", "snr_gamma": 5.0}, "--snr_gamma has no meaning with --ddpm_loss vlb"),
    ],
)
def test_options_of_the_bound_that_do_not_go_together(options, told):
    with refused(told):
        objective_of(**options)


def test_the_bound_has_weights_of_its_own_in_python():
    built = objective_of(ddpm_loss="vlb")
    with refused("snr_gamma has no meaning with loss 'vlb'"):
        DDPMObjective(built.networks["unet"], built.scheduler, IMAGES, snr_gamma=5.0, loss="vlb")


def test_a_swapped_sampler_does_not_change_the_noise_of_further_training(tmp_path):
    first = objective_of()
    pipeline = first.pipeline(first.networks)
    pipeline.scheduler = DDIMScheduler.from_config(pipeline.scheduler.config, rescale_betas_zero_snr=True)
    pipeline.save_pretrained(tmp_path)
    assert torch.equal(reload(tmp_path, DDPMArguments(), IMAGES).alpha_bar, first.alpha_bar)
    index = tmp_path / "model_index.json"
    index.write_text(json.dumps(json.loads(index.read_text()) | {"trained_schedule": {"beta_schedule": "none"}}))
    with refused("trained_schedule has an impossible value"):
        reload(tmp_path, DDPMArguments(), IMAGES)
