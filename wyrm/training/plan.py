"""Plans: feeds bound to the programs of a model and to threads, ready to be gone through any number of times.

A :class:`Session` is what all feeds of one training run have in common. It makes a :class:`Plan` of each: of the one feed that
there is, once; of a stream, of each chunk in turn. Functions are traced, and programs compiled, once for all of them.

A plan for little data is bound to memory of its own, and data of the same layout take their place: the next chunk of a stream,
or the feed of the next call, for which the optimizer keeps the session. What programs depend on is either part of the key by
which a session is found, or looked at by :meth:`Plan.take`; or parameters tell of it, so that programs are bound anew
(``changes``).
"""

from __future__ import annotations

import weakref
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from wyrm.backend import Backend
from wyrm.errors import FeedError, NotFiniteError, WyrmError
from wyrm.optim import Optimizer
from wyrm.program import Purpose
from wyrm.training.arrangement import Arrangement
from wyrm.training.assignment import Assignment, Schedules
from wyrm.training.auto import Trial
from wyrm.training.crews import Crew, Hogwild, Work
from wyrm.training.diagnosis import diagnosed
from wyrm.training.feed import Data, is_table
from wyrm.training.kept import HeldFeed, Layout, layout_of
from wyrm.training.losses import TRAINING
from wyrm.training.models import Model, Traced
from wyrm.training.order import epoch_order, in_order, key_seed
from wyrm.training.programs import TrainingPrograms, uncollected
from wyrm.training.runners import Part
from wyrm.training.schedules import make_crew
from wyrm.training.skipping import skipped
from wyrm.whole import finish

__all__ = ["How", "Plan", "Session", "is_stream"]


def is_stream(feed: Any) -> bool:
    """Whether a feed is one of several, that come one after the other; an array without axes has none."""
    if isinstance(feed, (Mapping, str, bytes)) or getattr(feed, "shape", None) == ():
        return False
    return isinstance(feed, Iterable) and not is_table(feed)


class How(NamedTuple):
    """How a model is trained.

    Attributes
    ----------
    batch_size
        How many runs make a step.
    mean
        Whether a step is made by the mean of its examples' gradients; else by their sum.
    checked
        Whether a gradient that is not finite ends training before its update; else the loss alone is looked at.
    schedule, threads, reproducible
        How threads share the work, as :func:`wyrm.training.schedules.make_crew` takes it.
    shuffle
        Whether epochs visit the examples in a random order.
    once
        Whether a feed is gone through once: between epochs, data may change where they stand.
    """

    batch_size: int
    mean: bool
    checked: bool
    schedule: str
    threads: int | None
    reproducible: bool
    shuffle: bool
    once: bool


class Session:
    """A model, its optimizers, and how they are trained.

    Parameters
    ----------
    data
        The one feed; ``None``: there will be a stream of them.
    layout
        Of the feed, if others may take its place.
    """

    def __init__(
        self,
        model: Model,
        optimizers: Sequence[Optimizer],
        backend: Backend,
        how: How,
        seed: int,
        data: Data | None = None,
        layout: Layout | None = None,
    ) -> None:
        self.model: Any = model
        self.assignment, self.how, self.seed = Assignment(optimizers, backend), how, seed
        self._schedule, self._threads = how.schedule, how.threads
        self._trial, self._reason = Trial(), ""
        self.assignment.begin()
        self._begun = 0
        purpose: Purpose = "train" if how.batch_size == 1 else "accumulate"
        self.programs = TrainingPrograms(model, TRAINING, self.assignment, purpose, how.mean, how.checked)
        self._plan: Plan | None = None
        if data is not None:
            self._plan = self._made(data, layout is not None)
        #: By what the first optimizer keeps it.
        self._key: tuple[Any, ...] = ()

    @staticmethod
    def of(
        model: Model, optimizers: Sequence[Optimizer], backend: Backend, how: How, seed: int, feed: Any, weights: Any
    ) -> Session:
        """A session for a feed: that of an earlier call, if there is one that does the same as one made now."""
        keyed, sessions = model.keyed(feed), optimizers[0].sessions
        if not how.once:
            return Session(model, optimizers, backend, how, seed, model.read(keyed, weights))
        scheduled = [group.schedule is not None for optimizer in optimizers for group in optimizer.groups]
        same = how, backend, *map(weakref.ref, optimizers), *scheduled
        latest: Session | None = sessions.take_latest() if weights is None else None
        if latest is not None:
            if latest._key[1:] == same and latest._repeats(model, optimizers, seed, keyed):
                return latest
            sessions[latest._key] = latest
        data = model.read(keyed, weights)
        layout = layout_of(model, data, TRAINING)
        if layout is None:
            return Session(model, optimizers, backend, how, seed, data)
        key = layout.key, *same
        kept: Session | None = sessions.take(key)
        if kept is None or not kept._goes_on(model, optimizers, seed, data, layout):
            kept = Session(model, optimizers, backend, how, seed, data, layout)
            kept._key = key
        return kept

    def _repeats(self, model: Model, optimizers: Sequence[Optimizer], seed: int, keyed: Mapping[Any, Any]) -> bool:
        """Get ready for another call, if its data are given as those of the last one were: these are read soonest."""
        plan = self._plan
        data, layout = (None, None) if plan is None else plan.read_in_place(model, keyed, self._key[0])
        return data is not None and layout is not None and self._goes_on(model, optimizers, seed, data, layout)

    def _goes_on(self, model: Model, optimizers: Sequence[Optimizer], seed: int, data: Data, layout: Layout) -> bool:
        """Get ready for another call; whether that is possible."""
        self.model, self.assignment.optimizers, self.seed = model, optimizers, seed
        self.programs.begin(model)
        return self._plan is not None and self._plan.take(self, data, layout.traced)

    def end(self) -> None:
        """Stay ready for the next call, as this one ended well: without what belongs to the caller."""
        if self._key and self._plan is not None and self._plan.stays:
            first, *_ = self.assignment.optimizers
            self.model, self.assignment.optimizers = None, ()
            self.programs.end()
            self._plan.end()
            first.sessions[self._key] = self

    def _made(self, data: Data, held: bool) -> Plan:
        """A plan for data."""
        with uncollected():
            return Plan(self, data, held)

    def crew(self, data: Data, arrangement: Arrangement, schedules: Schedules) -> tuple[list[Part], Crew]:
        """The programs that data go through, bound to them, and the threads that run these."""
        if self._begun != self.programs.changes:
            self.assignment.begin()
            self._begun = self.programs.changes
        parts = self.programs.parts(data, arrangement, key_seed(self.seed), schedules)
        self.programs.check_optimizers()

        def update(shards: int) -> Part:
            return self.assignment.update(self.programs.dtype, schedules, shards)

        backend, batch_size = self.assignment.backend, self.how.batch_size
        single = self._schedule == "auto" and batch_size == arrangement.runs == 1
        work = Work(backend, parts, None if batch_size == 1 else update, batch_size, ordered=not self.how.shuffle)
        crew = make_crew(work, self._schedule, 1 if single else self._threads, self.how.reproducible, "fit", self._trial)
        crew.reason = "an epoch is a single run" if single else self._reason or crew.reason
        return parts, crew

    def plans(self, feed: Any) -> Callable[[], Iterator[Plan]]:
        """What gives the plans of an epoch: the one plan, or one for each chunk of a stream.

        Raises
        ------
        FeedError
            Of a stream, as it is gone through: where a chunk is no good, naming its number, or there is none.
        """
        plan = self._plan
        return (lambda: self._stream(feed)) if plan is None else (lambda: iter([plan]))

    def _stream(self, feed: Iterable[Any]) -> Iterator[Plan]:
        number, plan, before = -1, None, None
        data: Data | None
        for number, chunk in enumerate(feed):
            try:
                keyed = self.model.keyed(chunk)
                data, layout = (
                    (None, None) if plan is None or before is None else plan.read_in_place(self.model, keyed, before.key)
                )
                if data is None:
                    data = self.model.read(keyed)
                    layout = layout_of(self.model, data, TRAINING)
                same = plan is not None and layout is not None and before is not None and layout.key == before.key
                if plan is None or layout is None or not same or not plan.take(self, data, layout.traced):
                    plan, before = self._made(data, layout is not None), layout
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

    Parameters
    ----------
    held
        Whether programs are bound to a copy of the data, of which others can take the place.
    """

    def __init__(self, session: Session, data: Data, held: bool) -> None:
        self.length = data.length
        self._session: Any = session
        self._data: Any = data
        self._arrangement = Arrangement(data, session.model.rows)
        (left_out,) = skipped(session.model, TRAINING, data, self._arrangement)
        self.skipped = 0 if left_out is None else int(left_out.sum())
        if 0 < self.skipped < self.length:  # where it is all of them, there is nothing to run, but all the same to check
            self._arrangement = Arrangement(data, session.model.rows, left_out)
        self._held = HeldFeed(data) if held and not self.skipped else None
        self._bind()

    def _bind(self) -> None:
        session: Session = self._session
        held = self._held
        self._changes = session.programs.changes
        self._schedules = Schedules(session.assignment, self._arrangement.runs, session.how.batch_size)
        data = self._data if held is None else held.named(self._data)
        self._parts, self.crew = session.crew(data, self._arrangement, self._schedules)
        if held is not None:
            structure, examples = self._arrangement.parts[0]
            traced = session.model.traced(data, structure, examples, TRAINING)
            held.watch(session.programs, traced, data, self._parts[0])

    @property
    def stays(self) -> bool:
        """Whether other data of its layout can be gone through by it."""
        return self._held is not None and isinstance(self.crew, Hogwild) and self.crew.num_threads == 1

    def read_in_place(self, model: Model, keyed: Mapping[Any, Any], key: Any) -> tuple[Data | None, Layout | None]:
        """Data that are given as those before were, of a layout with the same key, read to where these were; ``None``: not."""
        data = self._held.read_in_place(keyed) if self._held is not None and self.stays else None
        layout = None if data is None else layout_of(model, data, TRAINING)
        return (None, None) if layout is None or layout.key != key else (data, layout)

    def take(self, session: Session, data: Data, traced: Traced) -> bool:
        """Let data of the same layout take the place of those before, after they have been checked; whether they can."""
        held, self._session = self._held, session
        if held is None or not self.stays or not held.has_room(data):
            return False
        assert isinstance(self.crew, Hogwild)
        if any(examples is not None for examples in held.skipped(data)):
            return False
        if not held.replace(data, traced, key_seed(session.seed) if held.random else 0):
            return False
        session.programs.check_optimizers()
        self._data = data
        self.crew.begin()
        return True

    def end(self) -> None:
        """Let go of the data and the session, which keeps the plan."""
        self._session = self._data = None

    def run(self, epoch: int, chunk: int, progress: Callable[[int], Any]) -> float:
        """Go through all examples that are not skipped once; returns the sum of their losses, each before its own update.

        Parameters
        ----------
        epoch, chunk
            Their numbers, which the order depends on.
        progress
            Called with the number of examples that were run since it was last called.
        """
        session: Session = self._session
        session.assignment.check_adopted()
        for column in self._data.columns.values():
            column.check_files()
        if self._changes != session.programs.changes:  # of what is trained
            self._bind()
        if self.skipped == self.length:
            progress(self.length)
            return 0.0
        crew = self.crew
        shuffled, length = session.how.shuffle, self.length
        examples = epoch_order(session.seed, epoch, length, chunk) if shuffled else in_order(length)
        order, choice = self._arrangement.of(examples)
        made, optimizers = crew.steps, session.assignment.optimizers
        first_step = optimizers[0].steps * session.how.batch_size * session.model.rows
        steps = [optimizer.steps for optimizer in optimizers]

        def count_steps() -> None:
            for optimizer, before in zip(optimizers, steps, strict=True):
                optimizer.count_to(before + crew.steps - made)
                for node in optimizer.parameters:
                    node.storage.note_change()

        crew.begin_epoch(first_step)
        if self._schedules.any:
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
            finish(count_steps)
            for optimizer in optimizers:
                optimizer.follow_schedules()
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
