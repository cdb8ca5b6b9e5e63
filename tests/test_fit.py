"""fit and evaluate: the same as steps driven from Python; order, threads, interruption, errors."""

import os

import numpy as np
import pytest

import wyrm
from wyrm.optim import SGD


def regression(dtype="float32"):
    slope, intercept = wyrm.ParameterNode(0.0, dtype=dtype), wyrm.ParameterNode(0.0, dtype=dtype)
    x, y = wyrm.InputNode((1, 1), name="x", dtype=dtype), wyrm.InputNode((1, 1), name="y", dtype=dtype)
    return x, y, slope, intercept, (y - (slope * x + intercept)).square()


def factorization(rng, users=30, items=40, width=8, dtype="float32"):
    tables = [wyrm.ParameterNode(0.3 * rng.standard_normal((n, width)), dtype=dtype) for n in (users, items)]
    biases = [wyrm.ParameterNode(np.zeros((n, 1)), dtype=dtype) for n in (users, items)]
    user, item = wyrm.IndexInputNode(name="user"), wyrm.IndexInputNode(name="item")
    rating = wyrm.InputNode((1, 1), name="rating", dtype=dtype)
    score = tables[0].index(user).vector_dot(tables[1].index(item)) + biases[0].index(user) + biases[1].index(item)
    return user, item, rating, [*tables, *biases], score, (score - rating).square()


def test_fit_equals_steps(backend, rng):
    """To rounding, after every example, shuffled by the seed."""
    feed_rng = np.random.default_rng(1)
    users, items, ratings = feed_rng.integers(0, 30, 200), feed_rng.integers(0, 40, 200), feed_rng.standard_normal(200)
    results = []
    for native in (True, False):
        user, item, rating, parameters, _, loss = factorization(np.random.default_rng(5), dtype="float64")
        optimizer = SGD(0.05, parameters, l2=0.02)
        if native:
            feed = {user: users, item: items, rating: ratings}
            history = wyrm.fit(loss, feed, optimizer, num_epochs=2, seed=3)
            losses = history.losses
        else:
            losses = []
            for epoch in (1, 2):
                total = 0.0
                for n in np.random.default_rng([3, 0, epoch]).permutation(200):
                    user.set_value(users[n])
                    item.set_value(items[n])
                    rating.set_value(ratings[n])
                    loss.forward()
                    total += float(loss.value[0, 0])
                    loss.backward(1.0)
                    optimizer.step()
                losses.append(total / 200)
        results.append((losses, [p.value.copy() for p in parameters]))
    np.testing.assert_allclose(results[0][0], results[1][0], rtol=1e-10)
    for a, b in zip(results[0][1], results[1][1], strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-10, atol=1e-12)


def test_seed_and_shuffle(backend, rng):
    xs = rng.standard_normal(50)
    ends = []
    for options in ({"seed": 1}, {"seed": 1}, {"seed": 2}, {"shuffle": False}, {"shuffle": False, "seed": 9}):
        x, y, slope, _, loss = regression()
        wyrm.fit(loss, {x: xs, y: np.sin(xs)}, SGD(0.1, loss.parameters()), num_epochs=2, **options)
        ends.append(float(slope.value[0, 0]))
    assert ends[0] == ends[1] and ends[3] == ends[4]
    assert len({ends[0], ends[2], ends[3]}) == 3


def test_every_example_is_visited_once_an_epoch(backend):
    """By any number of threads: the sum over the examples is exact in whole numbers."""
    table, index, x = wyrm.ParameterNode(np.zeros((5000, 1))), wyrm.IndexInputNode(), wyrm.InputNode((1, 1))
    loss = table.index(index) * x
    for threads in (1, 2, 3):
        table.set_value(np.zeros((5000, 1)))
        feed = {index: np.arange(5000), x: np.ones(5000)}
        with pytest.warns(RuntimeWarning, match="cores") if threads > len(os.sched_getaffinity(0)) else nothing():
            history = wyrm.fit(loss, feed, SGD(1.0, [table]), num_epochs=3, num_threads=threads)
        np.testing.assert_array_equal(table.value, np.full((5000, 1), -3))
        assert [e.examples for e in history] == [5000] * 3


class nothing:
    def __enter__(self):
        pass

    def __exit__(self, *_):
        pass


def test_hogwild_converges(backend, rng):
    users, items = rng.integers(0, 30, 3000), rng.integers(0, 40, 3000)
    truth = rng.standard_normal((30, 3)) @ rng.standard_normal((3, 40))
    user, item, rating, parameters, _, loss = factorization(rng)
    feed = {user: users, item: items, rating: truth[users, items]}
    epochs = 30 if backend != "reference" else 8
    history = wyrm.fit(loss, feed, SGD(0.03, parameters), num_epochs=epochs, num_threads=2, schedule="hogwild", seed=0)
    assert history.num_threads == 2
    assert history.losses[-1] < 0.2 * history.losses[0]


def test_threads_of_ones_own(backend, rng):
    """The original's way: a graph and an optimizer for each thread, parameters shared."""
    import concurrent.futures

    slope, intercept = wyrm.HogwildParameter(0.0), wyrm.HogwildParameter(0.0)

    def work(seed):
        a, b = wyrm.ParameterNode.shared(slope), wyrm.ParameterNode.shared(intercept)
        x, y = wyrm.InputNode((1, 1)), wyrm.InputNode((1, 1))
        loss = (y - (a * x + b)).square()
        optimizer = SGD(0.05, loss.parameters())
        for value in np.random.default_rng(seed).random(1500):
            x.set_value(value)
            y.set_value(3.0 * value + 5.0)
            loss.forward(backend=backend)
            loss.backward(1.0)
            optimizer.step()
        return float(loss.value[0, 0])

    with concurrent.futures.ThreadPoolExecutor(2) as pool:
        losses = list(pool.map(work, [1, 2]))
    assert max(losses) < 1e-3
    np.testing.assert_allclose([slope.value[0, 0], intercept.value[0, 0]], [3, 5], atol=0.05)


def test_a_parameter_shared_by_two_nodes_is_one_parameter_in_training(backend):
    shared = wyrm.HogwildParameter(1.0, dtype="float64")
    a, b = wyrm.ParameterNode.shared(shared), wyrm.ParameterNode.shared(shared)
    x = wyrm.InputNode((1, 1), dtype="float64")
    loss = a * b * x  # d/dw w^2 x = 2 w x
    wyrm.fit(loss, {x: [1.0]}, SGD(0.25, [a]))
    assert shared.value == 0.5


def test_evaluate(backend, rng):
    user, item, rating, parameters, score, loss = factorization(rng, dtype="float64")
    users, items, ratings = rng.integers(0, 30, 300), rng.integers(0, 40, 300), rng.standard_normal(300)
    tables = [p.value for p in parameters]
    expected = (tables[0][users] * tables[1][items]).sum(1) + tables[2][users, 0] + tables[3][items, 0]
    before = [t.copy() for t in tables]
    for threads in (1, 2):
        scores = wyrm.evaluate(score, {user: users, item: items}, num_threads=threads)
        assert scores.shape == (300, 1, 1)
        np.testing.assert_allclose(scores[:, 0, 0], expected)
        feed = {user: users, item: items, rating: ratings}
        losses, rows = wyrm.evaluate([loss, parameters[0].index(user)], feed, num_threads=threads)
        np.testing.assert_allclose(losses[:, 0, 0], (expected - ratings) ** 2)
        np.testing.assert_array_equal(rows[:, 0], tables[0][users])
    for table, kept in zip(tables, before, strict=True):
        np.testing.assert_array_equal(table, kept)


def test_evaluate_of_matrices_and_views(backend, rng):
    x = wyrm.InputNode((3, 4))
    values = rng.standard_normal((7, 3, 4)).astype(np.float32)
    transposed, vector = wyrm.evaluate([x.t(), (x.scalar_sum() * np.ones((1, 5))).t()], {x: values})
    np.testing.assert_array_equal(transposed, values.transpose(0, 2, 1))
    np.testing.assert_allclose(vector, np.repeat(values.sum((1, 2))[:, None, None], 5, 1), rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("dtype", ["float32", "float64", "int32", "int64", "uint8", "float16", "bool", ">f8"])
@pytest.mark.parametrize("model", ["float32", "float64"])
def test_feeds_of_any_real_dtype(backend, dtype, model):
    x = wyrm.InputNode((1, 2), dtype=model)
    values = np.array([[0, 1], [1, 0], [1, 1]]).astype(dtype)
    np.testing.assert_array_equal(wyrm.evaluate(x * 1.0, {x: values})[:, 0], values.astype(model))


@pytest.mark.parametrize("dtype", ["int32", "int64", "uint8", "float64"])
def test_index_feeds_of_any_whole_dtype(backend, dtype):
    table, index = wyrm.ParameterNode(np.arange(4.0).reshape(4, 1)), wyrm.IndexInputNode(2)
    values = np.array([[3, 0], [1, 1], [2, 3]]).astype(dtype)
    result = wyrm.evaluate(table.index(index), {index: values})
    np.testing.assert_array_equal(result[:, :, 0], values)


def test_feeds_that_do_not_lie_in_a_row(backend):
    x = wyrm.InputNode((1, 2))
    values = np.arange(40.0, dtype=np.float32).reshape(10, 4)
    for array in (values[:, :2], values[::2, 1:3], values[:, ::2], np.asfortranarray(values[:, :2]), values[::-1, :2]):
        np.testing.assert_array_equal(wyrm.evaluate(x * 1.0, {x: array})[:, 0], array)


def test_feeds_from_files_are_not_copied(backend, tmp_path):
    np.save(tmp_path / "x.npy", np.arange(10.0, dtype=np.float32))
    x = wyrm.InputNode((1, 1))
    result = wyrm.evaluate(x * 2.0, {x: np.load(tmp_path / "x.npy", mmap_mode="r")})
    np.testing.assert_array_equal(result[:, 0, 0], 2 * np.arange(10))


@pytest.mark.parametrize("shape", [(1, 3), (3, 1), (1, 1), (2, 3)])
def test_axes_of_length_one_may_be_left_out(backend, shape):
    x = wyrm.InputNode(shape)
    values = np.arange(float(5 * shape[0] * shape[1])).reshape(5, *shape)
    forms = [values] + ([values.reshape(5, -1)] if 1 in shape else []) + ([values.reshape(5)] if shape == (1, 1) else [])
    for form in forms:
        np.testing.assert_array_equal(wyrm.evaluate(x * 1.0, {x: form}), values)


def test_callbacks_see_each_epoch(backend):
    x, y, _, _, loss = regression()
    seen = []
    history = wyrm.fit(loss, {x: [1.0, 2.0], y: [1, 2]}, SGD(0.1, loss.parameters()), num_epochs=3, callbacks=[seen.append])
    assert seen == history.epochs == list(history)
    assert [e.number for e in seen] == [1, 2, 3]
    assert history.losses[0] > history.losses[-1]
    assert history[0].examples_per_second > 0 and len(history) == 3
    assert history.startup_seconds > 0 and history.backend == backend


def test_no_epochs_train_nothing(backend):
    x, y, slope, _, loss = regression()
    assert len(wyrm.fit(loss, {x: [1.0], y: [1.0]}, SGD(0.1, loss.parameters()), num_epochs=0)) == 0
    assert slope.value == 0


def test_progress_is_quiet_unless_it_is_wanted(backend, capsys):
    x, y, _, _, loss = regression()
    feed, optimizer = {x: [1.0], y: [1.0]}, SGD(0.1, loss.parameters())
    wyrm.fit(loss, feed, optimizer)
    assert capsys.readouterr() == ("", "")
    wyrm.fit(loss, feed, optimizer, progress=True)
    assert "1.00/1.00" in capsys.readouterr().err


def test_constants_and_late_inputs_train_too(backend, rng):
    """Constants need no feed; a graph that took over another's leaves is fed by the nodes that the user has."""
    x, w = wyrm.InputNode((1, 2), [[1, 1]]), wyrm.ParameterNode(np.ones((2, 1)), dtype="float32")
    hidden = x.dot(w) * 2.0 + np.array([[0.5]])
    hidden.forward()
    target = wyrm.InputNode((1, 1))
    loss = (hidden - target).square()
    xs = rng.standard_normal((400, 2))
    wyrm.fit(loss, {x: xs, target: xs @ [1.5, -0.5] + 0.5}, SGD(0.05, [w]), num_epochs=10, seed=0)
    np.testing.assert_allclose(w.value[:, 0], [0.75, -0.25], atol=1e-3)


def test_parameters_of_no_optimizer_stay(backend):
    a, b, c = wyrm.ParameterNode(1.0), wyrm.ParameterNode(1.0), wyrm.ParameterNode(1.0, trainable=False)
    x = wyrm.InputNode((1, 1))
    wyrm.fit((a + b + c) * x, {x: [1.0]}, SGD(0.5, [a, c]))
    assert (a.value, b.value, c.value) == (0.5, 1, 1)


def test_two_optimizers(backend):
    a, b, x = wyrm.ParameterNode(1.0), wyrm.ParameterNode(1.0), wyrm.InputNode((1, 1))
    first = SGD(0.5, [a])
    wyrm.fit((a + b) * x, {x: [1.0]}, [first, SGD(0.25, [b], l2=1.0)])
    assert (a.value, b.value) == (0.5, 0.5)
    with pytest.raises(wyrm.OptionError, match="two optimizers"):
        wyrm.fit((a + b) * x, {x: [1.0]}, [first, SGD(0.25, [a])])


def test_a_loss_that_is_not_finite_stops_before_its_update(backend):
    x, y, slope, intercept, loss = regression()
    xs = np.ones(10)
    xs[7] = 1e38
    with pytest.raises(wyrm.NotFiniteError, match="epoch 1: the loss of example 7"):
        wyrm.fit(loss, {x: xs, y: np.ones(10)}, SGD(0.1, loss.parameters()), shuffle=False)
    x2, y2, slope2, intercept2, loss2 = regression()
    wyrm.fit(loss2, {x2: xs[:7], y2: np.ones(7)}, SGD(0.1, loss2.parameters()), shuffle=False)
    assert (slope.value, intercept.value) == (slope2.value, intercept2.value)


class TestBadFeeds:
    def check(self, kind, pattern, feed, loss=None, **options):
        x, y, slope, _, default = regression()
        loss = default if loss is None else loss
        feed = {{"x": x, "y": y}.get(key, key): value for key, value in feed.items()} if isinstance(feed, dict) else feed
        with pytest.raises(kind, match=pattern):
            wyrm.fit(loss, feed, SGD(0.1, loss.parameters()), **options)
        assert slope.value == 0

    def test_missing_input(self):
        self.check(wyrm.FeedError, "InputNode 'y' is an input .* and missing", {"x": [1.0]})

    def test_something_that_is_no_input(self):
        other = wyrm.InputNode((1, 1), name="other")
        self.check(wyrm.FeedError, "'other' is not an input .* 'x'", {"x": [1.0], "y": [1.0], other: [1.0]})
        self.check(wyrm.FeedError, "'z' is not an input", {"x": [1.0], "y": [1.0], "z": [1.0]})

    def test_no_mapping(self):
        self.check(wyrm.FeedError, "mapping", [1.0])

    def test_lengths(self):
        self.check(wyrm.FeedError, "2 for InputNode 'y'|3 for InputNode 'x'", {"x": [1.0, 2, 3], "y": [1.0, 2]})

    def test_no_examples(self):
        self.check(wyrm.FeedError, "no examples", {"x": [], "y": []})

    def test_shape(self):
        self.check(wyrm.FeedError, r"'x'.*expected shape \(N, 1, 1\), got \(2, 3\)", {"x": np.ones((2, 3)), "y": [1, 2]})
        self.check(wyrm.FeedError, r"'x'.*got \(\)", {"x": 1.0, "y": [1.0]})

    def test_nan(self):
        self.check(wyrm.FeedError, "'x': example 3 holds NaN", {"x": [1, 2, 3, np.nan], "y": [1, 2, 3, 4]})

    @pytest.mark.parametrize("values", [["a", "b"], [1j, 2], [None, 1], [[1], [2, 3]]])
    def test_what_is_not_real(self, values):
        self.check(wyrm.DTypeError, "'x'.*real numbers", {"x": values, "y": [1, 2]})

    def test_index_outside_the_table(self, rng):
        user, item, rating, parameters, _, loss = factorization(rng)
        before = [p.value.copy() for p in parameters]
        for wrong in (30, -1):
            feed = {user: [0, 1, wrong], item: [0, 0, 0], rating: [1, 1, 1]}
            with pytest.raises(wyrm.OutOfRangeError, match=f"'user': example 2, column 0 holds {wrong}.*below 30"):
                wyrm.fit(loss, feed, SGD(0.1, parameters))
        with pytest.raises(wyrm.DTypeError, match="'user'.*whole row numbers, got 1.5"):
            wyrm.fit(loss, {user: [0, 1.5], item: [0, 0], rating: [1, 1]}, SGD(0.1, parameters))
        for p, kept in zip(parameters, before, strict=True):
            np.testing.assert_array_equal(p.value, kept)

    def test_index_changed_behind_its_back(self, backend, rng):
        """Native code checks each index when it uses it."""
        user, item, rating, parameters, _, loss = factorization(rng)
        users = np.zeros(3, np.int64)
        feed = {user: users, item: np.zeros(3, np.int64), rating: np.ones(3)}

        def spoil(epoch):
            users[1] = 10**9

        with pytest.raises(wyrm.OutOfRangeError, match="index 1000000000"):
            wyrm.fit(loss, feed, SGD(0.1, parameters), num_epochs=2, callbacks=[spoil])

    def test_options(self):
        good = {"x": [1.0], "y": [1.0]}
        self.check(wyrm.OptionError, "num_threads of at least 1, got 0", good, num_threads=0)
        self.check(wyrm.DTypeError, "num_threads", good, num_threads=1.5)
        self.check(wyrm.OptionError, "num_epochs", good, num_epochs=-1)
        self.check(wyrm.OptionError, "shuffle to be True or False, got 'no'", good, shuffle="no")
        self.check(wyrm.UnknownBackendError, "no backend 'nope'", good, backend="nope")
        w = wyrm.ParameterNode(np.ones((1, 2)))
        x = wyrm.InputNode((1, 2))
        self.check(wyrm.ShapeError, r"loss of shape \(1, 1\).*scalar_sum", {x: [[1, 2]]}, loss=w * x)
        self.check(wyrm.FeedError, "no inputs", {}, loss=w.scalar_sum())

    def test_what_is_no_list(self):
        good = {"x": [1.0], "y": [1.0]}
        for callbacks in (wyrm.EarlyStopping("loss"), print, None):
            self.check(wyrm.DTypeError, "expected a list of callbacks", good, callbacks=callbacks)
        x, _, _, _, loss = regression()
        for optimizer in (SGD, None, 0.1, "sgd"):
            with pytest.raises(wyrm.DTypeError, match="expected an optimizer or several"):
                wyrm.fit(loss, {x: [1]}, optimizer)
        with pytest.raises(wyrm.OptionError, match="expected an optimizer or several"):
            wyrm.fit(loss, {x: [1]}, [])

    def test_no_parameter_of_the_loss(self):
        x, y, _, _, loss = regression()
        with pytest.raises(wyrm.OptionError, match="no optimizer has a parameter"):
            wyrm.fit(loss, {x: [1], y: [1]}, SGD(0.1, [wyrm.ParameterNode(1.0)]))

    def test_evaluate(self):
        x, _, _, _, loss = regression()
        with pytest.raises(wyrm.FeedError, match="'y' is an input"):
            wyrm.evaluate(loss, {x: [1]})
        with pytest.raises(wyrm.DTypeError, match="nodes"):
            wyrm.evaluate([], {x: [1]})


def test_an_error_in_a_callback_or_thread_ends_training(backend):
    x, y, _, _, loss = regression()

    def fail(epoch):
        raise ZeroDivisionError("on purpose")

    feed = {x: np.ones(100), y: np.ones(100)}
    with pytest.raises(ZeroDivisionError, match="on purpose"):
        wyrm.fit(loss, feed, SGD(0.1, loss.parameters()), callbacks=[fail], num_threads=2)
    spoiled = np.ones(100)
    spoiled[50] = 1e38
    with pytest.raises(wyrm.NotFiniteError, match="example 50"):
        wyrm.fit(loss, {x: spoiled, y: np.ones(100)}, SGD(0.1, loss.parameters()), num_threads=2)
