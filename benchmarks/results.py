"""What was measured, and the figures made of it."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from statistics import median
from typing import Any

__all__ = ["Entry", "Instructions", "Memory", "Point", "Results", "Start"]


@dataclass
class Entry:
    """A competitor in a workload, and what was measured.

    Attributes
    ----------
    left_out
        Why it does not take part; empty where it does.
    wrong
        Whether it computed something else.
    sum_of_losses
        Of the first examples.
    seconds
        For one unit of work, in each round.
    getting_ready
        How much of that came before training; empty where that is not told apart.
    """

    workload: str
    name: str = ""
    threads: int = 1
    peer: bool = False
    left_out: str = ""
    wrong: bool = False
    sum_of_losses: float | None = None
    seconds: list[float] = field(default_factory=list)
    getting_ready: list[float] = field(default_factory=list)

    @property
    def trained(self) -> Entry | None:
        """What is left where getting ready is set aside."""
        if not self.getting_ready:
            return None
        seconds = [whole - ready for whole, ready in zip(self.seconds, self.getting_ready, strict=True)]
        return replace(self, name=f"{self.name}, tracing aside", seconds=seconds, getting_ready=[])

    @property
    def label(self) -> str:
        """The name, with the threads where there are several."""
        return self.name + (f" × {self.threads}" if self.threads > 1 else "")

    @property
    def microseconds(self) -> float:
        """For one unit of work, the median."""
        return 1e6 * median(self.seconds)

    @property
    def spread(self) -> tuple[float, float]:
        """The shortest and the longest, in microseconds."""
        return 1e6 * min(self.seconds), 1e6 * max(self.seconds)

    def ratio(self, other: Entry) -> float:
        """How many times as long as another it takes: the median over the rounds, each within itself."""
        return median(own / its for own, its in zip(self.seconds, other.seconds, strict=True))


@dataclass
class Point:
    """A competitor at one point of a sweep."""

    sweep: str
    at: int
    entry: Entry


@dataclass
class Instructions:
    """Instructions that a backend's own code executes for one unit of work."""

    workload: str
    backend: str
    variant: str
    count: float


@dataclass
class Start:
    """What it takes a process that has just begun to get something done for the first time.

    Attributes
    ----------
    what
        A workload, or ``import``.
    way
        ``fit`` or ``from Python``.
    seconds
        In each process: in the first one without anything on the disk that a backend keeps there, then with it.
    """

    backend: str
    what: str
    way: str
    seconds: list[float] = field(default_factory=list)

    @property
    def cold(self) -> float:
        """With an empty cache on the disk, in milliseconds."""
        return 1e3 * self.seconds[0]

    @property
    def warm(self) -> float:
        """With what the first process left on the disk: the median, in milliseconds."""
        return 1e3 * median(self.seconds[1:] or self.seconds)


@dataclass
class Memory:
    """What training on a large table takes.

    Attributes
    ----------
    table
        The table's size, in bytes.
    growth
        The most memory that the process had, less what it had before there was the table.
    """

    backend: str
    optimizer: str
    threads: int
    table: int
    growth: int

    @property
    def ratio(self) -> float:
        """How many times the table's size it takes."""
        return self.growth / self.table


@dataclass
class Results:
    """One run of the benchmark.

    Attributes
    ----------
    failures
        What could not be measured at all, and why.
    """

    machine: dict[str, Any]
    settings: dict[str, Any]
    entries: list[Entry] = field(default_factory=list)
    points: list[Point] = field(default_factory=list)
    instructions: list[Instructions] = field(default_factory=list)
    starts: list[Start] = field(default_factory=list)
    memory: list[Memory] = field(default_factory=list)
    failures: list[str] = field(default_factory=list)

    def of(self, workload: str) -> list[Entry]:
        """The entries of a workload that were measured; the one that others are compared to first."""
        measured = [entry for entry in self.entries if entry.workload == workload and entry.seconds]
        return [one for entry in measured for one in (entry, entry.trained) if one]

    @property
    def wrong(self) -> bool:
        """Whether anything computed something else than it should."""
        return any(entry.wrong for entry in [*self.entries, *(point.entry for point in self.points)])

    def save(self, path: Path) -> None:
        """Write as JSON."""
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps(asdict(self), indent=1, ensure_ascii=False) + "\n", encoding="utf-8")

    @classmethod
    def load(cls, path: Path) -> Results:
        """Read what :meth:`save` wrote."""
        found = json.loads(path.read_text(encoding="utf-8"))
        found["entries"] = [Entry(**entry) for entry in found["entries"]]
        found["points"] = [Point(p["sweep"], p["at"], Entry(**p["entry"])) for p in found["points"]]
        for key, kind in (("instructions", Instructions), ("starts", Start), ("memory", Memory)):
            found[key] = [kind(**values) for values in found[key]]
        return cls(**found)
