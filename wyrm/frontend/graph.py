"""Graphs: what the leaves of one growing graph are set to, and the workspaces in which it has been run.

Every thread has a current graph, to which new inputs are added and which gives them their numbers. Running any node of it
closes it: the next input begins a new graph, numbered from 0 again, so that a graph rebuilt for each example has the same
structures each time. Where nodes of several graphs meet, one graph takes the others' leaves over, under numbers of its own.
"""

from __future__ import annotations

import threading
import weakref
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, NamedTuple

from wyrm.frontend.mode import set_traced_by
from wyrm.frontend.structure import Structure, renumbered
from wyrm.frontend.threads import CURRENT, begin, end
from wyrm.leaves import Leaves
from wyrm.turns import OPEN, READY, UNKNOWN

if TYPE_CHECKING:
    from wyrm.frontend.binding import Workspace

__all__ = ["Graph", "TracedGraph", "current_graph", "no_value"]

#: How many inputs a graph has room for at first.
_CAPACITY = 64
#: Leaves of graphs that are gone, to be used again.
_FREE_LEAVES: list[Leaves] = []


class _Local(threading.local):
    """What finds a thread's current graph, which lives as long as its nodes do."""

    graph: Callable[[], Graph | None] = staticmethod(lambda: None)


_local = _Local()


def current_graph() -> Graph:
    """The graph to which this thread's next input belongs."""
    graph = _local.graph()
    if graph is None or graph.closed:
        graph = Graph()
        _local.graph = weakref.ref(graph)
    return graph


class TracedGraph:
    """A block with a new graph, to which this thread's inputs belong, and which is never run; ``who`` traces a function."""

    def __init__(self, who: str) -> None:
        self._graph = Graph()
        self._graph.traced = who

    def __enter__(self) -> Graph:
        graph = self._graph
        self._before = _local.graph, set_traced_by(graph.traced)
        _local.graph = weakref.ref(graph)
        return graph

    def __exit__(self, *error: object) -> None:
        self._graph.closed = True
        _local.graph, who = self._before
        set_traced_by(who)


def no_value(label: str, who: str) -> str:
    """Why a node of a graph that ``who`` traces has no value."""
    return (
        f"{label} has no value, and can be run neither forward nor backward: {who}, which is called once for each structure of "
        f"the data, not for each example, and values differ from example to example. Compute with nodes instead: wyrm.where, "
        f"maximum and the like"
    )


class Graph:
    """The leaves and workspaces of one graph.

    Attributes
    ----------
    reals, indices, dates
        The cells of the leaves, as float64 and as int64, and when they were last set.
    words
        Which pass may begin at once, and whether inputs may be set at once; see :mod:`wyrm.turns`.
    owner, word, opened
        The thread to which it belongs, that one's word, and where this is: what ``words`` say while nobody is at work.
    use
        Who is at work in it, if more than a look at ``words`` is needed; see :mod:`wyrm.frontend.threads`.
    unset
        The numbers of inputs that have been given no value yet.
    closed
        Whether a node of it has been run.
    plain
        Whether a pass may begin at once: no leaves were taken over, and nothing in it is random.
    random
        One more than the highest stream of its keys of random numbers; 0 if there are none.
    streams
        The streams of those that are its own leaves, by number.
    workspaces
        Those that it holds until it is gone.
    imports
        For each other graph whose own leaves were taken over, their numbers there and here.
    traced
        Where a function was called for its graph alone, who did so: its nodes never have values.
    """

    use: Any

    __slots__ = (
        "__weakref__",
        "_brought",
        "_origins",
        "_passes",
        "closed",
        "dates",
        "imports",
        "indices",
        "leaves",
        "opened",
        "owner",
        "plain",
        "random",
        "reals",
        "streams",
        "traced",
        "unset",
        "use",
        "word",
        "words",
        "workspaces",
    )

    def __init__(self) -> None:
        self._use(_FREE_LEAVES.pop() if _FREE_LEAVES else Leaves(_CAPACITY))
        self.closed = False
        thread = CURRENT.kept
        self.owner, self.word, self.use = thread.reference, thread.word, None
        self.opened = self.words[OPEN] = thread.address
        self.traced = ""
        self.plain = True
        self.random = 0
        self.streams: dict[int, int] = {}
        self.unset: set[int] = set()
        self.workspaces: list[Workspace] = []
        self._passes: list[_Pass] = []
        self.imports: dict[Graph, dict[int, int]] = {}
        #: Of each leaf that was taken over, the graph whose own it is, and its number there.
        self._origins: dict[int, tuple[Graph, int]] = {}
        self._brought: dict[Graph, dict[Structure, Structure]] = {}

    def __del__(self) -> None:
        if not hasattr(self, "_brought"):  # there was no memory to make it
            return
        for workspace in self.workspaces:
            workspace.release()
        for here in self._origins:
            self.dates[here] = 0  # others may know it
        self.leaves.forget()
        if self.leaves.capacity == _CAPACITY and len(_FREE_LEAVES) < 64:
            _FREE_LEAVES.append(self.leaves)

    def _use(self, leaves: Leaves) -> None:
        self.leaves = leaves
        self.words, self.reals, self.indices, self.dates = leaves.header, leaves.reals, leaves.indices, leaves.dates

    def new_leaf(self) -> int:
        """The number of a new leaf."""
        leaves = self.leaves
        number = leaves.count
        if number == leaves.capacity:
            leaves = self._grow()
        leaves.count = number + 1
        return number

    def round_numbers(self) -> None:
        """Number further leaves from the next power of two on.

        What is made of them has the same structures then in graphs of nearly as many inputs, such as those of sequences of
        another length.
        """
        self.leaves.count = 1 << max(0, self.leaves.count - 1).bit_length()

    def _grow(self) -> Leaves:
        """Twice as much room for leaves; a ThreadError if another thread uses the graph."""
        ready = begin(self, "a graph that grows")
        old = self.leaves
        new = Leaves(2 * old.capacity)
        new.indices[: old.capacity] = old.indices
        new.dates[: old.capacity] = old.dates
        new.arrays = old.arrays
        self._use(new)
        for workspace in self.workspaces:
            workspace.attach(new)
        end(self, ready)
        return new

    # -- leaves of other graphs

    def bring(self, structure: Structure, graph: Graph) -> Structure:
        """A structure of another graph as seen from this one: its leaves under numbers of this graph."""
        if graph is self:
            return structure
        self.prepare_passes()
        return renumbered(structure, _Numbers(graph, self._taken_over), self._brought.setdefault(graph, {}))

    def _taken_over(self, graph: Graph, number: int) -> int:
        """The number here of a graph's own leaf; that of another graph becomes a leaf of this one, too, if it is none yet."""
        if graph is self:
            return number
        numbers = self.imports.setdefault(graph, {})
        if number not in numbers:
            numbers[number] = here = self.new_leaf()
            self.dates[here] = UNKNOWN
            self._origins[here] = graph, number
            self.random = max(self.random, 1 + graph.streams.get(number, -1))
        return numbers[number]

    def _known(self, graph: Graph, number: int) -> int:
        """The number here of a graph's own leaf; ``KeyError`` if it was not taken over."""
        return number if graph is self else self.imports.get(graph, {})[number]

    def refresh(self) -> None:
        """Copy the values of leaves that belong to other graphs."""
        for graph, numbers in self.imports.items():
            for there, here in numbers.items():
                array = graph.leaves.arrays.get(there)
                self.leaves.indices[here] = graph.leaves.indices[there]
                if array is not None:
                    self.leaves.arrays[here] = array
                self.unset.discard(here)
                if there in graph.unset:
                    self.unset.add(here)

    # -- passes

    def prepare_passes(self) -> None:
        """From now on, see to what is random and to other graphs' leaves before each pass.

        Raises
        ------
        ThreadError
            If another thread uses the graph.
        """
        begin(self, "a graph that grows")
        self.plain = False
        end(self, 0)

    def note_pass(self, workspace: Workspace) -> None:
        """Remember that a workspace of this graph ran last, here and in the graphs whose leaves it holds."""
        owner, ran = weakref.ref(self), weakref.ref(workspace)
        last = _Pass(owner, ran)
        self._note(workspace, last)
        if self._brought:
            for graph in {**self._brought, **self.imports}:
                graph._note(workspace, last)
                graph.words[READY] = 0  # its next pass is noted again

    def _note(self, workspace: Workspace, latest: _Pass) -> None:
        others = self._passes
        if others:
            others = [p for p in others if p.owner() is not None and p.workspace() not in (None, workspace)]
        self._passes = [latest, *others]

    def last_pass(self, structure: Structure) -> tuple[Workspace, Structure] | None:
        """The workspace of the last pass that held a structure of this graph, and the structure as that pass knows it."""
        for last in self._passes:
            workspace, owner = last.workspace(), last.owner()
            if owner is None or workspace is None:
                continue
            try:
                seen = structure if owner is self else renumbered(structure, _Numbers(self, owner._known), {})
            except KeyError:  # it has a leaf that the pass's graph did not take over
                continue
            if seen in workspace.binding.numbers:
                return workspace, seen
        return None


class _Pass(NamedTuple):
    """A pass over nodes of a graph: the graph that ran it, which may have taken over the leaves of another, and where."""

    owner: weakref.ref[Graph]
    workspace: weakref.ref[Workspace]


class _Numbers(dict[int, int]):
    """The numbers that the leaves of a graph have in another, which says what they are of each graph's own leaves.

    A leaf that the graph has taken over itself is told by the graph whose own it is: so it has one number in the other
    graph, by whatever way it comes there, and its own number if it comes home.
    """

    def __init__(self, graph: Graph, number_of: Callable[[Graph, int], int]) -> None:
        self._graph, self._number_of = graph, number_of

    def __missing__(self, number: int) -> int:
        origin, own = self._graph._origins.get(number, (self._graph, number))
        self[number] = result = self._number_of(origin, own)
        return result
