"""Which evaluation of a run is the best by several figures, and which may still become it.

Ruffino et al. (arXiv 2002.01281, and the thesis it became part of) choose a checkpoint by FID and mean squared error
on validation data: each is scaled to [0, 1] by its least and largest value in the run, and the nearest to (0, 0) is
taken.
The ranges, and so the choice, change with every evaluation. One that another equals or beats in every figure is never
nearer, whatever the ranges become; the others, the front, may all become the choice, and are what has to be kept.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Sequence
from dataclasses import dataclass


@dataclass(frozen=True)
class Evaluation:
    """What was measured after a step.

    Attributes:
        step: Steps taken.
        costs: A number for each figure, the smaller the better, the same figures in every evaluation; infinite where
            it was no finite number.
    """

    step: int
    costs: tuple[float, ...]

    @property
    def is_finite(self) -> bool:
        """Whether all costs are finite: others are never chosen."""
        return all(map(math.isfinite, self.costs))

    def makes_idle(self, other: Evaluation) -> bool:
        """Whether `other` can be nowhere chosen: this one is as good in all, and in one better or the earlier one."""
        as_good = all(mine <= theirs for mine, theirs in zip(self.costs, other.costs, strict=True))
        return as_good and (self.costs != other.costs or self.step < other.step)


def front(evaluations: Sequence[Evaluation]) -> list[Evaluation]:
    """Those that may be the best of these, or become it when further ones have changed the ranges."""
    return [each for each in evaluations if not any(other.makes_idle(each) for other in evaluations)]


def best(evaluations: Sequence[Evaluation]) -> Evaluation:
    """The nearest to the origin once every cost is scaled to [0, 1] over all evaluations; the earliest of equal ones.

    A cost that is the same in all evaluations counts 0; infinite ones are outside of the ranges, and never nearest.

    Args:
        evaluations: At least one has finite costs.
    """
    columns = zip(*(each.costs for each in evaluations), strict=True)
    finite = [[cost for cost in column if math.isfinite(cost)] for column in columns]
    ranges = [(min(column), max(column) - min(column)) for column in finite]

    def distance(evaluation: Evaluation) -> float:
        scaled = [
            (cost - low) / extent if extent else 0.0
            for cost, (low, extent) in zip(evaluation.costs, ranges, strict=True)
        ]
        return sum(each**2 for each in scaled)

    return min((each for each in front(evaluations) if each.is_finite), key=distance)


def needed(evaluations: Sequence[Evaluation], checkpoints: Collection[int]) -> set[int]:
    """Steps of which the networks must be kept: the front's, and that of each checkpoint a run may go on from.

    Args:
        evaluations: All so far, in order.
        checkpoints: Steps of the checkpoints.
    """
    kept = {each.step for each in front(evaluations)}
    for step in checkpoints:
        kept |= {each.step for each in front([each for each in evaluations if each.step <= step])}
    return kept
