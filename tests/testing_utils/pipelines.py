"""What every pipeline must do: reload, name its parts by public name, speak all output types, repeat itself.

A new family's case file tells how its smallest pipeline is built (which is also reloaded in the fresh process). Its
test file subclasses the mixins that fit: `PipelineTesterMixin` always, `SamplingTesterMixin` where it draws latents,
`ImageInputTesterMixin` where it takes images.
"""

from __future__ import annotations

import copy
import inspect
import json
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import pytest
import torch
from diffusers import ModelMixin
from PIL import Image

from hf_genmodels import AutoPipeline, GenerativePipeline, UserError
from hf_genmodels.operators import Inpainting
from tests.families import IMAGES_ONLY, TINY
from tests.testing_utils.refusals import refused

ROOT = Path(__file__).resolve().parents[2]
IMAGE_SHAPES = ((1, 8, 8), (3, 8, 8), (4, 8, 8))
VECTOR_SHAPE = (2,)

Shape = tuple[int, ...]


def tiny_pipeline(name: str, shape: Shape = (1, 8, 8), value_scale: float = 255.0) -> GenerativePipeline:
    """The same small pipeline each time, silent, in eval mode."""
    torch.manual_seed(0)
    pipeline = TINY[name](shape, value_scale)
    pipeline.set_progress_bar_config(disable=True)
    for network in networks(pipeline).values():
        network.eval()
    return pipeline


def networks(pipeline: GenerativePipeline) -> dict[str, ModelMixin]:
    """The networks among a pipeline's components."""
    return {name: part for name, part in pipeline.components.items() if isinstance(part, ModelMixin)}


def random_images(shape: Shape, count: int = 3, seed: int = 0) -> torch.Tensor:
    """(count, *shape) multiples of 1/255 in [0, 1], which 8-bit pictures hold exactly; any numbers for vectors."""
    generator = torch.Generator().manual_seed(seed)
    if len(shape) == 1:
        return torch.randn(count, *shape, generator=generator)
    return torch.randint(256, (count, *shape), generator=generator) / 255


def draw(pipeline: GenerativePipeline, **options: Any) -> Any:
    """What a pipeline's call gives for three images or three samples, the same each time."""
    known = inspect.signature(type(pipeline).__call__).parameters
    if "image" in known:
        network = next(iter(networks(pipeline).values()))
        shape = (network.config.in_channels, *pipeline.sample_shape[1:])
        return pipeline(image=random_images(shape), **options)
    if "mask" in known:
        mask = torch.eye(*pipeline.sample_shape[1:])
        generator = torch.Generator().manual_seed(0)
        return pipeline(random_images(pipeline.sample_shape), mask, generator=generator, **options)
    if "measurement" in known:
        operator = Inpainting(torch.eye(*pipeline.sample_shape[1:])[None])
        generator = torch.Generator().manual_seed(0)
        measured = operator(random_images(pipeline.sample_shape))
        return pipeline(measured, operator, num_inference_steps=2, generator=generator, **options)
    return pipeline(batch_size=3, generator=torch.Generator().manual_seed(0), **options)


class PipelineTesterMixin:
    """Set `pipeline_class`; the family's case builds what is tested."""

    pipeline_class: ClassVar[type[GenerativePipeline]]
    half_precision_error: ClassVar[float] = 0.02

    def tiny(self, shape: Shape = (1, 8, 8), value_scale: float = 255.0) -> Any:
        name = self.pipeline_class.__name__
        if len(shape) == 1 and name in IMAGES_ONLY:
            pytest.skip("takes no vectors")
        return tiny_pipeline(name, shape, value_scale)

    @pytest.mark.parametrize("shape", [(3, 8, 8), VECTOR_SHAPE])
    def test_save_and_load_give_the_same_output(self, shape, tmp_path):
        pipeline = self.tiny(shape, value_scale=1.0)
        pipeline.save_pretrained(tmp_path)
        assert {path.suffix for path in tmp_path.rglob("*") if path.is_file()} == {".json", ".safetensors"}
        for loaded in (self.pipeline_class.from_pretrained(tmp_path), AutoPipeline.from_pretrained(tmp_path)):
            assert type(loaded) is self.pipeline_class
            assert loaded.config.value_scale == 1.0
            assert not any(network.training for network in networks(loaded).values())
            loaded.set_progress_bar_config(disable=True)
            assert torch.equal(draw(loaded, output_type="pt").images, draw(pipeline, output_type="pt").images)

    def test_what_is_saved_names_public_classes_and_no_place(self, tmp_path):
        """Also of a pipeline that was itself loaded, whose component was exchanged, from the folder it is in."""
        self.tiny().save_pretrained(tmp_path / "first")
        pipeline = self.pipeline_class.from_pretrained(tmp_path / "first")
        for name, network in networks(pipeline).items():
            setattr(pipeline, name, copy.deepcopy(network))
        pipeline.save_pretrained(tmp_path / "again")
        index = json.loads((tmp_path / "again" / "model_index.json").read_text())
        for name, network in networks(pipeline).items():
            library = type(network).__module__.split(".")[0]  # a network of diffusers' own is recorded as that
            assert index[name] == [library, type(network).__name__]
        for path in (path for path in tmp_path.rglob("*") if path.is_file()):
            content = path.read_bytes()
            for private in (str(tmp_path), str(ROOT), str(Path.home()), "hf_genmodels."):
                assert private.encode() not in content, f"{private} in {path}"

    def test_a_given_component_is_not_loaded(self, tmp_path):
        pipeline = self.tiny()
        pipeline.save_pretrained(tmp_path)
        name, network = next(iter(networks(pipeline).items()))
        (tmp_path / name / "diffusion_pytorch_model.safetensors").unlink()
        loaded = self.pipeline_class.from_pretrained(tmp_path, **{name: network})
        assert getattr(loaded, name) is network

    def test_weights_that_are_not_finite_make_no_pictures(self):
        pipeline = self.tiny()
        with torch.no_grad():
            for network in networks(pipeline).values():
                for value in network.state_dict().values():
                    if value.is_floating_point():
                        value.fill_(torch.nan)
        with refused("NaN or infinite|not finite"):
            draw(pipeline)

    def test_half_precision(self, tmp_path):
        pipeline = self.tiny()
        exact = draw(pipeline, output_type="pt").images
        assert pipeline.to(torch.bfloat16) is pipeline and pipeline.dtype == torch.bfloat16
        images = draw(pipeline, output_type="pt").images
        assert images.dtype == torch.float32 and images.shape == exact.shape
        assert (images - exact).abs().mean() < self.half_precision_error, "a seed is to mean the same image"
        assert images.min() >= 0 and images.max() <= 1
        pipeline.save_pretrained(tmp_path)
        assert self.pipeline_class.from_pretrained(tmp_path).dtype == torch.float32
        for option in ("dtype", "torch_dtype"):
            loaded = self.pipeline_class.from_pretrained(tmp_path, **{option: torch.bfloat16})
            assert torch.equal(draw(loaded, output_type="pt").images, images)

    @pytest.mark.parametrize("shape", IMAGE_SHAPES)
    def test_output_types_of_images(self, shape):
        pipeline = self.tiny(shape)
        tensor = draw(pipeline, output_type="pt").images
        assert tensor.shape == (3, *shape) and tensor.dtype == torch.float32
        assert tensor.min() >= 0 and tensor.max() <= 1
        array = draw(pipeline, output_type="np").images
        assert array.shape == (3, *shape[1:], shape[0]) and array.dtype == np.float32
        assert np.array_equal(array, tensor.permute(0, 2, 3, 1).numpy())
        if shape[0] == 4:
            assert np.array_equal(draw(pipeline).images, array), "np is the default where there is no picture"
            with pytest.raises(UserError, match="no grey or RGB pictures; call with output_type='np' or 'pt'"):
                draw(pipeline, output_type="pil")
            return
        for pictures in (draw(pipeline).images, draw(pipeline, output_type="pil").images):
            assert all(isinstance(picture, Image.Image) for picture in pictures)
            assert {(picture.mode, picture.size) for picture in pictures} == {
                ("L" if shape[0] == 1 else "RGB", (8, 8))
            }
            values = np.stack([np.asarray(picture).reshape(8, 8, -1) for picture in pictures])
            assert np.array_equal(values, np.round(array * 255).astype(np.uint8))

    def test_output_of_16_bit_data(self):
        pipeline = self.tiny(value_scale=65535.0)
        pictures = draw(pipeline).images
        assert {(picture.mode, picture.size) for picture in pictures} == {("I;16", (8, 8))}
        array = draw(pipeline, output_type="np").images[..., 0].astype(np.float64)
        values = np.stack([np.asarray(picture) for picture in pictures]).astype(np.float64)
        assert np.abs(values - array * 65535).max() < 0.51

    def test_output_types_of_vectors(self):
        pipeline = self.tiny(VECTOR_SHAPE, value_scale=1.0)
        tensor = draw(pipeline, output_type="pt").images
        assert tensor.shape == (3, *VECTOR_SHAPE)
        for array in (draw(pipeline).images, draw(pipeline, output_type="np").images):
            assert np.array_equal(array, tensor.numpy())
        with pytest.raises(UserError, match="output_type='np' or 'pt'"):
            draw(pipeline, output_type="pil")

    def test_unknown_output_type(self):
        with pytest.raises(UserError, match="output_type must be 'pil', 'np' or 'pt', got 'latent'"):
            draw(self.tiny(), output_type="latent")

    def test_tuple_output(self):
        pipeline = self.tiny()
        images = draw(pipeline, output_type="pt", return_dict=False)[0]
        assert torch.equal(images, draw(pipeline, output_type="pt").images)


class SamplingTesterMixin:
    """Pipelines that draw latents: seeds, lists of generators, given latents of the tiny pipeline's `latent_shape`."""

    latent_shape: ClassVar[Shape] = (2,)

    def sample(self, pipeline, seeds=None, **options):
        generator = None if seeds is None else [torch.Generator().manual_seed(seed) for seed in seeds]
        return pipeline(generator=generator, output_type="pt", **options).images

    def test_a_list_of_generators_makes_each_image_as_if_alone(self):
        pipeline = self.tiny()
        together = self.sample(pipeline, [5, 6, 7], batch_size=3)
        for seed, image in zip([5, 6, 7], together, strict=True):
            torch.testing.assert_close(self.sample(pipeline, [seed], batch_size=1)[0], image)
            alone = pipeline(generator=torch.Generator().manual_seed(seed), output_type="pt").images
            torch.testing.assert_close(alone[0], image)
        assert not torch.equal(together[0], together[1])

    def test_wrong_number_of_generators(self):
        with pytest.raises(UserError, match="2 generators for batch_size=3; give one for each image"):
            self.sample(self.tiny(), [0, 1], batch_size=3)

    def test_nothing_to_draw(self):
        with pytest.raises(UserError, match="batch_size must be at least 1, got 0"):
            self.sample(self.tiny(), batch_size=0)

    def test_given_latents_are_used(self):
        pipeline = self.tiny()
        latents = torch.randn(3, *self.latent_shape, generator=torch.Generator().manual_seed(0))
        drawn = pipeline(batch_size=3, generator=torch.Generator().manual_seed(0), output_type="pt").images
        assert torch.equal(self.sample(pipeline, latents=latents), drawn)

    def test_latents_of_another_shape(self):
        expected = ", ".join(map(str, self.latent_shape))
        for wrong in (torch.zeros(3, 7), torch.zeros(self.latent_shape)):
            with pytest.raises(UserError, match=rf"latents must be \(batch, {expected}\), got"):
                self.sample(self.tiny(), latents=wrong)


class ImageInputTesterMixin:
    """Pipelines that take images: every form means the same. `read` gives a tensor that depends on each pixel."""

    def read(self, pipeline, images):
        return pipeline.encode(images)

    @pytest.mark.parametrize("shape", [(1, 8, 8), (3, 8, 8)])
    def test_all_forms_of_images_are_equal(self, shape):
        pipeline = self.tiny(shape)
        tensor = random_images(shape)
        codes = self.read(pipeline, tensor)
        assert not torch.allclose(codes[0], codes[1])
        array = tensor.permute(0, 2, 3, 1).numpy()
        bytes_ = np.round(array * 255).astype(np.uint8)
        pictures = [Image.fromarray(image.squeeze(-1) if shape[0] == 1 else image) for image in bytes_]
        for form in (
            array,
            list(array),
            bytes_,
            pictures,
            tuple(pictures),
            list(tensor),
            [tensor[:1], array[1], pictures[2]],
        ):
            torch.testing.assert_close(self.read(pipeline, form), codes)
        torch.testing.assert_close(self.read(pipeline, pictures[1]), codes[1:2])

    def test_an_image_of_another_size_is_a_one_line_error(self):
        for wrong in (torch.zeros(1, 9, 9), Image.new("RGB", (8, 8)), np.zeros((8, 8)) - 1, "picture.png"):
            with refused():
                self.read(self.tiny(), wrong)
