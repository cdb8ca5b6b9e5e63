"""Functions, weights, sequences and streams, whose programs stay bound: each call does what one does that is made anew."""

import gc
import weakref

import numpy as np
import pytest

import wyrm
from wyrm import Bags, Ragged
from wyrm.frontend.recent import Recent
from wyrm.optim import FTRL, SGD, Adagrad, schedules
from wyrm.training import evaluation
from wyrm.training.plan import Plan

OPTIMIZERS = {
    "SGD": lambda p: SGD(0.05, p),
    "decay": lambda p: SGD(0.05, p, weight_decay=0.1),
    "momentum": lambda p: SGD(0.05, p, momentum=0.9),
    "scheduled": lambda p: SGD(schedules.cosine(0.05, 40), p),
    "FTRL": lambda p: FTRL(0.1, p, l1=0.01),
    "several": lambda p: [SGD(schedules.cosine(0.05, 40), p[:1], clip_norm=0.5), Adagrad(0.1, p[1:])],
}


class Model:
    """Functions over parameters, and what they read beside: numbers of Python, and an input that keeps its value."""

    def __init__(self, make, forget, backend):
        rng = np.random.default_rng(3)
        self.table = wyrm.ParameterNode(rng.standard_normal((20, 3)), dtype="float64", name="table")
        self.bias = wyrm.ParameterNode(np.zeros((1, 3)), dtype="float64", name="bias")
        self.factor = 1.0
        self.scale = wyrm.InputNode((1, 1), 1.0, constant=True, dtype="float64")
        self.scale.square().forward()  # closes its graph
        self.made = make([self.table, self.bias])
        self.optimizers = self.made if isinstance(self.made, list) else [self.made]
        self.forget, self.backend = forget, backend
        self.found = []

    def score(self, word, words):
        rows = self.table.index(word) + self.table.index_mean(words) * self.factor
        return (rows * self.scale + self.bias).dropout(0.2)

    def loss(self, word, words, y):
        return (self.score(word, words) - y).square().sum(axis=1)

    def summed(self, sequence, y):
        return (sum(self.table.index(word) for word in sequence) * self.factor - y).square().sum(axis=1)

    def fit(self, function, feed, **options):
        history = wyrm.fit(function, feed, self.made, backend=self.backend, seed=7, **options)
        self.found.append((history.losses, history.schedule, history.examples_per_thread, history.reason))
        self._forget()

    def evaluate(self, function, feed, **options):
        self.found.append(wyrm.evaluate(function, feed, backend=self.backend, **options).tolist())
        self._forget()

    def _forget(self):
        if self.forget:
            evaluation._KEPT.clear()
            for optimizer in self.optimizers:
                optimizer.sessions.clear()

    def state(self):
        states = [optimizer.state_dict() for optimizer in self.optimizers]
        return [self.table.value.copy(), self.bias.value.copy(), *[each[name] for each in states for name in sorted(each)]]


def both(make, backend, script):
    """The same script with what is kept and without, which has to end with the same bits."""
    runs = []
    for forget in (False, True):
        runs.append(Model(make, forget, backend))
        script(runs[-1])
    assert runs[0].found == runs[1].found
    for kept, anew in zip(runs[0].state(), runs[1].state(), strict=True):
        np.testing.assert_array_equal(kept, anew)


def example(n, count=1, length=3):
    rng = np.random.default_rng(n)
    words = Bags.from_lists(rng.integers(0, 20, (count, length)).tolist())
    return {"word": rng.integers(0, 20, count), "words": words, "y": rng.standard_normal((count, 3))}


def without_y(n, count=1):
    feed = example(n, count)
    del feed["y"]
    return feed


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_training_and_evaluating_in_turn(backend, name):
    def script(run):
        for n in range(8):
            run.fit(run.loss, example(n, length=[3, 40, 0, 200][n % 4]))
            run.evaluate(run.score, without_y(n))
            run.fit(run.loss, example(n, 4), rows=4)
            run.evaluate(run.score, without_y(n, 4), rows=2)
            run.fit(run.loss, example(n, 4), rows=2, batch_size=2)

    both(OPTIMIZERS[name], backend, script)


def test_what_changes_between_calls_is_noticed(backend):
    """Each change comes before two calls, of which the second finds what the first has made."""

    def rates(run):
        for optimizer in run.optimizers:
            optimizer.learning_rate = 0.03

    def state(run):
        for optimizer in run.optimizers:
            optimizer.load_state_dict(run.kept)

    changes = [
        lambda run: setattr(run, "factor", 2.0),
        lambda run: setattr(run, "kept", run.made.state_dict()),
        lambda run: run.scale.set_value(0.5),
        lambda run: run.table.set_value(np.ones((20, 3))),
        lambda run: setattr(run.table, "trainable", False),
        lambda run: setattr(run.table, "trainable", True),
        lambda run: setattr(run.table, "frozen_rows", [1, 2, 3]),
        lambda run: setattr(run.table, "frozen_rows", [4]),
        lambda run: setattr(run.table, "max_norm", 0.9),
        lambda run: setattr(run.table, "frozen_rows", None),
        lambda run: setattr(run.table, "max_norm", None),
        rates,
        state,
        lambda run: wyrm.fit(run.loss, example(50), SGD(0.01, [run.table], momentum=0.5), backend=run.backend, seed=1),
        lambda run: setattr(run, "factor", 1e30),
        lambda run: setattr(run, "factor", 1.0),
        lambda run: setattr(run, "scale", wyrm.InputNode((1, 1), 3.0, constant=True, dtype="float64")),
    ]

    def script(run):
        for n, change in enumerate(changes):
            change(run)
            options = {"check": "loss"} if run.factor > 1 else {}
            for m in range(2):
                run.fit(run.loss, example(10 * n + m), **options)
                run.evaluate(run.score, without_y(10 * n + m))
                if run.factor > 1e6:
                    run.table.set_value(np.ones((20, 3)))
                    run.bias.set_value(np.zeros((1, 3)))

    both(OPTIMIZERS["scheduled"], backend, script)


def test_a_schedule_that_comes_back(backend):
    def script(run):
        state = run.made.state_dict()
        run.made.learning_rate = 0.03
        for n in range(6):
            if n == 3:
                run.made.load_state_dict(state)
            run.fit(run.loss, example(n))

    both(OPTIMIZERS["scheduled"], backend, script)


def test_options_that_change(backend):
    def script(run):
        options = [
            {},
            {"reduction": "sum"},
            {"check": "loss"},
            {"weights": [0.5]},
            {"weights": [-0.25]},
            {"schedule": "sequential"},
            {"batch_size": 3},
            {"shuffle": False},
            {"num_epochs": 2},
            {"callbacks": [lambda epoch: run.scale.set_value(1.0 + epoch.loss % 1)]},
        ]
        for n in range(3 * len(options)):
            run.fit(run.loss, example(n), **options[n * 7 % len(options)])
            feed = example(n)
            run.fit(run.loss, {**feed, "word": feed["word"].astype(np.int32), "y": feed["y"].astype(np.float32)})

    both(OPTIMIZERS["SGD"], backend, script)


def test_sequences(backend):
    """Of one length, and a part of what is in memory; the length changes from call to call."""
    values = np.random.default_rng(0).integers(0, 20, 200)

    def script(run):
        for n in range(12):
            offsets = n * 7 + np.arange(3) * (1 + n % 3)
            feed = {"sequence": Ragged(values, offsets), "y": np.full((2, 3), float(n))}
            run.fit(run.summed, feed, rows=2)
            run.fit(run.summed, {"sequence": Ragged(values, offsets[1:]), "y": np.ones((1, 3))})
            run.evaluate(lambda sequence: sum(run.table.index(word) for word in sequence), {"sequence": feed["sequence"]})

    both(OPTIMIZERS["momentum"], backend, script)


def test_chunks_of_a_stream(backend, monkeypatch):
    """Each does what it does alone; they are bound once."""

    def script(run):
        stream = [example(n) for n in range(5)]
        if run.forget:
            for chunk in stream:
                wyrm.fit(run.loss, chunk, run.made, backend=backend, check="loss", shuffle=False)
        else:
            made = []
            init = Plan.__init__
            with monkeypatch.context() as patch:
                patch.setattr(Plan, "__init__", lambda self, *rest: made.append(1) or init(self, *rest))
                wyrm.fit(run.loss, stream, run.made, backend=backend, check="loss", shuffle=False)
            assert len(made) == 1

    def plain(self, word, words):
        return self.table.index(word) + self.table.index_mean(words) + self.bias

    monkeypatch.setattr(Model, "score", plain)
    both(OPTIMIZERS["FTRL"], backend, script)


def test_chunks_that_are_no_good(backend):
    run = Model(OPTIMIZERS["SGD"], False, backend)
    with pytest.raises(wyrm.OutOfRangeError, match="chunk 2 of the stream"):
        wyrm.fit(run.loss, [example(0), example(1), {**example(2), "word": [20]}], run.made, backend=backend)


def test_wrong_data_are_refused_as_ever(backend):
    def script(run):
        run.fit(run.loss, example(0))
        run.evaluate(run.score, without_y(0))
        for wrong, error in [
            ({"word": [20]}, wyrm.OutOfRangeError),
            ({"words": Bags.from_lists([[3, -1]])}, wyrm.OutOfRangeError),
            ({"y": [[0.0, np.nan, 0.0]]}, wyrm.FeedError),
            ({"y": [[0.0, np.inf, 0.0]]}, wyrm.NotFiniteError),
            ({"z": [1.0]}, wyrm.FeedError),
        ]:
            with pytest.raises(error):
                run.fit(run.loss, {**example(1), **wrong})
        with pytest.raises(wyrm.OutOfRangeError):
            run.evaluate(run.score, {**without_y(0), "word": [-1]})
        run.fit(run.loss, example(1))
        run.evaluate(run.score, without_y(1))
        run.scale.constant = False
        with pytest.raises(wyrm.FeedError, match="constant=True"):
            run.evaluate(run.score, without_y(0))
        with pytest.raises(wyrm.FeedError, match="constant=True"):
            run.fit(run.loss, example(0))
        run.scale.constant = True
        run.fit(run.loss, example(1))

    both(OPTIMIZERS["SGD"], backend, script)


def test_numbers_beyond_the_dtype_are_refused_in_each_call(backend):
    """An infinite one is not: so it is looked at each that may be."""
    factor = wyrm.ParameterNode(0.0)
    optimizer = SGD(0.1, [factor])
    for _ in range(2):
        wyrm.evaluate(lambda x: x + factor, {"x": [np.inf]}, backend=backend)
        wyrm.fit(lambda x: (x * 0.0).exp() * factor, {"x": [1.0]}, optimizer, backend=backend)
        for call in (
            lambda: wyrm.evaluate(lambda x: x + factor, {"x": [1e300]}, backend=backend),
            lambda: wyrm.fit(lambda x: (x * 0.0).exp() * factor, {"x": [1e300]}, optimizer, backend=backend),
        ):
            with pytest.raises(wyrm.FeedError, match="beyond what float32 holds"):
                call()


def test_labels_are_looked_at_in_each_call(backend):
    weight = wyrm.ParameterNode(0.5)
    optimizer = SGD(0.1, [weight])

    def loss(x, y, factor=1.0):
        return wyrm.nn.losses.binary_cross_entropy(weight * x, factor * y)

    for _ in range(2):
        wyrm.fit(loss, {"x": [1.0], "y": [1.0]}, optimizer, backend=backend)
        with pytest.raises(wyrm.LabelError):
            wyrm.fit(loss, {"x": [1.0], "y": [2.0]}, optimizer, backend=backend)
        halved = lambda x, y: loss(x, y, 0.5)
        wyrm.fit(halved, {"x": [1.0], "y": [2.0]}, optimizer, backend=backend)
        wyrm.evaluate(halved, {"x": [1.0], "y": [2.0]}, backend=backend)
        with pytest.raises(wyrm.LabelError):
            wyrm.evaluate(loss, {"x": [1.0], "y": [2.0]}, backend=backend)


def test_the_second_call_binds_nothing(monkeypatch):
    run = Model(OPTIMIZERS["momentum"], False, None)
    for n in range(2):
        run.fit(run.loss, example(n))
        run.fit(lambda word, words, y: run.loss(word, words, y), example(n), weights=[0.5])
        run.evaluate(run.score, without_y(n))
        monkeypatch.setattr(Plan, "__init__", None)
        monkeypatch.setattr(evaluation._Evaluation, "__init__", None)
    with pytest.raises(TypeError):
        run.fit(run.loss, example(0), check="loss")
    with pytest.raises(TypeError):
        run.evaluate(lambda word, words: run.score(word, words) * 2, without_y(0))


def test_what_is_kept_is_bounded_and_goes_with_parameters_and_optimizer(monkeypatch):
    monkeypatch.setattr(evaluation, "_KEPT", Recent())
    gc.collect()
    gc.disable()
    try:
        run = Model(OPTIMIZERS["SGD"], False, None)
        for n in range(8):
            run.fit(run.loss, example(n, 1 + n), rows=8)
            run.evaluate(run.score, without_y(n, 1 + n), rows=8)
        assert len(run.made.sessions) == 4
        assert len(evaluation._KEPT) == 8
        gone = [weakref.ref(each) for each in (run.made, run.table, run.table.storage, run.scale)]
        del run
        gc.collect()  # the bound method is the model's own
        assert [reference() for reference in gone] == [None] * 4
        assert len(evaluation._KEPT) == 0
    finally:
        gc.enable()
