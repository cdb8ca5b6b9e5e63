"""Checks in a process of their own: a backend that crashes ends a check, and not the suite.

A :class:`Worker` loads the backend in a process that it starts, and has it run one check after the other. If the process ends
instead of answering, by a fault in native code or by a hasty exit, or is stuck in native code, the check has failed, with what
happened as its failure; the next one is run by another process.
"""

from __future__ import annotations

import contextlib
import faulthandler
import multiprocessing
import signal
import sys
import warnings
from multiprocessing.connection import Connection
from multiprocessing.process import BaseProcess
from typing import Any

import wyrm
from wyrm_conformance import time_limit
from wyrm_conformance.check import CHECKS, Check
from wyrm_conformance.results import Result, Subject, plain
from wyrm_conformance.runner import check_exemptions, exempted, find_backend, run_one

__all__ = ["Unusable", "Worker"]

#: Seconds for which a process is waited for beyond what a check may take: then it is stuck where Python cannot interrupt it.
PATIENCE = 30.0
#: A fork is quick, and on other systems than Linux it is no good.
_START = "fork" if sys.platform == "linux" else "spawn"


class Unusable(Exception):  # noqa: N818 - it is what the backend is
    """A backend that cannot be checked at all.

    Attributes
    ----------
    here
        Whether it says itself that it cannot run on this machine.
    """

    def __init__(self, message: str, here: bool = False) -> None:
        super().__init__(message)
        self.here = here


class Worker:
    """A backend in a process of its own.

    Parameters
    ----------
    name
        Of the backend, or ``module:object``.
    seed
        Of all random numbers.

    Attributes
    ----------
    subject
        What the backend says of itself.

    Raises
    ------
    Unusable
        If it cannot be loaded.
    """

    def __init__(self, name: str, seed: int) -> None:
        self.name, self.seed = name, seed
        self._start()

    def _start(self) -> None:
        context: Any = multiprocessing.get_context(_START)
        self._connection, theirs = context.Pipe()
        ours = self._connection if _START == "fork" else None
        sys.stdout.flush()
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", DeprecationWarning)  # what other threads hold is not needed there
            self._process: BaseProcess = context.Process(target=_serve, args=(self.name, self.seed, theirs, ours))
            self._process.start()
        theirs.close()
        try:
            kind, value = self._connection.recv()
        except EOFError:
            raise Unusable(f"backend {self.name!r} cannot be loaded: its process {self._ending()}") from None
        if kind != "subject":
            raise Unusable(*value)
        self.subject: Subject = value

    def run(self, check: Check) -> Result:
        """Run a check; where the process ends meanwhile, the check has failed."""
        if not self._process.is_alive():
            self._start()
        limit = time_limit.WAITING * time_limit.SECONDS + PATIENCE
        try:
            self._connection.send(check.name)
            if self._connection.poll(limit):
                return Result(check, *self._connection.recv())
            self._process.kill()
            failure = f"the process was stuck in native code, and was ended after {limit:g} s"
        except (EOFError, OSError):
            failure = f"the process {self._ending()}"
        self._process.join()
        result = Result(check, "failed", failure, 0, 0.0, 0.0)
        exemption = self.subject.exemptions.get(check.name)
        return result if exemption is None else exempted(result, exemption)

    def _ending(self) -> str:
        self._process.join(PATIENCE)
        code = self._process.exitcode
        if code is not None and code < 0:
            with contextlib.suppress(ValueError):
                return f"was ended by {signal.Signals(-code).name}"
        return f"exited with status {code}"

    def __enter__(self) -> Worker:
        return self

    def __exit__(self, *error: object) -> None:
        self._connection.close()  # which ends it
        self._process.join(1.0)
        if self._process.is_alive():
            self._process.kill()
            self._process.join()


def _serve(name: str, seed: int, connection: Connection, other: Connection | None) -> None:
    """Load the backend, say what it is, and run checks as they are asked for, until nobody asks any more."""
    if other is not None:
        other.close()  # of the one who asks; it was inherited
    with contextlib.suppress(ValueError, OSError):  # an output that is no file
        faulthandler.enable()
    try:
        backend = find_backend(name)
        check_exemptions(backend)
        subject = Subject.of(backend)
    except (wyrm.WyrmError, ImportError, AttributeError, TypeError) as error:
        connection.send(("unusable", (str(error), isinstance(error.__cause__, wyrm.WyrmError))))
        return
    connection.send(("subject", subject))
    while True:
        try:
            check = CHECKS[connection.recv()]
        except (EOFError, KeyboardInterrupt):
            return
        result = run_one(backend, check, seed)
        connection.send(tuple(result._replace(details=plain(result.details)))[1:])
