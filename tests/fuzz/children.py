"""Children: processes in which cases run, so that a crash, a hang or too much memory is a finding and not the end.

A child is forked, with everything loaded. It says which case it begins before it does, so that the parent knows which one it
was when it dies. Each case has a limit of processor time, which the system keeps, and of memory.
"""

from __future__ import annotations

import faulthandler
import json
import math
import os
import re
import resource
import select
import shutil
import signal
import sys
import tempfile
import time
import traceback
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

#: Seconds of processor time that a case may take, and of time in which it must have ended.
PROCESSOR_SECONDS, SECONDS = 20.0, 120.0
#: What a process may map beyond what it has mapped when it begins.
MEMORY = 4 << 30

#: Where files are written quickly, if there is such a place.
SHARED_MEMORY = "/dev/shm" if Path("/dev/shm").is_dir() else None

Report = dict[str, Any]
Work = Callable[[int], Report | None]


def sanitized() -> bool:
    """Whether this process runs under the address sanitizer, which maps far more than it uses."""
    return "asan" in os.environ.get("LD_PRELOAD", "")


def prepare() -> None:
    """What a child does before its first case."""
    signal.signal(signal.SIGPROF, signal.SIG_DFL)
    signal.signal(signal.SIGINT, signal.SIG_DFL)
    faulthandler.disable()
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    if not sanitized():
        with open("/proc/self/statm") as file:
            mapped = int(file.read().split()[0]) * resource.getpagesize()
        resource.setrlimit(resource.RLIMIT_AS, (mapped + MEMORY, mapped + MEMORY))
    warnings.simplefilter("error")
    for module in ("wyrm.frontend.input_base", "wyrm.kernel_backend"):  # what is set is cast as NumPy casts it
        warnings.filterwarnings("ignore", "overflow encountered in cast", module=re.escape(module))


def run_all(first: int, last: int, work: Work, until: float = math.inf) -> Iterator[tuple[int, Report | None]]:
    """Do the work for the numbers from ``first`` to below ``last``, in children, until a time of ``time.monotonic``.

    Yields each number with its report, once it is done. A report has ``what`` and ``where``; what ended a child is one.
    """
    while first < last and time.monotonic() < until:
        begun = None
        for kind, value in _child(range(first, last), work, until):
            if kind == "begun":
                begun = value
            elif kind == "done":
                yield first, value or None
                begun, first = None, first + 1
            elif begun is not None:
                yield first, {"what": value or "ended the process", "where": "process"}
                first += 1
            elif value is None:
                return
            else:
                raise RuntimeError(f"a child died between two cases: {value}")


def _child(numbers: range, work: Work, until: float) -> Iterator[tuple[str, Any]]:
    """Fork a child, and say what it does: it has ``begun`` a number, ``done`` it, with a report, and come to an ``end``."""
    reading, writing = os.pipe()
    folder = tempfile.mkdtemp(prefix="wyrm-fuzz-", dir=SHARED_MEMORY)
    sys.stdout.flush()
    process = os.fork()
    if process == 0:
        os.close(reading)
        os.chdir(folder)  # several children write files of the same names
        _work(writing, numbers, work, until)
    os.close(writing)
    rest, killed, status = b"", False, None
    try:
        while True:
            ready, _, _ = select.select([reading], [], [], SECONDS)
            if not ready:
                os.kill(process, signal.SIGKILL)
                killed = True
            data = os.read(reading, 1 << 16)
            if not data:
                break
            *messages, rest = (rest + data).split(b"\n")
            for message in messages:
                value = json.loads(message)
                yield ("begun", value) if isinstance(value, int) else ("done", value)
        status = os.waitpid(process, 0)[1]
        yield "end", "stands still" if killed else _cause(status)
    finally:
        os.close(reading)
        if status is None:  # nobody wants to know how it goes on
            os.kill(process, signal.SIGKILL)
            os.waitpid(process, 0)
        shutil.rmtree(folder, ignore_errors=True)


def _work(writing: int, numbers: range, work: Work, until: float) -> None:
    status = 1
    try:
        prepare()
        for number in numbers:
            if time.monotonic() >= until:
                break
            os.write(writing, b"%d\n" % number)
            signal.setitimer(signal.ITIMER_PROF, PROCESSOR_SECONDS)
            report = work(number)
            signal.setitimer(signal.ITIMER_PROF, 0)
            os.write(writing, json.dumps(report or {}).encode() + b"\n")
        status = 0
    except BaseException:
        traceback.print_exc()
    finally:
        sys.stderr.flush()
        os._exit(status)


def _cause(status: int) -> str | None:
    """What ended a process; ``None``: its end."""
    if os.WIFSIGNALED(status):
        number = os.WTERMSIG(status)
        return "takes too long" if number == signal.SIGPROF else f"killed by {signal.Signals(number).name}"
    return None if status == 0 else f"ended with status {os.WEXITSTATUS(status)}"


def run_one(work: Callable[[], Report | None]) -> Report | None:
    """Do some work once, in a child; its report."""
    return next(run_all(0, 1, lambda number: work()))[1]
