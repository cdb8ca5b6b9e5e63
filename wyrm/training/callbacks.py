"""Callbacks: what :func:`wyrm.fit` calls between epochs.

A function is called after each epoch with its :class:`wyrm.Epoch`. Whoever needs more derives from :class:`Callback`.
"""

from __future__ import annotations

import logging
import math
import os
from collections.abc import Callable, Iterable
from typing import Any, Literal

import numpy as np

from wyrm.arguments import as_list, called, check_number, shown
from wyrm.checkpoints.files import StoredPath, path_name, place_of
from wyrm.errors import DTypeError, OptionError
from wyrm.training.feed import check_integer
from wyrm.training.history import Epoch, History
from wyrm.training.run import Run

__all__ = ["Callback", "Checkpoint", "EarlyStopping", "LearningRate", "as_callbacks"]

_logger = logging.getLogger("wyrm.fit")
Mode = Literal["min", "max"]


class Callback:
    """The base of callbacks. Every method is called with the :class:`wyrm.Run`; they do nothing here.

    Callbacks are called in the order in which they are given to ``fit``, so one that adds to an epoch's ``metrics`` stands
    before those that read it. Where one raises, training ends with that exception; parameters and optimizers are then as the
    last step left them, and the exception has the run's history as its attribute ``history``.

    A run that is resumed has new callbacks, and a history with all earlier epochs: a callback takes from there what it has to
    know of them. States of the model that it may want to put back, it has the run :meth:`~wyrm.Run.keep`.

    Examples
    --------
    >>> import wyrm
    >>> class StopBelow(wyrm.Callback):
    ...     def __init__(self, loss):
    ...         self.loss = loss
    ...
    ...     def end_epoch(self, run):
    ...         run.history[-1].metrics["root"] = run.history[-1].loss ** 0.5
    ...         if run.history[-1].loss < self.loss:
    ...             run.stop(f"the loss is below {self.loss}")
    >>> w, x = wyrm.ParameterNode(1.0), wyrm.InputNode((1, 1))
    >>> history = wyrm.fit(
    ...     (w * x).square(), {x: [1.0]}, wyrm.optim.SGD(0.25, [w]), num_epochs=100, callbacks=[StopBelow(0.01)]
    ... )
    >>> [epoch.metrics["root"] for epoch in history], history.stopped
    ([1.0, 0.5, 0.25, 0.125, 0.0625], 'the loss is below 0.01')
    """

    def begin(self, run: Run) -> None:
        """Before the first epoch; of a run that is resumed, ``run.history`` has the earlier ones."""

    def begin_epoch(self, run: Run) -> None:
        """Before each epoch."""

    def end_epoch(self, run: Run) -> None:
        """After each epoch, which is ``run.history[-1]``."""

    def end(self, run: Run) -> None:
        """When training has ended, also by an exception, which is ``run.error``."""


class _EpochFunction(Callback):
    """A function of an epoch."""

    def __init__(self, function: Callable[[Epoch], Any]) -> None:
        self.function = function

    def end_epoch(self, run: Run) -> None:
        called(self.function, run.history[-1], "fit", "callbacks to be functions of an epoch")


def as_callbacks(callbacks: Iterable[Callback | Callable[[Epoch], Any]]) -> list[Callback]:
    """What users give, all as callbacks.

    Raises
    ------
    DTypeError
        Where something is neither a callback nor a function.
    """
    found = []
    for callback in as_list(callbacks, "fit", "a list of callbacks"):
        if not isinstance(callback, Callback):
            if isinstance(callback, type) or not callable(callback):
                raise DTypeError(f"fit: expected callbacks to be wyrm.Callback, or functions of an epoch, got {callback!r}")
            callback = _EpochFunction(callback)
        found.append(callback)
    return found


class EarlyStopping(Callback):
    """End training when a metric no longer gets better.

    Parameters
    ----------
    metric
        ``"loss"``, or the name of an entry of :attr:`wyrm.Epoch.metrics`.
    patience
        How many epochs in a row may pass without a new best.
    min_delta
        By how much a new best must be better than the old one.
    mode
        ``"min"`` where less is better, or ``"max"``.
    restore_best
        Whether to put parameters and optimizers back, in the end, to what they were after the best epoch. Keeps a copy of
        them, which checkpoints have, too.

    Notes
    -----
    A run that has stopped has ended: ``fit(..., resume=path)``, with a checkpoint of it, makes no further epoch, returns the
    same history, and puts the best back. To train on nevertheless, begin a new run with its parameters, by :func:`wyrm.load`.

    Raises
    ------
    OptionError
        For options outside their range; during training, where there is no such metric.
    """

    def __init__(
        self,
        metric: str = "validation_loss",
        patience: int = 3,
        *,
        min_delta: float = 0.0,
        mode: Mode = "min",
        restore_best: bool = False,
    ) -> None:
        _check_mode("EarlyStopping", mode)
        if check_integer(patience, "EarlyStopping: patience") < 1:
            raise OptionError(f"EarlyStopping: expected patience of at least 1, got {patience}")
        _check_metric("EarlyStopping: metric", metric)
        min_delta = check_number(min_delta, "EarlyStopping: min_delta", 0)
        self.metric, self.patience, self.min_delta, self.mode = metric, patience, min_delta, mode
        self.restore_best = restore_best
        #: Under which the run keeps the best state.
        self._name = f"best {metric}, {mode}, {min_delta!r}"

    def begin(self, run: Run) -> None:
        """Of a run that is resumed, go on from its history: keep what is there if it is the best, or stop."""
        best = self._end_epoch(run)
        number, _ = run.kept.get(self._name, (0, None))
        if self.restore_best and number == best:
            return
        run.kept.pop(self._name, None)
        if self.restore_best:
            _logger.warning("the best epoch, %d, cannot be put back: its state is not in the checkpoint", best)

    def end_epoch(self, run: Run) -> None:
        """Keep a new best; stop if there was none for too long."""
        self._end_epoch(run)

    def end(self, run: Run) -> None:
        """Put the best back."""
        if self.restore_best and self._name in run.kept:
            number, state = run.kept[self._name]
            run.model.restore(state, f"epoch {number}")
            _logger.info("parameters are those of epoch %d", number)

    def _end_epoch(self, run: Run) -> int:
        best = best_epoch(run.history, self.metric, self.mode, self.min_delta)
        if self.restore_best and best and best == run.epoch:
            run.keep(self._name)
        if run.epoch - best >= self.patience and not run.history.stopped:
            since = f"since epoch {best}" if best else "at all"
            run.stop(f"{self.metric} has not got better {since}")
        return best


class Checkpoint(Callback):
    """Write the run to a file as it goes, whole at any time, so that ``fit(..., resume=path)`` can go on from there.

    It stands after the callbacks that change something: :class:`EarlyStopping`, for instance.

    Parameters
    ----------
    path
        Where to. ``{epoch}`` in it becomes the epoch's number, so that each has a file of its own.
    every
        After how many epochs; the last one is always written.
    best
        Write after those epochs alone that are the best so far by this metric.
    mode
        ``"min"`` where less is better, or ``"max"``.

    Raises
    ------
    OptionError
        For options outside their range; during training, where there is no such metric.
    OSError, CheckpointError
        During training, where the file cannot be written.

    Examples
    --------
    The same call begins a run and, once there is a file, goes on with it:

    >>> import os, tempfile, wyrm
    >>> path = os.path.join(tempfile.mkdtemp(), "run.safetensors")
    >>> def train(num_epochs):
    ...     w, x = wyrm.ParameterNode(0.0, name="w"), wyrm.InputNode((1, 1))
    ...     optimizer = wyrm.optim.SGD(0.25, [w])
    ...     resume = path if os.path.exists(path) else None
    ...     options = {"num_epochs": num_epochs, "callbacks": [wyrm.Checkpoint(path)], "resume": resume}
    ...     history = wyrm.fit((w * x - 1.0).square(), {x: [1.0]}, optimizer, **options)
    ...     return len(history), float(w.value[0, 0])
    >>> train(1), train(3)
    ((1, 0.5), (3, 0.875))
    """

    def __init__(self, path: StoredPath, every: int = 1, *, best: str | None = None, mode: Mode = "min") -> None:
        _check_mode("Checkpoint", mode)
        if check_integer(every, "Checkpoint: every") < 1:
            raise OptionError(f"Checkpoint: expected every to be at least 1, got {every}")
        if best is not None:
            _check_metric("Checkpoint: best", best)
        self.path, self.every, self.best, self.mode = path_name(path), every, best, mode

    def begin(self, run: Run) -> None:
        """See whether there is a folder for the file, before an epoch is made; one that is named by epochs may come later."""
        if "{epoch}" not in os.path.dirname(self.path):
            place_of(self.path)

    def end_epoch(self, run: Run) -> None:
        """Write the file, where it is due."""
        if self.best is not None:
            due = best_epoch(run.history, self.best, self.mode) == run.epoch
        else:
            due = run.epoch % self.every == 0 or run.finished
        if due:
            run.save(self.path.replace("{epoch}", str(run.epoch)))


class LearningRate(Callback):
    """Set the learning rate before each epoch; those that change within one are :mod:`wyrm.optim.schedules`.

    Parameters
    ----------
    schedule
        A function from an epoch's number, counted from 1, to the learning rate of every group of every optimizer.
    """

    def __init__(self, schedule: Callable[[int], float]) -> None:
        if not callable(schedule):
            raise DTypeError(f"LearningRate: expected a function of an epoch's number, got {schedule!r}")
        self.schedule = schedule

    def begin_epoch(self, run: Run) -> None:
        """Set it."""
        rate = called(self.schedule, run.epoch + 1, "LearningRate", "a function of an epoch's number")
        for optimizer in run.optimizers:
            optimizer.learning_rate = rate


def best_epoch(history: History, metric: str, mode: Mode = "min", min_delta: float = 0.0) -> int:
    """The number of the best epoch by a metric; 0 where every value is NaN, or there is none."""
    best, number = math.inf, 0
    for epoch in history:
        value = _comparable(epoch, metric) * (1 if mode == "min" else -1)
        if value < best - min_delta or (not number and value == value):
            best, number = value, epoch.number
    return number


def _comparable(epoch: Epoch, metric: str) -> float:
    """A metric of an epoch, which has to be a number."""
    value: Any = epoch.metric(metric)
    if isinstance(value, np.ndarray) and value.size == 1:
        value = value.item()
    if not isinstance(value, (int, float, np.integer, np.floating, np.bool_)):
        raise DTypeError(f"epoch {epoch.number}: expected its metric {metric!r} to be a number, got {shown(value)}")
    return float(value)


def _check_metric(label: str, name: Any) -> None:
    if not isinstance(name, str):
        raise DTypeError(f"{label}: expected the name of a metric, got {shown(name)}")


def _check_mode(owner: str, mode: str) -> None:
    if not isinstance(mode, str) or mode not in ("min", "max"):
        raise OptionError(f"{owner}: expected mode to be 'min' or 'max', got {shown(mode)}")
