"""Runs the C backend under the address and undefined-behaviour sanitizers: ``make sanitize``.

    python tests/sanitize.py LIBRARY [--sets avx2,portable] [--tests tests/test_bags.py ...]

LIBRARY is a folder with a ``wyrm_c_simd`` that was built with ``WYRM_SANITIZE=ON``. The conformance suite runs on each
instruction set, then those tests that have to do with memory and threads. The first read or write outside of memory, and the
first undefined operation, ends the process with a report of where it was.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
from pathlib import Path

HERE = Path(__file__).parent
#: What has to do with memory that users hold, with threads and with sizes.
TESTS = (
    "test_bags.py",
    "test_c_simd.py",
    "test_copying.py",
    "test_data.py",
    "test_draws.py",
    "test_errors.py",
    "test_fit.py",
    "test_graph.py",
    "test_runs.py",
    "test_schedules.py",
    "test_several_graphs.py",
    "test_set_gradients.py",
    "test_sparse_gradients.py",
)


def library(name: str) -> str:
    """Where the compiler has a library of its own."""
    compiler = os.environ.get("CC", "cc")
    return subprocess.run([compiler, f"-print-file-name={name}"], capture_output=True, text=True, check=True).stdout.strip()


def environment(built: Path, instruction_set: str) -> dict[str, str]:
    """Variables under which Python loads the sanitized library and allocates in a way that the sanitizer sees."""
    return {
        **os.environ,
        "LD_PRELOAD": " ".join([library("libasan.so"), library("libubsan.so")]),
        "ASAN_OPTIONS": "detect_leaks=0",  # Python itself frees little of what it has when it ends
        "PYTHONMALLOC": "malloc",
        "PYTHONPATH": os.pathsep.join([str(built), *filter(None, [os.environ.get("PYTHONPATH")])]),
        "WYRM_C_SIMD_INSTRUCTION_SET": instruction_set,
        "WYRM_BACKEND": "c_simd",
    }


def main() -> int:
    """Run everything; the exit status of what failed first."""
    parser = argparse.ArgumentParser(description="Runs the C backend under sanitizers.")
    parser.add_argument("library", type=Path)
    parser.add_argument("--sets", default="portable")
    parser.add_argument("--tests", nargs="*", default=[str(HERE / name) for name in TESTS])
    parser.add_argument("--run", nargs=argparse.REMAINDER, help="run Python with these arguments instead")
    options = parser.parse_args()
    sets = options.sets.split(",")
    if options.run:
        command = [sys.executable, *options.run]
        return subprocess.run(command, env=environment(options.library.resolve(), sets[0]), check=False).returncode
    suite = [sys.executable, "-m", "wyrm_conformance", "--backend", "c_simd"]
    tests = [sys.executable, "-m", "pytest", "-q", "--quick", "-p", "no:cacheprovider", *options.tests]
    for command, chosen in [*((suite, name) for name in sets), (tests, sets[0])]:
        print(f"{chosen}: {' '.join(command[1:4])}", flush=True)
        status = subprocess.run(command, env=environment(options.library.resolve(), chosen), check=False).returncode
        if status:
            return status
    return 0


if __name__ == "__main__":
    sys.exit(main())
