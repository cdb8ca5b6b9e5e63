"""One dtype for a graph: an input that was made without a dtype takes that of the first nodes that it meets.

Inputs are made before anybody knows what they will meet, and a model in float64 has inputs in many places. An input whose dtype
was given, and one that was used before in the other dtype, is an error as ever.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from wyrm.frontend.inputs import InputNode

if TYPE_CHECKING:
    from wyrm.frontend.node import Node

__all__ = ["agree", "has_changed", "is_open"]


def agree(operands: tuple[Node, ...]) -> bool:
    """Let inputs of no dtype of their own take that of the other operands; whether any did."""
    others = {node.dtype for node in operands if not is_open(node)} - {"int64"}
    if len(others) != 1:
        return False
    (dtype,) = others
    changing = [node for node in operands if isinstance(node, InputNode) and is_open(node) and node.dtype != dtype]
    for node in changing:
        node.take_dtype(dtype)
    return bool(changing)


def has_changed(label: str) -> str:
    """Why a node has no value that was made of an input before that took another dtype."""
    return (
        f"{label} was made of an input that has another dtype by now, as it met nodes of that dtype later; give inputs their "
        f"`dtype=` when they are made"
    )


def is_open(node: Node) -> bool:
    """Whether a node is an input that may still take another dtype."""
    return isinstance(node, InputNode) and node.is_open
