"""Initial values, from a seed or a generator."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from wyrm.errors import OptionError, ShapeError

__all__ = ["Rng", "generator", "uniform", "xavier_normal"]

Array = npt.NDArray[Any]
#: A seed, a generator, or ``None`` for numbers that are different each time.
Rng = int | np.random.Generator | None


def generator(rng: Rng) -> np.random.Generator:
    """The generator that is meant: itself, or a new one from a seed."""
    return rng if isinstance(rng, np.random.Generator) else np.random.default_rng(rng)


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
    _check(rows, cols)
    values: Array = generator(rng).standard_normal((rows, cols)) * np.sqrt(2 / max(rows + cols, 1))
    return values


def uniform(rows: int, cols: int, low: float = -0.1, high: float = 0.1, rng: Rng = None) -> Array:
    """Numbers from ``low`` to below ``high``, each as likely as the other, of shape (rows, cols).

    Raises
    ------
    OptionError
        Where ``low`` is above ``high``, or either is not finite.
    """
    _check(rows, cols)
    if not -np.inf < low <= high < np.inf:
        raise OptionError(f"uniform: expected low up to high, both finite, got {low} and {high}")
    return generator(rng).uniform(low, high, (rows, cols))


def _check(rows: int, cols: int) -> None:
    for length in (rows, cols):
        if not isinstance(length, (int, np.integer)) or isinstance(length, bool) or length < 0:
            raise ShapeError(f"expected a shape of two whole numbers, got ({rows!r}, {cols!r})")
