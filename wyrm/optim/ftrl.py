"""FTRL-Proximal, the standard for sparse linear models."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

from wyrm.optim.group import Given
from wyrm.optim.optimizer import Optimizer
from wyrm.optim.schedules import Schedule
from wyrm.program import State

__all__ = ["FTRL"]


class FTRL(Optimizer):
    """FTRL-Proximal with a learning rate for each element (McMahan et al., KDD 2013, algorithm 1).

    With ``n`` the sum of squared gradients and ``strength = (beta + sqrt(n)) / learning_rate + l2``, the paper keeps a number
    ``z`` from which each weight follows: 0 where ``|z| <= l1``, and else ``-(z - sign(z) * l1) / strength``. Read the other
    way round, a weight that is not 0 says what its ``z`` is, at any learning rate. So ``z`` is kept only for weights of 0,
    and a step with the gradient ``g`` moves any other weight by ``-g / strength``, to 0 or beyond where it changes its sign.

    With a constant learning rate and weights that begin as zeros, this is the algorithm as published. Beyond it, training goes
    on from whatever weights there are, such as those that ``set_value`` or a checkpoint put there; and a learning rate that
    changes says how far the coming steps go, and moves no weight by itself. Rows that a step does not touch stay as they are.

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

    __slots__ = ()

    name = "ftrl"
    states = (State("z"), State("n"))
    always = frozenset({"learning_rate", "beta", "l1", "l2"})

    def __init__(
        self,
        learning_rate: float | Schedule,
        parameters: Given,
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
        """A step. With a learning rate of 0 nothing changes; a strength of 0 means that no gradient has come yet."""
        zero = k.literal(0.0)
        gradient = k.select(k.greater(scalar.learning_rate, zero), gradient, zero)
        n = k.add(state.n, k.multiply(gradient, gradient))
        strength = k.add(k.divide(k.add(scalar.beta, k.sqrt(n)), scalar.learning_rate), scalar.l2)
        strength = k.select(k.greater(strength, zero), strength, k.literal(1.0))
        stepped = k.subtract(value, k.divide(gradient, strength))
        same_sign = k.greater(k.multiply(stepped, value), zero)
        sign = k.subtract(k.greater(value, zero), k.greater(zero, value))
        implied = k.negate(k.add(k.multiply(value, strength), k.multiply(sign, scalar.l1)))
        z = k.add(k.select(sign, implied, state.z), gradient)
        shrunk = k.subtract(k.minimum(k.maximum(z, k.negate(scalar.l1)), scalar.l1), z)
        new = k.select(same_sign, stepped, k.divide(shrunk, strength))
        return new, {"z": k.select(k.absolute(new), zero, z), "n": n}
