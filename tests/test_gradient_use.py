"""A parameter's gradient is worked on by one thread at a time: others are refused, and nothing is lost or written elsewhere."""

import threading
from contextlib import contextmanager, suppress

import numpy as np
import pytest

import wyrm
from wyrm.gradient_use import IN_USE, guarded
from wyrm.memory import GradientBuffer, address, aligned
from wyrm.optim import SGD

#: Of programs that keep Python's lock, and of those that leave it.
SIZES = {"short": 1, "long": 3000}


def lookup(table, rows, count=10):
    """A loss that adds 1 to the gradient of so many rows, and the input that says which."""
    x = wyrm.IndexInputNode(rows, np.arange(rows) % count)
    return table.index(x).scalar_sum(), x


def touch(table):
    """The same for the whole matrix."""
    return (table * 1.0).scalar_sum(), None


@contextmanager
def used(node):
    """As if another thread were in the middle of a pass."""
    node._gradient_buffer().busy[0] = 1
    try:
        yield
    finally:
        node._gradient_buffer().busy[0] = 0


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("make", [lambda t, n: lookup(t, n), lambda t, n: touch(t)], ids=["rows", "matrix"])
def test_what_another_thread_works_on_is_left_alone(backend, make, size):
    table = wyrm.ParameterNode(np.zeros((10 * SIZES[size], 8)), name="table")
    loss, _ = make(table, SIZES[size])
    optimizer = SGD(1.0, [table])
    loss.forward(backend=backend)
    loss.backward(1.0)
    optimizer.step()
    loss.backward(1.0)
    before, value = table.gradient.to_dense(), table.value.copy()
    calls = {
        "backward": lambda: loss.backward(1.0),
        "step": optimizer.step,
        "gradient": lambda: table.gradient,
        "set": lambda: table.set_gradient(np.ones(table.shape)),
        "zero": table.zero_gradient,
        "optimizer's": optimizer.zero_gradient,
        "loss's": loss.zero_gradient,
        "own backward": lambda: table.backward(1.0),
        "new rows": lambda: lookup(table, 7)[0].backward(1.0),
    }
    with used(table):
        for call in calls.values():
            with pytest.raises(wyrm.ThreadError, match="at work on its gradient.*ParameterNode.shared"):
                call()
    assert (table.gradient.to_dense() == before).all() and (table.value == value).all()
    for call in calls.values():
        call()
    with used(table):
        loss.forward()  # reads no gradient


def test_a_list_of_rows_is_not_moved_under_a_pass(backend):
    """Neither by a graph that is about to need more, nor by one that finds none."""
    table = wyrm.ParameterNode(np.zeros((10, 2)))
    loss, _ = lookup(table, 4)
    loss.forward(backend=backend)
    place = table._gradient.row_numbers
    more = lookup(table, 100)[0]
    with used(table), pytest.raises(wyrm.ThreadError, match="at work"):
        more.forward(backend=backend)
    full = table._gradient.capacity // 4
    for _ in range(full):
        loss.backward(1.0)
    with used(table), pytest.raises(wyrm.ThreadError, match="at work"):
        loss.backward(1.0)
    assert table._gradient.row_numbers is place
    more.forward(backend=backend)
    more.backward(1.0)
    assert table.gradient.to_dense().sum() == 2 * (4 * full + 100)


def test_the_first_gradient_is_one_whoever_asks_meanwhile(monkeypatch):
    node, met = wyrm.ParameterNode(np.zeros((2, 2))), []

    def meet(make, ask):
        def made(*arguments):
            result = make(*arguments)
            if not met:
                met.append(None)
                met[0] = ask()
            return result

        return made

    monkeypatch.setattr("wyrm.frontend.parameters.GradientBuffer", meet(GradientBuffer, lambda: node._gradient_buffer()))
    gradient = node._gradient_buffer()
    assert met == [gradient]
    met.clear()
    monkeypatch.setattr("wyrm.memory.aligned", meet(aligned, gradient.require_dense))
    assert gradient.require_dense() is met[0] and gradient.header[1] == address(met[0])


def test_what_guards_a_pass():
    gradients = [GradientBuffer((1, 1), "float32") for _ in range(3)]
    seen = []

    def run(*weight):
        seen.append((weight, [gradient.busy[0] for gradient in gradients]))
        return again(*weight) if len(seen) == 1 else len(seen)

    again = call = guarded(run, gradients)
    assert call(2.0) == IN_USE and seen == [((2.0,), [1, 1, 1])]
    assert call() == 2 and [gradient.busy[0] for gradient in gradients] == [0, 0, 0]
    gradients[1].busy[0] = 1
    assert call() == IN_USE and [gradient.busy[0] for gradient in gradients] == [0, 1, 0] and len(seen) == 2
    gradients[1].busy[0] = 0
    with pytest.raises(ZeroDivisionError):
        guarded(lambda: 1 // 0, gradients)()
    assert [gradient.busy[0] for gradient in gradients] == [0, 0, 0]
    assert guarded(run, []) is run


@pytest.mark.parametrize("part", ["backward", "step"])
def test_a_pass_that_leaves_the_lock_says_that_it_works(backend, part):
    """Seen by a thread that looks again and again, until it has met one."""
    rows = 20_000 if backend != "reference" else 200
    table = wyrm.ParameterNode(np.zeros((10, 64)), name="table")
    loss, _ = lookup(table, rows)
    optimizer = SGD(1.0, [table])
    loss.forward(backend=backend)
    loss.backward(1.0)
    optimizer.step()
    stop, errors = threading.Event(), []

    def work():
        for _ in range(1000):
            if stop.is_set():
                return
            try:
                loss.backward(1.0)
                if part == "step" or table._gradient.count > 10 * rows:
                    optimizer.step()
            except wyrm.ThreadError:
                pass
            except Exception as error:
                errors.append(error)
                return
        errors.append("no pass was seen")

    worker = threading.Thread(target=work)
    worker.start()
    try:
        while not errors:
            if table._gradient.busy[0]:
                break
    finally:
        stop.set()
        worker.join()
    assert not errors
    table.zero_gradient()
    loss.backward(1.0)
    assert table.gradient.to_dense().sum() == 64 * rows


@pytest.mark.parametrize("kind", ["rows", "bags", "matrix"])
def test_gradients_of_many_threads_add_up_or_are_refused(backend, kind):
    """Each thread has a graph of its own over one node; lists of rows grow, and are read and merged meanwhile."""
    table = wyrm.ParameterNode(np.zeros((50, 32)), name="table")
    made, errors = [0.0], []
    lock = threading.Lock()

    def graph(seed):
        if kind == "matrix":
            return touch(table)[0], lambda n: 50.0
        if kind == "rows":
            rows = 400 * (seed + 1)
            return lookup(table, rows, 50)[0], lambda n: rows
        x = wyrm.BagInputNode(3)

        def fill(n):
            lists = [list(range(50)) * (1 + (n + seed) % 9), [1, 2], []]
            x.set_value(lists)
            return sum(map(len, lists))

        fill(0)
        return table.index_sum(x).scalar_sum(), fill

    def work(seed):
        try:
            loss, fill = graph(seed)
            for n in range(15):
                count = fill(n)
                loss.forward(backend=backend)
                try:
                    loss.backward(1.0)
                except wyrm.ThreadError:
                    continue
                with lock:
                    made[0] += count
        except wyrm.ThreadError:  # the first pass made room for rows
            pass
        except Exception as error:
            errors.append(error)

    workers = [threading.Thread(target=work, args=(n,)) for n in range(3)]
    for worker in workers:
        worker.start()
    while any(worker.is_alive() for worker in workers):
        with suppress(wyrm.ThreadError):
            assert table.gradient.to_dense().shape == (50, 32)
    for worker in workers:
        worker.join()
    assert not errors
    assert table.gradient.to_dense().sum() == 32 * made[0]
