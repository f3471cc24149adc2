"""What quickstart prints beside the VAE's figure."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from hf_genmodels.quickstart import error_of_pca


def test_the_error_of_pca_is_that_of_projections_in_the_range_of_images() -> None:
    generator = torch.Generator().manual_seed(0)
    train, test = (torch.rand(count, 1, 3, 3, generator=generator).round() * 2 - 1 for count in (40, 30))
    ours = error_of_pca(train, test, 4)
    known, asked = (images.flatten(1).double().numpy() for images in (train, test))
    _, vectors = np.linalg.eigh(np.cov(known.T))
    projector = vectors[:, -4:] @ vectors[:, -4:].T
    projected = (asked - known.mean(0)) @ projector + known.mean(0)
    assert np.abs(projected).max() > 1.1
    assert ours == pytest.approx((((projected.clip(-1, 1) - asked) / 2) ** 2).mean(), rel=1e-4)
