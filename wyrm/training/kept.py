"""Feeds in memory of their own: what programs stay bound to from one call to the next, for data that are little.

Who trains or evaluates with one example after the other waits for programs to be bound, not for arithmetic. So what is bound
stays ready: :func:`wyrm.fit` keeps it with the optimizer, and :func:`wyrm.evaluate` by the structures of what is computed.
Data of the same layout, which is the structures of roots and inputs, the shapes and dtypes of the data and the number of
examples, are checked as ever and copied to where the programs read them. Mostly they are given as those before were, too, as
arrays or lists of the same shape and dtype: then they are read to that place at once, and checked there. What is kept refers to
structures and to parameters' memory, to no node that depends on inputs and to no function: so these are free when the caller
is done with them.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy.typing as npt

from wyrm.errors import WyrmError
from wyrm.frontend.op import INPUT, RANDOM
from wyrm.frontend.structure import Structure
from wyrm.training.bag_columns import BagColumn
from wyrm.training.columns import Column
from wyrm.training.feed import Data
from wyrm.training.models import Model, Traced, kept_value
from wyrm.training.programs import Programs, are_large
from wyrm.training.runners import Part
from wyrm.training.skipping import Exclusion, Skipped, exclusions

__all__ = ["HeldFeed", "Layout", "layout_of"]

Array = npt.NDArray[Any]
#: How many numbers a feed has at most for which programs stay bound.
_SMALL = 4096


class Layout(NamedTuple):
    """How data are gone through: the graph of their runs, and what is equal for data that take the same memory."""

    traced: Traced
    key: tuple[Any, ...]


def layout_of(model: Model, data: Data, purpose: str) -> Layout | None:
    """The layout of data for which programs stay bound; ``None`` if they are too many, or runs of several kinds."""
    if len(data.structures) > 1 or (data.length > model.rows and data.length % model.rows) or data.size > _SMALL:
        return None
    traced = model.traced(data, 0, min(data.length, model.rows), purpose)
    return Layout(traced, traced.layout(data))


def _all() -> None:
    """All examples."""


class HeldFeed:
    """A feed in memory of its own, of which others of the same layout take the place.

    Attributes
    ----------
    random
        Whether programs read keys of random numbers.
    """

    def __init__(self, data: Data) -> None:
        self._columns = [column.own() for column in data.columns.values()]
        self._length = data.length
        self.random = False
        #: For each input that is fed, the number of its column, its position, what indices lie below, and itself.
        self._checks: list[tuple[int, int, int, Structure]] = []
        #: Inputs that keep their values, or are random, and where programs read these.
        self._constants: list[tuple[Structure, Array]] = []
        #: The samples that may have nothing left to draw, each with the number of its column.
        self._exclusions: list[tuple[int, Exclusion]] = []
        self._roots = 0
        self._large, self._dtype = False, ""

    def named(self, data: Data) -> Data:
        """What is held, by the names of data of the same layout."""
        return Data(dict(zip(data.columns, self._columns, strict=True)), data.length)

    def watch(self, programs: Programs, traced: Traced, data: Data, part: Part) -> None:
        """Take note of what has to be checked and brought up to date for a part that is bound to it."""
        numbers = {name: number for number, name in enumerate(data.columns)}
        program = part.executable.program
        self._checks, self._constants, self._dtype, self.random = [], [], program.dtype, False
        for leaf, expected, source in zip(programs.leaves(traced), program.inputs, part.sources, strict=False):
            place = traced.place(leaf)
            if place is not None:
                self._checks.append((numbers[place[0]], place[1], expected.limit, leaf))
            else:
                self._constants.append((leaf, source.array))
                self.random |= leaf.op is RANDOM
        self._large = self._are_large(self._values(traced, 0))
        some_bags = any(isinstance(column, BagColumn) for column in self._columns)
        self._exclusions = [(numbers[each.column], each) for each in (exclusions(traced) if some_bags else ())]
        self._roots = len(traced.roots)

    def read_in_place(self, keyed: Mapping[Any, Any]) -> Data | None:
        """Data that are given as those that are held were, in the same order, most of them read to where these are.

        ``None``: they are given otherwise, or are no good, which is said as they are read anew. What was held is lost.
        """
        if len(keyed) != len(self._columns):
            return None
        columns: dict[Any, Column] = {}
        for own, (key, data) in zip(self._columns, keyed.items(), strict=True):
            same = own.name == repr(key) if isinstance(key, str) else own.name == key._label() and own.shape == key.shape
            try:
                column = own.read_in_place(data) if same else None
            except WyrmError:
                return None
            if column is None:
                return None
            columns[key] = column
        return Data(columns, self._length)

    def has_room(self, data: Data) -> bool:
        """Whether data of the same layout can take its place."""
        return all(own.has_room(column) for own, column in zip(self._columns, data.columns.values(), strict=True))

    def skipped(self, data: Data) -> Skipped:
        """The examples of data of the same layout that are skipped."""
        found: Skipped = [None] * self._roots
        if self._exclusions:
            columns = list(data.columns.values())
            for number, exclusion in self._exclusions:
                exclusion.note(found, columns[number])
        return found

    def replace(self, data: Data, traced: Traced, seed: int = 0) -> bool:
        """Let data of the same layout take its place, after they have been checked; random inputs follow a seed.

        False: they cannot, as other gradients have to be looked at than programs look at, for constants that are large.
        """
        columns = list(data.columns.values())
        labelled = traced.has_labels
        for number, position, limit, leaf in self._checks:
            columns[number].check(self._dtype, limit, traced.labels(leaf) if labelled else (), _all, position)
        values = self._values(traced, seed)
        if values and self._are_large(values) != self._large:
            return False
        for own, column in zip(self._columns, columns, strict=True):
            own.replace(column)
        for (_, array), value in zip(self._constants, values, strict=True):
            array[...] = value
        return True

    def _values(self, traced: Traced, seed: int) -> list[Array]:
        """What the inputs hold that are not fed."""
        for leaf, _ in self._constants:
            traced.place(leaf)  # raises if it has to be fed
        return [kept_value(traced.owner(leaf), seed) for leaf, _ in self._constants]

    def _are_large(self, values: list[Array]) -> bool:
        """Whether values are larger than programs take inputs to be."""
        pairs = zip(self._constants, values, strict=True)
        return are_large([value for (leaf, _), value in pairs if leaf.op is INPUT], self._dtype)
