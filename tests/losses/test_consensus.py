"""Consensus optimisation against the Jacobian of the field of gradients."""

from __future__ import annotations

import pytest
import torch

from hf_genmodels.losses.consensus import consensus_loss

GAMMA = 0.7


def losses(theta, phi):
    """Of a generator theta and a discriminator phi: neither minds only its own parameters."""
    return (theta**2 * phi.sum()).sum() + phi.prod() * theta.sum(), torch.sin(theta.sum() * phi).sum() + phi.pow(
        3
    ).sum()


def test_gradients_are_the_field_and_its_jacobian_times_it():
    """v + gamma J^T v, by finite differences of a field whose entries are finite differences, too."""
    start = torch.tensor([0.3, -0.6, 0.5, 0.9, -0.2], dtype=torch.float64)  # two of theta, three of phi

    def field(point):
        entries = []
        for index in range(5):
            shift = torch.zeros(5, dtype=torch.float64)
            shift[index] = 1e-4
            player = 0 if index < 2 else 1
            up, down = (losses((point + s)[:2], (point + s)[2:])[player] for s in (shift, -shift))
            entries.append((up - down) / 2e-4)
        return torch.stack(entries)

    v = field(start)
    expected = []
    for index in range(5):
        shift = torch.zeros(5, dtype=torch.float64)
        shift[index] = 1e-4
        column = (field(start + shift) - field(start - shift)) / 2e-4
        expected.append((v[index] + GAMMA * (column * v).sum()).item())

    theta, phi = start[:2].clone().requires_grad_(), start[2:].clone().requires_grad_()
    of_theta, of_phi = losses(theta, phi)
    loss, regulariser = consensus_loss([(of_theta, [theta]), (of_phi, [phi])], GAMMA)
    assert regulariser.item() == pytest.approx(GAMMA / 2 * v.square().sum().item(), rel=1e-6)
    assert loss.item() == pytest.approx((of_theta + of_phi + regulariser).item())
    gradients = torch.autograd.grad(loss, [theta, phi])
    assert torch.cat(gradients).tolist() == pytest.approx(expected, rel=1e-5)


def test_two_players_who_pull_at_each_other_come_to_rest():
    """The bilinear game theta phi: plain simultaneous steps spiral away from its equilibrium."""
    ends = []
    for gamma in (0.0, 1.0):
        theta, phi = (torch.tensor(x, requires_grad=True) for x in (1.0, 0.5))
        for _ in range(50):
            loss, _ = consensus_loss([(theta * phi, [theta]), (-theta * phi, [phi])], gamma)
            steps = torch.autograd.grad(loss, [theta, phi])
            with torch.no_grad():
                theta -= 0.2 * steps[0]
                phi -= 0.2 * steps[1]
        ends.append((theta**2 + phi**2).item())
    assert ends[0] > 2 > 0.01 > ends[1]


def test_parameters_without_a_part_in_a_loss_stay():
    theta, phi, idle = (torch.tensor(x, requires_grad=True) for x in (1.0, 0.5, 2.0))
    loss, _ = consensus_loss([(theta * phi, [theta, idle]), (-theta * phi, [phi])], GAMMA)
    assert torch.autograd.grad(loss, idle)[0].item() == 0
