"""Pipeline of polarimetric images: maps against NumPy, projection, the camera's matrix, one-line errors."""

from __future__ import annotations

import colorsys
import math

import numpy as np
import pytest
import torch
from PIL import Image

from hf_genmodels import AutoPipeline, PolarimetricPipeline, ResNetTranslator, UserError
from tests.testing_utils.refusals import refused

IDEAL = [[0.5, 0.5, 0.0], [0.5, 0.0, 0.5], [0.5, -0.5, 0.0], [0.5, 0.0, -0.5]]
AUTHORS = [[1.0, 0.0, 1.0, 0.0], [1.0, 0.0, -1.0, 0.0], [0.0, 1.0, 0.0, -1.0]]
TURNED = [[0.5, math.cos(2 * t) / 2, math.sin(2 * t) / 2] for t in (0.2 + k * math.pi / 4 for k in range(4))]
CAMERAS = {
    "default": ({}, IDEAL, AUTHORS),
    "ideal": ({"calibration": IDEAL}, IDEAL, AUTHORS),
    "orthogonal": ({"left_inverse": "orthogonal"}, IDEAL, np.linalg.pinv(IDEAL)),
    "turned": ({"calibration": TURNED, "left_inverse": "orthogonal"}, TURNED, np.linalg.pinv(TURNED)),
}


def tiny(back: bool = True, strength: float = 0.3, **options) -> PolarimetricPipeline:
    """Weights large enough for translations of all sorts, admissible and not."""
    torch.manual_seed(0)
    there, other = ResNetTranslator(3, 4, 8, width=2, num_blocks=1), ResNetTranslator(4, 3, 8, width=2, num_blocks=1)
    for network in (there, other):
        for parameter in network.parameters():
            torch.nn.init.normal_(parameter, std=strength)
    pipeline = PolarimetricPipeline(there.eval(), other.eval() if back else None, **options)
    pipeline.set_progress_bar_config(disable=True)
    return pipeline


def images(channels: int = 3, height: int = 16, width: int = 12) -> torch.Tensor:
    generator = torch.Generator().manual_seed(0)
    return torch.randint(256, (3, channels, height, width), generator=generator) / 255


def physics(array: np.ndarray, matrix, inverse) -> dict[str, np.ndarray]:
    """Everything the output tells, of an array (batch, height, width, 4) in [0, 1]."""
    y = array.astype(np.float64)
    s = y @ np.asarray(inverse).T
    other = s @ np.asarray(matrix).T
    size = [np.sqrt(np.square(x).sum((1, 2, 3))) for x in (y - other, y, other)]
    s0, s1, s2 = np.moveaxis(s, -1, 0)
    return {
        "stokes": s,
        "dolp": (np.sqrt(s1**2 + s2**2) / np.maximum(s0, 1e-8))[..., None],
        "aolp": (np.arctan2(s2, s1) / 2)[..., None],
        "C1": size[0] / (size[1] + size[2]),
        "C2": (s1**2 + s2**2 > s0**2).mean((1, 2)),
        "C3": (s0 < 0).mean((1, 2)),
    }


# what comes out ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("camera", CAMERAS)
def test_maps_and_violations_against_numpy(camera):
    options, matrix, inverse = CAMERAS[camera]
    pipeline, sample = tiny(**options), images()
    output = pipeline(sample)
    with torch.no_grad():
        expected = (pipeline.generator_ab(sample * 2 - 1).sample + 1) / 2
    assert np.allclose(output.images, expected.permute(0, 2, 3, 1).numpy(), atol=1e-6)
    slow = physics(output.images, matrix, inverse)
    np.testing.assert_allclose(output.stokes, slow["stokes"], atol=1e-6)
    np.testing.assert_allclose(output.dolp, slow["dolp"], rtol=1e-4, atol=1e-6)
    np.testing.assert_allclose(np.cos(2 * output.aolp), np.cos(2 * slow["aolp"]), atol=1e-4)
    np.testing.assert_allclose(np.sin(2 * output.aolp), np.sin(2 * slow["aolp"]), atol=1e-4)
    for name in ("C1", "C2", "C3"):
        np.testing.assert_allclose(output.violations[name].numpy(), slow[name], atol=1e-6)
    assert slow["C2"].min() > 0 and slow["C2"].max() < 1 and slow["C1"].min() > 0.05


def test_shapes_and_types():
    pipeline = tiny()
    arrays, tensors = pipeline(images()), pipeline(images(), output_type="pt")
    channels = {"images": 4, "stokes": 3, "dolp": 1, "aolp": 1, "picture": 3}
    for name, count in channels.items():
        tensor = getattr(tensors, name)
        assert tensor.shape == (3, count, 16, 12) and tensor.dtype == torch.float32
        assert np.array_equal(getattr(arrays, name), tensor.permute(0, 2, 3, 1).numpy())
    assert {name: tuple(value.shape) for name, value in tensors.violations.items()} == dict.fromkeys(
        ("C1", "C2", "C3"), (3,)
    )
    for kind, images_ in (("np", arrays.images), ("pt", tensors.images)):
        (alone,) = pipeline(images(), output_type=kind, return_dict=False)
        assert type(alone) is type(images_) and (alone == images_).all()
    assert pipeline.sample_shape == (4, 8, 8) and pipeline.data_layout == "domains"


def test_the_picture_is_hue_of_the_angle():
    output = tiny()(images())
    for index in ((0, 3, 4), (1, 8, 2), (2, 15, 11)):
        hue = output.aolp[index][0] / math.pi % 1
        value = output.stokes[index][0] / output.stokes[index[0], ..., 0].max()
        expected = colorsys.hsv_to_rgb(hue, min(1, output.dolp[index][0]), value)
        assert output.picture[index].tolist() == pytest.approx(expected, abs=1e-4)


def test_all_forms_of_images_are_equal():
    pipeline, sample = tiny(), images()
    codes = pipeline(sample).images
    array = sample.permute(0, 2, 3, 1).numpy()
    pictures = [Image.fromarray(image) for image in np.round(array * 255).astype(np.uint8)]
    for form in (array, list(array), pictures, tuple(pictures), list(sample)):
        np.testing.assert_allclose(pipeline(form).images, codes, atol=1e-5)
    np.testing.assert_allclose(pipeline(pictures[1]).images, codes[1:2], atol=1e-5)
    tiles = pipeline(sample, tile_size=12, tile_overlap=4)
    assert tiles.images.shape == codes.shape and not np.allclose(tiles.images, codes)


# projection ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("strength", [0.05, 0.3, 3.0])
@pytest.mark.parametrize("camera", CAMERAS)
def test_projected_images_are_admissible(camera, strength):
    """A turned camera's crossed polarisers see 0 up to rounding, which must be no error."""
    options, matrix, inverse = CAMERAS[camera]
    pipeline, sample = tiny(strength=strength, **options), images(height=32, width=32)
    output = pipeline(sample, project=True)
    assert output.violations["C2"].tolist() == output.violations["C3"].tolist() == [0.0] * 3
    assert output.violations["C1"].max() < 1e-6
    assert output.images.min() >= 0 and output.images.max() <= 1 and output.dolp.max() < 1 + 1e-5
    slow = physics(output.images, matrix, inverse)
    assert slow["C1"].max() < 1e-6
    np.testing.assert_allclose(output.stokes, slow["stokes"], atol=1e-6)
    assert np.array_equal(pipeline(sample, project=True, return_dict=False)[0], output.images)
    assert not np.allclose(output.images, pipeline(sample).images, atol=1e-3)


def test_the_projection_is_the_nearest_stokes_vector_dimmed():
    pipeline = tiny()
    free, projected = pipeline(images()), pipeline(images(), project=True)
    dimmed = 0
    for s, y in zip(free.stokes.reshape(-1, 3).astype(np.float64), projected.images.reshape(-1, 4), strict=True):
        norm = np.hypot(s[1], s[2])
        if norm > s[0]:
            s = (1 + s[0] / norm) / 2 * np.array([norm, s[1], s[2]])
        expected = np.array(IDEAL) @ s
        dimmed += expected.max() > 1
        np.testing.assert_allclose(y, expected / max(1, expected.max()), atol=1e-5)
    assert dimmed > 0


# the camera, saving, back --------------------------------------------------------------------------------------------


@pytest.mark.parametrize("camera", CAMERAS)
def test_save_and_load_give_the_same_output(camera, tmp_path):
    options, matrix, inverse = CAMERAS[camera]
    back = camera != "turned"
    pipeline = tiny(back, value_scale=65535.0, source_value_scale=1.0, **options)
    pipeline.save_pretrained(tmp_path)
    for loaded in (PolarimetricPipeline.from_pretrained(tmp_path), AutoPipeline.from_pretrained(tmp_path)):
        assert type(loaded) is PolarimetricPipeline and (loaded.generator_ba is not None) == back
        assert (loaded.config.value_scale, loaded.config.source_value_scale) == (65535.0, 1.0)
        for one, two in zip(loaded.matrices(), (matrix, inverse), strict=True):
            np.testing.assert_allclose(one.numpy(), two, atol=1e-6)
        for project in (False, True):
            one, two = (p(images(), project=project) for p in (loaded, pipeline))
            assert np.array_equal(one.images, two.images) and np.array_equal(one.dolp, two.dolp)


def test_back_to_rgb():
    pipeline = tiny()
    angles = pipeline(images(), output_type="pt").images
    with torch.no_grad():
        expected = (pipeline.generator_ba(angles * 2 - 1).sample + 1) / 2
    torch.testing.assert_close(pipeline.reconstruct_source(angles, output_type="pt").images, expected)
    for form in (pipeline(images()).images, list(angles)):
        made = pipeline.reconstruct_source(form, output_type="pt").images
        torch.testing.assert_close(made, expected)
    assert {(p.mode, p.size) for p in pipeline.reconstruct_source(angles).images} == {("RGB", (12, 16))}
    with pytest.raises(UserError) as error:
        tiny(back=False).reconstruct_source(angles)
    assert str(error.value) == "this model has no generator_ba; it translates to polarimetric images alone"


@pytest.mark.parametrize(("scale", "mode"), [(255.0, "L"), (65535.0, "I;16")])
def test_grey_images_back_are_in_their_own_unit(scale, mode):
    there, back = (ResNetTranslator(*channels, 8, width=2, num_blocks=1).eval() for channels in ((1, 4), (4, 1)))
    pipeline = PolarimetricPipeline(there, back, value_scale=1.0, source_value_scale=scale)
    (picture,) = pipeline.reconstruct_source(torch.zeros(4, 8, 8)).images
    assert picture.mode == mode


def test_violations_of_given_images():
    given = images(4)
    slow = physics(given.permute(0, 2, 3, 1).numpy(), IDEAL, AUTHORS)
    for form in (given, given.permute(0, 2, 3, 1).numpy(), list(given)):
        for name, values in tiny().violations(form).items():
            np.testing.assert_allclose(values.numpy(), slow[name], atol=1e-6)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"calibration": TURNED}, 'the left inverse "authors" belongs to the ideal calibration matrix; choose "orth'),
        ({"left_inverse": "pinv"}, "there is no left inverse 'pinv': choose one of authors, orthogonal"),
        ({"calibration": IDEAL[:3]}, "calibration must be four rows"),
    ],
)
def test_cameras_that_do_not_fit(options, message):
    with refused(message):
        tiny(**options)


def test_a_network_of_three_channels():
    with pytest.raises(UserError, match="generator_ab makes 3 channels; a polarimetric image has I0, I45, I90 and"):
        PolarimetricPipeline(ResNetTranslator(3, 3, 8, width=2, num_blocks=1))


@pytest.mark.parametrize(
    ("image", "options", "message"),
    [
        (torch.zeros(3, 8, 8), {"output_type": "pil"}, "output_type must be 'np' or 'pt', got 'pil': four angles are"),
        (Image.new("RGBA", (8, 8)), {}, "mode RGBA does not fit a network that takes RGB images: give image.convert"),
        (torch.zeros(1, 8, 8), {}, r"the network takes images of shape \(3, 8, 8\), got \(1, 8, 8\)"),
        (torch.zeros(3, 8, 9), {}, r"the image is 8x9 \(height x width\), and ResNetTranslator takes multiples of 4"),
        (torch.zeros(3, 8, 8), {"tile_size": 8, "tile_overlap": 5}, "tile_overlap 5 must lie between 0 and half of"),
    ],
)
def test_mistakes_are_one_line(image, options, message):
    with refused(message):
        tiny()(image, **options)


def test_a_camera_whose_projection_can_be_negative():
    rows = [[0.48, 0.5, 0.0], [0.5, 0.0, 0.51], [0.5, -0.5, 0.0], [0.5, 0.0, -0.52]]
    pipeline = tiny(calibration=rows, left_inverse="orthogonal")
    assert pipeline(images()).images.shape == (3, 16, 12, 4)
    with pytest.raises(UserError, match="project=True needs a calibration whose rows have"):
        pipeline(images(), project=True)
