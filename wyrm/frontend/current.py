"""Whether what a pass computed is still that of the inputs and parameters as they are set.

Nothing is compared but dates (:mod:`wyrm.turns`): a workspace has the date of its last pass, an input's cell and a parameter's
storage that of when they were last set. A step of an optimizer sets nothing. Passes that are driven from Python look at the
dates of their program's inputs alone; what is behind a node is looked at only if these do not say that all is as it was.
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

__all__ = ["check_backward", "is_current"]


def is_current(node: Passes, workspace: Workspace) -> bool:
    """Whether the last pass of a workspace computed for a node what a pass would compute now, but for steps of optimizers."""
    graph = node._graph
    assert graph is not None
    in_training = graph.random > 0 and is_evaluating() and not workspace.binding.evaluating
    if not in_training and workspace.is_fresh():
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
    return workspace.date > 0


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
        if changed and workspace.date > 0:
            raise StaleError(
                f"backward of {node._label()}: {leaf._label()} was set after the last forward pass; call forward() of "
                f"{node._label()} before its backward()"
            )
    if workspace.date <= 0:
        raise StaleError(f"backward of {node._label()}: the last forward pass failed; call forward() again")


def _set_since(leaf: Node, workspace: Workspace) -> bool:
    """Whether an input was set after the last pass of a workspace."""
    graph = leaf._graph
    assert graph is not None
    return graph.dates[leaf._number] >= workspace.date > 0  # type: ignore[attr-defined]
