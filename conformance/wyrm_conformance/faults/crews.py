"""Faults of threads and teams: what they share, what they lose, and what they leave behind when a batch fails."""

from __future__ import annotations

import threading
from typing import Any

import numpy as np

from wyrm import kernel_backend, kernel_steps
from wyrm.runs import JoinedRunner, Team
from wyrm_conformance.context import Array
from wyrm_conformance.faults.subject import patch_fault

_Target, _KernelRunner = kernel_steps._Target, kernel_backend._KernelRunner
_update, _run, _run_batch, _joined = _Target.update, _KernelRunner.run, Team._run_batch, JoinedRunner.run
_team_run = Team.run


def _alone() -> bool:
    return threading.current_thread() is threading.main_thread()


#: The registers that threads share.
_REGISTERS: dict[str, Array] = {}


def _shared(self: Any, rows: Any, gradient: Array) -> None:
    """The gradient is put into a register that every thread has, and is taken from there a moment later."""
    _REGISTERS["gradient"] = gradient.copy()
    if threading.active_count() > 1:
        threading.Event().wait(0.0002)
    other = _REGISTERS["gradient"]
    _update(self, rows, other if other.shape == gradient.shape else gradient)


patch_fault("threads share the registers of rules", "parallel/hogwild and rules", target=_Target, update=_shared)


def _evenly(self: Any, order: Array, start: int, stop: int) -> int:
    """Of an odd number of runs the last is lost, where there are several threads."""
    lost = threading.active_count() > 1 and (stop - start) % 2 and stop == len(order)
    return int(_run(self, order, start, stop - 1 if lost else stop))


patch_fault("threads lose the last run of an odd number", "parallel/hogwild and rules", target=_KernelRunner, run=_evenly)


def _evenly_in_teams(self: Team, order: Array, first: int, ends: Any) -> int:
    lost = self.num_threads > 1 and ends[-1] % 2
    return int(_run_batch(self, order, first, [*ends[:-1], ends[-1] - 1] if lost else ends))


patch_fault("teams lose the last run of an odd batch", "parallel/teams and rules", target=Team, _run_batch=_evenly_in_teams)


def _flushing(self: Any, order: Array, start: int, stop: int) -> int:
    """Threads other than the first flush denormal numbers."""
    status = int(_run(self, order, start, stop))
    if threading.active_count() > 1:
        for buffer, array in zip(self.bound.program.buffers, self.bound.memory.buffers, strict=True):
            if buffer.kind == "value":
                array[np.abs(array) < np.finfo(array.dtype).tiny] = 0
    return status


patch_fault("threads flush denormal numbers", "parallel/denormals", target=_KernelRunner, run=_flushing)


def _flushed_updates(self: Any, rows: Any, gradient: Array) -> None:
    flushed = np.where(np.abs(gradient) < np.finfo(gradient.dtype).tiny, 0, gradient).astype(gradient.dtype)
    _update(self, rows, flushed if threading.active_count() > 1 else gradient)


patch_fault("updates on threads flush denormal gradients", "parallel/denormals", target=_Target, update=_flushed_updates)


def _by_threads(self: Any, rows: Any, gradient: Array) -> None:
    """A rule with states is rounded otherwise in teams of several threads."""
    _update(self, rows, gradient)
    if self.states and threading.active_count() > 1:
        self.value[rows] = np.nextafter(self.value[rows], self.value.dtype.type(np.inf))


patch_fault(
    "rules with states are rounded otherwise on threads", "parallel/teams and rules", target=_Target, update=_by_threads
)


def _kept_losses(self: Team, order: Array, first: int, ends: Any) -> int:
    """Where a batch fails, the losses of all parts but the first stay as they are."""
    before = [[part.loss for part in shard.parts] for shard in self.shards]
    status = int(_run_batch(self, order, first, ends))
    if status:
        for shard, losses in zip(self.shards, before, strict=True):
            for part, loss in zip(shard.parts[1:], losses[1:], strict=True):
                self.__dict__.setdefault("left", []).append((part, part.loss - loss))
    return status


def _run_and_add(self: Team, thread: int, order: Array, start: int, stop: int) -> int:
    status = int(_team_run(self, thread, order, start, stop))
    for part, loss in self.__dict__.pop("left", ()):
        part.loss += loss
    return status


patch_fault(
    "losses of a failed batch are taken back from the first part alone",
    "parallel/batches made again",
    target=Team,
    _run_batch=_kept_losses,
    run=_run_and_add,
)


def _uncleared(self: Any, order: Array, first: int, ends: Any) -> int:
    """Where a batch fails, it is applied as far as it has come."""
    status = int(_run_batch(self, order, first, ends))
    if status:
        self.update.run(order, first // self.batch_size, first // self.batch_size + 1)
    return status


patch_fault("what a failed batch has gathered is applied", "parallel/batches made again", target=Team, _run_batch=_uncleared)
