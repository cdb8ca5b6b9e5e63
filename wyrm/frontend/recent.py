"""What was made recently, and may be needed again: programs and executables, of which those that came first are forgotten.

Whoever uses one keeps it; here is what nobody may be using just now, such as the program of a graph that is rebuilt for each
example. So the memory of a process follows what it has in use, whatever it had before.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, MutableMapping
from typing import TypeVar

__all__ = ["LIMIT", "Recent"]

K = TypeVar("K")
V = TypeVar("V")
#: How many of a kind are kept.
LIMIT = 500


class Recent(MutableMapping[K, V]):
    """A dictionary of at most ``limit`` entries: a new one takes the place of the oldest."""

    def __init__(self, limit: int = LIMIT) -> None:
        self._limit = limit
        self._entries: dict[K, V] = {}
        self._lock = threading.RLock()

    def made(self, key: K, make: Callable[[], V]) -> V:
        """The value of a key, which is made if there is none; it is looked up once if there is."""
        value = self._entries.get(key)
        if value is None:
            value = self.setdefault(key, make())
        return value

    def setdefault(self, key: K, default: V) -> V:
        """The value of a key: the default if there was none."""
        with self._lock:
            while len(self._entries) >= self._limit:
                del self._entries[next(iter(self._entries))]
            return self._entries.setdefault(key, default)

    def take(self, key: K) -> V | None:
        """The value of a key, which nobody else finds until it is put back; ``None`` if there is none."""
        return self._entries.pop(key, None)

    def take_latest(self) -> V | None:
        """The value that was put there last, which nobody else finds until it is put back; ``None`` if there is none."""
        try:
            return self._entries.popitem()[1]
        except KeyError:
            return None

    def __getitem__(self, key: K) -> V:
        return self._entries[key]

    def __setitem__(self, key: K, value: V) -> None:
        with self._lock:
            while len(self._entries) >= self._limit:
                del self._entries[next(iter(self._entries))]
            self._entries[key] = value

    def __delitem__(self, key: K) -> None:
        del self._entries[key]

    def __iter__(self) -> Iterator[K]:
        return iter(list(self._entries))

    def __len__(self) -> int:
        return len(self._entries)
