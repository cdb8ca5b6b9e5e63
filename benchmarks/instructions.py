"""Instructions that a native backend's own code executes for one unit of work, counted by Callgrind: a figure that repeats.

Python runs under Valgrind once and forks for each workload; what is counted is the backend's shared library alone.
Valgrind knows AVX2 and not AVX-512, so the backend is asked for its AVX2 variant.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path

import wyrm
from benchmarks import data
from benchmarks.by_fit import Fit
from benchmarks.models import MODELS
from benchmarks.results import Instructions
from benchmarks.workloads import WORKLOADS

__all__ = ["count_instructions"]

#: Whose code is counted, in which variant, and a part of its library's file name.
_BACKEND, _VARIANT, _LIBRARY = "c_simd", "avx2", "wyrm_c_simd"
#: Examples in a count, where the workload has so many.
_EXAMPLES = 2000


def count_instructions(keys: Sequence[str]) -> tuple[list[Instructions], str]:
    """For workloads; and, where nothing was counted, why."""
    valgrind = shutil.which("valgrind")
    if valgrind is None:
        return [], "valgrind is not installed"
    try:
        variant = wyrm.get_backend(_BACKEND).declaration.variants[_VARIANT]
    except wyrm.WyrmError as error:
        return [], str(error)
    chosen = [key for key in keys if key in MODELS and not WORKLOADS[key].threads]
    with tempfile.TemporaryDirectory() as folder:
        command = [valgrind, "--tool=callgrind", f"--callgrind-out-file={folder}/%p", sys.executable, "-m", __name__, *chosen]
        environment = {**os.environ, **variant, "PYTHONHASHSEED": "0", "OPENBLAS_NUM_THREADS": "1"}
        done = subprocess.run(command, env=environment, capture_output=True, text=True)
        if done.returncode:
            return [], f"callgrind failed: {done.stderr.strip()[-300:]}"
        counts = []
        for line in done.stdout.splitlines():
            key, process, examples = line.split()
            cost = own_cost(Path(folder, process).read_text(), _LIBRARY)
            units = WORKLOADS[key].units(0, int(examples))
            counts.append(Instructions(key, _BACKEND, _VARIANT, cost / units))
    return counts, ""


def own_cost(profile: str, library: str) -> int:
    """The instructions in functions of a library, from a profile in Callgrind's format."""
    names: dict[str, str] = {}
    total, inside, of_call = 0, False, False
    for line in profile.splitlines():
        if found := re.match(r"ob=(\(\d+\))(?: (.*))?", line):
            names[found[1]] = found[2] or names[found[1]]
            inside = library in names[found[1]]
        elif found := re.match(r"cob=(\(\d+\)) (.*)", line):
            names[found[1]] = found[2]
        elif line.startswith("calls="):
            of_call = True  # the next line is the cost of what is called
        elif line[:1] in "0123456789+-*" and line[:1]:
            if inside and not of_call:
                total += int(line.split()[1])
            of_call = False
    return total


def _fork_for_each(keys: Sequence[str]) -> Iterator[tuple[str, int, int]]:
    """Let a process of its own train each workload; its key, the process and how many examples it trained on."""
    data.first()  # once, for all
    for key in keys:
        examples = min(_EXAMPLES, WORKLOADS[key].epoch)
        process = os.fork()
        if process == 0:
            Fit(WORKLOADS[key], _BACKEND, MODELS[key]).run(0, examples)
            os._exit(0)
        os.waitpid(process, 0)
        yield key, process, examples


if __name__ == "__main__":
    for found in _fork_for_each(sys.argv[1:]):
        print(*found)
