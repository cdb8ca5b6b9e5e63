"""Examples that are skipped: those for which a sample has nothing left to draw, since their bag excludes all that it draws.

That follows from the bags alone, so it is found out when data are read, and runners know nothing of it.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from wyrm.frontend.ops.draws import SAMPLE
from wyrm.frontend.parameters import ParameterNode
from wyrm.philox import drawable
from wyrm.training.arrangement import Arrangement
from wyrm.training.bag_columns import BagColumn
from wyrm.training.columns import Column
from wyrm.training.feed import Data
from wyrm.training.models import Model, Traced, seen_from

__all__ = ["Exclusion", "Skipped", "exclusions", "skipped"]

#: For each root, the examples that are skipped; ``None``: none is.
Skipped = list[npt.NDArray[np.bool_] | None]


class Exclusion(NamedTuple):
    """A sample that excludes what a column says; it draws below ``rows``, or only ``some``, and a root depends on it."""

    column: Any
    rows: int
    some: npt.NDArray[np.int64] | None
    root: int

    def note(self, skipped: Skipped, column: Column, among: npt.NDArray[np.bool_] | None = None) -> None:
        """Add the examples, among some, for which nothing is left."""
        assert isinstance(column, BagColumn)
        covered = column.covering(self.rows, self.some)
        if among is not None:
            covered &= among
        if covered.any():
            before = skipped[self.root]
            skipped[self.root] = covered if before is None else before | covered


def exclusions(traced: Traced) -> list[Exclusion]:
    """Of the samples of a graph."""
    found = []
    for number, root in enumerate(traced.roots):
        for node in root._ancestors():
            if node._structure.op is not SAMPLE:
                continue
            options = dict(node._structure.attributes)
            if options["excluding"]:
                place = traced.place(seen_from(traced.roots[0], node._parents[-1]))
                assert place is not None
                table = node._parents[1] if options["weighted"] else None
                some = drawable(table.value) if isinstance(table, ParameterNode) else None
                found.append(Exclusion(place[0], options["rows"], some, number))
    return found


def skipped(model: Model, purpose: str, data: Data, arrangement: Arrangement) -> Skipped:
    """The examples of data that are skipped."""
    found: Skipped = []
    any_bags = any(isinstance(column, BagColumn) for column in data.columns.values())
    for structure, examples in arrangement.parts:
        traced = model.traced(data, structure, examples, purpose)
        found = found or [None] * len(traced.roots)
        among = None if data.numbers is None else data.numbers == structure
        exclusions_here: Sequence[Exclusion] = exclusions(traced) if any_bags else ()
        for exclusion in exclusions_here:
            exclusion.note(found, data.columns[exclusion.column], among)
    return found
