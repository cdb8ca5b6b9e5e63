"""What the Numba backend does differently from others: functions of whole programs, vectors, exponentials of its own."""

import warnings

import numpy as np
import pytest

import wyrm
from wyrm.optim import SGD, Adagrad, Adam

backend = pytest.importorskip("wyrm_numba.backend")
pytestmark = pytest.mark.slow  # if nothing has been compiled yet

WIDTHS = [1, 2, 7, 16, 17, 33, 64, 128]


@pytest.fixture
def whole_or_not(monkeypatch):
    """Train twice from the same values: by functions of whole programs, and without; how often there was such a function."""

    def train(make, feeds, **options):
        results, found = [], []
        original = backend.whole_source

        def noting(program, sources):
            whole = original(program, sources)
            found.append(whole is not None)
            return whole

        monkeypatch.setattr(backend, "whole_source", noting)
        for enough in (1, 1 << 60):
            monkeypatch.setattr(backend, "WORTH_COMPILING", enough)
            loss, inputs, optimizer = make()
            history = wyrm.fit(
                loss, dict(zip(inputs, feeds, strict=True)), optimizer, seed=1, num_threads=1, backend="numba", **options
            )
            results.append([np.array(history.losses), *(p.value for p in loss.parameters())])
        return results, found

    return train


def regression(dtype="float32", optimizer=SGD):
    def make():
        slope, intercept = wyrm.ParameterNode(0.1, dtype=dtype), wyrm.ParameterNode(0.2, dtype=dtype)
        x, y = (wyrm.InputNode((1, 1), dtype=dtype) for _ in range(2))
        loss = (slope * x + intercept - y).square()
        return loss, (x, y), optimizer(0.05, loss.parameters())

    return make


def factorization(width, rng, optimizer=SGD, rows=20):
    users, items = rng.normal(size=(rows, width)), rng.normal(size=(rows + 3, width))

    def make():
        tables = wyrm.ParameterNode(users), wyrm.ParameterNode(items)
        user, item, rating = wyrm.IndexInputNode(), wyrm.IndexInputNode(), wyrm.InputNode((1, 1))
        score = tables[0].index(user).vector_dot(tables[1].index(item))
        loss = (score - rating).square().tanh() + 0.01 * score
        return loss, (user, item, rating), optimizer(0.02, loss.parameters())

    return make


def assert_equal(results, tolerance=1e-5):
    for one, other in zip(*results, strict=True):
        np.testing.assert_allclose(one, other, rtol=tolerance, atol=tolerance)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("source", ["float32", "float64", "int32", "int64"])
def test_numbers_of_any_kind(whole_or_not, rng, dtype, source):
    x, y = (rng.integers(-3, 4, 200).astype(source) for _ in range(2))
    results, found = whole_or_not(regression(dtype), (x, y), num_epochs=2)
    assert found == [True]
    assert_equal(results)


@pytest.mark.parametrize("width", WIDTHS)
def test_rows_of_any_width(whole_or_not, rng, width):
    feeds = (rng.integers(0, 20, 300).astype(np.int32), rng.integers(0, 23, 300), rng.normal(size=300))
    results, found = whole_or_not(factorization(width, rng), feeds, num_epochs=2)
    assert found == [True]
    assert_equal(results, 1e-4)


def test_tables_that_are_fetched_ahead(whole_or_not, rng):
    feeds = (rng.integers(0, 20_000, 300), rng.integers(0, 20_003, 300), rng.normal(size=300))
    results, found = whole_or_not(factorization(32, rng, rows=20_000), feeds, shuffle=True)
    assert found == [True]
    assert_equal(results, 1e-4)


@pytest.mark.parametrize("optimizer", [SGD, Adagrad, Adam, lambda rate, p: SGD(wyrm.optim.schedules.cosine(rate, 100), p)])
def test_optimizers(whole_or_not, rng, optimizer):
    results, _ = whole_or_not(regression(optimizer=optimizer), rng.normal(size=(2, 200)))
    assert_equal(results)


def test_what_goes_wrong_is_found_in_time(whole_or_not, rng, monkeypatch):
    monkeypatch.setattr(backend, "WORTH_COMPILING", 1)
    x = np.ones(50)
    x[20] = 1e30
    loss, inputs, optimizer = regression()()
    with pytest.raises(wyrm.NotFiniteError, match="example 20"):
        wyrm.fit(loss, dict(zip(inputs, (x, x), strict=True)), optimizer, shuffle=False, num_threads=1, backend="numba")
    by_steps, steps_inputs, steps_optimizer = regression()()
    for value in x[:20]:
        for node in steps_inputs:
            node.set_value(value)
        by_steps.forward(backend="numba")
        by_steps.backward(1.0)
        steps_optimizer.step()
    for parameter, expected in zip(loss.parameters(), by_steps.parameters(), strict=True):
        np.testing.assert_allclose(parameter.value, expected.value, rtol=1e-5)


def test_threads_share_what_functions_of_whole_programs_train(rng, monkeypatch):
    monkeypatch.setattr(backend, "WORTH_COMPILING", 1)
    loss, inputs, _ = regression()()
    x = rng.uniform(-1, 1, 20_000)
    feed = dict(zip(inputs, (x, 3 * x + 5), strict=True))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", RuntimeWarning)  # more threads than cores, perhaps
        wyrm.fit(loss, feed, SGD(0.01, loss.parameters()), num_threads=3, schedule="hogwild", backend="numba", num_epochs=3)
    slope, intercept = (float(p.value[0, 0]) for p in loss.parameters())
    assert abs(slope - 3) < 1e-2 and abs(intercept - 5) < 1e-2


def moving_average(lengths, optimizer=Adagrad):
    """A model of sequences whose chains are others for each length; what is compiled for it."""
    rng = np.random.default_rng(3)
    table, decay = wyrm.ParameterNode(rng.normal(size=(10, 9))), wyrm.ParameterNode(rng.normal(size=(1, 9)))

    def loss(items):
        state, errors = table.index(items[0]), []
        for item in items[1:]:
            following = table.index(item)
            errors.append((state - following).tanh().square().scalar_sum())
            state = decay.sigmoid() * state + (1.0 - decay.sigmoid()) * following
        return wyrm.stack(errors).scalar_sum()

    feed = {"items": wyrm.Ragged.of([rng.integers(0, 10, n) for n in [*lengths, *lengths]])}
    history = wyrm.fit(loss, feed, optimizer(0.05, [table, decay]), num_epochs=2, seed=1, num_threads=1, backend="numba")
    return history.losses, table.value, decay.value


def test_lengths_need_no_code_of_their_own(monkeypatch):
    made = []
    original = backend.cached_module
    monkeypatch.setattr(backend, "cached_module", lambda name, source: made.append(source) or original(name, source))
    moving_average(range(2, 8))
    made.clear()
    monkeypatch.setattr(backend, "WORTH_COMPILING", 1)
    moving_average(range(2, 30))
    assert made == []


def test_interpreted_chains_compute_what_compiled_ones_do(monkeypatch):
    results = []
    for often in (False, True):
        monkeypatch.setattr(backend.NumbaBackend, "runs_often", lambda self, sources, often=often: often)
        results.append(moving_average(range(2, 9)))
    for one, other in zip(*results, strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("name", ["exp", "log", "tanh", "sigmoid", "softplus"])
def test_functions_to_a_few_units_in_the_last_place(rng, name):
    formulas = {
        "exp": np.exp,
        "log": np.log,
        "tanh": np.tanh,
        "sigmoid": lambda x: 1 / (1 + np.exp(-x)),
        "softplus": lambda x: np.logaddexp(0, x),
    }
    special = [0.0, -0.0, np.inf, -np.inf, np.nan, 88.7, 88.8, 1e-30, -87.0, 1.0, -1.0, 0.6249, 0.6251, 1e-20]
    x = np.concatenate([rng.normal(0, 1, 5000), rng.normal(0, 30, 5000), rng.normal(0, 1e-3, 5003), special])
    x = (np.abs(x) if name == "log" else x).astype(np.float32).reshape(1, -1)
    node = wyrm.InputNode(x.shape, x)
    result = getattr(node, {"log": "ln"}.get(name, name))()
    result.forward(backend="numba")
    with np.errstate(all="ignore"):
        expected = formulas[name](x.astype(np.float64)).astype(np.float32)
    normal = np.isfinite(expected) & (np.abs(expected) > 1e-37)
    error = np.abs(result.value[normal] - expected[normal])
    assert np.all(error <= 4 * np.spacing(np.abs(expected[normal])))
    strange = ~normal & ~(np.abs(expected) <= 1e-37)
    np.testing.assert_array_equal(result.value[strange], expected[strange])
    assert np.signbit(result.value[x == 0]).tolist() == np.signbit(expected[x == 0]).tolist()


@pytest.mark.parametrize("transpose_a", [False, True])
@pytest.mark.parametrize("transpose_b", [False, True])
def test_products_of_all_kinds_of_tiles(rng, transpose_a, transpose_b):
    for m, k, n in [(1, 5, 300), (3, 1, 17), (4, 7, 32), (9, 33, 50), (6, 16, 1)]:
        a, b = rng.normal(size=(m, k)), rng.normal(size=(k, n))
        left, right = (wyrm.InputNode(x.shape, x) for x in (a.T if transpose_a else a, b.T if transpose_b else b))
        product = (left.t() if transpose_a else left).dot(right.t() if transpose_b else right)
        product.forward(backend="numba")
        np.testing.assert_allclose(product.value, a @ b, rtol=1e-4, atol=1e-4)
