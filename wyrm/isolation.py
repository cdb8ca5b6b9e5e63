"""Calls into the code of plugins that harm nobody else, whatever that code does.

:func:`isolated` makes one: an exit of the interpreter is an error like any other, what is printed goes to the standard error
output, where no program looks for results, and a call that does not end is left behind.
"""

from __future__ import annotations

import contextlib
import sys
import threading
from collections.abc import Callable, Iterator
from typing import Generic, TypeVar

__all__ = ["PluginError", "imported_whole", "isolated", "quietly"]

T = TypeVar("T")


class PluginError(Exception):
    """A call into a plugin that exited, was interrupted by itself or did not end."""


def quietly(call: Callable[[], T]) -> T:
    """The result of a call, while what Python code prints goes to the standard error output.

    Raises
    ------
    PluginError
        If the call exits the interpreter.
    """
    try:
        with contextlib.redirect_stdout(sys.stderr):
            return call()
    except SystemExit as error:
        raise PluginError(_exited(error)) from error


def isolated(call: Callable[[], T], seconds: float) -> T:
    """The result of a call that is given so many seconds, in a thread of its own.

    Parameters
    ----------
    call
        What to call. If it takes longer, its thread is left to itself; it ends with the process at the latest.
    seconds
        How long to wait. Ctrl-C ends the wait.

    Raises
    ------
    PluginError
        If the call exits the interpreter, raises what is no ordinary exception, or takes longer.
    Exception
        Whatever else the call raises.
    """
    attempt = _Attempt(call)
    thread = threading.Thread(target=attempt, name="wyrm plugin", daemon=True)
    with contextlib.redirect_stdout(sys.stderr):
        thread.start()
        thread.join(seconds)
    if thread.is_alive():
        raise PluginError(f"it took more than {seconds:g} s")
    if isinstance(attempt.error, SystemExit):
        raise PluginError(_exited(attempt.error)) from attempt.error
    if isinstance(attempt.error, Exception):
        raise attempt.error
    if attempt.error is not None:
        what = f"{type(attempt.error).__name__}: {attempt.error}".removesuffix(": ")
        raise PluginError(f"it raised {what}") from attempt.error
    return attempt.results[0]


@contextlib.contextmanager
def imported_whole() -> Iterator[None]:
    """Forget the modules that a block has imported, if it fails: where some of a package are there, the others may not import.

    Python itself forgets only the module in which it failed.
    """
    before = set(sys.modules)
    try:
        yield
    except BaseException:
        for name in sys.modules.keys() - before:
            sys.modules.pop(name, None)
        raise


class _Attempt(Generic[T]):
    """A call and how it ended."""

    def __init__(self, call: Callable[[], T]) -> None:
        self.call = call
        self.results: list[T] = []
        self.error: BaseException | None = None

    def __call__(self) -> None:
        try:
            self.results.append(self.call())
        except BaseException as error:  # of whatever kind: it is raised again where the result is asked for
            self.error = error


def _exited(error: SystemExit) -> str:
    return f"it called sys.exit({'' if error.code is None else repr(error.code)})"
