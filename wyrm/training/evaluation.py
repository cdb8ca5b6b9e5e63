""":func:`evaluate`: the values of a model over a data set, natively; and the loss of a held-out feed."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, overload

import numpy as np
import numpy.typing as npt

from wyrm.backend import Backend, Order
from wyrm.errors import DTypeError, OptionError, ShapeError, WyrmError
from wyrm.frontend.node import Node
from wyrm.frontend.recent import Recent
from wyrm.frontend.structure import note_dependent
from wyrm.frontend.values import real_dtype
from wyrm.memory import Sink, aligned
from wyrm.selection import get_backend
from wyrm.training.arrangement import Arrangement
from wyrm.training.crews import Crew, Work
from wyrm.training.feed import Data, Table, check_count
from wyrm.training.kept import HeldFeed, Layout, layout_of
from wyrm.training.losses import VALIDATION, VALUES, Values
from wyrm.training.models import FunctionModel, GraphModel, Model, Traced
from wyrm.training.programs import EvaluatingPrograms
from wyrm.training.runners import Choice
from wyrm.training.schedules import make_crew, resolve_threads
from wyrm.training.skipping import Skipped, skipped

__all__ = ["Validation", "evaluate"]

Array = npt.NDArray[Any]
Function = Callable[..., Any]
#: Evaluations that stay bound, by the structures of what is computed and the layout of the data. They go with the parameters.
_KEPT: Recent[tuple[Any, ...], _KeptEvaluation] = Recent()


@overload
def evaluate(
    model: Node,
    feed: Mapping[Any, Any] | Table,
    *,
    rows: int = ...,
    dtype: npt.DTypeLike | None = ...,
    backend: str | Backend | None = ...,
    num_threads: int | None = ...,
) -> Array: ...


@overload
def evaluate(
    model: Sequence[Node],
    feed: Mapping[Any, Any] | Table,
    *,
    rows: int = ...,
    dtype: npt.DTypeLike | None = ...,
    backend: str | Backend | None = ...,
    num_threads: int | None = ...,
) -> list[Array]: ...


@overload
def evaluate(
    model: Function,
    feed: Mapping[str, Any] | Table,
    *,
    rows: int = ...,
    dtype: npt.DTypeLike | None = ...,
    backend: str | Backend | None = ...,
    num_threads: int | None = ...,
) -> Any: ...


def evaluate(
    model: Node | Sequence[Node] | Function,
    feed: Mapping[Any, Any] | Table,
    *,
    rows: int = 1,
    dtype: npt.DTypeLike | None = None,
    backend: str | Backend | None = None,
    num_threads: int | None = None,
) -> Any:
    """Compute nodes for every example, forward only. The loop is native.

    Parameters
    ----------
    model
        One node, or several that are computed together; or a function that returns one or several, as for :func:`wyrm.fit`. The
        values must have the same shape for every example, whatever the lengths of its sequences.
    feed
        For each input of the nodes, or argument of the function, its values for all N examples, as for :func:`wyrm.fit`; a data
        frame is one, too.
    rows
        How many examples a function takes at a time, as rows of its nodes; faster, and the values are the same. What it returns
        has as many rows for each example, one after the other.
    dtype
        Of a function's nodes for real numbers, ``float32`` or ``float64``; without, that of the first nodes that they meet.
    backend
        Where to compute, by name; without, on the default backend.
    num_threads
        How many threads share the work; ``None``: one. The result does not depend on it.

    Returns
    -------
    array, or a list of arrays
        For each node, of shape (N, *node shape), in the order of the examples.

    Raises
    ------
    FeedError, DTypeError, OutOfRangeError
        Where the data do not fit the nodes.
    ShapeError
        Where a function returns values of several shapes.

    Examples
    --------
    >>> import numpy as np, wyrm
    >>> x = wyrm.InputNode((1, 1))
    >>> wyrm.evaluate(x.square(), {x: np.arange(3)})[:, 0, 0]
    array([0., 1., 4.], dtype=float32)
    >>> words = wyrm.Ragged.of([[0, 1], [2], [2, 2, 1]])
    >>> table = wyrm.ParameterNode([[1.0], [10.0], [100.0]])
    >>> wyrm.evaluate(lambda words: sum(table.index(word) for word in words), {"words": words})[:, 0, 0]
    array([ 11., 100., 210.], dtype=float32)
    """
    rows = check_count(rows, "evaluate: rows")
    chosen = get_backend(backend)
    threads = resolve_threads(num_threads, "evaluate") or 1
    several = not isinstance(model, Node) and isinstance(model, Sequence)
    if not isinstance(model, Node) and callable(model):
        finish = Values(f"the function {getattr(model, '__qualname__', type(model).__name__)!r}")
        name = None if dtype is None else real_dtype(dtype, "evaluate")
        made: Model = FunctionModel(model, "evaluate", finish, rows, name)
    else:
        nodes = [model] if isinstance(model, Node) else list(model) if several else []
        if not nodes or not all(isinstance(node, Node) for node in nodes):
            raise DTypeError(f"evaluate: expected nodes, or a function that returns some, got {model!r}")
        if rows > 1:
            raise OptionError("evaluate: rows needs a model given as a function: nodes that are there have their rows already")
        finish = Values("the model")
        finish(nodes, 1, None)  # before the feed is read
        made = GraphModel(nodes, finish)
    data = made.read(made.keyed(feed))
    layout = layout_of(made, data, VALUES) if threads == 1 else None
    if layout is None:
        arrays = _Evaluation(made, VALUES, data, chosen, threads).run()
    else:
        arrays = _evaluated(made, data, chosen, layout)
    return arrays[0] if isinstance(model, Node) or (not several and finish.single) else arrays


def _evaluated(model: Model, data: Data, backend: Backend, layout: Layout) -> list[Array]:
    """The values over little data, by programs that were bound for other data of the same layout if there are any."""
    traced, key = layout.traced, (*layout.key, backend)
    kept = _KEPT.take(key)
    arrays = None if kept is None else kept.run(data, traced)
    if kept is None or arrays is None:
        kept = _KeptEvaluation(model, data, traced, backend)
        arrays = kept.first()
    if kept.stays:
        _KEPT[key] = kept
        note_dependent(_KEPT, key, traced.structures)
    return arrays


class _KeptEvaluation:
    """An evaluation that stays bound, to memory of its own.

    Attributes
    ----------
    stays
        Whether it may: not if programs read copies of parameters, as these have rows that are behind.
    """

    def __init__(self, model: Model, data: Data, traced: Traced, backend: Backend) -> None:
        self._feed = HeldFeed(data)
        held = self._feed.named(data)
        evaluation = _Evaluation(model, VALUES, held, backend, 1)
        self._values, self._skipped = evaluation.values, evaluation.skipped
        self._feed.watch(evaluation.programs, traced, held, evaluation.parts[0])
        self._programs = evaluation.programs
        self.stays = not self._programs.reads_copies
        self._programs.end()

    def first(self) -> list[Array]:
        """The values for the data that it was made for."""
        return self._computed(self._skipped)

    def run(self, data: Data, traced: Traced) -> list[Array] | None:
        """The values for data of the same layout, which are checked; ``None``: it has to be made anew."""
        if self._programs.refresh() or not self._feed.has_room(data) or not self._feed.replace(data, traced):
            return None
        return self._computed(self._feed.skipped(data))

    def _computed(self, skipped: Skipped) -> list[Array]:
        return [array.copy() for array in self._values.compute(skipped)]


@dataclass
class _Values:
    """Threads that compute values, one example after the other, and where these go."""

    crew: Crew
    order: Order
    choice: Choice
    arrays: Sequence[Array]
    shapes: Sequence[tuple[int, int]]

    def compute(self, skipped: Skipped) -> list[Array]:
        """The values, in memory that the next call overwrites; zeros for examples that are skipped."""
        self.crew.run_epoch(self.order, self.choice, lambda runs: None)
        for array, examples in zip(self.arrays, skipped, strict=True):
            if examples is not None:
                array[examples] = 0
        return [array.reshape(-1, *shape) for array, shape in zip(self.arrays, self.shapes, strict=True)]


class _Evaluation:
    """A model and data, ready to be evaluated any number of times."""

    def __init__(self, model: Model, roots: str, data: Data, backend: Backend, threads: int) -> None:
        self._data, self._arrangement = data, Arrangement(data, model.rows)
        self._backend, self._threads = backend, threads
        self._shapes, dtype = _shapes(model, roots, data, self._arrangement)
        self._arrays = [aligned((data.length, rows * cols), dtype, fill=None) for rows, cols in self._shapes]
        self.programs = EvaluatingPrograms(model, roots, backend)
        self.skipped = skipped(model, roots, data, self._arrangement)
        self._bind()

    def _bind(self) -> None:
        """Bind the programs to the values of the parameters."""
        self.parts = self.programs.parts(self._data, self._arrangement, sinks=[Sink(array) for array in self._arrays])
        work, length = Work(self._backend, self.parts), self._data.length
        crew = make_crew(work, "hogwild", self._threads, False, "evaluate")
        order = self._arrangement.of(np.arange(length, dtype=np.int64))
        self.values = _Values(crew, *order, self._arrays, self._shapes)

    def run(self) -> list[Array]:
        """The values, in memory that the next call overwrites."""
        if self.programs.refresh():
            self._bind()
        return self.values.compute(self.skipped)


def _shapes(model: Model, roots: str, data: Data, arrangement: Arrangement) -> tuple[list[tuple[int, int]], str]:
    """The shapes of an example's values, which must be the same for every structure, and their dtype."""
    found: list[tuple[int, int]] = []
    dtype, first = "", 0
    for structure, examples in arrangement.parts:
        nodes = model.traced(data, structure, examples, roots).roots
        shapes = [(node.shape[0] // examples, node.shape[1]) for node in nodes]
        if not dtype:
            found, dtype, first = shapes, nodes[0].dtype, structure
        elif shapes != found:
            a, b = (data.first(number) for number in (first, structure))
            raise ShapeError(
                f"evaluate: expected values of one shape for every example; they have {_told(found)} for example {a}, and "
                f"{_told(shapes)} for example {b}"
            )
    return found, dtype


def _told(shapes: Sequence[tuple[int, int]]) -> str:
    return "shape " + " and ".join(map(str, shapes))


class Validation:
    """A held-out feed."""

    def __init__(self, model: Model, feed: Any, backend: Backend, threads: int) -> None:
        try:
            self._evaluation = _Evaluation(model, VALIDATION, model.read(model.keyed(feed)), backend, threads)
        except WyrmError as error:
            raise type(error)(f"validation: {error}") from error

    def loss(self) -> float:
        """The mean loss of its examples, without what is random in training."""
        (losses,) = self._evaluation.run()
        (skipped,) = self._evaluation.skipped
        counted = len(losses) if skipped is None else int((~skipped).sum())
        return float(losses.sum(dtype=np.float64)) / max(1, counted)
