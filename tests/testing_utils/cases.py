"""What a family's case file in `tests/families/` tells the sweeps over all families."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from hf_genmodels import GenerativePipeline

Shape = tuple[int, ...]
# (shape of a sample, value_scale) -> the smallest pipeline for such samples
TinyPipeline = Callable[[Shape, float], GenerativePipeline]


@dataclass(frozen=True)
class Equal:
    """A run that two processes must do as one does, without batch norm, whose statistics are each process's own.

    Attributes:
        options: The family's.
        dataset_name: Of 96 training examples.
        resolution: Of the images.
        data: Further options of the data.
        change: Called with the objective that the options give, returns the one to train.
        float64: Train in double precision. Instance norms make networks blind to the scale of their weights, and
            rounding grows tenfold in a step or two.
        of_one_process: Figures in the log that are no means over samples: the share of a process's own pairs.
        own_rows: The objective's state belongs to a process's own rows, and is not compared.
    """

    options: dict[str, Any] = field(default_factory=dict)
    dataset_name: str = "builtin:toy2d"
    resolution: int | None = None
    data: dict[str, Any] = field(default_factory=dict)
    change: Callable[[Any], Any] | None = None
    float64: bool = False
    of_one_process: frozenset[str] = frozenset()
    own_rows: bool = False


@dataclass(frozen=True)
class FamilyCase:
    """What the sweeps need to know of one family.

    Attributes:
        options: Command line of the smallest networks, on `dataset_name`.
        dataset_name: The family's data.
        vector_options: The same on builtin:toy2d; None for a family that takes no vectors.
        pipelines: Class name of each of its pipelines -> how to build the smallest.
        images_only: Those of its pipelines that take no vectors.
        equal: Runs by name that two processes do as one.
        resumed: Options of runs by name that are interrupted and go on bit for bit, beside those of
            `tests/training/test_family_resume.py`.
    """

    options: str = ""
    dataset_name: str = "builtin:digits"
    vector_options: str | None = None
    pipelines: dict[str, TinyPipeline] = field(default_factory=dict)
    images_only: frozenset[str] = frozenset()
    equal: dict[str, Equal] = field(default_factory=dict)
    resumed: dict[str, dict[str, Any]] = field(default_factory=dict)
