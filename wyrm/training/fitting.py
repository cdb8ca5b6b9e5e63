""":func:`fit`: train a graph over a data set, natively."""

from __future__ import annotations

import time
import warnings
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

import numpy as np

from wyrm.backend import Backend
from wyrm.errors import CapabilityError, NotFiniteError, OptionError, ShapeError
from wyrm.frontend.compiled import compiled
from wyrm.frontend.lowering.lower import lower
from wyrm.frontend.lowering.trace import trace
from wyrm.frontend.node import Node
from wyrm.frontend.op import INPUTS, PARAMETER
from wyrm.frontend.structure import Structure
from wyrm.optim import Optimizer
from wyrm.selection import get_backend
from wyrm.training.assignment import Assignment
from wyrm.training.feed import check_integer, read_feed
from wyrm.training.history import Epoch, History
from wyrm.training.progress import progress_bar
from wyrm.training.runners import Worker, available_cores, run_examples

__all__ = ["fit"]


def fit(
    loss: Node,
    feed: Mapping[Any, Any],
    optimizer: Optimizer | Sequence[Optimizer],
    *,
    num_epochs: int = 1,
    num_threads: int | None = None,
    shuffle: bool = True,
    seed: int | None = None,
    backend: str | Backend | None = None,
    callbacks: Iterable[Callable[[Epoch], Any]] = (),
    progress: bool | None = None,
) -> History:
    """Train: for each example, run the graph forward and backward and update the parameters. The loop is native.

    The same as setting the inputs, ``loss.forward()``, ``loss.backward(1.0)`` and ``optimizer.step()`` for each example,
    without Python in between.

    Parameters
    ----------
    loss
        What to minimise, of shape (1, 1).
    feed
        For each input of the loss, its values for all N examples, of shape (N, *node shape); (N,) for one number or one
        index an example, (N, count) for ``count`` indices; for bags, :class:`wyrm.Bags`, a CSR matrix or lists.
    optimizer
        One, or several over different parameters. Parameters of none of them stay as they are.
    num_epochs
        How many times to go over the data.
    num_threads
        How many threads share the work. With more than one they share the parameters without locks ("Hogwild"): the result
        depends on how they meet. ``None``: one thread.
    shuffle
        Whether each epoch visits the examples in a new random order.
    seed
        Of these orders, and of dropout that has no seed of its own; with one thread, the same seed gives the same result.
    backend
        Where to train, by name; without, on the default backend.
    callbacks
        Functions that are called after each epoch with its :class:`Epoch`.
    progress
        Whether to show a progress bar; ``None``: in terminals and notebooks.

    Returns
    -------
    History
        Loss and throughput of each epoch.

    Raises
    ------
    FeedError, DTypeError, OutOfRangeError
        Where the data do not fit the graph; before anything is trained.
    OptionError, ShapeError
        Where an option or the loss is not of the required kind.
    NotFiniteError
        Where a loss is NaN or infinite, naming epoch and example; updates before that example have been made.

    Examples
    --------
    >>> import numpy as np, wyrm
    >>> from wyrm.optim import SGD
    >>> slope, intercept = wyrm.ParameterNode(0.0), wyrm.ParameterNode(0.0)
    >>> x, y = wyrm.InputNode((1, 1)), wyrm.InputNode((1, 1))
    >>> loss = (y - (slope * x + intercept)).square()
    >>> xs = np.random.default_rng(0).random(1000)
    >>> history = wyrm.fit(loss, {x: xs, y: 3 * xs + 5}, SGD(0.1, loss.parameters()), num_epochs=20, seed=0)
    >>> round(float(slope.value[0, 0]), 2), round(float(intercept.value[0, 0]), 2)
    (3.0, 5.0)
    """
    began = time.perf_counter()
    num_epochs = check_integer(num_epochs, "fit: num_epochs")
    if num_epochs < 0:
        raise OptionError(f"fit: expected num_epochs of at least 0, got {num_epochs}")
    if not isinstance(loss, Node) or loss.shape != (1, 1):
        raise ShapeError(f"fit: expected a loss of shape (1, 1), got {loss!r}; reduce it with .scalar_sum()")
    chosen = get_backend(backend)
    threads = resolve_threads(num_threads, chosen, "fit")
    optimizers = [optimizer] if isinstance(optimizer, Optimizer) else list(optimizer)

    traced, structures, _ = trace([loss._structure], _storage)
    nodes = [structures[n].live_parameter() for n in traced.leaves(PARAMETER)]
    assignment = Assignment(loss, nodes, optimizers)
    program = lower(traced, "train", chosen.capabilities.kernels, assignment.training)
    executable = compiled(program, chosen)
    generator = np.random.default_rng(seed)
    keys = np.random.default_rng(None if seed is None else [seed, 1])
    data = read_feed([loss], [structures[n] for n in traced.leaves(*INPUTS)], program, feed, int(keys.integers(2**63)))
    data.sources += assignment.schedules(program, data.length)
    shared = assignment.begin(chosen)
    workers = [Worker(executable, data, shared) for _ in range(threads)]

    callbacks = list(callbacks)
    order = np.arange(data.length, dtype=np.int64)
    history = History(chosen.name, threads, time.perf_counter() - began)
    with progress_bar(num_epochs * data.length, progress) as bar:
        for number in range(1, num_epochs + 1):
            if shuffle:
                generator.shuffle(order)
            assignment.begin_epoch(workers)
            before = sum(worker.runner.loss for worker in workers)
            start = time.perf_counter()
            try:
                run_examples(workers, order.reshape(-1, 1), bar.update)
            except NotFiniteError as error:
                raise NotFiniteError(f"fit, epoch {number}: {error}") from None
            finally:
                assignment.end_epoch(workers)
            seconds = time.perf_counter() - start
            total = sum(worker.runner.loss for worker in workers) - before
            epoch = Epoch(number, total / data.length, data.length, seconds)
            history.epochs.append(epoch)
            bar.set_postfix(loss=f"{epoch.loss:.4g}")
            for callback in callbacks:
                callback(epoch)
    return history


def _storage(structure: Structure) -> int:
    """Nodes that share storage are one parameter in a training program."""
    return id(structure.live_parameter().storage)


def resolve_threads(num_threads: int | None, backend: Backend, caller: str) -> int:
    """The number of threads that an option stands for."""
    if num_threads is None:
        return 1
    threads = check_integer(num_threads, f"{caller}: num_threads")
    if threads < 1:
        raise OptionError(f"{caller}: expected num_threads of at least 1, got {threads}")
    if threads > 1 and "hogwild" not in backend.capabilities.schedules:
        raise CapabilityError(
            f"{caller}: backend {backend.name!r} does not declare the schedule 'hogwild', so it runs on one thread; "
            f"got num_threads={threads}"
        )
    if threads > available_cores():
        message = f"{caller}: {threads} threads on {available_cores()} cores will get in each other's way"
        warnings.warn(message, RuntimeWarning, stacklevel=3)
    return threads
