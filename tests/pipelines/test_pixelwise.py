"""Pipeline of images from known pixels: forms of input, seeds, satisfied shares, saving, one-line errors."""

from __future__ import annotations

import json

import numpy as np
import pytest
import torch
from PIL import Image

from hf_genmodels import UserError
from hf_genmodels.models.pixelwise import PixelwiseGenerator
from hf_genmodels.pipelines.pixelwise import PixelwisePipeline
from tests.testing_utils.refusals import refused


def tiny(channels: int = 1, value_scale: float = 255.0) -> PixelwisePipeline:
    torch.manual_seed(0)
    network = PixelwiseGenerator(channels, 8, latent_channels=2, width=2, num_residual_blocks=1)
    pipeline = PixelwisePipeline(network.eval(), value_scale=value_scale)
    pipeline.set_progress_bar_config(disable=True)
    return pipeline


def generators(*seeds: int) -> list[torch.Generator]:
    return [torch.Generator().manual_seed(seed) for seed in seeds]


def maps(channels: int = 1, count: int = 2) -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(1)
    values = torch.randint(256, (count, channels, 8, 8), generator=generator) / 255
    mask = torch.rand(count, 8, 8, generator=generator) < 0.2
    return values, mask


def draw(pipeline, values=None, mask=None, **options):
    known = maps(pipeline.sample_shape[0])
    options = {"generator": generators(0)[0], "output_type": "pt"} | options
    return pipeline(known[0] if values is None else values, known[1] if mask is None else mask, **options)


# what comes out ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("channels", [1, 3])
def test_samples_are_the_networks_and_figures_those_of_each_sample(channels):
    pipe, (values, mask) = tiny(channels), maps(channels)
    latents = torch.rand(6, 2, 2, 2, generator=torch.Generator().manual_seed(2)) * 2 - 1
    output = pipe(values, mask, num_samples=3, latents=latents, output_type="pt")
    assert output.images.shape == (6, channels, 8, 8)
    assert output.satisfied.shape == output.mse.shape == (6,)
    for index in range(6):
        of_map = index // 3
        known = mask[of_map : of_map + 1, None].float()
        target = (values[of_map : of_map + 1] * 2 - 1) * known
        with torch.no_grad():
            sample = pipe.generator(target, known, latents[index : index + 1]).sample[0]
        torch.testing.assert_close(output.images[index], (sample + 1) / 2)
        squared = (sample - target[0]).square().sum(0)[mask[of_map]]
        assert output.mse[index].item() == pytest.approx(squared.mean().item() / channels, rel=1e-5)
        assert output.satisfied[index].item() == pytest.approx((squared < 0.1 * channels).float().mean().item())
        kept = torch.zeros(8, 8, dtype=torch.int8)
        kept[mask[of_map]] = torch.where(squared < 0.1 * channels, 1, -1).to(torch.int8)
        assert torch.equal(output.constraint_map[index], kept)
    assert {*output.constraint_map.unique().tolist()} == {-1, 0, 1}


def test_latents_are_uniform_and_one_mask_serves_all_maps():
    pipe = tiny()
    seen = []
    pipe.generator.register_forward_pre_hook(lambda module, arguments: seen.append(arguments))
    draw(pipe, mask=maps()[1][0], num_samples=300)
    _, mask, latents = seen[0]
    assert (mask == mask[0]).all() and torch.equal(mask[0, 0] > 0, maps()[1][0])
    assert latents.shape == (600, 2, 2, 2) and latents.abs().max() <= 1
    quarters = torch.histc(latents, 4, -1, 1) / latents.numel()
    assert quarters.tolist() == pytest.approx([0.25] * 4, abs=0.02)


def test_a_list_of_generators_makes_each_sample_as_if_alone():
    pipe, (values, mask) = tiny(), maps()
    together = draw(pipe, num_samples=2, generator=generators(5, 6, 7, 8)).images
    for index, seed in enumerate((5, 6, 7, 8)):
        alone = draw(pipe, values[index // 2], mask[index // 2], generator=generators(seed)[0]).images
        torch.testing.assert_close(alone[0], together[index])
    assert not torch.equal(together[0], together[1])


def test_output_types_and_tuple():
    pipe = tiny()
    output = draw(pipe)
    images, satisfied, mse, kept = draw(pipe, return_dict=False)
    assert torch.equal(images, output.images) and torch.equal(satisfied, output.satisfied)
    assert torch.equal(mse, output.mse) and torch.equal(kept, output.constraint_map)
    array = draw(pipe, output_type="np").images
    assert np.array_equal(array, images.permute(0, 2, 3, 1).numpy())
    pictures = draw(pipe, output_type=None).images
    assert [(picture.mode, picture.size) for picture in pictures] == [("L", (8, 8))] * 2
    assert {picture.mode for picture in draw(tiny(value_scale=65535.0), output_type=None).images} == {"I;16"}


def test_half_precision():
    pipe = tiny()
    exact = draw(pipe)
    output = draw(pipe.to(torch.bfloat16))
    assert output.images.dtype == torch.float32
    torch.testing.assert_close(output.mse, exact.mse, rtol=0.2, atol=0.02)


def test_save_and_load_give_the_same_output(tmp_path):
    pipe = tiny(3, value_scale=1.0)
    pipe.save_pretrained(tmp_path)
    assert {path.suffix for path in tmp_path.rglob("*") if path.is_file()} == {".json", ".safetensors"}
    assert json.loads((tmp_path / "model_index.json").read_text())["generator"] == [
        "hf_genmodels",
        "PixelwiseGenerator",
    ]
    loaded = PixelwisePipeline.from_pretrained(tmp_path)
    assert loaded.config.value_scale == 1.0 and not loaded.generator.training
    loaded.set_progress_bar_config(disable=True)
    ours, theirs = (draw(each, num_samples=2, generator=generators(1, 2, 3, 4)) for each in (pipe, loaded))
    assert torch.equal(ours.images, theirs.images)
    assert torch.equal(ours.satisfied, theirs.satisfied) and torch.equal(ours.mse, theirs.mse)
    chunked = draw(loaded, num_samples=2, generator=generators(1, 2, 3, 4), max_batch_size=3)
    assert torch.equal(chunked.constraint_map, theirs.constraint_map)


# what goes in --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("channels", [1, 3])
def test_all_forms_of_values_and_masks_are_equal(channels):
    pipe, (values, mask) = tiny(channels), maps(channels)
    expected = draw(pipe, values, mask)
    array = values.permute(0, 2, 3, 1).numpy()
    bytes_ = np.round(array * 255).astype(np.uint8)
    pictures = [Image.fromarray(image.squeeze(-1) if channels == 1 else image) for image in bytes_]
    for form in (array, array[..., ::-1][..., ::-1], bytes_, pictures, list(values), [values[0], pictures[1]]):
        output = draw(pipe, form, mask)
        torch.testing.assert_close(output.images, expected.images)
        torch.testing.assert_close(output.mse, expected.mse)
    for form in (mask.float(), mask.int(), mask.numpy(), mask.numpy().astype(np.uint8), mask.tolist()):
        assert torch.equal(draw(pipe, values, form).images, expected.images)
    flipped = draw(pipe, values.flip(2), mask.numpy()[:, ::-1]).images
    assert torch.equal(flipped, draw(pipe, values.flip(2), mask.flip(1)).images)


@pytest.mark.parametrize("unknown", [torch.nan, -5.0, 300.0])
def test_unknown_pixels_may_have_any_value(unknown):
    pipe, (values, mask) = tiny(3), maps(3)
    expected = draw(pipe, values, mask)
    damaged = torch.where(mask[:, None], values, unknown)
    for form in (damaged, damaged.permute(0, 2, 3, 1).numpy(), list(damaged)):
        output = draw(pipe, form, mask)
        torch.testing.assert_close(output.images, expected.images, rtol=0, atol=0)
        torch.testing.assert_close(output.mse, expected.mse, rtol=0, atol=0)


EMPTY = torch.stack([torch.ones(8, 8), torch.zeros(8, 8)])


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"mask": torch.zeros(8, 8)}, "mask 0 has no known pixel; each needs at least one"),
        ({"mask": EMPTY}, "mask 1 has no known pixel; each needs at least one"),
        ({"mask": torch.ones(8, 9)}, "mask must be ([batch,] 8, 8), got (8, 9)"),
        ({"mask": torch.ones(2, 1, 8, 8)}, "mask must be ([batch,] 8, 8), got (2, 1, 8, 8)"),
        ({"mask": torch.ones(0, 8, 8)}, "mask must be ([batch,] 8, 8), got (0, 8, 8)"),
        ({"mask": torch.ones(3, 8, 8)}, "3 masks for 2 maps of values; give one mask for all, or one for each"),
        ({"mask": torch.full((8, 8), 0.5)}, "mask must hold True or 1 where a pixel is known"),
        ({"mask": "mask.png"}, "mask must be an array or a tensor of True and False, got str"),
        ({"values": torch.full((1, 1, 8, 8), 1.5)}, "values must lie in [0, 1] at the known pixels"),
        ({"values": torch.full((1, 1, 8, 8), torch.nan)}, "values must lie in [0, 1] at the known pixels"),
        ({"values": np.full((8, 8), -0.1)}, "values must lie in [0, 1] at the known pixels"),
        ({"values": torch.zeros(1, 1, 8, 7)}, "the network takes images of shape (1, 8, 8), got (1, 8, 7)"),
        ({"values": torch.zeros(1, 3, 8, 8)}, "the network takes images of shape (1, 8, 8), got (3, 8, 8)"),
        ({"values": "values.png"}, "images must be PIL images, arrays, tensors or a list of them, got str"),
        ({"num_samples": 0}, "num_samples must be at least 1, got 0"),
        ({"generator": generators(0)}, "1 generators for batch_size=2; give one for each image"),
        ({"latents": torch.zeros(2, 1, 2, 2)}, "latents must be (batch, 2, 2, 2), got (2, 1, 2, 2)"),
        ({"latents": torch.zeros(3, 2, 2, 2)}, "3 latents for 2 images (maps x num_samples); give one for each image"),
        ({"output_type": "latent"}, "output_type must be 'pil', 'np' or 'pt', got 'latent'"),
    ],
)
def test_impossible_calls(options, message):
    options = {"mask": torch.ones(8, 8)} | options
    with refused() as error:
        draw(tiny(), **options)
    assert message in str(error.value)


def test_another_component_is_refused():
    with pytest.raises(UserError, match=r"of PixelwisePipeline must be a pixel-wise generator: .* not a Linear"):
        PixelwisePipeline(torch.nn.Linear(1, 1))
