""":func:`fit`: train a graph over a data set, natively."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

import numpy as np

from wyrm.backend import Backend
from wyrm.errors import NotFiniteError, OptionError, ShapeError
from wyrm.frontend.compiled import compiled
from wyrm.frontend.lowering.lower import lower
from wyrm.frontend.lowering.trace import trace
from wyrm.frontend.node import Node
from wyrm.frontend.op import INPUTS, PARAMETER
from wyrm.frontend.structure import Structure
from wyrm.optim import Optimizer
from wyrm.program import Purpose
from wyrm.selection import get_backend
from wyrm.training.assignment import Assignment
from wyrm.training.callbacks import Callback, as_callbacks
from wyrm.training.crews import Work
from wyrm.training.diagnosis import diagnosed
from wyrm.training.feed import check_integer, read_feed
from wyrm.training.history import Epoch, History
from wyrm.training.order import epoch_order, key_seed, run_seed
from wyrm.training.progress import progress_bar
from wyrm.training.run import Resumed, Run
from wyrm.training.runners import Part
from wyrm.training.schedules import make_crew, resolve_threads

__all__ = ["fit"]


def fit(
    loss: Node,
    feed: Mapping[Any, Any],
    optimizer: Optimizer | Sequence[Optimizer],
    *,
    num_epochs: int = 1,
    batch_size: int = 1,
    num_threads: int | None = None,
    schedule: str = "auto",
    shuffle: bool = True,
    seed: int | None = None,
    backend: str | Backend | None = None,
    callbacks: Iterable[Callback | Callable[[Epoch], Any]] = (),
    progress: bool | None = None,
    resume: str | os.PathLike[str] | None = None,
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
        How many times to go over the data; of a run that is resumed, with the epochs that it has made before.
    batch_size
        How many examples make a step: their gradients are added up.
    num_threads
        How many threads share the work; ``None``: as many as this process may use cores, where the schedule can use them.
    schedule
        How they do. ``"hogwild"``: they share the parameters without locks (Niu, Recht, Ré and Wright, NIPS 2011); the result
        depends on how they meet. ``"synchronized"``: they share out the examples of each batch; the result is the same for
        any number of threads. ``"conflict_free"``: where every parameter is looked up by one of at most two index inputs,
        examples are arranged so that threads at work at the same time touch different rows; the result depends on the number
        of threads. ``"auto"``: without ``seed``, one thread, hogwild or conflict_free, whichever the first moments of training
        show to be fastest; with ``seed``, conflict_free where that is possible and there are many examples, else synchronized
        where there are batches, else one thread. The history says which it was.
    shuffle
        Whether each epoch visits the examples in a new random order.
    seed
        Of these orders, and of dropout that has no seed of its own; the same seed gives the same result, unless a schedule is
        asked for that does not. Without, one is drawn, and the history has it. Epoch e, counted from 1, visits the examples in
        the order ``numpy.random.default_rng([seed, 0, e]).permutation(N)``.
    backend
        Where to train, by name; without, on the default backend.
    callbacks
        Functions that are called after each epoch with its :class:`Epoch`, or objects that may do more: :class:`Callback`.
    progress
        Whether to show a progress bar; ``None``: in terminals and notebooks.
    resume
        A file that :class:`Checkpoint` wrote in an earlier run, to go on from. Data, model, optimizers and options must be
        those of that run; seed and learning rates are taken from the file. Where a run with this seed gives the same result
        again, so does one that was interrupted and resumed, to the bit.

    Returns
    -------
    History
        Loss and throughput of each epoch. Where training ends by an exception, be it Ctrl-C or that of a callback, the
        exception has it as its attribute ``history``; the parameters are then as the last step left them.

    Raises
    ------
    FeedError, DTypeError, OutOfRangeError
        Where the data do not fit the graph; before anything is trained.
    OptionError, ShapeError
        Where an option or the loss is not of the required kind, or the model cannot have the schedule.
    CapabilityError
        Where the backend does not declare it.
    CheckpointError, OSError
        Where ``resume`` is no checkpoint of this run; before anything is changed.
    NotFiniteError
        Where a loss is NaN or infinite, naming epoch, example and the node where it began; updates before that example have
        been made.

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
    threads = resolve_threads(num_threads, "fit")
    batch_size = check_integer(batch_size, "fit: batch_size")
    if batch_size < 1:
        raise OptionError(f"fit: expected batch_size of at least 1, got {batch_size}")
    optimizers = [optimizer] if isinstance(optimizer, Optimizer) else list(optimizer)
    called = as_callbacks(callbacks)
    resumed = None if resume is None else Resumed(resume)
    reproducible = seed is not None if resumed is None else resumed.reproducible
    seed = run_seed(resumed.seed if resumed is not None and seed is None else seed)

    traced, structures, _ = trace([loss._structure], _storage)
    nodes = [structures[n].live_parameter() for n in traced.leaves(PARAMETER)]
    assignment = Assignment(loss, nodes, optimizers)
    purpose: Purpose = "train" if batch_size == 1 else "accumulate"
    program = lower(traced, purpose, chosen.capabilities.kernels, assignment.training)
    executable = compiled(program, chosen)
    data = read_feed([loss], [structures[n] for n in traced.leaves(*INPUTS)], program, feed, key_seed(seed))
    data.sources += assignment.schedules(program, data.length, batch_size)
    shared = assignment.begin(chosen)
    update = None if batch_size == 1 else assignment.update(shared, chosen, data.length, batch_size)
    work = Work(chosen, [Part(executable, data.sources, shared=shared)], update, batch_size, not shuffle)
    crew = make_crew(work, schedule, threads, data.length, reproducible, "fit")

    order = np.arange(data.length, dtype=np.int64)
    how = crew.schedule, crew.reason, seed
    history = History(chosen.name, crew.num_threads, time.perf_counter() - began, *how)
    options = {
        "seed": seed,
        "reproducible": reproducible,
        "shuffle": bool(shuffle),
        "batch_size": batch_size,
        "schedule": schedule,
        "examples": data.length,
    }
    run = Run(loss.parameters(), optimizers, history, num_epochs, options, called)
    if resumed is not None:
        run.resume(resumed)
    with run, progress_bar((num_epochs - run.epoch) * data.length, progress) as bar:
        for number in run.epochs():
            if shuffle:
                order = epoch_order(seed, number, data.length)
            assignment.begin_epoch(crew)
            first_step = optimizers[0].steps * batch_size
            start = time.perf_counter()
            try:
                crew.run_epoch(order.reshape(-1, 1), None, bar.update)
            except NotFiniteError as error:
                raise diagnosed(error, number, loss, data.sources, first_step) from None
            finally:
                assignment.end_epoch(crew)
                history.schedule, history.reason = crew.schedule, crew.reason
                history.num_threads, history.examples_per_thread = crew.num_threads, crew.examples
            assignment.settle()
            seconds = time.perf_counter() - start
            epoch = Epoch(number, crew.loss / data.length, data.length, seconds, optimizers[0].learning_rate)
            run.end_epoch(epoch)
            bar.set_postfix(loss=f"{epoch.loss:.4g}", **{name: f"{value:.4g}" for name, value in epoch.metrics.items()})
    return history


def _storage(structure: Structure) -> int:
    """Nodes that share storage are one parameter in a training program."""
    return id(structure.live_parameter().storage)
