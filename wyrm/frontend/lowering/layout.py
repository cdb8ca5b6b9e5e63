"""Layout: where every value of a program stands, and which memory is used again.

Values that are to be kept have memory of their own. The others share it: a value takes a gap that earlier ones, read for
the last time, have left. What the body of a draw reads stays until the body's end, as the body may be repeated. A value that is
accumulated onto another stands where that one does; a view stands inside what it views. Rows of blocks that are put one below
the other are computed where they belong, without a copy.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from functools import partial
from typing import Any

import numpy as np

from wyrm.frontend.lowering.gaps import Gaps
from wyrm.frontend.lowering.value import Value
from wyrm.memory import ALIGNMENT
from wyrm.program import Buffer, Shape, Slot

__all__ = ["Layout", "part", "results"]

#: A slot of a tuple, for half of what a call of the class costs.
_slot: Callable[[tuple[int, int, Shape, int]], Slot] = partial(tuple.__new__, Slot)
#: Values of no more bytes than this are not given a cache line of their own.
_SMALL = 16


class Layout(dict[Value, Slot]):
    """Where each value stands, or is to stand from when it is first asked for.

    Parameters
    ----------
    dtype
        Of the real numbers.
    sections
        The values that are computed, section after section, in order.
    kept
        Values that are read after the program has run, and found values that persist between runs.
    """

    def __init__(self, dtype: str, sections: Sequence[Sequence[Value]], kept: Iterable[Value]) -> None:
        self.buffers = [Buffer("real"), Buffer("index")]
        self._real = Gaps()
        self._indices = 0
        self._itemsize = np.dtype(dtype).itemsize
        self._sizes: dict[int, int] = {}
        self._buffer_numbers: dict[Buffer, int] = {buffer: n for n, buffer in enumerate(self.buffers)}
        order = [value for section in sections for value in section]
        kept = list(kept)
        #: Values that are computed inside blocks, and from which row on.
        self.inside = _inside(order)
        self._owners = _Owners(self.inside)
        last = self._last_uses(order, kept)
        for value in kept:
            if not value.kernel:
                self[value]
        ending: list[list[Value]] = [[] for _ in range(len(order) + 1)]
        for value, position in last.items():
            if value.kernel:
                ending[position].append(value)
        for value, endings in zip(order, ending, strict=False):
            if value.kernel != "fused":
                self[value]
            else:
                for result in value.attributes["results"]:
                    self[result]
            for dead in endings:
                if dead in self:
                    buffer, offset, (rows, cols), _ = self[dead]
                    if buffer == 0:
                        self._real.give_back(offset, self._padded(rows * cols))

    @property
    def lengths(self) -> tuple[int, int]:
        """Of the real buffer and of the one for indices."""
        return self._real.length, self._indices

    def _last_uses(self, order: list[Value], kept: list[Value]) -> dict[Value, int]:
        """The position after which the memory of each value that owns some is free."""
        last: dict[Value, int] = {}
        ends: dict[Value, int] = {}  # of the body that a value stands in
        owners = self._owners
        for position, value in enumerate(order):
            if value.body:
                ends.update(dict.fromkeys(value.body, position + len(value.body)))
            used = value.operands if value.kernel == "fused" else (value, *value.operands)
            if value not in ends:
                for each in used:
                    last[owners[each]] = position
                for each in value.attributes["results"] if value.kernel == "fused" else ():
                    last[owners[each]] = position
                continue
            end = ends[value]
            for each in used:  # what is read in a body stays to its end
                owner = owners[each]
                last[owner] = position if ends.get(owner) == end else end
        for value in kept:
            last[owners[value]] = len(order)
        return last

    def __missing__(self, value: Value) -> Slot:
        slot = self[value] = self._place(value)
        return slot

    def _place(self, value: Value) -> Slot:
        if value.onto is not None:
            return self[value.onto]
        rows, cols = value.shape
        if value in self.inside:
            whole, row = self.inside[value]
            return part(self[whole], row, 0, value.shape)
        if not value.place and value.viewed is None:
            return _slot((0, self._take(rows * cols), value.shape, cols))
        if value.kernel == "view":
            base = self[value.operands[0]]
            return Slot(base.buffer, base.offset, value.shape, cols)
        if value.kernel == "slice":
            return part(self[value.operands[0]], value.attributes["row"], value.attributes["col"], value.shape)
        kind: Any = value.place[0]
        if kind in ("index", "drawn"):
            offset, self._indices = self._indices, self._indices + rows
            return Slot(1, offset, value.shape, 1)
        if kind == "row":
            table = Buffer(*value.place[3])
            self._buffer(table)
            return Slot(self._buffer(Buffer("row", value.place[1], table=table)), 0, value.shape, cols)
        if kind in ("bag", "value", "gradient", "state", "scalars", "clock"):
            return Slot(self._buffer(Buffer(kind, *value.place[1:])), 0, value.shape, cols)
        return Slot(0, self._take(rows * cols), value.shape, cols)

    def _buffer(self, buffer: Buffer) -> int:
        if buffer not in self._buffer_numbers:
            self._buffer_numbers[buffer] = len(self.buffers)
            self.buffers.append(buffer)
        return self._buffer_numbers[buffer]

    def _padded(self, length: int) -> int:
        """The elements that a value of this length takes up."""
        if length not in self._sizes:
            unit = (_SMALL if length * self._itemsize <= _SMALL else ALIGNMENT) // self._itemsize
            self._sizes[length] = -(-max(length, 1) // unit) * unit
        return self._sizes[length]

    def _take(self, length: int) -> int:
        """The offset of a free piece of the real buffer."""
        size = self._padded(length)
        return self._real.take(size, min(size, ALIGNMENT // self._itemsize))


class _Owners(dict[Value, Value]):
    """The value whose memory each value stands in; ``inside`` are those that are computed inside blocks."""

    def __init__(self, inside: dict[Value, tuple[Value, int]]) -> None:
        self.inside = inside

    def __missing__(self, value: Value) -> Value:
        if value.onto is not None:
            owner = self[value.onto]
        elif value.viewed is not None:
            owner = self[value.viewed]
        elif value in self.inside:
            owner = self[self.inside[value][0]]
        else:
            owner = value
        self[value] = owner
        return owner


def results(value: Value) -> tuple[Value, ...]:
    """What a value stands for in memory: itself, or the results of a chain."""
    return value.attributes["results"] if value.kernel == "fused" else (value,)


def part(slot: Slot, row: int, col: int, shape: Shape) -> Slot:
    """The part of a slot that begins at (row, col)."""
    buffer, offset, _, stride = slot
    return _slot((buffer, offset + row * stride + col, shape, stride))


def _inside(order: Sequence[Value]) -> dict[Value, tuple[Value, int]]:
    """For each value that can be computed inside blocks, the blocks and the row it begins in.

    Neither it nor the blocks may be changed afterwards, and it has to be as wide as they are.
    """
    changed = {value.onto for value in order}
    computed = {result for value in order for result in results(value)}
    inside: dict[Value, tuple[Value, int]] = {}
    for blocks in order:
        if blocks.kernel == "blocks" and blocks.onto is None and blocks not in changed:
            for value, (row, _) in zip(blocks.operands, blocks.attributes["places"], strict=True):
                plain = value.viewed is None and value.onto is None and not value.place
                if plain and value in computed and value not in changed and value.shape[1] == blocks.shape[1]:
                    inside.setdefault(value, (blocks, row))
    return inside
