"""Pipeline of the stationary texture: what every pipeline does, and its exemplar."""

from __future__ import annotations

import pytest
import torch

from hf_genmodels import StationaryTexture, TexturePipeline, UserError
from hf_genmodels.models.texture import periodic_component
from tests.testing_utils.pipelines import PipelineTesterMixin, SamplingTesterMixin, random_images, tiny_pipeline


class TestTexturePipeline(PipelineTesterMixin, SamplingTesterMixin):
    pipeline_class = TexturePipeline
    latent_shape = (8, 8)


def test_exemplar_is_the_periodic_component_in_the_range_of_images():
    image = random_images((3, 8, 8), 1)[0]
    texture = StationaryTexture(3, 8)
    texture.set_exemplar(image * 2 - 1)
    expected = periodic_component(image).clamp(0, 1)
    torch.testing.assert_close(TexturePipeline(texture).exemplar.double(), expected, rtol=0, atol=1e-6)


@pytest.mark.parametrize("method", ["adsn", "random_phase"])
def test_methods(method):
    pipe = tiny_pipeline("TexturePipeline", (3, 8, 8))
    latents = torch.randn(2, 8, 8, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        expected = ((pipe.texture(latents, method).sample + 1) / 2).clamp(0, 1)
    assert torch.equal(pipe(latents=latents, method=method, output_type="pt").images, expected)
    drawn = pipe(batch_size=2, generator=torch.Generator().manual_seed(0), method=method, output_type="pt").images
    assert torch.equal(drawn, expected)


def test_unknown_method():
    with pytest.raises(UserError, match="method 'spot' is unknown; choose one of: adsn, random_phase"):
        tiny_pipeline("TexturePipeline")(method="spot")
