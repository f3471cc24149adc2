"""The head of a polarimetric translator against NumPy, pixel by pixel, whatever the layers before it say."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch

from hf_genmodels import ResNetTranslator, UNetTranslator
from hf_genmodels.blocks.polarimetry import ConeHead, gain, into_disc, luminance
from hf_genmodels.losses import polarimetry as p
from hf_genmodels.metrics.polarimetry import c1_residual, c2_violation_rate, c3_violation_rate
from tests.testing_utils.refusals import refused

IDEAL = p.calibration_matrix().tolist()
TURNED = [[0.5, math.cos(2 * t) / 2, math.sin(2 * t) / 2] for t in (0.2 + k * math.pi / 4 for k in range(4))]
WEAK = [[0.55, 0.4, 0.02], [0.5, 0.03, 0.45], [0.45, -0.4, 0.0], [0.5, 0.0, -0.44]]
CAMERAS = [None, TURNED, WEAK]
NEGATIVE = [[0.48, 0.5, 0.0], [0.5, 0.0, 0.5], [0.5, -0.5, 0.0], [0.5, 0.0, -0.5]]

SMALL, LARGE = torch.finfo(torch.float32).tiny, torch.finfo(torch.float32).max
ADVERSARIAL = [0.0, -0.0, SMALL, -1e-30, 1e-8, 1.0, -3.0, 90.0, -90.0, 1e10, -1e25, LARGE, -LARGE]


def raw_numbers(strength=1.0, seed=0, size=(6, 5)):
    return torch.randn(2, 3, *size, generator=torch.Generator().manual_seed(seed)) * strength


def adversarial_numbers():
    """All triples of extreme numbers as one image."""
    triples = torch.cartesian_prod(*[torch.tensor(ADVERSARIAL)] * 3)
    return triples.T[None, :, :, None].contiguous()


def source(raw, seed=1):
    return torch.rand(len(raw), 3, *raw.shape[2:], generator=torch.Generator().manual_seed(seed)) * 2 - 1


def slow_pixel(numbers, matrix, light=None):
    """(I0, I45, I90, I135) in [0, 1] of three numbers; of so much light where it is given."""
    z, *v = (float(number) for number in numbers)
    length = math.hypot(*v)
    degree, angle = length / math.hypot(1, length), math.atan2(v[1], v[0]) / 2
    of_unit = np.array(matrix) @ [1, degree * math.cos(2 * angle), degree * math.sin(2 * angle)]
    if light is None:
        return of_unit * (1 + math.tanh(z)) / 2 / of_unit.max()
    s0 = light / np.mean([row[0] for row in matrix])
    return of_unit * min(s0, 1 / of_unit.max())


def slow_gain(raw):
    """The gain of each pixel of (height, width) numbers."""
    height, width = raw.shape
    factors = np.empty((height, width))
    for row, column in np.ndindex(height, width):
        near = raw[max(0, row - 4) : row + 5, max(0, column - 4) : column + 5]
        factors[row, column] = 4 ** math.tanh(near.mean())
    return factors


def assert_admissible(made, camera):
    """C1, C2, C3 and the camera's range, for both left inverses where both belong to the camera."""
    a = torch.tensor(camera or IDEAL)
    intensities = (made.double() + 1) / 2
    assert intensities.min() >= -1e-6 and intensities.max() <= 1 + 1e-6
    for kind in ("authors", "orthogonal") if camera is None else ("orthogonal",):
        b = p.left_inverse(a, kind)
        again = p.intensities_from_stokes(p.stokes_vector(intensities, b), a.double())
        assert (intensities - again).abs().max() <= 1e-6
        assert c2_violation_rate(intensities, b).max() == c3_violation_rate(intensities, b).max() == 0
        assert c1_residual(intensities, a, b).max() < 1e-6


@pytest.mark.parametrize("strength", [0.02, 1.0, 30.0])
@pytest.mark.parametrize("camera", CAMERAS)
def test_a_learned_brightness(camera, strength):
    raw = raw_numbers(strength)
    made = ConeHead(camera)(raw, source(raw))
    assert made.dtype == torch.float32 and made.shape == (2, 4, 6, 5)
    assert_admissible(made, camera)
    for image, row, column in np.ndindex(2, 6, 5):
        expected = slow_pixel(raw[image, :, row, column], camera or IDEAL)
        np.testing.assert_allclose((made[image, :, row, column] + 1) / 2, expected, atol=1e-6)


@pytest.mark.parametrize("strength", [0.02, 1.0, 30.0])
@pytest.mark.parametrize("camera", CAMERAS)
def test_the_brightness_of_the_input(camera, strength):
    raw = raw_numbers(strength, size=(12, 11))
    image = source(raw)
    made = ConeHead(camera, "input")(raw, image)
    assert_admissible(made, camera)
    dimmed = 0
    for number in range(2):
        light = (image[number].double().mean(0).numpy() + 1) / 2 * slow_gain(raw[number, 0].double().numpy())
        for row, column in np.ndindex(12, 11):
            expected = slow_pixel(raw[number, :, row, column], camera or IDEAL, light[row, column])
            dimmed += expected.max() > 1 - 1e-9
            np.testing.assert_allclose((made[number, :, row, column] + 1) / 2, expected, atol=2e-6)
    assert dimmed > 0 or strength < 1


@pytest.mark.parametrize("intensity_source", ["learned", "input"])
@pytest.mark.parametrize("camera", CAMERAS)
def test_numbers_of_an_adversary(camera, intensity_source):
    raw = adversarial_numbers().requires_grad_()
    if intensity_source == "input":  # sums of so large numbers over a window are infinite in any network
        raw = raw.detach().clamp(-1e30, 1e30).requires_grad_()
    image = torch.linspace(-1, 1, raw.shape[2])[None, None, :, None].expand(-1, 3, -1, -1)
    made = ConeHead(camera, intensity_source)(raw, image)
    assert_admissible(made, camera)
    (made * torch.arange(1, 5)[:, None, None]).sum().backward()
    assert raw.grad.isfinite().all()


def test_the_gradient_where_nothing_is_polarised():
    """It leads out of there, in every direction alike; that of a degree and a direction would not exist."""
    vectors = torch.zeros(1, 2, 1, 1, dtype=torch.float64, requires_grad=True)
    jacobian = torch.autograd.functional.jacobian(into_disc, vectors).reshape(2, 2)
    torch.testing.assert_close(jacobian, torch.eye(2, dtype=torch.float64))


@pytest.mark.parametrize("intensity_source", ["learned", "input"])
def test_gradients_against_differences(intensity_source):
    raw = raw_numbers(0.7, size=(3, 2)).double().requires_grad_()
    image = source(raw).double() * 0.5 - 0.4
    assert torch.autograd.gradcheck(lambda numbers: ConeHead(None, intensity_source)(numbers, image), raw)


def test_every_admissible_pixel_can_be_had():
    generator = np.random.default_rng(0)
    a = np.array(IDEAL)
    for _ in range(50):
        degree, angle, brightest = generator.uniform(0, 0.999), generator.uniform(0, math.pi), generator.uniform(0, 1)
        wanted = a @ [1, degree * math.cos(2 * angle), degree * math.sin(2 * angle)]
        wanted *= brightest / wanted.max()
        length = degree / math.sqrt(1 - degree**2)
        numbers = [math.atanh(2 * brightest - 1), length * math.cos(2 * angle), length * math.sin(2 * angle)]
        made = ConeHead()(torch.tensor(numbers).reshape(1, 3, 1, 1), torch.zeros(1, 3, 1, 1))
        np.testing.assert_allclose((made.flatten() + 1) / 2, wanted, atol=1e-5)


def test_low_precision_before_the_head_is_none_after_it():
    raw = raw_numbers(3.0).bfloat16()
    assert_admissible(ConeHead()(raw, source(raw).bfloat16()), None)
    with torch.autocast("cpu", torch.bfloat16):
        network = ResNetTranslator(3, 4, 8, width=2, num_blocks=1, output_head="cone")
        assert_admissible(network(torch.rand(2, 3, 8, 8)).sample.detach(), None)


def test_luminance_and_gain():
    image = torch.tensor([[-1.0, -1.0, -1.0], [1.0, 1.0, 1.0], [0.0, 1.0, -1.0]]).reshape(3, 3, 1, 1)
    assert luminance(image).flatten().tolist() == pytest.approx([0.5 / 255, 1.0, 0.5])
    factors = gain(torch.tensor([-1e9, 0.0, 1e9]).reshape(3, 1, 1, 1))
    assert factors.flatten().tolist() == pytest.approx([0.25, 1.0, 4.0])


@pytest.mark.parametrize("network_class", [ResNetTranslator, UNetTranslator])
@pytest.mark.parametrize("camera", [None, TURNED])
def test_a_saved_network_keeps_its_head(network_class, camera, tmp_path):
    shape = {"num_downs": 2, "dropout": 0.0} if network_class is UNetTranslator else {"num_blocks": 1}
    torch.manual_seed(0)
    head = {"output_head": "cone", "intensity_source": "input", "calibration": camera}
    network = network_class(3, 4, 8, width=2, **shape, **head).eval()
    for parameter in network.parameters():
        torch.nn.init.normal_(parameter, std=0.5)
    network.save_pretrained(tmp_path)
    loaded, image = network_class.from_pretrained(tmp_path), torch.rand(2, 3, 8, 12) * 2 - 1
    with torch.no_grad():
        assert torch.equal(loaded(image).sample, network(image).sample)
    assert_admissible(loaded(image).sample.detach(), camera)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"output_head": "stokes"}, "output_head 'stokes'"),
        (
            {"output_head": "cone", "out_channels": 3},
            '"cone" makes the four intensities of a polarimetric camera, not 3',
        ),
        ({"output_head": "cone", "intensity_source": "output"}, "intensity_source 'output'"),
        ({"output_head": "cone", "calibration": IDEAL[:3]}, "calibration must be four rows"),
        ({"output_head": "cone", "calibration": [[1.0] * 3] * 4}, "its columns are not independent"),
        (
            {"output_head": "cone", "calibration": NEGATIVE},
            r"needs a calibration whose rows have \|\|\(a1, a2\)\|\| <= a0",
        ),
        ({"intensity_source": "input"}, 'intensity_source is of output_head "cone"; leave it out'),
        ({"calibration": TURNED}, 'calibration is of output_head "cone"; leave it out'),
    ],
)
def test_heads_that_do_not_exist(options, message):
    with refused(message):
        ResNetTranslator(**({"out_channels": 4, "sample_size": 8, "width": 2, "num_blocks": 1} | options))
