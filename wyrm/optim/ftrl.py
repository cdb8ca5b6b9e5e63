"""FTRL-Proximal, the standard for sparse linear models."""

from __future__ import annotations

from collections.abc import Iterable
from types import SimpleNamespace
from typing import Any

from wyrm.frontend.parameters import ParameterNode
from wyrm.optim.group import Group
from wyrm.optim.optimizer import Optimizer
from wyrm.optim.schedules import Schedule
from wyrm.program import State

__all__ = ["FTRL"]


class FTRL(Optimizer):
    """FTRL-Proximal with a learning rate for each element (McMahan et al., KDD 2013, algorithm 1).

    With ``n`` the sum of squared gradients and ``z`` the sum of gradients less what the values have moved, an element is 0
    where ``|z| <= l1``, and else ``-(z - sign(z) * l1) / ((beta + sqrt(n)) / learning_rate + l2)``. So values are found anew
    at each step: what a parameter is at first does not matter once it is touched; begin with zeros. Rows that a step does
    not touch stay as they are.

    Parameters
    ----------
    learning_rate
        The paper's alpha; as for :class:`wyrm.optim.SGD`.
    parameters
        What to train; or :class:`Group`s with options of their own.
    beta, l1, l2
        As in the paper; with ``l1``, values become 0 exactly.
    clip_value, clip_norm
        As for :class:`wyrm.optim.SGD`.

    Examples
    --------
    >>> import numpy as np, wyrm
    >>> weights = wyrm.ParameterNode(np.zeros((1, 2)))
    >>> loss = (weights * np.array([[0.1, 3.0]])).scalar_sum()
    >>> optimizer = wyrm.optim.FTRL(1.0, loss.parameters(), l1=1.0)
    >>> loss.forward(); loss.backward(1.0); optimizer.step()
    >>> weights.value
    array([[ 0. , -0.5]], dtype=float32)
    """

    name = "ftrl"
    states = (State("z"), State("n"))
    always = frozenset({"learning_rate", "beta", "l1", "l2"})

    def __init__(
        self,
        learning_rate: float | Schedule,
        parameters: Iterable[ParameterNode | Group],
        *,
        beta: float = 1.0,
        l1: float = 0.0,
        l2: float = 0.0,
        clip_value: float | None = None,
        clip_norm: float | None = None,
    ) -> None:
        super().__init__(learning_rate, parameters, beta=beta, l1=l1, l2=l2, clip_value=clip_value, clip_norm=clip_norm)

    @staticmethod
    def update(
        k: Any, value: Any, gradient: Any, state: SimpleNamespace, scalar: SimpleNamespace
    ) -> tuple[Any, dict[str, Any]]:
        """Lines 8 to 11 and 5 of the algorithm, in this order."""
        zero = k.literal(0.0)
        n = k.add(state.n, k.multiply(gradient, gradient))
        sigma = k.divide(k.subtract(k.sqrt(n), k.sqrt(state.n)), scalar.learning_rate)
        z = k.add(state.z, k.subtract(gradient, k.multiply(sigma, value)))
        beyond = k.subtract(z, k.minimum(k.maximum(z, k.negate(scalar.l1)), scalar.l1))
        strength = k.add(k.divide(k.add(scalar.beta, k.sqrt(n)), scalar.learning_rate), scalar.l2)
        new = k.select(k.greater(k.absolute(z), scalar.l1), k.negate(k.divide(beyond, strength)), zero)
        moves = k.greater(scalar.learning_rate, zero)  # the formulas divide by it; a step of 0 changes nothing
        return k.select(moves, new, value), {"z": k.select(moves, z, state.z), "n": k.select(moves, n, state.n)}
