"""Runners in native code: what they hand to it, and the tables through which it finds programs, orders and threads.

Every word is an int64; frames are described in :mod:`wyrm.native`.

*Order*: ``[address of the examples, examples in a row, runs]``.

*Joined*, :data:`JOINED`: ``parts`` is the address of the parts' frames, ``count`` how many there are; ``choice`` that of the
part of each run, or 0; ``update`` is a frame or 0. ``failed`` is the part that returned the last status, ``count`` for the
update. ``losses`` has room for a float64 for each part, in which a team keeps what the part's was before a batch. ``position``
is how far the last call has got: the runs before it are made, and their updates.

*Team*, :data:`TEAM`: ``shards`` is the address of the tables of ``count`` joined runners. ``taken`` says for each how many
batches it has been taken in, ``statuses`` what it returned, ``runs`` how many of them each thread made (eight words apart).
``status`` is that of the last batch, ``failed`` where it comes from; ``batches`` counts them, ``arrived`` the threads that have
nothing left to do in this one. Where ``abandoned`` is set, nobody waits for the others.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

from wyrm.errors import BackendError
from wyrm.memory import address, aligned
from wyrm.runs import JoinedRunner, Order, Runner, Team

__all__ = ["JOINED", "ORDER", "TEAM", "NativeJoinedRunner", "NativeRunner", "NativeTeam"]

#: The words of an order.
ORDER = ("examples", "width", "runs")
#: The words of a joined runner.
JOINED = ("parts", "count", "choice", "update", "batch_size", "failed", "losses", "position")
#: The words of a team.
TEAM = (
    "shards",
    "count",
    "update",
    "batch_size",
    "threads",
    "taken",
    "statuses",
    "runs",
    "failed",
    "status",
    "batches",
    "arrived",
    "abandoned",
)
_CHOICE, _FAILED, _POSITION = (JOINED.index(word) for word in ("choice", "failed", "position"))
#: Words from one thread's count of runs to the next one's: a cache line.
_LINE = 8


class _Frame(Protocol):
    address: int
    words: npt.NDArray[Any]


def _table(words: Sequence[int]) -> npt.NDArray[np.int64]:
    return np.array(words, np.int64)


class _Joined:
    """The table of programs that are run together."""

    def __init__(self, runners: Sequence[NativeRunner], update: NativeRunner | None, batch_size: int) -> None:
        self.frames = _table([runner.frame.address for runner in runners])
        self.losses = aligned(len(runners), np.float64)
        self.words = _table(
            [
                address(self.frames),
                len(runners),
                0,
                0 if update is None else update.frame.address,
                batch_size,
                0,
                address(self.losses),
                0,
            ]
        )
        self.address = address(self.words)
        self.width = max(runner.examples for runner in runners)

    def order(self, order: Order, start: int, stop: int) -> npt.NDArray[np.int64]:
        """The table of an order, after what native code takes for granted has been checked."""
        if not isinstance(order, np.ndarray) or order.dtype != np.int64 or order.ndim != 2 or not order.flags.c_contiguous:
            raise BackendError("an order is a C-contiguous array of int64, of shape (runs, examples of a run)")
        if order.shape[1] < self.width:
            raise BackendError(f"an order for runs of {self.width} examples has rows of {order.shape[1]}")
        if not 0 <= start <= stop <= len(order):
            raise BackendError(f"runs {start} to {stop} are not in an order of {len(order)}")
        return _table([address(order), order.shape[1], len(order)])


class NativeRunner(Runner):
    """A frame that is bound to a feed.

    Parameters
    ----------
    run
        The native entry point.
    words
        The names of the frame's words.
    """

    def __init__(self, run: Callable[[int, int, int, int], int], frame: _Frame, words: Sequence[str]) -> None:
        self.frame = frame
        self.examples = int(frame.words[words.index("examples")])
        self._losses = frame.words[words.index("losses") :][:1].view(np.float64)
        self._first_step = frame.words[words.index("first_step") :][:1]
        self._joined = _Joined([self], None, 1)
        self._run = run

    @property
    def loss(self) -> float:
        """The sum of the losses so far."""
        return float(self._losses[0])

    @loss.setter
    def loss(self, loss: float) -> None:
        self._losses[0] = loss

    @property
    def first_step(self) -> int:
        """The step of example 0."""
        return int(self._first_step[0])

    @first_step.setter
    def first_step(self, step: int) -> None:
        self._first_step[0] = step

    def run(self, order: Order, start: int, stop: int) -> int:
        """As the contract says, in one native call."""
        table = self._joined.order(order, start, stop)
        return self._run(self._joined.address, address(table), start, stop)


def _native(runners: Sequence[Runner]) -> list[NativeRunner]:
    """These runners, which all must be native."""
    found = [runner for runner in runners if isinstance(runner, NativeRunner)]
    if len(found) != len(runners) or not found:
        raise BackendError("runners are joined by the backend that bound them")
    return found


class NativeJoinedRunner(JoinedRunner):
    """Programs that native code changes between."""

    def __init__(
        self, run: Callable[[int, int, int, int], int], parts: Sequence[Runner], update: Runner | None, batch_size: int
    ) -> None:
        self.table = _Joined(_native(parts), None if update is None else _native([update])[0], batch_size)
        super().__init__(parts, update, batch_size)
        self._run = run

    @property
    def choice(self) -> npt.NDArray[np.int64] | None:
        """For each run of the order, the number of the part that makes it; ``None``: the first."""
        return self._choice

    @choice.setter
    def choice(self, choice: npt.NDArray[np.int64] | None) -> None:
        if choice is not None and (
            not isinstance(choice, np.ndarray)
            or choice.dtype != np.int64
            or choice.ndim != 1
            or not choice.flags.c_contiguous
            or (choice.size and not 0 <= choice.min() <= choice.max() < len(self.parts))
        ):
            raise BackendError(
                f"a choice is a C-contiguous array of int64, a part's number below {len(self.parts)} for each run"
            )
        self._choice = choice
        self.table.words[_CHOICE] = 0 if choice is None else address(choice)

    @property
    def failed(self) -> int:
        """The part that returned the last status."""
        return int(self.table.words[_FAILED])

    @failed.setter
    def failed(self, number: int) -> None:
        self.table.words[_FAILED] = number

    @property
    def position(self) -> int:
        """How far the last call has got."""
        return int(self.table.words[_POSITION])

    @position.setter
    def position(self, position: int) -> None:
        self.table.words[_POSITION] = position

    def order(self, order: Order, start: int, stop: int) -> npt.NDArray[np.int64]:
        """The table of an order that suits the parts and the choice between them."""
        if self._choice is not None and len(self._choice) != len(order):
            raise BackendError(f"{len(self._choice)} choices do not fit an order of {len(order)} runs")
        return self.table.order(order, start, stop)

    def run(self, order: Order, start: int, stop: int) -> int:
        """As the contract says, in one native call."""
        self.position = start
        table = self.order(order, start, stop)
        return self._run(self.table.address, address(table), start, stop)


class NativeTeam(Team):
    """Threads that meet in native code after each batch."""

    def __init__(
        self,
        run: Callable[[int, int, int, int, int], int],
        shards: Sequence[JoinedRunner],
        update: Runner,
        batch_size: int,
        num_threads: int,
    ) -> None:
        self.words = aligned(len(TEAM), np.int64)
        super().__init__(shards, update, batch_size, num_threads)
        native = [shard for shard in shards if isinstance(shard, NativeJoinedRunner) and shard.update is None]
        if len(native) != len(shards) or not native:
            raise BackendError("a team is made of joined runners of the same backend, without update")
        self._native = native
        self._shards = _table([shard.table.address for shard in native])
        self._taken, self._statuses = (aligned(len(native), np.int64) for _ in range(2))
        self._made = aligned((num_threads, _LINE), np.int64)
        frame = _native([update])[0].frame.address
        kept = [address(array) for array in (self._taken, self._statuses, self._made)]
        self.words[: 5 + len(kept)] = address(self._shards), len(native), frame, batch_size, num_threads, *kept
        self._run = run

    @property
    def failed(self) -> int:
        """The first shard that returned the last status."""
        return int(self.words[TEAM.index("failed")])

    @failed.setter
    def failed(self, number: int) -> None:
        self.words[TEAM.index("failed")] = number

    @property
    def runs(self) -> list[int]:
        """How many runs each thread has made."""
        return [int(count) for count in self._made[:, 0]]

    def abandon(self) -> None:
        """Let nobody wait any more."""
        self.words[TEAM.index("abandoned")] = 1

    def run(self, thread: int, order: Order, start: int, stop: int) -> int:
        """As the contract says, in one native call of each thread."""
        if not 0 <= thread < self.num_threads:
            raise BackendError(f"a team of {self.num_threads} has no thread {thread}")
        if start % self.batch_size or (stop % self.batch_size and stop != len(order)):
            raise BackendError(f"runs {start} to {stop} are not whole batches of {self.batch_size}")
        tables = [shard.order(order, start, stop) for shard in self._native]
        return self._run(address(self.words), thread, address(tables[0]), start, stop)
