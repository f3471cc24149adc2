"""What the training loop asks of a family: networks, phases, losses, pictures and held-out figures."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

import torch
from diffusers import ModelMixin
from torch import Tensor

from ..data import DataSpec, Layout
from ..errors import UserError
from ..files import read_json
from ..loading import load_network

if TYPE_CHECKING:
    from ..pipelines.base import GenerativePipeline

Batch = dict[str, Tensor]


@dataclass(frozen=True)
class Phase:
    """One kind of optimiser update inside a training step.

    Attributes:
        name: Shown in logs and errors, e.g. "generator".
        trains: Names of the networks whose optimisers step; the others are frozen meanwhile.
        updates: Optimiser updates a step, each on fresh batches (5 for a WGAN critic).
        every: The phase runs every `every`-th step; a lazy phase's objective scales its loss by it.
        reuse_batch: See the batches of the phase before instead of fresh ones.
        double_backward: The loss differentiates a gradient: never compiled, float32, no fp16.
    """

    name: str
    trains: tuple[str, ...]
    updates: int = 1
    every: int = 1
    reuse_batch: bool = False
    double_backward: bool = False


class Noise:
    """Random numbers drawn for the global batch, of which each micro-batch takes its own rows.

    Every process holds the same generator state, draws the rows of all processes and micro-batches and keeps its
    slice, so N processes (or N accumulated micro-batches) use the numbers that one process with the whole batch uses.

    Args:
        generator: CPU generator; the same seed on every process.
        share: Which of the `num_shares` equal slices of the global batch is ours.
        num_shares: Processes x accumulated micro-batches.
    """

    def __init__(self, generator: torch.Generator, share: int = 0, num_shares: int = 1) -> None:
        self.generator = generator
        self.share = share
        self.num_shares = num_shares

    def _slice(self, draw: Callable[..., Tensor], shape: tuple[int, ...], like: Tensor) -> Tensor:
        rows = shape[0]
        everything = draw(rows * self.num_shares, *shape[1:], generator=self.generator)
        mine = everything[self.share * rows : (self.share + 1) * rows]
        return mine.to(like.device, like.dtype)

    def normal(self, shape: tuple[int, ...], like: Tensor) -> Tensor:
        """Standard normal numbers of `shape`, rows of this micro-batch first, with the device and type of `like`."""
        return self._slice(torch.randn, shape, like)

    def uniform(self, shape: tuple[int, ...], like: Tensor) -> Tensor:
        """Uniform numbers in [0, 1) of `shape`, rows of this micro-batch first, with the device and type of `like`."""
        return self._slice(torch.rand, shape, like)


@dataclass
class NoArguments:
    """A family without options of its own.

    Any family's dataclass may have `loop_defaults: ClassVar[dict[str, Any]]`: other defaults for options of the loop,
    such as {"adam_beta1": 0.5}.
    """


class Objective:
    """A family's losses and all the loop needs around them. Holds no optimiser and no device, calls no backward.

    Attributes:
        networks: The networks by name; those a pipeline needs carry its component names.
        ema: Networks to average with `--use_ema`: those a pipeline samples from.
        phases: The updates of one step, in order; each sees what the phases before it updated.
        data: What the training data look like.
        batch_multiple: Micro-batches must be a multiple of it (PacGAN judges samples in packs).
        schedule: Where weights of the losses are warmed up or annealed: the option that says for how long, and the
            first step (from 0) at which they are final.
    """

    Arguments: ClassVar[type] = NoArguments
    networks: dict[str, ModelMixin]
    ema: tuple[str, ...] = ()
    phases: tuple[Phase, ...]
    data: DataSpec
    batch_multiple: int = 1
    schedule: tuple[str, int] | None = None

    @classmethod
    def layout(cls, args: Any) -> Layout:
        """What an example consists of, given the family's options."""
        return Layout()

    @classmethod
    def from_args(cls, args: Any, data: DataSpec) -> Objective:
        """Build networks for `data` from the family's options (an instance of `cls.Arguments`).

        Raises:
            UserError: The options do not go together, or the networks cannot take such data.
        """
        raise NotImplementedError

    @classmethod
    def from_pretrained(cls, folder: Path, args: Any, data: DataSpec) -> Objective:
        """Build the objective around the networks saved in `folder`.

        The options in `args` that shape networks are set to what was saved, see `adopt_saved_options`.

        Raises:
            UserError: The options contradict the saved networks, or those cannot take such data.
        """
        raise NotImplementedError

    def param_groups(self, name: str) -> list[dict[str, Any]]:
        """Parameter groups of one network; a group's "lr" takes the place of the loop's, under the same schedule."""
        return [{"params": list(self.networks[name].parameters())}]

    def initialize(self, batch: Batch, reduce: Callable[[Tensor], Tensor]) -> None:
        """Data-dependent initialisation, once, on the raw networks. `reduce` averages a tensor over all processes."""

    def losses(
        self, phase: Phase, networks: dict[str, Any], batch: Batch, noise: Noise, cache: dict[str, Any]
    ) -> dict[str, Tensor]:
        """Losses of one micro-batch.

        Args:
            phase: The phase being run.
            networks: The loop's view: networks this phase trains may be wrapped and are only called through `forward`;
                the others are the raw modules with gradients off.
            batch: "image" (batch, channels, height, width) in [-1, 1], "label" (batch,), ...
            noise: Source of every random number.
            cache: Shared by the phases of one step on one micro-batch.

        Returns:
            {"loss": scalar to minimise, other named scalars for the log}.
        """
        raise NotImplementedError

    def after_update(self, phase: Phase, networks: dict[str, ModelMixin], reduce: Callable[[Tensor], Tensor]) -> None:
        """Called after each optimiser update, e.g. to clip weights.

        Args:
            phase: The phase of the update.
            networks: The raw networks.
            reduce: Averages a tensor over all processes, which must all call it alike.
        """

    def before_step(self, step: int) -> None:
        """Called before step `step` (0 first): warm-ups and annealings are functions of the step."""

    def state_dict(self) -> dict[str, Any]:
        """State that is neither a network nor a function of the step (image pools); tensors and plain values."""
        return {}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Restore what `state_dict` returned."""

    def pipeline(self, networks: dict[str, ModelMixin]) -> GenerativePipeline | None:
        """The pipeline around `networks` (raw or averaged); None for a family that has none."""
        return None

    def sample_grid(self, pipeline: GenerativePipeline, batch: Batch, generator: torch.Generator) -> dict[str, Tensor]:
        """Pictures of this family by name: (batch, channels, height, width) in [0, 1], or (batch, 2) points."""
        return {}

    def watched_samples(
        self, networks: dict[str, ModelMixin], count: int, generator: torch.Generator
    ) -> Tensor | None:
        """Samples by which the loop watches for a generator's collapse; None for a family without that danger.

        Args:
            networks: The raw networks in eval mode, without gradients.
            count: How many.
            generator: CPU generator of the latents, the same at every call.

        Returns:
            (count, ...) on the scale of the training data.
        """
        return None

    def evaluate(self, networks: dict[str, ModelMixin], batch: Batch, generator: torch.Generator) -> dict[str, Tensor]:
        """Held-out figures: {name: one value per sample, (batch,)}; the loop averages them over the split."""
        return {}


def check_minimums(args: Any, **minimums: float) -> None:
    """Refuse options below their smallest sensible value.

    Raises:
        UserError: One line that names the option.
    """
    for name, minimum in minimums.items():
        if not getattr(args, name) >= minimum:
            raise UserError(f"--{name} must be at least {minimum}, got {getattr(args, name)}")


def check_positive(args: Any, *names: str) -> None:
    """Refuse options that are given and not above zero.

    Raises:
        UserError: One line that names the option.
    """
    for name in names:
        value = getattr(args, name)
        if value is not None and not value > 0:
            raise UserError(f"--{name} must be positive, got {value}")


def adopt_saved_options(args: Any, saved: Mapping[str, Any]) -> None:
    """Set the options that shape networks to those of the saved ones, so that what is recorded of a run is true.

    Args:
        args: The family's options, changed in place.
        saved: Option -> the saved network's value, lists where the option has a list.

    Raises:
        UserError: An option that is not at its default asks for another value.
    """
    defaults = type(args)()
    for name, value in saved.items():
        if getattr(args, name) not in (getattr(defaults, name), value):
            shown = " ".join(map(str, value)) if isinstance(value, list) else value
            shown = "none" if value in (None, []) else shown
            raise UserError(
                f"--{name} cannot be changed with --pretrained_model_name_or_path; the saved network has {shown}"
            )
    for name, value in saved.items():
        setattr(args, name, value)


def check_shape(network: ModelMixin, data: DataSpec) -> None:
    """Compare the samples that a saved network takes with the data.

    Raises:
        UserError: They have different shapes.
    """
    channels, size = network.config.in_channels, network.config.sample_size
    if (channels, size) != (data.channels, data.size):
        expected = (channels,) if size is None else (channels, size, size)
        raise UserError(f"the pretrained network takes samples of shape {expected}, {data.name} has {data.shape}")


def load_networks(folder: Path, data: DataSpec, allowed: dict[str, tuple[type[ModelMixin], ...]]) -> dict[str, Any]:
    """Load the networks of a saved model, or of a checkpoint, to train them further.

    Args:
        folder: The model's folder, whose `training_networks/` holds what its pipeline does not need; or the folder of
            a checkpoint's networks.
        data: What they shall learn; the first network must take samples like these.
        allowed: Name -> classes that the network may be of.

    Returns:
        Name -> network.

    Raises:
        UserError: One is not there, is of another class, takes other samples, or is damaged.
    """
    networks = {name: load_saved(folder, name, classes) for name, classes in allowed.items()}
    check_shape(next(iter(networks.values())), data)
    return networks


def load_saved(folder: Path, name: str, allowed: tuple[type[ModelMixin], ...]) -> Any:
    """One network of `load_networks`."""
    place = next((p for p in (folder / "training_networks" / name, folder / name) if p.is_dir()), None)
    if place is None:
        raise UserError(
            f"{folder} holds no {name} ({name}/ or training_networks/{name}/), which training needs; "
            "publish or copy the whole output folder of a training run"
        )
    found = read_json(place / "config.json").get("_class_name")
    network_class = next((kind for kind in allowed if kind.__name__ == found), None)
    if network_class is None:
        raise UserError(f"{place} holds a {found}; {name} must be {' or '.join(kind.__name__ for kind in allowed)}")
    return load_network(network_class, place)


def check_labels(data: DataSpec, option: str) -> int:
    """Number of classes of labelled data.

    Raises:
        UserError: The data have no labels; the message names `option`, which needs them.
    """
    if not data.class_names:
        raise UserError(f"{option} needs labels, but {data.name} has none; name the column with --label_column")
    return len(data.class_names)


def check_saved_classes(known: int, data: DataSpec) -> None:
    """Compare the number of classes that a saved model was trained with, with the data's.

    Raises:
        UserError: The data have no labels, or another number of classes.
    """
    found = check_labels(data, "this model")
    if found != known:
        raise UserError(f"the saved model knows {known} classes, {data.name} has {found}")


def reconstruction_pairs(pipeline: Any, image: Tensor) -> Tensor:
    """Each image followed by its reconstruction: (batch, ...) in [-1, 1] -> (2 batch, ...) in [0, 1]."""
    original = (image + 1) / 2
    return torch.stack([original, pipeline.reconstruct(original, output_type="pt").images.to(original)], 1).flatten(
        0, 1
    )
