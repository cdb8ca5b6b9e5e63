"""Calls that fail: the n-th of a kind, or all from it on, by ``failures.c`` in front of the C library."""

from __future__ import annotations

import ctypes
import os
import subprocess
import sys
from pathlib import Path

try:
    import _testcapi as testcapi
except ImportError:  # not every Python has it
    testcapi = None

#: In place of an error: half is written, and the next call says that there is no room.
SHORT = -1
KINDS = {"arrays": 0, "native": 1, "files": 2, "threads": 3}


def build(folder: Path) -> str:
    """Compile what lets calls fail; returns the library."""
    library = folder / "failures.so"
    options = ["-std=gnu11", "-O1", "-fPIC", "-shared", "-Wall", "-Wextra", "-Werror"]
    subprocess.run(
        [os.environ.get("CC", "cc"), *options, "-o", library, Path(__file__).with_name("failures.c"), "-ldl"], check=True
    )
    return str(library)


class Failing:
    """A block in which the n-th call of a kind fails, or all from it on, and ``made`` says how many there were."""

    library: ctypes.CDLL

    @classmethod
    def prepare(cls, folder: str) -> None:
        """Look at the allocations of arrays, and at files in a folder."""
        from numpy._core import _multiarray_umath

        cls.library = library = ctypes.CDLL(os.environ["LD_PRELOAD"])
        library.inject.argtypes = [ctypes.c_int, ctypes.c_long, ctypes.c_long, ctypes.c_int]
        library.injected.restype = ctypes.c_long
        pointer = ctypes.pythonapi.PyCapsule_GetPointer
        pointer.restype, pointer.argtypes = ctypes.c_void_p, [ctypes.py_object, ctypes.c_char_p]
        table = ctypes.cast(pointer(_multiarray_umath._ARRAY_API, None), ctypes.POINTER(ctypes.c_void_p))
        handler = ctypes.cast(table[306], ctypes.POINTER(ctypes.py_object))[0]  # PyDataMem_DefaultHandler
        library.watch_arrays(ctypes.c_void_p(pointer(handler, b"mem_handler")))
        library.watch_folder(folder.encode())

    def __init__(self, kind: str, n: int, error: int = 0, lasting: bool = False) -> None:
        self.kind, self.n, self.error, self.made = kind, n, error, 0
        self.end = sys.maxsize if lasting else n + 1

    def __enter__(self) -> Failing:
        if self.kind == "objects":
            testcapi.set_nomemory(self.n, self.end)
        else:
            self.library.inject(KINDS[self.kind], self.n, self.end, self.error)
        return self

    def __exit__(self, *ignored: object) -> None:
        if self.kind == "objects":
            testcapi.remove_mem_hooks()
        else:
            self.made = self.library.injected(KINDS[self.kind])
