"""Rows that steps do not touch: they equal the dense algorithm at whatever rates, and nobody who looks changes anything."""

import copy
import pickle

import numpy as np
import pytest
from conftest import is_native

import wyrm
from wyrm.clocks import Clock
from wyrm.optim import SGD, Adagrad, Adam, AdamW, RowwiseAdagrad, schedules

ROWS, COLS = 7, 3


class Dense:
    """The algorithm on every row at every step, in NumPy."""

    def __init__(self, value, momentum=0.0, weight_decay=0.0):
        self.w, self.v = value.copy(), np.zeros_like(value)
        self.momentum, self.decay = momentum, weight_decay

    def step(self, gradient, rate):
        self.v = self.momentum * self.v + gradient
        self.w = (1 - rate * self.decay) * self.w - rate * self.v


class Model:
    """A table of which each step touches one row, with a gradient that is given."""

    def __init__(self, start, optimizer):
        self.table, self.index = wyrm.ParameterNode(start, dtype="float64"), wyrm.IndexInputNode()
        self.x = wyrm.InputNode((1, start.shape[1]), dtype="float64")
        self.loss = (self.table.index(self.index) * self.x).scalar_sum()
        self.optimizer = optimizer([self.table])

    def step(self, row, gradient):
        self.index.set_value(row)
        self.x.set_value(gradient[None])
        self.loss.forward()
        self.loss.backward(1.0)
        self.optimizer.step()

    def fit(self, rows, gradients, **options):
        feed = {self.index: rows, self.x: gradients[:, None]}
        return wyrm.fit(self.loss, feed, self.optimizer, shuffle=False, num_threads=1, **options)


def by_hand(steps):
    """A rate that is set now and then, to 0 for a while and up again, as callbacks do."""
    return np.select([steps < 40, steps < 300, steps < 1500], [0.1, 0.01, 0.0], 0.05)


def restarts(steps):
    """A cosine that begins anew, which ends at 0 each time."""
    return 0.05 * (1 + np.cos(np.pi * (steps % 500) / 499))


RATES = {
    "constant": schedules.constant(0.1),
    "cosine": schedules.cosine(0.1, 2999),
    "step": schedules.step(0.1, 700, 0.5),
    "warmup": schedules.warmup(schedules.inverse_square_root(0.1, 50), 200),
    "restarts": restarts,
    "by hand": by_hand,
}
OPTIONS = [
    {"weight_decay": 0.2},
    {"momentum": 0.9},
    {"momentum": 0.99, "weight_decay": 0.02},
    {"momentum": 0.999, "weight_decay": 12.0},  # factors below 0
    {"momentum": 0.5, "weight_decay": 10.0},  # one of 0
]


def drawn(rng, steps):
    """Rows that are touched: mostly two, the others with gaps of thousands of steps; never the last."""
    rows = rng.choice([0, 1], steps)
    seldom = rng.choice(steps, 12, replace=False)
    rows[seldom] = rng.integers(2, ROWS - 1, len(seldom))
    return rows, rng.normal(0, 1, (steps, COLS))


def expected(start, rows, gradients, rates, **options):
    dense = Dense(start, **options)
    for row, gradient, rate in zip(rows, gradients, rates, strict=True):
        full = np.zeros_like(start)
        full[row] = gradient
        dense.step(full, rate)
    return dense


@pytest.mark.parametrize("options", OPTIONS, ids=str)
@pytest.mark.parametrize("name", RATES)
def test_missed_rows_equal_the_dense_algorithm(backend, rng, name, options):
    """Thousands of steps, by fit in two epochs; on backends that are slow, of every rate with some options."""
    if not is_native() and (list(RATES).index(name) + OPTIONS.index(options)) % 3:
        pytest.skip("with other options")
    steps = 3000
    start, (rows, gradients) = rng.normal(0, 1, (ROWS, COLS)), drawn(rng, steps)
    rates = RATES[name](np.arange(steps))
    dense = expected(start, rows, gradients, rates, **options)
    model = Model(start, lambda p: SGD(RATES[name], p, **options))
    for half in (slice(0, steps // 2), slice(steps // 2, steps)):
        model.fit(rows[half], gradients[half])
    np.testing.assert_allclose(model.table.value, dense.w, rtol=1e-11, atol=1e-11 * np.abs(dense.w).max())
    if "momentum" in options:
        velocity = model.optimizer.state_dict()["0.momentum.velocity"]
        np.testing.assert_allclose(velocity, dense.v, rtol=1e-11, atol=1e-300)


@pytest.mark.parametrize("options", OPTIONS, ids=str)
def test_missed_rows_with_rates_set_by_hand(backend, rng, options):
    """Between steps, with steps that have no gradient at all among them."""
    steps = 400
    start, (rows, gradients) = rng.normal(0, 1, (ROWS, COLS)), drawn(rng, steps)
    model, dense = Model(start, lambda p: SGD(1.0, p, **options)), Dense(start, **options)
    for n in range(steps):
        model.optimizer.learning_rate = rate = float(by_hand(n)) * rng.uniform(0.5, 1)
        full = np.zeros_like(start)
        if n % 7 == 3:
            model.optimizer.step()
        else:
            full[rows[n]] = gradients[n]
            model.step(rows[n], gradients[n])
        dense.step(full, rate)
        if n % 90 == 0:
            np.testing.assert_allclose(model.table.value, dense.w, rtol=1e-11, atol=1e-12)
    np.testing.assert_allclose(model.table.value, dense.w, rtol=1e-11, atol=1e-12)


@pytest.mark.parametrize("optimizer", [SGD, Adagrad, RowwiseAdagrad, Adam, AdamW])
def test_decay_of_missed_rows(backend, rng, optimizer):
    """Of every optimizer that has it: the row that is never touched."""
    rates = restarts(np.arange(1200))
    start, (rows, gradients) = rng.normal(0, 1, (ROWS, COLS)), drawn(rng, 1200)
    model = Model(start, lambda p: optimizer(restarts, p, weight_decay=0.3))
    model.fit(rows, gradients)
    np.testing.assert_allclose(model.table.value[-1], start[-1] * np.prod(1 - 0.3 * rates), rtol=1e-12)


def looked(model, start):
    """Everything that looks at a model, and that should leave no trace."""
    model.table.value.sum()
    state = model.optimizer.state_dict()
    wyrm.evaluate(model.table.index(model.index).scalar_sum(), {model.index: np.arange(ROWS)})
    copy.deepcopy(model.table)
    model.index.set_value(3)
    model.loss.forward()
    (model.table.sum(axis=0) * 2.0).scalar_sum().value  # noqa: B018  (all of it)
    wyrm.finite_difference(model.table, model.table.index(model.index).square().scalar_sum())
    assert model.optimizer.learning_rate >= 0
    return state


@pytest.mark.parametrize(
    "optimizer", [lambda p: SGD(restarts, p, momentum=0.9, weight_decay=0.1), lambda p: AdamW(restarts, p)]
)
def test_looking_changes_no_bit(backend, rng, tmp_path, optimizer):
    start, (rows, gradients) = rng.normal(0, 1, (ROWS, COLS)), drawn(rng, 300)
    values = []
    for looks in (False, True):
        model = Model(start, optimizer)
        for n in range(300):
            model.step(rows[n], gradients[n])
            if looks and n % 13 == 0:
                looked(model, start)
                wyrm.save(tmp_path / "look.safetensors", [model.table], model.optimizer)
                model.table.set_value(model.table.value)
        values.append(model.table.value)
    np.testing.assert_array_equal(*values)


def resumed(how, model, start, optimizer, path):
    """Another model that goes on where this one is."""
    state, value = model.optimizer.state_dict(), model.table.value
    if how == "deepcopy":
        other = Model(start, optimizer)
        other.table = copy.deepcopy(model.table)
    elif how == "pickle":
        other = Model(start, optimizer)
        other.table = pickle.loads(pickle.dumps(model.table))
    else:
        other = Model(start * 0, optimizer)
        if how == "file":
            wyrm.save(path, {"table": model.table}, model.optimizer)
            wyrm.load(path, {"table": other.table}, other.optimizer)
        elif how == "state, then value":
            other.optimizer.load_state_dict(state)
            other.table.set_value(value)
        else:
            other.table.set_value(value)
            other.optimizer.load_state_dict(state)
        return other
    other.loss = (other.table.index(other.index) * other.x).scalar_sum()
    other.optimizer = optimizer([other.table])
    other.optimizer.load_state_dict(state)
    return other


@pytest.mark.parametrize("how", ["file", "state, then value", "value, then state", "deepcopy", "pickle"])
@pytest.mark.parametrize(
    "optimizer", [lambda p: SGD(restarts, p, momentum=0.99, weight_decay=0.1), lambda p: AdamW(restarts, p)]
)
def test_a_run_that_goes_on_elsewhere_ends_with_the_same_bits(backend, rng, tmp_path, how, optimizer):
    start, (rows, gradients) = rng.normal(0, 1, (ROWS, COLS)), drawn(rng, 1300)
    whole, parted = Model(start, optimizer), Model(start, optimizer)
    for a, b in ((0, 1), (1, 1103), (1103, 1300)):
        for model in (whole, parted):
            for n in range(a, b):
                model.step(rows[n], gradients[n])
        parted = resumed(how, parted, start, optimizer, tmp_path / "model.safetensors")
    assert len(whole.table.storage.behind()) > 2
    np.testing.assert_array_equal(parted.table.value, whole.table.value)
    for model in (whole, parted):
        for n in range(200):
            model.step(rows[n], gradients[n])
        model.step(ROWS - 1, gradients[0])
    np.testing.assert_array_equal(parted.table.value, whole.table.value)


def test_values_of_another_origin_count_as_up_to_date(backend, rng):
    """A state goes with the values that it was taken with; others are not overwritten, nor made up for."""
    start, (rows, gradients) = rng.normal(0, 1, (ROWS, COLS)), drawn(rng, 100)
    model = Model(start, lambda p: SGD(0.1, p, momentum=0.9, weight_decay=0.1))
    for n in range(100):
        model.step(rows[n], gradients[n])
    other = Model(start, lambda p: SGD(0.1, p, momentum=0.9, weight_decay=0.1))
    other.table.set_value(np.full_like(start, 5.0))
    other.optimizer.load_state_dict(model.optimizer.state_dict())
    np.testing.assert_array_equal(other.table.value, 5.0)
    model.table.set_value(np.full_like(start, 5.0))
    for one in (model, other):
        one.step(0, gradients[0])
    np.testing.assert_allclose(model.table.value, other.table.value, rtol=1e-14)


def test_optimizers_take_turns_on_one_parameter(backend, rng):
    """Each follows the dense algorithm: what one leaves behind is made up for before the other changes anything."""
    start, (rows, gradients) = rng.normal(0, 1, (ROWS, COLS)), drawn(rng, 60)
    model = Model(start, lambda p: SGD(0.1, p, weight_decay=0.5))
    plain, stronger = SGD(0.05, [model.table]), SGD(0.1, [model.table], weight_decay=2.0)
    w = start.copy()
    for n in range(60):
        chosen = (model.optimizer, plain, stronger)[n % 3]
        rate, decay = ((0.1, 0.5), (0.05, 0.0), (0.1, 2.0))[n % 3]
        model.index.set_value(rows[n])
        model.x.set_value(gradients[n][None])
        model.loss.forward()
        model.loss.backward(1.0)
        chosen.step()
        w *= 1 - rate * decay
        w[rows[n]] -= rate * gradients[n]
    np.testing.assert_allclose(model.table.value, w, rtol=1e-12)


@pytest.mark.parametrize("threads", [1, 2])
def test_synchronized_threads_with_momentum_give_the_same_bits(backend, rng, threads):
    start, (rows, gradients) = rng.normal(0, 1, (ROWS, COLS)), drawn(rng, 400)
    values = []
    if "synchronized" not in wyrm.get_backend().capabilities.schedules:
        threads = 1
    for count in (1, threads):
        model = Model(start, lambda p: SGD(restarts, p, momentum=0.9, weight_decay=0.1))
        feed = {model.index: rows, model.x: gradients[:, None]}
        wyrm.fit(
            model.loss, feed, model.optimizer, batch_size=8, num_threads=count, schedule="synchronized", seed=3, num_epochs=2
        )
        values.append(model.table.value)
    np.testing.assert_array_equal(*values)


def test_clocks_are_exact(rng):
    """Stretches of any length and beginning, against step after step; beyond what is kept, nothing is asked for."""
    clock = Clock(600, decay=0.3, momentum=0.97)
    rates = rng.uniform(0, 4, 5000) * (rng.random(5000) < 0.8)
    for n, rate in enumerate(rates):
        due = clock.tick(rate)
        clock.last[due] = clock.now
        if n % 333 == 0 or n == len(rates) - 1:
            since = np.maximum(np.arange(clock.now - 1100, clock.now + 1), 0)
            keep, move, fade = np.ones(len(since)), np.zeros(len(since)), np.ones(len(since))
            for step in range(max(clock.now - 1100, 0), clock.now):
                seen = since <= step
                move[seen] = (1 - rates[step] * 0.3) * move[seen] + rates[step] * 0.97 * fade[seen]
                keep[seen] *= 1 - rates[step] * 0.3
                fade[seen] *= 0.97
            missed = clock.missed(since)
            np.testing.assert_allclose(missed, [keep, move, fade], rtol=1e-12, atol=1e-300)
            for first in range(0, len(since), 70):  # few rows are gone through one by one
                few = slice(first, first + first // 70)
                np.testing.assert_array_equal(clock.missed(since[few]), missed[:, few])
        assert clock.last.min() >= clock.now - clock.capacity // 2 - 64


@pytest.mark.parametrize("options", OPTIONS)
def test_training_and_evaluating_with_one_example_brings_no_other_row_up_to_date(backend, rng, options):
    """It is a step, to the bit; what is evaluated in between is what would be read."""
    start = rng.uniform(-1, 1, (9, 3))
    models = [Model(start, lambda p: SGD(restarts, p, **options)) for _ in range(2)]
    for n in range(30):
        row, gradient = int(rng.integers(0, 3)), rng.uniform(-1, 1, 3)
        models[0].step(row, gradient)
        models[1].fit(np.array([row]), gradient[None], backend=backend)
        looked_up = models[1].table.index(models[1].index)
        found = wyrm.evaluate(looked_up, {models[1].index: [n % 9]}, backend=backend)
        np.testing.assert_allclose(found[0, 0], models[1].table.value[n % 9], rtol=1e-14)
        whole = wyrm.evaluate(models[1].table * models[1].x, {models[1].x: np.ones((1, 1, 3))}, backend=backend)
        np.testing.assert_array_equal(whole[0], models[1].table.value)
    assert len(models[1].table.storage.behind()) >= 6
    np.testing.assert_array_equal(models[0].table.storage.behind(), models[1].table.storage.behind())
    np.testing.assert_array_equal(models[0].table.value, models[1].table.value)
    models[1].fit(np.zeros(9, np.int64), np.zeros((9, 3)), backend=backend)  # as many steps as there are rows
    assert not len(models[1].table.storage.behind())


def test_held_out_examples_are_evaluated_at_rows_that_are_behind(backend, rng):
    """As they would be, after each epoch, though no row but those of a step is written."""
    model = Model(rng.uniform(-1, 1, (9, 3)), lambda p: SGD(restarts, p, momentum=0.9, weight_decay=0.1))
    validation = {model.index: np.arange(9), model.x: np.ones((9, 1, 3))}
    losses = []
    feed = {model.index: [0, 1], model.x: rng.uniform(-1, 1, (2, 1, 3))}
    history = wyrm.fit(
        model.loss,
        feed,
        model.optimizer,
        num_epochs=4,
        validation=validation,
        backend=backend,
        callbacks=[lambda epoch: losses.append(model.table.value.sum(axis=1).mean())],
    )
    found = [epoch.metrics["validation_loss"] for epoch in history]
    np.testing.assert_allclose(found, losses, rtol=1e-12)
    assert len(model.table.storage.behind()) >= 7
