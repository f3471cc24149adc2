"""Pipeline of InfoGAN: codes that are asked for, varied and read off, on a generator whose sample is its input."""

from __future__ import annotations

import pytest
import torch

from hf_genmodels import InfoGANDiscriminator, InfoGANPipeline, MLPGenerator
from tests.testing_utils.pipelines import ImageInputTesterMixin, PipelineTesterMixin, SamplingTesterMixin
from tests.testing_utils.refusals import refused


class TestInfoGANPipeline(PipelineTesterMixin, SamplingTesterMixin, ImageInputTesterMixin):
    pipeline_class = InfoGANPipeline

    def read(self, pipeline, images):
        return pipeline.find_codes(images).mean


def seeded(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def transparent(latent_dim: int = 3, num_categories: int | None = 2, num_codes: int = 2) -> InfoGANPipeline:
    """The sample is the latents and the one-hot category."""
    dim = latent_dim + (num_categories or 0)
    conditioning = "none" if num_categories is None else "concat"
    generator = MLPGenerator(latent_dim, dim, hidden_dims=(), conditioning=conditioning, num_classes=num_categories)
    (dense,) = (module for module in generator.modules() if isinstance(module, torch.nn.Linear))
    with torch.no_grad():
        dense.weight.copy_(torch.eye(dim))
        dense.bias.zero_()
    discriminator = InfoGANDiscriminator(dim, None, num_categories, num_codes, hidden_dims=(4,))
    return InfoGANPipeline(generator.eval(), discriminator.eval(), value_scale=1.0)


def test_codes_take_their_place_among_the_latents_that_a_seed_gives():
    pipe = transparent()
    free = pipe(batch_size=4, generator=seeded(), output_type="pt").images
    fixed = pipe(batch_size=4, codes=[1.5, -1], generator=seeded(), output_type="pt").images
    assert torch.equal(fixed[:, :2], torch.tensor([[1.5, -1.0]]).expand(4, 2))
    assert torch.equal(fixed[:, 2:], free[:, 2:]) and not torch.equal(fixed[:, :2], free[:, :2])
    each = torch.arange(8.0).reshape(4, 2)
    images = pipe(codes=each, class_labels=1, output_type="pt").images
    assert torch.equal(images[:, :2], each) and torch.equal(images[:, 3:], torch.tensor([[0.0, 1.0]]).expand(4, 2))
    assert pipe(codes=[0, 0], class_labels=[0, 1, 1], output_type="pt").images.shape == (3, 5)
    cut = pipe(batch_size=64, codes=[9, 9], truncation=0.1, generator=seeded(), output_type="pt").images
    assert (cut[:, :2] == 9).all() and cut[:, 2].abs().max() <= 0.1


def test_one_code_alone_changes_along_a_row():
    pipe = transparent()
    rows = pipe.traverse(code=1, num_rows=3, num_steps=5, span=2, generator=seeded(), output_type="pt").images
    rows = rows.reshape(3, 5, 5)
    assert torch.equal(rows[:, :, 1], torch.linspace(-2, 2, 5).expand(3, 5))
    for column in (0, 2):
        assert (rows[:, :, column] == rows[:, :1, column]).all() and len(rows[:, 0, column].unique()) == 3
    assert rows[:, :, 3:].argmax(2).tolist() == [[0] * 5, [1] * 5, [0] * 5]
    rows = pipe.traverse(num_rows=4, generator=seeded(), output_type="pt").images.reshape(4, 2, 5)
    assert rows[:, :, 3:].argmax(2).tolist() == [[0, 1]] * 4
    assert torch.equal(rows[:, 0, :3], rows[:, 1, :3])
    assert transparent(2, None, 1).traverse(code=0, output_type="pt").images.shape == (64, 2)


def test_find_codes_is_what_the_discriminator_says():
    pipe, sample = transparent(), torch.randn(6, 5)
    found, output = pipe.find_codes(sample), pipe.discriminator(sample)
    torch.testing.assert_close(found.probabilities, output.class_logits.softmax(1))
    torch.testing.assert_close(found.mean, output.code_mean)
    torch.testing.assert_close(found.std, output.code_log_std.exp())
    assert transparent(num_codes=0).find_codes(sample).mean is None
    assert transparent(5, None).find_codes(sample).probabilities is None


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: transparent()(codes=[1.0]), r"codes must be \(2,\) for all samples or \(1, 2\), got \(1,\)"),
        (lambda: transparent()(batch_size=3, codes=torch.zeros(2, 2)), r"or \(3, 2\), got \(2, 2\)"),
        (lambda: transparent()(codes=[float("nan"), 0]), "codes: there are numbers that are not finite"),
        (lambda: transparent().traverse(code=2), r"code must be 0 to 1 \(num_codes is 2\), got 2"),
        (lambda: transparent().traverse(code=0, num_steps=1), "num_steps must be at least 2, got 1"),
        (
            lambda: transparent()(latents=torch.zeros(1, 3), codes=[0, 0], truncation=0.5),
            "truncation is for random latents",
        ),
        (
            lambda: InfoGANPipeline(MLPGenerator(1, 2), InfoGANDiscriminator(2, None, None, 2)),
            "InfoGANPipeline: 2 continuous codes do not fit into 1 latents",
        ),
        (
            lambda: InfoGANPipeline(MLPGenerator(2, 3), InfoGANDiscriminator(2, None, None, 2)),
            r"the generator makes samples of shape \(3,\), the discriminator takes \(2,\)",
        ),
    ],
)
def test_refusals(call, message):
    with refused(message):
        call()
