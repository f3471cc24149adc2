"""Which evaluation is the best by several figures, and which must be kept for it."""

from __future__ import annotations

import math

import numpy as np
import pytest

from hf_genmodels.training.selection import Evaluation, best, front, needed


def slow_best(evaluations: list[Evaluation]) -> int:
    """The thesis's rule, by whole columns: min-max scaled, Euclidean norm, argmin."""
    costs = np.array([each.costs for each in evaluations])
    extents = np.ptp(costs, axis=0)
    scaled = (costs - costs.min(0)) / np.where(extents == 0, 1, extents)
    return evaluations[int(np.argmin(np.linalg.norm(scaled, axis=1)))].step


def draw(seed: int, figures: int) -> list[Evaluation]:
    """Twelve evaluations, some of which share figures; the ranges grow on the way."""
    draws = np.random.default_rng(seed)
    costs = draws.integers(-4, 5, (12, figures)) * draws.choice([1, 1, 1, 7], (12, 1))
    return [Evaluation(10 * (index + 1), tuple(map(float, row))) for index, row in enumerate(costs)]


def test_infinite_costs_are_outside_of_the_ranges() -> None:
    costs = [(1.0, 4.0), (math.inf, 0.0), (2.0, math.inf), (3.0, 2.0), (1.8, 2.5)]
    evaluations = [Evaluation(index, each) for index, each in enumerate(costs)]
    assert best(evaluations).step == 4 and not evaluations[1].is_finite
    assert best(evaluations[:3]).step == 0


@pytest.mark.parametrize("figures", [1, 2, 3])
@pytest.mark.parametrize("seed", range(30))
def test_what_is_kept_holds_the_best_of_the_whole_run(seed: int, figures: int) -> None:
    evaluations = draw(seed, figures)
    kept: list[Evaluation] = []
    for index, evaluation in enumerate(evaluations):
        kept = front([*kept, evaluation])  # all others' networks are gone by then
        so_far = evaluations[: index + 1]
        assert kept == front(so_far)
        assert best(so_far) in kept
        assert best(so_far).step == slow_best(so_far)


def test_ranges_that_grow_bring_an_earlier_one_back() -> None:
    first, second, third = Evaluation(1, (0.0, 4.0)), Evaluation(2, (3.0, 0.0)), Evaluation(3, (30.0, 3.0))
    middle = Evaluation(4, (1.0, 3.0))
    assert best([first, middle, second]) == middle
    # now the first figure's range makes 0, 1 and 3 nearly alike, and the second decides
    assert best([first, middle, second, third]) == second
    assert front([first, middle, second, third]) == [first, middle, second]


def test_of_equal_ones_the_earliest() -> None:
    same = [Evaluation(step, (2.0, math.pi)) for step in (5, 10, 15)]
    assert front(same) == [same[0]] and best(same) == same[0]


def test_a_checkpoint_needs_the_front_of_its_time() -> None:
    evaluations = [Evaluation(step, (float(cost),)) for step, cost in [(1, 5), (2, 3), (3, 4), (4, 1)]]
    assert needed(evaluations, ()) == {4}
    assert needed(evaluations, (1, 3)) == {1, 2, 4}
