"""The order in which an epoch visits the examples: a function of the seed and the epoch's number alone.

So nothing but these two has to be kept for a run that is resumed, and any epoch's order can be had again.
"""

from __future__ import annotations

import secrets

import numpy as np
import numpy.typing as npt

from wyrm.errors import OptionError
from wyrm.training.feed import check_integer

__all__ = ["epoch_order", "key_seed", "run_seed"]


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


def epoch_order(seed: int, epoch: int, length: int) -> npt.NDArray[np.int64]:
    """A random order of ``length`` examples: ``numpy.random.default_rng([seed, 0, epoch]).permutation(length)``."""
    return np.random.default_rng([seed, 0, epoch]).permutation(length)


def key_seed(seed: int) -> int:
    """The seed of random inputs for which the graph names none; epochs count from 1, so no order shares its numbers."""
    return int(np.random.default_rng([seed, 1]).integers(2**63))
