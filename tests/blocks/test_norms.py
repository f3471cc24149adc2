"""Instance norm against its formula, in either memory format; which networks keep the rows of a batch apart."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from hf_genmodels import DCGANDiscriminator, PatchDiscriminator, ResNetTranslator, UNetTranslator
from hf_genmodels.blocks.adversarial import BatchNorm
from hf_genmodels.blocks.norms import InstanceNorm2d, RowsApart, keeps_rows_apart
from tests.testing_utils.refusals import refused

FORMATS = (torch.contiguous_format, torch.channels_last)


def slow_instance_norm(hidden, layer):
    images = []
    for image in hidden:
        maps = []
        for channel, pixels in enumerate(image):
            mean = pixels.sum() / pixels.numel()
            variance = (pixels - mean).square().sum() / pixels.numel()
            maps.append((pixels - mean) / torch.sqrt(variance + layer.eps))
            if layer.weight is not None:
                maps[-1] = maps[-1] * layer.weight[channel] + layer.bias[channel]
        images.append(torch.stack(maps))
    return torch.stack(images)


def maps(batch, memory_format, dtype=torch.float64):
    """Maps far from mean 0."""
    values = 3 + torch.randn(batch, 3, 4, 6, dtype=dtype, generator=torch.Generator().manual_seed(0))
    return values.to(memory_format=memory_format).requires_grad_()


@pytest.mark.parametrize("memory_format", FORMATS)
@pytest.mark.parametrize("batch", [1, 3])
@pytest.mark.parametrize("affine", [False, True])
def test_values_and_gradients_and_memory_format(memory_format, batch, affine):
    layer, hidden = InstanceNorm2d(3, affine=affine).double(), maps(batch, memory_format)
    for parameter in layer.parameters():
        nn.init.normal_(parameter)
    ours, theirs = layer(hidden), slow_instance_norm(hidden, layer)
    assert ours.stride() == hidden.stride()
    torch.testing.assert_close(ours, theirs, rtol=0, atol=1e-12)
    wanted = [hidden, *layer.parameters()]
    for gradient_format in FORMATS:  # torch's own layer takes one for the other
        gradient = torch.randn(hidden.shape, dtype=torch.float64).to(memory_format=gradient_format)
        ours_back, theirs_back = (
            torch.autograd.grad(output, wanted, gradient, retain_graph=True) for output in (ours, theirs)
        )
        for one, other in zip(ours_back, theirs_back, strict=True):
            torch.testing.assert_close(one, other, rtol=0, atol=1e-12)


@pytest.mark.parametrize("memory_format", FORMATS)
def test_a_gradient_can_be_differentiated(memory_format):
    assert torch.autograd.gradgradcheck(InstanceNorm2d(3), maps(2, memory_format)[:, :, :2, :2])


@pytest.mark.parametrize("memory_format", FORMATS)
def test_statistics_of_bf16_are_float32(memory_format):
    """A mean of 64 with a deviation of 1: sums in bf16 would be off by more than that."""
    layer, hidden = InstanceNorm2d(3), maps(2, memory_format).detach().float() * 0.5 + 64
    hidden = hidden.bfloat16()
    expected = slow_instance_norm(hidden.double(), layer)
    torch.testing.assert_close(layer(hidden).double(), expected, rtol=2**-8, atol=2**-8)


def test_a_compiled_layer_and_an_eager_one_agree():
    layer, hidden = InstanceNorm2d(3), maps(2, torch.channels_last, torch.float32)
    compiled = torch.compile(layer, backend="aot_eager")
    torch.testing.assert_close(compiled(hidden), layer(hidden))


def test_a_map_of_one_pixel_is_refused():
    with pytest.raises(ValueError, match="more than 1 spatial element"):
        InstanceNorm2d(3)(torch.randn(2, 3, 1, 1))


@pytest.mark.parametrize("shape", [(3, 4, 4), (3, 2), (1, 2, 4, 4)])
def test_another_shape_is_refused(shape):
    with refused(r"instance norm takes \(batch, 3, height, width\)"):
        InstanceNorm2d(3)(torch.randn(shape))


def test_files_are_those_of_torchs_layer():
    theirs = nn.InstanceNorm2d(3, affine=True)
    ours = InstanceNorm2d(3, affine=True)
    ours.load_state_dict(theirs.state_dict())
    assert list(ours.state_dict()) == list(theirs.state_dict())


@pytest.mark.parametrize("memory_format", FORMATS)
def test_batch_norms_with_the_statistics_of_each_image(memory_format):
    layer, hidden = BatchNorm(3, statistics="image").eval().double(), maps(2, memory_format)
    torch.testing.assert_close(layer(hidden), slow_instance_norm(hidden, layer.normalise), rtol=0, atol=1e-12)


def translator(**options):
    return ResNetTranslator(1, 1, 8, width=2, num_blocks=1, **options)


@pytest.mark.parametrize(
    ("network", "apart"),
    [
        (translator(), True),
        (translator(norm="none"), True),
        (translator(norm="batch"), False),
        (translator(dropout=0.5), False),
        (UNetTranslator(1, 1, 8, width=2, num_downs=2, norm="instance", dropout=0.0), True),
        (UNetTranslator(1, 1, 8, width=2, num_downs=2), False),
        (PatchDiscriminator(1, 2, norm="instance"), True),
        (PatchDiscriminator(1, 2, norm="spectral"), False),
        (PatchDiscriminator(1, 2), False),
        (DCGANDiscriminator(1, 16, width=2, norm="layer"), True),
    ],
)
def test_which_networks_keep_rows_apart(network, apart):
    """In training mode: the rows of a batch of two against two batches of one, and a second pass against the first."""
    assert keeps_rows_apart(network) == apart
    size = 32 if isinstance(network, PatchDiscriminator) else network.config.sample_size
    images = torch.randn(2, 1, size, size, generator=torch.Generator().manual_seed(0))
    torch.manual_seed(0)
    with torch.no_grad():
        whole, alone, again = network(images)[0], network(images[:1])[0], network(images)[0]
    same = torch.allclose(whole[:1], alone, atol=1e-5) and torch.equal(whole, again)
    assert same == apart


def hooked_spectral_norm():
    network = PatchDiscriminator(1, 2, norm="instance")
    torch.nn.utils.spectral_norm(network.to_logits)
    return network


def running_averages():
    network = PatchDiscriminator(1, 2, norm="none")
    network.blocks[1][1] = nn.InstanceNorm2d(4, track_running_stats=True)
    return network


def a_subclass(**attributes):
    own = type("Own", (PatchDiscriminator,), attributes)
    return own(1, 2, norm="instance")


@pytest.mark.parametrize(
    ("network", "independent"),
    [
        (PatchDiscriminator(1, 2, norm="instance"), True),
        (UNetTranslator(1, 1, 8, width=2, num_downs=2, norm="instance", dropout=0.0), True),
        (translator(), True),
        (hooked_spectral_norm(), False),
        (running_averages(), False),
        (a_subclass(), False),
        (a_subclass(rows_are_independent=True), True),
        (a_subclass(rows_are_independent=RowsApart()), True),
    ],
)
def test_what_networks_say_of_their_rows(network, independent):
    assert network.rows_are_independent == independent


def test_a_translator_learns_the_same_with_channels_last_from_one_image():
    torch.manual_seed(0)
    network, image = ResNetTranslator(1, 1, 8, width=2, num_blocks=1).double(), torch.randn(1, 1, 8, 8).double()
    found = []
    for memory_format in FORMATS:
        loss = network.to(memory_format=memory_format)(image).sample.square().sum()
        found.append(torch.autograd.grad(loss, list(network.parameters())))
    for one, other in zip(*found, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-9, atol=1e-12)
