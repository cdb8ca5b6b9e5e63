"""Index nodes whose numbers are drawn as a program runs, and how often each number is."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from wyrm.arguments import as_float, shown
from wyrm.errors import DTypeError, OptionError, OutOfRangeError, ShapeError
from wyrm.frontend.bag_inputs import BagInputNode
from wyrm.frontend.graph import current_graph
from wyrm.frontend.input_base import checked_count
from wyrm.frontend.node import Node, apply
from wyrm.frontend.ops.draws import SAMPLE
from wyrm.frontend.parameters import ParameterNode
from wyrm.frontend.random import random_key
from wyrm.frontend.storage import HogwildParameter
from wyrm.frontend.structure import Structure
from wyrm.frontend.values import as_reals
from wyrm.memory import aligned
from wyrm.philox import ATTEMPTS

__all__ = ["Frequencies", "SampledIndexNode"]

Array = npt.NDArray[Any]
#: Numbers and aliases have this many bits, and thresholds one more.
_ROWS_LIMIT = 2**31
#: So that draws and attempts can be counted in 32 bits.
_COUNT_LIMIT = 2**32 // ATTEMPTS


class Frequencies:
    """How often each number is drawn: in proportion to ``counts ** power``; one that has no count, never.

    It costs a table of eight bytes a number, made once: use one object for all samples that are drawn by it. A draw takes the
    same time however many numbers there are (the alias method: Walker, ACM TOMS 1977).

    Parameters
    ----------
    counts
        One for each number, such as how often each item occurs: a vector of real numbers, none below 0, some above.
    power
        1 draws by the counts themselves, 0 those that occur equally often; .75 is what word2vec does (Mikolov et al., NIPS
        2013).

    Raises
    ------
    DTypeError, ShapeError
        Where the counts are no vector of real numbers.
    OptionError
        Where one is negative, NaN or infinite, all are 0, or the power is no number.

    Examples
    --------
    >>> import wyrm
    >>> frequencies = wyrm.Frequencies([16, 0, 1])
    >>> len(frequencies)
    3
    >>> frequencies.probabilities().round(3)
    array([0.889, 0.   , 0.111])
    """

    __slots__ = ("_node",)

    def __init__(self, counts: npt.ArrayLike, power: float = 0.75) -> None:
        array = as_reals(counts, "Frequencies").astype(np.float64)
        if array.ndim != 1 or not 0 < len(array) <= _ROWS_LIMIT:
            raise ShapeError(f"Frequencies: expected a vector of counts, got shape {array.shape}")
        if isinstance(power, bool) or not isinstance(power, (int, float)) or not np.isfinite(as_float(power)):
            raise OptionError(f"Frequencies: expected a number as power, got {shown(power)}")
        wrong = ~((array >= 0) & (array < np.inf))
        if wrong.any():
            place = int(wrong.argmax())
            raise OptionError(f"Frequencies: expected counts of at least 0, got {array[place]} for number {place}")
        occurs = array > 0
        if not occurs.any():
            raise OptionError("Frequencies: all counts are 0; there is nothing to draw from")
        weights = np.zeros(len(array))
        logarithms = power * np.log(array[occurs])
        weights[occurs] = np.exp(logarithms - logarithms.max())
        self._node = ParameterNode(_AliasTable(weights), name="frequencies", trainable=False)

    def __len__(self) -> int:
        return self._node.shape[0]

    def probabilities(self) -> Array:
        """The probability of each number, as a vector."""
        entries = self._node.value[:, 0].view(np.uint64)
        kept = (entries >> np.uint64(32)) / 2.0**32
        result: Array = kept.copy()
        np.add.at(result, (entries & np.uint64(2**32 - 1)).astype(np.int64), 1 - kept)
        result /= len(result)
        return result

    def __repr__(self) -> str:
        return f"<Frequencies of {len(self)} numbers>"


class _AliasTable(HogwildParameter):
    """An alias table as :mod:`wyrm.philox` has it: programs reach it by its address, as they do a parameter's value."""

    __slots__ = ()

    def __init__(self, weights: Array) -> None:
        threshold, alias = _alias(weights / weights.mean())
        upper = np.minimum(np.rint(threshold * 2.0**32), 2.0**32 - 1).astype(np.uint64)
        self._array = aligned((len(weights), 1), np.int64)
        self._array.view(np.uint64)[:, 0] = upper << np.uint64(32) | alias.astype(np.uint64)
        self._begin()


def _alias(shares: Array) -> tuple[Array, Array]:
    """The part of each number's share of the draws that is its own, and whose the rest is.

    Shares have the mean 1. The light ones, below it, are filled up by the heavy ones, both in order; a heavy one that has
    become light is filled up by the next. What the first i light ones lack, and what the first j heavy ones have to give, says
    who meets whom, so that no loop is needed.
    """
    threshold, alias = np.ones(len(shares)), np.arange(len(shares))
    light, heavy = np.flatnonzero(shares < 1), np.flatnonzero(shares >= 1)
    if len(heavy) == 0:  # all are equal, but for rounding
        return threshold, alias
    lacking, giving = np.cumsum(1 - shares[light]), np.cumsum(shares[heavy] - 1)
    before = lacking - (1 - shares[light])
    threshold[light] = shares[light]
    alias[light] = heavy[np.minimum(np.searchsorted(giving, before, side="right"), len(heavy) - 1)]
    last = np.searchsorted(lacking, giving[:-1])  # the light one that a heavy one gives its last part to
    emptied = np.flatnonzero(last < len(light))
    threshold[heavy[emptied]] = np.clip(1 - (lacking[last[emptied]] - giving[emptied]), 0, 1)
    alias[heavy[emptied]] = heavy[emptied + 1]
    return threshold, alias


class SampledIndexNode(Node):
    """Row numbers that are drawn as a program runs: negatives for losses that compare, noise for contrastive ones.

    It stands wherever an :class:`IndexInputNode` may, and has no entry in feeds. The numbers follow from seed and step, as in
    :meth:`Node.dropout`: they are the same until an optimizer's next step, on every backend, in any dtype, by any number of
    threads. In :func:`wyrm.evaluate`, and inside :func:`wyrm.evaluating`, they are drawn likewise.

    Parameters
    ----------
    rows
        How many numbers there are, drawn equally often; or :class:`Frequencies`.
    count
        How many are drawn in a step, independently of each other.
    exclude
        What is never drawn: a bag input with, for example, the example's own positives, in any order. One bag for all numbers,
        or one for each. An attempt that comes to an excluded number is repeated; after 63 attempts, the number is drawn from
        what is left, by the same weights. If nothing is left, because all numbers are excluded that are ever drawn, an example
        has no loss: :func:`wyrm.fit` leaves it out, so that it changes nothing, and counts it in :attr:`Epoch.skipped`;
        :func:`wyrm.evaluate` gives zeros for what depends on the sample. In a loop of your own, the node for which a pass is
        run is 0, and so are all its gradients; of several bags, one that leaves nothing is enough for that. Where the sample is
        drawn again (:meth:`Node.redraw`), an excluded number is a draw that does not end the draws, but it is never the last.
    seed
        A whole number; without, :func:`wyrm.fit` uses its own seed, and other passes one that is drawn here.
    name
        For messages and pictures.

    Raises
    ------
    OptionError, ShapeError, DTypeError
        Where an option is out of range or of the wrong kind.

    Examples
    --------
    >>> import numpy as np, wyrm
    >>> items = wyrm.ParameterNode(np.arange(6.0).reshape(6, 1))
    >>> seen = wyrm.BagInputNode(1, [[0, 1, 2]])
    >>> sample = wyrm.SampledIndexNode(6, count=20, exclude=seen, seed=1)
    >>> sorted(set(items.index(sample).value[:, 0].tolist()))
    [3.0, 4.0, 5.0]
    """

    __slots__ = ("_end", "rows")

    def __init__(
        self,
        rows: int | Frequencies,
        count: int = 1,
        *,
        exclude: BagInputNode | None = None,
        seed: int | None = None,
        name: str | None = None,
    ) -> None:
        self.name = name
        number = len(rows) if isinstance(rows, Frequencies) else rows
        if not isinstance(number, (int, np.integer)) or isinstance(number, bool) or not 1 <= number <= _ROWS_LIMIT:
            raise OptionError(
                f"SampledIndexNode: expected Frequencies, or how many numbers to draw from, 1 to {_ROWS_LIMIT}, got {rows!r}"
            )
        count = checked_count("SampledIndexNode", "numbers to draw", count)
        if count >= _COUNT_LIMIT:
            raise OptionError(f"SampledIndexNode: expected fewer than {_COUNT_LIMIT} numbers to draw, got {count}")
        if exclude is not None and not isinstance(exclude, BagInputNode):
            raise DTypeError(f"SampledIndexNode: expected a BagInputNode to exclude, got {exclude!r}")
        self.rows = int(number)
        operands: list[Node] = [random_key(current_graph(), seed, "SampledIndexNode")]
        operands += [rows._node] if isinstance(rows, Frequencies) else []
        operands += [] if exclude is None else [exclude]
        attributes = (
            ("rows", self.rows),
            ("count", count),
            ("weighted", isinstance(rows, Frequencies)),
            ("excluding", exclude is not None),
        )
        node = apply(SAMPLE, *operands, attributes=attributes)
        self._structure, self._graph, self._parents = node._structure, node._graph, node._parents
        self._end: tuple[Structure, str] | None = None  # no node, which would refer back here
        if exclude is not None:
            exclude._restrict(self.rows, self)

    def _restrict(self, length: int, table: Node) -> None:
        """Refuse a table that numbers may be drawn outside of."""
        if self.rows > length:
            raise OutOfRangeError(
                f"{self._label()}: draws numbers below {self.rows}, which look up {table._label()}; expected at most {length}"
            )

    def _end_draws(self, redrawn: Node, until: Node) -> None:
        """Take note of the node that ends the draws."""
        if self._end is not None and self._end[0] is not redrawn._structure:
            raise OptionError(
                f"redraw: {self._label()} is drawn until {self._end[1]} is positive already, and cannot be until "
                f"{until._label()} is; make a sample for each"
            )
        self._end = redrawn._structure, until._label()

    def _kind(self) -> str:
        return "SampledIndexNode"
