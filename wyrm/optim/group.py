"""Groups: parameters with options of their own, and what an optimizer keeps for each."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np
import numpy.typing as npt

from wyrm.errors import DTypeError, OptionError
from wyrm.frontend.lowering.updates import GRADIENT_SCALE
from wyrm.frontend.parameters import ParameterNode
from wyrm.memory import aligned
from wyrm.optim.constraints import constrained
from wyrm.optim.schedules import Schedule
from wyrm.program import Rule

__all__ = ["Group", "RunningGroup", "checked_number"]

Array = npt.NDArray[Any]
#: Steps for which a schedule is asked at once.
_BLOCK = 1024


class Group:
    """Parameters with options of their own, to be given to an optimizer in place of parameters.

    Parameters
    ----------
    parameters
        Of the group.
    options
        Those of the optimizer's options that are different for these, such as ``l2=0.0``.

    Examples
    --------
    >>> import numpy as np, wyrm
    >>> from wyrm.optim import SGD, Group
    >>> table, bias = wyrm.ParameterNode(np.ones((9, 4))), wyrm.ParameterNode(0.0)
    >>> SGD(0.1, [Group([table], l2=0.01), Group([bias], learning_rate=0.01)])
    SGD(1 parameters: learning_rate=0.1, l2=0.01; 1 parameters: learning_rate=0.01)
    """

    def __init__(self, parameters: Iterable[ParameterNode], **options: Any) -> None:
        self.parameters = list(parameters)
        self.options = options


class RunningGroup:
    """What an optimizer keeps for a group.

    Attributes
    ----------
    parameters, rule
        What is trained, and the arithmetic.
    scalars
        Those of the rule that are given: a row, which native code reads.
    schedule
        If the learning rate follows the number of steps; ``None`` once a rate has been set by hand.
    given_schedule
        The one that the optimizer was made with.
    """

    def __init__(
        self, parameters: list[ParameterNode], rule: Rule, options: Mapping[str, float], schedule: Schedule | None
    ) -> None:
        self.parameters, self.rule = parameters, rule
        self.schedule = self.given_schedule = schedule
        names = [name for name in rule.scalars if name != GRADIENT_SCALE]
        self.scalars = aligned((1, len(names)), parameters[0].dtype)
        self.scalars[0] = [options[name] for name in names]
        self._given = {name: options[name] for name in names}
        self._place = names.index("learning_rate")
        self._block = 0, np.zeros(0)

    def rule_of(self, node: ParameterNode) -> Rule:
        """The rule with the constraints that the rows of a parameter have."""
        return constrained(self.rule, node.storage)

    @property
    def learning_rate(self) -> float:
        """That of the last step; of the first, before it."""
        return self._given["learning_rate"]

    @property
    def options(self) -> dict[str, float]:
        """The options that are part of the rule, by name, as they were given; the learning rate is that of the last step."""
        return dict(self._given)

    def set_learning_rate(self, rate: float) -> None:
        """From now on, another one."""
        self.schedule = None
        self._set_rate(rate)

    def restore_rate(self, rate: float, scheduled: bool) -> None:
        """Go on with a rate that was set by hand, or with the schedule that was given, whose rate :meth:`set_step` finds."""
        if scheduled:
            self.schedule = self.given_schedule
        else:
            self.set_learning_rate(rate)

    def set_step(self, step: int) -> None:
        """Let the scalars be those of a step."""
        if self.schedule is None:
            return
        first, rates = self._block
        if not first <= step < first + len(rates):
            first, rates = step, self.rates(np.arange(step, step + _BLOCK))
            self._block = first, rates
        self._set_rate(float(rates[step - first]))

    def _set_rate(self, rate: float) -> None:
        """Keep a rate as it was given, and for native code in the parameters' dtype."""
        self._given["learning_rate"] = self.scalars[0, self._place] = rate

    def rates(self, steps: Array) -> Array:
        """The learning rates of steps, by their numbers.

        Raises
        ------
        OptionError
            Where the schedule gives what is none.
        """
        if self.schedule is None:
            return np.full(len(steps), self.learning_rate)
        rates = np.asarray(self.schedule(steps))
        if rates.shape != steps.shape or rates.dtype.kind not in "fiu" or not (np.isfinite(rates) & (rates >= 0)).all():
            raise OptionError(
                f"learning_rate: expected the schedule to give a finite number of at least 0 for each of {len(steps)} steps, "
                f"got {rates!r}"
            )
        return rates.astype(np.float64)

    def rows(self, first: int, to: Array) -> None:
        """Fill an array with the scalars of the steps from ``first`` on, one a row."""
        to[...] = self.scalars
        to[:, self._place] = self.rates(np.arange(first, first + len(to)))


def checked_number(owner: str, name: str, value: Any) -> float:
    """An option that must be a finite number of at least 0."""
    if not isinstance(value, (int, float, np.number)) or isinstance(value, bool):
        raise DTypeError(f"{owner}: expected a number as {name}, got {value!r}")
    if not (np.isfinite(value) and value >= 0):
        raise OptionError(f"{owner}: expected {name} to be finite and at least 0, got {value}")
    return float(value)
