"""The stationary texture: slow formulas, and the moments of samples against their sampling errors."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch

from hf_genmodels import StationaryTexture, UserError
from hf_genmodels.models.texture import periodic_component
from tests.testing_utils.models import ModelTesterMixin

METHODS = ("adsn", "random_phase")
COUNT = 64


class TestStationaryTexture(ModelTesterMixin):
    model_class = StationaryTexture
    configs = ({"in_channels": 1, "sample_size": 5}, {"in_channels": 3, "sample_size": 6})

    def inputs(self, config, generator):
        size = config["sample_size"]
        return {"latents": torch.randn(2, size, size, generator=generator)}


def exemplar(size: int = 48, channels: int = 3) -> torch.Tensor:
    """A picture with a grain, a slope (so it is not periodic) and channels that belong together, in [-1, 1]."""
    generator = torch.Generator().manual_seed(5)
    white = torch.randn(channels, size + 4, size + 4, generator=generator)
    white = white + 2 * white[:1]
    grain = torch.nn.functional.avg_pool2d(white, (5, 3), 1)[:, :size, :size]
    slope = torch.linspace(-0.2, 0.3, size)[:, None]
    return (0.25 * grain + slope).clamp(-1, 1)


def fitted(image: torch.Tensor) -> StationaryTexture:
    texture = StationaryTexture(len(image), image.shape[1])
    texture.set_exemplar(image)
    return texture


def white_noise(size: int, count: int = COUNT) -> torch.Tensor:
    return torch.randn(count, size, size, generator=torch.Generator().manual_seed(11))


def autocorrelation(fields: torch.Tensor) -> torch.Tensor:
    """Means over positions x of X_a(x) X_b(x + lag): (..., channels, h, w) -> (..., channels, channels, h, w)."""
    spectrum = torch.fft.fft2(fields.double())
    products = spectrum.conj()[..., :, None, :, :] * spectrum[..., None, :, :, :]
    return torch.fft.ifft2(products).real / fields.shape[-1] ** 2


# the periodic component ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("shape", [(6, 6), (5, 7), (2, 3), (1, 4)])
def test_periodic_component_solves_moisans_equation(shape):
    """By a dense matrix: its Laplacian around the torus is the image's own over the neighbours inside; same mean."""
    height, width = shape
    image = torch.randn(shape, generator=torch.Generator().manual_seed(0)).double().numpy()
    pixels = height * width
    torus, inside = np.zeros((pixels, pixels)), np.zeros((pixels, pixels))
    for row in range(height):
        for column in range(width):
            for down, right in ((1, 0), (-1, 0), (0, 1), (0, -1)):
                here = row * width + column
                other = (row + down) % height * width + (column + right) % width
                torus[here, other] += 1
                torus[here, here] -= 1
                if 0 <= row + down < height and 0 <= column + right < width:
                    inside[here, other] += 1
                    inside[here, here] -= 1
    system = np.concatenate([torus, np.ones((1, pixels))])
    right_side = np.append(inside @ image.ravel(), image.sum())
    expected = np.linalg.lstsq(system, right_side, rcond=None)[0].reshape(shape)
    assert periodic_component(torch.from_numpy(image)).numpy() == pytest.approx(expected, abs=1e-10)


def test_a_periodic_image_hardly_changes_and_a_slope_vanishes_at_the_borders():
    axis = 2 * math.pi * torch.arange(64) / 64
    waves = torch.sin(3 * axis)[:, None] + torch.cos(2 * axis)
    assert (periodic_component(waves) - waves).abs().max() < 0.2  # its border's neighbours differ by one step
    slope = torch.linspace(-1, 1, 64)[:, None].expand(64, 64)
    periodic = periodic_component(slope)
    assert (periodic[0] - periodic[-1]).abs().max() < 0.1 * 2
    assert periodic.mean() == pytest.approx(0, abs=1e-7)


# one sample ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("size", [5, 6])
def test_adsn_is_the_spot_convolved_with_the_noise(size):
    image = exemplar(size)
    texture, noise = fitted(image), white_noise(size, 2)
    spot = (periodic_component(image) - periodic_component(image).mean((1, 2), keepdim=True)) / size
    expected = torch.zeros(2, 3, size, size, dtype=torch.float64)
    for row in range(size):
        for column in range(size):
            shifted = spot.roll((row, column), (1, 2))
            expected += noise[:, row, column].double()[:, None, None, None] * shifted
    expected += image.mean((1, 2)).double()[:, None, None]
    torch.testing.assert_close(texture(noise).sample.double(), expected, rtol=0, atol=1e-6)


@pytest.mark.parametrize("size", [7, 8])
def test_random_phase_adds_one_odd_phase_to_all_channels(size):
    texture = fitted(exemplar(size))
    samples = texture(white_noise(size, 3), method="random_phase").sample.detach().double()
    ratio = torch.fft.fft2(samples) / torch.fft.fft2(texture.exemplar.detach().double())
    ratio[..., 0, 0] = 1
    torch.testing.assert_close(ratio.abs(), torch.ones_like(ratio.abs()), rtol=0, atol=1e-4)
    torch.testing.assert_close(ratio, ratio[:, :1].expand_as(ratio), rtol=0, atol=1e-3)
    mirrored = ratio.flip(2, 3).roll((1, 1), (2, 3))  # the opposite frequency
    torch.testing.assert_close(ratio, mirrored.conj(), rtol=0, atol=1e-4)
    torch.testing.assert_close(
        ratio[:, 0].angle().exp()[:, 0, 1:3],
        torch.fft.fft2(white_noise(size, 3).double()).angle().exp()[:, 0, 1:3],
        rtol=0,
        atol=1e-3,
    )


# moments of 64 samples -----------------------------------------------------------------------------------------------


def test_mean_of_the_samples():
    texture = fitted(exemplar())
    samples = texture(white_noise(48)).sample.detach().double()
    mean = texture.mean.detach().double()
    # the spot has mean zero, so over the pixels the mean is exact
    torch.testing.assert_close(samples.mean((2, 3)), mean.expand(COUNT, 3), rtol=0, atol=1e-5)
    # at a pixel it is Gaussian with variance C(0) / 64; its mean square over N pixels has variance
    # 2/N sum_u C(u)^2 / 64^2
    covariance = autocorrelation(texture.exemplar.detach() - mean[:, None, None])
    squares = (samples.mean(0) - mean[:, None, None]).square().mean((1, 2))
    for channel in range(3):
        own = covariance[channel, channel]
        expected, std = own[0, 0] / COUNT, (2 * own.square().mean()).sqrt() / COUNT
        assert abs(squares[channel] - expected) / std < 4.5


def lag_errors(covariance: torch.Tensor, a: int, b: int) -> torch.Tensor:
    """Standard error of the mean over positions of X_a(x) X_b(x + lag), for each lag, of one sample.

    By Isserlis' theorem (1/N) sum_u [C_aa(u) C_bb(u) + C_ab(u + lag) C_ba(u - lag)] for a stationary Gaussian field on
    a torus of N pixels. (C_ba(u - lag) = C_ab(lag - u), so the second sum is a convolution of C_ab with itself.)
    """
    pixels = covariance.shape[-1] ** 2
    same = (covariance[a, a] * covariance[b, b]).sum()
    # sum over u of C_ab(lag + u) C_ab(lag - u): the self-convolution, taken at twice the lag
    size = covariance.shape[-1]
    doubled = torch.fft.ifft2(torch.fft.fft2(covariance[a, b]).square()).real
    index = 2 * torch.arange(size) % size
    return ((same + doubled[index][:, index]) / pixels).sqrt()


def test_lag_errors_against_the_plain_sum():
    covariance = autocorrelation(exemplar(6) - exemplar(6).mean((1, 2), keepdim=True))
    errors = lag_errors(covariance, 0, 2)
    for lag in ((0, 0), (1, 4), (3, 5)):
        total = 0.0
        for row in range(6):
            for column in range(6):
                plus = covariance[0, 2, (row + lag[0]) % 6, (column + lag[1]) % 6]
                minus = covariance[2, 0, (row - lag[0]) % 6, (column - lag[1]) % 6]
                total += covariance[0, 0, row, column] * covariance[2, 2, row, column] + plus * minus
        assert errors[lag] == pytest.approx(math.sqrt(total / 36), rel=1e-10)


def z_scores(image: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """For 64 ADSN samples, by channels and lag: z-scores of the mean of their autocorrelations, and of each."""
    texture = fitted(image)
    centred = texture.exemplar.detach().double() - texture.mean.detach().double()[:, None, None]
    covariance = autocorrelation(centred)
    size, channels = image.shape[1], len(image)
    noise = white_noise(size)
    measured = []
    for latents in noise.split(8):
        fields = texture(latents).sample.detach().double() - texture.mean.detach().double()[:, None, None]
        measured.append(autocorrelation(fields))
    errors = torch.stack(
        [torch.stack([lag_errors(covariance, a, b) for b in range(channels)]) for a in range(channels)]
    )
    each = (torch.cat(measured) - covariance) / errors
    return each.mean(0) * math.sqrt(COUNT), each


def check_spread(image: torch.Tensor, each: torch.Tensor) -> None:
    """The squares of the scores of 64 samples have mean 1 over all lags, or the standard errors are wrong.

    By Parseval's theorem that mean is one over frequencies of power^2 (E - 1)^2, with E ~ Exp(1) at pairs of opposite
    frequencies; (E - 1)^2 has mean 1 and variance 8.
    """
    power = torch.fft.fft2(fitted(image).spot[0].detach().double()).abs().square()
    std = (2 * 8 * power.pow(4).sum() / COUNT).sqrt() / power.square().sum()
    assert abs(each[:, 0, 0].square().mean() - 1) < 4.5 * std < 1


def test_variance_and_autocorrelation_of_adsn_samples_are_within_their_sampling_errors():
    """Of every lag and every pair of channels, in units of standard errors that are themselves right."""
    mean, each = z_scores(exemplar())
    assert mean.abs().max() < 4.5
    check_spread(exemplar(), each)


def test_the_same_on_a_photograph(data_root):
    from PIL import Image

    with Image.open(data_root / "textures" / "gravel.png") as picture:
        pixels = torch.from_numpy(np.asarray(picture.convert("L"))[:128, :128].copy())
    photograph = pixels[None].float() / 127.5 - 1
    mean, each = z_scores(photograph)
    assert mean.abs().max() < 4.5
    check_spread(photograph, each)


def test_autocorrelation_of_random_phase_samples_is_exact():
    texture = fitted(exemplar())
    samples = texture(white_noise(48, 8), method="random_phase").sample.detach()
    torch.testing.assert_close(samples.mean((2, 3)), texture.mean.detach().expand(8, 3), rtol=0, atol=1e-5)
    expected = autocorrelation(texture.exemplar.detach())
    torch.testing.assert_close(autocorrelation(samples), expected.expand(8, -1, -1, -1, -1), rtol=0, atol=1e-5)
    # and they are other textures than the exemplar and each other
    assert (samples[0] - samples[1]).std() > 0.5 * samples[0].std()


def test_white_noise_until_it_is_fitted():
    torch.manual_seed(0)
    samples = StationaryTexture(1, 32)(white_noise(32)).sample
    assert samples.std().item() == pytest.approx(0.5, rel=0.1)


def test_errors():
    with pytest.raises(UserError, match="method 'spot' is unknown; choose one of: adsn, random_phase"):
        StationaryTexture(1, 4)(torch.zeros(1, 4, 4), method="spot")
    with pytest.raises(UserError, match=r"latents must be \(batch, 4, 4\), got \(1, 5, 4\)"):
        StationaryTexture(1, 4)(torch.zeros(1, 5, 4))
    with pytest.raises(UserError, match="sample_size 0 is neither a positive whole number nor two"):
        StationaryTexture(1, 0)
