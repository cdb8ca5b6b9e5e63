"""Which thread uses a graph: two may one after the other, but not at once.

A graph belongs to the thread that made it. As long as no other thread sets an input of it, all that its owner's calls cost is a
look at the graph's words (:mod:`wyrm.turns`), which are clear while a pass, a value that is read or an input that is set may
not be disturbed. Once a second thread has set an input, :attr:`Graph.use` is a :class:`Sharing`, which keeps account of who set
what, and the words stay clear: every call comes here then.

What a thread has set and another one has replaced is *lost* to it: until it sets that again, a pass or a value that it asks for
would be of the other thread's numbers, and is refused. If the other thread has ended, it can only have been its predecessor.
Threads are told apart by objects that go with them, as numbers of threads are given again to others.
"""

from __future__ import annotations

import threading
import weakref
from typing import TYPE_CHECKING

from wyrm.errors import ThreadError
from wyrm.memory import address, aligned
from wyrm.turns import OPEN, READY

if TYPE_CHECKING:
    from wyrm.frontend.graph import Graph
    from wyrm.frontend.input_base import InputBase
    from wyrm.frontend.passes import Passes

__all__ = ["CURRENT", "begin", "begin_setting", "end", "note_set"]

_ADVICE = "Give each thread a graph of its own, over nodes made by ParameterNode.shared(storage) of the same parameters"
#: Who is at work, if a graph does not say.
_SOMEBODY = object()
#: Of all that is kept about sharing.
_lock = threading.Lock()


class _Thread:
    """Stands for a thread, and is gone with it.

    Attributes
    ----------
    word
        Its number, and 0 once it has ended: what a graph keeps of the thread that made it, to see at the least cost whether
        that one is calling.
    address
        Where the word is, for native code.
    reference
        What others hold of it.
    """

    __slots__ = ("__weakref__", "address", "reference", "word")

    def __init__(self) -> None:
        self.word: memoryview[int] = memoryview(aligned(1, "int64").data)
        self.word[0] = threading.get_ident()
        self.address = address(self.word)
        self.reference = weakref.ref(self)

    def __del__(self) -> None:
        self.word[0] = 0


class _Current(threading.local):
    """The current thread.

    Attributes
    ----------
    thread
        What stands for it, as others hold it.
    kept
        The same, which nobody else keeps.
    """

    def __init__(self) -> None:
        self.kept = _Thread()
        self.thread = self.kept.reference


CURRENT = _Current()


class Sharing:
    """Who set which input of a graph that several threads use.

    Attributes
    ----------
    running
        The thread that may not be disturbed now.
    """

    def __init__(self, owner: weakref.ref[_Thread]) -> None:
        self.running: weakref.ref[_Thread] | None = None
        self._owner = owner
        self._setters: dict[int, weakref.ref[_Thread]] = {}
        #: For each thread, the inputs that were set after it had set them: what messages call them, and by whom.
        self._lost: weakref.WeakKeyDictionary[_Thread, dict[int, tuple[str, weakref.ref[_Thread]]]]
        self._lost = weakref.WeakKeyDictionary()

    def set_by(self, thread: weakref.ref[_Thread], leaf: InputBase, before: bool) -> None:
        """Take note of an input that was set, and whether it had been before."""
        number, me = leaf._number, thread()
        assert me is not None
        other = self._setters.get(number, self._owner)()
        self._setters[number] = thread
        self._lost.get(me, {}).pop(number, None)
        if other not in (None, me) and before:
            assert other is not None
            self._lost.setdefault(other, {})[number] = leaf._label(), thread

    def check(self, thread: weakref.ref[_Thread], node: Passes | str) -> None:
        """Raise if a thread asks for something that depends on what others have set in its place."""
        me = thread()
        assert me is not None
        for label, other in self._lost.get(me, {}).values():
            if other() is not None:
                what = f"another one has set {label} since this one did"
                who = node if isinstance(node, str) else node._label()
                raise ThreadError(f"{who}: two threads use its graph at once: {what}. {_ADVICE}")


def begin(graph: Graph, node: Passes | str) -> int:
    """Let nobody disturb a graph until :func:`end`, for a pass or a value of a node, which messages name.

    Returns which pass could have begun at once.

    Raises
    ------
    ThreadError
        If another thread uses the graph.
    """
    with _lock:
        ready = _take(graph, CURRENT.thread, node)
        if isinstance(graph.use, Sharing):
            graph.use.check(CURRENT.thread, node)
            graph.use.running = CURRENT.thread
        return ready


def begin_setting(leaf: InputBase) -> int:
    """The same for an input that is about to be set.

    Raises
    ------
    ThreadError
        If another thread uses the graph.
    """
    graph = leaf._graph
    assert graph is not None
    thread = CURRENT.thread
    with _lock:
        ready = _take(graph, thread, leaf)
        if not isinstance(graph.use, Sharing) and graph.owner is not thread:
            graph.use = Sharing(graph.owner)
        if isinstance(graph.use, Sharing):
            graph.use.running = thread
        return ready


def note_set(leaf: InputBase, before: bool) -> None:
    """Take note of an input that was set, and whether it had been before."""
    graph = leaf._graph
    if graph is not None and isinstance(graph.use, Sharing):
        graph.use.set_by(CURRENT.thread, leaf, before)


def _take(graph: Graph, thread: weakref.ref[_Thread], node: Passes | str) -> int:
    """Clear a graph's words, and have its use say who is at work, unless another thread is; returns what was ready."""
    words, use = graph.words, graph.use
    opened, ready = words[OPEN], words[READY]
    words[OPEN] = words[READY] = 0
    if opened:
        graph.use = thread  # nothing has been called since its words were looked at: nobody else begins meanwhile
    elif (use.running if isinstance(use, Sharing) else use or _SOMEBODY) not in (None, thread):
        label = node if isinstance(node, str) else node._label()
        raise ThreadError(f"{label}: two threads use its graph at once: another one is at work in it. {_ADVICE}")
    return ready


def end(graph: Graph, ready: int) -> None:
    """Let others use a graph again; ``ready`` names the workspace whose pass may begin at once, if the graph is plain."""
    if isinstance(graph.use, Sharing):
        graph.use.running = None
    else:
        graph.use = None
        graph.words[OPEN], graph.words[READY] = graph.opened, ready if graph.plain else 0
