"""Pipeline of the adversarial VAE."""

from __future__ import annotations

import pytest
import torch

from hf_genmodels import AVAEPipeline, MLPEncoder, MLPGenerator, UserError
from hf_genmodels.data import DataArguments
from hf_genmodels.evaluation import evaluate_pipeline
from tests.testing_utils.pipelines import (
    ImageInputTesterMixin,
    PipelineTesterMixin,
    SamplingTesterMixin,
    random_images,
    tiny_pipeline,
)


class TestAVAEPipeline(PipelineTesterMixin, SamplingTesterMixin, ImageInputTesterMixin):
    pipeline_class = AVAEPipeline

    def test_given_latents_are_used(self):
        pipeline = self.tiny()
        drawn = pipeline(batch_size=3, generator=generator(), output_type="pt").images
        source = generator()
        latents, xi = torch.randn(3, 2, generator=source), torch.randn(3, 3, generator=source)
        assert torch.equal(self.sample(pipeline, latents=latents, xi=xi), drawn)


@pytest.fixture
def pipeline() -> AVAEPipeline:
    return tiny_pipeline("AVAEPipeline")


@pytest.fixture
def images() -> torch.Tensor:
    return random_images((1, 8, 8))


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def transparent(xi_dim: int) -> AVAEPipeline:
    """The encoder's mean and the decoder's sample are their input; the generator shows z and what xi adds up to."""
    encoder = MLPEncoder(2, latent_dim=2, hidden_dims=(), shared_log_std=True)
    decoder, network = (MLPGenerator(dim, 2, None, hidden_dims=()) for dim in (2, 2 + xi_dim))
    with torch.no_grad():
        for dense in (m for net in (encoder, decoder, network) for m in net.modules()):
            if isinstance(dense, torch.nn.Linear):
                dense.weight.fill_(1.0)
                dense.weight[:, :2] = torch.eye(2)
                dense.bias.zero_()
        encoder.log_std.copy_(torch.tensor([0.1, 0.5]).log())
    return AVAEPipeline(encoder, decoder, network, value_scale=1.0)


def shown(output) -> torch.Tensor:
    return torch.as_tensor(output.images)


def test_samples_of_both_networks(pipeline):
    latents, xi = torch.randn(3, 2, generator=generator()), torch.randn(3, 3, generator=generator(1))
    with torch.no_grad():
        sharp = pipeline.generator(torch.cat([latents, xi], 1)).sample
        blurry = pipeline.decoder(latents).sample
    for call in (pipeline, pipeline.decode):
        made = call(latents=latents, xi=xi, output_type="pt").images
        torch.testing.assert_close(made, (sharp + 1) / 2)
        assert torch.equal(call(latents=latents, network="decoder", output_type="pt").images, (blurry + 1) / 2)
    drawn = pipeline(batch_size=3, generator=generator(), network="decoder", output_type="pt").images
    assert torch.equal(drawn, (blurry + 1) / 2)
    assert pipeline.xi_dim == 3


def test_decode_draws_xi_from_its_generator():
    pipe, latents = transparent(xi_dim=1), torch.zeros(20_000, 2)
    drawn = shown(pipe.decode(latents, generator=generator()))
    assert torch.equal(drawn[:, 0], drawn[:, 1]), "xi is one number, added to both"
    assert drawn.mean().item() == pytest.approx(0, abs=0.03) and drawn.std().item() == pytest.approx(1, rel=0.03)
    assert torch.equal(shown(pipe.decode(latents, generator=generator())), drawn)
    one = shown(pipe.decode(latents[:3], xi=torch.tensor([[0.7]])))
    assert one.tolist() == [pytest.approx([0.7, 0.7])] * 3


def test_encode_gives_the_mean_or_draws_around_it():
    pipe, vector = transparent(xi_dim=1), torch.tensor([[0.3, -0.2]])
    assert torch.equal(pipe.encode(vector), vector)
    draws = pipe.encode(vector.expand(20_000, 2), sample=True, generator=generator())
    assert draws.std(0).tolist() == pytest.approx([0.1, 0.5], rel=0.02)
    assert draws.mean(0).tolist() == pytest.approx([0.3, -0.2], abs=0.02)


def test_reconstructions_of_an_image_follow_each_other_and_differ_in_xi():
    pipe, vectors = transparent(xi_dim=1), torch.tensor([[0.0, 10.0], [100.0, 200.0]])
    restored = shown(pipe.reconstruct(vectors, num_samples=4000, generator=generator())).unflatten(0, (2, 4000))
    added = restored - vectors[:, None]
    torch.testing.assert_close(added[..., 0], added[..., 1], atol=1e-4, rtol=0)
    assert added.std(1).flatten().tolist() == pytest.approx([1.0] * 4, rel=0.05)
    assert torch.equal(
        shown(pipe.reconstruct(vectors, num_samples=4000, generator=generator())), restored.flatten(0, 1)
    )


def test_reconstructions_differ_in_z_where_it_is_drawn():
    pipe, vectors = transparent(xi_dim=0), torch.tensor([[0.0, 10.0], [100.0, 200.0]])
    for network in ("generator", "decoder"):
        drawn = shown(
            pipe.reconstruct(vectors, num_samples=4000, sample=True, network=network, generator=generator())
        ).unflatten(0, (2, 4000))
        assert drawn.std(1).flatten().tolist() == pytest.approx([0.1, 0.5] * 2, rel=0.05)
        assert drawn.mean(1).flatten().tolist() == pytest.approx(vectors.flatten().tolist(), abs=0.05)


@pytest.mark.parametrize(("xi_dim", "network"), [(0, "generator"), (0, "decoder"), (1, "decoder")])
def test_reconstructions_that_would_be_alike_are_refused(xi_dim, network):
    pipe, vectors = transparent(xi_dim), torch.tensor([[0.0, 10.0], [100.0, 200.0]])
    assert torch.equal(shown(pipe.reconstruct(vectors, network=network)), vectors)
    with pytest.raises(UserError, match=r"num_samples=3 reconstructions .* would all be alike; use sample=True"):
        pipe.reconstruct(vectors, num_samples=3, network=network)


def test_samples_and_reconstructions_with_and_without_xi(images):
    pipe = transparent(xi_dim=0)
    seeds = [generator(seed) for seed in range(4)]
    assert pipe.xi_dim == 0 and pipe(batch_size=4, generator=seeds).images.shape == (4, 2)
    with_xi = tiny_pipeline("AVAEPipeline").reconstruct(images, num_samples=3, output_type="pt").images
    assert with_xi.unflatten(0, (3, 3)).std(1).amax((1, 2, 3)).min() > 1e-4


def test_the_decoders_reconstruction_is_the_vaes(pipeline, images):
    with torch.no_grad():
        decoded = pipeline.decoder(pipeline.encoder(2 * images - 1).mean).sample
    restored = pipeline.reconstruct(images, network="decoder", output_type="pt").images
    assert torch.equal(restored, (decoded + 1) / 2)


def test_one_xi_along_a_path():
    pipe, a, b = transparent(xi_dim=1), torch.tensor([2.0, 0.0]), torch.tensor([0.0, 2.0])
    path = shown(pipe.interpolate(a, b, num_steps=3, mode="linear", generator=generator()))
    added = path - torch.tensor([[2.0, 0.0], [1.0, 1.0], [0.0, 2.0]])
    torch.testing.assert_close(added, added[:1, :1].expand(3, 2))
    assert added[0, 0].abs() > 1e-3
    given = shown(pipe.interpolate(a, b, num_steps=3, mode="linear", xi=torch.tensor([[0.5]])))
    torch.testing.assert_close(given, path - added + 0.5)
    blurry = shown(pipe.interpolate(a, b, num_steps=3, mode="linear", network="decoder"))
    torch.testing.assert_close(blurry, path - added)


def test_what_is_refused(pipeline, images):
    latents = torch.zeros(3, 2)
    for call, message in (
        (lambda: pipeline(network="encoder"), "network must be 'generator' or 'decoder', got 'encoder'"),
        (lambda: pipeline.reconstruct(images, network="vae"), "network must be 'generator' or 'decoder', got 'vae'"),
        (lambda: pipeline.interpolate(images[0], images[1], network=""), "network must be 'generator' or 'decoder'"),
        (lambda: pipeline(network="decoder", xi=torch.zeros(1, 3)), "network='decoder' takes no xi"),
        (lambda: pipeline.decode(latents, xi=torch.zeros(3, 2)), r"xi must be \(3, 3\) or \(1, 3\), got \(3, 2\)"),
        (lambda: pipeline.decode(latents, xi=torch.zeros(2, 3)), r"xi must be \(3, 3\) or \(1, 3\), got \(2, 3\)"),
        (lambda: pipeline.reconstruct(images, num_samples=0), "num_samples must be at least 1, got 0"),
    ):
        with pytest.raises(UserError, match=message):
            call()


def test_networks_that_do_not_fit():
    encoder = MLPEncoder(2, latent_dim=2, shared_log_std=True)
    with pytest.raises(UserError, match=r"AVAEPipeline: the encoder's latents have dimension 2, those of .* 1"):
        AVAEPipeline(encoder, MLPGenerator(2, 2), MLPGenerator(1, 2))
    with pytest.raises(UserError, match=r"AVAEPipeline: the encoder's latents have dimension 2, those of .* 3"):
        AVAEPipeline(encoder, MLPGenerator(3, 2), MLPGenerator(4, 2))
    with pytest.raises(UserError, match="AVAEPipeline: the encoder is deterministic"):
        AVAEPipeline(MLPEncoder(2, latent_dim=2), MLPGenerator(2, 2), MLPGenerator(4, 2))


def test_evaluation_of_random_reconstructions_repeats_itself(pipeline):
    data = DataArguments(dataset_name="builtin:digits")

    def mse(seed: int) -> float:
        (result,) = evaluate_pipeline(
            pipeline,
            data,
            split="test",
            metrics=["mse"],
            num_samples=20,
            batch_size=8,
            extractor=None,
            seed=seed,
            progress=False,
        )
        return result["value"]

    assert mse(0) == mse(0) != mse(1)
