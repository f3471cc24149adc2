import pytest
import torch
from torch import nn

from hf_genmodels.errors import UserError
from hf_genmodels.models.patch_discriminator import PatchDiscriminator
from tests.testing_utils.adversarial import AdversarialTesterMixin
from tests.testing_utils.refusals import refused
from tests.testing_utils.translators import copy_in_order, reference_patch_discriminator

FIELDS = pytest.mark.parametrize("receptive_field", [1, 16, 70, 286])


class TestPatchDiscriminator(AdversarialTesterMixin):
    model_class = PatchDiscriminator
    configs = (
        {"in_channels": 1, "width": 2, "receptive_field": 1},
        {"in_channels": 4, "width": 2, "receptive_field": 16, "norm": "instance"},
        {"in_channels": 6, "width": 2},
        {"width": 2, "norm": "spectral"},
        {"width": 1, "receptive_field": 286, "norm": "none"},
    )

    def inputs(self, config, generator):
        size = 96 if config.get("receptive_field") == 286 else 24
        return {"sample": torch.rand(2, config.get("in_channels", 3), size, size, generator=generator) * 2 - 1}


@FIELDS
@pytest.mark.parametrize("norm", ["batch", "instance", "none"])
def test_layers_are_the_authors(receptive_field, norm):
    reference = reference_patch_discriminator(receptive_field, 4, norm, inp=2)
    ours = PatchDiscriminator(2, 4, receptive_field, norm)
    copy_in_order(reference, ours)
    sample = torch.rand(2, 2, 104, 128, generator=torch.Generator().manual_seed(1)) * 2 - 1
    for training in (False, True):
        expected = reference.train(training)(sample)
        assert expected.std() > 0.02
        torch.testing.assert_close(ours.train(training)(sample).logits, expected, atol=1e-5, rtol=0)


@FIELDS
def test_a_logit_depends_on_its_patch_alone(receptive_field):
    network = PatchDiscriminator(1, 1, receptive_field).eval()
    for module in network.modules():
        if isinstance(module, nn.Conv2d):
            nn.init.constant_(module.weight, 1)
    sample = torch.rand(1, 1, 512, 512, requires_grad=True)
    logits = network(sample).logits
    middle = logits.shape[2] // 2
    (gradient,) = torch.autograd.grad(logits[0, 0, middle, middle], sample)
    for axis in (0, 1):
        touched = gradient[0, 0].abs().sum(axis).nonzero()
        assert touched.max() - touched.min() + 1 == len(touched) == receptive_field


@pytest.mark.parametrize(("receptive_field", "side", "rows"), [(1, 5, 5), (16, 32, 14), (70, 256, 30), (286, 256, 6)])
def test_one_logit_for_each_patch(receptive_field, side, rows):
    network = PatchDiscriminator(3, 1, receptive_field)
    output = network(torch.rand(2, 3, side, side + 32))
    more = {1: 32, 16: 16, 70: 4, 286: 1}[receptive_field]
    assert output.logits.shape == (2, 1, rows, rows + more)
    torch.testing.assert_close(network.to_logits(output.features), output.logits)


def test_initial_weights():
    torch.manual_seed(0)
    network = PatchDiscriminator(3, 32)
    for module in network.modules():
        if isinstance(module, nn.Conv2d):
            assert module.weight.std().item() == pytest.approx(0.02, rel=0.06)
            assert module.bias is None or module.bias.abs().sum() == 0
        elif isinstance(module, nn.BatchNorm2d):
            assert module.weight.mean().item() == pytest.approx(1, abs=0.02)
            assert module.weight.std().item() == pytest.approx(0.02, rel=0.3)


def test_spectral_norm_bounds_every_weight():
    torch.manual_seed(0)
    network = PatchDiscriminator(3, 4, norm="spectral")
    for _ in range(20):
        network(torch.zeros(1, 3, 24, 24))
    for module in network.eval().modules():
        if isinstance(module, nn.Conv2d):
            assert torch.linalg.matrix_norm(module.weight.flatten(1), 2).item() == pytest.approx(1, abs=0.05)


@pytest.mark.parametrize(
    ("build", "message"),
    [
        (lambda: PatchDiscriminator(receptive_field=34), "receptive_field must be 1, 16, 70 or 286, got 34"),
        (lambda: PatchDiscriminator(norm="layer"), "norm 'layer' is unknown; choose one of: batch, instance, none"),
        (lambda: PatchDiscriminator(width=0), "width must be at least 1, got 0"),
        (lambda: PatchDiscriminator(in_channels=0), "in_channels must be at least 1, got 0"),
        (
            lambda: PatchDiscriminator(width=1)(torch.zeros(1, 3, 23, 64)),
            r"PatchDiscriminator: height and width must be at least 24, got a sample of shape \(1, 3, 23, 64\)",
        ),
        (
            lambda: PatchDiscriminator(6, width=1)(torch.zeros(1, 3, 64, 64)),
            r"takes samples of shape \(batch, 6, height, width\), got \(1, 3, 64, 64\)",
        ),
    ],
)
def test_impossible_networks_and_inputs_are_one_line_errors(build, message):
    with refused(message):
        build()


@pytest.mark.parametrize(("receptive_field", "smallest"), [(16, 6), (70, 24), (286, 96)])
def test_smallest_image_has_one_logit(receptive_field, smallest):
    network = PatchDiscriminator(1, 1, receptive_field, "instance")
    assert network(torch.rand(1, 1, smallest, smallest)).logits.shape == (1, 1, 1, 1)
    with pytest.raises(UserError, match=f"at least {smallest}"):
        network(torch.rand(1, 1, smallest - 1, smallest))
