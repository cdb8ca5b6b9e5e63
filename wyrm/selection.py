"""Choosing a backend: by argument, by :func:`use_backend`, by the variable ``WYRM_BACKEND``, or by priority, in this order."""

from __future__ import annotations

import os
import threading
import weakref
from contextvars import ContextVar
from types import TracebackType

from wyrm import plugins
from wyrm.arguments import shown
from wyrm.backend import Backend
from wyrm.errors import DTypeError, UnknownBackendError

__all__ = ["ENVIRONMENT_VARIABLE", "get_backend", "use_backend"]

ENVIRONMENT_VARIABLE = "WYRM_BACKEND"

#: What blocks have chosen, each for the thread or the task of asyncio that is inside it.
_block: ContextVar[Backend | None] = ContextVar("wyrm.use_backend", default=None)
#: What has been chosen for the process, each with its backend; the last one is in force, unless it becomes a block.
_process: list[tuple[weakref.ref[_Choice], Backend]] = []
_lock = threading.Lock()


class _Choice:
    """The effect of :func:`use_backend`: for the process, unless it is entered; then for who entered it."""

    def __init__(self, backend: Backend) -> None:
        self._backend = backend
        self._outer: list[Backend | None] = []
        with _lock:
            settled = [entry for entry in _process if entry[0]() is None]  # these cannot become blocks any more
            _process[:] = [entry for entry in _process if entry not in settled[:-1]]
            _process.append((weakref.ref(self), backend))

    def __enter__(self) -> None:
        with _lock:
            _process[:] = [entry for entry in _process if entry[0]() is not self]
        self._outer.append(_block.get())
        _block.set(self._backend)

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None) -> None:
        _block.set(self._outer.pop())


def use_backend(backend: str | Backend) -> _Choice:
    """Make a backend the default: as a context manager, for a block of code; else for this process.

    A block belongs to the thread that entered it, or to the task of asyncio: other threads do not see it, nor do those that are
    started inside it; tasks that are started inside it do. Inside a block, its choice goes before that for the process. Graphs
    that have been run stay where they were run.

    Parameters
    ----------
    backend
        Its name.

    Raises
    ------
    UnknownBackendError
        If there is none of that name.
    BackendError
        If it cannot be loaded.

    Examples
    --------
    >>> import wyrm
    >>> with wyrm.use_backend("reference"):
    ...     wyrm.get_backend().name
    'reference'
    """
    return _Choice(get_backend(backend))


def get_backend(backend: str | Backend | None = None) -> Backend:
    """The backend of a name, or the one that is taken when nothing is said."""
    if backend is not None:
        if isinstance(backend, Backend):
            return backend
        if not isinstance(backend, str):
            raise DTypeError(f"expected the name of a backend, got {shown(backend)}")
        return plugins.load(backend)
    chosen = _block.get()
    if chosen is not None:
        return chosen
    for _, chosen in _process[-1:]:
        return chosen
    named = os.environ.get(ENVIRONMENT_VARIABLE)
    if named:
        try:
            return plugins.load(named)
        except UnknownBackendError as error:
            raise UnknownBackendError(f"{ENVIRONMENT_VARIABLE}={named}: {error}") from None
    return plugins.preferred()
