"""Loops over rows: scan and each give what a loop in NumPy gives, in float64, on every backend, however they are trained."""

from itertools import pairwise
from typing import NamedTuple

import numpy as np
import pytest

import wyrm
from wyrm import nn

TOLERANCE = {"rtol": 1e-10, "atol": 1e-12}
DIM, ITEMS = 3, 7
SEQUENCES = [[0, 1, 2], [3], [4, 4, 4, 0], [6, 5], [2, 2, 1]]
TARGETS = [0.5, -1.0, 2.0, 0.0, 1.0]


def parameter(rng, shape, name):
    return wyrm.ParameterNode(rng.normal(0, 0.5, shape), name=name, dtype="float64")


class Model:
    """A recurrent net over rows that are looked up, as nodes and in NumPy with derivatives by hand."""

    def __init__(self, rng):
        self.items, self.weights = parameter(rng, (ITEMS, DIM), "items"), parameter(rng, (DIM, DIM), "weights")
        self.first = parameter(rng, (1, DIM), "first")
        self.parameters = [self.items, self.weights, self.first]

    def step(self, hidden, row):
        hidden = (hidden @ self.weights + row).tanh()
        return hidden, hidden

    def loss(self, items, target, reverse=False):
        last, hidden = wyrm.scan(self.step, self.first, self.items.index(items), reverse=reverse)
        return hidden.square().scalar_sum() + (last.sum(axis=1) - target).square()


def by_hand(values, items, target, reverse=False):
    """The loss of the model, and its gradients."""
    table, weights, hidden = values
    order = list(reversed(range(len(items)))) if reverse else list(range(len(items)))
    states = [hidden]
    for t in order:
        states.append(np.tanh(states[-1] @ weights + table[items[t]]))
    error = states[-1].sum() - target
    loss = sum((state**2).sum() for state in states[1:]) + error**2
    gradients = [np.zeros_like(table), np.zeros_like(weights)]
    back = np.full((1, DIM), 2 * error)
    for t, before, after in zip(order[::-1], states[-2::-1], states[:0:-1], strict=True):
        inside = (back + 2 * after) * (1 - after**2)
        gradients[0][items[t]] += inside[0]
        gradients[1] += before.T @ inside
        back = inside @ weights.T
    return loss, [*gradients, back]


def trained_by_hand(values, epochs, batch, rate):
    """Plain gradient descent: the mean loss of each epoch; the values change."""
    losses = []
    for _ in range(epochs):
        total = 0.0
        for begin in range(0, len(SEQUENCES), batch):
            found = [by_hand(values, s, t) for s, t in list(zip(SEQUENCES, TARGETS, strict=True))[begin : begin + batch]]
            total += sum(loss for loss, _ in found)
            for n, value in enumerate(values):
                values[n] = value - rate * sum(gradients[n] for _, gradients in found) / len(found)
        losses.append(total / len(SEQUENCES))
    return losses


def feed(rows=True):
    return {"items": wyrm.Ragged.of(SEQUENCES, rows=rows), "target": TARGETS}


def dense(node):
    gradient = node.gradient
    return gradient.to_dense() if isinstance(gradient, wyrm.RowSparseGradient) else gradient.values


@pytest.mark.parametrize("reverse", [False, True])
@pytest.mark.parametrize("count", [1, 2, 5])
def test_passes_agree_with_numpy(backend, rng, reverse, count):
    model, chosen = Model(rng), rng.integers(0, ITEMS, count)
    loss = model.loss(wyrm.IndexInputNode(count, chosen), 0.3, reverse)
    expected, gradients = by_hand([p.value.copy() for p in model.parameters], chosen, 0.3, reverse)
    np.testing.assert_allclose(loss.value, [[expected]], **TOLERANCE)
    loss.backward(0.5)
    for node, gradient in zip(model.parameters, gradients, strict=True):
        np.testing.assert_allclose(dense(node), 0.5 * gradient, **TOLERANCE)


@pytest.mark.parametrize(
    "options", [{}, {"batch_size": 10}, {"rows": 2, "batch_size": 10}, {"batch_size": 10, "num_threads": 2}], ids=str
)
def test_training_agrees_with_numpy(backend, rng, options):
    """By examples, in batches, as rows of a run, and by two threads that share the examples."""
    model = Model(rng)
    values = [p.value.copy() for p in model.parameters]
    optimizer = wyrm.optim.SGD(0.05, model.parameters)
    history = wyrm.fit(model.loss, feed(), optimizer, num_epochs=2, shuffle=False, progress=False, **options)
    expected = trained_by_hand(values, 2, options.get("batch_size", 1), 0.05)
    np.testing.assert_allclose(history.losses, expected, **TOLERANCE)
    for node, value in zip(model.parameters, values, strict=True):
        np.testing.assert_allclose(node.value, value, **TOLERANCE)


@pytest.mark.parametrize("rows", [1, 2])
def test_evaluation_agrees_with_numpy(backend, rng, rows):
    model = Model(rng)
    values = [p.value.copy() for p in model.parameters]
    expected = [by_hand(values, s, t)[0] for s, t in zip(SEQUENCES, TARGETS, strict=True)]
    found = wyrm.evaluate(model.loss, feed(), rows=rows, num_threads=2)
    np.testing.assert_allclose(found[:, 0, 0], expected, **TOLERANCE)
    for value in wyrm.evaluate(lambda items, target: [model.loss(items, target), target * 2.0], feed(), rows=rows):
        assert value.shape == (5, 1, 1)


def test_lock_free_threads_train(backend, rng):
    model = Model(rng)
    before = model.weights.value.copy()
    history = wyrm.fit(model.loss, feed(), wyrm.optim.SGD(0.01, model.parameters), num_threads=2, schedule="hogwild", seed=1)
    assert np.isfinite(history.losses).all()
    assert (model.weights.value != before).any()


def by_positions(function, count):
    """What a loop in Python makes of each position."""
    return [function(position) for position in range(count)]


def test_what_is_random_is_drawn_for_each_row(backend):
    """As by a loop in Python: dropout and numbers that are drawn until one violates, with the same seed the same losses."""

    def losses(rows):
        rng = np.random.default_rng(5)
        items, users = parameter(rng, (ITEMS, DIM), "items"), parameter(rng, (1, DIM), "users")

        def one(item):
            negative = wyrm.SampledIndexNode(ITEMS)
            scores = [users.vector_dot(items.index(row)) for row in (item, negative)]
            return nn.losses.warp(*scores, negative, tries=4) + items.index(item).dropout(0.5).sum(axis=1)

        def total(items):
            return wyrm.each(one, items) if rows else wyrm.stack([one(item) for item in items])

        optimizer = wyrm.optim.SGD(0.05, [items, users])
        feed = {"items": wyrm.Ragged.of(SEQUENCES, rows=rows)}
        return wyrm.fit(total, feed, optimizer, num_epochs=3, seed=4, progress=False).losses

    found = losses(True)
    np.testing.assert_allclose(found, losses(False), **TOLERANCE)
    assert len(set(found)) == 3


class Moments(NamedTuple):
    mean: wyrm.Node
    rest: list


def test_what_was_random_before_a_loop_is_the_same_in_it(backend):
    table = wyrm.ParameterNode(np.arange(1000.0).reshape(-1, 1))
    drawn = table.index(wyrm.SampledIndexNode(1000, seed=3))
    node = wyrm.InputNode((4, 1), np.arange(4.0).reshape(4, 1))
    found = wyrm.each(lambda row: row + drawn, node)
    np.testing.assert_array_equal(found.value, drawn.value + np.arange(4.0).reshape(4, 1))


def test_states_of_any_form(rng):
    x = rng.normal(size=(5, 2))
    rows, marks = wyrm.InputNode((5, 2), x), wyrm.InputNode((5, 1), np.arange(5.0).reshape(5, 1))

    def step(state, row, mark):
        assert isinstance(state, Moments)
        assert isinstance(state.rest, list)
        mean, (square, (count,)) = state
        new = Moments(mean + row, [square + row * row, (count + mark,)])
        return new, (new.mean, row * 2.0)

    first = Moments(wyrm.InputNode((1, 2), np.zeros((1, 2))), [np.zeros(2), (0.0,)])
    last, (sums, twice) = wyrm.scan(step, first, (rows, marks))
    np.testing.assert_allclose(sums.value, np.cumsum(x, axis=0), rtol=1e-6)
    np.testing.assert_allclose(twice.value, 2 * x, rtol=1e-6)
    assert isinstance(last, Moments)
    np.testing.assert_allclose(last.rest[0].value, [(x**2).sum(axis=0)], rtol=1e-6)
    assert last.rest[1][0].value == 10


def test_arrays_as_states_have_the_dtype_of_the_rows(rng):
    """Each of them, also if one does not meet the rows."""
    node = wyrm.InputNode((3, 2), rng.normal(size=(3, 2)), dtype="float64")
    first = np.zeros(2), np.full(2, 1 / 3)
    last, _ = wyrm.scan(lambda states, row: ((states[0] + row, states[1] * 2.0), None), first, node)
    assert [state.dtype for state in last] == ["float64"] * 2
    np.testing.assert_allclose(last[1].value, np.full((1, 2), 8 / 3), **TOLERANCE)


def test_loops_in_loops(backend, rng):
    """A table of distances between all rows, by a loop over rows in a loop over rows; draws included."""
    x = rng.normal(size=(4, 2))
    node = wyrm.InputNode((4, 2), x, dtype="float64")
    distances = wyrm.each(lambda a: wyrm.each(lambda b: (a - b).square().sum(axis=1), node).t(), node)
    np.testing.assert_allclose(distances.value, ((x[:, None] - x) ** 2).sum(axis=-1), **TOLERANCE)
    table = wyrm.ParameterNode(np.arange(1000.0).reshape(-1, 1), dtype="float64")
    drawn = wyrm.each(lambda a: wyrm.each(lambda b: table.index(wyrm.SampledIndexNode(1000)), node).t(), node)
    assert len(np.unique(drawn.value)) > 12


def test_what_does_not_vary_is_computed_once(rng):
    weights = parameter(rng, (2, 2), "weights")
    node = wyrm.InputNode((6, 2), rng.normal(size=(6, 2)), dtype="float64")
    outputs = wyrm.each(lambda row: row @ weights.square().tanh(), node)
    assert str(wyrm.draw(outputs)).count("tanh") == 1


def test_graphs_that_are_rebuilt_have_the_same_programs(rng):
    model = Model(rng)
    structures = []
    for chosen in ([0, 1], [3, 4]):
        loss = model.loss(wyrm.IndexInputNode(2, chosen), 0.1)
        structures.append(loss._structure)
        loss.forward()
    assert structures[0] is structures[1]


def test_rows_of_a_graph_that_has_run(backend, rng):
    x = rng.normal(size=(3, 2))
    node = wyrm.InputNode((3, 2), x, dtype="float64").tanh()
    node.forward()
    last, _ = wyrm.scan(lambda s, row: (s * 2.0 + row, None), np.zeros((1, 2)), node)
    np.testing.assert_allclose(last.value, [np.tanh(x).T @ [4, 2, 1]], **TOLERANCE)


def test_layers_take_rows(backend, rng):
    """A GRU over the rows of one node gives what its step gives in a loop."""
    layer = nn.GRU(DIM, 2, rng=1, dtype="float64")
    x = rng.normal(size=(4, DIM))
    node = wyrm.InputNode((4, DIM), x, dtype="float64")

    def step(state, row):
        state = layer.step(state, row)
        return state, state[0]

    _, outputs = wyrm.scan(step, (np.zeros((1, 2)),), node)
    np.testing.assert_allclose(outputs.value, layer(node).value, **TOLERANCE)


def test_inputs_take_the_dtype_of_what_they_meet(rng):
    """As outside of loops: rows and first states of no dtype become float64 beside parameters of float64."""
    weights, x = parameter(rng, (2, 2), "weights"), rng.normal(size=(3, 2))
    state, outputs = wyrm.scan(lambda s, row: (s + row @ weights, s), np.full(2, 1 / 3), node := wyrm.InputNode((3, 2)))
    node.set_value(x)
    assert state.dtype == outputs.dtype == "float64"
    np.testing.assert_allclose(state.value, [1 / 3 + (x @ weights.value).sum(axis=0)], **TOLERANCE)


# -- row numbers


def test_parts_of_row_numbers(backend, rng):
    table, numbers = parameter(rng, (ITEMS, DIM), "table"), [3, 0, 3, 6]
    index = wyrm.IndexInputNode(4, numbers)
    for key in (slice(1, None), slice(None, -1), slice(-1, None), slice(1, 3), 0, -2, slice(2, 2)):
        part = index[key]
        expected = np.array(numbers).reshape(-1, 1)[key].reshape(-1)
        np.testing.assert_array_equal(table.index(part).value, table.value[expected])
    np.testing.assert_array_equal(table.index(index[1:][:-1][1:]).value, table.value[[3]])
    loss = table.index(index[1:]).vector_dot(table.index(index[:-1])).scalar_sum()
    loss.forward()
    loss.backward()
    gradient = np.zeros((ITEMS, DIM))
    for a, b in pairwise(numbers):
        gradient[a] += table.value[b]
        gradient[b] += table.value[a]
    np.testing.assert_allclose(dense(table), gradient, **TOLERANCE)


def test_the_next_item_is_learned(backend, rng):
    """Scores of the next of the same row numbers; one step by hand."""
    table, out = parameter(rng, (ITEMS, DIM), "table"), parameter(rng, (DIM, ITEMS), "out")
    values = table.value.copy(), out.value.copy()

    def loss(items):
        return nn.losses.sparse_categorical_crossentropy(table.index(items[:-1]) @ out, items[1:])

    sequences = [[0, 1, 2], [6, 5, 4]]
    history = wyrm.fit(
        loss, {"items": wyrm.Ragged.of(sequences, rows=True)}, wyrm.optim.SGD(0.1, [table, out]), batch_size=2, progress=False
    )
    before, after = np.array([0, 1, 6, 5]), np.array([1, 2, 5, 4])
    shares = np.exp(values[0][before] @ values[1])
    shares /= shares.sum(axis=1, keepdims=True)
    np.testing.assert_allclose(history.losses, -np.log(shares[range(4), after]).sum() / 2, **TOLERANCE)
    error = shares - np.eye(ITEMS)[after]
    np.testing.assert_allclose(out.value, values[1] - 0.05 * values[0][before].T @ error, **TOLERANCE)
    np.add.at(values[0], before, -0.05 * error @ values[1].T)
    np.testing.assert_allclose(table.value, values[0], **TOLERANCE)


@pytest.mark.parametrize("rows", [1, 2])
@pytest.mark.parametrize("stored", ["int64", "int32", "float32", "float64"])
def test_rows_of_any_dtype_and_place(backend, tmp_path, stored, rows):
    """Values that are read where they stand: in a file, with some before the first sequence and behind the last."""
    path = tmp_path / "values"
    np.arange(14, dtype=stored).tofile(path)
    width = 1 if stored.startswith("int") else 2
    values = np.memmap(path, stored, "r").reshape(-1, width)
    ragged = wyrm.Ragged(values if width == 2 else values[:, 0], [1, 3, 4, 6], rows=True)
    table = wyrm.ParameterNode(np.arange(20.0).reshape(-1, 1))

    def last(x):
        return (table.index(x) if width == 1 else x)[-1:]

    expected = np.array(values)[[2, 3, 5]]
    np.testing.assert_array_equal(wyrm.evaluate(last, {"x": ragged}, rows=rows)[:, 0], expected)


def test_one_call_after_the_other(backend, rng):
    """Data of the same lengths that take the place of those before are the ones that are trained on."""
    model = Model(rng)
    optimizer = wyrm.optim.SGD(0.05, model.parameters)
    for chosen in ([0, 1], [2, 3], [5, 5]):
        values = [p.value.copy() for p in model.parameters]
        one = {"items": wyrm.Ragged.of([chosen], rows=True), "target": [0.5]}
        history = wyrm.fit(model.loss, one, optimizer, progress=False)
        np.testing.assert_allclose(history.losses, [by_hand(values, chosen, 0.5)[0]], **TOLERANCE)


def test_sequences_as_rows_and_as_lists_are_told_apart(backend, rng):
    model = Model(rng)

    def by_list(items, target):
        return model.loss(items, target) if isinstance(items, wyrm.Node) else model.items.index(items[0]).sum(axis=1)

    found = [wyrm.evaluate(by_list, {"items": wyrm.Ragged.of([[1, 2]], rows=r), "target": [0.0]}) for r in (True, False)]
    assert found[0] != found[1]
    chunks = [{"items": wyrm.Ragged.of([[1, 2]], rows=rows), "target": [0.0]} for rows in (True, False)]
    history = wyrm.fit(by_list, chunks, wyrm.optim.SGD(0.0, model.parameters), progress=False)
    np.testing.assert_allclose(history.losses, np.mean(found), rtol=1e-6)


def test_values_with_gaps_are_copied(backend):
    values = np.arange(20.0)[::2].reshape(-1, 1)
    for data in (values, values.repeat(2, axis=1)[:, ::2], np.asfortranarray(values.repeat(2, axis=1))):
        found = wyrm.evaluate(lambda x: x[-1:, :1], {"x": wyrm.Ragged(data, [1, 3, 6], rows=True)})
        np.testing.assert_array_equal(found.ravel(), [4.0, 10.0])
