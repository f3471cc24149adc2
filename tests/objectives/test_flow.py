"""The flows' loss against autograd Jacobians, their data-dependent start, held-out figures and options."""

from __future__ import annotations

import dataclasses
import math
import re

import pytest
import torch
from diffusers import ConfigMixin, ModelMixin
from diffusers.configuration_utils import register_to_config
from torch.distributions import Normal

from hf_genmodels import UserError
from hf_genmodels.blocks.flows import ActNorm, FlowOutput
from hf_genmodels.data import DataArguments, DataSpec, load_data
from hf_genmodels.families.flow import FlowArguments, build, network_options, reload
from hf_genmodels.models.glow import Glow
from hf_genmodels.models.nice import NICE
from hf_genmodels.models.realnvp import RealNVP
from hf_genmodels.models.residual_flows import PlanarFlow, RadialFlow
from hf_genmodels.objectives.flow import FlowObjective
from hf_genmodels.training.arguments import TrainingArguments
from hf_genmodels.training.entry import train
from tests.testing_utils.objectives import IMAGES, VECTORS, losses_of, make_batch, seeded_noise
from tests.testing_utils.refusals import refused

TINY_IMAGES = dataclasses.replace(IMAGES, size=(4, 4))
LABELLED = dataclasses.replace(VECTORS, class_names=("a", "b", "c"))
GLOW = {"architecture": "glow", "num_flow_steps": 1, "num_scales": 1, "hidden_channels": 4}
CONDITIONAL = GLOW | {"class_conditional": True}
CASES = [
    (VECTORS, {"architecture": "planar", "num_flow_steps": 3}),
    (VECTORS, {"architecture": "radial", "num_flow_steps": 3}),
    (VECTORS, {"architecture": "nice", "num_flow_steps": 3, "hidden_dims": [8]}),
    (VECTORS, {"architecture": "realnvp", "num_flow_steps": 3, "hidden_dims": [8], "scale_limit": 1.5}),
    (TINY_IMAGES, {"architecture": "nice", "num_flow_steps": 3, "hidden_dims": [8]}),
    (TINY_IMAGES, {"architecture": "realnvp", "num_scales": 1, "hidden_channels": 4, "scale_limit": 1.5}),
    (TINY_IMAGES, GLOW | {"fixed_prior": True, "scale_limit": 1.5}),
    (LABELLED, {"architecture": "realnvp", "num_flow_steps": 3, "hidden_dims": [8], "class_conditional": True}),
    (LABELLED, {"architecture": "nice", "num_flow_steps": 3, "hidden_dims": [8], "class_conditional": True}),
    (
        TINY_IMAGES,
        {"architecture": "realnvp", "num_scales": 1, "hidden_channels": 4, "class_conditional": True},
    ),
    (TINY_IMAGES, CONDITIONAL),
]


def objective_of(data: DataSpec = TINY_IMAGES, **options) -> FlowObjective:
    """With weights that are not those of the start, where most flows are the identity."""
    torch.manual_seed(0)
    objective = build(FlowArguments(**options), data)
    for parameter in objective.networks["flow"].parameters():
        parameter.data += 0.1 * torch.randn_like(parameter)
    return objective


def slow_nll(objective: FlowObjective, batch: dict[str, torch.Tensor], noise: torch.Tensor) -> torch.Tensor:
    """-log p of each sample by the change of variables, with the whole Jacobian; noise is uniform in [0, 1)."""
    flow, sample = objective.networks["flow"], batch["image"]
    if objective.data.is_image:
        levels = int(objective.data.value_scale) + 1
        sample = ((sample + 1) / 2 * (levels - 1) + noise) / levels - 0.5
    total = []
    for index, example in enumerate(sample):
        labels = batch["label"][index : index + 1] if flow.config.get("num_classes") else None

        def latent(x, labels=labels):
            return flow.encode(x[None], labels)[0][0]

        jacobian = torch.autograd.functional.jacobian(latent, example, create_graph=True).flatten(1)
        log_density = Normal(0.0, 1.0).log_prob(latent(example)).sum() + torch.linalg.slogdet(jacobian).logabsdet
        if objective.data.is_image:  # a cell of width 1 / levels in each dimension
            log_density = log_density + example.numel() * math.log(1 / levels)
        total.append(-log_density)
    return torch.stack(total)


@pytest.mark.parametrize(("data", "options"), CASES)
def test_loss_is_the_negative_log_likelihood(data, options):
    objective, batch = objective_of(data, **options), make_batch(data)
    noise = seeded_noise().uniform(tuple(batch["image"].shape), like=batch["image"])
    losses = losses_of(objective, batch)
    expected = slow_nll(objective, batch, noise).mean()
    assert losses.keys() == {"loss", "bits_per_dim"}
    assert losses["loss"].item() == pytest.approx(expected.item(), rel=1e-5)
    assert losses["bits_per_dim"].item() == pytest.approx(
        expected.item() / math.log(2) / math.prod(data.shape), rel=1e-5
    )
    parameters = list(objective.networks["flow"].parameters())
    for ours, theirs in zip(
        torch.autograd.grad(losses["loss"], parameters), torch.autograd.grad(expected, parameters), strict=True
    ):
        torch.testing.assert_close(ours, theirs, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize(("data", "options"), [CASES[3], CASES[-1]])
def test_held_out_figures(data, options):
    objective, batch = objective_of(data, **options), make_batch(data)
    with torch.no_grad():
        figures = objective.evaluate(objective.networks, batch, torch.Generator().manual_seed(3))
    noise = torch.rand(batch["image"].shape, generator=torch.Generator().manual_seed(3))
    expected = slow_nll(objective, batch, noise)
    assert figures.keys() == {"negative_log_likelihood", "bits_per_dim"}
    assert figures["negative_log_likelihood"].tolist() == pytest.approx(expected.tolist(), rel=1e-5)
    bits = expected / math.log(2) / math.prod(data.shape)
    assert figures["bits_per_dim"].tolist() == pytest.approx(bits.tolist(), rel=1e-5)


def test_noise_is_fresh_each_time():
    objective, batch = objective_of(**GLOW), make_batch(TINY_IMAGES)
    assert losses_of(objective, batch, seed=1)["loss"] != losses_of(objective, batch, seed=2)["loss"]
    vectors = objective_of(VECTORS)
    batch = make_batch(VECTORS)
    assert losses_of(vectors, batch, seed=1)["loss"] == losses_of(vectors, batch, seed=2)["loss"]


def test_initialisation_sees_the_middles_of_the_grey_levels():
    torch.manual_seed(0)
    objective = build(FlowArguments(**CONDITIONAL), TINY_IMAGES)
    norm = next(module for module in objective.networks["flow"].modules() if isinstance(module, ActNorm))
    batch = make_batch(TINY_IMAGES, count=50)
    gathered = []

    def gather(tensor):
        gathered.append(tensor)
        return tensor

    objective.initialize(batch, seeded_noise(), gather)
    assert norm.initialized and len(gathered) == 2, "mean and mean square are averaged over the processes"
    middles = ((batch["image"] + 1) / 2 * 16 + 0.5) / 17 - 0.5
    channels = middles.unfold(2, 2, 2).unfold(3, 2, 2).permute(0, 1, 4, 5, 2, 3).reshape(50, 4, -1)  # squeezed
    torch.testing.assert_close(-norm.bias, channels.mean((0, 2)), rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(torch.exp(-norm.log_scale), channels.std((0, 2), correction=0), rtol=1e-3, atol=0)
    before = {name: value.clone() for name, value in norm.state_dict().items()}
    objective.initialize(make_batch(TINY_IMAGES, seed=1), seeded_noise(), gather)
    assert all(torch.equal(value, before[name]) for name, value in norm.state_dict().items())


def test_initialisation_sees_the_batches_of_all_processes():
    objective = build(FlowArguments(**GLOW), TINY_IMAGES)
    halves = make_batch(TINY_IMAGES, seed=1, count=50), make_batch(TINY_IMAGES, count=50)
    others = []
    other = build(FlowArguments(**GLOW), TINY_IMAGES)
    other.initialize(halves[0], seeded_noise(), lambda tensor: others.append(tensor) or tensor)
    seen = iter(others)
    objective.initialize(halves[1], seeded_noise(), lambda tensor: torch.cat([next(seen), tensor]))
    whole = build(FlowArguments(**GLOW), TINY_IMAGES)
    whole.initialize({"image": torch.cat([half["image"] for half in halves])}, seeded_noise(), lambda tensor: tensor)
    of_all, of_halves = (
        next(module for module in each.networks["flow"].modules() if isinstance(module, ActNorm)).state_dict()
        for each in (whole, objective)
    )
    torch.testing.assert_close(of_halves, of_all, rtol=1e-4, atol=1e-5)


def test_a_flow_that_needs_no_first_batch():
    class Identity(ModelMixin, ConfigMixin):
        @register_to_config
        def __init__(self, in_channels=2, sample_size=None):
            super().__init__()

        def forward(self, sample, labels=None):
            return FlowOutput(sample, sample.new_zeros(len(sample)), Normal(0.0, 1.0).log_prob(sample).sum(1))

    objective, batch = FlowObjective(Identity(), VECTORS), make_batch(VECTORS)
    objective.initialize(batch, seeded_noise(), lambda tensor: tensor)
    expected = -Normal(0.0, 1.0).log_prob(batch["image"]).sum(1).mean()
    assert losses_of(objective, batch)["loss"].item() == pytest.approx(expected.item())


def test_labels_are_read_by_a_conditional_flow_alone():
    batch = make_batch(TINY_IMAGES)
    other = batch | {"label": (batch["label"] + 1) % 3}
    for options, differs in ((GLOW, False), (CONDITIONAL, True)):
        objective = objective_of(**options)
        assert (losses_of(objective, batch)["loss"] != losses_of(objective, other)["loss"]).item() is differs
    assert objective.networks["flow"].config.num_classes == 3


@pytest.mark.parametrize(("data", "options"), [(VECTORS, {}), (TINY_IMAGES, CONDITIONAL)])
def test_pictures(data, options):
    objective, batch = objective_of(data, **options), make_batch(data)
    pipeline = objective.pipeline(objective.networks)
    assert pipeline.config.value_scale == data.value_scale
    pictures = objective.sample_grid(pipeline, batch, torch.Generator().manual_seed(0))
    generator = torch.Generator().manual_seed(0)
    expected = pipeline(batch_size=5, generator=generator, output_type="pt").images
    assert torch.equal(pictures.pop("samples"), expected)
    if data.is_image:
        cooler = pipeline(batch_size=5, generator=generator, temperature=0.7, output_type="pt").images
        assert torch.equal(pictures.pop("samples at temperature 0.7"), cooler)
    else:
        assert torch.equal(pictures.pop("data"), batch["image"])
    assert not pictures


# options -------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("data", "options", "network_class", "expected"),
    [
        (VECTORS, {}, RealNVP, {"num_couplings": 8, "hidden_dims": (64, 64), "scale_limit": 2.0, "num_levels": None}),
        (IMAGES, {}, Glow, {"num_flow_steps": 8, "num_scales": 3, "num_levels": 17, "num_classes": None}),
        (VECTORS, CASES[0][1], PlanarFlow, {"num_flows": 3}),
        (VECTORS, CASES[1][1], RadialFlow, {"num_flows": 3}),
        (VECTORS, CASES[2][1], NICE, {"num_couplings": 3, "hidden_dims": [8], "sample_size": None}),
        (VECTORS, CASES[3][1], RealNVP, {"num_couplings": 3, "hidden_dims": [8], "scale_limit": 1.5}),
        (TINY_IMAGES, CASES[4][1], NICE, {"num_couplings": 3, "sample_size": 4, "num_levels": 17}),
        (TINY_IMAGES, CASES[5][1], RealNVP, {"num_scales": 1, "hidden_channels": 4, "num_levels": 17}),
        (TINY_IMAGES, CASES[6][1], Glow, {"learned_prior": False, "scale_limit": 1.5, "num_scales": 1}),
        (TINY_IMAGES, CONDITIONAL, Glow, {"learned_prior": True, "num_classes": 3, "num_flow_steps": 1}),
    ],
)
def test_options_shape_the_network(data, options, network_class, expected):
    flow = build(FlowArguments(**options), data).networks["flow"]
    assert type(flow) is network_class
    assert (flow.config.in_channels, flow.config.sample_size) == (data.channels, data.sample_size)
    assert {name: flow.config[name] for name in expected} == expected


UNLABELLED = dataclasses.replace(IMAGES, class_names=None)


@pytest.mark.parametrize(
    ("data", "options", "message"),
    [
        (IMAGES, {"architecture": "planar"}, "--architecture planar does not take images, which builtin:digits has; "),
        (
            VECTORS,
            {"architecture": "glow"},
            "glow does not take vectors, which builtin:toy2d has; choose one of planar",
        ),
        (VECTORS, {"num_scales": 2}, "--num_scales has no meaning with --architecture realnvp for vectors; leave it"),
        (VECTORS, {"num_levels": 2}, "--num_levels has no meaning with --architecture realnvp for vectors"),
        (
            VECTORS,
            CASES[0][1] | {"class_conditional": True},
            "--class_conditional has no meaning with --architecture pla",
        ),
        (VECTORS, CASES[0][1] | {"hidden_dims": [8]}, "--hidden_dims has no meaning with --architecture planar"),
        (IMAGES, {"hidden_dims": [8]}, "--hidden_dims has no meaning with --architecture glow for images"),
        (IMAGES, CASES[5][1] | {"num_flow_steps": 8}, "--num_flow_steps has no meaning with --architecture realnvp"),
        (IMAGES, CASES[4][1] | {"fixed_prior": True}, "--fixed_prior has no meaning with --architecture nice"),
        (IMAGES, CASES[4][1] | {"scale_limit": 1.0}, "--scale_limit has no meaning with --architecture nice"),
        (IMAGES, CONDITIONAL | {"fixed_prior": True}, "--class_conditional and --fixed_prior exclude each other"),
        (UNLABELLED, CONDITIONAL, "--class_conditional needs labels, but builtin:digits has none"),
        (IMAGES, {"num_flow_steps": 0}, "--num_flow_steps must be positive, got 0"),
        (IMAGES, {"num_scales": 0}, "--num_scales must be positive, got 0"),
        (IMAGES, {"hidden_channels": -1}, "--hidden_channels must be positive, got -1"),
        (IMAGES, {"scale_limit": 0.0}, "--scale_limit must be positive, got 0.0"),
        (VECTORS, {"hidden_dims": [0]}, "--hidden_dims must be at least 1, got 0"),
        (IMAGES, {"num_levels": 1}, "--num_levels must be at least 2, got 1"),
        (IMAGES, {"num_scales": 4}, "images of size 8 do not divide by 16, which 4 squeezes need"),
    ],
)
def test_refused_options(data, options, message):
    with refused(re.escape(message)):
        build(FlowArguments(**options), data)


@pytest.mark.parametrize(
    ("value_scale", "given", "levels"),
    [(16.0, None, 17), (255.0, None, 256), (255.0, 8, 8), (65535.0, None, 65536), (1.0, 32, 32)],
)
def test_grey_levels_are_those_of_the_data_unless_asked_for(value_scale, given, levels):
    data = dataclasses.replace(TINY_IMAGES, value_scale=value_scale)
    assert objective_of(data, num_levels=given, **GLOW).networks["flow"].config.num_levels == levels


def test_float_images_are_not_rounded_silently():
    data = dataclasses.replace(IMAGES, value_scale=1.0)
    message = "builtin:digits has float values, which dequantisation would round to 256 levels; --num_levels 256 says"
    with pytest.raises(UserError, match=message):
        objective_of(data)


# saved flows ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("data", "options"), CASES)
def test_a_saved_flow_is_loaded_and_recorded_as_it_is(data, options, tmp_path):
    first = objective_of(data, **options)
    first.pipeline(first.networks).save_pretrained(tmp_path)
    for given in (FlowArguments(), FlowArguments(**options)):
        again = reload(tmp_path, given, data)
        assert {name: getattr(given, name) for name in options} == options
        assert given.num_levels == (17 if data.is_image else None)
    batch = make_batch(data)
    assert losses_of(again, batch)["loss"] == losses_of(first, batch)["loss"]
    architecture, _ = network_options(given, data)  # what was recorded describes a network that can be built
    assert architecture == options["architecture"]


def test_a_saved_flow_and_what_contradicts_it(tmp_path):
    first = objective_of(**CONDITIONAL)
    first.pipeline(first.networks).save_pretrained(tmp_path)
    for data, options, message in (
        (IMAGES, {}, "the pretrained network takes samples of shape (1, 4, 4), builtin:digits has (1, 8, 8)"),
        (TINY_IMAGES, {"architecture": "nice"}, "--architecture cannot be changed with --pretrained_model_name_or_"),
        (TINY_IMAGES, {"fixed_prior": True}, "--fixed_prior cannot be changed with --pretrained_model_name_or_path"),
        (
            TINY_IMAGES,
            {"num_scales": 2},
            "--num_scales cannot be changed with --pretrained_model_name_or_path; the sav",
        ),
        (
            dataclasses.replace(TINY_IMAGES, class_names=None),
            {},
            "this model needs labels, but builtin:digits has none",
        ),
        (
            dataclasses.replace(TINY_IMAGES, class_names=("a",)),
            {},
            "the saved model knows 3 classes, builtin:digits has 1",
        ),
        (
            dataclasses.replace(TINY_IMAGES, value_scale=255.0),
            {},
            "has 256 grey levels, which dequantisation would round",
        ),
    ):
        with refused(re.escape(message)):
            reload(tmp_path, FlowArguments(**options), data)
    meant = dataclasses.replace(TINY_IMAGES, value_scale=255.0)
    assert reload(tmp_path, FlowArguments(num_levels=17), meant).num_levels == 17


# context -------------------------------------------------------------------------------------------------------------


class OfTheFirst(FlowObjective):
    """The second number of a vector given the first one, which is told as the context."""

    def context(self, batch):
        return batch["image"][:, :1].flip(0) if "context" not in batch else batch["context"]


def test_a_flow_with_a_context_is_trained_by_giving_it(tmp_path):
    torch.manual_seed(0)
    flow = RealNVP(2, num_couplings=2, hidden_dims=(8,), context_dim=1)
    data = load_data(DataArguments(dataset_name="builtin:toy2d", max_train_samples=64), 0)
    args = TrainingArguments(str(tmp_path), max_train_steps=3, train_batch_size=16, num_threads=1, learning_rate=0.01)
    with refused("the flow has a context, but builtin:toy2d has none; override FlowObjective.context"):
        losses_of(FlowObjective(flow, data.spec), make_batch(data.spec))
    pipeline = train(OfTheFirst(flow, data.spec), data, args)
    weights = flow.layers.couplings[0].network[0].weight
    assert weights.shape == (8, 2) and weights[:, 1].abs().min() > 0
    assert pipeline(context=torch.zeros(5, 1), output_type="np").images.shape == (5, 2)
