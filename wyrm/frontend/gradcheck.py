"""Checking gradients by finite differences."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from wyrm.arguments import check_number, shown
from wyrm.errors import DTypeError
from wyrm.frontend.gradients import write_gradient
from wyrm.frontend.node import Node
from wyrm.frontend.parameters import ParameterNode

__all__ = ["finite_difference"]

Array = npt.NDArray[Any]


def finite_difference(input: ParameterNode, output: Node, *, step: float | None = None) -> tuple[Array, Array]:
    """The gradient of the sum of ``output``'s elements, by central differences and by the backward pass.

    Parameters
    ----------
    input
        The parameter to differentiate by; its value and its gathered gradient are as before afterwards.
    output
        A node that depends on it, all of whose inputs are set.
    step
        By how much each element is moved, times the larger of 1 and its size. Without, the cube root of the dtype's
        precision, which balances truncation against rounding (Press et al., Numerical Recipes, 3rd ed., section 5.7). Use
        float64 graphs to compare closely.

    Returns
    -------
    difference, gradient
        Of the parameter's shape.

    Examples
    --------
    >>> import numpy as np, wyrm
    >>> x = wyrm.ParameterNode([[1.0, -2.0]], dtype="float64")
    >>> difference, gradient = wyrm.finite_difference(x, x.square())
    >>> gradient
    array([[ 2., -4.]])
    >>> bool(np.allclose(difference, gradient, atol=1e-8))
    True
    """
    if not isinstance(input, ParameterNode):
        raise DTypeError(f"finite_difference: expected a ParameterNode to differentiate by, got {shown(input)}")
    if not isinstance(output, Node):
        raise DTypeError(f"finite_difference: expected a node to differentiate, got {shown(output)}")
    if step is not None:
        step = check_number(step, "finite_difference: step", above=0)
    with input.storage.on_trial() as value:
        difference = _difference(value, output, step)
    gathered = [(node, node.gradient) for node in output.parameters()]
    output.zero_gradient()
    output.forward()
    output.backward(1.0)
    gradient = input.gradient.to_dense().copy()
    for node, before in gathered:
        write_gradient(node._gradient_buffer(), before)
    return difference, gradient


def _difference(value: Array, output: Node, step: float | None) -> Array:
    """The central differences of the sum of a node by each element of a value."""
    relative = float(np.cbrt(np.finfo(value.dtype).eps)) if step is None else step
    difference = np.zeros(value.shape, np.float64)
    for place in np.ndindex(*value.shape):
        kept = value[place]
        results = []
        for sign in (1, -1):
            value[place] = kept + sign * relative * max(1.0, abs(float(kept)))
            moved = float(value[place])
            output.forward()
            results.append((moved, float(np.sum(output.value, dtype=np.float64))))
        value[place] = kept
        (above, high), (below, low) = results
        difference[place] = (high - low) / (above - below)
    return difference
