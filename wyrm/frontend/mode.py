"""Training or evaluating: whether what is random in training, such as dropout, is left out of passes."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager

__all__ = ["evaluating", "is_evaluating"]

_local = threading.local()


def is_evaluating() -> bool:
    """Whether this thread is inside :func:`evaluating`."""
    return getattr(_local, "evaluating", False)


@contextmanager
def evaluating() -> Iterator[None]:
    """Leave out of this thread's passes what is random in training: dropout lets everything through.

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
    _local.evaluating = True
    try:
        yield
    finally:
        _local.evaluating = before
