"""Parameters that are not trainable: set at any time, they stay as they are, whatever trains the others."""

import gc
import itertools
import logging
import subprocess
import sys

import numpy as np
import pytest

import wyrm
from wyrm.optim import FTRL, SGD, Adagrad, Adam, AdamW

#: Optimizers, each with an option that moves what has no gradient, or counts what has.
OPTIMIZERS = {
    "sgd": lambda parameters: SGD(0.1, parameters, l2=0.1, l1=0.01),
    "decay": lambda parameters: SGD(0.1, parameters, weight_decay=0.5),
    "momentum": lambda parameters: SGD(0.01, parameters, momentum=0.5, weight_decay=0.1),
    "adagrad": lambda parameters: Adagrad(0.1, parameters, weight_decay=0.1),
    "adam": lambda parameters: Adam(0.1, parameters, clip_norm=1.0),
    "adamw": lambda parameters: AdamW(0.1, parameters, weight_decay=0.1),
    "ftrl": lambda parameters: FTRL(0.1, parameters, l1=0.01),
}
#: Whether table and weight are trainable, phase by phase.
PHASES = [(True, True), (False, True), (True, False), (False, False), (True, True)]


def model(dtype="float32"):
    """A table that is looked up, and a weight that is used whole; the loss has a gradient for both, always."""
    table = wyrm.ParameterNode(np.linspace(1, 2, 8).reshape(4, 2), name="table", dtype=dtype)
    weight = wyrm.ParameterNode([[0.5, 0.25]], name="weight", dtype=dtype)
    index = wyrm.IndexInputNode(name="index")
    return table, weight, index, (table.index(index).vector_dot(weight) - 4.0).square()


def trained(table, weight, states, phases):
    """Go through the phases: ``states()`` makes some steps, and gives what optimizers keep of both."""
    before = table.value.copy(), weight.value.copy(), states()
    for flags in phases:
        for node, flag in zip((table, weight), flags, strict=True):
            node.trainable = flag
        kept = states(train=True)
        for node, flag, n in zip((table, weight), flags, (0, 1), strict=True):
            assert (node.value != before[n]).any() == flag
            if not flag:
                for name in kept[n]:
                    np.testing.assert_array_equal(kept[n][name], before[2][n][name])
        before = table.value.copy(), weight.value.copy(), kept


def states_of(optimizer):
    found = [{}, {}]
    for name, array in optimizer.state_dict().items():
        if name[0].isdigit():
            found[int(name[0])][name] = array
    return found


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_steps_of_each_optimizer(name):
    table, weight, index, loss = model()
    optimizer = OPTIMIZERS[name]([table, weight])

    def states(train=False):
        for row in (1, 2, 1) if train else ():
            index.set_value(row)
            loss.forward()
            loss.backward(1.0)
            optimizer.step()
        return states_of(optimizer)

    trained(table, weight, states, PHASES)


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"batch_size": 2},
        {"num_threads": 2, "schedule": "hogwild"},
        {"num_threads": 2, "schedule": "synchronized", "batch_size": 2},
    ],
    ids=["alone", "batches", "hogwild", "synchronized"],
)
def test_fits_of_each_kind(options):
    fits(options)


def test_on_the_reference():
    with wyrm.use_backend("reference"):
        test_steps_of_each_optimizer("sgd")
        fits({})


def fits(options):
    table, weight, index, loss = model()
    optimizer = SGD(0.1, [table, weight], clip_norm=1.0)

    def states(train=False):
        if train:
            wyrm.fit(loss, {index: [1, 2, 1]}, optimizer, **options)
        return states_of(optimizer)

    trained(table, weight, states, PHASES)


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize("batch_size", [1, 2])
@pytest.mark.parametrize("name", ["sgd", "momentum", "adam"])
def test_what_callbacks_set_holds_from_the_next_epoch(name, batch_size, stream):
    table, weight, _, _ = model()
    values, flags = [], iter(PHASES)

    def loss(row):
        return (table.index(row).vector_dot(weight) - 4.0).square()

    def look(epoch):
        values.append((table.value.copy(), weight.value.copy()))

    class Freeze(wyrm.Callback):
        def begin_epoch(self, run):
            table.trainable, weight.trainable = next(flags)

    feed = {"row": np.array([1, 2, 1])}
    values.append((table.value.copy(), weight.value.copy()))
    wyrm.fit(
        loss,
        [feed, feed] if stream else feed,
        OPTIMIZERS[name]([table, weight]),
        num_epochs=len(PHASES),
        batch_size=batch_size,
        callbacks=[look, Freeze()],
    )
    moved = [tuple(bool((a != b).any()) for a, b in zip(x, y, strict=True)) for x, y in itertools.pairwise(values)]
    assert moved == PHASES


@pytest.mark.parametrize("how", ["steps", "fit", "batches"])
def test_steps_that_are_made_meanwhile_are_not_made_up_for(how):
    """Against the dense algorithm, for which the steps of a phase in which it is frozen do not exist."""
    momentum, decay, rate = 0.8, 0.3, 0.05
    table, weight, index, loss = model("float64")
    optimizer = SGD(rate, [table, weight], momentum=momentum, weight_decay=decay)
    expected, other = table.value.copy(), weight.value.copy()
    velocity, other_velocity = np.zeros_like(expected), np.zeros_like(other)
    for flag, rows in ((True, [0, 1, 1]), (False, [2, 3, 0]), (True, [1, 3, 1])):
        table.trainable = flag
        if how == "steps":
            for row in rows:
                index.set_value(row)
                loss.forward()
                loss.backward(1.0)
                optimizer.step()
        else:
            wyrm.fit(loss, {index: rows}, optimizer, shuffle=False, batch_size=1 if how == "fit" else 3, reduction="sum")
        for batch in [[row] for row in rows] if how != "batches" else [rows]:
            gradient, other_gradient = np.zeros_like(expected), np.zeros_like(other)
            for row in batch:
                slope = 2 * (expected[row] @ other[0] - 4)
                gradient[row] += slope * other[0]
                other_gradient[0] += slope * expected[row]
            if flag:
                velocity = momentum * velocity + gradient
                expected = expected * (1 - rate * decay) - rate * velocity
            other_velocity = momentum * other_velocity + other_gradient
            other = other * (1 - rate * decay) - rate * other_velocity
    np.testing.assert_allclose(table.value, expected, rtol=1e-12)
    np.testing.assert_allclose(weight.value, other, rtol=1e-12)


def test_rows_that_were_behind_are_caught_up_with_at_the_rates_of_their_own_steps():
    table, weight, index, loss = model("float64")
    before = table.value.copy()
    optimizer = SGD(wyrm.optim.schedules.step(0.1, every=2, factor=0.5), [table, weight], weight_decay=0.5)
    index.set_value(0)
    for n in range(6):
        table.trainable = n < 2
        loss.forward()
        loss.backward(1.0)
        optimizer.step()
    np.testing.assert_allclose(table.value[1:], before[1:] * 0.95**2, rtol=1e-14)


@pytest.mark.parametrize("how", ["steps", "fit", "batches"])
def test_a_frozen_gradient_does_not_count_when_norms_are_clipped(how):
    table, weight, index, loss = model("float64")
    table.trainable = False
    before = weight.value.copy()
    slope = 2 * (table.value[1] @ before[0] - 4) * table.value[1]
    optimizer = SGD(1.0, [table, weight], clip_norm=0.5)
    if how == "steps":
        index.set_value(1)
        loss.forward()
        loss.backward(1.0)
        optimizer.step()
    else:
        wyrm.fit(loss, {index: [1]}, optimizer, batch_size=1 if how == "fit" else 2)
    np.testing.assert_allclose(weight.value[0], before[0] - 0.5 * slope / np.linalg.norm(slope), rtol=1e-12)


def test_it_may_be_set_between_the_passes_of_a_step():
    table, weight, index, loss = model()
    index.set_value(2)
    loss.forward()
    table.trainable = False
    assert loss.needs_gradient
    loss.backward(1.0)
    assert table.gradient.rows.size == 0
    assert weight.gradient.to_dense().any()
    loss.zero_gradient()
    loss.forward()
    table.trainable = True
    loss.backward(1.0)
    assert table.gradient.rows.tolist() == [2]
    weight.trainable = False  # drops what it has gathered, and nobody else's
    assert not weight.gradient.to_dense().any()
    assert table.gradient.rows.tolist() == [2]
    before = weight.value.copy()
    SGD(0.1, [table, weight]).step()
    assert (weight.value == before).all()


def test_where_nothing_is_trainable():
    table, weight, index, loss = model()
    table.trainable = weight.trainable = False
    assert not loss.needs_gradient
    index.set_value(2)
    loss.backward(1.0)
    optimizer = SGD(0.1, [table, weight], weight_decay=0.5)
    optimizer.step()
    assert optimizer.steps == 1
    assert loss.value == (table.value[2] @ weight.value[0] - 4) ** 2
    with pytest.raises(wyrm.OptionError, match=r"'table'.*not trainable"):
        table.set_gradient(np.ones((4, 2)))
    with pytest.raises(wyrm.DTypeError, match=r"'table'.*True or False.*None"):
        table.trainable = None


def test_fit_says_that_nothing_is_trained(caplog):
    table, weight, index, loss = model()
    table.trainable = weight.trainable = False
    before = table.value.copy(), weight.value.copy()
    with caplog.at_level(logging.WARNING, "wyrm"):
        history = wyrm.fit(loss, {index: [0, 1]}, SGD(0.1, [table, weight], weight_decay=0.5), num_epochs=3)
    assert caplog.text.count("changes nothing") == 1
    assert len(set(history.losses)) == 1
    assert (table.value == before[0]).all() and (weight.value == before[1]).all()


def test_parameters_that_no_optimizer_has_are_named(caplog):
    table, weight, index, loss = model()
    with caplog.at_level(logging.WARNING, "wyrm"):
        wyrm.fit(loss, {index: [0, 1]}, SGD(0.1, [table]), num_epochs=3)
    assert [record.name for record in caplog.records] == ["wyrm.fit"]
    assert "'weight'" in caplog.text and "'table'" not in caplog.text
    caplog.clear()
    weight.trainable = False  # then it is meant
    with caplog.at_level(logging.WARNING, "wyrm"):
        wyrm.fit(loss, {index: [0, 1]}, SGD(0.1, [table]))
        wyrm.fit(loss, {index: [0, 1]}, SGD(0.1, [table, weight]))
    assert not caplog.text


def test_parameters_that_a_later_structure_has_are_named_once(caplog):
    table, rest = wyrm.ParameterNode(np.ones((4, 2)), name="table"), wyrm.ParameterNode(1.0, name="rest")

    def loss(rows):
        total = sum(table.index(row).scalar_sum() for row in rows)
        return total * rest if len(rows) > 1 else total

    stream = [{"rows": wyrm.Ragged.of([[0] * length])} for length in (1, 2, 1, 2)]
    with caplog.at_level(logging.WARNING, "wyrm"):
        wyrm.fit(loss, stream, SGD(0.1, [table]), num_epochs=2)
    assert caplog.text.count("'rest'") == 1


@pytest.mark.parametrize("how", ["steps", "fit", "batches"])
@pytest.mark.parametrize("first", [True, False])
def test_nodes_over_shared_storage_have_their_own(how, first):
    """A loss that uses one storage by a node that is trainable and one that is not has the gradient of the former's uses."""
    storage = wyrm.HogwildParameter(np.ones((3, 2)), dtype="float64")
    nodes = [wyrm.ParameterNode.shared(storage, trainable=flag) for flag in (first, not first)]
    free = nodes[0] if first else nodes[1]
    index = wyrm.IndexInputNode()
    loss = (nodes[0].index(index) * nodes[1].index(index) * np.array([[1.0, 3.0]])).scalar_sum()
    optimizer = SGD(0.1, [free])
    expected = np.ones((3, 2))
    for row in (1, 1, 2):
        expected[row] -= 0.1 * np.array([1.0, 3.0]) * expected[row]
        if how == "steps":
            index.set_value(row)
            loss.forward()
            loss.backward(1.0)
            optimizer.step()
    if how != "steps":
        feed = {index: [1, 1, 2, 2][: 4 if how == "fit" else 3]}
        if how == "fit":
            feed = {index: [1, 1, 2]}
            wyrm.fit(loss, feed, optimizer, shuffle=False)
        else:
            for row in (1, 1, 2):
                wyrm.fit(loss, {index: [row]}, optimizer, batch_size=2)
    np.testing.assert_allclose(storage.value, expected, rtol=1e-12)


def test_a_run_that_is_resumed_goes_on_with_what_was_trainable(tmp_path, caplog):
    path = tmp_path / "run.safetensors"

    def train(num_epochs, resume=None):
        table, weight, index, loss = model()
        table.trainable = False

        def unfreeze(epoch):
            if epoch.number == 2:
                table.trainable = True
                weight.trainable = False

        options = {"seed": 0, "callbacks": [unfreeze, wyrm.Checkpoint(path)], "resume": resume}
        wyrm.fit(loss, {index: [1, 2, 1]}, SGD(0.01, [table, weight], momentum=0.5), num_epochs=num_epochs, **options)
        return table.value.copy(), weight.value.copy(), table.trainable, weight.trainable

    whole = train(5)
    train(3)
    with caplog.at_level(logging.WARNING, "wyrm"):
        resumed = train(5, path)
    assert all(np.array_equal(a, b) for a, b in zip(whole, resumed, strict=True))
    assert "'table' is trainable" in caplog.text and "'weight' is not trainable" in caplog.text


def test_setting_it_leaves_nothing_behind():
    """However often it is set: the programs of before are gone, and so are the workspaces."""
    table, weight, index, loss = model()
    optimizer = SGD(0.1, [table, weight])
    index.set_value(1)
    counts = []
    for _ in range(3):
        for n in range(40):
            table.trainable = bool(n % 2)
            loss.forward()
            loss.backward(1.0)
            optimizer.step()
        gc.collect()
        counts.append((len(loss._graph.workspaces), len(table._trainers), len([b for b in table._bindings if b() is not None])))
    assert counts[0] == counts[1] == counts[2]
    assert counts[2][0] == 1


def test_the_draws_of_dropout_go_on_while_a_parameter_is_frozen():
    """The number of the step counts for the whole graph; a parameter that comes back does not begin anew."""
    x = wyrm.InputNode((1, 64), np.ones((1, 64)))
    first, second = wyrm.ParameterNode(1.0), wyrm.ParameterNode(1.0)
    dropped = (x * first * second).dropout(0.5, seed=1)
    loss = dropped.scalar_sum()
    optimizer = SGD(1e-6, [first, second])
    seen = []
    for n in range(6):
        second.trainable = n not in (1, 2, 3)
        loss.forward()
        seen.append((dropped.value != 0).tobytes())
        loss.backward(1.0)
        optimizer.step()
    assert len(set(seen)) == 6


def test_calls_of_fit_one_after_the_other():
    """Programs that stay bound for the next call are those of what is trainable now: the loss's node and the optimizer's."""
    storage = wyrm.HogwildParameter(np.ones((3, 2)))
    used, owned = wyrm.ParameterNode.shared(storage), wyrm.ParameterNode.shared(storage)
    index = wyrm.IndexInputNode()
    loss, optimizer = (used.index(index).scalar_sum() - 9.0).square(), SGD(0.01, [owned])
    for flags in [(True, True)] * 2 + [(False, True)] * 2 + [(True, False)] * 2 + [(True, True)] * 2:
        used.trainable, owned.trainable = flags
        before = storage.value.copy()
        wyrm.fit(loss, {index: [1]}, optimizer)
        assert (storage.value != before).any() == all(flags)
    for rows in (None, [1], [1], [2], None):
        used.frozen_rows = rows
        before = storage.value.copy()
        wyrm.fit(loss, {index: [1]}, optimizer)
        assert (storage.value != before).any() == (rows != [1])


def test_warnings_are_printed_unless_logging_is_set_up():
    """Who has never heard of the logger sees them."""
    program = """
import wyrm
x, w, b = wyrm.InputNode((1, 1)), wyrm.ParameterNode(1.0), wyrm.ParameterNode(1.0, name="bias")
wyrm.fit((w * x + b).square(), {x: [1.0]}, wyrm.optim.SGD(0.1, [w]), backend="reference")
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert "no optimizer has ParameterNode 'bias'" in done.stderr and not done.stdout
