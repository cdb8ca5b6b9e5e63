"""Plans: feeds bound to the programs of a model and to threads, ready to be gone through any number of times.

A :class:`Session` is what all feeds of one training run have in common. It makes a :class:`Plan` of each: of the one feed that
there is, once; of a stream, of each chunk in turn. Functions are traced, and programs compiled, once for all of them.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any

import numpy as np

from wyrm.errors import FeedError, NotFiniteError, OptionError, WyrmError
from wyrm.frontend.node import Node
from wyrm.program import Purpose
from wyrm.training.arrangement import Arrangement
from wyrm.training.assignment import Assignment, Schedules
from wyrm.training.auto import Trial
from wyrm.training.crews import Crew, Hogwild, Work
from wyrm.training.diagnosis import diagnosed
from wyrm.training.feed import Data, is_table
from wyrm.training.kept import HeldFeed, KeptTraining, key_of, put_back, take_out
from wyrm.training.losses import TRAINING
from wyrm.training.models import GraphModel, Model
from wyrm.training.order import epoch_order, in_order, key_seed
from wyrm.training.programs import TrainingPrograms, uncollected
from wyrm.training.runners import Part
from wyrm.training.schedules import make_crew
from wyrm.training.skipping import skipped

__all__ = ["Plan", "Session", "is_stream"]


def is_stream(feed: Any) -> bool:
    """Whether a feed is one of several, that come one after the other."""
    return not isinstance(feed, (Mapping, str, bytes)) and isinstance(feed, Iterable) and not is_table(feed)


class Session:
    """A model, its optimizers, and how they are trained.

    Parameters
    ----------
    schedule, threads, reproducible
        How threads share the work, as :func:`wyrm.training.schedules.make_crew` takes it.
    mean
        Whether a step is made by the mean of its examples' gradients; else by their sum.
    checked
        Whether a gradient that is not finite ends training before its update; else the loss alone is looked at.
    shuffle, seed
        Whether epochs visit the examples in a random order, and of what.
    once
        Whether there is one epoch.
    """

    def __init__(
        self,
        model: Model,
        assignment: Assignment,
        batch_size: int,
        mean: bool,
        checked: bool,
        schedule: str,
        threads: int | None,
        reproducible: bool,
        shuffle: bool,
        seed: int,
        once: bool,
    ) -> None:
        self.model, self.assignment, self.batch_size = model, assignment, batch_size
        self._schedule, self._threads, self._reproducible = schedule, threads, reproducible
        self.shuffle, self.seed, self._once = shuffle, seed, once
        self._trial, self._reason = Trial(), ""
        self._kept: tuple[tuple[Any, ...], KeptTraining] | None = None
        assignment.begin()
        self._begun = 0
        purpose: Purpose = "train" if batch_size == 1 else "accumulate"
        self.programs = TrainingPrograms(model, TRAINING, assignment, purpose, mean, checked)

    def plan(self, data: Data) -> Plan:
        """A plan for data."""
        with uncollected():
            return Plan(self, data)

    def crew(self, data: Data, arrangement: Arrangement, schedules: Schedules) -> tuple[list[Part], Crew]:
        """The programs that data go through, bound to them, and the threads that run these."""
        if self._begun != self.programs.changes:
            self.assignment.begin()
            self._begun = self.programs.changes
        single = self._schedule == "auto" and self.batch_size == arrangement.runs == 1
        how = self._schedule, self._threads, self._reproducible, self.programs.checked, single
        may_keep = self._once and self.batch_size == 1  # between epochs, data may change where they stand
        key = key_of(self.model, data, "fit", self.assignment.backend, *how) if may_keep else None
        if key is not None:
            kept: KeptTraining | None = take_out(self._owner, key)
            if kept is not None and kept.fits(data, self.assignment):
                kept.begin(data, self.programs, self.seed)
                self.programs.check_optimizers()
                self._kept = key, kept
                return [kept.part], kept.crew
            feed = HeldFeed(data)
            data = feed.data
        parts = self.programs.parts(data, arrangement, key_seed(self.seed), schedules)
        self.programs.check_optimizers()

        def update(shards: int) -> Part:
            return self.assignment.update(self.programs.dtype, schedules, shards)

        backend = self.assignment.backend
        work = Work(backend, parts, None if self.batch_size == 1 else update, self.batch_size, ordered=not self.shuffle)
        threads = 1 if single else self._threads
        crew = make_crew(work, self._schedule, threads, self._reproducible, "fit", self._trial)
        crew.reason = "an epoch is a single run" if single else self._reason or crew.reason
        self._kept = None
        if key is not None and isinstance(crew, Hogwild) and KeptTraining.may_be(self.programs, parts[0], crew):
            traced = self.model.traced(data, 0, 1, TRAINING)
            self._kept = key, KeptTraining(feed, self.programs, traced, parts[0], crew)
        return parts, crew

    @property
    def _owner(self) -> Node:
        """The node that keeps what stays bound."""
        assert isinstance(self.model, GraphModel)
        return self.model.nodes[0]

    def end(self) -> None:
        """Have programs stay bound for the next run, as this one ended well."""
        if self._kept is not None:
            put_back(self._owner, *self._kept)
            self._kept = None

    def plans(self, feed: Any, weights: Any = None) -> Callable[[], Iterator[Plan]]:
        """What gives the plans of an epoch, one for each chunk.

        Raises
        ------
        FeedError
            Of a stream, as it is gone through: where a chunk is no good, naming its number, or there is none.
        """
        if not is_stream(feed):
            plan = self.plan(self.model.read(feed, weights))
            return lambda: iter([plan])
        if weights is not None:
            raise OptionError(
                "fit: weights do not go with a stream of feeds, of which each has examples of its own; let the weights be an "
                "argument of the function, and multiply by them"
            )
        return lambda: self._stream(feed)

    def _stream(self, feed: Iterable[Any]) -> Iterator[Plan]:
        number = -1
        for number, chunk in enumerate(feed):
            try:
                plan = self.plan(self.model.read(chunk))
            except WyrmError as error:
                raise type(error)(f"chunk {number} of the stream: {error}") from error
            yield plan
            if self._trial.chosen == 0:  # for the other chunks only one thread is made ready
                self._schedule, self._threads, self._reason = "hogwild", 1, self._trial.reason
        if number < 0:
            raise FeedError("feed: the stream has no chunks; one that has been gone through already has none either")


class Plan:
    """Data, bound to programs and threads.

    Attributes
    ----------
    length
        The number of examples.
    skipped
        How many of them are left out, as their samples have nothing left to draw.
    crew
        The threads.
    """

    def __init__(self, session: Session, data: Data) -> None:
        self.length = data.length
        self._session, self._data = session, data
        self._arrangement = Arrangement(data, session.model.rows)
        (left_out,) = skipped(session.model, TRAINING, data, self._arrangement)
        self.skipped = 0 if left_out is None else int(left_out.sum())
        if 0 < self.skipped < self.length:  # where it is all of them, there is nothing to run, but all the same to check
            self._arrangement = Arrangement(data, session.model.rows, left_out)
        self._bind()

    def _bind(self) -> None:
        session = self._session
        self._changes = session.programs.changes
        self._schedules = Schedules(session.assignment, self._arrangement.runs, session.batch_size)
        self._parts, self.crew = session.crew(self._data, self._arrangement, self._schedules)

    def run(self, epoch: int, chunk: int, progress: Callable[[int], Any]) -> float:
        """Go through all examples that are not skipped once; returns the sum of their losses, each before its own update.

        Parameters
        ----------
        epoch, chunk
            Their numbers, which the order depends on.
        progress
            Called with the number of examples that were run since it was last called.
        """
        session = self._session
        if self._changes != session.programs.changes:  # of what is trained
            self._bind()
        if self.skipped == self.length:
            progress(self.length)
            return 0.0
        crew = self.crew
        shuffled, length = session.shuffle, self.length
        examples = epoch_order(session.seed, epoch, length, chunk) if shuffled else in_order(length)
        order, choice = self._arrangement.of(examples)
        made = crew.steps
        first_step = session.assignment.optimizers[0].steps * session.batch_size * session.model.rows
        crew.begin_epoch(first_step)
        self._schedules.begin(self._arrangement.counts(choice))
        try:
            crew.run_epoch(order, choice, _Progress(self.length, len(order), progress))
        except NotFiniteError as error:
            if error.example is None:
                raise
            run = int(np.flatnonzero(order[:, 0] == error.example)[0])
            structure, count = self._arrangement.parts[part := 0 if choice is None else int(choice[run])]
            loss = session.model.traced(self._data, structure, count, TRAINING).roots[0]
            sources = self._parts[part].sources
            raise diagnosed(error, epoch, loss, sources, order[run, :count].tolist(), first_step) from None
        finally:
            for optimizer in session.assignment.optimizers:
                optimizer.advance(crew.steps - made)
                for node in optimizer.parameters:
                    node.storage.note_change()
        return crew.loss


class _Progress:
    """Tells of runs as of examples."""

    def __init__(self, examples: int, runs: int, progress: Callable[[int], Any]) -> None:
        self.examples, self.runs, self.progress = examples, runs, progress
        self.done = self.shown = 0

    def __call__(self, runs: int) -> None:
        self.done += runs
        examples = self.done * self.examples // self.runs
        self.progress(examples - self.shown)
        self.shown = examples
