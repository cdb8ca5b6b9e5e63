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
from benchmarks.competitor import NotHereError
from benchmarks.workloads import Workload

__all__ = ["FAST", "STRICT", "competitors", "compiler", "function"]

#: The source and the function that is a workload's loop.
SOURCES = {
    "w1": ("regression", "regression"),
    "w2": ("factorization", "factorization"),
    "w3": ("lstm", "lstm_of_four"),
    "w4": ("lstm", "lstm"),
    "w6": ("skip_gram", "skip_gram"),
    "w7": ("logistic", "logistic"),
    "w8": ("perceptron", "perceptron"),
}
#: How many examples ahead Hogwild fetches rows.
AHEAD = 8
STRICT, FAST = ("-O3", "-march=native"), ("-O3", "-march=native", "-ffast-math")


def competitors(workload: Workload, threads: list[int]) -> list[Callable[[], ByHand]]:
    """Makers of what takes part in a workload; the fast one first, to which others are compared."""
    if workload.threads:
        kinds = [("C by hand, -ffast-math", 0), ("C by hand, -ffast-math, prefetching", AHEAD)]
        return [
            lambda name=name, ahead=ahead, t=t: ByHand(workload, name, function("hogwild", "hogwild", FAST, t, ahead), t)
            for t in threads
            for name, ahead in kinds
        ]
    place = SOURCES[workload.key]
    return [
        lambda: ByHand(workload, "C by hand, -ffast-math", function(*place, FAST)),
        lambda: ByHand(workload, "C by hand", function(*place, STRICT)),
    ]


def compiler() -> str:
    """The C compiler: ``$CC``, or ``cc``."""
    found = shutil.which(os.environ.get("CC", "cc"))
    if found is None:
        raise NotHereError("there is no C compiler; set CC")
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
            raise NotHereError(f"{source.name} does not compile: {done.stderr.strip()}")
    return ctypes.CDLL(f"{stem}.so")


def function(source: str, name: str, flags: tuple[str, ...], *leading: int) -> Function:
    """A C function that takes numbers, ``leading``, then the addresses of arrays, then the first and the last example."""
    native = getattr(_library(source, flags), name)
    native.restype = ctypes.c_double

    def call(*arguments: Any) -> float:
        *arrays, start, stop = arguments
        addresses = [ctypes.c_void_p(array.ctypes.data) for array in arrays]
        return float(native(*map(ctypes.c_long, leading), *addresses, ctypes.c_long(start), ctypes.c_long(stop)))

    return call
