"""The executables of programs, compiled once for each backend."""

from __future__ import annotations

from wyrm.backend import Backend, Executable
from wyrm.frontend.recent import Recent
from wyrm.program import Program

__all__ = ["compiled"]

_EXECUTABLES: Recent[tuple[Program, Backend], Executable] = Recent()


def compiled(program: Program, backend: Backend) -> Executable:
    """The executable of a program on a backend.

    Raises
    ------
    CapabilityError
        Where the program asks for what the backend does not declare.
    """
    return _EXECUTABLES.made((program, backend), lambda: backend.compile(program))
