"""What users pass is checked where it enters: a message says whose it is, what was expected and what came."""

import os

import numpy as np
import pytest

import wyrm
from wyrm import nn, optim
from wyrm.optim import schedules

X = [wyrm.InputNode((1, 3)), wyrm.InputNode((1, 3))]
W = wyrm.ParameterNode(np.ones((1, 3)), name="w")


def nested(depth):
    inner = [1.0]
    for _ in range(depth):
        inner = [inner]
    return inner


def own():
    inner = [1.0]
    inner.append(inner)
    return inner


REFUSED = {
    "a dtype": (lambda: nn.Linear(2, 2, dtype="x"), wyrm.DTypeError, "dtype must be float32 or float64"),
    "no dtype": (lambda: wyrm.InputNode((1, 1), dtype=(1, 2, 3)), wyrm.DTypeError, "dtype must be"),
    "a seed": (lambda: nn.Linear(2, 2, rng="x"), wyrm.DTypeError, "rng: expected a seed"),
    "a seed below 0": (lambda: nn.GRU(2, 2, rng=-1), wyrm.DTypeError, "rng: expected a seed"),
    "a length": (lambda: nn.Linear(2, 1.5), wyrm.ShapeError, "Linear: expected output_dim .* got 1.5"),
    "a length of an LSTM": (lambda: nn.LSTM("a", 3), wyrm.ShapeError, "LSTM: expected input_dim"),
    "a length of a GRU": (lambda: nn.GRU(3, None), wyrm.ShapeError, "GRU: expected hidden_dim"),
    "too long": (lambda: nn.Linear(2**40, 2**40), wyrm.ShapeError, "more than there is memory for"),
    "rows of a table": (lambda: nn.Embedding(2.5, 3), wyrm.ShapeError, "Embedding: expected count"),
    "a padding": (lambda: nn.Embedding(5, 3, padding_idx="x"), wyrm.DTypeError, "padding_idx, got 'x'"),
    "lists without end": (lambda: wyrm.InputNode((1, 1), own()), wyrm.DTypeError, "deeper than any array"),
    "deep lists": (lambda: W.set_value(nested(5000)), wyrm.DTypeError, "deeper than any array"),
    "a width": (lambda: nn.LSTM(4, 2)(X), wyrm.ShapeError, "LSTM: expected inputs of 4 columns, got 3"),
    "a width of rows": (lambda: nn.GRU(4, 2)(X[0]), wyrm.ShapeError, "GRU: expected inputs of 4 columns, got 3"),
    "a width among others": (
        lambda: nn.EWMA(3)([X[0], wyrm.InputNode((1, 2))]),
        wyrm.ShapeError,
        "EWMA: expected inputs of 3 columns, got 2",
    ),
    "no inputs": (lambda: nn.LSTM(3, 2)(5), wyrm.DTypeError, "LSTM: expected a list of nodes, got 5"),
    "a state": (lambda: nn.LSTM(3, 2)(X, 5), wyrm.DTypeError, "LSTM: expected a tuple of matrices"),
    "a state of strings": (lambda: nn.GRU(3, 2)(X, ["x"]), wyrm.DTypeError, "GRU: state: expected real numbers"),
    "a state of one": (lambda: nn.LSTM(3, 2).step(5, X[0]), wyrm.DTypeError, "expected 2 nodes as state, got 5"),
    "a state that is set": (lambda: nn.EWMA(3).set_state("x"), wyrm.DTypeError, "EWMA: state: expected real numbers"),
    "no prediction": (lambda: nn.losses.squared(1.0, X[0]), wyrm.DTypeError, "squared: expected a node .* got 1.0"),
    "no logits": (
        lambda: nn.losses.sparse_categorical_crossentropy([1.0], wyrm.IndexInputNode()),
        wyrm.DTypeError,
        "expected a node",
    ),
    "a delta": (lambda: nn.losses.huber(X[0], 1.0, delta="x"), wyrm.DTypeError, "huber: delta: expected a number"),
    "a reduction": (lambda: nn.losses.squared(X[0], 1.0, reduction=np.ones(2)), wyrm.OptionError, "expected a reduction"),
    "parts": (lambda: wyrm.stack(5), wyrm.DTypeError, "stack: expected a list of nodes, got 5"),
    "an axis": (lambda: wyrm.stack(X, np.ones(2)), wyrm.OptionError, "stack: expected axis 0 or 1"),
    "an axis of a mean": (lambda: X[0].mean(np.zeros(0)), wyrm.OptionError, "mean: expected axis"),
    "a rate": (lambda: schedules.cosine("x", 5), wyrm.DTypeError, "cosine: rate: expected a number, got 'x'"),
    "steps": (lambda: schedules.step(0.1, None), wyrm.DTypeError, "step: every: expected a number"),
    "a schedule": (lambda: schedules.warmup(0.1, 5), wyrm.DTypeError, "warmup: expected a schedule"),
    "what schedules give": (lambda: optim.SGD(lambda steps: "x", [W]), wyrm.OptionError, "schedule to give a number"),
    "a schedule without steps": (
        lambda: optim.SGD(lambda: 0.1, [W]),
        wyrm.DTypeError,
        "expected a schedule to be",
    ),
    "a schedule's rates": (lambda: optim.SGD(lambda steps: [[1], [1, 2]], [W]), wyrm.OptionError, "schedule to give a number"),
    "an option": (lambda: optim.Adam(0.1, [W], eps=np.zeros((1, 3))), wyrm.DTypeError, "Adam: expected a number as eps"),
    "a huge option": (lambda: optim.SGD(0.1, [W], l2=10**400), wyrm.OptionError, "SGD: expected l2 to be finite"),
    "an option beyond the dtype": (lambda: optim.SGD(0.1, [W], l2=1e39), wyrm.OptionError, "l2 is 1e.39, which is beyond"),
    "a rate beyond the dtype": (lambda: optim.SGD(1e39, [W]), wyrm.OptionError, "learning_rate is 1e.39, which is beyond"),
    "a state of an optimizer": (lambda: optim.SGD(0.1, [W]).load_state_dict(5), wyrm.DTypeError, "arrays that state_dict gave"),
    "a metric": (lambda: wyrm.EarlyStopping(None), wyrm.DTypeError, "EarlyStopping: metric: expected the name"),
    "a metric of a checkpoint": (lambda: wyrm.Checkpoint("x", best=5), wyrm.DTypeError, "Checkpoint: best: expected the name"),
    "a delta of a metric": (lambda: wyrm.EarlyStopping(min_delta="x"), wyrm.DTypeError, "min_delta: expected a number"),
    "a name of a metric": (lambda: wyrm.Epoch(1, 0.5, 1, 0.1).metric({}), wyrm.DTypeError, "epoch 1: expected the name"),
    "a norm": (lambda: setattr(W, "max_norm", 1e30), wyrm.OptionError, "'w': max_norm is 1e.30, and float32 does not hold"),
    "a small norm": (lambda: setattr(W, "max_norm", 1e-30), wyrm.OptionError, "does not hold its square"),
    "frozen rows": (lambda: setattr(W, "frozen_rows", [[1], [1, 2]]), wyrm.DTypeError, "'w': frozen_rows"),
    "a mark": (lambda: wyrm.ParameterNode(1.0, trainable="x"), wyrm.DTypeError, "expected trainable to be True or False"),
    "a weight": (lambda: W.backward("x"), wyrm.DTypeError, "expected a number as weight, got 'x'"),
    "a huge weight": (lambda: (W * 1.0).backward(10**400), wyrm.DTypeError, "expected a number as weight"),
    "masked parameters": (lambda: optim.SGD(0.1, np.ma.masked), wyrm.DTypeError, "expected parameters to train"),
    "a power": (lambda: wyrm.Frequencies([1, 2], power=10**400), wyrm.OptionError, "expected a number as power"),
    "a part": (lambda: X[0]["a":], wyrm.OptionError, "slice: expected whole numbers for the rows, got 'a'"),
    "an array as a state": (lambda: nn.EWMA(3).step(np.array("x"), X[0]), wyrm.DTypeError, "expected 1 nodes as state"),
    "a backend": (lambda: wyrm.get_backend(np.zeros(0)), wyrm.DTypeError, "expected the name of a backend"),
    "parameters of a file": (lambda: wyrm.save(os.devnull, 5), wyrm.DTypeError, "checkpoint: expected parameters, got 5"),
    "an optimizer of a file": (lambda: wyrm.save("x", [W], 5), wyrm.DTypeError, "checkpoint: expected an optimizer"),
    "bags": (lambda: wyrm.Bags.from_lists(5), wyrm.DTypeError, "bags: expected a list for each bag, got 5"),
    "a step": (lambda: wyrm.finite_difference(W, W.square(), step="x"), wyrm.DTypeError, "step: expected a number"),
}

LOSS = (X[0] * W).sum()
#: What looks as if it could be gone through, and cannot.
NUMBER, NOTHING = np.array(2), np.array(None)
REFUSED |= {
    "a number as parameters": (lambda: optim.SGD(0.1, NUMBER), wyrm.DTypeError, "optimizer: expected parameters to train"),
    "a number as a group": (lambda: optim.Group(NUMBER), wyrm.DTypeError, "Group: expected parameters to train"),
    "a number as optimizers": (lambda: fit(optimizer=NUMBER), wyrm.DTypeError, "fit: expected an optimizer or several"),
    "a number as a feed": (lambda: fit(feed=NUMBER), wyrm.FeedError, "feed"),
    "a number as a stream": (lambda: fit(feed=NOTHING, num_epochs=2), wyrm.FeedError, "feed"),
    "a number as a feed of values": (lambda: wyrm.evaluate(LOSS, NUMBER), wyrm.FeedError, "feed"),
    "a number as callbacks": (lambda: fit(callbacks=NUMBER), wyrm.DTypeError, "fit: expected a list of callbacks"),
    "a number as a bag": (lambda: wyrm.BagInputNode(1, NUMBER), wyrm.DTypeError, "BagInputNode"),
    "a number as parts": (lambda: wyrm.stack(NUMBER), wyrm.DTypeError, "stack: expected a list of nodes"),
    "a number as states": (lambda: nn.GRU(3, 2)(X, NUMBER), wyrm.ShapeError, "GRU: expected 1 matrices"),
    "a number to save": (lambda: wyrm.save("nowhere", NUMBER), wyrm.DTypeError, "checkpoint: expected parameters"),
    "a number as optimizers to save": (lambda: wyrm.save("nowhere", LOSS, NUMBER), wyrm.DTypeError, "an optimizer or several"),
    "a class beside a parameter": (lambda: W / wyrm.InputNode, wyrm.DTypeError, "divide with ParameterNode 'w': .* got"),
    "a class before a parameter": (lambda: wyrm.Node + W, wyrm.DTypeError, "add with ParameterNode 'w': .* got"),
    "a class beside an input": (lambda: X[0] * wyrm.ParameterNode, wyrm.DTypeError, "multiply with .* got"),
    "a path": (lambda: wyrm.save("\ud800", LOSS), wyrm.OptionError, r"'.ud800' cannot be the path of a file"),
    "a path to read": (lambda: wyrm.load("\ud800", LOSS), wyrm.OptionError, "cannot be the path of a file"),
    "a path of a checkpoint": (lambda: wyrm.Checkpoint(b"a\0b"), wyrm.OptionError, "expected the path of a file"),
    "a rate of epochs": (
        lambda: fit(callbacks=[wyrm.LearningRate(lambda: 0.1)]),
        wyrm.DTypeError,
        "LearningRate: expected a function of an epoch's number",
    ),
}


def fit(feed=None, optimizer=None, **options):
    feed = {X[0]: np.ones((2, 3))} if feed is None else feed
    return wyrm.fit(LOSS, feed, optim.SGD(0.1, [W]) if optimizer is None else optimizer, **options)


def test_a_function_that_takes_no_epoch_is_no_callback():
    parameter = wyrm.ParameterNode(np.ones((1, 3)))
    with pytest.raises(wyrm.DTypeError, match="fit: expected callbacks to be functions of an epoch") as caught:
        wyrm.fit((X[0] * parameter).sum(), {X[0]: np.ones((2, 3))}, optim.SGD(0.1, [parameter]), callbacks=[lambda: None])
    assert len(caught.value.history) == 1


def test_what_a_users_function_raises_passes_through():
    """A TypeError as well, if it was the function that raised it."""
    for function in (lambda steps: 1 / 0, lambda steps: len(5)):
        with pytest.raises((ZeroDivisionError, TypeError), match="division|len") as caught:
            optim.SGD(function, [W])
        assert not isinstance(caught.value, wyrm.WyrmError)


@pytest.mark.parametrize("name", REFUSED)
def test_what_is_refused(name):
    act, kind, message = REFUSED[name]
    before = W.value.copy(), W.max_norm, W.frozen_rows.tolist()
    with pytest.raises(kind, match=message):
        act()
    np.testing.assert_array_equal(W.value, before[0])
    assert (W.max_norm, W.frozen_rows.tolist()) == before[1:]


def test_a_rate_that_is_refused_changes_nothing():
    optimizer = optim.SGD(0.5, [W])
    for rate in (1e39, "x", -1.0, 10**400):
        with pytest.raises(wyrm.WyrmError):
            optimizer.learning_rate = rate
    assert optimizer.learning_rate == 0.5


@pytest.mark.parametrize("value", ["0.5", None, [1.0], {}])
def test_metrics_that_cannot_be_compared(value):
    x, w = wyrm.InputNode((1, 1)), wyrm.ParameterNode(1.0)

    def add(epoch):
        epoch.metrics["mine"] = value

    with pytest.raises(wyrm.DTypeError, match="epoch 1: expected its metric 'mine' to be a number"):
        wyrm.fit((w * x).square(), {x: [1.0]}, optim.SGD(0.1, [w]), callbacks=[add, wyrm.EarlyStopping("mine")])


@pytest.mark.parametrize("key", ["steps", "learning_rates", "0.adam.mean"])
@pytest.mark.parametrize("value", ["x", None, np.nan, np.full((1, 3), "x"), [1.0, 2.0], -1])
def test_states_that_are_refused_change_nothing(key, value):
    w = wyrm.ParameterNode(np.ones((1, 3)))
    optimizer = optim.Adam(0.1, [w])
    w.set_gradient(np.ones((1, 3)))
    optimizer.step()
    before = optimizer.state_dict()
    names = {name.split("_")[0]: name for name in before}
    other = {**before, names.get(key, key): value}
    if set(other) != set(before):
        key = next(name for name in before if name.startswith("0.adam"))
        other = {**before, key: value}
    with pytest.raises(wyrm.WyrmError):
        optimizer.load_state_dict(other)
    for name, array in optimizer.state_dict().items():
        np.testing.assert_array_equal(array, before[name])


# --- modules ----------------------------------------------------------------------------------------------------


class Slotted(nn.Module):
    __slots__ = ("layer", "other")

    def __init__(self):
        self.layer = nn.Linear(2, 2)


class Plain:
    def __init__(self, inner):
        self.inner = inner


class Holder(nn.Module):
    def __init__(self, **held):
        for name, value in held.items():
            setattr(self, name, value)


def test_layers_in_slots_and_arrays_of_objects_are_found():
    array = np.array([[nn.Linear(2, 2), None], [Slotted(), 1]], object)
    holder = Holder(slotted=Slotted(), array=array)
    paths = list(holder.named_parameters())
    assert paths[:2] == ["slotted.layer.weights", "slotted.layer.biases"]
    assert paths[2:] == ["array.0.weights", "array.0.biases", "array.2.layer.weights", "array.2.layer.biases"]
    clone = holder.clone()
    assert list(clone.named_parameters()) == paths
    pairs = zip(clone.parameters(), holder.parameters(), strict=True)
    assert all(a is not b and a.storage is b.storage for a, b in pairs)


@pytest.mark.parametrize("hide", [lambda x: {x}, lambda x: frozenset([x]), Plain])
def test_layers_where_they_are_not_looked_for_are_an_error(hide):
    layer = nn.Linear(2, 2)
    with pytest.raises(wyrm.OptionError, match=r"Holder: helper is a \w+, in which parameters are not looked for"):
        Holder(helper=hide(layer)).named_parameters()
    assert len(Holder(helper=hide(layer), layer=layer).named_parameters()) == 2  # there is another path to it
    assert Holder(helper=Plain(5), function=layer.forward, kind=nn.Linear).named_parameters() == {}
