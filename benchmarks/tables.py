"""How the reference runs write a figure that was measured with several seeds."""

from __future__ import annotations

import statistics
from collections.abc import Sequence


def mean_and_spread(values: Sequence[float], mean: str = ".3g", spread: str = ".2g") -> str:
    """Mean ± standard deviation, in the given formats; of one value the mean alone, of none a dash."""
    if not values:
        return "–"
    text = format(statistics.mean(values), mean)
    return f"{text} ± {statistics.stdev(values):{spread}}" if len(values) > 1 else text
