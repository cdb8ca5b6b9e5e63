"""The loops in C: compiled for this machine when they are first needed, strictly and with ``-ffast-math``."""

from __future__ import annotations

import ctypes
import os
import shutil
import subprocess
import tempfile
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

from benchmarks.by_hand import ByHand, Function
from benchmarks.competitor import NotHere
from benchmarks.workloads import Workload

__all__ = ["FAST", "STRICT", "competitors", "compiler"]

#: Which source has a workload's loop. The function has the same name.
SOURCES = {
    "w1": "regression",
    "w2": "factorization",
    "w3": "lstm",
    "w4": "lstm",
}
STRICT, FAST = ("-O3", "-march=native"), ("-O3", "-march=native", "-ffast-math")


def competitors(workload: Workload) -> list[Callable[[], ByHand]]:
    """Makers of what takes part in a workload."""
    name = SOURCES.get(workload.key)
    if name is None:
        return []
    return [
        lambda: ByHand(workload, "C by hand, -ffast-math", _function(name, FAST)),
        lambda: ByHand(workload, "C by hand", _function(name, STRICT)),
    ]


def compiler() -> str:
    """The C compiler: ``$CC``, or ``cc``."""
    found = shutil.which(os.environ.get("CC", "cc"))
    if found is None:
        raise NotHere("there is no C compiler; set CC")
    return found


@cache
def _folder() -> tempfile.TemporaryDirectory[str]:
    return tempfile.TemporaryDirectory(prefix="wyrm-benchmarks-")


@cache
def _library(name: str, flags: tuple[str, ...]) -> ctypes.CDLL:
    source = Path(__file__).parent / "c" / f"{name}.c"
    stem = Path(_folder().name) / f"{name}{''.join(flags)}"
    options = ["-std=gnu11", "-Wall", "-Wextra", "-fPIC", *flags]
    # Linked without the flags: with -ffast-math, GCC's linker adds code that turns denormal numbers off in the whole process.
    for command in (
        [*options, "-c", str(source), "-o", f"{stem}.o"],
        ["-shared", f"{stem}.o", "-o", f"{stem}.so", "-lm", "-lpthread"],
    ):
        done = subprocess.run([compiler(), *command], capture_output=True, text=True)
        if done.returncode:
            raise NotHere(f"{source.name} does not compile: {done.stderr.strip()}")
    return ctypes.CDLL(f"{stem}.so")


def _function(name: str, flags: tuple[str, ...], *leading: Any) -> Function:
    """A C function that takes addresses of arrays, then two numbers; ``leading`` come before them."""
    function = getattr(_library(name, flags), name)
    function.restype = ctypes.c_double

    def call(*arguments: Any) -> float:
        *arrays, start, stop = arguments
        addresses = [ctypes.c_void_p(array.ctypes.data) for array in arrays]
        return float(function(*leading, *addresses, ctypes.c_long(start), ctypes.c_long(stop)))

    return call
