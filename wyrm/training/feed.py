"""Feeds: columns of equal length, and the structure of each example."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

from wyrm.errors import DTypeError, FeedError, OptionError
from wyrm.frontend.bags import Bags
from wyrm.frontend.values import as_reals
from wyrm.training.columns import Column
from wyrm.training.data import Dense, Ragged
from wyrm.training.reading import column_of

__all__ = ["WEIGHTS", "Data", "Table", "as_mapping", "check_count", "check_integer", "is_table", "read_columns"]

Array = npt.NDArray[Any]
#: What the weights of examples are called among the columns of a feed.
WEIGHTS = "weights="


class Data:
    """A feed that has been checked.

    Attributes
    ----------
    columns
        The data of each input or argument, by node or name, and of the examples' weights, by :data:`WEIGHTS`.
    length
        The number of examples.
    structures
        Which there are: the lengths of an example's sequences, in the order of the columns; ``()`` where there are none.
    numbers
        The number of the structure that each example has; ``None`` where there is but one.
    """

    def __init__(self, columns: Mapping[Any, Column], length: int) -> None:
        self.columns, self.length = dict(columns), length
        lengths = [lengths for column in columns.values() if (lengths := column.lengths) is not None]
        self.structures: list[tuple[int, ...]] = [()]
        self.numbers: npt.NDArray[np.int64] | None = None
        if lengths:
            table, numbers = np.unique(np.stack(lengths, axis=1), axis=0, return_inverse=True)
            self.structures = [tuple(int(n) for n in row) for row in table]
            self.numbers = None if len(table) == 1 else numbers.reshape(-1).astype(np.int64)

    @property
    def size(self) -> int:
        """How many numbers the columns have in all."""
        return sum([column.rows.size for column in self.columns.values()])

    def examples(self, structure: int) -> Array | None:
        """The examples of a structure; ``None``: all."""
        return None if self.numbers is None else np.flatnonzero(self.numbers == structure)

    def first(self, structure: int) -> int:
        """The first example of a structure."""
        return 0 if self.numbers is None else int((self.numbers == structure).argmax())

    def count(self, structure: int) -> int:
        """How many examples have a structure."""
        return self.length if self.numbers is None else int((self.numbers == structure).sum())


class Table(Protocol):
    """A table of named columns, such as a data frame of pandas or Polars."""

    @property
    def columns(self) -> Any:
        """The names."""

    def __getitem__(self, name: Any, /) -> Any:
        """The column of a name."""


def is_table(feed: Any) -> bool:
    """Whether a feed is a :class:`Table`."""
    return hasattr(feed, "columns") and hasattr(feed, "__getitem__") and not isinstance(feed, Mapping)


def as_mapping(feed: Any, keys: str) -> Mapping[Any, Any]:
    """A feed as a mapping: a table by the names of its columns.

    Parameters
    ----------
    keys
        What it should be by, for messages.

    Raises
    ------
    FeedError
        If it is neither, or columns have no names of their own.
    """
    if isinstance(feed, Mapping):
        return feed
    if not is_table(feed):
        raise FeedError(f"feed: expected a mapping from {keys} to data, or a data frame, got {type(feed).__name__}")
    names = list(getattr(feed, "column_names", None) or feed.columns)  # Arrow's tables call them so
    wrong = [name for name in names if not isinstance(name, str) or names.count(name) > 1]
    if wrong:
        raise FeedError(
            f"feed: the columns of a {type(feed).__name__} go by their names; {wrong[0]!r} is no string, or the name of several"
        )
    return {name: feed[name] for name in names}


def read_columns(columns: Mapping[Any, Column], weights: Any = None) -> Data:
    """Put columns together.

    Parameters
    ----------
    weights
        A number for each example, by which its loss is multiplied; a negative one makes the loss larger.

    Raises
    ------
    FeedError
        Where columns differ in length, or there is no example at all.
    """
    if weights is not None:
        if not isinstance(weights, (Bags, Dense, Ragged)):
            weights = as_reals(weights, "weights")
            if weights.ndim == 0:
                raise FeedError(f"weights: expected one number for each example, (N,); got {weights.item()!r}")
            weights = Dense(weights)
        column = column_of("weights", weights)
        if column.index or column.shape != (1, 1) or column.offsets is not None:
            raise FeedError(f"weights: expected one number for each example, (N,); got {weights!r}")
        columns = {**columns, WEIGHTS: column}
    lengths: dict[int, str] = {}
    for column in columns.values():
        lengths.setdefault(len(column), column.name)
    if len(lengths) > 1:
        parts = ", ".join(f"{length} for {name}" for length, name in lengths.items())
        raise FeedError(f"feed: all arrays need the same number of examples, got {parts}")
    length = next(iter(lengths), 0)
    if length == 0:
        raise FeedError("feed: there are no examples; every array has length 0")
    return Data(columns, length)


def check_integer(value: Any, name: str) -> int:
    """An option that counts something."""
    if not isinstance(value, (int, np.integer)) or isinstance(value, bool):
        raise DTypeError(f"{name}: expected a whole number, got {value!r}")
    return int(value)


def check_count(value: Any, name: str) -> int:
    """An option that counts something of which there is one at least; ``name`` is ``caller: option``."""
    number = check_integer(value, name)
    if number < 1:
        caller, _, option = name.partition(": ")
        raise OptionError(f"{caller}: expected {option} of at least 1, got {number}")
    return number
