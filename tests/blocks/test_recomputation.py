"""Activations that are computed anew: the same gradients, statistics and random numbers as with stored ones."""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any

import pytest
import torch
from diffusers import ModelMixin
from torch import Tensor, nn

from hf_genmodels import (
    DCGANDiscriminator,
    DCGANGenerator,
    Glow,
    PatchDiscriminator,
    RealNVP,
    ResNetTranslator,
    SNGANDiscriminator,
    SNGANGenerator,
    UNetTranslator,
)
from hf_genmodels.blocks.adversarial import running_averages_kept
from hf_genmodels.blocks.recomputation import recomputed
from tests.testing_utils.networks import tiny_denoiser

IMAGE, LATENT, LABELS = (2, 3, 16, 16), (2, 4), torch.tensor([0, 1])
# name -> how to build it, arguments of `forward`
NETWORKS: dict[str, tuple[Callable[[], ModelMixin], tuple[Any, ...]]] = {
    "unet": (lambda: UNetTranslator(3, 3, 16, width=2, num_downs=4), (IMAGE,)),
    "resnet": (lambda: ResNetTranslator(3, 3, 16, width=2, num_blocks=2, norm="batch", dropout=0.5), (IMAGE,)),
    "patch": (lambda: PatchDiscriminator(3, 4, 16, norm="spectral"), (IMAGE,)),
    "dcgan": (lambda: DCGANGenerator(4, 3, 16, width=4, conditioning="batch_norm", num_classes=3), (LATENT, LABELS)),
    "dcgan discriminator": (lambda: DCGANDiscriminator(3, 16, width=4), (IMAGE,)),
    "sngan": (lambda: SNGANGenerator(4, 3, 16, block_out_channels=(8, 8, 4)), (LATENT,)),
    "sngan discriminator": (lambda: SNGANDiscriminator(3, 16, (4, 4), num_downsamples=2), (IMAGE,)),
    "glow": (lambda: Glow(3, 16, num_flow_steps=2, num_scales=2, hidden_channels=8, num_classes=3), (IMAGE, LABELS)),
    "realnvp": (lambda: RealNVP(3, 16, num_scales=2, hidden_channels=4, num_blocks=1), (IMAGE,)),
    "diffusers": (lambda: tiny_denoiser((3, 16, 16))[0], (IMAGE, LABELS)),
}


def network_and_inputs(name: str) -> tuple[ModelMixin, list[Tensor]]:
    torch.manual_seed(0)
    build, shapes = NETWORKS[name]
    network = build().train()
    for parameter in network.parameters():  # layers that start at zero would hide a difference
        parameter.data += 0.05 * torch.randn_like(parameter)
    return network, [torch.randn(shape) if isinstance(shape, tuple) else shape for shape in shapes]


def total(network: nn.Module, inputs: list[Tensor]) -> Tensor:
    outputs = network(*inputs, return_dict=False)
    return sum((each.square().mean() for each in outputs if each is not None), start=torch.zeros(()))


def squared_slope(network: nn.Module, inputs: list[Tensor]) -> Tensor:
    """A penalty that differentiates a gradient."""
    first = inputs[0].clone().requires_grad_()
    (slope,) = torch.autograd.grad(total(network, [first, *inputs[1:]]), first, create_graph=True)
    return slope.square().sum()


def passes(network: ModelMixin, inputs: list[Tensor], loss: Callable[..., Tensor], steps: int = 2) -> list[Tensor]:
    """Losses, gradients, buffers and the state of the random numbers after some steps."""
    torch.manual_seed(1)
    losses = []
    for _ in range(steps):
        value = loss(network, inputs)
        value.backward()
        losses.append(value.detach())
    gradients = [parameter.grad for parameter in network.parameters()]
    assert all(gradient is not None for gradient in gradients)
    return [*losses, *gradients, *network.buffers(), torch.get_rng_state()]


@pytest.mark.parametrize(
    ("name", "loss"),  # torch does not differentiate attention twice
    [
        (name, loss)
        for name in NETWORKS
        for loss in (total, squared_slope)
        if (name, loss) != ("diffusers", squared_slope)
    ],
)
def test_nothing_changes_but_how_often_a_block_is_called(name: str, loss: Callable[..., Tensor]) -> None:
    stored, inputs = network_and_inputs(name)
    again = copy.deepcopy(stored)
    again.enable_gradient_checkpointing(recomputed)
    calls = [0, 0]
    for index, network in enumerate((stored, again)):
        for module in network.modules():
            if isinstance(module, nn.Conv2d | nn.ConvTranspose2d | nn.Linear):
                module.register_forward_hook(lambda *_, index=index: calls.__setitem__(index, calls[index] + 1))
    expected, found = passes(stored, inputs, loss), passes(again, inputs, loss)
    assert calls[1] > 1.3 * calls[0]
    for ours, theirs in zip(found, expected, strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-6, atol=1e-6)
    counted = [each.num_batches_tracked for each in again.modules() if isinstance(each, nn.BatchNorm2d)]
    assert all(int(each) == 2 for each in counted)


def test_statistics_that_a_pass_must_leave_alone() -> None:
    """The second pass comes when `running_averages_kept` is over."""
    network, inputs = network_and_inputs("dcgan discriminator")
    before = [each.running_mean.clone() for each in network.modules() if isinstance(each, nn.BatchNorm2d)]
    network.enable_gradient_checkpointing(recomputed)
    with running_averages_kept(network):
        loss = total(network, inputs)
    loss.backward()
    after = [each.running_mean for each in network.modules() if isinstance(each, nn.BatchNorm2d)]
    torch.testing.assert_close(before, after, rtol=0, atol=0)


def test_no_block_is_called_twice_where_nothing_is_learnt() -> None:
    network, inputs = network_and_inputs("unet")
    network.enable_gradient_checkpointing(recomputed)
    with torch.no_grad():
        assert not total(network, inputs).requires_grad
    network.disable_gradient_checkpointing()
    assert not network.is_gradient_checkpointing
