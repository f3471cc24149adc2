"""Errors at known pixels, satisfied shares and the spread of samples against loops."""

from __future__ import annotations

import statistics

import pytest
import torch

from hf_genmodels import UserError
from hf_genmodels.metrics.constraints import constraint_errors, satisfied_share, spread


def example(channels: int) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(0)
    samples, values = (torch.rand(4, channels, 5, 4, generator=generator) * 2 - 1 for _ in range(2))
    return samples, values, torch.rand(4, 1, 5, 4, generator=generator) < 0.5


def known_pixels(samples, values, mask, image):
    """Errors of the channels, for each known pixel of one image."""
    for row in range(samples.shape[2]):
        for column in range(samples.shape[3]):
            if mask[image, 0, row, column]:
                yield [
                    samples[image, channel, row, column].item() - values[image, channel, row, column].item()
                    for channel in range(samples.shape[1])
                ]


@pytest.mark.parametrize("channels", [1, 3])
def test_errors_and_shares_of_each_sample(channels):
    samples, values, mask = example(channels)
    errors, shares = constraint_errors(samples, values, mask), satisfied_share(samples, values, mask)
    wide = satisfied_share(samples, values, mask.float(), epsilon=0.4)
    assert errors.shape == shares.shape == (4,) and errors.dtype == torch.float64
    for image in range(4):
        pixels = list(known_pixels(samples, values, mask, image))
        squared = [sum(e**2 for e in pixel) for pixel in pixels]
        assert errors[image].item() == pytest.approx(sum(squared) / len(pixels) / channels)
        assert shares[image].item() == pytest.approx(sum(s < 0.1 * channels for s in squared) / len(pixels))
        assert wide[image].item() == pytest.approx(sum(s < 0.4 * channels for s in squared) / len(pixels))
    assert wide.sum() > shares.sum() > 0


def test_errors_of_channels_do_not_cancel():
    values = torch.zeros(1, 2, 1, 1)
    samples = torch.tensor([1.0, -1.0]).view(1, 2, 1, 1)
    assert satisfied_share(samples, values, torch.ones(1, 1, 1, 1)).item() == 0


def test_a_mask_without_a_known_pixel_is_named():
    samples, values, mask = example(1)
    mask[2] = False
    for metric in (constraint_errors, satisfied_share):
        with pytest.raises(UserError, match="mask 2 has no known pixel; each needs at least one"):
            metric(samples, values, mask)
        with pytest.raises(UserError, match="do not belong together"):
            metric(samples, values[:1], mask)


def test_spread_is_the_mean_deviation_of_an_entry():
    samples = torch.randn(2, 5, 3, 2, 2, generator=torch.Generator().manual_seed(0))
    for of_map, actual in zip(samples, spread(samples), strict=True):
        deviations = [statistics.stdev(entry) for entry in of_map.flatten(1).T.tolist()]
        assert actual.item() == pytest.approx(statistics.mean(deviations), rel=1e-6)
    assert spread(samples[:, :1].expand(-1, 4, -1, -1, -1)).tolist() == [0, 0]


@pytest.mark.parametrize("shape", [(3, 1, 4, 4), (2, 1, 1, 4, 4)])
def test_spread_needs_several_samples_of_each_map(shape):
    with pytest.raises(UserError, match="at least two samples of each map"):
        spread(torch.zeros(shape))
