"""What begins at once does what Python does: values that native code sets, passes, and graphs that grow or are gone."""

import gc
import threading
import warnings

import numpy as np
import pytest
from odd_values import KINDS, table

import wyrm
from wyrm.optim import SGD
from wyrm.turns import CHANGE, NOT_AT_ONCE, NOW, OPEN, READY, TIME, UNKNOWN, at_once


class Weight:
    """Something that is a number if it is asked, and asks back."""

    def __init__(self, then):
        self.then = then

    def __float__(self):
        self.then()
        return 1.0


def set_and_read(x, node, value, ready):
    """What is computed for a value, or the error; and what is kept then. ``ready``: whether the input may be set at once."""
    if not ready:
        x._setter = None
    try:
        x.set_value(value)
    except (wyrm.WyrmError, OverflowError, TypeError, ValueError) as error:
        outcome = type(error), str(error).replace(x._label(), "")
    else:
        outcome = None
    return outcome, node.value.item()


@pytest.mark.parametrize("kind", KINDS)
def test_what_is_set_at_once_is_what_python_sets(backend, kind):
    make, over, first, values = KINDS[kind]
    outcomes = []
    for ready in (True, False):
        x = make()
        node = over(x)
        x.set_value(first)
        node.forward(backend=backend)
        x.set_value(first)  # from now on by a setter, if the backend has one
        found = []
        for value in values:
            found.append(set_and_read(x, node, value, ready))
            found.append(set_and_read(x, node, first, ready))
        outcomes.append(found)
    np.testing.assert_equal(*outcomes)


def on_c_simd(kind):
    """An input of a kind that the backend sets at once from now on, and what is computed of it."""
    make, over, first, _ = KINDS[kind]
    x = make()
    node = over(x)
    x.set_value(first)
    node.forward(backend="c_simd")
    x.set_value(first)
    return x, node


def test_c_simd_sets_plain_values_at_once():
    pytest.importorskip("wyrm_c_simd")
    for kind, taken in {
        "number": [2.0, 3, np.float64(1.0), np.float32(2.0)],
        "index": [3, np.int64(2), np.int32(1)],
        "indices": [[0, 4, 4]],
        "bag": [[1, 1, 1], [], [[2, 3]], [4] * 16],
    }.items():
        x, node = on_c_simd(kind)
        for value in taken:
            before = x.value
            assert x._setter(value), kind
            assert node._workspace.is_fresh() is False
            with pytest.raises(wyrm.StaleError):
                node.backward(1.0)
            assert node.value.item() == pytest.approx(over_again(kind, value)), kind
            assert before is not x.value


def over_again(kind, value):
    """The same by another graph."""
    make, over, _, _ = KINDS[kind]
    x = make()
    node = over(x)
    x.set_value(value)
    return node.value.item()


def test_a_table_that_is_looked_up_later_binds_what_is_set(backend):
    for count, inside, outside in ((1, 2, 4), (2, [0, 2], [2, 4])):
        x, large = wyrm.IndexInputNode(count), table(9)
        node = large.index(x)
        x.set_value(inside)
        node.forward(backend=backend)
        for _ in range(3):
            x.set_value(outside)
        with pytest.raises(wyrm.OutOfRangeError):
            table(3).index(x)
        x.set_value(inside)
        x.set_value(inside)
        small = table(3).index(x)
        with pytest.raises(wyrm.OutOfRangeError):
            x.set_value(outside)
        x.set_value(inside)
        with pytest.raises(wyrm.OutOfRangeError):
            table(2).index(x)
        assert small.value.reshape(-1)[-1] == 3


def test_a_graph_that_grows(backend):
    """Cells are elsewhere then: what sets them goes along."""
    w, x, k = wyrm.ParameterNode(2.0), wyrm.InputNode((1, 1), 1.0), wyrm.IndexInputNode(1, 1)
    node = w * x * table().index(k)
    node.forward(backend=backend)
    for value in (3.0, 4.0):
        x.set_value(value)
        k.set_value(2)
    for n in range(200):
        other = node + float(n)
    x.set_value(5.0)
    node.forward()
    node.backward(1.0)
    assert node.value.item() == 30 and w.gradient.to_dense().item() == 15
    k.set_value(3)
    with pytest.raises(wyrm.StaleError):
        node.backward(1.0)
    assert other.value.item() == 239 and node.value.item() == 40


def test_a_graph_grows_alone(backend):
    w, x = wyrm.ParameterNode(2.0), wyrm.InputNode((1, 1), 1.0)
    node = w * x
    node.forward(backend=backend)
    words = node._graph.words
    owner, words[OPEN] = words[OPEN], 0  # as while another thread is in a pass
    with pytest.raises(wyrm.ThreadError):
        [node + float(n) for n in range(200)]
    words[OPEN] = owner
    assert node.value.item() == 2


def test_what_is_left_of_a_graph_sets_nothing():
    """Its cells may be another graph's by then."""
    pytest.importorskip("wyrm_c_simd")
    setters, passes = [], []
    for kind in KINDS:
        x, node = on_c_simd(kind)
        setters.append((x._setter, KINDS[kind][2]))
        passes.append((node._workspace.forward_at_once, node._workspace.backward_at_once, node._workspace.is_fresh))
    del x, node
    gc.collect()
    other = wyrm.InputNode((1, 1), 7.0)
    node = other * 1.0 + 1.0  # of another structure, so that it does not run where the first did
    node.forward(backend="c_simd")
    for setter, value in setters:
        assert setter(value) is False
    for forward, backward, is_fresh in passes:
        assert forward() == backward(1.0) == NOT_AT_ONCE and not is_fresh()
    assert (other.value.item(), node.value.item()) == (7, 8)


def test_only_the_owner_sets_at_once(backend):
    w, x = wyrm.ParameterNode(2.0), wyrm.InputNode((1, 1), 1.0)
    node = w * x
    node.forward(backend=backend)
    x.set_value(2.0)
    setter, found = x._setter, []
    if setter is not None:
        thread = threading.Thread(target=lambda: found.append(setter(9.0)))
        thread.start()
        thread.join()
        assert found == [False] and node.value.item() == 4
    words = node._graph.words
    owner, words[OPEN] = words[OPEN], 0
    if setter is not None:
        assert setter(9.0) is False
    with pytest.raises(wyrm.ThreadError):
        x.set_value(9.0)
    words[OPEN] = owner
    assert node.value.item() == 4


def test_a_weight_that_does_something(backend):
    w, x = wyrm.ParameterNode(2.0), wyrm.InputNode((1, 1), 1.0)
    node = w * x
    node.forward(backend=backend)
    x.set_value(3.0)
    node.forward()
    if backend == "c_simd":
        with pytest.raises(wyrm.StaleError):
            node.backward(Weight(lambda: x.set_value(5.0)))
        assert len(w.gradient.rows) == 0
    with pytest.raises(wyrm.DTypeError):
        node.backward("one")
    node.forward()
    node.backward(2)
    assert w.gradient.to_dense().item() == 2 * x.value.item()


def test_passes_at_once_are_those_of_python(backend):
    """Of native code and of Python, under all that words and dates may say."""
    w, x, other = wyrm.ParameterNode(2.0), wyrm.InputNode((1, 1), 1.0), wyrm.InputNode((1, 1), 1.0)
    node = w * x
    together = node + other
    node.forward(backend=backend)
    workspace, graph = node._workspace, node._graph
    native = workspace.forward_at_once, workspace.backward_at_once, workspace.is_fresh, workspace.value_at_once
    ways = at_once((workspace.forward, workspace.backward), workspace.memory, graph.leaves, workspace.binding.cells)
    python = *ways[:3], ways.copying(workspace._view(node._structure))
    name, words, opened = workspace.name, graph.words, graph.opened
    for open_word in (opened, 0):
        for ready in (name, 0, name + 8):
            for date in (0, 5, 10):
                for cell in (0, 4, 5, 9, UNKNOWN):
                    for change in (0, 5, 9):
                        outcomes = []
                        for forward, backward, is_fresh, value in (native, python):
                            words[OPEN], words[READY], workspace.date = open_word, ready, date
                            graph.dates[x._number], TIME[CHANGE] = cell, change
                            graph.dates[other._number] = UNKNOWN  # not of this program
                            w.zero_gradient()
                            before = TIME[NOW]
                            read = None if (copy := value()) is None else copy.tolist()
                            assert (read is None) == (ready != name or not is_fresh())
                            assert tuple(words[:2]) == (open_word, ready)
                            found = read, is_fresh(), backward(1.0), bool(w.gradient.to_dense().any()), forward()
                            outcomes.append((*found, TIME[NOW] - before, workspace.date in (date, TIME[NOW]), *words[:2]))
                        assert outcomes[0] == outcomes[1]
    TIME[CHANGE] = TIME[NOW]
    words[OPEN], words[READY] = opened, 0
    for n in (x, other):
        n.set_value(3.0)
    assert together.value.item() == 9


class Copied(np.ndarray):
    """An array that says what happens while it is copied."""

    def copy(self):
        return self.meanwhile()


@pytest.mark.parametrize("bring", [True, False], ids=["the backend's", "Python's"])
def test_nobody_is_let_in_while_a_value_is_copied(backend, bring):
    """Of large arrays that takes a while, without Python's lock."""
    x = wyrm.InputNode((1, 1), 2.0)
    node = wyrm.ParameterNode(3.0) * x
    node.forward(backend=backend)
    workspace, graph = node._workspace, node._graph
    python = at_once((workspace.forward, workspace.backward), workspace.memory, graph.leaves, workspace.binding.cells)
    ways = (workspace._pass.at_once(graph.leaves) or python) if bring else python
    array = np.zeros((1, 1)).view(Copied)
    read, before = ways.copying(array), tuple(graph.words[:2])
    refused = []

    def meanwhile():
        def others():
            for call in (node.forward, lambda: node.value, lambda: x.set_value(5.0), lambda: node.backward(1.0)):
                with pytest.raises(wyrm.ThreadError, match="another one is at work"):
                    call()
                refused.append(call)

        thread = threading.Thread(target=others)
        thread.start()
        thread.join()
        if len(refused) > 4:
            raise KeyboardInterrupt
        return 7

    array.meanwhile = meanwhile
    assert read() == 7 and len(refused) == 4
    with pytest.raises(KeyboardInterrupt):
        read()
    assert tuple(graph.words[:2]) == before and node.value.item() == 6


def test_a_value_that_is_fresh_is_read_without_a_look_at_passes(backend, monkeypatch):
    x = wyrm.InputNode((1, 1), 2.0)
    node = wyrm.ParameterNode(3.0) * x
    node.forward(backend=backend)
    first = node.value
    with monkeypatch.context() as patch:
        patch.setattr(wyrm.Node, "_value", None)
        second = node.value
        with pytest.raises(TypeError):
            x.set_value(5.0) or node.value
    first[...] = second[...] = 9.0  # copies
    assert node.value.item() == 15


def test_a_node_that_runs_between(backend):
    """A pass that failed elsewhere is not taken for the last one of a node that ran since."""
    x, k = wyrm.InputNode((1, 1), 2.0), wyrm.IndexInputNode(1, 1)
    y = wyrm.ParameterNode(3.0) * x
    z = y * table().index(k) * table(9).index(wyrm.IndexInputNode(1, 1))
    y.forward(backend=backend)
    z.forward()
    z._graph.indices[k._number] = 7  # what set_value would refuse
    y.forward()
    with pytest.raises(wyrm.OutOfRangeError):
        z.forward()
    x.set_value(5.0)
    y.forward()
    assert y.value.item() == 15


@pytest.mark.parametrize(
    "make", [lambda p: SGD(0.1, p), lambda p: SGD(0.1, p, momentum=0.9), lambda p: wyrm.optim.Adagrad(0.1, p)]
)
def test_steps_are_those_of_fit(backend, make):
    def model():
        u, r, t, w = wyrm.IndexInputNode(), wyrm.InputNode((1, 1)), table(), wyrm.ParameterNode(0.5)
        loss = (t.index(u) * w - r).square()
        return u, r, t, loss, make(loss.parameters())

    rows, numbers = [0, 3, 3, 1, 4, 0, 2, 3], [1.0, 0.5, 2.0, -1.0, 0.0, 3.0, 1.5, 0.25]
    u, r, driven, loss, optimizer = model()
    for row, number in zip(rows, numbers, strict=True):
        u.set_value(row)
        r.set_value(number)
        loss.forward(backend=None if "_workspace" in dir(loss) and hasattr(loss, "_workspace") else backend)
        loss.backward(1.0)
        optimizer.step()
    u, r, fitted, loss, optimizer = model()
    wyrm.fit(loss, {u: rows, r: np.array(numbers)}, optimizer, shuffle=False, num_threads=1, backend=backend)
    np.testing.assert_allclose(driven.value, fitted.value, rtol=1e-5)


@pytest.mark.parametrize("columns", [32, 500, 501, 3000])
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_arrays_are_set_at_once(backend, dtype, columns):
    """By their owner, while nobody is at work, unless somebody else has the array; of any dtype of real numbers."""
    x, w = wyrm.InputNode((1, columns), dtype=dtype), wyrm.ParameterNode(np.ones((columns, 1)), dtype=dtype)
    node, value = x.dot(w), np.arange(columns, dtype=dtype)[None]
    x.set_value(value)
    node.forward(backend=backend)
    x.set_value(value)
    for kind in ("float32", "float64", "int64", "int32", "uint8", "bool", ">f8", ">i2"):
        given = (value % 2 + 1).astype(kind)
        assert x._setter(given)
        assert x._graph.words[OPEN]
        with pytest.raises(wyrm.StaleError):
            node.backward(1.0)
        assert node.value.item() == given.astype(dtype).sum()
        assert x._setter(value + 1)
        assert node.value.item() == (value + 1).sum()
    for other in (value.astype("float16"), value.astype(complex), value.astype(object), value[0], value.T, value.tolist()):
        assert not x._setter(other)
    assert not x._setter(np.ma.masked_array(value, value > 3))
    taken = []
    thread = threading.Thread(target=lambda: taken.append(x._setter(value)))
    thread.start()
    thread.join()
    opened = x._graph.words[OPEN]
    x._graph.words[OPEN] = 0  # somebody is at work
    taken.append(x._setter(value))
    x._graph.words[OPEN] = opened
    x._array.flags.writeable = False  # it is shared
    taken.append(x._setter(value))
    assert taken == [False] * 3
    assert x._graph.words[OPEN] == opened
    assert node.value.item() == (value + 1).sum()
    x.set_value(value)
    assert node.value.item() == value.sum()


@pytest.mark.parametrize("columns", [2, 3000])
def test_a_conversion_that_is_refused_changes_nothing(backend, columns):
    """NumPy can be told to raise where a number overflows, and Python where something warns."""
    x, w = wyrm.InputNode((1, columns)), wyrm.ParameterNode(np.ones((columns, 1)))
    node, value = x.dot(w), np.ones((1, columns))
    too_large = np.where(np.arange(columns) == 1, 1e300, 5.0)[None]
    for first in (True, False):
        x.set_value(value)
        node.forward(backend=backend)
        with pytest.raises(FloatingPointError), np.errstate(over="raise"):
            x.set_value(too_large)
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            with pytest.raises(RuntimeWarning):
                x.set_value(too_large)
        assert node.value.item() == columns, first
        node.backward(1.0)
        node.forward(backend=backend)  # reads the array anew
        assert node.value.item() == columns, first
        x.set_value(2 * value)
        assert node.value.item() == 2 * columns
