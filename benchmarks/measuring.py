"""Everything in turn, in rounds: so that a busy minute of the machine falls on all competitors alike."""

from __future__ import annotations

import gc
import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from threadpoolctl import threadpool_limits

from benchmarks.competitor import Competitor, NotHereError
from benchmarks.results import Entry
from benchmarks.workloads import Workload

__all__ = ["Settings", "agrees", "measure"]

#: Parts of a turn after which enough is known of a competitor's speed; of one that makes itself ready in each call, more.
_ENOUGH, _ENOUGH_OF_CALLS = 0.15, 20.0


@dataclass(frozen=True)
class Settings:
    """How long to measure.

    Attributes
    ----------
    rounds
        How often each competitor has its turn.
    seconds
        How long a turn is meant to be.
    """

    rounds: int = 5
    seconds: float = 0.15


class _Turn:
    """A competitor's way through the examples: how many make a turn, and where it stands."""

    def __init__(self, competitor: Competitor, seconds: float) -> None:
        self.competitor, self.position = competitor, 0
        epoch = competitor.workload.epoch
        seconds *= competitor.workload.longer
        enough = seconds * (_ENOUGH_OF_CALLS if competitor.whole_epochs else _ENOUGH)
        count = competitor.at_least
        took = self._run(count)
        if count == 1:  # whatever is made ready at the first time
            took = min(self._run(1), self._run(1))
        while took < enough and count < epoch:
            before, fewer = took, count
            count = min(4 * count, epoch)
            took = self._run(count)
            if took > seconds:  # perhaps because something had to be made ready for so many
                took = min(took, self._run(count))
            if took > seconds and (took - before) / (count - fewer) * epoch > enough:
                break  # an epoch would be too long
        fitting = count * seconds / took
        if fitting >= epoch / 2 or (competitor.whole_epochs and count == epoch):
            fitting = epoch * max(1, round(fitting / epoch))
        self.count = max(1, int(fitting))

    def _run(self, count: int) -> float:
        """Seconds that so many examples take, on from where the last turn ended."""
        competitor, epoch = self.competitor, self.competitor.workload.epoch
        if self.position + count > epoch:
            self.position = 0
        begin, clock = self.position, competitor.clock
        started = clock()
        if count >= epoch:
            competitor.repeat(count // epoch)
        else:
            competitor.run(begin, begin + count)
        took = clock() - started
        self.position = (begin + min(count, epoch)) % epoch
        return max(took, 1e-9)

    def take(self, entry: Entry) -> None:
        """Let it have a turn, and write down the seconds for a unit of work."""
        begin = 0 if self.position + self.count > self.competitor.workload.epoch else self.position
        units = self.competitor.workload.units(begin, min(begin + self.count, self.competitor.workload.epoch))
        units *= max(1, self.count // self.competitor.workload.epoch)
        ready = self.competitor.getting_ready
        entry.seconds.append(self._run(self.count) / units)
        if self.competitor.getting_ready > ready:
            entry.getting_ready.append((self.competitor.getting_ready - ready) / units)


def agrees(sum_of_losses: float | None, expected: float | None, tolerance: float) -> bool:
    """Whether a sum of first losses is what it should be; what is not known does not disagree."""
    return sum_of_losses is None or expected is None or abs(sum_of_losses - expected) <= tolerance * abs(expected)


def measure(
    workload: Workload, makers: Sequence[Callable[[], Competitor]], settings: Settings, say: Callable[[str], Any]
) -> list[Entry]:
    """Check that all competitors compute the same, then let each have its turn, in rounds."""
    turns: list[tuple[_Turn, Entry]] = []
    begun: list[Competitor] = []
    entries: list[Entry] = []
    expected = workload.checksum
    gc.collect()
    with threadpool_limits(1), warnings.catch_warnings():
        warnings.simplefilter("ignore", RuntimeWarning)  # threads on few cores
        try:
            for make in makers:
                entry = Entry(workload.key)
                entries.append(entry)
                try:
                    competitor = make()
                    begun.append(competitor)
                    entry.name, entry.threads, entry.peer = competitor.name, competitor.threads, competitor.peer
                    entry.sum_of_losses = competitor.first_losses()
                    expected = entry.sum_of_losses if expected is None else expected
                    entry.wrong = not agrees(entry.sum_of_losses, expected, competitor.tolerance)
                    if entry.wrong:
                        raise NotHereError(f"its first losses sum to {entry.sum_of_losses:.6g}, not {expected:.6g}")
                    turns.append((_Turn(competitor, settings.seconds), entry))
                except Exception as reason:  # one that fails does not end the others' run
                    _leave_out(entry, reason, say)
            for _ in range(min(settings.rounds, workload.rounds)):
                for turn, entry in turns:
                    try:
                        if not entry.left_out:
                            turn.take(entry)
                    except Exception as reason:
                        _leave_out(entry, reason, say)
        finally:
            for competitor in begun:
                competitor.close()
    return entries


def _leave_out(entry: Entry, reason: Exception, say: Callable[[str], Any]) -> None:
    name = f"{entry.label}: " if entry.name and not str(reason).startswith(entry.name) else ""
    what = "" if isinstance(reason, NotHereError) else f"{type(reason).__name__}: "
    entry.left_out = f"{name}{what}{reason}"
    entry.seconds.clear()
    entry.getting_ready.clear()
    say(f"  left out: {entry.left_out}")
