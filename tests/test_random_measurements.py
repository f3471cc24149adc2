"""Random measurements, and a GAN that learns whole images from them."""

from __future__ import annotations

import pytest
import torch

from hf_genmodels import DataSpec, GANObjective, MLPDiscriminator, MLPGenerator, Noise
from hf_genmodels.operators import Blur
from hf_genmodels.random_measurements import RandomMeasurement
from tests.testing_utils.refusals import refused

WHITE = torch.ones(300, 2, 6, 5)


def test_pixels_are_dropped_independently_in_all_channels():
    measured = RandomMeasurement.parse("drop 0.7")(WHITE, Noise(0))
    assert torch.equal(measured.unique(), torch.tensor([-1.0, 1.0]))
    assert torch.equal(measured[:, 0], measured[:, 1])
    lost = (measured[:, 0] == -1).double()
    assert lost.mean().item() == pytest.approx(0.7, abs=4 * (0.21 / 9000) ** 0.5)
    assert len({tuple(each.flatten().tolist()) for each in lost}) == 300


def test_a_patch_is_lost_wherever_it_fits():
    lost = RandomMeasurement.parse("patch 3")(WHITE, Noise(0))[:, 0] == -1
    assert (lost.sum((1, 2)) == 9).all()
    corners = {tuple(each.nonzero()[0].tolist()) for each in lost}
    assert corners == {(top, left) for top in range(4) for left in range(3)}
    assert all((each.any(1).sum(), each.any(0).sum()) == (3, 3) for each in lost)


def test_blur_and_noise_in_the_units_of_0_to_1():
    image = torch.rand(400, 1, 8, 8, generator=torch.Generator().manual_seed(0)) * 2 - 1
    measured = (RandomMeasurement.parse("blur 0.6 0.2")(image, Noise(0)) + 1) / 2
    rest = measured - Blur.gaussian(0.6)((image + 1) / 2)
    assert rest.std().item() == pytest.approx(0.2, rel=0.03)
    assert abs(rest.mean().item()) < 4 * 0.2 / 25600**0.5


@pytest.mark.parametrize("text", ["drop 0.5", "patch 3", "blur 0.6 0.2"])
def test_two_shares_are_measured_as_the_whole(text):
    measure, image = RandomMeasurement.parse(text), torch.rand(4, 1, 8, 8)
    parts = [measure(image[2 * share : 2 * share + 2], Noise(3, share, 2)) for share in range(2)]
    torch.testing.assert_close(torch.cat(parts), measure(image, Noise(3)), rtol=0, atol=1e-6)


@pytest.mark.parametrize("measured_data", [False, True])
def test_the_discriminator_sees_measurements_alone(measured_data):
    data = DataSpec("images", 1, (6, 6), 255.0, None, None, "0" * 12)
    seen = []

    class Watched(MLPDiscriminator):
        def forward(self, sample, *args, **kwargs):
            seen.append(sample.detach().clone())
            return super().forward(sample, *args, **kwargs)

    networks = {"generator": MLPGenerator(2, 1, 6, hidden_dims=(8,)), "discriminator": Watched(1, 6, hidden_dims=(8,))}
    objective = GANObjective(
        *networks.values(), data, measurement=RandomMeasurement.parse("drop 0.5"), measured_data=measured_data
    )
    batch = {"image": torch.full((4, 1, 6, 6), 0.25)}
    for phase in objective.phases:
        objective.losses(phase, networks, batch, Noise(0), {})
    real, *fakes = seen
    assert (real == -1).any().item() is not measured_data
    assert len(fakes) == 2 and all(0.2 < (fake == -1).float().mean() < 0.8 for fake in fakes)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("inpaint 0.5", "--measurement must be 'drop SHARE', 'patch PIXELS', 'blur SIGMA STD', got 'inpaint 0.5'"),
        ("", "--measurement must be"),
        ("drop", "--measurement must be"),
        ("drop half", "--measurement must be"),
        ("drop 1.5", "the share must lie between 0 and 1, got 1.5"),
        ("patch 2.5", "the side must be a whole number of pixels, got 2.5"),
        ("blur 0 0.1", "sigma must be above 0 and std at least 0"),
        ("patch inf", "--measurement must have finite numbers"),
        ("blur 1 inf", "--measurement must have finite numbers"),
    ],
)
def test_impossible_measurements(text, message):
    with refused() as error:
        RandomMeasurement.parse(text)
    assert message in str(error.value)


def test_data_that_it_does_not_measure():
    with refused("the data are vectors"):
        RandomMeasurement.parse("drop 0.5").check_size(None)
    with refused("covers images of 8x8 pixels"):
        RandomMeasurement.parse("patch 8").check_size((8, 8))
    with refused("at least 13x13 pixels"):
        RandomMeasurement.parse("blur 2 0").check_size((8, 8))
