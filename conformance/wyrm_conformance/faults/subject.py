"""A correct backend, made of kernels, that faults are planted in; and what a fault is."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager
from typing import Any, NamedTuple

import numpy as np

from wyrm.backend import Backend, Capabilities, Declaration
from wyrm.frontend import structure
from wyrm.frontend.lowering import lower
from wyrm.kernel_backend import KernelBackend, KernelFunction
from wyrm.reference import ReferenceBackend
from wyrm_conformance.context import Array
from wyrm_conformance.formulas import lstm_cell, lstm_cell_vjp

__all__ = ["FAULTS", "KERNELS", "Fault", "Subject", "backend_fault", "correct_backend", "forget", "kernel_fault", "patch_fault"]


def softmax(a: Array) -> Array:
    """Without overflow."""
    e = np.exp(a - a.max(axis=1, keepdims=True, initial=-np.inf))
    result: Array = e / e.sum(axis=1, keepdims=True)
    return result


def logsumexp(a: Array) -> Array:
    """Without overflow."""
    largest = a.max(axis=1, keepdims=True, initial=-np.inf)
    result: Array = largest + np.log(np.exp(a - largest).sum(axis=1, keepdims=True))
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
    """

    name: str
    checks: tuple[str, ...]
    plant: Callable[[], AbstractContextManager[Backend]]


#: All faults, by name.
FAULTS: dict[str, Fault] = {}


def _add(name: str, checks: tuple[str, ...], plant: Callable[[], AbstractContextManager[Backend]]) -> None:
    assert name not in FAULTS, name
    assert checks, name
    FAULTS[name] = Fault(name, checks, plant)


def backend_fault(name: str, *checks: str, make: Callable[[], Backend]) -> None:
    """A faulty backend."""

    @contextmanager
    def plant() -> Iterator[Backend]:
        yield make()

    _add(name, checks, plant)


def kernel_fault(name: str, *checks: str, **kernels: KernelFunction) -> None:
    """Faulty kernels."""
    backend_fault(name, *checks, make=lambda: correct_backend(Subject, CAPABILITIES, **kernels))


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

    _add(name, checks, plant)


def forget() -> None:
    """Let the frontend forget what it has lowered."""
    structure.STORE.clear()
    lower._CACHE.clear()
