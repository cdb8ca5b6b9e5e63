"""Whether what a pass computed is still that of the inputs and parameters as they are set.

Nothing is compared but dates. :data:`TIME` goes on with each forward pass and each change of a parameter, in the whole process;
a workspace keeps the date of its last pass, an input and a parameter's storage that of when they were last set. So an input was
set after a pass if its date is not before that of the pass. A step of an optimizer sets nothing.

Passes that are driven from Python should not look at each input. So :attr:`Graph.fresh` is the workspace that ran last, as long
as no input has been set since: whoever sets one clears it. Dates are looked at if it says nothing.
"""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING

from wyrm.errors import StaleError
from wyrm.frontend.mode import is_evaluating
from wyrm.frontend.op import PARAMETER, RANDOM, Leaf

if TYPE_CHECKING:
    from wyrm.frontend.binding import Workspace
    from wyrm.frontend.node import Node
    from wyrm.frontend.passes import Passes

__all__ = ["TIME", "check_backward", "is_current"]


class _Time:
    """What goes on with passes and changes: floats, which Python adds in less time than ints.

    Attributes
    ----------
    now
        The date.
    change
        That of the last change of a parameter by anything but an optimizer's step.
    """

    __slots__ = ("change", "lock", "now")

    def __init__(self) -> None:
        self.now = self.change = 0.0
        self.lock = threading.Lock()

    def note_change(self) -> float:
        """The date of a parameter's change."""
        with self.lock:
            self.now = self.change = self.now + 1.0
            return self.change


TIME = _Time()


def is_current(node: Passes, workspace: Workspace) -> bool:
    """Whether the last pass of a workspace computed for a node what a pass would compute now, but for steps of optimizers."""
    graph = node._graph
    assert graph is not None
    in_training = graph.random > 0 and is_evaluating() and not workspace.binding.evaluating
    if not in_training and graph.fresh is workspace and workspace.date > TIME.change:
        return True
    for leaf in node._ancestors():
        kind = leaf._structure.op
        if kind is PARAMETER:
            changed = leaf._storage.change > workspace.date  # type: ignore[attr-defined]
        elif kind is RANDOM:
            changed = in_training
        else:
            changed = isinstance(kind, Leaf) and _set_since(leaf, workspace)
        if changed:
            return False
    return workspace.date >= 0


def check_backward(node: Passes, workspace: Workspace) -> None:
    """Raise if the gradient would not be that of the values that are set.

    Other threads may change parameters at any time; so only changes by this thread count.

    Raises
    ------
    StaleError
        Naming what was set after the last forward pass of the node.
    """
    who = threading.get_ident()
    for leaf in node._ancestors():
        kind = leaf._structure.op
        if kind is PARAMETER:
            storage = leaf._storage  # type: ignore[attr-defined]
            changed = storage.change > workspace.date and storage.changed_by == who
        else:
            changed = isinstance(kind, Leaf) and _set_since(leaf, workspace)
        if changed and workspace.date >= 0:
            raise StaleError(
                f"backward of {node._label()}: {leaf._label()} was set after the last forward pass; call forward() of "
                f"{node._label()} before its backward()"
            )
    if workspace.date < 0:
        raise StaleError(f"backward of {node._label()}: the last forward pass failed; call forward() again")


def _set_since(leaf: Node, workspace: Workspace) -> bool:
    """Whether an input was set after the last pass of a workspace."""
    date: float = getattr(leaf, "_date", -1.0)
    return date >= workspace.date >= 0
