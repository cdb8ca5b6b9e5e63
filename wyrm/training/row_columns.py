"""Columns of sequences that are rows: one input takes a whole sequence, with a row for each position."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import numpy.typing as npt

from wyrm.frontend.inputs import IndexInputNode, InputNode
from wyrm.frontend.node import Node
from wyrm.memory import Source
from wyrm.training.columns import Column

__all__ = ["RowsColumn"]

Array = npt.NDArray[Any]


class RowsColumn(Column):
    """Sequences of real numbers, or of indices, of which a program reads each as a whole.

    Runners read all sequences of one length as rows of an array that overlap: row r has positions r to r + length. So what
    they are told is what they are told of any other data.
    """

    by_rows = True

    @property
    def signature(self) -> tuple[Any, ...]:
        """As for other columns."""
        return *super().signature, "rows"

    @property
    def layout(self) -> tuple[Any, ...]:
        """As for other columns."""
        return *super().layout, "rows"

    def node(self, name: str, examples: int, dtype: str | None, length: int = 1) -> Node:
        """A node for the sequences of so many examples, all of one length, one below the other."""
        if self.index:
            return IndexInputNode(length * examples, name=name)
        return InputNode((length * examples, self.rows.shape[1]), name=name, dtype=dtype)

    def source(self, position: int = 0, length: int = 1) -> Source:
        """Where runners read sequences of a length."""
        count, width = self.rows.shape
        strides = width * self.rows.itemsize, self.rows.itemsize
        shape = count - length + 1, length * width
        return Source(np.lib.stride_tricks.as_strided(self.rows, shape, strides, writeable=False), starts=self._starts)

    def _first(self, wrong: Callable[[Array], Array], examples: Array | None, position: int) -> tuple[int, str, Any] | None:
        """The first value that is wrong, among all positions of the examples."""
        offsets = self.offsets
        assert offsets is not None
        for example in range(len(self)) if examples is None else examples.tolist():
            values = self.rows[offsets[example] : offsets[example + 1]]
            found = np.flatnonzero(wrong(values.reshape(1, -1)))
            if len(found):
                place, column = divmod(int(found[0]), values.shape[1])
                where = f"position {place}" + (f", column {column}" if values.shape[1] > 1 else "")
                return example, where, values[place, column]
        return None
