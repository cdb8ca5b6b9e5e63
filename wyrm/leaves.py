"""What the inputs of a graph are set to, and when: cells that native code reads, and words that say what may happen at once.

It is part of the contract of backends, as :mod:`wyrm.memory` is.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from wyrm.memory import BagSource, address, aligned

__all__ = ["Leaves"]

Array = npt.NDArray[Any]


class Leaves:
    """What the inputs of one graph are set to: a cell of eight bytes for each, at ``address + 8 * number``; and when.

    A cell holds a float64 for a dense input of one element, an int64 for an index input of one index, the address of the
    header of its :class:`BagSource` for a bag, and for every other input the address of its values, which are C-contiguous:
    real numbers in the program's dtype or int64.

    Attributes
    ----------
    header
        Eight int64 that stand before the cells: two that say what may happen at once (:mod:`wyrm.turns`); how many cells there
        are; how many graphs have used them before; and others without a meaning, so that cells begin with a cache line.
    dates
        For each cell, behind the last one, an int64: when it was last set, by :data:`wyrm.turns.TIME`.
    """

    #: The words of the header, in order.
    HEADER = ("open", "ready", "capacity", "graphs", *4 * ("",))

    __slots__ = ("address", "arrays", "capacity", "count", "dates", "header", "indices", "reals")

    def __init__(self, capacity: int) -> None:
        memory, begin = aligned(len(self.HEADER) + 2 * capacity, np.int64), len(self.HEADER)
        cells = memory[begin : begin + capacity]
        self.address = address(memory) + 8 * begin
        self.capacity = capacity
        self.count = 0
        self.header: memoryview[int] = memoryview(memory.data)[:begin]
        self.header[2] = capacity
        self.dates: memoryview[int] = memoryview(memory.data)[begin + capacity :]
        self.reals: memoryview[float] = memoryview(cells.view(np.float64).data)
        self.indices: memoryview[int] = memoryview(cells.data)
        #: What cells point to, by number: arrays and sources of bags.
        self.arrays: dict[int, Any] = {}

    def forget(self) -> None:
        """Be of no graph, until another one uses them; nothing happens at once meanwhile."""
        self.header[0] = self.header[1] = 0
        self.header[3] += 1
        self.count = 0
        self.arrays.clear()

    def set_array(self, number: int, array: Array, place: int | None = None) -> None:
        """Let a cell point to an array, whose address is ``place`` where that is known."""
        self.arrays[number] = array
        self.indices[number] = address(array) if place is None else place

    def set_bags(self, number: int, source: BagSource) -> None:
        """Let a cell point to bags."""
        self.arrays[number] = source
        self.indices[number] = address(source.header)

    def read(self, number: int, kind: str) -> Any:
        """What input ``number`` is set to: its array, or the one number in its cell."""
        array = self.arrays.get(number)
        if array is not None:
            return array
        return self.reals[number] if kind in ("dense", "schedule") else self.indices[number]
