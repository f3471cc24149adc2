"""Pipeline of GANs: what every pipeline does, and its own methods on generators whose latents can be read off."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from scipy.stats import chisquare, kstest, truncnorm

from hf_genmodels import (
    BEGANGenerator,
    GANPipeline,
    MLPEncoder,
    MLPGenerator,
    SNGANGenerator,
    UserError,
)
from tests.testing_utils.pipelines import (
    ImageInputTesterMixin,
    PipelineTesterMixin,
    SamplingTesterMixin,
    tiny_pipeline,
)
from tests.testing_utils.refusals import refused


class TestGANPipeline(PipelineTesterMixin, SamplingTesterMixin, ImageInputTesterMixin):
    pipeline_class = GANPipeline

    def read(self, pipeline, images):
        return pipeline.invert(images, num_steps=5, generator=generator())


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def linear(weight: list[list[float]], bias: list[float] | None = None, num_classes: int | None = None) -> GANPipeline:
    """x = W z + b, or W [z, one-hot class] + b, for vectors."""
    rows, columns = len(weight), len(weight[0])
    network = MLPGenerator(
        columns - (num_classes or 0),
        rows,
        None,
        hidden_dims=(),
        conditioning="none" if num_classes is None else "concat",
        num_classes=num_classes,
    )
    (dense,) = (module for module in network.modules() if isinstance(module, torch.nn.Linear))
    with torch.no_grad():
        dense.weight.copy_(torch.tensor(weight))
        dense.bias.copy_(torch.tensor(bias or [0.0] * rows))
    pipeline = GANPipeline(network.eval(), value_scale=1.0)
    pipeline.set_progress_bar_config(disable=True)
    return pipeline


def transparent(latent_dim: int = 2, num_classes: int | None = None) -> GANPipeline:
    """A generator whose sample is its input: the latent, then the one-hot class."""
    return linear(torch.eye(latent_dim + (num_classes or 0)).tolist(), num_classes=num_classes)


def shown(output) -> torch.Tensor:
    return torch.as_tensor(output.images)


# other generators ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "network",
    [
        BEGANGenerator(latent_dim=2, out_channels=3, sample_size=8, width=4),
        SNGANGenerator(latent_dim=2, out_channels=3, sample_size=8, block_out_channels=(4, 4)),
        SNGANGenerator(2, 3, 8, (4, 4), conditioning="batch_norm", num_classes=5),
    ],
    ids=["began", "sngan", "conditional-sngan"],
)
def test_every_generator_samples_and_reloads(network, tmp_path):
    pipeline = GANPipeline(network.eval())
    assert pipeline.sample_shape == (3, 8, 8)
    images = pipeline(batch_size=3, generator=generator(), output_type="pt").images
    assert images.shape == (3, 3, 8, 8) and images.min() >= 0 and images.max() <= 1
    pipeline.save_pretrained(tmp_path)
    loaded = GANPipeline.from_pretrained(tmp_path)
    assert type(loaded.generator) is type(network)
    assert torch.equal(loaded(batch_size=3, generator=generator(), output_type="pt").images, images)


def test_a_network_that_is_no_generator_is_refused():
    with pytest.raises(
        UserError,
        match="of GANPipeline must be a generator, but the configuration of MLPEncoder has no out_",
    ):
        GANPipeline(MLPEncoder())


# truncation ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("threshold", [0.02, 0.7, 3.0])
def test_truncated_samples_follow_the_truncated_normal(threshold):
    drawn = shown(transparent()(batch_size=5000, generator=generator(), truncation=threshold))
    assert drawn.abs().max() <= threshold
    for column in drawn.T:
        assert kstest(column.numpy(), truncnorm(-threshold, threshold).cdf).pvalue > 1e-3


def test_a_wide_truncation_changes_nothing():
    pipeline = transparent()
    plain = shown(pipeline(batch_size=100, generator=generator()))
    torch.testing.assert_close(
        shown(pipeline(batch_size=100, generator=generator(), truncation=50.0)), plain, atol=1e-3, rtol=0
    )


def test_truncated_samples_can_be_drawn_alone():
    seeds = [generator(seed) for seed in (5, 6)]
    together = shown(transparent()(batch_size=2, generator=seeds, truncation=0.5))
    torch.testing.assert_close(together[1:], shown(transparent()(generator=generator(6), truncation=0.5)))


@pytest.mark.parametrize("wrong", [0, -1.0, math.nan])
def test_impossible_truncation(wrong):
    with pytest.raises(UserError, match="truncation must be above 0, got"):
        transparent()(truncation=wrong)
    with pytest.raises(UserError, match="truncation is for random latents"):
        transparent()(latents=torch.zeros(1, 2), truncation=0.5)


# classes -------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("labels", "expected"),
    [(2, [2, 2, 2]), ([1], [1, 1, 1]), ((0, 2, 1), [0, 2, 1]), (torch.tensor([2, 2, 0]), [2, 2, 0])],
)
def test_class_labels_are_one_for_all_or_one_for_each(labels, expected):
    samples = shown(transparent(2, 3)(batch_size=3, generator=generator(), class_labels=labels))
    assert samples[:, 2:].tolist() == torch.eye(3)[expected].tolist()
    latents = torch.randn(3, 2, generator=generator())
    assert torch.equal(samples[:, :2], latents)
    given = shown(transparent(2, 3)(latents=latents, class_labels=labels))
    assert torch.equal(given, samples)


def test_as_many_images_as_class_labels():
    assert len(transparent(2, 3)(class_labels=[0, 1, 2, 2]).images) == 4
    assert len(transparent(2, 3)(class_labels=1).images) == 1


def test_classes_left_out_are_drawn_alike_often():
    pipeline = transparent(2, 4)
    samples = shown(pipeline(batch_size=4000, generator=generator()))
    assert chisquare(samples[:, 2:].sum(0).numpy()).pvalue > 1e-3
    assert torch.equal(shown(pipeline(batch_size=4000, generator=generator())), samples)
    assert torch.equal(
        shown(pipeline(batch_size=4000, generator=generator(), class_labels=0))[:, :2], samples[:, :2]
    ), "the latents of a seed depend on whether classes are given"
    alone = [shown(pipeline(generator=generator(seed))) for seed in range(20)]
    together = shown(pipeline(batch_size=20, generator=[generator(seed) for seed in range(20)]))
    torch.testing.assert_close(together, torch.cat(alone))
    assert len(together[:, 2:].unique(dim=0)) == 4


@pytest.mark.parametrize(
    ("labels", "message"),
    [
        (3, r"class_labels must be 0 to 2 \(num_classes is 3\), got 3"),
        ([0, -1], r"class_labels must be 0 to 2 \(num_classes is 3\), got 0 -1"),
        ([0, 1], "2 class_labels for 3 images"),
        ([0.5], "one whole number"),
        (True, "one whole number"),
        ("3", "one whole number"),
        (["a"], "one whole number"),
        ([[0], [1, 2]], "one whole number"),
        (2**70, "one whole number"),
        (1j, "one whole number"),
        ([], "one whole number"),
    ],
)
def test_impossible_class_labels(labels, message):
    with pytest.raises(UserError, match=message):
        transparent(2, 3)(batch_size=3, class_labels=labels)


def test_class_labels_of_an_unconditional_generator():
    with pytest.raises(UserError, match=r"trained without classes \(num_classes is None\)"):
        transparent()(class_labels=0)


def test_methods_on_given_latents_need_class_labels():
    pipeline, vector = transparent(2, 3), torch.ones(2)
    for call in (
        lambda: pipeline.interpolate(vector, vector),
        lambda: pipeline.combine([vector]),
        lambda: pipeline.invert(torch.zeros(5)),
    ):
        with pytest.raises(UserError, match=r"conditional: give class_labels \(num_classes is 3\)"):
            call()
    assert shown(pipeline.combine([vector], class_labels=1)).tolist() == [[1, 1, 0, 1, 0]]
    path = shown(pipeline.interpolate(vector, 2 * vector, num_steps=3, class_labels=[0, 1, 2]))
    assert path[:, 2:].tolist() == torch.eye(3).tolist()


# paths and arithmetic ------------------------------------------------------------------------------------------------


def test_interpolation_of_latents():
    pipeline = transparent()
    a, b = torch.tensor([2.0, 0.0]), torch.tensor([[0.0, 2.0]])
    round_ = shown(pipeline.interpolate(a, b, num_steps=3))
    torch.testing.assert_close(round_, torch.tensor([[2.0, 0.0], [math.sqrt(2), math.sqrt(2)], [0.0, 2.0]]))
    straight = shown(pipeline.interpolate(a, b, num_steps=3, mode="linear"))
    torch.testing.assert_close(straight, torch.tensor([[2.0, 0.0], [1.0, 1.0], [0.0, 2.0]]))
    images = tiny_pipeline("GANPipeline")
    ends = images(latents=torch.stack([a, b[0]]), output_type="pt").images
    path = images.interpolate(a, b, output_type="pt").images
    assert path.shape == (8, 1, 8, 8)
    torch.testing.assert_close(path[[0, -1]], ends)
    with pytest.raises(UserError, match=r"b: latents must be \(n, 2\), got \(3,\)"):
        pipeline.interpolate(a, torch.zeros(3))
    with pytest.raises(UserError, match="from one latent to one latent, got 1 and 4"):
        pipeline.interpolate(a, torch.zeros(4, 2))


def test_latents_may_be_arrays_or_lists():
    pipeline, rows = transparent(), [[2.0, 0.0], [0.5, -1.0]]
    flipped = np.array(rows[::-1])[::-1]  # which torch does not take as it is
    for latents in (rows, np.array(rows), flipped, np.array(rows, np.float32)):
        assert shown(pipeline(latents=latents)).tolist() == rows
        assert shown(pipeline.interpolate(latents[0], latents[1], num_steps=2)).tolist() == rows
        assert shown(pipeline.combine([latents[0]], [latents[1]])).tolist() == [[1.5, 1.0]]


@pytest.mark.parametrize("wrong", ["ab", ["a", "b"], [[1.0], [1.0, 2.0]], None, np.array(["a"])], ids=str)
def test_latents_that_are_no_numbers(wrong):
    pipeline, latent = transparent(), torch.zeros(2)
    calls = [lambda: pipeline.interpolate(latent, wrong), lambda: pipeline.combine([latent], [wrong])]
    calls += [] if wrong is None else [lambda: pipeline(latents=wrong)]
    for call in calls:
        with refused("latents must be a tensor or an array of numbers, got "):
            call()
    with pytest.raises(UserError, match=r"latents must be \(batch, 2\), got"):
        pipeline(latents=0.5)


def test_arithmetic_adds_and_subtracts_the_means_of_groups():
    pipeline = transparent()
    smiling_women = torch.tensor([[1.0, 2.0], [3.0, 4.0], [5.0, 9.0]])
    neutral_women, neutral_men = torch.tensor([[1.0, 1.0], [0.0, 3.0]]), torch.tensor([-2.0, 0.5])
    result = pipeline.combine(plus=[smiling_women, neutral_men], minus=[neutral_women])
    assert shown(result).tolist() == [pytest.approx([3 - 2 - 0.5, 5 + 0.5 - 2])]
    assert shown(pipeline.combine(plus=[smiling_women])).tolist() == [pytest.approx([3.0, 5.0])]
    assert tiny_pipeline("GANPipeline").combine([neutral_men]).images[0].size == (8, 8)
    for wrong in ([], smiling_women, smiling_women.numpy()):
        with pytest.raises(UserError, match="lists of groups of latents"):
            pipeline.combine(plus=wrong)
    with pytest.raises(UserError, match=r"minus: latents must be \(n, 2\), got \(1, 3\)"):
        pipeline.combine([neutral_men], [torch.zeros(1, 3)])


# inversion -----------------------------------------------------------------------------------------------------------

TALL = [[1.0, 0.5], [-0.3, 0.8], [0.2, -1.1]]


def test_inversion_finds_a_known_latent():
    pipeline = linear(TALL, [0.1, -0.2, 0.3])
    latents = torch.tensor([[0.5, -1.0], [1.2, 0.3], [0.0, 0.1]])
    vectors = shown(pipeline(latents=latents))
    with torch.no_grad():
        found = pipeline.invert(vectors, generator=generator())
    torch.testing.assert_close(found, latents, atol=1e-3, rtol=0)
    assert found.dtype == torch.float32 and not found.requires_grad
    assert torch.equal(pipeline.invert(vectors, generator=generator()), found)
    weights = list(pipeline.generator.parameters())
    assert all(weight.grad is None and weight.requires_grad for weight in weights)
    assert torch.equal(weights[0], torch.tensor(TALL))


def test_inversion_stays_in_the_ball_of_radius_sqrt_latent_dim():
    """For orthonormal columns the best latent in the ball is the free one, shortened."""
    pipeline = linear([[0.6, -0.8], [0.8, 0.6]])
    latents = torch.tensor([[3.0, -4.0], [0.5, 0.5]])
    found = pipeline.invert(shown(pipeline(latents=latents)), generator=generator())
    expected = torch.stack([latents[0] * math.sqrt(2) / 5, latents[1]])
    torch.testing.assert_close(found, expected, atol=1e-3, rtol=0)
    for steps in (1, 2, 3):
        norms = pipeline.invert(torch.full((50, 2), 1e3), num_steps=steps, generator=generator()).norm(dim=1)
        assert norms.max() <= math.sqrt(2) + 1e-6


def test_restarts_find_the_better_minimum():
    """The sample (|z|, 0.1 max(z, 0)) has a second minimum at the latent's negative."""
    network = MLPGenerator(1, 2, None, hidden_dims=(2,))
    first, second = (module for module in network.modules() if isinstance(module, torch.nn.Linear))
    with torch.no_grad():
        for dense, weight in ((first, [[1.0], [-1.0]]), (second, [[1.0, 1.0], [0.1, 0.0]])):
            dense.weight.copy_(torch.tensor(weight))
            dense.bias.zero_()
    pipeline = GANPipeline(network, value_scale=1.0)
    pipeline.set_progress_bar_config(disable=True)
    vectors = torch.tensor([[0.8, 0.08]])
    single = torch.cat([pipeline.invert(vectors, generator=generator(seed)) for seed in range(10)])
    assert 1 <= (single < -0.7).sum() <= 9
    found = pipeline.invert(vectors, num_restarts=16, generator=generator())
    torch.testing.assert_close(found, torch.tensor([[0.8]]), atol=1e-2, rtol=0)


def test_inversion_of_a_conditional_generator():
    weight = [[*row, *classes] for row, classes in zip(TALL, [[1.0, -1.0], [0.0, 2.0], [3.0, 0.0]], strict=True)]
    pipeline = linear(weight, num_classes=2)
    latents = torch.tensor([[0.5, -1.0], [1.2, 0.3]])
    vectors = shown(pipeline(latents=latents, class_labels=[0, 1]))
    found = pipeline.invert(vectors, num_restarts=2, class_labels=[0, 1], generator=generator())
    torch.testing.assert_close(found, latents, atol=1e-3, rtol=0)
    swapped = pipeline.invert(vectors, num_restarts=2, class_labels=[1, 0], generator=generator())
    assert (swapped - latents).norm(dim=1).min() > 0.1


def test_inversion_brings_images_nearer():
    pipeline = tiny_pipeline("GANPipeline")
    images = pipeline(latents=torch.tensor([[1.0, -0.5], [0.2, 0.9]]), output_type="pt").images

    def error(num_steps: int) -> float:
        latents = pipeline.invert(images, num_steps=num_steps, num_restarts=4, generator=generator())
        return (pipeline(latents=latents, output_type="pt").images - images).square().sum().item()

    assert error(200) < 0.01 * error(1)


@pytest.mark.parametrize("wrong", [{"num_steps": 0}, {"num_restarts": 0}, {"learning_rate": 0.0}])
def test_impossible_inversions(wrong):
    with pytest.raises(UserError, match=f"{next(iter(wrong))} must be"):
        transparent().invert(torch.zeros(2), **wrong)


def test_inversion_shows_its_progress(capsys):
    pipeline = GANPipeline(MLPGenerator(2, 2, None, hidden_dims=()), value_scale=1.0)
    pipeline.invert(torch.zeros(2), num_steps=3)
    assert "3/3" in capsys.readouterr().err
