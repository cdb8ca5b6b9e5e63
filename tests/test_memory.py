"""What is gone leaves nothing behind: structures, programs, executables, bindings and the like are counted, and all objects."""

import gc
from collections import Counter

import numpy as np
import pytest

import wyrm
from wyrm.backend import Executable, Program
from wyrm.frontend import binding, compiled, structure
from wyrm.frontend.binding import Binding, Workspace
from wyrm.frontend.graph import Graph
from wyrm.frontend.lowering import lower, updates
from wyrm.frontend.recent import Recent
from wyrm.frontend.structure import Structure
from wyrm.memory import GradientBuffer
from wyrm.optim import SGD, Adam, schedules

COUNTED = (Structure, Program, Executable, Binding, Workspace, Graph, GradientBuffer, wyrm.Node, wyrm.HogwildParameter)


def counts():
    """How many there are of each kind that is counted, and of all objects."""
    gc.collect()
    found = Counter(map(type, gc.get_objects()))
    return {kind: sum(number for each, number in found.items() if kind in each.__mro__) for kind in COUNTED}, found.total()


def affine(x, rows=4):
    a, b = wyrm.ParameterNode(np.ones((rows, 2))), wyrm.ParameterNode(np.zeros((1, 2)))
    return (x @ a + b).square().scalar_sum(), [a, b]


def model(n, kept):
    x = wyrm.InputNode((1, 4), np.ones((1, 4)))
    loss, parameters = affine(x)
    optimizer = Adam(schedules.cosine(0.1, 10), parameters, weight_decay=0.1)
    for _ in range(2):
        loss.forward()
        loss.backward(1.0)
        optimizer.step()


def layers(n, kept):
    cells = wyrm.nn.lstm.Parameters(2, 3, rng=0).build()
    hidden = cells.forward([wyrm.InputNode((1, 2), np.ones((1, 2))) for _ in range(3)])
    loss = wyrm.nn.Linear(3, 2, rng=0).forward(hidden[-1]).square().scalar_sum()
    loss.backward(1.0)


def heads(n, kept):
    """Over one table that is kept."""
    weights = wyrm.ParameterNode(np.ones((3, 1)))
    loss = (kept["table"].index(wyrm.IndexInputNode(1, 2)) @ weights).square()
    loss.backward(1.0)
    kept["table"].zero_gradient()


def optimizers(n, kept):
    loss, parameters = kept["loss"], kept["parameters"]
    loss.forward()
    loss.backward(1.0)
    SGD(0.01 + n * 1e-6, parameters, momentum=0.5 + n * 1e-6).step()


def fit_new_nodes(n, kept):
    x = wyrm.InputNode((1, 4))
    loss, parameters = affine(x)
    wyrm.fit(loss, {x: np.ones((3, 4))}, SGD(0.01, parameters), num_threads=1, batch_size=1 + n % 2)


def fit_kept_nodes(n, kept):
    wyrm.fit(kept["loss"], {kept["x"]: np.ones((3, 4))}, kept["optimizer"], num_threads=1)


def fit_functions(n, kept):
    a = wyrm.ParameterNode(np.ones((4, 2)))
    wyrm.fit(
        lambda x: (x @ a).square().scalar_sum() * float(n),
        {"x": np.ones((3, 4))},
        SGD(0.01, [a]),
        num_threads=1,
        validation={"x": np.ones((2, 4))},
    )


def evaluate(n, kept):
    x = wyrm.InputNode((1, 4))
    loss, _ = affine(x)
    wyrm.evaluate(loss, {x: np.ones((3, 4))})
    wyrm.evaluate(lambda x: affine(x)[0] if n < 0 else kept["layer"].forward(x), {"x": np.ones((3, 4))})


def checkpoints(n, kept):
    path = kept["path"] / "kept"
    wyrm.save(path, kept["loss"], kept["optimizer"])
    wyrm.load(path, kept["loss"], kept["optimizer"])


def failures(n, kept):
    x = wyrm.IndexInputNode()
    table = wyrm.ParameterNode(np.ones((4, 2)))
    with pytest.raises(wyrm.OutOfRangeError):
        wyrm.fit(table.index(x).square().scalar_sum(), {x: [1, 9]}, SGD(0.1, [table]))
    with pytest.raises(wyrm.ShapeError):
        table @ table


def own_optimizers(n, kept):
    class Own(wyrm.optim.Optimizer):
        name = "own"

        @staticmethod
        def update(k, value, gradient, state, scalar):
            return k.subtract(value, k.multiply(scalar.learning_rate, gradient)), {}

    a = wyrm.ParameterNode(1.0)
    a.square().backward(1.0)
    Own(0.1, [a]).step()


CASES = [model, layers, heads, optimizers, fit_new_nodes, fit_kept_nodes, fit_functions, evaluate, checkpoints, failures]


@pytest.mark.parametrize("case", CASES)
def test_what_is_gone_leaves_nothing_behind(case, tmp_path, monkeypatch):
    """On the default backend: what is kept is the frontend's, and compiled code is not counted."""
    x = wyrm.InputNode((1, 4), np.ones((1, 4)))
    loss, parameters = affine(x)
    kept = {"x": x, "loss": loss, "parameters": parameters, "optimizer": Adam(0.01, parameters), "path": tmp_path}
    kept |= {"table": wyrm.ParameterNode(np.ones((4, 3))), "layer": wyrm.nn.Linear(4, 2, rng=0)}
    for n in range(5):
        case(n, kept)
    gc.freeze()  # what is there by now is not gone through again, nor counted
    monkeypatch.setattr(gc, "get_freeze_count", lambda: 1)  # which would go through it
    try:
        for n in range(5, 8):
            case(n, kept)
        counts()  # abstract classes take note of each class that they are asked of
        before, total = counts()
        for n in range(8, 38):
            case(n, kept)
        after, total_after = counts()
    finally:
        gc.unfreeze()
    assert {kind.__name__: after[kind] - before[kind] for kind in COUNTED if after[kind] > before[kind]} == {}
    assert total_after - total < 30  # less than one for each


def test_optimizers_of_classes_of_their_own_leave_few_behind():
    from wyrm.optim.optimizer import _traced

    for n in range(3):
        own_optimizers(n, {})
    assert _traced.cache_info().maxsize == 256


def test_shapes_that_were_used_are_forgotten(backend, monkeypatch):
    monkeypatch.setattr(binding, "LIMIT", 8)
    monkeypatch.setattr(binding, "_RECENT", {})
    monkeypatch.setattr(lower, "_CACHE", Recent(8))
    monkeypatch.setattr(updates, "_CACHE", Recent(8))
    monkeypatch.setattr(compiled, "_EXECUTABLES", Recent(8))
    monkeypatch.setattr(structure, "STORE_LIMIT", 100)
    structure.STORE.clear()
    w = wyrm.ParameterNode(2.0)
    x = wyrm.InputNode((1, 3), np.ones((1, 3)))
    kept = (w * x).scalar_sum()
    kept.forward()

    def run(shapes):
        for n in shapes:
            loss = (w * wyrm.InputNode((1, n), np.ones((1, n)))).scalar_sum()
            loss.forward()
            loss.backward(1.0)
            assert loss.value.item() == 2 * n
            kept.forward()
            assert kept.value.item() == 6

    run(range(1, 20))
    before, _ = counts()
    run(range(20, 60))
    after, _ = counts()
    assert all(after[kind] <= before[kind] + 1 for kind in COUNTED if kind is not Structure)
    assert len(structure.STORE) <= 100 and len(w._structure.dependents) <= 100
    assert w.gradient.to_dense().item() == sum(range(1, 60))


def test_what_is_recent_is_bounded():
    recent = Recent(3)
    assert [recent.made(n, lambda n=n: n * n) for n in (1, 2, 3, 1, 4)] == [1, 4, 9, 1, 16]
    assert list(recent) == [2, 3, 4]
    assert recent.made(1, lambda: 5) == 5
    recent.clear()
    assert len(recent) == 0
