"""Stochastic gradient descent."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

from wyrm.errors import OptionError
from wyrm.optim.group import Given
from wyrm.optim.optimizer import Optimizer, shrunk
from wyrm.optim.schedules import Schedule
from wyrm.program import Rule, State

__all__ = ["SGD"]


class SGD(Optimizer):
    """Stochastic gradient descent: ``w -= learning_rate * (gradient + l2 * w)``.

    With ``momentum``, ``velocity = momentum * velocity + gradient + l2 * w`` takes the gradient's place, as in PyTorch. A
    row that steps did not touch goes on moving by its velocity, at the learning rate of each of these steps: it is caught up
    with when it is next touched.

    Parameters
    ----------
    learning_rate
        A number of at least 0, which may be set between steps, or a function of :mod:`wyrm.optim.schedules`.
    parameters
        What to train; or :class:`Group`s with options of their own.
    momentum
        Below 1.
    l2
        The factor of the penalty ``l2 / 2 * |w|**2``. It is added to the gradient of what a step touches.
    weight_decay
        By how much, times the learning rate, every step shrinks every element, touched or not.
    l1
        The factor of the penalty ``l1 * |w|``, as a proximal step on what a step touches; not with momentum.
    clip_value
        The greatest absolute value of a gradient's element.
    clip_norm
        The greatest norm of the gradients of all the optimizer's parameters together.

    Raises
    ------
    OptionError
        For options outside their range, for no parameters, or one twice.

    Examples
    --------
    >>> import wyrm
    >>> from wyrm.optim import SGD
    >>> slope = wyrm.ParameterNode(1.0)
    >>> loss = slope.square()
    >>> optimizer = SGD(0.25, loss.parameters())
    >>> loss.forward(); loss.backward(1.0); optimizer.step()
    >>> float(slope.value[0, 0])
    0.5
    """

    __slots__ = ()

    name = "sgd"
    optional = frozenset({"momentum", "l1"})
    fractions = frozenset({"momentum"})

    def __init__(
        self,
        learning_rate: float | Schedule,
        parameters: Given,
        *,
        momentum: float = 0.0,
        l2: float = 0.0,
        weight_decay: float = 0.0,
        l1: float = 0.0,
        clip_value: float | None = None,
        clip_norm: float | None = None,
    ) -> None:
        super().__init__(
            learning_rate,
            parameters,
            momentum=momentum,
            l2=l2,
            weight_decay=weight_decay,
            l1=l1,
            clip_value=clip_value,
            clip_norm=clip_norm,
        )

    @classmethod
    def rule(cls, options: frozenset[str]) -> Rule:
        """With momentum, the rule is another, which keeps a velocity."""
        if "momentum" not in options:
            return super().rule(options)
        if "l1" in options:
            raise OptionError("SGD: l1 has a proximal step without momentum alone; leave one of the two out")
        return _Momentum.rule(options)

    @staticmethod
    def update(
        k: Any, value: Any, gradient: Any, state: SimpleNamespace, scalar: SimpleNamespace
    ) -> tuple[Any, dict[str, Any]]:
        """A step down the gradient."""
        value = k.subtract(value, k.multiply(scalar.learning_rate, gradient))
        if hasattr(scalar, "l1"):
            value = shrunk(k, value, k.multiply(scalar.learning_rate, scalar.l1))
        return value, {}


class _Momentum(Optimizer):
    """The rule of SGD with momentum."""

    __slots__ = ()

    name = "momentum"
    states = (State("velocity"),)
    moving = "velocity"

    @staticmethod
    def update(
        k: Any, value: Any, gradient: Any, state: SimpleNamespace, scalar: SimpleNamespace
    ) -> tuple[Any, dict[str, Any]]:
        """A step along the velocity."""
        velocity = k.add(k.multiply(scalar.momentum, state.velocity), gradient)
        return k.subtract(value, k.multiply(scalar.learning_rate, velocity)), {"velocity": velocity}
