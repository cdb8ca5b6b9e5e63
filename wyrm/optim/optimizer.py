"""What all optimizers have in common: groups of parameters, options, and the step, one native call."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import replace
from functools import lru_cache
from types import SimpleNamespace
from typing import Any, ClassVar

import numpy as np
import numpy.typing as npt

from wyrm.arguments import shown
from wyrm.errors import DTypeError, OptionError, ThreadError
from wyrm.frontend.lowering.updates import GRADIENT_SCALE
from wyrm.frontend.node import Node
from wyrm.frontend.parameters import ParameterNode
from wyrm.frontend.recent import Recent
from wyrm.frontend.threads import CURRENT
from wyrm.nn.module import Module
from wyrm.optim.group import Given, Group, RunningGroup, as_groups, check_dtype, check_parameters, checked_number, rates_of
from wyrm.optim.refusal import refusal
from wyrm.optim.rules import Update, trace_rule
from wyrm.optim.schedules import Schedule
from wyrm.optim.state import checked_state, put_back, state_of, undo_of
from wyrm.optim.step import bind_step
from wyrm.program import CatchUp, Rule, State
from wyrm.whole import undone

__all__ = ["Optimizer", "Result", "shrunk"]

Array = npt.NDArray[Any]
#: Options that every optimizer has, and the base class sees to.
_COMMON = frozenset({"l2", "weight_decay", "clip_value", "clip_norm"})
#: How many sessions of :func:`wyrm.fit` stay ready.
_MOST_SESSIONS = 4
#: Options whose absence is ``None``, not 0.
_UNBOUNDED = frozenset({"clip_norm", "clip_value"})
#: The new value and the new states by name.
Result = tuple[Any, dict[str, Any]]


class Optimizer:
    """The base of the optimizers. A subclass says what it keeps and what a step does to one row; see :meth:`update`.

    A step prepares the gradient first: it is scaled so that the norm over all the optimizer's parameters is at most
    ``clip_norm``, its elements are kept within ``clip_value``, and ``l2`` times the value is added. ``weight_decay`` shrinks
    the value by ``1 - learning_rate * weight_decay`` beside that, at every step (Loshchilov and Hutter, ICLR 2019).

    Of a parameter whose gradient is row-sparse, the rows that a step touches are updated; the others, and parameters without
    gradient, keep their bits. Where a rule does something to these as well (``weight_decay``, ``momentum``), they are caught
    up with when they are next touched, read, evaluated or saved: the result is the dense algorithm's.

    Parameters
    ----------
    parameters
        What to train: a module of :mod:`wyrm.nn`, a parameter, a :class:`Group`, a mapping from names to parameters, or several
        of these. At least one parameter, none twice, all of one dtype. If it is a module, or a mapping, checkpoints call the
        parameters by their paths in it.
    options
        The options by name, as float64 has them: ``2**53 + 1`` is ``2**53``. Those that are ``None`` or 0 have no effect, and
        no cost. They are part of the rule, and stay as they are; the learning rate alone can be set.

    Raises
    ------
    OptionError
        Where there are no parameters, one stands twice, or an option is unknown or outside its range.
    DTypeError
        Where something is no parameter or no number, or dtypes differ.
    """

    #: Without a ``__dict__``, it is an error to set what would change nothing, such as an option.
    __slots__ = (
        *("__weakref__", "_clip_norm", "_groups", "_kept", "_native", "_options", "_runs", "_scheduled", "_steps"),
        *("paths", "sessions"),
    )

    #: Under which parameters keep the state.
    name: ClassVar[str]
    #: What is kept for each parameter.
    states: ClassVar[tuple[State, ...]] = ()
    #: Options that are part of the rule even where they are 0.
    always: ClassVar[frozenset[str]] = frozenset({"learning_rate"})
    #: Options of its own that are part of the rule where they are not 0.
    optional: ClassVar[frozenset[str]] = frozenset()
    #: Options that have to be below 1.
    fractions: ClassVar[frozenset[str]] = frozenset()
    #: The state by which a row goes on moving at steps that do not touch it, ``momentum`` times as fast at each.
    moving: ClassVar[str | None] = None
    #: Options by which a rule divides if a gradient is 0, so that they have to be above 0; or one of those named beside.
    divisors: ClassVar[Mapping[str, tuple[str, ...]]] = {}
    #: Options that say what a state begins with, and which state.
    beginnings: ClassVar[Mapping[str, str]] = {}

    @staticmethod
    def update(
        k: Any, value: Any, gradient: Any, state: SimpleNamespace, scalar: SimpleNamespace
    ) -> tuple[Any, dict[str, Any]]:
        """What a step does to one row: returns its new value and the new states by name.

        Written in elementwise kernels: ``k.multiply(scalar.learning_rate, gradient)``; ``k.row_mean(x)`` is the mean over the
        row, ``k.literal(0.5)`` a constant. The gradient has been prepared, and the value has been decayed. ``scalar``
        has those options that are part of the rule: those in ``always``, and those that are not 0.
        """
        raise NotImplementedError("an optimizer's class defines update")

    @staticmethod
    def decay(k: Any, scalar: SimpleNamespace) -> Any:
        """What ``weight_decay`` multiplies a value with at each step."""
        return k.subtract(k.literal(1.0), k.multiply(scalar.learning_rate, scalar.weight_decay))

    def __init__(self, learning_rate: float | Schedule, parameters: Given, **options: Any) -> None:
        if not isinstance(parameters, (Node, Module, Group, Iterable)):
            owner = type(self).__name__
            raise DTypeError(
                f"{owner}: expected parameters, got {parameters!r}; the learning rate comes first: {owner}(0.1, parameters)"
            )
        groups = as_groups(parameters)
        check_parameters(type(self).__name__, [node for group in groups for node in group.parameters])
        #: The parameters' paths in the modules that were given, by their storage; checkpoints call them so.
        self.paths = {storage: path for group in groups for storage, path in group.paths.items()}
        self._options = {"learning_rate": learning_rate, **options}
        self._clip_norm = options.get("clip_norm")
        self._groups = [self._running(group) for group in groups if group.parameters]
        self._steps = 0
        self._scheduled = any(group.schedule for group in self._groups)
        self._native: Callable[[], int] | None = None
        #: The thread that trains by it, once for each run that it is in.
        self._runs: list[Any] = []
        self._kept: Any = None
        #: What stays ready for the next call of :func:`wyrm.fit` (:mod:`wyrm.training.plan`).
        self.sessions: Recent[Any, Any] = Recent(_MOST_SESSIONS)

    def _running(self, group: Group) -> RunningGroup:
        owner = type(self).__name__
        unknown = sorted(set(group.options) - set(self._options) | set(group.options) & {"clip_norm"})
        if unknown:
            known = ", ".join(name for name in self._options if name != "clip_norm")
            raise OptionError(f"{owner}: a group has no option {unknown[0]!r}; it may have {known}")
        options = {**self._options, **group.options}
        rate = options["learning_rate"]
        schedule = rate if callable(rate) and not isinstance(rate, type) else None
        numbers: dict[str, float] = {}
        dtype = np.dtype(group.parameters[0].dtype)
        for name, value in self.numbers(options).items():
            if name not in self.always | self.optional | _COMMON | set(self.beginnings):
                raise OptionError(f"{owner}: there is no option {name!r}")
            if name == "learning_rate" and schedule is not None:
                value = _first_rate(owner, schedule)
            if value is None and name in _UNBOUNDED:
                continue
            number = checked_number(owner, name, value)
            if number == 0 and name not in self.always | _UNBOUNDED:
                continue
            check_dtype(owner, name, number, dtype)
            numbers[name] = number
            if name in self.fractions and numbers[name] >= 1:
                raise OptionError(f"{owner}: expected {name} to be below 1, got {value}")
        for name, others in self.divisors.items():
            if not any(dtype.type(numbers.get(option, 0.0)) > 0 for option in (name, *others)):
                expected = " or ".join((name, *others))
                raise OptionError(
                    f"{owner}: expected {expected} to be above 0 in {dtype}: a gradient of 0 would be divided by 0"
                )
        first = {state: numbers.pop(option, 0.0) for option, state in self.beginnings.items()}
        rule = self.rule(frozenset(numbers))
        states = tuple(replace(state, initial=first.get(state.name, state.initial)) for state in rule.states)
        return RunningGroup(group.parameters, replace(rule, states=states), numbers, schedule)

    @classmethod
    def numbers(cls, options: Mapping[str, Any]) -> dict[str, Any]:
        """The options, each of them a number."""
        return dict(options)

    @classmethod
    def rule(cls, options: frozenset[str]) -> Rule:
        """The rule that these options make, of which each becomes a scalar."""
        scalars = sorted(options, key=lambda name: (name != "learning_rate", name))
        if "clip_norm" in options:
            scalars.append(GRADIENT_SCALE)
        catch_up = None
        if "weight_decay" in options or cls.moving is not None:
            states = [state.name for state in cls.states]
            catch_up = CatchUp(
                scalars.index("learning_rate"),
                scalars.index("weight_decay") if "weight_decay" in options else None,
                None if cls.moving is None else scalars.index("momentum"),
                None if cls.moving is None else states.index(cls.moving),
            )
        return _traced(cls.name, cls._step_of, cls.states, tuple(scalars), catch_up)

    @classmethod
    def _step_of(
        cls, k: Any, value: Any, gradient: Any, state: SimpleNamespace, scalar: SimpleNamespace
    ) -> tuple[Any, dict[str, Any]]:
        """A whole step: the gradient is prepared, the value is decayed, and the rule is applied."""
        options = vars(scalar)
        if "clip_norm" in options:
            gradient = k.multiply(getattr(scalar, GRADIENT_SCALE), gradient)
        if "clip_value" in options:
            gradient = k.minimum(k.maximum(gradient, k.negate(scalar.clip_value)), scalar.clip_value)
        if "l2" in options and "l2" not in cls.always:
            gradient = k.add(gradient, k.multiply(scalar.l2, value))
        if "weight_decay" in options:
            value = k.multiply(Optimizer.decay(k, scalar), value)
        return cls.update(k, value, gradient, state, scalar)

    # -- what users see

    @property
    def parameters(self) -> list[ParameterNode]:
        """What is trained."""
        return [node for group in self._groups for node in group.parameters]

    @property
    def groups(self) -> list[RunningGroup]:
        """What is kept for each group: rule, scalars, schedule; runners read it."""
        return list(self._groups)

    @property
    def steps(self) -> int:
        """How many steps have been made."""
        return self._steps

    @property
    def learning_rate(self) -> float:
        """The learning rate of the first group; setting it sets that of every group, and ends their schedules."""
        return self._groups[0].learning_rate

    @learning_rate.setter
    def learning_rate(self, value: float) -> None:
        rate = checked_number(type(self).__name__, "learning_rate", value)
        for group in self._groups:
            group.set_learning_rate(rate)
        self._scheduled = False

    def step(self) -> None:
        """Update the parameters by the gradients that they have gathered, and set these back to zero.

        Raises
        ------
        ThreadError
            If another thread is in :func:`wyrm.fit` with this optimizer, or at work on a gradient.
        NotFiniteError
            If a gradient is NaN or infinite, naming its parameter and, if inputs and parameters are still what they were, the
            op where it began: if passes of several graphs have added to it, in the first of these. Nothing has changed then,
            the gradients included: :meth:`zero_gradient` passes over the example. Native backends look at less than all
            gradients: one that overflows because a parameter is larger than 1e18 (in float64, 1e144) may not be seen.
        """
        step = self._native or self._bind()
        if self._scheduled:
            for group in self._groups:
                group.set_step(self._steps)
        if status := step():
            self._recover(status)
        self._steps += 1

    def _recover(self, status: int) -> None:
        """Raise what a status means; if all gradients are finite, and only their squares overflow, make the step."""
        owner = type(self).__name__
        error = refusal(owner, self.parameters, status)
        if error is None and (status := self._bound(checked=False)[1]()):
            error = refusal(owner, self.parameters, status)
        if error is not None:
            raise error

    def zero_gradient(self) -> None:
        """Set the gradients of the parameters back to zero."""
        for node in self.parameters:
            node.zero_gradient()

    # -- state

    def state_dict(self) -> dict[str, Array]:
        """What is kept, as arrays: the number of steps, the learning rates, and each parameter's states by its number. Copies.

        The values are not among them. ``learning_rates`` has that of each group, and ``scheduled`` whether it follows the
        schedule that the optimizer was made with. States are up to date. If rows may be behind (momentum, ``weight_decay``),
        entries with ``missed`` in their names say which are, and since when: so training goes on to the bit, if the parameters
        are given the values that they have now.
        """
        return state_of(self._groups, self._steps)

    def load_state_dict(self, state: Mapping[str, npt.ArrayLike]) -> None:
        """Take over what :meth:`state_dict` gave, here or in another process: learning rates that were set by hand, too.

        Raises
        ------
        OptionError, ShapeError
            If it is that of another optimizer, of other parameters, or of a schedule that this one was not made with;
            nothing has changed then.
        """
        arrays = checked_state(type(self).__name__, self._groups, state)
        with undone(undo_of([self])):
            put_back(self, arrays)

    # -- runs and steps

    def count_to(self, steps: int) -> None:
        """Say how many steps have been made, all in all."""
        self._steps, self._scheduled = steps, any(group.schedule for group in self._groups)
        for node in self.parameters:
            node._gradient_buffer().header[10] = steps  # random numbers of passes go on from there

    def follow_schedules(self) -> None:
        """Let the scalars be those of the last step."""
        for group in self._groups:
            group.set_step(max(self._steps - 1, 0))

    def begin_run(self) -> None:
        """Let no other thread make steps until :meth:`end_run`.

        Raises
        ------
        ThreadError
            If another thread trains by it.
        """
        self._runs.append(CURRENT.thread)
        if self._runs[0] is not CURRENT.thread:
            self.end_run()
            self._refuse_other_threads("fit")
        self._native = None  # the next step begins by asking who makes it

    def end_run(self) -> None:
        """Let other threads make steps again."""
        self._runs.remove(CURRENT.thread)

    def _refuse_other_threads(self, what: str) -> None:
        if self._runs and self._runs[0] is not CURRENT.thread:
            raise ThreadError(
                f"{what}: another thread trains by this {type(self).__name__} just now. Give each thread an optimizer of its "
                f"own, over nodes made by ParameterNode.shared(storage) of the same parameters"
            )

    def expire(self) -> None:
        """Have the step bound anew: what is trained of a parameter has changed."""
        self._native = None
        gradients = [node._gradient_buffer() for node in self.parameters]
        latest = max(gradient.header[10] for gradient in gradients)
        for gradient in gradients:
            gradient.header[10] = latest  # random numbers of passes go on from there

    def _bind(self) -> Callable[[], int]:
        """The step, which is kept until what is trained changes."""
        self._kept, step = self._bound(checked=True)
        self._native = None if self._runs else step
        return step

    def _bound(self, checked: bool) -> tuple[Any, Callable[[], int]]:
        """The step, bound for the thread that is calling; see :func:`bind_step`."""
        self._refuse_other_threads("step")
        for node in self.parameters:
            node._trained_by(self)
        return bind_step(self._groups, checked)

    def __reduce__(self) -> tuple[Any, ...]:
        name = type(self).__name__
        raise DTypeError(
            f"{name} can be neither copied nor pickled: it is bound to its parameters' memory. Keep state_dict(), and give it "
            f"to load_state_dict() of another {name} over the copied parameters"
        )

    def __repr__(self) -> str:
        groups = []
        for group in self._groups:
            options = ", ".join(f"{name}={value:.15g}" for name, value in group.options.items())
            groups.append(f"{len(group.parameters)} parameters: {options}")
        return f"{type(self).__name__}({'; '.join(groups)})"


def _first_rate(owner: str, schedule: Schedule) -> float:
    """The learning rate with which a schedule begins."""
    rates = rates_of(schedule, np.zeros(1, np.int64), owner)
    if rates.size != 1 or rates.dtype.kind not in "fiu":
        raise OptionError(f"{owner}: learning_rate: expected the schedule to give a number for each step, got {shown(rates)}")
    return float(rates.reshape(()))


@lru_cache(256)
def _traced(name: str, update: Update, states: tuple[State, ...], scalars: tuple[str, ...], catch_up: CatchUp | None) -> Rule:
    """A rule, recorded once."""
    return trace_rule(name, update, states, scalars, catch_up)


def shrunk(k: Any, value: Any, threshold: Any) -> Any:
    """The proximal step of an L1 penalty: each element moved towards 0 by ``threshold``, and no further."""
    return k.subtract(value, k.minimum(k.maximum(value, k.negate(threshold)), threshold))
