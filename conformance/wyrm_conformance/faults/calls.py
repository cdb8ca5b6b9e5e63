"""Faults of what should change between steps, epochs and calls, and is kept; and of what should be told apart, and is not."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from wyrm import kernel_backend
from wyrm.backend import Pass, Report
from wyrm.kernel_steps import Steps
from wyrm.memory import BagSource
from wyrm_conformance.context import Array
from wyrm_conformance.faults.subject import patch_fault
from wyrm_conformance.faults.wrapping import Wrapped, WrappedRunner, wrapping

_KernelRunner, _Bound = kernel_backend._KernelRunner, kernel_backend._Bound
_run, _load, _check, _load_bags = _KernelRunner.run, _KernelRunner._load, _Bound._check, _Bound.load_bags
_target, _tick = Steps._target, Steps._tick


def _at_position(change: Callable[[int], int]) -> Callable[..., int]:
    """What comes by position is that of another one."""

    def load(self: Any, examples: list[int], position: int) -> int:
        return int(_load(self, examples, change(position)))

    return load


patch_fault(
    "rates are those of the first step of a call", "optimizers/changes", target=_KernelRunner, _load=_at_position(lambda p: 0)
)
patch_fault("rates are late by a step", "optimizers/changes", target=_KernelRunner, _load=_at_position(lambda p: max(0, p - 1)))


def _frozen_scalars(self: Any, instruction: Any, first: int) -> Any:
    target = _target(self, instruction, first)
    if target.scalars[0, 0]:
        target.scalars = target.scalars.copy()
    return target


patch_fault("scalars of a rule are read once", "optimizers/changes", target=Steps, _target=_frozen_scalars)


def _first_scalars(self: Any, instruction: Any, first: int) -> Any:
    target = _target(self, instruction, first)
    known = self.__dict__.setdefault("known", {})
    target.scalars = known.setdefault(target.scalars.shape, target.scalars)
    return target


patch_fault("groups share the scalars of the first", "optimizers/changes", target=Steps, _target=_first_scalars)


class _FirstOrder(WrappedRunner):
    """Goes through every epoch in the order of the first."""

    def __init__(self, executable: Wrapped, inner: Any) -> None:
        super().__init__(executable, inner)
        self.kept: dict[tuple[int, ...], Array] = {}

    def run(self, order: Array, start: int, stop: int) -> int:
        self.inner.first_step = self.first_step
        return int(self.inner.run(self.kept.setdefault(order.shape, order.copy()), start, stop))


class _FirstStep(WrappedRunner):
    """Of a call of one run, the first step is taken to be 0."""

    def run(self, order: Array, start: int, stop: int) -> int:
        self.inner.first_step = 0 if len(order) == 1 else self.first_step
        return int(self.inner.run(order, start, stop))


class _KeptStep(WrappedRunner):
    """The first step is that of the first call."""

    def run(self, order: Array, start: int, stop: int) -> int:
        self.inner.first_step = self.__dict__.setdefault("kept", self.first_step)
        return int(self.inner.run(order, start, stop))


wrapping("every epoch has the order of the first", "optimizers/changes", runner=_FirstOrder)
wrapping("a call of one run begins at step 0", "optimizers/changes", runner=_FirstStep)
wrapping("the first step is that of the first epoch", "optimizers/changes", runner=_KeptStep)


def _ticking_once(self: Any, instruction: Any) -> Any:
    step, scalars = _tick(self, instruction), self.view(instruction.operands[1])
    kept: list[Array] = []

    def run() -> None:
        kept.append(scalars.copy())
        now, scalars[...] = scalars.copy(), kept[0]
        step()
        scalars[...] = now

    return run


patch_fault("rows catch up at the first rate of a call", "optimizers/changes", target=Steps, _tick=_ticking_once)

# -- statuses


def _accepting(which: Callable[[Array, int], Any]) -> Callable[..., int]:
    """Some indices are not checked; what they read is somewhere in the table."""

    def check(self: Any, number: int, indices: Array, limit: int) -> int:
        accepted = np.zeros(len(indices), bool)
        accepted[which(indices, limit)] = True
        indices[accepted] %= limit
        return int(_check(self, number, indices, limit))

    return check


patch_fault(
    "an int32 index equal to the limit is accepted",
    "training/statuses",
    "training/bag statuses",
    target=_Bound,
    _check=_accepting(lambda indices, limit: (indices == limit) & (indices.dtype.itemsize == 4)),
)
patch_fault(
    "a single index is not checked",
    "contract/index statuses",
    "training/statuses",
    target=_Bound,
    _check=_accepting(lambda indices, limit: [0] if len(indices) == 1 else []),
)
patch_fault(
    "of several indices the last is not checked",
    "contract/index statuses",
    "training/statuses",
    target=_Bound,
    _check=_accepting(lambda indices, limit: [-1] if len(indices) > 1 else []),
)
patch_fault(
    "indices are checked by 32 bits",
    "contract/index statuses",
    "training/statuses",
    target=_Bound,
    _check=lambda self, number, indices, limit: int(_check(self, number, indices.astype(np.int32), limit)),
)


def _from_the_start(self: Any, order: Array, start: int, stop: int) -> int:
    status = int(_run(self, order, start, stop))
    if status:
        self.bound.memory.report.words[4] -= start or 1
    return status


patch_fault("the report has the run before", "training/statuses", target=_KernelRunner, run=_from_the_start)


patch_fault(
    "examples that there are not are taken for others",
    "training/statuses",
    target=_KernelRunner,
    run=lambda self, order, start, stop: int(_run(self, order % len(self.sources[0]), start, stop)),
)


def _bags_in_time(self: Any, number: int, source: BagSource, examples: Any = (0,)) -> int:
    status = int(_load_bags(self, number, source, examples))
    if status == Report.BAG_FULL:
        self.memory.report.words[3] -= 1
    return status


patch_fault("a full bag asks for too little room", "training/bag statuses", target=_Bound, load_bags=_bags_in_time)

# -- outputs


def _exchanged(self: Any, order: Array, start: int, stop: int) -> int:
    status = int(_run(self, order, start, stop))
    same = [sink for sink in self.sinks if sink.array.shape == self.sinks[0].array.shape]
    if len(same) > 2 and stop == len(order):
        same[1].array[...], same[2].array[...] = same[2].array.copy(), same[1].array.copy()
    return status


patch_fault("of three outputs of one shape two are exchanged", "training/outputs", target=_KernelRunner, run=_exchanged)


class _Finite:
    """NumPy, for which NaN is as good as a number."""

    def __getattr__(self, name: str) -> Any:
        return getattr(np, name)

    @staticmethod
    def isfinite(value: Any) -> Any:
        return ~np.isinf(value)


class _Bounded(_Finite):
    """NumPy, for which only what is infinite and positive is no number."""

    @staticmethod
    def isfinite(value: Any) -> Any:
        return ~(np.isnan(value) | np.isposinf(value))


patch_fault("NaN passes for a loss", "training/not finite", target=kernel_backend, np=_Finite())
patch_fault("negative infinity passes for a loss", "training/not finite", target=kernel_backend, np=_Bounded())


class _SteppingOn(Pass):
    """A step is made by gradients that are NaN."""

    def __init__(self, executable: Wrapped, inner: Any) -> None:
        self.inner, self.update = inner, executable.program.purpose == "update"

    def forward(self, leaves: Any) -> int:
        status = int(self.inner.forward(leaves))
        if status == Report.NOT_FINITE and self.update and np.isnan(self.inner.bound.outputs[0][0, 0]):
            kernel_backend._run(self.inner.bound.update)
            return 0
        return status

    def backward(self, weight: float) -> int:
        return int(self.inner.backward(weight))


wrapping("a pass makes a step by NaN", "training/not finite", bind=_SteppingOn)
