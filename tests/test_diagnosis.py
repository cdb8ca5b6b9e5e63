"""A loss that is not finite: which node it began at, on every backend, and that nothing has changed."""

import numpy as np
import pytest

import wyrm
from wyrm.optim import SGD


def refused(loss, feed, **options):
    """The error that training ends with; the parameters must be as they were."""
    parameters = loss.parameters()
    before = [p.value.copy() for p in parameters]
    with pytest.raises(wyrm.NotFiniteError) as info:
        wyrm.fit(loss, feed, SGD(0.0, parameters), shuffle=False, **options)
    for parameter, value in zip(parameters, before, strict=True):
        np.testing.assert_array_equal(parameter.value, value)
    return info.value


def test_the_node_is_named(backend):
    """The overflow in the middle, not the NaN that it becomes, nor a node that is infinite beside the way."""
    w, x = wyrm.ParameterNode([[1.0, 2.0]], name="w"), wyrm.InputNode((1, 2), name="x")
    harmless = 1.0 / (x * 0.0)  # infinite, and ends as 0
    powers = (w * x).exp()
    powers.name = "powers"
    loss = (powers - powers).scalar_sum() + (1.0 / harmless).scalar_sum()
    error = refused(loss, {x: [[1.0, 2.0], [3.0, 4.0], [5.0, 600.0]]})
    assert (error.epoch, error.example, error.node) == (1, 2, "exp 'powers'")
    place = [node is powers for node in loss._ancestors()].index(True)
    assert "epoch 1: the loss of example 2" in str(error)
    assert f"began at exp 'powers', node {place} in wyrm.draw(loss), which has inf at (0, 1)" in str(error)
    assert "operands are finite: 5 to 1200" in str(error)
    assert f"{place}  exp 'powers'" in str(wyrm.draw(loss))
    assert len(error.history) == 0


def test_a_parameter_that_is_not_finite(backend):
    w, x = wyrm.ParameterNode([[1.0, np.nan]], name="w"), wyrm.InputNode((1, 2))
    error = refused((w * x).scalar_sum(), {x: np.ones((3, 2))})
    assert error.node == "ParameterNode 'w'" and error.example == 0
    assert "began before: ParameterNode 'w' has nan at (0, 1)" in str(error)


@pytest.mark.parametrize("bags", [False, True])
def test_rows_that_are_looked_up(backend, bags):
    """A row that is not finite and looked up is to blame; one that is not looked up never is."""
    table = wyrm.ParameterNode(np.ones((5, 2)), name="table")
    values = np.ones((5, 2))
    values[4] = np.inf
    rows = wyrm.BagInputNode(1, name="rows") if bags else wyrm.IndexInputNode(name="rows")
    x = wyrm.InputNode((1, 1), name="x")
    looked_up = table.index_sum(rows) if bags else table.index(rows)
    loss = (looked_up.scalar_sum() * x).ln()
    data = [[0, 1], [2], [3, 4]] if bags else [0, 2, 4]
    error = refused(loss, {rows: data, x: [1.0, 0.0, 1.0]})
    assert error.node.startswith("ln") and error.example == 1 and "is -inf" in str(error)
    table.set_value(values)
    error = refused(loss, {rows: data, x: [1.0, 0.0, 1.0]})
    assert error.node.startswith("ln") and error.example == 1
    error = refused(loss, {rows: data, x: [1.0, 1.0, 1.0]})
    assert error.node == "ParameterNode 'table'" and error.example == 2


def test_a_sum_of_rows_that_overflows(backend):
    """Its rows are finite, though another row of the table is not."""
    table, bag = wyrm.ParameterNode([[3e38], [3e38], [np.inf]], name="table"), wyrm.BagInputNode(1)
    error = refused(table.index_sum(bag) * 1.0, {bag: [[0], [1, 0]]})
    assert error.node.startswith("index_sum") and error.example == 1 and "3e+38" in str(error)


def test_an_input_that_is_infinite(backend):
    w, x = wyrm.ParameterNode(1.0), wyrm.InputNode((1, 1), name="x")
    error = refused(w * x, {x: [1.0, np.inf]})
    assert error.node == "InputNode 'x'" and "began with the data" in str(error)


def test_weights_of_bags(backend):
    table, bag = wyrm.ParameterNode(np.ones((3, 1))), wyrm.BagInputNode(1, name="bag")
    bags = wyrm.Bags.from_lists([[0], [1, 2]], weights=[[1.0], [1.0, np.inf]])
    error = refused(table.index_sum(bag), {bag: bags})
    assert error.node == "BagInputNode 'bag'" and error.example == 1


@pytest.mark.parametrize("seed", range(3))
def test_random_numbers_are_those_of_the_run(backend, seed):
    """Only where dropout leaves the element in is anything infinite; the step counts, and so does the example."""
    w, x = wyrm.ParameterNode(1.0), wyrm.InputNode((1, 2), name="x")
    kept = (w * x).dropout(0.9)
    huge = kept.exp()
    huge.name = "huge"
    loss = huge.scalar_sum()
    optimizer = SGD(0.0, [w])
    values = np.zeros((400, 2))
    values[100:] = 1000.0
    wyrm.fit(loss, {x: values[:100]}, optimizer, seed=seed)
    with pytest.raises(wyrm.NotFiniteError) as info:
        wyrm.fit(loss, {x: values}, optimizer, seed=seed)
    assert info.value.node == "exp 'huge'"


def test_several_graphs_and_threads(backend):
    """A graph that took over leaves of another; a model whose first step spoils it."""
    w, x = wyrm.ParameterNode(np.ones((1, 2)), name="w"), wyrm.InputNode((1, 2), [[1, 1]], name="x")
    hidden = (w * x).scalar_sum()
    hidden.forward()
    target = wyrm.InputNode((1, 1), name="target")
    loss = (hidden - target).square()
    feed = {x: np.ones((100, 2)), target: np.r_[np.ones(60), 1e30, np.ones(39)]}
    error = refused(loss, feed, num_threads=2, schedule="hogwild")
    assert error.example == 60 and error.node.startswith("square") and error.history.num_threads == 2
    with pytest.raises(wyrm.NotFiniteError) as info:
        wyrm.fit(loss, {x: np.full((9, 2), 1e10), target: np.ones(9)}, SGD(1e10, [w]), num_epochs=2, shuffle=False)
    assert info.value.example > 0 and info.value.node


def test_what_others_changed_meanwhile(backend, monkeypatch):
    w, x = wyrm.ParameterNode(1.0, name="w"), wyrm.InputNode((1, 1))
    from wyrm.training import plan

    found = plan.diagnosed

    def late(*arguments):
        w.set_value(1.0)
        return found(*arguments)

    monkeypatch.setattr(plan, "diagnosed", late)
    w.set_value(np.inf)
    with pytest.raises(wyrm.NotFiniteError, match="with the parameters as they are now, it is finite") as info:
        wyrm.fit(w * x, {x: [1.0]}, SGD(0.0, [w]))
    assert info.value.node is None and info.value.example == 0


def test_the_error_can_be_pickled():
    import pickle

    error = pickle.loads(pickle.dumps(wyrm.NotFiniteError("x", epoch=1, example=2, node="exp")))
    assert (str(error), error.epoch, error.example, error.node) == ("x", 1, 2, "exp")


def test_examples_of_functions(backend, rng):
    """Sequences, bags and rows: the node where it began is found by the run's own structure and examples."""
    table = wyrm.ParameterNode(np.ones((4, 1)), name="table")

    def loss(words, kinds, factor):
        total = wyrm.stack([table.index(word) for word in words], axis=1).sum(axis=1) + table.index_sum(kinds)
        return (total * factor).ln()

    data = {
        "words": wyrm.Ragged.of([[0], [1, 2], [3], [2, 2], [0, 1]]),
        "kinds": wyrm.Bags.from_lists([[1], [], [0, 2], [3], [1]]),
        "factor": [1.0, 2.0, 1.0, -1.0, 3.0],
    }
    for rows in (1, 2):
        with pytest.raises(wyrm.NotFiniteError, match="began at ln") as info:
            wyrm.fit(loss, data, SGD(0.0, [table]), rows=rows, shuffle=False, seed=1)
        assert info.value.example == (3 if rows == 1 else 1) and info.value.epoch == 1
