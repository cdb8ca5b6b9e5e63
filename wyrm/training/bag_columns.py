"""Columns of bags: as many for each example, of any number of row numbers each."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from wyrm.errors import FeedError, OutOfRangeError
from wyrm.frontend.bag_inputs import BagInputNode
from wyrm.frontend.bags import Bags, HeldBags
from wyrm.frontend.node import Node
from wyrm.memory import BagSource, Source
from wyrm.training.columns import LARGEST, Column, outside

__all__ = ["BagColumn"]

Array = npt.NDArray[Any]


class BagColumn(Column):
    """Bags, as many for each example.

    Parameters
    ----------
    bags
        Those of all examples.
    each
        How many an example has.
    """

    def __init__(self, bags: Bags, each: int, name: str) -> None:
        weights = bags._weights
        super().__init__(bags._values.reshape(-1, 1), (each, 1), True, name, beside=weights)
        if each == 0 or len(bags) % each:
            raise FeedError(f"{self.label}: expected {each} bags for each example, got {len(bags)} in all")
        self.bags = bags
        if weights is not None and weights.size and weights.dtype.itemsize > 4:
            self._narrow = bool(weights.min() >= -LARGEST and weights.max() <= LARGEST)

    def _numbers(self) -> Array:
        weights = self.bags._weights
        return np.zeros(0) if weights is None else weights

    def _example_of(self, place: int) -> str:
        holding = np.flatnonzero((self.bags._begins <= place) & (place < self.bags._ends))
        return f"{holding[0] // self.shape[0]}, as a weight," if len(holding) else "none"

    def __len__(self) -> int:
        return len(self.bags) // self.shape[0]

    @property
    def signature(self) -> tuple[Any, ...]:
        """What nodes for it depend on."""
        return "bags", self.shape

    def covering(self, rows: int, some: Array | None = None) -> Array:
        """For each example, whether one of its bags holds every number below ``rows``, or all those of ``some``."""
        bags = self.bags
        covering: Array = np.zeros(len(bags), bool)
        known: dict[tuple[int, int], bool] = {}  # bags may be shared
        for bag in np.flatnonzero(bags.ends - bags.begins >= (rows if some is None else len(some))).tolist():
            key = begin, end = int(bags.begins[bag]), int(bags.ends[bag])
            if key not in known:
                values, held = bags.values[begin:end], np.zeros(rows, bool)
                held[values[(values >= 0) & (values < rows)]] = True
                known[key] = bool(held.all() if some is None else held[some].all())
            covering[bag] = known[key]
        return np.asarray(covering.reshape(-1, self.shape[0]).any(axis=1))

    def node(self, name: str, examples: int, dtype: str | None, length: int = 1) -> Node:
        """A node for the bags of so many examples."""
        return BagInputNode(self.shape[0] * examples, name=name)

    def source(self, position: int = 0, length: int = 1) -> Source:
        """Where runners read it."""
        bags = self.bags
        begins = bags._begins.reshape(-1, self.shape[0])
        return Source(begins, bags=BagSource(bags._values, bags._begins, bags._ends, bags._weights))

    @property
    def layout(self) -> tuple[Any, ...]:
        """As for other columns."""
        return "bags", self.shape, len(self.bags), self._narrow

    def own(self) -> Column:
        """As for other columns."""
        return _HeldColumn(self)

    def check_range(self, limit: int, examples: Array | None = None, position: int = 0) -> None:
        """As for other columns."""
        bags, each = self.bags, self.shape[0]
        wrong = np.flatnonzero((bags.values < 0) | (bags.values >= limit))
        first = np.append(wrong, len(bags.values))[np.searchsorted(wrong, bags.begins)]  # the next one where each bag begins
        found = first < bags.ends
        if examples is not None:
            found &= np.isin(np.arange(len(bags)) // each, examples)
        if found.any():
            bag = int(found.argmax())
            place = int(first[bag])
            where = f"bag {bag % each}, place {place - bags.begins[bag]}"
            raise OutOfRangeError(outside(self.label, bag // each, where, int(bags.values[place]), limit))

    def _used(self) -> Array:
        return self.rows[self.bags.span]


class _HeldColumn(BagColumn):
    """Bags in memory with room for more."""

    def __init__(self, other: BagColumn) -> None:
        super().__init__(other.bags, other.shape[0], other.name)
        self._held = HeldBags(len(other.bags), 2 * _count(other) + 64, None)
        self.replace(other)

    def read_in_place(self, data: Any) -> Column | None:
        """As for other columns; they are read once, and copied by :meth:`replace`."""
        bags = Bags.of(data, self.label)
        if len(bags) != len(self.bags):
            return None
        column = BagColumn(bags, self.shape[0], self.name)
        return column if column._narrow is self._narrow else None

    def source(self, position: int = 0, length: int = 1) -> Source:
        """Where runners read it."""
        return Source(self._held.begins.reshape(-1, self.shape[0]), bags=self._held)

    def has_room(self, other: Column) -> bool:
        """As for other columns."""
        return _count(other) <= self._held.room

    def replace(self, other: Column) -> None:
        """As for other columns."""
        assert isinstance(other, BagColumn)
        self._held.hold(other.bags)


def _count(column: Column) -> int:
    """How many row numbers there are in all bags."""
    assert isinstance(column, BagColumn)
    bags = column.bags
    return int((bags._ends - bags._begins).sum()) if len(bags) > 1 else bags.span.stop - bags.span.start
