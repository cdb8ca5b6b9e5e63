"""The leaf behind what is random in training: the key of its random numbers."""

from __future__ import annotations

import secrets
from itertools import count

import numpy as np

from wyrm.errors import OptionError
from wyrm.frontend.graph import Graph
from wyrm.frontend.input_base import InputBase
from wyrm.frontend.op import RANDOM
from wyrm.frontend.structure import input_structure

__all__ = ["RandomNode", "next_serial", "random_key"]

_serials = count()


class RandomNode(InputBase):
    """Seed and stream; with the step's number, which native code adds, a key as :mod:`wyrm.philox` has it.

    Attributes
    ----------
    seeded
        Whether a user gave the seed; else :func:`wyrm.fit` gives its own.
    serial
        Larger than that of any key that was made before.
    """

    __slots__ = ("seeded", "serial")

    def __init__(self, graph: Graph, seed: int | None) -> None:
        self.name = None
        self.seeded = seed is not None
        self.serial = next(_serials)
        number = self._enter(graph)
        self._structure = input_structure(RANDOM, number, (3, 1), "int64")
        self._array = np.array([secrets.randbits(63) if seed is None else seed, graph.random], np.int64)
        graph.leaves.set_array(number, self._array)
        graph.unset.discard(number)
        graph.streams[number] = graph.random
        graph.random += 1
        graph.prepare_passes()

    @property
    def words(self) -> tuple[int, int]:
        """Seed and stream."""
        assert self._array is not None
        return int(self._array[0]), int(self._array[1])

    def _kind(self) -> str:
        return "random key"


def next_serial() -> int:
    """A number between those of the keys that were made before and of those that will be made."""
    return next(_serials)


def random_key(graph: Graph, seed: int | None, label: str) -> RandomNode:
    """A key in a graph, for whatever messages are to call by the label.

    Raises
    ------
    OptionError
        Where the seed is no whole number of at most 63 bits.
    """
    whole = isinstance(seed, (int, np.integer)) and not isinstance(seed, bool)
    if seed is not None and not (whole and 0 <= seed < 2**63):
        raise OptionError(f"{label}: expected a whole number from 0 to 2**63 - 1 as seed, got {seed!r}")
    return RandomNode(graph, seed)
