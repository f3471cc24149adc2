"""Random numbers that are a function of a key and a place: each can be drawn anywhere, without those before it.

Counter-based, as in Salmon et al. 2011 ("Parallel random numbers: as easy as 1, 2, 3", doi 10.1145/2063384.2063405);
the hash is Lea's, as in Steele and Vigna 2021 ("LXM: better splittable pseudorandom number generators", doi
10.1145/3485525). All integers are the same on every device; logarithms and tangents are the device's own.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

_GOLDEN = 0x9E3779B97F4A7C15  # 2^64 divided by the golden ratio: multiples of it differ in many bits
_LEA = 0xDABA0B6EB09322E3
_ROUNDS = 12


def noise_seed(*numbers: int) -> int:
    """One 63-bit seed or key from several numbers (a multiplicative mix; neighbours give unrelated seeds)."""
    mixed = _GOLDEN
    for number in numbers:
        mixed = ((mixed ^ (number + 1)) * 0xBF58476D1CE4E5B9) % 2**64
        mixed ^= mixed >> 31
    return mixed >> 1


def words(key: int, rows: Tensor, count: int) -> Tensor:
    """Random 64-bit words, a function of (key, row, position).

    Rows and positions are hashed one by one and every pair of them together, so that no row is another one shifted;
    the key goes in twice, so that no key's rows are those of another one.

    Args:
        key: From `noise_seed`.
        rows: (rows,) int64, none negative.
        count: Words of a row.

    Returns:
        (rows, count) int64 on the device of `rows`.
    """
    positions = torch.arange(-count, 0, device=rows.device)  # negative: no row's number
    hashed = _multiply_(_multiply_(torch.cat([rows, positions]).mul_(_signed(_GOLDEN)).add_(key)))
    # Exclusive or of hashes that lack their last step: it would be undone by the first step of the hash of the pair.
    pairs = (hashed[: len(rows)] ^ noise_seed(key))[:, None] ^ hashed[len(rows) :]
    return _fold_(_multiply_(pairs.mul_(_signed(_LEA))))


def uniform(key: int, rows: Tensor, shape: tuple[int, ...]) -> Tensor:
    """Uniform numbers in [0, 1), multiples of 2^-24: (rows, *shape) float32; `key` and `rows` as for `words`."""
    count = math.prod(shape)
    halves = words(key, rows, (count + 1) // 2).view(torch.int32)[:, :count]
    return halves.bitwise_right_shift_(8).bitwise_and_(2**24 - 1).float().mul_(2**-24).reshape(len(rows), *shape)


def normal(key: int, rows: Tensor, shape: tuple[int, ...]) -> Tensor:
    """Standard normal numbers, at most 6.8 in size: (rows, *shape) float32; `key` and `rows` as for `words`.

    Two of a word (Box and Muller 1958, doi 10.1214/aoms/1177706645): the radius of one half, the angle of the other.
    """
    count = math.prod(shape)
    pairs = (count + 1) // 2
    halves = words(key, rows, pairs).view(torch.int32).float()
    radius, angle = halves[:, :pairs], halves[:, pairs:]
    # float32 is finest near 0, where the radius is large: sizes of signed numbers keep all 31 bits there.
    radius.abs_().mul_(2**-31).clamp_(min=2**-33).log_().mul_(-8).sqrt_()
    # Twice the radius, and the tangent t of half the angle: cos = 2 / (1 + t^2) - 1, sin = 2 t / (1 + t^2).
    tangent = angle.mul_(math.pi / 2 * 2**-31).tan_()
    scale = tangent.square().add_(1)
    torch.div(radius, scale, out=scale)
    torch.mul(scale, tangent, out=angle)
    torch.sub(scale, radius, alpha=0.5, out=radius)
    return halves[:, :count].reshape(len(rows), *shape)


def uniform_double(key: int, rows: Tensor, count: int) -> Tensor:
    """Uniform numbers in [0, 1), multiples of 2^-53: (rows, count) float64; `key` and `rows` as for `words`."""
    return words(key, rows, count).bitwise_right_shift_(11).bitwise_and_(2**53 - 1).double().mul_(2**-53)


def permuted(key: int, positions: Tensor, count: int) -> Tensor:
    """Entries of a random permutation of 0 to `count` - 1, each found by itself.

    A Feistel network permutes the numbers below the next power of two; what falls on `count` or above is permuted
    again until it does not (Black and Rogaway 2002, doi 10.1007/3-540-45760-7_9; Mitchell et al. 2021, arXiv
    2106.06161).

    Args:
        key: From `noise_seed`.
        positions: (entries,) int64 from 0 to `count` - 1.
        count: At most 2^62.

    Returns:
        As `positions`.
    """
    bits = (count - 1).bit_length()
    low = bits // 2
    keys = [noise_seed(key, index) for index in range(_ROUNDS)]
    result = _feistel(keys, positions, low, bits - low)
    while len(outside := (result >= count).nonzero()[:, 0]):
        result[outside] = _feistel(keys, result[outside], low, bits - low)
    return result


def _feistel(keys: list[int], numbers: Tensor, low: int, high: int) -> Tensor:
    """Permute numbers of `low` + `high` bits: in turn each part of the bits is changed by a hash of the other."""
    parts, widths = [numbers & (2**low - 1), numbers >> low], (low, high)
    for index, key in enumerate(keys):
        mine, other = index % 2, 1 - index % 2
        hashed = _fold_(_multiply_((parts[other] + key).mul_(_signed(_LEA))))
        parts[mine] = parts[mine] ^ hashed.bitwise_and_(2 ** widths[mine] - 1)
    return parts[1] << low | parts[0]


def _fold_(words: Tensor) -> Tensor:
    """`words ^ (words >> 32)` in place."""
    halves = words.view(torch.int32)  # the lower half first, on every machine that PyTorch runs on
    halves[..., ::2].bitwise_xor_(halves[..., 1::2])
    return words


def _multiply_(words: Tensor) -> Tensor:
    """A round of Lea's hash in place; two and a last fold are the whole."""
    return _fold_(words).mul_(_signed(_LEA))


def _signed(word: int) -> int:
    """An unsigned 64-bit number as the int64 of the same bits."""
    return word - 2**64 if word >= 2**63 else word
