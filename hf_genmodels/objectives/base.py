"""What the training loop asks of a family: networks, phases, losses, pictures and held-out figures."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar, TypeVar

import torch
from diffusers import ConfigMixin, ModelMixin
from torch import Tensor

from .. import keyed
from ..data.spec import DataSpec
from ..errors import UserError

if TYPE_CHECKING:
    from ..pipelines.base import GenerativePipeline

PipelineT = TypeVar("PipelineT", bound="GenerativePipeline")
Batch = dict[str, Tensor]
# A tensor of one process -> the rows of all processes one after the other, in the order of the global batch's shares.
Gather = Callable[[Tensor], Tensor]


@dataclass(frozen=True)
class Phase:
    """One kind of optimiser update inside a training step.

    Attributes:
        name: Shown in logs and errors, e.g. "generator".
        trains: Names of the networks whose optimisers step; the others are frozen meanwhile.
        updates: Optimiser updates a step, each on fresh batches (5 for a WGAN critic).
        every: The phase runs every `every`-th step; a lazy phase's objective scales its loss by it.
        starts: First step, counted from 0, in which it runs.
        stops: The step before which it ends; None for the run's end.
        reuse_batch: See the batches of the phase before instead of fresh ones.
        double_backward: The loss differentiates a gradient: never compiled, float32, no fp16.
    """

    name: str
    trains: tuple[str, ...]
    updates: int = 1
    every: int = 1
    starts: int = 0
    stops: int | None = None
    reuse_batch: bool = False
    double_backward: bool = False

    def updates_in(self, step: int) -> int:
        """Updates in a step, counted from 0: `updates`, or none."""
        runs = step >= self.starts and (self.stops is None or step < self.stops) and step % self.every == 0
        return self.updates if runs else 0


class Noise:
    """Random numbers of the rows of a global batch, of which each micro-batch draws its own.

    What row i sees in the k-th call is a function of (seed, k, i), so N processes (or N accumulated micro-batches) use
    the numbers that one process with the whole batch uses. Integers, and so uniform numbers, are the same on every
    device; normal ones are the same on devices of one kind.

    Args:
        seed: The same on every process.
        share: Which of the `num_shares` equal slices of the global batch is ours.
        num_shares: Processes x accumulated micro-batches.
    """

    def __init__(self, seed: int, share: int = 0, num_shares: int = 1) -> None:
        self.seed = seed
        self.share = share
        self.num_shares = num_shares
        self._calls = 0

    @classmethod
    def seeded_by(cls, generator: torch.Generator) -> Noise:
        """A source for a whole batch, with a seed that the (CPU) generator draws."""
        return cls(int(torch.randint(2**63 - 1, (), generator=generator)))

    def normal(self, shape: tuple[int, ...], like: Tensor) -> Tensor:
        """Standard normal numbers of `shape`, rows of this micro-batch first, with the device and type of `like`."""
        return keyed.normal(self._next_key(), self._rows(shape[0], like), shape[1:]).to(like.dtype)

    def uniform(self, shape: tuple[int, ...], like: Tensor) -> Tensor:
        """Uniform numbers in [0, 1) of `shape`, rows of this micro-batch first, with the device and type of `like`."""
        return keyed.uniform(self._next_key(), self._rows(shape[0], like), shape[1:]).to(like.dtype)

    def _next_key(self) -> int:
        self._calls += 1
        return keyed.noise_seed(self.seed, self._calls)

    def _rows(self, count: int, like: Tensor) -> Tensor:
        return torch.arange(self.share * count, (self.share + 1) * count, device=like.device)


class Objective:
    """A family's losses and all the loop needs around them. Holds no optimiser and no device, calls no backward.

    A family's class takes its networks, what the data look like, and plain numbers and choices; any `ModelMixin` with
    the `forward` that `docs/own_networks.md` tells may be a network.

    Args:
        networks: The networks by name; those a pipeline needs carry its component names.
        data: What the training data look like.

    Raises:
        UserError: A network is no `ModelMixin` with a `ConfigMixin`.

    Attributes:
        phases: The updates of one step, in order; each sees what the phases before it updated.
        ema: Networks to average with `--use_ema`: those a pipeline samples from.
        frozen: Networks that nothing trains (a first stage, an extractor): saved once a run, in eval mode throughout.
        pipeline_class: Of the networks in `ema`; None for a family that has no pipeline.
        shows_reconstructions: Whether pictures of images show `pipeline.reconstruct`, too.
        learning_rates: Network -> learning rate of its own (None: the loop's), under the same schedule.
        partly_used: Networks some of whose parts have no part in some passes, such as those that are switched on at a
            step (`before_step`); several processes must look for what was used, which costs time.
        averaged_buffers: Network -> names of the buffers that its average averages as it does parameters, beside
            running statistics of norms; the others (flags, counts) are copied.
        batch_multiple: Micro-batches must be a multiple of it (PacGAN judges samples in packs).
        schedule: Where weights of the losses are warmed up or annealed: for each the option that says for how long,
            and the first step (from 0) at which it is final.
        whole: Names of `evaluate`'s entries that `summarize` gets whole instead of the loop averaging them.
        higher_is_better: Names of held-out figures of which more is better, for `--save_best`; of others less is.
        notes: Lines that a run says before it begins.
    """

    phases: tuple[Phase, ...] = ()
    ema: tuple[str, ...] = ()
    frozen: tuple[str, ...] = ()
    pipeline_class: ClassVar[type[GenerativePipeline] | None] = None
    shows_reconstructions: ClassVar[bool] = False
    averaged_buffers: dict[str, tuple[str, ...]] = {}
    batch_multiple: int = 1
    schedule: tuple[tuple[str, int], ...] = ()
    whole: tuple[str, ...] = ()
    higher_is_better: tuple[str, ...] = ()
    partly_used: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()

    def __init__(self, networks: dict[str, Any], data: DataSpec) -> None:
        for name, network in networks.items():
            if not isinstance(network, ModelMixin) or not isinstance(network, ConfigMixin):
                kind = type(network).__name__
                raise UserError(f"{type(self).__name__}: {name} must be a ModelMixin with a ConfigMixin, not a {kind}")
        self.networks: dict[str, ModelMixin] = networks
        self.data = data
        self.learning_rates: dict[str, float | None] = {}
        self.as_built: dict[str, Any] | None = None  # what a resumed run must share, noted by the first loop

    # training --------------------------------------------------------------------------------------------------------

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

    def param_groups(self, name: str) -> list[dict[str, Any]]:
        """Parameter groups of one network, as `torch.optim` takes them.

        A group's "lr" takes the place of the loop's, under the same schedule; "optimizer" ("adamw", "adam", "rmsprop",
        "sgd", one for all groups of a network) that of `--optimizer`; "betas" and whatever else the optimiser knows
        that of its options.
        """
        group: dict[str, Any] = {"params": list(self.networks[name].parameters())}
        rate = self.learning_rates.get(name)
        return [group if rate is None else group | {"lr": rate}]

    def initialize(self, batch: Batch, noise: Noise, gather: Gather) -> None:
        """Data-dependent initialisation, once, on the raw networks, before the first step.

        What it writes into a network must be the same on all processes: computed of gathered values and of `noise`.

        Args:
            batch: Of this process, all micro-batches of the first update.
            noise: A source that gives all processes the same numbers.
            gather: See `Gather`; every process must call it alike.
        """

    def before_step(self, step: int) -> None:
        """Called before step `step` (0 first): warm-ups and annealings are functions of the step."""

    def after_update(self, phase: Phase, networks: dict[str, ModelMixin], noise: Noise, gather: Gather) -> None:
        """Called after each optimiser update, to clip weights or to set codebooks.

        What it writes into a network must be the same on all processes: computed of gathered values and of `noise`.

        Args:
            phase: The phase of the update.
            networks: The raw networks.
            noise: A source of its own that gives all processes the same numbers.
            gather: See `Gather`; every process must call it alike.
        """

    def state_dict(self) -> dict[str, Any]:
        """State that is neither a network nor a function of the step (image pools); tensors and plain values."""
        return {}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Restore what `state_dict` returned."""

    # pictures and held-out figures -----------------------------------------------------------------------------------

    def pipeline(self, networks: dict[str, ModelMixin]) -> GenerativePipeline | None:
        """The pipeline around `networks` (raw or averaged); None for a family that has none."""
        if self.pipeline_class is None:
            return None
        parts: dict[str, Any] = {name: networks[name] for name in self.ema}
        return with_class_names(self.pipeline_class(**parts, value_scale=self.data.value_scale), self.data)

    def sample_grid(self, pipeline: Any, batch: Batch, generator: torch.Generator) -> dict[str, Tensor]:
        """Pictures of this family by name: (batch, channels, height, width) in [0, 1], or (batch, 2) points.

        By default samples, as many as the batch has examples, and reconstructions; of points samples beside the data.
        """
        image = batch["image"]
        samples = pipeline(batch_size=len(image), generator=generator, output_type="pt").images
        if not self.data.is_image:
            return {"data": image, "samples": samples}
        return {"samples": samples} | (
            {"reconstructions": reconstruction_pairs(pipeline, image)} if self.shows_reconstructions else {}
        )

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

    @property
    def sampling(self) -> dict[str, Any]:
        """Options of the pipeline's call by which samples are made that are measured during training."""
        return {}

    def evaluate(self, networks: dict[str, ModelMixin], batch: Batch, generator: torch.Generator) -> dict[str, Tensor]:
        """Held-out figures: {name: one value per sample, (batch,)}; the loop averages them over the split.

        Of images of two sets that are no pairs, a batch may hold fewer of one than of the other, or none: a figure
        has one value for each image that it is about. Entries named in `whole` may have any shape (batch, ...).
        """
        return {}

    def summarize(self, gathered: dict[str, Tensor]) -> dict[str, float]:
        """Figures of what `evaluate` said under the names in `whole`, of the whole split: {name: (examples, ...)}.

        For metrics that are no mean over samples, such as an area under a curve. The examples of several processes
        come one process after the other.
        """
        return {}


def with_class_names(pipeline: PipelineT, data: DataSpec) -> PipelineT:
    """A pipeline with the names of the data's classes, where it tells them apart and has a place for names."""
    names = data.class_names
    if names is not None and "id2label" in pipeline.config and pipeline.num_classes == len(names):
        pipeline.register_classes(dict(enumerate(names)))
    return pipeline


def reconstruction_pairs(pipeline: Any, image: Tensor) -> Tensor:
    """Each image followed by its reconstruction: (batch, ...) in [-1, 1] -> (2 batch, ...) in [0, 1]."""
    original = (image + 1) / 2
    return torch.stack([original, pipeline.reconstruct(original, output_type="pt").images.to(original)], 1).flatten(
        0, 1
    )


def latent_samples(network: Any, count: int, generator: torch.Generator) -> Tensor:
    """`Objective.watched_samples` of a generator or decoder of standard normal latents; of its classes in turn."""
    latents = torch.randn(count, network.config.latent_dim, generator=generator)
    labels = {}
    if network.config.get("num_classes"):
        labels["labels"] = torch.arange(count, device=network.device) % network.config.num_classes
    sample: Tensor = network(latents.to(network.device, network.dtype), **labels).sample
    return sample
