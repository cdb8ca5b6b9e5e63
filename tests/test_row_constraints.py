"""Frozen rows and the greatest norm of a row: for each rule, however rows are used and whatever trains them."""

import contextlib
import copy
import itertools
import pickle

import numpy as np
import pytest

import wyrm
from wyrm.frontend.lowering.skip import _keeps
from wyrm.optim import FTRL, SGD, Adagrad, Adam, AdamW, RowwiseAdagrad
from wyrm.optim.constraints import constrained

OPTIMIZERS = {
    "sgd": lambda parameters: SGD(0.05, parameters, l2=0.1, l1=0.01),
    "decay": lambda parameters: SGD(0.05, parameters, weight_decay=0.5),
    "momentum": lambda parameters: SGD(0.02, parameters, momentum=0.5, weight_decay=0.1),
    "clipped": lambda parameters: SGD(0.05, parameters, clip_norm=0.5),
    "adagrad": lambda parameters: Adagrad(0.1, parameters),
    "rowwise": lambda parameters: RowwiseAdagrad(0.1, parameters, weight_decay=0.1),
    "adam": lambda parameters: Adam(0.1, parameters, clip_norm=0.5),
    "adamw": lambda parameters: AdamW(0.1, parameters, weight_decay=0.1),
    "ftrl": lambda parameters: FTRL(0.1, parameters, l1=0.01),
}
HOW = {"steps": None, "fit": {"batch_size": 1}, "batches": {"batch_size": 2, "reduction": "sum"}}
ROWS = [1, 0, 2, 0, 4, 1]
TARGETS = [1.0, 2.0, -1.0, 1.0, 0.5, 1.0]


def start(rows=5, cols=3):
    return np.random.default_rng(0).normal(size=(rows, cols))


def train(looked_up, optimizer, how, rows=ROWS, **options):
    """Train a loss over the node that a function makes of an index input or of a bag."""
    index, y = wyrm.IndexInputNode(), wyrm.InputNode((1, 1), dtype="float64")
    if any(isinstance(row, list) for row in rows):
        index = wyrm.BagInputNode(1)
    loss = (looked_up(index).scalar_sum() * y - 3.0).square()
    targets = TARGETS[: len(rows)]
    if how == "steps":
        for row, target in zip(rows, targets, strict=True):
            index.set_value([row] if isinstance(row, list) else row)
            y.set_value(target)
            loss.forward()
            loss.backward(1.0)
            optimizer.step()
    else:
        wyrm.fit(loss, {index: rows, y: targets}, optimizer, shuffle=False, **{**HOW[how], **options})


@pytest.mark.parametrize("how", HOW)
@pytest.mark.parametrize("name", OPTIMIZERS)
def test_frozen_rows_are_constants(name, how):
    """Against a table whose frozen rows are another one's, which nothing trains, chosen by a mask."""
    table = wyrm.ParameterNode(start(), dtype="float64", frozen_rows=[0, 4])
    train(table.index, optimizer := OPTIMIZERS[name]([table]), how)
    mask = np.zeros((5, 1))
    mask[[0, 4]] = 1
    free = wyrm.ParameterNode(start(), dtype="float64")
    fixed = wyrm.ParameterNode(start(), dtype="float64", trainable=False)
    chosen = wyrm.ParameterNode(mask, dtype="float64", trainable=False)
    train(
        lambda i: chosen.index(i) * fixed.index(i) + (1.0 - chosen.index(i)) * free.index(i),
        other := OPTIMIZERS[name]([free]),
        how,
    )
    np.testing.assert_array_equal(table.value[[0, 4]], start()[[0, 4]])
    np.testing.assert_allclose(table.value[[1, 2, 3]], free.value[[1, 2, 3]], rtol=1e-12)
    assert (table.value[[1, 2]] != start()[[1, 2]]).all()
    expected = other.state_dict()
    for key, state in optimizer.state_dict().items():
        if state.shape[:1] == (5,):
            np.testing.assert_array_equal(state[0], OPTIMIZERS[name]([wyrm.ParameterNode(start())]).state_dict()[key][0])
            np.testing.assert_allclose(state[[1, 2, 3]], expected[key][[1, 2, 3]], rtol=1e-12)


BAGS = [[1, 0], [2, 2, 0], [4], [0, 0], [1, 2], [0, 3, 1]]


@pytest.mark.parametrize("name", ["reference", None])
def test_each_use(name):
    """Clipped by norm, on the default backend and the reference: each against NumPy."""
    uses = {
        "index": (lambda t: lambda i: t.index(i), ROWS, lambda row: [row]),
        "twice": (lambda t: lambda i: t.index(i) + t.index(i) * 2.0, ROWS, lambda row: [row] * 3),
        "bags": (lambda t: lambda i: t.index_sum(i), BAGS, lambda bag: bag),
        "whole": (lambda t: lambda i: t.index(i) + t.sum(0), ROWS, lambda row: [row, *range(5)]),
    }
    for (use, (looked_up, rows, touched)), how in itertools.product(uses.items(), HOW):
        with wyrm.use_backend(name) if name else contextlib.nullcontext():
            table = wyrm.ParameterNode(start(), dtype="float64", frozen_rows=[0, 4], max_norm=1.5)
            expected = clipped_by_numpy(table.value.copy(), rows, touched, 1 if how != "batches" else 2)
            train(looked_up(table), SGD(0.3, [table], clip_norm=0.5), how, rows)
            np.testing.assert_allclose(table.value, expected, rtol=1e-10, err_msg=f"{use}, {how}")


def clipped_by_numpy(value, rows, touched, batch_size, norm=1.5, frozen=(0, 4)):
    free = ~np.isin(np.arange(len(value)), frozen)
    for begin in range(0, len(rows), batch_size):
        gradient = np.zeros_like(value)
        for row, target in zip(rows[begin : begin + batch_size], TARGETS[begin : begin + batch_size], strict=True):
            slope = 2 * (target * sum(value[r].sum() for r in touched(row)) - 3) * target
            for r in touched(row):
                gradient[r] += slope
        gradient[~free] = 0
        value = value - 0.3 * gradient * min(1, 0.5 / max(np.linalg.norm(gradient), 1e-300))
        norms = np.linalg.norm(value, axis=1, keepdims=True)
        value = np.where((norms > norm) & free[:, None] & (gradient != 0), value * norm / norms, value)
    return value


@pytest.mark.parametrize("cols", [1, 70])
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_norms_of_rows_of_any_width(dtype, cols):
    for how in HOW:
        table = wyrm.ParameterNode(start(5, cols) * 0.01, dtype=dtype, max_norm=0.25)
        index, y = wyrm.IndexInputNode(), wyrm.InputNode((1, 1), dtype=dtype)
        loss = (table.index(index).scalar_sum() * y - 30.0).square()
        optimizer = Adam(0.1, [table])
        if how == "steps":
            for row in ROWS:
                index.set_value(row)
                y.set_value(1.0)
                loss.forward()
                loss.backward(1.0)
                optimizer.step()
        else:
            wyrm.fit(loss, {index: ROWS, y: np.ones(6)}, optimizer, **HOW[how])
        norms = np.linalg.norm(table.value.astype(np.float64), axis=1)
        np.testing.assert_allclose(norms[[0, 1, 2, 4]], 0.25 if cols > 1 else norms[[0, 1, 2, 4]], rtol=1e-5)
        assert (norms <= 0.25 * (1 + 1e-6)).all()
        assert norms[3] < 0.25


def test_rows_that_missed_steps_stay_while_they_are_frozen_and_are_not_made_up_for():
    """Momentum and decay, with rows that freeze and thaw as training goes, against the dense algorithm."""
    rate, momentum, decay = 0.02, 0.5, 0.3
    for how in HOW:
        table = wyrm.ParameterNode(start(), dtype="float64")
        optimizer = SGD(rate, [table], momentum=momentum, weight_decay=decay)
        value, velocity = start(), np.zeros((5, 3))
        for frozen in ([3], [1, 3], None, [0], []):
            table.frozen_rows = frozen
            free = ~np.isin(np.arange(5), frozen or [])
            rows = [1, 2, 1, 0]
            train(table.index, optimizer, how, rows)
            for begin in range(0, 4, 2 if how == "batches" else 1):
                gradient = np.zeros_like(value)
                for n in range(begin, begin + (2 if how == "batches" else 1)):
                    gradient[rows[n]] += 2 * (TARGETS[n] * value[rows[n]].sum() - 3) * TARGETS[n]
                velocity[free] = momentum * velocity[free] + gradient[free]
                value[free] = value[free] * (1 - rate * decay) - rate * velocity[free]
        np.testing.assert_allclose(table.value, value, rtol=1e-11)


def test_what_callbacks_set_holds_from_the_next_epoch():
    table, index = wyrm.ParameterNode(start()), wyrm.IndexInputNode()
    loss, seen = (table.index(index).scalar_sum() - 3.0).square(), [table.value.copy()]
    settings = iter([(None, None), ([1], None), ([1, 2], 0.5), ([2], 0.5), (None, 0.25)])

    class Constrain(wyrm.Callback):
        def begin_epoch(self, run):
            table.frozen_rows, table.max_norm = next(settings)

        def end_epoch(self, run):
            seen.append(table.value.copy())

    optimizer = SGD(0.02, [table], momentum=0.5)
    wyrm.fit(loss, {index: [1, 2, 0]}, optimizer, num_epochs=5, shuffle=False, callbacks=[Constrain()])
    moved = [(a != b).any(axis=1).tolist()[1:3] for a, b in itertools.pairwise(seen)]
    assert moved == [[True, True], [False, True], [False, False], [True, False], [True, True]]
    # Rows 1 and 2 miss steps after their last update, and momentum may take them further.
    assert (np.linalg.norm(seen[-1], axis=1)[[0, 3, 4]] <= 0.25 + 1e-6).all()


@pytest.mark.parametrize(
    "options",
    [{"schedule": "hogwild"}, {"schedule": "conflict_free"}, {"schedule": "synchronized", "batch_size": 4}],
    ids=["hogwild", "conflict_free", "synchronized"],
)
def test_on_two_threads(options):
    rng = np.random.default_rng(0)
    users = wyrm.ParameterNode(start(50, 8), frozen_rows=np.arange(50) % 5 == 0, max_norm=0.7)
    items = wyrm.ParameterNode(start(50, 8), max_norm=0.7)
    user, item = wyrm.IndexInputNode(), wyrm.IndexInputNode()
    loss = (users.index(user).vector_dot(items.index(item)) - 3.0).square()
    before = users.value.copy()
    feed = {user: rng.integers(0, 50, 2000), item: rng.integers(0, 50, 2000)}
    wyrm.fit(loss, feed, Adagrad(0.1, [users, items]), num_threads=2, **options)
    assert ((users.value != before).any(axis=1) == (np.arange(50) % 5 != 0)).all()
    norms = np.linalg.norm(np.concatenate([users.value[np.arange(50) % 5 != 0], items.value]), axis=1)
    assert (norms <= 0.7 * (1 + 1e-5)).all()
    assert norms.max() > 0.69


def test_a_gradient_has_no_frozen_rows():
    table, index = wyrm.ParameterNode(np.ones((4, 2)), frozen_rows=[1]), wyrm.IndexInputNode(2, [1, 3])
    loss = table.index(index).scalar_sum()
    loss.backward(1.0)
    assert table.gradient.rows.tolist() == [3]
    table.square().scalar_sum().backward(1.0)
    np.testing.assert_array_equal(table.gradient.to_dense()[:, 0], [2, 0, 2, 3])
    table.zero_gradient()
    table.set_gradient(np.ones((4, 2)))
    SGD(1.0, [table], weight_decay=0.5).step()
    np.testing.assert_array_equal(table.value[:, 0], [-0.5, 1, -0.5, -0.5])


def test_rules_without_constraints_are_the_same_rules():
    table = wyrm.ParameterNode(np.ones((4, 2)))
    rules = {name: make([table]).groups[0].rule for name, make in OPTIMIZERS.items()}
    assert all(constrained(rule, table.storage) is rule for rule in rules.values())
    table.frozen_rows = [1]
    for rule in rules.values():
        assert _keeps(constrained(rule, table.storage)) == _keeps(rule)  # steps of WARP that change nothing end early
        assert not constrained(rule, table.storage).by_element
    table.max_norm = 1.0
    table.frozen_rows = table.max_norm = None
    assert all(constrained(rule, table.storage) is rule for rule in rules.values())


@pytest.mark.parametrize("copied", [copy.deepcopy, lambda node: pickle.loads(pickle.dumps(node)), copy.copy])
def test_copies_have_the_constraints(copied):
    table = copied(wyrm.ParameterNode(np.eye(3), frozen_rows=[2], max_norm=0.5))
    assert table.frozen_rows.tolist() == [2]
    assert table.max_norm == 0.5
    optimizer = SGD(1.0, [table])
    table.set_gradient(-np.ones((3, 3)))
    optimizer.step()
    np.testing.assert_array_equal(table.value[2], [0, 0, 1])
    np.testing.assert_allclose(np.linalg.norm(table.value[:2], axis=1), 0.5, rtol=1e-6)


def test_nodes_over_shared_storage_share_them():
    storage = wyrm.HogwildParameter(np.eye(3))
    first, second = wyrm.ParameterNode.shared(storage), wyrm.ParameterNode.shared(storage)
    optimizers = [SGD(0.1, [first]), SGD(0.1, [second])]
    for node, optimizer in zip((first, second), optimizers, strict=True):
        node.set_gradient(np.ones((3, 3)))
        optimizer.step()
    first.frozen_rows = [1]
    assert second.frozen_rows.tolist() == [1]
    before = storage.value.copy()
    for node, optimizer in zip((first, second), optimizers, strict=True):
        node.set_gradient(np.ones((3, 3)))
        optimizer.step()
    assert ((storage.value == before).all(axis=1) == [False, True, False]).all()


def test_checkpoints_have_frozen_rows_as_they_are(tmp_path):
    """A run that is resumed by the same code ends with the same bits."""

    def run(num_epochs, resume=None):
        table, index = wyrm.ParameterNode(start(), name="table", frozen_rows=[1], max_norm=0.5), wyrm.IndexInputNode()
        options = {"callbacks": [wyrm.Checkpoint(tmp_path / "run.safetensors")], "resume": resume, "seed": 0}
        loss = (table.index(index).scalar_sum() - 3.0).square()
        wyrm.fit(loss, {index: ROWS}, SGD(0.02, [table], momentum=0.5), num_epochs=num_epochs, **options)
        return table.value.copy()

    whole = run(4)
    run(2)
    np.testing.assert_array_equal(run(4, tmp_path / "run.safetensors"), whole)


@pytest.mark.parametrize(
    ("name", "value", "error", "message"),
    [
        ("frozen_rows", [5], wyrm.OutOfRangeError, "'table'.*has 5.*rows 0 to 4"),
        ("frozen_rows", [-1], wyrm.OutOfRangeError, "'table'.*has -1"),
        ("frozen_rows", [True, False], wyrm.ShapeError, "'table'.*each of 5 rows"),
        ("frozen_rows", [0.5], wyrm.DTypeError, "'table'.*whole row numbers"),
        ("frozen_rows", [[[1]]], wyrm.ShapeError, "'table'.*row numbers"),
        ("max_norm", 0.0, wyrm.OptionError, "'table'.*above 0"),
        ("max_norm", float("nan"), wyrm.OptionError, "'table'.*finite"),
        ("max_norm", "1", wyrm.DTypeError, "'table'.*a number or None"),
    ],
)
def test_what_is_no_constraint_is_refused(name, value, error, message):
    table = wyrm.ParameterNode(start(), name="table", frozen_rows=[1], max_norm=9.0)
    with pytest.raises(error, match=message):
        setattr(table, name, value)
    assert table.frozen_rows.tolist() == [1]
    assert table.max_norm == 9.0


def test_embeddings_with_padding():
    layer = wyrm.nn.Embedding(4, 3, padding_idx=-1, max_norm=0.5, rng=0)
    assert not layer.table.value[3].any()
    assert (np.linalg.norm(layer.table.value, axis=1) <= 0.5 + 1e-6).all()
    assert layer.table.frozen_rows.tolist() == [3]

    def loss(words):
        return (sum(layer.forward(word).scalar_sum() for word in words) - 3.0).square()

    before = layer.table.value.copy()
    wyrm.fit(
        loss, {"words": wyrm.Ragged.of([[0, 3], [1, 3, 3]])}, AdamW(0.1, layer.parameters(), weight_decay=0.5), num_epochs=2
    )
    assert not layer.table.value[3].any()
    assert (layer.table.value[:3] != before[:3]).any()
    assert layer.clone().table.frozen_rows.tolist() == [3]
    for wrong in (4, -5):
        with pytest.raises(wyrm.OutOfRangeError, match="padding_idx"):
            wyrm.nn.Embedding(4, 3, padding_idx=wrong)


@pytest.mark.parametrize("how", HOW)
def test_frozen_rows_do_not_count_when_others_are_clipped(how):
    table = wyrm.ParameterNode(start(), dtype="float64", frozen_rows=[1])
    weight = wyrm.ParameterNode([[0.5, 0.25, 1.0]], dtype="float64")
    before = weight.value.copy()
    slope = 2 * (start()[1] @ before[0] - 3) * start()[1]
    train(lambda index: table.index(index).vector_dot(weight), SGD(1.0, [table, weight], clip_norm=0.5), how, [1])
    np.testing.assert_allclose(weight.value[0], before[0] - 0.5 * slope / np.linalg.norm(slope), rtol=1e-12)


@pytest.mark.parametrize("how", HOW)
def test_norms_hold_for_rows_that_momentum_moves_while_steps_miss_them(how):
    table = wyrm.ParameterNode(start() * 0.1, dtype="float64", max_norm=0.5)
    optimizer = SGD(0.05, [table], momentum=0.9)
    train(table.index, optimizer, how, [1, 2, 2, 0, 0, 1])
    norms = np.linalg.norm(table.value, axis=1)
    assert norms[1] <= 0.5 + 1e-12  # the others may go on until their next update
    assert norms[1] > 0.499


@pytest.mark.parametrize("how", [*HOW, "epochs", "another optimizer", "as a whole"])
def test_rows_that_momentum_takes_beyond_the_norm_wait_for_their_next_update(how):
    """However they are brought up to date in the meantime: against an algorithm that moves every row at every step."""
    value, velocity = start() * 0.1, np.zeros((5, 3))
    table = wyrm.ParameterNode(value, dtype="float64", max_norm=0.5)
    optimizer = SGD(0.05, [table], momentum=0.9)
    runs = [[1, 2, 2, 0], [0, 2, 0]]
    for rows in runs:
        targets = TARGETS[: len(rows)]
        batch = 2 if how == "batches" else 1
        for first in range(0, len(rows), batch):
            gradient = np.zeros_like(value)
            for row, target in list(zip(rows, targets, strict=True))[first : first + batch]:
                gradient[row] += 2 * (value[row].sum() * target - 3.0) * target
            velocity = 0.9 * velocity + gradient
            value = value - 0.05 * velocity
            for row in set(rows[first : first + batch]):
                value[row] *= min(1.0, 0.5 / np.linalg.norm(value[row]))
        train(table.index, optimizer, how if how in HOW else "steps" if how != "epochs" else "fit", rows)
        if how == "another optimizer":
            Adagrad(0.1, [table], weight_decay=0.1).step()
            value = value * (1 - 0.1 * 0.1)
        elif how == "as a whole":
            table.storage.keep_up()
        np.testing.assert_allclose(table.value, value, rtol=1e-9)
    assert np.linalg.norm(value, axis=1)[1] > 0.6
