"""Which thread uses a graph: two may one after the other, but not at once.

A graph belongs to the thread that made it. As long as no other thread sets an input of it, all that its owner's calls cost is a
look at :attr:`Graph.ready`, which is ``None`` while a pass, a value that is read or an input that is set may not be disturbed;
and for inputs, a look at who calls. Once a second thread has set an input, :attr:`Graph.use` is a :class:`Sharing`, which keeps
account of who set what, and ``ready`` stays ``None``: every call comes here then.

What a thread has set and another one has replaced is *lost* to it: until it sets that again, a pass or a value that it asks for
would be of the other thread's numbers, and is refused. If the other thread has ended, it can only have been its predecessor.
Threads are told apart by objects that go with them, as numbers of threads are given again to others.
"""

from __future__ import annotations

import threading
import weakref
from typing import TYPE_CHECKING, Any

from wyrm.errors import ThreadError

if TYPE_CHECKING:
    from wyrm.frontend.graph import Graph
    from wyrm.frontend.input_base import InputBase
    from wyrm.frontend.passes import Passes

__all__ = ["CURRENT", "IDLE", "begin", "begin_setting", "end", "note_set"]

_ADVICE = "Give each thread a graph of its own, over nodes made by ParameterNode.shared(storage) of the same parameters"
#: Of all that is kept about sharing.
_lock = threading.Lock()


class _Thread:
    """Stands for a thread, which holds its lock, and is gone with it."""

    __slots__ = ("__weakref__", "lock")

    def __init__(self) -> None:
        self.lock: Any = threading.RLock()
        self.lock.acquire()

    def __del__(self) -> None:
        try:  # noqa: SIM105 - modules may be gone
            self.lock.release()
        except RuntimeError:  # on another thread, as the interpreter ends
            pass


class _Current(threading.local):
    """The current thread.

    Attributes
    ----------
    thread
        What stands for it, held weakly by all others.
    lock
        What a graph keeps of the thread that made it, to see at the least cost whether that one is calling: it holds this.
    """

    def __init__(self) -> None:
        self._kept = _Thread()
        self.thread = weakref.ref(self._kept)
        self.lock: Any = self._kept.lock


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


#: Says that nobody is at work in a graph, and that no pass may begin at once.
IDLE: Any = "idle"


def begin(graph: Graph, node: Passes | str) -> Any:
    """Let nobody disturb a graph until :func:`end`, for a pass or a value of a node, which messages name.

    Returns what :attr:`Graph.ready` was.

    Raises
    ------
    ThreadError
        If another thread uses the graph.
    """
    thread = CURRENT.thread
    with _lock:
        _refuse_if_busy(graph, thread, node)
        ready, graph.ready = graph.ready, None
        if isinstance(graph.use, Sharing):
            graph.use.check(thread, node)
            graph.use.running = thread
        else:
            graph.use = thread
        return ready or IDLE


def begin_setting(leaf: InputBase) -> Any:
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
        _refuse_if_busy(graph, thread, leaf)
        ready, graph.ready = graph.ready, None
        if not isinstance(graph.use, Sharing) and not graph.lock._is_owned():
            graph.use = Sharing(graph.owner)
        if isinstance(graph.use, Sharing):
            graph.use.running = thread
        else:
            graph.use = thread
        return ready or IDLE


def note_set(leaf: InputBase, before: bool) -> None:
    """Take note of an input that was set, and whether it had been before."""
    graph = leaf._graph
    if graph is not None and isinstance(graph.use, Sharing):
        graph.use.set_by(CURRENT.thread, leaf, before)


def _refuse_if_busy(graph: Graph, thread: weakref.ref[_Thread], node: Passes | str) -> None:
    use = graph.use.running if isinstance(graph.use, Sharing) else graph.use
    busy = graph.ready is None and not isinstance(graph.use, Sharing)
    if (use is not None or busy) and use is not thread:  # its own is left where it was interrupted
        label = node if isinstance(node, str) else node._label()
        raise ThreadError(f"{label}: two threads use its graph at once: another one is at work in it. {_ADVICE}")


def end(graph: Graph, ready: Any) -> None:
    """Let others use a graph again; ``ready`` is the workspace whose pass may begin at once, if the graph is plain."""
    if isinstance(graph.use, Sharing):
        graph.use.running = None
    else:
        graph.use = None
        graph.ready = ready if graph.plain else IDLE
