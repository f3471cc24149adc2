"""Pipeline of the flows: what every pipeline does, and its own methods against independent formulas."""

from __future__ import annotations

import math
from typing import ClassVar

import pytest
import torch
from torch.distributions import MultivariateNormal, Normal

from hf_genmodels import NICE, FlowPipeline, Glow, PlanarFlow, RealNVP, UserError
from tests.testing_utils.pipelines import (
    ImageInputTesterMixin,
    PipelineTesterMixin,
    SamplingTesterMixin,
    random_images,
)
from tests.testing_utils.refusals import refused

SHAPE = (1, 8, 8)


class TestFlowPipeline(PipelineTesterMixin, SamplingTesterMixin, ImageInputTesterMixin):
    pipeline_class = FlowPipeline
    latent_shape: ClassVar = (64,)


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def pipeline_of(flow) -> FlowPipeline:
    """With weights that are not those of the start, where most flows are the identity."""
    torch.manual_seed(1)
    for parameter in flow.parameters():
        parameter.data += 0.1 * torch.randn_like(parameter)
    pipeline = FlowPipeline(flow.eval())
    pipeline.set_progress_bar_config(disable=True)
    return pipeline


def glow(**options) -> FlowPipeline:
    torch.manual_seed(0)
    return pipeline_of(Glow(1, 8, num_flow_steps=2, num_scales=2, hidden_channels=8, **options))


@pytest.fixture(scope="module")
def pipeline() -> FlowPipeline:
    return glow()


@pytest.fixture(scope="module")
def conditional() -> FlowPipeline:
    return glow(num_classes=3)


@pytest.fixture
def images() -> torch.Tensor:
    return random_images(SHAPE)


# latents -------------------------------------------------------------------------------------------------------------


def test_encode_takes_the_middles_of_the_grey_levels(pipeline, images):
    latents = pipeline.encode(images)
    with torch.no_grad():
        expected = pipeline.flow((images * 255 + 0.5) / 256 - 0.5).latents
    assert latents.shape == (3, 64)
    torch.testing.assert_close(latents, expected)


@pytest.mark.parametrize(
    "flow",
    [
        Glow(1, 8, num_flow_steps=2, num_scales=3, hidden_channels=8, learned_prior=False),
        NICE(1, 8, 256, hidden_dims=(8,)),
        RealNVP(1, 8, 256, num_scales=2, hidden_channels=8, num_blocks=1),
    ],
    ids=lambda flow: type(flow).__name__,
)
def test_reconstructions_are_the_images_themselves(flow, images):
    pipe = pipeline_of(flow)
    reconstructed = pipe.reconstruct(images, output_type="pt").images
    torch.testing.assert_close(reconstructed, images, rtol=0, atol=1e-6)
    assert not torch.allclose(pipe.encode(images), (images * 255 + 0.5).flatten(1) / 256 - 0.5, atol=0.01)


def test_reconstructions_are_rounded_to_the_model_s_grey_levels(images):
    pipe = glow(num_levels=3)
    reconstructed = pipe.reconstruct(images, output_type="pt").images
    torch.testing.assert_close(reconstructed, (images * 2).round() / 2)


@pytest.mark.parametrize("flow", [PlanarFlow(num_flows=4), RealNVP(2, num_couplings=2, hidden_dims=(8,))])
def test_vectors_go_through_as_they_are(flow):
    pipe, vectors = pipeline_of(flow), random_images((2,), count=50)
    with torch.no_grad():
        output = flow(vectors)
    torch.testing.assert_close(pipe.encode(vectors), output.latents)
    torch.testing.assert_close(pipe.decode(output.latents, output_type="pt").images, vectors, rtol=1e-4, atol=1e-4)
    torch.testing.assert_close(pipe.log_likelihood(vectors), output.log_likelihood)


def test_wrong_latents(pipeline):
    for wrong in (torch.zeros(3, 5), torch.zeros(64), 7):
        with pytest.raises(UserError, match=r"latents must be \(batch, 64\), got"):
            pipeline.decode(wrong)


@pytest.mark.parametrize("mode", ["linear", "spherical"])
def test_interpolation_begins_and_ends_at_the_images(mode, pipeline, images):
    path = pipeline.interpolate(images[0], images[1], num_steps=5, mode=mode, output_type="pt").images
    assert path.shape == (5, *SHAPE)
    torch.testing.assert_close(path[[0, -1]], images[:2])
    if mode == "linear":
        middle = pipeline.decode(pipeline.encode(images[:2]).mean(0, keepdim=True), output_type="pt").images
        torch.testing.assert_close(path[2:3], middle)


def test_interpolation_between_more_than_two(pipeline, images):
    with pytest.raises(UserError, match="interpolate goes from one image to one image, got 2 and 1"):
        pipeline.interpolate(images[:2], images[2])


# samples -------------------------------------------------------------------------------------------------------------


def test_samples_are_grey_levels():
    pipe = glow(num_levels=17)
    samples = pipe(batch_size=20, generator=generator(), output_type="pt").images
    levels = samples * 16
    torch.testing.assert_close(levels, levels.round())
    assert len(samples.unique()) > 5


def test_temperature_is_the_standard_deviation_of_the_latents(pipeline):
    latents = torch.randn(4, 64, generator=generator())
    cool = pipeline(4, generator(), temperature=0.5, output_type="pt").images
    assert torch.equal(cool, pipeline.decode(0.5 * latents, output_type="pt").images)
    frozen = pipeline(4, generator(), temperature=0, output_type="pt").images
    assert torch.equal(frozen, frozen[:1].expand_as(frozen))
    for wrong, least in ((-0.1, "at least 0"), (math.nan, "at least 0"), (math.inf, "at least 0 and finite")):
        with pytest.raises(UserError, match=f"temperature must be {least}, got {wrong}"):
            pipeline(temperature=wrong)
    with pytest.raises(UserError, match="temperature is for random latents; leave it out where latents are given"):
        pipeline(latents=latents, temperature=0.5)


# likelihoods ---------------------------------------------------------------------------------------------------------


def gaussian_nice() -> tuple[FlowPipeline, torch.Tensor]:
    """Independent Gaussian channels of one pixel, five levels each: a NICE whose couplings do nothing, z = x / std."""
    flow = NICE(2, 1, num_levels=5, num_couplings=2, hidden_dims=())
    std = torch.tensor([0.3, 0.5])
    with torch.no_grad():
        for parameter in flow.parameters():
            parameter.zero_()
        flow.layers.layers[-1].log_scale.copy_(-std.log())
    pipe = FlowPipeline(flow.eval())
    pipe.set_progress_bar_config(disable=True)
    return pipe, std


def test_likelihood_of_images_approaches_the_probability_of_their_cell():
    """Against the Gaussian's exact mass in a cell: one draw is below it on average, many draws come close."""
    pipe, std = gaussian_nice()
    levels = torch.tensor([[0.0, 4.0], [2.0, 3.0]])
    edges = levels / 5 - 0.5
    law = Normal(torch.zeros(2), std)
    exact = (law.cdf(edges + 0.2) - law.cdf(edges)).log().sum(1)
    images = (levels / 4)[:, :, None, None]
    many = pipe.log_likelihood(images, num_samples=500, generator=generator())
    assert many.tolist() == pytest.approx(exact.tolist(), abs=0.03)
    draws = [
        pipe.log_likelihood(images[:1].expand(4000, 2, 1, 1), num_samples=number, generator=generator()).mean().item()
        for number in (1, 4)
    ]
    assert draws[0] < draws[1] - 0.01 < exact[0].item()
    # the usual bound: the mean log-density over the cell, by quadrature
    middles = edges[0, :, None] + 0.2 * (torch.arange(200) + 0.5) / 200
    bound = (Normal(0.0, std[:, None]).log_prob(middles).mean(1) + math.log(0.2)).sum()
    assert draws[0] == pytest.approx(bound.item(), abs=0.03)


def test_likelihood_of_vectors_is_that_of_the_model():
    flow = RealNVP(2, num_couplings=2, hidden_dims=())
    pipe = pipeline_of(flow)
    vectors = random_images((2,), count=4)
    exact = []
    for vector in vectors:
        jacobian = torch.autograd.functional.jacobian(lambda x: flow(x[None]).latents[0], vector)
        standard = MultivariateNormal(torch.zeros(2), torch.eye(2))
        exact.append((standard.log_prob(flow(vector[None]).latents[0]) + jacobian.det().abs().log()).item())
    assert pipe.log_likelihood(vectors).tolist() == pytest.approx(exact, rel=1e-4)
    assert pipe.bits_per_dim(vectors).tolist() == pytest.approx(
        [-value / (2 * math.log(2)) for value in exact], rel=1e-4
    )


def test_bits_per_dim_are_the_likelihood_in_another_unit(pipeline, images):
    nats = pipeline.log_likelihood(images, 3, generator())
    bits = pipeline.bits_per_dim(images, 3, generator())
    assert nats.shape == (3,) and nats.dtype == torch.float32
    assert bits.tolist() == pytest.approx([-value / math.log(2) / 64 for value in nats.tolist()], rel=1e-5)
    assert not torch.equal(nats, pipeline.log_likelihood(images, 3, generator(1)))
    with pytest.raises(UserError, match="num_samples must be at least 1, got 0"):
        pipeline.log_likelihood(images, 0)


def test_progress_bar_can_be_silenced(images, capsys):
    pipe = FlowPipeline(glow().flow)
    pipe.log_likelihood(images, num_samples=3)
    assert "3/3" in capsys.readouterr().err
    pipe.set_progress_bar_config(disable=True)
    pipe.log_likelihood(images, num_samples=3)
    assert capsys.readouterr().err == ""


# classes -------------------------------------------------------------------------------------------------------------


def test_a_conditional_flow_needs_classes_for_given_images(conditional, images):
    labels = [0, 2, 1]
    latents = conditional.encode(images, class_labels=labels)
    with torch.no_grad():
        expected = conditional.flow((images * 255 + 0.5) / 256 - 0.5, torch.tensor(labels)).latents
    torch.testing.assert_close(latents, expected)
    torch.testing.assert_close(
        conditional.reconstruct(images, output_type="pt", class_labels=labels).images, images, rtol=0, atol=1e-6
    )
    path = conditional.interpolate(images[0], images[1], 4, output_type="pt", class_labels=2).images
    torch.testing.assert_close(path[[0, -1]], images[:2])
    one = conditional.log_likelihood(images, 1, generator(), class_labels=0)
    assert not torch.allclose(one, conditional.log_likelihood(images, 1, generator(), class_labels=1))
    assert conditional.bits_per_dim(images, 1, generator(), 0).tolist() == pytest.approx(
        [-value / math.log(2) / 64 for value in one.tolist()], rel=1e-5
    )
    needed = r"the model is conditional: give class_labels \(num_classes is 3\)"
    for call in (conditional.encode, conditional.log_likelihood, conditional.bits_per_dim, conditional.reconstruct):
        with pytest.raises(UserError, match=needed):
            call(images)
    with pytest.raises(UserError, match=needed):
        conditional.decode(latents)
    with pytest.raises(UserError, match="2 class_labels for 3 images"):
        conditional.encode(images, class_labels=[0, 1])


def test_samples_of_a_conditional_flow(conditional):
    given = conditional(class_labels=[0, 1, 2], generator=generator(), output_type="pt").images
    latents = torch.randn(3, 64, generator=generator())
    assert torch.equal(given, conditional.decode(latents, "pt", class_labels=[0, 1, 2]).images)
    assert not torch.equal(given, conditional(class_labels=[1, 1, 1], generator=generator(), output_type="pt").images)
    frozen = conditional(200, generator(), temperature=0, output_type="pt").images
    classes, counts = frozen.unique(dim=0, return_counts=True)
    assert len(classes) == 3 and counts.min() > 40, "without labels every class is as likely as the others"


def test_classes_of_a_flow_that_has_none(pipeline, images):
    for call in (
        lambda: pipeline(class_labels=0),
        lambda: pipeline.encode(images, class_labels=0),
        lambda: pipeline.decode(torch.zeros(1, 64), class_labels=0),
    ):
        with pytest.raises(UserError, match="class_labels: the model was trained without classes"):
            call()


# classes and contexts of couplings -----------------------------------------------------------------------------------


def test_classes_of_couplings():
    pipeline = pipeline_of(RealNVP(2, num_couplings=2, hidden_dims=(8,), num_classes=3))
    latents = torch.randn(1, 2, generator=generator()).expand(3, 2)
    each = pipeline(latents=latents, class_labels=[0, 1, 2], output_type="pt").images
    assert len({tuple(point.tolist()) for point in each}) == 3
    torch.testing.assert_close(pipeline.encode(each, class_labels=[0, 1, 2]), latents)
    density = pipeline.log_likelihood(each, class_labels=[0, 1, 2])
    assert not torch.allclose(density, pipeline.log_likelihood(each, class_labels=1))
    assert pipeline(class_labels=[2, 2], output_type="pt").images.shape == (2, 2)


@pytest.mark.parametrize("images", [False, True])
def test_contexts(images):
    """One for all, or one for each; every method tells the network the same."""
    small = {"hidden_channels": 4, "num_blocks": 0, "num_scales": 1, "num_levels": 256}
    flow = RealNVP(1, 4, context_dim=2, **small) if images else RealNVP(3, num_couplings=2, context_dim=2)
    pipeline = pipeline_of(flow)
    assert pipeline.context_dim == 2
    each = torch.tensor([[0.0, 1.0], [2.0, -1.0], [0.0, 1.0]])
    latents = torch.randn(1, pipeline.latent_dim, generator=generator()).expand(3, -1)
    made = pipeline(latents=latents, context=each, output_type="pt").images
    assert torch.equal(made[0], made[2]) and not torch.allclose(made[0], made[1], atol=1e-3)
    assert torch.equal(pipeline.decode(latents, "pt", context=each).images, made)
    of_first = pipeline(latents=latents, context=each[0], output_type="pt").images
    assert torch.equal(of_first, made[[0, 0, 0]])
    assert pipeline(context=each, output_type="pt").images.shape == made.shape
    torch.testing.assert_close(pipeline.reconstruct(made, "pt", context=each).images, made)
    density = pipeline.log_likelihood(made, generator=generator(), context=each)
    bits = pipeline.bits_per_dim(made, generator=generator(), context=each)
    torch.testing.assert_close(bits, -density / pipeline.latent_dim / math.log(2))
    assert not torch.allclose(density[1], pipeline.log_likelihood(made, generator=generator(), context=each[0])[1])
    path = pipeline.interpolate(made[:1], made[1:2], num_steps=3, output_type="pt", context=each[0]).images
    torch.testing.assert_close(path[0], made[0])


@pytest.mark.parametrize(
    ("dim", "context", "message"),
    [
        (2, None, "this flow needs a context: 2 numbers"),
        (2, torch.zeros(3), r"context must be \(2,\) or \(4, 2\), got \(1, 3\)"),
        (2, torch.zeros(3, 2), r"context must be \(2,\) or \(4, 2\), got \(3, 2\)"),
        (None, torch.zeros(2), "this flow has no context; leave context out"),
    ],
)
def test_contexts_that_do_not_fit(dim, context, message):
    pipeline = pipeline_of(RealNVP(3, num_couplings=2, context_dim=dim))
    with refused(message):
        pipeline(batch_size=4, context=context)
