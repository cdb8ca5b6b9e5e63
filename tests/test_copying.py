"""Copies: what of a model can be copied, pickled and taken along by a fork, and what says why not."""

import copy
import mmap
import pickle
import subprocess
import sys
import textwrap

import numpy as np
import pytest

import wyrm
from wyrm.memory import ALIGNMENT, address
from wyrm.optim import SGD, Adagrad, Adam

PROTOCOLS = range(pickle.HIGHEST_PROTOCOL + 1)
COPIES = {"deepcopy": copy.deepcopy, **{f"pickle {p}": lambda x, p=p: pickle.loads(pickle.dumps(x, p)) for p in PROTOCOLS}}
each_way = pytest.mark.parametrize("copied", COPIES.values(), ids=COPIES)


def factorization(users, items):
    """Three nodes: the indices and the loss."""
    u, i = wyrm.IndexInputNode(), wyrm.IndexInputNode()
    return u, i, (users.index(u).vector_dot(items.index(i)) - 1.0).square()


def train(nodes, optimizer, steps):
    """Rows are left behind: each step touches one of several."""
    u, i, loss = factorization(*nodes)
    for step in range(steps):
        u.set_value(step % 3)
        i.set_value(step % 2)
        loss.forward()
        loss.backward(1.0)
        optimizer.step()


def tables(rng, **options):
    return [wyrm.ParameterNode(rng.normal(size=(4, 3)), name=name, **options) for name in ("users", "items")]


@each_way
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_a_parameter(copied, dtype, rng):
    value = rng.normal(size=(5, 3)).astype(dtype)
    old = wyrm.ParameterNode(value, name="w", dtype=dtype, trainable=False)
    new = copied(old)
    assert type(new) is wyrm.ParameterNode
    assert (new.name, new.dtype, new.trainable, new.needs_gradient) == ("w", dtype, False, False)
    np.testing.assert_array_equal(new.value, value)
    new.set_value(np.zeros((5, 3)))
    np.testing.assert_array_equal(old.value, value)
    assert address(new.storage.value) % ALIGNMENT == 0
    assert copied(wyrm.ParameterNode(1.0)).trainable


OPTIMIZERS = {
    "momentum and decay": lambda nodes: SGD(0.1, nodes, momentum=0.9, weight_decay=0.01),
    "adagrad": lambda nodes: Adagrad(0.1, nodes),
    "adam": lambda nodes: Adam(0.1, nodes, weight_decay=0.1),
}


@each_way
@pytest.mark.parametrize("make", OPTIMIZERS.values(), ids=OPTIMIZERS)
def test_training_goes_on_from_a_copy(copied, make, rng, backend):
    """Rows that are behind are caught up with; what optimizers keep comes along."""
    old = tables(rng)
    optimizer = make(old)
    train(old, optimizer, 4)
    new = copied(old)
    for a, b in zip(old, new, strict=True):
        np.testing.assert_array_equal(a.value, b.value)
    again = make(new)
    for key, state in optimizer.state_dict().items():
        if key != "steps":  # the optimizer's own, not the parameters'
            np.testing.assert_array_equal(again.state_dict()[key], state)
    again.load_state_dict(optimizer.state_dict())
    before = new[0].value.copy()
    train(old, optimizer, 7)
    np.testing.assert_array_equal(new[0].value, before)
    train(new, again, 7)
    for a, b in zip(old, new, strict=True):
        np.testing.assert_allclose(a.value, b.value, rtol=1e-6, atol=1e-7)
    assert abs(new[0].value - before).max() > 0.01


@each_way
def test_the_storage(copied, rng):
    value = rng.normal(size=(4, 2)).astype(np.float32)
    storage = wyrm.HogwildParameter(value)
    storage.state(SGD(0.1, [wyrm.ParameterNode.shared(storage)], momentum=0.9).groups[0].rule)
    for kept in storage._states.values():
        kept[...] = 7.0
    new = copied(storage)
    np.testing.assert_array_equal(new.value, value)
    assert list(new._states) == list(storage._states) != []
    for name, kept in new._states.items():
        assert (kept == 7.0).all()
        assert kept is not storage._states[name]
        assert address(kept) % ALIGNMENT == 0
    assert copy.copy(storage).value is not storage.value  # there are no two storages over the same memory


@each_way
def test_what_is_shared_stays_shared(copied):
    storage = wyrm.HogwildParameter(np.zeros((2, 2)))
    a, b, kept = copied([wyrm.ParameterNode.shared(storage), wyrm.ParameterNode.shared(storage), storage])
    assert a is not b
    assert a.storage is b.storage is kept is not storage
    a.set_value(np.ones((2, 2)))
    assert b.value.sum() == 4
    assert storage.value.sum() == 0
    same, again = copied([a, a])
    assert same is again


@each_way
def test_gradients_that_wait_are_not_copied(copied, backend):
    w = wyrm.ParameterNode(np.ones((2, 2)))
    w.square().scalar_sum().backward(1.0)
    new = copied(w)
    assert not new.gradient.to_dense().any()
    assert w.gradient.to_dense().all()
    new.square().scalar_sum().backward(3.0)
    np.testing.assert_array_equal(new.gradient.to_dense(), np.full((2, 2), 6.0))


def test_copy_is_a_node_over_the_same_storage():
    w = wyrm.ParameterNode(np.ones((2, 2)), name="w", trainable=False)
    new = copy.copy(w)
    assert new is not w
    assert new.storage is w.storage
    assert (new.name, new.trainable) == ("w", False)
    assert new._structure is not w._structure


@each_way
def test_adopted_memory_is_copied_by_value(copied):
    memory = np.frombuffer(mmap.mmap(-1, 64), np.float32).reshape(4, 4)
    w = wyrm.ParameterNode(memory, copy=False)
    w.set_value(np.ones((4, 4)))
    new = copied(w)
    memory[...] = 2.0
    assert (new.value == 1).all()
    new.set_value(np.zeros((4, 4)))
    assert (memory == 2).all()


@each_way
def test_a_memory_mapped_file_is_copied_by_value(copied, tmp_path):
    memory = np.memmap(tmp_path / "table", np.float32, "w+", shape=(4, 4))
    old = wyrm.ParameterNode(memory, copy=False)
    new = copied(old)
    assert b"memmap" not in pickle.dumps(old)
    assert type(new.storage.value) is np.ndarray
    assert new.shape == (4, 4)


COPYING = {"copy": copy.copy, "deepcopy": copy.deepcopy, "pickle": pickle.dumps, "old pickle": lambda x: pickle.dumps(x, 0)}


@pytest.mark.parametrize("copying", COPYING.values(), ids=COPYING)
def test_other_nodes_say_what_to_do(copying):
    x = wyrm.InputNode((1, 2), [[1.0, 2.0]], name="x")
    result = x + 1.0
    dropped = x.dropout(0.5)
    constant, key = result._parents[1], dropped._parents[1]._parents[0]
    nodes = {
        "InputNode 'x'": x,
        "IndexInputNode": wyrm.IndexInputNode(),
        "BagInputNode": wyrm.BagInputNode(),
        "constant": constant,
        "random key": key,
        "add": result,
    }
    for label, node in nodes.items():
        with pytest.raises(
            TypeError, match=rf"^{label}.* neither copied nor pickled.* parameters .*function that built"
        ) as info:
            copying(node)
        assert isinstance(info.value, wyrm.WyrmError)


@pytest.mark.parametrize("copying", COPYING.values(), ids=COPYING)
@pytest.mark.parametrize("make", OPTIMIZERS.values(), ids=OPTIMIZERS)
def test_optimizers_point_to_their_state(copying, make, rng):
    with pytest.raises(TypeError, match=r"^(SGD|Adagrad|Adam) .*state_dict\(\).*load_state_dict\(\)") as info:
        copying(make(tables(rng)))
    assert isinstance(info.value, wyrm.WyrmError)


NEWER = [way for name, way in COPIES.items() if name not in ("pickle 0", "pickle 1")]


@pytest.mark.parametrize("copied", NEWER)
def test_data_is_copied(copied):
    bags = copied(wyrm.Bags([3, 1, 4], [0, 2, 3], [0.5, 1.0, 2.0]))
    assert bags.to_lists() == [[3, 1], [4]]
    assert bags.weights.tolist() == [0.5, 1, 2]
    dense = copied(wyrm.DenseGradient(np.ones((2, 3))))
    assert dense.shape == (2, 3)
    assert (dense.values == 1).all()
    rows = copied(wyrm.RowSparseGradient(np.array([0, 2]), np.ones((2, 2)), (4, 2)))
    assert rows.shape == (4, 2)
    assert rows.to_dense()[:, 0].tolist() == [1, 0, 1, 0]


def test_parameters_go_to_another_process(rng):
    """As by multiprocessing's spawn: nothing there but the bytes."""
    nodes = tables(rng)
    train(nodes, SGD(0.1, nodes, momentum=0.9), 4)
    code = """
        import pickle, sys
        users, items = pickle.load(sys.stdin.buffer)
        import wyrm
        loss = users.dot(items.t()).square().scalar_sum()
        loss.backward(1.0)
        pickle.dump((users, users.gradient), sys.stdout.buffer)
    """
    arguments = [sys.executable, "-W", "ignore", "-c", textwrap.dedent(code)]
    process = subprocess.run(arguments, input=pickle.dumps(nodes), stdout=subprocess.PIPE, check=True)
    users, gradient = pickle.loads(process.stdout)
    np.testing.assert_array_equal(users.value, nodes[0].value)
    expected = 2 * nodes[0].value @ nodes[1].value.T @ nodes[1].value
    np.testing.assert_allclose(gradient.to_dense(), expected, rtol=1e-4, atol=1e-5)


#: What a forked child does, and what its parent sees of it. In a process of its own: a fork and other threads get on badly.
FORK = """
    import mmap, multiprocessing, sys
    import numpy as np, wyrm

    wyrm.use_backend(sys.argv[1])

    def model(memory=None):
        w = wyrm.ParameterNode(np.zeros((8, 4)), name="w") if memory is None else wyrm.ParameterNode(memory, copy=False)
        v = wyrm.ParameterNode(np.ones((4, 1)), name="v")
        i, y = wyrm.IndexInputNode(name="i"), wyrm.InputNode((1, 1), name="y")
        return w, v, i, y, (w.index(i).dot(v) - y).square()

    def steps(w, v, i, y, loss, optimizer, count):
        for step in range(count):
            i.set_value(step % 8)
            y.set_value(1.0 + step % 3)
            loss.forward()
            loss.backward(1.0)
            optimizer.step()

    def fitted(w, v, i, y, loss, optimizer, threads):
        rows = np.arange(4000) % 8
        wyrm.fit(loss, {i: rows, y: 1.0 + rows / 4}, optimizer, num_epochs=2, num_threads=threads)

    def expected(count):
        # the same in NumPy
        w, v = np.zeros((8, 4)), np.ones((4, 1))
        for step in range(count):
            row = w[step % 8 : step % 8 + 1].copy()
            g = 2 * (row @ v - (1.0 + step % 3))
            w[step % 8] -= 0.05 * (g @ v.T)[0]
            v -= 0.05 * (row.T @ g)
        return w

    def in_child(work):
        def run(pipe):
            try:
                pipe.send(work())
            except BaseException as error:
                pipe.send(repr(error))
        here, there = context.Pipe()
        process = context.Process(target=run, args=(there,))
        process.start()
        assert here.poll(300), "the child hangs"
        result = here.recv()
        process.join(300)
        assert process.exitcode == 0
        assert not isinstance(result, str), result
        return result

    context = multiprocessing.get_context("fork")
    shared = np.frombuffer(mmap.mmap(-1, 8 * 4 * 4), np.float32).reshape(8, 4)
    own, adopted, warm = model(), model(shared), model()
    optimizers = [wyrm.optim.SGD(0.05, [m[0], m[1]]) for m in (own, adopted, warm)]
    steps(*own, optimizers[0], 20)
    steps(*adopted, optimizers[1], 20)
    fitted(*warm, optimizers[2], 2)  # threads have been there
    before, before_shared = own[0].value.copy(), shared.copy()
    np.testing.assert_allclose(before, expected(20), rtol=1e-3, atol=1e-4)

    def driven():
        own[0].set_value(np.zeros((8, 4)))
        own[1].set_value(np.ones((4, 1)))
        steps(*own, optimizers[0], 40)
        return own[0].value

    np.testing.assert_allclose(in_child(driven), expected(40), rtol=1e-3, atol=1e-4)

    def from_nothing():  # what has not been compiled yet
        again = model()
        steps(*again, wyrm.optim.SGD(0.05, [again[0], again[1]]), 30)
        x = wyrm.InputNode((2, 2), [[1.0, 2.0], [3.0, 4.0]])
        return again[0].value, (x.tanh() / 3.0).value

    value, other = in_child(from_nothing)
    np.testing.assert_allclose(value, expected(30), rtol=1e-3, atol=1e-4)
    np.testing.assert_allclose(other, np.tanh([[1.0, 2.0], [3.0, 4.0]]) / 3, rtol=1e-4)

    for threads in (1, 2):
        def trained():
            fitted(*own, optimizers[0], threads)
            return own[0].value @ own[1].value
        found = in_child(trained)
        np.testing.assert_allclose(found[:, 0], 1 + np.arange(8) / 4, atol=0.01)
    np.testing.assert_array_equal(own[0].value, before)

    in_child(lambda: steps(*adopted, optimizers[1], 20) or True)
    assert abs(shared - before_shared).max() > 0.01
    np.testing.assert_array_equal(adopted[0].value, shared)
    print("all is well")
"""


@pytest.mark.skipif(sys.platform != "linux", reason="forks are for Linux")
def test_a_fork_goes_on(backend):
    arguments = [sys.executable, "-W", "ignore::DeprecationWarning", "-c", textwrap.dedent(FORK), backend]
    process = subprocess.run(arguments, capture_output=True, text=True, timeout=300, check=False)
    assert process.stdout == "all is well\n", process.stderr
