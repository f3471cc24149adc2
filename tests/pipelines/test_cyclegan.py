"""Pipeline of CycleGAN: both directions, one alone, units of both domains, tiles, one-line errors."""

from __future__ import annotations

import json

import numpy as np
import pytest
import torch
from PIL import Image

from hf_genmodels import AutoPipeline, CycleGANPipeline, ResNetTranslator, UNetTranslator, UserError
from tests.testing_utils.refusals import refused


def tiny(both: bool = True, **options) -> CycleGANPipeline:
    """From grey to RGB by a residual translator, back by a U-Net."""
    torch.manual_seed(0)
    there = ResNetTranslator(1, 3, 8, width=2, num_blocks=1)
    back = UNetTranslator(3, 1, 8, width=2, num_downs=3, norm="instance", dropout=0.0)
    for network in (there, back):
        for parameter in network.parameters():
            torch.nn.init.normal_(parameter, std=0.3)
    pipeline = CycleGANPipeline(there.eval(), back.eval() if both else None, **options)
    pipeline.set_progress_bar_config(disable=True)
    return pipeline


def images(channels: int, height: int = 8, width: int = 16) -> torch.Tensor:
    generator = torch.Generator().manual_seed(0)
    return torch.randint(256, (3, channels, height, width), generator=generator) / 255


def test_either_direction():
    pipeline = tiny()
    for direction, network, channels in (("a_to_b", pipeline.generator_ab, 1), ("b_to_a", pipeline.generator_ba, 3)):
        sample = images(channels)
        with torch.no_grad():
            expected = (network(sample * 2 - 1).sample + 1) / 2
        made = pipeline(sample, direction=direction, output_type="pt").images
        assert made.shape == (3, 4 - channels, 8, 16) and expected.std() > 0.02
        torch.testing.assert_close(made, expected)
        assert torch.equal(pipeline(sample, direction, output_type="pt", return_dict=False)[0], made)
    default = pipeline(images(1), output_type="pt").images
    assert torch.equal(default, pipeline(images(1), direction="a_to_b", output_type="pt").images)
    assert pipeline.sample_shape == (3, 8, 8) and pipeline.data_layout == "domains"


@pytest.mark.parametrize(("direction", "channels"), [("a_to_b", 1), ("b_to_a", 3)])
def test_all_forms_of_images_are_equal(direction, channels):
    pipeline, sample = tiny(), images(channels)
    codes = pipeline(sample, direction, output_type="pt").images
    array = sample.permute(0, 2, 3, 1).numpy()
    bytes_ = np.round(array * 255).astype(np.uint8)
    pictures = [Image.fromarray(image.squeeze(-1) if channels == 1 else image) for image in bytes_]
    for form in (array, list(array), bytes_, pictures, list(sample), [sample[0], array[1], pictures[2]]):
        torch.testing.assert_close(pipeline(form, direction, output_type="pt").images, codes)
    torch.testing.assert_close(pipeline(pictures[1], direction, output_type="pt").images, codes[1:2])


def test_pictures_are_in_the_units_of_their_domain():
    for pipeline, mode in ((tiny(), "L"), (tiny(source_value_scale=65535.0), "I;16")):
        assert {(p.mode, p.size) for p in pipeline(images(1)).images} == {("RGB", (16, 8))}
        assert {(p.mode, p.size) for p in pipeline(images(3), "b_to_a").images} == {(mode, (16, 8))}
    assert pipeline.config.value_scale == 255.0


@pytest.mark.parametrize("both", [True, False])
def test_save_and_load_give_the_same_output(both, tmp_path):
    pipeline = tiny(both, value_scale=1.0, source_value_scale=65535.0)
    pipeline.save_pretrained(tmp_path)
    index = json.loads((tmp_path / "model_index.json").read_text())
    assert index["generator_ab"] == ["hf_genmodels", "ResNetTranslator"]
    assert (tmp_path / "generator_ba").is_dir() == both
    for loaded in (CycleGANPipeline.from_pretrained(tmp_path), AutoPipeline.from_pretrained(tmp_path)):
        assert type(loaded) is CycleGANPipeline and (loaded.generator_ba is not None) == both
        assert (loaded.config.value_scale, loaded.config.source_value_scale) == (1.0, 65535.0)
        for direction, channels in (("a_to_b", 1), ("b_to_a", 3))[: 1 + both]:
            one, two = (p(images(channels), direction, output_type="pt").images for p in (loaded, pipeline))
            assert torch.equal(one, two)


def test_tiles():
    pipeline, sample = tiny(), images(1, 24, 40)
    whole = pipeline(sample, output_type="pt").images
    made = pipeline(sample, tile_size=16, tile_overlap=8, output_type="pt").images
    assert made.shape == whole.shape == (3, 3, 24, 40)
    first = pipeline(sample[..., :8, :8], output_type="pt").images
    tiles = pipeline(sample[..., :16, :16], tile_size=8, tile_overlap=0, output_type="pt").images
    torch.testing.assert_close(tiles[..., :8, :8], first)
    back = pipeline(images(3, 16, 24), "b_to_a", tile_size=16, tile_overlap=8, output_type="pt").images
    assert back.shape == (3, 1, 16, 24)


@pytest.mark.parametrize(
    ("image", "options", "message"),
    [
        (torch.zeros(1, 8, 8), {"direction": "AtoB"}, "direction must be a_to_b or b_to_a, got 'AtoB'"),
        (torch.zeros(3, 8, 8), {}, r"the network takes images of shape \(1, 8, 8\), got \(3, 8, 8\)"),
        (torch.zeros(1, 8, 8), {"direction": "b_to_a"}, r"takes images of shape \(3, 8, 8\), got \(1, 8, 8\)"),
        (
            Image.new("RGBA", (8, 8)),
            {"direction": "b_to_a"},
            r"RGBA does not fit .* give image.convert\('RGB'\)",
        ),
        (
            torch.zeros(1, 10, 8),
            {},
            r"image is 10x8 .*, and ResNetTranslator takes multiples of 4: give tile_size=8, or resize",
        ),
        (
            torch.zeros(3, 12, 8),
            {"direction": "b_to_a"},
            r"image is 12x8 .*, and UNetTranslator takes multiples of 8: give tile_size=8, or resize",
        ),
        (torch.zeros(1, 8, 8), {"tile_size": 8, "tile_overlap": 5}, "tile_overlap 5 must lie between 0 and half"),
        (torch.zeros(1, 8, 8), {"output_type": "latent"}, "output_type must be 'pil', 'np' or 'pt', got 'latent'"),
    ],
)
def test_mistakes_are_one_line(image, options, message):
    with refused(message):
        tiny()(image, **options)


def test_a_direction_that_was_not_published():
    with pytest.raises(UserError) as error:
        tiny(both=False)(images(3), direction="b_to_a")
    assert str(error.value) == "this model has no generator_ba; only direction='a_to_b' can be translated"
