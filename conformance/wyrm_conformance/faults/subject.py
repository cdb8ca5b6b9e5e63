"""A correct backend, made of kernels, that faults are planted in; and what a fault is."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import AbstractContextManager, ExitStack, contextmanager
from functools import wraps
from types import FunctionType
from typing import Any, NamedTuple
from unittest import mock

import numpy as np

from wyrm.backend import Backend, Capabilities, Declaration
from wyrm.frontend import structure
from wyrm.frontend.lowering import lower, updates
from wyrm.frontend.op import Op
from wyrm.kernel_backend import KernelBackend, KernelFunction
from wyrm.reference import ReferenceBackend
from wyrm_conformance.context import Array
from wyrm_conformance.formulas import lstm_cell, lstm_cell_vjp

__all__ = [
    "FAULTS",
    "KERNELS",
    "Fault",
    "Subject",
    "backend_fault",
    "correct_backend",
    "forget",
    "kernel_fault",
    "noted",
    "patch_fault",
]


def softmax(a: Array) -> Array:
    """Without overflow."""
    e = np.exp(a - a.max(axis=1, keepdims=True, initial=-np.inf))
    result: Array = e / e.sum(axis=1, keepdims=True)
    return result


def logsumexp(a: Array) -> Array:
    """Without overflow; of infinite elements nothing is subtracted."""
    largest = a.max(axis=1, keepdims=True, initial=-np.inf)
    shift = np.where(np.isfinite(largest), largest, a.dtype.type(0))
    result: Array = shift + np.log(np.exp(a - shift).sum(axis=1, keepdims=True))
    return result


#: A function for every kernel that a backend can bring, the optional ones among them.
KERNELS: dict[str, KernelFunction] = {
    **ReferenceBackend.kernels,
    "row_dot": lambda a, b: (a * b).sum(axis=1, keepdims=True),
    "softmax": softmax,
    "logsumexp": logsumexp,
    "lstm_cell": lstm_cell,
    "lstm_cell_vjp": lstm_cell_vjp,
}


class Subject(KernelBackend):
    """Correct."""

    kernels: Mapping[str, KernelFunction] = KERNELS  # type: ignore[misc]


OPTIONAL = frozenset({"row_dot", "softmax", "logsumexp", "lstm_cell", "lstm_cell_vjp"})
CAPABILITIES = Capabilities(frozenset({"float32", "float64"}), OPTIONAL, frozenset({"hogwild", "synchronized"}))


def correct_backend(
    subject: type[Subject] = Subject, capabilities: Capabilities = CAPABILITIES, **kernels: KernelFunction
) -> Backend:
    """The subject, or a faulty class made of it, with some kernels replaced."""
    backend: Backend = type(subject.__name__, (subject,), {"kernels": {**subject.kernels, **kernels}})()
    backend.declaration = Declaration("subject", lambda: backend, (1, 1), capabilities=capabilities)
    return backend


class Fault(NamedTuple):
    """One defect.

    Attributes
    ----------
    name
        What is wrong, in a few words.
    checks
        Those that are meant to fail.
    plant
        Gives the backend to check, for the time of a block.
    parts
        The kernels, functions or derivatives that are wrong; empty where it is something else. What makes no use of any of them
        cannot notice.
    """

    name: str
    checks: tuple[str, ...]
    plant: Callable[[], AbstractContextManager[Backend]]
    parts: frozenset[str] = frozenset()


#: All faults, by name.
FAULTS: dict[str, Fault] = {}
#: The functions that faults replace, as they are: by the part's name, whose attribute it is, and its name.
REPLACED: dict[str, tuple[Any, str]] = {}


def _add(
    name: str, checks: tuple[str, ...], plant: Callable[[], AbstractContextManager[Backend]], parts: frozenset[str]
) -> None:
    assert name not in FAULTS, name
    assert checks, name
    FAULTS[name] = Fault(name, checks, plant, parts)


def backend_fault(name: str, *checks: str, make: Callable[[], Backend], parts: frozenset[str] = frozenset()) -> None:
    """A faulty backend."""

    @contextmanager
    def plant() -> Iterator[Backend]:
        yield make()

    _add(name, checks, plant, parts)


def kernel_fault(name: str, *checks: str, **kernels: KernelFunction) -> None:
    """Faulty kernels."""
    parts = frozenset(map(_kernel_part, kernels))
    backend_fault(name, *checks, make=lambda: correct_backend(Subject, CAPABILITIES, **kernels), parts=parts)


def patch_fault(name: str, *checks: str, target: Any, **changes: Any) -> None:
    """Attributes of a module, class or object that are replaced for a time: a defect that no backend could have."""

    @contextmanager
    def plant() -> Iterator[Backend]:
        kept = {attribute: vars(target)[attribute] for attribute in changes}
        put = object.__setattr__ if not isinstance(target, type) else setattr
        try:
            for attribute, value in changes.items():
                put(target, attribute, value)
            forget()
            yield correct_backend()
        finally:
            for attribute, value in kept.items():
                put(target, attribute, value)
            forget()

    _add(name, checks, plant, _parts_of(target, changes))


def _parts_of(target: Any, attributes: Iterable[str]) -> frozenset[str]:
    """The parts that are wrong where attributes are replaced; empty where one is neither a function nor an op's derivatives."""
    if isinstance(target, Op):
        return frozenset({_op_part(target)})
    found = {f"{target.__name__}.{attribute}": (target, attribute) for attribute in attributes}
    if not all(isinstance(vars(target)[attribute], FunctionType) for attribute in attributes):
        return frozenset()
    REPLACED.update(found)
    return frozenset(found)


def _kernel_part(name: str) -> str:
    return f"kernel {name}"


def _op_part(op: Op) -> str:
    return f"derivatives of {op.name}"


class _Noting(dict[str, KernelFunction]):
    """Kernels, and which of them were asked for."""

    def __init__(self, kernels: Mapping[str, KernelFunction], parts: set[str]) -> None:
        super().__init__(kernels)
        self.parts = parts

    def __getitem__(self, name: str) -> KernelFunction:
        self.parts.add(_kernel_part(name))
        return super().__getitem__(name)


@contextmanager
def noted(parts: set[str]) -> Iterator[Backend]:
    """The correct backend; of the parts that faults are in, those that are made use of are noted."""

    def noting(function: Callable[..., Any], part: Callable[..., str]) -> Callable[..., Any]:
        @wraps(function)
        def noted(*operands: Any, **options: Any) -> Any:
            parts.add(part(*operands))
            return function(*operands, **options)

        return noted

    backend = correct_backend()
    backend.kernels = _Noting(KERNELS, parts)  # type: ignore[attr-defined]
    forget()
    with ExitStack() as stack:
        stack.enter_context(mock.patch.object(Op, "vjps_of", noting(Op.vjps_of, lambda op, count: _op_part(op))))
        for name, (target, attribute) in REPLACED.items():
            watched = noting(vars(target)[attribute], lambda *operands, name=name: name)
            stack.enter_context(mock.patch.object(target, attribute, watched))
        yield backend
    forget()


def forget() -> None:
    """Let the frontend forget what it has lowered."""
    structure.STORE.clear()
    lower._CACHE.clear()
    updates._CACHE.clear()
