"""What steps from Python call: passes that see by themselves to whether they may begin, and what reads values and sets inputs.

A backend brings them or leaves them to Wyrm. What it brings does what :func:`wyrm.turns.at_once` says, and nothing else.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import product
from threading import Thread, get_ident
from typing import Any

import numpy as np

import wyrm
from wyrm.frontend.binding import Workspace
from wyrm.gradient_use import IN_USE
from wyrm.leaves import Leaves
from wyrm.memory import BagSource, address, aligned
from wyrm.turns import CHANGE, NOT_AT_ONCE, NOW, OPEN, READY, TIME, UNKNOWN, at_once
from wyrm_conformance.check import Context, check

__all__: list[str] = []

#: Elements of a program whose passes take longer than a call, and of one whose passes take no longer.
_LENGTHS = (3, 30_000)
_GRAPHS = Leaves.HEADER.index("graphs")


def _model(dtype: str, length: int) -> tuple[wyrm.ParameterNode, list[Any], Any]:
    """A product of three inputs with a parameter."""
    w = wyrm.ParameterNode(np.ones((1, length)), dtype=dtype)
    x, y = (wyrm.InputNode((1, 1), 2.0, dtype=dtype) for _ in range(2))
    rows = wyrm.InputNode((1, length), np.ones((1, length)), dtype=dtype)
    return w, [x, rows, y], (w * x * rows * y).scalar_sum()


@check(
    "contract/passes at once",
    "core",
    "a pass begins, or a value is read, only where nobody is at work and, but forward, nothing was set since the last pass",
)
def check_passes(context: Context) -> None:
    """All that the words of a graph and the dates may say, compared with what Python does."""
    for dtype, length in product(context.dtypes, _LENGTHS):
        w, inputs, loss = _model(dtype, length)
        loss.forward(backend=context.backend)
        workspace, graph = loss._workspace, loss._graph
        assert isinstance(workspace, Workspace)
        assert graph is not None
        passes = workspace.forward, workspace.backward
        ways = at_once(passes, workspace.memory, graph.leaves, workspace.binding.cells)
        own = workspace.forward_at_once, workspace.backward_at_once, workspace.is_fresh, workspace.value_at_once
        result = workspace._view(workspace.binding.root)
        python = *ways[:3], ways.copying(result)
        words, now = graph.words, TIME[NOW] + 10
        for opened, ready in product((graph.opened, 0), (workspace.name, 0)):
            for date, change, which, cell in product((0, now), (0, now - 1, now), range(3), (0, now - 1, now, UNKNOWN)):
                outcomes = []
                for forward, backward, is_fresh, read in (own, python):
                    w.zero_gradient()
                    TIME[NOW], TIME[CHANGE], workspace.date = now, change, date
                    for n, node in enumerate(inputs):
                        graph.dates[node._number] = cell if n == which else 0
                    words[OPEN], words[READY] = opened, ready
                    value = read()
                    context.require("a value is a copy", value is None or not np.shares_memory(value, result))
                    found = [-1.0 if value is None else float(value[0, 0]), words[OPEN], words[READY]]
                    found += [int(is_fresh()), backward(0.5), float(w._gradient_buffer().touched)]
                    found += [forward(), TIME[NOW] - now, workspace.date - date, words[OPEN], words[READY]]
                    outcomes.append(found)
                context.compare("what passes do that may begin, or not", outcomes[0], outcomes[1], 0)
        words[OPEN], words[READY], TIME[CHANGE] = graph.opened, workspace.name, TIME[NOW]
        for node in inputs:
            node.set_value(np.full(node.shape, 2.0))
        loss.forward()
        w._gradient_buffer().busy[0] = 1
        context.require("a gradient that is in use is left alone", own[1](1.0) == IN_USE)
        w._gradient_buffer().busy[0] = 0
        context.compare("the loss", loss.value, np.array([[8.0 * length]]), 1e-6)


@check("contract/a pass at once that fails", "core", "what a failed pass has left is not taken for that of the inputs")
def check_failure(context: Context) -> None:
    """An index outside of the table, which no setter let in."""
    table, k = wyrm.ParameterNode(np.arange(4.0).reshape(4, 1)), wyrm.IndexInputNode(1, 1)
    node = table.index(k) * 2.0
    node.forward(backend=context.backend)
    graph, workspace = node._graph, node._workspace
    assert graph is not None
    graph.indices[k._number] = 7
    context.require("a pass that fails says so", workspace.forward_at_once() not in (0, NOT_AT_ONCE))
    context.compare("the date of a pass that failed", workspace.date, 0, 0)
    context.require("what it left is stale", not workspace.is_fresh() and workspace.backward_at_once(1.0) == NOT_AT_ONCE)
    graph.indices[k._number] = 2
    context.compare("the next pass", node.value, np.array([[4.0]]), 0)


#: For each kind of input: what it holds that a cell points to, values that it may be set to, and others.
_KINDS: dict[str, tuple[int | None, Sequence[Any], Sequence[Any]]] = {
    "real": (None, (2.5, 3, -0.0, np.float64(1.5), np.float32(0.5), 1e30), (True, "1", None, 10**400, [1.0], np.ones((1, 1)))),
    "index": (5, (0, 4, np.int64(3), np.int32(2)), (-1, 5, 2**63, -(2**63), 2**70, True, 1.0, "1", None, [1])),
    "indices": (
        5,
        ([0, 4, 1], [2, 2, 2]),
        ([1, 2], [1, 2, 3, 4], [], [4, 3, 5], [4, 3, -1], [4, 3, True], [4, 3, 1.0], 4, None),
    ),
    "bag": (
        5,
        ([0, 4], [], [3] * 9, [[1, 2]]),
        ([4, 5], [4, -1], [4, 2**64], [4, True], [4, 1.5], [1] * 11, [[1], [2]], 4, None),
    ),
}


class _Cell:
    """An input of a kind, with cells beside it that belong to others."""

    def __init__(self, context: Context, kind: str) -> None:
        self.leaves, self.word = Leaves(8), aligned(1, np.int64)
        self.held: Any = None
        self.word[0] = get_ident()
        self.leaves.header[OPEN] = address(self.word)
        if kind == "indices":
            self.held = np.zeros(3, np.int64)
            self.leaves.set_array(3, self.held)
        elif kind == "bag":
            bounds = np.zeros(2, np.int64)
            self.held = BagSource(aligned(10, np.int64), bounds[:1], bounds[1:])
            self.leaves.set_bags(3, self.held)
        self.setter: Callable[[Any], bool] | None
        self.setter = context.backend.setter(self.leaves, 3, _KINDS[kind][0], self.held)

    def held_numbers(self, kind: str) -> list[float]:
        """What the input is set to."""
        if isinstance(self.held, BagSource):
            return [float(n) for n in self.held.values[self.held.begins[0] : self.held.ends[0]]]
        if self.held is not None:
            return [float(n) for n in self.held]
        return [float(self.leaves.reals[3] if kind == "real" else self.leaves.indices[3])]

    def everything(self) -> bytes:
        """All that may be written."""
        parts = [] if self.held is None else [self.held]
        if isinstance(self.held, BagSource):
            parts = [self.held.values, self.held.begins, self.held.ends, self.held.header]
        return b"".join([bytes(self.leaves.reals), bytes(self.leaves.dates), *(part.tobytes() for part in parts)])

    def refuses(self, value: Any) -> bool:
        """Whether a value is refused, and nothing changed."""
        before = self.everything()
        assert self.setter is not None
        return not self.setter(value) and self.everything() == before


@check("contract/setters", "core", "what sets an input writes what it was given, dated, and nothing if it may not")
def check_setters(context: Context) -> None:
    """Values of all kinds, by the owner of a graph and by others."""
    for kind, (_, plain, others) in _KINDS.items():
        cell = _Cell(context, kind)
        context.require("a setter, or none", cell.setter is None or callable(cell.setter))
        if cell.setter is None:
            continue
        for value in plain:
            others_before = [*cell.leaves.indices[:3], *cell.leaves.indices[4:], *cell.leaves.dates[:3], *cell.leaves.dates[4:]]
            TIME[NOW] += 1
            if cell.setter(value):
                numbers = value if isinstance(value, list) else [value]
                numbers = numbers[0] if numbers and isinstance(numbers[0], list) else numbers
                context.compare(f"{kind} {value!r}", cell.held_numbers(kind), [float(n) for n in numbers], 0)
                context.compare("its date", cell.leaves.dates[3], TIME[NOW], 0)
            after = [*cell.leaves.indices[:3], *cell.leaves.indices[4:], *cell.leaves.dates[:3], *cell.leaves.dates[4:]]
            context.compare("other cells", after, others_before, 0)
        TIME[NOW] += 1
        for value in others:
            context.require(f"{kind}: {value!r} is left to Wyrm", cell.refuses(value))
        seen: list[bool] = []
        thread = Thread(target=lambda cell, value, seen: seen.append(cell.refuses(value)), args=(cell, plain[0], seen))
        thread.start()
        thread.join()
        context.require("another thread is refused", seen == [True])
        place, cell.leaves.header[OPEN] = cell.leaves.header[OPEN], 0
        context.require("nothing is set while somebody is at work", cell.refuses(plain[0]))
        cell.leaves.header[OPEN], cell.word[0] = place, 0
        context.require("the owner that has ended is nobody", cell.refuses(plain[0]))
        cell.word[0] = get_ident()
        cell.leaves.header[_GRAPHS] += 1
        context.require("cells that are another graph's by now are left alone", cell.refuses(plain[0]))
