"""Loops over the rows of nodes: :func:`scan`, which carries a state from row to row, and :func:`each`, which does not.

A step is recorded once, for any position (:mod:`wyrm.frontend.loop_bodies`), and then repeated for each row.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any, TypeVar

import numpy as np

from wyrm.arguments import shown
from wyrm.errors import DTypeError, OptionError, ShapeError
from wyrm.frontend.agreement import is_open
from wyrm.frontend.graph import current_graph
from wyrm.frontend.inputs import InputNode
from wyrm.frontend.loop_bodies import Body, stand_in
from wyrm.frontend.node import Node
from wyrm.frontend.ops.shapes import stack
from wyrm.frontend.random import next_serial
from wyrm.frontend.values import as_reals

__all__ = ["each", "scan"]

S = TypeVar("S")
T = TypeVar("T")


def scan(step: Callable[..., tuple[S, T]], state: Any, rows: Node | tuple[Node, ...], *, reverse: bool = False) -> tuple[S, T]:
    """Go over the rows of nodes with a state: recurrent layers, running averages, Kalman filters.

    ``step(state, row)`` returns the next state and an output. It is called once, with nodes that stand for a state and a row at
    any position, and what it has recorded is repeated for each row. So what it does with Python follows from shapes alone. What
    is random in it (:class:`wyrm.SampledIndexNode`, dropout) is drawn anew for each row, in the order in which rows are gone
    over. What the program costs to be made grows with the number of rows, as it does in a loop in Python.

    Parameters
    ----------
    step
        Called as ``step(state, row)``, or with as many rows as nodes are given. It returns a pair: the next state, made of as
        many nodes of the same shapes as the first one; and the output, a node of one row, several as a tuple, or ``None``.
    state
        What the first row meets: a node, or an array or number, which is a constant; or a tuple or list of states. Gradients
        flow into nodes. It may have any shapes.
    rows
        A node with a row for each position, such as the rows of an embedding that one index input looks up, or an index input
        itself; of several, equally long, a tuple.
    reverse
        Whether to go from the last row to the first one.

    Returns
    -------
    state
        The last state, put together as the first one.
    outputs
        The outputs one below the other, output n at row n, in either direction; a tuple, or ``None``, if the step returns such.

    Raises
    ------
    ShapeError
        If there are no rows, or they differ in number; if a step returns a state of another shape than it was given, or an
        output that has not one row.
    DTypeError
        If rows, states or outputs are no nodes, or the state's dtype changes.
    OptionError
        If the step sets or runs nodes.

    Examples
    --------
    >>> import numpy as np, wyrm
    >>> x = wyrm.InputNode((4, 1), [[1.0], [2.0], [3.0], [4.0]])
    >>> def step(total, row):
    ...     total = total + row
    ...     return total, total
    >>> last, sums = wyrm.scan(step, np.zeros((1, 1)), x)
    >>> sums.value.ravel(), last.value
    (array([ 1.,  3.,  6., 10.], dtype=float32), array([[10.]], dtype=float32))
    >>> wyrm.scan(step, np.zeros((1, 1)), x, reverse=True)[1].value.ravel()
    array([10.,  9.,  7.,  4.], dtype=float32)
    """
    if not isinstance(reverse, (bool, np.bool_)):
        raise DTypeError(f"scan: expected True or False as reverse, got {shown(reverse)}")
    who = f"scan({_name(step)})"

    def returned(states: list[Node], row: list[Node]) -> tuple[Any, Any]:
        pair = step(_rebuilt(state, iter(states)), *row)
        if not isinstance(pair, tuple) or len(pair) != 2:
            raise DTypeError(f"{who}: expected the step to return a pair, the next state and an output, got {shown(pair)}")
        return pair

    result: tuple[S, T] = _loop(who, returned, state, rows, bool(reverse))
    return result


def each(function: Callable[..., T], *rows: Node) -> T:
    """What a function makes of each row of nodes, one below the other.

    Most ops take all rows at once, and need no loop. This is for what is drawn for each row, such as a negative item for each
    position that is drawn until it is ranked too high.

    Parameters
    ----------
    function
        Called once, as the step of :func:`scan`, with nodes that stand for a row of each node. It returns a node of one row, or
        several as a tuple.
    rows
        Nodes of equally many rows.

    Returns
    -------
    node, or a tuple of nodes
        What it returned, with a row for each position.

    Raises
    ------
    ShapeError, DTypeError, OptionError
        As :func:`scan`.

    Examples
    --------
    >>> import wyrm
    >>> items = wyrm.ParameterNode([[1.0], [2.0], [3.0]])
    >>> chosen = wyrm.IndexInputNode(2, [0, 2])
    >>> def margin(item):
    ...     negative = wyrm.SampledIndexNode(3, seed=1)
    ...     return items.index(item) - items.index(negative)
    >>> wyrm.each(margin, chosen).shape
    (2, 1)
    """
    who = f"each({_name(function)})"

    def returned(states: list[Node], row: list[Node]) -> tuple[Any, Any]:
        output = function(*row)
        if output is None:
            raise DTypeError(f"{who}: expected the function to return a node of one row, or several, got None")
        return (), output

    outputs: T = _loop(who, returned, (), rows, False)[1]
    return outputs


def _loop(
    who: str, step: Callable[[list[Node], list[Node]], tuple[Any, Any]], state: Any, rows: Any, reverse: bool
) -> tuple[Any, Any]:
    """The last state and the outputs."""
    sources = _rows(who, rows)
    values = list(_parts(state))
    dtypes = {node.dtype for node in sources if node.dtype != "int64" and not is_open(node)}
    dtype = dtypes.pop() if len(dtypes) == 1 else None
    states = [_as_state(who, part, dtype) for part in values]
    graph, before = current_graph(), next_serial()
    row = [stand_in(node, (1, node.shape[1]), f"the row of {node._label()} in {who}") for node in sources]
    held = [stand_in(node, node.shape, f"state {n} in {who}") for n, node in enumerate(states)]
    pair = step(list(held), list(row))
    if graph.closed:
        raise OptionError(
            f"{who}: the step runs nodes, or asks for their values; it is called once, to record what it computes"
        )
    new, outputs = _next_states(who, state, pair[0], held), _outputs(who, pair[1])
    within, outside = [*row, *held], [*sources, *states]
    for inner, outer in zip(within, outside, strict=True):  # an input that had no dtype has met one in the step
        if inner.dtype != outer.dtype and is_open(outer):
            outer.take_dtype(inner.dtype)  # type: ignore[attr-defined]
    for node, value in zip(states, values, strict=True):
        if node is not value:  # an array, of which all digits are to be kept
            node.set_value(np.asarray(value).reshape(node.shape))  # type: ignore[attr-defined]
    body = Body(graph, within, [*new, *outputs], before)
    count = sources[0].shape[0]
    made: list[list[Node]] = [[] for _ in range(count)]
    for position in reversed(range(count)) if reverse else range(count):
        now = [node[position : position + 1] for node in sources]
        nodes = body.at(dict(zip(within, [*now, *states], strict=True)))
        states = [nodes.get(node, node) for node in new]
        made[position] = [nodes.get(node, node) for node in outputs]
    for inner, outer in zip(row, sources, strict=True):
        body.pass_on(inner, outer, nodes)
    results = [stack(column) if count > 1 else column[0] for column in zip(*made, strict=True)]
    if pair[1] is None:
        return _rebuilt(state, iter(states)), None
    return _rebuilt(state, iter(states)), tuple(results) if isinstance(pair[1], (tuple, list)) else results[0]


def _name(step: Any) -> str:
    return str(getattr(step, "__name__", type(step).__name__))


def _rows(who: str, rows: Any) -> list[Node]:
    """The nodes whose rows are gone over."""
    nodes = [rows] if isinstance(rows, Node) else rows
    if not isinstance(nodes, tuple | list) or not nodes or not all(isinstance(node, Node) for node in nodes):
        raise DTypeError(f"{who}: expected a node with a row for each position, or several as a tuple, got {shown(rows)}")
    if isinstance(rows, list):
        raise DTypeError(
            f"{who}: expected a node with a row for each position, or several as a tuple, got a list; nodes of one row each "
            f"are put together by wyrm.stack"
        )
    counts = {node.shape[0] for node in nodes}
    if len(counts) > 1:
        raise ShapeError(f"{who}: expected nodes of equally many rows, got {', '.join(node._label() for node in nodes)}")
    if counts == {0}:
        raise ShapeError(f"{who}: expected at least one row, got {nodes[0]._label()}")
    return list(nodes)


def _parts(state: Any) -> Iterator[Any]:
    """What a state is made of."""
    if isinstance(state, (tuple, list)):
        for part in state:
            yield from _parts(part)
    else:
        yield state


def _rebuilt(state: Any, parts: Iterator[Node]) -> Any:
    """Nodes put together as a state is."""
    if isinstance(state, (tuple, list)):
        children = [_rebuilt(part, parts) for part in state]
        return type(state)(*children) if hasattr(state, "_fields") else type(state)(children)
    return next(parts)


def _as_state(who: str, part: Any, dtype: str | None) -> Node:
    """A part of the first state, as a node: an array in the rows' dtype, or in that of what it meets."""
    if isinstance(part, Node):
        if part.dtype == "int64":
            raise DTypeError(f"{who}: expected real numbers as state, got {part!r}, which holds row numbers")
        return part
    value = as_reals(part, f"{who}: state")
    if value.ndim > 2:
        raise ShapeError(f"{who}: expected nodes or matrices as state, got an array of shape {value.shape}")
    value = value.reshape(1, -1) if value.ndim < 2 else value
    return InputNode(value.shape, value, name=f"state of {who}", constant=True, dtype=dtype)


def _next_states(who: str, state: Any, new: Any, held: list[Any]) -> list[Node]:
    """The parts of the state that a step has returned, checked against those that it was given."""
    parts = list(_parts(new))
    expected = [node.shape for node in held]
    if not all(isinstance(part, Node) for part in parts):
        raise DTypeError(f"{who}: expected the step to return nodes as state, got {shown(new)}")
    if [part.shape for part in parts] != expected or not _alike(state, new):
        raise ShapeError(
            f"{who}: expected the step to return a state as it was given one, of shapes {expected}, got "
            f"{[part.shape for part in parts]}"
        )
    for part, before in zip(parts, held, strict=True):
        if part.dtype != before.dtype and is_open(before):
            before.take_dtype(part.dtype)
        if part.dtype != before.dtype:
            raise DTypeError(f"{who}: expected a state of {before.dtype}, as the step was given, got {part!r} of {part.dtype}")
    return parts


def _alike(state: Any, new: Any) -> bool:
    """Whether two states are put together in the same way."""
    if isinstance(state, (tuple, list)):
        return isinstance(new, (tuple, list)) and len(new) == len(state) and all(map(_alike, state, new))
    return isinstance(new, Node)


def _outputs(who: str, output: Any) -> list[Node]:
    """What a step has returned as its output."""
    nodes = [] if output is None else [output] if isinstance(output, Node) else output
    if not isinstance(nodes, (tuple, list)) or not all(isinstance(node, Node) for node in nodes):
        raise DTypeError(f"{who}: expected a node of one row as output, several as a tuple, or None; got {shown(output)}")
    for node in nodes:
        if node.dtype == "int64":
            raise DTypeError(f"{who}: expected real numbers as output, got {node!r}, which holds row numbers")
        if node.shape[0] != 1:
            raise ShapeError(f"{who}: expected an output of one row at each position, got {node!r}")
    return list(nodes)
