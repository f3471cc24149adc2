"""Published weights of pix2pix and CycleGAN as pipelines.

Both papers' generators are published as `.pth` files for the authors' PyTorch code (pytorch-CycleGAN-and-pix2pix),
such as `edges2shoes.pth` or `horse2zebra.pth`; training with that code writes `latest_net_G.pth`, or
`latest_net_G_A.pth` and `latest_net_G_B.pth`. A file holds a state dict alone: what the network looks like is read off
the names and shapes of its layers, and the functions for the two networks say which layer is which of ours.
"""

from __future__ import annotations

import argparse
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Literal, get_args

import torch
from torch import Tensor

from .checks import check_choice
from .errors import UserError
from .files import filling
from .models.resnet_translator import ResNetTranslator
from .models.unet_translator import UNetTranslator
from .pipelines.cyclegan import CycleGANPipeline
from .pipelines.pix2pix import Pix2PixPipeline

Kind = Literal["pix2pix", "cyclegan"]
Direction = Literal["AtoB", "BtoA"]
Translator = UNetTranslator | ResNetTranslator
State = dict[str, Tensor]

# the probability of all dropout in the authors' code
DROPOUT = 0.5

# what the published residual generators were trained on; no layer tells it, and every size can be translated
RESNET_SAMPLE_SIZE = 256


def convert(
    kind: Kind,
    checkpoint: str | os.PathLike[str],
    output_dir: str | os.PathLike[str],
    *,
    direction: Direction = "AtoB",
    reverse: str | os.PathLike[str] | None = None,
) -> Path:
    """Make a pipeline's folder of published weights, a U-Net or a residual generator.

    The authors' test script leaves batch norm in training mode, so that each image is normalised by its own
    statistics; a converted network does so too (`norm_statistics="image"`). It also leaves dropout on; here that is
    `Pix2PixPipeline`'s `stochastic=True`. A U-Net's weights do not tell whether it was trained with dropout: a
    converted one has it for "pix2pix" and not for "cyclegan", the defaults of the authors' code.

    Args:
        kind: "pix2pix" or "cyclegan": which pipeline it becomes.
        checkpoint: A generator's `.pth` file. It is read as tensors; no code in it is run.
        output_dir: Where the pipeline is written; a folder that is empty or does not exist.
        direction: Of "cyclegan": whether `checkpoint` translates from A to B, or from B to A. A published file that
            stands alone is "AtoB", whichever domain the authors call A.
        reverse: Of "cyclegan": file of the generator of the other direction; "BtoA" needs it.

    Returns:
        `output_dir`.

    Raises:
        UserError: A file cannot be read, is no state dict, or has other layers than such a generator; `output_dir` is
            not empty; or the options do not go together.
    """
    check_choice("kind", kind, get_args(Kind))
    check_choice("direction", direction, get_args(Direction))
    if kind == "pix2pix" and (direction != "AtoB" or reverse is not None):
        raise UserError("pix2pix has one generator, of one direction; leave direction and reverse out")
    if direction == "BtoA" and reverse is None:
        raise UserError(
            "direction BtoA needs the generator from A to B as well (reverse); one alone is converted as AtoB"
        )
    target = Path(output_dir)
    if target.exists() and (not target.is_dir() or any(target.iterdir())):
        raise UserError(f"{target} exists and is no empty folder; choose another output folder")
    dropout = DROPOUT if kind == "pix2pix" else 0.0
    generator = load_translator(checkpoint, unet_dropout=dropout)
    other = None if reverse is None else load_translator(reverse, unet_dropout=dropout)
    pipeline: Pix2PixPipeline | CycleGANPipeline
    if kind == "pix2pix":
        pipeline = Pix2PixPipeline(generator)
    elif direction == "BtoA":
        assert other is not None
        pipeline = CycleGANPipeline(other, generator)
    else:
        pipeline = CycleGANPipeline(generator, other)
    with filling(target) as folder:
        pipeline.save_pretrained(folder)
    return target


def command(args: argparse.Namespace) -> None:
    """`convert KIND CHECKPOINT OUTPUT_DIR [--direction] [--reverse]`: the command line's form of `convert`."""
    folder = convert(args.kind, args.checkpoint, args.output_dir, direction=args.direction, reverse=args.reverse)
    print(f"written to {folder}")


# one generator -------------------------------------------------------------------------------------------------------


def load_translator(checkpoint: str | os.PathLike[str], *, unet_dropout: float) -> Translator:
    """A published generator, in eval mode.

    Args:
        checkpoint: Its `.pth` file.
        unet_dropout: Of a U-Net, whose weights do not tell it.

    Raises:
        UserError: The file cannot be read, is no state dict, or has other layers.
    """
    path = Path(checkpoint)
    state = without_instance_statistics(read_state(path))
    network: Translator
    if any(name.startswith("model.model.") for name in state):
        network, layers = _unet(path, state, unet_dropout)
    elif any(name.startswith("model.1.") for name in state):
        network, layers = _resnet(path, state)
    else:
        raise UserError(f"{path}: {next(iter(state))} is no layer of a generator of pix2pix or CycleGAN")
    _load(path, state, network, layers)
    return network.eval()


def read_state(path: Path) -> State:
    """The tensors of a state dict in a file, without the prefix `module.` of data-parallel training.

    Raises:
        UserError: There is no such file, it cannot be read without running code from it, or it is no state dict.
    """
    if not path.is_file():
        raise UserError(f"{path} is no file; give the .pth file of a generator")
    try:
        state = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # a damaged file makes the unpickler fail in any way
        raise UserError(f"{path} is damaged, or holds other objects than weights, which are not loaded") from error
    if not isinstance(state, Mapping) or not state:
        raise UserError(f"{path} holds no state dict: it must be layers' names and tensors")
    for name, value in state.items():
        if not isinstance(name, str) or not isinstance(value, Tensor):
            raise UserError(f"{path} holds no state dict: {name!r} is a {type(value).__name__}, no tensor of a layer")
    return {name.removeprefix("module."): value for name, value in state.items()}


def without_instance_statistics(state: State) -> State:
    """Without the running averages of instance norms, which PyTorch 0.3 saved and nothing uses.

    Instance norms are told from batch norms by having no gain.
    """
    statistics = ("running_mean", "running_var", "num_batches_tracked")

    def is_stale(name: str) -> bool:
        layer, _, kind = name.rpartition(".")
        return kind in statistics and f"{layer}.weight" not in state

    return {name: value for name, value in state.items() if not is_stale(name)}


def _unet(path: Path, state: State, dropout: float) -> tuple[UNetTranslator, dict[str, str]]:
    """Network and its layers' names in the file: each level is nested in the one around it."""
    levels = ["model.model"]
    while any(name.startswith(_inner(levels) + ".") for name in state):
        levels.append(_inner(levels))
    innermost = len(levels) - 1
    if innermost < 1:
        raise UserError(f"{path}: {next(iter(state))} is no layer of a generator of pix2pix or CycleGAN")
    width, in_channels = _channels(path, state, "model.model.0")
    _, out_channels = _channels(path, state, "model.model.3")
    network = UNetTranslator(
        in_channels,
        out_channels,
        sample_size=2 ** len(levels),
        width=width,
        num_downs=len(levels),
        norm=_norm(state, "model.model.0"),
        dropout=dropout,
        norm_statistics="image",
    )
    layers: dict[str, str] = {}
    for level, prefix in enumerate(levels):
        down, up = f"down_blocks.{level}", f"up_blocks.{innermost - level}"
        if level == 0:
            layers |= {f"{down}.conv": f"{prefix}.0", f"{up}.conv": f"{prefix}.3"}
        elif level == innermost:
            layers |= {f"{down}.conv": f"{prefix}.1", f"{up}.conv": f"{prefix}.3", f"{up}.norm": f"{prefix}.4"}
        else:
            layers |= {f"{down}.conv": f"{prefix}.1", f"{down}.norm": f"{prefix}.2"}
            layers |= {f"{up}.conv": f"{prefix}.5", f"{up}.norm": f"{prefix}.6"}
    return network, layers


def _inner(levels: list[str]) -> str:
    """Prefix of the level inside the last one."""
    return f"{levels[-1]}.{1 if len(levels) == 1 else 3}.model"


def _resnet(path: Path, state: State) -> tuple[ResNetTranslator, dict[str, str]]:
    """Network and its layers' names in the file: one sequence, in which padding and activations count, too."""
    first = 10
    num_blocks = 0
    while any(name.startswith(f"model.{first + num_blocks}.conv_block.") for name in state):
        num_blocks += 1
    last = first + num_blocks
    # with dropout the second convolution of a block is one place further on
    candidate = state.get(f"model.{first}.conv_block.6.weight")
    second = 6 if candidate is not None and candidate.ndim == 4 else 5
    width, in_channels = _channels(path, state, "model.1")
    out_channels, _ = _channels(path, state, f"model.{last + 7}")
    network = ResNetTranslator(
        in_channels,
        out_channels,
        sample_size=RESNET_SAMPLE_SIZE,
        width=width,
        num_blocks=num_blocks,
        norm=_norm(state, "model.1"),
        dropout=DROPOUT if second == 6 else 0.0,
        norm_statistics="image",
    )
    layers = {"to_image": f"model.{last + 7}"}
    for block, place in (
        ("stem", 1),
        ("down_blocks.0", 4),
        ("down_blocks.1", 7),
        ("up_blocks.0", last),
        ("up_blocks.1", last + 3),
    ):
        layers |= {f"{block}.conv": f"model.{place}", f"{block}.norm": f"model.{place + 1}"}
    for index in range(num_blocks):
        block, inside = f"residual_blocks.{index}", f"model.{first + index}.conv_block"
        layers |= {f"{block}.conv1": f"{inside}.1", f"{block}.norm1": f"{inside}.2"}
        layers |= {f"{block}.conv2": f"{inside}.{second}", f"{block}.norm2": f"{inside}.{second + 1}"}
    return network, layers


def _channels(path: Path, state: State, layer: str) -> tuple[int, int]:
    """First two sizes of a convolution's weight.

    Raises:
        UserError: The file has no such convolution.
    """
    weight = state.get(f"{layer}.weight")
    if weight is None or weight.ndim != 4:
        raise UserError(f"{path}: {layer} is no convolution, as it is in a generator of pix2pix or CycleGAN")
    return weight.shape[0], weight.shape[1]


def _norm(state: State, first: str) -> Literal["batch", "instance", "none"]:
    """The norm of a network; the authors give its convolutions biases beside instance norm alone."""
    if any(name.endswith(".running_mean") for name in state):
        return "batch"
    return "instance" if f"{first}.bias" in state else "none"


def _load(path: Path, state: State, network: Translator, layers: Mapping[str, str]) -> None:
    """Every tensor of a file into a network.

    Args:
        path: Of the file, for messages.
        state: Its tensors.
        network: That they belong to.
        layers: Our name of a layer -> the file's.

    Raises:
        UserError: A tensor is missing, left over or of another shape.
    """
    own, kind = network.state_dict(), type(network).__name__
    names = {}
    for name in own:
        layer, _, tensor = name.replace(".normalise.", ".").rpartition(".")
        names[f"{layers[layer]}.{tensor}"] = name
    for name, value in state.items():
        if name not in names:
            raise UserError(f"{path}: {name} has no place in a {kind}; is it a generator of pix2pix or CycleGAN?")
        if value.shape != own[names[name]].shape:
            shape = tuple(own[names[name]].shape)
            raise UserError(
                f"{path}: {name} is of shape {tuple(value.shape)}, but in a {kind} of its width of {shape}"
            )
    for name, ours in names.items():
        if name in state:
            own[ours] = state[name]
        elif not name.endswith(".num_batches_tracked"):  # which PyTorch 0.4.0 did not have yet
            raise UserError(f"{path}: {name} is missing, which a {kind} of its depth has")
    network.load_state_dict(own)
