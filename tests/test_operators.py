"""Measurement operators: adjoints, pseudo-inverses and regularised inverses against the matrix of each operator."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from PIL import Image
from scipy import ndimage

from hf_genmodels import UserError
from hf_genmodels.operators import (
    Blur,
    Colorization,
    Inpainting,
    LinearOperator,
    Saturation,
    SuperResolution,
)
from tests.testing_utils.refusals import refused


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def random_mask(channels: int) -> torch.Tensor:
    return torch.rand(channels, 6, 9, generator=generator()) < 0.4


SHAPE = (3, 6, 9)
LINEAR = {
    "inpainting": Inpainting(random_mask(1)),
    "inpainting_of_channels": Inpainting(random_mask(3)),
    "sparse": Inpainting.sparse(6, 9, 0.2, generator()),
    "super_resolution": SuperResolution(3),
    "blur": Blur.gaussian(0.6),
    "blur_that_loses_frequencies": Blur(torch.ones(3, 3) / 9),
    "lopsided_blur": Blur(torch.rand(4, 3, generator=generator())),
    "colorization": Colorization(),
}


@pytest.fixture(params=LINEAR)
def operator(request) -> LinearOperator:
    return LINEAR[request.param]


def matrix(operator: LinearOperator) -> torch.Tensor:
    """(numbers of a measurement, numbers of an image) float64, column by column."""
    pixels = torch.eye(int(np.prod(SHAPE)), dtype=torch.float64).view(-1, *SHAPE)
    return operator(pixels).flatten(1).T


def random(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(*shape, generator=generator(seed), dtype=torch.float64)


def test_shapes(operator):
    shape = operator.measurement_shape(SHAPE)
    assert operator(random(2, *SHAPE)).shape == (2, *shape)
    assert operator.image_shape(shape) == SHAPE
    assert operator.adjoint(random(2, *shape)).shape == (2, *SHAPE)
    assert operator.pseudo_inverse(random(2, *shape)).shape == (2, *SHAPE)


def test_the_adjoint_is_the_transpose(operator):
    image, measurement = random(2, *SHAPE), random(2, *operator.measurement_shape(SHAPE), seed=1)
    left = (operator(image) * measurement).sum()
    right = (image * operator.adjoint(measurement)).sum()
    assert left.item() == pytest.approx(right.item(), rel=1e-12)


def test_the_pseudo_inverse_is_that_of_the_matrix(operator):
    exact = torch.linalg.pinv(matrix(operator), rtol=1e-9)
    measurement = random(2, *operator.measurement_shape(SHAPE))
    torch.testing.assert_close(operator.pseudo_inverse(measurement).flatten(1), measurement.flatten(1) @ exact.T)


def test_the_pseudo_inverse_brings_every_measurement_back_in_single_precision(operator):
    measurement = operator(random(2, *SHAPE).float())
    assert measurement.dtype == torch.float32
    torch.testing.assert_close(operator(operator.pseudo_inverse(measurement)), measurement, rtol=1e-4, atol=1e-4)


def test_the_regularised_inverse_is_that_of_the_matrix(operator):
    dense = matrix(operator)
    gram = dense @ dense.T + 0.3 * torch.eye(len(dense), dtype=torch.float64)
    measurement = random(2, *operator.measurement_shape(SHAPE))
    expected = measurement.flatten(1) @ torch.linalg.solve(gram, dense)
    torch.testing.assert_close(operator.pseudo_inverse(measurement, ridge=0.3).flatten(1), expected)


def test_the_squared_gain_is_that_of_the_matrix_or_above(operator):
    exact = torch.linalg.matrix_norm(matrix(operator), 2).item() ** 2
    assert operator.squared_gain == pytest.approx(exact, rel=1e-5)


def test_inpainting_shows_known_pixels_alone():
    mask = random_mask(1)
    measurement = Inpainting(mask)(random(2, *SHAPE))
    assert torch.equal(measurement, torch.where(mask, random(2, *SHAPE), 0))


def test_sparse_pixels_are_as_many_as_asked_and_repeat_themselves():
    mask = Inpainting.sparse(10, 7, 0.3, generator()).mask
    assert mask.shape == (1, 10, 7) and mask.sum() == 21
    assert torch.equal(mask, Inpainting.sparse(10, 7, 0.3, generator()).mask)
    assert not torch.equal(mask, Inpainting.sparse(10, 7, 0.3, generator(1)).mask)


def test_super_resolution_averages_squares_and_its_pseudo_inverse_repeats():
    image = torch.arange(16.0).view(1, 1, 4, 4)
    small = SuperResolution(2)(image)
    assert small.flatten().tolist() == [2.5, 4.5, 10.5, 12.5]
    assert SuperResolution(2).pseudo_inverse(small)[0, 0, :2].tolist() == [[2.5, 2.5, 4.5, 4.5]] * 2


def test_blur_is_a_convolution_on_the_torus():
    kernel, image = torch.rand(3, 5, generator=generator()), random(1, 1, 8, 8)
    expected = ndimage.convolve(image[0, 0].numpy(), kernel.double().numpy(), mode="wrap")
    torch.testing.assert_close(Blur(kernel)(image)[0, 0], torch.from_numpy(expected), rtol=1e-6, atol=1e-6)
    # away from the kernel's cut and the wrapped border, a Gaussian is scipy's
    wide = torch.zeros(1, 1, 16, 16, dtype=torch.float64)
    wide[0, 0, 8, 8] = 1
    expected = ndimage.gaussian_filter(wide[0, 0].numpy(), 1.0, truncate=3.0)
    torch.testing.assert_close(Blur.gaussian(1.0)(wide)[0, 0], torch.from_numpy(expected), rtol=0, atol=2e-3)


def test_what_a_strong_blur_loses_is_not_divided_by():
    measurement = Blur.gaussian(2.0)(torch.rand(1, 1, 32, 32, generator=generator()))
    assert Blur.gaussian(2.0).pseudo_inverse(measurement).abs().max() < 10


def test_colorization_keeps_the_luminance_of_pil():
    array = np.random.default_rng(0).integers(256, size=(5, 4, 3), dtype=np.uint8)
    grey = Colorization()(torch.from_numpy(array).permute(2, 0, 1)[None] / 255)
    assert np.abs(grey[0, 0].numpy() * 255 - np.asarray(Image.fromarray(array).convert("L"))).max() < 0.51


def test_saturation_clips_what_is_too_bright():
    image = torch.tensor([0.0, 0.2, 0.5, 0.9]).view(1, 1, 2, 2)
    assert Saturation(2.0)(image).flatten().tolist() == pytest.approx([0, 0.4, 1, 1])
    assert not isinstance(Saturation(2.0), LinearOperator)


@pytest.mark.parametrize(
    ("operator", "shape", "message"),
    [
        (Inpainting(torch.ones(3, 8, 8)), (3, 8, 9), "the operator takes images of shape (3, 8, 8), got (3, 8, 9)"),
        (Inpainting(torch.ones(3, 8, 8)), (1, 8, 8), "images of shape (3, 8, 8), got (1, 8, 8)"),
        (Inpainting(torch.ones(1, 8, 8)), (3, 9, 8), "images of shape (1, 8, 8) or with more channels, got (3, 9, 8)"),
        (SuperResolution(4), (1, 28, 30), "images whose height and width are multiples of 4, got (1, 28, 30)"),
        (Blur.gaussian(1.5), (1, 28, 10), "images of at least 11x11 pixels (its kernel's size), got (1, 28, 10)"),
        (Colorization(), (1, 8, 8), "images with 3 channels, got (1, 8, 8)"),
        (Saturation(2.0), (8, 8), "images, got (8, 8)"),
    ],
)
def test_images_that_do_not_fit(operator, shape, message):
    with refused() as error:
        operator(torch.zeros(2, *shape))
    assert str(error.value).endswith(message)


def test_measurements_that_do_not_fit():
    for operator, shape in (
        (Inpainting(torch.ones(1, 8, 8)), (1, 8, 9)),
        (Colorization(), (3, 8, 8)),
        (Blur.gaussian(1.5), (1, 8, 8)),
        (SuperResolution(2), (8, 8)),
    ):
        for method in (operator.adjoint, operator.pseudo_inverse):
            with pytest.raises(UserError, match=r"whose measurements do not have shape \("):
                method(torch.zeros(2, *shape))


@pytest.mark.parametrize(
    ("build", "message"),
    [
        (lambda: Inpainting(torch.ones(8, 8)), r"mask must be \(1 or channels, height, width\), got shape \(8, 8\)"),
        (lambda: Inpainting(torch.full((1, 8, 8), 0.5)), "mask must hold 1 where a pixel is known and 0 elsewhere"),
        (lambda: Inpainting.sparse(8, 8, 1.5), "share must be above 0 .* and at most 1, got 1.5"),
        (lambda: Inpainting.sparse(8, 8, 0.001), "one pixel at least"),
        (lambda: SuperResolution(1), "factor must be at least 2, got 1"),
        (lambda: Blur(torch.zeros(3, 3)), "kernel must be .* not zero"),
        (lambda: Blur(torch.ones(3)), r"kernel must be \(height, width\).* got shape \(3,\)"),
        (lambda: Blur.gaussian(0.0), "sigma must be above 0, got 0.0"),
        (lambda: Saturation(1.0), "gain must be above 1, got 1.0"),
    ],
)
def test_impossible_operators(build, message):
    with pytest.raises(UserError, match=message):
        build()
