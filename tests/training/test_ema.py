"""Averaged networks: what of them is averaged, and whether their batch statistics are those of their activations."""

from __future__ import annotations

import copy
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode

from hf_genmodels import DCGANDiscriminator, DCGANGenerator
from hf_genmodels.training.arguments import TrainingArguments
from hf_genmodels.training.ema import AveragedNetwork

ARGS = TrainingArguments(output_dir="unused", use_ema=True, ema_max_decay=0.9)


def generator() -> DCGANGenerator:
    torch.manual_seed(0)
    return DCGANGenerator(latent_dim=4, out_channels=1, sample_size=16, width=4)


@torch.no_grad()
def images(network: DCGANGenerator, count: int = 64) -> Tensor:
    return network(torch.randn(count, 4, generator=torch.Generator().manual_seed(1))).sample


def train(network: DCGANGenerator, average: AveragedNetwork, steps: int) -> None:
    """Noisy steps, as an adversary makes them: of which an average is a calmer network than the last one."""
    optimizer = torch.optim.Adam(network.parameters(), 0.02, betas=(0.5, 0.999))
    for step in range(steps):
        latents = torch.randn(32, 4, generator=torch.Generator().manual_seed(step))
        direction = torch.randn(16, 16, generator=torch.Generator().manual_seed(step))
        optimizer.zero_grad()
        (network(latents).sample * direction).mean().backward()
        optimizer.step()
        average.update(network)


def with_statistics(network: DCGANGenerator, source: DCGANGenerator | None) -> DCGANGenerator:
    """The network with the batch statistics of another, or with those of many samples of its own."""
    network = copy.deepcopy(network)
    norms = [module for module in network.modules() if isinstance(module, nn.BatchNorm2d)]
    if source is not None:
        others = [module for module in source.modules() if isinstance(module, nn.BatchNorm2d)]
        for norm, other in zip(norms, others, strict=True):
            norm.load_state_dict({**norm.state_dict(), **dict(other.named_buffers())})
        return network.eval()
    for norm in norms:
        norm.reset_running_stats()
        norm.momentum = None
    images(network.train(), 4096)
    return network.eval()


def test_averaged_weights_have_their_own_batch_statistics() -> None:
    network = generator().train()
    average = AveragedNetwork(network, ARGS)
    train(network, average, 60)
    own = images(with_statistics(average.network, None))
    copied = (images(with_statistics(average.network, network)) - own).square().mean().sqrt().item()
    averaged = (images(average.network) - own).square().mean().sqrt().item()
    print(copied, averaged)
    assert averaged < copied / 3


def test_buffers_are_averaged_or_copied() -> None:
    """Statistics follow as parameters do; counts, and the unit vectors of spectral normalisation, are taken over."""
    network = nn.ModuleDict(
        {"generator": generator(), "critic": DCGANDiscriminator(1, 16, width=4, norm="spectral")}
    ).train()
    average = AveragedNetwork(network, ARGS)  # type: ignore[arg-type]
    expected = {name: buffer.clone() for name, buffer in network.named_buffers()}
    for step in range(4):
        fake = network["generator"](torch.randn(8, 4)).sample
        network["critic"](fake)
        average.update(network)  # type: ignore[arg-type]
        for name, buffer in network.named_buffers():
            if "running" in name:
                expected[name] += (1 - average.average.get_decay(step + 1)) * (buffer - expected[name])
            else:
                expected[name] = buffer.clone()
    found = dict(average.network.named_buffers())
    assert sum("running" in name for name in found) == 4 and any("_u" in name for name in found)
    for name, buffer in expected.items():
        torch.testing.assert_close(found[name], buffer)
    raw = dict(network.named_buffers())
    assert all(torch.equal(raw[name], found[name]) == ("running" not in name) for name in found)


@pytest.mark.parametrize("track", [True, False])
def test_only_norms_that_keep_statistics_have_some_to_average(track: bool) -> None:
    network = nn.Sequential(nn.InstanceNorm2d(2, track_running_stats=track), nn.GroupNorm(1, 2))
    average = AveragedNetwork(network, ARGS)  # type: ignore[arg-type]
    assert average.averaged_buffers == ({"0.running_mean", "0.running_var"} if track else set())


def test_an_update_makes_no_tensors() -> None:
    class Watching(TorchDispatchMode):
        def __torch_dispatch__(self, function: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
            assert function.overloadpacket.__name__.endswith("_"), function
            return function(*args, **(kwargs or {}))

    network = generator()
    average = AveragedNetwork(network, ARGS)
    with Watching():
        average.update(network)


def test_parameters_that_nothing_trains_are_taken_over() -> None:
    network = generator()
    fixed, learnt = list(network.parameters())[:2]
    fixed.requires_grad_(False)
    average = AveragedNetwork(network, ARGS)
    for value in (1.0, 2.0):
        with torch.no_grad():
            fixed.fill_(value)
            learnt.fill_(value)
        average.update(network)
    shadow = list(average.network.parameters())
    assert (shadow[0] == 2).all()
    assert ((shadow[1] > 1) & (shadow[1] < 2)).all()
