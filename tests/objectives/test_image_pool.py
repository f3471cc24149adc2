"""The pool of earlier fakes against lists of numbers; its statistics, its state, its stores in several processes."""

from __future__ import annotations

import pytest
import torch

from hf_genmodels.objectives.base import Noise
from hf_genmodels.objectives.image_pool import ImagePool


def fakes(first: int, count: int = 1) -> torch.Tensor:
    """Images that are all one number, no two the same."""
    return torch.arange(first, first + count, dtype=torch.float32)[:, None, None, None].expand(-1, 2, 3, 3).clone()


def numbers(images: torch.Tensor) -> list[float]:
    assert all(image.unique().numel() == 1 for image in images)
    return images[:, 0, 0, 0].tolist()


def draws(count: int, seed: int) -> torch.Tensor:
    return torch.rand(count, 2, generator=torch.Generator().manual_seed(seed))


def slow_exchange(store: list[float], size: int, fake: float, draw: list[float]) -> float:
    """One row of `ImagePool.exchange`, on a list."""
    if len(store) < size:
        store.append(fake)
        return fake
    if draw[0] >= 0.5:
        return fake
    slot = int(draw[1] * size)
    out, store[slot] = store[slot], fake
    return out


def test_it_fills_then_exchanges():
    pool, stores, earlier = ImagePool(4), [[], [], []], 0
    for step in range(60):
        given, drawn = fakes(3 * step, 3), draws(3, step)
        got = numbers(pool.exchange(given, 0, drawn))
        triples = zip(stores, numbers(given), drawn.tolist(), strict=True)
        assert got == [slow_exchange(store, 4, fake, draw) for store, fake, draw in triples]
        if step < 4:
            assert got == numbers(given)
        earlier += sum(one != other for one, other in zip(got, numbers(given), strict=True))
    assert earlier > 40
    assert numbers(pool.state_dict()["stored"][0][2]) == [store[2] for store in stores]


def test_what_was_given_is_left_as_it_was():
    pool = ImagePool(1)
    first, second = fakes(1), fakes(2)
    pool.exchange(first, 0, torch.zeros(1, 2))
    out = pool.exchange(second, 0, torch.zeros(1, 2))
    pool.exchange(fakes(3), 0, torch.zeros(1, 2))
    assert (numbers(first), numbers(second), numbers(out)) == ([1], [2], [1])


def test_half_of_the_fakes_are_exchanged_with_any_stored_one():
    """Counts of exchanges and of slots within four standard deviations of binomial ones; so is their spread."""
    size, rows, rounds = 5, 40, 100
    pool, generator, per_round, slots = ImagePool(size), torch.Generator().manual_seed(0), [], torch.zeros(size)
    for step in range(size + rounds):
        given = fakes(step * rows, rows)
        drawn = torch.rand(rows, 2, generator=generator)
        before = pool.state_dict()["stored"][0][:, :, 0, 0, 0].clone() if step else None
        out = pool.exchange(given, 0, drawn)
        if step >= size:
            assert before is not None
            per_round.append(sum(one != other for one, other in zip(numbers(out), numbers(given), strict=True)))
            slots += (pool.state_dict()["stored"][0][:, :, 0, 0, 0] != before).sum(1)
    counts = torch.tensor(per_round, dtype=torch.float64)
    mean, variance = rows / 2, rows / 4
    assert abs(counts.mean().item() - mean) < 4 * (variance / rounds) ** 0.5
    assert abs(counts.var().item() - variance) < 4 * variance * (2 / (rounds - 1)) ** 0.5
    total = counts.sum().item()
    spread = (total * (1 / size) * (1 - 1 / size)) ** 0.5
    assert slots.sum().item() == total
    assert ((slots - total / size).abs() < 4 * spread).all()


def test_a_pool_of_no_size_lets_all_pass():
    pool = ImagePool(0)
    given = fakes(0, 2)
    for _ in range(3):
        assert pool.exchange(given, 0, torch.zeros(2, 2)) is given
    assert pool.state_dict() == {"stored": {}, "filled": {}}


@pytest.mark.parametrize("steps", [0, 2, 9])
def test_a_restored_pool_goes_on_as_if_nothing_had_been(steps, tmp_path):
    pool, again = ImagePool(3), ImagePool(3)
    for step in range(steps):
        pool.exchange(fakes(2 * step, 2), 1, draws(2, step))
    torch.save(pool.state_dict(), tmp_path / "state.pt")
    again.load_state_dict(torch.load(tmp_path / "state.pt", weights_only=True))
    for step in range(steps, steps + 12):
        given, drawn = fakes(2 * step, 2), draws(2, step)
        assert torch.equal(again.exchange(given, 1, drawn), pool.exchange(given, 1, drawn))


def test_a_restored_pool_moves_to_the_fakes():
    """A checkpoint is loaded to the CPU; a store that stayed there would be copied at every step, and never change."""
    pool, again = ImagePool(3), ImagePool(3)
    pool.exchange(fakes(0), 0, draws(1, 0))
    again.load_state_dict(pool.state_dict())
    again.exchange(fakes(1).to("meta"), 0, draws(1, 1).to("meta"))
    assert again.state_dict()["stored"][0].device.type == "meta"


@pytest.mark.parametrize("num_shares", [2, 4])
def test_shares_of_a_batch_have_the_stores_of_the_whole(num_shares):
    """One process with a batch of 4, against processes or micro-batches of the same rows."""
    rows = 4 // num_shares
    whole, accumulated, processes = ImagePool(3), ImagePool(3), [ImagePool(3) for _ in range(num_shares)]
    for step in range(20):
        given = fakes(4 * step, 4)
        noise = Noise(step)
        expected = whole.exchange(given, noise.share, noise.uniform((4, 2), like=given))
        for share in range(num_shares):
            mine = slice(share * rows, (share + 1) * rows)
            for pool in (accumulated, processes[share]):
                noise = Noise(step, share, num_shares)
                drawn = noise.uniform((rows, 2), like=given)
                assert torch.equal(pool.exchange(given[mine], noise.share, drawn), expected[mine])
    stored = whole.state_dict()["stored"][0]
    assert torch.equal(torch.cat(list(accumulated.state_dict()["stored"].values()), 1), stored)
    assert torch.equal(torch.cat([pool.state_dict()["stored"][i] for i, pool in enumerate(processes)], 1), stored)
