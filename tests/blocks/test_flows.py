"""The layers that flows share: ActNorm, sequences and couplings of halves."""

from __future__ import annotations

from functools import partial

import pytest
import torch
from torch import nn

from hf_genmodels import UserError
from hf_genmodels.blocks.couplings import AffineCoupling, CouplingStack, check_couplings, coupling_mlp
from hf_genmodels.blocks.flows import ActNorm, FlowSequence, bound_log_scale
from hf_genmodels.loading import load_network
from hf_genmodels.models.realnvp import RealNVP
from tests.testing_utils.flows import assert_bijection, assert_log_det, perturb

DENSE = partial(coupling_mlp, hidden_dims=(8,))
POINTWISE = partial(nn.Conv2d, kernel_size=1)


def itself(tensor):
    """`reduce` of a single process."""
    return tensor


def draw(*shape):
    return torch.randn(shape, generator=torch.Generator().manual_seed(1))


LAYERS = {
    "actnorm of vectors": (lambda: ActNorm(3), (4, 3)),
    "actnorm of images": (lambda: ActNorm(3), (4, 3, 2, 2)),
    "first half": (lambda: AffineCoupling(5, True, DENSE, 2.0), (4, 5)),
    "last half": (lambda: AffineCoupling(5, False, DENSE, 2.0), (4, 5)),
    "first channels": (lambda: AffineCoupling(4, True, POINTWISE, 2.0), (4, 4, 2, 2)),
    "last channels": (lambda: AffineCoupling(4, False, POINTWISE, 2.0), (4, 4, 2, 2)),
    "stack": (lambda: CouplingStack([AffineCoupling(3, k == 1, DENSE, 1.0) for k in range(2)]), (4, 3)),
    "sequence": (lambda: FlowSequence([ActNorm(4), AffineCoupling(4, True, DENSE, 2.0), ActNorm(4)]), (4, 4)),
}


@pytest.fixture(params=LAYERS)
def layer_and_sample(request):
    """A layer that is not the identity, and a batch for it."""
    build, shape = LAYERS[request.param]
    torch.manual_seed(0)
    layer = build()
    perturb(layer, 0.2)
    return layer, draw(*shape)


def test_inverse_undoes_forward_and_forward_undoes_inverse(layer_and_sample):
    layer, sample = layer_and_sample
    assert_bijection(layer, layer.inverse, sample)
    assert_bijection(layer.inverse, layer, sample)


def test_log_dets_are_those_of_the_jacobian(layer_and_sample):
    layer, sample = layer_and_sample
    assert layer(sample)[1].abs().min() > 1e-3
    assert_log_det(layer, sample)
    assert_log_det(layer.inverse, sample)


def test_every_parameter_gets_a_gradient_in_both_directions(layer_and_sample):
    layer, sample = layer_and_sample
    for direction in (layer, layer.inverse):
        layer.zero_grad()
        output, log_det = direction(sample)
        (output.square().sum() + log_det.sum()).backward()
        assert all(parameter.grad is not None and parameter.grad.any() for parameter in layer.parameters())


@pytest.mark.parametrize("shape", [(64, 3), (16, 3, 4, 4)])
def test_actnorm_normalises_the_batch_of_both_processes(shape):
    batch = 5 * draw(*shape) + torch.tensor([1.0, -20.0, 3.0]).view(3, *[1] * (len(shape) - 2))
    mine, others = batch[: shape[0] // 4], batch[shape[0] // 4 :]  # processes of unlike batches, whose mean counts
    dims = [0, *range(2, len(shape))]
    statistics = iter([others.mean(dims), others.square().mean(dims)])
    norm = ActNorm(3)
    norm.initialize(mine, lambda tensor: (tensor + next(statistics)) / 2)

    with torch.no_grad():
        mean, square = (
            (moment(norm(mine)[0]) + moment(norm(others)[0])) / 2
            for moment in (lambda z: z.mean(dims), lambda z: z.square().mean(dims))
        )
    torch.testing.assert_close(mean, torch.zeros(3), rtol=0, atol=1e-4)
    torch.testing.assert_close(square, torch.ones(3), rtol=1e-4, atol=0)


def test_a_channel_that_is_constant_stays_finite():
    norm = ActNorm(2)
    norm.initialize(torch.full((16, 2), 7.0), itself)
    assert norm(torch.full((16, 2), 7.0))[0].abs().max() < 1e-3
    assert norm.log_scale.tolist() == pytest.approx([3.0, 3.0])


def test_a_batch_that_says_too_little_of_a_channel_is_refused():
    with pytest.raises(UserError, match=r"a first batch of 3 leaves 12 values .* give at least 4 examples"):
        ActNorm(2).initialize(torch.randn(3, 2, 2, 2), itself)


def image_flow():
    torch.manual_seed(0)
    network = RealNVP(1, 4, num_levels=17, hidden_channels=4, num_blocks=1)
    for name, parameter in network.named_parameters():
        if "network" in name:  # couplings, not norms
            nn.init.normal_(parameter, std=0.1)
    return network


def test_initialisation_normalises_what_each_norm_gets():
    network = image_flow()
    images = draw(64, 1, 4, 4)
    network.initialize(images, None, itself)
    seen = {}
    norms = {name: module for name, module in network.named_modules() if isinstance(module, ActNorm)}
    for name, norm in norms.items():
        norm.register_forward_hook(lambda module, given, output, name=name: seen.update({name: output[0]}))
    network(images)
    assert seen.keys() == norms.keys() and len(norms) == 10
    for name, output in seen.items():
        assert norms[name].initialized
        mean, std = output.mean((0, 2, 3)), output.std((0, 2, 3), correction=0)
        torch.testing.assert_close(mean, torch.zeros_like(mean), rtol=0, atol=1e-4, msg=name)
        torch.testing.assert_close(std, torch.ones_like(std), rtol=1e-3, atol=0, msg=name)


def test_what_is_initialised_stays_as_it_is_also_after_loading(tmp_path):
    network = image_flow()
    network.initialize(draw(64, 1, 4, 4), None, itself)
    state = {name: value.clone() for name, value in network.state_dict().items()}
    network.save_pretrained(str(tmp_path))
    for same in (network, load_network(RealNVP, tmp_path)):
        same.initialize(3 + 2 * draw(32, 1, 4, 4), None, itself)
        assert same.state_dict().keys() == state.keys()
        assert all(torch.equal(value, state[name]) for name, value in same.state_dict().items())


def test_a_forward_pass_alone_does_not_initialise():
    network = image_flow()
    network.train()(draw(8, 1, 4, 4))
    assert not any(norm.initialized for norm in network.modules() if isinstance(norm, ActNorm))


def test_log_scales_are_bounded_smoothly_in_float32():
    raw = torch.tensor([-1e4, -3.0, 0.0, 1e-3, 2.0], dtype=torch.bfloat16)
    bounded = bound_log_scale(raw, 2.0)
    assert bounded.dtype == torch.float32
    torch.testing.assert_close(bounded, 2 * torch.tanh(raw.float() / 2))
    assert bounded.abs().max() <= 2
    assert bounded[3].item() == pytest.approx(raw[3].item(), rel=1e-5)


@pytest.mark.parametrize("first_changes", [True, False])
def test_affine_couplings_are_the_papers_formula(first_changes):
    torch.manual_seed(0)
    coupling = AffineCoupling(5, first_changes, DENSE, 1.5)
    perturb(coupling, 0.5)
    sample = draw(6, 5)
    first, last = sample[:, :3], sample[:, 3:]
    kept, changing = (last, first) if first_changes else (first, last)
    outputs = coupling.network(kept)
    width = changing.shape[1]
    log_scale = 1.5 * torch.tanh(outputs[:, :width] / 1.5)
    changed = torch.exp(log_scale) * changing + outputs[:, width:]
    latents, log_det = coupling(sample)
    torch.testing.assert_close(latents, torch.cat([changed, kept] if first_changes else [kept, changed], dim=1))
    torch.testing.assert_close(log_det, log_scale.sum(1))


def test_no_network_stretches_beyond_the_limit():
    coupling = AffineCoupling(4, True, DENSE, 0.5)
    perturb(coupling, 100.0)
    log_det = coupling(draw(8, 4))[1]
    assert log_det.abs().max().item() == pytest.approx(2 * 0.5)


def test_a_stack_is_the_couplings_in_a_sequence():
    torch.manual_seed(0)
    couplings = [AffineCoupling(3, first_changes, DENSE, 2.0) for first_changes in (False, True, True)]
    for seed, coupling in enumerate(couplings):
        perturb(coupling, 0.5, seed)
    sample = draw(4, 3)
    for ours, theirs in (
        (CouplingStack(couplings)(sample), FlowSequence(couplings)(sample)),
        (CouplingStack(couplings).inverse(sample), FlowSequence(couplings).inverse(sample)),
    ):
        torch.testing.assert_close(ours, theirs)


def test_fresh_couplings_are_the_identity():
    sample = draw(4, 5)
    latents, log_det = AffineCoupling(5, True, DENSE, 2.0)(sample)
    assert torch.equal(latents, sample)
    assert not log_det.any()


@pytest.mark.parametrize(
    ("build", "message"),
    [
        (
            lambda: check_couplings(1, 4),
            "at least 2 couplings, --num_flow_steps, are needed to change both halves, got 1",
        ),
        (lambda: check_couplings(2, 1), "couplings need at least 2 numbers to a sample, one for each half, got 1"),
        (lambda: coupling_mlp(2, 2, (8, 0)), "hidden_dims must be at least 1, got 8 0"),
    ],
)
def test_impossible_couplings_are_one_line_errors(build, message):
    with pytest.raises(UserError, match=f"^{message}$"):
        build()
