"""A limit to the time that a check may take: a backend that makes no progress fails it, and the suite goes on."""

from __future__ import annotations

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

__all__ = ["SECONDS", "time_limit"]

#: Of the processor, for a check. The longest takes a tenth of it.
SECONDS = 90.0
#: How many times as long a check may take by the clock: it may wait, and other programs have the processor, too.
WAITING = 10


@contextmanager
def time_limit(seconds: float = SECONDS) -> Iterator[None]:
    """Raise ``TimeoutError`` in the block after so many seconds of the processor, or ten times as many by the clock.

    On the main thread, and where the system has timers; not inside of native code, but as soon as it returns.
    """
    if threading.current_thread() is not threading.main_thread() or not hasattr(signal, "setitimer"):
        yield
        return

    def expire(number: int, frame: FrameType | None) -> None:
        what = f"{seconds:g} s of the processor" if number == signal.SIGPROF else f"{WAITING * seconds:g} s"
        raise TimeoutError(f"not done after {what}")

    limits = (
        (signal.SIGPROF, signal.ITIMER_PROF, seconds),
        (signal.SIGALRM, signal.ITIMER_REAL, WAITING * seconds),
    )
    previous = [signal.signal(number, expire) for number, _, _ in limits]
    for _, timer, limit in limits:
        signal.setitimer(timer, limit)
    try:
        yield
    finally:
        for (number, timer, _), handler in zip(limits, previous, strict=True):
            signal.setitimer(timer, 0)
            signal.signal(number, handler)
