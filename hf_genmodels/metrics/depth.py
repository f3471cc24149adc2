"""Errors of predicted depths, one number for each image.

Those of D. Eigen, C. Puhrsch and R. Fergus, "Depth Map Prediction from a Single Image using a Multi-Scale Deep
Network", NeurIPS 2014, arXiv 1406.2283, table 1; of each image, where the paper takes all pixels of a set together.
"""

from __future__ import annotations

from torch import Tensor

from ..errors import UserError

# Predictions are at least this share of white: relative errors and logarithms need depths above 0.
NEAREST = 1e-3
RATIO, POWERS = 1.25, (1, 2, 3)
DEPTH_ERRORS = ("abs rel", "RMSE", "log RMSE", *(f"delta 1.25^{power}" for power in POWERS))


def depth_errors(depth: Tensor, predicted: Tensor, unit: float = 1.0) -> dict[str, Tensor]:
    """Errors of each image that has a valid pixel.

    Args:
        depth: (batch, 1, height, width) in [0, 1]; 0 means that nothing was measured, and does not count.
        predicted: Same shape; raised to `NEAREST` where it is smaller.
        unit: The depth that 1 stands for.

    Returns:
        "abs rel": mean |d - p| / d; "RMSE" in the unit of the stored depths; "log RMSE" of natural logarithms;
        "delta 1.25^k" for k = 1, 2, 3: share of pixels with max(d / p, p / d) < 1.25^k. Each (images,) float64.

    Raises:
        UserError: Shapes that differ, or several channels.
    """
    if depth.shape != predicted.shape or depth.ndim != 4 or depth.shape[1] != 1:
        raise UserError(
            f"depths have shape {tuple(depth.shape)}, predictions {tuple(predicted.shape)}; both must be (batch, 1, "
            "height, width)"
        )
    depth, predicted = depth.double().flatten(1), predicted.double().flatten(1).clamp(min=NEAREST)
    valid = depth > 0
    some = valid.any(1)
    depth, predicted, valid = depth[some], predicted[some], valid[some]
    count = valid.sum(1)
    true = depth.where(valid, predicted)  # where nothing was measured, no error

    def mean(errors: Tensor) -> Tensor:
        return (errors * valid).sum(1) / count

    ratio = (true / predicted).maximum(predicted / true)
    errors = {
        "abs rel": mean((true - predicted).abs() / true),
        "RMSE": mean((true - predicted).square()).sqrt() * unit,
        "log RMSE": mean((true / predicted).log().square()).sqrt(),
    }
    return errors | {f"delta 1.25^{power}": mean((ratio < RATIO**power).double()) for power in POWERS}
