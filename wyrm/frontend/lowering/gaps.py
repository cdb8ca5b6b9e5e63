"""Memory that is handed out piece by piece and given back."""

from __future__ import annotations

__all__ = ["Gaps"]


class Gaps:
    """A buffer that grows, with the gaps in it.

    A piece takes the smallest gap that it fits into, the oldest of these; gaps that touch are one.

    Attributes
    ----------
    length
        Up to where anything has been handed out.
    """

    def __init__(self) -> None:
        self.length = 0
        self._sizes: dict[int, dict[int, None]] = {}  # the gaps of each size by where they start, the oldest first
        self._lengths: dict[int, int] = {}  # of each gap, by where it starts
        self._starts: dict[int, int] = {}  # of each gap, by where it ends

    def take(self, size: int, align: int) -> int:
        """Where a piece of a size is, at a multiple of ``align``."""
        start, length = self._fitting(size, align)
        offset = start + -start % align
        if offset > start:
            self._add(start, offset - start)
        if offset + size < start + length:
            self._add(offset + size, start + length - offset - size)
        return offset

    def give_back(self, start: int, size: int) -> None:
        """Make a gap of a piece."""
        before = self._starts.get(start)
        after = self._lengths.get(start + size)
        if after is not None:
            self._remove(start + size, after)
            size += after
        if before is not None:
            self._remove(before, start - before)
            start, size = before, start + size - before
        self._add(start, size)

    def _fitting(self, size: int, align: int) -> tuple[int, int]:
        """The gap that a piece takes, which is none any more; or one at the end."""
        for length in sorted(self._sizes):
            if length >= size:
                for start in self._sizes[length]:
                    if length - (-start % align) >= size:
                        self._remove(start, length)
                        return start, length
        start = self.length
        self.length += size + -start % align
        return start, self.length - start

    def _add(self, start: int, length: int) -> None:
        self._sizes.setdefault(length, {})[start] = None
        self._lengths[start] = length
        self._starts[start + length] = start

    def _remove(self, start: int, length: int) -> None:
        gaps = self._sizes[length]
        del gaps[start], self._lengths[start], self._starts[start + length]
        if not gaps:
            del self._sizes[length]
