"""Values and gradients are those of the inputs and parameters that are set: by what is counted, and whenever it is read."""

import threading

import numpy as np
import pytest

import wyrm
from wyrm.optim import SGD


def product(value=2.0, weight=3.0):
    w, x = wyrm.ParameterNode(weight, name="w"), wyrm.InputNode((1, 1), value, name="x")
    return w, x, w * x


class Passes:
    """Counts the forward passes of every workspace."""

    def __init__(self, monkeypatch):
        self.count = 0
        forward = wyrm.Node.forward

        def counted(node, backend=None):
            self.count += 1
            forward(node, backend)

        monkeypatch.setattr(wyrm.Node, "forward", counted)


@pytest.fixture
def passes(monkeypatch):
    return Passes(monkeypatch)


KINDS = {
    "number": (lambda: wyrm.InputNode((1, 1)), 2.0, 5.0),
    "matrix": (lambda: wyrm.InputNode((2, 2)), np.ones((2, 2)), np.full((2, 2), 3.0)),
    "index": (lambda: wyrm.IndexInputNode(), 1, 3),
    "indices": (lambda: wyrm.IndexInputNode(2), [0, 1], [1, 3]),
    "array of indices": (lambda: wyrm.IndexInputNode(2), np.array([0, 1]), np.array([3, 3])),
    "bag": (lambda: wyrm.BagInputNode(), [0, 1], [3]),
    "bags": (lambda: wyrm.BagInputNode(2), [[0, 1], []], [[3], [1, 1]]),
}


def over(x):
    """A node over an input of any kind, and what it is for a value."""
    table = wyrm.ParameterNode(np.arange(1.0, 5.0).reshape(4, 1))
    if isinstance(x, wyrm.InputNode):
        return (x * x).scalar_sum(), lambda value: np.square(value).sum()
    rows = table.index_sum(x) if isinstance(x, wyrm.BagInputNode) else table.index(x)
    return rows.scalar_sum(), lambda value: sum(n + 1 for n in np.concatenate([np.ravel(v) for v in np.atleast_1d(value)]))


@pytest.mark.parametrize("kind", [kind for kind in KINDS if kind != "bags"])
def test_a_value_follows_inputs_of_every_kind(backend, kind):
    make, first, second = KINDS[kind]
    x = make()
    node, expected = over(x)
    for value in (first, second, first):
        x.set_value(value)
        assert node.value.item() == expected(value)
        assert node.value.item() == expected(value)


def test_a_value_follows_several_bags(backend):
    x = wyrm.BagInputNode(2)
    node, _ = over(x)
    for value, expected in (([[0, 1], []], 3), ([[3], [1, 1]], 8)):
        x.set_value(value)
        assert node.value.item() == expected


def test_reading_runs_no_pass_unless_something_was_set(passes):
    _, x, y = product()
    other = wyrm.InputNode((1, 1), 1.0)
    loss = (y - other).square()
    loss.forward()
    for node in (loss, y):
        assert node.value.item() in (6, 25)
    assert passes.count == 1  # the pass of the loss held both
    other.set_value(2.0)
    assert y.value.item() == 6 and passes.count == 1  # it does not depend on the other input
    assert loss.value.item() == 16 and passes.count == 2
    x.set_value(2.0)  # also if it is the same number
    assert y.value.item() == 6 and passes.count == 3


def test_a_step_alone_changes_no_value(backend, passes):
    w, _, y = product()
    loss = y.square()
    optimizer = SGD(0.01, [w])
    loss.forward(backend=backend)
    loss.backward(1.0)
    optimizer.step()
    assert loss.value.item() == 36 and passes.count == 1
    loss.forward()
    assert loss.value.item() < 36


def test_changes_of_parameters_are_followed(backend, tmp_path, passes):
    w, _, y = product()
    shared, unrelated = wyrm.ParameterNode.shared(w.storage), wyrm.ParameterNode(1.0)
    assert y.value.item() == 6
    w.set_value(4.0)
    assert y.value.item() == 8
    shared.set_value(5.0)
    assert y.value.item() == 10
    w.storage.set_value(6.0)
    assert y.value.item() == 12
    wyrm.save(tmp_path / "w", {"w": w})
    w.set_value(0.0)
    wyrm.load(tmp_path / "w", {"w": w})
    assert y.value.item() == 12
    before = passes.count
    unrelated.set_value(2.0)
    assert y.value.item() == 12 and passes.count == before


@pytest.mark.parametrize("schedule", [{}, {"batch_size": 4}])
def test_fit_is_followed_also_by_its_callbacks(backend, schedule):
    w, _, y = product(1.0, 0.0)
    inputs = wyrm.InputNode((1, 1))
    loss = (wyrm.ParameterNode.shared(w.storage) * inputs - 3.0).square()
    optimizer = SGD(0.2, loss.parameters())
    seen = [y.value.item()]
    wyrm.fit(
        loss,
        {inputs: np.ones(8)},
        optimizer,
        num_epochs=3,
        backend=backend,
        callbacks=[lambda epoch: seen.append(y.value.item() - w.value.item())],
        **schedule,
    )
    assert seen == [0, 0, 0, 0] and y.value.item() == w.value.item() > 1


def test_fit_that_is_ended_by_an_error_is_followed(backend):
    w, _, y = product(1.0, 0.0)
    inputs = wyrm.InputNode((1, 1))
    loss = (w * inputs - 3.0).square()
    assert y.value.item() == 0
    with pytest.raises(wyrm.NotFiniteError):
        wyrm.fit(loss, {inputs: [1.0, 1.0, 1e30]}, SGD(0.2, [w]), shuffle=False, backend=backend, num_threads=1)
    assert y.value.item() == w.value.item() > 0


def test_backward_after_an_input_was_set_is_an_error(backend):
    w, x, y = product()
    y.forward(backend=backend)
    y.backward(1.0)
    y.backward(1.0)
    assert w.gradient.to_dense().item() == 4
    x.set_value(7.0)
    with pytest.raises(wyrm.StaleError, match=r"backward of multiply \(1, 1\): InputNode 'x' was set .* call forward\(\)"):
        y.backward(1.0)
    assert w.gradient.to_dense().item() == 4
    y.forward()
    y.backward(1.0)
    assert w.gradient.to_dense().item() == 11


def test_backward_after_a_parameter_was_set_is_an_error():
    w, _, y = product()
    loss = y.square()
    loss.forward()
    w.set_value(1.0)
    with pytest.raises(wyrm.StaleError, match="'w' was set"):
        loss.backward(1.0)


def test_backward_after_an_input_that_does_not_matter(backend):
    w, _, y = product()
    other = wyrm.InputNode((1, 1))
    together = y + other
    y.forward(backend=backend)
    other.set_value(3.0)
    y.backward(1.0)
    assert w.gradient.to_dense().item() == 2
    assert together.value.item() == 9


def test_backward_without_a_pass_runs_one(backend):
    w, x, y = product()
    x.set_value(4.0)
    y.backward(1.0)
    assert w.gradient.to_dense().item() == 4


def test_a_pass_that_failed_leaves_nothing_to_read(backend):
    table, x = wyrm.ParameterNode(np.arange(4.0).reshape(4, 1)), wyrm.IndexInputNode(1, 1)
    held = wyrm.IndexInputNode(1, 3)
    y = table.index(x).square() * table.index(held)
    y.forward(backend=backend)
    assert y.value.item() == 3
    y._graph.indices[x._number] = 9  # what set_value would refuse
    with pytest.raises(wyrm.OutOfRangeError):
        y.forward()
    with pytest.raises(wyrm.StaleError, match="failed"):
        y.backward(1.0)
    with pytest.raises(wyrm.OutOfRangeError):
        _ = y.value
    x.set_value(2)
    assert y.value.item() == 12


def test_a_first_pass_that_failed(backend):
    table, x = wyrm.ParameterNode(np.arange(4.0).reshape(4, 1)), wyrm.IndexInputNode(1, 1)
    y = table.index(x) * table.index(wyrm.IndexInputNode(1, 3))
    y._graph.indices[x._number] = 9  # what set_value would refuse
    with pytest.raises(wyrm.OutOfRangeError):
        y.forward(backend=backend)
    with pytest.raises(wyrm.StaleError, match="failed"):
        y.backward(1.0)
    x.set_value(2)
    assert y.value.item() == 6


def test_what_is_trained_may_change_after_a_pass_but_inputs_may_not(backend):
    w, x, y = product()
    y.forward(backend=backend)
    x.set_value(7.0)
    w.trainable = False
    with pytest.raises(wyrm.StaleError, match="'x' was set"):
        y.backward(1.0)


def test_another_threads_changes_of_parameters_are_no_error():
    w, _, y = product()
    y.forward()
    other = threading.Thread(target=w.set_value, args=(5.0,))
    other.start()
    other.join()
    y.backward(1.0)
    assert w.gradient.to_dense().item() == 2 and y.value.item() == 10


def test_a_pass_that_does_not_begin_changes_nothing(backend):
    w, _, y = product()
    y.forward(backend=backend)
    with pytest.raises(wyrm.UnknownBackendError):
        y.forward(backend="nowhere")
    y.backward(1.0)
    assert w.gradient.to_dense().item() == 2 and y.value.item() == 6


def test_what_is_refused_changes_nothing(passes):
    w, x, y = product()
    y.forward()
    for node in (w, x):
        with pytest.raises(wyrm.ShapeError):
            node.set_value([[1.0, 2.0]])
        with pytest.raises(wyrm.DTypeError):
            node.set_value("one")
    y.backward(1.0)
    assert y.value.item() == 6 and passes.count == 1


def test_inputs_of_other_graphs(backend):
    w, x, y = product()
    assert y.value.item() == 6  # the graph of x is closed
    z = wyrm.InputNode((1, 1), 10.0, name="z")
    both = y * z
    for _ in range(3):  # the other graph's passes count, too
        y.forward()
    assert both.value.item() == 60
    x.set_value(1.0)
    with pytest.raises(wyrm.StaleError, match="'x' was set"):
        both.backward(1.0)
    assert y.value.item() == 3
    assert both.value.item() == 30
    z.set_value(1.0)
    assert (y.value.item(), both.value.item()) == (3, 3)
    both.backward(1.0)
    assert w.gradient.to_dense().item() == 1


def test_random_numbers_are_not_drawn_again_by_reading(backend):
    w = wyrm.ParameterNode(np.ones((1, 64)))
    x = wyrm.InputNode((1, 64), np.ones((1, 64)))
    dropped = (w * x).dropout(0.5, seed=3)
    loss = dropped.scalar_sum()
    optimizer = SGD(0.0, [w])
    loss.forward(backend=backend)
    first = dropped.value
    loss.backward(1.0)
    optimizer.step()
    assert (dropped.value == first).all()
    with wyrm.evaluating():
        assert (dropped.value == 1).all()
    loss.forward()
    assert not (dropped.value == first).all()
    with wyrm.evaluating():
        dropped.forward()
    assert (dropped.value == 1).all()  # also outside: the last pass


def test_zeros_that_are_set(backend):
    from wyrm.frontend.zeros import zero_input

    state = zero_input((1, 2), "float32", "state")
    y = state + 1.0
    assert y.value.tolist() == [[1, 1]]
    state.set_value([[2.0, 3.0]])
    assert y.value.tolist() == [[3, 4]]
