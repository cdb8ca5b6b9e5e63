"""Modules: where parameters are found, what they are called, and which forms optimizers take."""

import numpy as np
import pytest

import wyrm
from wyrm import nn
from wyrm.optim import SGD, Adam, Group


class Net(nn.Module):
    """Layers in containers, shared ones, and cycles."""

    def __init__(self, users_first=True):
        self.size = 3
        self.layers = [nn.Linear(2, 2, rng=1), (nn.Linear(2, 2, rng=2), [self])]
        self.again = self.layers[0]
        self.heads = {"a": nn.Linear(2, 1, rng=3, bias=False), "b": self.layers[0], 3: wyrm.ParameterNode(1.0)}
        self.layers.append(self.layers)
        self.data = [1, 2]

    def forward(self, x):
        return self.heads["a"](self.layers[1][0](self.layers[0](x)))


PATHS = ["layers.0.weights", "layers.0.biases", "layers.1.0.weights", "layers.1.0.biases", "heads.a.weights", "heads.3"]


def test_paths():
    net = Net()
    assert list(net.named_parameters()) == PATHS
    assert net.named_parameters()["heads.a.weights"] is net.heads["a"].weights
    assert nn.ModuleList([net, net.again]).parameters() == net.parameters()


def test_paths_that_read_alike_are_refused():
    net = nn.Module()
    net.heads = {"1": wyrm.ParameterNode(1.0), 1: wyrm.ParameterNode(2.0)}
    with pytest.raises(wyrm.OptionError, match=r"two parameters have the path 'heads\.1'"):
        net.parameters()


def test_clones_have_nodes_of_their_own_wherever_layers_stand():
    net = Net()
    clone = net.clone()
    assert list(clone.named_parameters()) == PATHS
    for name, node in clone.named_parameters().items():
        assert node is not net.named_parameters()[name] and node.storage is net.named_parameters()[name].storage
    assert clone.again is clone.layers[0] is clone.heads["b"] and clone.layers[1][1][0] is clone
    assert clone.layers[2] is clone.layers and clone.data is net.data
    assert net.layers[1][1][0] is net and len(net.parameters()) == 6
    layers = nn.ModuleList([nn.Linear(2, 2)])
    assert layers.clone()[0].weights is not layers[0].weights and layers.clone()[0].weights.storage is layers[0].weights.storage


def test_a_layer_is_called(backend):
    net, x = Net(), wyrm.InputNode((1, 2), [[1.0, 2.0]])
    np.testing.assert_array_equal(net(x).value, net.forward(x).value)
    with pytest.raises(NotImplementedError, match="Module defines no forward"):
        nn.Module()(x)


def test_layers_of_bags_are_called_with_bags_or_indices(backend):
    layer, bag, index = nn.EmbeddingBag(5, 2, rng=1), wyrm.BagInputNode(1), wyrm.IndexInputNode(1, 3)
    bag.set_value([1, 3])
    rows = layer.table.value[[1, 3]]
    np.testing.assert_allclose(layer(bag).value, rows.sum(0, keepdims=True), rtol=1e-6)
    np.testing.assert_allclose(layer(bag, mean=True).value, rows.mean(0, keepdims=True), rtol=1e-6)
    np.testing.assert_array_equal(layer(index).value, rows[1:])
    with pytest.raises(wyrm.DTypeError, match="expected bags to take means of"):
        layer(index, mean=True)


def test_a_module_is_a_function_for_fit_and_evaluate(backend):
    class Loss(nn.Module):
        def __init__(self):
            self.layers = [nn.Linear(2, 1, rng=1)]

        def forward(self, x, y):
            return nn.losses.squared(self.layers[0](x), y)

    loss, feed = Loss(), {"x": np.eye(2), "y": np.ones((2, 1))}
    wyrm.fit(loss, feed, SGD(0.1, loss), num_epochs=200, seed=0)
    assert wyrm.evaluate(loss, feed).max() < 1e-3
    with pytest.raises(wyrm.FeedError, match="'y' missing"):
        wyrm.fit(loss, {"x": np.eye(2)}, SGD(0.1, loss))


def test_what_optimizers_take():
    net = Net()
    one, two = nn.Linear(2, 2, bias=False), nn.Linear(2, 2)
    two.tied = one.weights
    w = one.weights
    for given, expected in (
        (net, net.parameters()),
        (w, [w]),
        (iter([w]), [w]),
        ({"x": w}, [w]),
        ({"x": two}.values(), two.parameters()),
        ({"x": two}, two.parameters()),
        ([one, two], [w, two.weights, two.biases]),
        (nn.ModuleList([one, two]), [w, two.weights, two.biases]),
        (Group(one, l2=0.5), [w]),
        ([Group(w), Group([two.weights, two.biases])], [w, two.weights, two.biases]),
        ([Group(w, l2=0.5), net], [*net.parameters(), w]),
    ):
        assert SGD(0.1, given).parameters == expected
    assert SGD(0.1, [Group(w, l2=0.5), two.weights]).groups[1].options["l2"] == 0.5
    for given in ("ab", [3], [[w]], w.square(), {"x": 3}):
        with pytest.raises(wyrm.DTypeError, match="SGD: expected ParameterNodes"):
            SGD(0.1, given)
    for given in (nn.Module(), [], [nn.Module()], {}):
        with pytest.raises(wyrm.OptionError, match="got none"):
            SGD(0.1, given)
    with pytest.raises(wyrm.OptionError, match="twice"):
        SGD(0.1, [w, w])


FEED = {"a": [0, 1, 2], "b": [2, 3, 4], "y": [[1.0], [2.0], [3.0]]}


class Factors(nn.Module):
    """Two tables of one shape; the attributes may be set in another order."""

    def __init__(self, swapped=False):
        tables = {"users": nn.Embedding(5, 2, rng=0), "items": nn.Embedding(5, 2, rng=1)}
        vars(self).update(reversed(tables.items()) if swapped else tables)

    def forward(self, a, b, y):
        return nn.losses.squared(self.users(a).vector_dot(self.items(b)), y)


def train(model, path, num_epochs, given=None, resume=None):
    wyrm.fit(
        model if given is None else lambda a, b, y: model(a, b, y),
        FEED,
        Adam(0.1, model if given is None else given),
        num_epochs=num_epochs,
        seed=0,
        callbacks=[wyrm.Checkpoint(path)],
        resume=resume,
        backend="reference",
    )
    return np.concatenate([model.users.table.value, model.items.table.value])


def test_checkpoints_have_the_paths(tmp_path):
    """So another order of the attributes does no harm."""
    path = tmp_path / "run"
    right = train(Factors(), path, 4)
    train(Factors(), path, 2)
    assert list(wyrm.load(path).parameters) == ["users.table", "items.table"]
    with pytest.raises(wyrm.CheckpointError, match="group 0: expected parameters"):
        train(Factors(swapped=True), path, 4, resume=path)
    swapped = Factors(swapped=True)
    wyrm.load(path, swapped)
    np.testing.assert_array_equal(swapped.users.table.value, wyrm.load(path).parameters["users.table"])
    np.testing.assert_array_equal(train(Factors(), path, 4, resume=path), right)


@pytest.mark.parametrize("loss", [lambda model: model, lambda model: model.forward])
def test_checkpoints_have_the_paths_in_the_module_that_is_trained(loss, tmp_path):
    """Also if the optimizer is given the parameters one by one; paths in what the optimizer is given come first."""
    outer = nn.Module()
    for names in (["users.table", "items.table"], ["model.users.table", "model.items.table"]):
        model = Factors()
        outer.model = model
        given = model.parameters()[::-1] if names[0] == "users.table" else outer
        wyrm.fit(loss(model), FEED, SGD(0.1, given), callbacks=[wyrm.Checkpoint(tmp_path / "run")], backend="reference")
        assert sorted(wyrm.load(tmp_path / "run").parameters) == sorted(names)


@pytest.mark.parametrize("swapped", ["given", "made", "both"])
def test_parameters_without_names_are_not_taken_for_each_other(swapped, tmp_path):
    """Whether they are made in another order, or given so, or both: then the values that they were made with tell."""
    path = tmp_path / "run"

    def tables(swap=False):
        model = Factors()
        if swap and swapped in ("made", "both"):
            model.items, model.users = nn.Embedding(5, 2, rng=1), nn.Embedding(5, 2, rng=0)
        given = [model.users.table, model.items.table]
        return model, given[::-1] if swap and swapped in ("given", "both") else given

    model, given = tables()
    right = train(model, path, 4, given)
    model, given = tables()
    train(model, path, 2, given)
    model, given = tables(swap=True)
    before = model.users.table.value.copy()
    with pytest.raises(wyrm.CheckpointError, match=r"'table\.0', 'table\.1' are of one shape, no names"):
        train(model, path, 4, given, resume=path)
    with pytest.raises(wyrm.CheckpointError, match="another order"):
        wyrm.load(path, given)
    np.testing.assert_array_equal(model.users.table.value, before)
    with pytest.raises(wyrm.CheckpointError, match=r"'table\.0' is the number of a parameter among others .* in the file"):
        wyrm.load(path, {"table.0": given[0], "table.1": given[1]})
    model, given = tables()
    np.testing.assert_array_equal(train(model, path, 4, given, resume=path), right)


def test_modules_of_two_optimizers_may_have_the_same_paths(tmp_path):
    one, two = nn.Linear(1, 1, bias=False), nn.Linear(1, 1, bias=False)
    wyrm.save(tmp_path / "m", (one.weights * two.weights), [SGD(0.1, one), SGD(0.1, two)])
    assert list(wyrm.load(tmp_path / "m").parameters) == ["weights.0", "weights.1"]
