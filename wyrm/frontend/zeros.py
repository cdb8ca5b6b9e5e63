"""Inputs that begin as zeros, such as the states of recurrent layers: made for each graph, so they cost as little as they can.

They point to zeros that all of them share. One that is set to something else gets an array of its own then, as the zeros
cannot be written.
"""

from __future__ import annotations

from functools import lru_cache
from typing import Any

import numpy.typing as npt

from wyrm.frontend.graph import current_graph
from wyrm.frontend.inputs import InputNode
from wyrm.frontend.op import INPUT
from wyrm.frontend.structure import STORE, input_structure
from wyrm.memory import address, aligned
from wyrm.program import Shape

__all__ = ["zero_input"]


@lru_cache(maxsize=16)
def _shared_zeros(shape: Shape, dtype: str) -> tuple[npt.NDArray[Any], int]:
    """Zeros that any number of inputs are set to, and their address."""
    zeros = aligned(shape, dtype)
    place = address(zeros)
    zeros.flags.writeable = False
    return zeros, place


def zero_input(shape: Shape, dtype: str, name: str) -> InputNode:
    """An :class:`InputNode` that is constant, and zero until it is set to something else; it costs less than others."""
    node = InputNode.__new__(InputNode)
    node.name, node.constant = name, True
    node._graph = graph = current_graph()
    node._array = node._setter = node._asked = None
    node._number = number = graph.new_leaf()
    node._structure = STORE.get((INPUT, number, shape, dtype)) or input_structure(INPUT, number, shape, dtype)
    if shape == (1, 1):
        node._hold(0.0)
    else:
        node._array, place = _shared_zeros(shape, dtype)
        graph.leaves.set_array(number, node._array, place)
    return node
