"""Which examples share a run, and which part makes each run: the order of an epoch's examples, turned into runs.

Examples of one structure are taken together, ``rows`` of them in a run, in the order in which the epoch visits them; the last
run of a structure is shorter where they do not go up. A run takes its place in the order by the first of its examples. So
everything follows from the order of the examples.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from wyrm.runs import Order
from wyrm.training.feed import Data

__all__ = ["Arrangement"]

Numbers = npt.NDArray[np.int64]


class Arrangement:
    """The runs of a feed.

    Attributes
    ----------
    parts
        For each part, the number of its structure, and how many examples a run of it takes.
    runs
        How many runs an epoch has.

    Parameters
    ----------
    skipped
        For each example, whether it is left out; ``None``: none is.
    """

    def __init__(self, data: Data, rows: int, skipped: npt.NDArray[np.bool_] | None = None) -> None:
        self.rows, self._numbers, self._skipped = rows, data.numbers, skipped
        counts = [data.count(structure) for structure in range(len(data.structures))]
        if skipped is not None:
            numbers = np.zeros(data.length, np.int64) if data.numbers is None else data.numbers
            counts = np.bincount(numbers[~skipped], minlength=len(counts)).tolist()
        self.parts: list[tuple[int, int]] = []
        #: By structure: the part of its whole runs, that of its last, shorter one, and the number of its first run.
        self._whole, self._last, self._first = (np.zeros(len(counts), np.int64) for _ in range(3))
        self.runs = 0
        for structure, count in enumerate(counts):
            self._first[structure] = self.runs
            self.runs += -(-count // rows)
            for places, examples in ((self._whole, rows if count >= rows else 0), (self._last, count % rows)):
                if examples:
                    places[structure] = len(self.parts)
                    self.parts.append((structure, examples))

    def of(self, examples: Numbers) -> tuple[Order, Numbers | None]:
        """The order of runs, and the part of each, for an order of the examples; ``None``: there is one part."""
        if self._skipped is not None:
            examples = examples[~self._skipped[examples]]
        if len(self.parts) == 1:
            return examples.reshape(-1, self.parts[0][1]), None
        numbers = np.zeros(len(examples), np.int64) if self._numbers is None else self._numbers[examples]
        if self.rows == 1:
            return examples.reshape(-1, 1), self._whole[numbers]
        together = np.argsort(numbers, kind="stable")
        numbers, taken = numbers[together], examples[together]
        begins = np.searchsorted(numbers, np.arange(len(self._first)))
        rank = np.arange(len(examples)) - begins[numbers]
        run, place = self._first[numbers] + rank // self.rows, rank % self.rows
        order = np.zeros((self.runs, self.rows), np.int64)
        leading = place == 0
        order[run[leading]] = taken[leading, None]
        order[run, place] = taken
        lengths = np.bincount(run, minlength=self.runs)
        structures = numbers[leading]
        choice = np.where(lengths == self.rows, self._whole[structures], self._last[structures])
        sequence = np.argsort(together[leading])
        return order[sequence], choice[sequence]

    def counts(self, choice: Numbers | None) -> Numbers:
        """How many examples each run takes, by its part."""
        counts = np.array([examples for _, examples in self.parts], np.int64)
        return np.broadcast_to(counts[0], self.runs) if choice is None else counts[choice]
