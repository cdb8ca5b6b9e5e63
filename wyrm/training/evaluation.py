""":func:`evaluate`: the values of nodes over a data set, natively."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, overload

import numpy as np
import numpy.typing as npt

from wyrm.backend import Backend
from wyrm.errors import DTypeError
from wyrm.frontend.compiled import compiled
from wyrm.frontend.lowering.lower import lower
from wyrm.frontend.lowering.trace import trace
from wyrm.frontend.node import Node
from wyrm.frontend.op import INPUTS, PARAMETER
from wyrm.memory import Sink, aligned
from wyrm.program import Buffer
from wyrm.selection import get_backend
from wyrm.training.crews import Work
from wyrm.training.feed import read_feed, seen_from
from wyrm.training.runners import Part
from wyrm.training.schedules import make_crew, resolve_threads

__all__ = ["evaluate"]

Array = npt.NDArray[Any]


@overload
def evaluate(
    nodes: Node,
    feed: Mapping[Any, Any],
    *,
    backend: str | Backend | None = ...,
    num_threads: int | None = ...,
) -> Array: ...


@overload
def evaluate(
    nodes: Sequence[Node],
    feed: Mapping[Any, Any],
    *,
    backend: str | Backend | None = ...,
    num_threads: int | None = ...,
) -> list[Array]: ...


def evaluate(
    nodes: Node | Sequence[Node],
    feed: Mapping[Any, Any],
    *,
    backend: str | Backend | None = None,
    num_threads: int | None = None,
) -> Array | list[Array]:
    """Compute nodes for every example, forward only. The loop is native.

    Parameters
    ----------
    nodes
        One node, or several that are computed together.
    feed
        For each input of the nodes, its values for all N examples, as for :func:`wyrm.fit`.
    backend
        Where to compute, by name; without, on the default backend.
    num_threads
        How many threads share the work; ``None``: one. The result does not depend on it.

    Returns
    -------
    array, or a list of arrays
        For each node, of shape (N, *node shape).

    Raises
    ------
    FeedError, DTypeError, OutOfRangeError
        Where the data do not fit the nodes.

    Examples
    --------
    >>> import numpy as np, wyrm
    >>> x = wyrm.InputNode((1, 1))
    >>> wyrm.evaluate(x.square(), {x: np.arange(3)})[:, 0, 0]
    array([0., 1., 4.], dtype=float32)
    """
    wanted = [nodes] if isinstance(nodes, Node) else list(nodes)
    if not wanted or not all(isinstance(node, Node) for node in wanted):
        raise DTypeError(f"evaluate: expected nodes, got {nodes!r}")
    if any(node.dtype == "int64" for node in wanted):
        raise DTypeError(f"evaluate: expected nodes of real numbers, got row numbers among {nodes!r}")
    chosen = get_backend(backend)
    threads = resolve_threads(num_threads, "evaluate") or 1
    seen = [seen_from(wanted[0], node) for node in wanted]
    traced, structures, _ = trace(seen)
    program = lower(traced, "evaluate", chosen.capabilities.kernels)
    executable = compiled(program, chosen)
    data = read_feed(wanted, [structures[n] for n in traced.leaves(*INPUTS)], program, feed)
    shared: dict[Buffer, Any] = {}
    for p, n in enumerate(traced.leaves(PARAMETER)):
        shared[Buffer("value", p)] = structures[n].live_parameter().storage.value
    arrays = [aligned((data.length, node.shape[0] * node.shape[1]), program.dtype, fill=None) for node in wanted]
    sinks = [Sink(array) for array in arrays]
    work = Work(chosen, [Part(executable, data.sources, sinks, shared=shared)])
    crew = make_crew(work, "hogwild", threads, data.length, False, "evaluate")
    crew.run_epoch(np.arange(data.length, dtype=np.int64).reshape(-1, 1), None, lambda done: None)
    results = [array.reshape(data.length, *node.shape) for array, node in zip(arrays, wanted, strict=True)]
    return results[0] if isinstance(nodes, Node) else results
