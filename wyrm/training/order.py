"""The order in which an epoch visits the examples: a function of the seed and the epoch's number alone.

So nothing but these two has to be kept for a run that is resumed, and any epoch's order can be had again.
"""

from __future__ import annotations

import secrets
from functools import lru_cache

import numpy as np
import numpy.typing as npt

from wyrm.errors import OptionError
from wyrm.training.feed import check_integer

__all__ = ["epoch_order", "in_order", "key_seed", "run_seed"]

#: The longest order that is kept, of 32 MB.
_MOST_KEPT = 2**22


def run_seed(seed: int | None) -> int:
    """The seed of a run: the one given, or one that is drawn.

    Raises
    ------
    DTypeError, OptionError
        Where it is no whole number of at least 0.
    """
    if seed is None:
        return secrets.randbits(63)
    number = check_integer(seed, "fit: seed")
    if number < 0:
        raise OptionError(f"fit: expected a seed of at least 0, got {number}")
    return number


def epoch_order(seed: int, epoch: int, length: int, chunk: int = 0) -> npt.NDArray[np.int64]:
    """A random order of ``length`` examples: ``numpy.random.default_rng([seed, 0, epoch]).permutation(length)``.

    For later chunks of a stream, the chunk's number is added to these.
    """
    if length == 1:
        return np.zeros(1, np.int64)
    return np.random.default_rng([seed, 0, epoch, *([chunk] if chunk else [])]).permutation(length)


def in_order(length: int) -> npt.NDArray[np.int64]:
    """The order of an epoch that is not shuffled. The last one is kept, unless it is long: small steps cost no more than it."""
    return _kept_order(length) if length <= _MOST_KEPT else np.arange(length, dtype=np.int64)


@lru_cache(maxsize=1)
def _kept_order(length: int) -> npt.NDArray[np.int64]:
    order = np.arange(length, dtype=np.int64)
    order.flags.writeable = False
    return order


def key_seed(seed: int) -> int:
    """The seed of random inputs for which the graph names none; epochs count from 1, so no order shares its numbers."""
    return int(np.random.default_rng([seed, 1]).integers(2**63))
