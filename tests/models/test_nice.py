"""NICE."""

from __future__ import annotations

import pytest
import torch

from hf_genmodels import UserError
from hf_genmodels.models.nice import NICE
from tests.testing_utils.flows import PlaneFlowTesterMixin, perturb


class TestNICE(PlaneFlowTesterMixin):
    model_class = NICE
    configs = (
        {"in_channels": 2, "hidden_dims": (8,)},
        {"in_channels": 5, "num_couplings": 3, "hidden_dims": (8, 8)},
        {"in_channels": 1, "sample_size": 3, "num_levels": 17, "hidden_dims": (8,)},
        {"in_channels": 2, "sample_size": 2, "num_levels": 256, "hidden_dims": ()},
        {"in_channels": 5, "num_couplings": 3, "hidden_dims": (8,), "num_classes": 3, "context_dim": 2},
    )


def test_couplings_add_to_odd_and_even_positions_in_turn_and_the_result_is_scaled():
    torch.manual_seed(0)
    network = NICE(5, num_couplings=3, hidden_dims=(8,))
    perturb(network, 0.3)
    sample = torch.randn(4, 5)
    stack, scaling = network.layers.layers
    even, odd = sample[:, [0, 2, 4]], sample[:, [1, 3]]
    odd = odd + stack.couplings[0].network(even)
    even = even + stack.couplings[1].network(odd)
    odd = odd + stack.couplings[2].network(even)
    output = network(sample)
    torch.testing.assert_close(output.latents, torch.cat([even, odd], dim=1) * scaling.log_scale.exp())
    torch.testing.assert_close(output.log_det, scaling.log_scale.sum().expand(4))


def test_a_fresh_network_only_orders_the_pixels():
    images = torch.arange(18.0).view(1, 2, 3, 3)
    output = NICE(2, 3, num_levels=256, hidden_dims=(4,))(images)
    assert output.latents[0].tolist() == [*range(0, 18, 2), *range(1, 18, 2)]
    assert not output.log_det.any()


@pytest.mark.parametrize(
    ("build", "message"),
    [
        (lambda: NICE(1), "couplings need at least 2 numbers to a sample, one for each half, got 1"),
        (
            lambda: NICE(2, num_couplings=1),
            "at least 2 couplings, --num_flow_steps, are needed to change both halves, got 1",
        ),
        (lambda: NICE(2, hidden_dims=(0,)), "hidden_dims must be at least 1, got 0"),
        (lambda: NICE(2)(torch.zeros(1, 2), torch.zeros(1)), "the flow was built without classes: leave labels out"),
    ],
)
def test_impossible_flows_and_inputs_are_one_line_errors(build, message):
    with pytest.raises(UserError, match=f"^{message}$"):
        build()
