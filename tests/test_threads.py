"""Graphs and threads: one after the other, but not at once; what cannot be right is refused."""

import itertools
import threading
from concurrent.futures import ThreadPoolExecutor
from functools import partial

import numpy as np
import pytest

import wyrm
from wyrm.frontend import threads
from wyrm.optim import SGD
from wyrm.turns import NOT_AT_ONCE, OPEN, READY, at_once


def elsewhere(call, *arguments):
    """What a call returns on a thread that is alive as long as the test needs it."""
    return POOL.submit(call, *arguments).result(60)


@pytest.fixture(autouse=True)
def pool():
    global POOL
    with ThreadPoolExecutor(1) as POOL:
        yield


def product():
    w, x, y = wyrm.ParameterNode(3.0), wyrm.InputNode((1, 1), 2.0, name="x"), wyrm.InputNode((1, 1), 1.0, name="y")
    return w, x, y, w * x * y


KINDS = {
    "numbers": lambda: (wyrm.InputNode((1, 1)), lambda x: x * 1.0, [2.0, 3.0]),
    "matrices": lambda: (wyrm.InputNode((1, 50)), lambda x: x.sum() / 50.0, [np.full((1, 50), 2.0), np.full((1, 50), 3.0)]),
    "indices": lambda: (wyrm.IndexInputNode(), table().index, [2, 3]),
    "several indices": lambda: (wyrm.IndexInputNode(2), lambda x: table().index(x).mean(), [[2, 2], [3, 3]]),
    "bags": lambda: (wyrm.BagInputNode(), table().index_sum, [[1, 1], [3]]),
}


def table():
    return wyrm.ParameterNode(np.arange(5.0).reshape(5, 1))


@pytest.mark.parametrize("kind", KINDS)
def test_two_threads_in_turn_get_their_own_numbers_or_an_error(backend, kind):
    """All ways in which the calls of two threads that set, run and read may come one between the other."""
    steps = ("set", "forward", "value")
    for places in itertools.combinations(range(6), 3):
        x, over, values = KINDS[kind]()
        node = over(x)
        x.set_value(values[0])
        node.forward(backend=backend)  # the graph has been used before
        left, failed = [list(steps), list(steps)], [False, False]
        for place in range(6):
            who = 0 if place in places else 1
            step = left[who].pop(0)
            calls = {
                "set": partial(x.set_value, values[who]),
                "forward": node.forward,
                "value": partial(getattr, node, "value"),
            }
            try:
                found = calls[step]() if who == 0 else elsewhere(calls[step])
            except wyrm.ThreadError:
                failed[who] = True
            else:
                assert step != "value" or failed[who] or found.item() == (2, 3)[who]
        in_turn = places in ((0, 1, 2), (3, 4, 5))
        assert failed == [False, False] if in_turn else any(failed)


def test_the_gradient_of_another_threads_pass_is_refused(backend):
    w, x, _, loss = product()
    x.set_value(2.0)
    loss.forward(backend=backend)

    def other():
        x.set_value(5.0)
        loss.forward()

    elsewhere(other)
    for call in (lambda: loss.backward(1.0), loss.forward, lambda: loss.value):
        with pytest.raises(wyrm.ThreadError, match="another one has set InputNode 'x' since.*graph of its own.*shared"):
            call()
    assert len(w.gradient.rows) == 0
    x.set_value(4.0)
    assert loss.value.item() == 12


def test_each_input_counts():
    """What is half of one thread and half of the other is refused to both."""
    _, x, y, loss = product()
    loss.forward()
    x.set_value(2.0)
    elsewhere(x.set_value, 5.0)
    elsewhere(y.set_value, 7.0)
    y.set_value(3.0)
    with pytest.raises(wyrm.ThreadError):
        loss.forward()
    with pytest.raises(wyrm.ThreadError):
        elsewhere(loss.forward)
    x.set_value(2.0)
    assert loss.value.item() == 18


def test_what_is_refused_is_not_taken_for_set():
    _, x, _, loss = product()
    x.set_value(4.0)
    with pytest.raises(wyrm.ShapeError):
        elsewhere(x.set_value, [[1.0, 2.0]])
    assert loss.value.item() == 12


def test_graphs_are_handed_over(backend):
    """To a thread that ends, and to those of a pool, which take turns."""
    w, x, y, loss = product()
    optimizer = SGD(0.01, [w])

    def train(value):
        x.set_value(value)
        y.set_value(1.0)
        loss.forward(backend=backend)
        loss.backward(1.0)
        optimizer.step()
        return loss.value.item()

    first = train(1.0)
    thread = threading.Thread(target=train, args=(2.0,))
    thread.start()
    thread.join()
    assert loss.value.item() == pytest.approx(2 * 2.99)  # of the thread that has ended
    with ThreadPoolExecutor(3) as pool:
        for n in range(6):
            assert pool.submit(train, 1.0).result() == pytest.approx(2.97 - 0.01 * n, abs=1e-5)
    x.set_value(2.0)
    elsewhere(loss.forward)  # what one has set another one runs
    assert loss.value.item() == pytest.approx(2 * w.value.item())
    assert first == 3


def test_nothing_is_set_while_a_pass_is_at_work(backend, monkeypatch):
    _, x, _, loss = product()
    loss.forward(backend=backend)
    workspace = loss._workspace
    errors = []
    forward, backward = workspace.forward, workspace.backward

    def slow():
        for call in (lambda: x.set_value(9.0), loss.forward, lambda: loss.value, lambda: loss.backward(1.0)):
            with pytest.raises(wyrm.ThreadError, match="another one is at work") as caught:
                elsewhere(call)
            errors.append(caught.value)
        return forward()

    workspace.forward, native = slow, workspace.forward_at_once
    for way in (lambda: NOT_AT_ONCE, slow_at_once(slow, backward, loss)):
        errors.clear()
        workspace.forward_at_once = way
        loss.forward()
        assert loss.value.item() == 6 and len(errors) == 4
    workspace.forward_at_once = native
    x.set_value(3.0)
    assert loss.value.item() == 9


def slow_at_once(forward, backward, node):
    """A pass as Python begins it at once, which is what native code does while it leaves Python's lock."""
    workspace = node._workspace
    return at_once((forward, backward), workspace.memory, node._graph.leaves, workspace.binding.cells).forward


def test_nothing_runs_while_bags_are_set(monkeypatch):
    bag, weights = wyrm.BagInputNode(), table()
    loss = weights.index_sum(bag)
    bag.set_value([1])
    loss.forward()
    taken = type(bag)._take
    seen = []

    def slow(node, value):
        result = taken(node, value)
        with pytest.raises(wyrm.ThreadError):
            elsewhere(loss.forward)
        seen.append(value)
        return result

    monkeypatch.setattr(type(bag), "_take", slow)
    bag.set_value(np.array([4, 4]))
    assert loss.value.item() == 8 and seen[0].tolist() == [4, 4]


def test_a_graph_is_free_after_errors_and_interruptions():
    _, x, _, loss = product()
    loss.forward()
    workspace = loss._workspace

    def interrupted():
        raise KeyboardInterrupt

    forward, native = workspace.forward, workspace.forward_at_once
    for way in (lambda: NOT_AT_ONCE, slow_at_once(interrupted, workspace.backward, loss)):
        workspace.forward, workspace.forward_at_once = interrupted, way
        with pytest.raises(KeyboardInterrupt):
            loss.forward()
        workspace.forward, workspace.forward_at_once = forward, native
        with pytest.raises(wyrm.StaleError, match="failed"):  # half of it may have been computed
            loss.backward(1.0)
        loss.forward()
    with pytest.raises(wyrm.DTypeError):
        loss.backward("one")
    loss._graph.use = threads.CURRENT.thread  # as if interrupted between two lines
    loss._graph.words[OPEN] = loss._graph.words[READY] = 0
    x.set_value(3.0)
    assert loss.value.item() == 9 and loss._graph.use is None


def test_many_threads_at_once(backend):
    """Each result is right, or refused."""
    rng = np.random.default_rng(0)
    rows, bag = wyrm.ParameterNode(np.ones((1000, 16))), wyrm.BagInputNode(4)
    total = rows.index_sum(bag).sum()
    bags = [wyrm.Bags.from_lists([rng.integers(0, 1000, rng.integers(0, 500)) for _ in range(4)]) for _ in range(20)]
    wrong, right = [], []

    def work(seed):
        for n in range(60):
            try:
                bag.set_value(bags[(n + seed) % 20])
                total.forward(backend=backend)
                if total.value[0, 0] == 16 * len(bags[(n + seed) % 20].values):
                    right.append(n)
                else:
                    wrong.append("silently wrong")
            except wyrm.ThreadError:
                pass
            except wyrm.WyrmError as error:
                wrong.append(str(error))

    workers = [threading.Thread(target=work, args=(n,)) for n in range(4)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    assert not wrong
    bag.set_value([[1], [], [2, 3], []])
    assert total.value.item() == 48


def test_threads_are_told_apart():
    """Also from those that have ended, whose numbers others may have."""
    mine, word = threads.CURRENT.thread, threads.CURRENT.kept.word
    assert mine() is not None and word[0] == threading.get_ident() != elsewhere(lambda: threads.CURRENT.kept.word[0])
    found = []
    thread = threading.Thread(target=lambda: found.extend([threads.CURRENT.thread, threads.CURRENT.kept.word]))
    thread.start()
    thread.join()
    assert found[0]() is None and found[1][0] == 0 and elsewhere(lambda: threads.CURRENT.thread) is not mine


def test_one_optimizer_in_two_threads():
    w, x, _, _ = product()
    loss = (w * x - 1.0).square()
    optimizer, other = SGD(0.01, [w]), SGD(0.01, [wyrm.ParameterNode(1.0)])
    feed = {x: np.ones(3)}
    refused = []

    def meanwhile(epoch):
        for call in (
            optimizer.step,
            partial(wyrm.fit, loss, feed, optimizer),
            partial(wyrm.fit, loss, feed, [other, optimizer]),
        ):
            with pytest.raises(wyrm.ThreadError, match="another thread trains by this SGD"):
                elsewhere(call)
            refused.append(call)
        optimizer.step()  # a callback may
        wyrm.fit(loss, feed, optimizer, num_threads=1)
        with pytest.raises(wyrm.ThreadError):
            elsewhere(optimizer.step)
        elsewhere(other.step)

    wyrm.fit(loss, feed, optimizer, num_epochs=2, callbacks=[meanwhile], num_threads=1)
    assert len(refused) == 6 and optimizer._runs == other._runs == []
    elsewhere(optimizer.step)
    with pytest.raises(ZeroDivisionError):
        wyrm.fit(loss, feed, optimizer, callbacks=[lambda epoch: 1 / 0], num_threads=1)
    elsewhere(optimizer.step)


def test_an_input_that_only_another_thread_has_set_is_nobodys_loss():
    """The thread that made the graph has not set it, so it misses nothing."""
    w, x = wyrm.ParameterNode(3.0), wyrm.InputNode((1, 1))
    node = w * x
    elsewhere(x.set_value, 2.0)
    node.forward()
    assert node.value == 6


def test_a_parameter_that_another_thread_sets_makes_no_gradient_stale():
    w, _, _, node = product()
    node.forward()
    elsewhere(w.set_value, 5.0)
    node.backward(1.0)
    assert w.gradient.to_dense() == 2
    node.forward()
    w.set_value(4.0)
    with pytest.raises(wyrm.StaleError, match="ParameterNode"):
        node.backward(1.0)
