"""Checkpoints: what is saved comes back, and no other model takes it."""

import numpy as np
import pytest
from checkpointed_model import OPTIMIZERS, Model, assert_same
from safetensors import safe_open

import wyrm
from wyrm import nn
from wyrm.optim import SGD, Adagrad, Adam, Group, schedules


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("optimizer", OPTIMIZERS)
def test_round_trip(backend, optimizer, dtype, tmp_path):
    """Through a file into another model, which then trains on as the first does."""
    path = tmp_path / "model.safetensors"
    one, other = Model(optimizer, dtype), Model(optimizer, dtype)
    one.fit(2, seed=1)
    wyrm.save(path, one.loss, one.optimizer, metadata={"epoch": 2, "note": "ü"})
    saved = wyrm.load(path, other.loss, other.optimizer)
    assert saved.metadata == {"epoch": 2, "note": "ü"} and saved.run is None
    np.testing.assert_array_equal(saved.parameters["users"], one.users.value)
    assert_same(one, other)
    for model in (one, other):
        model.fit(1, seed=9)
    assert_same(one, other)
    assert [file.name for file in tmp_path.iterdir()] == ["model.safetensors"]


def test_rows_that_are_behind_are_caught_up_with(backend, tmp_path):
    """Momentum, step by step: rows that nobody touched since are saved as they would be read."""
    table, index = wyrm.ParameterNode(np.ones((4, 2)), name="t"), wyrm.IndexInputNode()
    optimizer = SGD(0.1, [table], momentum=0.9)
    loss = table.index(index).scalar_sum()
    for row in (0, 1, 2, 1, 1):
        index.set_value(row)
        loss.forward()
        loss.backward(1.0)
        optimizer.step()
    assert 0 in table.storage.behind()
    wyrm.save(tmp_path / "t", [table], optimizer)
    with safe_open(tmp_path / "t", "np") as file:
        np.testing.assert_array_equal(file.get_tensor("t"), table.value)
        velocity = file.get_tensor("t/momentum.velocity")
    np.testing.assert_allclose(velocity[0], 0.9**4, rtol=1e-5)
    again = wyrm.ParameterNode(np.ones((4, 2)), name="t")
    restored = SGD(0.5, [again], momentum=0.9)
    again.index(index).scalar_sum().backward(1.0)
    restored.step()  # its rows are behind, too, when the others come
    again.zero_gradient()
    wyrm.load(tmp_path / "t", [again], restored)
    for node, by in ((table, optimizer), (again, restored)):
        node.index(index).scalar_sum().backward(1.0)
        by.step()
        by.step()
    np.testing.assert_array_equal(table.value, again.value)


def test_dropout_goes_on_step_by_step(backend, tmp_path):
    """The keys of random numbers follow the steps made, also in a model that was restored."""
    runs = []
    for cut in (False, True):
        w, x = wyrm.ParameterNode(np.ones((1, 20)), name="w"), wyrm.InputNode((1, 20), np.ones((1, 20)))
        loss = (w * x).dropout(0.5, seed=4).square().scalar_sum()
        optimizer = SGD(0.01, [w])
        for step in range(6):
            if cut and step == 3:
                wyrm.save(tmp_path / "w", [w], optimizer)
                w, x = wyrm.ParameterNode(np.zeros((1, 20)), name="w"), wyrm.InputNode((1, 20), np.ones((1, 20)))
                loss = (w * x).dropout(0.5, seed=4).square().scalar_sum()
                optimizer = SGD(0.01, [w])
                wyrm.load(tmp_path / "w", [w], optimizer)
            loss.forward()
            loss.backward(1.0)
            optimizer.step()
        runs.append(w.value.copy())
    np.testing.assert_array_equal(*runs)


def test_names(tmp_path):
    """Of a mapping, of a layer's attributes, of the nodes, or numbers."""

    class Tower(nn.Module):
        def __init__(self):
            self.first, self.second = nn.Linear(2, 2, rng=1), nn.Linear(2, 2, rng=2, bias=False)
            self.again = self.first

    tower = Tower()
    a, b, c = (wyrm.ParameterNode(float(n)) for n in range(3))
    named = wyrm.ParameterNode(3.0, name="named")
    twin = wyrm.ParameterNode.shared(a.storage, name="twin")
    for parameters, optimizer, expected in (
        (tower, None, ["first.weights", "first.biases", "second.weights"]),
        (tower.parameters(), None, ["weights.0", "biases", "weights.1"]),
        ([a, named, b], None, ["parameter.0", "named", "parameter.1"]),
        ({"x": a, "y": named}, SGD(0.1, [b]), ["x", "y", "parameter.0"]),
        ([a, twin], SGD(0.1, [c, twin]), ["parameter.0", "parameter.1"]),
        ((a * named + b).square(), None, ["parameter.0", "named", "parameter.1"]),
        ({"named": a}, SGD(0.1, [named]), ["named", "named.0"]),
        (iter([a]), iter([SGD(0.1, [a])]), ["parameter.0"]),
    ):
        wyrm.save(tmp_path / "m", parameters, optimizer)
        assert list(wyrm.load(tmp_path / "m").parameters) == expected
    with pytest.raises(wyrm.OptionError, match="'named.0' cannot"):
        wyrm.save(tmp_path / "m", {"named": a, "named.0": b}, SGD(0.1, [named]))
    with pytest.raises(wyrm.OptionError, match="__metadata__"):
        wyrm.save(tmp_path / "m", {"__metadata__": a})
    with pytest.raises(wyrm.OptionError, match=r"'a/adagrad\.sum'"):
        wyrm.save(tmp_path / "m", {"a": a, "a/adagrad.sum": b}, Adagrad(0.1, [a]))
    with pytest.raises(wyrm.OptionError, match="got none"):
        wyrm.save(tmp_path / "m", [])
    with pytest.raises(wyrm.DTypeError, match="ParameterNodes"):
        wyrm.save(tmp_path / "m", [3])
    with pytest.raises(wyrm.DTypeError, match="optimizer"):
        wyrm.save(tmp_path / "m", [a], [3])
    with pytest.raises(wyrm.OptionError, match="metadata"):
        wyrm.save(tmp_path / "m", [a], metadata={"x": {1}})
    with pytest.raises(wyrm.OptionError, match="parameters, too"):
        wyrm.load(tmp_path / "m", None, SGD(0.1, [a]))
    assert list(wyrm.load(tmp_path / "m").parameters) == ["parameter.0"]  # as the last good call left it


@pytest.mark.parametrize("shape", [(0, 3), (3, 0), (1, 1)])
def test_shapes(shape, tmp_path):
    a = wyrm.ParameterNode(np.ones(shape), name="a")
    wyrm.save(tmp_path / "m", [a], Adagrad(0.1, [a]))
    assert wyrm.load(tmp_path / "m", [a], Adagrad(0.1, [a])).parameters["a"].shape == shape


def test_other_backends_load_it(tmp_path):
    saved = Model("momentum")
    saved.fit(1, seed=1, backend="reference")
    wyrm.save(tmp_path / "m", saved.loss, saved.optimizer)
    for status in wyrm.backends():
        model = Model("momentum")
        model.fit(1, seed=5, backend=status.name)
        wyrm.load(tmp_path / "m", model.loss, model.optimizer)
        assert_same(saved, model)
        model.fit(1, backend=status.name)


def test_checkpoints_of_other_models(backend, tmp_path):
    path = tmp_path / "m"
    a, b = wyrm.ParameterNode(np.ones((2, 3)), name="a"), wyrm.ParameterNode(1.0, name="b")
    wyrm.save(path, [a, b], SGD(0.1, [Group([a], l2=0.5), Group([b])], momentum=0.5))
    new = wyrm.ParameterNode(np.zeros((2, 3)), name="a"), wyrm.ParameterNode(0.0, name="b")
    c, tall = wyrm.ParameterNode(0.0, name="c"), wyrm.ParameterNode(np.zeros((3, 2)), name="a")

    def refused(pattern, parameters, optimizer=None):
        parameters, optimizers = list(parameters), [optimizer] if optimizer else []
        before = [p.value.copy() for p in parameters], [o.state_dict() for o in optimizers]
        with pytest.raises(wyrm.CheckpointError, match=pattern):
            wyrm.load(path, parameters, optimizer)
        for p, value in zip(parameters, before[0], strict=True):
            np.testing.assert_array_equal(p.value, value)
        for o, state in zip(optimizers, before[1], strict=True):
            for key, value in o.state_dict().items():
                np.testing.assert_array_equal(value, state[key])

    refused("has no parameter 'c'; its parameters are 'a', 'b'", [*new, c])
    refused("has a parameter 'b', which the model has not; its parameters are 'a'", new[:1])
    refused(r"parameter 'a': expected shape \(3, 2\), found \(2, 3\)", [tall, new[1]])
    refused("dtype float64, found float32", [new[0], wyrm.ParameterNode(0.0, name="b", dtype="float64")])
    refused("expected the optimizers 'Adam', found 'SGD'", new, Adam(0.1, new))
    refused("expected 1 groups of parameters, found 2", new, SGD(0.1, new, momentum=0.5))
    groups = [Group(new[:1], l2=0.25), Group(new[1:])]
    refused(r"group 0: expected the option l2 to be 0\.25, found 0\.5", new, SGD(0.1, groups, momentum=0.5))
    groups = [Group(new[:1], l2=0.5), Group(new[1:])]
    refused("expected rule 'sgd', found 'momentum'", new, SGD(0.1, groups))
    refused(r"expected the option momentum to be 0\.75, found 0\.5", new, SGD(0.1, groups, momentum=0.75))
    groups = [Group(new[:1], l2=0.5), Group(new[1:], l2=0.5)]
    refused(r"group 1: expected the option l2 to be 0\.5, found none", new, SGD(0.1, groups, momentum=0.5))
    groups = [Group(new[1:], l2=0.5), Group(new[:1])]
    refused("expected parameters", new, SGD(0.1, groups, momentum=0.5))
    wyrm.save(path, [a, b], SGD(schedules.constant(0.1), [a, b]))
    refused("follows a schedule", new, SGD(0.1, new))
    wyrm.save(path, [a, b])
    refused("expected the optimizers 'SGD', found none", new, SGD(0.1, new))
    wyrm.load(path, new)
    np.testing.assert_array_equal(new[0].value, a.value)


def test_learning_rates_are_taken_over(tmp_path):
    a = wyrm.ParameterNode(1.0)
    optimizer = SGD(0.1, [a])
    optimizer.learning_rate = 0.025
    wyrm.save(tmp_path / "m", [a], optimizer)
    for rate in (0.7, schedules.constant(0.7)):
        again = SGD(rate, [a])
        wyrm.load(tmp_path / "m", [a], again)
        assert again.learning_rate == np.float32(0.025)
        a.backward(1.0)
        before = float(a.value[0, 0])
        again.step()
        assert float(a.value[0, 0]) == pytest.approx(before - 0.025)
