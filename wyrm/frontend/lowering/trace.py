"""Traces: a structure as a flat list of records in the order of computation, free of nodes and numbers of inputs.

Structures that compute the same have the same trace, whatever their inputs' numbers and whichever parameters they use. So
traces are what programs are cached by.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from operator import attrgetter
from typing import Any, NamedTuple

from wyrm.frontend.op import PARAMETER, Leaf, Op
from wyrm.frontend.ops.gradients import DETACH
from wyrm.frontend.order import operands_first
from wyrm.frontend.structure import Structure
from wyrm.program import Attributes, Shape

__all__ = ["Record", "Trace", "trace"]


class Record(NamedTuple):
    """One node of a trace; operands are numbers of earlier records."""

    op: Op | Leaf
    operands: tuple[int, ...]
    attributes: Attributes
    shape: Shape
    needs_gradient: bool


class Trace(NamedTuple):
    """Roots as records. Compares and hashes by content."""

    records: tuple[Record, ...]
    roots: tuple[int, ...]
    dtype: str

    def leaves(self, *kinds: Leaf) -> list[int]:
        """The numbers of the records of these kinds, in order."""
        wanted = frozenset(kinds)
        return [n for n, record in enumerate(self.records) if record.op in wanted]


def trace(
    roots: Sequence[Structure], identity: Callable[[Structure], Any] = id
) -> tuple[Trace, list[Structure], dict[Structure, int]]:
    """Trace structures.

    Parameters
    ----------
    roots
        What is to be computed.
    identity
        Parameters with the same identity become the same record. One that is not trainable is that record detached if another
        one of that identity is trainable.

    Returns
    -------
    trace
        The records.
    structures
        A structure for each record.
    numbers
        The record of each structure.
    """
    numbers: dict[Structure, int] = {}
    parameters: dict[Any, int] = {}
    detached: dict[Any, int] = {}
    records: list[Record] = []
    structures: list[Structure] = []
    dtypes: set[str] = set()
    order: dict[Structure, None] = {}
    for structure in operands_first(roots, attrgetter("parents"), order):
        order[structure] = None
    trained = {identity(s) for s in order if s.op is PARAMETER and s.live_parameter().trainable}
    for structure in order:
        if structure.op is PARAMETER:
            who = identity(structure)
            if who not in parameters:
                parameters[who] = len(records)
                records.append(Record(PARAMETER, (), (), structure.shape, who in trained))
                structures.append(structure)
            numbers[structure] = parameters[who]
            if who in trained and not structure.live_parameter().trainable:
                if who not in detached:
                    detached[who] = len(records)
                    records.append(Record(DETACH, (parameters[who],), (), structure.shape, False))
                    structures.append(structure)
                numbers[structure] = detached[who]
        else:
            numbers[structure] = len(records)
            attributes = structure.attributes if isinstance(structure.op, Op) else ()
            operands = tuple([numbers[parent] for parent in structure.parents])
            needs_gradient = structure.takes_gradient([records[number].needs_gradient for number in operands])
            records.append(Record(structure.op, operands, attributes, structure.shape, needs_gradient))
            structures.append(structure)
        if structure.dtype != "int64":
            dtypes.add(structure.dtype)
    dtype = "float64" if dtypes == {"float64"} else "float32"
    return Trace(tuple(records), tuple(numbers[root] for root in roots), dtype), structures, numbers
