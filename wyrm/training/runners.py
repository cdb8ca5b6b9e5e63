"""Programs bound to a feed, and the threads that drive them.

A runner executes a slice of the examples in one native call. Here slices are cut, short enough that Ctrl-C is noticed between
them, and handed to as many threads as are asked for; each thread has a runner, and so a workspace, of its own.
"""

from __future__ import annotations

import os
import signal
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from types import FrameType
from typing import Any

from wyrm.backend import Executable, Order, Runner
from wyrm.errors import BackendError, NotFiniteError, OutOfRangeError
from wyrm.memory import BagBuffer, GradientBuffer, Memory, Report, Sink
from wyrm.program import Buffer
from wyrm.training.feed import Feed

__all__ = ["Worker", "available_cores", "run_examples"]

#: Seconds that a slice is meant to take, and may never exceed by much.
_SLICE_SECONDS = 0.01
#: Examples in the first slice of a worker, before anything is known of their cost.
_FIRST_SLICE = 8


def available_cores() -> int:
    """The cores that this process may use."""
    try:
        return len(os.sched_getaffinity(0))
    except AttributeError:  # not on every system
        return os.cpu_count() or 1


class Worker:
    """A runner with memory of its own, for one thread.

    Parameters
    ----------
    shared
        What workers share, by buffer: values, states, clocks, scalars.
    """

    def __init__(self, executable: Executable, feed: Feed, shared: Mapping[Buffer, Any], sinks: Sequence[Sink] = ()) -> None:
        program = executable.program
        buffers: list[Any] = Memory.own(program)
        for buffer in program.buffers[2:]:
            if buffer.kind == "gradient":
                use = program.parameters[buffer.number]
                gradient = GradientBuffer(use.shape, program.dtype)
                gradient.reserve(use.rows_per_pass)
                buffers.append(gradient)
            elif buffer.kind == "bag":
                buffers.append(BagBuffer(program.inputs[buffer.number].slot.shape[0], program.dtype))
            else:
                buffers.append(shared[buffer])
        self.memory = Memory(program, buffers)
        self.feed, self.sinks = feed, sinks
        self.runner: Runner = executable.bind_feed(self.memory, feed.sources, sinks)
        self._length = _FIRST_SLICE
        #: How many it has run.
        self.examples = 0

    def run(self, order: Order, start: int, stop: int) -> None:
        """Run a slice; raises what the report says."""
        began = time.perf_counter()
        position = start
        while status := self.runner.run(order, position, stop):
            reached = int(self.memory.report.words[4])
            self.examples += reached - position
            position = reached
            self._recover(status)
        self.examples += stop - position
        seconds = max(time.perf_counter() - began, 1e-9)
        fitting = (stop - start) * _SLICE_SECONDS / seconds
        self._length = max(1, min(int(fitting), 4 * self._length, 1 << 22))

    def slice_length(self, remaining: int, workers: int) -> int:
        """How many examples to take next; towards the end less, so that all workers end together."""
        return max(1, min(self._length, -(-remaining // (2 * workers)) if workers > 1 else remaining))

    def _recover(self, status: int) -> None:
        """Make room for an example that has more indices than any before, or raise what the status stands for."""
        words = [int(word) for word in self.memory.report.words]
        program = self.memory.program
        if status == Report.BAG_FULL:
            buffer: BagBuffer = self.memory.buffers[program.inputs[words[1]].slot.buffer]
            buffer.reserve(words[3] + words[3] // 2)
            return
        if status == Report.ROWS_FULL:
            for n, kind in enumerate(program.buffers):
                if kind.kind == "gradient" and program.parameters[kind.number].gradient == "rows":
                    self.memory.buffers[n].reserve(words[3] + words[3] // 2)
            return
        if status == Report.NOT_FINITE:
            raise NotFiniteError(f"the loss of example {words[1]} is NaN or infinite; its update was not applied")
        if status == Report.INDEX_OUT_OF_RANGE:
            raise OutOfRangeError(f"input {words[1]}, place {words[2]}: index {words[3]} is outside its table")
        raise BackendError(f"the runner returned status {status}: {words}")


def run_examples(workers: Sequence[Worker], order: Order, progress: Callable[[int], Any]) -> None:
    """Run the examples of ``order``, each once, on one thread for each worker.

    Parameters
    ----------
    progress
        Called on this thread with the number of examples that were run since it was last called.

    Raises
    ------
    WyrmError
        What a worker ran into; the others are stopped, and have ended, before it is raised. ``KeyboardInterrupt`` likewise.
    """
    if len(workers) == 1:
        position = 0
        while position < len(order):
            stop = position + workers[0].slice_length(len(order) - position, 1)
            workers[0].run(order, position, stop)
            progress(stop - position)
            position = stop
        return
    _Crew(workers, order).run(progress)


@contextmanager
def _uninterrupted() -> Iterator[None]:
    """Hold Ctrl-C back until the block has ended, which must be soon."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    held: list[tuple[int, FrameType | None]] = []
    previous = signal.signal(signal.SIGINT, lambda number, frame: held.append((number, frame)))
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, previous)
    if held and callable(previous):
        previous(*held[0])


class _Crew:
    """Threads that take slices from one order until it is used up."""

    def __init__(self, workers: Sequence[Worker], order: Order) -> None:
        self.workers, self.order = workers, order
        self.taken = self.done = 0
        self.active = len(workers)
        self.lock = threading.Lock()
        self.ended = threading.Event()
        self.errors: list[BaseException] = []

    def work(self, worker: Worker) -> None:
        try:
            while True:
                with self.lock:
                    start = self.taken
                    remaining = len(self.order) - start
                    stop = self.taken = start + min(remaining, worker.slice_length(remaining, len(self.workers)))
                if start == stop:
                    return
                worker.run(self.order, start, stop)
                with self.lock:
                    self.done += stop - start
        except BaseException as error:
            self.errors.append(error)
            self.stop()
        finally:
            with self.lock:
                self.active -= 1
                if not self.active:
                    self.ended.set()

    def stop(self) -> None:
        """Hand out no further slices."""
        with self.lock:
            self.taken = len(self.order)

    def run(self, progress: Callable[[int], Any]) -> None:
        threads = [threading.Thread(target=self.work, args=(w,), name=f"wyrm-{n}") for n, w in enumerate(self.workers)]
        shown = 0
        try:
            with _uninterrupted():
                for thread in threads:
                    thread.start()
            # Not by Thread.join: interrupted, it takes a running thread for one that has ended (CPython issue 90882).
            while not self.ended.wait(0.05):
                done = self.done
                progress(done - shown)
                shown = done
        finally:
            with _uninterrupted():
                self.stop()
                self.ended.wait()
                for thread in threads:
                    thread.join()
        if self.errors:
            raise self.errors[0]
        progress(self.done - shown)
