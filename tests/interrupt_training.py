"""Interrupts training at random instants, and says how long it took to end each time.

    python tests/interrupt_training.py --backend NAME --tries 50

A child trains on long epochs, by each schedule that the backend has, on one thread and on two. A signal (SIGINT, as of Ctrl-C)
reaches it at a random instant, which may be while data are prepared. After each the child must have one thread, finite
parameters and a history. The bar is a fifth of a second on a machine that has nothing else to do.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import signal
import statistics
import subprocess
import sys
import threading
import time
import warnings

import numpy as np

import wyrm
from wyrm.native import NativeBackend
from wyrm.optim import SGD

#: With what a backend has to declare for them, where there are several threads.
SCHEDULES = {"hogwild": "hogwild", "synchronized": "synchronized", "conflict_free": "hogwild"}
BAR = 0.2


class _Training:
    """Factorization whose epochs take longer than a native call may, so that calls that are too long are seen."""

    def __init__(self, backend: str, schedule: str, threads: int) -> None:
        rng = np.random.default_rng(0)
        self.tables = [wyrm.ParameterNode(np.ones((500, 1024))) for _ in range(2)]
        i, j = wyrm.IndexInputNode(), wyrm.IndexInputNode()
        self.loss = self.tables[0].index(i).vector_dot(self.tables[1].index(j)) * 1e-9
        self.feed = {node: rng.integers(0, 500, 500_000, np.int32) for node in (i, j)}
        self.options = {"schedule": schedule, "num_threads": threads, "backend": backend}
        self.options["batch_size"] = 64 if schedule == "synchronized" else 1
        # All is compiled now, as for many examples: of a signal while Numba compiles, LLVM's callbacks make another error.
        count = 20_000 if isinstance(wyrm.get_backend(backend), NativeBackend) else 200
        few = {node: values[:count] for node, values in self.feed.items()}
        wyrm.fit(self.loss, few, SGD(1e-9, self.tables), **self.options)

    def interrupted(self, delay: float) -> dict[str, float | bool]:
        """Train until a signal comes after ``delay`` seconds: what was left to do, and whether all is in order then.

        ``latency`` is in seconds by the clock, ``busy`` in those that the process had of the processor meanwhile.
        """
        sent = []

        def send() -> None:
            sent.append((time.perf_counter(), time.process_time()))
            os.kill(os.getpid(), signal.SIGINT)

        timer = threading.Timer(delay, send)
        timer.start()
        try:
            wyrm.fit(self.loss, self.feed, SGD(1e-9, self.tables), num_epochs=10**6, **self.options)
        except KeyboardInterrupt as error:
            latency, busy = time.perf_counter() - sent[0][0], time.process_time() - sent[0][1]
            timer.join()
            consistent = all(np.isfinite(table.value).all() for table in self.tables)
            in_order = consistent and threading.active_count() == 1 and len(error.history) < 10**6
            return {"latency": latency, "busy": busy, "in order": bool(in_order)}
        raise AssertionError("training ended by itself")


def kinds(backend: str) -> list[tuple[str, int]]:
    """The schedules that a backend has, each with one thread and with two if it can have them."""
    declared = wyrm.get_backend(backend).capabilities.schedules
    return [
        (schedule, threads)
        for schedule, needed in SCHEDULES.items()
        for threads in (1, 2)
        if threads == 1 or needed in declared
    ]


def interrupt(backend: str, tries: list[tuple[str, int, list[float]]]) -> list[list[dict[str, float | bool]]]:
    """What happened at each interruption, in a process of its own.

    A try is a schedule, a number of threads, and after how many seconds of training a signal comes, each time.
    """
    command = [sys.executable, __file__, "--child", backend, json.dumps(tries)]
    return json.loads(subprocess.run(command, stdout=subprocess.PIPE, check=True, text=True).stdout)


def _child(backend: str, tries: str) -> None:
    warnings.simplefilter("ignore")
    signal.signal(signal.SIGINT, signal.default_int_handler)  # what a shell starts in the background ignores it
    results = []
    for schedule, threads, delays in json.loads(tries):
        training = _Training(backend, schedule, threads)
        results.append([training.interrupted(delay) for delay in delays])
    print(json.dumps(results))


def _main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--backend", default=wyrm.get_backend().name)
    parser.add_argument("--tries", type=int, default=50)
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args()
    rng = random.Random(arguments.seed)
    chosen = kinds(arguments.backend)
    found = []
    for number, (schedule, threads) in enumerate(chosen):
        tries = arguments.tries // len(chosen) + (number < arguments.tries % len(chosen))
        (results,) = interrupt(arguments.backend, [(schedule, threads, [rng.uniform(0, 1) for _ in range(tries)])])
        found += results
        latencies = [result["latency"] for result in results]
        print(f"{schedule:15} {threads} threads  {tries:3} tries  longest {max(latencies) * 1e3:6.1f} ms", flush=True)
    latencies = [result["latency"] for result in found]
    bad = sum(not result["in order"] for result in found)
    middle, longest = statistics.median(latencies) * 1e3, max(latencies) * 1e3
    print(f"{arguments.backend}, seed {arguments.seed}: {len(found)} interruptions, {bad} left something in disorder,", end=" ")
    print(f"median {middle:.1f} ms, longest {longest:.1f} ms")
    return int(bad > 0 or max(latencies) >= BAR)


if __name__ == "__main__":
    if sys.argv[1:2] == ["--child"]:
        _child(*sys.argv[2:])
    else:
        sys.exit(_main())
