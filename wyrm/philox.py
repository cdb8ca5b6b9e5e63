"""The random numbers of programs: Philox4x32-10 (Salmon, Moraes, Dror and Shaw, SC 2011), a function of a key and a counter.

A key is three int64: seed, stream and step. Under the seed, block n has the counter (n, stream, low and high half of the
step) and gives four words of 32 bits.

*Uniform numbers*: element n of a matrix, counted row after row, takes word n mod 4 of block n div 4; its number in [0, 1) is
the word's upper 24 bits times 2**-24, the same in every dtype and on every backend.

*Numbers drawn* below ``rows``, as :func:`draw` has them: attempt a at draw n, of at most :data:`ATTEMPTS`, takes block
``ATTEMPTS * n + a``. The first two words, read as one fraction of 64 bits, times ``rows`` is the number. Where numbers are not
equally likely there is an alias table (Walker 1977), of int64 and shape (rows, 1): the upper 32 bits of a number's entry are
its threshold, the lower ones its alias, which is taken instead where the third word reaches the threshold; one that is no
number below ``rows`` stands for the last. An attempt that comes to a number that is excluded is followed by another one. The
last block is for a draw from what is left, which no attempt before it has found: each entry of the table is as many tickets of
its number as its threshold says, followed by the rest to 2**32 of its alias (without a table, one ticket of its number); the
tickets of excluded numbers are taken away, and the fraction times the number of those that are left is the ticket drawn. If
there is none, nothing is drawn.

If numbers are drawn until something is positive, each draw but the last is one attempt, and one that comes to an excluded
number does not end them; the last draw is as above.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

__all__ = ["ATTEMPTS", "attempt", "draw", "drawable", "uniform"]

#: How many blocks a draw has: of all attempts but one, and of the draw from what is left.
ATTEMPTS = 64

_MULTIPLIERS = (0xD2511F53, 0xCD9E8D57)
_WEYL = (0x9E3779B9, 0xBB67AE85)
_LOW = 0xFFFFFFFF


def _blocks(key: Sequence[int] | npt.NDArray[np.int64], number: Any) -> list[Any]:
    """The four words of a block, as integers; of several blocks, as arrays of uint64 like ``number``."""
    seed, stream, step = (int(word) & 0xFFFFFFFFFFFFFFFF for word in key)
    one = number * 0 + 1  # an array where the number is one
    counter = [number, one * (stream & _LOW), one * (step & _LOW), one * (step >> 32)]
    low, high = seed & _LOW, seed >> 32
    for _ in range(10):
        first, second = counter[0] * _MULTIPLIERS[0], counter[2] * _MULTIPLIERS[1]
        counter = [(second >> 32) ^ counter[1] ^ low, second & _LOW, (first >> 32) ^ counter[3] ^ high, first & _LOW]
        low, high = (low + _WEYL[0]) & _LOW, (high + _WEYL[1]) & _LOW
    return counter


def uniform(key: Sequence[int] | npt.NDArray[np.int64], count: int) -> npt.NDArray[np.float32]:
    """The uniform numbers of the first ``count`` elements.

    Parameters
    ----------
    key
        Seed, stream and step.
    """
    words = np.stack(_blocks(key, np.arange((count + 3) // 4, dtype=np.uint64)), axis=1).reshape(-1)[:count]
    result: npt.NDArray[np.float32] = (words >> 8).astype(np.float32) * np.float32(2.0**-24)
    return result


def draw(
    key: Sequence[int] | npt.NDArray[np.int64],
    number: int,
    rows: int,
    table: npt.NDArray[np.int64] | None = None,
    excluded: Collection[int] = (),
) -> int | None:
    """What comes of draw ``number``, at least 0 and below ``rows``; ``None``: everything is excluded.

    Parameters
    ----------
    key
        Seed, stream and step.
    number
        Counted from 0: the row of the result, or how many draws were made before.
    table
        The alias table; without, all numbers are equally likely.
    excluded
        Numbers that are not to be drawn.
    """
    for block in range(ATTEMPTS * number, ATTEMPTS * number + ATTEMPTS - 1):
        drawn = attempt(key, block, rows, table)
        if drawn not in excluded:
            return drawn
    return _from_what_is_left(_blocks(key, ATTEMPTS * number + ATTEMPTS - 1), rows, table, excluded)


def attempt(
    key: Sequence[int] | npt.NDArray[np.int64], block: int, rows: int, table: npt.NDArray[np.int64] | None = None
) -> int:
    """What comes of one attempt, by its block."""
    first, second, third, _ = _blocks(key, block)
    drawn = (first * rows + (second * rows >> 32)) >> 32
    if table is not None:
        entry = int(table[drawn, 0])
        if third >= entry >> 32 & _LOW:
            drawn = min(entry & _LOW, rows - 1)
    return int(drawn)


def _from_what_is_left(
    words: Sequence[int], rows: int, table: npt.NDArray[np.int64] | None, excluded: Collection[int]
) -> int | None:
    left = np.ones(rows, bool)
    left[list(excluded)] = False
    owners, tickets = (np.arange(rows), np.ones(rows, np.int64)) if table is None else _tickets(table)
    tickets = np.where(left[owners], tickets, 0)
    ends = np.cumsum(tickets)
    ticket = ((words[0] << 32) + words[1]) * int(ends[-1]) >> 64
    return int(owners[np.searchsorted(ends, ticket, side="right")]) if ends[-1] else None


def _tickets(table: npt.NDArray[np.int64]) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]:
    """The numbers that have tickets by an alias table, in order, and how many."""
    entries = table[:, 0].view(np.uint64)
    own, alias = (entries >> np.uint64(32)).astype(np.int64), (entries & np.uint64(_LOW)).astype(np.int64)
    owners = np.stack([np.arange(len(table)), np.minimum(alias, len(table) - 1)], axis=1).reshape(-1)
    return owners, np.stack([own, 2**32 - own], axis=1).reshape(-1)


def drawable(table: npt.NDArray[np.int64]) -> npt.NDArray[np.int64]:
    """The numbers that are ever drawn by an alias table."""
    owners, tickets = _tickets(table)
    return np.unique(owners[tickets > 0])
