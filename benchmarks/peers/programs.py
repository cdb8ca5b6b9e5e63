"""Programs by others, each in a process that lives as long as the benchmark."""

from __future__ import annotations

import os
import subprocess
import tempfile
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import fields
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks import data
from benchmarks.competitor import Competitor, NotHereError
from benchmarks.interactions import interactions
from benchmarks.peers.environments import cargo_program, python_with
from benchmarks.recommenders import RECOMMENDERS
from benchmarks.workloads import Workload

__all__ = ["Peer", "competitors"]

_HERE = Path(__file__).parent
#: So that others are not given more threads than Wyrm.
_ONE_THREAD = {
    **dict.fromkeys(("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"), "1"),
    "XLA_FLAGS": "--xla_cpu_multi_thread_eigen=false intra_op_parallelism_threads=1",
    "JAX_PLATFORMS": "cpu",
}


#: Seconds after which a program that does not answer is ended.
_LONGEST = 120.0


class Peer(Competitor):
    """A program that obeys :mod:`benchmarks.peers.protocol`; ``command`` makes its environment and says how it is called.

    ``tolerance``: of the sum of its first losses; wide for approximate functions, endless for what does something near.
    """

    peer = True

    def __init__(
        self, workload: Workload, name: str, command: Callable[[], list[str]], tolerance: float = 2e-5, threads: int = 1
    ) -> None:
        super().__init__(workload, name, threads)
        self.tolerance = tolerance
        try:
            called = command()
        except NotHereError as reason:
            raise NotHereError(f"{name}: {reason}") from None
        environment = {**os.environ, **_ONE_THREAD, "PYTHONPATH": str(_HERE.parent.parent)}
        self._process = subprocess.Popen(
            called, env=environment, text=True, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE
        )

    @property
    def clock(self) -> Callable[[], float]:
        """As for others; the processor time of another process is known on Linux alone."""
        if self.threads == 1 and os.uname().sysname == "Linux":
            return lambda: time.clock_gettime(~self._process.pid << 3 | 2)  # CPUCLOCK_SCHED of that process
        return time.perf_counter

    def first_losses(self) -> float | None:
        answer = self._ask(f"first {self.workload.checked}")
        return None if answer == "unknown" else float(answer)

    def run(self, start: int, stop: int) -> None:
        self._ask(f"run {start} {stop}")

    def close(self) -> None:
        self._process.kill()
        self._process.communicate()

    def _ask(self, line: str) -> str:
        process = self._process
        too_long = threading.Timer(_LONGEST, process.kill)
        too_long.start()
        try:
            print(line, file=process.stdin, flush=True)
            answer = process.stdout.readline().strip() if process.stdout else ""
        except BrokenPipeError:
            answer = ""
        finally:
            too_long.cancel()
        if not answer:
            _, errors = process.communicate()
            raise NotHereError(f"{self.name}: its program ended: {' '.join(errors.strip().splitlines()[-2:])}")
        return answer


def competitors(workload: Workload, threads: Sequence[int]) -> list[Callable[[], Competitor]]:
    """Makers of what takes part in a workload."""
    return [*_rust(workload), *_sbr(workload), *_python(workload, threads)]


def _rust(workload: Workload) -> list[Callable[[], Competitor]]:
    if workload.key not in ("w1", "w2", "w3", "w4"):
        return []

    def command(*features: str) -> list[str]:
        return [str(cargo_program(_HERE / "rust", *features)), workload.key, str(_files(workload.key))]

    return [
        lambda: Peer(workload, "Rust crate wyrm", command),
        lambda: Peer(workload, "Rust crate wyrm, fast-math", lambda: command("fast"), 0.02),
        lambda: Peer(workload, "Rust crate wyrm, OpenBLAS, fast-math", lambda: command("fast", "blas"), 0.02),
    ]


def _sbr(workload: Workload) -> list[Callable[[], Competitor]]:
    kind = RECOMMENDERS.get(workload.key)
    if kind is None:
        return []

    def command() -> list[str]:
        return [str(cargo_program(_HERE / "sbr")), kind.model, kind.loss, str(kind.length), str(_interactions())]

    return [lambda: Peer(workload, "Rust crate sbr", command)]


#: Program, name, workloads, tolerance, packages and options of pip.
_PROGRAMS: tuple[tuple[str, str, tuple[str, ...], float, tuple[str, ...], tuple[str, ...]], ...] = (
    (
        "pytorch",
        "PyTorch",
        ("w1", "w2", "w3", "w4", "w8"),
        2e-5,
        ("torch", "numpy"),
        ("--extra-index-url", "https://download.pytorch.org/whl/cpu"),
    ),
    ("jax_scan", "JAX, scan", ("w1", "w2", "w3", "w8"), 2e-5, ("jax", "numpy"), ()),
    ("gensim_word2vec", "gensim", ("w6",), np.inf, ("gensim",), ()),
    ("lightfm_logistic", "LightFM, logistic loss", ("w2", "w5"), np.inf, ("lightfm-next",), ()),
)


def _python(workload: Workload, threads: Sequence[int]) -> list[Callable[[], Competitor]]:
    def peer(program: str, name: str, tolerance: float, packages: Sequence[str], options: Sequence[str], count: int) -> Peer:
        def command() -> list[str]:
            python = python_with(program, packages, *options)
            return [str(python), "-m", f"benchmarks.peers.{program}", workload.key, str(count)]

        return Peer(workload, name, command, tolerance, count)

    return [
        lambda p=program, n=name, t=tolerance, k=packages, o=options, c=count: peer(p, n, t, k, o, c)
        for program, name, keys, tolerance, packages, options in _PROGRAMS
        if workload.key in keys
        for count in (threads if workload.threads else [1])
    ]


@cache
def _files(key: str) -> Path:
    """The data of a workload as files of plain numbers, for programs that are not in Python."""
    folder = Path(_temporary().name) / key
    folder.mkdir()
    first = data.first()
    arrays: dict[str, Any] = {"x": first.x, "y": first.y, "sequences": first.sequences, "lengths": first.lengths}
    for values in (first.factorization, first.lstm):
        arrays |= {field.name: getattr(values, field.name) for field in fields(values)}
    for name, array in arrays.items():
        array.tofile(folder / name)
    return folder


@cache
def _interactions() -> Path:
    """Users and items in the order of time."""
    values = interactions()
    path = Path(_temporary().name) / "interactions"
    np.stack([values.users, values.items], axis=1).astype(np.int32).tofile(path)
    return path


@cache
def _temporary() -> tempfile.TemporaryDirectory[str]:
    return tempfile.TemporaryDirectory(prefix="wyrm-benchmarks-")
