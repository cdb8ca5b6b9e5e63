"""Ops that put elements elsewhere: transposition, slices, stacks, other shapes.

Most of them move nothing: they see the same memory otherwise.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from wyrm.arguments import as_list, shown
from wyrm.errors import OptionError, OutOfRangeError, ShapeError
from wyrm.frontend.op import Op, Operand
from wyrm.program import Shape

if TYPE_CHECKING:
    from wyrm.frontend.node import Node, NodeLike

__all__ = ["Range", "Shapes", "range_of", "stack"]

#: What a range of rows or columns is given by.
Range = slice | int


def _stack_places(shapes: Sequence[Shape], axis: int) -> list[tuple[int, int]]:
    """Where each part begins."""
    places = []
    begin = 0
    for shape in shapes:
        places.append((begin, 0) if axis == 0 else (0, begin))
        begin += shape[axis]
    return places


def _stack_shape(*shapes: Shape, axis: int) -> Shape:
    across = {shape[1 - axis] for shape in shapes}
    if len(across) > 1:
        what = "columns" if axis == 0 else "rows"
        listed = " and ".join(map(str, shapes))
        raise ValueError(f"parts that are stacked along axis {axis} need equally many {what}, got {listed}")
    total = sum(shape[axis] for shape in shapes)
    return (total, shapes[0][1]) if axis == 0 else (shapes[0][0], total)


def _stack(k: Any, *parts: Any, axis: int) -> Any:
    shapes = [part.shape for part in parts]
    return k.blocks(parts, _stack_places(shapes, axis), _stack_shape(*shapes, axis=axis))


def _unstack(number: int, k: Any, g: Any, y: Any, *parts: Any, axis: int) -> Any:
    row, col = y.attributes["places"][number]
    rows, cols = parts[number].shape
    return k.slice(g, (row, row + rows), (col, col + cols))


def _reshaped(a: Shape, shape: Shape) -> Shape:
    if a[0] * a[1] != shape[0] * shape[1]:
        raise ValueError(f"{a} has {a[0] * a[1]} elements, {shape} has {shape[0] * shape[1]}")
    return shape


T = Op(
    "t",
    lambda a: (a[1], a[0]),
    lambda k, a: k.transpose(a),
    (lambda k, g, y, a: k.transpose(g),),
)
RESHAPE = Op(
    "reshape",
    _reshaped,
    lambda k, a, shape: k.reshape(a, shape),
    (lambda k, g, y, a, shape: k.reshape(g, a.shape),),
)
SLICE = Op(
    "slice",
    lambda a, rows, cols: (rows[1] - rows[0], cols[1] - cols[0]),
    lambda k, a, rows, cols: k.slice(a, rows, cols),
    (lambda k, g, y, a, rows, cols: k.pad(g, rows[0], cols[0], a.shape),),
)
STACK = Op("stack", _stack_shape, _stack, (_unstack,), variadic=True)


class Shapes(Operand):
    """Changes of shape as methods."""

    __slots__ = ()

    def t(self) -> Node:
        """The transpose."""
        return self._unary(T)

    def reshape(self, rows: int, cols: int) -> Node:
        """The same elements, row after row, as (rows, cols); one of the two may be -1, for what is left."""
        shape = _whole_shape(self.shape, rows, cols)
        return self._unary(RESHAPE, (("shape", shape),))

    def slice(self, rows: Range = slice(None), cols: Range = slice(None)) -> Node:
        """A range of rows and columns, as ``node[rows, cols]``; a single number is a range of one.

        Raises
        ------
        OutOfRangeError
            Where a range reaches beyond the node.
        OptionError
            For steps other than 1.
        """
        height, width = self._structure.shape
        return self._unary(SLICE, (("rows", range_of("rows", rows, height)), ("cols", range_of("columns", cols, width))))

    def __getitem__(self, key: Range | tuple[Range, Range]) -> Node:
        rows, cols = key if isinstance(key, tuple) else (key, slice(None))
        return self.slice(rows, cols)

    #: A node is a matrix, not a sequence of rows to be iterated over by ``node[0]``, ``node[1]`` and so on.
    __iter__ = None

    def stack(self, other: NodeLike, axis: int = 0) -> Node:
        """Another node put below (axis 0) or beside (axis 1) this one."""
        return stack([self, other], axis)


def stack(parts: Sequence[Any], axis: int = 0) -> Node:
    """Nodes put together, one below the other (axis 0) or side by side (axis 1).

    Parameters
    ----------
    parts
        Nodes, or nodes and arrays: at least one node.

    Examples
    --------
    >>> import wyrm
    >>> x = wyrm.InputNode((1, 2), [[1.0, 2.0]])
    >>> wyrm.stack([x, x * 10.0]).value
    array([[ 1.,  2.],
           [10., 20.]], dtype=float32)
    """
    from wyrm.frontend.node import apply

    if not isinstance(axis, (int, np.integer)) or isinstance(axis, bool) or axis not in (0, 1):
        raise OptionError(f"stack: expected axis 0 or 1, got {shown(axis)}")
    return apply(STACK, *as_list(parts, "stack", "a list of nodes"), attributes=(("axis", axis),))


def _whole_shape(old: Shape, rows: int, cols: int) -> Shape:
    """The shape that is meant where one length is -1."""
    for length in (rows, cols):
        if not isinstance(length, (int, np.integer)) or isinstance(length, bool) or length < -1:
            raise ShapeError(f"reshape: expected two whole numbers, one of which may be -1, got ({rows!r}, {cols!r})")
    size = old[0] * old[1]
    if rows == -1 and cols > 0 and size % cols == 0:
        return size // int(cols), int(cols)
    if cols == -1 and rows > 0 and size % rows == 0:
        return int(rows), size // int(rows)
    if -1 in (rows, cols):
        raise ShapeError(f"reshape: {old} cannot become ({rows}, {cols})")
    return int(rows), int(cols)


def range_of(what: str, key: Range, length: int) -> tuple[int, int]:
    """The first of a range and the one after its last."""
    if type(key) is slice and key.step is None:
        start, stop = key.start, key.stop
        begin, end = 0 if start is None else start, length if stop is None else stop
        if type(begin) is type(end) is int and 0 <= begin <= end <= length:
            return begin, end
    if not isinstance(key, slice):
        if not isinstance(key, (int, np.integer)) or isinstance(key, bool):
            raise OptionError(f"slice: expected a slice or a number for the {what}, got {key!r}")
        begin = int(key) + (length if key < 0 else 0)
        if not 0 <= begin < length:
            raise OutOfRangeError(f"slice: expected {what} from {-length} to {length - 1}, got {key}")
        return begin, begin + 1
    if key.step is not None and (not isinstance(key.step, (int, np.integer)) or key.step != 1):
        raise OptionError(f"slice: expected steps of 1 for the {what}, got {shown(key.step)}")
    for end in (key.start, key.stop):
        if end is not None and not isinstance(end, (int, np.integer)):
            raise OptionError(f"slice: expected whole numbers for the {what}, got {shown(end)}")
        if end is not None and not -length <= end <= length:
            raise OutOfRangeError(f"slice: {what} {key.start}:{key.stop} reach beyond the {length} that there are")
    begin, stop, _ = key.indices(length)
    return begin, max(begin, stop)
