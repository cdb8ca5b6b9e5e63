"""Faulty execution: programs, passes, runs, rows and threads."""

from __future__ import annotations

import signal
import threading
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from wyrm import kernel_backend
from wyrm.backend import Executable, Pass
from wyrm.errors import CapabilityError
from wyrm.frontend.lowering import lower
from wyrm.kernel_steps import Steps
from wyrm.leaves import Leaves
from wyrm.memory import BagSource, Report, Source
from wyrm.program import Program
from wyrm.reference import ReferenceBackend
from wyrm.runs import Team
from wyrm.whole import Uninterrupted
from wyrm_conformance.context import Array
from wyrm_conformance.faults.subject import Subject, backend_fault, correct_backend, patch_fault
from wyrm_conformance.faults.wrapping import Wrapped, WrappedRunner, declaring, wrapping

# -- declarations

declaring("an optional kernel is claimed and absent", "contract/declaration", without=("row_dot",))


class _Accepting(Subject):
    def check(self, program: Program) -> None:
        """Refuses nothing."""


declaring(
    "an optional kernel that is not declared is accepted", "contract/declaration", subject=_Accepting, kernels=frozenset()
)


class _WithoutDoubles(Subject):
    def compile(self, program: Program) -> Executable:
        if program.dtype == "float64":
            raise CapabilityError("no float64 here")
        return super().compile(program)


declaring("float64 is claimed and absent", "contract/declaration", "contract/float64", subject=_WithoutDoubles)


class _Named(Subject):
    def check(self, program: Program) -> None:
        try:
            super().check(program)
        except CapabilityError:
            raise CapabilityError("not possible") from None


declaring(
    "a refusal that names nothing", "contract/declaration", subject=_Named, kernels=frozenset(), dtypes=frozenset({"float32"})
)


# -- compiling


class _Mutating(Subject):
    def compile(self, program: Program) -> Executable:
        object.__setattr__(program, "literals", (*program.literals, *program.literals[:1]))
        object.__setattr__(program, "real_length", program.real_length + 1)
        return super().compile(program)


backend_fault("compiling changes the program", "contract/programs", make=lambda: correct_backend(_Mutating))


class _Confusing(Subject):
    def __init__(self) -> None:
        self.known: dict[int, Executable] = {}

    def compile(self, program: Program) -> Executable:
        self.check(program)
        key = len(program.forward)
        if key not in self.known:
            self.known[key] = super().compile(program)
        return self.known[key]


backend_fault("compiled code is found again by too small a key", "contract/compiling", make=lambda: correct_backend(_Confusing))


class _Keeping(Subject):
    def __init__(self) -> None:
        self.kept: list[Any] = []

    def compile(self, program: Program) -> Executable:
        self.kept.append([super().compile(program), bytearray(200)])
        return super().compile(program)


backend_fault("compiled programs are never let go", "contract/leaks", make=lambda: correct_backend(_Keeping))


def _first_bound(executable: Wrapped, bound: Pass) -> Pass:
    return executable.__dict__.setdefault("first", bound)  # type: ignore[no-any-return]


wrapping("two workspaces share their state", "contract/workspaces", "gradients/two graphs", bind=_first_bound)


class _OwnThread(Pass):
    def __init__(self, executable: Wrapped, inner: Pass) -> None:
        self.inner, self.home = inner, threading.main_thread().ident

    def forward(self, leaves: Leaves) -> int:
        return self.inner.forward(leaves) if threading.get_ident() == self.home else 0

    def backward(self, weight: float) -> int:
        return self.inner.backward(weight)


wrapping("passes work on one thread alone", "contract/threads", bind=_OwnThread)


# -- passes


class _Stale(Pass):
    def __init__(self, executable: Wrapped, inner: Pass) -> None:
        self.inner, self.known = inner, b""

    def forward(self, leaves: Leaves) -> int:
        seen = bytes(leaves.reals)  # the cells, not what they point to
        if seen == self.known:
            return 0
        self.known = seen
        return self.inner.forward(leaves)

    def backward(self, weight: float) -> int:
        return self.inner.backward(weight)


wrapping("a pass is left out where no cell has changed", "contract/stale values", bind=_Stale)


class _Unweighted(_Stale):
    def forward(self, leaves: Leaves) -> int:
        return self.inner.forward(leaves)

    def backward(self, weight: float) -> int:
        return self.inner.backward(1.0)


wrapping("the upstream weight is ignored", "gradients/square", "gradients/dot", "gradients/random graphs", bind=_Unweighted)


class _Swallowing(_Stale):
    def forward(self, leaves: Leaves) -> int:
        return 0 * self.inner.forward(leaves)

    def backward(self, weight: float) -> int:
        return 0 * self.inner.backward(weight)


wrapping("statuses are swallowed", "contract/statuses", "contract/bag statuses", bind=_Swallowing)

_Bound = kernel_backend._Bound
_check, _claim = _Bound._check, _Bound.claim


def _upper_only(self: Any, number: int, indices: Array, limit: int) -> int:
    return _check(self, number, np.maximum(indices, 0), limit)


patch_fault(
    "negative indices count from the end", "contract/statuses", "contract/bag statuses", target=_Bound, _check=_upper_only
)

_load_bags = _Bound.load_bags


def _within_values(self: Any, number: int, source: BagSource, examples: Sequence[int] = (0,)) -> int:
    ends = np.clip(source.ends, 0, len(source.values))
    return _load_bags(self, number, BagSource(source.values, np.clip(source.begins, 0, ends), ends, source.weights), examples)


patch_fault("bags are cut off where their values end", "contract/bag statuses", target=_Bound, load_bags=_within_values)


def _claim_nothing(self: Any) -> int:
    for use, gradient in self.gradients:
        gradient.reserve(use.rows_per_pass)
    return _claim(self)


patch_fault("room for rows is made without a word", "contract/statuses", target=_Bound, claim=_claim_nothing)
_storing = Steps._storing


def _overwriting(self: Any, instruction: Any, compute: Any) -> Any:
    if self.kernels is not ReferenceBackend.kernels:
        instruction = instruction._replace(accumulate=False)
    return _storing(self, instruction, compute)


patch_fault(
    "results overwrite what they should be added to",
    "kernels/copy",
    "kernels/rows",
    "gradients/random graphs",
    target=Steps,
    _storing=_overwriting,
)


# -- runs

_KernelRunner = kernel_backend._KernelRunner
_run, _load = _KernelRunner.run, _KernelRunner._load


def _ignoring_statuses(self: Any, order: Array, start: int, stop: int) -> int:
    status = _run(self, order, start, stop)
    return 0 if status in (Report.NOT_FINITE, Report.INDEX_OUT_OF_RANGE) else status


patch_fault("errors in runs are swallowed", "training/errors", target=_KernelRunner, run=_ignoring_statuses)


_pass_forward = kernel_backend._KernelPass.forward


def _stepping_anyway(self: Any, leaves: Leaves) -> int:
    status = _pass_forward(self, leaves)
    if status == Report.NOT_FINITE:
        kernel_backend._run(self.bound.update)
    return 0 if status == Report.NOT_FINITE else status


patch_fault(
    "a step is made by gradients that are not finite",
    "training/infinite gradients",
    target=kernel_backend._KernelPass,
    forward=_stepping_anyway,
)
patch_fault(
    "runs look at the loss alone",
    "training/infinite gradients",
    target=lower,
    guarded=lambda k, dtype, loss, gradients, large: loss,
)


def _sometimes(self: Any, order: Array, start: int, stop: int) -> int:
    return 0 if start % 16 == 15 else _run(self, order, start, stop)


patch_fault(
    "one run in sixteen is left out",
    "training/equals steps",
    "training/order",
    "training/long feeds",
    target=_KernelRunner,
    run=_sometimes,
)


def _by_position(self: Any, examples: list[int], position: int) -> int:
    return _load(self, [max(0, example - 1) for example in examples], position)


patch_fault(
    "a run takes the example before", "training/random graphs", "training/evaluate", target=_KernelRunner, _load=_by_position
)


def _gapless(sources: Sequence[Source]) -> list[Source]:
    result = []
    for source in sources:
        array = source.array
        if array.ndim == 2 and len(array) > 1 and array.strides[0] != array.shape[1] * array.itemsize:
            flat = np.lib.stride_tricks.as_strided(array, (array.size,), (array.itemsize,))
            source = replace(source, array=flat.reshape(array.shape))
        result.append(source)
    return result


wrapping("rows of a feed are taken to lie without gaps", "contract/feeds", sources=_gapless)


def _forgetting(self: Uninterrupted, *error: object) -> None:
    for number, handler in self._previous:
        signal.signal(number, handler)


patch_fault("signals that are held back are forgotten", "training/interruption", target=Uninterrupted, __exit__=_forgetting)


# -- threads


class _Private(WrappedRunner):
    """Works on a copy of the first parameter, and writes all of it back."""

    def __init__(self, executable: Wrapped, inner: Any) -> None:
        super().__init__(executable, inner)
        memory = inner.bound.memory
        kinds = [buffer.kind for buffer in executable.program.buffers]
        self.value = memory.buffers[kinds.index("value")] if "value" in kinds else np.zeros((1, 1))

    def run(self, order: Array, start: int, stop: int) -> int:
        before = self.value.copy()
        status = int(self.inner.run(order, start, stop))
        moved = self.value.copy()
        self.value[...] = before  # as if it had been private until now
        threading.Event().wait(0.0005)
        self.value[...] = moved
        return status


wrapping("threads write whole tables back", "parallel/hogwild", "parallel/conflict_free", runner=_Private)


class _Holding(WrappedRunner):
    """Keeps the interpreter's lock, in calls that take long; that is all it does."""

    def run(self, order: Array, start: int, stop: int) -> int:
        sum(range(2_000 * (stop - start)))
        return 0


class _HoldingBackend(Subject):
    def compile(self, program: Program) -> Executable:
        return Wrapped(super().compile(program), runner=_Holding)


declaring("the lock is said to be left, and is held", "parallel/lock", subject=_HoldingBackend, releases_gil=True)


class _ByArrival(Team):
    def run(self, thread: int, order: Array, start: int, stop: int) -> int:
        if not thread and self.num_threads == 4:
            self.shards = self.shards[::-1]
        return super().run(thread, order, start, stop)


class _Arriving(Subject):
    def team(self, shards: Any, update: Any, batch_size: int, num_threads: int) -> Team:
        return _ByArrival(shards, update, batch_size, num_threads)


backend_fault(
    "shards are taken in another order on four threads", "parallel/synchronized", make=lambda: correct_backend(_Arriving)
)
