"""Changes that are made whole or not at all, whatever interrupts them: want of memory, Ctrl-C, other signals.

What a change needs is computed, and its memory is taken, before anything is written; then :func:`finish` writes it. To copy an
array onto one of the same dtype and shape takes no memory, nor does to copy rows by their numbers. Changes of many parts are
:func:`undone`. :class:`Uninterrupted` is for what cannot be made twice.
"""

from __future__ import annotations

import signal
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from types import FrameType, TracebackType
from typing import Any

__all__ = ["Uninterrupted", "finish", "undone"]

#: Those whose handlers may raise something: as systems have them.
_SIGNALS = tuple(
    int(getattr(signal, name))
    for name in ("SIGINT", "SIGTERM", "SIGALRM", "SIGHUP", "SIGUSR1", "SIGUSR2", "SIGBREAK")
    if hasattr(signal, name)
)
#: Without what the module adds, for names of signals: that takes longer than many a run.
_handler_of = getattr(signal.getsignal, "__wrapped__", signal.getsignal)
_set_handler = getattr(signal.signal, "__wrapped__", signal.signal)
_MAIN = threading.main_thread()


def finish(write: Callable[[], object]) -> None:
    """Make a change to its end. If something interrupts it, it is made once more, and then what came is raised.

    Parameters
    ----------
    write
        May be made twice: it puts in place what was computed before, and takes no memory worth speaking of.
    """
    try:
        write()
    except BaseException:
        write()
        raise


@contextmanager
def undone(undo: Sequence[Callable[[], object]]) -> Iterator[None]:
    """If a block raises something, call these, which let everything be as it was before."""
    try:
        yield
    except BaseException:
        for write in undo:
            finish(write)
        raise


class Uninterrupted:
    """Holds signals back, Ctrl-C among them, until a block has ended, which must be soon; then their handlers are called."""

    __slots__ = ("_held", "_previous")

    def __enter__(self) -> None:
        self._held: list[tuple[int, FrameType | None]] = []
        self._previous: list[tuple[int, Any]] = []
        if threading.current_thread() is not _MAIN:  # which alone runs handlers
            return
        for number in _SIGNALS:
            handler = _handler_of(number)
            if callable(handler):
                self._previous.append((number, handler))
                _set_handler(number, self._hold)

    def _hold(self, number: int, frame: FrameType | None) -> None:
        self._held.append((number, frame))

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None) -> None:
        for number, handler in self._previous:
            _set_handler(number, handler)
        handlers = dict(self._previous)
        for number, frame in self._held:
            handlers[number](number, frame)
