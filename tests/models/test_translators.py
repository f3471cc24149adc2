import math

import pytest
import torch
from torch import nn

from hf_genmodels.errors import UserError
from hf_genmodels.models.resnet_translator import ResNetTranslator
from hf_genmodels.models.unet_translator import UNetTranslator
from hf_genmodels.pipelines.translation import check_tile
from tests.testing_utils.models import ModelTesterMixin
from tests.testing_utils.refusals import refused
from tests.testing_utils.translators import copy_in_order, reference_resnet, reference_unet


class TranslatorTester(ModelTesterMixin):
    def inputs(self, config, generator):
        size = config["sample_size"]
        return {"sample": torch.rand(2, config.get("in_channels", 3), size, size, generator=generator) * 2 - 1}


class TestUNetTranslator(TranslatorTester):
    model_class = UNetTranslator
    configs = (
        {"sample_size": 4, "width": 2, "num_downs": 2},
        {"in_channels": 1, "out_channels": 4, "sample_size": 64, "width": 1, "num_downs": 6, "norm": "instance"},
        {"sample_size": 8, "width": 2, "num_downs": 3, "norm": "none", "dropout": 0.0},
        {"sample_size": 8, "width": 2, "num_downs": 3, "norm_statistics": "image"},
        {"out_channels": 4, "sample_size": 4, "width": 2, "num_downs": 2, "output_head": "cone"},
    )


class TestResNetTranslator(TranslatorTester):
    model_class = ResNetTranslator
    configs = (
        {"in_channels": 1, "out_channels": 2, "sample_size": 8, "width": 2, "num_blocks": 2},
        {"sample_size": 12, "width": 2, "num_blocks": 1, "norm": "batch", "dropout": 0.5, "norm_statistics": "image"},
        {"in_channels": 3, "out_channels": 4, "sample_size": 8, "width": 2, "num_blocks": 2, "layout": "polarcycle"},
        {"sample_size": 8, "width": 2, "num_blocks": 0, "norm": "none"},
        {"out_channels": 4, "sample_size": 8, "width": 2, "num_blocks": 1, "output_head": "cone"}
        | {
            "intensity_source": "input",
            "calibration": [[0.5, 0.4, 0.1], [0.5, 0.0, 0.5], [0.4, -0.4, 0], [0.6, 0, -0.5]],
        },
    )


# the authors' layers -----------------------------------------------------------------------------------------------


def assert_same(ours, reference, sample, training=False):
    """Outputs of two networks, with the same dropout where they train."""
    results = []
    for network in (ours, reference):
        network.train(training)
        torch.manual_seed(5)
        with torch.no_grad():
            results.append(network(sample))
    actual, expected = results[0].sample, results[1]
    assert 0.05 < expected.abs().mean() < 0.95  # neither silent nor saturated
    torch.testing.assert_close(actual, expected, atol=1e-5, rtol=0)


@pytest.mark.parametrize(
    ("num_downs", "norm", "size"),
    [(7, "batch", (128, 128)), (8, "batch", (256, 256)), (8, "instance", (256, 256)), (7, "none", (128, 256))],
)
def test_unet_is_the_authors(num_downs, norm, size):
    reference = reference_unet(num_downs, 4, norm, inp=2, out=3)
    ours = UNetTranslator(2, 3, width=4, num_downs=num_downs, norm=norm)
    copy_in_order(reference, ours)
    sample = torch.rand(2, 2, *size, generator=torch.Generator().manual_seed(1)) * 2 - 1
    assert_same(ours, reference, sample)
    assert_same(ours, reference, sample, training=True)


@pytest.mark.parametrize(
    ("num_downs", "active"),
    [(2, [0]), (3, [0]), (5, [0]), (6, [1]), (7, [1, 2]), (8, [1, 2, 3])],
)
def test_dropout_is_in_the_inner_up_blocks(num_downs, active):
    network = UNetTranslator(width=1, num_downs=num_downs, sample_size=2**num_downs, dropout=0.3)
    probabilities = [module.p for module in network.modules() if isinstance(module, nn.Dropout)]
    assert probabilities == [0.3 if index in active else 0 for index in range(num_downs)]


@pytest.mark.parametrize(("num_downs", "widths"), [(2, (2, 4)), (4, (2, 4, 8, 16)), (6, (2, 4, 8, 16, 16, 16))])
def test_a_shallow_unet_is_the_outer_part_of_the_authors(num_downs, widths):
    network = UNetTranslator(width=2, num_downs=num_downs, sample_size=2**num_downs).eval()
    maps = []
    for block in network.down_blocks:
        block.register_forward_hook(lambda module, arguments, result: maps.append(tuple(result.shape[1:])))
    sample = torch.rand(1, 3, 2**num_downs, 2 ** (num_downs + 1))
    assert network(sample).sample.shape == sample.shape
    sides = [2 ** (num_downs - level) for level in range(1, num_downs + 1)]
    assert maps == [(width, side, 2 * side) for width, side in zip(widths, sides, strict=True)]


@pytest.mark.parametrize(
    ("num_blocks", "norm", "dropout"),
    [(6, "instance", False), (9, "instance", True), (9, "batch", True), (2, "none", False)],
)
def test_resnet_is_the_authors(num_blocks, norm, dropout):
    reference = reference_resnet(num_blocks, 4, norm, dropout, inp=3, out=2)
    ours = ResNetTranslator(3, 2, width=4, num_blocks=num_blocks, norm=norm, dropout=0.5 * dropout)
    copy_in_order(reference, ours)
    sample = torch.rand(2, 3, 16, 24, generator=torch.Generator().manual_seed(1)) * 2 - 1
    assert_same(ours, reference, sample)
    assert_same(ours, reference, sample, training=True)


@pytest.mark.parametrize("network_class", [UNetTranslator, ResNetTranslator])
def test_statistics_of_an_image_are_those_of_training_on_it_alone(network_class):
    torch.manual_seed(0)
    shape = {"num_downs": 3, "sample_size": 8} if network_class is UNetTranslator else {"num_blocks": 1}
    network = network_class(width=4, norm="batch", dropout=0.0, norm_statistics="image", **shape)
    sample = torch.rand(2, 3, 8, 8)
    in_training = torch.cat([network(part).sample for part in sample.split(1)])
    averages = [value.clone() for name, value in network.named_buffers()]
    torch.testing.assert_close(network.eval()(sample).sample, in_training)
    for before, after in zip(averages, network.buffers(), strict=True):
        assert torch.equal(before, after)


# PolarCycle --------------------------------------------------------------------------------------------------------


def test_polarcycle_is_its_table():
    """Zero padding; norms with gain and shift, but none in the residual blocks; ReLU after the addition."""
    torch.manual_seed(0)
    c = 3
    plain = nn.ModuleList(
        [nn.Conv2d(3, c, 7, 1, 3), nn.Conv2d(c, 2 * c, 3, 2, 1), nn.Conv2d(2 * c, 4 * c, 3, 2, 1)]
        + [nn.Conv2d(4 * c, 4 * c, 3, 1, 1) for _ in range(18)]
        + [nn.ConvTranspose2d(4 * c, 2 * c, 3, 2, 1, 1), nn.ConvTranspose2d(2 * c, c, 3, 2, 1, 1)]
        + [nn.Conv2d(c, 4, 7, 1, 3)]
    )
    ours = ResNetTranslator(3, 4, width=c, layout="polarcycle")
    convolutions = [module for module in ours.modules() if isinstance(module, nn.Conv2d | nn.ConvTranspose2d)]
    for theirs, conv in zip(plain, convolutions, strict=True):
        conv.load_state_dict(theirs.state_dict())
    norms = [module for module in ours.modules() if isinstance(module, nn.InstanceNorm2d)]
    assert len(norms) == 5
    for each in norms:
        nn.init.normal_(each.weight), nn.init.normal_(each.bias)

    def normalise(hidden, each):
        mean, variance = hidden.mean((2, 3), keepdim=True), hidden.var((2, 3), keepdim=True, unbiased=False)
        return (hidden - mean) / (variance + 1e-3).sqrt() * each.weight[:, None, None] + each.bias[:, None, None]

    sample = torch.rand(2, 3, 12, 20) * 2 - 1
    hidden = sample
    for index in range(3):
        hidden = normalise(plain[index](hidden), norms[index]).clamp(min=0)
    for index in range(3, 21, 2):
        hidden = (hidden + plain[index + 1](plain[index](hidden).clamp(min=0))).clamp(min=0)
    for index in (21, 22):
        hidden = normalise(plain[index](hidden), norms[index - 18]).clamp(min=0)
    torch.testing.assert_close(ours(sample).sample, plain[23](hidden).tanh(), atol=1e-5, rtol=0)


def test_initial_weights():
    torch.manual_seed(0)
    for network, glorot in (
        (UNetTranslator(width=16, num_downs=4), False),
        (ResNetTranslator(width=16, num_blocks=1), False),
        (ResNetTranslator(width=16, num_blocks=1, layout="polarcycle"), True),
    ):
        for module in network.modules():
            if isinstance(module, nn.BatchNorm2d):
                assert module.weight.mean().item() == pytest.approx(1, abs=0.02)
                assert 0 < module.weight.std() < 0.04
            elif isinstance(module, nn.Conv2d | nn.ConvTranspose2d):
                assert module.bias is None or module.bias.abs().sum() == 0
                area = module.kernel_size[0] ** 2
                bound = math.sqrt(6 / (area * (module.in_channels + module.out_channels)))
                assert module.weight.std().item() == pytest.approx(bound / 3**0.5 if glorot else 0.02, rel=0.06)
                assert (module.weight.abs().max() <= bound) or not glorot


@pytest.mark.parametrize(
    ("network", "multiple"),
    [
        (UNetTranslator(width=1, num_downs=3), 8),
        (UNetTranslator(width=1, num_downs=5), 32),
        (ResNetTranslator(width=1, num_blocks=0), 4),
    ],
)
def test_sides_are_multiples_of_what_a_network_says(network, multiple):
    assert network.size_multiple == multiple
    assert network(torch.zeros(1, 3, 2 * multiple, 3 * multiple)).sample.shape[2:] == (2 * multiple, 3 * multiple)
    with pytest.raises(UserError, match=f"multiples of {multiple}"):
        network(torch.zeros(1, 3, 2 * multiple, 2 * multiple + multiple // 2))
    check_tile(network, 3 * multiple)
    with pytest.raises(UserError, match=f"must be a multiple of {multiple}, as the network halves its images"):
        check_tile(network, multiple // 2)
    check_tile(nn.Identity(), 7)  # anybody's own translator


# mistakes ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("build", "message"),
    [
        (lambda: UNetTranslator(num_downs=1), "num_downs must be at least 2, got 1"),
        (lambda: UNetTranslator(sample_size=28, num_downs=3), "UNetTranslator: sample_size 28 is no multiple of 8"),
        (lambda: UNetTranslator(norm="layer"), "norm 'layer' is unknown; choose one of: batch, instance, none"),
        (lambda: UNetTranslator(norm_statistics="none"), "norm_statistics 'none' is unknown"),
        (lambda: UNetTranslator(dropout=1.0), "dropout must be at least 0 and below 1, got 1.0"),
        (lambda: UNetTranslator(width=0), "width must be at least 1, got 0"),
        (lambda: ResNetTranslator(in_channels=0), "in_channels must be at least 1, got 0"),
        (lambda: ResNetTranslator(num_blocks=-1), "num_blocks must be at least 0, got -1"),
        (lambda: ResNetTranslator(layout="unet"), "layout 'unet' is unknown; choose one of: cyclegan, polarcycle"),
        (lambda: ResNetTranslator(sample_size=30), "ResNetTranslator: sample_size 30 is no multiple of 4"),
        (lambda: ResNetTranslator(sample_size=4), "ResNetTranslator: sample_size must be at least 8, got 4"),
        (
            lambda: UNetTranslator(width=1, num_downs=4)(torch.zeros(2, 3, 32, 24)),
            r"UNetTranslator: height and width must be multiples of 16, got a sample of shape \(2, 3, 32, 24\)",
        ),
        (
            lambda: UNetTranslator(width=1, num_downs=4)(torch.zeros(2, 1, 32, 32)),
            r"UNetTranslator takes samples of shape \(batch, 3, height, width\), got \(2, 1, 32, 32\)",
        ),
        (
            lambda: ResNetTranslator(width=1, num_blocks=1)(torch.zeros(1, 3, 30, 32)),
            r"multiples of 4 and at least 8, got a sample of shape \(1, 3, 30, 32\)",
        ),
        (lambda: ResNetTranslator(width=1, num_blocks=1)(torch.zeros(1, 3, 4, 4)), "and at least 8"),
        (lambda: ResNetTranslator(width=1, num_blocks=1)(torch.zeros(3, 8, 8)), r"got \(3, 8, 8\)"),
    ],
)
def test_impossible_networks_and_inputs_are_one_line_errors(build, message):
    with refused(message):
        build()
