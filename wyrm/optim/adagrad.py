"""Adagrad, with an accumulator for each element or for each row."""

from __future__ import annotations

from collections.abc import Mapping
from types import SimpleNamespace
from typing import Any, ClassVar

from wyrm.optim.group import Given
from wyrm.optim.optimizer import Optimizer, Result, shrunk
from wyrm.optim.schedules import Schedule
from wyrm.program import State

__all__ = ["Adagrad", "RowwiseAdagrad"]


class Adagrad(Optimizer):
    """Adagrad: ``sum += g * g; w -= learning_rate * g / (sqrt(sum) + eps)`` (Duchi, Hazan and Singer, JMLR 2011).

    Rows that a step does not touch stay as they are, ``weight_decay`` aside.

    Parameters
    ----------
    learning_rate, parameters, l2, weight_decay, clip_value, clip_norm
        As for :class:`wyrm.optim.SGD`.
    eps
        Keeps the quotient finite; above 0, unless ``initial_accumulator_value`` is.
    initial_accumulator_value
        What each sum begins with. The larger, the closer to a constant learning rate the first steps are; without, the very
        first goes as far as the learning rate, however small the gradient.
    l1
        The factor of the penalty ``l1 * |w|``, as a proximal step with each element's own learning rate. An element whose sum
        is 0 has no learning rate yet, and is left alone.

    Examples
    --------
    >>> import wyrm
    >>> weight = wyrm.ParameterNode(1.0)
    >>> loss = weight.square()
    >>> optimizer = wyrm.optim.Adagrad(0.5, loss.parameters())
    >>> loss.forward(); loss.backward(1.0); optimizer.step()
    >>> float(weight.value[0, 0])  # the first step goes as far as the learning rate
    0.5
    """

    __slots__ = ()

    name = "adagrad"
    states = (State("sum"),)
    always = frozenset({"learning_rate", "eps"})
    optional = frozenset({"l1"})
    divisors: ClassVar[Mapping[str, tuple[str, ...]]] = {"eps": ("initial_accumulator_value",)}
    beginnings: ClassVar[Mapping[str, str]] = {"initial_accumulator_value": "sum"}

    def __init__(
        self,
        learning_rate: float | Schedule,
        parameters: Given,
        *,
        eps: float = 1e-10,
        initial_accumulator_value: float = 0.0,
        l2: float = 0.0,
        weight_decay: float = 0.0,
        l1: float = 0.0,
        clip_value: float | None = None,
        clip_norm: float | None = None,
    ) -> None:
        super().__init__(
            learning_rate,
            parameters,
            eps=eps,
            initial_accumulator_value=initial_accumulator_value,
            l2=l2,
            weight_decay=weight_decay,
            l1=l1,
            clip_value=clip_value,
            clip_norm=clip_norm,
        )

    @staticmethod
    def update(
        k: Any, value: Any, gradient: Any, state: SimpleNamespace, scalar: SimpleNamespace
    ) -> tuple[Any, dict[str, Any]]:
        """A step with a learning rate for each element."""
        return _stepped(k, value, gradient, k.add(state.sum, k.multiply(gradient, gradient)), scalar)


class RowwiseAdagrad(Adagrad):
    """Adagrad with one accumulator a row, the sum of the mean squares of the row's gradients: for large tables.

    What is said of :class:`Adagrad` holds here.

    Examples
    --------
    >>> import numpy as np, wyrm
    >>> table = wyrm.ParameterNode(np.zeros((1000, 64)))
    >>> optimizer = wyrm.optim.RowwiseAdagrad(0.1, [table])
    >>> optimizer.state_dict()["0.rowwise-adagrad.sum"].shape
    (1000, 1)
    """

    __slots__ = ()

    name = "rowwise-adagrad"
    states = (State("sum", per="row"),)

    @staticmethod
    def update(
        k: Any, value: Any, gradient: Any, state: SimpleNamespace, scalar: SimpleNamespace
    ) -> tuple[Any, dict[str, Any]]:
        """A step with a learning rate for each row."""
        return _stepped(k, value, gradient, k.add(state.sum, k.row_mean(k.multiply(gradient, gradient))), scalar)


def _stepped(k: Any, value: Any, gradient: Any, total: Any, scalar: SimpleNamespace) -> Result:
    rate = k.divide(scalar.learning_rate, k.add(k.sqrt(total), scalar.eps))
    value = k.subtract(value, k.multiply(rate, gradient))
    if hasattr(scalar, "l1"):
        begun = k.greater(total, k.literal(0.0))
        value = shrunk(k, value, k.select(begun, k.multiply(rate, scalar.l1), k.literal(0.0)))
    return value, {"sum": total}
