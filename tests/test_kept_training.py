"""Programs that stay bound from one call of fit to the next: each call does what one does that nobody has made before."""

import gc
import weakref

import numpy as np
import pytest

import wyrm
from wyrm import Bags
from wyrm.optim import FTRL, SGD, Adagrad, Adam, schedules
from wyrm.training.plan import Plan

OPTIMIZERS = {
    "SGD": lambda p: SGD(0.01, p),
    "decay": lambda p: SGD(0.01, p, weight_decay=0.1),
    "momentum": lambda p: SGD(0.01, p, momentum=0.9),
    "scheduled": lambda p: SGD(schedules.cosine(0.01, 20), p),
    "Adagrad": lambda p: Adagrad(0.1, p, l2=0.01),
    "Adam": lambda p: Adam(0.1, p),
    "FTRL": lambda p: FTRL(0.1, p, l1=0.01),
    "norm": lambda p: SGD(0.01, p, clip_norm=0.5),
}


class Run:
    """A model; with ``forget`` nothing stays bound."""

    def __init__(self, make, forget, backend):
        wyrm.InputNode((1, 1), 1.0).square().forward()  # closes its graph: streams of random numbers are counted in the next
        rng = np.random.default_rng(5)
        self.table = wyrm.ParameterNode(rng.standard_normal((20, 3)), dtype="float64", name="table")
        self.bias = wyrm.ParameterNode(np.zeros((1, 3)), dtype="float64", name="bias")
        self.word, self.words, self.y = (
            wyrm.IndexInputNode(),
            wyrm.BagInputNode(1),
            wyrm.InputNode((1, 3), dtype="float64"),
        )
        self.scale = wyrm.InputNode((1, 1), 1.0, constant=True, dtype="float64")
        sample = self.table.index(wyrm.SampledIndexNode(20))
        score = self.table.index(self.word) + (self.table.index_mean(self.words) * self.scale + self.bias).dropout(0.2)
        self.loss = (score - self.y).square().scalar_sum() + 0.1 * (sample * score).scalar_sum().square()
        self.optimizer = make([self.table, self.bias])
        self.forget, self.backend = forget, backend
        self.history = []

    def fit(self, word, words, y, **options):
        feed = {self.word: word, self.words: words, self.y: y}
        history = wyrm.fit(self.loss, feed, self.optimizer, backend=self.backend, **options)
        self.history.append((history.losses, history.num_threads, history.schedule, history.examples_per_thread))
        if self.forget:
            self.optimizer.sessions.clear()

    def state(self):
        states = self.optimizer.state_dict()
        return [self.table.value.copy(), self.bias.value.copy(), *[states[name] for name in sorted(states)]]


def both(make, backend, script):
    """Runs that keep programs and that do not, through the same script; they have to end with the same bits."""
    runs = []
    for forget in (False, True):
        runs.append(Run(make, forget, backend))
        script(runs[-1])
    assert runs[0].history == runs[1].history
    for kept, anew in zip(runs[0].state(), runs[1].state(), strict=True):
        np.testing.assert_array_equal(kept, anew)
    return runs[0]


def example(n, length=3):
    rng = np.random.default_rng(n)
    return rng.integers(0, 20, 1), [rng.integers(0, 20, length).tolist()], rng.standard_normal((1, 3))


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_one_example_after_the_other(backend, name):
    """With a seed of each call's own, which dropout and samples follow."""

    def script(run):
        for n in range(12):
            run.fit(*example(n, [3, 40, 0, 200][n % 4]), seed=n)

    both(OPTIMIZERS[name], backend, script)


def test_what_changes_between_calls_is_noticed(backend):
    def script(run):
        for n in range(4):
            run.fit(*example(n), seed=1)
        run.optimizer.learning_rate = 0.02
        run.fit(*example(4), seed=1)
        run.scale.set_value(3.0)
        run.fit(*example(5), seed=1)
        run.table.set_value(np.ones((20, 3)))
        run.fit(*example(6), seed=1)
        run.bias.trainable = False
        run.fit(*example(7), seed=1)
        run.fit(*example(8), seed=1)
        run.bias.trainable = True
        run.fit(*example(9), seed=1)
        other = SGD(0.05, [run.table])
        first, run.optimizer = run.optimizer, other
        run.fit(*example(10), seed=1)
        run.optimizer = first
        run.fit(*example(11), seed=1)
        run.optimizer = SGD(0.03, [run.table, run.bias])
        run.fit(*example(16), seed=1)
        run.optimizer = SGD(0.01, [run.table, run.bias], momentum=0.5)
        run.fit(*example(12), seed=1)
        run.optimizer = first
        run.fit(*example(13), seed=1)
        run.fit(*example(14), seed=1, num_epochs=3)
        word, words, y = example(15)
        run.fit(word.astype(np.int32), Bags.from_lists(words, [[0.5] * 3]), y.astype(np.float32), seed=1)
        run.fit(word, words, y, seed=1, weights=[0.5])
        run.fit(np.r_[word, word], words * 2, np.r_[y, y], seed=1)
        run.fit(np.r_[word, word], words * 2, np.r_[y, y], seed=2, num_epochs=2, batch_size=2)

    both(OPTIMIZERS["SGD"], backend, script)


def test_trainable_set_by_a_callback(backend):
    def script(run):
        def freeze(epoch):
            run.bias.trainable = epoch.number % 2 == 0

        for n in range(6):
            run.fit(*example(n), seed=n, num_epochs=2 * (n % 2) + 1, callbacks=[freeze])

    both(OPTIMIZERS["SGD"], backend, script)


def test_wrong_data_change_nothing(backend):
    def script(run):
        run.fit(*example(0), seed=0)
        for wrong in (([20], [[1]]), ([1], [[20]]), ([-1], [[1]]), ([1, 2], [[1], [2]])):
            with pytest.raises(wyrm.WyrmError):
                run.fit(*wrong, np.zeros((1, 3)), seed=0)
        with pytest.raises(wyrm.NotFiniteError, match="example 0"):
            run.fit([1], [[1]], np.full((1, 3), np.inf), seed=0)
        run.fit(*example(1), seed=0)

    both(OPTIMIZERS["SGD"], backend, script)


def test_constraints_and_options_that_change(backend):
    def script(run):
        for n, (rows, norm) in enumerate(
            [(None, None), ([2, 5], None), (range(9), None), (None, 0.5), (None, 0.3), ([1], None)]
        ):
            run.table.frozen_rows, run.table.max_norm = rows, norm
            run.fit(*example(n), seed=1)
            run.fit(*example(n + 10), seed=1, check="loss")
            run.fit(*example(n + 20), seed=1, reduction="sum", schedule="sequential")

    both(OPTIMIZERS["SGD"], backend, script)


@pytest.mark.parametrize(("dtype", "value"), [("float32", 1e25), ("float64", 1e200)])
def test_gradients_that_overflow_by_a_constant_that_has_grown(backend, dtype, value):
    """Programs that were bound when it was small look at fewer gradients."""
    parameter = wyrm.ParameterNode([[0.0]], dtype=dtype)
    x, scale = wyrm.InputNode((1, 1), dtype=dtype), wyrm.InputNode((1, 1), 1.0, constant=True, dtype=dtype)
    loss = parameter * scale * scale + x
    optimizer = SGD(0.001, [parameter])
    for _ in range(2):
        wyrm.fit(loss, {x: [1.0]}, optimizer, backend=backend)
    parameter.set_value([[0.0]])
    scale.set_value(value)
    for _ in range(2):
        with pytest.raises(wyrm.NotFiniteError, match="gradient"):
            wyrm.fit(loss, {x: [1.0]}, optimizer, backend=backend)
        assert parameter.value == 0
    scale.set_value(1.0)
    wyrm.fit(loss, {x: [1.0]}, optimizer, backend=backend)
    np.testing.assert_allclose(parameter.value, -0.001)


def test_gradients_are_looked_at_by_each_call_as_it_asks(backend):
    parameter, x = wyrm.ParameterNode([[0.0]]), wyrm.InputNode((1, 1))
    loss, optimizer = parameter * x * x * x, SGD(0.001, [parameter])
    for check in ("loss", "all", "loss", "all"):
        wyrm.fit(loss, {x: [1.0]}, optimizer, backend=backend, check=check)
        parameter.set_value([[0.0]])
        if check == "all":
            with pytest.raises(wyrm.NotFiniteError, match="gradient"):
                wyrm.fit(loss, {x: [1e15]}, optimizer, backend=backend, check=check)
            assert parameter.value == 0
        else:
            wyrm.fit(loss, {x: [1e15]}, optimizer, backend=backend, check=check)
            assert np.isinf(parameter.value)
            parameter.set_value([[0.0]])


def test_the_reason_is_that_of_the_call(backend):
    """Where one of two examples is skipped, there is a single run; in the next call there are two."""
    table, seen = wyrm.ParameterNode([[1.0], [2.0]]), wyrm.BagInputNode(1)
    loss = table.index(wyrm.SampledIndexNode(2, exclude=seen)).square()
    optimizer = SGD(0.01, [table])
    for n in range(2):
        optimizer.sessions.clear()
        alone = wyrm.fit(loss, {seen: [[0], [1]]}, optimizer, backend=backend, num_threads=1).reason
        optimizer.sessions.clear()
        single = wyrm.fit(loss, {seen: [[0, 1], [1]]}, optimizer, backend=backend, num_threads=1).reason
        assert single == "an epoch is a single run" != alone
        for bags, reason in [([[0], [1]], alone), ([[0, 1], [1]], single)][:: 1 - 2 * n]:
            assert wyrm.fit(loss, {seen: bags}, optimizer, backend=backend, num_threads=1).reason == reason


@pytest.mark.parametrize("seed", [None, 3])
@pytest.mark.parametrize("name", OPTIMIZERS)
def test_the_second_call_binds_nothing(monkeypatch, name, seed):
    run = Run(OPTIMIZERS[name], False, None)
    run.fit(*example(0), seed=seed)
    monkeypatch.setattr(Plan, "__init__", None)
    run.fit(*example(1), seed=seed)
    with pytest.raises(TypeError):
        run.fit(*example(1), seed=seed, check="loss")


def test_the_warning_of_parameters_that_no_optimizer_has_comes_with_each_call(caplog):
    run = Run(lambda parameters: SGD(0.01, parameters[:1]), False, None)
    for n in range(3):
        caplog.clear()
        run.fit(*example(n), seed=0)
        assert "'bias'" in caplog.text


def test_what_is_bound_goes_with_the_loss():
    gc.collect()
    gc.disable()
    try:
        run = Run(OPTIMIZERS["SGD"], False, None)
        run.fit(*example(0), seed=0)
        run.fit(*example(1), seed=0)
        optimizer, loss, table = (weakref.ref(thing) for thing in (run.optimizer, run.loss, run.table.storage))
        del run.optimizer
        assert optimizer() is None
        del run
        assert loss() is None
        assert table() is None
    finally:
        gc.enable()


def test_data_in_another_order(backend):
    """What two inputs of one shape are fed goes to the right one, in whatever order a feed has them."""
    x, y = wyrm.InputNode((1, 1), name="x"), wyrm.InputNode((1, 1), name="y")
    few, many = wyrm.BagInputNode(name="few"), wyrm.BagInputNode(name="many")
    table = wyrm.ParameterNode(np.arange(10.0).reshape(10, 1))

    def loss_of(x, y, few, many):
        return (3 * x - y + table.index_sum(few) - 2 * table.index_sum(many)).square()

    data = {"x": [0.5], "y": [1.5], "few": Bags.from_lists([[1, 2]]), "many": Bags.from_lists([[3, 4, 5]])}
    right = (1.5 - 1.5 + 3 - 24) ** 2
    loss, nodes = loss_of(x, y, few, many), {"x": x, "y": y, "few": few, "many": many}
    optimizer = SGD(0.0, [table])
    for order in ("x y few many", "y x few many", "many y few x", "x y few many", "few many x y"):
        feed = {name: data[name] for name in order.split()}
        by_node = {nodes[name]: values for name, values in feed.items()}
        for model, given in ((loss, by_node), (loss, feed), (loss_of, feed), (loss, by_node)):
            assert wyrm.fit(model, given, optimizer, backend=backend).losses == [right], order
            assert wyrm.evaluate(model, given, backend=backend).ravel() == [right], order
        assert wyrm.fit(loss, [feed, by_node, dict(reversed(feed.items()))], optimizer, backend=backend).losses == [right]


@pytest.mark.parametrize("make", [np.asarray, list, lambda rows: [row.tolist() for row in rows], tuple, np.asfortranarray])
def test_data_that_change_how_they_are_given(backend, make):
    """Arrays, lists, numbers of other dtypes, bags with weights and without: each is read for what it is."""
    x, word, words = wyrm.InputNode((1, 2)), wyrm.IndexInputNode(), wyrm.BagInputNode()
    table = wyrm.ParameterNode(np.arange(20.0).reshape(10, 2))
    loss = (table.index(word) * x + table.index_sum(words)).square().scalar_sum()
    optimizer, rng = SGD(0.0, [table]), np.random.default_rng(0)
    values = table.value
    for n in range(24):
        kind = [np.float32, np.float64, np.int64, np.float64, np.uint8][n % 5]
        rows = rng.integers(1, 9, (1 + n % 7 // 6, 2)).astype(kind)
        indices = rng.integers(0, 10, len(rows)).astype([np.int64, np.int32, np.float32][n % 11 % 3])
        bags = [rng.integers(0, 10, rng.integers(0, 4)).tolist() for _ in rows]
        weights = [[0.5] * len(bag) for bag in bags] if n % 4 == 3 else None
        expected = 0.0
        for row, index, bag in zip(rows, indices, bags, strict=True):
            pooled = values[bag].sum(0) * (1.0 if weights is None else 0.5)
            expected += float(((values[int(index)] * row + pooled) ** 2).sum())
        feed = {
            x: make(rows),
            word: make(indices) if n % 3 else indices,
            words: bags if weights is None else Bags.from_lists(bags, weights),
        }
        (loss_found,) = wyrm.fit(loss, feed, optimizer, backend=backend, num_threads=1).losses
        np.testing.assert_allclose(loss_found, expected / len(rows), rtol=1e-5, err_msg=f"call {n}")


def test_data_that_are_no_good_are_told_by_the_names_of_this_call(backend):
    """Two models of the same structure, over inputs of other names, train by one optimizer."""
    weight = wyrm.ParameterNode(np.ones((4, 1)))
    optimizer = SGD(0.1, [weight])
    models = []
    for name in ("old", "new"):
        word, y = wyrm.IndexInputNode(name=name), wyrm.InputNode((1, 1), name=f"{name} label")
        models.append((word, y, (weight.index(word) - y).square()))
    for _ in range(2):
        for word, y, loss in models:
            before = weight.value.copy()
            for wrong in ({word: [4], y: [0.0]}, {word: [-1], y: [0.0]}, {word: [0], y: [np.nan]}, {word: [0], y: [1e300]}):
                with pytest.raises(wyrm.WyrmError, match=f"'{word.name}( label)?': example 0"):
                    wyrm.fit(loss, wrong, optimizer, backend=backend)
                np.testing.assert_array_equal(weight.value, before)
            wyrm.fit(loss, {word: [0], y: [0.0]}, optimizer, backend=backend)
            assert weight.value[0, 0] < before[0, 0]


def test_weights_are_no_part_of_a_graph_that_the_caller_is_making(backend):
    x, y = wyrm.InputNode((1, 1)), wyrm.InputNode((1, 1))
    slope = wyrm.ParameterNode(1.0)
    loss, optimizer = (slope * x - y).square(), SGD(0.1, [slope])
    wyrm.fit(loss, {x: [1.0], y: [3.0]}, optimizer, backend=backend)
    before = wyrm.InputNode((1, 1), 2.0)
    for _ in range(2):
        wyrm.fit(loss, {x: [1.0, 2.0], y: [3.0, 6.0]}, optimizer, weights=[1.0, 2.0], backend=backend)
    after = wyrm.InputNode((1, 1), 3.0)
    assert before._graph is after._graph
    assert (before * after).value == 6.0
