"""The random numbers of programs: Philox4x32-10 (Salmon, Moraes, Dror and Shaw, SC 2011), a function of a key and a counter.

A key is three int64: seed, stream and step. Element n of a matrix, counted row after row, takes word n mod 4 of the block
with the counter (n div 4, stream, low and high half of the step), under the seed; its uniform number in [0, 1) is the
word's upper 24 bits times 2**-24, the same in every dtype and on every backend.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

__all__ = ["uniform"]

_MULTIPLIERS = (np.uint64(0xD2511F53), np.uint64(0xCD9E8D57))
_WEYL = (0x9E3779B9, 0xBB67AE85)
_LOW = np.uint64(0xFFFFFFFF)
_HALF = np.uint64(32)


def uniform(key: npt.NDArray[np.int64], count: int) -> npt.NDArray[np.float32]:
    """The uniform numbers of the first ``count`` elements.

    Parameters
    ----------
    key
        Seed, stream and step.
    """
    seed, stream, step = (int(word) & 0xFFFFFFFFFFFFFFFF for word in key)
    blocks = (count + 3) // 4
    counter: list[Any] = [
        np.arange(blocks, dtype=np.uint64),
        np.full(blocks, stream & 0xFFFFFFFF, np.uint64),
        np.full(blocks, step & 0xFFFFFFFF, np.uint64),
        np.full(blocks, step >> 32, np.uint64),
    ]
    low, high = seed & 0xFFFFFFFF, seed >> 32
    for _ in range(10):
        first, second = counter[0] * _MULTIPLIERS[0], counter[2] * _MULTIPLIERS[1]
        counter = [
            (second >> _HALF) ^ counter[1] ^ np.uint64(low),
            second & _LOW,
            (first >> _HALF) ^ counter[3] ^ np.uint64(high),
            first & _LOW,
        ]
        low, high = (low + _WEYL[0]) & 0xFFFFFFFF, (high + _WEYL[1]) & 0xFFFFFFFF
    words = np.stack(counter, axis=1).reshape(-1)[:count]
    result: npt.NDArray[np.float32] = (words >> np.uint64(8)).astype(np.float32) * np.float32(2.0**-24)
    return result
