"""Modes: whether what is random in training is left out of passes, and whether a function is traced."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar

__all__ = ["evaluating", "is_evaluating", "set_traced_by", "traced_by"]

_evaluating = ContextVar("wyrm.evaluating", default=False)
_local = threading.local()


def is_evaluating() -> bool:
    """Whether this thread, or task of asyncio, is inside :func:`evaluating`."""
    return _evaluating.get()


@contextmanager
def evaluating() -> Iterator[None]:
    """Leave out of passes what is random in training: dropout lets everything through.

    It holds for the passes of the thread, or task of asyncio, that is inside.

    :func:`wyrm.evaluate` does so by itself, :func:`wyrm.fit` never.

    Examples
    --------
    >>> import wyrm
    >>> x = wyrm.InputNode((1, 3), [[1.0, 2.0, 3.0]])
    >>> dropped = x.dropout(0.5, seed=1)
    >>> with wyrm.evaluating():
    ...     dropped.forward()
    >>> dropped.value
    array([[1., 2., 3.]], dtype=float32)
    """
    before = is_evaluating()
    _evaluating.set(True)
    try:
        yield
    finally:
        _evaluating.set(before)


def traced_by() -> str:
    """Who traces a function on this thread, and which; empty where nobody does."""
    return getattr(_local, "tracing", "")


def set_traced_by(who: str) -> str:
    """Let this thread know who traces a function from now on; returns who did before."""
    before = traced_by()
    _local.tracing = who
    return before
