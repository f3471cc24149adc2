"""The cases of family classifier."""

from __future__ import annotations

from tests.testing_utils.cases import FamilyCase

CASE = FamilyCase(
    options="--block_out_channels 4 8 --feature_dim 5",
)
