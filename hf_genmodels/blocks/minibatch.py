"""Minibatch discrimination: a discriminator that sees how alike the samples of a batch are."""

import torch
from torch import Tensor, nn


class MinibatchDiscrimination(nn.Module):
    """How close each sample of a batch is to the others, beside its features (Salimans et al. 2016, section 3.2).

    For kernel b of B the features f(x_i) are projected to M_ib in R^C, and o(x_i)_b is the mean over the other samples
    j of exp(-||M_ib - M_jb||_1). The paper has the sum with j = i in it; a mean has the same scale in batches of any
    size. A batch of one sample has zeros.

    Args:
        in_features: Length of f(x).
        kernels: B.
        kernel_dim: C; the default is that of the authors' code.
    """

    def __init__(self, in_features: int, kernels: int, kernel_dim: int = 5) -> None:
        super().__init__()
        self.kernel_dim = kernel_dim
        self.project = nn.Linear(in_features, kernels * kernel_dim, bias=False)

    def forward(self, features: Tensor) -> Tensor:
        """(batch, in_features) -> (batch, in_features + kernels)."""
        projected = self.project(features).unflatten(1, (-1, self.kernel_dim))  # (batch, B, C)
        distances = (projected[:, None] - projected).abs().sum(3)  # (batch, batch, B)
        closeness = (torch.exp(-distances).sum(1) - 1) / max(len(features) - 1, 1)
        return torch.cat([features, closeness.to(features)], 1)
