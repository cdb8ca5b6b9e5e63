"""Schedules: the same bits where they are promised, every example once, refusals with their reasons, interruption."""

import time
from functools import partial

import numpy as np
import pytest
from conftest import is_native
from interrupt_training import BAR, interrupt, kinds

import wyrm
from wyrm.optim import SGD, Adagrad
from wyrm.training.conflict_free import BLOCKS, ConflictFree, deal

pytestmark = pytest.mark.filterwarnings("ignore:.*get in each other's way:RuntimeWarning")


def factorization(dtype="float32", users=30, items=40):
    rng = np.random.default_rng(5)
    tables = [wyrm.ParameterNode(0.3 * rng.standard_normal((n, 8)), dtype=dtype) for n in (users, items)]
    biases = [wyrm.ParameterNode(np.zeros((n, 1)), dtype=dtype) for n in (users, items)]
    user, item = wyrm.IndexInputNode(), wyrm.IndexInputNode()
    rating = wyrm.InputNode((1, 1), dtype=dtype)
    score = tables[0].index(user).vector_dot(tables[1].index(item)) + biases[0].index(user) + biases[1].index(item)
    return [user, item, rating], [*tables, *biases], (score - rating).square()


def data(n, seed=1, users=30, items=40):
    rng = np.random.default_rng(seed)
    return rng.integers(0, users, n), rng.integers(0, items, n), rng.standard_normal(n)


def several(backend, schedule="hogwild"):
    return schedule in wyrm.get_backend(backend).capabilities.schedules


# --- synchronized -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("optimizer", [partial(SGD, clip_norm=0.5), partial(Adagrad, l2=0.01)])
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_synchronized_is_the_same_on_any_number_of_threads(backend, optimizer, dtype):
    ends = []
    for threads in (1, 2, 4) if several(backend, "synchronized") else (1,):
        inputs, parameters, loss = factorization(dtype)
        offset = wyrm.ParameterNode(0.1, dtype=dtype)
        loss = loss + (offset * inputs[2]).sigmoid()
        feed = dict(zip(inputs, data(1003), strict=True))
        history = wyrm.fit(
            loss,
            feed,
            optimizer(0.05, [*parameters, offset]),
            batch_size=64,
            num_threads=threads,
            schedule="synchronized",
            seed=3,
            num_epochs=3,
        )
        assert (history.schedule, history.num_threads) == ("synchronized", threads)
        assert len(history.examples_per_thread) == threads and sum(history.examples_per_thread) == 3009
        ends.append((history.losses, [p.value.tobytes() for p in (*parameters, offset)]))
    assert all(end == ends[0] for end in ends)


def test_synchronized_equals_batches_on_one_thread(backend):
    """To rounding: the sums of a batch are taken in another order."""
    ends = []
    for schedule in ("hogwild", "synchronized"):
        inputs, parameters, loss = factorization("float64")
        feed = dict(zip(inputs, data(203), strict=True))
        optimizer = Adagrad(lambda step: 0.1 / (1 + step), parameters)
        wyrm.fit(loss, feed, optimizer, batch_size=32, num_threads=1, schedule=schedule, seed=0, num_epochs=2)
        assert optimizer.steps == 14
        ends.append([p.value.copy() for p in parameters])
    for a, b in zip(*ends, strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-11, atol=1e-13)


def test_rows_that_are_behind_may_be_read_by_several_threads(backend):
    """Reading writes nothing, so momentum and decay give the same bits on any number of threads."""
    if not several(backend, "synchronized"):
        pytest.skip("one thread")
    ends = []
    for threads in (1, 2):
        inputs, parameters, loss = factorization()
        feed = dict(zip(inputs, data(50), strict=True))
        optimizer = SGD(lambda step: 0.1 / (1 + step), parameters, momentum=0.5, weight_decay=0.1)
        wyrm.fit(loss, feed, optimizer, num_threads=threads, batch_size=8, schedule="synchronized", seed=0, num_epochs=3)
        ends.append([parameter.value for parameter in parameters])
    for one, other in zip(*ends, strict=True):
        np.testing.assert_array_equal(one, other)


# --- conflict_free ------------------------------------------------------------------------------------------------


def conflicts(crew, order, columns):
    """Pairs of blocks that touch the same row in the same stage."""
    arranged, ends = crew.arrange(order)
    found = []
    for stage in range(crew.stages):
        blocks = []
        for block in range(BLOCKS):
            number = stage * BLOCKS + block
            examples = arranged[ends[number] : ends[number + 1], 0]
            blocks.append([set(column[examples]) for column in columns])
        for a in range(len(blocks)):
            for b in range(a):
                found += [(stage, a, b) for x, y in zip(blocks[a], blocks[b], strict=True) if x & y]
    return arranged, found


def crew_of(threads, feed):
    inputs, parameters, loss = factorization()
    captured = {}
    original = ConflictFree.__init__

    def init(self, work, workers):
        original(self, work, workers)
        captured["crew"] = self

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(ConflictFree, "__init__", init)
        wyrm.fit(
            loss,
            dict(zip(inputs, feed, strict=True)),
            SGD(0.01, parameters),
            schedule="conflict_free",
            num_threads=threads,
            seed=0,
        )
    return captured["crew"]


@pytest.mark.parametrize("threads", [2, 9])
def test_threads_at_work_at_the_same_time_share_no_row(backend, threads):
    if not several(backend):
        pytest.skip("one thread")
    feed = data(2000)
    crew = crew_of(threads, feed)
    order = np.random.default_rng(0).permutation(2000).astype(np.int64).reshape(-1, 1)
    arranged, found = conflicts(crew, order, feed[:2])
    assert not found
    assert sorted(arranged[:, 0]) == list(range(2000))
    sizes = np.bincount(crew.keys, minlength=BLOCKS**2)
    assert sizes.max() < 3 * 2000 / BLOCKS**2  # balanced
    crew.keys = crew.keys[::-1].copy()  # the fault that this is here for
    assert conflicts(crew, order, feed[:2])[1]


def test_deal_is_balanced():
    indices = np.repeat(np.arange(50), np.arange(50) ** 2)
    for blocks in (1, 2, 7):
        sizes = np.bincount(deal(indices, blocks)[indices], minlength=blocks)
        assert sizes.max() - sizes.min() <= 50**2


def test_conflict_free_gives_the_same_bits_on_any_number_of_threads(backend):
    """With rates by schedule, and dropout; also the losses, and on more threads than there are blocks."""
    ends = []
    for threads in (1, 2, 3, 9) if several(backend) else (1, None):
        inputs, parameters, loss = factorization()
        history = wyrm.fit(
            (loss * 0.5).dropout(0.1),
            dict(zip(inputs, data(5000 if is_native() else 800), strict=True)),
            Adagrad(lambda step: 0.1 / (1 + 0.001 * step), parameters),
            schedule="conflict_free",
            num_threads=threads,
            seed=7,
            num_epochs=2,
        )
        assert history.schedule == "conflict_free" and history.repeatable
        assert sum(history.examples_per_thread) == 2 * history[0].examples
        assert min(history.examples_per_thread) > history[0].examples / min(threads or 1, BLOCKS)
        assert len(history.examples_per_thread) == min(threads or 1, BLOCKS)
        ends.append((history.losses, [p.value.tobytes() for p in parameters]))
    assert all(end == ends[0] for end in ends)


def test_one_input_needs_no_stages(backend):
    if not several(backend):
        pytest.skip("one thread")
    table, index = wyrm.ParameterNode(np.zeros((700, 1))), wyrm.IndexInputNode()
    rng = np.random.default_rng(0)
    indices = rng.integers(0, 700, 4000)
    options = {"schedule": "conflict_free", "num_threads": 4, "num_epochs": 2}
    history = wyrm.fit(table.index(index) * 1.0, {index: indices}, SGD(1.0, [table]), **options)
    np.testing.assert_array_equal(table.value[:, 0], -2.0 * np.bincount(indices, minlength=700))
    assert history.num_threads == 4


def refused(loss, feed, optimizer, pattern, **options):
    before = [node.value.copy() for node in loss.parameters()]
    with pytest.raises(wyrm.OptionError, match=pattern):
        wyrm.fit(loss, feed, optimizer, **{"schedule": "conflict_free", "num_threads": 1, **options})
    for node, value in zip(loss.parameters(), before, strict=True):
        np.testing.assert_array_equal(node.value, value)


def test_conflict_free_is_refused_with_the_reason(backend):
    (user, item, rating), parameters, loss = factorization()
    feed = dict(zip((user, item, rating), data(20), strict=True))
    third, bag, pair = wyrm.IndexInputNode(), wyrm.BagInputNode(1), wyrm.IndexInputNode(2)
    bias, table = wyrm.ParameterNode(0.0), wyrm.ParameterNode(np.zeros((40, 8)))
    sgd = SGD(0.1, parameters)
    refused(loss, feed, sgd, "one example, and not of a batch", batch_size=2)
    refused(loss, feed, sgd, "shuffle=False", shuffle=False)
    refused(loss, feed, SGD(0.1, parameters, momentum=0.5), "by a clock")
    refused(loss + bias, feed, SGD(0.1, [*parameters, bias]), "other than by looking up one row")
    more = loss + table.index(third).scalar_sum()
    refused(more, {**feed, third: np.arange(20)}, SGD(0.1, [*parameters, table]), "by 3 index inputs")
    more = loss + parameters[0].index(item).scalar_sum()
    refused(more, {**feed, item: np.arange(20)}, sgd, "other than by looking up one row|by two inputs")
    more = loss + table.index_sum(bag).scalar_sum()
    refused(more, {**feed, bag: [[1]] * 20}, SGD(0.1, [*parameters, table]), "other than by looking up one row")
    more = loss + table.index(pair).sum()
    refused(more, {**feed, pair: np.zeros((20, 2), int)}, SGD(0.1, [*parameters, table]), "other than by|several indices")
    wyrm.fit(loss + bias, feed, sgd, schedule="conflict_free", num_threads=1)  # what no optimizer changes does not matter


# --- auto and options ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("batch_size", [1, 50])
def test_with_a_seed_neither_cores_nor_threads_make_a_difference(backend, batch_size, monkeypatch):
    """To the bits; by how many there are, and by how many are asked for."""
    ends = []
    for cores, threads in ((1, None), (2, None), (5, None), (2, 1), (2, 2)):
        monkeypatch.setattr("wyrm.training.schedules.available_cores", lambda cores=cores: cores)
        if threads == 2 and not several(backend):
            continue
        inputs, parameters, loss = factorization()
        feed = dict(zip(inputs, data(25_000 if is_native() else 1000), strict=True))
        options = {"seed": 0, "num_threads": threads, "batch_size": batch_size}
        history = wyrm.fit(loss, feed, Adagrad(0.01, parameters), **options)
        assert history.schedule == ("sequential" if batch_size == 1 else "synchronized")
        assert history.reason and history.repeatable
        ends.append((history.losses, [p.value.tobytes() for p in parameters]))
    assert all(end == ends[0] for end in ends)


@pytest.mark.parametrize(
    "options", [{}, {"batch_size": 8}, {"schedule": "conflict_free"}, {"schedule": "hogwild", "num_threads": 2}]
)
def test_a_run_is_repeated_by_its_seed_and_its_schedule(backend, options, monkeypatch):
    """Whatever the cores then, unless the history says that it cannot be."""
    if options.get("num_threads") and not several(backend):
        pytest.skip("one thread")
    ends, histories = [], []
    for cores in (2, 1, 5):
        monkeypatch.setattr("wyrm.training.schedules.available_cores", lambda cores=cores: cores)
        inputs, parameters, loss = factorization()
        again = {"seed": histories[0].seed, "schedule": histories[0].schedule} if histories else {}
        feed = dict(zip(inputs, data(100), strict=True))
        histories.append(wyrm.fit(loss, feed, Adagrad(0.1, parameters), num_epochs=2, **{**options, **again}))
        ends.append([p.value.tobytes() for p in parameters])
    if histories[0].schedule == "hogwild":
        assert not histories[0].repeatable and not wyrm.History.from_json(histories[0].to_json()).repeatable
    else:
        assert histories[0].repeatable and all(end == ends[0] for end in ends)
    assert {history.schedule for history in histories} == {histories[0].schedule}


def test_one_thread_by_its_name(backend):
    """It is the schedule of runs on one thread, and of no others."""
    inputs, parameters, loss = factorization()
    feed = dict(zip(inputs, data(50), strict=True))
    assert wyrm.fit(loss, feed, SGD(0.1, parameters), schedule="sequential").num_threads == 1
    with pytest.raises(wyrm.OptionError, match="'sequential' is one thread; got num_threads=2"):
        wyrm.fit(loss, feed, SGD(0.1, parameters), schedule="sequential", num_threads=2)


def test_auto_without_a_seed_measures(backend):
    """Little work stays on one thread; more goes where it is fastest, and the reason says so. No example is lost."""
    if not wyrm.get_backend().capabilities.releases_gil:
        pytest.skip("nothing to measure")
    table, index = wyrm.ParameterNode(np.zeros((1_000_000, 1))), wyrm.IndexInputNode()
    loss, optimizer = table.index(index) * 1.0, SGD(1.0, [table])
    history = wyrm.fit(loss, {index: np.arange(100)}, optimizer, num_threads=2)
    assert history.schedule == "sequential" and "too little work" in history.reason
    epochs, num_epochs = 0, 2
    while "was chosen" not in history.reason and num_epochs < 1000:
        num_epochs *= 2  # a fast machine has to be given more work before a choice is worth its while
        history = wyrm.fit(loss, {index: np.arange(1_000_000)}, optimizer, num_threads=2, num_epochs=num_epochs)
        epochs += num_epochs
    assert "one thread 1.00, conflict_free on 2 threads" in history.reason and "hogwild" in history.reason
    assert sum(history.examples_per_thread) == 1_000_000 * num_epochs
    np.testing.assert_array_equal(table.value[:100, 0], -1.0 - epochs)
    np.testing.assert_array_equal(table.value[100:, 0], -epochs)


def test_auto_with_a_seed_and_batches_measures_what_changes_no_bit(backend):
    """One thread or several: whichever is chosen, the result is that of the schedule asked for by name."""
    results = []
    for schedule, threads in (("auto", 2), ("synchronized", 1)):
        (user, item, rating), parameters, loss = factorization()
        size = 30_000 if wyrm.get_backend().capabilities.releases_gil else 300
        feed = dict(zip((user, item, rating), data(size), strict=True))
        options = {"batch_size": 50, "num_epochs": 4, "seed": 0}
        history = wyrm.fit(loss, feed, SGD(0.001, parameters), schedule=schedule, num_threads=threads, **options)
        assert history.schedule == "synchronized" and sum(history.examples_per_thread) == 4 * size
        results.append([parameter.value.copy() for parameter in parameters])
    for a, b in zip(*results, strict=True):
        np.testing.assert_array_equal(a, b)


def test_options(backend):
    x, w = wyrm.InputNode((1, 1)), wyrm.ParameterNode(1.0)
    for options, kind, pattern in (
        (
            {"schedule": "fastest"},
            wyrm.OptionError,
            "one of auto, sequential, hogwild, synchronized, conflict_free, got 'fastest'",
        ),
        ({"schedule": 3}, wyrm.DTypeError, "string"),
        ({"batch_size": 0}, wyrm.OptionError, "batch_size of at least 1"),
        ({"batch_size": 1.5}, wyrm.DTypeError, "batch_size"),
        ({"num_threads": 0}, wyrm.OptionError, "at least 1"),
        ({"schedule": "synchronized"}, wyrm.OptionError, "larger batch_size"),
    ):
        with pytest.raises(kind, match=pattern):
            wyrm.fit(w * x, {x: [1.0]}, SGD(0.1, [w]), **options)
    assert w.value == 1
    if not several(backend, "synchronized"):
        with pytest.raises(wyrm.CapabilityError, match="'synchronized'"):
            wyrm.fit(w * x, {x: [1.0]}, SGD(0.1, [w]), schedule="synchronized", batch_size=2, num_threads=2)


def test_hogwild_makes_whole_batches(backend):
    """Every batch of the order by one thread: exact sums in whole numbers, whoever makes them."""
    if not several(backend):
        pytest.skip("one thread")
    table, index = wyrm.ParameterNode(np.zeros((1000, 1))), wyrm.IndexInputNode()
    optimizer = SGD(1.0, [table], clip_norm=1e6)
    options = {"batch_size": 7, "reduction": "sum", "num_threads": 3, "schedule": "hogwild", "num_epochs": 2}
    history = wyrm.fit(table.index(index) * 1.0, {index: np.arange(1000)}, optimizer, **options)
    np.testing.assert_array_equal(table.value, -2.0)
    assert optimizer.steps == 2 * 143 and sum(history.examples_per_thread) == 2000


def test_dropout_differs_between_the_epochs_of_batches(backend):
    """Each example of each epoch has a mask of its own."""
    w, x = wyrm.ParameterNode(np.zeros((1, 64))), wyrm.InputNode((1, 1))
    loss = (w.dropout(0.5, seed=1) * x).scalar_sum()
    optimizer = SGD(1.0, [w])
    seen = []
    for _ in range(3):
        before = w.value.copy()
        wyrm.fit(loss, {x: np.ones(4)}, optimizer, batch_size=4, num_threads=1)
        seen.append((w.value - before).tobytes())
    assert len(set(seen)) == 3


# --- interruption -------------------------------------------------------------------------------------------------


@pytest.mark.slow
def test_interruption(backend):
    """Ctrl-C ends every schedule within a fifth of a second, with its threads joined and the history kept.

    A fifth of a second of the processor: by the clock it takes longer if other processes have the cores.
    """
    tries = [(schedule, threads, [0.2, 0.1]) for schedule, threads in kinds(backend)]
    for (schedule, threads, delays), results in zip(tries, interrupt(backend, tries), strict=True):
        assert [result["in order"] for result in results] == [True] * len(delays), (schedule, threads)
        assert all(result["busy"] < BAR and result["latency"] < 50 * BAR for result in results), (schedule, threads, results)


@pytest.mark.parametrize("schedule", ["synchronized", "conflict_free", "hogwild"])
def test_an_error_in_a_thread_ends_all(backend, schedule):
    if not several(backend, "synchronized"):
        pytest.skip("one thread")
    inputs, parameters, loss = factorization()
    users, items, ratings = data(3000)
    ratings[1234] = 1e30
    options = {"schedule": schedule, "num_threads": 4, "batch_size": 1 if schedule == "conflict_free" else 32}
    began = time.perf_counter()
    with pytest.raises(wyrm.NotFiniteError, match="epoch 1: the loss of example 1234"):
        wyrm.fit(loss, dict(zip(inputs, (users, items, ratings), strict=True)), SGD(0.01, parameters), **options)
    assert time.perf_counter() - began < 20
    assert all(np.isfinite(p.value).all() for p in parameters)
