"""The shapes that kernels are tried on, from one generator: around vectors, beyond them, and beyond every block.

A kernel goes wrong where its loops end: at a vector, at several of them, at a block that fits a cache, at a number that no
longer fits 8 or 16 bits. So there are lengths around those of vectors; matrices of more rows and columns than a vector has
lanes; and such as are long in one dimension alone. Long lengths are odd and drawn: no block divides them, nobody expects them.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from wyrm.program import Shape

__all__ = ["SIZES", "Trial", "beyond", "long_shapes", "shapes"]

#: Lengths around the widths of vector registers, and none.
SIZES = (0, 1, 2, 3, 4, 5, 7, 8, 9, 15, 16, 17, 31, 32, 33, 63, 64, 65, 130)


class Trial(NamedTuple):
    """A shape, and the elements between the rows of the first matrix; between those of each that follows is one more."""

    shape: Shape
    gap: int = 2


def beyond(rng: np.random.Generator, bits: int) -> int:
    """An odd number that is beyond what fits so many bits, and less than an eighth more."""
    return (1 << bits) + 1 + 2 * int(rng.integers(1, 1 << (bits - 4)))


def shapes(rng: np.random.Generator, empty: bool = True) -> list[Trial]:
    """Lengths around vectors with few rows; then more rows and columns than any vector has lanes, with gaps and without."""
    around = [Trial((rows, n), gap) for n in SIZES[not empty :] for rows, gap in ((1, 2), (3, 2), (3, 0))]
    lengths = rng.integers(17, 80, (3, 2)).tolist()
    return around + [Trial((rows, cols), gap) for (rows, cols), gap in zip(lengths, (2, 5, 0), strict=True)]


def long_shapes(rng: np.random.Generator, few: bool = False) -> list[Trial]:
    """Long in one dimension alone: more than 65,536 elements; and rows of some thousand, or as many rows.

    A few of them are one of the first and one of the last.
    """
    many, thousands = beyond(rng, 16), beyond(rng, 12)
    trials = [Trial((1, many)), Trial((many, 1)), Trial((3, thousands)), Trial((thousands, 3), 0)]
    return [trials[int(rng.integers(2))], trials[2 + int(rng.integers(2))]] if few else trials
