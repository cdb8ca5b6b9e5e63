"""Groups: parameters with options of their own, the forms in which they are given, and what an optimizer keeps for each."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from wyrm.arguments import as_float, as_list, called, shown
from wyrm.borrowed import pin
from wyrm.errors import DTypeError, OptionError
from wyrm.frontend.lowering.updates import GRADIENT_SCALE
from wyrm.frontend.node import Node
from wyrm.frontend.parameters import ParameterNode
from wyrm.frontend.storage import HogwildParameter
from wyrm.memory import aligned
from wyrm.nn.module import Module
from wyrm.optim.constraints import constrained
from wyrm.optim.schedules import Schedule
from wyrm.program import Rule

__all__ = ["Given", "Group", "RunningGroup", "as_groups", "check_dtype", "check_parameters", "checked_number", "rates_of"]

Array = npt.NDArray[Any]
#: Steps for which a schedule is asked at once.
_BLOCK = 1024
#: Of how many steps, at most, the rates are taken from such a block.
_FEW = 64
#: In which forms parameters are given.
Trained = ParameterNode | Module | Mapping[str, ParameterNode | Module] | Iterable[ParameterNode | Module]


class Group:
    """Parameters with options of their own, to be given to an optimizer in place of parameters.

    Parameters
    ----------
    parameters
        Of the group: a module of :mod:`wyrm.nn`, a parameter, a mapping from names to these, or several of them.
    options
        Those of the optimizer's options that are different for these, such as ``l2=0.0``.

    Examples
    --------
    >>> import numpy as np, wyrm
    >>> from wyrm.optim import SGD, Group
    >>> table, bias = wyrm.ParameterNode(np.ones((9, 4))), wyrm.ParameterNode(0.0)
    >>> SGD(0.1, [Group(table, l2=0.01), Group(bias, learning_rate=0.01)])
    SGD(1 parameters: learning_rate=0.1, l2=0.01; 1 parameters: learning_rate=0.01)
    """

    def __init__(self, parameters: Trained, **options: Any) -> None:
        named = list(_named(parameters))
        self.parameters = [node for _, node in named]
        #: The parameters' paths in modules, or names in a mapping, by their storage.
        self.paths: dict[HogwildParameter, str] = {
            node.storage: path for path, node in named if path and isinstance(node, ParameterNode)
        }
        self.options = options


#: What an optimizer is given to train.
Given = Trained | Group | Iterable[ParameterNode | Module | Group]


def as_groups(given: Given) -> list[Group]:
    """The groups among what an optimizer is given, after one of all the rest."""
    if isinstance(given, Mapping):
        return [Group(given)]
    alone = isinstance(given, (Node, Module, Group))
    items: list[Any] = [given] if alone else as_list(given, "optimizer", "parameters to train")
    plain = [item for item in items if not isinstance(item, Group)]
    groups = [Group(plain)] if plain or not items else []
    return groups + [item for item in items if isinstance(item, Group)]


def _named(given: Any) -> Iterator[tuple[str, ParameterNode]]:
    """The parameters of a group, those of modules and mappings with their names; what modules share stands there once."""
    if isinstance(given, Module):
        yield from given.named_parameters().items()
    elif isinstance(given, Mapping):
        yield from _of_several((name, item) for name, item in given.items())
    else:
        items = [given] if isinstance(given, Node) else as_list(given, "Group", "parameters to train")
        yield from _of_several(("", item) for item in items)


def _of_several(given: Iterable[tuple[str, Any]]) -> Iterator[tuple[str, ParameterNode]]:
    seen: set[ParameterNode] = set()
    for name, item in given:
        if not isinstance(item, Module):
            yield name, item
            continue
        for path, node in item.named_parameters().items():
            if node not in seen:
                seen.add(node)
                yield (f"{name}.{path}" if name else path), node


class RunningGroup:
    """What an optimizer keeps for a group.

    Attributes
    ----------
    parameters, rule
        What is trained, and the arithmetic.
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
        self._scalars = aligned((1, len(names)), parameters[0].dtype)
        self._pin = pin(self._scalars)
        self._scalars[0] = [options[name] for name in names]
        self._given = {name: options[name] for name in names}
        self._place = names.index("learning_rate")
        self._block = 0, np.zeros(0)

    @property
    def scalars(self) -> Array:
        """Those of the rule that are given, a row; :meth:`set_learning_rate` changes them."""
        return self._scalars

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

    def undo(self) -> Callable[[], None]:
        """What lets the learning rate be as it is now."""
        rate, schedule, block = self.learning_rate, self.schedule, self._block

        def write() -> None:
            self.schedule, self._block = schedule, block
            self._set_rate(rate)

        return write

    def set_step(self, step: int) -> None:
        """Let the scalars be those of a step."""
        if self.schedule is None:
            return
        self._set_rate(float(self._coming(step, 1)[0]))

    def _coming(self, step: int, count: int) -> Array:
        """The rates of a few steps, from a block that is asked for at once."""
        first, rates = self._block
        if not first <= step <= first + len(rates) - count:
            first, rates = self._block = step, self.rates(np.arange(step, step + _BLOCK))
        return rates[step - first : step - first + count]

    def _set_rate(self, rate: float) -> None:
        """Keep a rate as it was given, and for native code in the parameters' dtype."""
        check_dtype("optimizer", "learning_rate", rate, self._scalars.dtype)
        self._given["learning_rate"] = self._scalars[0, self._place] = rate

    def rates(self, steps: Array) -> Array:
        """The learning rates of steps, by their numbers.

        Raises
        ------
        OptionError
            Where the schedule gives what is none.
        """
        if self.schedule is None:
            return np.full(len(steps), self.learning_rate)
        rates = rates_of(self.schedule, steps, "optimizer")
        if rates.shape != steps.shape or rates.dtype.kind not in "fiu" or not (np.isfinite(rates) & (rates >= 0)).all():
            raise OptionError(
                f"learning_rate: expected the schedule to give a finite number of at least 0 for each of {len(steps)} steps, "
                f"got {rates!r}"
            )
        return rates.astype(np.float64)

    def rows(self, first: int, to: Array) -> None:
        """Fill an array with the scalars of the steps from ``first`` on, one a row."""
        to[...] = self._scalars
        few = self.schedule is not None and len(to) <= _FEW
        to[:, self._place] = self._coming(first, len(to)) if few else self.rates(np.arange(first, first + len(to)))


def rates_of(schedule: Schedule, steps: Array, owner: str) -> Array:
    """What a schedule gives for some steps, as an array of whatever kind.

    Raises
    ------
    DTypeError, OptionError
        If it cannot be called with step numbers, or gives nothing of which an array can be made.
    """
    given = called(schedule, steps, f"{owner}: learning_rate", "a schedule to be a function of an array of step numbers")
    try:
        return np.asarray(given)
    except ValueError:
        raise OptionError(
            f"{owner}: learning_rate: expected the schedule to give a number for each step, got {shown(given)}"
        ) from None


def checked_number(owner: str, name: str, value: Any) -> float:
    """An option that must be a finite number of at least 0."""
    if not isinstance(value, (int, float, np.integer, np.floating)) or isinstance(value, bool):
        raise DTypeError(f"{owner}: expected a number as {name}, got {shown(value)}")
    number = as_float(value)
    if not 0 <= number < np.inf:
        raise OptionError(f"{owner}: expected {name} to be finite and at least 0, got {shown(value)}")
    return number


def check_dtype(owner: str, name: str, value: float, dtype: np.dtype[Any]) -> None:
    """Require an option that a dtype holds."""
    if value > float(np.finfo(dtype).max):
        raise OptionError(f"{owner}: {name} is {value}, which is beyond what {dtype} holds")


def check_parameters(owner: str, nodes: Sequence[ParameterNode]) -> None:
    """Require parameters to train, of one dtype, each of them once."""
    if not nodes:
        raise OptionError(f"{owner}: expected parameters to train, got none")
    storages = set()
    for node in nodes:
        if not isinstance(node, ParameterNode):
            raise DTypeError(f"{owner}: expected ParameterNodes, got {node!r}")
        if node in storages or node.storage in storages:
            raise OptionError(f"{owner}: {node!r} stands twice among the parameters")
        storages |= {node, node.storage}
    dtypes = sorted({node.dtype for node in nodes})
    if len(dtypes) > 1:
        raise DTypeError(f"{owner}: parameters of {' and '.join(dtypes)}; use an optimizer for each dtype")
