"""Initial values, from a seed or a generator."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from wyrm.arguments import check_lengths, check_number, shown
from wyrm.errors import DTypeError, OptionError

__all__ = ["Rng", "generator", "uniform", "xavier_normal"]

Array = npt.NDArray[Any]
#: A seed, a generator, or ``None`` for numbers that are different each time.
Rng = int | np.random.Generator | None


def generator(rng: Rng) -> np.random.Generator:
    """The generator that is meant: itself, or a new one from a seed."""
    if isinstance(rng, np.random.Generator):
        return rng
    try:
        return np.random.default_rng(rng)
    except (TypeError, ValueError):
        raise DTypeError(f"rng: expected a seed of at least 0, a generator or None, got {shown(rng)}") from None


def xavier_normal(rows: int, cols: int, rng: Rng = None) -> Array:
    """Normal numbers with variance ``2 / (rows + cols)`` (Glorot and Bengio, AISTATS 2010, eq. 12), of shape (rows, cols).

    Examples
    --------
    >>> from wyrm import nn
    >>> nn.xavier_normal(2, 3, rng=1).shape
    (2, 3)
    >>> bool((nn.xavier_normal(2, 3, rng=1) == nn.xavier_normal(2, 3, rng=1)).all())
    True
    """
    check_lengths("xavier_normal", rows=rows, cols=cols)
    values: Array = generator(rng).standard_normal((rows, cols)) * np.sqrt(2 / max(rows + cols, 1))
    return values


def uniform(rows: int, cols: int, low: float = -0.1, high: float = 0.1, rng: Rng = None) -> Array:
    """Numbers from ``low`` to below ``high``, each as likely as the other, of shape (rows, cols).

    Raises
    ------
    OptionError
        Where ``low`` is above ``high``, or either is not finite.
    """
    check_lengths("uniform", rows=rows, cols=cols)
    if not check_number(low, "uniform: low") <= check_number(high, "uniform: high"):
        raise OptionError(f"uniform: expected low up to high, got {low} and {high}")
    return generator(rng).uniform(low, high, (rows, cols))
