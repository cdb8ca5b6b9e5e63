"""Choosing a backend: by argument, by :func:`use_backend`, by the variable ``WYRM_BACKEND``, or by priority, in this order."""

from __future__ import annotations

import os
import warnings
from types import TracebackType

from wyrm import plugins
from wyrm.backend import Backend
from wyrm.errors import BackendError, UnknownBackendError

__all__ = ["ENVIRONMENT_VARIABLE", "get_backend", "use_backend"]

ENVIRONMENT_VARIABLE = "WYRM_BACKEND"

_chosen: Backend | None = None


class _Choice:
    """The effect of :func:`use_backend`; leaving it as a context manager takes the choice back."""

    def __init__(self, previous: Backend | None) -> None:
        self._previous = previous

    def __enter__(self) -> None:
        pass

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None) -> None:
        global _chosen
        _chosen = self._previous


def use_backend(backend: str | Backend) -> _Choice:
    """Make a backend the default of this process; as a context manager, for a block of code.

    Graphs that have been run stay where they were run.

    Parameters
    ----------
    backend
        Its name.

    Raises
    ------
    UnknownBackendError
        Where there is none of that name.
    BackendError
        Where it cannot be loaded.

    Examples
    --------
    >>> import wyrm
    >>> with wyrm.use_backend("reference"):
    ...     wyrm.get_backend().name
    'reference'
    """
    global _chosen
    choice = _Choice(_chosen)
    _chosen = get_backend(backend)
    return choice


def get_backend(backend: str | Backend | None = None) -> Backend:
    """The backend of a name, or the one that is taken when nothing is said."""
    if isinstance(backend, Backend):
        return backend
    if backend is not None:
        return plugins.load(backend)
    if _chosen is not None:
        return _chosen
    named = os.environ.get(ENVIRONMENT_VARIABLE)
    if named:
        try:
            return plugins.load(named)
        except UnknownBackendError as error:
            raise UnknownBackendError(f"{ENVIRONMENT_VARIABLE}={named}: {error}") from None
    return _by_priority()


def _by_priority() -> Backend:
    for status in plugins.backends():
        if status.state != "broken":
            try:
                return plugins.load(status.name)
            except BackendError as error:
                warnings.warn(f"{error}. The next backend by priority is used instead", RuntimeWarning, stacklevel=4)
    raise BackendError("no backend works; `python -m wyrm backends` says why")
