"""Runs the C backend under sanitizers: ``make sanitize``.

    python tests/sanitize.py [--sets avx512,avx2,portable] [--short] [--tests tests/test_bags.py ...]

Two libraries are built. By one, the conformance suite runs on each instruction set, and then those tests that have to do with
memory and threads: the first read or write outside of memory, and the first undefined operation, ends the process with a
report of where it was. By the other, threads train by schedules in which no race is allowed (``races.py``), and by one in which
there are races, which have to be found. ``--short`` is what continuous integration has the time for.
"""

from __future__ import annotations

import argparse
import os
import shutil
import subprocess
import sys
import time
from pathlib import Path

from races import ORDERED

HERE = Path(__file__).parent
BUILT = HERE.parent / "out" / "sanitize"
#: What is about memory alone, and quick.
MEMORY = ("test_bag_memory.py", "test_borrowed.py", "test_set_gradients.py")
#: What has to do with memory that users hold, with threads and with sizes.
TESTS = (
    *MEMORY,
    "test_bags.py",
    "test_c_simd.py",
    "test_copying.py",
    "test_data.py",
    "test_draws.py",
    "test_errors.py",
    "test_fit.py",
    "test_gradient_use.py",
    "test_graph.py",
    "test_runs.py",
    "test_schedules.py",
    "test_several_graphs.py",
    "test_sparse_gradients.py",
    "test_threads.py",
)
#: The sanitizers' libraries, by what the build calls them.
LIBRARIES = {"address": ("libasan.so", "libubsan.so"), "thread": ("libtsan.so",)}
#: The exit status by which the thread sanitizer says that it has found something.
FOUND = 66


def library(name: str) -> str | None:
    """Where the compiler has a library of its own."""
    compiler = os.environ.get("CC", "cc")
    printed = subprocess.run([compiler, f"-print-file-name={name}"], capture_output=True, text=True, check=True).stdout.strip()
    return printed if Path(printed).is_absolute() else None


def build(sanitizer: str, sets: str) -> None:
    """Build the backend into a folder of its own."""
    defined = os.environ | {"SKBUILD_CMAKE_DEFINE": f"WYRM_SANITIZE={sanitizer};WYRM_SETS={sets}"}
    pip = [sys.executable, "-m", "pip", "install", "--quiet", "--no-deps", "--upgrade", "--target", str(BUILT / sanitizer)]
    subprocess.run([*pip, str(HERE.parent / "backends" / "c_simd_backend")], env=defined, check=True)


def environment(sanitizer: str, instruction_set: str, counted: bool) -> dict[str, str]:
    """Variables under which Python loads a sanitized library and allocates in a way that the sanitizer sees."""
    return os.environ | {
        "LD_PRELOAD": " ".join(filter(None, map(library, LIBRARIES[sanitizer]))),
        # Python itself frees little of what it has when it ends; and memory that waits to be used again looks like a leak.
        "ASAN_OPTIONS": f"detect_leaks=0:allocator_may_return_null=1:quarantine_size_mb={4 if counted else 256}",
        "TSAN_OPTIONS": f"exitcode={FOUND}",
        "PYTHONMALLOC": "malloc",
        "PYTHONPATH": os.pathsep.join([str(BUILT / sanitizer), *filter(None, [os.environ.get("PYTHONPATH")])]),
        "WYRM_C_SIMD_INSTRUCTION_SET": instruction_set,
        "WYRM_BACKEND": "c_simd",
    }


def run(sanitizer: str, chosen: str, command: list[str], quiet: bool = False) -> int:
    """Run a command of Python's; its exit status."""
    print(f"{sanitizer}, {chosen}: {' '.join(command[:4])}", flush=True)
    began = time.perf_counter()
    output = subprocess.DEVNULL if quiet else None
    fixed = ["setarch", "-R"] if sanitizer == "thread" and shutil.which("setarch") else []  # it wants its addresses free
    finished = subprocess.run(
        [*fixed, sys.executable, *command],
        env=environment(sanitizer, chosen, "wyrm_conformance" in command),
        check=False,
        stdout=output,
        stderr=output,
    )
    print(f"exit status {finished.returncode} after {time.perf_counter() - began:.0f} s", flush=True)
    return finished.returncode


def main() -> int:
    """Run everything; the exit status of what failed first."""
    parser = argparse.ArgumentParser(description="Runs the C backend under sanitizers.")
    parser.add_argument("--sets", default="portable")
    parser.add_argument("--short", action="store_true", help="the contract and the tests of memory alone")
    parser.add_argument("--tests", nargs="*")
    parser.add_argument("--run", nargs=argparse.REMAINDER, help="run Python with these arguments instead, on what was built")
    options = parser.parse_args()
    if options.run:
        return run("address", options.sets.split(",")[0], options.run)
    missing = [name for names in LIBRARIES.values() for name in names if library(name) is None]
    if missing:
        print(f"NOT SANITIZED: the C compiler has no {' and no '.join(missing)}; install the sanitizers that belong to it")
        return 0 if options.short else 1
    sets = options.sets.split(",")
    for sanitizer in LIBRARIES:
        build(sanitizer, options.sets if sanitizer == "address" else "portable")
    suite = ["-m", "wyrm_conformance", "--backend", "c_simd", *(["--select", "contract/[!l]*"] if options.short else [])]
    tests = options.tests or [str(HERE / name) for name in (MEMORY if options.short else TESTS)]
    # Sanitizers keep memory, so nothing is said of how much the process takes.
    some = ["-k", "not numba and not reference and not does_not_grow"]
    of_tests = ["-m", "pytest", "-q", "--quick", "-p", "no:cacheprovider", *some, *tests]
    for command, chosen in [*((suite, name) for name in sets), (of_tests, sets[0])]:
        if run("address", chosen, command):
            return 1
    for schedule in ORDERED:
        if run("thread", "portable", [str(HERE / "races.py"), schedule]):
            return 1
    if run("thread", "portable", [str(HERE / "races.py"), "hogwild"], quiet=True) != FOUND:
        print("the races of hogwild were not found: the sanitizer sees nothing")
        return 1
    print("nothing found, but for the races of hogwild, which there are")
    return 0


if __name__ == "__main__":
    sys.exit(main())
