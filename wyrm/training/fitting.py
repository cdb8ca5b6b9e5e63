""":func:`fit`: train a model over a data set, natively."""

from __future__ import annotations

import itertools
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any, Literal

import numpy as np

from wyrm.arguments import as_list, shown
from wyrm.backend import Backend
from wyrm.checkpoints.files import StoredPath
from wyrm.errors import DTypeError, OptionError, ShapeError
from wyrm.frontend.node import Node
from wyrm.frontend.parameters import ParameterNode
from wyrm.nn.module import Module
from wyrm.optim import Optimizer
from wyrm.selection import get_backend
from wyrm.training.callbacks import Callback, as_callbacks
from wyrm.training.evaluation import Validation
from wyrm.training.feed import Table, check_count, check_integer
from wyrm.training.history import Epoch, History
from wyrm.training.losses import loss_of
from wyrm.training.models import FunctionModel, GraphModel, Model
from wyrm.training.order import run_seed
from wyrm.training.plan import How, Plan, Session, is_stream
from wyrm.training.progress import ProgressBar, progress_bar
from wyrm.training.run import Carried, Resumed, Run
from wyrm.training.schedules import check_schedule, resolve_threads

__all__ = ["fit"]


def fit(
    loss: Node | Callable[..., Node],
    feed: Mapping[Any, Any] | Table | Iterable[Mapping[Any, Any] | Table],
    optimizer: Optimizer | Sequence[Optimizer],
    *,
    num_epochs: int = 1,
    rows: int = 1,
    batch_size: int = 1,
    reduction: Literal["mean", "sum"] = "mean",
    weights: Any = None,
    validation: Mapping[Any, Any] | Table | None = None,
    num_threads: int | None = None,
    schedule: str = "auto",
    shuffle: bool = True,
    seed: int | None = None,
    check: Literal["all", "loss"] = "all",
    backend: str | Backend | None = None,
    callbacks: Iterable[Callback | Callable[[Epoch], Any]] = (),
    progress: bool | None = None,
    resume: StoredPath | None = None,
) -> History:
    """Train: for each example, run the model forward and backward and update the parameters. The loop is native.

    The same as setting the inputs, ``loss.forward()``, ``loss.backward(1.0)`` and ``optimizer.step()`` for each example,
    without Python in between. If several examples share an update, by ``rows`` or ``batch_size``, it follows the mean of their
    losses: as ``loss.backward(1 / n)`` for each of n examples and one ``optimizer.step()``.

    Parameters
    ----------
    loss
        What to minimise: a node over inputs, of shape (1, 1); or a function that returns such a node, or a column with one row
        for each example; an example's loss is the sum of its rows if there are more. The function is called with a node for
        each argument that the feed has, or a list of nodes, one for each position, where the feed has sequences. It is called
        once for each structure of the data (the lengths of an example's sequences), not for each example: no values can be
        read inside. Parameters are made outside.
    feed
        For each input of the loss, by the node or by its name, its values for all N examples, of shape (N, *node shape); (N,)
        for one number or one index an example, (N, count) for ``count`` indices; for bags, :class:`wyrm.Bags`, a sparse matrix
        or lists.

        For a function, by the names of its arguments: real numbers, (N,) for nodes of shape (1, 1), (N, columns) or (N, rows,
        columns); whole numbers, (N,) or (N, count), which are indices unless wrapped in :class:`wyrm.Dense`; :class:`wyrm.Bags`
        or a sparse matrix, a bag for each example; :class:`wyrm.Ragged`, sequences of any length.

        A data frame (pandas, Polars) is a feed by its columns' names. It has the columns that the model takes and no others;
        those for bags hold lists. For a function, which cannot know whether lists are bags, indices or sequences, they are
        wrapped: ``{"label": frame["label"], "words": wyrm.Bags.of(frame["words"])}``.

        Arrays of float32, float64, int32 and int64 are read where they stand, in memory or in a file (``numpy.memmap``).
        Nobody may make that file shorter meanwhile: the system ends a process that reads behind the end of a file. That is
        looked for when an epoch begins, and raises :class:`FeedError`. NaN is
        refused, and so is a finite number beyond what the model's dtype holds. Or an
        iterable of such mappings, a stream: its chunks are trained through one after the other, shuffled within each. With
        several epochs it has to be one that can be gone through again.
    optimizer
        One, or several over different parameters. Parameters of none of them stay as they are, and a warning names those of the
        loss that are trainable. A callback may set ``trainable``: it holds from the next epoch on, or from the next chunk.
    num_epochs
        How many times to go over the data; of a run that is resumed, with the epochs that it has made before.
    rows
        How many examples a function takes in one run, as rows of its nodes: each node has those of the first example, then
        those of the second, and so on. There is one update for all. Examples of equal structure share runs, with a shorter last
        run for each structure.
    batch_size
        How many runs make an update. The last batch may be shorter.
    reduction
        What the examples of an update come to. ``"mean"``: the sum of their gradients, each with its weight, divided by their
        number: ``rows * batch_size``, or fewer in a last, shorter run or batch. So a learning rate goes with any size of a
        batch. ``"sum"``: their sum. Then a function may reduce the loss of several rows by itself: (1, 1) is their sum. For
        ``"mean"``, that is refused, as nobody could tell what it is of.
    weights
        A number for each example that its loss is multiplied with; a negative one makes the loss grow. The mean is still that
        over the number of examples, not over the sum of their weights.
    validation
        A held-out feed. The mean loss of its examples, without dropout and weights, is computed after each epoch.
    num_threads
        How many threads share the work; ``None``: as many as this process may use cores, if the schedule can use them.
    schedule
        How they do. ``"sequential"``: there is one. ``"hogwild"``: they share the parameters without locks (Niu, Recht, Ré and
        Wright, NIPS 2011); the result depends on how they meet. ``"synchronized"``: they share out the examples of each
        batch; the result is the same for any number of threads. ``"conflict_free"``: if every parameter is looked up by one of
        at most two index inputs, examples are arranged so that threads at work at the same time touch different rows; the
        result is the same for any number of threads. ``"auto"``: without ``seed``, one thread, hogwild or conflict_free,
        whichever the first moments of training show to be fastest; with ``seed``, synchronized if there are batches, else one
        thread. The history says which it was.
    shuffle
        Whether each epoch visits the examples in a new random order.
    seed
        Of these orders, and of dropout that has no seed of its own; the same seed gives the same bits on any number of
        cores and threads, unless the schedule ``"hogwild"`` is asked for. Without, one is drawn, and the history has it: unless
        ``history.repeatable`` says otherwise, ``fit(..., seed=history.seed, schedule=history.schedule)`` is the same run.
        Epoch e, counted from 1, visits the examples in the order ``numpy.random.default_rng([seed, 0, e]).permutation(N)``.
    check
        What has to be finite before an update is made. ``"all"``: the loss and the gradients of all parameters. ``"loss"``: the
        loss alone. Either way training ends with the parameters as they were before that update. Gradients cost some 3 % of a
        step at most, and nothing if they are known to be finite if the loss is, as those of a linear model. Not seen are
        gradients that overflow because a parameter, or a number of the feed, is larger than 1e18 (in float64, 1e144), or as
        contributions are added up, and values that overflow by the update itself, as of a rate that is far too large: the next
        loss that reads them is not finite, and ends training.
    backend
        Where to train, by name; without, on the default backend.
    callbacks
        Functions that are called after each epoch with its :class:`Epoch`, or objects that may do more: :class:`Callback`.
    progress
        Whether to show a progress bar; ``None``: in terminals and notebooks. It says when it traces, before the first example.
    resume
        A file that :class:`Checkpoint` wrote in an earlier run, to go on from. Data, model, optimizers and options must be
        those of that run; seed, learning rates and which parameters are trainable are taken from the file. Where a run with
        this seed gives the same result again, so does one that was interrupted and resumed, to the bit.

    Returns
    -------
    History
        Mean loss of the examples, whatever the reduction, and throughput of each epoch. Where training ends by an exception, be
        it Ctrl-C or that of a callback, the exception has it as its attribute ``history``; the parameters are then as the last
        step left them.

    Raises
    ------
    FeedError, DTypeError, OutOfRangeError
        Where the data do not fit the model; before anything is trained, or with the number of the chunk.
    DTypeError, OptionError, ShapeError
        Where an option or the loss is not of the required kind, or the model cannot have the schedule.
    CapabilityError
        Where the backend does not declare it.
    MissingValueError
        Where a function reads the value of a node.
    CheckpointError, OSError
        Where ``resume`` is no checkpoint of this run; before anything is changed. Or a callback could not write one.
    MemoryError
        If memory is short.
    ThreadError
        If the system has no room for so many threads; or another thread trains by an optimizer.
    NotFiniteError
        If a loss or a gradient is NaN or infinite, naming epoch, example and the node where it began; updates before that
        example have been made.

    Whatever ends training, Ctrl-C, a callback's exception and want of memory included, has the history as its attribute
    ``history``, and leaves parameters and optimizers after a whole number of steps: training can go on. Only on backends whose
    kernels are in Python, such as the reference, want of memory within a step leaves a part of it.

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

    The same as a function, and a sum over sequences:

    >>> history = wyrm.fit(
    ...     lambda x, y: (y - (slope * x + intercept)).square(), {"x": xs, "y": 3 * xs + 5}, SGD(0.1, [slope, intercept])
    ... )
    >>> table = wyrm.ParameterNode(np.zeros((3, 1)))
    >>> def loss(words, total):
    ...     return (sum(table.index(word) for word in words) - total).square()
    >>> feed = {"words": wyrm.Ragged.of([[0, 1], [2, 2, 1], [1], [2]]), "total": [3.0, 10.0, 2.0, 4.0]}
    >>> history = wyrm.fit(loss, feed, SGD(0.1, [table]), num_epochs=100, seed=0)
    >>> table.value[:, 0].round(2)
    array([1., 2., 4.], dtype=float32)
    """
    history = History("", 1, 0.0)
    how = num_epochs, rows, batch_size, reduction, weights, validation, num_threads, schedule, shuffle, seed, check
    with Carried(history):
        return _fit(history, loss, feed, optimizer, *how, backend, callbacks, progress, resume)


def _fit(
    history: History,
    loss: Node | Callable[..., Node],
    feed: Mapping[Any, Any] | Table | Iterable[Mapping[Any, Any] | Table],
    optimizer: Optimizer | Sequence[Optimizer],
    num_epochs: int,
    rows: int,
    batch_size: int,
    reduction: Literal["mean", "sum"],
    weights: Any,
    validation: Mapping[Any, Any] | Table | None,
    num_threads: int | None,
    schedule: str,
    shuffle: bool,
    seed: int | None,
    check: Literal["all", "loss"],
    backend: str | Backend | None,
    callbacks: Iterable[Callback | Callable[[Epoch], Any]],
    progress: bool | None,
    resume: StoredPath | None,
) -> History:
    """What :func:`fit` does, with a history to fill."""
    began = time.perf_counter()
    num_epochs = check_integer(num_epochs, "fit: num_epochs")
    if num_epochs < 0:
        raise OptionError(f"fit: expected num_epochs of at least 0, got {num_epochs}")
    rows, batch_size = check_count(rows, "fit: rows"), check_count(batch_size, "fit: batch_size")
    if not isinstance(reduction, str) or reduction not in ("mean", "sum"):
        raise OptionError(f"fit: expected reduction to be 'mean' or 'sum', got {shown(reduction)}")
    if not isinstance(check, str) or check not in ("all", "loss"):
        raise OptionError(f"fit: expected check to be 'all' or 'loss', got {shown(check)}")
    if not isinstance(shuffle, (bool, int, np.bool_)) or shuffle not in (True, False):
        raise OptionError(f"fit: expected shuffle to be True or False, got {shown(shuffle)}")
    mean, streams = reduction == "mean", is_stream(feed)
    if num_epochs > 1 and streams and iter(feed) is feed:
        raise OptionError(
            f"fit: num_epochs={num_epochs} needs a stream that can be gone through several times, such as a list or an object "
            f"whose __iter__ begins anew; this {type(feed).__name__} ends once"
        )
    chosen = get_backend(backend)
    threads = resolve_threads(num_threads, "fit")
    optimizers = _optimizers(optimizer)
    called = as_callbacks(callbacks)
    resumed = None if resume is None else Resumed(resume)
    reproducible = seed is not None if resumed is None else resumed.reproducible
    seed = run_seed(resumed.seed if resumed is not None and seed is None else seed)
    check_schedule(schedule, "fit")
    if streams and weights is not None:
        raise OptionError(
            "fit: weights do not go with a stream of feeds, of which each has examples of its own; let the weights be an "
            "argument of the function, and multiply by them"
        )

    history.backend, history.num_threads, history.schedule, history.seed = chosen.name, threads or 1, schedule, seed
    if resumed is not None:
        history.epochs += resumed.history.epochs
    bar = progress_bar(progress)
    with bar.tracing():
        model = _model(loss, mean, rows, optimizers, weights is not None)
        how = How(batch_size, mean, check == "all", schedule, threads, reproducible, bool(shuffle), num_epochs == 1 or streams)
        if streams:
            session = Session(model, optimizers, chosen, how, seed)
        else:
            session = Session.of(model, optimizers, chosen, how, seed, feed, weights)
        assignment, plans = session.assignment, session.plans(feed)
        begun = plans()
        first: Plan | None = next(begun)
        assert first is not None
        held_out = None if validation is None else Validation(model, validation, chosen, first.crew.num_threads)

    crew = first.crew
    history.num_threads, history.schedule, history.reason = crew.num_threads, crew.schedule, crew.reason
    history.startup_seconds = time.perf_counter() - began
    options = {
        "seed": seed,
        "reproducible": reproducible,
        "shuffle": bool(shuffle),
        "rows": rows,
        "batch_size": batch_size,
        "reduction": reduction,
        "schedule": schedule,
        "examples": None if streams else first.length,
    }

    def parameters() -> Sequence[ParameterNode]:
        return loss.parameters() if isinstance(loss, Node) else assignment.nodes

    owner = loss if isinstance(loss, Module) else getattr(loss, "__self__", None)  # of a module's method
    run = Run(parameters, optimizers, history, num_epochs, options, called, owner if isinstance(owner, Module) else None)
    if resumed is not None:
        run.resume(resumed)
    total = None if streams else (num_epochs - run.epoch) * first.length
    bar.begin(total)
    with run, bar:
        for number in run.epochs():
            start = time.perf_counter()
            losses, examples, skipped, steps = 0.0, 0, 0, optimizers[0].steps
            for chunk, plan in enumerate(_traced(itertools.chain([first], begun) if first else plans(), bar)):
                try:
                    losses += plan.run(number, chunk, bar.update)
                finally:
                    crew = plan.crew
                    history.schedule, history.reason = crew.schedule, crew.reason
                    history.num_threads, history.examples_per_thread = crew.num_threads, crew.examples
                    history.repeatable &= crew.repeatable
                examples += plan.length
                skipped += plan.skipped
            first = None
            assignment.settle(optimizers[0].steps - steps)
            seconds = time.perf_counter() - start
            mean_loss = losses / max(1, examples - skipped)
            epoch = Epoch(number, mean_loss, examples, seconds, optimizers[0].learning_rate, skipped=skipped)
            if held_out is not None:
                epoch.metrics["validation_loss"] = held_out.loss()
            run.end_epoch(epoch)
            bar.note(epoch)
    session.end()
    return history


def _traced(plans: Iterator[Plan], bar: ProgressBar) -> Iterator[Plan]:
    """Plans, while the bar says that each is made."""
    while True:
        with bar.tracing():
            plan = next(plans, None)
        if plan is None:
            return
        yield plan


def _optimizers(given: Any) -> list[Optimizer]:
    optimizers = [given] if isinstance(given, Optimizer) else as_list(given, "fit", "an optimizer or several")
    wrong = [each for each in optimizers if not isinstance(each, Optimizer)]
    if wrong or not optimizers:
        kind = DTypeError if wrong else OptionError
        raise kind(f"fit: expected an optimizer or several, got {wrong[0] if wrong else given!r}")
    return optimizers


def _model(loss: Any, mean: bool, rows: int, optimizers: Sequence[Optimizer], weighted: bool) -> Model:
    if isinstance(loss, Node):
        if loss.shape != (1, 1):
            raise ShapeError(f"fit: expected a loss of shape (1, 1), got {loss!r}; reduce it with .mean() or .scalar_sum()")
        if rows > 1:
            raise OptionError("fit: rows needs a model given as a function: a node that is there has its rows already")
        return GraphModel([loss], loss_of("the model", mean), weighted)
    if not callable(loss):
        raise ShapeError(f"fit: expected a loss of shape (1, 1), or a function that returns one, got {loss!r}")
    finish = loss_of(f"the function {getattr(loss, '__qualname__', type(loss).__name__)!r}", mean)
    return FunctionModel(loss, "fit", finish, rows, optimizers[0].parameters[0].dtype, weighted)
