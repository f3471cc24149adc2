"""Which points lie in balls that reach to the k-th nearest neighbour: float64's answer at float32's cost.

Squared distances come from products of matrices, |x|^2 + |y|^2 - 2 x.y. In float32 none of them is off by more than
the `slack` of both points, which decides nearly all comparisons; those it leaves open are made again in float64.
"""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import Tensor

from .products import product

# Copies of a point have radius 0: without an allowance rounding would decide whether another copy is inside.
_ROUNDING = 1e-12

Rows = slice | Tensor


class Points:
    """A set of features whose distances are to be had in blocks.

    Args:
        features: (number, dim), float32 or float64.
        centre: (dim,), which is subtracted: small norms have small errors.
        scale: A power of two, by which all is multiplied: squares must not overflow.
        block: Rows that are copied at a time.
    """

    def __init__(self, features: Tensor, centre: Tensor, scale: float, block: int) -> None:
        self.features, self.centre, self.scale, self.block = features, centre * scale, scale, block
        self.norms = torch.cat([self.rows(part).square_().sum(1) for part in self.parts()])
        # A sum of products is off by one rounding of each term for each addition at most (Higham 2002, section 3.1).
        # Terms of the norms and of 2 x.y add up to no more than twice both norms; a few roundings come from the
        # operands. Beyond that only numbers below the smallest normal one are lost.
        unit = torch.finfo(torch.float32).eps / 2
        self.slack = 2 * (features.shape[1] + 16) * unit * self.norms + 1e-30

    def __len__(self) -> int:
        return len(self.features)

    def parts(self, start: int = 0) -> Iterator[slice]:
        """Slices of at most `block` rows, from `start` on."""
        return (slice(begin, min(begin + self.block, len(self))) for begin in range(start, len(self), self.block))

    def rows(self, index: Rows, dtype: torch.dtype = torch.float32) -> Tensor:
        """Some of the points, a copy."""
        points = self.features[index] * self.scale
        if dtype == torch.float64:  # before the subtraction, which rounds
            points = points.double()
        return points.sub_(self.centre).to(dtype)


def _squared_distances(x: Points, rows: Rows, y: Points, columns: Rows, slack: int = 0) -> Tensor:
    """(rows of x, rows of y) in float32; with a slack of -1 below the true ones, with one of 1 above them."""
    of_rows, of_columns = ((each.norms + slack * each.slack)[index] for each, index in ((x, rows), (y, columns)))
    return (of_rows[:, None] + of_columns).sub_(product(x.rows(rows), y.rows(columns)), alpha=2)


def _exact_squared_distances(x: Points, rows: Rows, y: Points, columns: Rows) -> tuple[Tensor, Tensor]:
    """(rows of x, rows of y) in float64, and the size of their rounding errors."""
    a, b = x.rows(rows, torch.float64), y.rows(columns, torch.float64)
    norms = a.square().sum(1)[:, None] + b.square().sum(1)
    return torch.addmm(norms, a, b.T, alpha=-2), norms.mul_(_ROUNDING)


class Balls:
    """The balls around points that reach to their k-th nearest neighbour; a point is not its own neighbour.

    Args:
        points: The centres.
        k: Smaller than their number.

    Attributes:
        inner, outer: (number,) A point is inside for sure if its squared distance in float32 and its slack add up to
            no more than `inner`, and outside for sure if its squared distance less its slack is more than `outer`.
    """

    def __init__(self, points: Points, k: int) -> None:
        self.points, self.k = points, k
        below = points.norms.new_full((len(points), k), torch.inf)  # the squared distances of the nearest
        above = below.clone()
        for rows in points.parts():
            for columns in points.parts(rows.start):
                distances = _squared_distances(points, rows, points, columns, slack=-1)
                if columns == rows:
                    distances.fill_diagonal_(torch.inf)
                else:
                    self._merge(below, above, columns, rows, distances.T.contiguous())
                self._merge(below, above, rows, columns, distances)
        self.inner, self.outer = below.amax(1) - points.slack, above.amax(1) + points.slack
        self._squared_radii = torch.full_like(self.inner, torch.nan, dtype=torch.float64)

    def _merge(self, below: Tensor, above: Tensor, rows: slice, columns: slice, distances: Tensor) -> None:
        """Keep of the distances of some rows to some columns what is among the smallest."""
        slack = self.points.slack
        found, index = distances.topk(min(self.k, distances.shape[1]), dim=1, largest=False, sorted=False)
        raised = found + 2 * (slack[rows, None] + slack[columns][index])
        below[rows], kept = torch.cat([below[rows], found], 1).topk(self.k, dim=1, largest=False, sorted=False)
        above[rows] = torch.cat([above[rows], raised], 1).gather(1, kept)

    def squared_radii(self, centres: Tensor) -> Tensor:
        """Of some of the balls, in float64."""
        points = self.points
        for rows in centres[self._squared_radii[centres].isnan()].split(points.block):
            reach = self.outer[rows]
            nearest = self._squared_radii.new_full((len(rows), self.k), torch.inf)
            for columns in _near(points, rows, reach, points).split(points.block):
                distances, _ = _exact_squared_distances(points, rows, points, columns)
                distances[rows[:, None] == columns] = torch.inf
                nearest = torch.cat([nearest, distances], 1).topk(self.k, dim=1, largest=False).values
            self._squared_radii[rows] = nearest.amax(1)
        return self._squared_radii[centres]

    def contain(self, others: Points, rows: Tensor) -> Tensor:
        """Whether some of the other points are inside, by float64: (rows,) bool."""
        inside = torch.zeros_like(rows, dtype=torch.bool)
        for part, found in zip(rows.split(others.block), inside.split(others.block), strict=True):
            near = _near(others, part, others.slack[part], self.points, self.outer)
            for centres in near.split(self.points.block):
                distances, rounding = _exact_squared_distances(others, part, self.points, centres)
                found |= (distances <= self.squared_radii(centres) + rounding).any(1)
        return inside


def _near(x: Points, rows: Tensor, reach: Tensor, y: Points, further: Tensor | None = None) -> Tensor:
    """Indices of the y with a squared distance of at most `reach` (+ `further` of the y) to any of these rows of x."""
    near = []
    for part in y.parts():
        margin = _squared_distances(x, rows, y, part).sub_(y.slack[part] if further is None else further[part])
        near.append((margin <= reach[:, None]).any(0))
    return torch.cat(near).nonzero()[:, 0]


def count_inside(a: Balls, b: Balls) -> tuple[int, int]:
    """How many points of b are in one of the balls of a, and how many of a in one of b."""
    sides = (a, b)
    # of each point, by how much at least its distance to a centre is longer than the ball's outer and inner radius
    margins = [side.points.norms.new_full((2, len(side.points)), torch.inf) for side in sides]
    for rows in a.points.parts():
        for columns in b.points.parts():
            distances = _squared_distances(a.points, rows, b.points, columns)
            for side, part, centres, turned in ((0, rows, columns, distances), (1, columns, rows, distances.T)):
                balls = sides[1 - side]
                for bound, radii in enumerate((balls.outer, balls.inner)):
                    least = (turned - radii[centres]).amin(1)
                    margins[side][bound, part] = torch.minimum(margins[side][bound, part], least)
    counts = []
    for side, balls in ((1, a), (0, b)):
        points, (outer, inner) = sides[side].points, margins[side]
        surely = inner <= -points.slack
        undecided = ((outer <= points.slack) & ~surely).nonzero()[:, 0]
        counts.append(int(surely.sum()) + int(balls.contain(points, undecided).sum()))
    return counts[0], counts[1]
