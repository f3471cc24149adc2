"""Signals that a run goes wrong though every number is finite: gradient norms, and how far samples lie apart."""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from functools import cached_property

import numpy as np
import torch
from diffusers import ModelMixin
from torch import Tensor

from hf_genmodels.data.lanes import Lane
from hf_genmodels.data.layouts import TwoImageDataset
from hf_genmodels.data.sets import order
from hf_genmodels.data.streams import ImageDataset, StreamedDataset
from hf_genmodels.objectives.base import Objective

SAMPLE_DIVERSITY = "sample_diversity"
NUM_WATCHED = 64
# Share of the steps' time that is spent waiting for batches.
DATA_WAIT = "data_wait"
_GRADIENT_NORM = "gradient_norm_"

# Of the GANs on `builtin:digits` and `builtin:toy2d` whose traces we looked at, those that covered the data had passed
# the ratio by a fifth of the run or were rising towards it; those that had lost modes stayed between 0.1 and 0.3.
COLLAPSED_BELOW = 0.25
COLLAPSED_LOGS = 3
BEGINNING = 0.2


class SampleWatch:
    """Measures how far a generator's samples lie apart, compared with training examples.

    The examples are the first of the first epoch's order, since a folder may be sorted by class. (A stream is shuffled
    only as far as its buffer reaches.)

    Args:
        objective: Draws the samples.
        train: The training data.
        seed: Of the samples' latents, the same at every measurement, and of the order.
    """

    def __init__(self, objective: Objective, train: ImageDataset | TwoImageDataset, seed: int) -> None:
        self.objective = objective
        self.train = train
        self.seed = seed

    @cached_property
    def data_distance(self) -> float:
        """Mean distance between two of the examples."""
        return mean_pairwise_distance(self._examples())

    def _examples(self) -> Tensor:
        if isinstance(self.train, StreamedDataset):
            streamed = itertools.islice(Lane(self.train, 0, 1, self.seed).rest_of_epoch(), NUM_WATCHED)
            return self.train.collate((list(streamed), None))["image"]
        count = len(self.train)
        rows = order(self.seed, 0, np.arange(min(count, NUM_WATCHED)), count)
        return self.train.collate((rows, None))["image"]

    def measure(self, networks: dict[str, ModelMixin]) -> dict[str, float]:
        """`sample_diversity` of networks in eval mode; nothing where no samples are watched or all data are equal."""
        latents = torch.Generator().manual_seed(self.seed)
        samples = self.objective.watched_samples(networks, NUM_WATCHED, latents)
        if samples is None or not self.data_distance > 0:
            return {}
        return {SAMPLE_DIVERSITY: mean_pairwise_distance(samples) / self.data_distance}


def gradient_norm_name(network: str) -> str:
    """What the gradient norm of a network is called in the logs, after the phase's prefix."""
    return _GRADIENT_NORM + network


def is_gradient_norm(name: str) -> bool:
    """Whether a logged figure is a gradient norm."""
    return name.rpartition("/")[2].startswith(_GRADIENT_NORM)


def is_diagnostic(name: str) -> bool:
    """Whether a logged figure is about the training rather than about what came of it: no curve, and no result."""
    return name == DATA_WAIT or is_gradient_norm(name)


def mean_pairwise_distance(samples: Tensor) -> float:
    """Mean Euclidean distance between two of the samples.

    Args:
        samples: (count, ...), any finite values; for fewer than two samples the mean is not a number.
    """
    return float(torch.pdist(samples.flatten(1).float().cpu()).mean())


def collapse_warning(history: Mapping[str, Sequence[tuple[int, float]]], total_steps: int) -> str | None:
    """Say where a run's generator collapsed: its samples became almost the same whatever the latents.

    It has if, after the first fifth of the run, three logs in a row find its samples less than a quarter as far apart
    as the data, and at the last no farther than at the first. (At the beginning a generator's output hardly depends on
    its latents, in healthy runs too; but then it rises from log to log.)

    Args:
        history: (step, value) of every log by name; the distance between samples over that between training examples
            is read.
        total_steps: Steps of the run.

    Returns:
        A sentence about the first such place, or None.
    """
    low: list[float] = []
    for step, ratio in history.get(SAMPLE_DIVERSITY, ()):
        low = [*low, ratio] if step > BEGINNING * total_steps and ratio < COLLAPSED_BELOW else []
        if len(low) >= COLLAPSED_LOGS and ratio <= low[-COLLAPSED_LOGS]:
            return (
                f"at step {step} the generator has collapsed: its samples are {ratio:.2g} times as far apart as the "
                "data; try --gradient_penalty r1 (where the family has it), a lower --learning_rate, or another --seed"
            )
    return None


def lasting_warning(history: Mapping[str, Sequence[tuple[int, float]]], total_steps: int) -> str | None:
    """What a finished run says of a collapse: `collapse_warning`, unless the last ratio is above its limit again.

    Args:
        history: As for `collapse_warning`.
        total_steps: Steps of the run.

    Returns:
        A sentence about the first collapse, or None where there was none or the generator has recovered.
    """
    warning = collapse_warning(history, total_steps)
    return warning if warning is not None and history[SAMPLE_DIVERSITY][-1][1] < COLLAPSED_BELOW else None
