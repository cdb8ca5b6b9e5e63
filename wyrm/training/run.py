"""A run of :func:`wyrm.fit`: its epochs, what callbacks may ask and do, and what a run that is resumed goes on from."""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import cached_property
from types import TracebackType
from typing import TYPE_CHECKING, Any

from wyrm.checkpoints.files import StoredPath, path_name
from wyrm.checkpoints.saving import Saved, read, write
from wyrm.checkpoints.state import Model, ModelState
from wyrm.errors import CheckpointError, OptionError
from wyrm.frontend.parameters import ParameterNode
from wyrm.nn.module import Module
from wyrm.optim import Optimizer
from wyrm.training.history import Epoch, History

if TYPE_CHECKING:
    from wyrm.training.callbacks import Callback

__all__ = ["Carried", "Resumed", "Run"]

_logger = logging.getLogger("wyrm.fit")
#: What the names of the arrays begin with in which a checkpoint has the states that the run has kept.
_KEPT = "kept"


class Run:
    """What callbacks are given: how training has gone, what is trained, and a way to end it.

    Attributes
    ----------
    history
        The epochs so far, and how the run goes.
    optimizers
        Those of the run; their learning rates may be set between epochs.
    num_epochs
        How many epochs there are to be, with those before it was resumed.
    error
        The exception that ended training; ``None`` where none did.
    kept
        States of earlier epochs that callbacks keep, each by a name, with the number of its epoch: see :meth:`keep`.
    """

    def __init__(
        self,
        parameters: Callable[[], Sequence[ParameterNode]],
        optimizers: Sequence[Optimizer],
        history: History,
        num_epochs: int,
        options: Mapping[str, Any],
        callbacks: Sequence[Callback],
        owner: Module | None = None,
    ) -> None:
        self.history = history
        self.optimizers = list(optimizers)
        self._given, self._owner = parameters, owner
        self.num_epochs = num_epochs
        self.error: BaseException | None = None
        self.kept: dict[str, tuple[int, ModelState]] = {}
        #: What has to be the same where the run is resumed, by the names of the options.
        self._options = dict(options)
        self._callbacks = list(callbacks)
        self._begun: list[Callback] = []

    @cached_property
    def model(self) -> Model:
        """All parameters by name, and the optimizers; made for who asks."""
        return Model(self._given(), self.optimizers, self._owner)

    @property
    def parameters(self) -> list[ParameterNode]:
        """Those of the loss, and of the optimizers."""
        return list(self.model.nodes.values())

    @property
    def epoch(self) -> int:
        """How many epochs have been made."""
        return self.history.epochs[-1].number if self.history.epochs else 0

    @property
    def finished(self) -> bool:
        """Whether no epoch follows."""
        return bool(self.history.stopped) or self.epoch >= self.num_epochs

    def stop(self, reason: str = "a callback ended it") -> None:
        """End training after this epoch; the history keeps the reason."""
        self.history.stopped = reason

    def keep(self, name: str) -> None:
        """Keep parameters and optimizers as they are now, to be put back later; checkpoints of the run have them, too."""
        self.kept[name] = self.epoch, self.model.state()

    def save(self, path: StoredPath) -> None:
        """Write a checkpoint from which :func:`wyrm.fit` can go on: ``fit(..., resume=path)``."""
        frozen = [name for name, node in self.model.nodes.items() if not node.trainable]
        run = {"epoch": self.epoch, "options": self._options, "history": self.history.to_json(), "frozen": frozen}
        state = self.model.state()
        kept = []
        for number, (name, (epoch, earlier)) in enumerate(self.kept.items()):
            same = earlier.equals(state)
            kept.append({"name": name, "epoch": epoch, "description": None if same else earlier.description})
            if not same:
                state.add(f"{_KEPT}.{number}/", earlier.arrays)
        write(path, state, metadata={}, run={**run, "kept": kept})

    # -- for fit

    def resume(self, resumed: Resumed) -> None:
        """Go on from a checkpoint.

        Raises
        ------
        CheckpointError
            Where it is that of another model, optimizer, or run; nothing has changed then.
        """
        for name, value in self._options.items():
            if resumed.options.get(name) != value:
                raise CheckpointError(
                    f"{resumed.path}: the run had {name}={resumed.options.get(name)!r}, and here {name}={value!r}, so it "
                    f"cannot be resumed; to begin a new run with its parameters, use wyrm.load"
                )
        for epoch, state in resumed.kept.values():
            self.model.compare(state, f"{resumed.path}, the state of epoch {epoch}")
        self.model.restore(resumed.state, resumed.path)
        for name, node in self.model.nodes.items():
            if node.trainable is (name in resumed.frozen):
                node.trainable = not node.trainable
                how = "trainable" if node.trainable else "not trainable"
                _logger.warning("%s: %s is %s from here on, as in the run that is resumed", resumed.path, node._label(), how)
        self.kept = dict(resumed.kept)
        self.history.epochs[:] = resumed.history.epochs
        self.history.stopped = resumed.history.stopped
        self.history.repeatable &= resumed.history.repeatable

    def epochs(self) -> Iterator[int]:
        """The numbers of the epochs to make; callbacks are told before each."""
        history = self.history
        how = (history.backend, history.num_threads, history.schedule, history.reason or "as asked for", history.seed)
        _logger.debug("fit on %s, %d threads, schedule %s (%s), seed %d", *how)
        _logger.debug("ready after %.3g s; %d of %d epochs are made", history.startup_seconds, self.epoch, self.num_epochs)
        for callback in self._callbacks:
            self._begun.append(callback)
            callback.begin(self)
        while not self.finished:
            for callback in self._callbacks:
                callback.begin_epoch(self)
            yield self.epoch + 1
        if history.stopped:
            _logger.info("stopped after epoch %d: %s", self.epoch, history.stopped)

    def end_epoch(self, epoch: Epoch) -> None:
        """Take note of an epoch, and tell the callbacks."""
        self.history.epochs.append(epoch)
        for callback in self._callbacks:
            callback.end_epoch(self)
        if _logger.isEnabledFor(logging.INFO):
            metrics = "".join(f", {name} {value:.6g}" for name, value in epoch.metrics.items())
            numbers = (epoch.number, self.num_epochs, epoch.loss, metrics, epoch.examples_per_second)
            _logger.info("epoch %d of %d: loss %.6g%s, %.4g examples/s", *numbers)

    def __enter__(self) -> Run:
        for number, optimizer in enumerate(self.optimizers):
            try:
                optimizer.begin_run()
            except BaseException:
                self._end(number)
                raise
        return self

    def _end(self, count: int) -> None:
        """Let other threads train by the first optimizers again."""
        for optimizer in self.optimizers[:count]:
            optimizer.end_run()

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None) -> None:
        """Tell the callbacks that training has ended."""
        self.error = error
        try:
            for callback in self._begun:
                callback.end(self)
        finally:
            self._end(len(self.optimizers))


class Resumed:
    """A checkpoint of a run, read but not yet put back; ``frozen`` has the names of the parameters that were not trainable.

    Raises
    ------
    CheckpointError
        Where the file is no checkpoint, or that of no run.
    """

    def __init__(self, path: StoredPath) -> None:
        self.path = path_name(path)
        self.state: ModelState
        self.state, saved = read(path)
        self.options, self.history, self.frozen, self.kept = self._checked(saved)

    def _checked(self, saved: Saved) -> tuple[dict[str, Any], History, list[str], dict[str, tuple[int, ModelState]]]:
        if saved.run is None:
            raise CheckpointError(
                f"{self.path}: no run of fit made this checkpoint, so none can be resumed from it; put it back by wyrm.load"
            )
        options, text, epoch, frozen, kept = (saved.run.get(name) for name in ("options", "history", "epoch", "frozen", "kept"))
        try:
            history = History.from_json(text if isinstance(text, str) else "")
        except OptionError as error:
            raise CheckpointError(f"{self.path}: {error}") from None
        numbers = [entry.number for entry in history]
        if (
            not isinstance(options, dict)
            or not isinstance(kept, list)
            or not isinstance(frozen, list)
            or not numbers
            or numbers != list(range(1, len(numbers) + 1))
            or epoch != numbers[-1]
        ):
            raise CheckpointError(f"{self.path}: what the file says of its run is incomplete")
        return options, history, frozen, dict(self._kept(number, entry) for number, entry in enumerate(kept))

    def _kept(self, number: int, entry: Any) -> tuple[str, tuple[int, ModelState]]:
        """A state of an earlier epoch, by its name."""
        name, epoch, description = (
            (entry.get(key) for key in ("name", "epoch", "description")) if isinstance(entry, dict) else (None,) * 3
        )
        if type(name) is not str or type(epoch) is not int or not isinstance(description, (dict, type(None))):
            raise CheckpointError(f"{self.path}: expected a state that the run has kept, found {entry!r}")
        if description is None:
            return name, (epoch, self.state)
        return name, (epoch, ModelState(self.state.take(f"{_KEPT}.{number}/"), description))

    @property
    def seed(self) -> int | None:
        """That of the run.

        Raises
        ------
        CheckpointError
            If it is none.
        """
        seed = self.options.get("seed")
        if type(seed) is int and seed < 0:
            raise CheckpointError(f"{self.path}: expected the run's seed to be at least 0, found {seed}")
        return seed if type(seed) is int else None

    @property
    def reproducible(self) -> bool:
        """Whether a user gave the seed: then schedules are chosen by rule alone."""
        return self.options.get("reproducible") is True


class Carried:
    """Lets an exception that ends a block carry the history, as its attribute ``history``."""

    def __init__(self, history: History) -> None:
        self.history = history

    def __enter__(self) -> None:
        pass

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None) -> None:
        if error is not None:
            with contextlib.suppress(AttributeError):  # a class may forbid it
                error.history = self.history  # type: ignore[attr-defined]
