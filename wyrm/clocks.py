"""Clocks: what the steps of a rule have done to the rows that they did not touch.

A step with decay and momentum changes a row that has no gradient as well: with the learning rate r, ``weight_decay`` d and
``momentum`` m, its value w and its velocity v become ``(1 - r d) w - r m v`` and ``m v``. A row is not touched for that. It
remembers how many steps it has seen, and when it is needed, all steps since are done at once: they come to three numbers,

    value = keep * value - move * velocity,  velocity = fade * velocity.

A :class:`Clock` finds these numbers for any stretch of steps, at whatever rates. It keeps the rates of the last steps, and, for
every 8, 16, 32, … steps that begin at a multiple of that, what they come to together; a stretch is put together of the longest
of these that fit. So it takes time with the logarithm of the stretch, is as exact as doing step after step, and holds for any
factor, 0 and negative ones included.

The rates are kept for ``capacity`` steps, about as many as there are rows, or twice that. So no row may be further behind:
every so many steps, some rows are brought up to date in turn, whether they are needed or not. Which rows, and when,
follows from the number of steps alone.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from wyrm.memory import address, aligned

__all__ = ["NEVER_BEHIND", "Clock"]

Array = npt.NDArray[Any]
#: More steps than are ever made: what a row has seen that no step changes.
NEVER_BEHIND = 2**62
#: Of how many steps the shortest stretches are that are kept put together.
SHORTEST = 8
#: The fewest steps of which rates are kept.
_FEWEST = 1024
#: So many rows are gone through one by one: for more, NumPy is faster.
_FEW = 16
#: Every how many steps rows are brought up to date in turn; a power of two.
_EVERY = 64


class Clock:
    """The steps that a rule has made on a parameter, and how many of them each row has seen.

    Parameters
    ----------
    rows
        How many the parameter has.
    decay, momentum
        The two numbers of the rule; 0: it has none.
    rate
        The place of the learning rate among the rule's scalars.
    moving
        The number of the velocity among the rule's states; -1: there is none.

    Attributes
    ----------
    header
        Words for native code, named in :attr:`HEADER`: the steps made (``now``); the addresses of ``last``, ``rates`` and
        ``stretches``; the capacity less 1 (``mask``); ``decay`` and ``momentum``, as float64; ``rate``; ``moving``; every how
        many steps rows are brought up to date in turn, less 1 (``every``), how many rows (``due``), and the first of those that
        come next (``next``).
    last
        For each row, the steps that it has seen or caught up with, int64; :data:`NEVER_BEHIND` for those that no step changes.
    rates
        The learning rate of step s at ``s % capacity``, float64.
    stretches
        ``keep, move, fade`` of the 2**k steps from s on, s a multiple of 2**k and 2**k at least 8, at
        ``capacity // 2**k + s // 2**k % (capacity // 2**k)``.
    """

    #: The words of the header, in order.
    HEADER = (
        *("now", "last", "rates", "stretches", "mask", "decay", "momentum"),
        *("rate", "moving", "every", "due", "next"),
    )

    __slots__ = ("_numbers", "header", "last", "rates", "stretches")

    def __init__(self, rows: int, decay: float = 0.0, momentum: float = 0.0, rate: int = 0, moving: int = -1) -> None:
        capacity = max(_FEWEST, 1 << (2 * rows - 1).bit_length())
        self.last = aligned(rows, np.int64)
        self.rates = aligned(capacity, np.float64)
        self.stretches = aligned((2 * capacity // SHORTEST, 3), np.float64)
        self.header = aligned(len(self.HEADER), np.int64)
        self._numbers = self.header.view(np.float64)
        self.header[1:5] = address(self.last), address(self.rates), address(self.stretches), capacity - 1
        self._numbers[5:7] = decay, momentum
        self.header[7:11] = rate, moving, _EVERY - 1, -(-_EVERY * rows // (capacity // 2))

    @property
    def now(self) -> int:
        """The steps made."""
        return int(self.header[0])

    @property
    def capacity(self) -> int:
        """Of how many steps the rates are kept."""
        return int(self.header[4]) + 1

    @property
    def decay(self) -> float:
        """By how much, times the learning rate, each step shrinks a value."""
        return float(self._numbers[5])

    @property
    def momentum(self) -> float:
        """How much of a velocity stays at each step."""
        return float(self._numbers[6])

    @property
    def numbers(self) -> tuple[float, float, int, int]:
        """Decay, momentum, and the places of learning rate and velocity, as they were given."""
        return self.decay, self.momentum, self.rate, self.moving

    @property
    def rate(self) -> int:
        """The place of the learning rate among the rule's scalars."""
        return int(self.header[7])

    @property
    def moving(self) -> int:
        """The number of the velocity among the rule's states; -1: there is none."""
        return int(self.header[8])

    @property
    def keeps_up(self) -> bool:
        """Whether every step brings all rows up to date."""
        return int(self.header[9]) == 0

    def keep_up(self) -> None:
        """From now on, when all rows are up to date, let every step bring all of them up to date."""
        self.header[4] = 2 * SHORTEST - 1
        self.header[9:12] = 0, len(self.last), 0

    def behind(self) -> Array:
        """The numbers of the rows that are not up to date."""
        return np.flatnonzero(self.last < self.now)

    def tick(self, rate: float) -> Array:
        """Count a step with this learning rate; returns the rows that are to be brought up to date now."""
        self.header[0] += 1
        self._remember(self.now, rate)
        if self.now & int(self.header[9]):
            return self.last[:0]
        rows, (count, first) = len(self.last), self.header[10:].tolist()
        self.header[11] = (first + count) % rows
        return np.arange(first, first + count) % rows

    def _remember(self, now: int, rate: float) -> None:
        """Note the rate of the step before ``now``, and put together the stretches that end with it."""
        self.rates[(now - 1) & (self.capacity - 1)] = rate
        length = SHORTEST
        while now % length == 0 and length <= self.capacity:
            self._put_together(np.array([now - length]), length)
            length *= 2

    def _put_together(self, starts: Array, length: int) -> None:
        """Put together the stretches of a length that begin at these steps, from what is known of shorter ones."""
        total = _nothing(len(starts))
        for part in range(0, length, 1 if length == SHORTEST else length // 2):
            if length == SHORTEST:
                total = _one_after_another(total, self._steps(starts + part))
            else:
                total = _one_after_another(total, self.stretches[self._place(starts + part, length // 2)].T)
        self.stretches[self._place(starts, length)] = np.transpose(total)

    def _steps(self, steps: Array) -> Array:
        """``keep``, ``move`` and ``fade`` of single steps."""
        rates = self.rates[steps & (self.capacity - 1)]
        return np.stack([1 - rates * self.decay, rates * self.momentum, np.full(len(rates), self.momentum)])

    def _place(self, start: Any, length: Any) -> Any:
        """Where a stretch stands that is kept put together."""
        count = self.capacity // length
        return count + start // length % count

    def missed(self, since: Array) -> Array:
        """What the steps come to that were made since each of these: ``keep``, ``move`` and ``fade``, three rows of float64."""
        if len(since) <= _FEW:
            few: Array = np.array([self._missed_since(step) for step in since.tolist()]).reshape(-1, 3).T
            return few
        now, capacity = self.now, self.capacity
        start = np.maximum(since, now - capacity)
        total = _nothing(len(start))
        while True:
            waiting = np.flatnonzero(start < now)
            if not len(waiting):
                return total
            begin = start[waiting]
            fits = 1 << (np.frexp((now - begin).astype(np.float64))[1] - 1).astype(np.int64)
            length = np.minimum(np.where(begin == 0, capacity, begin & -begin), fits)
            single = length < SHORTEST
            length[single] = 1
            further = np.empty((3, len(waiting)))
            further[:, single] = self._steps(begin[single])
            further[:, ~single] = self.stretches[self._place(begin[~single], length[~single])].T
            total[:, waiting] = _one_after_another(total[:, waiting], further)
            start[waiting] += length

    def _missed_since(self, start: int) -> tuple[float, float, float]:
        """The same since one step, number by number."""
        now, capacity, decay, momentum = self.now, self.capacity, self.decay, self.momentum
        start, total = max(start, now - capacity), (1.0, 0.0, 1.0)
        while start < now:
            length = min(start & -start or capacity, 1 << (now - start).bit_length() - 1)
            if length < SHORTEST:
                rate, length = self.rates.item(start & (capacity - 1)), 1
                further = 1 - rate * decay, rate * momentum, momentum
            else:
                further = self.stretches[self._place(start, length)].tolist()
            total = _one_after_another(total, further)
            start += length
        return total

    # -- copies

    @property
    def arrays(self) -> tuple[Array, ...]:
        """All that it keeps."""
        return self.header, self.last, self.rates, self.stretches

    def history(self) -> tuple[int, Array]:
        """The steps made, and the rates of those that some row has not seen, for :meth:`resume`."""
        first = max(min(int(self.last.min()), self.now), self.now - self.capacity)
        return self.now, self.rates[np.arange(first, self.now) & (self.capacity - 1)]

    def resume(self, now: int, rates: Array, last: Array) -> None:
        """Be what another clock was, of which these are the history and ``last``."""
        self.last[...] = np.maximum(last, now) if self.keeps_up else last
        self.header[0] = now
        if self.keeps_up:
            return
        first, length = now - len(rates), SHORTEST
        self.rates[np.arange(first, now) & (self.capacity - 1)] = rates
        while length <= self.capacity:
            self._put_together(np.arange(-(-first // length) * length, now - length + 1, length), length)
            length *= 2
        self.header[11] = now // _EVERY * int(self.header[10]) % len(self.last)


def _nothing(count: int) -> Array:
    """What no steps come to, so many times: ``keep``, ``move`` and ``fade``, three rows."""
    return np.repeat([[1.0], [0.0], [1.0]], count, axis=1)


def _one_after_another(first: Any, second: Any) -> Any:
    """What stretches come to that follow each other. Native code computes the same, product by product, to the bit."""
    keep, move, fade = first
    return second[0] * keep, second[0] * move + second[1] * fade, second[2] * fade
