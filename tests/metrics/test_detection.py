from __future__ import annotations

import math

import pytest
import torch
from sklearn.metrics import roc_auc_score

from hf_genmodels.errors import UserError
from hf_genmodels.metrics.detection import auroc


@pytest.mark.parametrize("levels", [3, 10, 10**6])
def test_auroc_with_ties(levels: int) -> None:
    generator = torch.Generator().manual_seed(levels)
    positives = torch.rand(200, generator=generator) < 0.3
    scores = torch.randint(levels, (200,), generator=generator) + positives * levels // 3
    assert auroc(scores, positives) == pytest.approx(roc_auc_score(positives, scores), rel=1e-12)


def test_auroc_of_extremes() -> None:
    positives = torch.tensor([0, 0, 1, 1])
    assert auroc(torch.tensor([1.0, 2, 3, 4]), positives) == 1
    assert auroc(torch.tensor([4.0, 3, 2, 1]), positives) == 0
    assert auroc(torch.ones(4), positives) == 0.5


def test_auroc_tells_close_float64_scores_apart() -> None:
    assert auroc(torch.tensor([1.0, 1.0 + 1e-12], dtype=torch.float64), torch.tensor([0, 1])) == 1


def test_auroc_refuses_what_it_cannot_rank() -> None:
    with pytest.raises(UserError, match="0 positives and 3 negatives"):
        auroc(torch.rand(3), torch.zeros(3))
    with pytest.raises(UserError, match="NaN"):
        auroc(torch.tensor([0.0, math.nan]), torch.tensor([0, 1]))
    with pytest.raises(UserError, match="expected \\(number,\\)"):
        auroc(torch.rand(3, 1), torch.zeros(3))
