"""RealNVP."""

from __future__ import annotations

import pytest
import torch
from torch.nn import functional as F

from hf_genmodels import UserError
from hf_genmodels.blocks.couplings import AffineCoupling
from hf_genmodels.blocks.flows import ActNorm
from hf_genmodels.blocks.image_flows import Squeeze
from hf_genmodels.models.realnvp import CheckerboardCoupling, RealNVP, residual_net
from tests.testing_utils.flows import PlaneFlowTesterMixin, assert_bijection, assert_log_det, perturb

SMALL = {"hidden_channels": 4, "num_blocks": 1}


class TestRealNVP(PlaneFlowTesterMixin):
    model_class = RealNVP
    configs = (
        {"in_channels": 2, "num_couplings": 4, "hidden_dims": (8,)},
        {"in_channels": 5, "num_couplings": 3, "hidden_dims": (8, 8), "scale_limit": 1.0},
        {"in_channels": 1, "sample_size": 4, "num_levels": 17, **SMALL},
        {"in_channels": 2, "sample_size": 8, "num_levels": 256, "num_scales": 3, **SMALL},
        {"in_channels": 1, "sample_size": 3, "num_levels": 256, "num_scales": 1, **SMALL, "num_blocks": 0},
        {"in_channels": 3, "num_couplings": 2, "hidden_dims": (8,), "num_classes": 4, "context_dim": 2},
        {"in_channels": 1, "sample_size": 4, "num_levels": 17, **SMALL, "num_classes": 3},
        {"in_channels": 1, "sample_size": 4, "num_levels": 17, **SMALL, "context_dim": 5},
    )


def test_one_half_of_a_vector_changes_and_then_the_other():
    network = RealNVP(5, num_couplings=3)
    assert [coupling.changing for coupling in network.layers.couplings] == [1, 0, 1]
    widths = [
        (coupling.network[0].in_features, coupling.network[-1].out_features) for coupling in network.layers.couplings
    ]
    assert widths == [(3, 4), (2, 6), (3, 4)]


@pytest.mark.parametrize("even_changes", [True, False])
def test_checkerboards_change_one_colour_from_the_other(even_changes):
    torch.manual_seed(0)
    coupling = CheckerboardCoupling(2, 3, even_changes, lambda i, o: residual_net(i, o, 4, 1), 1.0)
    perturb(coupling, 0.3)
    sample = torch.randn(2, 2, 3, 3)
    assert_bijection(coupling, coupling.inverse, sample)
    assert_log_det(coupling, sample)
    even = torch.tensor([[1, 0, 1], [0, 1, 0], [1, 0, 1]]).bool()
    changes = (even if even_changes else ~even).expand(2, 3, 3)
    latents, log_det = coupling(sample)
    assert torch.equal(latents[:, ~changes], sample[:, ~changes])
    assert (latents - sample)[:, changes].abs().min() > 1e-4

    outputs = coupling.network(torch.where(changes, 0, sample))
    log_scale = torch.tanh(outputs[:, :2])
    expected = torch.exp(log_scale) * sample + outputs[:, 2:]
    torch.testing.assert_close(latents, torch.where(changes, expected, sample))
    torch.testing.assert_close(log_det, log_scale[:, changes].sum(1))


def test_a_fresh_network_only_squeezes_and_puts_later_scales_first():
    images = torch.arange(2 * 64.0).view(2, 1, 8, 8)
    output = RealNVP(1, 8, num_levels=256, num_scales=3, **SMALL)(images)
    first = F.pixel_unshuffle(images, 2)
    second = F.pixel_unshuffle(first[:, :2], 2)
    expected = torch.cat([part.flatten(1) for part in (second[:, :4], second[:, 4:], first[:, 2:])], dim=1)
    assert torch.equal(output.latents, expected)
    assert not output.log_det.any()


def test_scales_are_the_papers():
    network = RealNVP(3, 8, num_levels=256, num_scales=3, **SMALL)
    scales = [list(scale.layers) for scale in network.layers.scales]
    normed = [ActNorm, CheckerboardCoupling]
    scale = [*normed * 3, Squeeze, *[ActNorm, AffineCoupling] * 3]
    assert [[type(layer) for layer in layers] for layers in scales] == [scale, scale, normed * 4]
    for layers in scales:
        changing = [layer.changing for layer in layers if isinstance(layer, AffineCoupling)]
        colours = [layer.changes[0, 0].item() for layer in layers if isinstance(layer, CheckerboardCoupling)]
        assert changing in ([1, 0, 1], []) and colours in ([False, True, False], [False, True, False, True])
    assert [len(layers[0].bias) for layers in scales] == [3, 6, 12]


@pytest.mark.parametrize(
    ("build", "message"),
    [
        (lambda: RealNVP(1, 27), "images of size 27 do not divide by 2, which 1 squeezes need: .*"),
        (lambda: RealNVP(1, 28, num_scales=4), "images of size 28 do not divide by 8, which 3 squeezes need: .*"),
        (lambda: RealNVP(1, 8, num_scales=4), "sample_size 8 leaves scale 4 one pixel, which is no checkerboard: .*"),
        (lambda: RealNVP(1, 8, num_scales=0), "num_scales must be at least 1, got 0"),
        (lambda: RealNVP(1, 8, hidden_channels=0), "hidden_channels must be at least 1, got 0"),
        (lambda: RealNVP(1, 8, num_blocks=-1), "num_blocks must be at least 0, got -1"),
        (lambda: RealNVP(1), "couplings need at least 2 numbers to a sample, one for each half, got 1"),
        (
            lambda: RealNVP(2, num_couplings=1),
            "at least 2 couplings, --num_flow_steps, are needed to change both halves, got 1",
        ),
        (lambda: RealNVP(2, hidden_dims=(0,)), "hidden_dims must be at least 1, got 0"),
        (lambda: RealNVP(2, scale_limit=0.0), "scale_limit must be positive and finite, got 0.0"),
        (
            lambda: RealNVP(2)(torch.zeros(1, 2), torch.zeros(1)),
            "the flow was built without classes: leave labels out",
        ),
    ],
)
def test_impossible_flows_and_inputs_are_one_line_errors(build, message):
    with pytest.raises(UserError, match=f"^{message}$"):
        build()
