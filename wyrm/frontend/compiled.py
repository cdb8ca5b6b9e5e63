"""The executables of programs, compiled once for each backend."""

from __future__ import annotations

import weakref

from wyrm.backend import Backend, Executable
from wyrm.program import Program

__all__ = ["compiled"]

_EXECUTABLES: weakref.WeakKeyDictionary[Program, dict[Backend, Executable]] = weakref.WeakKeyDictionary()


def compiled(program: Program, backend: Backend) -> Executable:
    """The executable of a program on a backend.

    Raises
    ------
    CapabilityError
        Where the program asks for what the backend does not declare.
    """
    executables = _EXECUTABLES.setdefault(program, {})
    executable = executables.get(backend)
    if executable is None:
        executable = executables.setdefault(backend, backend.compile(program))
    return executable
