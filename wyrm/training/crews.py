"""Crews: threads that go through an order of runs, each with a worker of its own.

Slices of the order are run in native calls, short enough that Ctrl-C is noticed between them. Here is what all schedules
have in common, and the plainest two of them: one thread, and threads that share the parameters without locks.
"""

from __future__ import annotations

import os
import threading
from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

from wyrm.backend import Backend, Order
from wyrm.errors import ThreadError
from wyrm.training.runners import Choice, Part, Worker
from wyrm.whole import Uninterrupted

__all__ = ["Crew", "Hogwild", "Progress", "Work", "WorkersCrew", "available_cores", "run_threads"]

#: Called with the number of runs that were made since it was last called.
Progress = Callable[[int], Any]


def available_cores() -> int:
    """The cores that this process may use."""
    try:
        return len(os.sched_getaffinity(0))
    except AttributeError:  # not on every system
        return os.cpu_count() or 1


@dataclass
class Work:
    """What a crew is to do.

    Attributes
    ----------
    parts
        Of programs of one purpose: ``train`` or ``evaluate``, or ``accumulate`` where there is an ``update``.
    update
        Makes the step that follows each batch, for gradients that have been gathered in so many shards; its parameters are
        those of one shard.
    batch_size
        How many runs make a batch.
    ordered
        Whether the examples have to be visited in the order that is given.
    """

    backend: Backend
    parts: Sequence[Part]
    update: Callable[[int], Part] | None = None
    batch_size: int = 1
    ordered: bool = False

    def worker(self) -> Worker:
        """A worker that does all of it."""
        return Worker(self.backend, self.parts, None if self.update is None else self.update(1), self.batch_size)


class Crew(ABC):
    """Threads that make the runs of an order.

    Attributes
    ----------
    schedule
        How they share the parameters, by the name of the option; ``sequential`` for one thread that needs no schedule.
    reason
        Why it is this one; empty where it was asked for.
    repeatable
        Whether the same schedule computes the same bits again.
    num_threads
        How many there are.
    batch_size
        How many runs make a step.
    """

    schedule: str
    reason: str = ""
    repeatable: bool = True
    num_threads: int
    batch_size: int

    def run_epoch(self, order: Order, choice: Choice, progress: Progress) -> None:
        """Make all runs of an order, each once; ``progress`` is called on this thread.

        Raises
        ------
        WyrmError
            What a thread ran into; the others have ended before it is raised. ``KeyboardInterrupt`` likewise.
        """
        self.run(order, choice, 0, len(order), progress)

    @abstractmethod
    def run(self, order: Order, choice: Choice, start: int, stop: int, progress: Progress) -> None:
        """Make the runs from ``start`` to before ``stop``."""

    @property
    @abstractmethod
    def loss(self) -> float:
        """The sum of the losses of the epoch's runs so far."""

    @property
    @abstractmethod
    def examples(self) -> list[int]:
        """How many each thread has run so far."""

    @property
    @abstractmethod
    def steps(self) -> int:
        """How many updates have been made so far."""

    @abstractmethod
    def begin_epoch(self, first_step: int) -> None:
        """Begin the sum of losses, and set the number of example 0 in the keys of random numbers."""


class WorkersCrew(Crew):
    """A crew in which each thread has a worker that needs none of the others."""

    def __init__(self, workers: Sequence[Worker]) -> None:
        self.workers = list(workers)
        self.num_threads, self.batch_size = len(self.workers), self.workers[0].batch_size

    def begin(self) -> None:
        """Count from nothing again."""
        for worker in self.workers:
            worker.examples = worker.steps = 0

    @property
    def loss(self) -> float:
        """The sum of the losses of the epoch's runs so far."""
        return sum(worker.runner.loss for worker in self.workers)

    @property
    def examples(self) -> list[int]:
        """How many each thread has run so far."""
        return [worker.examples for worker in self.workers]

    @property
    def steps(self) -> int:
        """How many updates have been made so far."""
        return sum(worker.steps for worker in self.workers)

    def begin_epoch(self, first_step: int) -> None:
        """Begin the sum of losses, and set the number of example 0 in the keys of random numbers."""
        for worker in self.workers:
            worker.runner.loss, worker.runner.first_step = 0.0, first_step


class Hogwild(WorkersCrew):
    """Threads that take the next slice of the order whenever they are done with one; one alone is the caller's."""

    def __init__(self, workers: Sequence[Worker]) -> None:
        super().__init__(workers)
        self.repeatable = self.num_threads == 1
        self.schedule = "sequential" if self.repeatable else "hogwild"

    def run(self, order: Order, choice: Choice, start: int, stop: int, progress: Progress) -> None:
        """Make the runs from ``start`` to before ``stop``."""
        if self.num_threads > 1:
            _Slices(self.workers, order, choice, start, stop).run(progress)
            return
        while start < stop:
            end = min(stop, start + self.workers[0].slice_length(stop - start))
            self.workers[0].run(order, choice, start, end)
            progress(end - start)
            start = end


class _Slices:
    """An order that threads take slices of."""

    def __init__(self, workers: Sequence[Worker], order: Order, choice: Choice, start: int, stop: int) -> None:
        self.workers, self.order, self.choice = workers, order, choice
        self.taken, self.end = start, stop
        self.done = self.shown = 0
        self.lock = threading.Lock()

    def work(self, worker: Worker) -> None:
        while True:
            with self.lock:
                start = self.taken
                remaining = self.end - start
                stop = self.taken = start + min(remaining, worker.slice_length(remaining, len(self.workers)))
            if start == stop:
                return
            worker.run(self.order, self.choice, start, stop)
            with self.lock:
                self.done += stop - start

    def stop(self) -> None:
        with self.lock:
            self.taken = self.end

    def run(self, progress: Progress) -> None:
        def tick() -> None:
            done = self.done
            progress(done - self.shown)
            self.shown = done

        run_threads([partial(self.work, worker) for worker in self.workers], self.stop, tick)


def run_threads(functions: Sequence[Callable[[], None]], stop: Callable[[], Any], tick: Callable[[], Any]) -> None:
    """Call each function on a thread of its own, and wait until all have ended. None is called before all threads are there.

    Parameters
    ----------
    stop
        Called where one has raised something, or this thread is interrupted: lets the others end soon.
    tick
        Called on this thread now and then.

    Raises
    ------
    ThreadError
        If the system has no room for so many threads; no function has been called then.
    BaseException
        What came to this thread; else the first that a function raised, after all have ended.
    """
    begun, ended = threading.Event(), threading.Event()
    lock = threading.Lock()
    active = len(functions)
    errors: list[BaseException | None] = [None] * len(functions)

    def guarded(number: int) -> None:
        nonlocal active
        try:
            begun.wait()
            if started == len(functions):
                functions[number]()
        except BaseException as error:
            errors[number] = error
            stop()
        finally:
            with lock:
                active -= 1
                if not active:
                    ended.set()

    threads = [threading.Thread(target=guarded, args=(n,), name=f"wyrm-{n}") for n in range(len(functions))]
    started = 0
    try:
        with Uninterrupted():
            for thread in threads:
                thread.start()
                started += 1
        begun.set()
        # Not by Thread.join: interrupted, it takes a running thread for one that has ended (CPython issue 90882).
        while not ended.wait(0.05):
            tick()
    except RuntimeError as error:
        if started == len(threads):
            raise
        raise ThreadError(
            f"the system has no room for {len(threads)} threads more ({error}); ask for fewer by num_threads, or end others"
        ) from error
    finally:
        with Uninterrupted():
            begun.set()
            if started == len(threads) and not ended.is_set():
                stop()
                ended.wait()
            for thread in threads:
                if thread.ident is not None:
                    thread.join()
    raised = next(filter(None, errors), None)
    if raised is not None:
        raise raised
    tick()
