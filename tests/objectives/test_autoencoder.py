"""The autoencoder's loss: squared error, each regulariser and corruption against slow formulas."""

from __future__ import annotations

import dataclasses
import math
import re

import pytest
import torch

from hf_genmodels import UserError
from hf_genmodels.families.autoencoder import AutoencoderArguments, build, reload
from hf_genmodels.objectives.autoencoder import AutoencoderObjective, corrupt
from tests.testing_utils.objectives import IMAGES, VECTORS, losses_of, make_batch, seeded_noise
from tests.testing_utils.refusals import refused

MLP = {"architecture": "mlp", "hidden_dims": [8], "latent_dim": 4}
CONV = {"architecture": "conv", "block_out_channels": [4]}
LINEAR = {"architecture": "linear", "hidden_dims": None}


def objective_of(data=IMAGES, **options) -> AutoencoderObjective:
    torch.manual_seed(0)
    return build(AutoencoderArguments(**MLP | options), data)


def codes_and_error(objective, sample, image) -> tuple[torch.Tensor, float]:
    with torch.no_grad():
        output = objective.networks["autoencoder"](sample)
    each = [(theirs - ours).square().sum().item() for theirs, ours in zip(output.reconstruction, image, strict=True)]
    return output.latents, sum(each) / len(each)


@pytest.mark.parametrize("data", [IMAGES, VECTORS])
def test_plain_loss_is_the_summed_squared_error(data):
    objective, batch = objective_of(data), make_batch(data)
    losses = losses_of(objective, batch)
    _, error = codes_and_error(objective, batch["image"], batch["image"])
    assert losses.keys() == {"loss", "error"}
    assert losses["loss"].item() == losses["error"].item() == pytest.approx(error, rel=1e-5)


def test_l1():
    objective, batch = objective_of(regularizer="l1", regularizer_weight=0.7), make_batch(IMAGES)
    losses = losses_of(objective, batch)
    latents, error = codes_and_error(objective, batch["image"], batch["image"])
    norm = sum(abs(value) for code in latents.tolist() for value in code) / 5
    assert losses["regularizer"].item() == pytest.approx(norm, rel=1e-5)
    assert losses["loss"].item() == pytest.approx(error + 0.7 * norm, rel=1e-5)


def test_kl_sparsity_of_sigmoid_codes():
    objective = objective_of(regularizer="kl", regularizer_weight=0.3, sparsity_target=0.1)
    batch = make_batch(IMAGES)
    losses = losses_of(objective, batch)
    latents, error = codes_and_error(objective, batch["image"], batch["image"])
    assert latents.min() > 0 and latents.max() < 1
    divergence = sum(
        0.1 * math.log(0.1 / mean) + 0.9 * math.log(0.9 / (1 - mean)) for mean in latents.mean(0).tolist()
    )
    assert losses["regularizer"].item() == pytest.approx(divergence, rel=1e-4)
    assert losses["loss"].item() == pytest.approx(error + 0.3 * divergence, rel=1e-5)


def test_k_sparse_codes():
    objective, batch = objective_of(k_sparse=2), make_batch(IMAGES)
    latents, error = codes_and_error(objective, batch["image"], batch["image"])
    assert (latents != 0).sum(1).tolist() == [2] * 5
    assert losses_of(objective, batch)["loss"].item() == pytest.approx(error, rel=1e-5)


@pytest.mark.parametrize("options", [{}, {"architecture": "conv", "block_out_channels": [4], "norm": "group"}])
def test_contractive_penalty_is_the_squared_jacobian_and_trains_the_encoder(options):
    objective = objective_of(regularizer="contractive", regularizer_weight=2.0, **options)
    assert objective.phases[0].double_backward
    batch = make_batch(IMAGES)
    losses = losses_of(objective, batch)
    network = objective.networks["autoencoder"]
    _, error = codes_and_error(objective, batch["image"], batch["image"])
    jacobians = [torch.autograd.functional.jacobian(network.encode, image[None]) for image in batch["image"]]
    penalty = sum(jacobian.square().sum().item() for jacobian in jacobians) / 5
    assert losses["regularizer"].item() == pytest.approx(penalty, rel=1e-4)
    assert losses["loss"].item() == pytest.approx(error + 2 * penalty, rel=1e-4)
    gradient = torch.autograd.grad(losses["regularizer"], network.to_latents.weight)[0]
    assert gradient.abs().max() > 0


def test_unknown_choices():
    network = objective_of().networks["autoencoder"]
    for choice in ("regularizer", "corruption"):
        with pytest.raises(UserError, match=f"^{choice} 'L1' is unknown; choose one of: none, "):
            AutoencoderObjective(network, IMAGES, **{choice: "L1"})


def test_only_the_contractive_penalty_differentiates_a_gradient():
    assert not objective_of(regularizer="l1").phases[0].double_backward


@pytest.mark.parametrize("corruption", ["gaussian", "masking"])
def test_denoising_compares_with_the_clean_image(corruption):
    objective = objective_of(corruption=corruption, corruption_level=0.4)
    batch = make_batch(IMAGES)
    image = batch["image"].clone()
    corrupted = corrupt(image, corruption, 0.4, seeded_noise())
    _, error = codes_and_error(objective, corrupted, image)
    _, clean_error = codes_and_error(objective, image, image)
    assert losses_of(objective, batch)["loss"].item() == pytest.approx(error, rel=1e-5)
    assert error != pytest.approx(clean_error, rel=1e-3)
    assert torch.equal(batch["image"], image)


def test_corruptions_have_the_level_that_was_asked():
    image = make_batch(IMAGES, 400)["image"]
    added = corrupt(image, "gaussian", 0.4, seeded_noise()) - image
    assert added.std().item() == pytest.approx(0.4, rel=0.02)
    assert added.mean().item() == pytest.approx(0, abs=0.01)
    bright = image.clamp(min=-0.9)
    masked = corrupt(bright, "masking", 0.25, seeded_noise())
    hidden = masked == -1
    assert hidden.float().mean().item() == pytest.approx(0.25, abs=0.01)
    assert torch.equal(masked[~hidden], bright[~hidden])
    assert corrupt(image, "none", 0.4, seeded_noise()) is image


def test_supervised_head():
    objective, batch = objective_of(classification_weight=1.5), make_batch(IMAGES)
    losses = losses_of(objective, batch)
    network = objective.networks["autoencoder"]
    latents, error = codes_and_error(objective, batch["image"], batch["image"])
    probability = network.classifier(latents).softmax(1).detach()
    entropy = -sum(math.log(p[label]) for p, label in zip(probability, batch["label"], strict=True)) / 5
    assert losses["cross_entropy"].item() == pytest.approx(entropy, rel=1e-4)
    assert losses["loss"].item() == pytest.approx(error + 1.5 * entropy, rel=1e-4)


def test_held_out_figures():
    batch = make_batch(IMAGES)
    for options in ({}, {"classification_weight": 1.0, "corruption": "gaussian"}):
        objective = objective_of(**options)
        with torch.no_grad():
            figures = objective.evaluate(objective.networks, batch, torch.Generator())
            output = objective.networks["autoencoder"](batch["image"])
        error = (output.reconstruction.clamp(-1, 1) - batch["image"]) / 2
        assert figures["mse"].tolist() == pytest.approx(error.square().flatten(1).mean(1).tolist(), rel=1e-5)
        if options:
            assert figures["accuracy"].tolist() == (output.logits.argmax(1) == batch["label"]).float().tolist()
        assert figures.keys() == ({"mse", "accuracy"} if options else {"mse"})
    unlabelled = {"image": batch["image"]}
    assert objective.evaluate(objective.networks, unlabelled, torch.Generator()).keys() == {"mse"}


@pytest.mark.parametrize("data", [IMAGES, VECTORS])
def test_pictures(data):
    objective, batch = objective_of(data), make_batch(data)
    pipeline = objective.pipeline(objective.networks)
    assert pipeline.config.value_scale == data.value_scale
    drawn = objective.sample_grid(pipeline, batch, torch.Generator())
    pictures = drawn.pop("reconstructions")
    shown = (batch["image"] + 1) / 2 if data.is_image else batch["image"]
    expected = pipeline.reconstruct(shown, output_type="pt").images
    torch.testing.assert_close(pictures[1::2] if data.is_image else pictures, expected)
    assert drawn.keys() == (set() if data.is_image else {"data"})
    assert data.is_image or torch.equal(drawn["data"], batch["image"])


@pytest.mark.parametrize("data", [IMAGES, VECTORS])
def test_held_out_error_is_that_of_the_pictures_a_pipeline_returns(data):
    objective, batch = objective_of(data), make_batch(data)
    network = objective.networks["autoencoder"].eval()
    next(layer for layer in reversed(network.decoder) if isinstance(layer, torch.nn.Linear)).weight.data *= 20
    with torch.no_grad():
        figures = objective.evaluate(objective.networks, batch, torch.Generator())
    shown = (batch["image"] + 1) / 2 if data.is_image else batch["image"]
    returned = objective.pipeline(objective.networks).reconstruct(shown, output_type="pt").images
    assert network(batch["image"]).reconstruction.abs().max() > 1.2
    assert figures["mse"].tolist() == pytest.approx((returned - shown).square().flatten(1).mean(1).tolist(), rel=1e-4)


@pytest.mark.parametrize(
    ("data", "options", "message"),
    [
        (IMAGES, CONV | {"regularizer": "contractive"}, "use --norm group or none"),
        (IMAGES, CONV | {"block_out_channels": [16, 0]}, "block_out_channels must be at least 1, got 16 0"),
        (IMAGES, {"hidden_dims": [0]}, "hidden_dims must be at least 1, got 0"),
        (IMAGES, {"norm": "none"}, "--norm has no meaning with --architecture mlp; leave it out"),
        (IMAGES, {"block_out_channels": [4]}, "--block_out_channels has no meaning with --architecture mlp"),
        (IMAGES, {"architecture": "linear"}, "--hidden_dims has no meaning with --architecture linear"),
        (IMAGES, LINEAR | {"block_out_channels": [4]}, "--block_out_channels has no meaning with --architecture lin"),
        (IMAGES, LINEAR | {"norm": "group"}, "--norm has no meaning with --architecture linear"),
        (IMAGES, {"k_sparse": 5}, "--k_sparse 5 must lie between 1 and --latent_dim 4"),
        (IMAGES, {"k_sparse": 0}, "--k_sparse 0 must lie between 1 and --latent_dim 4"),
        (IMAGES, {"sparsity_target": 1.0}, "--sparsity_target 1.0 must lie in (0, 1)"),
        (IMAGES, {"corruption": "masking", "corruption_level": 1.5}, "must lie in [0, 1] for masking"),
        (IMAGES, {"corruption": "gaussian", "corruption_level": -1.0}, "--corruption_level must be at least 0"),
        (IMAGES, {"regularizer_weight": -1.0}, "--regularizer_weight must be at least 0"),
        (IMAGES, {"latent_dim": 0}, "--latent_dim must be at least 1"),
        (VECTORS, {"corruption": "masking"}, "--corruption masking needs images in [-1, 1]"),
        (VECTORS, {"classification_weight": 1.0}, "--classification_weight needs labels"),
        (VECTORS, {"architecture": "conv"}, "needs images, but the data are vectors"),
    ],
)
def test_refused_options(data, options, message):
    with refused(re.escape(message)):
        objective_of(data, **options)


def test_from_a_saved_pipeline(tmp_path):
    first = objective_of(classification_weight=1.0)
    first.pipeline(first.networks).save_pretrained(tmp_path)

    def load(data=IMAGES, **options):
        return reload(tmp_path, AutoencoderArguments(**options), data)

    args = AutoencoderArguments(regularizer="contractive", classification_weight=0.5)
    again = reload(tmp_path, args, IMAGES)
    assert again.phases[0].double_backward, "the saved network has no batch normalisation, whatever --norm says"
    recorded = dataclasses.asdict(args)
    assert {name: recorded[name] for name in MLP} == MLP, "what is recorded is what the saved network has"
    for ours, theirs in zip(
        again.networks["autoencoder"].state_dict().values(),
        first.networks["autoencoder"].state_dict().values(),
        strict=True,
    ):
        assert torch.equal(ours, theirs)
    with pytest.raises(UserError, match="--regularizer kl needs codes in"):
        load(regularizer="kl")
    with pytest.raises(UserError, match="the pretrained network takes samples of shape"):
        load(VECTORS)
    with pytest.raises(UserError, match="the pretrained network has one for 3"):
        load(dataclasses.replace(IMAGES, class_names=("a", "b")), classification_weight=1.0)
    for options, message in (
        ({"latent_dim": 5}, "--latent_dim cannot be changed with --pretrained.*; the saved network has 4"),
        ({"architecture": "linear"}, "--architecture cannot be changed with .*; the saved network has mlp"),
        ({"hidden_dims": [9]}, "--hidden_dims cannot be changed with .*; the saved network has 8"),
        ({"k_sparse": 2}, "--k_sparse cannot be changed with .*; the saved network has none"),
    ):
        with pytest.raises(UserError, match=message):
            load(**options)
    args = AutoencoderArguments(**MLP)
    reload(tmp_path, args, IMAGES)
    assert args.latent_dim == 4, "options that agree with the saved network may be repeated"


def test_contractive_penalty_with_a_saved_batch_norm_network(tmp_path):
    first = objective_of(**CONV, hidden_dims=None)
    first.pipeline(first.networks).save_pretrained(tmp_path)
    with pytest.raises(UserError, match="but the saved network has batch normalisation; train one anew with --norm"):
        reload(tmp_path, AutoencoderArguments(regularizer="contractive"), IMAGES)
