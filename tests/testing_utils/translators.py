"""Reference networks of pix2pix and CycleGAN, as plain layers in the order and under the names of published weights.

The names are those of `latest_net_G.pth` and its like: nested `model.model.1.model...` of a U-Net, one flat sequence
of a residual generator and of a discriminator.
"""

from __future__ import annotations

import torch
from torch import nn


def norm(kind: str, channels: int) -> nn.Module:
    if kind == "none":
        return nn.Identity()
    return nn.BatchNorm2d(channels) if kind == "batch" else nn.InstanceNorm2d(channels)


class Level(nn.Module):
    """One level of a U-Net around the next inner one; all but the outermost hand their input on beside the result."""

    def __init__(self, layers: list[nn.Module], outermost: bool) -> None:
        super().__init__()
        self.model = nn.Sequential(*layers)
        self.outermost = outermost

    def forward(self, x):
        return self.model(x) if self.outermost else torch.cat((x, self.model(x)), 1)


class Named(nn.Module):
    """A network under the name `model`."""

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model = model

    def forward(self, x):
        return self.model(x)


class Residual(nn.Module):
    def __init__(self, layers: list[nn.Module]) -> None:
        super().__init__()
        self.conv_block = nn.Sequential(*layers)

    def forward(self, x):
        return x + self.conv_block(x)


def reference_unet(num_downs: int, width: int, kind: str = "batch", dropout: bool = True, inp: int = 3, out: int = 3):
    """`unet_128` is 7 halvings, `unet_256` is 8."""
    bias = kind == "instance"

    def down(a: int, b: int) -> nn.Module:
        return nn.Conv2d(a, b, 4, 2, 1, bias=bias)

    def up(a: int, b: int, bias: bool = bias) -> nn.Module:
        return nn.ConvTranspose2d(a, b, 4, 2, 1, bias=bias)

    c8 = 8 * width
    level = Level([nn.LeakyReLU(0.2), down(c8, c8), nn.ReLU(), up(c8, c8), norm(kind, c8)], False)
    inside = [(c8, c8)] * (num_downs - 5)
    for outer, inner in (*inside, (4 * width, c8), (2 * width, 4 * width), (width, 2 * width)):
        layers = [nn.LeakyReLU(0.2), down(outer, inner), norm(kind, inner), level]
        layers += [nn.ReLU(), up(2 * inner, outer), norm(kind, outer)]
        level = Level(layers + [nn.Dropout(0.5)] * (dropout and outer == inner), False)
    outermost = [down(inp, width), level, nn.ReLU(), up(2 * width, out, True), nn.Tanh()]
    return scramble(Named(Level(outermost, True)))


def reference_resnet(
    num_blocks: int, width: int, kind: str = "instance", dropout: bool = False, inp: int = 3, out: int = 3
):
    """`resnet_9blocks` is 9 blocks."""
    bias = kind == "instance"
    layers = [nn.ReflectionPad2d(3), nn.Conv2d(inp, width, 7, bias=bias), norm(kind, width), nn.ReLU()]
    for c in (width, 2 * width):
        layers += [nn.Conv2d(c, 2 * c, 3, 2, 1, bias=bias), norm(kind, 2 * c), nn.ReLU()]
    c = 4 * width
    for _ in range(num_blocks):
        inside = [nn.ReflectionPad2d(1), nn.Conv2d(c, c, 3, bias=bias), norm(kind, c), nn.ReLU()]
        inside += [nn.Dropout(0.5)] * dropout
        layers.append(Residual([*inside, nn.ReflectionPad2d(1), nn.Conv2d(c, c, 3, bias=bias), norm(kind, c)]))
    for c in (4 * width, 2 * width):
        layers += [nn.ConvTranspose2d(c, c // 2, 3, 2, 1, 1, bias=bias), norm(kind, c // 2), nn.ReLU()]
    return scramble(Named(nn.Sequential(*layers, nn.ReflectionPad2d(3), nn.Conv2d(width, out, 7), nn.Tanh())))


def reference_patch_discriminator(receptive_field: int, width: int, kind: str = "batch", inp: int = 3):
    bias = kind == "instance"
    if receptive_field == 1:
        layers = [nn.Conv2d(inp, width, 1), nn.LeakyReLU(0.2), nn.Conv2d(width, 2 * width, 1, bias=bias)]
        layers += [norm(kind, 2 * width), nn.LeakyReLU(0.2), nn.Conv2d(2 * width, 1, 1, bias=bias)]
        return scramble(nn.Sequential(*layers))
    # (channels of the map, stride) of the normalised layers
    plan = {16: [(2, 1)], 70: [(2, 2), (4, 2), (8, 1)], 286: [(2, 2), (4, 2), (8, 2), (8, 2), (8, 1)]}
    layers = [nn.Conv2d(inp, width, 4, 2, 1), nn.LeakyReLU(0.2)]
    c = width
    for factor, stride in plan[receptive_field]:
        layers += [nn.Conv2d(c, factor * width, 4, stride, 1, bias=bias), norm(kind, factor * width)]
        layers.append(nn.LeakyReLU(0.2))
        c = factor * width
    return scramble(nn.Sequential(*layers, nn.Conv2d(c, 1, 4, 1, 1)))


def scramble(network: nn.Module) -> nn.Module:
    """Weights, biases and running averages all unlike their first values, so that none can be mistaken."""
    generator = torch.Generator().manual_seed(3)
    for name, value in network.state_dict().items():
        if "running" in name:
            value.copy_(torch.rand(value.shape, generator=generator) + 0.5)
        elif value.is_floating_point():
            noise = torch.randn(value.shape, generator=generator)
            fan_in = value[0].numel() if value.ndim > 1 else 1
            value.copy_(noise * (1.5 / fan_in) ** 0.5 if value.ndim > 1 else noise * 0.1)
    for module in network.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.weight.data.add_(1)
    return network.eval()


def copy_in_order(source: nn.Module, target: nn.Module) -> None:
    """State of one network into another that has the same in the same order under other names."""
    values, names = source.state_dict().values(), target.state_dict()
    assert [tuple(value.shape) for value in values] == [tuple(value.shape) for value in names.values()]
    target.load_state_dict(dict(zip(names, values, strict=True)))


def shaken(network: nn.Module) -> nn.Module:
    """The network with weights that make all sorts of colours, in eval mode."""
    for parameter in network.parameters():
        nn.init.normal_(parameter, std=0.3)
    return network.eval()
