"""Whether what a pass computed is still that of the inputs and parameters as they are set.

Nothing is compared. A graph counts its passes: a workspace notes the number of its last pass, and an input that is set notes
the number of the graph's last pass. So an input was set after a pass if its number is not below that of the pass. Graphs whose
leaves another one takes over take that one's number over with each of its passes. Changes of parameters are counted likewise,
for the whole process: those by ``set_value``, a load or :func:`wyrm.fit`. A step of an optimizer is no such change.
"""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING

from wyrm.errors import StaleError
from wyrm.frontend.mode import is_evaluating
from wyrm.frontend.op import PARAMETER, RANDOM, Leaf
from wyrm.frontend.storage import CHANGES

if TYPE_CHECKING:
    from wyrm.frontend.binding import Workspace
    from wyrm.frontend.node import Node

__all__ = ["check_backward", "is_current"]


def _untouched(node: Node, workspace: Workspace) -> bool:
    """Whether no input of its graph and no parameter at all was set since: found out at once."""
    graph = node._graph
    assert graph is not None
    return graph.set_after < workspace.era and workspace.changes == CHANGES.count and not graph.imports


def is_current(node: Node, workspace: Workspace) -> bool:
    """Whether the last pass of a workspace computed for a node what a pass would compute now, but for steps of optimizers."""
    graph = node._graph
    assert graph is not None
    in_training = graph.random > 0 and is_evaluating() and not workspace.binding.evaluating
    if not in_training and _untouched(node, workspace):
        return True
    for leaf in node._ancestors():
        kind = leaf._structure.op
        if kind is PARAMETER:
            changed = leaf._storage.change > workspace.changes  # type: ignore[attr-defined]
        elif kind is RANDOM:
            changed = in_training
        else:
            changed = isinstance(kind, Leaf) and _set_since(leaf, workspace)
        if changed:
            return False
    return workspace.era >= 0


def check_backward(node: Node, workspace: Workspace) -> None:
    """Raise if the gradient would not be that of the values that are set.

    Other threads may change parameters at any time; so only changes by this thread count.

    Raises
    ------
    StaleError
        Naming what was set after the last forward pass of the node.
    """
    if _untouched(node, workspace):
        return
    who = threading.get_ident()
    for leaf in node._ancestors():
        kind = leaf._structure.op
        if kind is PARAMETER:
            storage = leaf._storage  # type: ignore[attr-defined]
            changed = storage.change > workspace.changes and storage.changed_by == who
        else:
            changed = isinstance(kind, Leaf) and _set_since(leaf, workspace)
        if changed:
            raise StaleError(
                f"backward of {node._label()}: {leaf._label()} was set after the last forward pass; call forward() of "
                f"{node._label()} before its backward()"
            )
    if workspace.era < 0:
        raise StaleError(f"backward of {node._label()}: the last forward pass failed; call forward() again")


def _set_since(leaf: Node, workspace: Workspace) -> bool:
    """Whether an input was set after the last pass of a workspace."""
    after: int = getattr(leaf, "_set_after", -1)
    return after >= workspace.era >= 0
