"""The runner: training over a feed is the same as the steps driven from Python."""

from __future__ import annotations

import signal
import threading
import time
from collections.abc import Callable
from typing import Any

import numpy as np

import wyrm
from wyrm.optim import SGD
from wyrm_conformance.check import Context, Failure, check


class Model:
    """Factorization with biases: gathers, inner products, dense and row-sparse updates."""

    def __init__(self, rng: np.random.Generator, dtype: str) -> None:
        self.tables = [wyrm.ParameterNode(rng.uniform(-1, 1, (rows, 9)), dtype=dtype) for rows in (11, 13)]
        self.biases = [wyrm.ParameterNode(rng.uniform(-1, 1, (rows, 1)), dtype=dtype) for rows in (11, 13)]
        self.offset = wyrm.ParameterNode(0.5, dtype=dtype)
        self.keys = [wyrm.IndexInputNode(), wyrm.IndexInputNode()]
        self.target = wyrm.InputNode((1, 1), dtype=dtype)
        rows = [table.index(key) for table, key in zip(self.tables, self.keys, strict=True)]
        self.score = rows[0].vector_dot(rows[1]) + self.offset
        for bias, key in zip(self.biases, self.keys, strict=True):
            self.score = self.score + bias.index(key)
        self.loss = (self.score - self.target).square()
        self.parameters = [*self.tables, *self.biases, self.offset]


@check("training/equals steps", "training", "fit does what set_value, forward, backward and step do, example by example")
def check_equals_steps(context: Context) -> None:
    """After each of a hundred steps; to the bit where the reference is its own measure."""
    for dtype in context.dtypes:
        seed = int(context.rng.integers(2**31))
        lengths = [1] * 100 + [20, 30, 50]  # step by step, and many in one call
        ends = np.cumsum(lengths)
        users, items = context.rng.integers(0, 11, ends[-1]), context.rng.integers(0, 13, ends[-1])
        targets = context.rng.uniform(-1, 1, ends[-1])
        tolerance = {"float64": 1e-12, "float32": 1e-5}[dtype]
        fitted, stepped = (Model(np.random.default_rng(seed), dtype) for _ in range(2))
        optimizers = [SGD(0.05, model.parameters, l2=0.01) for model in (fitted, stepped)]
        for end, length in zip(ends, lengths, strict=True):
            part = slice(end - length, end)
            feed = dict(zip([*fitted.keys, fitted.target], (users[part], items[part], targets[part]), strict=True))
            history = wyrm.fit(fitted.loss, feed, optimizers[0], shuffle=False, backend=context.backend)
            losses = []
            for user, item, target in zip(users[part], items[part], targets[part], strict=True):
                for key, value in zip(stepped.keys, (user, item), strict=True):
                    key.set_value(value)
                stepped.target.set_value(target)
                stepped.loss.forward(backend=context.backend)
                losses.append(float(stepped.loss.value[0, 0]))
                stepped.loss.backward(1.0)
                optimizers[1].step()
            context.compare("mean loss", np.array([[history.losses[0]]]), np.array([[np.mean(losses)]]), tolerance)
            for a, b in zip(fitted.parameters, stepped.parameters, strict=True):
                context.compare(
                    f"parameter after {end} examples in {dtype}", a.value, b.value, 0 if context.is_reference else tolerance
                )


@check("training/order", "training", "each example is visited once an epoch; a seed gives the same order again")
def check_order(context: Context) -> None:
    """Sums that come out right in whole numbers, and results that depend on the order."""
    table, index = wyrm.ParameterNode(np.zeros((300, 1))), wyrm.IndexInputNode()
    loss = table.index(index) * 1.0
    wyrm.fit(loss, {index: np.arange(300)}, SGD(1.0, [table]), num_epochs=2, backend=context.backend)
    context.compare("visits", table.value, np.full((300, 1), -2.0), 0)
    results = []
    for seed in (1, 1, 2):
        model = Model(np.random.default_rng(0), "float32")
        rng = np.random.default_rng(5)
        feed = {model.keys[0]: rng.integers(0, 11, 50), model.keys[1]: rng.integers(0, 13, 50), model.target: rng.random(50)}
        wyrm.fit(model.loss, feed, SGD(0.1, model.parameters), seed=seed, backend=context.backend)
        results.append(model.tables[0].value.copy())
    context.identical("the same seed twice", results[1], results[0])
    context.require("another seed gives another order", not np.array_equal(results[0], results[2]))


@check("training/evaluate", "training", "evaluate computes what forward does, example by example, and changes nothing")
def check_evaluate(context: Context) -> None:
    """Two nodes together."""
    for dtype in context.dtypes:
        model = Model(context.rng, dtype)
        users, items = context.rng.integers(0, 11, 40), context.rng.integers(0, 13, 40)
        before = [parameter.value.copy() for parameter in model.parameters]
        nodes = [model.score, model.tables[0].index(model.keys[0])]
        feed = {model.keys[0]: users, model.keys[1]: items}
        scores, rows = wyrm.evaluate(nodes, feed, backend=context.backend)
        tables = [parameter.value for parameter in model.parameters]
        expected = (tables[0][users] * tables[1][items]).sum(1) + tables[2][users, 0] + tables[3][items, 0] + 0.5
        context.compare("scores", scores[:, 0, 0], expected, 1e-12 if dtype == "float64" else 1e-5)
        context.compare("rows", rows[:, 0], tables[0][users], 0)
        for parameter, kept in zip(model.parameters, before, strict=True):
            context.identical("a parameter", parameter.value, kept)


@check("training/infinite gradients", "training", "a gradient that is not finite stops before its update, as a loss does")
def check_infinite_gradients(context: Context) -> None:
    """A square root of 0: by steps that are driven from Python, by runs that are steps, and in a batch."""
    for dtype in context.dtypes:
        for how in ("steps", "fit", "batches"):
            table, weight = wyrm.ParameterNode(np.ones((4, 3)), dtype=dtype), wyrm.ParameterNode(np.ones((3, 2)), dtype=dtype)
            index, x = wyrm.IndexInputNode(), wyrm.InputNode((1, 1), dtype=dtype)
            loss = ((table.index(index).dot(weight) * x).square().scalar_sum().sqrt() - 1.0).square()
            optimizer, before = SGD(0.25, [table, weight]), np.ones((4, 3))
            with context.oracle() as reference:
                index.set_value(0)
                x.set_value(1.0)
                loss.forward(backend=reference)
                loss.backward(1.0)
                before = before - 0.25 * table.gradient.to_dense()
                loss.zero_gradient()
            feed = {index: np.array([0, 1, 2]), x: np.array([1.0, 0.0, 1.0])}
            try:
                if how == "steps":
                    _step_by_step(context, loss, feed, optimizer)
                else:
                    size = 2 if how == "batches" else 1
                    with context.oracle():  # which explains the gradient by computing the example again
                        wyrm.fit(loss, feed, optimizer, shuffle=False, batch_size=size, num_threads=1, backend=context.backend)
            except wyrm.NotFiniteError as error:
                context.require(f"the message says that it is the gradient: {error}", "gradient" in str(error))
            else:
                raise Failure(f"an infinite gradient was not noticed by {how} in {dtype}")
            expected = np.ones((4, 3)) if how == "batches" else before
            context.compare(f"the table after {how} in {dtype}", table.value, expected, 1e-5)
            context.require("the weights are finite", bool(np.isfinite(weight.value).all()))


def _step_by_step(context: Context, loss: wyrm.Node, feed: dict[Any, Any], optimizer: SGD) -> None:
    for example in range(3):
        for node, values in feed.items():
            node.set_value(values[example])
        loss.forward(backend=context.backend)
        loss.backward(1.0)
        with context.oracle():  # which explains the gradient, too
            optimizer.step()


@check(
    "training/errors", "training", "a loss that is not finite stops before its update; indices are checked where they are used"
)
def check_errors(context: Context) -> None:
    """What came before stands, what came after has not been done."""
    w, x = wyrm.ParameterNode(1.0), wyrm.InputNode((1, 1))
    loss, optimizer = w * x, SGD(0.25, [w])
    try:
        with context.oracle():  # which explains the infinite loss by computing the example again
            wyrm.fit(loss, {x: [1, 1, np.inf, 1]}, optimizer, shuffle=False, backend=context.backend)
    except wyrm.NotFiniteError as error:
        context.require(f"the message names example 2: {error}", "example 2" in str(error))
    else:
        raise Failure("an infinite loss was not noticed")
    context.compare("the parameter", w.value, np.array([[0.5]]), 1e-6)
    context.compare("the steps that were made, as they are counted", np.array(optimizer.steps), np.array(2), 0)

    table, index = wyrm.ParameterNode(np.zeros((4, 1))), wyrm.IndexInputNode()
    indices = np.array([0, 1, 2])
    try:
        wyrm.fit(
            table.index(index) * 1.0,
            {index: indices},
            SGD(1.0, [table]),
            num_epochs=2,
            shuffle=False,
            backend=context.backend,
            callbacks=[lambda epoch: indices.__setitem__(1, 4)],
        )
    except wyrm.OutOfRangeError:
        pass
    else:
        raise Failure("an index that was changed to one outside the table was not noticed")
    context.compare("the table", table.value, np.array([[-2.0], [-1.0], [-1.0], [0.0]]), 0)


#: Seconds of the processor after which an interruption counts as not noticed: twenty times what may be done until then.
PATIENCE = 1


def _interrupted(delay: float, train: Callable[[Callable[[wyrm.Epoch], None]], object]) -> bool:
    """Whether training is ended by a signal after so many seconds; it is given a callback that ends it otherwise."""
    began = time.process_time()

    def enough(epoch: wyrm.Epoch) -> None:
        if time.process_time() - began > PATIENCE:
            raise Failure(f"training went on for {PATIENCE} s of the processor, though Ctrl-C had been pressed at once")

    timer = threading.Timer(delay, signal.raise_signal, [signal.SIGINT])
    previous = signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        timer.start()
        train(enough)
    except KeyboardInterrupt:
        return True
    finally:
        timer.cancel()
        timer.join()
        signal.signal(signal.SIGINT, previous)
    return False


@check("training/interruption", "training", "Ctrl-C ends training soon, and what was done until then stands")
def check_interruption(context: Context) -> None:
    """A signal while one thread trains: whole steps have been made, and training can go on."""
    if threading.current_thread() is not threading.main_thread():
        raise Failure("this check has to run on the main thread, which signals come to")
    w, x = wyrm.ParameterNode(np.zeros((2, 40))), wyrm.InputNode((2, 40))
    loss, optimizer = (w * x).scalar_sum(), SGD(1.0, [w])
    wyrm.fit(loss, {x: np.ones((1, 2, 40))}, optimizer, num_threads=1, backend=context.backend)
    ones = np.broadcast_to(np.ones((1, 2, 40)), (200, 2, 40)).copy()
    for delay in (0.05, 0.031, 0.023, 0.017, 0.011):  # several, since a signal may come between two calls of the backend
        before = w.value[0, 0]
        interrupted = _interrupted(
            delay,
            lambda enough: wyrm.fit(
                loss, {x: ones}, optimizer, num_epochs=10**6, num_threads=1, callbacks=[enough], backend=context.backend
            ),
        )
        context.require("training was interrupted", interrupted)
        value = w.value.copy()
        context.require(f"steps were made: from {before} to {value[0, 0]}", value[0, 0] < before)
        context.compare("every element has seen the same steps", value, np.full((2, 40), value[0, 0]), 0)
        context.compare("whole ones", value, np.round(value), 0)
        context.compare("as many as are counted", np.array(float(optimizer.steps)), -value[0, 0], 0)
    wyrm.fit(loss, {x: np.ones((1, 2, 40))}, optimizer, num_threads=1, backend=context.backend)
    context.compare("one more afterwards", w.value, value - 1, 1e-6)
