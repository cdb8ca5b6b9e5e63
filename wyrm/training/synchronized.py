"""The schedule ``synchronized``: threads share out the runs of each batch, and any number of them computes the same bits."""

from __future__ import annotations

import itertools
import threading
import time
from collections.abc import Callable
from dataclasses import replace
from functools import partial

from wyrm.backend import Order, Team
from wyrm.memory import GradientBuffer, Report
from wyrm.training.crews import Crew, Progress, Work, run_threads
from wyrm.training.runners import Choice, Worker, bind_part, closer, looks_closer, recover
from wyrm.whole import finish

__all__ = ["SHARDS", "Synchronized", "refuse_synchronized"]

#: Into how many shards a batch is cut, whatever the number of threads.
SHARDS = 8
#: Seconds that a slice is meant to take.
_SLICE_SECONDS = 0.01


def refuse_synchronized(work: Work, num_threads: int) -> str:
    """Why a model cannot have this schedule on so many threads; empty where it can."""
    if work.batch_size == 1:
        return "it shares out the runs of a batch, of which batch_size=1 has one; give a larger batch_size"
    return ""


class _Shards:
    """A worker for each shard of a batch, and the step that merges their gradients."""

    def __init__(self, work: Work, most: int) -> None:
        assert work.update is not None
        self.work, self.batch_size = work, work.batch_size
        count = min(most, work.batch_size)
        self.workers = [Worker(work.backend, work.parts, None, -(-work.batch_size // count)) for _ in range(count)]
        self._update = work.update(count)
        self.memory, self.step = bind_part(self._update, self._gradient)
        self.make_room()
        #: Of all threads that have ever worked on them, how many runs each has made; and the updates.
        self.teams: list[Team] = []
        self.steps = 0

    def team(self, num_threads: int) -> Team:
        """A team of so many threads."""
        runners = [worker.runner for worker in self.workers]
        team = self.work.backend.team(runners, self.step, self.batch_size, num_threads)
        self.teams.append(team)
        return team

    def _gradient(self, number: int) -> GradientBuffer:
        """The gradient that the update knows under a number: the shards' buffers follow each other."""
        program, parameters = self._update.executable.program, self._update.parameters
        count = len(program.parameters) // len(self.workers)
        parameter = number % count if parameters is None else parameters[number % count]
        buffer = GradientBuffer(program.parameters[number].shape, program.dtype)
        return self.workers[number // count].gradients.setdefault(parameter, buffer)

    def make_room(self) -> None:
        """Let the first shard's gradients have room for all the others'."""
        for parameter, target in self.workers[0].gradients.items():
            others = [worker.gradients[parameter].capacity for worker in self.workers[1:]]
            needed = sum(others) + max(others, default=0)
            if needed > target.capacity:
                target.extend(needed)

    def recover(self, status: int, failed: int) -> None:
        """Make room or raise what the status stands for; what the failed batch has gathered is thrown away."""
        try:
            if failed < len(self.workers):
                shard = self.workers[failed]
                recover(shard.memories[shard.runner.failed], status)
            elif status != Report.ROWS_FULL:
                recover(self.memory, status)
        finally:
            self.clear()
        self.make_room()

    def clear(self) -> None:
        """Throw away what a batch that failed has gathered."""
        for worker in self.workers:
            for gradient in worker.gradients.values():
                gradient.clear()


class Synchronized(Crew):
    """Threads of a team, with a worker for each shard.

    Parameters
    ----------
    work
        What is to be done; or another such crew, of whose work this one does a part.
    shards
        Into how many shards a batch is cut at most.
    """

    schedule = "synchronized"

    def __init__(self, work: Work | Synchronized, num_threads: int, shards: int = SHARDS) -> None:
        self.shards: _Shards = work.shards if isinstance(work, Synchronized) else _Shards(work, shards)
        self.num_threads, self.batch_size = num_threads, self.shards.batch_size
        self.team = self.shards.team(num_threads)
        #: Makes the batches for which the parts suspect a gradient that is not finite.
        self._closer: Synchronized | None = None
        self._examples = max(part.examples for part in self.shards.work.parts)
        #: How many batches a slice has.
        self.slice_batches = 1

    @property
    def loss(self) -> float:
        """The sum of the losses of the epoch's runs so far."""
        return sum(worker.runner.loss for worker in self.shards.workers)

    @property
    def examples(self) -> list[int]:
        """How many each thread has run so far, at most: of runs of several examples, shorter ones count as whole."""
        return [sum(runs) * self._examples for runs in itertools.zip_longest(*(t.runs for t in self.shards.teams), fillvalue=0)]

    @property
    def steps(self) -> int:
        """How many updates have been made so far."""
        return self.shards.steps

    def begin_epoch(self, first_step: int) -> None:
        """Begin the sum of losses, and set the number of example 0 in the keys of random numbers."""
        for worker in self.shards.workers:
            worker.runner.loss, worker.runner.first_step = 0.0, first_step

    def run(self, order: Order, choice: Choice, start: int, stop: int, progress: Progress) -> None:
        """Make the runs from ``start``, where a batch begins, to before ``stop``, where one ends."""
        for worker in self.shards.workers:
            worker.runner.choice = choice
        while start < stop:
            slices, steps = _Slices(self, order, start, stop), self.shards.steps

            def count(slices: _Slices = slices, steps: int = steps) -> None:
                self.shards.steps = steps - (slices.start - slices.done) // self.batch_size

            try:
                slices.run(progress)
            finally:
                finish(count)
            start = slices.done
            if slices.status == Report.NOT_FINITE and looks_closer(self.shards.work.parts):
                end = min(stop, start + self.batch_size)
                self._run_closely(order, choice, start, end, progress)
                start = end
            elif slices.status:
                self.shards.recover(slices.status, self.team.failed)

    def _run_closely(self, order: Order, choice: Choice, start: int, stop: int, progress: Progress) -> None:
        """Make the runs of a batch, unless a gradient is not finite indeed, which is raised."""
        self.shards.clear()
        first = self.shards.workers[0].runner
        if self._closer is None:
            work = replace(self.shards.work, parts=closer(self.shards.work.parts))
            self._closer = Synchronized(work, 1, len(self.shards.workers))
            self.shards.teams.append(self._closer.team)
        self._closer.begin_epoch(first.first_step)
        steps = self.shards.steps - self._closer.steps

        def count(made: Synchronized = self._closer) -> None:
            self.shards.steps = steps + made.steps

        try:
            self._closer.run(order, choice, start, stop, progress)
        finally:
            finish(count)
        first.loss += self._closer.loss

    def measure(self, runs: int, seconds: float) -> None:
        """Let the next slice take as long as it should, by how long this one took."""
        fitting = runs / self.batch_size * _SLICE_SECONDS / max(seconds, 1e-9)
        self.slice_batches = max(1, min(int(fitting), 4 * self.slice_batches, 1 << 22))


class _Slices:
    """The slices of an order, which all threads run one after the other, together.

    Thread 0 says how long the next slice is before it goes to work on this one; as nobody is done with this one before thread
    0 has joined in, everybody finds it said.
    """

    def __init__(self, crew: Synchronized, order: Order, start: int, stop: int) -> None:
        self.crew, self.order, self.start, self.stop = crew, order, start, stop
        self.before, self.shown = sum(crew.team.runs), start
        self.plan = [(start, start)]
        self.said = threading.Condition()
        self.stopping = self.over = False
        self.status = 0

    @property
    def done(self) -> int:
        """Up to where batches have been applied; exact when all threads have ended."""
        return self.start + sum(self.crew.team.runs) - self.before

    def say(self) -> None:
        """Add the next slice to the plan; an empty one is the end."""
        first = self.plan[-1][1]
        with self.said:
            length = 0 if self.stopping else self.crew.slice_batches * self.crew.batch_size
            self.plan.append((first, min(self.stop, first + length)))
            self.said.notify_all()

    def end(self) -> None:
        """Let nobody wait for a slice any more."""
        with self.said:
            self.over = True
            self.said.notify_all()

    def work(self, thread: int, tick: Callable[[], None] | None = None) -> None:
        """Run slice after slice."""
        try:
            if not thread:
                self.say()
            for number in itertools.count(1):
                with self.said:
                    while len(self.plan) <= number:
                        if self.over:
                            return
                        self.said.wait()
                    start, stop = self.plan[number]
                if start == stop:
                    return
                if not thread:
                    self.say()
                began = time.perf_counter()
                status = self.crew.team.run(thread, self.order, start, stop)
                if status:
                    self.status = status
                    return
                if not thread:
                    self.crew.measure(stop - start, time.perf_counter() - began)
                if tick is not None:
                    tick()
        except BaseException:
            self.crew.team.abandon()
            raise
        finally:
            if not thread:
                self.end()

    def run(self, progress: Progress) -> None:
        """On as many threads as the crew has, the caller's where that is one."""

        def tick() -> None:
            done = self.done
            progress(done - self.shown)
            self.shown = done

        def stop() -> None:
            self.stopping = True

        if self.crew.num_threads == 1:
            self.work(0, tick)
        else:
            run_threads([partial(self.work, thread) for thread in range(self.crew.num_threads)], stop, tick)
