"""Numbers that are a function of key, row and position: their quality, and that a place alone decides."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from scipy import stats

from hf_genmodels.keyed import noise_seed, normal, permuted, uniform, uniform_double, words

WORDS = [
    [-7835108701327864071, -7414896311158596783],
    [623265987509083777, 851253878684576640],
    [-9010732214049258281, -7204503700808851641],
]
UNIFORM = [
    [0.24624031782150269, 0.5980376601219177],
    [0.4869830012321472, 0.046146512031555176],
    [0.13398927450180054, 0.6094430685043335],
]
NORMAL = [[-0.9714526, -0.6876627], [0.2201028, 0.0656689], [-1.2540525, -1.0300722]]
PERMUTED = [5, 7, 4, 0, 3, 8, 2, 6, 1, 9]
LARGE = [963938191657, 520218140620]

DRAWS = {"normal": normal, "uniform": uniform}


def lea(word: int) -> int:
    """mixLea64 of the paper's listing, in whole numbers."""
    for _ in range(2):
        word = ((word ^ (word >> 32)) * 0xDABA0B6EB09322E3) % 2**64
    return word ^ (word >> 32)


def slow_word(key: int, row: int, position: int, count: int) -> int:
    """A word of `words`, all by itself: rows count up from 0, positions are the negative numbers."""
    hashed = [lea((place * 0x9E3779B97F4A7C15 + key) % 2**64) for place in (row, position - count)]
    second = noise_seed(key)
    return lea(hashed[0] ^ hashed[1] ^ second ^ (second >> 32))


def test_words_are_hashes_of_hashes() -> None:
    rows = torch.tensor([0, 7, 10**12])
    found = words(noise_seed(3, 4), rows, 5)
    for i, row in enumerate(rows.tolist()):
        for position in range(5):
            assert int(found[i, position]) % 2**64 == slow_word(noise_seed(3, 4), row, position, 5)


def test_known_values() -> None:
    """What a seed means is the same in every version."""
    rows = torch.tensor([0, 1, 2**40])
    assert words(1, rows, 2).tolist() == WORDS
    assert uniform(1, rows, (2,)).tolist() == UNIFORM
    torch.testing.assert_close(normal(1, rows, (2,)), torch.tensor(NORMAL), rtol=1e-5, atol=1e-6)
    assert permuted(1, torch.arange(10), 10).tolist() == PERMUTED
    assert permuted(1, torch.tensor([0, 10**12 - 1]), 10**12).tolist() == LARGE


def test_both_numbers_of_a_word_follow_from_its_halves() -> None:
    """Box and Muller's formula in float64, of the words as unsigned halves."""
    rows = torch.arange(50)
    halves = torch.stack([words(5, rows, 3) % 2**32, words(5, rows, 3) >> 32], dim=2).flatten(1) % 2**32
    signed = ((halves + 2**31) % 2**32 - 2**31).double().numpy()
    radius = np.sqrt(-2 * np.log(np.abs(signed[:, :3]) / 2**31))
    angle = signed[:, 3:] / 2**31 * math.pi
    expected = np.concatenate([radius * np.cos(angle), radius * np.sin(angle)], axis=1)
    np.testing.assert_allclose(normal(5, rows, (5,)).numpy(), expected[:, :5], atol=2e-6, rtol=0)
    np.testing.assert_array_equal(uniform(5, rows, (5,)).numpy(), (halves.numpy() >> 8)[:, :5] / 2**24)


@pytest.mark.parametrize("name", DRAWS)
@pytest.mark.parametrize("shape", [(), (1,), (7,), (64,), (3, 8, 8), (129,)], ids=str)
def test_any_row_can_be_drawn_alone(name: str, shape: tuple[int, ...]) -> None:
    draw = DRAWS[name]
    whole = draw(9, torch.arange(64), shape)
    assert whole.shape == (64, *shape) and whole.dtype == torch.float32
    for rows in (1, 3, 16):
        parts = [draw(9, torch.arange(start, min(start + rows, 64)), shape) for start in range(0, 64, rows)]
        assert torch.equal(torch.cat(parts), whole)
    order = torch.randperm(64, generator=torch.Generator().manual_seed(0))
    assert torch.equal(draw(9, order, shape), whole[order])


def test_uniform_numbers() -> None:
    drawn = uniform(2, torch.arange(1000), (300,)).numpy()
    assert drawn.min() >= 0 and drawn.max() < 1
    assert stats.kstest(drawn.ravel(), "uniform").pvalue > 1e-3
    pairs, _ = np.histogramdd(drawn.reshape(-1, 3), bins=8, range=[(0, 1)] * 3)
    assert stats.chisquare(pairs.ravel()).pvalue > 1e-3
    precise = uniform_double(2, torch.arange(1000), 300).numpy()
    assert stats.kstest(precise.ravel(), "uniform").pvalue > 1e-3
    assert len(np.unique(precise)) == precise.size  # 53 bits, not 24


def test_normal_numbers() -> None:
    drawn = normal(3, torch.arange(1000), (1000,)).numpy().ravel().astype(np.float64)
    assert np.isfinite(drawn).all()
    assert stats.kstest(drawn, "norm").pvalue > 1e-3
    deviation = 1 / math.sqrt(drawn.size)
    moments = [np.mean(drawn**power) for power in range(1, 5)]
    spread = np.sqrt([1, 2, 15, 96]) * deviation
    assert np.abs(np.array(moments) - [0, 1, 0, 3]).max() < 4 * spread.max()
    for bound in (2.0, 3.0, 4.0):
        expected = 2 * stats.norm.sf(bound) * drawn.size
        assert abs((np.abs(drawn) > bound).sum() - expected) < 4 * math.sqrt(expected)


def test_the_rarest_words_give_finite_numbers(monkeypatch: pytest.MonkeyPatch) -> None:
    halves = torch.tensor([0, -1, 1, 2**31 - 1, -(2**31)], dtype=torch.int32)
    every = torch.stack([halves.repeat_interleave(5), halves.repeat(5)], 1).flatten()
    monkeypatch.setattr("hf_genmodels.keyed.words", lambda *_: every.clone().view(torch.int64)[None])
    drawn = normal(0, torch.zeros(1, dtype=torch.long), (50,))
    assert drawn.isfinite().all() and 6 < drawn.abs().max() < 6.8


def correlation(first: torch.Tensor, second: torch.Tensor) -> float:
    return float(torch.corrcoef(torch.stack([first.flatten(), second.flatten()]))[0, 1])


@pytest.mark.parametrize("name", DRAWS)
def test_neighbours_are_unrelated(name: str) -> None:
    """Rows, positions, halves of a word, seeds, steps and calls: by value, by size, and shifted."""
    draw, rows = DRAWS[name], torch.arange(256)
    numbers = draw(noise_seed(0, 0), rows, (256,)) - (0.5 if name == "uniform" else 0)
    others = [draw(key, rows, (256,)) for key in (noise_seed(0, 1), noise_seed(1, 0), noise_seed(0, 0) + 1)]
    pairs = [(numbers, other) for other in others]
    pairs += [(numbers[:-1], numbers[1:]), (numbers[:, :-1], numbers[:, 1:]), (numbers[:, 0::2], numbers[:, 1::2])]
    pairs += [(numbers[:, :128], numbers[:, 128:]), (numbers[:-1, :-1], numbers[1:, 1:])]
    for first, second in pairs:
        limit = 4.5 / math.sqrt(first.numel())
        assert abs(correlation(first, second)) < limit
        assert abs(correlation(first.abs(), second.abs())) < limit


def test_no_row_is_another_one_shifted() -> None:
    """As the rows of counters that begin a little later would be."""
    keys = [noise_seed(0, step) for step in range(20)]
    near = [keys[0] + offset * 0x9E3779B97F4A7C15 - 2**64 * round(offset * 0.618) for offset in range(-4, 5)]
    everything = torch.cat([words(key % 2**63, torch.arange(100), 50).flatten() for key in [*keys, *near[5:]]])
    assert len(everything.unique()) == len(everything)


def test_each_bit_is_on_half_of_the_time_and_follows_every_bit_of_key_and_row() -> None:
    rows = torch.arange(512)
    drawn = words(4, rows, 8)
    for bit in range(64):
        share = float((drawn >> bit & 1).double().mean())
        assert abs(share - 0.5) < 4.5 * 0.5 / math.sqrt(drawn.numel())
    for bit in range(0, 40, 3):
        for other in (words(4 ^ 1 << bit, rows, 8), words(4, rows ^ 1 << bit, 8)):
            changed = drawn ^ other
            flips = torch.stack([(changed >> each & 1).double().mean() for each in range(64)])
            assert (flips - 0.5).abs().max() < 5 * 0.5 / math.sqrt(drawn.numel())


# the order of an epoch ----------------------------------------------------------------------------------------------


def test_permutations_of_every_small_count() -> None:
    for count in range(1, 300):
        found = permuted(count, torch.arange(count), count)
        assert torch.equal(found.sort().values, torch.arange(count))


@pytest.mark.parametrize("count", [2**16, 2**16 + 1, 100_003])
def test_permutations_of_large_counts(count: int) -> None:
    found = permuted(7, torch.arange(count), count)
    assert torch.equal(found.sort().values, torch.arange(count))
    sizes = found.double()
    assert abs(correlation(sizes[:-1], sizes[1:])) < 4 / math.sqrt(count)
    assert abs(correlation(sizes, torch.arange(count).double())) < 4 / math.sqrt(count)


@pytest.mark.parametrize("count", [2**31 + 5, 10**12, 2**62])
def test_entries_of_enormous_permutations(count: int) -> None:
    positions = torch.cat([torch.arange(3000), torch.arange(count - 3000, count)])
    found = permuted(8, positions, count)
    assert len(found.unique()) == 6000 and found.min() >= 0 and found.max() < count
    assert torch.equal(permuted(8, positions[100:200], count), found[100:200])
    assert stats.kstest(found.double().numpy() / count, "uniform").pvalue > 1e-3


@pytest.mark.parametrize("count", [2, 3, 4])
def test_every_order_of_a_few_comes_as_often(count: int) -> None:
    orders = [tuple(permuted(noise_seed(0, epoch), torch.arange(count), count).tolist()) for epoch in range(600)]
    seen = [orders.count(order) for order in sorted(set(orders))]
    assert len(seen) == math.factorial(count) and stats.chisquare(seen).pvalue > 1e-3


@pytest.mark.parametrize("count", [13, 16, 37])
def test_every_example_comes_everywhere_as_often(count: int) -> None:
    """Positions, and what comes next, over the epochs."""
    epochs = np.stack([permuted(noise_seed(1, epoch), torch.arange(count), count) for epoch in range(500)])
    places = np.stack([np.bincount(column, minlength=count) for column in epochs.T])
    expected = len(epochs) / count
    statistic = ((places - expected) ** 2 / expected).sum()
    assert stats.chi2.sf(statistic, (count - 1) ** 2) > 1e-3
    distances = (epochs[:, 1:] - epochs[:, :-1]) % count
    assert stats.chisquare(np.bincount(distances.ravel(), minlength=count)[1:]).pvalue > 1e-3
    again = (epochs[1:] == epochs[:-1]).mean() * count  # no epoch is much like the one before
    assert abs(again - 1) < 4 / math.sqrt(len(epochs))
