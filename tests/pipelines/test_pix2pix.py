"""Pipeline of Pix2Pix: what it gives is the network's, for every form of image; noise, tiles, one-line errors."""

from __future__ import annotations

import json

import numpy as np
import pytest
import torch
from PIL import Image

from hf_genmodels import AutoPipeline, Pix2PixPipeline, ResNetTranslator, UNetTranslator, UserError
from tests.testing_utils.refusals import refused


def tiny(channels=(3, 1), dropout=0.5, value_scale=255.0, **options) -> Pix2PixPipeline:
    torch.manual_seed(0)
    network = UNetTranslator(*channels, 8, width=3, num_downs=2, dropout=dropout, **options)
    for parameter in network.parameters():
        torch.nn.init.normal_(parameter, std=0.5)
    pipeline = Pix2PixPipeline(network.eval(), value_scale=value_scale)
    pipeline.set_progress_bar_config(disable=True)
    return pipeline


def images(channels=3, height=8, width=12, count=3) -> torch.Tensor:
    """Multiples of 1/255, which pictures hold exactly."""
    generator = torch.Generator().manual_seed(0)
    return torch.randint(256, (count, channels, height, width), generator=generator) / 255


def generator(seed=0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def expected(pipeline, sample):
    with torch.no_grad():
        return (pipeline.generator(sample * 2 - 1).sample + 1) / 2


# what goes in and what comes out -------------------------------------------------------------------------------------


@pytest.mark.parametrize("channels", [(1, 3), (3, 1), (3, 4), (4, 2)])
@pytest.mark.parametrize("size", [(8, 8), (16, 12)])
def test_translations_are_the_networks(channels, size):
    pipeline, sample = tiny(channels), images(channels[0], *size)
    made = pipeline(image=sample, output_type="pt").images
    assert made.shape == (3, channels[1], *size) and made.dtype == torch.float32
    torch.testing.assert_close(made, expected(pipeline, sample))
    assert made.std() > 0.05 and made.min() >= 0 and made.max() <= 1
    assert torch.equal(pipeline(sample, output_type="pt", return_dict=False)[0], made)
    assert np.array_equal(pipeline(sample, output_type="np").images, made.permute(0, 2, 3, 1).numpy())
    assert pipeline.sample_shape == (channels[1], 8, 8)


@pytest.mark.parametrize("channels", [1, 3])
def test_all_forms_of_images_are_equal(channels):
    pipeline, sample = tiny((channels, 2)), images(channels)
    codes = pipeline(sample, output_type="pt").images
    array = sample.permute(0, 2, 3, 1).numpy()
    bytes_ = np.round(array * 255).astype(np.uint8)
    pictures = [Image.fromarray(image.squeeze(-1) if channels == 1 else image) for image in bytes_]
    for form in (
        array,
        list(array),
        bytes_,
        pictures,
        tuple(pictures),
        list(sample),
        [sample[0], array[1], pictures[2]],
    ):
        torch.testing.assert_close(pipeline(form, output_type="pt").images, codes)
    for form in (pictures[1], array[1], sample[1], sample[1:2]):
        torch.testing.assert_close(pipeline(form, output_type="pt").images, codes[1:2])


def test_pictures():
    for out_channels, mode in ((1, "L"), (3, "RGB")):
        pipeline = tiny((3, out_channels))
        pictures = pipeline(images()).images
        assert {(picture.mode, picture.size) for picture in pictures} == {(mode, (12, 8))}
        values = np.stack([np.asarray(picture).reshape(8, 12, -1) for picture in pictures])
        array = pipeline(images(), output_type="np").images
        assert np.array_equal(values, np.round(array * 255).astype(np.uint8))


def test_pictures_of_16_bit_data():
    pipeline = tiny(value_scale=65535.0)
    pictures = pipeline(images()).images
    assert {(picture.mode, picture.size) for picture in pictures} == {("I;16", (12, 8))}
    values = np.stack([np.asarray(picture) for picture in pictures]).astype(np.float64)
    array = pipeline(images(), output_type="np").images[..., 0].astype(np.float64)
    assert np.abs(values - array * 65535).max() < 0.51


@pytest.mark.parametrize(
    "build", [tiny, lambda: Pix2PixPipeline(ResNetTranslator(3, 1, 8, width=2, num_blocks=1).eval())]
)
def test_save_and_load_give_the_same_output(build, tmp_path):
    torch.manual_seed(0)
    pipeline = build()
    pipeline.register_to_config(value_scale=1.0, source_value_scale=65535.0)
    pipeline.save_pretrained(tmp_path)
    index = json.loads((tmp_path / "model_index.json").read_text())
    assert index["generator"] == ["hf_genmodels", type(pipeline.generator).__name__]
    for loaded in (Pix2PixPipeline.from_pretrained(tmp_path), AutoPipeline.from_pretrained(tmp_path)):
        assert type(loaded) is Pix2PixPipeline and not loaded.generator.training
        assert (loaded.config.value_scale, loaded.config.source_value_scale) == (1.0, 65535.0)
        one, two = (pipe(images(), output_type="pt").images for pipe in (loaded, pipeline))
        assert torch.equal(one, two)


@pytest.mark.parametrize("statistics", ["running", "image"])
def test_statistics_of_batch_norm(statistics):
    """With each image's own the mean of a normalised map depends neither on running averages nor on other images."""
    pipeline, sample = tiny(norm_statistics=statistics, dropout=0.0), images()
    before = pipeline(sample, output_type="pt").images
    for name, buffer in pipeline.generator.named_buffers():
        if name.endswith("running_mean"):
            buffer += 1
    after = pipeline(sample, output_type="pt").images
    assert torch.equal(before, after) == (statistics == "image")
    alone = torch.cat([pipeline(part, output_type="pt").images for part in sample.split(1)])
    torch.testing.assert_close(alone, after, rtol=0, atol=1e-6)


# noise ---------------------------------------------------------------------------------------------------------------


def test_dropout_is_noise_on_demand():
    pipeline, sample = tiny(), images()
    plain = pipeline(sample, output_type="pt").images
    state = {name: value.clone() for name, value in pipeline.generator.state_dict().items()}
    torch.manual_seed(4)
    before = torch.get_rng_state()

    def noisy(seed, **options):
        return pipeline(sample, stochastic=True, generator=generator(seed), output_type="pt", **options).images

    one, two, other = noisy(0), noisy(0), noisy(1)
    assert torch.equal(one, two) and not torch.allclose(one, other, atol=1e-3)
    assert not torch.allclose(one, plain, atol=1e-3)
    tiles = [noisy(seed, tile_size=8, tile_overlap=4) for seed in (0, 0, 1)]
    assert torch.equal(tiles[0], tiles[1]) and not torch.equal(tiles[0], tiles[2])
    assert torch.equal(torch.get_rng_state(), before)
    assert not any(module.training for module in pipeline.generator.modules())
    assert all(torch.equal(value, state[name]) for name, value in pipeline.generator.state_dict().items())
    for _ in range(2):
        assert torch.equal(pipeline(sample, generator=generator(3), output_type="pt").images, plain)


def test_noise_without_a_generator_is_another_one_each_time():
    pipeline = tiny()
    torch.manual_seed(0)
    one, two = (pipeline(images(), stochastic=True, output_type="pt").images for _ in range(2))
    assert not torch.equal(one, two)


def test_a_list_of_generators_makes_each_image_as_if_alone():
    pipeline, sample = tiny(), images()
    generators = [torch.Generator().manual_seed(seed) for seed in range(len(sample))]
    together = pipeline(sample, stochastic=True, generator=generators, output_type="pt").images
    for seed, (part, made) in enumerate(zip(sample.split(1), together, strict=True)):
        generator = torch.Generator().manual_seed(seed)
        alone = pipeline(part, stochastic=True, generator=generator, output_type="pt").images[0]
        assert torch.equal(alone, made)
    with pytest.raises(UserError, match="1 generators for 3 images; give one for each image"):
        pipeline(sample, stochastic=True, generator=generators[:1])


def test_the_network_stays_in_eval_mode_after_an_error():
    pipeline = tiny()
    with pytest.raises(UserError, match="tile_overlap 7 must lie between 0 and half of tile_size 8"):
        pipeline(images(), stochastic=True, tile_size=8, tile_overlap=7)
    assert not any(module.training for module in pipeline.generator.modules())


# errors --------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("image", "options", "message"),
    [
        (Image.new("RGBA", (8, 8)), {}, r"RGBA does not fit .* RGB images: give image.convert\('RGB'\)"),
        (Image.new("L", (8, 8)), {}, r"a PIL image of mode L does not fit .* RGB images: give image.convert\('RGB'\)"),
        (
            np.zeros((8, 8, 4), np.uint8),
            {},
            r"of shape \(3, 8, 8\), got \(4, 8, 8\): 4 channels instead of 3",
        ),
        (torch.zeros(1, 8, 8), {}, r"takes images of shape \(3, 8, 8\), got \(1, 8, 8\)"),
        (
            torch.zeros(3, 8, 10),
            {},
            r"is 8x10 .*, and UNetTranslator takes multiples of 4: give tile_size=8",
        ),
        (
            Image.new("RGB", (8, 9)),
            {},
            r"is 9x8 \(height x width\), and UNetTranslator takes multiples of 4: give tile_size=8",
        ),
        (
            [torch.zeros(3, 8, 8), torch.zeros(3, 8, 12)],
            {},
            r"image 1 is 8x12 .*, image 0 8x8: give images of one size",
        ),
        (torch.full((3, 8, 8), 1.5), {}, r"images must lie in \[0, 1\], got \[1.5, 1.5\]"),
        (torch.full((3, 8, 8), float("nan")), {}, r"images must lie in \[0, 1\]"),
        (torch.zeros(0, 3, 8, 8), {}, "there are no images"),
        ([], {}, "image must be PIL images, arrays"),
        ("picture.png", {}, "image must be PIL images, arrays .* got str"),
        (
            torch.zeros(3, 8, 8),
            {"tile_size": 8, "tile_overlap": 5},
            "tile_overlap 5 must lie between 0 and half of tile_size 8",
        ),
        (
            torch.zeros(3, 8, 8),
            {"tile_size": 6},
            "tile_size 6 must be a multiple of 4, as the network halves its images",
        ),
        (torch.zeros(3, 8, 8), {"output_type": "latent"}, "output_type must be 'pil', 'np' or 'pt', got 'latent'"),
    ],
)
def test_mistakes_are_one_line(image, options, message):
    with refused(message):
        tiny()(image, **options)


@pytest.mark.parametrize("network", ["without", "zero"])
def test_noise_needs_dropout(network):
    build = {
        "without": lambda: tiny(dropout=0.0),
        "zero": lambda: Pix2PixPipeline(ResNetTranslator(3, 1, 8, width=2, num_blocks=0, dropout=0.5).eval()),
    }
    with pytest.raises(UserError) as error:
        build[network]()(images(), stochastic=True)
    assert str(error.value) == "stochastic=True needs a network with dropout, and this one has none; leave it out"


def test_no_picture_of_four_channels():
    with pytest.raises(UserError, match="no grey or RGB pictures; call with output_type='np' or 'pt'"):
        tiny((3, 4))(images(), output_type="pil")
